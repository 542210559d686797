/* SPDX-License-Identifier: MIT */
/*
 * The engine's inside. A worker's thread opens its runtime, runs it, and ends what only that thread
 * can end; the runtime itself is freed by rdy_engine_close(), when every thread has gone, because
 * until then another worker may hold a waker of one of its tasks, or be posting to it.
 */
#ifndef RDY_ENGINE_ENGINE_H
#define RDY_ENGINE_ENGINE_H

#include <pthread.h>

#include <rdy/engine.h>

#include "engine/serve.h"

enum rdy_worker_state {
    RDY_WORKER_STARTING = 0,
    RDY_WORKER_STARTED, /* waits for the gate */
    RDY_WORKER_FAILED,  /* could not start; its thread is about to end */
    RDY_WORKER_ENDED,   /* its runtime will not run any more; its thread is about to end */
};

struct rdy_engine_worker {
    /* Constant once the thread has started. */
    struct rdy_engine *engine;
    uint32_t index;
    int cpu; /* to pin it to, or -1 */
    pthread_t thread;

    /* Under the engine's lock. */
    enum rdy_worker_state state;
    struct rdy_engine_failure failure; /* error 0: none */
    bool is_failure_told;              /* by a wait */

    struct rdy_aptr runtime; /* NULL before it is open */
    struct rdy_accept_counts accepts;
} __attribute__((aligned(RDY_CACHE_LINE)));

/* Listeners of one rdy_engine_serve(): what a forked child has to close. */
struct rdy_engine_service {
    struct rdy_engine_service *next;
    struct rdy_task_spec session;
    bool is_tcp;
    bool is_completing;
    bool is_shared;       /* one socket of all workers */
    struct rdy_a32 fds[]; /* of each worker; RDY_SERVICE_NO_FD once it is closed */
};

#define RDY_SERVICE_NO_FD UINT32_MAX

enum rdy_engine_gate {
    RDY_GATE_SHUT = 0,
    RDY_GATE_OPEN,   /* every worker has started: run */
    RDY_GATE_CANCEL, /* one could not: end */
};

struct rdy_engine {
    struct rdy_engine_opts opts;
    uint64_t process_stamp; /* another one in a forked child */
    int event_fd;           /* readable when a wait should look again */
    int signal_fd;          /* for a wait, which must not fail once all descriptors are in use */
    struct rdy_aptr services;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    enum rdy_engine_gate gate;
    uint32_t ended_count;
    bool is_signal_fd_taken; /* by a wait */
    uint32_t first_dead;     /* the worker whose failure came first, or RDY_ANY_WORKER */

    struct rdy_a32 is_shutting;
    struct rdy_a64 shutdown_by_ns;
    struct rdy_a32 next_worker; /* of round robin */

    struct rdy_engine_worker workers[];
};

/* The worker whose thread this is, or NULL. */
extern _Thread_local struct rdy_engine_worker *rdy_engine_worker_current;

static inline struct rdy_runtime *rdy_engine_runtime(struct rdy_engine_worker *worker)
{
    /* Acquire: the runtime's content; pairs with worker_open() in engine_worker.c. */
    return rdy_aptr_load_acquire(&worker->runtime);
}

bool rdy_engine_is_forked(const struct rdy_engine *engine);

/* engine_worker.c: starts a worker's thread and waits until it has started. 0 or -errno, with the
 * failure noted and no thread left. */
int rdy_engine_worker_start(struct rdy_engine_worker *worker);

/* engine_worker.c, the worker's thread: it died of @error in @step; the others go on or shut. */
void rdy_engine_worker_die(struct rdy_engine_worker *worker, int error, const char *step);

#endif
