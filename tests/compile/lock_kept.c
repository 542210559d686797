/* SPDX-License-Identifier: MIT */
/* One of two returns forgets to release the lock; with VIOLATE only, see lock_missing.c. */
#include "engine/lock.h"

struct counter {
    struct rdy_lock lock;
    int value;
};

int counter_take(struct counter *counter);

int counter_take(struct counter *counter)
{
    rdy_lock_acquire(&counter->lock);
    if (counter->value == 0) {
#ifndef VIOLATE
        rdy_lock_release(&counter->lock);
#endif
        return -EAGAIN;
    }
    counter->value--;
    rdy_lock_release(&counter->lock);
    return 0;
}
