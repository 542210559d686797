/* SPDX-License-Identifier: MIT */
/*
 * Arrivals: tasks that other threads hand to a runtime.
 *
 * The caller makes the task's struct and a node, pushes the node onto a stack (Treiber 1986; taken
 * as a whole, so it has no ABA) and unparks the driver; the runtime's thread makes tasks of them.
 * A node that was pushed is owned by the runtime, which either starts it or runs its drop. A round
 * starts a bounded number: threads that push faster than that would otherwise keep the runtime from
 * all else.
 *
 * Closing: a caller counts itself in before it looks whether the runtime has shut, the closer shuts
 * before it looks whether somebody is inside; all four are sequentially consistent, so one of them
 * sees the other. When nobody is inside, no push is to come and nobody touches the driver.
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

static struct rdy_arrival *arrival_make(const struct rdy_task_spec *spec, const void *init,
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

int rdy_spawn_remote(struct rdy_runtime *runtime, const struct rdy_task_spec *spec,
                     const void *init)
{
    struct rdy_arrival *arrival;
    int rc = 0;

    (void)rdy_a32_add_seq_cst(&runtime->shared.spawners_inside, 1);
    if (rdy_a32_load_seq_cst(&runtime->shared.has_shut) != 0) {
        rc = -ESHUTDOWN;
    } else {
        arrival = arrival_make(spec, init, &rc);
        if (arrival)
            arrival_push(runtime, arrival);
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
    runtime->arrived = oldest ? oldest->next : NULL;
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

void rdy_task_shut_arrivals(struct rdy_runtime *runtime)
{
    rdy_assert(runtime->is_closing);
    (void)rdy_a32_swap_seq_cst(&runtime->shared.has_shut, 1);
    /* Nobody new gets in; those who are inside take memory and make one system call at most. */
    while (rdy_a32_load_seq_cst(&runtime->shared.spawners_inside) != 0)
        rdy_sys_cpu_relax();
    while (rdy_task_take_arrivals(runtime, runtime->event_interval))
        ;
    rdy_assert(!runtime->arrived && !rdy_aptr_load_relaxed(&runtime->shared.arrivals));
}
