/* SPDX-License-Identifier: MIT */
/*
 * What is measured with a clock: the buckets as arithmetic, then polls that are known to take at
 * least so long, as they look at the same clock themselves. No test wants anything to be fast.
 */
#include "tests/support/runtime.h"

#include <time.h>

#include <rdy/metrics.h>
#include <rdy/timer.h>

#include "engine/poll_time.h"
#include "tests/support/stress.h"

#define SPIN_NS UINT64_C(1000000)

static void check_bucket(uint64_t ns)
{
    uint32_t bucket = rdy_poll_time_bucket(ns);

    assert_true(bucket < RDY_METRICS_BUCKETS);
    assert_true(ns <= rdy_metrics_bucket_max_ns(bucket));
    if (bucket > 0)
        assert_true(ns > rdy_metrics_bucket_max_ns(bucket - 1));
}

static void each_time_is_above_the_bucket_before_its_own(void **state)
{
    uint64_t seed = 88172645463325252u;

    (void)state;
    for (uint64_t ns = 0; ns < 5000; ns++)
        check_bucket(ns);
    for (uint32_t bit = 1; bit < 64; bit++) {
        check_bucket((UINT64_C(1) << bit) - 1);
        check_bucket(UINT64_C(1) << bit);
        check_bucket((UINT64_C(1) << bit) + 1);
    }
    check_bucket(UINT64_MAX);
    for (int i = 0; i < 100000; i++)
        check_bucket(stress_random(&seed) >> (i % 64));
}

/* The promise of the header: less than a quarter too high. */
static void end_of_a_bucket_is_less_than_a_quarter_above_what_is_in_it(void **state)
{
    (void)state;
    for (uint32_t i = 1; i < RDY_METRICS_BUCKETS - 1; i++) {
        uint64_t least = rdy_metrics_bucket_max_ns(i - 1) + 1;
        uint64_t most = rdy_metrics_bucket_max_ns(i);

        assert_true(most >= least);
        assert_true((most - least) * 4 < least);
    }
}

static void last_bucket_is_for_all_that_took_longer_than_the_range(void **state)
{
    (void)state;
    assert_int_equal(rdy_metrics_bucket_max_ns(RDY_METRICS_BUCKETS - 2), UINT64_C(1) << 36);
    assert_true(rdy_metrics_bucket_max_ns(RDY_METRICS_BUCKETS - 1) == UINT64_MAX);
    assert_int_equal(rdy_poll_time_bucket((UINT64_C(1) << 36) + 1), RDY_METRICS_BUCKETS - 1);
}

static uint64_t clock_ns(void)
{
    struct timespec now;

    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void spin(void)
{
    uint64_t since_ns = clock_ns();

    while (clock_ns() - since_ns < SPIN_NS)
        ;
}

static int poll_spins(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    spin();
    return 0;
}

static int poll_finishes(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return 0;
}

static void drop_spins(void *self)
{
    (void)self;
    spin();
}

static void open_timed(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);

    rdy_runtime_close(fixture->runtime);
    opts.is_timed = true;
    assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
}

static struct rdy_metrics run_and_read(void **state)
{
    struct rdy_metrics metrics;

    assert_int_equal(rdy_runtime_run(runtime_of(state)), 0);
    rdy_metrics_read(runtime_of(state), &metrics);
    return metrics;
}

static uint64_t polls_of(const struct rdy_metrics *metrics, uint64_t above_ns)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < RDY_METRICS_BUCKETS; i++)
        if (rdy_metrics_bucket_max_ns(i) > above_ns)
            count += metrics->poll_time_buckets[i];
    return count;
}

static void poll_that_spins_is_in_the_buckets_of_its_time(void **state)
{
    struct rdy_metrics metrics;

    open_timed(state);
    (void)spawn_test(runtime_of(state), poll_spins, NULL, NULL);
    (void)spawn_test(runtime_of(state), poll_finishes, NULL, NULL);
    metrics = run_and_read(state);

    assert_true(metrics.is_timed);
    assert_int_equal(polls_of(&metrics, 0), 2);
    assert_true(polls_of(&metrics, SPIN_NS) >= 1);
    assert_true(metrics.poll_time_ns >= SPIN_NS);
    assert_true(metrics.busy_duration_ns >= metrics.poll_time_ns);
    /* The first poll is the mean, of which a second takes a sixteenth away at most. */
    assert_true(metrics.mean_poll_time_ns >= SPIN_NS / 16 * 15);
}

static void drop_counts_with_the_poll_that_ended_the_task(void **state)
{
    struct rdy_metrics metrics;

    open_timed(state);
    (void)spawn_test(runtime_of(state), poll_finishes, drop_spins, NULL);
    metrics = run_and_read(state);

    assert_int_equal(polls_of(&metrics, 0), 1);
    assert_int_equal(polls_of(&metrics, SPIN_NS), 1);
}

/* Three wait for one, two for the next, one for the last but one: six waits of a spin each. */
static void tasks_wait_as_long_as_those_before_them_take(void **state)
{
    struct rdy_metrics metrics;

    open_timed(state);
    for (int i = 0; i < 4; i++)
        (void)spawn_test(runtime_of(state), poll_spins, NULL, NULL);
    metrics = run_and_read(state);

    assert_true(metrics.queue_wait_ns >= 6 * SPIN_NS);
    /* Those six waits are of some of the polls: no time is taken twice. */
    assert_true(metrics.queue_wait_ns <= 3 * metrics.busy_duration_ns);
}

struct sleeper {
    struct rdy_timer timer;
    bool is_begun;
};

static int poll_sleeps(struct rdy_task *task, void *self)
{
    struct sleeper *sleeper = ((struct test_task *)self)->test;

    if (!sleeper->is_begun)
        rdy_timer_start_sleep(&sleeper->timer, task, 20 * SPIN_NS);
    sleeper->is_begun = true;
    return rdy_timer_poll_sleep(&sleeper->timer, task);
}

/* The wait in the kernel is neither busy, nor a poll's, nor a wait in the queue. */
static void time_in_the_kernel_is_not_busy(void **state)
{
    struct sleeper sleeper = {0};
    struct rdy_metrics metrics;
    uint64_t took_ns;

    open_timed(state);
    (void)spawn_test(runtime_of(state), poll_sleeps, NULL, &sleeper);
    took_ns = clock_ns();
    metrics = run_and_read(state);
    took_ns = clock_ns() - took_ns;

    assert_true(metrics.park_count >= 1);
    assert_true(took_ns >= 20 * SPIN_NS);
    assert_true(metrics.busy_duration_ns < took_ns);
    assert_true(metrics.poll_time_ns <= metrics.busy_duration_ns);
    assert_true(metrics.queue_wait_ns <= metrics.busy_duration_ns);
}

static void runtime_that_is_not_timed_reads_no_clock(void **state)
{
    struct rdy_metrics metrics;

    (void)spawn_test(runtime_of(state), poll_spins, NULL, NULL);
    metrics = run_and_read(state);

    assert_false(metrics.is_timed);
    assert_int_equal(metrics.busy_duration_ns, 0);
    assert_int_equal(metrics.poll_time_ns, 0);
    assert_int_equal(metrics.mean_poll_time_ns, 0);
    assert_int_equal(metrics.queue_wait_ns, 0);
    assert_int_equal(polls_of(&metrics, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_time_is_above_the_bucket_before_its_own),
        cmocka_unit_test(end_of_a_bucket_is_less_than_a_quarter_above_what_is_in_it),
        cmocka_unit_test(last_bucket_is_for_all_that_took_longer_than_the_range),
        ON_BOTH(poll_that_spins_is_in_the_buckets_of_its_time),
        ON_BOTH(drop_counts_with_the_poll_that_ended_the_task),
        ON_BOTH(tasks_wait_as_long_as_those_before_them_take),
        ON_BOTH(time_in_the_kernel_is_not_busy),
        ON_BOTH(runtime_that_is_not_timed_reads_no_clock),
    };

    return cmocka_run_group_tests_name("metrics_times", tests, NULL, NULL);
}
