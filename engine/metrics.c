/* SPDX-License-Identifier: MIT */
/*
 * The snapshot: every counter under its public name, and the gauges that are differences of
 * counters. Any thread.
 */
#include <rdy/metrics.h>

#include "engine/driver.h"
#include "engine/runtime.h"

/* Waiting in the run queue: put there by whom, taken out for what. */
static uint64_t local_queue_depth(const struct rdy_runtime_counts *count)
{
    struct rdy_flow queue = {
        .came = {&count->local_spawns, &count->local_wakes, &count->remote_spawns,
                 &count->remote_wakes_taken},
        .went = {&count->task_polls, &count->reaped},
    };

    return rdy_flow_inside(&queue);
}

/* On the two stacks of other threads, or off them and not begun. */
static uint64_t global_queue_depth(const struct rdy_runtime *runtime)
{
    const struct rdy_runtime_counts *count = &runtime->count;
    struct rdy_flow stacks = {
        .came = {&runtime->shared.remote_wakes, &runtime->shared.remote_arrivals},
        .went = {&count->remote_wakes_taken, &count->remote_spawns, &count->remote_drops},
    };

    return rdy_flow_inside(&stacks);
}

static void read_tasks(const struct rdy_runtime *runtime, struct rdy_metrics *metrics)
{
    struct rdy_runtime_stats stats;

    rdy_runtime_read_stats(runtime, &stats);
    metrics->spawned_tasks_count = stats.tasks_spawned;
    metrics->ended_tasks_count = stats.tasks_ended;
    metrics->aborted_tasks_count = stats.task_aborts;
    metrics->timed_out_tasks_count = stats.task_timeouts;
    metrics->remote_spawn_count = stats.remote_spawns;
    metrics->remote_drop_count = stats.remote_drops;
    metrics->alive_tasks = stats.tasks_live;
    metrics->poll_count = stats.task_polls;
    metrics->next_poll_count = stats.next_polls;
    metrics->next_bound_count = stats.next_bounds;
    metrics->budget_forced_yield_count = stats.budget_yields;
    metrics->remote_wake_count = stats.remote_wakes;
    metrics->stale_wake_count = stats.stale_wakes;
    metrics->timers_fired_count = stats.timers_fired;
    metrics->timers_armed = stats.timers_armed;
}

static void read_schedules(const struct rdy_runtime *runtime, struct rdy_metrics *metrics)
{
    const struct rdy_runtime_counts *count = &runtime->count;

    metrics->local_schedule_count =
        rdy_a64_load_relaxed(&count->local_spawns) + rdy_a64_load_relaxed(&count->local_wakes);
    metrics->remote_schedule_count = rdy_a64_load_relaxed(&runtime->shared.remote_wakes) +
                                     rdy_a64_load_relaxed(&runtime->shared.remote_arrivals);
    metrics->local_queue_depth = local_queue_depth(count);
    metrics->global_queue_depth = global_queue_depth(runtime);
    metrics->noop_count = rdy_a64_load_relaxed(&count->noop_parks);
}

static void read_driver(const struct rdy_driver *driver, struct rdy_metrics *metrics)
{
    struct rdy_driver_stats stats;

    rdy_driver_read_stats(driver, &stats);
    metrics->backend = rdy_driver_backend_name(driver);
    metrics->park_count = stats.parks;
    metrics->park_unpark_count = stats.park_unparks;
    metrics->spin_count = stats.spins;
    metrics->spin_hit_count = stats.spin_hits;
    metrics->spin_duration_ns = stats.spin_ns;
    metrics->batch_wait_count = stats.batch_waits;
    metrics->batch_fill_count = stats.batch_fills;
    metrics->io_driver_fd_registered_count = stats.registered;
    metrics->io_driver_fd_deregistered_count = stats.deregistered;
    metrics->io_driver_ready_count = stats.ready_events;
    metrics->io_driver_entries = stats.entries_live;
    metrics->io_driver_cancels_pending = stats.cancels_pending;
    metrics->io_driver_turn_count = stats.turns;
    metrics->io_driver_system_call_count = stats.system_calls;
    metrics->io_driver_waker_call_count = stats.waker_calls;
    metrics->io_driver_unpark_count = stats.unparks;
    metrics->io_driver_coalesced_unpark_count = stats.unparks_coalesced;
    metrics->io_driver_rearm_count = stats.rearms;
    metrics->io_driver_overflow_count = stats.overflows;
    metrics->io_driver_stale_clear_count = stats.stale_clears;
    metrics->io_driver_stale_token_count = stats.stale_tokens;
    metrics->io_driver_spurious_wake_count = stats.spurious_wakes;
    metrics->io_driver_closed_entry_fact_count = stats.facts_for_closed_entry;
    metrics->io_driver_set_after_shutdown_count = stats.sets_after_shutdown;
    metrics->io_driver_interrupted_wait_count = stats.interrupted_waits;
    metrics->io_driver_arm_retry_count = stats.arm_retries;
    metrics->io_driver_arm_failure_count = stats.arm_failures;
    metrics->io_driver_unpollable_file_count = stats.unpollable_files;
    metrics->io_driver_backend_move_count = stats.backend_moves;
}

static void read_times(const struct rdy_runtime *runtime, struct rdy_metrics *metrics)
{
    const struct rdy_poll_time *time = &runtime->poll_time;

    metrics->is_timed = runtime->is_timed;
    metrics->busy_duration_ns = rdy_a64_load_relaxed(&runtime->driver->count.busy_ns);
    metrics->poll_time_ns = rdy_a64_load_relaxed(&time->total_ns);
    metrics->mean_poll_time_ns = rdy_a64_load_relaxed(&time->mean_16) / 16;
    metrics->queue_wait_ns = rdy_a64_load_relaxed(&time->queue_wait_ns);
    for (uint32_t i = 0; i < RDY_METRICS_BUCKETS; i++)
        metrics->poll_time_buckets[i] = rdy_a64_load_relaxed(&time->buckets[i]);
}

void rdy_metrics_read(struct rdy_runtime *runtime, struct rdy_metrics *metrics)
{
    *metrics = (struct rdy_metrics){0};
    read_tasks(runtime, metrics);
    read_schedules(runtime, metrics);
    read_driver(runtime->driver, metrics);
    read_times(runtime, metrics);
    rdy_assert(metrics->alive_tasks <= INT64_MAX && metrics->local_queue_depth <= INT64_MAX);
}
