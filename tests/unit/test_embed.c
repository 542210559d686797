/* SPDX-License-Identifier: MIT */
/*
 * A runtime inside another loop: what makes its descriptor readable, what a turn does and says,
 * how long the loop may sleep. The races are in tests/stress/test_embed.c.
 */
#include "tests/support/embedded.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rdy/registration.h>
#include <rdy/shutdown.h>
#include <rdy/timer.h>

#define HOUR_NS    UINT64_C(3600000000000)
#define PATIENT_MS 10000 /* for what must come */

struct counted {
    int polls;
    int drops;
    struct rdy_waker waker;
};

static struct counted *counted_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static int poll_counts(struct rdy_task *task, void *self)
{
    (void)task;
    counted_of(self)->polls++;
    return 0;
}

/* Leaves its waker with the test, and goes on with each wake. */
static int poll_waits(struct rdy_task *task, void *self)
{
    struct counted *counted = counted_of(self);

    counted->waker = rdy_task_waker(task);
    counted->polls++;
    return RDY_PENDING;
}

static void drop_counts(void *self)
{
    counted_of(self)->drops++;
}

/* --- the descriptor --- */

static void descriptor_of_a_runtime_that_is_not_embedded_is_refused(void **state)
{
    assert_int_equal(rdy_runtime_fd(runtime_of(state)), -EINVAL);
}

static void spawn_outside_of_a_turn_makes_the_descriptor_readable(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};

    turn_until_quiet(runtime);
    (void)spawn_test(runtime, poll_counts, NULL, &counted);

    assert_true(is_readable(runtime, 0));
    assert_int_equal(rdy_runtime_timeout_ns(runtime), 0);
    assert_int_equal(counted.polls, 0);
    turn_until_quiet(runtime);
    assert_int_equal(counted.polls, 1);
}

static void wake_by_the_outer_loop_makes_the_descriptor_readable(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};

    (void)spawn_test(runtime, poll_waits, NULL, &counted);
    turn_until_quiet(runtime);
    assert_int_equal(counted.polls, 1);

    rdy_waker_wake(&counted.waker);
    assert_true(is_readable(runtime, 0));
    assert_int_equal(rdy_runtime_timeout_ns(runtime), 0);
    turn_until_quiet(runtime);
    assert_int_equal(counted.polls, 2);
}

static void *thread_spawns(void *arg)
{
    static struct counted counted; /* of another thread's task: read after the turn only */
    struct test_task init = {.test = &counted};
    struct rdy_task_spec spec = {.poll = poll_counts, .self_size = sizeof(init)};

    counted = (struct counted){0};
    assert_int_equal(rdy_spawn_remote(arg, &spec, &init), 0);
    return &counted;
}

static void spawn_by_another_thread_makes_the_descriptor_readable(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    void *counted = NULL;
    pthread_t thread;

    turn_until_quiet(runtime);
    assert_int_equal(pthread_create(&thread, NULL, thread_spawns, runtime), 0);
    assert_true(is_readable(runtime, PATIENT_MS));
    assert_int_equal(pthread_join(thread, &counted), 0);

    assert_int_equal(rdy_runtime_timeout_ns(runtime), 0);
    turn_until_quiet(runtime);
    assert_int_equal(((struct counted *)counted)->polls, 1);
}

static int poll_reads_its_eventfd(struct rdy_task *task, void *self)
{
    struct rdy_registration *reg = ((struct test_task *)self)->test;
    struct rdy_waker waker = rdy_task_waker(task);
    struct rdy_event event;

    return rdy_poll_readiness(reg, RDY_DIRECTION_READ, &waker, &event);
}

static void readiness_makes_the_descriptor_readable(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_driver *driver = rdy_runtime_driver(runtime);
    struct rdy_registration reg = {0};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t one = 1;

    assert_true(fd >= 0);
    assert_int_equal(rdy_register(driver, fd, RDY_INTEREST_READ, &reg), 0);
    (void)spawn_test(runtime, poll_reads_its_eventfd, NULL, &reg);
    turn_until_quiet(runtime);
    assert_int_equal(runtime_stats(runtime).tasks_live, 1);

    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
    assert_true(is_readable(runtime, PATIENT_MS));
    turn_until_quiet(runtime);
    assert_int_equal(runtime_stats(runtime).tasks_live, 0);
    assert_int_equal(rdy_close(&reg), 0);
}

static void fire_counts(void *arg, uint64_t data)
{
    (void)data;
    ++*(int *)arg;
}

static void timer_armed_as_the_first_makes_the_descriptor_readable(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t now_ns = rdy_runtime_now_ns(runtime);
    struct rdy_timer late = {0};
    struct rdy_timer later = {0};
    struct rdy_timer early = {0};
    int fired = 0;
    struct rdy_waker waker = {.fn = fire_counts, .arg = &fired};

    turn_until_quiet(runtime);
    rdy_timer_arm(&late, runtime, now_ns + HOUR_NS, &waker);
    assert_true(is_readable(runtime, 0));
    turn_until_quiet(runtime);

    rdy_timer_arm(&later, runtime, now_ns + 2 * HOUR_NS, &waker);
    assert_false(is_readable(runtime, 0));

    rdy_timer_arm(&early, runtime, now_ns, &waker);
    assert_true(is_readable(runtime, 0));
    turn_until_quiet(runtime);
    assert_int_equal(fired, 1);
    assert_true(rdy_timer_cancel(&late));
    assert_true(rdy_timer_cancel(&later));
}

static void moved_clock_makes_the_descriptor_readable(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_timer timer = {0};
    int fired = 0;
    struct rdy_waker waker = {.fn = fire_counts, .arg = &fired};

    turn_until_quiet(runtime);
    rdy_runtime_pause_clock(runtime);
    turn_until_quiet(runtime);
    rdy_timer_arm(&timer, runtime, rdy_runtime_now_ns(runtime) + HOUR_NS, &waker);
    assert_int_equal(rdy_runtime_advance(runtime, HOUR_NS), 0);

    assert_true(is_readable(runtime, 0));
    turn_until_quiet(runtime);
    assert_int_equal(fired, 1);
}

/* Nobody is called for nothing: what was done in a turn is over with the turn. */
static void what_happens_in_a_turn_leaves_the_descriptor_quiet(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};
    uint64_t turns;

    (void)spawn_test(runtime, poll_waits, NULL, &counted);
    turn_until_quiet(runtime);
    turns = driver_stats(runtime).turns;

    for (int i = 0; i < 100; i++)
        assert_false(is_readable(runtime, 0));
    assert_int_equal(driver_stats(runtime).turns, turns);
}

/* --- the turn --- */

static void turn_with_nothing_to_do_is_idle(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    turn_until_quiet(runtime);
    assert_int_equal(rdy_runtime_turn(runtime, 0), RDY_TURN_IDLE);
    assert_int_equal(rdy_runtime_timeout_ns(runtime), -1);
}

static void turn_polls_a_bounded_number_of_tasks_and_says_that_there_are_more(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};

    for (int i = 0; i < 100; i++)
        (void)spawn_test(runtime, poll_counts, NULL, &counted);

    assert_int_equal(rdy_runtime_turn(runtime, -1), RDY_TURN_MORE);
    assert_int_equal(counted.polls, 61);
    assert_int_equal(rdy_runtime_timeout_ns(runtime), 0);
    assert_int_equal(rdy_runtime_turn(runtime, 0), RDY_TURN_IDLE);
    assert_int_equal(counted.polls, 100);
}

static int poll_yields_twice(struct rdy_task *task, void *self)
{
    struct counted *counted = counted_of(self);

    if (++counted->polls == 3)
        return 0;
    rdy_task_defer(task);
    return RDY_PENDING;
}

static void task_that_yields_is_more_to_do(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};

    (void)spawn_test(runtime, poll_yields_twice, NULL, &counted);
    assert_int_equal(rdy_runtime_turn(runtime, -1), RDY_TURN_MORE);
    assert_int_equal(rdy_runtime_turn(runtime, -1), RDY_TURN_MORE);
    assert_int_equal(rdy_runtime_turn(runtime, 0), RDY_TURN_IDLE);
    assert_int_equal(counted.polls, 3);
}

static void *thread_wakes(void *arg)
{
    rdy_waker_wake(arg);
    return NULL;
}

static void turn_that_blocks_is_ended_by_a_wake(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};

    (void)spawn_test(runtime, poll_waits, NULL, &counted);
    turn_until_quiet(runtime);
    for (int round = 1; round <= 100; round++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, thread_wakes, &counted.waker), 0);
        for (int turns = 0; turns < TURNS_MAX && counted.polls <= round; turns++)
            assert_in_range(rdy_runtime_turn(runtime, -1), RDY_TURN_IDLE, RDY_TURN_MORE);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(counted.polls, round + 1);
    }
}

static void turn_blocks_no_longer_than_it_may(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_timer timer = {0};
    struct rdy_waker nobody = {0};
    uint64_t until_ns;

    rdy_timer_arm(&timer, runtime, rdy_runtime_now_ns(runtime) + HOUR_NS, &nobody);
    turn_until_quiet(runtime);

    /* Not in one: the end of an earlier test's ring may interrupt a wait. */
    until_ns = rdy_runtime_now_ns(runtime) + 2000000;
    for (int turns = 0; turns < TURNS_MAX && rdy_runtime_now_ns(runtime) < until_ns; turns++)
        assert_int_equal(rdy_runtime_turn(runtime, 2000000), RDY_TURN_IDLE);
    assert_true(rdy_timer_cancel(&timer));
    assert_true(rdy_runtime_now_ns(runtime) >= until_ns);
}

static void turn_blocks_no_longer_than_until_the_next_timer(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_timer timer = {0};
    int fired = 0;
    struct rdy_waker waker = {.fn = fire_counts, .arg = &fired};

    turn_until_quiet(runtime);
    rdy_timer_arm(&timer, runtime, rdy_runtime_now_ns(runtime) + 3000000, &waker);
    for (int turns = 0; turns < TURNS_MAX && fired == 0; turns++)
        assert_in_range(rdy_runtime_turn(runtime, -1), RDY_TURN_IDLE, RDY_TURN_MORE);
    assert_int_equal(fired, 1);
}

static void timeout_is_the_way_to_the_next_timer(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t deadline_ns = rdy_runtime_now_ns(runtime) + HOUR_NS;
    struct rdy_timer timer = {0};
    int fired = 0;
    struct rdy_waker waker = {.fn = fire_counts, .arg = &fired};
    int64_t timeout_ns;

    rdy_timer_arm(&timer, runtime, deadline_ns, &waker);
    turn_until_quiet(runtime);
    timeout_ns = rdy_runtime_timeout_ns(runtime);
    assert_true(timeout_ns > 0);
    assert_true(rdy_runtime_now_ns(runtime) + (uint64_t)timeout_ns >= deadline_ns);
    assert_true(timeout_ns <= (int64_t)HOUR_NS);

    rdy_timer_arm(&timer, runtime, 1, &waker);
    assert_int_equal(rdy_runtime_timeout_ns(runtime), 0);
    assert_int_equal(rdy_runtime_turn(runtime, -1), RDY_TURN_IDLE);
    assert_int_equal(fired, 1);
}

/* What was read in a turn would be as old as the loop's sleep since. */
static void time_goes_on_between_two_turns(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t first_ns;
    int looks = 0;

    turn_until_quiet(runtime);
    first_ns = rdy_runtime_now_ns(runtime);
    while (rdy_runtime_now_ns(runtime) == first_ns && looks < 10000000)
        looks++;
    assert_true(rdy_runtime_now_ns(runtime) > first_ns);
}

static int poll_sleeps_an_hour(struct rdy_task *task, void *self)
{
    static struct rdy_timer timer;
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    RDY_SLEEP(&my->co, &timer, task, HOUR_NS);
    counted_of(self)->polls++;
    RDY_END(&my->co);
    return 0;
}

static void paused_clock_skips_ahead_in_turns(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};

    rdy_runtime_pause_clock(runtime);
    (void)spawn_test(runtime, poll_sleeps_an_hour, NULL, &counted);
    turn_until_quiet(runtime);
    assert_int_equal(counted.polls, 1);
}

static void turn_without_a_descriptor_works_as_well(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};

    (void)spawn_test(runtime, poll_yields_twice, NULL, &counted);
    for (int turns = 0; turns < TURNS_MAX && counted.polls < 3; turns++)
        assert_in_range(rdy_runtime_turn(runtime, -1), RDY_TURN_IDLE, RDY_TURN_MORE);
    assert_int_equal(counted.polls, 3);
    assert_int_equal(rdy_runtime_run(runtime), 0);
}

/* --- stopping, and where a turn is refused --- */

static void stop_is_said_once_and_ends_nothing(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};
    struct rdy_task_id id = spawn_test(runtime, poll_waits, drop_counts, &counted);

    turn_until_quiet(runtime);
    rdy_runtime_stop(runtime);
    rdy_runtime_stop(runtime);

    assert_true(is_readable(runtime, 0));
    assert_int_equal(rdy_runtime_timeout_ns(runtime), 0);
    assert_int_equal(rdy_runtime_turn(runtime, -1), RDY_TURN_STOPPED);
    turn_until_quiet(runtime);
    assert_int_equal(counted.drops, 0);
    rdy_waker_wake(&counted.waker);
    turn_until_quiet(runtime);
    assert_int_equal(counted.polls, 2);
    assert_int_equal(rdy_task_abort(runtime, id), 0);
    assert_int_equal(counted.drops, 1);
}

static int poll_stops(struct rdy_task *task, void *self)
{
    (void)self;
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

static void task_that_stops_ends_the_turn_it_runs_in(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    (void)spawn_test(runtime, poll_stops, NULL, NULL);
    assert_int_equal(rdy_runtime_turn(runtime, -1), RDY_TURN_STOPPED);
    turn_until_quiet(runtime);
}

/*
 * The answer has no room for "and more can run"; the descriptor says it. With something to be
 * closed, the end of the turn looks at the driver, and that takes the wake's signal back.
 */
static void stopped_turn_leaves_the_descriptor_readable_if_there_is_more(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_registration reg = {0};
    struct counted counted = {0};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_int_equal(rdy_register(rdy_runtime_driver(runtime), fd, RDY_INTEREST_READ, &reg), 0);
    (void)spawn_test(runtime, poll_waits, NULL, &counted);
    turn_until_quiet(runtime);
    rdy_waker_wake(&counted.waker);
    assert_int_equal(rdy_close(&reg), 0);
    rdy_runtime_stop(runtime);

    assert_int_equal(rdy_runtime_turn(runtime, 0), RDY_TURN_STOPPED);
    assert_int_equal(counted.polls, 1);
    assert_true(is_readable(runtime, 0));
    turn_until_quiet(runtime);
    assert_int_equal(counted.polls, 2);
}

/* Waits for the shutdown, and takes one more round to say goodbye. */
static int poll_says_goodbye(struct rdy_task *task, void *self)
{
    static struct rdy_shutdown_wait wait;
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    wait = (struct rdy_shutdown_wait){0};
    RDY_AWAIT(&my->co, rdy_runtime_poll_shutdown(&wait, task));
    RDY_YIELD(&my->co, task);
    counted_of(self)->polls++;
    RDY_END(&my->co);
    return 0;
}

static void shutdown_ends_in_turns_when_the_tasks_have_ended(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};
    int rc = RDY_TURN_IDLE;

    (void)spawn_test(runtime, poll_says_goodbye, NULL, &counted);
    turn_until_quiet(runtime);
    assert_int_equal(rdy_runtime_shutdown(runtime, UINT64_MAX), 0);
    assert_true(is_readable(runtime, 0));
    assert_int_equal(rdy_runtime_timeout_ns(runtime), 0);
    for (int turns = 0; turns < TURNS_MAX && rc != RDY_TURN_STOPPED; turns++)
        rc = rdy_runtime_turn(runtime, -1);
    assert_int_equal(rc, RDY_TURN_STOPPED);
    assert_int_equal(counted.polls, 1);
    assert_int_equal(rdy_runtime_turn(runtime, -1), RDY_TURN_STOPPED);
    assert_int_equal(rdy_runtime_timeout_ns(runtime), -1);
}

/* The outer loop is told to come back at the deadline, and the turn after it ends what is left. */
static void shutdown_ends_tasks_at_its_deadline_in_turns(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};
    int rc = RDY_TURN_IDLE;

    (void)spawn_test(runtime, poll_waits, drop_counts, &counted);
    turn_until_quiet(runtime);
    assert_int_equal(rdy_runtime_shutdown(runtime, 3000000), 0);
    for (int turns = 0; turns < TURNS_MAX && rc != RDY_TURN_STOPPED; turns++) {
        int64_t timeout_ns = rdy_runtime_timeout_ns(runtime);

        assert_true(timeout_ns >= 0);
        (void)is_readable(runtime, (int)((timeout_ns + 999999) / 1000000));
        rc = rdy_runtime_turn(runtime, 0);
    }
    assert_int_equal(rc, RDY_TURN_STOPPED);
    assert_int_equal(counted.drops, 1);
    assert_int_equal(rdy_runtime_turn(runtime, -1), RDY_TURN_STOPPED);
}

static void *thread_turns(void *arg)
{
    return (void *)(intptr_t)rdy_runtime_turn(arg, 0);
}

static void turn_on_another_thread_is_refused(void **state)
{
    pthread_t thread;
    void *result = NULL;

    assert_int_equal(pthread_create(&thread, NULL, thread_turns, runtime_of(state)), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, -EPERM);
}

static void turn_after_the_drivers_end_says_so(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(runtime)), 0);
    assert_int_equal(rdy_runtime_turn(runtime, 0), -ESHUTDOWN);
    assert_int_equal(rdy_runtime_turn(runtime, -1), -ESHUTDOWN);
}

static int poll_turns_another_runtime(struct rdy_task *task, void *self)
{
    struct rdy_runtime *inner = embedded_open(RDY_BACKEND_EPOLL);
    struct rdy_waker waker = rdy_task_waker(task);
    struct counted counted = {0};
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    (void)spawn_test(inner, poll_counts, NULL, &counted);
    turn_until_quiet(inner);
    rdy_runtime_close(inner);
    assert_int_equal(counted.polls, 1);
    rdy_waker_wake(&waker); /* still takes the short way to the outer run queue */
    RDY_END(&my->co);
    return 0;
}

static void task_may_turn_a_runtime_of_its_own(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    (void)spawn_test(runtime, poll_turns_another_runtime, NULL, NULL);
    turn_until_quiet(runtime);
    assert_int_equal(runtime_stats(runtime).remote_wakes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(descriptor_of_a_runtime_that_is_not_embedded_is_refused),
        ON_BOTH_EMBEDDED(spawn_outside_of_a_turn_makes_the_descriptor_readable),
        ON_BOTH_EMBEDDED(wake_by_the_outer_loop_makes_the_descriptor_readable),
        ON_BOTH_EMBEDDED(spawn_by_another_thread_makes_the_descriptor_readable),
        ON_BOTH_EMBEDDED(readiness_makes_the_descriptor_readable),
        ON_BOTH_EMBEDDED(timer_armed_as_the_first_makes_the_descriptor_readable),
        ON_BOTH_EMBEDDED(moved_clock_makes_the_descriptor_readable),
        ON_BOTH_EMBEDDED(what_happens_in_a_turn_leaves_the_descriptor_quiet),
        ON_BOTH_EMBEDDED(turn_with_nothing_to_do_is_idle),
        ON_BOTH_EMBEDDED(turn_polls_a_bounded_number_of_tasks_and_says_that_there_are_more),
        ON_BOTH_EMBEDDED(task_that_yields_is_more_to_do),
        ON_BOTH_EMBEDDED(turn_that_blocks_is_ended_by_a_wake),
        ON_BOTH_EMBEDDED(turn_blocks_no_longer_than_it_may),
        ON_BOTH_EMBEDDED(turn_blocks_no_longer_than_until_the_next_timer),
        ON_BOTH_EMBEDDED(timeout_is_the_way_to_the_next_timer),
        ON_BOTH_EMBEDDED(time_goes_on_between_two_turns),
        ON_BOTH_EMBEDDED(paused_clock_skips_ahead_in_turns),
        ON_BOTH(turn_without_a_descriptor_works_as_well),
        ON_BOTH_EMBEDDED(stop_is_said_once_and_ends_nothing),
        ON_BOTH_EMBEDDED(task_that_stops_ends_the_turn_it_runs_in),
        ON_BOTH_EMBEDDED(stopped_turn_leaves_the_descriptor_readable_if_there_is_more),
        ON_BOTH_EMBEDDED(shutdown_ends_in_turns_when_the_tasks_have_ended),
        ON_BOTH_EMBEDDED(shutdown_ends_tasks_at_its_deadline_in_turns),
        ON_BOTH_EMBEDDED(turn_on_another_thread_is_refused),
        ON_BOTH_EMBEDDED(turn_after_the_drivers_end_says_so),
        ON_BOTH_EMBEDDED(task_may_turn_a_runtime_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
