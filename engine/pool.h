/* SPDX-License-Identifier: MIT */
/*
 * The inside of a pool, and the life of a job. One mutex guards all of it: what is under it takes
 * nanoseconds, what a job does takes micro- to milliseconds.
 *
 *                start              a thread takes it            run has returned
 *      (none) ----------> QUEUED ------------------> RUNNING -------------------> ENDED
 *                           |                           |                           |
 *        cancel, close, or  |                           | close                     | close
 *        the pool is shut   v                           v                           v
 *                       CANCELLED -- close --> *     DETACHED - run returned ->   * freed
 *
 * A job in QUEUED is in the queue, and in no other state. The memory has one owner at a time: the
 * handle, or in DETACHED the thread. The payload is dropped once: by who takes the job to
 * CANCELLED, else by who frees the job.
 *
 * Wakers and drops run without the mutex. Meanwhile the job is *held*: its state is final, the
 * handle may read it, but a close waits until it is let go. That is what makes "no waker runs after
 * the close" true. A close from within the waker, on the holder's own thread, cannot wait: it makes
 * the job an orphan, which the holder frees when the waker has returned.
 *
 * An idle thread is one that will look at the queue before it does anything else: it sleeps, was
 * just created, or runs the waker of the job that it has done. So a start needs another thread only
 * if the queue is longer than the number of the idle. Of those that sleep it wakes the one that has
 * slept least: its cache is warm, and the others come to the end of their time although a trickle
 * of jobs goes on.
 */
#ifndef RDY_ENGINE_POOL_H
#define RDY_ENGINE_POOL_H

#include <pthread.h>

#include <rdy/blocking.h>

#include "engine/atomic.h"
#include "engine/list.h"

enum rdy_job_state {
    RDY_JOB_QUEUED = 0,
    RDY_JOB_RUNNING,
    RDY_JOB_ENDED,     /* has run; the result is there */
    RDY_JOB_CANCELLED, /* has not run and never will */
    RDY_JOB_DETACHED,  /* runs, and nobody waits for it */
};

struct rdy_job {
    struct rdy_link link;
    struct rdy_pool *pool;
    rdy_blocking_fn *run;
    rdy_drop_fn *drop; /* NULL: dropped, or nothing to drop */
    struct rdy_waker waker;
    pthread_t holder; /* while is_held */
    enum rdy_job_state state;
    int result;
    bool is_held;
    bool is_orphan;
    uint64_t reserved; /* keeps the payload on 16 bytes */
};

static_assert(sizeof(struct rdy_job) % 16 == 0, "the payload that follows stays aligned");

struct RDY_CAPABILITY("mutex") rdy_pool_mutex {
    pthread_mutex_t mutex;
};

/* A clock, for tests: the time that idle threads go by. */
typedef uint64_t rdy_pool_clock_fn(void *arg);

struct rdy_pool {
    /* Set at the opening. */
    uint64_t process; /* rdy_sys_process_stamp() */
    uint32_t threads_max;
    uint32_t queue_max;
    uint64_t idle_timeout_ns;
    size_t stack_size;
    char name[16];

    struct rdy_a32 refs; /* the owner, and each open handle */

    /* All that follows is under the lock. */
    struct rdy_pool_mutex lock;
    pthread_cond_t settled;   /* for closers: a thread has ended, a job was let go */
    struct rdy_link queue;    /* of jobs, oldest first */
    struct rdy_link sleepers; /* of idle threads, the one that has slept least first */
    struct rdy_pool_stats count;
    rdy_pool_clock_fn *clock; /* NULL: the system's */
    void *clock_arg;
    pthread_t last_ended; /* to be joined by the next that ends, or by the shutdown */
    bool has_last_ended;
    bool is_shut;
};

static inline void rdy_pool_lock(struct rdy_pool *pool) RDY_ACQUIRES(pool->lock) RDY_UNCHECKED
{
    int err = pthread_mutex_lock(&pool->lock.mutex);

    rdy_assert(err == 0);
}

static inline void rdy_pool_unlock(struct rdy_pool *pool) RDY_RELEASES(pool->lock) RDY_UNCHECKED
{
    int err = pthread_mutex_unlock(&pool->lock.mutex);

    rdy_assert(err == 0);
}

static inline void *rdy_job_payload(struct rdy_job *job)
{
    return job + 1;
}

/* In a forked child: the lock may be held for ever, the lists may be in the middle of a change. */
bool rdy_pool_is_foreign(const struct rdy_pool *pool);

/* One more who needs the pool's memory, or one less. */
void rdy_pool_get(struct rdy_pool *pool);
void rdy_pool_put(struct rdy_pool *pool);

/* Queues a job and sees to it that a thread comes. 0 or -errno with nothing changed. */
int rdy_pool_push(struct rdy_pool *pool, struct rdy_job *job);

/* job.c: the payload, once. Without the lock: it is the user's function. */
void rdy_job_drop(struct rdy_job *job);
void rdy_job_free(struct rdy_job *job);

/* job.c: takes a queued job out for good; the caller drops its payload. */
void rdy_job_withdraw(struct rdy_pool *pool, struct rdy_job *job) RDY_REQUIRES(pool->lock);

/* job.c: wakes who waits for a job that has just come to its final state. Lets the lock go. */
void rdy_job_settle(struct rdy_pool *pool, struct rdy_job *job) RDY_REQUIRES(pool->lock);

/*
 * For tests: idle threads go by @clock, and look at it when rdy_pool_look_at_clock() says so. NULL
 * goes back to the system's. Before the first job.
 */
void rdy_pool_set_clock(struct rdy_pool *pool, rdy_pool_clock_fn *clock, void *arg);
void rdy_pool_look_at_clock(struct rdy_pool *pool);

#endif
