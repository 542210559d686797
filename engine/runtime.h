/* SPDX-License-Identifier: MIT */
/*
 * The runtime's inside: what the tasks, the timers and the sockets share.
 *
 * All of it belongs to the runtime's thread, but for `shared`, which other threads write when they
 * wake a task or stop the runtime, and the counters, which other threads read.
 */
#ifndef RDY_ENGINE_RUNTIME_H
#define RDY_ENGINE_RUNTIME_H

#include <rdy/runtime.h>

#include "engine/counts.h"
#include "engine/poll_time.h"
#include "engine/task.h"
#include "engine/wheel.h"

struct rdy_arrival;
struct rdy_copy_pool;

struct rdy_runtime_shared {
    struct rdy_aptr inbox;         /* tasks woken by other threads: a stack through rdy_task.next */
    struct rdy_aptr arrivals;      /* tasks spawned by other threads: a stack, see task_remote.c */
    struct rdy_a32 arrivals_count; /* pushed and not begun */
    struct rdy_a32 has_shut;       /* no more arrivals */
    struct rdy_a32 spawners_inside;
    struct rdy_a32 is_stopping;
    struct rdy_a64 remote_wakes;      /* those that put a task into the inbox */
    struct rdy_a64 remote_wakes_late; /* those of a task that was queued, or being polled */
    struct rdy_a64 remote_arrivals;   /* put onto that stack */
    struct rdy_a64 shutdown_by_ns;    /* of CLOCK_MONOTONIC; counts once has_shut is set */
    struct rdy_a64 stale_wakes;
};

/* How far the shutdown is; the runtime's thread's. */
struct rdy_runtime_end {
    struct rdy_link waits; /* of rdy_shutdown_wait */
    struct rdy_timer timer;
    uint64_t by_ns; /* the deadline that was looked at last */
    bool has_begun; /* arrivals are sealed, waits were woken */
    bool is_overdue;
};

struct rdy_runtime {
    struct rdy_driver *driver;
    struct rdy_slab *tasks;
    struct rdy_task_queue ready;
    struct rdy_task *next;          /* runs before `ready`: woken by the task that ran last */
    uint32_t next_streak;           /* how many of those ran in a row */
    struct rdy_arrival *arrived;    /* off shared.arrivals, for later rounds: oldest first */
    struct rdy_task_queue deferred; /* run after the next turn of the driver */
    struct rdy_task *spare;         /* headers of ended tasks */
    struct rdy_task *polled;        /* the task whose poll is in progress */
    uint32_t budget_left;           /* of that task */
    uint32_t task_budget;
    uint32_t event_interval;
    uint32_t arrivals_max;
    bool is_lasting;   /* being out of tasks does not end a run: an engine's worker */
    bool is_closing;   /* no task begins any more */
    bool is_inside;    /* in a run or a turn, which will come to whatever is done meanwhile */
    bool is_now_known; /* now_ns was read since the last turn; never outside of a run or a turn */
    bool is_clock_paused;
    bool is_timed;
    bool has_parked;        /* in the last turn; what comes tells whether it was for nothing */
    uint64_t polls_at_turn; /* count.task_polls then */
    uint64_t now_ns;
    uint64_t clock_offset_ns; /* from CLOCK_MONOTONIC to the runtime's time, modulo 2^64 */
    struct rdy_runtime_counts count;
    void *context;
    struct rdy_runtime_end shutdown;
    struct rdy_copy_pool *copy_pool; /* of its copies; NULL before the first */
    struct rdy_wheel wheel;
    struct rdy_poll_time poll_time; /* if it is timed */
    struct rdy_runtime_shared shared __attribute__((aligned(RDY_CACHE_LINE)));
};

/* The runtime that this thread is running: its tasks' wakers take the short way. */
extern _Thread_local struct rdy_runtime *rdy_runtime_current;

/* Any thread; exact on the runtime's. */
static inline uint64_t rdy_runtime_tasks_live(const struct rdy_runtime *runtime)
{
    const struct rdy_runtime_counts *count = &runtime->count;
    struct rdy_flow live = {
        .came = {&count->local_spawns, &count->remote_spawns},
        .went = {&count->tasks_ended},
    };

    return rdy_flow_inside(&live);
}

/*
 * Something can run, or is due earlier, than who embeds us has been told: makes the descriptor
 * readable. The runtime's own thread; what other threads do has that effect by itself.
 */
void rdy_runtime_call_again(struct rdy_runtime *runtime);

/* As rdy_runtime_open(), with a driver that was opened: taken on success. */
int rdy_runtime_open_with(struct rdy_runtime **out, const struct rdy_runtime_opts *opts,
                          struct rdy_driver *driver);

/* The time, after a fresh look at the clock. */
uint64_t rdy_clock_read_ns(struct rdy_runtime *runtime);

/* The sum, or "never" if 64 bits do not hold it. */
uint64_t rdy_clock_after(uint64_t from_ns, uint64_t distance_ns);

/* Moves a paused clock to the next timer, if there is one. */
void rdy_clock_skip(struct rdy_runtime *runtime);

/*
 * Timers that a round files anew at most, and so the most that it fires: as many as a turn of the
 * driver may bring events. A timer that is filed is a cache miss or two, so a million that come
 * near at once take the thread for some 100 us a round instead of for 100 ms; and what a round
 * costs besides, a system call, is a hundredth of that: smaller portions would only be slower.
 */
#define RDY_TIMER_MOVES_MAX 1024u

/*
 * Has the wheel collect what is due. With a paused clock that is all, in the order of deadlines:
 * time stands, so that nobody is late, and what fires in which turn does not depend on what
 * happened to be near.
 */
void rdy_clock_expire(struct rdy_runtime *runtime);

/* shutdown.c, once, in the making. */
void rdy_shutdown_init(struct rdy_runtime *runtime);

/* shutdown.c, any thread, signal handlers: as rdy_runtime_shutdown(), with the time of the end. */
void rdy_shutdown_by(struct rdy_runtime *runtime, uint64_t by_ns);

/*
 * shutdown.c, in each round of a runtime that was asked to shut down: tells who waits, watches the
 * deadline. True if that has passed and every task was ended.
 */
bool rdy_shutdown_step(struct rdy_runtime *runtime);

/* The runtime's thread: ends every task, and refuses all that would be one. */
void rdy_runtime_end_tasks(struct rdy_runtime *runtime);

/* The runtime's thread, after that: ends the driver's registrations; close() frees what is left. */
void rdy_runtime_end_driver(struct rdy_runtime *runtime);

/*
 * In a forked child, of another thread's runtime: closes the child's copies of the driver's
 * descriptors. The tasks, and whatever else that thread may have been changing, are not touched.
 */
void rdy_runtime_forget(struct rdy_runtime *runtime);

/* Defers the polled task because its budget is used up, and counts that once a poll. */
void rdy_task_overdraw(struct rdy_task *task);

/*
 * An operation of the polled task may begin. Otherwise the task is deferred: leave the poll with
 * RDY_PENDING, having looked at nothing.
 */
static inline bool rdy_task_may_spend(struct rdy_task *task)
{
    rdy_debug(task->runtime->polled == task);
    if (rdy_likely(task->runtime->budget_left > 0))
        return true;
    rdy_task_overdraw(task);
    return false;
}

/* The operation has an answer: only that costs, a wait is free. After rdy_task_may_spend(). */
static inline void rdy_task_spend(struct rdy_task *task)
{
    rdy_debug(task->runtime->budget_left > 0);
    task->runtime->budget_left--;
}

/* An answer that was as much work as many: a poll may give so many of these. */
#define RDY_TASK_SHARES 8u

static inline uint32_t rdy_task_share(const struct rdy_task *task)
{
    return (task->runtime->task_budget + RDY_TASK_SHARES - 1) / RDY_TASK_SHARES;
}

static inline void rdy_task_spend_share(struct rdy_task *task)
{
    struct rdy_runtime *runtime = task->runtime;
    uint32_t share = rdy_task_share(task);

    rdy_debug(runtime->budget_left > 0);
    runtime->budget_left -= share < runtime->budget_left ? share : runtime->budget_left;
}

/*
 * What a wait said. An error is an answer and is paid for: a loop that goes on after each would
 * otherwise never leave its poll.
 */
static inline int rdy_task_pay_error(struct rdy_task *task, int rc)
{
    if (rdy_unlikely(rc < 0 && rc != RDY_PENDING))
        rdy_task_spend(task);
    return rc;
}

/* A file that is ready and still says EAGAIN, so often in a row, lets the others go first. */
#define RDY_TASK_TRIES_MAX 8

/* Too many tries for nothing: the other tasks and the driver go first. */
static inline int rdy_task_give_way(struct rdy_task *task)
{
    rdy_task_defer(task);
    return RDY_PENDING;
}

/* How many operations the polled task may still complete. */
static inline uint32_t rdy_task_budget_left(const struct rdy_task *task)
{
    return task->runtime->budget_left;
}

/* Several answers at once: not more than are left. */
static inline void rdy_task_spend_many(struct rdy_task *task, uint32_t count)
{
    rdy_assert(count <= task->runtime->budget_left);
    task->runtime->budget_left -= count;
}

#endif
