/* SPDX-License-Identifier: MIT */
/*
 * Intervals: a timer and the time of the next tick. Taking a tick sets the next one; the timer is
 * armed by the poll that finds it is not due yet.
 */
#include <rdy/timer.h>

#include "engine/runtime.h"

#define JITTER_NS ((uint64_t)(5 * RDY_NS_PER_MS))

int rdy_interval_start(struct rdy_interval *interval, uint64_t first_ns, uint64_t period_ns,
                       enum rdy_missed_ticks missed)
{
    if (period_ns == 0)
        return -EINVAL;
    if (missed != RDY_MISSED_BURST && missed != RDY_MISSED_DELAY && missed != RDY_MISSED_SKIP)
        return -EINVAL;
    rdy_interval_reset(interval, first_ns);
    interval->period_ns = period_ns;
    interval->missed = missed;
    return 0;
}

/* When the next tick is due if the one of @due_ns is taken now. */
static uint64_t interval_next(const struct rdy_interval *interval, uint64_t due_ns, uint64_t now_ns)
{
    uint64_t period_ns = interval->period_ns;
    uint64_t late_ns;

    rdy_assert(due_ns <= now_ns && period_ns > 0);
    late_ns = now_ns - due_ns;
    if (late_ns < period_ns && late_ns <= JITTER_NS)
        return rdy_clock_after(due_ns, period_ns);
    switch (interval->missed) {
    case RDY_MISSED_DELAY:
        return rdy_clock_after(now_ns, period_ns);
    case RDY_MISSED_SKIP:
        return rdy_clock_after(now_ns, period_ns - late_ns % period_ns);
    case RDY_MISSED_BURST:
        break;
    }
    return rdy_clock_after(due_ns, period_ns);
}

int rdy_interval_poll_tick(struct rdy_interval *interval, struct rdy_task *task, uint64_t *tick_ns)
{
    uint64_t due_ns = interval->next_ns;
    int rc;

    rdy_assert(interval->period_ns > 0);
    rc = rdy_timer_poll_until(&interval->timer, task, due_ns);
    if (rc != 0)
        return rc;
    interval->next_ns = interval_next(interval, due_ns, rdy_runtime_now_ns(task->runtime));
    if (tick_ns)
        *tick_ns = due_ns;
    return 0;
}

void rdy_interval_reset(struct rdy_interval *interval, uint64_t next_ns)
{
    (void)rdy_timer_cancel(&interval->timer);
    interval->next_ns = next_ns;
}

void rdy_interval_stop(struct rdy_interval *interval)
{
    (void)rdy_timer_cancel(&interval->timer);
}
