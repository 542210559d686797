/* SPDX-License-Identifier: MIT */
/*
 * A runtime with tasks: wakes, spawns, stops and shutdowns that come from other threads, and timers
 * that are cancelled as they fire. Fiber 1 is the runtime's thread.
 */
#include <stdlib.h>

#include <rdy/shutdown.h>
#include <rdy/timer.h>

#include "engine/driver.h"
#include "engine/runtime.h"
#include "tests/model/kernel.h"
#include "tests/model/model.h"

struct stage {
    struct rdy_runtime *runtime;
    struct rdy_waker waker;
    struct rdy_waker late;
    struct rdy_a32 mail[2];
    uint32_t polls;
    uint32_t drops;
    uint32_t fired;
    uint32_t cancelled;
    struct rdy_timer *timer;
    int answer[2];
};

static struct stage *stage;

static bool always(const void *arg)
{
    (void)arg;
    return true;
}

static bool has_mail(const void *arg)
{
    (void)arg;
    return stage->mail[0].v != 0 || stage->mail[1].v != 0;
}

static void set_up(void)
{
    struct rdy_driver_opts driver_opts = {
        .size = sizeof(driver_opts), .events_max = 4, .entries_max = 8};
    struct rdy_runtime_opts opts = {.size = sizeof(opts), .tasks_max = 8, .event_interval = 2};
    struct rdy_driver *driver = NULL;

    model_thread_local(&rdy_runtime_current, sizeof(rdy_runtime_current));
    kernel_reset();
    stage = calloc(1, sizeof(*stage));
    model_require(rdy_driver_open_with(&driver, &driver_opts, &kernel_ring_ops) == 0);
    model_require(rdy_runtime_open_with(&stage->runtime, &opts, driver) == 0);
    kernel->is_due = has_mail;
    model_name(stage, sizeof(*stage), "stage");
    model_name(stage->runtime, sizeof(*stage->runtime), "runtime");
    model_name(&stage->runtime->shared, sizeof(stage->runtime->shared), "shared");
    model_name(driver, sizeof(*driver), "driver");
}

static void spawn(rdy_poll_fn *poll, rdy_drop_fn *drop)
{
    struct rdy_task_spec spec = {.poll = poll, .drop = drop, .self_size = 16};
    struct rdy_task_id id;

    model_require(rdy_spawn(stage->runtime, &spec, NULL, &id) == 0);
    stage->waker = rdy_task_waker(rdy_task_find(stage->runtime, id));
}

static void finish(void)
{
    rdy_runtime_close(stage->runtime);
    free(stage);
}

static void run_until_done(void)
{
    model_require(rdy_runtime_run(stage->runtime) == 0);
}

/* --- wake against poll --------------------------------------------------------------------- */

static int poll_mail(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    stage->polls++;
    if (rdy_a32_load_relaxed(&stage->mail[0]) + rdy_a32_load_relaxed(&stage->mail[1]) == 2)
        return 0;
    return RDY_PENDING;
}

static void set_up_mail(void)
{
    set_up();
    spawn(poll_mail, NULL);
}

static void wake_with_mail(uint32_t i)
{
    rdy_a32_store_relaxed(&stage->mail[i], 1);
    rdy_waker_wake(&stage->waker);
}

static void wake_first(void)
{
    wake_with_mail(0);
}

static void wake_second(void)
{
    wake_with_mail(1);
}

static const struct model_target task_wake = {
    .name = "task_wake_vs_poll",
    .claim =
        "what a waker left before its wake is seen by a poll, also if it came too late to queue",
    .set_up = set_up_mail,
    .finish = finish,
    .fiber = {{"runtime", run_until_done}, {"first", wake_first}, {"second", wake_second}},
    .stale_max = 1,
    .preemptions = 3,
};

/* The task ends at its first poll, and its header goes to another; a wake of the first is late. */
static int poll_once(struct rdy_task *task, void *self)
{
    (void)task;
    *(uint32_t *)self += 1;
    return 0;
}

static int poll_and_replace(struct rdy_task *task, void *self)
{
    struct rdy_task_spec spec = {.poll = poll_once, .self_size = 16};

    (void)task;
    *(uint32_t *)self += 1;
    model_require(rdy_spawn(stage->runtime, &spec, NULL, NULL) == 0);
    return 0;
}

static void set_up_late(void)
{
    set_up();
    spawn(poll_and_replace, NULL);
}

static void wake_late(void)
{
    rdy_waker_wake(&stage->waker);
}

static const struct model_target task_stale = {
    .name = "task_end_vs_wake",
    .claim = "a wake of a task that ends does no harm, also if its header is another's",
    .set_up = set_up_late,
    .finish = finish,
    .fiber = {{"runtime", run_until_done}, {"waker", wake_late}},
    .stale_max = 1,
};

/* --- spawn against the end ----------------------------------------------------------------- */

static void count_drop(void *self)
{
    (void)self;
    stage->drops++;
}

static void spawn_from_elsewhere(uint32_t i)
{
    uint64_t init = 5;
    struct rdy_task_spec spec = {.poll = poll_once, .drop = count_drop, .self_size = sizeof(init)};

    stage->answer[i] = rdy_spawn_remote(stage->runtime, &spec, &init);
    model_require(stage->answer[i] == 0 || stage->answer[i] == -ESHUTDOWN);
}

static void spawn_first(void)
{
    spawn_from_elsewhere(0);
}

static void spawn_second(void)
{
    spawn_from_elsewhere(1);
}

static void run_and_end(void)
{
    run_until_done();
    rdy_runtime_end_tasks(stage->runtime);
    rdy_runtime_end_driver(stage->runtime);
}

static void finish_spawned(void)
{
    uint32_t taken = (uint32_t)(stage->answer[0] == 0) + (uint32_t)(stage->answer[1] == 0);

    model_require(stage->drops == taken);
    finish();
}

static void set_up_spawn(void)
{
    set_up();
    stage->answer[1] = -ESHUTDOWN;
    kernel->is_due = always;
}

static const struct model_target spawn_end = {
    .name = "spawn_vs_end",
    .claim = "a task that was taken over is dropped once, begun or not; none is left over",
    .set_up = set_up_spawn,
    .finish = finish_spawned,
    .fiber = {{"runtime", run_and_end}, {"spawner", spawn_first}},
    .stale_max = 1,
    .preemptions = 4,
};

static const struct model_target spawn_end_two = {
    .name = "spawn_vs_end_two",
    .claim = "the same of two spawners",
    .set_up = set_up_spawn,
    .finish = finish_spawned,
    .fiber = {{"runtime", run_and_end}, {"first", spawn_first}, {"second", spawn_second}},
    .preemptions = 3,
};

/* --- shutdown and stop --------------------------------------------------------------------- */

static int poll_shutdown(struct rdy_task *task, void *self)
{
    return rdy_runtime_poll_shutdown(self, task);
}

static void set_up_shutdown(void)
{
    struct rdy_task_spec spec = {.poll = poll_shutdown,
                                 .self_size = sizeof(struct rdy_shutdown_wait)};

    set_up();
    kernel->is_due = always;
    model_require(rdy_spawn(stage->runtime, &spec, NULL, NULL) == 0);
}

static void shut_down(void)
{
    model_require(rdy_runtime_shutdown(stage->runtime, 3600 * (uint64_t)RDY_NS_PER_S) == 0);
}

static const struct model_target shutdown_task = {
    .name = "shutdown_vs_task",
    .claim = "a task that waits for the shutdown hears of it whenever it comes",
    .set_up = set_up_shutdown,
    .finish = finish,
    .fiber = {{"runtime", run_until_done}, {"asker", shut_down}},
    .stale_max = 1,
    .preemptions = 4,
};

static int poll_never(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return RDY_PENDING;
}

static void set_up_stop(void)
{
    set_up();
    kernel->is_due = always;
    spawn(poll_never, NULL);
}

static void stop(void)
{
    rdy_runtime_stop(stage->runtime);
}

static const struct model_target stop_run = {
    .name = "stop_vs_run",
    .claim = "a run that is asked to stop stops, whether it polls, parks or sleeps",
    .set_up = set_up_stop,
    .finish = finish,
    .fiber = {{"runtime", run_until_done}, {"stopper", stop}, {"waker", wake_late}},
    .stale_max = 1,
    .preemptions = 3,
};

/* --- a timer that is cancelled as it fires ------------------------------------------------- */

static void timer_fires(void *arg, uint64_t data)
{
    (void)data;
    model_require(arg == stage->timer && stage->cancelled == 0);
    stage->fired++;
}

/* Woken from elsewhere: gives the timer up, and its memory. */
static int poll_and_cancel(struct rdy_task *task, void *self)
{
    struct rdy_waker waker = {.fn = timer_fires, .arg = stage->timer};

    (void)self;
    if (stage->polls++ == 0)
        rdy_timer_arm(stage->timer, task->runtime, (uint64_t)RDY_NS_PER_S, &waker);
    if (rdy_a32_load_relaxed(&stage->mail[0]) == 0)
        return RDY_PENDING;
    if (rdy_timer_cancel(stage->timer))
        stage->cancelled = 1;
    model_require(stage->cancelled + stage->fired == 1);
    model_require(rdy_timer_has_fired(stage->timer) == (stage->fired == 1));
    free(stage->timer);
    stage->timer = NULL;
    return 0;
}

static void set_up_timer(void)
{
    set_up();
    kernel->is_timed = true;
    stage->timer = calloc(1, sizeof(*stage->timer));
    model_name(stage->timer, sizeof(*stage->timer), "timer");
    spawn(poll_and_cancel, NULL);
}

static void pass_time(void)
{
    kernel_pass_time(2 * (uint64_t)RDY_NS_PER_S);
}

static const struct model_target timer_cancel = {
    .name = "timer_cancel_vs_fire",
    .claim = "a timer fires or is cancelled, one of the two, and is not touched afterwards",
    .set_up = set_up_timer,
    .finish = finish,
    .fiber = {{"runtime", run_until_done}, {"waker", wake_first}, {"clock", pass_time}},
    .stale_max = 1,
    .preemptions = 3,
};

/* Two that are due at once, of which each cancels the other. */
static void cancel_other(void *arg, uint64_t data)
{
    struct rdy_timer *timers = arg;

    stage->fired++;
    stage->cancelled += rdy_timer_cancel(&timers[1 - data]);
}

static int poll_and_arm_two(struct rdy_task *task, void *self)
{
    (void)self;
    if (stage->polls++ == 0) {
        for (uint64_t i = 0; i < 2; i++) {
            struct rdy_waker waker = {.fn = cancel_other, .arg = stage->timer, .data = i};

            rdy_timer_arm(&stage->timer[i], task->runtime, (uint64_t)RDY_NS_PER_S, &waker);
        }
    }
    if (rdy_a32_load_relaxed(&stage->mail[0]) == 0)
        return RDY_PENDING;
    stage->cancelled += rdy_timer_cancel(&stage->timer[0]);
    stage->cancelled += rdy_timer_cancel(&stage->timer[1]);
    free(stage->timer);
    stage->timer = NULL;
    return 0;
}

static void set_up_two_timers(void)
{
    set_up();
    kernel->is_timed = true;
    stage->timer = calloc(2, sizeof(*stage->timer));
    spawn(poll_and_arm_two, NULL);
}

static void finish_two_timers(void)
{
    model_require(stage->fired <= 1);
    model_require(stage->fired + stage->cancelled == 2);
    finish();
}

static const struct model_target timer_pair = {
    .name = "timer_cancel_each_other",
    .claim = "of two timers for one moment, the waker of one cancels the other for good",
    .set_up = set_up_two_timers,
    .finish = finish_two_timers,
    .fiber = {{"runtime", run_until_done}, {"waker", wake_first}, {"clock", pass_time}},
    .stale_max = 1,
    .preemptions = 3,
};

const struct model_target *const model_task_targets[] = {
    &task_wake, &task_stale,   &spawn_end,  &spawn_end_two, &shutdown_task,
    &stop_run,  &timer_cancel, &timer_pair, NULL,
};
