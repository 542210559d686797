/* SPDX-License-Identifier: MIT */
/*
 * The pool's threads: when they are started, what they inherit, when they end, and what happens
 * when the system gives none.
 */
#include "tests/support/jobs.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "engine/pool.h"
#include "engine/sys.h"

#define SECOND_NS UINT64_C(1000000000)

static void a_pool_without_jobs_has_no_thread(void **state)
{
    struct rdy_pool *pool = NULL;
    struct rdy_pool_stats stats;

    (void)state;
    assert_int_equal(rdy_pool_open(&pool, NULL), 0);
    stats = pool_stats(pool);
    assert_int_equal(stats.threads_started, 0);
    assert_int_equal(stats.threads_alive, 0);
    rdy_pool_close(pool);
    rdy_pool_close(NULL);
}

static void options_that_are_absurd_are_refused(void **state)
{
    static const struct rdy_pool_opts absurd[] = {
        {.size = 1},
        {.size = sizeof(absurd[0]), .threads_max = 1025},
        {.size = sizeof(absurd[0]), .queue_max = (1u << 24) + 1},
        {.size = sizeof(absurd[0]), .stack_size = 1},
        {.size = sizeof(absurd[0]), .stack_size = SIZE_MAX},
        {.size = sizeof(absurd[0]), .name = "sixteen bytes it"},
    };
    struct rdy_pool *pool = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
        assert_int_equal(rdy_pool_open(&pool, &absurd[i]), -EINVAL);
        assert_null(pool);
    }
}

/* A thread is idle by the time that its job's result can be seen, so the next job finds it. */
static void jobs_one_after_the_other_share_one_thread(void **state)
{
    struct rdy_pool *pool = pool_open(16, 0);
    struct rdy_blocking handle = {0};
    struct tally tally;
    int result = 0;

    (void)state;
    tally_init(&tally);
    for (int i = 0; i < 1000; i++) {
        job_start(&handle, pool, &tally, i);
        assert_int_equal(job_answer(&handle, &result), 0);
        assert_int_equal(result, i);
        rdy_blocking_close(&handle);
    }
    assert_int_equal(pool_stats(pool).threads_started, 1);
    assert_int_equal(tally_runs(&tally), 1000);
    assert_int_equal(tally_drops(&tally), 1000);
    rdy_pool_close(pool);
}

/* Two idle threads, two jobs at once: each gets one, neither waits for the other. */
static void jobs_that_come_together_get_the_idle_threads_each(void **state)
{
    struct rdy_pool *pool = pool_open(2, 0);
    struct rdy_blocking handles[2] = {0};
    struct tally tally;

    (void)state;
    tally_init(&tally);
    for (int round = 0; round < 500; round++) {
        for (int i = 0; i < 2; i++)
            job_start_gated(&handles[i], pool, &tally);
        jobs_have_begun(&tally, 2); /* hangs if one of them waits for the other's end */
        gate_open(&tally, 2);
        for (int i = 0; i < 2; i++) {
            int result = 1;

            assert_int_equal(job_answer(&handles[i], &result), 0);
            rdy_blocking_close(&handles[i]);
        }
    }
    assert_int_equal(pool_stats(pool).threads_started, 2);
    rdy_pool_close(pool);
}

static void jobs_that_block_get_a_thread_each_up_to_the_limit(void **state)
{
    struct rdy_pool *pool = pool_open(3, 0);
    struct rdy_blocking handles[5] = {0};
    struct rdy_pool_stats stats;
    struct tally tally;

    (void)state;
    tally_init(&tally);
    for (int i = 0; i < 5; i++)
        job_start_gated(&handles[i], pool, &tally);
    jobs_have_begun(&tally, 3);

    stats = pool_stats(pool);
    assert_int_equal(stats.threads_started, 3);
    assert_int_equal(stats.threads_alive, 3);
    assert_int_equal(stats.threads_idle, 0);
    assert_int_equal(stats.jobs_running, 3);
    assert_int_equal(stats.jobs_queued, 2);

    gate_open(&tally, 5);
    for (int i = 0; i < 5; i++)
        rdy_blocking_close(&handles[i]);
    rdy_pool_close(pool);
    assert_int_equal(tally_drops(&tally), 5);
}

/* Payloads of the test of the order. */
struct ordered {
    uint32_t *at;
    uint32_t *order;
    uint32_t number;
};

static int ordered_run(void *payload)
{
    struct ordered *ordered = payload;

    ordered->order[(*ordered->at)++] = ordered->number;
    return 0;
}

static void jobs_begin_in_the_order_of_their_starts(void **state)
{
    struct rdy_blocking_spec spec = {.run = ordered_run, .payload_size = sizeof(struct ordered)};
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handles[100] = {0};
    struct rdy_blocking first = {0};
    uint32_t order[100] = {0};
    struct tally tally;
    uint32_t at = 0;

    (void)state;
    tally_init(&tally);
    job_start_gated(&first, pool, &tally);
    for (uint32_t i = 0; i < 100; i++) {
        struct ordered ordered = {.at = &at, .order = order, .number = i};

        assert_int_equal(rdy_blocking_start(&handles[i], pool, &spec, &ordered), 0);
    }
    gate_open(&tally, 1);
    for (uint32_t i = 0; i < 100; i++) {
        int result = 1;

        assert_int_equal(job_answer(&handles[i], &result), 0);
        rdy_blocking_close(&handles[i]);
    }
    rdy_blocking_close(&first);
    rdy_pool_close(pool);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(order[i], i);
}

static void a_full_queue_refuses_and_takes_again_what_has_room(void **state)
{
    struct rdy_pool *pool = pool_open(1, 2);
    struct rdy_blocking handles[4] = {0};
    struct tally tally;
    int result = 1;

    (void)state;
    tally_init(&tally);
    job_occupy(&handles[0], pool, &tally);
    job_start(&handles[1], pool, &tally, 0);
    job_start(&handles[2], pool, &tally, 0);

    assert_int_equal(job_try(&handles[3], pool, &tally, 0, false), -ENFILE);
    assert_null(handles[3].job);
    assert_int_equal(pool_stats(pool).jobs_refused, 1);
    assert_int_equal(tally_drops(&tally), 0);

    rdy_blocking_close(&handles[1]);
    job_start(&handles[3], pool, &tally, 7);
    gate_open(&tally, 1);
    assert_int_equal(job_answer(&handles[3], &result), 0);
    assert_int_equal(result, 7);
    for (int i = 0; i < 4; i++)
        rdy_blocking_close(&handles[i]);
    rdy_pool_close(pool);
    assert_int_equal(tally_runs(&tally), 3);
    assert_int_equal(tally_drops(&tally), 4);
}

/* --- threads that end, and that cannot begin --- */

static uint64_t clock_of_test(void *arg)
{
    return rdy_a64_load_relaxed(arg);
}

/* Runs one job; then @idle threads sleep: its own lets the lock go when it does, not before. */
static void pool_warm_up(struct rdy_pool *pool, struct tally *tally, uint32_t idle)
{
    struct rdy_blocking handle = {0};
    int result = 1;

    job_start(&handle, pool, tally, 0);
    assert_int_equal(job_answer(&handle, &result), 0);
    rdy_blocking_close(&handle);
    assert_int_equal(pool_stats(pool).threads_idle, idle);
}

/*
 * The clock moves only when the test says so. A look at it a nanosecond too early must leave the
 * thread alive: the job that follows is run without a second thread.
 */
static void an_idle_thread_ends_when_its_time_is_over_and_not_before(void **state)
{
    struct rdy_pool_opts opts = {.size = sizeof(opts), .idle_timeout_ns = SECOND_NS};
    struct rdy_pool *pool = NULL;
    struct rdy_a64 now_ns = {5};
    struct tally tally;

    (void)state;
    tally_init(&tally);
    assert_int_equal(rdy_pool_open(&pool, &opts), 0);
    rdy_pool_set_clock(pool, clock_of_test, &now_ns);
    pool_warm_up(pool, &tally, 1);

    rdy_a64_store_relaxed(&now_ns, 5 + SECOND_NS - 1);
    rdy_pool_look_at_clock(pool);
    pool_warm_up(pool, &tally, 1);
    assert_int_equal(pool_stats(pool).threads_started, 1);

    rdy_a64_store_relaxed(&now_ns, 5 + 3 * SECOND_NS);
    rdy_pool_look_at_clock(pool);
    await_that(pool_stats(pool).threads_alive == 0);
    assert_int_equal(pool_stats(pool).threads_idle, 0);

    pool_warm_up(pool, &tally, 1);
    assert_int_equal(pool_stats(pool).threads_started, 2);
    rdy_pool_close(pool);
}

/*
 * Four threads after a burst, then one job after the other, each a fifth of the idle time later.
 * If those went round, each thread would have its time anew with every fourth job.
 */
static void threads_of_a_burst_end_although_a_trickle_goes_on(void **state)
{
    struct rdy_pool_opts opts = {.size = sizeof(opts), .idle_timeout_ns = SECOND_NS};
    struct rdy_blocking handles[4] = {0};
    struct rdy_pool *pool = NULL;
    struct rdy_a64 now_ns = {5};
    struct tally tally;
    int result = 1;

    (void)state;
    tally_init(&tally);
    assert_int_equal(rdy_pool_open(&pool, &opts), 0);
    rdy_pool_set_clock(pool, clock_of_test, &now_ns);
    for (int i = 0; i < 4; i++)
        job_start_gated(&handles[i], pool, &tally);
    jobs_have_begun(&tally, 4);
    gate_open(&tally, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(job_answer(&handles[i], &result), 0);
        rdy_blocking_close(&handles[i]);
    }
    for (int i = 0; i < 4; i++) {
        (void)rdy_a64_add_relaxed(&now_ns, SECOND_NS / 5);
        pool_warm_up(pool, &tally, 4);
    }
    (void)rdy_a64_add_relaxed(&now_ns, SECOND_NS / 5);
    rdy_pool_look_at_clock(pool);
    await_that(pool_stats(pool).threads_alive == 1);
    pool_warm_up(pool, &tally, 1);
    assert_int_equal(pool_stats(pool).threads_started, 4);
    rdy_pool_close(pool);
}

/* On the system's clock, with the shortest time there is: each thread ends and is joined. */
static void threads_that_end_make_way_for_new_ones(void **state)
{
    struct rdy_pool_opts opts = {.size = sizeof(opts), .threads_max = 2, .idle_timeout_ns = 1};
    struct rdy_pool *pool = NULL;
    struct tally tally;

    (void)state;
    tally_init(&tally);
    assert_int_equal(rdy_pool_open(&pool, &opts), 0);
    for (uint32_t i = 0; i < 50; i++) {
        struct rdy_blocking handle = {0};
        int result = 1;

        job_start(&handle, pool, &tally, 0);
        assert_int_equal(job_answer(&handle, &result), 0);
        rdy_blocking_close(&handle);
        await_that(pool_stats(pool).threads_alive == 0);
        assert_int_equal(pool_stats(pool).threads_started, i + 1);
    }
    rdy_pool_close(pool);
}

static void a_first_thread_that_cannot_be_made_is_an_error_with_nothing_kept(void **state)
{
    struct rdy_pool *pool = pool_open(4, 0);
    struct rdy_blocking handle = {0};
    struct rdy_pool_stats stats;
    struct tally tally;
    int result = 0;

    (void)state;
    tally_init(&tally);
    (void)rdy_sys_fail_nth(1, EAGAIN);
    assert_int_equal(job_try(&handle, pool, &tally, 0, false), -EAGAIN);
    (void)rdy_sys_fail_nth(0, 0);
    assert_null(handle.job);
    stats = pool_stats(pool);
    assert_int_equal(stats.thread_failures, 1);
    assert_int_equal(stats.threads_alive, 0);
    assert_int_equal(stats.jobs_started, 0);
    assert_int_equal(stats.jobs_queued, 0);
    assert_int_equal(tally_drops(&tally), 0);

    job_start(&handle, pool, &tally, 3);
    assert_int_equal(job_answer(&handle, &result), 0);
    assert_int_equal(result, 3);
    rdy_blocking_close(&handle);
    rdy_pool_close(pool);
}

static void a_pool_that_gets_no_more_threads_goes_on_with_those_it_has(void **state)
{
    struct rdy_pool *pool = pool_open(4, 0);
    struct rdy_blocking handles[2] = {0};
    struct rdy_pool_stats stats;
    struct tally tally;
    int result = 0;

    (void)state;
    tally_init(&tally);
    job_occupy(&handles[0], pool, &tally);
    (void)rdy_sys_fail_nth(1, EAGAIN);
    assert_int_equal(job_try(&handles[1], pool, &tally, 4, false), 0);
    (void)rdy_sys_fail_nth(0, 0);
    stats = pool_stats(pool);
    assert_int_equal(stats.thread_failures, 1);
    assert_int_equal(stats.threads_alive, 1);
    assert_int_equal(stats.jobs_queued, 1);

    gate_open(&tally, 1);
    assert_int_equal(job_answer(&handles[1], &result), 0);
    assert_int_equal(result, 4);
    rdy_blocking_close(&handles[0]);
    rdy_blocking_close(&handles[1]);
    rdy_pool_close(pool);
    assert_int_equal(tally_drops(&tally), 2);
}

/* What a job sees of the thread that it runs on. */
struct view {
    sigset_t mask;
    char name[16];
    size_t stack_size;
};

static int view_run(void *payload)
{
    struct view *view = *(struct view **)payload;
    pthread_attr_t attr;

    (void)pthread_sigmask(SIG_SETMASK, NULL, &view->mask);
    (void)prctl(PR_GET_NAME, view->name);
    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return -EIO;
    (void)pthread_attr_getstacksize(&attr, &view->stack_size);
    (void)pthread_attr_destroy(&attr);
    return 0;
}

static bool is_fault(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL ||
           number == SIGTRAP || number == SIGSYS;
}

static void threads_have_the_name_the_stack_and_no_signals_but_their_own_faults(void **state)
{
    struct rdy_blocking_spec spec = {.run = view_run, .payload_size = sizeof(struct view *)};
    struct rdy_pool_opts opts = {
        .size = sizeof(opts), .name = "fifteen-bytes-x", .stack_size = (size_t)1024 * 1024};
    struct rdy_pool *pool = NULL;
    struct rdy_blocking handle = {0};
    struct view view = {0};
    struct view *where = &view;
    sigset_t mask;
    int result = 1;

    (void)state;
    assert_int_equal(rdy_pool_open(&pool, &opts), 0);
    assert_int_equal(rdy_blocking_start(&handle, pool, &spec, &where), 0);
    assert_int_equal(job_answer(&handle, &result), 0);
    assert_int_equal(result, 0);
    assert_string_equal(view.name, "fifteen-bytes-x");
    assert_true(view.stack_size >= opts.stack_size && view.stack_size <= opts.stack_size * 2);
    for (int number = 1; number < 32; number++) {
        if (number != SIGKILL && number != SIGSTOP)
            assert_int_equal(sigismember(&view.mask, number), is_fault(number) ? 0 : 1);
    }
    /* The starter has its own signals back. */
    check(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
    assert_int_equal(sigismember(&mask, SIGTERM), 0);
    rdy_blocking_close(&handle);
    rdy_pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_without_jobs_has_no_thread),
        cmocka_unit_test(options_that_are_absurd_are_refused),
        cmocka_unit_test(jobs_one_after_the_other_share_one_thread),
        cmocka_unit_test(jobs_that_come_together_get_the_idle_threads_each),
        cmocka_unit_test(jobs_that_block_get_a_thread_each_up_to_the_limit),
        cmocka_unit_test(jobs_begin_in_the_order_of_their_starts),
        cmocka_unit_test(a_full_queue_refuses_and_takes_again_what_has_room),
        cmocka_unit_test(an_idle_thread_ends_when_its_time_is_over_and_not_before),
        cmocka_unit_test(threads_of_a_burst_end_although_a_trickle_goes_on),
        cmocka_unit_test(threads_that_end_make_way_for_new_ones),
        cmocka_unit_test(a_first_thread_that_cannot_be_made_is_an_error_with_nothing_kept),
        cmocka_unit_test(a_pool_that_gets_no_more_threads_goes_on_with_those_it_has),
        cmocka_unit_test(threads_have_the_name_the_stack_and_no_signals_but_their_own_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
