/* SPDX-License-Identifier: MIT */
/*
 * For tests of blocking work: jobs that count their runs and drops, and that wait at a gate, so
 * that a test decides when each begins and ends.
 */
#ifndef RDY_TESTS_SUPPORT_JOBS_H
#define RDY_TESTS_SUPPORT_JOBS_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include <rdy/blocking.h>

#include "engine/atomic.h"
#include "tests/support/check.h"

/* Waits for what another thread does; the bound is far from what a thread needs. */
#define await_that(condition)                                                                      \
    do {                                                                                           \
        uint32_t looks = 0;                                                                        \
        while (!(condition) && looks++ < UINT32_C(30000000))                                       \
            (void)sched_yield();                                                                   \
        check(condition);                                                                          \
    } while (0)

/* What the jobs of a test count, and the gate that they wait at. */
struct tally {
    struct rdy_a32 runs;
    struct rdy_a32 drops;
    struct rdy_a32 wakes;
    sem_t begun; /* raised by a job that has come to the gate */
    sem_t gate;  /* lets one job through */
};

struct counted {
    struct tally *tally;
    uint64_t number;
    int result;
    bool is_gated;
};

static inline void sem_take(sem_t *sem)
{
    int rc;

    do {
        rc = sem_wait(sem);
    } while (rc != 0 && errno == EINTR);
}

static inline void tally_init(struct tally *tally)
{
    *tally = (struct tally){0};
    check(sem_init(&tally->begun, 0, 0) == 0);
    check(sem_init(&tally->gate, 0, 0) == 0);
}

static inline uint32_t tally_runs(const struct tally *tally)
{
    return rdy_a32_load_acquire(&tally->runs);
}

static inline uint32_t tally_drops(const struct tally *tally)
{
    return rdy_a32_load_acquire(&tally->drops);
}

static inline uint32_t tally_wakes(const struct tally *tally)
{
    return rdy_a32_load_acquire(&tally->wakes);
}

static inline int counted_run(void *payload)
{
    struct counted *counted = payload;

    if (counted->is_gated) {
        (void)sem_post(&counted->tally->begun);
        sem_take(&counted->tally->gate);
    }
    (void)rdy_a32_add_seq_cst(&counted->tally->runs, 1);
    return counted->result;
}

static inline void counted_drop(void *payload)
{
    (void)rdy_a32_add_seq_cst(&((struct counted *)payload)->tally->drops, 1);
}

static const struct rdy_blocking_spec counted_spec = {
    .run = counted_run,
    .drop = counted_drop,
    .payload_size = sizeof(struct counted),
};

static inline void counted_wake(void *arg, uint64_t data)
{
    (void)data;
    (void)rdy_a32_add_seq_cst(&((struct tally *)arg)->wakes, 1);
}

static inline struct rdy_waker tally_waker(struct tally *tally)
{
    return (struct rdy_waker){.fn = counted_wake, .arg = tally};
}

static inline int job_try(struct rdy_blocking *handle, struct rdy_pool *pool, struct tally *tally,
                          int result, bool is_gated)
{
    struct counted counted = {.tally = tally, .result = result, .is_gated = is_gated};

    return rdy_blocking_start(handle, pool, &counted_spec, &counted);
}

/* A job that ends by itself. */
static inline void job_start(struct rdy_blocking *handle, struct rdy_pool *pool,
                             struct tally *tally, int result)
{
    assert_int_equal(job_try(handle, pool, tally, result, false), 0);
}

/* A job that waits at the gate. */
static inline void job_start_gated(struct rdy_blocking *handle, struct rdy_pool *pool,
                                   struct tally *tally)
{
    assert_int_equal(job_try(handle, pool, tally, 0, true), 0);
}

/* Waits until a gated job has come to the gate. */
static inline void jobs_have_begun(struct tally *tally, int count)
{
    for (int i = 0; i < count; i++)
        sem_take(&tally->begun);
}

/* A job that has come to the gate, and keeps a thread busy there. */
static inline void job_occupy(struct rdy_blocking *handle, struct rdy_pool *pool,
                              struct tally *tally)
{
    job_start_gated(handle, pool, tally);
    jobs_have_begun(tally, 1);
}

static inline void gate_open(struct tally *tally, int count)
{
    for (int i = 0; i < count; i++)
        check(sem_post(&tally->gate) == 0);
}

/* The answer of a job, waited for without a task. */
static inline int job_answer(struct rdy_blocking *handle, int *result)
{
    struct rdy_waker nobody = {0};

    await_that(rdy_blocking_poll_waker(handle, &nobody, result) != RDY_PENDING);
    return rdy_blocking_poll_waker(handle, &nobody, result);
}

static inline struct rdy_pool *pool_open(uint32_t threads_max, uint32_t queue_max)
{
    struct rdy_pool_opts opts = {
        .size = sizeof(opts), .threads_max = threads_max, .queue_max = queue_max};
    struct rdy_pool *pool = NULL;

    assert_int_equal(rdy_pool_open(&pool, &opts), 0);
    return pool;
}

static inline struct rdy_pool_stats pool_stats(struct rdy_pool *pool)
{
    struct rdy_pool_stats stats;

    rdy_pool_read_stats(pool, &stats);
    return stats;
}

#endif
