/* SPDX-License-Identifier: MIT */
/*
 * Tasks: stackless, one allocation each, polled by a runtime when something woke them.
 *
 * A task is a poll function over a struct of its own. It returns RDY_PENDING after it left a waker
 * somewhere (every rdy call that may say RDY_PENDING leaves the task's waker), or its result. With
 * RDY_BEGIN, RDY_AWAIT and RDY_END the function reads as straight-line code: RDY_AWAIT remembers
 * the line, leaves, and comes back to it. Locals do not survive an await; the struct does. The
 * macros are a switch over line numbers (Duff 1983, Tatham 2000): one RDY_AWAIT a line, and no
 * switch of one's own around one.
 */
#ifndef RDY_TASK_H
#define RDY_TASK_H

#include <rdy/waker.h>

RDY_BEGIN_DECLS

struct rdy_runtime;
struct rdy_task;

/* Where a coroutine goes on. Zero: at the start. */
struct rdy_co {
    uint32_t line;
};

#define RDY_BEGIN(co)                                                                              \
    switch ((co)->line) {                                                                          \
    case 0:

/* Evaluates @expr, at least once and again after each wake, until it is not RDY_PENDING. */
#define RDY_AWAIT(co, expr)                                                                        \
    (co)->line = __LINE__;                                                                         \
    __attribute__((fallthrough));                                                                  \
    case __LINE__:                                                                                 \
        if ((expr) == RDY_PENDING)                                                                 \
        return RDY_PENDING

/* Lets the other tasks and the driver go first, once. */
#define RDY_YIELD(co, task)                                                                        \
    do {                                                                                           \
        (co)->line = __LINE__;                                                                     \
        rdy_task_defer(task);                                                                      \
        return RDY_PENDING;                                                                        \
    case __LINE__:;                                                                                \
    } while (0)

#define RDY_END(co)                                                                                \
    }                                                                                              \
    (co)->line = 0

/* Advances the task: RDY_PENDING, or the task's result (0 or more, or -errno). */
typedef int rdy_poll_fn(struct rdy_task *task, void *self);

/* Releases what @self holds; runs once, after the last poll, also for an aborted task. */
typedef void rdy_drop_fn(void *self);

/* A task by name: stale once the task has ended, and refused then. {0} names none. */
struct rdy_task_id {
    uint32_t slot;
    uint32_t generation;
};

struct rdy_task_spec {
    rdy_poll_fn *poll;
    rdy_drop_fn *drop; /* may be NULL */
    size_t self_size;  /* bytes of the task's own struct, at most 1 MiB */
};

/**
 * rdy_spawn() - make a task and queue its first poll
 * @runtime: borrowed
 * @spec:    borrowed
 * @self:    receives the task's own struct: zeroed, 16-byte aligned, owned by the task. Fill it
 *           before the runtime runs again. May be NULL.
 * @id:      receives the task's name; may be NULL
 *
 * Context: the runtime's thread.
 * Return:  0, -ENOMEM, -ENFILE (tasks_max), -EINVAL, -ESHUTDOWN.
 */
RDY_API RDY_NODISCARD int rdy_spawn(struct rdy_runtime *runtime, const struct rdy_task_spec *spec,
                                    void **self, struct rdy_task_id *id);

/**
 * rdy_task_abort() - end a task: drop runs, poll does not run again
 * @runtime: borrowed
 * @id:      of the task; a task may abort itself, its drop then runs when its poll returns
 *
 * Context: the runtime's thread.
 * Return:  0, or -ESRCH if the task has ended.
 */
RDY_API int rdy_task_abort(struct rdy_runtime *runtime, struct rdy_task_id id);

/* The waker of @task: any thread may run it, also after the task has ended (then it does nothing),
 * until its runtime is closed. */
RDY_API struct rdy_waker rdy_task_waker(struct rdy_task *task);

/* The name, and the runtime, of a task that is being polled. */
RDY_API struct rdy_task_id rdy_task_get_id(const struct rdy_task *task);
RDY_API struct rdy_runtime *rdy_task_runtime(const struct rdy_task *task);

/* Queues the task for after the next turn of the driver: a yield. The task's own poll only. */
RDY_API void rdy_task_defer(struct rdy_task *task);

/**
 * rdy_task_charge() - pay for one operation out of the poll's budget
 * @task: being polled
 *
 * Every rdy stream call pays by itself; pay in loops that do work without one. A task gets a new
 * budget with each poll. When it is used up the task is queued behind the others.
 *
 * Return: 0, or RDY_PENDING: leave the poll with it.
 */
RDY_API RDY_NODISCARD int rdy_task_charge(struct rdy_task *task);

RDY_END_DECLS

#endif
