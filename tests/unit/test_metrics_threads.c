/* SPDX-License-Identifier: MIT */
/*
 * Readers on other threads while the runtime works and others spawn and wake: no counter goes back,
 * no gauge leaves its bounds, and ThreadSanitizer has nothing to say.
 */
#include "tests/support/runtime.h"

#include <pthread.h>
#include <sched.h>

#include <rdy/metrics.h>

#include "engine/atomic.h"
#include "tests/support/stress.h"

#define READERS       2
#define ROUNDS        STRESS_ROUNDS(20000u, 2000u)
#define REMOTE_SPAWNS STRESS_ROUNDS(20000u, 2000u)
#define CHILDREN      8u /* of each round */
#define TASKS_MAX     (CHILDREN * 2 + REMOTE_SPAWNS + 2)

/* The counters stand side by side; these among them are gauges. */
#define FIRST offsetof(struct rdy_metrics, spawned_tasks_count)
#define LAST  offsetof(struct rdy_metrics, io_driver_backend_move_count)

static const size_t gauges[] = {
    offsetof(struct rdy_metrics, alive_tasks),
    offsetof(struct rdy_metrics, local_queue_depth),
    offsetof(struct rdy_metrics, global_queue_depth),
    offsetof(struct rdy_metrics, timers_armed),
    offsetof(struct rdy_metrics, io_driver_entries),
    offsetof(struct rdy_metrics, io_driver_cancels_pending),
};

struct work {
    struct rdy_runtime *runtime;
    struct rdy_waker waker; /* of the parent, for the thread that wakes */
    struct rdy_a32 has_waker;
    struct rdy_a32 is_over;
    struct rdy_a32 snapshots;
    uint32_t rounds;
    uint32_t arrived;
};

static bool is_gauge(size_t offset)
{
    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
        if (gauges[i] == offset)
            return true;
    return false;
}

static uint64_t number_at(const struct rdy_metrics *metrics, size_t offset)
{
    uint64_t number;

    memcpy(&number, (const char *)metrics + offset, sizeof(number));
    return number;
}

static void check_no_step_back(const struct rdy_metrics *before, const struct rdy_metrics *after)
{
    for (size_t offset = FIRST; offset <= LAST; offset += sizeof(uint64_t))
        if (!is_gauge(offset))
            assert_true(number_at(after, offset) >= number_at(before, offset));
    assert_true(after->busy_duration_ns >= before->busy_duration_ns);
    assert_true(after->poll_time_ns >= before->poll_time_ns);
    assert_true(after->queue_wait_ns >= before->queue_wait_ns);
    for (uint32_t i = 0; i < RDY_METRICS_BUCKETS; i++)
        assert_true(after->poll_time_buckets[i] >= before->poll_time_buckets[i]);
}

static void *read_on(void *arg)
{
    struct work *work = arg;
    struct rdy_metrics before;
    struct rdy_metrics after;

    rdy_metrics_read(work->runtime, &before);
    do {
        rdy_metrics_read(work->runtime, &after);
        check_no_step_back(&before, &after);
        assert_true(after.alive_tasks <= TASKS_MAX);
        assert_true(after.local_queue_depth <= TASKS_MAX);
        assert_true(after.global_queue_depth <= TASKS_MAX);
        before = after;
        (void)rdy_a32_add_seq_cst(&work->snapshots, 1);
    } while (rdy_a32_load_acquire(&work->is_over) == 0);
    return NULL;
}

static int poll_arrives(struct rdy_task *task, void *self)
{
    struct work *work = ((struct test_task *)self)->test;

    (void)task;
    work->arrived++;
    return 0;
}

static void *spawn_on(void *arg)
{
    struct work *work = arg;
    struct rdy_task_spec spec = {.poll = poll_arrives, .self_size = sizeof(struct test_task)};
    struct test_task init = {.test = work};

    for (uint32_t i = 0; i < REMOTE_SPAWNS; i++)
        assert_int_equal(rdy_spawn_remote(work->runtime, &spec, &init), 0);
    return NULL;
}

static void *wake_on(void *arg)
{
    struct work *work = arg;

    while (rdy_a32_load_acquire(&work->has_waker) == 0)
        sched_yield();
    while (rdy_a32_load_acquire(&work->is_over) == 0)
        rdy_waker_wake(&work->waker);
    return NULL;
}

static int poll_finishes(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return 0;
}

/* Spawns children and aborts one of them, again and again; waits for wakes in between. */
static int poll_works(struct rdy_task *task, void *self)
{
    struct work *work = ((struct test_task *)self)->test;
    struct rdy_task_id id = {0};

    if (work->rounds == 0) {
        work->waker = rdy_task_waker(task);
        rdy_a32_store_release(&work->has_waker, 1);
    }
    for (uint32_t i = 0; work->rounds < ROUNDS && i < CHILDREN; i++)
        id = spawn_test(work->runtime, poll_finishes, NULL, work);
    if (work->rounds < ROUNDS) {
        assert_int_equal(rdy_task_abort(work->runtime, id), 0);
        if (work->rounds++ % 2 == 0)
            rdy_task_defer(task);
        return RDY_PENDING;
    }
    return work->arrived == REMOTE_SPAWNS && rdy_a32_load_relaxed(&work->snapshots) >= 2 * READERS
               ? 0
               : RDY_PENDING;
}

static void start(pthread_t *thread, void *(*function)(void *), struct work *work)
{
    assert_int_equal(pthread_create(thread, NULL, function, work), 0);
}

static void snapshots_of_other_threads_never_see_a_counter_go_back(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct work work = {0};
    pthread_t threads[READERS + 2];
    struct rdy_metrics metrics;

    rdy_runtime_close(fixture->runtime);
    opts.is_timed = true;
    assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
    work.runtime = fixture->runtime;
    (void)spawn_test(work.runtime, poll_works, NULL, &work);

    for (int i = 0; i < READERS; i++)
        start(&threads[i], read_on, &work);
    start(&threads[READERS], spawn_on, &work);
    start(&threads[READERS + 1], wake_on, &work);
    assert_int_equal(rdy_runtime_run(work.runtime), 0);
    rdy_a32_store_release(&work.is_over, 1);
    for (int i = 0; i < READERS + 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);

    rdy_metrics_read(work.runtime, &metrics);
    assert_int_equal(metrics.spawned_tasks_count, 1 + ROUNDS * CHILDREN + REMOTE_SPAWNS);
    assert_int_equal(metrics.ended_tasks_count, metrics.spawned_tasks_count);
    assert_int_equal(metrics.aborted_tasks_count, ROUNDS);
    assert_int_equal(metrics.remote_spawn_count, REMOTE_SPAWNS);
    assert_int_equal(metrics.alive_tasks, 0);
    assert_int_equal(metrics.local_queue_depth, 0);
    assert_int_equal(metrics.global_queue_depth, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(snapshots_of_other_threads_never_see_a_counter_go_back),
    };

    stress_watch();
    return cmocka_run_group_tests_name("metrics_threads", tests, NULL, NULL);
}
