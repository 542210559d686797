/* SPDX-License-Identifier: MIT */
/*
 * The runtime: runs tasks, turns the driver, fires timers, on one thread.
 *
 * A round is: take in the tasks that other threads woke, and some of those that they spawned, poll
 * at most event_interval tasks, turn the driver, requeue what was deferred, fire timers. The turn
 * blocks only if nothing can run, and it always comes: tasks that wake each other for ever cannot
 * keep the driver from being looked at. A push by another thread that races with the decision to
 * block is caught by the driver: it unparks after its push, and an unpark ends the next blocking
 * turn as well as the present one. A shutdown is looked for at the begin of each round.
 */
#include <rdy/embed.h>

#include "engine/runtime.h"

#include <stdlib.h>

#include <rdy/shutdown.h>

#include "engine/copy_pool.h"
#include "engine/driver.h"
#include "engine/sys.h"

#define TASK_BUDGET_DEFAULT    128u
#define TASK_BUDGET_MAX        (1u << 20)
#define EVENT_INTERVAL_DEFAULT 61u
#define EVENT_INTERVAL_MAX     (1u << 16)
#define TASKS_MAX_DEFAULT      (1u << 22)
#define TASKS_MAX_MAX          (1u << 25)
#define ARRIVALS_MAX_DEFAULT   (1u << 16)
#define ARRIVALS_MAX_MAX       (1u << 25)

/* Stores the default for 0. False if @value is above @max. */
static bool option_take(uint32_t *value, uint32_t otherwise, uint32_t max)
{
    if (*value == 0)
        *value = otherwise;
    return *value <= max;
}

/* Copies what the caller knows of the options and fills the defaults in. */
static int options_take(struct rdy_runtime_opts *taken, const struct rdy_runtime_opts *opts)
{
    *taken = (struct rdy_runtime_opts){.size = sizeof(*taken)};
    if (opts) {
        if (opts->size != sizeof(*opts))
            return -EINVAL;
        *taken = *opts;
    }
    if (!option_take(&taken->task_budget, TASK_BUDGET_DEFAULT, TASK_BUDGET_MAX) ||
        !option_take(&taken->event_interval, EVENT_INTERVAL_DEFAULT, EVENT_INTERVAL_MAX) ||
        !option_take(&taken->tasks_max, TASKS_MAX_DEFAULT, TASKS_MAX_MAX) ||
        !option_take(&taken->arrivals_max, ARRIVALS_MAX_DEFAULT, ARRIVALS_MAX_MAX))
        return -EINVAL;
    return 0;
}

static struct rdy_runtime *runtime_alloc(const struct rdy_runtime_opts *opts)
{
    struct rdy_runtime *runtime = aligned_alloc(RDY_CACHE_LINE, sizeof(*runtime));

    if (!runtime)
        return NULL;
    memset(runtime, 0, sizeof(*runtime));
    runtime->task_budget = opts->task_budget;
    runtime->event_interval = opts->event_interval;
    runtime->is_timed = opts->is_timed;
    runtime->arrivals_max = opts->arrivals_max;
    rdy_wheel_init(&runtime->wheel, 0);
    rdy_shutdown_init(runtime);
    return runtime;
}

int rdy_runtime_open_with(struct rdy_runtime **out, const struct rdy_runtime_opts *opts,
                          struct rdy_driver *driver)
{
    struct rdy_slab_opts slab_opts = {
        .item_size = sizeof(struct rdy_task),
        .item_align = _Alignof(struct rdy_task),
    };
    struct rdy_runtime_opts taken;
    struct rdy_runtime *runtime;
    int rc;

    rc = options_take(&taken, opts);
    if (rc < 0)
        return rc;
    runtime = runtime_alloc(&taken);
    if (!runtime)
        return -ENOMEM;

    slab_opts.items_max = taken.tasks_max;
    rc = rdy_slab_open(&runtime->tasks, &slab_opts);
    if (rc < 0)
        goto free_runtime;

    runtime->driver = driver;
    driver->is_timed = taken.is_timed;
    *out = runtime;
    return 0;

free_runtime:
    free(runtime);
    return rc;
}

int rdy_runtime_open(struct rdy_runtime **out, const struct rdy_runtime_opts *opts)
{
    struct rdy_runtime_opts taken;
    struct rdy_driver *driver = NULL;
    int rc = options_take(&taken, opts);

    if (rc < 0)
        return rc;
    rc = rdy_driver_open(&driver, taken.driver.size != 0 ? &taken.driver : NULL);
    if (rc < 0)
        return rc;
    rc = rdy_runtime_open_with(out, opts, driver);
    if (rc < 0)
        rdy_driver_close(driver);
    return rc;
}

/* Spawned by other threads, and not begun. */
static bool runtime_has_arrivals(const struct rdy_runtime *runtime)
{
    return runtime->arrived || rdy_aptr_load_relaxed(&runtime->shared.arrivals);
}

/* A task can run, or is known to be on its way: woken or spawned by another thread. */
static bool runtime_can_run(const struct rdy_runtime *runtime)
{
    return runtime->next || runtime->ready.first || runtime->deferred.first ||
           rdy_aptr_load_relaxed(&runtime->shared.inbox) || runtime_has_arrivals(runtime);
}

/* How long the driver may block: not at all if something can run, else until the next timer. */
static RDY_HOT int64_t runtime_timeout_ns(struct rdy_runtime *runtime)
{
    uint64_t earliest_ns = runtime->wheel.earliest_ns;
    uint64_t now_ns;

    if (runtime_can_run(runtime))
        return 0;
    if (earliest_ns == RDY_WHEEL_NEVER)
        return -1;
    if (runtime->is_clock_paused) /* waiting would not bring the timer nearer */
        return 0;
    /* The tasks of this round took their time; without a fresh look we would sleep that longer. */
    now_ns = rdy_clock_read_ns(runtime);
    if (earliest_ns <= now_ns)
        return 0;
    if (earliest_ns - now_ns > INT64_MAX)
        return INT64_MAX;
    return (int64_t)(earliest_ns - now_ns);
}

/*
 * Runs the wakers of due timers: as many as one expire collects, which is bounded, and says by the
 * wheel's earliest_ns if there are more. Those that a waker arms in the past wait for the next
 * round.
 */
static void runtime_fire_timers(struct rdy_runtime *runtime)
{
    struct rdy_timer *timer;

    if (runtime->wheel.earliest_ns == RDY_WHEEL_NEVER)
        return;
    rdy_clock_expire(runtime);
    while ((timer = rdy_wheel_take_due(&runtime->wheel))) {
        struct rdy_waker waker = timer->waker; /* the waker may end the timer's memory */

        rdy_a64_bump(&runtime->count.timers_fired, 1);
        rdy_waker_wake(&waker);
    }
}

/* What the caller allows, if the runtime itself has no reason to look earlier. */
static int64_t runtime_wait_ns(struct rdy_runtime *runtime, int64_t timeout_ns)
{
    int64_t own_ns;

    if (timeout_ns == 0)
        return 0;
    own_ns = runtime_timeout_ns(runtime);
    if (own_ns < 0)
        return timeout_ns;
    return timeout_ns < 0 || own_ns < timeout_ns ? own_ns : timeout_ns;
}

static int runtime_turn_driver(struct rdy_runtime *runtime, int64_t timeout_ns)
{
    const struct rdy_a64 *parks = &runtime->driver->count.parks;
    uint64_t parks_before = rdy_a64_load_relaxed(parks);
    int rc = rdy_driver_turn(runtime->driver, runtime_wait_ns(runtime, timeout_ns));

    runtime->has_parked = rdy_a64_load_relaxed(parks) != parks_before;
    runtime->polls_at_turn = rdy_a64_load_relaxed(&runtime->count.task_polls);
    runtime->is_now_known = false;
    if (rc < 0)
        return rc;
    if (runtime->is_clock_paused && rc == 0 && !runtime_can_run(runtime))
        rdy_clock_skip(runtime);
    rdy_task_queue_append(&runtime->ready, &runtime->deferred);
    runtime_fire_timers(runtime);
    return 0;
}

static bool runtime_is_stopped(const struct rdy_runtime *runtime)
{
    return rdy_a32_load_acquire(&runtime->shared.is_stopping) != 0;
}

/*
 * What the last tasks closed, a ring closes as the driver turns, and nobody knows when the next run
 * will be. If the driver has ended, that run says so.
 */
static void runtime_let_go(struct rdy_runtime *runtime)
{
    struct rdy_driver *driver = runtime->driver;
    uint64_t pending = rdy_a64_load_relaxed(&driver->count.cancels_pending);
    uint64_t before = UINT64_MAX;
    bool is_last = false;

    if (pending == 0 && !rdy_aptr_load_relaxed(&driver->inbox) && !driver->is_closing)
        return;
    runtime->is_now_known = false;
    while (rdy_driver_turn(driver, 0) >= 0 && !is_last) {
        before = pending > 0 ? pending : UINT64_MAX;
        pending = rdy_a64_load_relaxed(&driver->count.cancels_pending);
        if (pending > 0 && pending < before)
            continue;
        /* All have let go, or no more will: what is to be closed now is, in one turn more. */
        if (!driver->is_closing)
            break;
        is_last = true;
    }
}

/* No tasks, and none on the way: whoever pushed the first of those unparks the turn that comes. */
static bool runtime_is_done(const struct rdy_runtime *runtime)
{
    if (runtime->is_lasting && !runtime->shutdown.has_begun)
        return false;
    return rdy_runtime_tasks_live(runtime) == 0 && !runtime_has_arrivals(runtime);
}

/* True if the run is over: the tasks have ended by themselves, or at the deadline. */
static bool runtime_shuts(struct rdy_runtime *runtime)
{
    if (rdy_likely(!rdy_runtime_is_shutting_down(runtime)))
        return false;
    return rdy_shutdown_step(runtime);
}

/* Polls until the queue is empty, or it is time to look at the driver. True if one was polled. */
static bool runtime_poll_tasks(struct rdy_runtime *runtime)
{
    uint32_t polls;

    if (rdy_unlikely(runtime->is_timed))
        rdy_poll_time_begin(runtime);
    for (polls = 0; polls < runtime->event_interval; polls++) {
        struct rdy_task *task = rdy_task_next(runtime);

        if (!task)
            break;
        rdy_task_run(runtime, task);
    }
    if (runtime->has_parked &&
        rdy_a64_load_relaxed(&runtime->count.task_polls) == runtime->polls_at_turn)
        rdy_a64_bump(&runtime->count.noop_parks, 1);
    runtime->has_parked = false;
    return polls > 0;
}

/*
 * One round: RDY_TURN_IDLE (or more to do, for all that was looked at), RDY_TURN_STOPPED, -errno.
 * @is_run: another one follows, but being out of tasks is a reason to stop. Without, whoever asked
 * for the round waits for what the tasks may have done in it.
 */
static RDY_HOT int runtime_round(struct rdy_runtime *runtime, int64_t timeout_ns, bool is_run)
{
    rdy_debug(runtime->is_inside && rdy_runtime_current == runtime);
    if (runtime_is_stopped(runtime) || runtime_shuts(runtime))
        return RDY_TURN_STOPPED;
    rdy_task_drain_inbox(runtime);
    /* Half of the polls at most: a flood of them leaves the rest to those that live. */
    if (rdy_unlikely(runtime_has_arrivals(runtime)))
        (void)rdy_task_take_arrivals(runtime, (runtime->event_interval + 1) / 2);
    if (runtime_poll_tasks(runtime) && !is_run)
        timeout_ns = 0;
    if (runtime_is_stopped(runtime))
        return RDY_TURN_STOPPED;
    if ((is_run || runtime->shutdown.has_begun) && runtime_is_done(runtime))
        return RDY_TURN_STOPPED;
    return runtime_turn_driver(runtime, timeout_ns);
}

/* The end of a run, or of a turn that was stopped, whose answer cannot say that more can run. */
static void runtime_halt(struct rdy_runtime *runtime)
{
    if (runtime->shutdown.has_begun && runtime_is_done(runtime))
        runtime->is_closing = true;
    runtime_let_go(runtime);
    rdy_a32_store_relaxed(&runtime->shared.is_stopping, 0);
    if (runtime->driver->is_embedded && rdy_runtime_timeout_ns(runtime) == 0)
        rdy_driver_unpark(runtime->driver);
}

/* 0 with the runtime that was running before, or -errno with nothing changed. */
static int runtime_enter(struct rdy_runtime *runtime, struct rdy_runtime **outer)
{
    rdy_assert(!runtime->polled && rdy_runtime_current != runtime);
    if (!rdy_driver_is_own_thread(runtime->driver)) {
        /* The driver knows why: another thread, or the child of a fork. */
        int rc = rdy_driver_turn(runtime->driver, 0);

        return rc < 0 ? rc : -EPERM;
    }
    rdy_assert(!runtime->is_inside);
    *outer = rdy_runtime_current;
    rdy_runtime_current = runtime;
    runtime->is_inside = true;
    runtime->is_now_known = false;
    if (runtime->is_timed)
        rdy_driver_count_busy(runtime->driver, false);
    return 0;
}

static void runtime_leave(struct rdy_runtime *runtime, struct rdy_runtime *outer)
{
    rdy_assert(runtime->is_inside && rdy_runtime_current == runtime);
    if (runtime->is_timed)
        rdy_driver_count_busy(runtime->driver, true);
    runtime->is_inside = false;
    runtime->is_now_known = false;
    rdy_runtime_current = outer;
}

RDY_HOT int rdy_runtime_run(struct rdy_runtime *runtime)
{
    struct rdy_runtime *outer;
    int rc = runtime_enter(runtime, &outer);

    if (rc < 0)
        return rc;
    runtime->has_parked = false;
    do {
        rc = runtime_round(runtime, -1, true);
    } while (rc == 0);
    if (rc > 0)
        runtime_halt(runtime);
    runtime_leave(runtime, outer);
    return rc < 0 ? rc : 0;
}

/* --- inside another loop --- */

/* It was not heard of, its deadline has moved or passed, or no task is left. */
static bool runtime_has_to_shut(const struct rdy_runtime *runtime)
{
    const struct rdy_runtime_end *end = &runtime->shutdown;

    if (rdy_likely(!rdy_runtime_is_shutting_down(runtime)) || runtime->is_closing)
        return false;
    return !end->has_begun || end->is_overdue || runtime_is_done(runtime) ||
           rdy_a64_load_relaxed(&runtime->shared.shutdown_by_ns) != end->by_ns;
}

/*
 * Also what other threads have left. Whoever was first to leave it unparked the driver, but if that
 * was before the turn ended, the turn has taken the signal back: so this is asked after each turn.
 * The end of the turn and the unpark swap one word: what came before us there is seen here.
 */
int64_t rdy_runtime_timeout_ns(struct rdy_runtime *runtime)
{
    rdy_debug(rdy_driver_is_own_thread(runtime->driver));
    if (runtime_is_stopped(runtime) || runtime_has_to_shut(runtime))
        return 0;
    return runtime_timeout_ns(runtime);
}

int rdy_runtime_turn(struct rdy_runtime *runtime, int64_t timeout_ns)
{
    struct rdy_runtime *outer;
    int rc = runtime_enter(runtime, &outer);

    if (rc < 0)
        return rc;
    rc = runtime_round(runtime, timeout_ns, false);
    if (rc == RDY_TURN_IDLE && runtime_is_stopped(runtime))
        rc = RDY_TURN_STOPPED;
    if (rc == RDY_TURN_STOPPED)
        runtime_halt(runtime);
    else if (rc == RDY_TURN_IDLE && rdy_runtime_timeout_ns(runtime) == 0)
        rc = RDY_TURN_MORE;
    runtime_leave(runtime, outer);
    return rc;
}

int rdy_runtime_fd(const struct rdy_runtime *runtime)
{
    return rdy_driver_fd(runtime->driver);
}

/* Within a run or a turn there is no need: its round, or its answer, covers all that it did. */
void rdy_runtime_call_again(struct rdy_runtime *runtime)
{
    if (runtime->driver->is_embedded && !runtime->is_inside)
        rdy_driver_unpark(runtime->driver);
}

void rdy_runtime_stop(struct rdy_runtime *runtime)
{
    /* Release: pairs with runtime_is_stopped(). The unpark comes after, as for the inbox. */
    rdy_a32_store_release(&runtime->shared.is_stopping, 1);
    rdy_driver_unpark(runtime->driver);
}

void rdy_runtime_end_tasks(struct rdy_runtime *runtime)
{
    struct rdy_runtime *outer = rdy_runtime_current;

    rdy_assert(!runtime->polled);
    runtime->is_closing = true;
    rdy_runtime_current = runtime;
    rdy_task_shut_arrivals(runtime);
    rdy_task_end_all(runtime);
    rdy_copy_pool_free(runtime->copy_pool);
    runtime->copy_pool = NULL;
    rdy_runtime_current = outer;
    rdy_assert(rdy_runtime_tasks_live(runtime) == 0);
}

void rdy_runtime_end_driver(struct rdy_runtime *runtime)
{
    rdy_assert(runtime->is_closing);
    rdy_driver_end(runtime->driver);
    rdy_wheel_clear(&runtime->wheel); /* last: also what the driver's last wakers armed */
}

void rdy_runtime_forget(struct rdy_runtime *runtime)
{
    rdy_driver_forget(runtime->driver);
    free(runtime);
}

void rdy_runtime_close(struct rdy_runtime *runtime)
{
    if (!runtime)
        return;
    rdy_assert(!runtime->polled && rdy_runtime_current != runtime);
    rdy_runtime_end_tasks(runtime);
    rdy_driver_close(runtime->driver);
    rdy_wheel_clear(&runtime->wheel); /* last: also what the driver's last wakers armed */
    rdy_slab_close(runtime->tasks);
    free(runtime);
}

struct rdy_driver *rdy_runtime_driver(struct rdy_runtime *runtime)
{
    return runtime->driver;
}
