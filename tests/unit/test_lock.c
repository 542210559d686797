/* SPDX-License-Identifier: MIT */
/*
 * The four-byte lock: it excludes, it is free again afterwards, and a sleeper is woken. The counter
 * that the threads share is a plain one on purpose: ThreadSanitizer then checks the lock's orders.
 */
#include "engine/lock.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#define ROUNDS       100000
#define THREADS      2
#define YIELDS_MAX   50000000
#define STATE_FREE   0
#define STATE_HELD   1
#define STATE_SLEEPS 2

struct shared {
    struct rdy_lock lock;
    uint64_t count;
    struct rdy_a32 is_inside;
};

static uint32_t lock_state(const struct shared *shared)
{
    return rdy_a32_load_relaxed(&shared->lock.state);
}

static void *count_many(void *arg)
{
    struct shared *shared = arg;

    for (int i = 0; i < ROUNDS; i++) {
        rdy_lock_acquire(&shared->lock);
        rdy_assert(rdy_a32_swap_acq_rel(&shared->is_inside, 1) == 0);
        shared->count++;
        rdy_a32_store_relaxed(&shared->is_inside, 0);
        rdy_lock_release(&shared->lock);
    }
    return NULL;
}

static void lock_is_held_between_acquire_and_release_and_free_before_and_after(void **state)
{
    struct shared shared = {0};

    (void)state;
    assert_int_equal(lock_state(&shared), STATE_FREE);
    rdy_lock_acquire(&shared.lock);
    assert_int_equal(lock_state(&shared), STATE_HELD);
    rdy_lock_release(&shared.lock);
    assert_int_equal(lock_state(&shared), STATE_FREE);
}

static void two_threads_are_never_inside_together_and_no_count_is_lost(void **state)
{
    struct shared shared = {0};
    pthread_t thread[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, count_many, &shared), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);

    assert_int_equal(shared.count, THREADS * ROUNDS);
    assert_int_equal(lock_state(&shared), STATE_FREE);
}

static void *take_once(void *arg)
{
    struct shared *shared = arg;

    rdy_lock_acquire(&shared->lock);
    shared->count++;
    rdy_lock_release(&shared->lock);
    return NULL;
}

/* The state says "somebody may sleep", so the release must make the system call that wakes. */
static void release_wakes_a_thread_that_sleeps_on_the_lock(void **state)
{
    struct shared shared = {0};
    pthread_t thread;
    int yields = 0;

    (void)state;
    for (int round = 0; round < 20; round++) {
        rdy_lock_acquire(&shared.lock);
        assert_int_equal(pthread_create(&thread, NULL, take_once, &shared), 0);
        for (; lock_state(&shared) != STATE_SLEEPS && yields < YIELDS_MAX; yields++)
            (void)sched_yield();
        assert_int_equal(lock_state(&shared), STATE_SLEEPS);
        assert_int_equal(shared.count, round);

        rdy_lock_release(&shared.lock);

        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(shared.count, round + 1);
        assert_int_equal(lock_state(&shared), STATE_FREE);
    }
}

/* Each sleeper that wakes must pass the news on, or the second of two sleeps for ever. */
static void every_sleeper_gets_the_lock_in_the_end(void **state)
{
    struct shared shared = {0};
    pthread_t thread[4];
    int yields = 0;

    (void)state;
    rdy_lock_acquire(&shared.lock);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, take_once, &shared), 0);
    for (; lock_state(&shared) != STATE_SLEEPS && yields < YIELDS_MAX; yields++)
        (void)sched_yield();
    for (int i = 0; i < 100; i++)
        (void)sched_yield();
    rdy_lock_release(&shared.lock);

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(shared.count, 4);
    assert_int_equal(lock_state(&shared), STATE_FREE);
}

static int arm_watchdog(void **state)
{
    (void)state;
    (void)alarm(60); /* a sleeper that nobody wakes is a failure, not a hang */
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lock_is_held_between_acquire_and_release_and_free_before_and_after),
        cmocka_unit_test(two_threads_are_never_inside_together_and_no_count_is_lost),
        cmocka_unit_test(release_wakes_a_thread_that_sleeps_on_the_lock),
        cmocka_unit_test(every_sleeper_gets_the_lock_in_the_end),
    };

    return cmocka_run_group_tests(tests, arm_watchdog, NULL);
}
