/* SPDX-License-Identifier: MIT */
/*
 * Runtimes that spin, on both backends: what must end a spin ends it. Each runtime here spins
 * without end instead of sleeping, so that whatever does not end the spin hangs the test, and none
 * of it depends on how fast the machine is.
 */
#include "tests/support/runtime.h"

#include <pthread.h>
#include <signal.h>

#include <rdy/event.h>
#include <rdy/timer.h>

#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/sys.h"
#include "tests/support/check.h"

#define HOUR_NS UINT64_C(3600000000000)

static int spinning_setup(void **state)
{
    static struct runtime_fixture fixture;
    struct rdy_runtime_opts opts;

    fixture.backend = *(const enum rdy_backend_kind *)*state;
    opts = runtime_opts(fixture.backend);
    opts.driver.spin_ns = 1;
    if (rdy_runtime_open(&fixture.runtime, &opts) != 0)
        return -1;
    rdy_runtime_driver(fixture.runtime)->spin.max_ns = INT64_MAX;
    *state = &fixture;
    return 0;
}

struct test {
    struct rdy_runtime *runtime;
    struct rdy_eventfd event;
    struct rdy_timer timer;
    struct rdy_waker waker;
    uint64_t sleep_ns;
    uint64_t woke_ns;
    uint64_t sum;
    uint32_t rounds;
    uint32_t i;
    pthread_t thread;
};

static struct test *test_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static void assert_slept_never(struct test *test)
{
    struct rdy_driver_stats stats = driver_stats(test->runtime);

    assert_int_equal(stats.parks, 0);
    assert_int_equal(stats.spin_hits, stats.spins);
}

/* --- timers --- */

static int poll_sleeps(struct rdy_task *task, void *self)
{
    struct test *test = test_of(self);

    RDY_BEGIN(&((struct test_task *)self)->co);
    for (test->i = 0; test->i < test->rounds; test->i++) {
        test->woke_ns = rdy_runtime_now_ns(test->runtime);
        RDY_SLEEP(&((struct test_task *)self)->co, &test->timer, task, test->sleep_ns);
        check(rdy_runtime_now_ns(test->runtime) >= test->woke_ns + test->sleep_ns);
    }
    RDY_END(&((struct test_task *)self)->co);
    return 0;
}

static void timer_ends_a_spin(void **state)
{
    struct test test = {.runtime = runtime_of(state), .sleep_ns = 20000, .rounds = 1000};

    (void)spawn_test(test.runtime, poll_sleeps, NULL, &test);
    assert_int_equal(rdy_runtime_run(test.runtime), 0);

    assert_int_equal(test.i, test.rounds);
    assert_slept_never(&test);
}

static void paused_clock_is_not_spun_for(void **state)
{
    struct test test = {.runtime = runtime_of(state), .sleep_ns = HOUR_NS, .rounds = 1000};
    uint64_t start_ns;

    rdy_runtime_pause_clock(test.runtime);
    start_ns = rdy_runtime_now_ns(test.runtime);
    (void)spawn_test(test.runtime, poll_sleeps, NULL, &test);
    assert_int_equal(rdy_runtime_run(test.runtime), 0);

    assert_int_equal(rdy_runtime_now_ns(test.runtime), start_ns + 1000 * HOUR_NS);
    assert_int_equal(driver_stats(test.runtime).spins, 0);
}

/* --- other threads, and signals --- */

static void *wake_main(void *arg)
{
    rdy_waker_wake(&((struct test *)arg)->waker);
    return NULL;
}

/* Has a thread started that wakes it, round by round. */
static int poll_is_woken(struct rdy_task *task, void *self)
{
    struct test *test = test_of(self);

    if (test->i > 0)
        assert_int_equal(pthread_join(test->thread, NULL), 0);
    if (test->i++ == test->rounds)
        return 0;
    test->waker = rdy_task_waker(task);
    assert_int_equal(pthread_create(&test->thread, NULL, wake_main, test), 0);
    return RDY_PENDING;
}

static void wake_of_another_thread_ends_a_spin(void **state)
{
    struct test test = {.runtime = runtime_of(state), .rounds = 200};

    (void)spawn_test(test.runtime, poll_is_woken, NULL, &test);
    assert_int_equal(rdy_runtime_run(test.runtime), 0);

    assert_slept_never(&test);
    assert_int_equal(driver_stats(test.runtime).unparks, 0); /* no system call for any */
}

static void wake_ends_a_spin_while_the_clock_is_paused(void **state)
{
    struct test test = {.runtime = runtime_of(state), .rounds = 200};

    rdy_runtime_pause_clock(test.runtime);
    (void)spawn_test(test.runtime, poll_is_woken, NULL, &test);
    assert_int_equal(rdy_runtime_run(test.runtime), 0);

    assert_slept_never(&test);
}

static void *add_main(void *arg)
{
    struct test *test = arg;

    assert_int_equal(rdy_eventfd_add(&test->event, 1), 0);
    return NULL;
}

static int poll_takes(struct rdy_task *task, void *self)
{
    struct test *test = test_of(self);
    uint64_t count = 0;

    RDY_BEGIN(&((struct test_task *)self)->co);
    for (test->i = 0; test->i < test->rounds; test->i++) {
        assert_int_equal(pthread_create(&test->thread, NULL, add_main, test), 0);
        RDY_AWAIT(&((struct test_task *)self)->co,
                  rdy_eventfd_poll_take(&test->event, task, &count));
        test->sum += count;
        assert_int_equal(pthread_join(test->thread, NULL), 0);
    }
    RDY_END(&((struct test_task *)self)->co);
    return 0;
}

static void event_ends_a_spin(void **state)
{
    struct test test = {.runtime = runtime_of(state), .rounds = 200};

    assert_int_equal(rdy_eventfd_open(&test.event, test.runtime, NULL), 0);
    (void)spawn_test(test.runtime, poll_takes, NULL, &test);
    assert_int_equal(rdy_runtime_run(test.runtime), 0);

    assert_int_equal(test.sum, test.rounds);
    assert_slept_never(&test);
    rdy_eventfd_close(&test.event);
}

static struct rdy_runtime *to_stop;

static void on_signal(int number)
{
    (void)number;
    rdy_runtime_stop(to_stop);
}

/* Sent once the task was polled: what follows that is the spin. */
static void *signal_main(void *arg)
{
    while (runtime_stats(to_stop).task_polls == 0)
        rdy_sys_cpu_relax();
    assert_int_equal(pthread_kill(*(pthread_t *)arg, SIGUSR1), 0);
    return NULL;
}

static int poll_waits(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return RDY_PENDING;
}

static void signal_handler_that_stops_the_run_ends_a_spin(void **state)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct sigaction before;
    pthread_t self = pthread_self();
    pthread_t thread;

    to_stop = runtime_of(state);
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    (void)spawn_test(to_stop, poll_waits, NULL, NULL);
    assert_int_equal(pthread_create(&thread, NULL, signal_main, &self), 0);
    assert_int_equal(rdy_runtime_run(to_stop), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

/* --- busy time --- */

static void time_spun_is_not_busy(void **state)
{
    struct test test = {.runtime = runtime_of(state), .sleep_ns = 1000000, .rounds = 5};
    struct rdy_driver *driver = rdy_runtime_driver(test.runtime);
    uint64_t begin_ns = rdy_sys_now_ns();
    uint64_t took_ns;

    test.runtime->is_timed = true;
    driver->is_timed = true;
    driver->busy_since_ns = begin_ns;
    (void)spawn_test(test.runtime, poll_sleeps, NULL, &test);
    assert_int_equal(rdy_runtime_run(test.runtime), 0);
    took_ns = rdy_sys_now_ns() - begin_ns;

    /* What was spun, 5 ms at the least, is no part of what was busy. */
    check(driver_stats(test.runtime).spin_ns >= 5 * test.sleep_ns / 2);
    check(rdy_a64_load_relaxed(&driver->count.busy_ns) + driver_stats(test.runtime).spin_ns <=
          took_ns);
}

/* clang-format off */
#define ON_BOTH_SPINNING(test)                                                                     \
    {#test " on io_uring", test, spinning_setup, runtime_teardown,                                 \
     (void *)(uintptr_t)&backend_kinds[0]},                                                        \
    {#test " on epoll", test, spinning_setup, runtime_teardown,                                    \
     (void *)(uintptr_t)&backend_kinds[1]}
/* clang-format on */

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH_SPINNING(timer_ends_a_spin),
        ON_BOTH_SPINNING(paused_clock_is_not_spun_for),
        ON_BOTH_SPINNING(wake_of_another_thread_ends_a_spin),
        ON_BOTH_SPINNING(wake_ends_a_spin_while_the_clock_is_paused),
        ON_BOTH_SPINNING(event_ends_a_spin),
        ON_BOTH_SPINNING(signal_handler_that_stops_the_run_ends_a_spin),
        ON_BOTH_SPINNING(time_spun_is_not_busy),
    };

    return cmocka_run_group_tests_name("spinning runtimes", tests, NULL, NULL);
}
