/* SPDX-License-Identifier: MIT */
/*
 * The turn itself, on every backend: its time, signals in it, unpark, and an outer loop around it.
 * What the kernel interfaces do differently here must not show.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "engine/driver.h"
#include "tests/support/stage.h"

#define TURNS_MAX 1000

/* --- time and signals --- */

static void do_nothing(int number)
{
    (void)number;
}

static void on_signal(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};

    check(sigaction(number, &action, NULL) == 0);
}

static void signal_ends_the_wait_but_never_fails_the_turn(struct stage *stage)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec every = {.it_interval.tv_nsec = 2000000, .it_value.tv_nsec = 2000000};
    timer_t timer;

    on_signal(SIGUSR1, do_nothing);
    check(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    check(timer_settime(timer, 0, &every, NULL) == 0);

    for (int i = 0; i < TURNS_MAX && stage_stats(stage).interrupted_waits == 0; i++)
        (void)stage_turn(stage, RDY_NS_PER_S);
    check(timer_delete(timer) == 0);
    on_signal(SIGUSR1, SIG_IGN);

    check(stage_stats(stage).interrupted_waits > 0);
}

/*
 * A turn that no signal ended; how long it took. The kernel can end a wait as if by a signal when
 * it finishes with a ring that this thread has closed, as the stage before may have done.
 */
static uint64_t whole_turn_ns(struct stage *stage, int64_t timeout_ns)
{
    for (int i = 0; i < TURNS_MAX; i++) {
        uint64_t interrupted = stage_stats(stage).interrupted_waits;
        uint64_t start_ns = rdy_sys_now_ns();

        assert_int_equal(stage_turn(stage, timeout_ns), 0);
        if (stage_stats(stage).interrupted_waits == interrupted)
            return rdy_sys_now_ns() - start_ns;
    }
    fail_msg("%d turns, and each was interrupted", TURNS_MAX);
    return 0;
}

static void timeout_is_never_early(struct stage *stage)
{
    static const int64_t timeout_ns[] = {1, 1000, 100000, 999999, 1500000, 3000001};

    stage_settle(stage);
    for (size_t i = 0; i < sizeof(timeout_ns) / sizeof(timeout_ns[0]); i++)
        check(whole_turn_ns(stage, timeout_ns[i]) >= (uint64_t)timeout_ns[i]);
}

static void turn_without_time_never_parks(struct stage *stage)
{
    struct rdy_driver_stats before = stage_stats(stage);

    for (int i = 0; i < 10; i++)
        assert_int_equal(stage_turn(stage, 0), 0);

    assert_int_equal(stage_stats(stage).parks, before.parks);
    assert_int_equal(stage_stats(stage).turns, before.turns + 10);
}

static void idle_turn_is_one_system_call(struct stage *stage)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);
    struct rdy_driver_stats before;

    stage_settle(stage);
    before = stage_stats(stage);
    for (int i = 0; i < 10; i++)
        assert_int_equal(stage_turn(stage, RDY_NS_PER_MS), 0);

    assert_int_equal(stage_stats(stage).system_calls, before.system_calls + 10);

    rdy_close(&reg);
}

/* --- unpark --- */

/*
 * Otherwise those who come faster than a turn takes them are served later and later. An io_uring of
 * the newest kind runs some twenty pieces of work an enter.
 */
static void turn_brings_all_that_is_ready(struct stage *stage)
{
    enum {
        COUNT = 500
    };
    static struct rdy_registration regs[COUNT];
    static int fds[COUNT];

    for (int i = 0; i < COUNT; i++) {
        fds[i] = event_fd();
        regs[i] = stage_register(stage, fds[i], RDY_INTEREST_READ);
    }
    stage_settle(stage);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++)
            event_write(fds[i]);
        assert_int_equal(stage_turn(stage, 0), COUNT);
        assert_int_equal(stage_turn(stage, 0), 0);
        for (int i = 0; i < COUNT; i++)
            check(event_read(fds[i]));
    }
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(rdy_close(&regs[i]), 0);
}

static void unpark_before_the_turn_is_not_lost(struct stage *stage)
{
    rdy_driver_unpark(stage->driver);

    assert_int_equal(stage_turn(stage, -1), 0);
    assert_int_equal(stage_stats(stage).unparks, 0);
}

static void unparks_of_a_running_driver_make_no_system_call(struct stage *stage)
{
    struct rdy_driver_stats before = stage_stats(stage);

    for (int i = 0; i < 1000; i++)
        rdy_driver_unpark(stage->driver);

    assert_int_equal(stage_stats(stage).system_calls, before.system_calls);
    assert_int_equal(stage_stats(stage).unparks_coalesced, 1000);
}

static void turn_until_unparked(struct stage *stage)
{
    for (int i = 0; i < TURNS_MAX && stage_stats(stage).unparks == 0; i++)
        assert_int_equal(stage_turn(stage, -1), 0);
}

static void *unpark_often(void *arg)
{
    struct rdy_driver *driver = arg;

    while (rdy_a32_load_acquire(&driver->park) != RDY_PARK_PARKED)
        rdy_sys_cpu_relax();
    for (int i = 0; i < 100; i++)
        rdy_driver_unpark(driver);
    return NULL;
}

static void many_unparks_of_a_parked_driver_are_one_system_call(struct stage *stage)
{
    pthread_t thread;

    check(pthread_create(&thread, NULL, unpark_often, stage->driver) == 0);
    turn_until_unparked(stage);
    pthread_join(thread, NULL);

    assert_int_equal(stage_stats(stage).unparks, 1);
    assert_int_equal(stage_stats(stage).unparks_coalesced, 99);
}

static struct rdy_driver *driver_to_unpark;

static void unpark_on_signal(int number)
{
    (void)number;
    rdy_driver_unpark(driver_to_unpark);
}

/* The signal goes to another thread, so that it cannot end the wait by itself.
 */
static void *raise_when_parked(void *arg)
{
    (void)arg;
    while (rdy_a32_load_acquire(&driver_to_unpark->park) != RDY_PARK_PARKED)
        rdy_sys_cpu_relax();
    check(pthread_kill(pthread_self(), SIGUSR2) == 0);
    return NULL;
}

static void unpark_from_a_signal_handler_ends_the_wait(struct stage *stage)
{
    pthread_t thread;

    driver_to_unpark = stage->driver;
    on_signal(SIGUSR2, unpark_on_signal);
    check(pthread_create(&thread, NULL, raise_when_parked, NULL) == 0);

    turn_until_unparked(stage);
    pthread_join(thread, NULL);
    assert_int_equal(stage_stats(stage).unparks, 1);

    on_signal(SIGUSR2, SIG_IGN);
}

/* --- embedding --- */

static void descriptor_of_an_embedded_driver_tells_of_events(struct stage *stage)
{
    int fd = event_fd();
    struct pollfd outer = {.events = POLLIN};
    struct rdy_registration reg;

    assert_int_equal(rdy_driver_fd(stage->driver), -EINVAL);
    stage->opts.is_embedded = true;
    stage_reopen(stage);
    reg = stage_register(stage, fd, RDY_INTEREST_READ);
    for (int i = 0; i < 10; i++)
        (void)stage_turn(stage, 0);
    outer.fd = rdy_driver_fd(stage->driver);
    check(outer.fd >= 0);
    assert_int_equal(poll(&outer, 1, 0), 0);

    event_write(fd);

    assert_int_equal(poll(&outer, 1, 1000), 1);
    assert_int_equal(stage_turn(stage, 0), 1);
    for (int i = 0; i < 10; i++)
        (void)stage_turn(stage, 0);
    assert_int_equal(poll(&outer, 1, 0), 0);

    rdy_close(&reg);
}

static void unpark_reaches_the_loop_around_an_embedded_driver(struct stage *stage)
{
    struct pollfd outer = {.events = POLLIN};

    stage->opts.is_embedded = true;
    stage_reopen(stage);
    for (int i = 0; i < 10; i++)
        (void)stage_turn(stage, 0);
    outer.fd = rdy_driver_fd(stage->driver);
    assert_int_equal(poll(&outer, 1, 0), 0);

    rdy_driver_unpark(stage->driver);

    assert_int_equal(poll(&outer, 1, 1000), 1);
}

int main(void)
{
    static const struct scenario rows[] = {
        SCENARIO(signal_ends_the_wait_but_never_fails_the_turn, ON_KERNEL),
        SCENARIO(timeout_is_never_early, ON_ALL),
        SCENARIO(turn_without_time_never_parks, ON_ALL),
        SCENARIO(idle_turn_is_one_system_call, ON_KERNEL),
        SCENARIO(turn_brings_all_that_is_ready, ON_KERNEL),
        SCENARIO(unpark_before_the_turn_is_not_lost, ON_ALL),
        SCENARIO(unparks_of_a_running_driver_make_no_system_call, ON_KERNEL),
        SCENARIO(many_unparks_of_a_parked_driver_are_one_system_call, ON_ALL),
        SCENARIO(unpark_from_a_signal_handler_ends_the_wait, ON_ALL),
        SCENARIO(descriptor_of_an_embedded_driver_tells_of_events, ON_KERNEL),
        SCENARIO(unpark_reaches_the_loop_around_an_embedded_driver, ON_KERNEL),
    };

    return scenarios_run("turns", rows, sizeof(rows) / sizeof(rows[0]));
}
