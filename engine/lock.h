/* SPDX-License-Identifier: MIT */
/*
 * A lock of four bytes, so that it fits into a ScheduledIo: free, held, held with sleepers.
 *
 * The algorithm is "mutex2" of Ulrich Drepper, Futexes Are Tricky (2011). Uncontended it is one
 * compare-and-swap and one exchange. Holders run a bounded number of instructions: never a
 * callback, a system call or an allocation under a lock, with one exception: the registration set
 * grows and shrinks its slab by whole pages under its own lock, once in dozens of calls.
 *
 * Ranks: the registration set's lock before an entry's; one entry's lock at a time.
 */
#ifndef RDY_ENGINE_LOCK_H
#define RDY_ENGINE_LOCK_H

#include "engine/atomic.h"

struct RDY_CAPABILITY("lock") rdy_lock {
    struct rdy_a32 state; /* 0 free, 1 held, 2 held and somebody may sleep */
};

void rdy_lock_slow(struct rdy_lock *lock);
void rdy_unlock_slow(struct rdy_lock *lock);

static inline void rdy_lock_acquire(struct rdy_lock *lock) RDY_ACQUIRES(*lock) RDY_UNCHECKED
{
    uint32_t seen = 0;

    rdy_model_await(&lock->state.v, 0);
    if (rdy_unlikely(!rdy_a32_cas_acq_rel(&lock->state, &seen, 1)))
        rdy_lock_slow(lock);
}

static inline void rdy_lock_release(struct rdy_lock *lock) RDY_RELEASES(*lock) RDY_UNCHECKED
{
    if (rdy_unlikely(rdy_a32_swap_acq_rel(&lock->state, 0) == 2))
        rdy_unlock_slow(lock);
}

#endif
