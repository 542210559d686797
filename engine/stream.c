/* SPDX-License-Identifier: MIT */
/*
 * Streams: making and ending one, and the plain read and write. What surrounds a read and a write,
 * and what their answers prove, is in stream_ops.h.
 */
#include "engine/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "engine/completion_plain.h"
#include "engine/runtime.h"
#include "engine/stream_ops.h"
#include "engine/sys.h"
#include "engine/translate.h"

void rdy_stream_set_tcp(int fd)
{
    /* Refused by sockets that are TCP in name only; they work without. */
    (void)rdy_sys_setsockopt_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

uint32_t rdy_stream_tcp_flags(const struct rdy_driver *driver)
{
    if (rdy_driver_has_whole_state(driver))
        return RDY_SOCKET_STATES;
    return rdy_driver_backend(driver)->looks_again ? RDY_SOCKET_KEYS : 0;
}

uint32_t rdy_stream_prepare_tcp(const struct rdy_driver *driver, int fd)
{
    rdy_stream_set_tcp(fd);
    return rdy_stream_tcp_flags(driver);
}

int rdy_stream_register(struct rdy_stream *stream, struct rdy_driver *driver, int fd,
                        uint32_t flags)
{
    struct rdy_stream made = {.fd = fd, .flags = flags};
    uint32_t interest = RDY_INTEREST_READ | RDY_INTEREST_WRITE;
    bool is_native;
    int rc;

    if (flags & (RDY_SOCKET_STATES | RDY_SOCKET_KEYS))
        interest |= RDY_INTEREST_URGENT;
    is_native = (flags & RDY_SOCKET_COMPLETES) && rdy_completion_try_native(driver);
    if (is_native)
        interest |= RDY_INTEREST_LATER;
    rc = rdy_register_kind(driver, fd, interest, RDY_FILE_STREAM, &made.reg);
    if (rc < 0)
        return rc;
    if (flags & RDY_SOCKET_COMPLETES) {
        rc = rdy_completion_attach(&made.reg, rdy_completion_flags(flags));
        if (rc < 0) {
            (void)rdy_deregister(&made.reg);
            return rc;
        }
    }
    if ((flags & RDY_SOCKET_CONNECTING) == 0)
        rdy_assume_ready(&made.reg, is_native ? RDY_WRITABLE : RDY_READABLE | RDY_WRITABLE);
    *stream = made;
    return 0;
}

static bool socket_is_tcp(int fd)
{
    int domain = 0;
    int protocol = 0;

    return rdy_sys_getsockopt_int(fd, SOL_SOCKET, SO_DOMAIN, &domain) == 0 &&
           rdy_sys_getsockopt_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) == 0 &&
           (domain == AF_INET || domain == AF_INET6) && protocol == IPPROTO_TCP;
}

int rdy_stream_from_fd(struct rdy_stream *stream, struct rdy_runtime *runtime, int fd)
{
    uint32_t flags = 0;

    if (socket_is_tcp(fd))
        flags = rdy_stream_prepare_tcp(runtime->driver, fd);
    return rdy_stream_register(stream, runtime->driver, fd, flags);
}

/* The second look is for PRIORITY, which a poll slot does not report. */
RDY_HOT int rdy_stream_park(struct rdy_stream *stream, struct rdy_task *task,
                            enum rdy_direction direction, struct rdy_event *event)
{
    struct rdy_waker waker = rdy_task_waker(task);
    int rc = rdy_task_pay_error(task, rdy_poll_readiness(&stream->reg, direction, &waker, event));

    if (rc == 0)
        *event = rdy_ready_event(&stream->reg, rdy_stream_interest(direction));
    return rc;
}

RDY_HOT ssize_t rdy_stream_poll_read(struct rdy_stream *stream, struct rdy_task *task, void *buf,
                                     size_t buf_len)
{
    struct rdy_stream_span span = {.data = buf, .len = buf_len};

    if (stream->fd < 0)
        return -EBADF;
    if (buf_len == 0)
        return 0;
    if (rdy_unlikely(stream->flags & RDY_SOCKET_COMPLETES) && rdy_stream_receives(stream))
        return rdy_completion_poll_read(stream, task, buf, buf_len);
    return rdy_stream_read_with(stream, task, rdy_stream_try_recv, &span, buf_len);
}

RDY_HOT ssize_t rdy_stream_poll_write(struct rdy_stream *stream, struct rdy_task *task,
                                      const void *data, size_t data_len)
{
    struct rdy_stream_span span = rdy_stream_span_of(data, data_len);

    if (stream->fd < 0)
        return -EBADF;
    if (rdy_unlikely(stream->flags & RDY_SOCKET_COMPLETES) && rdy_stream_queues(stream))
        return rdy_completion_poll_write(stream, task, data, data_len);
    return rdy_stream_write_with(stream, task, rdy_stream_try_send, &span, data_len);
}

int rdy_stream_shutdown(struct rdy_stream *stream, int how)
{
    int rc;

    if (stream->fd < 0)
        return -EBADF;
    if (rdy_unlikely(stream->flags & RDY_SOCKET_WILL))
        return -EINPROGRESS; /* a ring would connect anew */
    if (rdy_unlikely(stream->flags & RDY_SOCKET_COMPLETES) &&
        (how == SHUT_WR || how == SHUT_RDWR)) {
        rc = rdy_completion_shut(stream);
        if (rc < 0 || (rc == RDY_SHUT_LATER && how == SHUT_WR))
            return rc;
        if (rc == RDY_SHUT_LATER)
            how = SHUT_RD;
    }
    rc = rdy_sys_shutdown(stream->fd, how);
    return rc == -ENOTCONN ? 0 : rc; /* the peer's reset was faster */
}

void rdy_stream_close(struct rdy_stream *stream)
{
    if (stream->fd >= 0) {
        if (stream->flags & RDY_SOCKET_COMPLETES)
            rdy_plain_last_call(rdy_lane_of(stream->reg.io));
        (void)rdy_close(&stream->reg);
    }
    *stream = (struct rdy_stream){.fd = -1};
}
