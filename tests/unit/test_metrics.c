/* SPDX-License-Identifier: MIT */
/*
 * Every number of struct rdy_metrics that the runtime counts, each made to count by the one thing
 * that it is about; those that the driver counts (tests/unit/test_counters.c) are told apart here
 * by what they were set to. After the scenarios of Tokio's rt_metrics and rt_unstable_metrics.
 */
#include "tests/support/runtime.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rdy/metrics.h>
#include <rdy/registration.h>
#include <rdy/timer.h>

#include "engine/driver.h"
#include "engine/runtime.h"

static struct rdy_metrics metrics_of(struct rdy_runtime *runtime)
{
    struct rdy_metrics metrics;

    rdy_metrics_read(runtime, &metrics);
    return metrics;
}

static int poll_finishes(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return 0;
}

static int poll_waits(struct rdy_task *task, void *self)
{
    struct rdy_waker *waker = ((struct test_task *)self)->test;

    if (waker)
        *waker = rdy_task_waker(task);
    return RDY_PENDING;
}

static void run(struct rdy_runtime *runtime)
{
    assert_int_equal(rdy_runtime_run(runtime), 0);
}

static void tasks_are_counted_when_they_come_and_when_they_end(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_metrics metrics;

    (void)spawn_test(runtime, poll_finishes, NULL, NULL);
    (void)spawn_test(runtime, poll_finishes, NULL, NULL);
    metrics = metrics_of(runtime);
    assert_int_equal(metrics.spawned_tasks_count, 2);
    assert_int_equal(metrics.alive_tasks, 2);
    assert_int_equal(metrics.ended_tasks_count, 0);
    assert_int_equal(metrics.poll_count, 0);

    run(runtime);
    metrics = metrics_of(runtime);
    assert_int_equal(metrics.alive_tasks, 0);
    assert_int_equal(metrics.ended_tasks_count, 2);
    assert_int_equal(metrics.poll_count, 2);
}

static void aborts_and_deadlines_are_counted_apart(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_task_spec spec = {.poll = poll_waits, .self_size = sizeof(struct test_task)};
    struct rdy_task_id id = spawn_test(runtime, poll_waits, NULL, NULL);
    struct rdy_metrics metrics;

    rdy_runtime_pause_clock(runtime);
    spec.timeout_ns = 1000000;
    assert_int_equal(rdy_spawn(runtime, &spec, NULL, NULL), 0);
    assert_int_equal(rdy_task_abort(runtime, id), 0);
    run(runtime);

    metrics = metrics_of(runtime);
    assert_int_equal(metrics.aborted_tasks_count, 1);
    assert_int_equal(metrics.timed_out_tasks_count, 1);
    assert_int_equal(metrics.timers_fired_count, 1);
    assert_int_equal(metrics.ended_tasks_count, 2);
}

/* What the tasks of a test see of the metrics while they run. */
struct watcher {
    struct rdy_runtime *runtime;
    struct rdy_metrics seen;
    struct rdy_waker waker;
    struct rdy_timer timer;
    int polls;
};

static int poll_looks(struct rdy_task *task, void *self)
{
    struct watcher *watcher = ((struct test_task *)self)->test;

    (void)task;
    rdy_metrics_read(watcher->runtime, &watcher->seen);
    return 0;
}

static void local_queue_depth_is_of_those_that_wait_and_not_of_the_polled(void **state)
{
    struct watcher watcher = {.runtime = runtime_of(state)};

    (void)spawn_test(watcher.runtime, poll_looks, NULL, &watcher);
    (void)spawn_test(watcher.runtime, poll_finishes, NULL, NULL);
    (void)spawn_test(watcher.runtime, poll_finishes, NULL, NULL);
    assert_int_equal(metrics_of(watcher.runtime).local_queue_depth, 3);

    run(watcher.runtime);
    assert_int_equal(watcher.seen.local_queue_depth, 2);
    assert_int_equal(metrics_of(watcher.runtime).local_queue_depth, 0);
}

/* One that was aborted in the queue leaves it when it comes out, without a poll. */
static void local_queue_depth_loses_the_aborted(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_task_id id = spawn_test(runtime, poll_finishes, NULL, NULL);

    (void)spawn_test(runtime, poll_finishes, NULL, NULL);
    assert_int_equal(rdy_task_abort(runtime, id), 0);
    assert_int_equal(metrics_of(runtime).local_queue_depth, 2);
    run(runtime);
    assert_int_equal(metrics_of(runtime).local_queue_depth, 0);
    assert_int_equal(metrics_of(runtime).poll_count, 1);
}

static int poll_yields_twice(struct rdy_task *task, void *self)
{
    struct watcher *watcher = ((struct test_task *)self)->test;

    if (watcher->polls++ == 2)
        return 0;
    rdy_task_defer(task);
    return RDY_PENDING;
}

static void local_schedules_are_spawns_and_yields(void **state)
{
    struct watcher watcher = {.runtime = runtime_of(state)};

    (void)spawn_test(watcher.runtime, poll_yields_twice, NULL, &watcher);
    assert_int_equal(metrics_of(watcher.runtime).local_schedule_count, 1);
    run(watcher.runtime);
    assert_int_equal(metrics_of(watcher.runtime).local_schedule_count, 3);
    assert_int_equal(metrics_of(watcher.runtime).remote_schedule_count, 0);
}

static int poll_wakes_itself_once(struct rdy_task *task, void *self)
{
    struct watcher *watcher = ((struct test_task *)self)->test;
    struct rdy_waker waker = rdy_task_waker(task);

    if (watcher->polls++ == 1)
        return 0;
    rdy_waker_wake(&waker);
    return RDY_PENDING;
}

static void local_schedules_are_wakes_in_ones_own_poll(void **state)
{
    struct watcher watcher = {.runtime = runtime_of(state)};

    (void)spawn_test(watcher.runtime, poll_wakes_itself_once, NULL, &watcher);
    run(watcher.runtime);
    assert_int_equal(metrics_of(watcher.runtime).local_schedule_count, 2);
    assert_int_equal(metrics_of(watcher.runtime).poll_count, 2);
}

static int poll_wakes_the_other(struct rdy_task *task, void *self)
{
    struct watcher *watcher = ((struct test_task *)self)->test;

    (void)task;
    rdy_waker_wake(&watcher->waker);
    return 0;
}

static int poll_waits_once(struct rdy_task *task, void *self)
{
    struct watcher *watcher = ((struct test_task *)self)->test;

    watcher->waker = rdy_task_waker(task);
    return watcher->polls++ == 1 ? 0 : RDY_PENDING;
}

static void next_polls_are_of_those_that_the_polled_one_woke(void **state)
{
    struct watcher watcher = {.runtime = runtime_of(state)};

    (void)spawn_test(watcher.runtime, poll_waits_once, NULL, &watcher);
    (void)spawn_test(watcher.runtime, poll_wakes_the_other, NULL, &watcher);
    run(watcher.runtime);
    assert_int_equal(metrics_of(watcher.runtime).next_poll_count, 1);
    assert_int_equal(metrics_of(watcher.runtime).next_bound_count, 0);
    assert_int_equal(metrics_of(watcher.runtime).local_schedule_count, 3);
}

static void tasks_from_elsewhere_wait_in_the_global_queue(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_task_spec spec = {.poll = poll_finishes, .self_size = 16};
    struct rdy_metrics metrics;

    assert_int_equal(rdy_spawn_remote(runtime, &spec, NULL), 0);
    metrics = metrics_of(runtime);
    assert_int_equal(metrics.global_queue_depth, 1);
    assert_int_equal(metrics.local_queue_depth, 0);
    assert_int_equal(metrics.remote_schedule_count, 1);
    assert_int_equal(metrics.remote_spawn_count, 0);

    run(runtime);
    metrics = metrics_of(runtime);
    assert_int_equal(metrics.global_queue_depth, 0);
    assert_int_equal(metrics.local_queue_depth, 0);
    assert_int_equal(metrics.remote_spawn_count, 1);
    assert_int_equal(metrics.spawned_tasks_count, 1);
    assert_int_equal(metrics.local_schedule_count, 0);
}

static int poll_stops_the_run(struct rdy_task *task, void *self)
{
    (void)self;
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

static void remote_wakes_are_told_apart_by_whether_they_queued(void **state)
{
    struct watcher watcher = {.runtime = runtime_of(state)};
    struct rdy_runtime *runtime = watcher.runtime;
    struct rdy_task_id id = spawn_test(runtime, poll_waits, NULL, &watcher.waker);
    struct rdy_metrics metrics;

    (void)spawn_test(runtime, poll_stops_the_run, NULL, NULL);
    run(runtime);
    rdy_waker_wake(&watcher.waker);
    rdy_waker_wake(&watcher.waker);
    metrics = metrics_of(runtime);
    assert_int_equal(metrics.remote_wake_count, 2);
    assert_int_equal(metrics.remote_schedule_count, 1);
    assert_int_equal(metrics.global_queue_depth, 1);
    assert_int_equal(metrics.stale_wake_count, 0);

    assert_int_equal(rdy_task_abort(runtime, id), 0);
    rdy_waker_wake(&watcher.waker);
    metrics = metrics_of(runtime);
    assert_int_equal(metrics.remote_wake_count, 2);
    assert_int_equal(metrics.stale_wake_count, 1);
}

static void remote_drops_are_of_tasks_without_room(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct rdy_task_spec spec = {.poll = poll_finishes, .self_size = 16};
    struct rdy_metrics metrics;

    rdy_runtime_close(fixture->runtime);
    opts.tasks_max = 1;
    assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
    (void)spawn_test(fixture->runtime, poll_finishes, NULL, NULL);
    assert_int_equal(rdy_spawn_remote(fixture->runtime, &spec, NULL), 0);
    run(fixture->runtime);

    metrics = metrics_of(fixture->runtime);
    assert_int_equal(metrics.remote_drop_count, 1);
    assert_int_equal(metrics.remote_spawn_count, 0);
    assert_int_equal(metrics.global_queue_depth, 0);
    assert_int_equal(metrics.spawned_tasks_count, 1);
}

/* Charges until the budget is used up, then once more; in the next poll it is done. */
static int poll_charges(struct rdy_task *task, void *self)
{
    struct watcher *watcher = ((struct test_task *)self)->test;

    assert_true(rdy_task_has_budget(task));
    if (watcher->polls++ == 1)
        return 0;
    for (int i = 0; i < 128; i++) {
        assert_true(rdy_task_has_budget(task));
        assert_int_equal(rdy_task_charge(task), 0);
    }
    assert_false(rdy_task_has_budget(task));
    /* Two operations that find nothing left are one forced yield. */
    assert_int_equal(rdy_task_charge(task), RDY_PENDING);
    return rdy_task_charge(task);
}

static void forced_yields_are_counted_and_the_budget_can_be_asked_for(void **state)
{
    struct watcher watcher = {.runtime = runtime_of(state)};

    (void)spawn_test(watcher.runtime, poll_charges, NULL, &watcher);
    run(watcher.runtime);
    assert_int_equal(watcher.polls, 2);
    assert_int_equal(metrics_of(watcher.runtime).budget_forced_yield_count, 1);
}

static int poll_sleeps(struct rdy_task *task, void *self)
{
    struct watcher *watcher = ((struct test_task *)self)->test;

    if (watcher->polls++ == 0)
        rdy_timer_start_sleep(&watcher->timer, task, 2000000);
    return rdy_timer_poll_sleep(&watcher->timer, task);
}

static void parks_are_counted_when_they_begin_and_when_they_end(void **state)
{
    struct watcher watcher = {.runtime = runtime_of(state)};
    struct rdy_metrics metrics;

    (void)spawn_test(watcher.runtime, poll_sleeps, NULL, &watcher);
    assert_int_equal(metrics_of(watcher.runtime).park_count, 0);
    run(watcher.runtime);

    metrics = metrics_of(watcher.runtime);
    assert_true(metrics.park_count >= 1);
    assert_int_equal(metrics.park_unpark_count, 2 * metrics.park_count);
    assert_int_equal(metrics.timers_fired_count, 1);
}

static void timers_armed_is_a_gauge(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_timer timer = {0};
    struct rdy_waker nobody = {0};

    rdy_timer_arm(&timer, runtime, rdy_runtime_now_ns(runtime) + UINT64_C(1000000000), &nobody);
    assert_int_equal(metrics_of(runtime).timers_armed, 1);
    assert_true(rdy_timer_cancel(&timer));
    assert_int_equal(metrics_of(runtime).timers_armed, 0);
}

/* Another thread: sees the runtime blocked, wakes it for nothing, sees that counted, stops it. */
static void *disturb(void *arg)
{
    struct rdy_runtime *runtime = arg;

    while (metrics_of(runtime).park_unpark_count % 2 == 0)
        ;
    rdy_driver_unpark(rdy_runtime_driver(runtime));
    while (metrics_of(runtime).noop_count == 0)
        ;
    rdy_runtime_stop(runtime);
    return NULL;
}

static void park_that_was_ended_for_nothing_is_a_noop(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_metrics metrics;
    pthread_t thread;

    (void)spawn_test(runtime, poll_waits, NULL, NULL);
    assert_int_equal(pthread_create(&thread, NULL, disturb, runtime), 0);
    run(runtime);
    assert_int_equal(pthread_join(thread, NULL), 0);

    metrics = metrics_of(runtime);
    /* A wait that the kernel cuts short is for nothing, too; the stop may come before the next. */
    assert_true(metrics.noop_count >= 1);
    assert_in_range(metrics.noop_count, metrics.park_count - 1, metrics.park_count);
    assert_int_equal(metrics.park_unpark_count, 2 * metrics.park_count);
}

static void park_that_was_ended_for_a_task_is_not_a_noop(void **state)
{
    struct watcher watcher = {.runtime = runtime_of(state)};

    (void)spawn_test(watcher.runtime, poll_sleeps, NULL, &watcher);
    run(watcher.runtime);
    /* A wait that a kernel cut short comes again, and was for nothing. */
    assert_int_equal(metrics_of(watcher.runtime).noop_count,
                     metrics_of(watcher.runtime).park_count - 1);
}

static void files_are_counted_when_they_are_registered_and_let_go(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_registration reg;
    struct rdy_metrics metrics;
    int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);

    assert_int_equal(rdy_register(rdy_runtime_driver(runtime), fd, RDY_INTEREST_READ, &reg), 0);
    metrics = metrics_of(runtime);
    assert_int_equal(metrics.io_driver_fd_registered_count, 1);
    assert_int_equal(metrics.io_driver_fd_deregistered_count, 0);
    assert_int_equal(metrics.io_driver_entries, 1);
    assert_int_equal(metrics.io_driver_ready_count, 0);

    for (int i = 0; i < 10 && metrics_of(runtime).io_driver_ready_count == 0; i++)
        assert_true(rdy_driver_turn(rdy_runtime_driver(runtime), 100000000) >= 0);
    assert_int_equal(metrics_of(runtime).io_driver_ready_count, 1);
    assert_int_equal(rdy_close(&reg), 0);
    for (int i = 0; i < 10 && metrics_of(runtime).io_driver_entries > 0; i++)
        assert_true(rdy_driver_turn(rdy_runtime_driver(runtime), 1000000) >= 0);
    metrics = metrics_of(runtime);
    assert_int_equal(metrics.io_driver_fd_registered_count, 1);
    assert_int_equal(metrics.io_driver_fd_deregistered_count, 1);
    assert_int_equal(metrics.io_driver_entries, 0);
    assert_true(metrics.io_driver_turn_count >= 1);
    assert_true(metrics.io_driver_system_call_count >= metrics.io_driver_turn_count);
}

static void backend_is_named(void **state)
{
    struct runtime_fixture *fixture = *state;

    assert_string_equal(metrics_of(fixture->runtime).backend,
                        fixture->backend == RDY_BACKEND_URING ? "io_uring" : "epoll");
}

/* Each counter of the driver set to another number: none is mistaken for another. */
static void each_number_of_the_driver_is_the_one_it_is_called(void **state)
{
    struct rdy_driver *driver = rdy_runtime_driver(runtime_of(state));
    struct rdy_metrics before = metrics_of(runtime_of(state));
    struct rdy_metrics after;
    const struct {
        struct rdy_a64 *counter;
        size_t offset;
    } rows[] = {
#define ROW(counter, field) {counter, offsetof(struct rdy_metrics, field)}
        ROW(&driver->count.parks, park_count),
        ROW(&driver->count.park_unparks, park_unpark_count),
        ROW(&driver->count.spins, spin_count),
        ROW(&driver->count.spin_hits, spin_hit_count),
        ROW(&driver->count.spin_ns, spin_duration_ns),
        ROW(&driver->count.batch_waits, batch_wait_count),
        ROW(&driver->count.batch_fills, batch_fill_count),
        ROW(&driver->count.turns, io_driver_turn_count),
        ROW(&driver->count.ready_events, io_driver_ready_count),
        ROW(&driver->count.waker_calls, io_driver_waker_call_count),
        ROW(&driver->count.rearms, io_driver_rearm_count),
        ROW(&driver->count.overflows, io_driver_overflow_count),
        ROW(&driver->count.facts_for_closed_entry, io_driver_closed_entry_fact_count),
        ROW(&driver->count.sets_after_shutdown, io_driver_set_after_shutdown_count),
        ROW(&driver->count.arm_retries, io_driver_arm_retry_count),
        ROW(&driver->count.arm_failures, io_driver_arm_failure_count),
        ROW(&driver->count.unpollable_files, io_driver_unpollable_file_count),
        ROW(&driver->count.backend_moves, io_driver_backend_move_count),
        ROW(&driver->any.registered, io_driver_fd_registered_count),
        ROW(&driver->any.unparks, io_driver_unpark_count),
        ROW(&driver->any.unparks_coalesced, io_driver_coalesced_unpark_count),
        ROW(&driver->any.stale_clears, io_driver_stale_clear_count),
        ROW(&driver->any.spurious_wakes, io_driver_spurious_wake_count),
        ROW(&driver->any.stale_tokens, io_driver_stale_token_count),
        ROW(&rdy_driver_backend(driver)->system_calls, io_driver_system_call_count),
        ROW(&rdy_driver_backend(driver)->interruptions, io_driver_interrupted_wait_count),
#undef ROW
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        rdy_a64_bump(rows[i].counter, 1000 + i);
    after = metrics_of(runtime_of(state));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t was;
        uint64_t is;

        memcpy(&was, (const char *)&before + rows[i].offset, sizeof(was));
        memcpy(&is, (const char *)&after + rows[i].offset, sizeof(is));
        assert_int_equal(is - was, 1000 + i);
    }
    rdy_a64_bump(&driver->count.cancels_pending, 7);
    assert_int_equal(metrics_of(runtime_of(state)).io_driver_cancels_pending, 7);
    rdy_a64_store_relaxed(&driver->count.cancels_pending, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(tasks_are_counted_when_they_come_and_when_they_end),
        ON_BOTH(aborts_and_deadlines_are_counted_apart),
        ON_BOTH(local_queue_depth_is_of_those_that_wait_and_not_of_the_polled),
        ON_BOTH(local_queue_depth_loses_the_aborted),
        ON_BOTH(local_schedules_are_spawns_and_yields),
        ON_BOTH(local_schedules_are_wakes_in_ones_own_poll),
        ON_BOTH(next_polls_are_of_those_that_the_polled_one_woke),
        ON_BOTH(tasks_from_elsewhere_wait_in_the_global_queue),
        ON_BOTH(remote_wakes_are_told_apart_by_whether_they_queued),
        ON_BOTH(remote_drops_are_of_tasks_without_room),
        ON_BOTH(forced_yields_are_counted_and_the_budget_can_be_asked_for),
        ON_BOTH(parks_are_counted_when_they_begin_and_when_they_end),
        ON_BOTH(timers_armed_is_a_gauge),
        ON_BOTH(park_that_was_ended_for_nothing_is_a_noop),
        ON_BOTH(park_that_was_ended_for_a_task_is_not_a_noop),
        ON_BOTH(files_are_counted_when_they_are_registered_and_let_go),
        ON_BOTH(backend_is_named),
        ON_BOTH(each_number_of_the_driver_is_the_one_it_is_called),
    };

    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
