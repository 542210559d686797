/* SPDX-License-Identifier: MIT */
/*
 * Streams: read, write and connect as polls, over cached readiness.
 *
 * The ready path is one load of the readiness word and one system call. What it saves is the read
 * that only says EAGAIN: a read that came back short has drained the socket, so READABLE can be
 * cleared at once. But that is not always true, and a clear that is wrong hangs the connection:
 *
 * - A TCP read stops short at an urgent mark with more data behind it. With epoll an event's bits
 *   are the socket's state, so TCP streams watch for PRIORITY, and where it is missing there is no
 *   mark. With io_uring it takes an argument about events: see stream_is_drained().
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
#include "engine/translate.h"

/* A socket whose final flags never let an EAGAIN clear would hold the thread: then others first. */
#define TRIES_MAX 8

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
    int rc;

    if (flags & (RDY_SOCKET_STATES | RDY_SOCKET_KEYS))
        interest |= RDY_INTEREST_URGENT;
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
    rc = rdy_task_pay_error(task, rdy_poll_readiness(&stream->reg, direction, &waker, event));
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

/* How many events the read side has had since the stream was last found drained. */
static uint32_t stream_events(const struct rdy_stream *stream, struct rdy_event event)
{
    return (rdy_word_read_tick(event.word) - stream->drained_tick) & RDY_TICKS_MASK;
}

/*
 * True if a short read on @event took all there was, so that more will be an event.
 *
 * With io_uring an event may be the bare key of one wake-up, which says PRI of any data. But urgent
 * data wakes twice, at once after each other: first for the mark, then for the bytes; and of two
 * wake-ups either each is an event, or the kernel looks at the state and PRI is true. So a read
 * stops at a mark that no event told of only if both events were seen before it (then there were
 * two), or if the first was used up by an earlier read, which found nothing or other events' data
 * (then the stream is unsure). tests/stress/test_urgent.c sends such marks. TCP_INQ would tell too,
 * but cost 5 % of a small request.
 */
static bool stream_is_drained(const struct rdy_stream *stream, struct rdy_event event)
{
    if (rdy_event_ready(event) & (RDY_PRIORITY | RDY_READ_CLOSED))
        return false;
    if (stream->flags & RDY_SOCKET_STATES)
        return true;
    return (stream->flags & (RDY_SOCKET_KEYS | RDY_SOCKET_UNSURE)) == RDY_SOCKET_KEYS &&
           stream_events(stream, event) <= 1;
}

/* The stream is sure again when one event was met by its data, and by nothing else. */
static void stream_set_drained(struct rdy_stream *stream, struct rdy_event event)
{
    uint32_t events = stream_events(stream, event);

    if (events == 1 && (stream->flags & RDY_SOCKET_FED))
        stream->flags &= ~RDY_SOCKET_UNSURE;
    else if (events > 0)
        stream->flags |= RDY_SOCKET_UNSURE;
    stream->flags &= ~RDY_SOCKET_FED;
    stream->drained_tick = rdy_word_read_tick(event.word);
    rdy_clear_readiness(&stream->reg, event);
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
        ssize_t count;
        int rc = stream_wait(stream, task, RDY_DIRECTION_READ, &event);

        if (rc != 0)
            return rc;
        count = rdy_sys_recv(stream->fd, buf, buf_len);
        if (count > 0)
            stream->flags |= RDY_SOCKET_FED;
        if (count == -EAGAIN ||
            (count > 0 && (size_t)count < buf_len && stream_is_drained(stream, event)))
            stream_set_drained(stream, event);
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
