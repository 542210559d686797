/* SPDX-License-Identifier: MIT */
/*
 * Streams that bring much, on a ring: the engine receives and sends by calls of its own.
 *
 * A ring receives for all streams before any of them is answered. With messages as large as its
 * buffers that is more than a processor's cache holds, and each byte is fetched again to be sent. A
 * call into one buffer, the answer, and the next call into the same buffer stay in the cache, which
 * is worth more than the calls cost. So a stream whose receives keep filling the pool's buffers is
 * taken off the ring: its receive is stopped, and once the kernel has let go of that its file is
 * watched, as without operations (lane_plain.c), with large buffers. When its receives have become
 * small again, or no large buffer is free, it goes back.
 *
 * A send that the ring still has goes first: what comes after it waits (lane_send.c).
 */
#include "engine/lane_plain.h"

bool rdy_bulk_may_begin(const struct rdy_lane *lane)
{
    const struct rdy_scheduled_io *io = lane->io;
    const struct rdy_buffer_pool *pool = &io->driver->completion->pool;

    return io->kernel == RDY_KERNEL_IDLE && rdy_buffer_pool_has_large(pool) &&
           !rdy_lane_is_unwanted(lane);
}

bool rdy_bulk_begin(struct rdy_lane *lane)
{
    struct rdy_scheduled_io *io = lane->io;

    if (!rdy_bulk_may_begin(lane))
        return false;
    lane->is_bulk = true;
    lane->is_fresh = true;
    io->driver->completion->count.bulks++;
    lane->fullness = RDY_FULLNESS_MAX;
    io->flags &= (uint8_t)~RDY_IO_UNWATCHED;
    /* Of room in the socket nothing is known: an attempt that finds none is told of it. */
    (void)rdy_scheduled_io_assume(io, RDY_WRITABLE);
    rdy_driver_arm(io->driver, io);
    return true;
}

void rdy_bulk_end(struct rdy_lane *lane)
{
    struct rdy_driver *driver = lane->io->driver;

    rdy_assert(lane->is_bulk);
    lane->is_bulk = false;
    lane->fullness = 0;
    if (lane->send == RDY_SEND_IDLE && lane->unsent.first && !rdy_lane_is_unwanted(lane))
        rdy_send_make_dirty(driver->completion, lane);
    rdy_driver_unwatch(driver, lane->io);
}
