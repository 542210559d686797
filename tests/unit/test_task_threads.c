/* SPDX-License-Identifier: MIT */
/*
 * Wakes from other threads: none is lost, and none reaches a task that is gone. A lost wake shows
 * as a test that never ends, which the test driver's time limit turns into a failure.
 */
#include "tests/support/runtime.h"

#include <pthread.h>
#include <sched.h>

#include "engine/atomic.h"

#define WAKERS_COUNT   4
#define WAKES_EACH     100000u
#define HANDSHAKES_MAX 20000u

/* A task that other threads wake. `sent` is written by the waker's thread, `seen` by the task. */
struct woken {
    struct rdy_a32 is_ready; /* waker is set */
    struct rdy_a32 sent;
    struct rdy_a32 seen;
    struct rdy_waker waker;
    uint32_t goal;
    bool is_handshake; /* each wake waits until the one before was seen */
};

static int poll_counts_what_was_sent(struct rdy_task *task, void *self)
{
    struct woken *woken = ((struct test_task *)self)->test;
    uint32_t sent;

    if (rdy_a32_load_relaxed(&woken->is_ready) == 0) {
        woken->waker = rdy_task_waker(task);
        rdy_a32_store_release(&woken->is_ready, 1);
    }
    /* Relaxed on purpose: that a wake makes this visible is what the test is about. */
    sent = rdy_a32_load_relaxed(&woken->sent);
    rdy_a32_store_release(&woken->seen, sent);
    return sent >= woken->goal ? 0 : RDY_PENDING;
}

static void *thread_sends(void *arg)
{
    struct woken *woken = arg;

    while (rdy_a32_load_acquire(&woken->is_ready) == 0)
        (void)sched_yield();
    for (uint32_t i = 1; i <= woken->goal; i++) {
        rdy_a32_store_relaxed(&woken->sent, i);
        rdy_waker_wake(&woken->waker);
        while (woken->is_handshake && rdy_a32_load_acquire(&woken->seen) != i)
            (void)sched_yield();
    }
    return NULL;
}

static void run_wakers(struct rdy_runtime *runtime, uint32_t goal, bool is_handshake)
{
    struct woken woken[WAKERS_COUNT] = {0};
    pthread_t threads[WAKERS_COUNT];

    for (int i = 0; i < WAKERS_COUNT; i++) {
        woken[i].goal = goal;
        woken[i].is_handshake = is_handshake;
        (void)spawn_test(runtime, poll_counts_what_was_sent, NULL, &woken[i]);
        assert_int_equal(pthread_create(&threads[i], NULL, thread_sends, &woken[i]), 0);
    }

    assert_int_equal(rdy_runtime_run(runtime), 0);

    for (int i = 0; i < WAKERS_COUNT; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(woken[i].seen.v, goal);
    }
}

static void wakes_from_four_threads_are_never_lost(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_runtime_stats stats;

    run_wakers(runtime, WAKES_EACH, false);

    stats = runtime_stats(runtime);
    assert_true(stats.remote_wakes + stats.stale_wakes == WAKERS_COUNT * WAKES_EACH);
    assert_true(stats.task_polls <= WAKERS_COUNT * (WAKES_EACH + 1));
}

/* Each wake is the only one: if it is lost, nothing comes after it that would hide the loss. */
static void single_wake_from_another_thread_always_arrives(void **state)
{
    run_wakers(runtime_of(state), HANDSHAKES_MAX, true);
}

/* What the aborting test and its thread share. */
struct relay {
    pthread_mutex_t lock;
    struct rdy_waker waker;
    struct rdy_a32 is_over;
};

static void *thread_wakes_the_latest(void *arg)
{
    struct relay *relay = arg;

    while (rdy_a32_load_acquire(&relay->is_over) == 0) {
        struct rdy_waker waker;

        (void)pthread_mutex_lock(&relay->lock);
        waker = relay->waker;
        (void)pthread_mutex_unlock(&relay->lock);
        for (int i = 0; i < 10; i++)
            rdy_waker_wake(&waker);
    }
    return NULL;
}

struct churn {
    struct relay relay;
    struct rdy_task_id victim;
    int polls;
    int drops;
    int rounds;
};

static int poll_publishes_its_waker(struct rdy_task *task, void *self)
{
    struct churn *churn = ((struct test_task *)self)->test;

    churn->polls++;
    (void)pthread_mutex_lock(&churn->relay.lock);
    churn->relay.waker = rdy_task_waker(task);
    (void)pthread_mutex_unlock(&churn->relay.lock);
    return RDY_PENDING;
}

static void churn_drop(void *self)
{
    ((struct churn *)((struct test_task *)self)->test)->drops++;
}

static int poll_replaces_the_victim(struct rdy_task *task, void *self)
{
    struct churn *churn = ((struct test_task *)self)->test;
    struct rdy_runtime *runtime = rdy_task_runtime(task);

    assert_int_equal(rdy_task_abort(runtime, churn->victim), 0);
    if (--churn->rounds == 0)
        return 0;
    churn->victim = spawn_test(runtime, poll_publishes_its_waker, churn_drop, churn);
    rdy_task_defer(task);
    return RDY_PENDING;
}

/* Two threads wake while the task is aborted and its header goes to the next task. */
static void wakes_that_race_with_aborts_are_harmless(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct churn churn = {.rounds = 20000};
    pthread_t threads[2];

    assert_int_equal(pthread_mutex_init(&churn.relay.lock, NULL), 0);
    churn.victim = spawn_test(runtime, poll_publishes_its_waker, churn_drop, &churn);
    (void)spawn_test(runtime, poll_replaces_the_victim, NULL, &churn);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_wakes_the_latest, &churn.relay),
                         0);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    rdy_a32_store_release(&churn.relay.is_over, 1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(churn.drops, 20000);
    assert_int_equal(runtime_stats(runtime).tasks_live, 0);
    (void)pthread_mutex_destroy(&churn.relay.lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(wakes_from_four_threads_are_never_lost),
        ON_BOTH(single_wake_from_another_thread_always_arrives),
        ON_BOTH(wakes_that_race_with_aborts_are_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
