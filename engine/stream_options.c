/* SPDX-License-Identifier: MIT */
/*
 * A stream's options and addresses. How each option is called on each family stands in one table; a
 * stream does not keep its family, so where it matters the kernel is asked. TCP's own options need
 * no asking: other sockets refuse them with the right error.
 */
#include <rdy/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "engine/address.h"
#include "engine/socket_options.h"
#include "engine/sys.h"
#include "engine/sys_socket.h"

#define SECONDS_MAX 32767 /* the kernel's MAX_TCP_KEEPIDLE, and that of the interval */
#define PROBES_MAX  127

static const struct rdy_option options[] = {
    [RDY_STREAM_NODELAY] = {.any = {IPPROTO_TCP, TCP_NODELAY}, .value_max = 1},
    [RDY_STREAM_QUICKACK] = {.any = {IPPROTO_TCP, TCP_QUICKACK}, .value_max = 1},
    [RDY_STREAM_CORK] = {.any = {IPPROTO_TCP, TCP_CORK}, .value_max = 1},
    [RDY_STREAM_KEEPALIVE] = {.inet = {SOL_SOCKET, SO_KEEPALIVE},
                              .inet6 = {SOL_SOCKET, SO_KEEPALIVE},
                              .value_max = 1},
    [RDY_STREAM_KEEPALIVE_IDLE_S] = {.any = {IPPROTO_TCP, TCP_KEEPIDLE},
                                     .value_min = 1,
                                     .value_max = SECONDS_MAX},
    [RDY_STREAM_KEEPALIVE_INTERVAL_S] = {.any = {IPPROTO_TCP, TCP_KEEPINTVL},
                                         .value_min = 1,
                                         .value_max = SECONDS_MAX},
    [RDY_STREAM_KEEPALIVE_COUNT] = {.any = {IPPROTO_TCP, TCP_KEEPCNT},
                                    .value_min = 1,
                                    .value_max = PROBES_MAX},
    [RDY_STREAM_LINGER_S] = {.inet = {SOL_SOCKET, SO_LINGER},
                             .inet6 = {SOL_SOCKET, SO_LINGER},
                             .value_min = -1},
    [RDY_STREAM_SEND_BUF] = {.any = {SOL_SOCKET, SO_SNDBUF}, .value_max = INT32_MAX},
    [RDY_STREAM_RECV_BUF] = {.any = {SOL_SOCKET, SO_RCVBUF}, .value_max = INT32_MAX},
    [RDY_STREAM_USER_TIMEOUT_MS] = {.any = {IPPROTO_TCP, TCP_USER_TIMEOUT}, .value_max = INT32_MAX},
    [RDY_STREAM_TOS] = {.inet = {IPPROTO_IP, IP_TOS},
                        .inet6 = {IPPROTO_IPV6, IPV6_TCLASS},
                        .value_max = 255},
    [RDY_STREAM_TTL] = {.inet = {IPPROTO_IP, IP_TTL},
                        .inet6 = {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
                        .value_min = 1,
                        .value_max = 255},
    [RDY_STREAM_NOTSENT_LOWAT] = {.any = {IPPROTO_TCP, TCP_NOTSENT_LOWAT}, .value_max = INT32_MAX},
};

#define OPTIONS_COUNT (sizeof(options) / sizeof(options[0]))

static_assert(OPTIONS_COUNT == RDY_STREAM_NOTSENT_LOWAT + 1, "every option has its row");

/* NULL and -errno, or the row of @which, with the family if that matters. */
static const struct rdy_option *option_find(const struct rdy_stream *stream,
                                            enum rdy_stream_option which, int *family, int *rc)
{
    const struct rdy_option *option;

    *family = AF_UNSPEC;
    *rc = stream->fd < 0 ? -EBADF : -EINVAL;
    if (stream->fd < 0 || (uint32_t)which >= OPTIONS_COUNT)
        return NULL;
    option = &options[which];
    *rc = 0;
    if (rdy_option_needs_family(option))
        *rc = rdy_sys_getsockopt_int(stream->fd, SOL_SOCKET, SO_DOMAIN, family);
    return *rc == 0 ? option : NULL;
}

static int linger_set(int fd, int seconds)
{
    struct linger linger = {.l_onoff = seconds >= 0, .l_linger = seconds >= 0 ? seconds : 0};

    rdy_assert(seconds <= 0);
    return rdy_sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static int linger_get(int fd, int *seconds)
{
    struct linger linger = {0};
    socklen_t linger_size = sizeof(linger);
    int rc = rdy_sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &linger_size);

    if (rc == 0)
        *seconds = linger.l_onoff ? linger.l_linger : -1;
    return rc;
}

static bool is_inet(int family)
{
    return family == AF_INET || family == AF_INET6;
}

int rdy_stream_set(struct rdy_stream *stream, enum rdy_stream_option which, int value)
{
    int family;
    int rc;
    const struct rdy_option *option = option_find(stream, which, &family, &rc);

    if (!option)
        return rc;
    if (which != RDY_STREAM_LINGER_S)
        return rdy_option_set(option, stream->fd, family, value);
    if (!is_inet(family))
        return -EOPNOTSUPP;
    if (value < option->value_min || value > option->value_max)
        return -EINVAL;
    return linger_set(stream->fd, value);
}

int rdy_stream_get(const struct rdy_stream *stream, enum rdy_stream_option which, int *value)
{
    int family;
    int rc;
    const struct rdy_option *option = option_find(stream, which, &family, &rc);

    if (!option)
        return rc;
    if (which != RDY_STREAM_LINGER_S)
        return rdy_option_get(option, stream->fd, family, value);
    return is_inet(family) ? linger_get(stream->fd, value) : -EOPNOTSUPP;
}

int rdy_stream_local_address(const struct rdy_stream *stream, struct sockaddr_storage *addr,
                             socklen_t *addr_len)
{
    return rdy_address_local(stream->fd, addr, addr_len);
}

int rdy_stream_peer_address(const struct rdy_stream *stream, struct sockaddr_storage *addr,
                            socklen_t *addr_len)
{
    return rdy_address_peer(stream->fd, addr, addr_len);
}
