/* SPDX-License-Identifier: MIT */
/* Lanes for which the engine makes the calls: see lane_plain.c. */
#ifndef RDY_ENGINE_LANE_PLAIN_H
#define RDY_ENGINE_LANE_PLAIN_H

#include "engine/lane.h"

/* The entry is writable: sends what is unsent. */
void rdy_plain_pump(struct rdy_lane *lane);

/* There is something to send, and more may come from the task that is being polled. */
void rdy_plain_gather(struct rdy_completion *completion, struct rdy_lane *lane);

/* Sends what was gathered. */
void rdy_plain_flush(struct rdy_completion *completion);

/* After each poll of a task: what it has handed over goes out, as one. */
static inline void rdy_plain_end_poll(const struct rdy_driver *driver)
{
    struct rdy_completion *completion = driver->completion;

    if (completion && rdy_unlikely(completion->gathered.first != NULL))
        rdy_plain_flush(completion);
}

/* Before it is closed: what was gathered is sent while it can be. */
static inline void rdy_plain_last_call(struct rdy_lane *lane)
{
    if (rdy_unlikely(lane->send == RDY_SEND_GATHERED) &&
        rdy_driver_is_own_thread(lane->io->driver)) /* not in the child of a fork */
        rdy_plain_pump(lane);
}

#endif
