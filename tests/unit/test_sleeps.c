/* SPDX-License-Identifier: MIT */
/*
 * Sleeps and timers of every length, armed anew at every moment, on a paused clock: the times are
 * exact and the same in every run.
 */
#include "tests/support/runtime.h"

#include <errno.h>
#include <string.h>

#include <rdy/timer.h>

#include "engine/base.h"

#define MS ((uint64_t)RDY_NS_PER_MS)

static uint64_t pause_now(struct rdy_runtime *runtime)
{
    rdy_runtime_pause_clock(runtime);
    return rdy_runtime_now_ns(runtime);
}

/* --- one task that sleeps --- */

#define LENGTHS_MAX 128

struct sleeper {
    struct rdy_timer timer;
    struct rdy_timer other;
    uint64_t lengths_ns[LENGTHS_MAX];
    uint64_t woke_ns[LENGTHS_MAX];
    uint32_t lengths_count;
    uint32_t i;
    uint32_t polls;
};

static int poll_sleeps(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct sleeper *sleeper = my->test;

    sleeper->polls++;
    RDY_BEGIN(&my->co);
    for (sleeper->i = 0; sleeper->i < sleeper->lengths_count; sleeper->i++) {
        RDY_SLEEP(&my->co, &sleeper->timer, task, sleeper->lengths_ns[sleeper->i]);
        sleeper->woke_ns[sleeper->i] = rdy_runtime_now_ns(rdy_task_runtime(task));
    }
    RDY_END(&my->co);
    return 0;
}

static void sleep_of_nothing_goes_on_at_once(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);
    struct sleeper sleeper = {.lengths_count = 100};

    (void)spawn_test(runtime, poll_sleeps, NULL, &sleeper);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(sleeper.polls, 1);
    assert_int_equal(sleeper.woke_ns[99], start_ns);
}

/* From a nanosecond to 50 days: within a slot of the wheel, at its edge, on every level. */
static void sleeps_of_every_length_end_at_their_nanosecond(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t due_ns = pause_now(runtime);
    struct sleeper sleeper = {.lengths_count = 2 * 52};

    for (uint32_t bit = 0; bit < 52; bit++) {
        sleeper.lengths_ns[2 * bit] = UINT64_C(1) << bit;
        sleeper.lengths_ns[2 * bit + 1] = (UINT64_C(1) << bit) - (bit > 0);
    }
    (void)spawn_test(runtime, poll_sleeps, NULL, &sleeper);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    for (uint32_t i = 0; i < sleeper.lengths_count; i++) {
        due_ns += sleeper.lengths_ns[i];
        assert_int_equal(sleeper.woke_ns[i], due_ns);
    }
}

static int poll_sleeps_shortly(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct sleeper *sleeper = my->test;

    sleeper->polls++;
    RDY_BEGIN(&my->co);
    for (sleeper->i = 0; sleeper->i < 10000; sleeper->i++)
        RDY_SLEEP(&my->co, &sleeper->timer, task, MS);
    RDY_END(&my->co);
    return 0;
}

static void ten_thousand_short_sleeps_add_up(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);
    struct sleeper sleeper = {0};

    (void)spawn_test(runtime, poll_sleeps_shortly, NULL, &sleeper);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(rdy_runtime_now_ns(runtime) - start_ns, 10000 * MS);
    assert_int_equal(sleeper.polls, 10001);
}

/* Waits for whichever of two sleeps is over first. */
static int poll_sleeps_twice_at_once(struct rdy_task *task, void *self)
{
    struct sleeper *sleeper = ((struct test_task *)self)->test;

    if (sleeper->polls++ == 0) {
        rdy_timer_start_sleep(&sleeper->timer, task, sleeper->lengths_ns[0]);
        rdy_timer_start_sleep(&sleeper->other, task, sleeper->lengths_ns[1]);
    }
    assert_int_equal(rdy_timer_poll_sleep(&sleeper->timer, task), RDY_PENDING);
    if (rdy_timer_poll_sleep(&sleeper->other, task) == RDY_PENDING)
        return RDY_PENDING;
    (void)rdy_timer_cancel(&sleeper->timer);
    return 0;
}

static void sleep_beyond_the_end_of_time_stands_beside_a_short_one(void **state)
{
    static const uint64_t lengths_ns[] = {UINT64_MAX, UINT64_MAX / 2, UINT64_MAX / 10 * 9,
                                          UINT64_C(1) << 63};
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);

    for (size_t i = 0; i < 4; i++) {
        struct sleeper sleeper = {.lengths_ns = {lengths_ns[i], 1}};

        (void)spawn_test(runtime, poll_sleeps_twice_at_once, NULL, &sleeper);
        assert_int_equal(rdy_runtime_run(runtime), 0);
        assert_int_equal(sleeper.polls, 2);
    }
    assert_int_equal(rdy_runtime_now_ns(runtime), start_ns + 4);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
}

/* --- timers that are armed anew --- */

struct bench {
    struct rdy_runtime *runtime;
    struct rdy_timer timers[3];
    struct rdy_timer pause;
    uint64_t start_ns;
    uint64_t fired_ns[8];
    uint32_t fired;
    uint64_t sleep_until_ns;
};

static struct bench bench;

static void bench_note(void *arg, uint64_t data)
{
    (void)arg;
    (void)data;
    assert_true(bench.fired < 8);
    bench.fired_ns[bench.fired++] = rdy_runtime_now_ns(bench.runtime) - bench.start_ns;
}

static void bench_open(void **state)
{
    memset(&bench, 0, sizeof(bench));
    bench.runtime = runtime_of(state);
    bench.start_ns = pause_now(bench.runtime);
}

static void bench_arm(uint32_t i, uint64_t after_ns)
{
    const struct rdy_waker waker = {.fn = bench_note, .data = i};

    rdy_timer_arm(&bench.timers[i], bench.runtime, bench.start_ns + after_ns, &waker);
}

static int poll_bench_sleeps(struct rdy_task *task, void *self)
{
    (void)self;
    return rdy_timer_poll_until(&bench.pause, task, bench.sleep_until_ns);
}

/* Lets time pass up to @until_ns after the start, and what is due by then fire. */
static void bench_pass(uint64_t until_ns)
{
    bench.sleep_until_ns = bench.start_ns + until_ns;
    (void)spawn_test(bench.runtime, poll_bench_sleeps, NULL, NULL);
    assert_int_equal(rdy_runtime_run(bench.runtime), 0);
    assert_int_equal(rdy_runtime_now_ns(bench.runtime), bench.sleep_until_ns);
}

static void timer_moved_before_it_fires_fires_at_the_new_time_alone(void **state)
{
    bench_open(state);
    bench_arm(0, 100 * MS);
    bench_pass(50 * MS);

    bench_arm(0, 200 * MS);
    bench_pass(199 * MS);
    assert_int_equal(bench.fired, 0);
    assert_false(rdy_timer_has_fired(&bench.timers[0]));
    bench_pass(300 * MS);

    assert_int_equal(bench.fired, 1);
    assert_int_equal(bench.fired_ns[0], 200 * MS);
    assert_true(rdy_timer_has_fired(&bench.timers[0]));
}

static void timer_moved_to_an_earlier_time_fires_then(void **state)
{
    bench_open(state);
    bench_arm(0, 1000 * MS);
    bench_pass(10 * MS);

    bench_arm(0, 20 * MS);
    bench_pass(2000 * MS);

    assert_int_equal(bench.fired, 1);
    assert_int_equal(bench.fired_ns[0], 20 * MS);
}

static void timer_moved_into_the_past_fires_in_the_next_round(void **state)
{
    bench_open(state);
    bench_arm(0, 1000 * MS);
    bench_pass(100 * MS);

    bench_arm(0, 50 * MS);
    assert_int_equal(bench.fired, 0);
    bench_pass(100 * MS + 1);

    assert_int_equal(bench.fired, 1);
    assert_int_equal(bench.fired_ns[0], 100 * MS);
}

static void timer_armed_after_it_fired_fires_again(void **state)
{
    bench_open(state);
    bench_arm(0, 10 * MS);
    bench_pass(20 * MS);
    assert_true(rdy_timer_has_fired(&bench.timers[0]));

    bench_arm(0, 30 * MS);
    assert_false(rdy_timer_has_fired(&bench.timers[0]));
    bench_pass(40 * MS);

    assert_int_equal(bench.fired, 2);
    assert_int_equal(bench.fired_ns[1], 30 * MS);
    assert_true(rdy_timer_has_fired(&bench.timers[0]));
}

static void bench_cancels_and_moves(void *arg, uint64_t data)
{
    bench_note(arg, data);
    assert_true(rdy_timer_cancel(&bench.timers[1]));
    bench_arm(2, 20 * MS);
}

/* All three are due at one time; the first's waker cancels the second and moves the third. */
static void waker_may_touch_the_timers_that_are_due_with_its_own(void **state)
{
    const struct rdy_waker waker = {.fn = bench_cancels_and_moves};

    bench_open(state);
    rdy_timer_arm(&bench.timers[0], bench.runtime, bench.start_ns + 10 * MS, &waker);
    bench_arm(1, 10 * MS);
    bench_arm(2, 10 * MS);
    bench_pass(30 * MS);

    assert_int_equal(bench.fired, 2);
    assert_int_equal(bench.fired_ns[0], 10 * MS);
    assert_int_equal(bench.fired_ns[1], 20 * MS);
    assert_false(rdy_timer_has_fired(&bench.timers[1]));
    assert_int_equal(runtime_stats(bench.runtime).timers_armed, 0);
}

/* --- timeouts and ticks --- */

static int poll_sleeps_with_a_timeout_of_for_ever(struct rdy_task *task, void *self)
{
    struct sleeper *sleeper = ((struct test_task *)self)->test;

    if (sleeper->polls++ == 0)
        rdy_timer_start_sleep(&sleeper->timer, task, MS);
    return RDY_TIMEOUT(&sleeper->other, task, UINT64_MAX,
                       rdy_timer_poll_sleep(&sleeper->timer, task));
}

static void timeout_that_never_comes_leaves_the_answer(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);
    struct sleeper sleeper = {0};

    (void)spawn_test(runtime, poll_sleeps_with_a_timeout_of_for_ever, NULL, &sleeper);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(sleeper.polls, 2);
    assert_int_equal(rdy_runtime_now_ns(runtime), start_ns + MS);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
}

static int op_never_answers(void)
{
    return RDY_PENDING;
}

/* A deadline that was brought forward passes; then the timer serves a sleep to the old one. */
static int poll_sleeps_after_a_timeout(struct rdy_task *task, void *self)
{
    struct sleeper *sleeper = ((struct test_task *)self)->test;
    uint64_t until_ns = sleeper->lengths_ns[0];
    uint64_t now_ns = rdy_runtime_now_ns(rdy_task_runtime(task));

    if (sleeper->polls++ == 0) {
        assert_int_equal(RDY_TIMEOUT(&sleeper->timer, task, until_ns, op_never_answers()),
                         RDY_PENDING);
        assert_int_equal(RDY_TIMEOUT(&sleeper->timer, task, now_ns, op_never_answers()),
                         -ETIMEDOUT);
        assert_true(rdy_timer_has_fired(&sleeper->timer));
    }
    if (rdy_timer_poll_until(&sleeper->timer, task, until_ns) == RDY_PENDING)
        return RDY_PENDING;
    sleeper->woke_ns[0] = now_ns;
    return 0;
}

static void sleep_after_a_timeout_that_was_brought_forward_is_not_early(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct sleeper sleeper = {.lengths_ns = {pause_now(runtime) + 100 * MS}};

    (void)spawn_test(runtime, poll_sleeps_after_a_timeout, NULL, &sleeper);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(sleeper.polls, 2);
    assert_int_equal(sleeper.woke_ns[0], sleeper.lengths_ns[0]);
}

static int poll_sleeps_until(struct rdy_task *task, void *self)
{
    struct sleeper *sleeper = ((struct test_task *)self)->test;

    sleeper->polls++;
    return rdy_timer_poll_until(&sleeper->timer, task, sleeper->lengths_ns[0]);
}

/* Their clocks are not the same: what has passed on one lies ahead on another. */
static void timer_that_fired_on_one_runtime_waits_on_another(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_runtime *other = runtime_open(((struct runtime_fixture *)*state)->backend);
    struct sleeper sleeper = {.lengths_ns = {pause_now(other) + 3600000 * MS}};

    (void)spawn_test(other, poll_sleeps_until, NULL, &sleeper);
    assert_int_equal(rdy_runtime_run(other), 0);
    assert_int_equal(sleeper.polls, 2);
    rdy_runtime_close(other);

    (void)pause_now(runtime);
    (void)spawn_test(runtime, poll_sleeps_until, NULL, &sleeper);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(sleeper.polls, 4);
    assert_int_equal(rdy_runtime_now_ns(runtime), sleeper.lengths_ns[0]);
}

struct ticker {
    struct rdy_interval interval;
    uint32_t ticks;
    uint32_t polls;
};

static int poll_ticks(struct rdy_task *task, void *self)
{
    struct ticker *ticker = ((struct test_task *)self)->test;
    int rc;

    ticker->polls++;
    while ((rc = rdy_interval_poll_tick(&ticker->interval, task, NULL)) == 0) {
        if (++ticker->ticks == 100) {
            rdy_interval_stop(&ticker->interval);
            return 0;
        }
    }
    return rc;
}

static void task_that_waits_for_ticks_is_polled_once_for_each(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);
    struct ticker ticker = {0};

    assert_int_equal(rdy_interval_start(&ticker.interval, start_ns + MS, MS, RDY_MISSED_BURST), 0);
    (void)spawn_test(runtime, poll_ticks, NULL, &ticker);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(ticker.polls, 1 + 100);
    assert_int_equal(rdy_runtime_now_ns(runtime), start_ns + 100 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(sleep_of_nothing_goes_on_at_once),
        ON_BOTH(sleeps_of_every_length_end_at_their_nanosecond),
        ON_BOTH(ten_thousand_short_sleeps_add_up),
        ON_BOTH(sleep_beyond_the_end_of_time_stands_beside_a_short_one),
        ON_BOTH(timer_moved_before_it_fires_fires_at_the_new_time_alone),
        ON_BOTH(timer_moved_to_an_earlier_time_fires_then),
        ON_BOTH(timer_moved_into_the_past_fires_in_the_next_round),
        ON_BOTH(timer_armed_after_it_fired_fires_again),
        ON_BOTH(waker_may_touch_the_timers_that_are_due_with_its_own),
        ON_BOTH(timeout_that_never_comes_leaves_the_answer),
        ON_BOTH(sleep_after_a_timeout_that_was_brought_forward_is_not_early),
        ON_BOTH(timer_that_fired_on_one_runtime_waits_on_another),
        ON_BOTH(task_that_waits_for_ticks_is_polled_once_for_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
