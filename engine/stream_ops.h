/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing a stream, whatever the system call: one routine for each direction.
 *
 * A caller brings one nonblocking attempt; here is what surrounds it: the wait, the budget, and
 * what the attempt's answer proves about the socket. All of it is inlined into the caller, so that
 * a plain read stays one load of the readiness word and one system call.
 *
 * What the ready path saves is the read that only says EAGAIN: a read that came back short has
 * drained the socket, so READABLE can be cleared at once. But that is not always true, and a clear
 * that is wrong hangs the connection:
 *
 * - A TCP read stops short at an urgent mark with more data behind it. With epoll an event's bits
 *   are the socket's state, so TCP streams watch for PRIORITY, and where it is missing there is no
 *   mark. With io_uring it takes an argument about events: see rdy_stream_is_drained(). After a
 *   first mark neither is trusted.
 * - A Unix socket's read stops short where a message with descriptors begins: no short cut.
 * - At a mark Linux says EAGAIN, whatever is behind it, while a signal is pending, as which task
 *   work of a ring counts: where there has been a mark, EAGAIN is asked after.
 * - After the peer's FIN the end of the stream is still to be read: not when READ_CLOSED was seen.
 * - A read that filled its buffer says nothing.
 */
#ifndef RDY_ENGINE_STREAM_OPS_H
#define RDY_ENGINE_STREAM_OPS_H

#include <rdy/net.h>

#include "engine/completion.h"
#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/stream.h"
#include "engine/sys.h"
#include "engine/word.h"

#define RDY_STREAM_INLINE static inline __attribute__((always_inline))

/* One attempt on @event: a count, 0, or -errno. -EAGAIN only where the socket itself said it. */
typedef ssize_t rdy_stream_try_fn(const struct rdy_stream *stream, struct rdy_event event,
                                  void *op);

/* What can prove that a direction is used up, beside EAGAIN: a count below this one. */
#define RDY_STREAM_NO_SHORT ((size_t)0)

RDY_STREAM_INLINE uint32_t rdy_stream_interest(enum rdy_direction direction)
{
    return direction == RDY_DIRECTION_READ ? RDY_INTEREST_READ | RDY_INTEREST_PRIORITY
                                           : RDY_INTEREST_WRITE;
}

/*
 * stream.c, when nothing was cached: 0 and an event after all, or the task's waker is left behind.
 */
int rdy_stream_park(struct rdy_stream *stream, struct rdy_task *task, enum rdy_direction direction,
                    struct rdy_event *event);

/*
 * An event that lets @direction be tried, with PRIORITY as well if it stands; else RDY_PENDING.
 * -EBUSY where a ring receives and sends by itself, -EINPROGRESS before it is to.
 */
RDY_STREAM_INLINE int rdy_stream_wait(struct rdy_stream *stream, struct rdy_task *task,
                                      enum rdy_direction direction, struct rdy_event *event)
{
    if (rdy_unlikely(stream->flags & RDY_SOCKET_LANED)) {
        int rc = rdy_completion_gate(stream, direction);

        if (rc < 0)
            return rdy_task_pay_error(task, rc);
    }
    *event = rdy_ready_event(&stream->reg, rdy_stream_interest(direction));
    if (rdy_likely(rdy_event_ready(*event) != 0 && !rdy_event_is_shutdown(*event)))
        return 0;
    return rdy_stream_park(stream, task, direction, event);
}

/* The same without a task: 0 and an event that lets @direction be tried, -EAGAIN, or the end. */
RDY_STREAM_INLINE int rdy_stream_look(struct rdy_stream *stream, enum rdy_direction direction,
                                      struct rdy_event *event)
{
    if (rdy_unlikely(stream->flags & RDY_SOCKET_LANED)) {
        int rc = rdy_completion_gate(stream, direction);

        if (rc < 0)
            return rc;
    }
    return rdy_cached_event(&stream->reg, rdy_stream_interest(direction), event);
}

/* How many events the read side has had since the stream was last found drained. */
RDY_STREAM_INLINE uint32_t rdy_stream_events(const struct rdy_stream *stream,
                                             struct rdy_event event)
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
 *
 * A stream that once had urgent data is never trusted again: with segments lost and sent anew, a
 * read was seen to stop at a mark that the state did not tell of.
 */
RDY_STREAM_INLINE bool rdy_stream_is_drained(const struct rdy_stream *stream,
                                             struct rdy_event event)
{
    if ((rdy_event_ready(event) & (RDY_PRIORITY | RDY_READ_CLOSED)) ||
        (stream->flags & RDY_SOCKET_MARKED))
        return false;
    if (stream->flags & RDY_SOCKET_STATES)
        return true;
    return (stream->flags & (RDY_SOCKET_KEYS | RDY_SOCKET_UNSURE)) == RDY_SOCKET_KEYS &&
           rdy_stream_events(stream, event) <= 1;
}

/* The stream is sure again when one event was met by its data, and by nothing else. */
RDY_STREAM_INLINE void rdy_stream_set_drained(struct rdy_stream *stream, struct rdy_event event)
{
    uint32_t events = rdy_stream_events(stream, event);

    if (events == 1 && (stream->flags & RDY_SOCKET_FED))
        stream->flags &= ~RDY_SOCKET_UNSURE;
    else if (events > 0)
        stream->flags |= RDY_SOCKET_UNSURE;
    stream->flags &= ~RDY_SOCKET_FED;
    stream->drained_tick = rdy_word_read_tick(event.word);
    rdy_clear_readiness(&stream->reg, event);
}

/* A watch has begun anew: of the events before it nothing is known. */
static inline void rdy_stream_set_unsure(struct rdy_stream *stream, struct rdy_event event)
{
    stream->flags |= RDY_SOCKET_UNSURE;
    stream->flags &= ~RDY_SOCKET_FED;
    stream->drained_tick = rdy_word_read_tick(event.word);
}

/*
 * True if EAGAIN does not mean that there is nothing: at an urgent mark it may mean a signal. A
 * ring's key hides the mark; then an event without data is the sign.
 */
static inline bool rdy_stream_may_have_more(const struct rdy_stream *stream)
{
    bool is_suspect = (stream->flags & RDY_SOCKET_MARKED) ||
                      (stream->flags & (RDY_SOCKET_KEYS | RDY_SOCKET_FED)) == RDY_SOCKET_KEYS;

    return is_suspect && (rdy_sys_poll_now(stream->fd, RDY_EV_IN) & RDY_EV_IN) != 0;
}

/*
 * One attempt to read, and what its answer proves. @full: a count below it is a short read.
 *
 * A peek counts as fed although it takes nothing: the data is there until a read takes it, and that
 * read would say the same.
 */
RDY_STREAM_INLINE ssize_t rdy_stream_read_once(struct rdy_stream *stream, struct rdy_event event,
                                               rdy_stream_try_fn *try_read, void *op, size_t full)
{
    ssize_t count = try_read(stream, event, op);

    if (rdy_unlikely(count == 0) && (stream->flags & RDY_SOCKET_COMPLETES))
        count = rdy_completion_end_error(stream);
    if (count > 0)
        stream->flags |= RDY_SOCKET_FED;
    if (rdy_unlikely(rdy_event_ready(event) & RDY_PRIORITY))
        stream->flags |= RDY_SOCKET_MARKED;
    if (rdy_unlikely(count == -EAGAIN) && rdy_stream_may_have_more(stream))
        return count;
    if (count == -EAGAIN ||
        (count > 0 && (size_t)count < full && rdy_stream_is_drained(stream, event)))
        rdy_stream_set_drained(stream, event);
    return count;
}

/* One attempt to write. A short one met a full buffer, and the kernel will say when it has room. */
RDY_STREAM_INLINE ssize_t rdy_stream_write_once(struct rdy_stream *stream, struct rdy_event event,
                                                rdy_stream_try_fn *try_write, void *op, size_t full)
{
    ssize_t count = try_write(stream, event, op);

    if (count == -EAGAIN || (count >= 0 && (size_t)count < full))
        rdy_clear_readiness(&stream->reg, event);
    return count;
}

/* Reads as a poll: waits, tries, pays for an answer. The stream is open. */
RDY_STREAM_INLINE ssize_t rdy_stream_read_with(struct rdy_stream *stream, struct rdy_task *task,
                                               rdy_stream_try_fn *try_read, void *op, size_t full)
{
    rdy_debug(stream->fd >= 0);
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event;
        ssize_t count = rdy_stream_wait(stream, task, RDY_DIRECTION_READ, &event);

        if (count != 0)
            return count;
        count = rdy_stream_read_once(stream, event, try_read, op, full);
        if (rdy_likely(count != -EAGAIN)) {
            rdy_task_spend(task);
            return count;
        }
    }
    return rdy_task_give_way(task);
}

/* Writes as a poll. The stream is open. */
RDY_STREAM_INLINE ssize_t rdy_stream_write_with(struct rdy_stream *stream, struct rdy_task *task,
                                                rdy_stream_try_fn *try_write, void *op, size_t full)
{
    rdy_debug(stream->fd >= 0);
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event;
        ssize_t count = rdy_stream_wait(stream, task, RDY_DIRECTION_WRITE, &event);

        if (count != 0)
            return count;
        count = rdy_stream_write_once(stream, event, try_write, op, full);
        if (rdy_likely(count != -EAGAIN)) {
            rdy_task_spend(task);
            return count;
        }
    }
    return rdy_task_give_way(task);
}

/* What a plain attempt works on. */
struct rdy_stream_span {
    void *data;
    size_t len;
};

/* The kernel only reads through it when it sends; that @data is not const there is C's fault. */
RDY_STREAM_INLINE struct rdy_stream_span rdy_stream_span_of(const void *data, size_t len)
{
    return (struct rdy_stream_span){.data = (void *)(uintptr_t)data, .len = len};
}

RDY_STREAM_INLINE ssize_t rdy_stream_try_recv(const struct rdy_stream *stream,
                                              struct rdy_event event, void *op)
{
    const struct rdy_stream_span *span = op;

    (void)event;
    return rdy_sys_recv(stream->fd, span->data, span->len);
}

RDY_STREAM_INLINE ssize_t rdy_stream_try_send(const struct rdy_stream *stream,
                                              struct rdy_event event, void *op)
{
    const struct rdy_stream_span *span = op;

    (void)event;
    return rdy_sys_send(stream->fd, span->data, span->len);
}

#endif
