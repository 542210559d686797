/* SPDX-License-Identifier: MIT */
/*
 * How long polls take and tasks wait for theirs, in a runtime that was opened with is_timed. The
 * runtime's thread writes, any thread may read.
 *
 * The clock is read once a poll: where one ends, the next begins. So a poll's time has in it what
 * it costs to take a task out of the queue, and the drop of a task that it ended.
 *
 * The time in the queue needs no stamp in each task: all tasks together wait for as long as the
 * queue's depth, integrated over the time (Little 1961). Between two looks the depth is taken to
 * have changed evenly, so a task that was woken in a poll is off by half of that poll at most.
 */
#ifndef RDY_ENGINE_POLL_TIME_H
#define RDY_ENGINE_POLL_TIME_H

#include <rdy/metrics.h>

#include "engine/atomic.h"

struct rdy_poll_time {
    uint64_t since_ns;      /* when the last poll ended, or the first of the round begins */
    uint64_t depth;         /* of the queue then */
    struct rdy_a64 mean_16; /* the moving mean, in sixteenths of a nanosecond */
    struct rdy_a64 total_ns;
    struct rdy_a64 queue_wait_ns;
    struct rdy_a64 buckets[RDY_METRICS_BUCKETS];
};

/* The bucket of a poll that took @ns. */
uint32_t rdy_poll_time_bucket(uint64_t ns);

/* The polls of a round begin. */
void rdy_poll_time_begin(struct rdy_runtime *runtime);

/* One of them has ended. */
void rdy_poll_time_lap(struct rdy_runtime *runtime);

#endif
