/* SPDX-License-Identifier: MIT */
/*
 * What wakers do to the wheel while due timers are handed out, and when it says to look next: a
 * wheel without timers that named a time in the past would have its loop spin for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/wheel.h"

#define NOW_NS UINT64_C(1000000000)

static void wheel_without_timers_is_never_due(void **state)
{
    static struct rdy_wheel wheel;
    struct rdy_timer first = {0};
    struct rdy_timer second = {0};
    struct rdy_timer brief = {0};

    (void)state;
    /* given two timers that are due, one of them handed out */
    rdy_wheel_init(&wheel, NOW_NS);
    rdy_wheel_arm(&wheel, &first, NOW_NS + 1);
    rdy_wheel_arm(&wheel, &second, NOW_NS + 1);
    (void)rdy_wheel_expire(&wheel, NOW_NS + 2, RDY_WHEEL_UNBOUNDED);
    assert_ptr_equal(rdy_wheel_take_due(&wheel), &first);

    /* when its waker arms a third and cancels it, and the other is handed out */
    rdy_wheel_arm(&wheel, &brief, NOW_NS + 3);
    assert_true(rdy_wheel_cancel(&wheel, &brief));
    assert_ptr_equal(rdy_wheel_take_due(&wheel), &second);
    assert_null(rdy_wheel_take_due(&wheel));

    /* then nobody need look again */
    assert_int_equal(rdy_a64_load_relaxed(&wheel.armed_count), 0);
    assert_true(wheel.earliest_ns == RDY_WHEEL_NEVER);
}

static void timers_at_the_ends_of_time_are_kept_apart(void **state)
{
    static struct rdy_wheel wheel;
    struct rdy_timer at_once = {0};
    struct rdy_timer never = {0};

    (void)state;
    rdy_wheel_init(&wheel, NOW_NS);
    rdy_wheel_arm(&wheel, &never, UINT64_MAX);
    assert_true(wheel.earliest_ns == RDY_WHEEL_NEVER);
    rdy_wheel_arm(&wheel, &at_once, 0);
    assert_int_equal(wheel.earliest_ns, 0);

    (void)rdy_wheel_expire(&wheel, NOW_NS, RDY_WHEEL_UNBOUNDED);

    assert_ptr_equal(rdy_wheel_take_due(&wheel), &at_once);
    assert_null(rdy_wheel_take_due(&wheel));
    assert_true(wheel.earliest_ns == RDY_WHEEL_NEVER);
    assert_true(rdy_wheel_cancel(&wheel, &never));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wheel_without_timers_is_never_due),
        cmocka_unit_test(timers_at_the_ends_of_time_are_kept_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
