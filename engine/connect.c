/* SPDX-License-Identifier: MIT */
/*
 * Connecting a stream: with options, and as a poll.
 *
 * A connection that is under way has an answer when the socket is writable, and SO_ERROR is it. But
 * an event may be the key of a wake-up that had other reasons (a larger send buffer), so no error
 * is taken for a connection only if there is a peer. The kernel tells an error once; the stream's
 * flags keep it.
 */
#include <rdy/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "engine/address.h"
#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/socket_options.h"
#include "engine/stream.h"
#include "engine/sys.h"
#include "engine/sys_socket.h"

/* A socket whose wake-ups are never its connection's would hold the thread: then others first. */
#define TRIES_MAX 8

static bool has_inet_options(const struct rdy_connect_opts *opts)
{
    return opts->bind_device || opts->is_reuseaddr || opts->is_nodelay_off || opts->is_keepalive ||
           opts->is_fastopen || opts->user_timeout_ms > 0;
}

/* The port of an address of IPv4 or IPv6, of which there are @addr_len bytes. */
static bool is_port_zero(const struct sockaddr *addr, socklen_t addr_len)
{
    struct sockaddr_in inet = {0};

    static_assert(offsetof(struct sockaddr_in, sin_port) ==
                      offsetof(struct sockaddr_in6, sin6_port),
                  "the port is at one place");
    memcpy(&inet, addr, addr_len < sizeof(inet) ? addr_len : sizeof(inet));
    return inet.sin_port == 0;
}

static int options_check(const struct rdy_connect_opts *opts, int family)
{
    bool has_keepalive_times = opts->keepalive_idle_s != 0 || opts->keepalive_interval_s != 0 ||
                               opts->keepalive_count != 0;

    if (opts->size != sizeof(*opts) || opts->send_buf < 0 || opts->recv_buf < 0 ||
        opts->keepalive_idle_s < 0 || opts->keepalive_interval_s < 0 || opts->keepalive_count < 0 ||
        opts->user_timeout_ms < 0)
        return -EINVAL;
    if ((has_keepalive_times && !opts->is_keepalive) ||
        (opts->is_fastopen_cookieless && !opts->is_fastopen))
        return -EINVAL;
    if (family == AF_UNIX && has_inet_options(opts))
        return -EINVAL;
    if (opts->local && opts->local_len < sizeof(opts->local->sa_family))
        return -EINVAL;
    if (opts->local && opts->local->sa_family != family)
        return -EAFNOSUPPORT;
    return 0;
}

static int connect_prepare(int fd, const struct rdy_connect_opts *opts)
{
    struct rdy_setting settings[] = {
        {opts->send_buf > 0, SOL_SOCKET, SO_SNDBUF, opts->send_buf},
        {opts->recv_buf > 0, SOL_SOCKET, SO_RCVBUF, opts->recv_buf},
        {opts->is_reuseaddr, SOL_SOCKET, SO_REUSEADDR, 1},
        {opts->is_nodelay_off, IPPROTO_TCP, TCP_NODELAY, 0},
        {opts->is_keepalive, SOL_SOCKET, SO_KEEPALIVE, 1},
        {opts->keepalive_idle_s > 0, IPPROTO_TCP, TCP_KEEPIDLE, opts->keepalive_idle_s},
        {opts->keepalive_interval_s > 0, IPPROTO_TCP, TCP_KEEPINTVL, opts->keepalive_interval_s},
        {opts->keepalive_count > 0, IPPROTO_TCP, TCP_KEEPCNT, opts->keepalive_count},
        {opts->user_timeout_ms > 0, IPPROTO_TCP, TCP_USER_TIMEOUT, opts->user_timeout_ms},
        {opts->is_fastopen, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1},
        {opts->is_fastopen_cookieless, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1},
    };
    int rc = rdy_settings_apply(fd, settings, sizeof(settings) / sizeof(settings[0]));

    return rc < 0 ? rc : rdy_settings_bind_device(fd, opts->bind_device);
}

/* bind(2) takes a port for itself, which no other socket has then, whatever the destination. */
static int local_bind(int fd, const struct rdy_connect_opts *opts)
{
    int rc = 0;

    if (!opts->local)
        return 0;
    if (opts->local->sa_family != AF_UNIX && is_port_zero(opts->local, opts->local_len))
        rc = rdy_sys_setsockopt_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    return rc < 0 ? rc : rdy_sys_bind(fd, opts->local, opts->local_len);
}

int rdy_stream_start_connect_with(struct rdy_stream *stream, struct rdy_runtime *runtime,
                                  const struct sockaddr *addr, socklen_t addr_len,
                                  const struct rdy_connect_opts *opts)
{
    uint32_t flags = 0;
    int fd;
    int rc;

    if (addr_len < sizeof(addr->sa_family))
        return -EINVAL;
    rc = opts ? options_check(opts, addr->sa_family) : 0;
    if (rc < 0)
        return rc;
    fd = rdy_sys_socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    if (addr->sa_family == AF_INET || addr->sa_family == AF_INET6)
        flags = rdy_stream_prepare_tcp(runtime->driver, fd);
    if (opts) {
        rc = connect_prepare(fd, opts);
        if (rc == 0)
            rc = local_bind(fd, opts);
        if (rc < 0)
            goto close_fd;
    }

    /* Connect before register: a socket that was never connected polls as hung up. */
    rc = rdy_sys_connect(fd, addr, addr_len);
    if (rc == -EINPROGRESS)
        flags |= RDY_SOCKET_CONNECTING;
    else if (rc < 0)
        goto close_fd;

    rc = rdy_stream_register(stream, runtime->driver, fd, flags);
    if (rc < 0)
        goto close_fd;
    return 0;

close_fd:
    (void)rdy_sys_close(fd);
    return rc;
}

int rdy_stream_start_connect(struct rdy_stream *stream, struct rdy_runtime *runtime,
                             const struct sockaddr *addr, socklen_t addr_len)
{
    return rdy_stream_start_connect_with(stream, runtime, addr, addr_len, NULL);
}

/* The error of the socket as -errno, or 0. That of a connection under way is kept. */
static int socket_error(struct rdy_stream *stream, int *error)
{
    int number = (int)(stream->flags >> RDY_SOCKET_ERROR_SHIFT);
    int rc = 0;

    if (number == 0)
        rc = rdy_sys_getsockopt_int(stream->fd, SOL_SOCKET, SO_ERROR, &number);
    if (rc < 0)
        return rc;
    rdy_debug(number >= 0 && number <= UINT16_MAX);
    if (stream->flags & RDY_SOCKET_CONNECTING)
        stream->flags |= (uint32_t)number << RDY_SOCKET_ERROR_SHIFT;
    *error = -number;
    return 0;
}

int rdy_stream_take_error(struct rdy_stream *stream, int *error)
{
    return stream->fd < 0 ? -EBADF : socket_error(stream, error);
}

/* The answer of a connection that was under way; -EAGAIN if @event was not about it. */
static int connect_result(struct rdy_stream *stream, struct rdy_event event)
{
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof(peer);
    int error = 0;
    int rc = socket_error(stream, &error);

    rdy_assert(stream->flags & RDY_SOCKET_CONNECTING);
    if (rc < 0 || error < 0)
        return rc < 0 ? rc : error;
    rc = rdy_sys_getpeername(stream->fd, (struct sockaddr *)&peer, &peer_len);
    if (rc == 0)
        stream->flags &= ~RDY_SOCKET_CONNECTING;
    /* With both ways closed there will be no peer: somebody else took the error. */
    if (rc == -ENOTCONN && (rdy_event_ready(event) & RDY_WRITE_CLOSED) == 0)
        return -EAGAIN;
    return rc;
}

int rdy_stream_advance_connect(struct rdy_stream *stream, struct rdy_task *task)
{
    struct rdy_waker waker = rdy_task_waker(task);

    for (int tries = 0; tries < TRIES_MAX; tries++) {
        struct rdy_event event;
        int rc;

        if ((stream->flags & RDY_SOCKET_CONNECTING) == 0)
            return 0;
        rc = rdy_poll_readiness(&stream->reg, RDY_DIRECTION_WRITE, &waker, &event);
        if (rc != 0)
            return rc;
        rc = connect_result(stream, event);
        if (rc != -EAGAIN)
            return rc;
        rdy_clear_readiness(&stream->reg, event);
    }
    rdy_task_defer(task);
    return RDY_PENDING;
}

int rdy_stream_poll_connect(struct rdy_stream *stream, struct rdy_task *task)
{
    int rc;

    if (stream->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = rdy_stream_advance_connect(stream, task);
    if (rc != RDY_PENDING)
        rdy_task_spend(task);
    return rc;
}
