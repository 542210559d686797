/* SPDX-License-Identifier: MIT */
/*
 * A deadline for any poll call: what the operation said goes in, that or -ETIMEDOUT comes out.
 *
 * That it is two calls with the operation between them settles the budget. Without budget the
 * operation would say RDY_PENDING having looked at nothing, and a deadline must not turn that into
 * -ETIMEDOUT; but an operation that begins with budget, and uses it up at every poll, must meet
 * its deadline all the same.
 */
#include <rdy/timer.h>

#include "engine/runtime.h"

bool rdy_timeout_begin(struct rdy_task *task)
{
    return rdy_task_may_spend(task);
}

ssize_t rdy_timeout_end(struct rdy_timer *timer, struct rdy_task *task, uint64_t deadline_ns,
                        ssize_t result)
{
    struct rdy_waker waker = rdy_task_waker(task);

    rdy_debug(task->runtime->polled == task);
    if (result != RDY_PENDING || deadline_ns <= rdy_runtime_now_ns(task->runtime)) {
        (void)rdy_timer_cancel(timer);
        timer->state = result != RDY_PENDING ? RDY_TIMER_IDLE : RDY_TIMER_FIRED;
        return result != RDY_PENDING ? result : -ETIMEDOUT;
    }
    if (timer->state != RDY_TIMER_ARMED || timer->deadline_ns != deadline_ns ||
        !rdy_waker_is_same(&timer->waker, &waker))
        rdy_timer_arm(timer, task->runtime, deadline_ns, &waker);
    return RDY_PENDING;
}
