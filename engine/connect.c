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
#include "engine/completion.h"
#include "engine/driver.h"
#include "engine/lane_connect.h"
#include "engine/runtime.h"
#include "engine/socket_options.h"
#include "engine/stream.h"
#include "engine/sys.h"
#include "engine/sys_socket.h"
#include "engine/translate.h"

/* A socket that is prepared, and where it is to go. */
struct target {
    int fd;
    const struct sockaddr *addr;
    socklen_t addr_len;
    bool is_completing;
};

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

/* Connects here and now, or begins to. */
static int start_by_call(struct rdy_stream *stream, struct rdy_driver *driver,
                         const struct target *target, uint32_t flags)
{
    int rc = rdy_sys_connect(target->fd, target->addr, target->addr_len);

    /* Connect before register: a socket that was never connected polls as hung up. */
    if (rc < 0 && rc != -EINPROGRESS)
        return rc;
    if (rc == -EINPROGRESS)
        flags |= RDY_SOCKET_CONNECTING | (target->is_completing ? RDY_SOCKET_WILL : 0);
    else if (target->is_completing)
        flags |= RDY_SOCKET_COMPLETES;
    return rdy_stream_register(stream, driver, target->fd, flags);
}

/* Has the ring connect. */
static int start_by_ring(struct rdy_stream *stream, struct rdy_driver *driver,
                         const struct target *target, uint32_t flags)
{
    struct rdy_stream made = {.fd = target->fd, .flags = flags};
    uint32_t interest = RDY_INTEREST_READ | RDY_INTEREST_WRITE | RDY_INTEREST_LATER;
    int rc;

    made.flags |= RDY_SOCKET_CONNECTING | RDY_SOCKET_WILL;
    if (flags & (RDY_SOCKET_STATES | RDY_SOCKET_KEYS))
        interest |= RDY_INTEREST_URGENT;
    rc = rdy_register_kind(driver, target->fd, interest, RDY_FILE_STREAM, &made.reg);
    if (rc < 0)
        return rc;
    rc = rdy_completion_attach(&made.reg, rdy_completion_flags(flags));
    if (rc == 0)
        rc = rdy_connect_begin(rdy_lane_of(made.reg.io), target->addr, target->addr_len);
    if (rc < 0)
        (void)rdy_deregister(&made.reg);
    else
        *stream = made;
    return rc;
}

int rdy_stream_start_connect_with(struct rdy_stream *stream, struct rdy_runtime *runtime,
                                  const struct sockaddr *addr, socklen_t addr_len,
                                  const struct rdy_connect_opts *opts)
{
    struct target target = {
        .addr = addr, .addr_len = addr_len, .is_completing = opts && opts->is_completing};
    bool is_inet;
    uint32_t flags = 0;
    int rc;

    if (addr_len < sizeof(addr->sa_family))
        return -EINVAL;
    rc = opts ? options_check(opts, addr->sa_family) : 0;
    if (rc < 0)
        return rc;
    rc = rdy_sys_socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (rc < 0)
        return rc;
    target.fd = rc;
    is_inet = addr->sa_family == AF_INET || addr->sa_family == AF_INET6;
    if (is_inet)
        flags = rdy_stream_prepare_tcp(runtime->driver, target.fd);
    rc = opts ? connect_prepare(target.fd, opts) : 0;
    if (rc == 0 && opts)
        rc = local_bind(target.fd, opts);
    if (rc < 0)
        goto close_fd;

    if (target.is_completing && is_inet && !opts->is_fastopen &&
        rdy_completion_try_native(runtime->driver))
        rc = start_by_ring(stream, runtime->driver, &target, flags);
    else
        rc = start_by_call(stream, runtime->driver, &target, flags);
    if (rc < 0)
        goto close_fd;
    return 0;

close_fd:
    (void)rdy_sys_close(target.fd);
    return rc;
}

int rdy_stream_start_connect(struct rdy_stream *stream, struct rdy_runtime *runtime,
                             const struct sockaddr *addr, socklen_t addr_len)
{
    return rdy_stream_start_connect_with(stream, runtime, addr, addr_len, NULL);
}

/* The lane of a stream that the ring connects, or did; NULL if the socket itself is to be asked. */
static const struct rdy_lane *connect_lane(const struct rdy_stream *stream)
{
    const struct rdy_scheduled_io *io = stream->reg.io;

    return (stream->flags & RDY_SOCKET_WILL) && (io->flags & RDY_IO_LANE) ? rdy_lane_of(io) : NULL;
}

/* The error of the socket as -errno, or 0. That of a connection under way is kept. */
static int socket_error(struct rdy_stream *stream, int *error)
{
    const struct rdy_lane *lane = connect_lane(stream);
    int number = (int)(stream->flags >> RDY_SOCKET_ERROR_SHIFT);
    int rc = 0;

    if (number == 0 && lane)
        number = -lane->send_error; /* the socket has told the ring */
    /* While the ring asks, its answer must not be taken from it. */
    if (number == 0 && lane && rdy_connect_stage(lane) == RDY_CONNECT_ASKED) {
        *error = 0;
        return 0;
    }
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

static int become_connected(struct rdy_stream *stream)
{
    int rc = stream->flags & RDY_SOCKET_WILL ? rdy_completion_enter(stream) : 0;

    if (rc < 0)
        return rc;
    if (connect_lane(stream))
        rdy_connect_end(rdy_lane_of(stream->reg.io));
    stream->flags &= ~(RDY_SOCKET_CONNECTING | RDY_SOCKET_WILL);
    return 0;
}

#define NOT_YET 1

/* The answer of a connection that was under way; NOT_YET if @event was not about it. */
static int connect_result(struct rdy_stream *stream, struct rdy_event event)
{
    const struct rdy_lane *lane = connect_lane(stream);
    enum rdy_connect_stage stage = lane ? rdy_connect_stage(lane) : RDY_CONNECT_WATCHED;
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof(peer);
    int error = 0;
    int rc;

    rdy_assert(stream->flags & RDY_SOCKET_CONNECTING);
    if (stage == RDY_CONNECT_ASKED)
        return NOT_YET;
    if (stage == RDY_CONNECT_ENDED && !lane->send_error)
        return become_connected(stream);
    rc = socket_error(stream, &error);
    if (rc < 0 || error < 0)
        return rc < 0 ? rc : error;
    rc = rdy_sys_getpeername(stream->fd, (struct sockaddr *)&peer, &peer_len);
    if (rc == 0)
        return become_connected(stream);
    /* With both ways closed there will be no peer: somebody else took the error. */
    if (rc == -ENOTCONN && (rdy_event_ready(event) & RDY_WRITE_CLOSED) == 0)
        return NOT_YET;
    return rc;
}

int rdy_stream_advance_connect(struct rdy_stream *stream, struct rdy_task *task)
{
    struct rdy_waker waker = rdy_task_waker(task);

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event;
        int rc;

        if ((stream->flags & RDY_SOCKET_CONNECTING) == 0)
            return 0;
        rc = rdy_poll_readiness(&stream->reg, RDY_DIRECTION_WRITE, &waker, &event);
        if (rc != 0)
            return rc;
        rc = connect_result(stream, event);
        if (rc != NOT_YET)
            return rc;
        rdy_clear_readiness(&stream->reg, event);
    }
    return rdy_task_give_way(task); /* wake-ups that are never its connection's */
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
