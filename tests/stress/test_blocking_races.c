/* SPDX-License-Identifier: MIT */
/*
 * Jobs started, awaited, cancelled, closed and aborted on several threads while their pool is shut
 * down and their runtimes are closed: every job that was taken in is dropped exactly once and run
 * at most once, and no waker runs after the close of its handle.
 */
#include "tests/support/jobs.h"
#include "tests/support/runtime.h"
#include "tests/support/stress.h"

#define LOOPS_COUNT  3
#define EPOCHS_COUNT STRESS_ROUNDS(200, 20)
#define TASKS_EACH   16
#define JOBS_EACH    STRESS_ROUNDS(60u, 20u) /* of a task */
#define CLOSES_COUNT STRESS_ROUNDS(50000, 5000)

/* --- all sides at once --- */

struct epoch {
    struct rdy_pool *pool;
    struct tally tally;
    struct rdy_a32 accepted;
    struct rdy_a32 answers;
};

/* A thread with a runtime. */
struct loop {
    struct epoch *epoch;
    enum rdy_backend_kind backend;
    uint64_t seed;
    struct rdy_task_id tasks[TASKS_EACH];
    pthread_t thread;
};

/* The own struct of a task. */
struct client {
    struct rdy_co co;
    struct loop *loop;
    struct rdy_blocking job;
    uint32_t jobs;
    int result;
    int rc;
};

static void client_drop(void *self)
{
    rdy_blocking_close(&((struct client *)self)->job);
}

/* Takes the job in and counts it; false once the pool is shut. */
static bool client_starts(struct client *client)
{
    struct epoch *epoch = client->loop->epoch;
    int rc = job_try(&client->job, epoch->pool, &epoch->tally, (int)client->jobs, false);

    if (rc == 0)
        (void)rdy_a32_add_seq_cst(&epoch->accepted, 1);
    else
        check(rc == -ESHUTDOWN);
    return rc == 0;
}

/* What else a client may do instead of waiting: true if it does not wait for this job. */
static bool client_gives_up(struct client *client, struct rdy_task *task)
{
    struct loop *loop = client->loop;
    uint64_t dice = stress_random(&loop->seed) % 16;
    int rc;

    if (dice < 2) {
        rc = rdy_blocking_cancel(&client->job);
        check(rc == 0 || rc == -EBUSY || rc == -EALREADY);
        return dice == 0;
    }
    if (dice == 2 || dice == 3) {
        rc = rdy_blocking_poll(&client->job, task, &client->result);
        check(rc == 0 || rc == RDY_PENDING || rc == -ECANCELED);
        return true;
    }
    if (dice == 4) /* of another one, or of itself */
        (void)rdy_task_abort(rdy_task_runtime(task),
                             loop->tasks[stress_random(&loop->seed) % TASKS_EACH]);
    return false;
}

static int poll_client(struct rdy_task *task, void *self)
{
    struct client *client = self;

    RDY_BEGIN(&client->co);
    for (client->jobs = 0; client->jobs < JOBS_EACH; client->jobs++) {
        if (!client_starts(client))
            return 0;
        if (!client_gives_up(client, task)) {
            RDY_AWAIT(&client->co,
                      client->rc = rdy_blocking_poll(&client->job, task, &client->result));
            check(client->rc == -ECANCELED || client->result == (int)client->jobs);
            (void)rdy_a32_add_seq_cst(&client->loop->epoch->answers, 1);
        }
        rdy_blocking_close(&client->job);
    }
    RDY_END(&client->co);
    return 0;
}

static int poll_stops_after_a_while(struct rdy_task *task, void *self)
{
    struct client *client = self;

    if (client->jobs++ < stress_random(&client->loop->seed) % 200) {
        rdy_task_defer(task);
        return RDY_PENDING;
    }
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

/*
 * liburing maps and unmaps a ring behind the back of ThreadSanitizer, to which memory that one
 * thread gave back and another got looks like memory of both. So they take turns.
 */
static pthread_mutex_t rings = PTHREAD_MUTEX_INITIALIZER;

static struct rdy_runtime *loop_open(const struct loop *loop)
{
    struct rdy_runtime *runtime;

    check(pthread_mutex_lock(&rings) == 0);
    runtime = runtime_open(loop->backend);
    check(pthread_mutex_unlock(&rings) == 0);
    return runtime;
}

/* With jobs that are queued, running, or just waking. */
static void loop_close(struct rdy_runtime *runtime)
{
    check(pthread_mutex_lock(&rings) == 0);
    rdy_runtime_close(runtime);
    check(pthread_mutex_unlock(&rings) == 0);
}

static void *loop_main(void *arg)
{
    static const struct rdy_task_spec specs[] = {
        {.poll = poll_client, .drop = client_drop, .self_size = sizeof(struct client)},
        {.poll = poll_stops_after_a_while, .self_size = sizeof(struct client)},
    };
    struct loop *loop = arg;
    struct rdy_runtime *runtime = loop_open(loop);
    bool is_cut_short = stress_random(&loop->seed) % 4 == 0;
    void *self = NULL;

    for (int i = 0; i < TASKS_EACH; i++) {
        check(rdy_spawn(runtime, &specs[0], &self, &loop->tasks[i]) == 0);
        ((struct client *)self)->loop = loop;
    }
    if (is_cut_short) {
        check(rdy_spawn(runtime, &specs[1], &self, NULL) == 0);
        ((struct client *)self)->loop = loop;
    }
    check(rdy_runtime_run(runtime) == 0);
    loop_close(runtime);
    return NULL;
}

static void epoch_check(struct epoch *epoch)
{
    struct rdy_pool_stats stats = pool_stats(epoch->pool);
    uint32_t accepted = rdy_a32_load_acquire(&epoch->accepted);

    assert_int_equal(stats.jobs_started, accepted);
    assert_int_equal(stats.jobs_run + stats.jobs_cancelled, accepted);
    assert_int_equal(stats.jobs_run, tally_runs(&epoch->tally));
    assert_int_equal(tally_drops(&epoch->tally), accepted);
    assert_int_equal(stats.jobs_queued, 0);
    assert_int_equal(stats.jobs_running, 0);
    assert_int_equal(stats.threads_alive, 0);
    assert_int_equal(stats.threads_idle, 0);
}

/* One pool and all that happens to it; in every third epoch its end comes in the middle. */
static void epoch_run(uint32_t number, uint64_t *seed, struct epoch *epoch)
{
    struct rdy_pool_opts opts = {.size = sizeof(opts),
                                 .threads_max = 1 + number % 4,
                                 .idle_timeout_ns = number % 2 == 0 ? 1 : 0};
    struct loop loops[LOOPS_COUNT];
    int rc;

    *epoch = (struct epoch){0};
    tally_init(&epoch->tally);
    assert_int_equal(rdy_pool_open(&epoch->pool, &opts), 0);
    for (uint32_t i = 0; i < LOOPS_COUNT; i++) {
        loops[i] = (struct loop){.epoch = epoch,
                                 .backend = backend_kinds[(number + i) % 2],
                                 .seed = stress_random(seed)};
        check(pthread_create(&loops[i].thread, NULL, loop_main, &loops[i]) == 0);
    }
    if (number % 3 == 0) {
        for (uint64_t yields = stress_random(seed) % 300; yields > 0; yields--)
            (void)sched_yield();
        rc = rdy_pool_shutdown(epoch->pool, 0);
        check(rc == 0 || rc == -ETIMEDOUT);
    }
    for (int i = 0; i < LOOPS_COUNT; i++)
        check(pthread_join(loops[i].thread, NULL) == 0);
    assert_int_equal(rdy_pool_shutdown(epoch->pool, UINT64_MAX), 0);
    epoch_check(epoch);
    rdy_pool_close(epoch->pool);
}

static void every_job_is_dropped_once_and_run_at_most_once(void **state)
{
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
    struct epoch epoch;
    uint64_t answers = 0;
    uint64_t jobs = 0;

    (void)state;
    for (uint32_t i = 0; i < EPOCHS_COUNT; i++) {
        epoch_run(i, &seed, &epoch);
        jobs += rdy_a32_load_acquire(&epoch.accepted);
        answers += rdy_a32_load_acquire(&epoch.answers);
    }
    print_message("%llu jobs, %llu awaited\n", (unsigned long long)jobs,
                  (unsigned long long)answers);
    assert_true(answers > 0 && jobs > answers);
}

/* --- the close against the wake --- */

/* Where a waker writes; the handle's owner takes it away right after the close. */
struct place {
    struct rdy_a32 round; /* whose place it is; 0: nobody's */
    struct rdy_a32 wakes;
    struct rdy_a32 wrong;
};

static void place_wake(void *arg, uint64_t data)
{
    struct place *place = arg;

    (void)rdy_a32_add_seq_cst(&place->wakes, 1);
    /* Looked at twice, for the place to be taken away in between. */
    for (int i = 0; i < 2; i++) {
        if (rdy_a32_load_acquire(&place->round) != (uint32_t)data)
            (void)rdy_a32_add_seq_cst(&place->wrong, 1);
        for (int spins = 0; spins < 2000 && i == 0; spins++)
            (void)rdy_a32_load_acquire(&place->round);
    }
}

/* Short jobs, closed at a random moment around their end. */
static void no_waker_runs_after_the_close_of_its_handle(void **state)
{
    struct rdy_pool *pool = pool_open(2, 0);
    struct place place = {0};
    struct rdy_waker waker = {.fn = place_wake, .arg = &place};
    uint64_t seed = 88172645463325252u;
    uint32_t pending = 0;
    struct tally tally;

    (void)state;
    tally_init(&tally);
    for (uint32_t i = 1; i <= CLOSES_COUNT; i++) {
        struct rdy_blocking handle = {0};
        int result = 0;

        waker.data = i;
        rdy_a32_store_release(&place.round, i);
        job_start(&handle, pool, &tally, 0);
        pending += rdy_blocking_poll_waker(&handle, &waker, &result) == RDY_PENDING;
        for (uint64_t spins = stress_random(&seed) % 30000; spins > 0; spins--)
            (void)rdy_a32_load_acquire(&place.round);
        rdy_blocking_close(&handle);
        rdy_a32_store_release(&place.round, 0);
    }
    rdy_pool_close(pool);
    print_message("%u waited, %u were woken\n", pending, rdy_a32_load_acquire(&place.wakes));
    assert_int_equal(rdy_a32_load_acquire(&place.wrong), 0);
    assert_int_equal(tally_drops(&tally), CLOSES_COUNT);
    assert_true(rdy_a32_load_acquire(&place.wakes) <= pending);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_is_dropped_once_and_run_at_most_once),
        cmocka_unit_test(no_waker_runs_after_the_close_of_its_handle),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
