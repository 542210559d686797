/* SPDX-License-Identifier: MIT */
/*
 * A runtime: one driver, a run queue and a timer wheel, on one thread. Runtimes share nothing;
 * a program that wants more cores starts one in each of its threads.
 */
#ifndef RDY_RUNTIME_H
#define RDY_RUNTIME_H

#include <rdy/driver.h>
#include <rdy/task.h>

RDY_BEGIN_DECLS

/* Set size to sizeof(struct rdy_runtime_opts), the rest to zero for defaults. */
struct rdy_runtime_opts {
    uint32_t size;
    uint32_t task_budget;          /* operations a task may complete in one poll; default 128 */
    uint32_t event_interval;       /* task polls between two looks at the driver; default 61 */
    uint32_t tasks_max;            /* tasks alive at once (aborted ones until their turn); 2^22 */
    uint32_t arrivals_max;         /* remote spawns that have not begun; default 65536 */
    bool is_timed;                 /* measure polls and busy time, see <rdy/metrics.h>; the price is
                                      some 30 ns a poll */
    struct rdy_driver_opts driver; /* driver.size 0: all defaults */
};

struct rdy_runtime_stats {
    uint64_t tasks_spawned;
    uint64_t tasks_ended;
    uint64_t task_polls;
    uint64_t task_aborts;
    uint64_t budget_yields; /* polls that used their budget up */
    uint64_t remote_wakes;  /* wakes that came from other threads */
    uint64_t stale_wakes;   /* wakes for tasks that were gone (harmless) */
    uint64_t next_polls;    /* polls right after the task that woke the polled one */
    uint64_t next_bounds;   /* times that such a poll had to let the queue go first */
    uint64_t task_timeouts; /* tasks ended by their deadline */
    uint64_t remote_spawns; /* tasks that came from rdy_spawn_remote(); in tasks_spawned, too */
    uint64_t remote_drops;  /* those that could not begin: tasks_max, memory, or a close */
    uint64_t timers_fired;
    uint64_t tasks_live;   /* gauge */
    uint64_t timers_armed; /* gauge */
};

/**
 * rdy_runtime_open() - open a runtime for the calling thread
 * @out:  receives the runtime, owned by the caller; free it with rdy_runtime_close()
 * @opts: borrowed; NULL for defaults
 *
 * Return: 0 or -errno, as rdy_driver_open(); -EINVAL for an absurd number.
 */
RDY_API RDY_NODISCARD int rdy_runtime_open(struct rdy_runtime **out,
                                           const struct rdy_runtime_opts *opts);

/**
 * rdy_runtime_run() - run tasks until there are none, or until rdy_runtime_stop()
 * @runtime: borrowed; may be run again afterwards
 *
 * Context: the runtime's thread, not from within a task.
 * Return:  0 when stopped or out of tasks, -errno when the driver died.
 */
RDY_API RDY_NODISCARD int rdy_runtime_run(struct rdy_runtime *runtime);

/* Makes the current or next run return soon. Any thread, and signal handlers. */
RDY_API void rdy_runtime_stop(struct rdy_runtime *runtime);

/**
 * rdy_runtime_close() - drop every task, shut the driver down, free everything
 * @runtime: taken; NULL is fine. Other threads are done with it and with its tasks' wakers before
 *           the last drop returns, which may wait for them; rdy_spawn_remote() may be in progress.
 *
 * Context: the runtime's thread, not from within a task.
 */
RDY_API void rdy_runtime_close(struct rdy_runtime *runtime);

/* The runtime's driver, borrowed. */
RDY_API struct rdy_driver *rdy_runtime_driver(struct rdy_runtime *runtime);

/* Nanoseconds of CLOCK_MONOTONIC: read at the first call after each turn. A test may have paused
 * the clock (<rdy/timer.h>). The runtime's thread. */
RDY_API uint64_t rdy_runtime_now_ns(struct rdy_runtime *runtime);

/* A snapshot of the counters: each is whole, the set is not one instant. Any thread. More of them,
 * and a text for Prometheus: <rdy/metrics.h>. */
RDY_API void rdy_runtime_read_stats(const struct rdy_runtime *runtime,
                                    struct rdy_runtime_stats *stats);

/*
 * A timer: the caller's memory, kept by the wheel while armed. Fields are private. Arming and
 * cancelling are O(1) and allocate nothing.
 *
 * Never early. Late by as long as the thread is busy; and a crowd is served in portions, so that
 * sockets and tasks have their turn in between: a round looks at no more than 1024 of the timers
 * that come near, and runs the wakers of those that are due. Of k timers for one moment the last
 * fires k/1024 rounds after the first. Where k timers come near together, armed long before for
 * some time in the same 4 ms, 268 ms or 17 s, those that are due first may be k/1024 rounds late;
 * twice that if as many are armed for at once all the while. Timers that are armed meanwhile do not
 * stand behind that crowd, and the runtime does not block before it is served. With a paused clock
 * (<rdy/timer.h>) all that are due fire in one round.
 */
struct rdy_timer {
    struct rdy_link link;
    struct rdy_runtime *runtime;
    uint64_t deadline_ns;
    struct rdy_waker waker;
    uint32_t slot;
    uint32_t state;
};

/* Timers are the runtime's thread's: all calls here are made on it. */

/* Arms @timer to run @waker at @deadline_ns (as rdy_runtime_now_ns()); an armed one is moved. A
 * deadline in the past fires in the next round. @timer is {0} before its first use. */
RDY_API void rdy_timer_arm(struct rdy_timer *timer, struct rdy_runtime *runtime,
                           uint64_t deadline_ns, const struct rdy_waker *waker);

/* Takes the timer out of the wheel. True if it was armed, so that its waker will not run. */
RDY_API bool rdy_timer_cancel(struct rdy_timer *timer);

/* True after the deadline passed and the waker ran, until the timer is armed again. */
RDY_API bool rdy_timer_has_fired(const struct rdy_timer *timer);

/**
 * rdy_timer_poll_until() - sleep: RDY_PENDING until the deadline, then 0
 * @timer: kept while RDY_PENDING; cancel it when giving up
 * @task:  being polled; woken at the deadline
 */
RDY_API RDY_NODISCARD int rdy_timer_poll_until(struct rdy_timer *timer, struct rdy_task *task,
                                               uint64_t deadline_ns);

RDY_END_DECLS

#endif
