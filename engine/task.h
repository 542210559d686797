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

#include <rdy/runtime.h>

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
#define RDY_TASK_GONE     0x1u  /* has ended; if still queued it is reaped when it comes out */
#define RDY_TASK_ABORTED  0x2u  /* ends when the poll in progress returns */
#define RDY_TASK_DEFERRED 0x4u  /* runs again after the next turn of the driver */
#define RDY_TASK_OVERDREW 0x8u  /* asked for more than its budget */
#define RDY_TASK_NAMED    0x10u /* its struct has a label in front */
#define RDY_TASK_TIMED    0x20u /* and a timer in front of that; never without RDY_TASK_NAMED */
#define RDY_TASK_LASTING  (RDY_TASK_NAMED | RDY_TASK_TIMED)

/* So many polls in a row may go ahead of the queue. */
#define RDY_TASK_NEXT_MAX 3u

struct rdy_task {
    struct rdy_slab_head head;
    struct rdy_a32 state;
    uint32_t flags;
    struct rdy_runtime *runtime; /* the same for every task that lives in this header */
    struct rdy_task *next;
    rdy_poll_fn *poll;
    rdy_drop_fn *drop;
    void *self;
    struct rdy_join *join;      /* gets the result; NULL: nobody asked */
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

/*
 * What may stand in front of a task's own struct, in the same allocation: nothing, a label, or a
 * timer for the deadline and a label.
 */
struct rdy_task_label {
    const char *name;
    uint64_t reserved; /* keeps the task's struct on 16 bytes */
};

static_assert(sizeof(struct rdy_task_label) == 16, "what follows stays aligned");
static_assert(sizeof(struct rdy_timer) % 16 == 0, "with a timer, too");

static inline struct rdy_task_label *rdy_task_label(const struct rdy_task *task)
{
    rdy_debug(task->flags & RDY_TASK_NAMED);
    return (struct rdy_task_label *)task->self - 1;
}

static inline struct rdy_timer *rdy_task_deadline(const struct rdy_task *task)
{
    rdy_debug(task->flags & RDY_TASK_TIMED);
    return (struct rdy_timer *)(void *)rdy_task_label(task) - 1;
}

/*
 * Any thread: the memory of a task's own struct and of what stands in front of it. NULL is a struct
 * of no size. 0, -EINVAL, -ENOMEM.
 */
int rdy_task_self_make(const struct rdy_task_spec *spec, void **self);
void rdy_task_self_free(const struct rdy_task_spec *spec, void *self);

/*
 * The runtime's thread: makes a task of a spec and its struct, which is taken on success only. The
 * caller counts the spawn, local or remote.
 * 0, -ENOMEM, -ENFILE, -ESHUTDOWN.
 */
int rdy_task_start(struct rdy_runtime *runtime, const struct rdy_task_spec *spec, void *self,
                   struct rdy_task **task);

/* The runtime's thread: the live task of that name, or NULL. */
struct rdy_task *rdy_task_find(const struct rdy_runtime *runtime, struct rdy_task_id id);

/* The runtime's thread: ends a task that is idle or queued; @result is its joiner's. */
void rdy_task_cut_off(struct rdy_runtime *runtime, struct rdy_task *task, int result);

/* task_join.c: gives the result to whoever joined the task. It runs a waker: do it last. */
void rdy_task_resolve(struct rdy_task *task, int result);

/* task_deadline.c: ends the task at @deadline_ns; UINT64_MAX: never. It has a timer. */
void rdy_task_arm_deadline(struct rdy_task *task, uint64_t deadline_ns);

/* task_deadline.c: the deadline of a spec, from now on. */
uint64_t rdy_task_first_deadline(struct rdy_runtime *runtime, uint64_t timeout_ns);

/*
 * task_remote.c, the runtime's thread: begins up to @arrivals_max tasks that other threads spawned,
 * oldest first; in closing drops them. False if there were fewer.
 */
bool rdy_task_take_arrivals(struct rdy_runtime *runtime, uint32_t arrivals_max);

/*
 * task_remote.c, any thread: a remote spawn in two steps, for those who must know before the second
 * that it will not fail for want of memory or room. A sent one is the runtime's; -ESHUTDOWN: it
 * stays the caller's.
 */
struct rdy_arrival;
struct rdy_arrival *rdy_task_arrival_make(const struct rdy_task_spec *spec, const void *init,
                                          int *err);
void *rdy_task_arrival_self(const struct rdy_arrival *arrival);
int rdy_task_arrival_send(struct rdy_runtime *runtime, struct rdy_arrival *arrival);

/* Without running its drop. */
void rdy_task_arrival_unmake(struct rdy_arrival *arrival);

/*
 * task_remote.c, the runtime's thread: refuses further arrivals and waits for those who are being
 * handed over; on return all that will ever come are in the queue.
 */
void rdy_task_seal_arrivals(struct rdy_runtime *runtime);

/* task_remote.c, the runtime's thread, in closing: refuses and drops whatever has not begun. */
void rdy_task_shut_arrivals(struct rdy_runtime *runtime);

/* The runtime's thread: the task to poll now, taken out of its queue, or NULL. */
struct rdy_task *rdy_task_next(struct rdy_runtime *runtime);

/* The runtime's thread: polls a task that was taken out of a queue. */
void rdy_task_run(struct rdy_runtime *runtime, struct rdy_task *task);

/*
 * The runtime's thread: moves the tasks that other threads woke into the run queue, oldest first.
 */
void rdy_task_drain_inbox(struct rdy_runtime *runtime);

/* The runtime's thread, in closing: ends every task. */
void rdy_task_end_all(struct rdy_runtime *runtime);

#endif
