/* SPDX-License-Identifier: MIT */
/*
 * Engines that are opened and ended under fire: four threads post, wake, stop and shut down, all at
 * once, from the first moment to the last. Each task that was accepted is dropped once, on its
 * worker, and no engine hangs: a wake or an end that is lost is the watchdog's.
 */
#include "tests/support/engine.h"

#include <stdio.h>

#define ROUNDS  STRESS_ROUNDS(200, 60)
#define WORKERS 2
#define WAKERS  8

struct fire {
    struct rdy_engine *engine;
    struct rdy_runtime *runtimes[WORKERS];
    struct rdy_a32 is_over;
    struct rdy_a32 accepted;
    struct rdy_a32 dropped;
    struct rdy_a32 misplaced;
    struct rdy_a32 polled;
    bool may_stop; /* in this round a worker is stopped: a death */
    uint64_t grace_ns;
    uint64_t seed;

    /* Wakers of tasks that were alive a moment ago. */
    pthread_mutex_t lock;
    struct rdy_waker wakers[WAKERS];
};

struct target {
    struct fire *fire;
    struct rdy_shutdown_wait wait;
    uint32_t worker;
    uint32_t number;
    uint32_t polls;
};

/* Shows its waker, and lives until it was woken twice or is told. */
static int target_poll(struct rdy_task *task, void *self)
{
    struct target *target = self;
    struct fire *fire = target->fire;

    if (target->polls++ == 0) {
        (void)rdy_a32_add_seq_cst(&fire->polled, 1);
        (void)pthread_mutex_lock(&fire->lock);
        fire->wakers[target->number % WAKERS] = rdy_task_waker(task);
        (void)pthread_mutex_unlock(&fire->lock);
    }
    if (rdy_runtime_poll_shutdown(&target->wait, task) == 0)
        return 0;
    return target->polls > 2 ? 0 : RDY_PENDING;
}

static void target_drop(void *self)
{
    struct target *target = self;

    rdy_shutdown_wait_cancel(&target->wait);
    if (rdy_engine_worker_here(target->fire->engine) != (int)target->worker)
        (void)rdy_a32_add_seq_cst(&target->fire->misplaced, 1);
    (void)rdy_a32_add_seq_cst(&target->fire->dropped, 1);
}

static const struct rdy_task_spec target_spec = {
    .poll = target_poll,
    .drop = target_drop,
    .self_size = sizeof(struct target),
};

static bool is_over(const struct fire *fire)
{
    return rdy_a32_load_acquire(&fire->is_over) != 0;
}

static void *thread_posts(void *arg)
{
    struct fire *fire = arg;

    for (uint32_t i = 0; !is_over(fire); i++) {
        struct target init = {.fire = fire, .worker = i % WORKERS, .number = i};

        if (rdy_engine_post(fire->engine, init.worker, &target_spec, &init) == 0)
            (void)rdy_a32_add_seq_cst(&fire->accepted, 1);
    }
    return NULL;
}

static void *thread_wakes(void *arg)
{
    struct fire *fire = arg;

    for (uint32_t i = 0; !is_over(fire); i++) {
        struct rdy_waker waker;

        (void)pthread_mutex_lock(&fire->lock);
        waker = fire->wakers[i % WAKERS];
        (void)pthread_mutex_unlock(&fire->lock);
        rdy_waker_wake(&waker);
    }
    return NULL;
}

/* Waits for a number of tasks that only the round knows, so that the end comes at any point. */
static void await_polls(struct fire *fire, uint32_t count)
{
    while (rdy_a32_load_acquire(&fire->polled) < count && !is_over(fire))
        (void)sched_yield();
}

static void *thread_stops(void *arg)
{
    struct fire *fire = arg;

    await_polls(fire, (uint32_t)(fire->seed >> 8) % 50);
    if (fire->may_stop)
        rdy_runtime_stop(fire->runtimes[fire->seed % WORKERS]);
    return NULL;
}

static void *thread_shuts_down(void *arg)
{
    struct fire *fire = arg;

    await_polls(fire, (uint32_t)(fire->seed >> 16) % 50);
    (void)rdy_engine_shutdown(fire->engine, fire->grace_ns);
    (void)rdy_engine_shutdown(fire->engine, fire->grace_ns / 2);
    return NULL;
}

static int start_notes_its_runtime(struct rdy_engine *engine, uint32_t worker,
                                   struct rdy_runtime *runtime, void *arg)
{
    (void)engine;
    ((struct fire *)arg)->runtimes[worker] = runtime;
    return 0;
}

static void fire_once(void **state, uint64_t seed)
{
    static void *(*const threads[])(void *) = {thread_posts, thread_wakes, thread_stops,
                                               thread_shuts_down};
    struct rdy_engine_opts opts = engine_opts(backend_of(state), WORKERS);
    struct fire fire = {.lock = PTHREAD_MUTEX_INITIALIZER, .seed = seed};
    pthread_t running[4];
    int rc;

    fire.may_stop = seed % 3 == 0;
    fire.grace_ns = seed % 2 ? UINT64_MAX / 2 : seed % 100000;
    opts.death_grace_ns = fire.grace_ns;
    opts.runtime.arrivals_max = 64;
    opts.on_start = start_notes_its_runtime;
    opts.arg = &fire;
    fire.engine = engine_open(&opts);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&running[i], NULL, threads[i], &fire), 0);
    rc = rdy_engine_join(fire.engine, NULL);
    assert_true(rc == 0 || (rc == -ECANCELED && fire.may_stop));
    /* The threads are still at it: nothing of the engine may be gone. */
    rdy_a32_store_release(&fire.is_over, 1);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(running[i], NULL), 0);
    rdy_engine_close(fire.engine);
    assert_int_equal(rdy_a32_load_acquire(&fire.dropped), rdy_a32_load_acquire(&fire.accepted));
    assert_int_equal(rdy_a32_load_relaxed(&fire.misplaced), 0);
}

static void engines_end_whole_under_fire(void **state)
{
    uint64_t random = 88172645463325252u;

    for (int round = 0; round < ROUNDS; round++)
        fire_once(state, stress_random(&random));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_ON_BOTH(engines_end_whole_under_fire),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
