/* SPDX-License-Identifier: MIT */
/*
 * Connecting a stream, as a poll.
 *
 * A connection that is under way has an answer when the socket is writable, and SO_ERROR is it. But
 * an event may be the key of a wake-up that had other reasons (a larger send buffer), so no error
 * is taken for a connection only if there is a peer. The kernel tells an error once; the stream's
 * flags keep it.
 */
#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/stream.h"
#include "engine/sys.h"
#include "engine/sys_socket.h"

/* A socket whose wake-ups are never its connection's would hold the thread: then others first. */
#define TRIES_MAX 8

int rdy_stream_start_connect(struct rdy_stream *stream, struct rdy_runtime *runtime,
                             const struct sockaddr *addr, socklen_t addr_len)
{
    uint32_t flags = 0;
    int fd;
    int rc;

    if (addr_len < sizeof(addr->sa_family))
        return -EINVAL;
    fd = rdy_sys_socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    if (addr->sa_family == AF_INET || addr->sa_family == AF_INET6)
        flags = rdy_stream_prepare_tcp(runtime->driver, fd);

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

static int advance_connect(struct rdy_stream *stream, struct rdy_task *task)
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
    rc = advance_connect(stream, task);
    if (rc != RDY_PENDING)
        rdy_task_spend(task);
    return rc;
}
