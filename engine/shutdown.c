/* SPDX-License-Identifier: MIT */
/*
 * The graceful end of a runtime: who asks for it, who waits for it, and the deadline.
 *
 * Whoever asks writes two words, first the deadline (by CLOCK_MONOTONIC; of several the earliest),
 * then "no more arrivals", and unparks; that is all, so that a signal handler may. The runtime's
 * thread looks at the second word once a round. When it first sees it, it seals the arrivals, so
 * that "no task is left" is exact from then on, and wakes who waits. A deadline that moved is armed
 * anew. The rest of the file is the runtime's thread's.
 */
#include <rdy/shutdown.h>

#include "engine/driver.h"
#include "engine/list.h"
#include "engine/runtime.h"
#include "engine/sys.h"

/* Signal-safe. */
static void deadline_shorten(struct rdy_runtime *runtime, uint64_t by_ns)
{
    uint64_t seen = rdy_a64_load_relaxed(&runtime->shared.shutdown_by_ns);

    /* Release: pairs with the acquire in shutdown_arm(). */
    do {
        if (seen <= by_ns)
            return;
    } while (!rdy_a64_cas_acq_rel(&runtime->shared.shutdown_by_ns, &seen, by_ns));
}

int rdy_runtime_shutdown(struct rdy_runtime *runtime, uint64_t grace_ns)
{
    if (rdy_driver_is_forked(runtime->driver))
        return -EOWNERDEAD;
    rdy_shutdown_by(runtime, rdy_clock_after(rdy_sys_now_ns(), grace_ns));
    return 0;
}

void rdy_shutdown_by(struct rdy_runtime *runtime, uint64_t by_ns)
{
    deadline_shorten(runtime, by_ns);
    (void)rdy_a32_swap_seq_cst(&runtime->shared.has_shut, 1);
    rdy_driver_unpark(runtime->driver);
}

RDY_HOT bool rdy_runtime_is_shutting_down(const struct rdy_runtime *runtime)
{
    return rdy_a32_load_acquire(&runtime->shared.has_shut) != 0;
}

int rdy_runtime_poll_shutdown(struct rdy_shutdown_wait *wait, struct rdy_task *task)
{
    struct rdy_runtime *runtime = task->runtime;

    rdy_debug(runtime->polled == task);
    rdy_shutdown_wait_cancel(wait);
    if (rdy_runtime_is_shutting_down(runtime))
        return 0;
    wait->waker = rdy_task_waker(task);
    rdy_list_push_back(&runtime->shutdown.waits, &wait->link);
    return RDY_PENDING;
}

void rdy_shutdown_wait_cancel(struct rdy_shutdown_wait *wait)
{
    if (!wait->link.next)
        return;
    rdy_list_unlink(&wait->link);
    *wait = (struct rdy_shutdown_wait){0};
}

bool rdy_until_shutdown_begin(struct rdy_task *task)
{
    return rdy_task_may_spend(task);
}

ssize_t rdy_until_shutdown_end(struct rdy_shutdown_wait *wait, struct rdy_task *task,
                               ssize_t result)
{
    if (result != RDY_PENDING) /* the wait stays where it is: the next operation will want it */
        return result;
    if (wait->link.next && !rdy_runtime_is_shutting_down(task->runtime)) {
        struct rdy_waker waker = rdy_task_waker(task);

        if (rdy_likely(rdy_waker_is_same(&wait->waker, &waker)))
            return RDY_PENDING;
    }
    return rdy_runtime_poll_shutdown(wait, task) == 0 ? -ESHUTDOWN : RDY_PENDING;
}

/* Each is taken out before it is woken: a waker may end the memory of its wait. */
static void wake_all(struct rdy_runtime *runtime)
{
    struct rdy_link *link;

    while ((link = rdy_list_pop(&runtime->shutdown.waits))) {
        struct rdy_shutdown_wait *wait = rdy_container_of(link, struct rdy_shutdown_wait, link);
        struct rdy_waker waker = wait->waker;

        *wait = (struct rdy_shutdown_wait){0};
        rdy_waker_wake(&waker);
    }
}

static void deadline_pass(void *arg, uint64_t data)
{
    struct rdy_runtime *runtime = arg;

    (void)data;
    runtime->shutdown.is_overdue = true;
}

/* The deadline is the kernel's clock's; the runtime's may stand elsewhere, or stand still. */
static void shutdown_arm(struct rdy_runtime *runtime)
{
    /* Acquire: pairs with deadline_shorten(). */
    uint64_t by_ns = rdy_a64_load_acquire(&runtime->shared.shutdown_by_ns);
    struct rdy_waker waker = {.fn = deadline_pass, .arg = runtime};
    uint64_t kernel_ns;

    if (rdy_likely(by_ns == runtime->shutdown.by_ns))
        return;
    rdy_assert(by_ns < runtime->shutdown.by_ns);
    runtime->shutdown.by_ns = by_ns;
    kernel_ns = rdy_sys_now_ns();
    if (by_ns <= kernel_ns)
        runtime->shutdown.is_overdue = true;
    else
        rdy_timer_arm(&runtime->shutdown.timer, runtime,
                      rdy_clock_after(rdy_clock_read_ns(runtime), by_ns - kernel_ns), &waker);
}

bool rdy_shutdown_step(struct rdy_runtime *runtime)
{
    rdy_assert(!runtime->polled);
    if (!runtime->shutdown.has_begun) {
        runtime->shutdown.has_begun = true;
        rdy_task_seal_arrivals(runtime);
        wake_all(runtime);
    }
    shutdown_arm(runtime);
    if (!runtime->shutdown.is_overdue)
        return false;
    rdy_runtime_end_tasks(runtime);
    return true;
}

void rdy_shutdown_init(struct rdy_runtime *runtime)
{
    rdy_list_init(&runtime->shutdown.waits);
    runtime->shutdown.by_ns = UINT64_MAX;
    rdy_a64_store_relaxed(&runtime->shared.shutdown_by_ns, UINT64_MAX);
}

void rdy_runtime_set_context(struct rdy_runtime *runtime, void *context)
{
    runtime->context = context;
}

RDY_HOT void *rdy_runtime_context(const struct rdy_runtime *runtime)
{
    return runtime->context;
}

struct rdy_runtime *rdy_runtime_here(void)
{
    return rdy_runtime_current;
}
