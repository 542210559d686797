/* SPDX-License-Identifier: MIT */
/*
 * A task's header, and the queues that it stands in.
 *
 * The header comes from the runtime's slab and is never unmapped before the runtime is closed, so a
 * waker may hold a plain pointer to it: the generation in the waker's data tells a stale one. The
 * task's own struct is a second allocation of just its size.
 *
 * `state` is the only field that other threads change; whoever moves it from idle to queued puts
 * the task into a queue, and owns `next` from then until the runtime takes the task out again. So a
 * task stands in at most one queue, once.
 */
#ifndef RDY_ENGINE_TASK_H
#define RDY_ENGINE_TASK_H

#include <rdy/task.h>

#include "engine/atomic.h"
#include "engine/slab.h"

enum rdy_task_state {
    RDY_TASK_IDLE = 0,
    RDY_TASK_QUEUED,  /* in, or on the way into, a queue */
    RDY_TASK_RUNNING, /* being polled */
    RDY_TASK_WOKEN,   /* being polled, and woken meanwhile: back into the queue afterwards */
    RDY_TASK_ENDED,   /* in no queue: a spare header */
};

/* rdy_task.flags: the runtime's thread only. */
#define RDY_TASK_GONE     0x1u /* has ended; if still queued it is reaped when it comes out */
#define RDY_TASK_ABORTED  0x2u /* ends when the poll in progress returns */
#define RDY_TASK_DEFERRED 0x4u /* runs again after the next turn of the driver */
#define RDY_TASK_OVERDREW 0x8u /* asked for more than its budget */

struct rdy_task {
    struct rdy_slab_head head;
    struct rdy_a32 state;
    uint32_t flags;
    struct rdy_runtime *runtime; /* the same for every task that lives in this header */
    struct rdy_task *next;
    rdy_poll_fn *poll;
    rdy_drop_fn *drop;
    void *self;
} __attribute__((aligned(64))); /* one cache line, not parts of two */

static_assert(sizeof(struct rdy_task) == 64, "a task costs its own struct and little more");

/* First in, first out; linked through `next`. */
struct rdy_task_queue {
    struct rdy_task *first;
    struct rdy_task *last;
};

static inline void rdy_task_queue_push(struct rdy_task_queue *queue, struct rdy_task *task)
{
    task->next = NULL;
    if (queue->last)
        queue->last->next = task;
    else
        queue->first = task;
    queue->last = task;
}

static inline struct rdy_task *rdy_task_queue_pop(struct rdy_task_queue *queue)
{
    struct rdy_task *task = queue->first;

    if (!task)
        return NULL;
    queue->first = task->next;
    if (!queue->first)
        queue->last = NULL;
    return task;
}

/* Moves all of @from behind @queue. */
static inline void rdy_task_queue_append(struct rdy_task_queue *queue, struct rdy_task_queue *from)
{
    if (!from->first)
        return;
    if (queue->last)
        queue->last->next = from->first;
    else
        queue->first = from->first;
    queue->last = from->last;
    *from = (struct rdy_task_queue){0};
}

/* The runtime's thread: polls a task that was taken out of a queue. */
void rdy_task_run(struct rdy_runtime *runtime, struct rdy_task *task);

/*
 * The runtime's thread: moves the tasks that other threads woke into the run queue, oldest first.
 */
void rdy_task_drain_inbox(struct rdy_runtime *runtime);

/* The runtime's thread, in closing: ends every task. */
void rdy_task_end_all(struct rdy_runtime *runtime);

#endif
