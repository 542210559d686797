/* SPDX-License-Identifier: MIT */
/*
 * A runtime's graceful end: new work is refused, tasks are told, and have until a deadline.
 *
 * From rdy_runtime_shutdown() on, rdy_spawn_remote() is refused with -ESHUTDOWN; what was handed
 * over before still begins. Tasks that wait for it are woken, rdy_serve() takes what stands in its
 * listener's queue and closes it, and tasks may go on and spawn others. The run returns when none
 * is left. At the deadline it ends those that are, as by rdy_task_abort(); their drops run on the
 * runtime's thread, as ever. After that run the runtime takes no task any more.
 *
 * A poll that does not return cannot be ended: the deadline is looked at between two polls.
 */
#ifndef RDY_SHUTDOWN_H
#define RDY_SHUTDOWN_H

#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/**
 * rdy_runtime_shutdown() - begin the end of a runtime, or shorten it
 * @runtime:  borrowed; must not be closed meanwhile
 * @grace_ns: how long the tasks have from now, by CLOCK_MONOTONIC. 0: they end in the next round,
 *            whatever they are at. UINT64_MAX: as long as they take.
 *
 * Of several calls the earliest deadline counts. If the runtime does not run now, its next run
 * begins with this; one that is closed instead ends everything at once. A paused clock begins to
 * count what is left of @grace_ns when its runtime hears of it.
 *
 * Context: any thread, and signal handlers.
 * Return:  0, or -EOWNERDEAD in a forked child.
 */
RDY_API int rdy_runtime_shutdown(struct rdy_runtime *runtime, uint64_t grace_ns);

/* True once the runtime shuts down or closes: the moment for a session to say goodbye. Any
 * thread. */
RDY_API bool rdy_runtime_is_shutting_down(const struct rdy_runtime *runtime);

/*
 * A wait for the shutdown of a task's runtime. The caller's memory, {0} before its first use, kept
 * by the runtime while a call has said RDY_PENDING. One that may still wait when its task ends is
 * cancelled in the task's drop. Fields are private.
 */
struct rdy_shutdown_wait {
    struct rdy_link link;
    struct rdy_waker waker;
};

/**
 * rdy_runtime_poll_shutdown() - RDY_PENDING until the runtime begins to shut down, then 0
 * @wait: kept while RDY_PENDING
 * @task: being polled; woken when it begins. Waits are woken in the order in which they began.
 *
 * May be given up at any point, with rdy_shutdown_wait_cancel(). Costs no budget.
 *
 * Context: the runtime's thread.
 * Return:  0 or RDY_PENDING.
 */
RDY_API RDY_NODISCARD int rdy_runtime_poll_shutdown(struct rdy_shutdown_wait *wait,
                                                    struct rdy_task *task);

/* Ends the wait; its waker will not run. {0} is fine, and what remains. The runtime's thread. */
RDY_API void rdy_shutdown_wait_cancel(struct rdy_shutdown_wait *wait);

/*
 * RDY_UNTIL_SHUTDOWN() - a poll call that does not outlive a shutdown; of the type of @expr
 * @wait: of this task; it may serve one operation after the other
 * @task: being polled. Evaluated twice.
 * @expr: the poll call: int or ssize_t, RDY_PENDING for "not yet". Evaluated once, or not at all
 *        when the task's budget is used up.
 *
 *     RDY_AWAIT(&s->co, s->got = RDY_UNTIL_SHUTDOWN(&s->wait, task,
 *                                    rdy_stream_poll_read(&s->stream, task, buf, len)));
 *
 * The operation comes first, and its answer counts: a request that has arrived is read. Where it
 * would wait, the result is -ESHUTDOWN once the runtime shuts down, and the operation is left as
 * when it is given up at RDY_PENDING. So a session ends between two requests, and one whose peer
 * never pauses looks at rdy_runtime_is_shutting_down(). No budget is paid for the wait itself.
 */
#define RDY_UNTIL_SHUTDOWN(wait, task, expr)                                                       \
    (rdy_until_shutdown_begin(task) ? (__typeof__(expr))rdy_until_shutdown_end(wait, task, (expr)) \
                                    : RDY_PENDING)

/* RDY_UNTIL_SHUTDOWN()'s first half: the task has budget for a try. If not, it is queued for the
 * next poll, and nothing is to be tried. */
RDY_API RDY_NODISCARD bool rdy_until_shutdown_begin(struct rdy_task *task);

/* RDY_UNTIL_SHUTDOWN()'s second half: @result, or -ESHUTDOWN in the place of RDY_PENDING. */
RDY_API RDY_NODISCARD ssize_t rdy_until_shutdown_end(struct rdy_shutdown_wait *wait,
                                                     struct rdy_task *task, ssize_t result);

/**
 * rdy_runtime_set_context() - a pointer for whoever runs on this runtime
 * @runtime: borrowed
 * @context: kept and handed out, never followed; NULL at first
 *
 * For what the tasks of a runtime share: a buffer, counters, a table of theirs alone.
 *
 * Context: the runtime's thread.
 */
RDY_API void rdy_runtime_set_context(struct rdy_runtime *runtime, void *context);
RDY_API void *rdy_runtime_context(const struct rdy_runtime *runtime);

/* The runtime whose task, drop or timer the calling thread is just running; else NULL. */
RDY_API struct rdy_runtime *rdy_runtime_here(void);

RDY_END_DECLS

#endif
