/* SPDX-License-Identifier: MIT */
/*
 * Wakes that hit a spinning driver anywhere: in a look, at the end of the spin, on the way into the
 * sleep, asleep. A runtime runs with three other threads: one wakes a task, one spawns, one writes
 * to a file that a task reads. Each does so once, waits until it was heard, pauses for a random
 * time around the length of a spin, and goes on. One wake lost, and its thread waits for ever: the
 * watchdog ends the test.
 *
 * A driver that learns would soon be on one side only. So in the first test its credit is put back
 * after each wake, and the spins are of all lengths; the books must show that wakes came in spins
 * and in sleeps. In the second it learns as it likes.
 */
#include "tests/support/runtime.h"
#include "tests/support/stress.h"

#include <pthread.h>

#include <rdy/event.h>
#include <rdy/task.h>

#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/sys.h"

#define ROUNDS    STRESS_ROUNDS(20000, 1500)
#define RELAX_MAX 1024 /* of some 10 to 50 ns each */
#define SHIFT_MAX 10   /* spins of 500 ns to 256 us */
#define SPINS     200
#define CALLERS   3
#define RUNS_MAX  STRESS_ROUNDS(10, 1)

enum how {
    HOW_WAKE,
    HOW_SPAWN,
    HOW_WRITE,
};

struct stress;

struct caller {
    struct stress *stress;
    enum how how;
    struct rdy_waker waker;
    struct rdy_eventfd event;
    struct rdy_a32 runs; /* what was heard; the thread sleeps on it */
    uint64_t random;
    pthread_t thread;
};

struct stress {
    struct rdy_runtime *runtime;
    bool is_kept_on;
    uint64_t random;
    struct rdy_a32 callers_done;
    struct caller callers[CALLERS];
};

/* --- the threads --- */

static int poll_hears(struct rdy_task *task, void *self);

static void caller_call(struct caller *caller)
{
    static const struct rdy_task_spec spec = {.poll = poll_hears,
                                              .self_size = sizeof(struct test_task)};
    struct test_task init = {.test = caller};

    if (caller->how == HOW_WAKE)
        rdy_waker_wake(&caller->waker);
    else if (caller->how == HOW_SPAWN)
        rdy_assert(rdy_spawn_remote(caller->stress->runtime, &spec, &init) == 0);
    else
        rdy_assert(rdy_eventfd_add(&caller->event, 1) == 0);
}

static void *caller_run(void *arg)
{
    struct caller *caller = arg;

    stress_pin(true);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t pause = stress_random(&caller->random) % RELAX_MAX;

        while (pause-- > 0)
            rdy_sys_cpu_relax();
        caller_call(caller);
        for (int spins = 0; rdy_a32_load_acquire(&caller->runs) == i; spins++) {
            if (spins >= SPINS)
                rdy_sys_futex_wait(&caller->runs.v, i);
        }
    }
    if (rdy_a32_add_seq_cst(&caller->stress->callers_done, 1) + 1 == CALLERS)
        rdy_runtime_stop(caller->stress->runtime);
    return NULL;
}

/* --- the runtime --- */

static void hear(struct caller *caller)
{
    struct rdy_spin *spin = &rdy_runtime_driver(caller->stress->runtime)->spin;

    if (caller->stress->is_kept_on) {
        spin->credit = RDY_SPIN_CREDIT_MAX;
        spin->max_ns = UINT64_C(500) << stress_random(&caller->stress->random) % SHIFT_MAX;
    }
    rdy_a32_store_release(&caller->runs, rdy_a32_load_relaxed(&caller->runs) + 1);
    rdy_sys_futex_wake(&caller->runs.v, 1);
}

static void caller_start(struct caller *caller)
{
    assert_int_equal(pthread_create(&caller->thread, NULL, caller_run, caller), 0);
}

static int poll_hears(struct rdy_task *task, void *self)
{
    struct caller *caller = ((struct test_task *)self)->test;

    if (caller->how == HOW_SPAWN) {
        hear(caller);
        return 0;
    }
    if (caller->waker.fn) {
        hear(caller);
    } else {
        caller->waker = rdy_task_waker(task);
        caller_start(caller);
    }
    return RDY_PENDING;
}

static int poll_reads(struct rdy_task *task, void *self)
{
    struct caller *caller = ((struct test_task *)self)->test;
    uint64_t count;
    int rc;

    while ((rc = rdy_eventfd_poll_take(&caller->event, task, &count)) == 0) {
        rdy_assert(count == 1);
        hear(caller);
    }
    rdy_assert(rc == RDY_PENDING);
    return rc;
}

static void stress_open(struct stress *stress, void **state, uint32_t spin_ns)
{
    struct rdy_runtime_opts opts = runtime_opts(*(const enum rdy_backend_kind *)*state);

    opts.driver.spin_ns = spin_ns;
    assert_int_equal(rdy_runtime_open(&stress->runtime, &opts), 0);
    for (uint32_t i = 0; i < CALLERS; i++)
        stress->callers[i] = (struct caller){
            .stress = stress, .how = (enum how)i, .random = UINT64_C(0x9e3779b97f4a7c15) + i};
}

static void stress_run(struct stress *stress)
{
    struct caller *callers = stress->callers;

    stress_watch();
    assert_int_equal(rdy_eventfd_open(&callers[HOW_WRITE].event, stress->runtime, NULL), 0);
    (void)spawn_test(stress->runtime, poll_hears, NULL, &callers[HOW_WAKE]);
    (void)spawn_test(stress->runtime, poll_reads, NULL, &callers[HOW_WRITE]);
    caller_start(&callers[HOW_SPAWN]);
    caller_start(&callers[HOW_WRITE]);
    assert_int_equal(rdy_runtime_run(stress->runtime), 0);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        assert_int_equal(rdy_a32_load_acquire(&callers[i].runs), ROUNDS);
    }
    rdy_eventfd_close(&callers[HOW_WRITE].event);
}

static struct rdy_driver_stats stress_end(struct stress *stress)
{
    struct rdy_driver_stats stats = driver_stats(stress->runtime);

    print_message("%llu turns, %llu spins, %llu of them paid, %llu parks, %llu unparks, "
                  "%llu without a call; %llu us spun\n",
                  (unsigned long long)stats.turns, (unsigned long long)stats.spins,
                  (unsigned long long)stats.spin_hits, (unsigned long long)stats.parks,
                  (unsigned long long)stats.unparks, (unsigned long long)stats.unparks_coalesced,
                  (unsigned long long)(stats.spin_ns / 1000));
    rdy_runtime_close(stress->runtime);
    return stats;
}

static void no_wake_is_lost_at_any_point_of_a_spin(void **state)
{
    struct rdy_driver_stats stats;
    int runs = 0;

    /* A spin pays by luck where its thread shares a processor with those that write to it. */
    do {
        struct stress stress = {.is_kept_on = true, .random = 1};

        stress_open(&stress, state, 1);
        stress_run(&stress);
        stats = stress_end(&stress);
    } while (stats.spin_hits == 0 && ++runs < RUNS_MAX);
#ifndef RDY_VALGRIND /* one thread runs at a time */
    assert_true(stats.spin_hits > 0);
#endif
    assert_true(stats.parks > 0);
    assert_true(stats.unparks > 0 && stats.unparks_coalesced > 0);
    assert_true(stats.spins >= stats.spin_hits);
}

static void no_wake_is_lost_while_it_learns(void **state)
{
    static const uint32_t lengths_ns[] = {1000, 10000, 50000};

    for (size_t i = 0; i < sizeof(lengths_ns) / sizeof(lengths_ns[0]); i++) {
        struct stress stress = {.is_kept_on = false};

        stress_open(&stress, state, lengths_ns[i]);
        stress_run(&stress);
        (void)stress_end(&stress);
    }
}

/* clang-format off */
#define ON_EACH(test)                                                                              \
    {#test " on io_uring", test, NULL, NULL, (void *)(uintptr_t)&backend_kinds[0]},                \
    {#test " on epoll", test, NULL, NULL, (void *)(uintptr_t)&backend_kinds[1]}
/* clang-format on */

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_EACH(no_wake_is_lost_at_any_point_of_a_spin),
        ON_EACH(no_wake_is_lost_while_it_learns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
