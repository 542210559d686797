/* SPDX-License-Identifier: MIT */
/*
 * A waker: how the engine tells somebody that it is worth trying again.
 *
 * Three words, a value, copied freely. The engine runs @fn once for each wake, with no lock held
 * and possibly on another thread than the one that waits. @fn must not block; it may call any rdy
 * function. What @arg points to must live until the wait has ended: woken, or cancelled by a call
 * that said so. @data goes to @fn as it is; a task's waker keeps the task's generation in it, so
 * that a wake for a task that is gone does nothing.
 */
#ifndef RDY_WAKER_H
#define RDY_WAKER_H

#include <rdy/base.h>

RDY_BEGIN_DECLS

typedef void rdy_wake_fn(void *arg, uint64_t data);

struct rdy_waker {
    rdy_wake_fn *fn; /* NULL: nobody */
    void *arg;
    uint64_t data;
};

/* Runs the waker; does nothing if it is empty. */
static inline void rdy_waker_wake(const struct rdy_waker *waker)
{
    if (waker->fn)
        waker->fn(waker->arg, waker->data);
}

/* True if both would wake the same thing. */
static inline bool rdy_waker_is_same(const struct rdy_waker *a, const struct rdy_waker *b)
{
    return a->fn == b->fn && a->arg == b->arg && a->data == b->data;
}

RDY_END_DECLS

#endif
