/* SPDX-License-Identifier: MIT */
/*
 * Joins: a task's result, for whoever asked for it in time.
 *
 * A join and its task point to each other while the task lives; the end of either takes the other's
 * pointer away, so neither can be left with one to memory that is gone. The result then lives in
 * the join alone. The runtime's thread only.
 */
#include "engine/runtime.h"

int rdy_join_open(struct rdy_join *join, struct rdy_runtime *runtime, struct rdy_task_id id)
{
    struct rdy_task *task = rdy_task_find(runtime, id);

    rdy_assert(!join->target);
    if (!task)
        return -ESRCH;
    if (task->join)
        return -EBUSY;
    *join = (struct rdy_join){.target = task};
    task->join = join;
    return 0;
}

int rdy_join_poll(struct rdy_join *join, const struct rdy_waker *waker, int *result)
{
    if (join->target) {
        rdy_assert(join->target->join == join);
        join->waker = *waker;
        return RDY_PENDING;
    }
    if (!join->has_result)
        return -EINVAL;
    *result = join->result;
    return 0;
}

int rdy_task_poll_join(struct rdy_join *join, struct rdy_task *task, int *result)
{
    struct rdy_waker waker = rdy_task_waker(task);
    int rc;

    if (join->target == task)
        return -EDEADLK;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = rdy_join_poll(join, &waker, result);
    if (rc != RDY_PENDING)
        rdy_task_spend(task);
    return rc;
}

void rdy_join_close(struct rdy_join *join)
{
    if (join->target) {
        rdy_assert(join->target->join == join);
        join->target->join = NULL;
    }
    *join = (struct rdy_join){0};
}

void rdy_task_resolve(struct rdy_task *task, int result)
{
    struct rdy_join *join = task->join;
    struct rdy_waker waker = join->waker; /* the waker may end the join's memory */

    rdy_assert(join->target == task && result != RDY_PENDING);
    task->join = NULL;
    *join = (struct rdy_join){.result = result, .has_result = true};
    rdy_waker_wake(&waker);
}
