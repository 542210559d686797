/* SPDX-License-Identifier: MIT */
/* Receives that the engine makes itself: without a ring, and of streams in bulk (lane_bulk.c). */
#ifndef RDY_ENGINE_COMPLETION_PLAIN_H
#define RDY_ENGINE_COMPLETION_PLAIN_H

#include "engine/completion.h"
#include "engine/lane_plain.h"

/* completion.c: waits for READ. 0: look again. */
int rdy_completion_wait_to_recv(struct rdy_registration *reg, struct rdy_task *task,
                                struct rdy_event seen);

/* One receive into a buffer of the engine's: as rdy_stream_poll_recv(); or -EAGAIN, as there is no
 * memory, and the stream is the ring's again. */
ssize_t rdy_plain_recv(struct rdy_stream *stream, struct rdy_task *task, struct rdy_lane *lane,
                       struct rdy_buf *buf);

/* One receive into the caller's memory. */
ssize_t rdy_plain_read(struct rdy_stream *stream, struct rdy_task *task, struct rdy_lane *lane,
                       void *data, size_t len);

/* True if the next receive of a stream on a ring is a call. Where it would have been, but its
 * receives have become small, or no large buffer is free, it goes back to the ring. */
static inline bool rdy_bulk_goes_on(struct rdy_stream *stream, struct rdy_lane *lane)
{
    const struct rdy_buffer_pool *pool = &stream->reg.driver->completion->pool;

    if (rdy_likely(!lane->is_bulk) || lane->received.first || lane->recv == RDY_RECV_ENDED)
        return false;
    if (rdy_unlikely(!rdy_buffer_pool_has_large(pool)))
        rdy_plain_last_call(lane); /* it may have the last of them */
    if (lane->fullness > 0 && rdy_buffer_pool_has_large(pool))
        return true;
    rdy_bulk_end(lane);
    return false;
}

#endif
