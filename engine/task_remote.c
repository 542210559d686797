/* SPDX-License-Identifier: MIT */
/*
 * Arrivals: tasks that other threads hand to a runtime.
 *
 * The caller makes the task's struct and a node, pushes the node onto a stack (Treiber 1986; taken
 * as a whole, so it has no ABA) and unparks the driver; the runtime's thread makes tasks of them.
 * A node that was pushed is owned by the runtime, which either starts it or runs its drop. A round
 * starts a bounded number: threads that push faster than that would otherwise keep the runtime from
 * all else. And so many may stand in the queue and no more: what is pushed faster than it begins
 * would otherwise take all memory.
 *
 * Closing: a caller counts itself in before it looks whether the runtime has shut, the closer shuts
 * before it looks whether somebody is inside; all four are sequentially consistent, so one of them
 * sees the other. When nobody is inside, no push is to come and nobody touches the driver.
 *
 * A forked child waits for nobody and takes nothing out: those who were inside are not there, and
 * the fork may have copied the stack's head and a node at different times.
 */
#include "engine/runtime.h"

#include <stdlib.h>

#include "engine/driver.h"
#include "engine/sys.h"

struct rdy_arrival {
    struct rdy_arrival *next;
    struct rdy_task_spec spec;
    void *self;
};

struct rdy_arrival *rdy_task_arrival_make(const struct rdy_task_spec *spec, const void *init,
                                          int *err)
{
    struct rdy_arrival *arrival = malloc(sizeof(*arrival));

    *err = -ENOMEM;
    if (!arrival)
        return NULL;
    *arrival = (struct rdy_arrival){.spec = *spec};
    *err = rdy_task_self_make(spec, &arrival->self);
    if (*err < 0) {
        free(arrival);
        return NULL;
    }
    if (init && spec->self_size > 0)
        memcpy(arrival->self, init, spec->self_size);
    return arrival;
}

void *rdy_task_arrival_self(const struct rdy_arrival *arrival)
{
    return arrival->self;
}

static void arrival_push(struct rdy_runtime *runtime, struct rdy_arrival *arrival)
{
    void *head = rdy_aptr_load_relaxed(&runtime->shared.arrivals);

    (void)rdy_a64_add_relaxed(&runtime->shared.remote_arrivals, 1);
    /* Releases the node; pairs with the swap in arrival_pop(). */
    do {
        arrival->next = head;
    } while (!rdy_aptr_cas_acq_rel(&runtime->shared.arrivals, &head, arrival));

    /* Whoever pushes onto the empty stack unparks, for all who come before it is taken. */
    if (!head)
        rdy_driver_unpark(runtime->driver);
}

/* Exact: a place is refused only while all of them are taken, and there is never one too many. */
static bool arrival_reserve(struct rdy_runtime *runtime)
{
    uint32_t count = rdy_a32_load_relaxed(&runtime->shared.arrivals_count);

    do {
        if (count >= runtime->arrivals_max)
            return false;
    } while (!rdy_a32_cas_acq_rel(&runtime->shared.arrivals_count, &count, count + 1));
    return true;
}

void rdy_task_arrival_unmake(struct rdy_arrival *arrival)
{
    rdy_task_self_free(&arrival->spec, arrival->self);
    free(arrival);
}

static int spawn_inside(struct rdy_runtime *runtime, const struct rdy_task_spec *spec,
                        const void *init)
{
    struct rdy_arrival *arrival;
    int rc = 0;

    if (rdy_a32_load_seq_cst(&runtime->shared.has_shut) != 0)
        return -ESHUTDOWN;
    /* Who is refused for good pays no allocation; the place itself is taken only when nothing else
     * can fail, or a caller without memory would keep it from another for a moment. */
    if (rdy_a32_load_relaxed(&runtime->shared.arrivals_count) >= runtime->arrivals_max)
        return -EAGAIN;
    arrival = rdy_task_arrival_make(spec, init, &rc);
    if (!arrival)
        return rc;
    if (!arrival_reserve(runtime)) {
        rdy_task_arrival_unmake(arrival);
        return -EAGAIN;
    }
    arrival_push(runtime, arrival);
    return 0;
}

int rdy_spawn_remote(struct rdy_runtime *runtime, const struct rdy_task_spec *spec,
                     const void *init)
{
    int rc;

    if (rdy_driver_is_forked(runtime->driver))
        return -EOWNERDEAD;
    (void)rdy_a32_add_seq_cst(&runtime->shared.spawners_inside, 1);
    rc = spawn_inside(runtime, spec, init);
    (void)rdy_a32_add_seq_cst(&runtime->shared.spawners_inside, UINT32_MAX); /* minus one */
    return rc;
}

int rdy_task_arrival_send(struct rdy_runtime *runtime, struct rdy_arrival *arrival)
{
    int rc = -ESHUTDOWN;

    (void)rdy_a32_add_seq_cst(&runtime->shared.spawners_inside, 1);
    if (rdy_a32_load_seq_cst(&runtime->shared.has_shut) == 0) {
        (void)rdy_a32_add_seq_cst(&runtime->shared.arrivals_count, 1);
        arrival_push(runtime, arrival);
        rc = 0;
    }
    (void)rdy_a32_add_seq_cst(&runtime->shared.spawners_inside, UINT32_MAX); /* minus one */
    return rc;
}

/* Ends here without having been a task. */
static void arrival_drop(struct rdy_runtime *runtime, struct rdy_arrival *arrival)
{
    rdy_a64_bump_release(&runtime->count.remote_drops, 1);
    if (arrival->spec.drop)
        arrival->spec.drop(arrival->self);
    rdy_task_self_free(&arrival->spec, arrival->self);
}

/* The oldest that has not begun, or NULL. */
static struct rdy_arrival *arrival_pop(struct rdy_runtime *runtime)
{
    struct rdy_arrival *oldest = runtime->arrived;

    if (!oldest && rdy_aptr_load_relaxed(&runtime->shared.arrivals)) {
        /* Acquire: the nodes; pairs with arrival_push(). */
        struct rdy_arrival *stack = rdy_aptr_swap_acq_rel(&runtime->shared.arrivals, NULL);

        while (stack) { /* turn it round: who was pushed first begins first */
            struct rdy_arrival *next = stack->next;

            stack->next = oldest;
            oldest = stack;
            stack = next;
        }
    }
    if (!oldest)
        return NULL;
    runtime->arrived = oldest->next;
    (void)rdy_a32_add_seq_cst(&runtime->shared.arrivals_count, UINT32_MAX); /* minus one */
    return oldest;
}

bool rdy_task_take_arrivals(struct rdy_runtime *runtime, uint32_t arrivals_max)
{
    for (uint32_t i = 0; i < arrivals_max; i++) {
        struct rdy_arrival *arrival = arrival_pop(runtime);
        struct rdy_task *task;

        if (!arrival)
            return false;
        if (rdy_task_start(runtime, &arrival->spec, arrival->self, &task) == 0) {
            rdy_a64_bump_release(&runtime->count.remote_spawns, 1);
        } else {
            arrival_drop(runtime, arrival);
        }
        free(arrival);
    }
    return true;
}

void rdy_task_seal_arrivals(struct rdy_runtime *runtime)
{
    (void)rdy_a32_swap_seq_cst(&runtime->shared.has_shut, 1);
    /* Nobody new gets in; those who are inside take memory and make one system call at most. */
    while (rdy_a32_load_seq_cst(&runtime->shared.spawners_inside) != 0)
        rdy_sys_cpu_relax();
}

void rdy_task_shut_arrivals(struct rdy_runtime *runtime)
{
    rdy_assert(runtime->is_closing);
    if (rdy_driver_is_forked(runtime->driver))
        return;
    rdy_task_seal_arrivals(runtime);
    while (rdy_task_take_arrivals(runtime, runtime->event_interval))
        ;
    rdy_assert(!runtime->arrived && !rdy_aptr_load_relaxed(&runtime->shared.arrivals));
    rdy_assert(rdy_a32_load_relaxed(&runtime->shared.arrivals_count) == 0);
}
