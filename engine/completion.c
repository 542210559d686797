/* SPDX-License-Identifier: MIT */
/*
 * Completion mode as its users see it: the poll calls over lanes.
 *
 * A call first looks at the lane, then waits in the entry's poll slot for the readiness with
 * which completed operations are stamped. READABLE stands while received buffers wait; WRITABLE is
 * taken away only by somebody who waits for room, and comes back when there is some.
 */
#include "engine/completion_plain.h"

#include <rdy/runtime.h>

#include "engine/lane_accept.h"
#include "engine/message.h"
#include "engine/runtime.h"
#include "engine/stream.h"

#define BUF_LEN_MAX    ((size_t)16 << 20)
#define WRITE_COPY_MAX ((size_t)1 << 16)

bool rdy_completion_try_native(struct rdy_driver *driver)
{
    return rdy_completion_open(driver) == 0 && driver->completion->is_native;
}

int rdy_completion_attach(struct rdy_registration *reg, uint32_t lane_flags)
{
    int rc = rdy_completion_open(reg->driver);
    struct rdy_lane *lane;

    if (rc < 0)
        return rc;
    lane = rdy_lane_make(reg->driver->completion, reg->io);
    if (!lane)
        return -ENOMEM;
    lane->flags |= (uint8_t)lane_flags;
    return 0;
}

int rdy_completion_enter(struct rdy_stream *stream)
{
    int rc = rdy_completion_attach(&stream->reg, rdy_completion_flags(stream->flags));

    if (rc < 0)
        return rc;
    stream->flags |= RDY_SOCKET_COMPLETES;
    if (rdy_stream_is_native(stream) && (stream->reg.io->flags & RDY_IO_UNWATCHED) == 0)
        rdy_driver_unwatch(stream->reg.driver, stream->reg.io);
    return 0;
}

int rdy_stream_start_completion(struct rdy_stream *stream)
{
    if (stream->fd < 0)
        return -EBADF;
    if (stream->flags & RDY_SOCKET_COMPLETES)
        return 0;
    if (stream->flags & RDY_SOCKET_CONNECTING)
        return -EINPROGRESS;
    return rdy_completion_enter(stream);
}

/* Before a call: the stream's lane, entering completion mode. 0 or -errno. */
static int lane_enter(struct rdy_stream *stream, struct rdy_lane **lane)
{
    if (rdy_unlikely((stream->flags & RDY_SOCKET_COMPLETES) == 0 || stream->fd < 0)) {
        int rc = rdy_stream_start_completion(stream);

        if (rc < 0)
            return rc;
    }
    *lane = rdy_lane_of(stream->reg.io);
    return 0;
}

static inline struct rdy_event event_now(const struct rdy_stream *stream, uint32_t interest)
{
    return rdy_scheduled_io_event(stream->reg.io, rdy_interest_mask(interest));
}

int rdy_completion_wait_to_recv(struct rdy_registration *reg, struct rdy_task *task,
                                struct rdy_event seen)
{
    struct rdy_waker waker = rdy_task_waker(task);

    if (rdy_event_ready(seen) != 0)
        rdy_clear_readiness(reg, seen);
    /* The end is when the lane says so. Where a watch has told of it, READ_CLOSED stands for good,
     * and who waits for a buffer to receive the rest would never sleep. */
    return rdy_scheduled_io_wait_for(reg->io, RDY_DIRECTION_READ, RDY_READABLE, &waker, &seen);
}

static inline __attribute__((always_inline)) ssize_t native_recv(struct rdy_stream *stream,
                                                                 struct rdy_task *task,
                                                                 struct rdy_lane *lane,
                                                                 struct rdy_buf *buf)
{
    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event = event_now(stream, RDY_INTEREST_READ);
        ssize_t count;
        int rc;

        if (rdy_unlikely(rdy_event_is_shutdown(event)))
            return rdy_task_pay_error(task, rdy_scheduled_io_error(stream->reg.io));
        count = rdy_recv_next(lane, buf);
        if (rdy_likely(count != RDY_PENDING)) {
            /* In bulk READABLE speaks of the socket; here is what the ring had received before. */
            if (!lane->received.first && lane->recv != RDY_RECV_ENDED && !lane->is_bulk)
                rdy_clear_readiness(&stream->reg, event);
            rdy_task_spend(task);
            return count;
        }
        rc = rdy_task_pay_error(task, rdy_completion_wait_to_recv(&stream->reg, task, event));
        if (rc != 0)
            return rc;
    }
    return rdy_task_give_way(task);
}

/* Of a stream that no ring receives for, or not now. */
static RDY_HOT __attribute__((noinline)) ssize_t recv_off_ring(struct rdy_stream *stream,
                                                               struct rdy_task *task,
                                                               struct rdy_lane *lane,
                                                               struct rdy_buf *buf)
{
    if (rdy_bulk_goes_on(stream, lane) || !rdy_stream_receives(stream)) {
        ssize_t count = rdy_plain_recv(stream, task, lane, buf);

        if (rdy_likely(count != -EAGAIN)) /* then it has gone back to the ring */
            return count;
    }
    return native_recv(stream, task, lane, buf);
}

RDY_HOT ssize_t rdy_stream_poll_recv(struct rdy_stream *stream, struct rdy_task *task,
                                     struct rdy_buf *buf)
{
    struct rdy_lane *lane;
    int rc = lane_enter(stream, &lane);

    if (rc < 0)
        return rc;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (rdy_unlikely(lane->is_bulk || !stream->reg.driver->completion->is_native))
        return recv_off_ring(stream, task, lane, buf);
    return native_recv(stream, task, lane, buf);
}

/* Waits for WRITE: room, or the end of the queue. 0: look again. */
static int wait_to_send(struct rdy_stream *stream, struct rdy_task *task, struct rdy_lane *lane)
{
    struct rdy_waker waker = rdy_task_waker(task);
    struct rdy_event event = rdy_ready_event(&stream->reg, RDY_INTEREST_WRITE);

    if (rdy_lane_is_plain(lane) && !rdy_lane_is_sending(lane))
        return rdy_poll_readiness(&stream->reg, RDY_DIRECTION_WRITE, &waker, &event);
    lane->flags |= RDY_LANE_WRITER;
    stream->reg.driver->completion->is_impatient = true;
    rdy_driver_call_again(stream->reg.driver);
    if (rdy_event_ready(event) != 0)
        rdy_clear_readiness(&stream->reg, event);
    /* A WRITE_CLOSED that stands is a watch's, as above; that sending is over the lane will say. */
    return rdy_scheduled_io_wait_for(stream->reg.io, RDY_DIRECTION_WRITE, RDY_WRITABLE, &waker,
                                     &event);
}

static bool is_flushed(const struct rdy_lane *lane)
{
    return !lane->unsent.first && (lane->send == RDY_SEND_IDLE || lane->send == RDY_SEND_GATHERED);
}

static bool has_room(const struct rdy_lane *lane, uint32_t unsent_max)
{
    return is_flushed(lane) || (unsent_max > 0 && lane->unsent_bytes < unsent_max);
}

/* 0 when at most @unsent_max bytes are unsent; RDY_PENDING or -errno. */
static RDY_HOT int poll_room(struct rdy_stream *stream, struct rdy_task *task,
                             struct rdy_lane *lane, uint32_t unsent_max)
{
    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        int rc;

        if (rdy_event_is_shutdown(event_now(stream, RDY_INTEREST_WRITE)))
            return rdy_scheduled_io_error(stream->reg.io);
        if (!has_room(lane, unsent_max) && rdy_lane_is_plain(lane))
            rdy_plain_pump(lane);
        if (lane->send_error)
            return lane->send_error;
        if (unsent_max > 0 && lane->is_shut)
            return -EPIPE;
        if (has_room(lane, unsent_max))
            return 0;
        rc = wait_to_send(stream, task, lane);
        if (rc != 0)
            return rc;
    }
    return rdy_task_give_way(task);
}

RDY_HOT int rdy_stream_poll_send(struct rdy_stream *stream, struct rdy_task *task,
                                 struct rdy_buf *buf)
{
    struct rdy_lane *lane;
    int rc = lane_enter(stream, &lane);

    if (rc < 0)
        return rc;
    if (!buf->block || buf->len == 0)
        return -EINVAL;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = poll_room(stream, task, lane, stream->reg.driver->completion->send_queue_max);
    if (rc == RDY_PENDING)
        return rc;
    if (rc == 0)
        rc = rdy_send_add(lane, buf);
    rdy_task_spend(task);
    return rc;
}

int rdy_stream_poll_flush(struct rdy_stream *stream, struct rdy_task *task)
{
    struct rdy_lane *lane;
    int rc = lane_enter(stream, &lane);

    if (rc < 0)
        return rc;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = poll_room(stream, task, lane, 0);
    if (rc != RDY_PENDING)
        rdy_task_spend(task);
    return rc;
}

/* The same of a stream in any mode: outside completion mode nothing is kept back. */
static int poll_sent(struct rdy_stream *stream, struct rdy_task *task)
{
    if ((stream->flags & RDY_SOCKET_COMPLETES) == 0)
        return 0;
    return poll_room(stream, task, rdy_lane_of(stream->reg.io), 0);
}

int rdy_stream_poll_shutdown(struct rdy_stream *stream, struct rdy_task *task, int how)
{
    int rc = 0;

    if (stream->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (how != SHUT_RD)
        rc = poll_sent(stream, task);
    if (rc == RDY_PENDING)
        return rc;
    rdy_task_spend(task);
    return rc < 0 ? rc : rdy_stream_shutdown(stream, how);
}

int rdy_stream_poll_close(struct rdy_stream *stream, struct rdy_task *task)
{
    int rc;

    if (stream->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = poll_sent(stream, task);
    if (rc == RDY_PENDING)
        return rc;
    rdy_task_spend(task);
    rdy_stream_close(stream);
    return rc;
}

size_t rdy_stream_unsent(const struct rdy_stream *stream)
{
    if (stream->fd < 0 || (stream->flags & RDY_SOCKET_COMPLETES) == 0)
        return 0;
    return rdy_lane_of(stream->reg.io)->unsent_bytes;
}

ssize_t rdy_completion_poll_read(struct rdy_stream *stream, struct rdy_task *task, void *buf,
                                 size_t buf_len)
{
    struct rdy_lane *lane = rdy_lane_of(stream->reg.io);
    struct rdy_buf got = {0};
    ssize_t count;

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (rdy_unlikely(rdy_bulk_goes_on(stream, lane)))
        return rdy_plain_read(stream, task, lane, buf, buf_len);
    count = native_recv(stream, task, lane, &got);
    if (count <= 0)
        return count;
    if ((size_t)count <= buf_len) {
        memcpy(buf, got.data, got.len);
        rdy_buf_release(&got);
        return count;
    }
    memcpy(buf, got.data, buf_len);
    rdy_buf_advance(&got, buf_len);
    rdy_recv_put_back(lane, &got);
    return (ssize_t)buf_len;
}

ssize_t rdy_completion_poll_write(struct rdy_stream *stream, struct rdy_task *task,
                                  const void *data, size_t data_len)
{
    struct rdy_lane *lane = rdy_lane_of(stream->reg.io);
    struct rdy_completion *completion = stream->reg.driver->completion;
    size_t len = data_len < WRITE_COPY_MAX ? data_len : WRITE_COPY_MAX;
    struct rdy_buf buf = {.len = len};
    int rc;

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = poll_room(stream, task, lane, completion->send_queue_max);
    if (rc == RDY_PENDING)
        return rc;
    rdy_task_spend(task);
    if (rc < 0 || len == 0)
        return rc;
    buf.block = rdy_block_make(&completion->pool, len);
    if (!buf.block)
        return -ENOMEM;
    buf.data = buf.block->memory;
    memcpy(buf.data, data, len);
    rc = rdy_send_add(lane, &buf);
    if (rc < 0)
        rdy_buf_release(&buf);
    return rc < 0 ? rc : (ssize_t)len;
}

int rdy_completion_end_error(const struct rdy_stream *stream)
{
    return rdy_recv_end_error(rdy_lane_of(stream->reg.io));
}

/* An error that has ended the connection, so that no end can be told any more. */
static bool is_end_of_connection(int error)
{
    return error == -EPIPE || error == -ECONNRESET || error == -ETIMEDOUT;
}

int rdy_completion_shut(struct rdy_stream *stream)
{
    struct rdy_lane *lane = rdy_lane_of(stream->reg.io);

    if (lane->send_error && !is_end_of_connection(lane->send_error))
        return lane->send_error;
    lane->is_shut = true;
    if (is_flushed(lane) || lane->send_error)
        return RDY_SHUT_NOW;
    lane->flags |= RDY_LANE_SHUTTING;
    return RDY_SHUT_LATER;
}

/*
 * The lane goes first. Where the engine makes the calls nothing is in it but what the task that is
 * being polled has handed over, which is sent here, unless the peer is slow (then WRITABLE is gone
 * as well) or a ring was lost (then data is, that it had received).
 */
int rdy_completion_gate(struct rdy_stream *stream, enum rdy_direction direction)
{
    struct rdy_lane *lane;

    if (stream->flags & RDY_SOCKET_WILL)
        return -EINPROGRESS;
    lane = rdy_lane_of(stream->reg.io);
    if (direction == RDY_DIRECTION_READ)
        return rdy_stream_receives(stream) ? -EBUSY : 0;
    if (!rdy_stream_queues(stream))
        return 0;
    if (rdy_stream_is_native(stream))
        return -EBUSY;
    rdy_plain_pump(lane);
    if (lane->send_error)
        return lane->send_error;
    return lane->unsent.first &&
                   rdy_event_ready(rdy_ready_event(&stream->reg, RDY_INTEREST_WRITE)) != 0
               ? -EBUSY
               : 0;
}

/*
 * Readiness stands while connections wait here. Where it stands without one, somebody has assumed
 * it, who wants to know whether the kernel's own queue is empty: then that is asked.
 */
static int accept_now(struct rdy_listener *listener, struct rdy_lane *lane, struct rdy_event event)
{
    int fd = rdy_accept_next(lane);

    /* Without a ring READABLE speaks of the kernel's queue; here are what a lost one has left. */
    if (fd >= 0 && !rdy_accept_has_more(lane) && listener->reg.driver->completion->is_native)
        rdy_clear_readiness(&listener->reg, event);
    if (fd != RDY_PENDING || (rdy_event_ready(event) & RDY_READABLE) == 0)
        return fd;
    fd = rdy_sys_accept(listener->fd);
    return fd == -EAGAIN ? RDY_PENDING : fd;
}

int rdy_completion_poll_accept(struct rdy_listener *listener, struct rdy_task *task)
{
    struct rdy_lane *lane = rdy_lane_of(listener->reg.io);

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event = rdy_ready_event(&listener->reg, RDY_INTEREST_READ);
        int fd;
        int rc;

        if (rdy_event_is_shutdown(event) && !rdy_accept_has_more(lane))
            return rdy_scheduled_io_error(listener->reg.io);
        /* Asked before: what was taken cannot be put back. */
        if (!rdy_driver_has_room(listener->reg.driver))
            return -ENFILE;
        fd = accept_now(listener, lane, event);
        if (fd == -EAGAIN)
            return rdy_task_give_way(task);
        if (fd != RDY_PENDING)
            return fd;
        rc = rdy_completion_wait_to_recv(&listener->reg, task, event);
        if (rc != 0)
            return rc;
    }
    return rdy_task_give_way(task);
}

bool rdy_completion_has_accepted(const struct rdy_listener *listener)
{
    const struct rdy_scheduled_io *io = listener->reg.io;

    return (io->flags & RDY_IO_LANE) && rdy_accept_has_more(rdy_lane_of(io));
}

int rdy_buf_take(struct rdy_runtime *runtime, size_t len, struct rdy_buf *buf)
{
    struct rdy_block *block;
    int rc;

    if (len == 0 || len > BUF_LEN_MAX)
        return -EINVAL;
    rc = rdy_completion_open(runtime->driver);
    if (rc < 0)
        return rc;
    block = rdy_block_make(&runtime->driver->completion->pool, len);
    if (!block)
        return -ENOMEM;
    *buf = (struct rdy_buf){.block = block, .data = block->memory, .len = len};
    return 0;
}

struct rdy_buf rdy_buf_keep(const struct rdy_buf *buf)
{
    if (buf->block)
        buf->block->refs++;
    return *buf;
}

void rdy_buf_release(struct rdy_buf *buf)
{
    struct rdy_block *block = buf->block;
    struct rdy_completion *completion;

    *buf = (struct rdy_buf){0};
    if (!block)
        return;
    completion = rdy_container_of(block->pool, struct rdy_completion, pool);
    rdy_block_release(block);
    if (rdy_unlikely(completion->unarmed_count > 0))
        rdy_driver_call_again(completion->driver); /* somebody waits for a buffer */
}

bool rdy_completion_is_native(const struct rdy_runtime *runtime)
{
    const struct rdy_driver *driver = runtime->driver;

    if (driver->completion)
        return driver->completion->is_native;
    return (rdy_driver_ops(driver)->capabilities & RDY_BACKEND_COMPLETES) != 0 &&
           !driver->opts.is_watching_only;
}

void rdy_completion_read_stats(const struct rdy_runtime *runtime,
                               struct rdy_completion_stats *stats)
{
    const struct rdy_completion *completion = runtime->driver->completion;

    *stats = (struct rdy_completion_stats){0};
    if (!completion)
        return;
    *stats = completion->count;
    stats->copies = completion->pool.copies;
    stats->buffers_total = completion->pool.count;
    stats->buffers_free = completion->pool.free_count;
    stats->blocks_live = completion->pool.blocks_live;
}
