/* SPDX-License-Identifier: MIT */
/*
 * Streams: read, write and connect as polls, over cached readiness.
 *
 * The ready path is one load of the readiness word and one system call. What it saves is the read
 * that only says EAGAIN: a read that came back short has drained the socket, so READABLE can be
 * cleared at once. But that is not always true, and a clear that is wrong hangs the connection:
 *
 * - A TCP read stops short at an urgent mark with more data behind it. An epoll backend tells by
 *   PRIORITY whether there is a mark; so TCP streams ask for it there. Under io_uring a poll's bits
 *   are those of the wake-up rather than the file's state, so absence proves nothing; there TCP_INQ
 *   has each read return what is left in the queue, for less than the EAGAIN read would cost.
 * - A Unix socket's read stops short where a message with descriptors begins: no short cut.
 * - After the peer's FIN the end of the stream is still to be read: not when READ_CLOSED was seen.
 * - A read that filled its buffer says nothing.
 */
#include "engine/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/sys.h"

/* A socket whose final flags never let an EAGAIN clear would hold the thread: then others first. */
#define TRIES_MAX 8

uint32_t rdy_stream_prepare_tcp(const struct rdy_driver *driver, int fd)
{
    /* Refused by sockets that are TCP in name only; they work without. */
    (void)rdy_sys_setsockopt_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (rdy_driver_has_whole_state(driver))
        return RDY_SOCKET_PRIORITY;
    if (rdy_sys_setsockopt_int(fd, IPPROTO_TCP, TCP_INQ, 1) == 0)
        return RDY_SOCKET_INQ;
    return 0;
}

int rdy_stream_register(struct rdy_stream *stream, struct rdy_driver *driver, int fd,
                        uint32_t flags)
{
    struct rdy_stream made = {.fd = fd, .flags = flags};
    uint32_t interest = RDY_INTEREST_READ | RDY_INTEREST_WRITE;
    int rc;

    if (flags & RDY_SOCKET_PRIORITY)
        interest |= RDY_INTEREST_PRIORITY;
    rc = rdy_register_kind(driver, fd, interest, RDY_FILE_STREAM, &made.reg);
    if (rc < 0)
        return rc;
    if ((flags & RDY_SOCKET_CONNECTING) == 0)
        rdy_assume_ready(&made.reg, RDY_READABLE | RDY_WRITABLE);
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

/*
 * An event that lets @direction be tried, with PRIORITY as well if it stands; else the task's waker
 * is left behind. The second look after the slow path is for PRIORITY, which it does not report.
 */
static int stream_wait(struct rdy_stream *stream, struct rdy_task *task,
                       enum rdy_direction direction, struct rdy_event *event)
{
    uint32_t interest = direction == RDY_DIRECTION_READ ? RDY_INTEREST_READ | RDY_INTEREST_PRIORITY
                                                        : RDY_INTEREST_WRITE;
    struct rdy_waker waker;
    int rc;

    *event = rdy_ready_event(&stream->reg, interest);
    if (rdy_likely(rdy_event_ready(*event) != 0 && !rdy_event_is_shutdown(*event)))
        return 0;
    waker = rdy_task_waker(task);
    rc = rdy_poll_readiness(&stream->reg, direction, &waker, event);
    if (rc == 0)
        *event = rdy_ready_event(&stream->reg, interest);
    return rc;
}

/* Too many tries for nothing: the other tasks and the driver go first. */
static int stream_give_way(struct rdy_task *task)
{
    rdy_task_defer(task);
    return RDY_PENDING;
}

/* The answer of a connection that was under way: 0, or -errno, also when asked again. */
static int connect_result(struct rdy_stream *stream)
{
    int error = (int)(stream->flags >> RDY_SOCKET_ERROR_SHIFT);
    int rc = 0;

    if (error == 0)
        rc = rdy_sys_getsockopt_int(stream->fd, SOL_SOCKET, SO_ERROR, &error);
    if (rc < 0)
        return rc;
    if (error == 0)
        stream->flags &= ~RDY_SOCKET_CONNECTING;
    stream->flags |= (uint32_t)error << RDY_SOCKET_ERROR_SHIFT;
    return -error;
}

int rdy_stream_poll_connect(struct rdy_stream *stream, struct rdy_task *task)
{
    struct rdy_event event;
    int rc = 0;

    if (stream->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (stream->flags & RDY_SOCKET_CONNECTING) {
        rc = stream_wait(stream, task, RDY_DIRECTION_WRITE, &event);
        if (rc != 0)
            return rc;
        rc = connect_result(stream);
    }
    rdy_task_spend(task);
    return rc;
}

/* recv() that also says how many bytes are left; -1 if the kernel did not tell. */
static ssize_t recv_with_inq(int fd, void *buf, size_t buf_len, int *left_bytes)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = buf, .iov_len = buf_len};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *found;
    ssize_t count;

    *left_bytes = -1;
    count = rdy_sys_recvmsg(fd, &msg);
    if (count < 0)
        return count;
    found = CMSG_FIRSTHDR(&msg);
    if (found && found->cmsg_level == IPPROTO_TCP && found->cmsg_type == TCP_CM_INQ)
        memcpy(left_bytes, CMSG_DATA(found), sizeof(*left_bytes));
    return count;
}

/* One read. @is_drained: it took the last byte there was, and more than that will be an event. */
static ssize_t stream_read_once(const struct rdy_stream *stream, struct rdy_event event, void *buf,
                                size_t buf_len, bool *is_drained)
{
    uint32_t ready = rdy_event_ready(event);
    int left_bytes = -1;
    ssize_t count;

    if (stream->flags & RDY_SOCKET_INQ) {
        count = recv_with_inq(stream->fd, buf, buf_len, &left_bytes);
        *is_drained = left_bytes == 0;
    } else {
        count = rdy_sys_recv(stream->fd, buf, buf_len);
        *is_drained = (stream->flags & RDY_SOCKET_PRIORITY) && (ready & RDY_PRIORITY) == 0;
    }
    if (count <= 0 || (size_t)count == buf_len || (ready & RDY_READ_CLOSED))
        *is_drained = false;
    return count;
}

ssize_t rdy_stream_poll_read(struct rdy_stream *stream, struct rdy_task *task, void *buf,
                             size_t buf_len)
{
    if (stream->fd < 0)
        return -EBADF;
    if (buf_len == 0)
        return 0;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;

    for (int tries = 0; tries < TRIES_MAX; tries++) {
        struct rdy_event event;
        bool is_drained;
        ssize_t count;
        int rc = stream_wait(stream, task, RDY_DIRECTION_READ, &event);

        if (rc != 0)
            return rc;
        count = stream_read_once(stream, event, buf, buf_len, &is_drained);
        if (is_drained || count == -EAGAIN)
            rdy_clear_readiness(&stream->reg, event);
        if (rdy_likely(count != -EAGAIN)) {
            rdy_task_spend(task);
            return count;
        }
    }
    return stream_give_way(task);
}

ssize_t rdy_stream_poll_write(struct rdy_stream *stream, struct rdy_task *task, const void *data,
                              size_t data_len)
{
    if (stream->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;

    for (int tries = 0; tries < TRIES_MAX; tries++) {
        struct rdy_event event;
        ssize_t count;
        int rc = stream_wait(stream, task, RDY_DIRECTION_WRITE, &event);

        if (rc != 0)
            return rc;
        count = rdy_sys_send(stream->fd, data, data_len);
        /* A short write met a full buffer, and the kernel will say when there is room. */
        if (count == -EAGAIN || (count >= 0 && (size_t)count < data_len))
            rdy_clear_readiness(&stream->reg, event);
        if (rdy_likely(count != -EAGAIN)) {
            rdy_task_spend(task);
            return count;
        }
    }
    return stream_give_way(task);
}

int rdy_stream_shutdown(struct rdy_stream *stream, int how)
{
    int rc;

    if (stream->fd < 0)
        return -EBADF;
    rc = rdy_sys_shutdown(stream->fd, how);
    return rc == -ENOTCONN ? 0 : rc; /* the peer's reset was faster */
}

void rdy_stream_close(struct rdy_stream *stream)
{
    if (stream->fd >= 0)
        (void)rdy_close(&stream->reg);
    *stream = (struct rdy_stream){.fd = -1};
}
