/* SPDX-License-Identifier: MIT */
/*
 * The runtime's clock: CLOCK_MONOTONIC, unless it was paused. The runtime's thread only.
 *
 * While it is paused `now_ns` is the time itself; after that `clock_offset_ns` bridges to the
 * kernel's clock. Either way the time never goes back, which the wheel relies on.
 */
#include <rdy/timer.h>

#include "engine/runtime.h"
#include "engine/sys.h"

uint64_t rdy_runtime_now_ns(struct rdy_runtime *runtime)
{
    uint64_t now_ns;

    if (runtime->is_now_known || runtime->is_clock_paused)
        return runtime->now_ns;
    now_ns = rdy_sys_now_ns() + runtime->clock_offset_ns;
    /* Less only where 64 bits end, which a test can advance to; there the time stands. */
    if (now_ns > runtime->now_ns)
        runtime->now_ns = now_ns;
    /* An outer loop, or what comes between two runs, may take any time. */
    runtime->is_now_known = runtime->is_inside;
    return runtime->now_ns;
}

uint64_t rdy_clock_read_ns(struct rdy_runtime *runtime)
{
    runtime->is_now_known = false;
    return rdy_runtime_now_ns(runtime);
}

uint64_t rdy_clock_after(uint64_t from_ns, uint64_t distance_ns)
{
    return distance_ns > UINT64_MAX - from_ns ? UINT64_MAX : from_ns + distance_ns;
}

void rdy_runtime_pause_clock(struct rdy_runtime *runtime)
{
    (void)rdy_clock_read_ns(runtime);
    runtime->is_clock_paused = true;
    rdy_runtime_call_again(runtime);
}

void rdy_runtime_resume_clock(struct rdy_runtime *runtime)
{
    if (!runtime->is_clock_paused)
        return;
    /* Modulo 2^64: a pause leaves the runtime behind, an advance before the kernel's clock. */
    runtime->clock_offset_ns = runtime->now_ns - rdy_sys_now_ns();
    runtime->is_clock_paused = false;
    rdy_runtime_call_again(runtime);
}

int rdy_runtime_advance(struct rdy_runtime *runtime, uint64_t distance_ns)
{
    if (!runtime->is_clock_paused)
        return -EPERM;
    /* The last nanosecond is "never": what is armed for it must not fire. */
    if (distance_ns >= RDY_WHEEL_NEVER - runtime->now_ns)
        return -ERANGE;
    runtime->now_ns += distance_ns;
    rdy_runtime_call_again(runtime);
    return 0;
}

void rdy_clock_skip(struct rdy_runtime *runtime)
{
    uint64_t earliest_ns = runtime->wheel.earliest_ns;

    rdy_assert(runtime->is_clock_paused);
    if (earliest_ns != RDY_WHEEL_NEVER && earliest_ns > runtime->now_ns)
        runtime->now_ns = earliest_ns;
}

void rdy_clock_expire(struct rdy_runtime *runtime)
{
    struct rdy_wheel *wheel = &runtime->wheel;
    uint64_t now_ns = rdy_runtime_now_ns(runtime);

    if (!runtime->is_clock_paused) {
        (void)rdy_wheel_expire(wheel, now_ns, RDY_TIMER_MOVES_MAX);
        return;
    }
    (void)rdy_wheel_expire(wheel, now_ns, RDY_WHEEL_UNBOUNDED);
    /* The wheel collects slot by slot, and where a slot begins depends on when a test was started;
     * the order of deadlines does not. */
    rdy_wheel_sort_due(wheel);
}
