/* SPDX-License-Identifier: MIT */
/*
 * A function that wants a lock, called without it. VIOLATE is defined for the build that must fail;
 * without it the same program must compile, so that a check that fails everything is noticed too.
 */
#include "engine/lock.h"

struct counter {
    struct rdy_lock lock;
    int value;
};

int counter_add(struct counter *counter, int n);

static void counter_change(struct counter *counter, int n) RDY_REQUIRES(counter->lock)
{
    counter->value += n;
}

int counter_add(struct counter *counter, int n)
{
#ifdef VIOLATE
    counter_change(counter, n);
#else
    rdy_lock_acquire(&counter->lock);
    counter_change(counter, n);
    rdy_lock_release(&counter->lock);
#endif
    return 0;
}
