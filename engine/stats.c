/* SPDX-License-Identifier: MIT */
/* The counters, gathered: any thread; each is whole, the set is not one instant. */
#include "engine/driver.h"
#include "engine/runtime.h"

/* Looks at a gauge's two sides so often, until nothing went in between. */
#define TRIES_MAX 4

static void copy_own(const struct rdy_driver *driver, struct rdy_driver_stats *stats)
{
    const struct rdy_driver_counts *count = &driver->count;

    stats->turns = rdy_a64_load_relaxed(&count->turns);
    stats->parks = rdy_a64_load_relaxed(&count->parks);
    stats->park_unparks = rdy_a64_load_relaxed(&count->park_unparks);
    stats->spins = rdy_a64_load_relaxed(&count->spins);
    stats->spin_hits = rdy_a64_load_relaxed(&count->spin_hits);
    stats->spin_ns = rdy_a64_load_relaxed(&count->spin_ns);
    stats->batch_waits = rdy_a64_load_relaxed(&count->batch_waits);
    stats->batch_fills = rdy_a64_load_relaxed(&count->batch_fills);
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

    stats->registered = rdy_a64_load_relaxed(&any->registered);
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
    stats->deregistered = driver->set.deregistered;
    stats->entries_live = rdy_slab_live(driver->set.slab);
    rdy_lock_release(&driver->set.lock);
}

static uint64_t sum_acquire(const struct rdy_a64 *const counters[RDY_FLOW_MAX])
{
    uint64_t sum = 0;

    for (int i = 0; i < RDY_FLOW_MAX; i++)
        if (counters[i])
            sum += rdy_a64_load_acquire(counters[i]);
    return sum;
}

uint64_t rdy_flow_inside(const struct rdy_flow *flow)
{
    uint64_t came = 0;
    uint64_t went;
    uint64_t went_after = 0;

    /*
     * Acquire, of what went: what came before it is in sight; pairs with rdy_a64_bump_release(). Of
     * what came: the second look at what went is not the older one.
     */
    for (int i = 0; i < TRIES_MAX; i++) {
        went = sum_acquire(flow->went);
        came = sum_acquire(flow->came);
        rdy_assert(came - went <= INT64_MAX);
        went_after = sum_acquire(flow->went);
        if (went == went_after)
            break;
    }
    return came > went_after ? came - went_after : 0;
}

void rdy_runtime_read_stats(const struct rdy_runtime *runtime, struct rdy_runtime_stats *stats)
{
    const struct rdy_runtime_counts *count = &runtime->count;

    stats->remote_spawns = rdy_a64_load_relaxed(&count->remote_spawns);
    stats->tasks_spawned = rdy_a64_load_relaxed(&count->local_spawns) + stats->remote_spawns;
    stats->tasks_ended = rdy_a64_load_relaxed(&count->tasks_ended);
    stats->task_polls = rdy_a64_load_relaxed(&count->task_polls);
    stats->task_aborts = rdy_a64_load_relaxed(&count->task_aborts);
    stats->budget_yields = rdy_a64_load_relaxed(&count->budget_yields);
    stats->next_polls = rdy_a64_load_relaxed(&count->next_polls);
    stats->next_bounds = rdy_a64_load_relaxed(&count->next_bounds);
    stats->task_timeouts = rdy_a64_load_relaxed(&count->task_timeouts);
    stats->remote_drops = rdy_a64_load_relaxed(&count->remote_drops);
    stats->timers_fired = rdy_a64_load_relaxed(&count->timers_fired);
    stats->remote_wakes = rdy_a64_load_relaxed(&runtime->shared.remote_wakes) +
                          rdy_a64_load_relaxed(&runtime->shared.remote_wakes_late);
    stats->stale_wakes = rdy_a64_load_relaxed(&runtime->shared.stale_wakes);
    stats->tasks_live = rdy_runtime_tasks_live(runtime);
    stats->timers_armed = rdy_a64_load_relaxed(&runtime->wheel.armed_count);
}
