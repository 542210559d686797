/* SPDX-License-Identifier: MIT */
/* The counters, gathered: any thread; each is whole, the set is not one instant. */
#include "engine/driver.h"

static void copy_own(const struct rdy_driver *driver, struct rdy_driver_stats *stats)
{
    const struct rdy_driver_counts *count = &driver->count;

    stats->turns = rdy_a64_load_relaxed(&count->turns);
    stats->parks = rdy_a64_load_relaxed(&count->parks);
    stats->ready_events = rdy_a64_load_relaxed(&count->ready_events);
    stats->waker_calls = rdy_a64_load_relaxed(&count->waker_calls);
    stats->rearms = rdy_a64_load_relaxed(&count->rearms);
    stats->overflows = rdy_a64_load_relaxed(&count->overflows);
    stats->facts_for_closed_entry = rdy_a64_load_relaxed(&count->facts_for_closed_entry);
    stats->sets_after_shutdown = rdy_a64_load_relaxed(&count->sets_after_shutdown);
    stats->arm_retries = rdy_a64_load_relaxed(&count->arm_retries);
    stats->arm_failures = rdy_a64_load_relaxed(&count->arm_failures);
    stats->unpollable_files = rdy_a64_load_relaxed(&count->unpollable_files);
    stats->backend_moves = rdy_a64_load_relaxed(&count->backend_moves);
    stats->cancels_pending = rdy_a64_load_relaxed(&count->cancels_pending);
}

static void copy_any(const struct rdy_driver *driver, struct rdy_driver_stats *stats)
{
    const struct rdy_driver_any_counts *any = &driver->any;

    stats->unparks = rdy_a64_load_relaxed(&any->unparks);
    stats->unparks_coalesced = rdy_a64_load_relaxed(&any->unparks_coalesced);
    stats->stale_clears = rdy_a64_load_relaxed(&any->stale_clears);
    stats->spurious_wakes = rdy_a64_load_relaxed(&any->spurious_wakes);
    stats->stale_tokens = rdy_a64_load_relaxed(&any->stale_tokens);
}

/* Counted in as a waker is, so that a move to another backend does not free this one meanwhile. */
static void copy_backend(struct rdy_driver *driver, struct rdy_driver_stats *stats)
{
    const struct rdy_backend *backend;

    (void)rdy_a32_add_seq_cst(&driver->wakers_inside, 1);
    backend = rdy_aptr_load_seq_cst(&driver->backend);
    stats->system_calls = rdy_a64_load_relaxed(&driver->system_calls_moved) +
                          rdy_a64_load_relaxed(&backend->system_calls);
    stats->interrupted_waits = rdy_a64_load_relaxed(&backend->interruptions);
    (void)rdy_a32_add_seq_cst(&driver->wakers_inside, UINT32_MAX); /* minus one */
}

void rdy_driver_read_stats(const struct rdy_driver *constant, struct rdy_driver_stats *stats)
{
    /* The lock is the one thing that reading changes. */
    struct rdy_driver *driver = (struct rdy_driver *)(uintptr_t)constant;

    copy_own(driver, stats);
    copy_any(driver, stats);
    copy_backend(driver, stats);

    rdy_lock_acquire(&driver->set.lock);
    stats->registered = driver->set.registered;
    stats->deregistered = driver->set.deregistered;
    stats->entries_live = rdy_slab_live(driver->set.slab);
    rdy_lock_release(&driver->set.lock);
}
