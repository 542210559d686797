/* SPDX-License-Identifier: MIT */
/* A lock taken while it is held, which would wait for itself; with VIOLATE only. */
#include "engine/lock.h"

void lock_twice(struct rdy_lock *lock);

void lock_twice(struct rdy_lock *lock)
{
    rdy_lock_acquire(lock);
#ifdef VIOLATE
    rdy_lock_acquire(lock);
#endif
    rdy_lock_release(lock);
}
