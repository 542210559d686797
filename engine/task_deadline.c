/* SPDX-License-Identifier: MIT */
/*
 * Deadlines: a timer in front of the task's own struct, for those that were spawned with one. The
 * end of the task takes it out of the wheel, so that it never fires for a task that is gone. The
 * runtime's thread only.
 */
#include "engine/runtime.h"

/* Timers fire between two polls: the task is idle or queued. */
static void deadline_pass(void *arg, uint64_t generation)
{
    struct rdy_task *task = arg;
    struct rdy_runtime *runtime = task->runtime;

    rdy_assert(!runtime->polled);
    rdy_assert(rdy_a32_load_relaxed(&task->head.generation) == (uint32_t)generation);
    rdy_a64_bump(&runtime->count.task_timeouts, 1);
    rdy_task_cut_off(runtime, task, -ETIMEDOUT);
}

uint64_t rdy_task_first_deadline(struct rdy_runtime *runtime, uint64_t timeout_ns)
{
    return rdy_clock_after(rdy_runtime_now_ns(runtime), timeout_ns);
}

void rdy_task_arm_deadline(struct rdy_task *task, uint64_t deadline_ns)
{
    struct rdy_timer *timer = rdy_task_deadline(task);
    struct rdy_waker waker = {
        .fn = deadline_pass,
        .arg = task,
        .data = rdy_a32_load_relaxed(&task->head.generation),
    };

    rdy_assert(task->flags & RDY_TASK_TIMED);
    if (deadline_ns == UINT64_MAX)
        (void)rdy_timer_cancel(timer);
    else
        rdy_timer_arm(timer, task->runtime, deadline_ns, &waker);
}

int rdy_task_set_deadline(struct rdy_runtime *runtime, struct rdy_task_id id, uint64_t deadline_ns)
{
    struct rdy_task *task = rdy_task_find(runtime, id);

    if (!task)
        return -ESRCH;
    if ((task->flags & RDY_TASK_TIMED) == 0)
        return -EINVAL;
    rdy_task_arm_deadline(task, deadline_ns);
    return 0;
}
