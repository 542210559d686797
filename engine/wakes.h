/* SPDX-License-Identifier: MIT */
/*
 * A wake list: wakers copied out under a lock, run after it was dropped. A fixed size bounds both
 * the stack and the time for which the lock is held. After Tokio's WakeList.
 */
#ifndef RDY_ENGINE_WAKES_H
#define RDY_ENGINE_WAKES_H

#include <rdy/waker.h>

#include "engine/base.h"

#ifdef RDY_MODEL
#define RDY_WAKES_MAX 1 /* full at once: what happens between two batches is what matters */
#else
#define RDY_WAKES_MAX 32
#endif

struct rdy_wakes {
    uint32_t count;
    struct rdy_waker item[RDY_WAKES_MAX];
};

static inline bool rdy_wakes_is_full(const struct rdy_wakes *wakes)
{
    return wakes->count == RDY_WAKES_MAX;
}

static inline void rdy_wakes_add(struct rdy_wakes *wakes, const struct rdy_waker *waker)
{
    rdy_assert(wakes->count < RDY_WAKES_MAX);
    wakes->item[wakes->count++] = *waker;
}

/* Runs all of them, in order, and empties the list. No lock may be held. */
static inline uint32_t rdy_wakes_run(struct rdy_wakes *wakes)
{
    uint32_t count = wakes->count;

    for (uint32_t i = 0; i < count; i++)
        rdy_waker_wake(&wakes->item[i]);
    wakes->count = 0;
    return count;
}

#endif
