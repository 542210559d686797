/* SPDX-License-Identifier: MIT */
/* Receives by calls: into a buffer of the pool, or a large one for a stream that brings much. */
#include "engine/completion_plain.h"

#include "engine/poison.h"
#include "engine/runtime.h"
#include "engine/stream_ops.h"
#include "engine/sys.h"
#include "engine/translate.h"

#define FULLNESS_LARGE 2

/* No buffer of the pool is free: waits for one, unless the end has to be fetched. */
static ssize_t starve(struct rdy_stream *stream, struct rdy_task *task, struct rdy_lane *lane,
                      struct rdy_block **block)
{
    struct rdy_completion *completion = stream->reg.driver->completion;
    struct rdy_event event = rdy_ready_event(&stream->reg, RDY_INTEREST_READ);
    int rc;

    if ((rdy_event_ready(event) & RDY_READ_CLOSED) == 0) {
        completion->count.recv_starved++;
        rdy_recv_want(completion, lane);
        rc = rdy_task_pay_error(task, rdy_completion_wait_to_recv(&stream->reg, task, event));
        if (rc != 0)
            return rc;
    }
    *block = rdy_block_make(&completion->pool, completion->pool.size);
    return rdy_task_pay_error(task, *block ? 0 : -ENOMEM);
}

/* @size: of the block. NULL where the pool has none; a ring's pool is not asked. */
static struct rdy_block *take(struct rdy_buffer_pool *pool, const struct rdy_lane *lane,
                              size_t *size)
{
    struct rdy_block *block = NULL;

    *size = pool->large_size;
    if (lane->fullness >= FULLNESS_LARGE || lane->is_bulk)
        block = rdy_buffer_pool_take_large(pool);
    if (block || lane->is_bulk)
        return block;
    *size = pool->size;
    return rdy_buffer_pool_take(pool);
}

/* What a large buffer takes is as much work as a turn of a ring allows for one stream. */
static void pay(struct rdy_task *task, const struct rdy_buffer_pool *pool, ssize_t count)
{
    if (rdy_unlikely(count > 0 && (size_t)count > pool->size))
        rdy_task_spend_share(task);
    else
        rdy_task_spend(task);
}

/*
 * An end while the ring has a send of the stream: that may have taken what broke the connection,
 * and not have told it yet. As the connection is gone it will, in this turn or the next.
 */
static bool is_told_elsewhere(const struct rdy_lane *lane)
{
    return rdy_lane_is_sending(lane) &&
           (rdy_sys_poll_now(lane->io->fd, RDY_EV_OUT) & RDY_EV_HUP) != 0;
}

/* In bulk an answer that is the last is kept, as a ring's is: the socket tells an error once. */
static void keep_end(struct rdy_lane *lane, ssize_t count)
{
    if (!lane->is_bulk || count > 0 || count == -EINTR || count == -ENOMEM || count == -ENOBUFS)
        return;
    lane->recv = RDY_RECV_ENDED;
    lane->recv_error = (int16_t)count;
}

/* What came of a receive that had room for @len bytes. If that was little, it says nothing. */
static void take_count(struct rdy_completion *completion, struct rdy_lane *lane, ssize_t count,
                       size_t len)
{
    size_t got = count > 0 ? (size_t)count : 0;

    if (got == 0)
        keep_end(lane, count);
    else if (got < len || len >= completion->pool.size)
        rdy_plain_weigh(lane, &completion->pool, got);
    completion->count.recv_bytes += got;
}

RDY_HOT ssize_t rdy_plain_read(struct rdy_stream *stream, struct rdy_task *task,
                               struct rdy_lane *lane, void *data, size_t len)
{
    struct rdy_completion *completion = stream->reg.driver->completion;
    struct rdy_stream_span span = {.data = data, .len = len};

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event =
            rdy_ready_event(&stream->reg, rdy_stream_interest(RDY_DIRECTION_READ));
        ssize_t count;

        if (rdy_event_ready(event) == 0 || rdy_event_is_shutdown(event)) {
            int rc = rdy_stream_park(stream, task, RDY_DIRECTION_READ, &event);

            if (rc != 0)
                return rc;
        }
        if (rdy_unlikely(lane->is_fresh))
            rdy_stream_set_unsure(stream, event);
        lane->is_fresh = false;
        completion->count.calls++;
        count = rdy_stream_read_once(stream, event, rdy_stream_try_recv, &span, len);
        if (count == -EAGAIN)
            continue;
        if (rdy_unlikely(count == 0) && is_told_elsewhere(lane))
            break;
        pay(task, &completion->pool, count);
        take_count(completion, lane, count, len);
        return count;
    }
    return rdy_task_give_way(task);
}

RDY_HOT ssize_t rdy_plain_recv(struct rdy_stream *stream, struct rdy_task *task,
                               struct rdy_lane *lane, struct rdy_buf *buf)
{
    struct rdy_completion *completion = stream->reg.driver->completion;
    size_t size;
    struct rdy_block *block = take(&completion->pool, lane, &size);
    ssize_t count = 0;

    if (!block && lane->is_bulk) {
        rdy_bulk_end(lane);
        return -EAGAIN;
    }
    if (!block)
        count = starve(stream, task, lane, &block);
    if (count != 0)
        return count;
    count = rdy_plain_read(stream, task, lane, block->memory, size);
    if (count <= 0) {
        rdy_block_release(block);
        return count;
    }
    rdy_written(block->memory, (size_t)count, size);
    completion->count.recv_buffers++;
    *buf = (struct rdy_buf){.block = block, .data = block->memory, .len = (size_t)count};
    return count;
}
