/* SPDX-License-Identifier: MIT */
/*
 * The pool's own end: in time, out of time, with jobs in every state, and in a forked child.
 */
#include "tests/support/jobs.h"

#include <sys/wait.h>

#include "engine/pool.h"

#define CHILD_LIFE_S 60

static void a_start_after_the_shutdown_is_refused_with_nothing_kept(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handle = {0};
    struct tally tally;

    (void)state;
    tally_init(&tally);
    assert_int_equal(rdy_pool_shutdown(pool, UINT64_MAX), 0);
    assert_int_equal(job_try(&handle, pool, &tally, 0, false), -ESHUTDOWN);
    assert_null(handle.job);
    assert_int_equal(rdy_pool_shutdown(pool, 0), 0);
    assert_int_equal(pool_stats(pool).threads_started, 0);
    rdy_pool_close(pool);
    assert_int_equal(tally_drops(&tally), 0);
}

static void a_shutdown_drops_what_waits_and_times_out_on_what_runs(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handles[3] = {0};
    struct tally tally;
    struct rdy_waker waker = tally_waker(&tally);
    int result = 1;

    (void)state;
    tally_init(&tally);
    job_occupy(&handles[0], pool, &tally);
    job_start(&handles[1], pool, &tally, 0);
    job_start(&handles[2], pool, &tally, 0);
    assert_int_equal(rdy_blocking_poll_waker(&handles[1], &waker, &result), RDY_PENDING);

    assert_int_equal(rdy_pool_shutdown(pool, 0), -ETIMEDOUT);
    assert_int_equal(tally_drops(&tally), 2);
    assert_int_equal(tally_wakes(&tally), 1);
    assert_int_equal(rdy_blocking_poll_waker(&handles[1], &waker, &result), -ECANCELED);
    assert_int_equal(rdy_blocking_poll_waker(&handles[2], &waker, &result), -ECANCELED);
    assert_null(rdy_blocking_payload(&handles[1]));
    assert_int_equal(rdy_blocking_poll_waker(&handles[0], &waker, &result), RDY_PENDING);
    assert_int_equal(rdy_pool_shutdown(pool, 1), -ETIMEDOUT);
    assert_int_equal(pool_stats(pool).jobs_cancelled, 2);

    gate_open(&tally, 1);
    assert_int_equal(rdy_pool_shutdown(pool, UINT64_MAX), 0);
    assert_int_equal(pool_stats(pool).threads_alive, 0);
    assert_int_equal(pool_stats(pool).threads_idle, 0);
    assert_int_equal(rdy_blocking_poll_waker(&handles[0], &waker, &result), 0);
    assert_int_equal(result, 0);
    for (int i = 0; i < 3; i++)
        rdy_blocking_close(&handles[i]);
    rdy_pool_close(pool);
    assert_int_equal(tally_runs(&tally), 1);
    assert_int_equal(tally_drops(&tally), 3);
    assert_int_equal(tally_wakes(&tally), 2);
}

static void *thread_opens_the_gate(void *arg)
{
    struct tally *tally = arg;

    for (int i = 0; i < 1000; i++)
        (void)sched_yield();
    gate_open(tally, 1);
    return NULL;
}

static void a_close_waits_for_what_runs_and_handles_outlive_it(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handles[2] = {0};
    struct tally tally;
    pthread_t thread;
    int result = 1;

    (void)state;
    tally_init(&tally);
    job_occupy(&handles[0], pool, &tally);
    job_start(&handles[1], pool, &tally, 0);
    check(pthread_create(&thread, NULL, thread_opens_the_gate, &tally) == 0);
    rdy_pool_close(pool);
    assert_int_equal(tally_runs(&tally), 1);

    assert_int_equal(job_answer(&handles[0], &result), 0);
    assert_non_null(rdy_blocking_payload(&handles[0]));
    assert_int_equal(job_answer(&handles[1], &result), -ECANCELED);
    assert_int_equal(rdy_blocking_cancel(&handles[0]), -EALREADY);
    assert_int_equal(rdy_blocking_cancel(&handles[1]), 0);
    rdy_blocking_close(&handles[0]);
    rdy_blocking_close(&handles[1]);
    check(pthread_join(thread, NULL) == 0);
    assert_int_equal(tally_drops(&tally), 2);
}

static int run_shuts_its_pool_down(void *payload)
{
    return rdy_pool_shutdown(*(struct rdy_pool **)payload, UINT64_MAX);
}

static void a_job_that_would_wait_for_itself_is_told_so(void **state)
{
    struct rdy_blocking_spec spec = {.run = run_shuts_its_pool_down,
                                     .payload_size = sizeof(struct rdy_pool *)};
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handle = {0};
    int result = 0;

    (void)state;
    assert_int_equal(rdy_blocking_start(&handle, pool, &spec, &pool), 0);
    assert_int_equal(job_answer(&handle, &result), 0);
    assert_int_equal(result, -EDEADLK);
    rdy_blocking_close(&handle);
    rdy_pool_close(pool);
}

/* --- fork --- */

static void child_uses(struct rdy_pool *pool, struct rdy_blocking *handle, struct tally *tally)
{
    struct rdy_blocking other = {0};
    struct rdy_pool_stats stats;
    struct rdy_waker nobody = {0};
    int result = 0;

    child_check(job_try(&other, pool, tally, 0, false) == -EOWNERDEAD);
    child_check(rdy_blocking_poll_waker(handle, &nobody, &result) == -EOWNERDEAD);
    child_check(rdy_blocking_cancel(handle) == -EOWNERDEAD);
    child_check(rdy_blocking_payload(handle) == NULL);
    child_check(rdy_pool_shutdown(pool, UINT64_MAX) == -EOWNERDEAD);
    rdy_pool_read_stats(pool, &stats);
    child_check(stats.jobs_started == 0);
    rdy_blocking_close(handle);
    child_check(handle->job == NULL);
    rdy_pool_close(pool);
    child_check(tally_drops(tally) == 0);
}

/* Forked while the pool's lock is held, as by a thread that the child does not have. */
static void a_pool_is_dead_in_a_forked_child_and_says_so(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handle = {0};
    struct tally tally;
    int status = -1;
    int result = 1;
    pid_t pid;

    (void)state;
    tally_init(&tally);
    job_occupy(&handle, pool, &tally);
    (void)fflush(NULL);
    rdy_pool_lock(pool);
    pid = fork();
    if (pid == 0) {
        (void)alarm(CHILD_LIFE_S);
        child_uses(pool, &handle, &tally);
        _exit(0);
    }
    rdy_pool_unlock(pool);
    check(pid > 0);
    check(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);

    gate_open(&tally, 1);
    assert_int_equal(job_answer(&handle, &result), 0);
    rdy_blocking_close(&handle);
    rdy_pool_close(pool);
    assert_int_equal(tally_drops(&tally), 1);
}

static void child_opens_a_pool(struct tally *tally)
{
    struct rdy_blocking handle = {0};
    struct rdy_pool *pool = NULL;

    child_check(rdy_pool_open(&pool, NULL) == 0);
    child_check(job_try(&handle, pool, tally, 5, false) == 0);
    child_check(rdy_pool_shutdown(pool, UINT64_MAX) == 0);
    rdy_blocking_close(&handle);
    rdy_pool_close(pool);
    child_check(tally_drops(tally) == 1);
}

static void a_forked_child_can_have_a_pool_of_its_own(void **state)
{
    struct tally tally;
    int status = -1;
    pid_t pid;

    (void)state;
    tally_init(&tally);
    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        (void)alarm(CHILD_LIFE_S);
        child_opens_a_pool(&tally);
        _exit(0);
    }
    check(pid > 0);
    check(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_after_the_shutdown_is_refused_with_nothing_kept),
        cmocka_unit_test(a_shutdown_drops_what_waits_and_times_out_on_what_runs),
        cmocka_unit_test(a_close_waits_for_what_runs_and_handles_outlive_it),
        cmocka_unit_test(a_job_that_would_wait_for_itself_is_told_so),
        cmocka_unit_test(a_pool_is_dead_in_a_forked_child_and_says_so),
        cmocka_unit_test(a_forked_child_can_have_a_pool_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
