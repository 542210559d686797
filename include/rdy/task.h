/* SPDX-License-Identifier: MIT */
/*
 * Tasks: stackless, one allocation each, polled by a runtime when something woke them.
 *
 * A task is a poll function over a struct of its own. It returns RDY_PENDING after it left a waker
 * somewhere (every rdy call that may say RDY_PENDING leaves the task's waker), or its result. With
 * RDY_BEGIN, RDY_AWAIT and RDY_END the function reads as straight-line code: RDY_AWAIT remembers
 * the line, leaves, and comes back to it. Locals do not survive an await; the struct does. The
 * macros are a switch over line numbers (Duff 1983, Tatham 2000): one RDY_AWAIT a line, braces
 * around one that is all of an if's or a loop's body, and no switch of one's own around one.
 */
#ifndef RDY_TASK_H
#define RDY_TASK_H

#include <rdy/waker.h>

RDY_BEGIN_DECLS

struct rdy_runtime;
struct rdy_task;

/* Where a coroutine goes on. Zero: at the start. */
struct rdy_co {
    uint32_t line;
};

#define RDY_BEGIN(co)                                                                              \
    switch ((co)->line) {                                                                          \
    case 0:

/* Evaluates @expr, at least once and again after each wake, until it is not RDY_PENDING. */
#define RDY_AWAIT(co, expr)                                                                        \
    (co)->line = __LINE__;                                                                         \
    __attribute__((fallthrough));                                                                  \
    case __LINE__:                                                                                 \
        if ((expr) == RDY_PENDING)                                                                 \
        return RDY_PENDING

/* Lets the other tasks and the driver go first, once. */
#define RDY_YIELD(co, task)                                                                        \
    do {                                                                                           \
        (co)->line = __LINE__;                                                                     \
        rdy_task_defer(task);                                                                      \
        return RDY_PENDING;                                                                        \
    case __LINE__:;                                                                                \
    } while (0)

#define RDY_END(co)                                                                                \
    }                                                                                              \
    (co)->line = 0

/* Advances the task: RDY_PENDING, or the task's result (0 or more, or -errno). */
typedef int rdy_poll_fn(struct rdy_task *task, void *self);

/* Releases what @self holds; runs once, after the last poll, also for an aborted task. */
typedef void rdy_drop_fn(void *self);

/* A task by name: stale once the task has ended, and refused then. {0} names none. */
struct rdy_task_id {
    uint32_t slot;
    uint32_t generation;
};

/*
 * What only some tasks have costs the others nothing: a name 16 bytes, a timeout 80. A timeout
 * counts from rdy_runtime_now_ns(), which a round that takes long leaves behind.
 */
struct rdy_task_spec {
    rdy_poll_fn *poll;
    rdy_drop_fn *drop;   /* may be NULL */
    size_t self_size;    /* bytes of the task's own struct, at most 1 MiB */
    const char *name;    /* for people; may be NULL. Kept until the task has ended: a literal */
    uint64_t timeout_ns; /* ended with -ETIMEDOUT this long after its spawn; 0: never */
};

/**
 * rdy_spawn() - make a task and queue its first poll
 * @runtime: borrowed
 * @spec:    borrowed
 * @self:    receives the task's own struct: zeroed, 16-byte aligned, owned by the task. Fill it
 *           before the runtime runs again. May be NULL.
 * @id:      receives the task's name; may be NULL
 *
 * Context: the runtime's thread.
 * Return:  0, -ENOMEM, -ENFILE (tasks_max), -EINVAL, -ESHUTDOWN.
 */
RDY_API RDY_NODISCARD int rdy_spawn(struct rdy_runtime *runtime, const struct rdy_task_spec *spec,
                                    void **self, struct rdy_task_id *id);

/**
 * rdy_spawn_remote() - hand a task to the runtime of another thread
 * @runtime: borrowed; rdy_runtime_close() must not have returned. It may be in progress: it waits
 *           for the callers who are inside.
 * @spec:    borrowed
 * @init:    borrowed: the first @spec->self_size bytes of the task's own struct, copied here; NULL
 *           for zeros. What they point to goes to the task with an answer of 0 only.
 *
 * All memory but the task's header is taken here, by the caller. After an answer of 0 the drop runs
 * exactly once on the runtime's thread: when the task has ended, or without a poll if the runtime
 * closes first or has no room for it. Tasks of one caller begin in the order of its calls. A
 * runtime that is out of tasks returns from its run, and what comes then waits for the next.
 *
 * Context: any thread, not a signal handler.
 * Return:  0, or -errno, and then the drop does not run.
 * Errors:  -EAGAIN arrivals_max tasks of this kind have not begun yet; -ESHUTDOWN the runtime shuts
 *          down or closes; -ENOMEM; -EINVAL; -EOWNERDEAD in a forked child.
 */
RDY_API RDY_NODISCARD int rdy_spawn_remote(struct rdy_runtime *runtime,
                                           const struct rdy_task_spec *spec, const void *init);

/**
 * rdy_task_abort() - end a task: drop runs, poll does not run again
 * @runtime: borrowed
 * @id:      of the task; a task may abort itself, its drop then runs when its poll returns
 *
 * Who joins it gets -ECANCELED; but if a task that aborted itself returns a result, that result.
 *
 * Context: the runtime's thread.
 * Return:  0, or -ESRCH if the task has ended.
 */
RDY_API int rdy_task_abort(struct rdy_runtime *runtime, struct rdy_task_id id);

/* The waker of @task: any thread may run it, also after the task has ended (then it does nothing),
 * until its runtime is closed. */
RDY_API struct rdy_waker rdy_task_waker(struct rdy_task *task);

/**
 * rdy_task_set_deadline() - move the moment at which a task is ended with -ETIMEDOUT
 * @runtime:     borrowed
 * @id:          of a task that was spawned with a timeout_ns, which this replaces; itself, too
 * @deadline_ns: as rdy_runtime_now_ns(); in the past: in the next round. UINT64_MAX: never
 *
 * At the deadline the task is ended between two polls, as by rdy_task_abort().
 *
 * Context: the runtime's thread.
 * Return:  0, -ESRCH if the task has ended, -EINVAL if it was spawned with timeout_ns 0.
 */
RDY_API RDY_NODISCARD int rdy_task_set_deadline(struct rdy_runtime *runtime, struct rdy_task_id id,
                                                uint64_t deadline_ns);

/*
 * A join: waits for a task's end and keeps its result. The caller's memory, {0} before its first
 * use; fields are private. All calls on the runtime's thread.
 */
struct rdy_join {
    struct rdy_task *target;
    struct rdy_waker waker;
    int result;
    bool has_result;
};

/**
 * rdy_join_open() - ask for the result of a task
 * @join:    kept until the task has ended or rdy_join_close()
 * @runtime: borrowed
 * @id:      of the task. Right after rdy_spawn() this cannot fail: the task has not run yet. A task
 *           has at most one join.
 *
 * Return:  0, -ESRCH if the task has ended, -EBUSY if it has a join.
 */
RDY_API RDY_NODISCARD int rdy_join_open(struct rdy_join *join, struct rdy_runtime *runtime,
                                        struct rdy_task_id id);

/**
 * rdy_join_poll() - the result of a task, after its drop has run
 * @join:   open; its result can be asked for again and again, also after the runtime was closed
 * @waker:  copied; run once when the task has ended, in place of that of an earlier call
 * @result: written with an answer of 0: what the poll function returned, -ECANCELED (aborted, or
 *          the runtime was closed) or -ETIMEDOUT
 *
 * May be given up at any point: the result stays in the join. Who gives up for good closes it.
 *
 * Return: 0, RDY_PENDING, or -EINVAL if the join is not open.
 */
RDY_API RDY_NODISCARD int rdy_join_poll(struct rdy_join *join, const struct rdy_waker *waker,
                                        int *result);

/* As rdy_join_poll(), for @task, which is being polled; -EDEADLK if it would wait for itself. An
 * answer of 0 costs one operation of its budget. */
RDY_API RDY_NODISCARD int rdy_task_poll_join(struct rdy_join *join, struct rdy_task *task,
                                             int *result);

/* Lets go: the task lives on with nobody waiting, the waker will not run, @join is {0} again. A
 * closed one is fine. A task that holds a join closes it in its drop. */
RDY_API void rdy_join_close(struct rdy_join *join);

/* The name in the spec of a task that is being polled; "" if it has none. */
RDY_API const char *rdy_task_name(const struct rdy_task *task);

/* The id, and the runtime, of a task that is being polled. */
RDY_API struct rdy_task_id rdy_task_get_id(const struct rdy_task *task);
RDY_API struct rdy_runtime *rdy_task_runtime(const struct rdy_task *task);

/* Queues the task for after the next turn of the driver: a yield. The task's own poll only. */
RDY_API void rdy_task_defer(struct rdy_task *task);

/**
 * rdy_task_charge() - pay for one operation out of the poll's budget
 * @task: being polled
 *
 * Every rdy stream call pays by itself; pay in loops that do work without one. A task gets a new
 * budget with each poll. When it is used up the task is queued behind the others.
 *
 * Return: 0, or RDY_PENDING: leave the poll with it.
 */
RDY_API RDY_NODISCARD int rdy_task_charge(struct rdy_task *task);

/* True if the next operation will not be put off for want of budget. The task being polled. */
RDY_API RDY_NODISCARD bool rdy_task_has_budget(const struct rdy_task *task);

RDY_END_DECLS

#endif
