/* SPDX-License-Identifier: MIT */
/*
 * Intervals and sleeps on a paused clock, where lateness is exact: "work" moves the clock.
 */
#include "tests/support/runtime.h"

#include <errno.h>
#include <string.h>

#include <rdy/timer.h>

#include "engine/base.h"

#define MS        ((uint64_t)RDY_NS_PER_MS)
#define TICKS_MAX 8

/* A task that takes ticks and works for a while after each, and when each came. */
struct ticker {
    struct rdy_interval interval;
    struct rdy_timer timer;
    uint64_t start_ns;
    uint64_t work_ns[TICKS_MAX]; /* after the tick of that number */
    uint64_t due_ns[TICKS_MAX];  /* counted from start_ns, as the next */
    uint64_t taken_ns[TICKS_MAX];
    uint32_t ticks_max;
    uint32_t ticks;
    uint32_t step;
};

static struct ticker *ticker_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static int poll_ticks(struct rdy_task *task, void *self)
{
    struct ticker *ticker = ticker_of(self);
    struct rdy_runtime *runtime = rdy_task_runtime(task);

    while (ticker->ticks < ticker->ticks_max) {
        uint64_t due_ns = 0;
        int rc = rdy_interval_poll_tick(&ticker->interval, task, &due_ns);

        if (rc != 0)
            return rc;
        ticker->due_ns[ticker->ticks] = due_ns - ticker->start_ns;
        ticker->taken_ns[ticker->ticks] = rdy_runtime_now_ns(runtime) - ticker->start_ns;
        assert_int_equal(rdy_runtime_advance(runtime, ticker->work_ns[ticker->ticks]), 0);
        ticker->ticks++;
    }
    return 0;
}

static void ticker_open(struct ticker *ticker, struct rdy_runtime *runtime, uint32_t ticks_max)
{
    memset(ticker, 0, sizeof(*ticker));
    rdy_runtime_pause_clock(runtime);
    ticker->start_ns = rdy_runtime_now_ns(runtime);
    ticker->ticks_max = ticks_max;
}

static void ticker_run(struct ticker *ticker, struct rdy_runtime *runtime)
{
    (void)spawn_test(runtime, poll_ticks, NULL, ticker);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(ticker->ticks, ticker->ticks_max);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
}

static void expect_times(const uint64_t *times_ns, const uint64_t *expected_ms, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(times_ns[i], expected_ms[i] * MS);
}

static void first_tick_comes_at_once_or_after_a_period(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    const uint64_t at_once_ms[] = {0, 10, 20};
    const uint64_t later_ms[] = {10, 20, 30};
    struct ticker ticker;

    ticker_open(&ticker, runtime, 3);
    assert_int_equal(
        rdy_interval_start(&ticker.interval, ticker.start_ns, 10 * MS, RDY_MISSED_BURST), 0);
    ticker_run(&ticker, runtime);
    expect_times(ticker.due_ns, at_once_ms, 3);
    expect_times(ticker.taken_ns, at_once_ms, 3);

    ticker_open(&ticker, runtime, 3);
    assert_int_equal(
        rdy_interval_start(&ticker.interval, ticker.start_ns + 10 * MS, 10 * MS, RDY_MISSED_BURST),
        0);
    ticker_run(&ticker, runtime);
    expect_times(ticker.due_ns, later_ms, 3);
    expect_times(ticker.taken_ns, later_ms, 3);
}

/* A period of 50 ms and 120 ms of work after the tick at 50 ms. */
static void run_with_a_late_tick(struct rdy_runtime *runtime, enum rdy_missed_ticks missed,
                                 const uint64_t *due_ms, const uint64_t *taken_ms)
{
    struct ticker ticker;

    ticker_open(&ticker, runtime, 6);
    ticker.work_ns[1] = 120 * MS;
    assert_int_equal(rdy_interval_start(&ticker.interval, ticker.start_ns, 50 * MS, missed), 0);
    ticker_run(&ticker, runtime);
    expect_times(ticker.due_ns, due_ms, 6);
    expect_times(ticker.taken_ns, taken_ms, 6);
}

static void burst_makes_up_for_missed_ticks_at_once(void **state)
{
    const uint64_t due_ms[] = {0, 50, 100, 150, 200, 250};
    const uint64_t taken_ms[] = {0, 50, 170, 170, 200, 250};

    run_with_a_late_tick(runtime_of(state), RDY_MISSED_BURST, due_ms, taken_ms);
}

static void delay_counts_the_period_from_the_late_tick(void **state)
{
    const uint64_t due_ms[] = {0, 50, 100, 220, 270, 320};
    const uint64_t taken_ms[] = {0, 50, 170, 220, 270, 320};

    run_with_a_late_tick(runtime_of(state), RDY_MISSED_DELAY, due_ms, taken_ms);
}

static void skip_goes_on_at_the_next_multiple_of_the_period(void **state)
{
    const uint64_t due_ms[] = {0, 50, 100, 200, 250, 300};
    const uint64_t taken_ms[] = {0, 50, 170, 200, 250, 300};

    run_with_a_late_tick(runtime_of(state), RDY_MISSED_SKIP, due_ms, taken_ms);
}

/* Late by exactly two periods: the tick that is due just now is one of the missed ones. */
static void skip_is_never_due_at_the_moment_of_a_late_tick(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    const uint64_t taken_ms[] = {0, 30, 40};
    struct ticker ticker;

    ticker_open(&ticker, runtime, 3);
    ticker.work_ns[0] = 30 * MS;
    assert_int_equal(
        rdy_interval_start(&ticker.interval, ticker.start_ns, 10 * MS, RDY_MISSED_SKIP), 0);
    ticker_run(&ticker, runtime);
    expect_times(ticker.taken_ns, taken_ms, 3);
}

static void jitter_does_not_shift_the_ticks_of_delay(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct ticker ticker;

    ticker_open(&ticker, runtime, 4);
    ticker.work_ns[0] = 55 * MS;     /* 5 ms late: jitter */
    ticker.work_ns[1] = 50 * MS + 1; /* 5 ms and 1 ns late: missed */
    assert_int_equal(
        rdy_interval_start(&ticker.interval, ticker.start_ns, 50 * MS, RDY_MISSED_DELAY), 0);
    ticker_run(&ticker, runtime);
    assert_int_equal(ticker.taken_ns[1], 55 * MS);
    assert_int_equal(ticker.due_ns[2], 100 * MS);
    assert_int_equal(ticker.taken_ns[2], 105 * MS + 1);
    assert_int_equal(ticker.due_ns[3], 155 * MS + 1);
}

/* Within 5 ms there is room for whole periods of 1 ms, and those are missed. */
static void short_period_is_missed_after_a_period(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    const uint64_t taken_ms[] = {0, 4, 5, 6};
    struct ticker ticker;

    ticker_open(&ticker, runtime, 4);
    ticker.work_ns[0] = 4 * MS;
    assert_int_equal(rdy_interval_start(&ticker.interval, ticker.start_ns, MS, RDY_MISSED_SKIP), 0);
    ticker_run(&ticker, runtime);
    expect_times(ticker.taken_ns, taken_ms, 4);
}

static void absurd_interval_is_refused_and_nothing_changes(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    const uint64_t due_ms[] = {7, 12};
    struct ticker ticker;

    ticker_open(&ticker, runtime, 2);
    assert_int_equal(
        rdy_interval_start(&ticker.interval, ticker.start_ns + 7 * MS, 5 * MS, RDY_MISSED_BURST),
        0);
    assert_int_equal(rdy_interval_start(&ticker.interval, 0, 0, RDY_MISSED_SKIP), -EINVAL);
    assert_int_equal(rdy_interval_start(&ticker.interval, 0, 1, (enum rdy_missed_ticks)3), -EINVAL);
    ticker_run(&ticker, runtime);
    expect_times(ticker.due_ns, due_ms, 2);
}

/* Waits for a tick, gives up and works, and comes back for it. */
static int poll_gives_up_and_comes_back(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct ticker *ticker = my->test;
    struct rdy_runtime *runtime = rdy_task_runtime(task);
    uint64_t due_ns = 0;

    RDY_BEGIN(&my->co);
    assert_int_equal(rdy_interval_poll_tick(&ticker->interval, task, &due_ns), RDY_PENDING);
    assert_int_equal(runtime_stats(runtime).timers_armed, 1);
    rdy_interval_stop(&ticker->interval);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
    RDY_SLEEP(&my->co, &ticker->timer, task, 25 * MS);
    assert_int_equal(rdy_interval_poll_tick(&ticker->interval, task, &due_ns), 0);
    assert_int_equal(due_ns - ticker->start_ns, 10 * MS);
    RDY_END(&my->co);
    ticker->step = 1;
    return 0;
}

static void tick_that_was_given_up_is_not_lost(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct ticker ticker;

    ticker_open(&ticker, runtime, 0);
    assert_int_equal(
        rdy_interval_start(&ticker.interval, ticker.start_ns + 10 * MS, 10 * MS, RDY_MISSED_BURST),
        0);
    (void)spawn_test(runtime, poll_gives_up_and_comes_back, NULL, &ticker);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(ticker.step, 1);
}

static int poll_resets(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct ticker *ticker = my->test;
    struct rdy_runtime *runtime = rdy_task_runtime(task);
    uint64_t due_ns = 0;

    RDY_BEGIN(&my->co);
    assert_int_equal(rdy_interval_poll_tick(&ticker->interval, task, &due_ns), RDY_PENDING);
    rdy_interval_reset(&ticker->interval, ticker->start_ns + 3 * MS);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
    for (ticker->ticks = 0; ticker->ticks < 2; ticker->ticks++) {
        RDY_AWAIT(&my->co, rdy_interval_poll_tick(&ticker->interval, task, &due_ns));
        ticker->due_ns[ticker->ticks] = due_ns - ticker->start_ns;
    }
    RDY_END(&my->co);
    return 0;
}

static void reset_moves_the_next_tick_and_the_period_goes_on_from_there(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    const uint64_t due_ms[] = {3, 13};
    struct ticker ticker;

    ticker_open(&ticker, runtime, 0);
    assert_int_equal(
        rdy_interval_start(&ticker.interval, ticker.start_ns + 50 * MS, 10 * MS, RDY_MISSED_BURST),
        0);
    (void)spawn_test(runtime, poll_resets, NULL, &ticker);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(ticker.ticks, 2);
    expect_times(ticker.due_ns, due_ms, 2);
}

static int poll_ticks_once_in_eternity(struct rdy_task *task, void *self)
{
    struct ticker *ticker = ticker_of(self);

    assert_int_equal(rdy_interval_poll_tick(&ticker->interval, task, NULL), 0);
    assert_int_equal(rdy_interval_poll_tick(&ticker->interval, task, NULL), RDY_PENDING);
    assert_int_equal(ticker->interval.next_ns, UINT64_MAX);
    rdy_interval_stop(&ticker->interval);
    ticker->step++;
    return 0;
}

static void tick_beyond_the_end_of_time_never_comes(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    const enum rdy_missed_ticks modes[] = {RDY_MISSED_BURST, RDY_MISSED_DELAY, RDY_MISSED_SKIP};
    struct ticker ticker;

    ticker_open(&ticker, runtime, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            rdy_interval_start(&ticker.interval, ticker.start_ns - MS, UINT64_MAX, modes[i]), 0);
        (void)spawn_test(runtime, poll_ticks_once_in_eternity, NULL, &ticker);
        assert_int_equal(rdy_runtime_run(runtime), 0);
    }
    assert_int_equal(ticker.step, 3);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
}

/* Bursts without end, in one poll if the budget did not end it. */
static int poll_bursts(struct rdy_task *task, void *self)
{
    struct ticker *ticker = ticker_of(self);
    int rc = 0;

    while (ticker->ticks < 10000 &&
           (rc = rdy_interval_poll_tick(&ticker->interval, task, NULL)) == 0)
        ticker->ticks++;
    return rc;
}

static void burst_pays_for_each_tick(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct ticker ticker;

    ticker_open(&ticker, runtime, 0);
    assert_int_equal(rdy_interval_start(&ticker.interval, 0, 1, RDY_MISSED_BURST), 0);
    (void)spawn_test(runtime, poll_bursts, NULL, &ticker);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(ticker.ticks, 10000);
    assert_int_equal(runtime_stats(runtime).budget_yields, 10000 / 128);
}

/* Two sleeps with one timer: the second to a time that is over when it begins, then 0. */
static int poll_sleeps(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct ticker *ticker = my->test;
    struct rdy_runtime *runtime = rdy_task_runtime(task);

    RDY_BEGIN(&my->co);
    for (ticker->ticks = 0; ticker->ticks < 3; ticker->ticks++) {
        RDY_SLEEP(&my->co, &ticker->timer, task, 10 * MS);
        ticker->taken_ns[ticker->ticks] = rdy_runtime_now_ns(runtime) - ticker->start_ns;
        assert_int_equal(rdy_runtime_advance(runtime, 2 * MS), 0);
    }
    RDY_SLEEP(&my->co, &ticker->timer, task, 0);
    assert_int_equal(rdy_runtime_now_ns(runtime) - ticker->start_ns, 36 * MS);
    RDY_END(&my->co);
    ticker->step = 1;
    return 0;
}

static void sleep_counts_from_where_it_begins(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    const uint64_t taken_ms[] = {10, 22, 34};
    struct ticker ticker;

    ticker_open(&ticker, runtime, 0);
    (void)spawn_test(runtime, poll_sleeps, NULL, &ticker);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(ticker.step, 1);
    expect_times(ticker.taken_ns, taken_ms, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(first_tick_comes_at_once_or_after_a_period),
        ON_BOTH(burst_makes_up_for_missed_ticks_at_once),
        ON_BOTH(delay_counts_the_period_from_the_late_tick),
        ON_BOTH(skip_goes_on_at_the_next_multiple_of_the_period),
        ON_BOTH(skip_is_never_due_at_the_moment_of_a_late_tick),
        ON_BOTH(jitter_does_not_shift_the_ticks_of_delay),
        ON_BOTH(short_period_is_missed_after_a_period),
        ON_BOTH(absurd_interval_is_refused_and_nothing_changes),
        ON_BOTH(tick_that_was_given_up_is_not_lost),
        ON_BOTH(reset_moves_the_next_tick_and_the_period_goes_on_from_there),
        ON_BOTH(tick_beyond_the_end_of_time_never_comes),
        ON_BOTH(burst_pays_for_each_tick),
        ON_BOTH(sleep_counts_from_where_it_begins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
