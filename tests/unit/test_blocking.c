/* SPDX-License-Identifier: MIT */
/*
 * A job's handle in each of its states, without tasks: what poll, cancel and close answer there,
 * that the drop runs once on the way, and which thread runs it; and the waker, which must have run
 * or never run when the close returns.
 */
#include "tests/support/jobs.h"

#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1024 * 1024)

static void a_closed_handle_has_nothing(void **state)
{
    struct rdy_blocking handle = {0};
    struct rdy_waker nobody = {0};
    int result = 1;

    (void)state;
    assert_int_equal(rdy_blocking_poll_waker(&handle, &nobody, &result), -EINVAL);
    assert_int_equal(rdy_blocking_cancel(&handle), -EINVAL);
    assert_null(rdy_blocking_payload(&handle));
    rdy_blocking_close(&handle);
    rdy_blocking_close(&handle);
    assert_int_equal(result, 1);
}

static void a_spec_that_cannot_run_is_refused(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking_spec idle = {.payload_size = 8};
    struct rdy_blocking_spec fat = {.run = counted_run, .payload_size = MIB + 1};
    struct rdy_blocking handle = {0};

    (void)state;
    assert_int_equal(rdy_blocking_start(&handle, pool, &idle, NULL), -EINVAL);
    assert_int_equal(rdy_blocking_start(&handle, pool, &fat, NULL), -EINVAL);
    assert_null(handle.job);
    assert_int_equal(pool_stats(pool).threads_started, 0);
    rdy_pool_close(pool);
}

/* --- payloads --- */

static int run_sums_up(void *payload)
{
    const unsigned char *bytes = payload;
    int sum = 0;

    for (size_t i = 0; i < MIB; i++)
        sum += bytes[i];
    return sum;
}

static void payload_is_a_copy_aligned_and_as_large_as_a_mebibyte(void **state)
{
    struct rdy_blocking_spec spec = {.run = run_sums_up, .payload_size = MIB};
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking copied = {0};
    struct rdy_blocking zeroed = {0};
    unsigned char *init = malloc(MIB);
    int result = 1;

    (void)state;
    assert_non_null(init);
    memset(init, 1, MIB);
    assert_int_equal(rdy_blocking_start(&copied, pool, &spec, init), 0);
    memset(init, 0xff, MIB);
    free(init);
    assert_int_equal(job_answer(&copied, &result), 0);
    assert_int_equal(result, (int)MIB);
    assert_int_equal((uintptr_t)rdy_blocking_payload(&copied) & 15, 0);

    assert_int_equal(rdy_blocking_start(&zeroed, pool, &spec, NULL), 0);
    assert_int_equal(job_answer(&zeroed, &result), 0);
    assert_int_equal(result, 0);
    rdy_blocking_close(&copied);
    rdy_blocking_close(&zeroed);
    rdy_pool_close(pool);
}

static int run_answers_the_payload(void *payload)
{
    uint64_t *number = payload;

    *number *= 2;
    return -EIO;
}

static void an_answer_can_be_asked_for_again_and_the_payload_read_until_the_close(void **state)
{
    struct rdy_blocking_spec spec = {.run = run_answers_the_payload,
                                     .payload_size = sizeof(uint64_t)};
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handle = {0};
    struct rdy_blocking moved;
    uint64_t number = 21;
    int result = 0;

    (void)state;
    assert_int_equal(rdy_blocking_start(&handle, pool, &spec, &number), 0);
    moved = handle;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(job_answer(&moved, &result), 0);
        assert_int_equal(result, -EIO);
        assert_int_equal(*(uint64_t *)rdy_blocking_payload(&moved), 42);
    }
    assert_int_equal(number, 21);
    rdy_blocking_close(&moved);
    rdy_pool_close(pool);
}

static int run_does_nothing(void *payload)
{
    (void)payload;
    return 9;
}

static void a_job_needs_neither_payload_nor_drop(void **state)
{
    struct rdy_blocking_spec spec = {.run = run_does_nothing};
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handle = {0};
    int result = 1;

    (void)state;
    assert_int_equal(rdy_blocking_start(&handle, pool, &spec, NULL), 0);
    assert_int_equal(job_answer(&handle, &result), 0);
    assert_int_equal(result, 9);
    rdy_blocking_close(&handle);
    rdy_pool_close(pool);
}

/* A job that starts another on its own pool, and leaves the handle to it to the test. */
struct parent {
    struct rdy_pool *pool;
    struct tally *tally;
    struct rdy_blocking *child;
};

static int run_starts_a_child(void *payload)
{
    struct parent *parent = payload;

    return job_try(parent->child, parent->pool, parent->tally, 8, false);
}

static void a_job_may_start_another_on_its_pool(void **state)
{
    struct rdy_blocking_spec spec = {.run = run_starts_a_child,
                                     .payload_size = sizeof(struct parent)};
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handle = {0};
    struct rdy_blocking child = {0};
    struct tally tally;
    struct parent parent = {.pool = pool, .tally = &tally, .child = &child};
    int result = 1;

    (void)state;
    tally_init(&tally);
    assert_int_equal(rdy_blocking_start(&handle, pool, &spec, &parent), 0);
    assert_int_equal(job_answer(&handle, &result), 0);
    assert_int_equal(result, 0);
    assert_int_equal(job_answer(&child, &result), 0);
    assert_int_equal(result, 8);
    rdy_blocking_close(&child);
    rdy_blocking_close(&handle);
    rdy_pool_close(pool);
    assert_int_equal(tally_drops(&tally), 1);
}

/* --- cancel and close in every state --- */

/* One thread, at the gate with a job of its own; what is started behind it is queued. */
struct busy {
    struct rdy_pool *pool;
    struct rdy_blocking blocker;
    struct tally blockers;
    struct tally tally;
};

static void busy_open(struct busy *busy)
{
    *busy = (struct busy){.pool = pool_open(1, 0)};
    tally_init(&busy->blockers);
    tally_init(&busy->tally);
    job_occupy(&busy->blocker, busy->pool, &busy->blockers);
}

static void busy_close(struct busy *busy)
{
    gate_open(&busy->blockers, 1);
    rdy_blocking_close(&busy->blocker);
    rdy_pool_close(busy->pool);
    assert_int_equal(tally_drops(&busy->blockers), 1);
}

static void a_queued_job_is_cancelled_and_dropped_at_once_and_never_runs(void **state)
{
    struct busy busy;
    struct rdy_blocking handle = {0};
    struct rdy_waker waker;
    int result = 1;

    (void)state;
    busy_open(&busy);
    waker = tally_waker(&busy.tally);
    job_start(&handle, busy.pool, &busy.tally, 0);
    assert_int_equal(rdy_blocking_poll_waker(&handle, &waker, &result), RDY_PENDING);
    assert_int_equal(rdy_blocking_cancel(&handle), 0);
    assert_int_equal(tally_drops(&busy.tally), 1);
    assert_int_equal(pool_stats(busy.pool).jobs_queued, 0);
    assert_int_equal(pool_stats(busy.pool).jobs_cancelled, 1);

    assert_int_equal(rdy_blocking_cancel(&handle), 0);
    assert_int_equal(rdy_blocking_poll_waker(&handle, &waker, &result), -ECANCELED);
    assert_null(rdy_blocking_payload(&handle));
    rdy_blocking_close(&handle);
    busy_close(&busy);
    assert_int_equal(tally_runs(&busy.tally), 0);
    assert_int_equal(tally_drops(&busy.tally), 1);
    assert_int_equal(tally_wakes(&busy.tally), 0);
}

static void a_queued_job_that_is_closed_is_dropped_at_once_and_never_runs(void **state)
{
    struct busy busy;
    struct rdy_blocking handles[3] = {0};
    int result = 1;

    (void)state;
    busy_open(&busy);
    for (int i = 0; i < 3; i++)
        job_start(&handles[i], busy.pool, &busy.tally, i);
    rdy_blocking_close(&handles[1]); /* out of the middle */
    assert_null(handles[1].job);
    assert_int_equal(tally_drops(&busy.tally), 1);

    gate_open(&busy.blockers, 1);
    assert_int_equal(job_answer(&handles[2], &result), 0);
    assert_int_equal(result, 2);
    assert_int_equal(tally_runs(&busy.tally), 2);
    rdy_blocking_close(&handles[0]);
    rdy_blocking_close(&handles[2]);
    busy_close(&busy);
    assert_int_equal(tally_drops(&busy.tally), 3);
}

static void a_running_job_cannot_be_cancelled_and_gives_its_result(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handle = {0};
    struct tally tally;
    int result = 1;

    (void)state;
    tally_init(&tally);
    job_occupy(&handle, pool, &tally);
    assert_int_equal(rdy_blocking_cancel(&handle), -EBUSY);
    assert_null(rdy_blocking_payload(&handle));
    gate_open(&tally, 1);
    assert_int_equal(job_answer(&handle, &result), 0);
    assert_int_equal(result, 0);
    assert_int_equal(rdy_blocking_cancel(&handle), -EALREADY);
    assert_int_equal(tally_drops(&tally), 0);
    rdy_blocking_close(&handle);
    assert_int_equal(tally_drops(&tally), 1);
    rdy_pool_close(pool);
}

/* Where the drop of a detached job ran. */
struct trace {
    struct tally *tally;
    pthread_t *dropped_by;
};

static int trace_run(void *payload)
{
    struct tally *tally = ((struct trace *)payload)->tally;

    (void)sem_post(&tally->begun);
    sem_take(&tally->gate);
    return 0;
}

static void trace_drop(void *payload)
{
    struct trace *trace = payload;

    *trace->dropped_by = pthread_self();
    (void)rdy_a32_add_seq_cst(&trace->tally->drops, 1);
}

static void a_running_job_that_is_closed_is_dropped_by_its_thread_when_it_ends(void **state)
{
    struct rdy_blocking_spec spec = {
        .run = trace_run, .drop = trace_drop, .payload_size = sizeof(struct trace)};
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handle = {0};
    pthread_t dropped_by = pthread_self();
    struct tally tally;
    struct trace trace = {.tally = &tally, .dropped_by = &dropped_by};
    struct rdy_waker waker = tally_waker(&tally);
    int result = 1;

    (void)state;
    tally_init(&tally);
    assert_int_equal(rdy_blocking_start(&handle, pool, &spec, &trace), 0);
    jobs_have_begun(&tally, 1);
    assert_int_equal(rdy_blocking_poll_waker(&handle, &waker, &result), RDY_PENDING);
    rdy_blocking_close(&handle);
    assert_null(handle.job);
    assert_int_equal(tally_drops(&tally), 0);
    assert_int_equal(pool_stats(pool).jobs_detached, 1);
    gate_open(&tally, 1);
    rdy_pool_close(pool);
    assert_int_equal(tally_drops(&tally), 1);
    assert_int_equal(tally_wakes(&tally), 0);
    assert_false(pthread_equal(dropped_by, pthread_self()));
}

/* --- wakers --- */

static void the_waker_of_the_last_poll_runs_once(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking handle = {0};
    struct tally former;
    struct tally tally;
    struct rdy_waker wakers[2];
    int result = 1;

    (void)state;
    tally_init(&former);
    tally_init(&tally);
    wakers[0] = tally_waker(&former);
    wakers[1] = tally_waker(&tally);
    job_start_gated(&handle, pool, &tally);
    assert_int_equal(rdy_blocking_poll_waker(&handle, &wakers[0], &result), RDY_PENDING);
    assert_int_equal(rdy_blocking_poll_waker(&handle, &wakers[1], &result), RDY_PENDING);
    gate_open(&tally, 1);
    await_that(tally_wakes(&tally) == 1);
    assert_int_equal(rdy_blocking_poll_waker(&handle, &wakers[1], &result), 0);
    rdy_blocking_close(&handle);
    rdy_pool_close(pool);
    assert_int_equal(tally_wakes(&tally), 1);
    assert_int_equal(tally_wakes(&former), 0);
}

/* A waker that takes its time, and says when it has begun and when it is done. */
struct slow {
    struct rdy_a32 has_begun;
    struct rdy_a32 is_done;
};

static void slow_wake(void *arg, uint64_t data)
{
    struct slow *slow = arg;

    (void)data;
    rdy_a32_store_release(&slow->has_begun, 1);
    for (int i = 0; i < 2000; i++)
        (void)sched_yield();
    rdy_a32_store_release(&slow->is_done, 1);
}

static void a_close_returns_only_when_the_waker_has_returned(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);

    (void)state;
    for (int round = 0; round < 20; round++) {
        struct rdy_blocking handle = {0};
        struct slow slow = {0};
        struct rdy_waker waker = {.fn = slow_wake, .arg = &slow};
        struct tally tally;
        int result = 1;

        tally_init(&tally);
        job_start_gated(&handle, pool, &tally);
        assert_int_equal(rdy_blocking_poll_waker(&handle, &waker, &result), RDY_PENDING);
        gate_open(&tally, 1);
        await_that(rdy_a32_load_acquire(&slow.has_begun) == 1);
        assert_int_equal(rdy_blocking_poll_waker(&handle, &waker, &result), 0);
        rdy_blocking_close(&handle);
        assert_int_equal(rdy_a32_load_acquire(&slow.is_done), 1);
        assert_int_equal(tally_drops(&tally), 1);
    }
    rdy_pool_close(pool);
}

/* A waker that reads the answer and closes the handle, where it runs. */
struct closer {
    struct rdy_blocking handle;
    struct tally tally;
    int rc;
    int result;
    struct rdy_a32 has_closed;
};

static void wake_closes(void *arg, uint64_t data)
{
    struct closer *closer = arg;
    struct rdy_waker nobody = {0};

    (void)data;
    closer->rc = rdy_blocking_poll_waker(&closer->handle, &nobody, &closer->result);
    rdy_blocking_close(&closer->handle);
    rdy_a32_store_release(&closer->has_closed, 1);
}

static void a_waker_may_close_its_handle(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct closer closer = {.rc = 1};
    struct rdy_waker waker = {.fn = wake_closes, .arg = &closer};

    (void)state;
    tally_init(&closer.tally);
    job_start_gated(&closer.handle, pool, &closer.tally);
    assert_int_equal(rdy_blocking_poll_waker(&closer.handle, &waker, &closer.result), RDY_PENDING);
    gate_open(&closer.tally, 1);
    await_that(rdy_a32_load_acquire(&closer.has_closed) == 1);
    rdy_pool_close(pool);
    assert_int_equal(closer.rc, 0);
    assert_int_equal(closer.result, 0);
    assert_int_equal(tally_drops(&closer.tally), 1);
}

/* The same on the thread that shuts the pool down: the job was queued. */
static void a_waker_may_close_its_handle_in_a_shutdown(void **state)
{
    struct busy busy;
    struct closer closer = {.rc = 1};
    struct rdy_waker waker = {.fn = wake_closes, .arg = &closer};

    (void)state;
    busy_open(&busy);
    tally_init(&closer.tally);
    job_start(&closer.handle, busy.pool, &closer.tally, 0);
    assert_int_equal(rdy_blocking_poll_waker(&closer.handle, &waker, &closer.result), RDY_PENDING);
    assert_int_equal(rdy_pool_shutdown(busy.pool, 0), -ETIMEDOUT);
    assert_int_equal(rdy_a32_load_acquire(&closer.has_closed), 1);
    assert_int_equal(closer.rc, -ECANCELED);
    busy_close(&busy);
    assert_int_equal(tally_runs(&closer.tally), 0);
    assert_int_equal(tally_drops(&closer.tally), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_closed_handle_has_nothing),
        cmocka_unit_test(a_spec_that_cannot_run_is_refused),
        cmocka_unit_test(payload_is_a_copy_aligned_and_as_large_as_a_mebibyte),
        cmocka_unit_test(an_answer_can_be_asked_for_again_and_the_payload_read_until_the_close),
        cmocka_unit_test(a_job_needs_neither_payload_nor_drop),
        cmocka_unit_test(a_job_may_start_another_on_its_pool),
        cmocka_unit_test(a_queued_job_is_cancelled_and_dropped_at_once_and_never_runs),
        cmocka_unit_test(a_queued_job_that_is_closed_is_dropped_at_once_and_never_runs),
        cmocka_unit_test(a_running_job_cannot_be_cancelled_and_gives_its_result),
        cmocka_unit_test(a_running_job_that_is_closed_is_dropped_by_its_thread_when_it_ends),
        cmocka_unit_test(the_waker_of_the_last_poll_runs_once),
        cmocka_unit_test(a_close_returns_only_when_the_waker_has_returned),
        cmocka_unit_test(a_waker_may_close_its_handle),
        cmocka_unit_test(a_waker_may_close_its_handle_in_a_shutdown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
