/* SPDX-License-Identifier: MIT */
/* What every poll call of a file that is no socket waits with. */
#ifndef RDY_ENGINE_FILE_WAIT_H
#define RDY_ENGINE_FILE_WAIT_H

#include "engine/driver.h"
#include "engine/runtime.h"

/* 0 and an event that lets @direction be tried; RDY_PENDING with the task's waker left; -errno. */
static inline int rdy_file_wait(struct rdy_registration *reg, struct rdy_task *task,
                                enum rdy_direction direction, struct rdy_event *event)
{
    struct rdy_waker waker = rdy_task_waker(task);

    rdy_debug(reg->driver == task->runtime->driver);
    return rdy_poll_readiness(reg, direction, &waker, event);
}

#endif
