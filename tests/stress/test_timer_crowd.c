/* SPDX-License-Identifier: MIT */
/*
 * A million timers of one runtime against plain arrays: armed, moved, cancelled and fired while a
 * paused clock moves on by steps of every size. Each firing is checked as it comes, and after each
 * step nothing that is due is left. Under a sanitizer the crowd is smaller.
 */
#include "tests/support/runtime.h"
#include "tests/support/stress.h"

#include <stdlib.h>

#include <rdy/timer.h>

#define CROWD         STRESS_ROUNDS(1000000u, 50000u)
#define STEPS         STRESS_ROUNDS(200u, 60u)
#define CHANGES       (CROWD / 50)
#define DISTANCE_BITS 38 /* some 4 minutes */

/* What is to be true of a timer. */
struct expected {
    uint64_t deadline_ns;
    bool is_armed;
};

struct crowd {
    struct rdy_runtime *runtime;
    struct rdy_timer *timers;
    struct expected *expected;
    uint64_t random;
    uint64_t before_ns; /* the time of the step before */
    uint64_t last_ns;   /* the deadline that fired last in this step */
    uint64_t armed;
    uint64_t fired;
    struct rdy_timer pause;
    uint32_t steps;
};

static struct crowd crowd;

/* Not before its deadline, not a step late, once, and in the order of deadlines. */
static void crowd_fired(void *arg, uint64_t index)
{
    struct expected *expected = &crowd.expected[index];

    assert_ptr_equal(arg, &crowd);
    assert_true(expected->is_armed);
    assert_true(expected->deadline_ns <= rdy_runtime_now_ns(crowd.runtime));
    assert_true(expected->deadline_ns > crowd.before_ns);
    assert_true(expected->deadline_ns >= crowd.last_ns);
    assert_true(rdy_timer_has_fired(&crowd.timers[index]));
    crowd.last_ns = expected->deadline_ns;
    expected->is_armed = false;
    crowd.armed--;
    crowd.fired++;
}

static void crowd_arm(uint64_t index)
{
    struct expected *expected = &crowd.expected[index];
    const struct rdy_waker waker = {crowd_fired, &crowd, index};
    uint64_t distance = stress_random(&crowd.random);

    distance >>= 64 - 8 - stress_random(&crowd.random) % (DISTANCE_BITS - 7);
    if (!expected->is_armed)
        crowd.armed++;
    expected->is_armed = true;
    expected->deadline_ns = rdy_runtime_now_ns(crowd.runtime) + 1 + distance;
    rdy_timer_arm(&crowd.timers[index], crowd.runtime, expected->deadline_ns, &waker);
}

static void crowd_cancel(uint64_t index)
{
    assert_int_equal(rdy_timer_cancel(&crowd.timers[index]), crowd.expected[index].is_armed);
    if (crowd.expected[index].is_armed)
        crowd.armed--;
    crowd.expected[index].is_armed = false;
}

static void crowd_check(void)
{
    uint64_t now_ns = rdy_runtime_now_ns(crowd.runtime);
    uint64_t overdue = 0;
    uint64_t armed = 0;

    for (uint64_t i = 0; i < CROWD; i++) {
        armed += crowd.expected[i].is_armed;
        overdue += crowd.expected[i].is_armed && crowd.expected[i].deadline_ns <= now_ns;
    }
    assert_int_equal(overdue, 0);
    assert_int_equal(armed, crowd.armed);
    assert_int_equal(runtime_stats(crowd.runtime).timers_fired, crowd.fired + crowd.steps);
}

static void crowd_change(void)
{
    for (uint32_t i = 0; i < CHANGES; i++) {
        uint64_t index = stress_random(&crowd.random) % CROWD;

        if (stress_random(&crowd.random) % 8 == 0)
            crowd_cancel(index);
        else
            crowd_arm(index);
    }
    crowd.before_ns = rdy_runtime_now_ns(crowd.runtime);
    crowd.last_ns = 0;
}

/* The pause between two steps is a timer too; it is due when all others of the step have fired. */
static int poll_steps(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    uint64_t distance;

    RDY_BEGIN(&my->co);
    while (crowd.steps < STEPS) {
        crowd_change();
        distance = stress_random(&crowd.random) >> (64 - 32 + stress_random(&crowd.random) % 16);
        assert_int_equal(rdy_runtime_advance(crowd.runtime, distance), 0);
        RDY_SLEEP(&my->co, &crowd.pause, task, 1);
        crowd.steps++;
        crowd_check();
    }
    RDY_END(&my->co);
    return 0;
}

static void million_timers_agree_with_plain_arrays(void **state)
{
    memset(&crowd, 0, sizeof(crowd));
    crowd.runtime = runtime_of(state);
    crowd.random = UINT64_C(0x9e3779b97f4a7c15);
    crowd.timers = calloc(CROWD, sizeof(*crowd.timers));
    crowd.expected = calloc(CROWD, sizeof(*crowd.expected));
    assert_true(crowd.timers && crowd.expected);
    rdy_runtime_pause_clock(crowd.runtime);
    for (uint64_t i = 0; i < CROWD; i++)
        crowd_arm(i);
    assert_int_equal(runtime_stats(crowd.runtime).timers_armed, CROWD);

    (void)spawn_test(crowd.runtime, poll_steps, NULL, NULL);
    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    assert_int_equal(crowd.steps, STEPS);
    assert_true(crowd.fired > CROWD / 4);
    assert_int_equal(runtime_stats(crowd.runtime).timers_armed, crowd.armed);
    for (uint64_t i = 0; i < CROWD; i++)
        crowd_cancel(i);
    assert_int_equal(runtime_stats(crowd.runtime).timers_armed, 0);
    free(crowd.timers);
    free(crowd.expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(million_timers_agree_with_plain_arrays),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
