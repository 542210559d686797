/* SPDX-License-Identifier: MIT */
/*
 * Notifications and semaphores: lists of waiting tasks, first come, first served.
 *
 * What a waiter waits for is handed to it while it sleeps: it is out of the list and in state
 * granted before its task is polled. So nobody who comes in between can take it, and a wait that is
 * given up in that state passes it on. A waiter in any state but waiting and granted does not touch
 * its owner any more. One thread, the runtime's; the wakers are tasks' and only queue them.
 */
#include <rdy/sync.h>

#include "engine/runtime.h"

enum waiter_state {
    WAITER_IDLE = 0,
    WAITER_NOTIFY,    /* in the list of a notification */
    WAITER_SEMAPHORE, /* in that of a semaphore */
    WAITER_CHOSEN,    /* by rdy_notify_one(): out of the list, with something to pass on */
    WAITER_GRANTED,   /* has its permits: the same */
    WAITER_TOLD,      /* by rdy_notify_all(): nothing to pass on */
    WAITER_REFUSED,   /* the semaphore was closed */
};

static void waiters_push(struct rdy_waiters *waiters, struct rdy_waiter *waiter)
{
    waiter->next = NULL;
    waiter->prev = waiters->last;
    if (waiters->last)
        waiters->last->next = waiter;
    else
        waiters->first = waiter;
    waiters->last = waiter;
}

static void waiters_unlink(struct rdy_waiters *waiters, struct rdy_waiter *waiter)
{
    if (waiter->prev)
        waiter->prev->next = waiter->next;
    else
        waiters->first = waiter->next;
    if (waiter->next)
        waiter->next->prev = waiter->prev;
    else
        waiters->last = waiter->prev;
}

/* Takes the first out of the list; its task finds @state when it is polled. */
static void waiters_settle_first(struct rdy_waiters *waiters, enum waiter_state state)
{
    struct rdy_waiter *waiter = waiters->first;

    waiters_unlink(waiters, waiter);
    waiter->state = state;
    rdy_waker_wake(&waiter->waker);
}

static void waiter_begin(struct rdy_waiter *waiter, struct rdy_waiters *waiters, void *owner,
                         enum waiter_state state)
{
    waiter->owner = owner;
    waiter->state = state;
    waiters_push(waiters, waiter);
}

void rdy_waiter_cancel(struct rdy_waiter *waiter)
{
    enum waiter_state state = (enum waiter_state)waiter->state;
    struct rdy_notify *notify = waiter->owner;
    struct rdy_semaphore *semaphore = waiter->owner;

    waiter->state = WAITER_IDLE;
    switch (state) {
    case WAITER_NOTIFY:
        waiters_unlink(&notify->waiters, waiter);
        break;
    case WAITER_CHOSEN:
        rdy_notify_one(notify);
        break;
    case WAITER_SEMAPHORE:
        waiters_unlink(&semaphore->waiters, waiter);
        rdy_semaphore_release(semaphore, 0); /* there may be enough for those behind it */
        break;
    case WAITER_GRANTED:
        rdy_semaphore_release(semaphore, waiter->wanted);
        break;
    case WAITER_IDLE:
    case WAITER_TOLD:
    case WAITER_REFUSED:
        break;
    }
}

/* --- notifications --- */

void rdy_notify_one(struct rdy_notify *notify)
{
    if (notify->waiters.first)
        waiters_settle_first(&notify->waiters, WAITER_CHOSEN);
    else
        notify->has_permit = true;
}

void rdy_notify_all(struct rdy_notify *notify)
{
    while (notify->waiters.first)
        waiters_settle_first(&notify->waiters, WAITER_TOLD);
}

int rdy_notify_poll(struct rdy_notify *notify, struct rdy_task *task, struct rdy_waiter *waiter)
{
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rdy_assert(waiter->state == WAITER_IDLE || waiter->owner == notify);
    if (waiter->state == WAITER_IDLE && !notify->has_permit)
        waiter_begin(waiter, &notify->waiters, notify, WAITER_NOTIFY);
    if (waiter->state == WAITER_NOTIFY) {
        waiter->waker = rdy_task_waker(task);
        return RDY_PENDING;
    }
    if (waiter->state == WAITER_IDLE)
        notify->has_permit = false;
    waiter->state = WAITER_IDLE;
    rdy_task_spend(task);
    return 0;
}

/* --- semaphores --- */

void rdy_semaphore_init(struct rdy_semaphore *semaphore, uint32_t permits)
{
    *semaphore = (struct rdy_semaphore){.permits = permits};
}

int rdy_semaphore_try_acquire(struct rdy_semaphore *semaphore, uint32_t permits)
{
    if (semaphore->is_closed)
        return -ESHUTDOWN;
    if (semaphore->waiters.first || semaphore->permits < permits)
        return -EAGAIN;
    semaphore->permits -= permits;
    return 0;
}

/* The answer to a wait that has ended, or to one that need not begin; else it begins. */
static int semaphore_answer(struct rdy_semaphore *semaphore, struct rdy_waiter *waiter,
                            uint32_t permits)
{
    enum waiter_state state = (enum waiter_state)waiter->state;
    int rc;

    rdy_assert(state == WAITER_IDLE || waiter->owner == semaphore);
    rdy_assert(state == WAITER_IDLE || waiter->wanted == permits);
    if (state == WAITER_SEMAPHORE)
        return RDY_PENDING;
    if (state != WAITER_IDLE) {
        waiter->state = WAITER_IDLE;
        return state == WAITER_GRANTED ? 0 : -ESHUTDOWN;
    }
    rc = rdy_semaphore_try_acquire(semaphore, permits);
    if (rc != -EAGAIN)
        return rc;
    waiter->wanted = permits;
    waiter_begin(waiter, &semaphore->waiters, semaphore, WAITER_SEMAPHORE);
    return RDY_PENDING;
}

int rdy_semaphore_poll_acquire(struct rdy_semaphore *semaphore, struct rdy_task *task,
                               struct rdy_waiter *waiter, uint32_t permits)
{
    int rc;

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = semaphore_answer(semaphore, waiter, permits);
    if (rc == RDY_PENDING)
        waiter->waker = rdy_task_waker(task);
    else
        rdy_task_spend(task);
    return rc;
}

void rdy_semaphore_release(struct rdy_semaphore *semaphore, uint32_t permits)
{
    struct rdy_waiters *waiters = &semaphore->waiters;

    rdy_assert(permits <= UINT32_MAX - semaphore->permits);
    semaphore->permits += permits;
    while (waiters->first && waiters->first->wanted <= semaphore->permits) {
        semaphore->permits -= waiters->first->wanted;
        waiters_settle_first(waiters, WAITER_GRANTED);
    }
}

uint32_t rdy_semaphore_available(const struct rdy_semaphore *semaphore)
{
    return semaphore->permits;
}

void rdy_semaphore_close(struct rdy_semaphore *semaphore)
{
    semaphore->is_closed = true;
    while (semaphore->waiters.first)
        waiters_settle_first(&semaphore->waiters, WAITER_REFUSED);
}
