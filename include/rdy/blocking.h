/* SPDX-License-Identifier: MIT */
/*
 * Work that blocks, off the loop's thread: a pool of threads, and jobs that a task waits for.
 *
 * A pool belongs to who opened it, and there is none that nobody opened: no thread is hidden in a
 * runtime or in the process. A runtime that owned one would have to wait in its close for a lookup
 * that takes half a minute; one for each runtime would have threads times runtimes; one for the
 * process could not say who ends it, and after whom. So a program opens a pool where it opens its
 * runtimes, and hands it to whom it likes. A pool for each runtime shares nothing; one for all of
 * them shares a mutex, taken a few times for each job, which is little beside what a blocking call
 * costs.
 *
 * What a job works on is memory of the job, never of the task, because a task may end at any time
 * and the job then goes on. In all that happens, the drop of a job that was started runs once: run
 * or not, waited for or given up, whichever of task, pool and runtime ends first.
 *
 * After fork() the child has the pool's memory and not its threads: every call answers -EOWNERDEAD
 * there, nothing waits, nothing of a job is run or dropped, and its memory is left alone.
 */
#ifndef RDY_BLOCKING_H
#define RDY_BLOCKING_H

#include <rdy/task.h>

RDY_BEGIN_DECLS

struct rdy_pool;
struct rdy_job;

/* --- the pool --- */

/* Set size to sizeof(struct rdy_pool_opts), the rest to zero for defaults. */
struct rdy_pool_opts {
    uint32_t size;
    uint32_t threads_max;     /* default 16, at most 1024 */
    uint32_t queue_max;       /* jobs for which no thread is free; default 65536, at most 2^24 */
    uint64_t idle_timeout_ns; /* a thread without work ends; default 10 s; UINT64_MAX: never */
    size_t stack_size;        /* of a thread, in bytes; 0: the system's default */
    const char *name;         /* of the threads, for people; at most 15 bytes; default "rdy-pool" */
};

/* Events since the pool was opened; the last four are gauges. */
struct rdy_pool_stats {
    uint64_t jobs_started;   /* taken in by rdy_blocking_start() */
    uint64_t jobs_run;       /* ran to their end */
    uint64_t jobs_cancelled; /* dropped without having run */
    uint64_t jobs_detached;  /* closed while they ran; they are in jobs_run at their end */
    uint64_t jobs_refused;   /* not taken in: the queue was full */
    uint64_t threads_started;
    uint64_t thread_failures; /* threads that the system did not give */
    uint64_t threads_alive;
    uint64_t threads_idle; /* of those, the ones that are free for a job */
    uint64_t jobs_queued;
    uint64_t jobs_running;
};

/**
 * rdy_pool_open() - open a pool without a thread yet
 * @out:  receives the pool, owned by the caller; free it with rdy_pool_close()
 * @opts: borrowed, the name too; NULL for defaults
 *
 * Threads are started when a job finds none free, up to threads_max, and end when they were idle
 * for idle_timeout_ns. They block every signal but those that a thread brings upon itself (SIGSEGV
 * and its like), so that handlers run where the program's own threads are.
 *
 * Context: any thread.
 * Return:  0, -ENOMEM, or -EINVAL for a number that is absurd or a stack that is too small.
 */
RDY_API RDY_NODISCARD int rdy_pool_open(struct rdy_pool **out, const struct rdy_pool_opts *opts);

/**
 * rdy_pool_shutdown() - take no more jobs, drop those that have not begun, wait for those that have
 * @pool:       borrowed; open afterwards, whatever the answer: close it
 * @timeout_ns: how long to wait for the jobs that run, which cannot be stopped; 0 not at all,
 *              UINT64_MAX without limit
 *
 * From here on rdy_blocking_start() answers -ESHUTDOWN. What was queued is dropped by this call, on
 * this thread; those who wait for it are woken and get -ECANCELED. May be called again to wait
 * longer. A program that must not wait at its end calls this with 0, leaves the pool unclosed, and
 * exits.
 *
 * Context: any thread; blocks.
 * Return:  0 when every thread has ended; -ETIMEDOUT; -EDEADLK on a thread of the pool;
 *          -EOWNERDEAD.
 */
RDY_API RDY_NODISCARD int rdy_pool_shutdown(struct rdy_pool *pool, uint64_t timeout_ns);

/**
 * rdy_pool_close() - rdy_pool_shutdown() without a limit, then free the pool
 * @pool: taken; NULL is fine. Nobody may start a job any more: where that is not certain, shut the
 *        pool down first. Handles may outlive it; they answer what they would have answered.
 *
 * Context: any thread but the pool's own; blocks. In a forked child it does nothing.
 */
RDY_API void rdy_pool_close(struct rdy_pool *pool);

/* A snapshot of one instant. Any thread; all zero in a forked child. */
RDY_API void rdy_pool_read_stats(struct rdy_pool *pool, struct rdy_pool_stats *stats);

/* --- jobs --- */

/* Does the work, on a thread of the pool. The result is 0 or more, or -errno. */
typedef int rdy_blocking_fn(void *payload);

struct rdy_blocking_spec {
    rdy_blocking_fn *run;
    rdy_drop_fn *drop;   /* releases what the payload holds; may be NULL */
    size_t payload_size; /* bytes, at most 1 MiB */
};

/* A job's handle: the caller's memory, {0} before its first use and after its close. It may be
 * moved. One thread at a time; not the same one each time. */
struct rdy_blocking {
    struct rdy_job *job;
};

/**
 * rdy_blocking_start() - queue a job
 * @handle: {0}; holds the job from an answer of 0 until rdy_blocking_close()
 * @pool:   borrowed
 * @spec:   borrowed
 * @init:   borrowed: the first @spec->payload_size bytes of the payload, copied here; NULL for
 *          zeros. What they point to goes to the job with an answer of 0 only. The payload is
 *          16-byte aligned.
 *
 * Jobs begin in the order of their starts. Wakes a thread of the pool, or starts one: some 15 us
 * either way.
 *
 * Context: any thread, a pool's own too.
 * Return:  0; -ENFILE: queue_max jobs wait already; -ESHUTDOWN; -EINVAL; -ENOMEM; -EOWNERDEAD; or
 *          what the system said (-EAGAIN) when the pool has no thread and could not get one. With
 *          any -errno nothing was taken and the drop does not run.
 */
RDY_API RDY_NODISCARD int rdy_blocking_start(struct rdy_blocking *handle, struct rdy_pool *pool,
                                             const struct rdy_blocking_spec *spec,
                                             const void *init);

/**
 * rdy_blocking_poll() - the result of a job
 * @handle: open; an answer other than RDY_PENDING can be asked for again and again
 * @task:   being polled; woken when there is an answer
 * @result: written with an answer of 0: what @spec->run returned
 *
 * Given up at RDY_PENDING nothing is lost: the job goes on, and its result stays in the handle. Who
 * gives up for good closes the handle, a task that may be aborted in its drop. An answer costs one
 * operation of the budget.
 *
 * Context: the runtime's thread.
 * Return:  0, RDY_PENDING, -ECANCELED (cancelled, or the pool was shut down before it began),
 *          -EINVAL for a closed handle, -EOWNERDEAD.
 */
RDY_API RDY_NODISCARD int rdy_blocking_poll(struct rdy_blocking *handle, struct rdy_task *task,
                                            int *result);

/**
 * rdy_blocking_poll_waker() - rdy_blocking_poll() for who is no task
 * @waker: copied; run once when there is an answer, in place of that of an earlier call, on a
 *         thread of the pool or on one that shuts it down. It may use and close the handle there.
 *
 * Context: any thread.
 * Return:  as rdy_blocking_poll().
 */
RDY_API RDY_NODISCARD int rdy_blocking_poll_waker(struct rdy_blocking *handle,
                                                  const struct rdy_waker *waker, int *result);

/* The payload, until the close, of a job whose poll has answered 0; else NULL. */
RDY_API void *rdy_blocking_payload(struct rdy_blocking *handle);

/**
 * rdy_blocking_cancel() - keep a job from beginning
 * @handle: open; stays open. No waker runs for it.
 *
 * Context: any thread; drops the payload.
 * Return:  0: it never begins, and a poll answers -ECANCELED; -EBUSY: it runs, and cannot be
 *          stopped; -EALREADY: it has run; -EINVAL for a closed handle; -EOWNERDEAD.
 */
RDY_API int rdy_blocking_cancel(struct rdy_blocking *handle);

/**
 * rdy_blocking_close() - let go of a job, in whatever state
 * @handle: {0} afterwards; a closed one is fine
 *
 * A queued job is taken out and dropped, one that has run is dropped, by this call. One that runs
 * is detached: it goes on, and is dropped by its thread when it has ended.
 *
 * Afterwards no waker of this handle runs: if one is just running, on another thread, this call
 * waits for it. So a task that closes its handles in its drop keeps the rule that no waker of a
 * task may run after rdy_runtime_close(), however long its jobs go on.
 *
 * Context: any thread, also from within the handle's own waker.
 */
RDY_API void rdy_blocking_close(struct rdy_blocking *handle);

RDY_END_DECLS

#endif
