/* SPDX-License-Identifier: MIT */
/*
 * For tests of engines: each on both backends, opened and ended by the test itself; a latch for
 * what the workers' threads have done.
 */
#ifndef RDY_TESTS_SUPPORT_ENGINE_H
#define RDY_TESTS_SUPPORT_ENGINE_H

#include "tests/support/runtime.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <rdy/engine.h>
#include <rdy/timer.h>

#include "engine/atomic.h"
#include "tests/support/check.h"
#include "tests/support/seccomp.h"
#include "tests/support/stress.h"

static inline enum rdy_backend_kind backend_of(void **state)
{
    return *(const enum rdy_backend_kind *)*state;
}

static inline struct rdy_engine_opts engine_opts(enum rdy_backend_kind backend, uint32_t workers)
{
    struct rdy_engine_opts opts = {.size = sizeof(opts), .workers_count = workers};

    opts.runtime = runtime_opts(backend);
    return opts;
}

static inline struct rdy_engine *engine_open(const struct rdy_engine_opts *opts)
{
    struct rdy_engine *engine = NULL;

    assert_int_equal(rdy_engine_open(&engine, opts, NULL), 0);
    return engine;
}

static inline struct rdy_engine *engine_of(void **state, uint32_t workers)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), workers);

    return engine_open(&opts);
}

/* Ends an engine that nothing went wrong with. */
static inline void engine_end(struct rdy_engine *engine, uint64_t grace_ns)
{
    assert_int_equal(rdy_engine_shutdown(engine, grace_ns), 0);
    assert_int_equal(rdy_engine_join(engine, NULL), 0);
    rdy_engine_close(engine);
}

/* Counts up on any thread; one waits for a number. A hang is the watchdog's. */
struct latch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t count;
};

#define LATCH                                                                                      \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0                                     \
    }

static inline void latch_count(struct latch *latch)
{
    (void)pthread_mutex_lock(&latch->lock);
    latch->count++;
    (void)pthread_cond_broadcast(&latch->changed);
    (void)pthread_mutex_unlock(&latch->lock);
}

static inline uint32_t latch_read(struct latch *latch)
{
    uint32_t count;

    (void)pthread_mutex_lock(&latch->lock);
    count = latch->count;
    (void)pthread_mutex_unlock(&latch->lock);
    return count;
}

static inline void latch_await(struct latch *latch, uint32_t count)
{
    (void)pthread_mutex_lock(&latch->lock);
    while (latch->count < count)
        (void)pthread_cond_wait(&latch->changed, &latch->lock);
    (void)pthread_mutex_unlock(&latch->lock);
}

/* Holds a worker until it is let go: posted, it blocks the thread. */
struct block {
    struct latch is_held;
    struct latch is_free;
};

#define BLOCK                                                                                      \
    {                                                                                              \
        LATCH, LATCH                                                                               \
    }

static inline int poll_blocks_its_thread(struct rdy_task *task, void *self)
{
    struct block *block = *(struct block **)self;

    (void)task;
    latch_count(&block->is_held);
    latch_await(&block->is_free, 1);
    return 0;
}

static inline void block_worker(struct rdy_engine *engine, uint32_t worker, struct block *block)
{
    struct rdy_task_spec spec = {.poll = poll_blocks_its_thread, .self_size = sizeof(block)};
    uint32_t held = latch_read(&block->is_held);

    assert_int_equal(rdy_engine_post(engine, worker, &spec, &block), 0);
    latch_await(&block->is_held, held + 1);
}

/*
 * From here on the kernel refuses this thread, and no other, to wait. Where there are no filters
 * the runtime is stopped: the wrong error then fails the test, which would wait for ever.
 */
static inline int lose_the_kernel(struct rdy_task *task)
{
    static const int calls[] = {SCMP_SYS(io_uring_enter), SCMP_SYS(epoll_wait),
                                SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2)};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int rc = filter ? 0 : -ENOMEM;

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && rc == 0; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
    if (rc == 0)
        rc = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    if (rc != 0)
        rdy_runtime_stop(rdy_task_runtime(task));
    return rc;
}

/* clang-format off */
#define ENGINE_ON_BOTH(test)                                                                       \
    {#test " on io_uring", test, NULL, NULL, (void *)(uintptr_t)&backend_kinds[0]},                \
    {#test " on epoll", test, NULL, NULL, (void *)(uintptr_t)&backend_kinds[1]}
/* clang-format on */

#endif
