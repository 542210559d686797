/* SPDX-License-Identifier: MIT */
/*
 * The runtime's loop: options, stopping, timers, and that nothing starves the driver. No test
 * asserts how long something took; only that it was not early, and how often things ran.
 */
#include "tests/support/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rdy/registration.h>

#include "engine/sys.h"

static void absurd_options_are_refused(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts good = runtime_opts(fixture->backend);
    struct rdy_runtime_opts bad[5] = {good, good, good, good, good};
    struct rdy_runtime *runtime = NULL;

    bad[0].size = 0;
    bad[1].task_budget = UINT32_MAX;
    bad[2].event_interval = UINT32_MAX;
    bad[3].tasks_max = UINT32_MAX;
    bad[4].driver.events_max = UINT32_MAX;

    for (int i = 0; i < 5; i++)
        assert_int_equal(rdy_runtime_open(&runtime, &bad[i]), -EINVAL);
    assert_null(runtime);
}

static void run_without_tasks_returns(void **state)
{
    assert_int_equal(rdy_runtime_run(runtime_of(state)), 0);
}

static void close_of_nothing_is_fine(void **state)
{
    (void)state;
    rdy_runtime_close(NULL);
}

static int poll_sleeps_for_ever(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return RDY_PENDING;
}

static void *thread_stops(void *arg)
{
    rdy_runtime_stop(arg);
    return NULL;
}

static void another_thread_stops_a_blocked_run(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    (void)spawn_test(runtime, poll_sleeps_for_ever, NULL, NULL);
    for (int round = 0; round < 200; round++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, thread_stops, runtime), 0);
        assert_int_equal(rdy_runtime_run(runtime), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_int_equal(runtime_stats(runtime).tasks_live, 1);
}

static void stop_before_run_ends_the_next_run(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    (void)spawn_test(runtime, poll_sleeps_for_ever, NULL, NULL);
    rdy_runtime_stop(runtime);
    rdy_runtime_stop(runtime);

    assert_int_equal(rdy_runtime_run(runtime), 0);
}

static struct rdy_runtime *signalled;

static void on_signal(int number)
{
    (void)number;
    rdy_runtime_stop(signalled);
}

static void *thread_signals(void *arg)
{
    assert_int_equal(pthread_kill(*(pthread_t *)arg, SIGUSR1), 0);
    return NULL;
}

static void signal_handler_stops_a_run(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct sigaction action = {.sa_handler = on_signal};
    struct sigaction before;
    pthread_t self = pthread_self();

    signalled = runtime;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    (void)spawn_test(runtime, poll_sleeps_for_ever, NULL, NULL);
    for (int round = 0; round < 200; round++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, thread_signals, &self), 0);
        assert_int_equal(rdy_runtime_run(runtime), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

static void *thread_runs(void *arg)
{
    return (void *)(intptr_t)rdy_runtime_run(arg);
}

static void run_on_another_thread_is_refused(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    pthread_t thread;
    void *result = NULL;

    assert_int_equal(pthread_create(&thread, NULL, thread_runs, runtime), 0);
    assert_int_equal(pthread_join(thread, &result), 0);

    assert_int_equal((intptr_t)result, -EPERM);
}

#ifdef __SANITIZE_THREAD__
/* jemalloc takes all its locks before a fork: more than the deadlock detector has room for. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}
#endif

static void run_in_the_child_of_a_fork_is_refused(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(rdy_runtime_run(runtime) == -EOWNERDEAD ? 0 : 1);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A sleep, and what was seen of it. */
struct sleeper {
    struct rdy_timer timer;
    uint64_t sleep_ns;
    uint64_t deadline_ns;
    uint64_t woke_ns;
    int polls;
};

static int poll_sleeps(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct sleeper *sleeper = my->test;

    sleeper->polls++;
    RDY_BEGIN(&my->co);
    sleeper->deadline_ns = rdy_runtime_now_ns(rdy_task_runtime(task)) + sleeper->sleep_ns;
    RDY_AWAIT(&my->co, rdy_timer_poll_until(&sleeper->timer, task, sleeper->deadline_ns));
    sleeper->woke_ns = rdy_sys_now_ns();
    RDY_END(&my->co);
    return 0;
}

static void sleep_drop(void *self)
{
    (void)rdy_timer_cancel(&((struct sleeper *)((struct test_task *)self)->test)->timer);
}

static void sleeps_are_never_early(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct sleeper sleepers[20] = {0};

    for (int i = 0; i < 20; i++) {
        sleepers[i].sleep_ns = (uint64_t)(20 - i) * 1000003;
        (void)spawn_test(runtime, poll_sleeps, sleep_drop, &sleepers[i]);
    }
    assert_int_equal(rdy_runtime_run(runtime), 0);

    for (int i = 0; i < 20; i++) {
        assert_true(sleepers[i].woke_ns >= sleepers[i].deadline_ns);
        assert_int_equal(sleepers[i].polls, 2);
        assert_true(rdy_timer_has_fired(&sleepers[i].timer));
    }
    assert_int_equal(runtime_stats(runtime).timers_fired, 20);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
}

/* A loop that polled its way to the deadline would turn thousands of times. */
static void sleeping_costs_a_handful_of_turns(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct sleeper sleeper = {.sleep_ns = 50000000};

    (void)spawn_test(runtime, poll_sleeps, sleep_drop, &sleeper);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_true(driver_stats(runtime).turns <= 10);
}

static void deadline_in_the_past_is_no_wait(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct sleeper sleeper = {.sleep_ns = 0};

    (void)spawn_test(runtime, poll_sleeps, sleep_drop, &sleeper);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(sleeper.polls, 1);
    assert_int_equal(runtime_stats(runtime).timers_fired, 0);
}

static void aborted_sleep_leaves_no_timer_behind(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct sleeper sleeper = {.sleep_ns = UINT64_C(3600000000000)};
    struct rdy_task_id id = spawn_test(runtime, poll_sleeps, sleep_drop, &sleeper);
    pthread_t thread;

    /* The thread's stop comes at any time; run until the sleep has begun. */
    for (int round = 0; round < 1000 && sleeper.polls == 0; round++) {
        assert_int_equal(pthread_create(&thread, NULL, thread_stops, runtime), 0);
        assert_int_equal(rdy_runtime_run(runtime), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_int_equal(runtime_stats(runtime).timers_armed, 1);

    assert_int_equal(rdy_task_abort(runtime, id), 0);

    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);
}

/* A timer whose waker arms it in the past, again and again. */
struct eager {
    struct rdy_timer timer;
    struct rdy_runtime *runtime;
    struct rdy_waker waker;
    int fired;
};

static void wake_arms_again(void *arg, uint64_t data)
{
    struct eager *eager = arg;

    (void)data;
    eager->fired++;
    rdy_timer_arm(&eager->timer, eager->runtime, 1, &eager->waker);
}

static int poll_defers_20_times(struct rdy_task *task, void *self)
{
    struct eager *eager = ((struct test_task *)self)->test;
    static int polls;

    rdy_task_defer(task);
    if (++polls % 20 != 0)
        return RDY_PENDING;
    (void)rdy_timer_cancel(&eager->timer);
    return 0;
}

static void timer_that_is_always_due_fires_once_a_round(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct eager eager = {.runtime = runtime};

    eager.waker = (struct rdy_waker){.fn = wake_arms_again, .arg = &eager};
    rdy_timer_arm(&eager.timer, runtime, 1, &eager.waker);
    (void)spawn_test(runtime, poll_defers_20_times, NULL, &eager);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_true(eager.fired >= 1);
    assert_true(eager.fired <= 20);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
}

static void close_disarms_timers_that_outlive_the_runtime(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_waker nobody = {0};
    struct rdy_timer timer = {0};

    rdy_timer_arm(&timer, fixture->runtime, UINT64_MAX, &nobody);
    rdy_runtime_close(fixture->runtime);
    fixture->runtime = NULL;

    assert_false(rdy_timer_cancel(&timer));
    assert_false(rdy_timer_has_fired(&timer));
}

static struct rdy_timer *late_timer;

static void wake_arms_late(void *arg, uint64_t data)
{
    struct rdy_waker nobody = {0};

    (void)data;
    rdy_timer_arm(late_timer, arg, 1, &nobody);
}

/* The driver's own wakers run last: a timer that one of them arms must not name a dead runtime. */
static void close_disarms_what_the_end_of_the_driver_arms(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime *runtime = fixture->runtime;
    struct rdy_waker waker = {.fn = wake_arms_late, .arg = runtime};
    struct rdy_timer timer = {0};
    struct rdy_registration reg;
    struct rdy_event event;
    int fds[2];

    late_timer = &timer;
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(rdy_register(rdy_runtime_driver(runtime), fds[0], RDY_INTEREST_READ, &reg), 0);
    assert_int_equal(rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event), RDY_PENDING);

    rdy_runtime_close(runtime);
    fixture->runtime = NULL;

    assert_true(timer.runtime == runtime);
    assert_int_equal(timer.state, 0);
    assert_false(rdy_timer_cancel(&timer));
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(close(fds[1]), 0);
}

static void *thread_writes(void *arg)
{
    uint64_t one = 1;

    assert_int_equal(write(*(int *)arg, &one, sizeof(one)), sizeof(one));
    return NULL;
}

/* Two tasks wake each other for ever, until a third has seen its descriptor become readable. */
struct busy {
    struct rdy_registration reg;
    struct rdy_waker waker;
    bool is_over;
    int *spins;
};

static int poll_spins(struct rdy_task *task, void *self)
{
    struct busy *busy = ((struct test_task *)self)->test;
    struct rdy_waker waker = rdy_task_waker(task);

    ++*busy->spins;
    rdy_waker_wake(&waker);
    return busy->is_over ? 0 : RDY_PENDING;
}

static int poll_waits_for_its_descriptor(struct rdy_task *task, void *self)
{
    struct busy *busy = ((struct test_task *)self)->test;
    struct rdy_waker waker = rdy_task_waker(task);
    struct rdy_event event;
    int rc = rdy_poll_readiness(&busy->reg, RDY_DIRECTION_READ, &waker, &event);

    if (rc == RDY_PENDING)
        return rc;
    busy->is_over = true;
    return rc;
}

static void busy_tasks_do_not_keep_the_driver_from_its_turn(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct busy busy = {0};
    int spins = 0;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    busy.spins = &spins;
    assert_true(fd >= 0);
    (void)thread_writes(&fd);
    assert_int_equal(rdy_register(rdy_runtime_driver(runtime), fd, RDY_INTEREST_READ, &busy.reg),
                     0);
    (void)spawn_test(runtime, poll_spins, NULL, &busy);
    (void)spawn_test(runtime, poll_spins, NULL, &busy);
    (void)spawn_test(runtime, poll_waits_for_its_descriptor, NULL, &busy);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    /* The event is in the kernel before the first turn: a few times event_interval is enough. */
    assert_true(spins <= 10 * 61);
    assert_int_equal(rdy_close(&busy.reg), 0);
}

static int poll_runs_another_runtime(struct rdy_task *task, void *self)
{
    struct rdy_runtime *inner = runtime_open(RDY_BACKEND_EPOLL);
    struct sleeper sleeper = {.sleep_ns = 1000};
    struct rdy_waker waker = rdy_task_waker(task);
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    (void)spawn_test(inner, poll_sleeps, sleep_drop, &sleeper);
    assert_int_equal(rdy_runtime_run(inner), 0);
    rdy_runtime_close(inner);
    assert_int_equal(sleeper.polls, 2);
    rdy_waker_wake(&waker); /* still takes the short way to the outer run queue */
    RDY_END(&my->co);
    return 0;
}

static void task_may_run_a_runtime_of_its_own(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    (void)spawn_test(runtime, poll_runs_another_runtime, NULL, NULL);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(runtime_stats(runtime).remote_wakes, 0);
}

static void shut_down_driver_ends_the_run(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    (void)spawn_test(runtime, poll_sleeps_for_ever, NULL, NULL);
    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(runtime)), 0);

    assert_int_equal(rdy_runtime_run(runtime), -ESHUTDOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_of_nothing_is_fine),
        ON_BOTH(absurd_options_are_refused),
        ON_BOTH(run_without_tasks_returns),
        ON_BOTH(another_thread_stops_a_blocked_run),
        ON_BOTH(stop_before_run_ends_the_next_run),
        ON_BOTH(signal_handler_stops_a_run),
        ON_BOTH(run_on_another_thread_is_refused),
        ON_BOTH(run_in_the_child_of_a_fork_is_refused),
        ON_BOTH(sleeps_are_never_early),
        ON_BOTH(sleeping_costs_a_handful_of_turns),
        ON_BOTH(deadline_in_the_past_is_no_wait),
        ON_BOTH(aborted_sleep_leaves_no_timer_behind),
        ON_BOTH(timer_that_is_always_due_fires_once_a_round),
        ON_BOTH(close_disarms_what_the_end_of_the_driver_arms),
        ON_BOTH(close_disarms_timers_that_outlive_the_runtime),
        ON_BOTH(busy_tasks_do_not_keep_the_driver_from_its_turn),
        ON_BOTH(task_may_run_a_runtime_of_its_own),
        ON_BOTH(shut_down_driver_ends_the_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
