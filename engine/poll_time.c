/* SPDX-License-Identifier: MIT */
/* The clock of a timed runtime's polls, and the buckets that they fall into. See the header. */
#include "engine/poll_time.h"

#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/sys.h"

#define SUB_BITS    2u /* four buckets to a power of two */
#define SUB_COUNT   (1u << SUB_BITS)
#define RANGE_BITS  36u
#define BUCKET_REST (RDY_METRICS_BUCKETS - 1u)

static_assert(SUB_COUNT + (RANGE_BITS - SUB_BITS) * SUB_COUNT == BUCKET_REST,
              "the header's number of buckets is what range and precision make");

/*
 * A bucket holds what is above the bucket before it, up to its own end: powers of two are ends, and
 * belong to the bucket that they end, as Prometheus wants it. Hence the minus one.
 */
uint32_t rdy_poll_time_bucket(uint64_t ns)
{
    uint64_t below = ns > 0 ? ns - 1 : 0;
    uint32_t exponent;
    uint32_t sub;

    if (below < SUB_COUNT)
        return (uint32_t)below;
    exponent = 63u - (uint32_t)__builtin_clzll(below);
    if (exponent >= RANGE_BITS)
        return BUCKET_REST;
    sub = (uint32_t)(below >> (exponent - SUB_BITS)) & (SUB_COUNT - 1);
    return SUB_COUNT + (exponent - SUB_BITS) * SUB_COUNT + sub;
}

uint64_t rdy_metrics_bucket_max_ns(uint32_t bucket)
{
    uint32_t above = bucket - SUB_COUNT;

    if (bucket >= BUCKET_REST)
        return UINT64_MAX;
    if (bucket < SUB_COUNT)
        return bucket + 1;
    return (uint64_t)(SUB_COUNT + above % SUB_COUNT + 1) << (above / SUB_COUNT);
}

/* Its own thread's view, which is exact. */
static uint64_t queue_depth(const struct rdy_runtime *runtime)
{
    const struct rdy_runtime_counts *count = &runtime->count;

    return rdy_a64_load_relaxed(&count->local_spawns) + rdy_a64_load_relaxed(&count->local_wakes) +
           rdy_a64_load_relaxed(&count->remote_spawns) +
           rdy_a64_load_relaxed(&count->remote_wakes_taken) -
           rdy_a64_load_relaxed(&count->task_polls) - rdy_a64_load_relaxed(&count->reaped);
}

/* @waiting tasks were in the queue at @since_ns, as many as stand in it now are. */
static void count_wait(struct rdy_runtime *runtime, uint64_t waiting, uint64_t now_ns)
{
    struct rdy_poll_time *time = &runtime->poll_time;
    uint64_t depth = queue_depth(runtime);

    rdy_assert(depth <= INT64_MAX);
    rdy_a64_bump(&time->queue_wait_ns, (waiting + depth) * (now_ns - time->since_ns) / 2);
    time->depth = depth;
    time->since_ns = now_ns;
}

void rdy_poll_time_begin(struct rdy_runtime *runtime)
{
    struct rdy_poll_time *time = &runtime->poll_time;
    uint64_t now_ns = rdy_sys_now_ns();

    /* Who was blocked since the last poll had nobody waiting: only the time after that counts. */
    if (time->since_ns < runtime->driver->busy_since_ns)
        time->since_ns = runtime->driver->busy_since_ns;
    rdy_assert(now_ns >= time->since_ns);
    count_wait(runtime, time->depth, now_ns);
}

void rdy_poll_time_lap(struct rdy_runtime *runtime)
{
    struct rdy_poll_time *time = &runtime->poll_time;
    uint64_t now_ns = rdy_sys_now_ns();
    uint64_t took_ns = now_ns - time->since_ns;
    uint64_t mean_16 = rdy_a64_load_relaxed(&time->mean_16);

    rdy_assert(now_ns >= time->since_ns);
    rdy_a64_bump(&time->buckets[rdy_poll_time_bucket(took_ns)], 1);
    rdy_a64_bump(&time->total_ns, took_ns);
    rdy_a64_store_relaxed(&time->mean_16,
                          mean_16 == 0 ? took_ns * 16 : mean_16 - mean_16 / 16 + took_ns);
    /* The polled one waited no longer. */
    count_wait(runtime, time->depth > 0 ? time->depth - 1 : 0, now_ns);
}
