/* SPDX-License-Identifier: MIT */
/*
 * An engine: N threads, the workers, each with a runtime of its own. They share nothing, unless the
 * program makes them; tasks are posted from one to another.
 *
 * A program opens one, serves an address or starts its tasks in on_start, and waits: for a signal
 * that it has blocked, or for the end of a worker. Workers block every signal but those of their
 * own faults, so that a blocked signal is the main thread's to take:
 *
 *     pthread_sigmask(SIG_BLOCK, &signals, NULL);      before the open
 *     rdy_engine_open(&engine, &opts, NULL);
 *     rdy_engine_serve(engine, &where, NULL, NULL);
 *     rdy_engine_wait(engine, &signals, NULL);
 *     rdy_engine_shutdown(engine, 10 * 1000000000ull);
 *     rdy_engine_join(engine, NULL);
 *     rdy_engine_close(engine);
 *
 * In a forked child the engine is dead: each call that can fail says -EOWNERDEAD, and
 * rdy_engine_close() gives the child's copies back, without a word to the parent's.
 */
#ifndef RDY_ENGINE_H
#define RDY_ENGINE_H

#include <sys/select.h> /* sigset_t, also in strict C */

#include <rdy/serve.h>
#include <rdy/shutdown.h>

RDY_BEGIN_DECLS

struct rdy_engine;

/* In place of a worker's index: whoever is next. */
#define RDY_ANY_WORKER UINT32_MAX

#define RDY_WORKERS_MAX 1024

/*
 * Runs on the worker's thread before its first task: opens what the worker has, spawns. The workers
 * start one after the other, in order; nothing runs before all have started. Not 0 but -errno: the
 * engine does not open. It clears up after itself then: on_stop does not run; tasks are dropped.
 */
typedef int rdy_engine_start_fn(struct rdy_engine *engine, uint32_t worker,
                                struct rdy_runtime *runtime, void *arg);

/* Runs on the worker's thread after its last task, for each that has started: closes, reads
 * counters. It cannot spawn. */
typedef void rdy_engine_stop_fn(struct rdy_engine *engine, uint32_t worker,
                                struct rdy_runtime *runtime, void *arg);

/* Set size to sizeof(struct rdy_engine_opts), the rest to zero for defaults. */
struct rdy_engine_opts {
    uint32_t size;
    uint32_t workers_count;  /* default: the processors that we may use, by the affinity of the
                               opening thread and the quota of the control group */
    bool is_pinned;          /* worker i runs on the i-th of those processors, counted round */
    bool survives_deaths;    /* a worker's death leaves the others working; else they shut down */
    uint64_t death_grace_ns; /* and have this long for it */
    const char *name;        /* of the threads, with the index behind; default "rdy" */
    struct rdy_runtime_opts runtime; /* runtime.size 0: all defaults */
    rdy_engine_start_fn *on_start;   /* may be NULL */
    rdy_engine_stop_fn *on_stop;     /* may be NULL */
    void *arg;                       /* of both; kept */
};

/* What went wrong, and where. */
struct rdy_engine_failure {
    uint32_t worker;
    int error;        /* -errno */
    const char *step; /* "cannot ...": "pin", "start a thread", "run" (a runtime), "start"
                         (on_start), "accept"; static storage */
};

/**
 * rdy_engine_open() - start the workers
 * @out:     receives the engine, owned by the caller; free it with rdy_engine_close()
 * @opts:    borrowed; NULL for defaults
 * @failure: written when a worker could not start; may be NULL
 *
 * All or nothing: if a worker cannot start, those before it are stopped, and on return no thread is
 * left. If a shutdown was asked for in the meantime, by an on_start, the answer is still 0 and the
 * workers shut down.
 *
 * Context: any thread; it may end before the engine does.
 * Return:  0, or -errno with nothing kept.
 * Errors:  -EINVAL an absurd option; -ENOMEM; -EMFILE; as pthread_create(3), rdy_runtime_open() and
 *          sched_setaffinity(2); or what an on_start returned.
 */
RDY_API RDY_NODISCARD int rdy_engine_open(struct rdy_engine **out,
                                          const struct rdy_engine_opts *opts,
                                          struct rdy_engine_failure *failure);

/**
 * rdy_engine_post() - a task onto a worker
 * @engine: borrowed
 * @worker: an index, or RDY_ANY_WORKER: round robin, and past those that are full or dead
 * @spec:   borrowed
 * @init:   borrowed; as of rdy_spawn_remote(), which also says what becomes of it
 *
 * Tasks that one thread posts to one worker begin in the order of its calls. The worker may be the
 * caller's own.
 *
 * Context: any thread, not a signal handler.
 * Return:  0, or -errno, and then the task's drop does not run.
 * Errors:  -EAGAIN the worker's queue is full (rdy_runtime_opts.arrivals_max), or it has not
 *          started yet; -ESHUTDOWN the engine shuts down, or the worker died; -EINVAL no such
 *          worker, or a bad spec; -ENOMEM; -EOWNERDEAD in a forked child.
 */
RDY_API RDY_NODISCARD int rdy_engine_post(struct rdy_engine *engine, uint32_t worker,
                                          const struct rdy_task_spec *spec, const void *init);

/* What rdy_engine_serve() serves. Set size, and what is not optional. */
struct rdy_engine_serve_opts {
    uint32_t size;
    socklen_t addr_len;
    const struct sockaddr *addr;         /* borrowed; port 0 is chosen once, for all workers */
    const struct rdy_task_spec *session; /* borrowed; as of rdy_serve() */
    struct rdy_listen_opts listen;       /* listen.size 0: all defaults */
};

/**
 * rdy_engine_serve() - listen at an address on every worker, and run a session a connection
 * @engine:    borrowed
 * @what:      borrowed
 * @bound:     receives the address, for port 0; may be NULL
 * @bound_len: receives its length; may be NULL
 *
 * TCP: a socket for each worker, over which the kernel spreads the connections (SO_REUSEPORT). That
 * option would let another server of the same user share the port unnoticed: so it is looked first
 * whether the port is free, unless listen.is_reuseport says that sharing is meant.
 *
 * Unix: there is one socket, of which each worker watches a descriptor of its own. Each connection
 * wakes every idle worker, and the first takes it; the others have a wake for nothing. The name is
 * the caller's to unlink.
 *
 * At a graceful shutdown each worker takes what stands in its queue until that is empty, then
 * closes; a connection that comes between the last look and the close is reset. With a grace of 0
 * the whole queue is reset. A listener that fails for good counts as a death of its worker; where
 * rdy_serve() pauses, it does.
 *
 * Context: any thread, after the open.
 * Return:  0, or -errno with nothing left open: no connection was accepted.
 * Errors:  -EINVAL; as rdy_listener_open() and rdy_register(); -EAGAIN within the open; -ESHUTDOWN
 *          the engine shuts down, which a connection or two may have seen happen; -EOWNERDEAD.
 */
RDY_API RDY_NODISCARD int rdy_engine_serve(struct rdy_engine *engine,
                                           const struct rdy_engine_serve_opts *what,
                                           struct sockaddr_storage *bound, socklen_t *bound_len);

/**
 * rdy_engine_shutdown() - shut every runtime down, as rdy_runtime_shutdown()
 * @engine:   borrowed; must not be closed meanwhile
 * @grace_ns: from now; of several calls the earliest end counts
 *
 * Context: any thread, the workers' too, and signal handlers.
 * Return:  0, or -EOWNERDEAD.
 */
RDY_API int rdy_engine_shutdown(struct rdy_engine *engine, uint64_t grace_ns);

/**
 * rdy_engine_wait() - wait for a signal, or for what only the workers can tell
 * @engine:  borrowed
 * @signals: borrowed; blocked in every thread, since before the open. NULL: none.
 * @failure: written when a worker died; may be NULL
 *
 * A signal that is taken is no longer pending. Each death is told by one wait, once.
 *
 * Context: any thread but the workers'; may be several.
 * Return:  the number of a signal; 0 when every worker has ended; the -errno of a worker that died,
 *          with @failure written; -EDEADLK on a worker's thread; -EOWNERDEAD; or, with @failure
 *          not written, -EMFILE, -ENFILE, -ENOMEM: a second wait for signals at the same time needs
 *          a descriptor of its own.
 */
RDY_API RDY_NODISCARD int rdy_engine_wait(struct rdy_engine *engine, const sigset_t *signals,
                                          struct rdy_engine_failure *failure);

/**
 * rdy_engine_join() - wait until every worker has ended
 * @engine:  borrowed
 * @failure: written when a worker died; may be NULL
 *
 * It asks for nothing: rdy_engine_shutdown() does. May be called again, and by several threads.
 *
 * Context: any thread but the workers'.
 * Return:  0; or the -errno of the first worker that died: of its driver, of its listener, or
 *          -ECANCELED if rdy_runtime_stop() ended it; -EDEADLK on a worker's thread; -EOWNERDEAD.
 */
RDY_API RDY_NODISCARD int rdy_engine_join(struct rdy_engine *engine,
                                          struct rdy_engine_failure *failure);

/**
 * rdy_engine_close() - shut down without grace if need be, join, free everything
 * @engine: taken; NULL is fine. No other call may be in progress, and no waker of its tasks may run
 *          afterwards. Until here those may run, also after their worker has ended.
 *
 * In a forked child: closes the child's copies of the drivers' descriptors and of the listeners,
 * which would otherwise hold the port for as long as the child lives. What the workers may have
 * been changing as the fork came is not touched: no drop runs, the tasks' memory stays, and
 * descriptors of sessions stay open until the child ends or calls exec.
 *
 * Context: any thread but the workers'.
 */
RDY_API void rdy_engine_close(struct rdy_engine *engine);

/* How many workers there are, the dead included. Any thread. */
RDY_API uint32_t rdy_engine_workers_count(const struct rdy_engine *engine);

/* The index of the worker whose thread calls; -ESRCH, or -EOWNERDEAD. */
RDY_API RDY_NODISCARD int rdy_engine_worker_here(const struct rdy_engine *engine);

/* The counters of a worker, and what it is. */
struct rdy_engine_worker_stats {
    uint64_t accepted;        /* connections, by rdy_engine_serve() */
    uint64_t accept_failures; /* tries that ended in a pause */
    uint64_t accept_pauses;   /* spells of such tries */
    int cpu;                  /* that it is pinned to, or -1 */
    int error;                /* -errno that it died of, or 0 */
    bool has_ended;
};

/**
 * rdy_engine_read_worker() - a snapshot of a worker's counters
 * @engine: borrowed
 * @worker: its index
 * @stats:  borrowed; overwritten
 *
 * Context: any thread; each counter is whole, the set is not one instant.
 * Return:  0, -EINVAL, -EOWNERDEAD.
 */
RDY_API RDY_NODISCARD int rdy_engine_read_worker(struct rdy_engine *engine, uint32_t worker,
                                                 struct rdy_engine_worker_stats *stats);

RDY_END_DECLS

#endif
