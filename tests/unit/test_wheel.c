/* SPDX-License-Identifier: MIT */
/*
 * The timer wheel against plain arrays. Time is an argument, so nothing here waits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/wheel.h"

#define TIMERS_COUNT 256u
#define START_NS     UINT64_C(123456789)

/* A wheel, its timers, and what should be true of them. */
struct model {
    struct rdy_wheel wheel;
    struct rdy_timer timers[TIMERS_COUNT];
    uint64_t deadlines_ns[TIMERS_COUNT];
    bool is_armed[TIMERS_COUNT];
    uint64_t now_ns;
    uint64_t random;
};

static struct model model;

/* xorshift64 (Marsaglia 2003). */
static uint64_t model_random(void)
{
    model.random ^= model.random << 13;
    model.random ^= model.random >> 7;
    model.random ^= model.random << 17;
    return model.random;
}

static void model_open(uint64_t seed)
{
    memset(&model, 0, sizeof(model));
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

static uint64_t model_earliest_ns(void)
{
    uint64_t earliest_ns = UINT64_MAX;

    for (uint32_t i = 0; i < TIMERS_COUNT; i++) {
        if (model.is_armed[i] && model.deadlines_ns[i] < earliest_ns)
            earliest_ns = model.deadlines_ns[i];
    }
    return earliest_ns;
}

/* A distance of any magnitude up to 2^@bits_max ns. */
static uint64_t model_distance(uint32_t bits_max)
{
    return model_random() >> (63 - model_random() % bits_max);
}

/* Now and then a deadline in the past, near, years away, or at the end of time. */
static uint64_t model_deadline(void)
{
    uint64_t kind = model_random() % 16;
    uint64_t distance = model_distance(kind == 1 ? 63 : 40);

    if (kind == 0)
        return model.now_ns > distance ? model.now_ns - distance : 0;
    if (kind == 2)
        return UINT64_MAX;
    return model.now_ns + distance < distance ? UINT64_MAX : model.now_ns + distance;
}

static void model_touch_one(void)
{
    uint32_t i = (uint32_t)(model_random() % TIMERS_COUNT);

    if (model_random() % 4 == 0)
        model_cancel(i);
    else
        model_arm(i, model_deadline());
}

/* Fires all that is due, checks each, and lets some "wakers" touch other timers meanwhile. */
static void model_drain(void)
{
    struct rdy_timer *timer;
    uint32_t fired = 0;

    while ((timer = rdy_wheel_take_due(&model.wheel))) {
        size_t i = (size_t)(timer - model.timers);

        assert_true(model.is_armed[i]);
        assert_true(model.deadlines_ns[i] <= model.now_ns);
        assert_int_equal(timer->state, RDY_TIMER_FIRED);
        model.is_armed[i] = false;
        /* No timer fires twice in a round, not even one that is armed again in the past. */
        assert_true(++fired <= TIMERS_COUNT);
        if (model_random() % 4 == 0)
            model_touch_one();
    }
}

static void model_check(void)
{
    uint64_t armed_count = 0;
    uint64_t earliest_ns = model_earliest_ns();

    for (uint32_t i = 0; i < TIMERS_COUNT; i++)
        armed_count += model.is_armed[i];
    assert_int_equal(rdy_a64_load_relaxed(&model.wheel.armed_count), armed_count);
    assert_true(model.wheel.earliest_ns <= earliest_ns);
    if (armed_count == 0)
        assert_true(model.wheel.earliest_ns == RDY_WHEEL_NEVER);
}

/* Moves time and expires. What was due at that time, and is not armed anew, has fired. */
static void model_advance(uint64_t distance_ns)
{
    bool is_due[TIMERS_COUNT];

    if (distance_ns > UINT64_MAX - model.now_ns)
        return;
    model.now_ns += distance_ns;
    for (uint32_t i = 0; i < TIMERS_COUNT; i++)
        is_due[i] = model.is_armed[i] && model.deadlines_ns[i] <= model.now_ns;
    (void)rdy_wheel_expire(&model.wheel, model.now_ns, RDY_WHEEL_UNBOUNDED);
    for (uint32_t i = 0; i < TIMERS_COUNT; i++) {
        bool is_collected = model.timers[i].slot == RDY_WHEEL_SLOT_DUE;

        if (model.is_armed[i])
            assert_int_equal(is_collected, is_due[i]);
    }
    model_drain();
}

static void run_model(uint64_t seed, uint32_t bits_max, int steps)
{
    model_open(seed);
    for (int step = 0; step < steps; step++) {
        uint64_t kind = model_random() % 8;

        if (kind == 0)
            model_advance(model_distance(bits_max));
        else if (kind == 1 && model.wheel.earliest_ns > model.now_ns)
            model_advance(model.wheel.earliest_ns - model.now_ns);
        else
            model_touch_one();
        model_check();
    }
}

/* Small steps stay on the low levels; large ones carry through all of them. */
static void wheel_agrees_with_a_plain_array_in_small_steps(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++)
        run_model(seed * UINT64_C(0x9e3779b97f4a7c15), 24, 20000);
}

static void wheel_agrees_with_a_plain_array_in_steps_of_any_size(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++)
        run_model(seed * UINT64_C(0xbf58476d1ce4e5b9), 58, 2000);
}

static struct rdy_timer *expire_one(struct rdy_wheel *wheel, uint64_t now_ns)
{
    (void)rdy_wheel_expire(wheel, now_ns, RDY_WHEEL_UNBOUNDED);
    return rdy_wheel_take_due(wheel);
}

static void timer_fires_at_its_nanosecond_and_not_before(void **state)
{
    static struct rdy_wheel wheel;

    (void)state;
    for (uint32_t bit = 0; bit < 63; bit++) {
        struct rdy_timer timer = {0};
        uint64_t deadline_ns = START_NS + (UINT64_C(1) << bit);

        rdy_wheel_init(&wheel, START_NS);
        rdy_wheel_arm(&wheel, &timer, deadline_ns);

        assert_null(expire_one(&wheel, deadline_ns - 1));
        assert_ptr_equal(expire_one(&wheel, deadline_ns), &timer);
    }
}

static void timers_centuries_away_are_kept_exactly(void **state)
{
    uint64_t century_ns = UINT64_C(3155760000) * 1000000000;
    struct rdy_timer late = {0};
    struct rdy_timer later = {0};
    static struct rdy_wheel wheel;

    (void)state;
    rdy_wheel_init(&wheel, 0);
    rdy_wheel_arm(&wheel, &later, 5 * century_ns + 1);
    rdy_wheel_arm(&wheel, &late, 5 * century_ns);

    assert_null(expire_one(&wheel, 5 * century_ns - 1));
    assert_ptr_equal(expire_one(&wheel, 5 * century_ns), &late);
    assert_null(rdy_wheel_take_due(&wheel));
    assert_ptr_equal(expire_one(&wheel, 5 * century_ns + 1), &later);
}

/* The bound may be early because of a cancel, but looking there always gets nearer. */
static void waiting_for_the_bound_reaches_a_timer_in_a_few_looks(void **state)
{
    struct rdy_timer nearer = {0};
    struct rdy_timer timer = {0};
    static struct rdy_wheel wheel;
    uint64_t deadline_ns = START_NS + (UINT64_C(1) << 50) + 12345;
    uint32_t looks = 0;

    (void)state;
    rdy_wheel_init(&wheel, START_NS);
    rdy_wheel_arm(&wheel, &timer, deadline_ns);
    rdy_wheel_arm(&wheel, &nearer, deadline_ns - 12345);
    assert_true(rdy_wheel_cancel(&wheel, &nearer));

    while (!expire_one(&wheel, wheel.earliest_ns))
        assert_true(++looks <= RDY_WHEEL_LEVELS);

    assert_int_equal(timer.state, RDY_TIMER_FIRED);
    assert_true(wheel.now_ns == deadline_ns);
}

static void cancelled_timer_does_not_fire_and_cancelling_again_says_so(void **state)
{
    struct rdy_timer timer = {0};
    static struct rdy_wheel wheel;

    (void)state;
    rdy_wheel_init(&wheel, START_NS);
    assert_false(rdy_wheel_cancel(&wheel, &timer));
    rdy_wheel_arm(&wheel, &timer, START_NS + 5);

    assert_true(rdy_wheel_cancel(&wheel, &timer));

    assert_false(rdy_wheel_cancel(&wheel, &timer));
    assert_null(expire_one(&wheel, START_NS + 10));
    assert_true(wheel.earliest_ns == RDY_WHEEL_NEVER);
}

/* A waker that cancels another due timer: it was collected, but it must not fire. */
static void due_timer_can_be_cancelled_before_it_is_handed_out(void **state)
{
    struct rdy_timer first = {0};
    struct rdy_timer second = {0};
    static struct rdy_wheel wheel;

    (void)state;
    rdy_wheel_init(&wheel, START_NS);
    rdy_wheel_arm(&wheel, &first, START_NS + 1);
    rdy_wheel_arm(&wheel, &second, START_NS + 2);
    assert_ptr_equal(expire_one(&wheel, START_NS + 3), &first);

    assert_true(rdy_wheel_cancel(&wheel, &second));

    assert_null(rdy_wheel_take_due(&wheel));
    assert_int_equal(rdy_a64_load_relaxed(&wheel.armed_count), 0);
}

static void timer_armed_in_the_past_while_firing_waits_for_the_next_round(void **state)
{
    struct rdy_timer timer = {0};
    static struct rdy_wheel wheel;

    (void)state;
    rdy_wheel_init(&wheel, START_NS);
    rdy_wheel_arm(&wheel, &timer, START_NS + 1);
    assert_ptr_equal(expire_one(&wheel, START_NS + 1), &timer);

    rdy_wheel_arm(&wheel, &timer, 0);

    assert_null(rdy_wheel_take_due(&wheel));
    assert_true(wheel.earliest_ns <= START_NS + 1);
    assert_ptr_equal(expire_one(&wheel, START_NS + 1), &timer);
}

static void arming_again_moves_a_timer(void **state)
{
    struct rdy_timer timer = {0};
    static struct rdy_wheel wheel;

    (void)state;
    rdy_wheel_init(&wheel, START_NS);
    rdy_wheel_arm(&wheel, &timer, START_NS + 10);
    rdy_wheel_arm(&wheel, &timer, START_NS + 1000000000);

    assert_int_equal(rdy_a64_load_relaxed(&wheel.armed_count), 1);
    assert_null(expire_one(&wheel, START_NS + 999999999));
    assert_ptr_equal(expire_one(&wheel, START_NS + 1000000000), &timer);
}

static void timers_of_one_slot_fire_in_the_order_of_arming(void **state)
{
    struct rdy_timer timers[5] = {0};
    static struct rdy_wheel wheel;

    (void)state;
    rdy_wheel_init(&wheel, 0);
    for (int i = 0; i < 5; i++)
        rdy_wheel_arm(&wheel, &timers[i], 100000000);
    assert_true(rdy_wheel_cancel(&wheel, &timers[2]));
    (void)rdy_wheel_expire(&wheel, 100000000, RDY_WHEEL_UNBOUNDED);

    assert_ptr_equal(rdy_wheel_take_due(&wheel), &timers[0]);
    assert_ptr_equal(rdy_wheel_take_due(&wheel), &timers[1]);
    assert_ptr_equal(rdy_wheel_take_due(&wheel), &timers[3]);
    assert_ptr_equal(rdy_wheel_take_due(&wheel), &timers[4]);
    assert_null(rdy_wheel_take_due(&wheel));
}

static void clear_disarms_every_timer(void **state)
{
    struct rdy_timer timers[3] = {0};
    static struct rdy_wheel wheel;

    (void)state;
    rdy_wheel_init(&wheel, START_NS);
    rdy_wheel_arm(&wheel, &timers[0], START_NS + 1);
    rdy_wheel_arm(&wheel, &timers[1], START_NS + 1);
    rdy_wheel_arm(&wheel, &timers[2], UINT64_MAX);
    (void)rdy_wheel_expire(&wheel, START_NS + 1, RDY_WHEEL_UNBOUNDED);

    rdy_wheel_clear(&wheel);

    assert_int_equal(rdy_a64_load_relaxed(&wheel.armed_count), 0);
    for (int i = 0; i < 3; i++)
        assert_false(rdy_wheel_cancel(&wheel, &timers[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wheel_agrees_with_a_plain_array_in_small_steps),
        cmocka_unit_test(wheel_agrees_with_a_plain_array_in_steps_of_any_size),
        cmocka_unit_test(timer_fires_at_its_nanosecond_and_not_before),
        cmocka_unit_test(timers_centuries_away_are_kept_exactly),
        cmocka_unit_test(waiting_for_the_bound_reaches_a_timer_in_a_few_looks),
        cmocka_unit_test(cancelled_timer_does_not_fire_and_cancelling_again_says_so),
        cmocka_unit_test(due_timer_can_be_cancelled_before_it_is_handed_out),
        cmocka_unit_test(timer_armed_in_the_past_while_firing_waits_for_the_next_round),
        cmocka_unit_test(arming_again_moves_a_timer),
        cmocka_unit_test(timers_of_one_slot_fire_in_the_order_of_arming),
        cmocka_unit_test(clear_disarms_every_timer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
