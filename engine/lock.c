/* SPDX-License-Identifier: MIT */
#include "engine/lock.h"

#include "engine/sys.h"

/* A holder on the other core is done within tens of nanoseconds: look that long before sleeping. */
#ifdef RDY_MODEL
#define LOCK_SPINS 1 /* each is a branch of the search, and the next finds nothing new */
#else
#define LOCK_SPINS 64
#endif

static bool lock_spin(struct rdy_lock *lock)
{
    for (int i = 0; i < LOCK_SPINS; i++) {
        uint32_t seen = 0;

        if (rdy_a32_load_relaxed(&lock->state) == 0 && rdy_a32_cas_acq_rel(&lock->state, &seen, 1))
            return true;
        rdy_sys_cpu_relax();
    }
    return false;
}

void rdy_lock_slow(struct rdy_lock *lock)
{
    if (lock_spin(lock))
        return;

    /* From here on the state says 2: whoever releases must wake, even if it was only us. */
    while (rdy_a32_swap_acq_rel(&lock->state, 2) != 0)
        rdy_sys_futex_wait(&lock->state.v, 2);
}

void rdy_unlock_slow(struct rdy_lock *lock)
{
    rdy_sys_futex_wake(&lock->state.v, 1);
}
