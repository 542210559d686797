/* SPDX-License-Identifier: MIT */
/*
 * The counters of a runtime: each has one writer, the runtime's thread, and any number of readers.
 *
 * A gauge is not stored: it is what came minus what went, of counters that are there anyway, for
 * a store more in each poll shows (a nanosecond of eight). Whoever counts one out releases what it
 * knows of those that came in: a reader who takes the outs first never finds more outs than ins.
 */
#ifndef RDY_ENGINE_COUNTS_H
#define RDY_ENGINE_COUNTS_H

#include "engine/atomic.h"

#define RDY_FLOW_MAX 4

struct rdy_runtime_counts {
    struct rdy_a64 local_spawns;
    struct rdy_a64 tasks_ended;
    struct rdy_a64 task_polls;
    struct rdy_a64 local_wakes;        /* and those that a poll put back into the queue */
    struct rdy_a64 remote_wakes_taken; /* taken over from other threads into the run queue */
    struct rdy_a64 remote_spawns;
    struct rdy_a64 reaped; /* taken out of the run queue when they had ended */
    struct rdy_a64 task_aborts;
    struct rdy_a64 budget_yields;
    struct rdy_a64 next_polls;
    struct rdy_a64 next_bounds;
    struct rdy_a64 task_timeouts;
    struct rdy_a64 remote_drops;
    struct rdy_a64 timers_fired;
    struct rdy_a64 noop_parks;
};

/* What came and what went, each the sum of a few counters; NULL is none. */
struct rdy_flow {
    const struct rdy_a64 *came[RDY_FLOW_MAX];
    const struct rdy_a64 *went[RDY_FLOW_MAX];
};

/*
 * How many are inside. Any thread: exact if nothing went meanwhile, which is tried a few times;
 * else off by what did. The thread that counts them gets it exactly.
 */
uint64_t rdy_flow_inside(const struct rdy_flow *flow);

#endif
