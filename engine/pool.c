/* SPDX-License-Identifier: MIT */
/*
 * The pool of threads for blocking work: engine/pool.h has the model; this file has the threads,
 * engine/job.c what a handle does.
 *
 * Threads are made under the lock. That takes tens of microseconds, in which other users of the
 * pool wait, but at most threads_max times in a row; and only so can the pool promise that a queued
 * job has a thread coming: a thread that others already rely on, and that then could not be made,
 * would leave their jobs behind.
 *
 * A thread that ends is joined by the next one that ends, and the last by the shutdown. So ended
 * threads do not pile up, and after the shutdown there is none, not even one on its last steps.
 */
#include "engine/pool.h"

#include <stdlib.h>

#include "engine/sys.h"
#include "engine/sys_thread.h"

#define THREADS_MAX_DEFAULT     16u
#define THREADS_MAX_MAX         1024u
#define QUEUE_MAX_DEFAULT       65536u
#define QUEUE_MAX_MAX           (1u << 24)
#define IDLE_TIMEOUT_DEFAULT_NS ((uint64_t)(10 * RDY_NS_PER_S))
#define STACK_SIZE_MAX          ((size_t)1 << 30)
#define NAME_DEFAULT            "rdy-pool"

/* The pool whose thread this is. */
static _Thread_local struct rdy_pool *pool_current;

bool rdy_pool_is_foreign(const struct rdy_pool *pool)
{
    return rdy_unlikely(pool->process != rdy_sys_process_stamp());
}

void rdy_pool_get(struct rdy_pool *pool)
{
    (void)rdy_a32_add_seq_cst(&pool->refs, 1);
}

void rdy_pool_put(struct rdy_pool *pool)
{
    uint32_t before = rdy_a32_add_seq_cst(&pool->refs, UINT32_MAX); /* minus one */

    rdy_assert(before > 0);
    if (before > 1)
        return;
    rdy_assert(pool->count.threads_alive == 0 && rdy_list_is_empty(&pool->queue));
    rdy_assert(rdy_list_is_empty(&pool->sleepers));
    (void)pthread_cond_destroy(&pool->settled);
    (void)pthread_mutex_destroy(&pool->lock.mutex);
    free(pool);
}

/* --- waiting --- */

static uint64_t pool_now_ns(const struct rdy_pool *pool)
{
    return pool->clock ? pool->clock(pool->clock_arg) : rdy_sys_now_ns();
}

static uint64_t sum_or_never(uint64_t from_ns, uint64_t distance_ns)
{
    return distance_ns > UINT64_MAX - from_ns ? UINT64_MAX : from_ns + distance_ns;
}

/* Until @cond is signalled, or the system's clock says @deadline_ns, or for no reason. */
static void pool_wait(struct rdy_pool *pool, pthread_cond_t *cond, uint64_t deadline_ns)
    RDY_REQUIRES(pool->lock);
static void pool_wait(struct rdy_pool *pool, pthread_cond_t *cond, uint64_t deadline_ns)
{
    struct timespec until = {
        .tv_sec = (time_t)(deadline_ns / (uint64_t)RDY_NS_PER_S),
        .tv_nsec = (long)(deadline_ns % (uint64_t)RDY_NS_PER_S),
    };
    int err;

    if (deadline_ns == UINT64_MAX)
        err = pthread_cond_wait(cond, &pool->lock.mutex);
    else
        err = pthread_cond_timedwait(cond, &pool->lock.mutex, &until);
    rdy_assert(err == 0 || err == ETIMEDOUT);
}

/* In glibc none of this can fail. */
static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int err = pthread_condattr_init(&attr);

    rdy_assert(err == 0);
    err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rdy_assert(err == 0);
    err = pthread_cond_init(cond, &attr);
    rdy_assert(err == 0);
    (void)pthread_condattr_destroy(&attr);
}

/* Where an idle thread sleeps: on its own stack, which is there as long as it is in the list. */
struct sleeper {
    struct rdy_link link;
    pthread_cond_t wake;
};

/* May end for no reason; then it is the sleeper that takes itself out of the list. */
static void thread_sleep(struct rdy_pool *pool, struct sleeper *self, uint64_t deadline_ns)
    RDY_REQUIRES(pool->lock);
static void thread_sleep(struct rdy_pool *pool, struct sleeper *self, uint64_t deadline_ns)
{
    rdy_list_push_back(pool->sleepers.next, &self->link); /* before the first: it is the first */
    pool_wait(pool, &self->wake, pool->clock ? UINT64_MAX : deadline_ns);
    rdy_list_unlink(&self->link);
}

/* The one that has slept least; false if none sleeps. */
static bool pool_wake_one(struct rdy_pool *pool) RDY_REQUIRES(pool->lock);
static bool pool_wake_one(struct rdy_pool *pool)
{
    struct rdy_link *link = rdy_list_pop(&pool->sleepers);

    if (!link)
        return false;
    (void)pthread_cond_signal(&rdy_container_of(link, struct sleeper, link)->wake);
    return true;
}

static void pool_wake_all(struct rdy_pool *pool) RDY_REQUIRES(pool->lock);
static void pool_wake_all(struct rdy_pool *pool)
{
    while (pool_wake_one(pool))
        ;
}

/* --- a thread --- */

/* The oldest job; NULL: the thread is to end, as the pool is shut or it was idle for too long. */
static struct rdy_job *thread_next_job(struct rdy_pool *pool, struct sleeper *self)
    RDY_REQUIRES(pool->lock);
static struct rdy_job *thread_next_job(struct rdy_pool *pool, struct sleeper *self)
{
    struct rdy_link *link = NULL;
    uint64_t deadline_ns = 0;

    for (bool has_deadline = false; !pool->is_shut; has_deadline = true) {
        link = rdy_list_pop(&pool->queue);
        if (link)
            break;
        if (!has_deadline)
            deadline_ns = sum_or_never(pool_now_ns(pool), pool->idle_timeout_ns);
        else if (deadline_ns != UINT64_MAX && deadline_ns <= pool_now_ns(pool))
            break;
        thread_sleep(pool, self, deadline_ns);
    }
    if (!link)
        return NULL;
    rdy_assert(pool->count.jobs_queued > 0 && pool->count.threads_idle > 0);
    pool->count.jobs_queued--;
    pool->count.threads_idle--;
    return rdy_container_of(link, struct rdy_job, link);
}

/* Nobody waits for it: the thread drops it, and is idle only then. */
static void thread_bury(struct rdy_pool *pool, struct rdy_job *job) RDY_REQUIRES(pool->lock);
static void thread_bury(struct rdy_pool *pool, struct rdy_job *job)
{
    rdy_pool_unlock(pool);
    rdy_job_free(job);
    rdy_pool_lock(pool);
    pool->count.threads_idle++;
}

static void thread_run(struct rdy_pool *pool, struct rdy_job *job) RDY_REQUIRES(pool->lock);
static void thread_run(struct rdy_pool *pool, struct rdy_job *job)
{
    int result;

    rdy_assert(job->state == RDY_JOB_QUEUED && !job->is_held);
    job->state = RDY_JOB_RUNNING;
    pool->count.jobs_running++;
    rdy_pool_unlock(pool);
    result = job->run(rdy_job_payload(job));
    rdy_pool_lock(pool);
    pool->count.jobs_running--;
    pool->count.jobs_run++;
    if (job->state == RDY_JOB_DETACHED) {
        thread_bury(pool, job);
        return;
    }
    rdy_assert(job->state == RDY_JOB_RUNNING);
    job->state = RDY_JOB_ENDED;
    job->result = result;
    pool->count.threads_idle++; /* as it is by the time that the next job can be started */
    rdy_job_settle(pool, job);
}

static void *thread_main(void *arg)
{
    struct rdy_pool *pool = arg;
    struct sleeper self;
    struct rdy_job *job;
    pthread_t other;
    bool has_other;

    pool_current = pool;
    rdy_list_init(&self.link);
    cond_init(&self.wake);
    rdy_sys_thread_set_name(pool->name);
    rdy_pool_lock(pool);
    while ((job = thread_next_job(pool, &self)))
        thread_run(pool, job);
    has_other = pool->has_last_ended;
    other = pool->last_ended;
    pool->last_ended = pthread_self();
    pool->has_last_ended = true;
    pool->count.threads_idle--;
    pool->count.threads_alive--;
    (void)pthread_cond_broadcast(&pool->settled);
    rdy_pool_unlock(pool);
    /* From here on the pool may be freed as soon as this thread was joined. */
    (void)pthread_cond_destroy(&self.wake);
    if (has_other)
        (void)pthread_join(other, NULL);
    return NULL;
}

/* --- queueing --- */

/* One thread more. It counts as idle at once: there is no way back before it looked for a job. */
static int pool_add_thread(struct rdy_pool *pool) RDY_REQUIRES(pool->lock);
static int pool_add_thread(struct rdy_pool *pool)
{
    pthread_t thread;
    int rc = rdy_sys_thread_start(&thread, pool->stack_size, thread_main, pool);

    if (rc < 0) {
        pool->count.thread_failures++;
        return rc;
    }
    pool->count.threads_started++;
    pool->count.threads_alive++;
    pool->count.threads_idle++;
    return 0;
}

/* Sees to it that some thread will look at the queue after a job is pushed now. */
static int pool_make_ready(struct rdy_pool *pool) RDY_REQUIRES(pool->lock);
static int pool_make_ready(struct rdy_pool *pool)
{
    struct rdy_pool_stats *count = &pool->count;
    int rc = 0;

    if (pool->is_shut)
        return -ESHUTDOWN;
    if (count->jobs_queued >= count->threads_idle && count->threads_alive < pool->threads_max)
        rc = pool_add_thread(pool);
    if (count->threads_alive == 0)
        return rc;
    if (count->jobs_queued >= count->threads_idle + pool->queue_max) {
        count->jobs_refused++;
        return -ENFILE;
    }
    return 0;
}

int rdy_pool_push(struct rdy_pool *pool, struct rdy_job *job)
{
    int rc;

    rdy_assert(job->pool == pool && job->state == RDY_JOB_QUEUED);
    rdy_pool_lock(pool);
    rc = pool_make_ready(pool);
    if (rc == 0) {
        rdy_list_push_back(&pool->queue, &job->link);
        pool->count.jobs_queued++;
        pool->count.jobs_started++;
        rdy_pool_get(pool);        /* the handle's */
        (void)pool_wake_one(pool); /* if none sleeps, one is on its way to the queue */
    }
    rdy_pool_unlock(pool);
    return rc;
}

/* --- opening and closing --- */

static int options_take(struct rdy_pool_opts *taken, const struct rdy_pool_opts *opts)
{
    *taken = (struct rdy_pool_opts){.size = sizeof(*taken)};
    if (opts) {
        if (opts->size != sizeof(*opts))
            return -EINVAL;
        *taken = *opts;
    }
    if (taken->threads_max == 0)
        taken->threads_max = THREADS_MAX_DEFAULT;
    if (taken->queue_max == 0)
        taken->queue_max = QUEUE_MAX_DEFAULT;
    if (taken->idle_timeout_ns == 0)
        taken->idle_timeout_ns = IDLE_TIMEOUT_DEFAULT_NS;
    if (!taken->name)
        taken->name = NAME_DEFAULT;
    if (taken->threads_max > THREADS_MAX_MAX || taken->queue_max > QUEUE_MAX_MAX)
        return -EINVAL;
    if (taken->stack_size > STACK_SIZE_MAX ||
        (taken->stack_size != 0 && taken->stack_size < rdy_sys_thread_stack_min()))
        return -EINVAL;
    return strlen(taken->name) < sizeof(((struct rdy_pool *)NULL)->name) ? 0 : -EINVAL;
}

int rdy_pool_open(struct rdy_pool **out, const struct rdy_pool_opts *opts)
{
    struct rdy_pool_opts taken;
    struct rdy_pool *pool;
    int rc = options_take(&taken, opts);

    if (rc < 0)
        return rc;
    pool = calloc(1, sizeof(*pool));
    if (!pool)
        return -ENOMEM;
    pool->process = rdy_sys_process_stamp();
    pool->threads_max = taken.threads_max;
    pool->queue_max = taken.queue_max;
    pool->idle_timeout_ns = taken.idle_timeout_ns;
    pool->stack_size = taken.stack_size;
    memcpy(pool->name, taken.name, strlen(taken.name));
    rdy_a32_store_relaxed(&pool->refs, 1);
    rdy_list_init(&pool->queue);
    rdy_list_init(&pool->sleepers);
    (void)pthread_mutex_init(&pool->lock.mutex, NULL);
    cond_init(&pool->settled);
    *out = pool;
    return 0;
}

/* Ends every job that has not begun. The lock is let go for each: the drops are the user's. */
static void pool_drop_queue(struct rdy_pool *pool) RDY_REQUIRES(pool->lock);
static void pool_drop_queue(struct rdy_pool *pool)
{
    rdy_assert(pool->is_shut);
    while (!rdy_list_is_empty(&pool->queue)) {
        struct rdy_job *job = rdy_container_of(pool->queue.next, struct rdy_job, link);

        rdy_job_withdraw(pool, job);
        rdy_job_settle(pool, job);
    }
}

/* The last thread to end; those before it were joined by it, or by one between them. */
static void pool_join_last(struct rdy_pool *pool) RDY_REQUIRES(pool->lock);
static void pool_join_last(struct rdy_pool *pool)
{
    pthread_t thread = pool->last_ended;

    if (!pool->has_last_ended)
        return;
    pool->has_last_ended = false;
    rdy_pool_unlock(pool);
    (void)pthread_join(thread, NULL);
    rdy_pool_lock(pool);
}

int rdy_pool_shutdown(struct rdy_pool *pool, uint64_t timeout_ns)
{
    uint64_t deadline_ns;
    int rc = 0;

    if (rdy_pool_is_foreign(pool))
        return -EOWNERDEAD;
    if (pool_current == pool)
        return -EDEADLK;
    deadline_ns = sum_or_never(rdy_sys_now_ns(), timeout_ns);

    rdy_pool_lock(pool);
    pool->is_shut = true;
    pool_wake_all(pool);
    pool_drop_queue(pool);
    while (pool->count.threads_alive > 0) {
        if (deadline_ns != UINT64_MAX && deadline_ns <= rdy_sys_now_ns()) {
            rc = -ETIMEDOUT;
            break;
        }
        pool_wait(pool, &pool->settled, deadline_ns);
    }
    if (rc == 0)
        pool_join_last(pool);
    rdy_pool_unlock(pool);
    return rc;
}

void rdy_pool_close(struct rdy_pool *pool)
{
    int rc;

    if (!pool)
        return;
    rc = rdy_pool_shutdown(pool, UINT64_MAX);
    rdy_assert(rc != -EDEADLK);
    if (rc == 0)
        rdy_pool_put(pool);
}

void rdy_pool_read_stats(struct rdy_pool *pool, struct rdy_pool_stats *stats)
{
    *stats = (struct rdy_pool_stats){0};
    if (rdy_pool_is_foreign(pool))
        return;
    rdy_pool_lock(pool);
    *stats = pool->count;
    rdy_pool_unlock(pool);
}

void rdy_pool_set_clock(struct rdy_pool *pool, rdy_pool_clock_fn *clock, void *arg)
{
    rdy_pool_lock(pool);
    pool->clock = clock;
    pool->clock_arg = arg;
    rdy_pool_unlock(pool);
}

void rdy_pool_look_at_clock(struct rdy_pool *pool)
{
    rdy_pool_lock(pool);
    pool_wake_all(pool);
    rdy_pool_unlock(pool);
}
