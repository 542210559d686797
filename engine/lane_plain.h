/* SPDX-License-Identifier: MIT */
/* Lanes for which the engine makes the calls: see lane_plain.c. */
#ifndef RDY_ENGINE_LANE_PLAIN_H
#define RDY_ENGINE_LANE_PLAIN_H

#include "engine/lane.h"

#define RDY_FULLNESS_MAX     7u
#define RDY_FULLNESS_BULK    6u
#define RDY_FULLNESS_STOPPED 4u

/* A send of it is under way elsewhere, and whoever waits will be told: a ring has one, or will
 * have, of a stream that was taken off it since; or the kernel had no memory. */
static inline bool rdy_lane_is_sending(const struct rdy_lane *lane)
{
    return lane->send != RDY_SEND_IDLE && lane->send != RDY_SEND_GATHERED;
}

/* The entry is writable: sends what is unsent. */
void rdy_plain_pump(struct rdy_lane *lane);

/* There is something to send, and more may come from the task that is being polled. */
void rdy_plain_gather(struct rdy_completion *completion, struct rdy_lane *lane);

/* Sends what was gathered. */
void rdy_plain_send_gathered(struct rdy_completion *completion);

/* Tries again what had stalled. */
void rdy_plain_resume(struct rdy_completion *completion);

static inline void rdy_plain_flush(struct rdy_completion *completion)
{
    if (rdy_unlikely(completion->gathered.first != NULL))
        rdy_plain_send_gathered(completion);
}

/* After each poll of a task: what it has handed over goes out, as one. */
static inline void rdy_plain_end_poll(const struct rdy_driver *driver)
{
    struct rdy_completion *completion = driver->completion;

    if (completion)
        rdy_plain_flush(completion);
}

/* lane_bulk.c */
bool rdy_bulk_may_begin(const struct rdy_lane *lane);

/* The ring has let go of the receive: false if it is to begin anew there. */
bool rdy_bulk_begin(struct rdy_lane *lane);

/* Back to the ring. */
void rdy_bulk_end(struct rdy_lane *lane);

/* Before it is closed: what was gathered is sent while it can be. */
static inline void rdy_plain_last_call(struct rdy_lane *lane)
{
    if (rdy_unlikely(lane->send == RDY_SEND_GATHERED) &&
        rdy_driver_is_own_thread(lane->io->driver)) /* not in the child of a fork */
        rdy_plain_pump(lane);
}

/* Counts a receive of @len bytes: did it fill a buffer of the pool? */
static inline void rdy_plain_weigh(struct rdy_lane *lane, const struct rdy_buffer_pool *pool,
                                   size_t len)
{
    uint32_t fullness = lane->fullness;

    if (rdy_unlikely(len >= pool->size))
        lane->fullness = (fullness < RDY_FULLNESS_MAX ? fullness + 1 : fullness) & RDY_FULLNESS_MAX;
    else if (rdy_unlikely(fullness > 0))
        lane->fullness = (fullness - 1) & RDY_FULLNESS_MAX;
}

#endif
