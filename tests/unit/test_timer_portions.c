/* SPDX-License-Identifier: MIT */
/*
 * A crowd of timers and everybody else: what one round of the runtime does for timers is bounded,
 * and between two portions the tasks and the driver have their turn.
 */
#include "tests/support/runtime.h"
#include "tests/support/stress.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rdy/registration.h>
#include <rdy/timer.h>

#include "engine/runtime.h"

#define CROWD STRESS_ROUNDS(200000u, 20000u)

struct crowd {
    struct rdy_runtime *runtime;
    struct rdy_timer *timers;
    uint64_t fired;
    uint64_t fired_before; /* by the watcher's last poll */
    uint64_t fired_most;   /* between two of its polls */
    uint64_t rounds;
    uint64_t last_index;
    bool is_ordered;
    uint64_t rounds_max;
    int write_fd; /* written to by the first timer */
    uint64_t fired_at_event;
};

static struct crowd crowd;

static void crowd_open(void **state)
{
    memset(&crowd, 0, sizeof(crowd));
    crowd.runtime = runtime_of(state);
    crowd.timers = calloc(CROWD, sizeof(*crowd.timers));
    crowd.is_ordered = true;
    crowd.write_fd = -1;
    crowd.rounds_max = 10 + 10 * (uint64_t)CROWD / RDY_TIMER_MOVES_MAX;
    assert_non_null(crowd.timers);
}

static void crowd_close(void)
{
    assert_int_equal(runtime_stats(crowd.runtime).timers_armed, 0);
    free(crowd.timers);
}

static void crowd_fired(void *arg, uint64_t index)
{
    assert_ptr_equal(arg, &crowd);
    if (crowd.fired++ == 0 && crowd.write_fd >= 0)
        assert_int_equal(write(crowd.write_fd, "x", 1), 1);
    if (index < crowd.last_index)
        crowd.is_ordered = false;
    crowd.last_index = index;
}

static void crowd_arm(uint32_t i, uint64_t deadline_ns)
{
    const struct rdy_waker waker = {crowd_fired, &crowd, i};

    rdy_timer_arm(&crowd.timers[i], crowd.runtime, deadline_ns, &waker);
}

/* Yields until all have fired: polled in each round of the runtime. */
static int poll_watches(struct rdy_task *task, void *self)
{
    (void)self;
    if (crowd.fired - crowd.fired_before > crowd.fired_most)
        crowd.fired_most = crowd.fired - crowd.fired_before;
    crowd.fired_before = crowd.fired;
    crowd.rounds++;
    assert_true(crowd.rounds <= crowd.rounds_max);
    if (crowd.fired == CROWD)
        return 0;
    rdy_task_defer(task);
    return RDY_PENDING;
}

static void timers_for_one_moment_fire_a_portion_a_round(void **state)
{
    crowd_open(state);
    for (uint32_t i = 0; i < CROWD; i++)
        crowd_arm(i, 1);
    (void)spawn_test(crowd.runtime, poll_watches, NULL, NULL);

    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    assert_int_equal(crowd.fired, CROWD);
    assert_int_equal(crowd.fired_most, RDY_TIMER_MOVES_MAX);
    assert_true(crowd.rounds >= CROWD / RDY_TIMER_MOVES_MAX);
    assert_true(crowd.is_ordered);
    crowd_close();
}

/* Waits for its own timer, far behind the crowd's. */
static int poll_waits(struct rdy_task *task, void *self)
{
    (void)self;
    (void)task;
    return crowd.fired == CROWD ? 0 : RDY_PENDING;
}

static void wake_task(void *arg, uint64_t data)
{
    (void)data;
    rdy_waker_wake(arg);
}

/* Nobody yields here: the runtime itself must not block while timers are left. */
static void runtime_does_not_block_while_timers_are_left(void **state)
{
    struct rdy_driver_stats before;
    struct rdy_timer last = {0};
    struct rdy_waker waker;
    struct rdy_waker relay = {wake_task, &waker, 0};
    struct rdy_task_id id;

    crowd_open(state);
    for (uint32_t i = 0; i < CROWD; i++)
        crowd_arm(i, 1);
    rdy_timer_arm(&last, crowd.runtime, 1, &relay);
    id = spawn_test(crowd.runtime, poll_waits, NULL, NULL);
    waker = rdy_task_waker(rdy_task_find(crowd.runtime, id));
    before = driver_stats(crowd.runtime);

    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    assert_int_equal(crowd.fired, CROWD);
    assert_int_equal(driver_stats(crowd.runtime).parks, before.parks);
    assert_true(driver_stats(crowd.runtime).turns - before.turns >= CROWD / RDY_TIMER_MOVES_MAX);
    crowd_close();
}

static void event_note(void *arg, uint64_t data)
{
    (void)arg;
    (void)data;
    crowd.fired_at_event = crowd.fired;
}

static void sockets_are_served_between_two_portions(void **state)
{
    struct rdy_registration reg;
    struct rdy_waker waker = {.fn = event_note};
    struct rdy_event event;
    int fds[2];

    crowd_open(state);
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(
        rdy_register(rdy_runtime_driver(crowd.runtime), fds[0], RDY_INTEREST_READ, &reg), 0);
    assert_int_equal(rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event), RDY_PENDING);
    crowd.write_fd = fds[1];
    for (uint32_t i = 0; i < CROWD; i++)
        crowd_arm(i, 1);
    (void)spawn_test(crowd.runtime, poll_watches, NULL, NULL);

    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    /* The first timer's waker wrote: the next look at the driver is one portion later. */
    assert_int_equal(crowd.fired_at_event, RDY_TIMER_MOVES_MAX);
    assert_int_equal(rdy_close(&reg), 0);
    assert_int_equal(close(fds[1]), 0);
    crowd_close();
}

/* The clock is paused only to be moved: as if a busy thread had come late. */
static void crowd_of_a_far_slot_comes_in_portions(void **state)
{
    uint64_t start_ns;
    uint64_t slot_ns = UINT64_C(1) << 34;

    crowd_open(state);
    rdy_runtime_pause_clock(crowd.runtime);
    start_ns = rdy_runtime_now_ns(crowd.runtime);
    for (uint32_t i = 0; i < CROWD; i++)
        crowd_arm(i, start_ns + slot_ns + (uint64_t)i * 1000);
    assert_int_equal(rdy_runtime_advance(crowd.runtime, slot_ns + (uint64_t)CROWD * 1000), 0);
    rdy_runtime_resume_clock(crowd.runtime);
    (void)spawn_test(crowd.runtime, poll_watches, NULL, NULL);

    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    assert_int_equal(crowd.fired, CROWD);
    assert_true(crowd.fired_most <= RDY_TIMER_MOVES_MAX);
    crowd_close();
}

/* All at once, in order: what <rdy/timer.h> promises of a paused clock. */
static void paused_clock_fires_a_crowd_in_order_in_one_turn(void **state)
{
    uint64_t start_ns;

    crowd_open(state);
    rdy_runtime_pause_clock(crowd.runtime);
    start_ns = rdy_runtime_now_ns(crowd.runtime);
    /* armed from the last to the first */
    for (uint32_t i = CROWD; i-- > 0;)
        crowd_arm(i, start_ns + 1 + (uint64_t)i * 300000);
    assert_int_equal(rdy_runtime_advance(crowd.runtime, 1 + (uint64_t)CROWD * 300000), 0);
    (void)spawn_test(crowd.runtime, poll_watches, NULL, NULL);

    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    assert_int_equal(crowd.fired_most, CROWD);
    assert_int_equal(crowd.rounds, 2);
    assert_true(crowd.is_ordered);
    crowd_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(timers_for_one_moment_fire_a_portion_a_round),
        ON_BOTH(runtime_does_not_block_while_timers_are_left),
        ON_BOTH(sockets_are_served_between_two_portions),
        ON_BOTH(crowd_of_a_far_slot_comes_in_portions),
        ON_BOTH(paused_clock_fires_a_crowd_in_order_in_one_turn),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
