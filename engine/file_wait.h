/* SPDX-License-Identifier: MIT */
/* What every poll call of a file that is no socket begins and ends with. */
#ifndef RDY_ENGINE_FILE_WAIT_H
#define RDY_ENGINE_FILE_WAIT_H

#include "engine/driver.h"
#include "engine/runtime.h"

/* A file that is ready and still says EAGAIN, so often in a row, lets the others go first. */
#define RDY_FILE_TRIES_MAX 8

/* 0 and an event that lets @direction be tried; RDY_PENDING with the task's waker left; -errno. */
static inline int rdy_file_wait(struct rdy_registration *reg, struct rdy_task *task,
                                enum rdy_direction direction, struct rdy_event *event)
{
    struct rdy_waker waker = rdy_task_waker(task);

    rdy_debug(reg->driver == task->runtime->driver);
    return rdy_poll_readiness(reg, direction, &waker, event);
}

/* Too many tries for nothing: the other tasks and the driver go first. */
static inline int rdy_file_give_way(struct rdy_task *task)
{
    rdy_task_defer(task);
    return RDY_PENDING;
}

#endif
