/* SPDX-License-Identifier: MIT */
/*
 * The wheel in portions: a slot that holds a crowd is filed anew over many calls, and meanwhile
 * timers are armed, moved and cancelled wherever they are. Against plain arrays; time is an
 * argument, so nothing here waits.
 */
#include "tests/support/check.h"

#include <stdlib.h>

#include "engine/wheel.h"
#include "tests/support/stress.h"

#define START_NS    UINT64_C(123456789)
#define PORTION     256u
#define CROWD_COUNT 20000u
#define NS_PER_S    UINT64_C(1000000000)

/* A wheel, its timers, and what should be true of them. */
struct model {
    struct rdy_wheel wheel;
    struct rdy_timer timers[CROWD_COUNT];
    uint64_t deadlines_ns[CROWD_COUNT];
    bool is_armed[CROWD_COUNT];
    uint32_t timers_count;
    uint64_t now_ns;
    uint64_t random;
    uint64_t moves_most; /* in one expire */
    uint64_t fired;
};

static struct model model;

static void model_open(uint32_t timers_count, uint64_t seed)
{
    memset(&model, 0, sizeof(model));
    model.timers_count = timers_count;
    model.random = seed;
    model.now_ns = START_NS;
    rdy_wheel_init(&model.wheel, START_NS);
}

static void model_arm(uint32_t i, uint64_t deadline_ns)
{
    rdy_wheel_arm(&model.wheel, &model.timers[i], deadline_ns);
    model.deadlines_ns[i] = deadline_ns;
    model.is_armed[i] = true;
}

static void model_cancel(uint32_t i)
{
    assert_int_equal(rdy_wheel_cancel(&model.wheel, &model.timers[i]), model.is_armed[i]);
    model.is_armed[i] = false;
}

/* Mostly within one slot of a high level, so that crowds come near together. */
static void model_touch_one(uint32_t bits_max)
{
    uint32_t i = (uint32_t)(stress_random(&model.random) % model.timers_count);
    uint64_t distance =
        stress_random(&model.random) >> (63 - stress_random(&model.random) % bits_max);

    if (stress_random(&model.random) % 4 == 0)
        model_cancel(i);
    else
        model_arm(i, model.now_ns + (UINT64_C(1) << bits_max) + distance);
}

/* One call's work, and up to @fires_max of what is due; each is checked as it comes. */
static void model_turn(uint32_t fires_max)
{
    uint64_t moves = rdy_wheel_expire(&model.wheel, model.now_ns, PORTION);

    if (moves > model.moves_most)
        model.moves_most = moves;
    for (uint32_t fires = 0; fires < fires_max; fires++) {
        struct rdy_timer *timer = rdy_wheel_take_due(&model.wheel);
        size_t i;

        if (!timer)
            return;
        i = (size_t)(timer - model.timers);
        assert_true(model.is_armed[i]);
        assert_true(model.deadlines_ns[i] <= model.now_ns);
        model.is_armed[i] = false;
        model.fired++;
    }
}

/* The wheel never asks to be left alone longer than until the next timer, or until now. */
static void model_check(void)
{
    uint64_t armed_count = 0;
    uint64_t earliest_ns = UINT64_MAX;

    for (uint32_t i = 0; i < model.timers_count; i++) {
        if (!model.is_armed[i])
            continue;
        armed_count++;
        if (model.deadlines_ns[i] < earliest_ns)
            earliest_ns = model.deadlines_ns[i];
    }
    assert_int_equal(rdy_a64_load_relaxed(&model.wheel.armed_count), armed_count);
    assert_true(model.wheel.earliest_ns <= earliest_ns ||
                model.wheel.earliest_ns == model.wheel.now_ns);
    if (armed_count == 0)
        assert_true(model.wheel.earliest_ns == RDY_WHEEL_NEVER);
}

/* With time standing the work comes to an end, and then exactly what is not due is left. */
static uint32_t model_settle(void)
{
    uint32_t turns = 0;

    while (model.wheel.earliest_ns <= model.now_ns) {
        model_turn(PORTION);
        /* Each timer falls eight levels at most and fires once. */
        assert_true(++turns <= 10 + 9 * model.timers_count / PORTION);
    }
    for (uint32_t i = 0; i < model.timers_count; i++)
        assert_true(!model.is_armed[i] || model.deadlines_ns[i] > model.now_ns);
    model_check();
    return turns;
}

static void portions_agree_with_a_plain_array(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint32_t bits_max = 20 + (uint32_t)seed;

        model_open(3000, seed * UINT64_C(0x9e3779b97f4a7c15));
        for (int step = 0; step < 300; step++) {
            for (int i = 0; i < 100; i++)
                model_touch_one(bits_max);
            model.now_ns += stress_random(&model.random) >> (63 - bits_max);
            /* Some turns, or none, leave work for the next step; now and then it is all done. */
            for (uint64_t turn = stress_random(&model.random) % 4; turn > 0; turn--)
                model_turn((uint32_t)stress_random(&model.random) % PORTION);
            model_check();
            if (step % 10 == 9)
                (void)model_settle();
        }
        assert_true(model.fired > 1000);
        assert_int_equal(model.moves_most, PORTION);
        rdy_wheel_clear(&model.wheel);
        assert_int_equal(rdy_a64_load_relaxed(&model.wheel.armed_count), 0);
    }
}

/* All of them in one slot of level 3, which is 17 s wide. The same moment, or spread over it. */
static void crowd_arm(uint64_t slot_ns, bool is_spread)
{
    for (uint32_t i = 0; i < model.timers_count; i++) {
        uint64_t offset_ns = is_spread ? stress_random(&model.random) % (17 * NS_PER_S) : 1;

        model_arm(i, slot_ns + (i == 0 ? 1 : offset_ns)); /* the first has the slot looked at */
    }
}

static uint64_t next_slot_ns(void)
{
    return ((START_NS >> 34) + 1) << 34;
}

static void crowd_that_comes_near_is_filed_in_portions(void **state)
{
    uint32_t turns = 0;

    (void)state;
    model_open(CROWD_COUNT, 88172645463325252);
    crowd_arm(next_slot_ns(), true);

    model.now_ns = next_slot_ns() + 1;
    turns = model_settle();

    assert_int_equal(model.moves_most, PORTION);
    assert_int_equal(turns, (CROWD_COUNT + PORTION - 1) / PORTION);
    assert_int_equal(model.fired, 1);

    /* and each of them fires at its own time all the same */
    for (uint32_t i = 0; i < 100; i++) {
        model.now_ns += 17 * NS_PER_S / 100;
        (void)model_settle();
    }
    model.now_ns += 17 * NS_PER_S / 100;
    (void)model_settle();
    assert_int_equal(model.fired, CROWD_COUNT);
}

static void crowd_for_one_moment_is_collected_in_portions(void **state)
{
    uint32_t turns = 0;

    (void)state;
    model_open(CROWD_COUNT, 88172645463325252);
    crowd_arm(next_slot_ns(), false);

    model.now_ns = next_slot_ns() + 1;
    while (model.fired < CROWD_COUNT) {
        assert_int_equal(model.wheel.earliest_ns, turns == 0 ? model.now_ns : model.wheel.now_ns);
        model_turn(PORTION);
        assert_int_equal(model.fired, CROWD_COUNT - rdy_a64_load_relaxed(&model.wheel.armed_count));
        turns++;
    }

    assert_int_equal(model.moves_most, PORTION);
    assert_int_equal(turns, (CROWD_COUNT + PORTION - 1) / PORTION);
    assert_true(model.wheel.earliest_ns == RDY_WHEEL_NEVER);
}

static void timer_for_soon_does_not_stand_behind_a_crowd(void **state)
{
    struct rdy_timer soon = {0};

    (void)state;
    model_open(CROWD_COUNT, 88172645463325252);
    crowd_arm(next_slot_ns(), true);
    model.now_ns = next_slot_ns() + 1;
    (void)rdy_wheel_expire(&model.wheel, model.now_ns, PORTION);

    /* when a timer is armed while the crowd is being filed */
    rdy_wheel_arm(&model.wheel, &soon, model.now_ns + 100000);

    /* then it is collected in the first call after its time, with most of the crowd still there */
    assert_true(model.wheel.earliest_ns <= model.now_ns);
    (void)rdy_wheel_expire(&model.wheel, model.now_ns + 99999, PORTION);
    assert_true(soon.slot != RDY_WHEEL_SLOT_DUE);
    (void)rdy_wheel_expire(&model.wheel, model.now_ns + 100000, PORTION);
    assert_int_equal(soon.slot, RDY_WHEEL_SLOT_DUE);
    assert_true(rdy_wheel_cancel(&model.wheel, &soon));
    assert_int_equal(model.wheel.earliest_ns, model.now_ns + 100000);
    rdy_wheel_clear(&model.wheel);
}

/* As many timers for now as a call may file, in every call: the crowd's share is half, or so. */
static void crowd_does_not_starve_behind_timers_for_now(void **state)
{
    static struct rdy_timer now_ones[PORTION];
    uint32_t calls = 0;

    (void)state;
    memset(now_ones, 0, sizeof(now_ones));
    model_open(CROWD_COUNT, 88172645463325252);
    crowd_arm(next_slot_ns(), true);
    model.now_ns = next_slot_ns() + 1;

    while (model.timers[CROWD_COUNT - 1].slot / RDY_WHEEL_SLOTS == 3) {
        for (uint32_t i = 0; i < PORTION; i++)
            rdy_wheel_arm(&model.wheel, &now_ones[i], 0);
        (void)rdy_wheel_expire(&model.wheel, model.now_ns, PORTION);
        while (rdy_wheel_take_due(&model.wheel))
            ;
        assert_true(++calls <= 3 * CROWD_COUNT / PORTION);
    }
    rdy_wheel_clear(&model.wheel);
}

static void timers_that_wait_to_be_filed_can_be_cancelled_and_moved(void **state)
{
    (void)state;
    model_open(CROWD_COUNT, 88172645463325252);
    crowd_arm(next_slot_ns(), false);
    model.now_ns = next_slot_ns() + 1;
    model_turn(0);

    /* given most of them passed and not filed: the last is cancelled, others move ahead and back */
    model_cancel(CROWD_COUNT - 1);
    model_arm(CROWD_COUNT - 2, model.now_ns + 1);
    model_arm(CROWD_COUNT - 3, 0);
    (void)model_settle();
    assert_int_equal(model.fired, CROWD_COUNT - 2);
    assert_true(model.is_armed[CROWD_COUNT - 2]);
    model.now_ns++;
    (void)model_settle();

    /* and when all of them are cancelled there is nothing to look at */
    assert_int_equal(model.fired, CROWD_COUNT - 1);
    crowd_arm(next_slot_ns() + (UINT64_C(1) << 34), false);
    model.now_ns += UINT64_C(1) << 34;
    model_turn(0);
    for (uint32_t i = 0; i < CROWD_COUNT; i++)
        model_cancel(i);
    assert_true(model.wheel.earliest_ns == RDY_WHEEL_NEVER);
    assert_null(rdy_wheel_take_due(&model.wheel));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(portions_agree_with_a_plain_array),
        cmocka_unit_test(crowd_that_comes_near_is_filed_in_portions),
        cmocka_unit_test(crowd_for_one_moment_is_collected_in_portions),
        cmocka_unit_test(timer_for_soon_does_not_stand_behind_a_crowd),
        cmocka_unit_test(crowd_does_not_starve_behind_timers_for_now),
        cmocka_unit_test(timers_that_wait_to_be_filed_can_be_cancelled_and_moved),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
