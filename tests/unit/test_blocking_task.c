/* SPDX-License-Identifier: MIT */
/*
 * Tasks that wait for blocking work: the await, the budget, deadlines, and the end of a task or of
 * its runtime while the job is queued, running or done.
 */
#include "tests/support/jobs.h"
#include "tests/support/runtime.h"

#include <rdy/timer.h>

#define SECOND_NS UINT64_C(1000000000)

/* A task that waits for one job. */
struct waiting {
    struct rdy_pool *pool;
    struct tally tally;
    struct rdy_blocking job;
    struct rdy_timer timer;
    struct rdy_waker waker;
    uint64_t deadline_ns;
    bool is_gated;
    int rc;
    int result;
    int polls;
    int drops;
};

static void *test_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static void waiting_init(struct waiting *waiting, struct rdy_pool *pool, bool is_gated)
{
    *waiting = (struct waiting){.pool = pool, .is_gated = is_gated, .rc = 1, .result = 1};
    tally_init(&waiting->tally);
}

static void waiting_drop(void *self)
{
    struct waiting *waiting = test_of(self);

    waiting->drops++;
    (void)rdy_timer_cancel(&waiting->timer);
    rdy_blocking_close(&waiting->job);
}

static int poll_waits_for_a_job(struct rdy_task *task, void *self)
{
    struct test_task *s = self;
    struct waiting *waiting = s->test;

    waiting->polls++;
    RDY_BEGIN(&s->co);
    waiting->waker = rdy_task_waker(task);
    assert_int_equal(job_try(&waiting->job, waiting->pool, &waiting->tally, 5, waiting->is_gated),
                     0);
    RDY_AWAIT(&s->co, waiting->rc = rdy_blocking_poll(&waiting->job, task, &waiting->result));
    RDY_END(&s->co);
    return 0;
}

static void a_task_sleeps_until_its_job_has_run(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct waiting waiting;

    waiting_init(&waiting, pool, false);
    (void)spawn_test(runtime_of(state), poll_waits_for_a_job, waiting_drop, &waiting);
    assert_int_equal(rdy_runtime_run(runtime_of(state)), 0);
    assert_int_equal(waiting.rc, 0);
    assert_int_equal(waiting.result, 5);
    assert_true(waiting.polls <= 2);
    assert_int_equal(waiting.drops, 1);
    assert_int_equal(tally_drops(&waiting.tally), 1);
    rdy_pool_close(pool);
}

/* Many at once, several to a thread: all come back, each with its own result. */
struct fan {
    struct rdy_pool *pool;
    struct tally tally;
    struct rdy_blocking jobs[200];
    int at;
    int sum;
};

static void fan_run(struct fan *fan, struct rdy_runtime *runtime, rdy_poll_fn *poll)
{
    tally_init(&fan->tally);
    (void)spawn_test(runtime, poll, NULL, fan);
    assert_int_equal(rdy_runtime_run(runtime), 0);
}

static int poll_fans_out(struct rdy_task *task, void *self)
{
    struct test_task *s = self;
    struct fan *fan = s->test;
    int result = 0;
    int rc = 0;

    RDY_BEGIN(&s->co);
    for (fan->at = 0; fan->at < 200; fan->at++)
        job_start(&fan->jobs[fan->at], fan->pool, &fan->tally, fan->at);
    for (fan->at = 0; fan->at < 200; fan->at++) {
        RDY_AWAIT(&s->co, rc = rdy_blocking_poll(&fan->jobs[fan->at], task, &result));
        assert_int_equal(rc, 0);
        fan->sum += result;
        rdy_blocking_close(&fan->jobs[fan->at]);
    }
    RDY_END(&s->co);
    return 0;
}

static void a_task_may_wait_for_many_jobs_and_pays_for_each_answer(void **state)
{
    struct rdy_pool *pool = pool_open(4, 0);
    struct fan fan = {.pool = pool};

    fan_run(&fan, runtime_of(state), poll_fans_out);
    assert_int_equal(fan.sum, 199 * 200 / 2);
    assert_int_equal(tally_drops(&fan.tally), 200);
    rdy_pool_close(pool);
}

/* An answer that is there is asked for 300 times: more than one poll may pay for. */
static int poll_asks_often(struct rdy_task *task, void *self)
{
    struct test_task *s = self;
    struct fan *fan = s->test;
    int result = 0;

    RDY_BEGIN(&s->co);
    job_start(&fan->jobs[0], fan->pool, &fan->tally, 3);
    for (fan->at = 0; fan->at < 300; fan->at++) {
        RDY_AWAIT(&s->co, rdy_blocking_poll(&fan->jobs[0], task, &result));
        fan->sum += result;
    }
    rdy_blocking_close(&fan->jobs[0]);
    RDY_END(&s->co);
    return 0;
}

static void answers_come_out_of_the_budget_of_the_poll(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct fan fan = {.pool = pool};

    fan_run(&fan, runtime_of(state), poll_asks_often);
    assert_int_equal(fan.sum, 900);
    assert_int_equal(runtime_stats(runtime_of(state)).budget_yields, 2);
    rdy_pool_close(pool);
}

static void an_abort_while_the_job_is_queued_drops_it_unrun(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking blocker = {0};
    struct waiting waiting;
    struct tally blockers;
    struct rdy_task_id id;

    tally_init(&blockers);
    job_occupy(&blocker, pool, &blockers);
    waiting_init(&waiting, pool, false);
    id = spawn_test(runtime, poll_waits_for_a_job, waiting_drop, &waiting);
    take_turns(runtime, 1);
    assert_int_equal(rdy_task_abort(runtime, id), 0);
    assert_int_equal(tally_drops(&waiting.tally), 1);
    gate_open(&blockers, 1);
    rdy_blocking_close(&blocker);
    rdy_pool_close(pool);
    assert_int_equal(tally_runs(&waiting.tally), 0);
    assert_int_equal(tally_drops(&waiting.tally), 1);
}

static void an_abort_while_the_job_runs_leaves_it_to_its_thread(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct waiting waiting;
    struct rdy_task_id id;

    waiting_init(&waiting, pool, true);
    id = spawn_test(runtime, poll_waits_for_a_job, waiting_drop, &waiting);
    take_turns(runtime, 1);
    jobs_have_begun(&waiting.tally, 1);
    assert_int_equal(rdy_task_abort(runtime, id), 0);
    assert_int_equal(tally_drops(&waiting.tally), 0);
    gate_open(&waiting.tally, 1);
    rdy_pool_close(pool);
    assert_int_equal(tally_runs(&waiting.tally), 1);
    assert_int_equal(tally_drops(&waiting.tally), 1);
    assert_int_equal(runtime_stats(runtime).remote_wakes, 0);
}

static void an_abort_after_the_job_has_run_drops_it(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct waiting waiting;
    struct rdy_task_id id;

    waiting_init(&waiting, pool, true);
    id = spawn_test(runtime, poll_waits_for_a_job, waiting_drop, &waiting);
    take_turns(runtime, 1);
    gate_open(&waiting.tally, 1);
    await_that(pool_stats(pool).jobs_run == 1);
    assert_int_equal(rdy_task_abort(runtime, id), 0);
    assert_int_equal(tally_drops(&waiting.tally), 1);
    assert_int_equal(waiting.rc, RDY_PENDING);
    rdy_pool_close(pool);
    assert_int_equal(tally_drops(&waiting.tally), 1);
}

/* The job goes on after its runtime is gone, and wakes nobody. */
static void a_job_may_outlive_the_runtime_of_its_task(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_pool *pool = pool_open(1, 0);
    struct waiting waiting;

    waiting_init(&waiting, pool, true);
    (void)spawn_test(fixture->runtime, poll_waits_for_a_job, waiting_drop, &waiting);
    take_turns(fixture->runtime, 1);
    jobs_have_begun(&waiting.tally, 1);
    rdy_runtime_close(fixture->runtime);
    fixture->runtime = NULL;
    assert_int_equal(waiting.drops, 1);
    assert_int_equal(tally_drops(&waiting.tally), 0);
    gate_open(&waiting.tally, 1);
    rdy_pool_close(pool);
    assert_int_equal(tally_drops(&waiting.tally), 1);
}

static void *thread_shuts_down(void *arg)
{
    return (void *)(intptr_t)rdy_pool_shutdown(arg, 0);
}

static void a_shutdown_on_another_thread_wakes_the_task_with_a_cancel(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_blocking blocker = {0};
    struct waiting waiting;
    struct tally blockers;
    pthread_t thread;
    void *answer = NULL;

    tally_init(&blockers);
    job_occupy(&blocker, pool, &blockers);
    waiting_init(&waiting, pool, false);
    (void)spawn_test(runtime, poll_waits_for_a_job, waiting_drop, &waiting);
    take_turns(runtime, 1);
    check(pthread_create(&thread, NULL, thread_shuts_down, pool) == 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    check(pthread_join(thread, &answer) == 0);
    assert_int_equal((intptr_t)answer, -ETIMEDOUT);
    assert_int_equal(waiting.rc, -ECANCELED);
    assert_int_equal(tally_drops(&waiting.tally), 1);
    gate_open(&blockers, 1);
    rdy_blocking_close(&blocker);
    rdy_pool_close(pool);
}

static int poll_waits_with_a_deadline(struct rdy_task *task, void *self)
{
    struct test_task *s = self;
    struct waiting *waiting = s->test;

    RDY_BEGIN(&s->co);
    job_start_gated(&waiting->job, waiting->pool, &waiting->tally);
    waiting->deadline_ns = rdy_runtime_now_ns(rdy_task_runtime(task)) + SECOND_NS;
    RDY_AWAIT(&s->co,
              waiting->rc = RDY_TIMEOUT(&waiting->timer, task, waiting->deadline_ns,
                                        rdy_blocking_poll(&waiting->job, task, &waiting->result)));
    assert_int_equal(waiting->rc, -ETIMEDOUT);
    /* Given up for now, not for good: the job is still ours. */
    gate_open(&waiting->tally, 1);
    RDY_AWAIT(&s->co, waiting->rc = rdy_blocking_poll(&waiting->job, task, &waiting->result));
    RDY_END(&s->co);
    return 0;
}

static void a_deadline_gives_the_wait_up_and_the_result_stays(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct waiting waiting;

    waiting_init(&waiting, pool, true);
    rdy_runtime_pause_clock(runtime);
    (void)spawn_test(runtime, poll_waits_with_a_deadline, waiting_drop, &waiting);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(waiting.rc, 0);
    assert_int_equal(waiting.result, 0);
    rdy_pool_close(pool);
    assert_int_equal(tally_drops(&waiting.tally), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(a_task_sleeps_until_its_job_has_run),
        ON_BOTH(a_task_may_wait_for_many_jobs_and_pays_for_each_answer),
        ON_BOTH(answers_come_out_of_the_budget_of_the_poll),
        ON_BOTH(an_abort_while_the_job_is_queued_drops_it_unrun),
        ON_BOTH(an_abort_while_the_job_runs_leaves_it_to_its_thread),
        ON_BOTH(an_abort_after_the_job_has_run_drops_it),
        ON_BOTH(a_job_may_outlive_the_runtime_of_its_task),
        ON_BOTH(a_shutdown_on_another_thread_wakes_the_task_with_a_cancel),
        ON_BOTH(a_deadline_gives_the_wait_up_and_the_result_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
