/* SPDX-License-Identifier: MIT */
/* For the stress tests of completion mode: a runtime on which something is scarce. */
#ifndef RDY_TESTS_SUPPORT_SHORTAGE_H
#define RDY_TESTS_SUPPORT_SHORTAGE_H

#include "tests/support/runtime.h"

#include <stdio.h>
#include <stdlib.h>

#include <rdy/completion.h>

#include "engine/driver.h"
#include "engine/runtime.h"
#include "uring/ring.h"

/* What is scarce; zeros are the driver's defaults. */
struct shortage {
    enum rdy_backend_kind backend;
    uint32_t buffers_count;
    uint32_t events_max;
    uint32_t cq_entries;
    bool is_older; /* a kernel that has no DEFER_TASKRUN: completions come at any time */
};

/* A claim in any thread: where cmocka must not jump, the program ends with its text. */
#define must(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            dprintf(2, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #x);                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Written by the thread that opens the runtime, and the same each time. */
static _Thread_local struct rdy_backend_ops older;

static inline int open_older(struct rdy_backend **out, const struct rdy_backend_opts *opts,
                             char *why, size_t why_len)
{
    enum rdy_ring_step step = RDY_STEP_NONE;
    int rc = rdy_uring_open_at(out, opts, RDY_RUNG_SINGLE_COOP, &step);

    rdy_ring_say(step, rc, why, why_len);
    if (rc == 0)
        (*out)->ops = &older;
    return rc;
}

/* With @given and what is scarce. */
static inline struct rdy_runtime *open_short(const struct shortage *shortage,
                                             const struct rdy_driver_opts *given)
{
    struct rdy_runtime_opts opts = runtime_opts(shortage->backend);
    struct rdy_runtime *runtime = NULL;
    struct rdy_driver *driver = NULL;

    opts.driver = *given;
    opts.driver.size = sizeof(opts.driver);
    opts.driver.backend = shortage->backend;
    opts.driver.buffers_count = shortage->buffers_count;
    opts.driver.events_max = shortage->events_max;
    opts.driver.cq_entries = shortage->cq_entries;
    if (!shortage->is_older) {
        must(rdy_runtime_open(&runtime, &opts) == 0);
        return runtime;
    }
    older = *rdy_backend_uring;
    older.open = open_older;
    must(rdy_driver_open_with(&driver, &opts.driver, &older) == 0);
    must(rdy_runtime_open_with(&runtime, &opts, driver) == 0);
    return runtime;
}

/* Turns until nothing is registered, and sees that nothing is left. */
static inline void check_nothing_left(struct rdy_runtime *runtime, const struct shortage *shortage)
{
    struct rdy_completion_stats stats;

    for (int i = 0; i < 100 && driver_stats(runtime).entries_live > 0; i++)
        must(rdy_driver_turn(rdy_runtime_driver(runtime), RDY_NS_PER_MS) >= 0);
    rdy_completion_read_stats(runtime, &stats);
    must(driver_stats(runtime).entries_live == 0);
    must(driver_stats(runtime).cancels_pending == 0);
    must(stats.blocks_live == 0);
    must(stats.buffers_free == shortage->buffers_count);
}

static const struct shortage shortages[] = {
    {.backend = RDY_BACKEND_URING, .buffers_count = 4},
    {.backend = RDY_BACKEND_EPOLL, .buffers_count = 4},
    {.backend = RDY_BACKEND_URING, .buffers_count = 4, .events_max = 1},
    {.backend = RDY_BACKEND_EPOLL, .buffers_count = 4, .events_max = 1},
    {.backend = RDY_BACKEND_URING, .buffers_count = 64, .cq_entries = 2},
    {.backend = RDY_BACKEND_URING, .buffers_count = 1},
    {.backend = RDY_BACKEND_EPOLL, .buffers_count = 1},
    {.backend = RDY_BACKEND_URING, .buffers_count = 4, .is_older = true},
    {.backend = RDY_BACKEND_URING, .buffers_count = 64, .cq_entries = 2, .is_older = true},
};

/* clang-format off */
#define WITH(test, name, index)                                                                    \
    {#test " with " name, test, NULL, NULL, (void *)(uintptr_t)&shortages[index]}
#define WITH_EACH_SHORTAGE(test)                                                                   \
    WITH(test, "four buffers on io_uring", 0),                                                     \
    WITH(test, "four buffers on epoll", 1),                                                        \
    WITH(test, "a fact a turn on io_uring", 2),                                                    \
    WITH(test, "a fact a turn on epoll", 3),                                                       \
    WITH(test, "a queue that overflows, on io_uring", 4),                                          \
    WITH(test, "one buffer on io_uring", 5),                                                       \
    WITH(test, "one buffer on epoll", 6),                                                          \
    WITH(test, "four buffers on an older ring", 7),                                                \
    WITH(test, "a queue that overflows, on an older ring", 8)
/* clang-format on */

#endif
