/* SPDX-License-Identifier: MIT */
/*
 * Jobs: what a handle does to them. engine/pool.h has the states, and why a job may be held.
 */
#include "engine/pool.h"

#include <stdlib.h>

#include "engine/runtime.h"

#define PAYLOAD_SIZE_MAX ((size_t)1024 * 1024)

/* --- ends --- */

void rdy_job_drop(struct rdy_job *job)
{
    rdy_drop_fn *drop = job->drop;

    job->drop = NULL;
    if (drop)
        drop(rdy_job_payload(job));
}

void rdy_job_free(struct rdy_job *job)
{
    rdy_assert(job->state != RDY_JOB_QUEUED && job->state != RDY_JOB_RUNNING);
    rdy_assert(!job->is_held);
    rdy_job_drop(job);
    free(job);
}

void rdy_job_withdraw(struct rdy_pool *pool, struct rdy_job *job)
{
    rdy_assert(job->state == RDY_JOB_QUEUED && pool->count.jobs_queued > 0);
    rdy_list_unlink(&job->link);
    job->state = RDY_JOB_CANCELLED;
    pool->count.jobs_queued--;
    pool->count.jobs_cancelled++;
}

/* A cancelled one is dropped first: whoever is woken finds it dropped. */
static void job_tell(struct rdy_job *job, const struct rdy_waker *waker)
{
    if (job->state == RDY_JOB_CANCELLED)
        rdy_job_drop(job);
    rdy_waker_wake(waker);
}

void rdy_job_settle(struct rdy_pool *pool, struct rdy_job *job)
{
    struct rdy_waker waker = job->waker;

    rdy_assert(job->state == RDY_JOB_ENDED || job->state == RDY_JOB_CANCELLED);
    rdy_assert(!job->is_held);
    if (!waker.fn && job->state == RDY_JOB_ENDED)
        return;
    job->waker = (struct rdy_waker){0};
    job->is_held = true;
    job->holder = pthread_self();
    rdy_pool_unlock(pool);
    job_tell(job, &waker);
    rdy_pool_lock(pool);
    job->is_held = false;
    if (!job->is_orphan) {
        (void)pthread_cond_broadcast(&pool->settled);
        return;
    }
    rdy_pool_unlock(pool);
    rdy_job_free(job);
    rdy_pool_lock(pool);
}

/* --- a handle's calls --- */

static struct rdy_job *job_make(struct rdy_pool *pool, const struct rdy_blocking_spec *spec,
                                const void *init)
{
    struct rdy_job *job = calloc(1, (sizeof(*job) + spec->payload_size + 15) & ~(size_t)15);

    if (!job)
        return NULL;
    rdy_assert(((uintptr_t)job & 15) == 0);
    rdy_list_init(&job->link);
    job->pool = pool;
    job->run = spec->run;
    job->drop = spec->drop;
    if (init && spec->payload_size > 0)
        memcpy(rdy_job_payload(job), init, spec->payload_size);
    return job;
}

int rdy_blocking_start(struct rdy_blocking *handle, struct rdy_pool *pool,
                       const struct rdy_blocking_spec *spec, const void *init)
{
    struct rdy_job *job;
    int rc;

    rdy_assert(!handle->job);
    if (!spec->run || spec->payload_size > PAYLOAD_SIZE_MAX)
        return -EINVAL;
    if (rdy_pool_is_foreign(pool))
        return -EOWNERDEAD;
    job = job_make(pool, spec, init);
    if (!job)
        return -ENOMEM;
    rc = rdy_pool_push(pool, job);
    if (rc < 0) {
        free(job); /* the payload stays the caller's */
        return rc;
    }
    handle->job = job;
    return 0;
}

/* The answer, or the waker left behind. */
static int job_ask(struct rdy_job *job, const struct rdy_waker *waker, int *result)
{
    struct rdy_pool *pool = job->pool;
    int rc = 0;

    rdy_pool_lock(pool);
    rdy_assert(job->state != RDY_JOB_DETACHED);
    if (job->state == RDY_JOB_ENDED) {
        *result = job->result;
    } else if (job->state == RDY_JOB_CANCELLED) {
        rc = -ECANCELED;
    } else {
        job->waker = *waker;
        rc = RDY_PENDING;
    }
    rdy_pool_unlock(pool);
    return rc;
}

int rdy_blocking_poll_waker(struct rdy_blocking *handle, const struct rdy_waker *waker, int *result)
{
    if (!handle->job)
        return -EINVAL;
    if (rdy_pool_is_foreign(handle->job->pool))
        return -EOWNERDEAD;
    return job_ask(handle->job, waker, result);
}

int rdy_blocking_poll(struct rdy_blocking *handle, struct rdy_task *task, int *result)
{
    struct rdy_waker waker = rdy_task_waker(task);
    int rc;

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = rdy_blocking_poll_waker(handle, &waker, result);
    if (rc != RDY_PENDING)
        rdy_task_spend(task);
    return rc;
}

void *rdy_blocking_payload(struct rdy_blocking *handle)
{
    struct rdy_job *job = handle->job;
    bool has_ended;

    if (!job || rdy_pool_is_foreign(job->pool))
        return NULL;
    rdy_pool_lock(job->pool);
    has_ended = job->state == RDY_JOB_ENDED;
    rdy_pool_unlock(job->pool);
    return has_ended ? rdy_job_payload(job) : NULL;
}

/* 0: withdrawn here and now, and still to be dropped. */
static int job_stop(struct rdy_pool *pool, struct rdy_job *job) RDY_REQUIRES(pool->lock);
static int job_stop(struct rdy_pool *pool, struct rdy_job *job)
{
    switch (job->state) {
    case RDY_JOB_QUEUED:
        rdy_job_withdraw(pool, job);
        return 0;
    case RDY_JOB_RUNNING:
        return -EBUSY;
    case RDY_JOB_ENDED:
        return -EALREADY;
    case RDY_JOB_CANCELLED:
    case RDY_JOB_DETACHED:
        break;
    }
    return -ECANCELED;
}

int rdy_blocking_cancel(struct rdy_blocking *handle)
{
    struct rdy_job *job = handle->job;
    int rc;

    if (!job)
        return -EINVAL;
    if (rdy_pool_is_foreign(job->pool))
        return -EOWNERDEAD;
    rdy_pool_lock(job->pool);
    rc = job_stop(job->pool, job);
    rdy_pool_unlock(job->pool);
    if (rc == 0)
        rdy_job_drop(job); /* ours alone: it is in no queue, and no thread has seen it */
    return rc == -ECANCELED ? 0 : rc;
}

/* Waits while another thread runs the job's waker or, at a shutdown, its drop. */
static void job_await_holder(struct rdy_pool *pool, struct rdy_job *job) RDY_REQUIRES(pool->lock);
static void job_await_holder(struct rdy_pool *pool, struct rdy_job *job)
{
    while (job->is_held && !pthread_equal(job->holder, pthread_self())) {
        int err = pthread_cond_wait(&pool->settled, &pool->lock.mutex);

        rdy_assert(err == 0);
    }
}

/* True if the job is now the caller's to free, false if a thread will do it. */
static bool job_let_go(struct rdy_pool *pool, struct rdy_job *job) RDY_REQUIRES(pool->lock);
static bool job_let_go(struct rdy_pool *pool, struct rdy_job *job)
{
    rdy_assert(job->state != RDY_JOB_DETACHED);
    if (job->state == RDY_JOB_QUEUED)
        rdy_job_withdraw(pool, job);
    if (job->state == RDY_JOB_RUNNING) {
        job->state = RDY_JOB_DETACHED;
        pool->count.jobs_detached++;
        return false;
    }
    job_await_holder(pool, job);
    job->is_orphan = job->is_held;
    return !job->is_orphan;
}

void rdy_blocking_close(struct rdy_blocking *handle)
{
    struct rdy_job *job = handle->job;
    struct rdy_pool *pool;
    bool is_ours;

    if (!job)
        return;
    handle->job = NULL;
    pool = job->pool;
    if (rdy_pool_is_foreign(pool))
        return;
    rdy_pool_lock(pool);
    is_ours = job_let_go(pool, job);
    rdy_pool_unlock(pool);
    if (is_ours)
        rdy_job_free(job);
    rdy_pool_put(pool);
}
