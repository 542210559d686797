/* SPDX-License-Identifier: MIT */
/*
 * Timers of a runtime: the wheel with the runtime's clock. The runtime's thread only.
 */
#include <rdy/timer.h>

#include "engine/runtime.h"

void rdy_timer_arm(struct rdy_timer *timer, struct rdy_runtime *runtime, uint64_t deadline_ns,
                   const struct rdy_waker *waker)
{
    struct rdy_wheel *wheel = &runtime->wheel;
    uint64_t earliest_ns = wheel->earliest_ns;

    rdy_assert(timer->state != RDY_TIMER_ARMED || timer->runtime == runtime);
    /* The wheel's present stands still while nothing is armed. */
    if (rdy_a64_load_relaxed(&wheel->armed_count) == 0)
        rdy_wheel_start(wheel, rdy_runtime_now_ns(runtime));
    timer->runtime = runtime;
    timer->waker = *waker;
    rdy_wheel_arm(wheel, timer, deadline_ns);
    if (rdy_unlikely(!runtime->is_inside) && deadline_ns < earliest_ns)
        rdy_runtime_call_again(runtime);
}

bool rdy_timer_cancel(struct rdy_timer *timer)
{
    if (timer->state != RDY_TIMER_ARMED)
        return false;
    return rdy_wheel_cancel(&timer->runtime->wheel, timer);
}

bool rdy_timer_has_fired(const struct rdy_timer *timer)
{
    return timer->state == RDY_TIMER_FIRED;
}

int rdy_timer_poll_until(struct rdy_timer *timer, struct rdy_task *task, uint64_t deadline_ns)
{
    struct rdy_waker waker = rdy_task_waker(task);

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    /* The time decides, not whether the timer has fired: that may have been for something else. */
    if (deadline_ns <= rdy_runtime_now_ns(task->runtime)) {
        (void)rdy_timer_cancel(timer);
        rdy_task_spend(task);
        return 0;
    }
    if (timer->state != RDY_TIMER_ARMED || timer->deadline_ns != deadline_ns ||
        !rdy_waker_is_same(&timer->waker, &waker))
        rdy_timer_arm(timer, task->runtime, deadline_ns, &waker);
    return RDY_PENDING;
}

void rdy_timer_start_sleep(struct rdy_timer *timer, struct rdy_task *task, uint64_t duration_ns)
{
    (void)rdy_timer_cancel(timer);
    timer->state = RDY_TIMER_IDLE; /* it may have fired for something else */
    timer->deadline_ns = rdy_clock_after(rdy_clock_read_ns(task->runtime), duration_ns);
}

int rdy_timer_poll_sleep(struct rdy_timer *timer, struct rdy_task *task)
{
    return rdy_timer_poll_until(timer, task, timer->deadline_ns);
}
