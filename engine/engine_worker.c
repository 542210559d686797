/* SPDX-License-Identifier: MIT */
/*
 * A worker: its thread from the start to the end.
 *
 * The runtime is published before the worker looks whether the engine shuts down, and a shutdown is
 * published before it looks for runtimes; all four are sequentially consistent, so that either the
 * shutdown reaches the runtime or the worker sees it. A runtime is never unpublished: see engine.h.
 */
#include "engine/engine.h"

#include <stdio.h>

#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/sys.h"
#include "engine/sys_engine.h"
#include "engine/sys_thread.h"

_Thread_local struct rdy_engine_worker *rdy_engine_worker_current;

static void worker_note(struct rdy_engine_worker *worker, int error, const char *step)
{
    struct rdy_engine *engine = worker->engine;

    rdy_assert(error < 0);
    if (worker->failure.error != 0)
        return;
    worker->failure = (struct rdy_engine_failure){worker->index, error, step};
    if (engine->first_dead == RDY_ANY_WORKER)
        engine->first_dead = worker->index;
}

void rdy_engine_worker_die(struct rdy_engine_worker *worker, int error, const char *step)
{
    struct rdy_engine *engine = worker->engine;

    /* What is left here has nothing to work with. Who hears of the death finds it refusing. */
    (void)rdy_runtime_shutdown(rdy_engine_runtime(worker), 0);
    if (!engine->opts.survives_deaths)
        (void)rdy_engine_shutdown(engine, engine->opts.death_grace_ns);
    (void)pthread_mutex_lock(&engine->lock);
    worker_note(worker, error, step);
    (void)pthread_mutex_unlock(&engine->lock);
    (void)rdy_sys_eventfd_write(engine->event_fd);
}

static void worker_set_state(struct rdy_engine_worker *worker, enum rdy_worker_state state)
{
    struct rdy_engine *engine = worker->engine;

    (void)pthread_mutex_lock(&engine->lock);
    rdy_assert(worker->state < state);
    worker->state = state;
    if (state == RDY_WORKER_ENDED)
        engine->ended_count++;
    (void)pthread_cond_broadcast(&engine->changed);
    (void)pthread_mutex_unlock(&engine->lock);
    if (state == RDY_WORKER_ENDED)
        (void)rdy_sys_eventfd_write(engine->event_fd);
}

static void worker_name(const struct rdy_engine_worker *worker)
{
    const char *name = worker->engine->opts.name;
    char text[32];

    /* Of a long name the begin: what tells the threads apart is the index. */
    (void)snprintf(text, sizeof(text), "%.*s-%u", worker->index < 100 ? 12 : 10, name,
                   worker->index);
    text[15] = '\0'; /* what the kernel keeps */
    rdy_sys_thread_set_name(text);
}

static int worker_open(struct rdy_engine_worker *worker, const char **step)
{
    struct rdy_engine *engine = worker->engine;
    const struct rdy_runtime_opts *opts = &engine->opts.runtime;
    struct rdy_runtime *runtime = NULL;
    int rc;

    *step = "pin";
    rc = worker->cpu >= 0 ? rdy_sys_pin((uint32_t)worker->cpu) : 0;
    if (rc < 0)
        return rc;
    *step = "run";
    rc = rdy_runtime_open(&runtime, opts->size != 0 ? opts : NULL);
    if (rc < 0)
        return rc;
    runtime->is_lasting = true;
    (void)rdy_aptr_swap_seq_cst(&worker->runtime, runtime);
    if (rdy_a32_load_seq_cst(&engine->is_shutting) != 0)
        rdy_shutdown_by(runtime, rdy_a64_load_relaxed(&engine->shutdown_by_ns));

    *step = "start";
    rdy_runtime_current = runtime;
    rc = engine->opts.on_start
             ? engine->opts.on_start(engine, worker->index, runtime, engine->opts.arg)
             : 0;
    rdy_runtime_current = NULL;
    return rc < 0 ? rc : 0;
}

/* True: run. False: another could not start. */
static bool worker_pass_gate(struct rdy_engine_worker *worker)
{
    struct rdy_engine *engine = worker->engine;
    bool is_open;

    worker_set_state(worker, RDY_WORKER_STARTED);
    (void)pthread_mutex_lock(&engine->lock);
    while (engine->gate == RDY_GATE_SHUT)
        (void)pthread_cond_wait(&engine->changed, &engine->lock);
    is_open = engine->gate == RDY_GATE_OPEN;
    (void)pthread_mutex_unlock(&engine->lock);
    return is_open;
}

static void worker_run(struct rdy_engine_worker *worker, struct rdy_runtime *runtime)
{
    int rc = rdy_runtime_run(runtime);

    if (rc == 0 && !runtime->is_closing)
        rc = -ECANCELED; /* somebody stopped it, who should have asked for a shutdown */
    if (rc < 0)
        rdy_engine_worker_die(worker, rc, "run");
}

/* Ends all that only this thread can end. */
static void worker_end(struct rdy_engine_worker *worker, bool has_started)
{
    const struct rdy_engine_opts *opts = &worker->engine->opts;
    struct rdy_runtime *runtime = rdy_engine_runtime(worker);

    if (!runtime)
        return;
    rdy_runtime_end_tasks(runtime);
    if (has_started && opts->on_stop)
        opts->on_stop(worker->engine, worker->index, runtime, opts->arg);
    rdy_runtime_end_driver(runtime);
}

static void *worker_main(void *arg)
{
    struct rdy_engine_worker *worker = arg;
    const char *step;
    int rc;

    rdy_engine_worker_current = worker;
    worker_name(worker);
    rc = worker_open(worker, &step);
    if (rc < 0) {
        worker_end(worker, false);
        (void)pthread_mutex_lock(&worker->engine->lock);
        worker_note(worker, rc, step);
        (void)pthread_mutex_unlock(&worker->engine->lock);
        worker_set_state(worker, RDY_WORKER_FAILED);
        return NULL;
    }
    if (worker_pass_gate(worker))
        worker_run(worker, rdy_engine_runtime(worker));
    worker_end(worker, true);
    worker_set_state(worker, RDY_WORKER_ENDED);
    return NULL;
}

int rdy_engine_worker_start(struct rdy_engine_worker *worker)
{
    struct rdy_engine *engine = worker->engine;
    int rc = rdy_sys_thread_start(&worker->thread, 0, worker_main, worker);

    (void)pthread_mutex_lock(&engine->lock);
    if (rc < 0)
        worker_note(worker, rc, "start a thread");
    while (rc == 0 && worker->state == RDY_WORKER_STARTING)
        (void)pthread_cond_wait(&engine->changed, &engine->lock);
    (void)pthread_mutex_unlock(&engine->lock);
    if (rc == 0 && worker->state == RDY_WORKER_FAILED) {
        (void)pthread_join(worker->thread, NULL);
        rc = worker->failure.error;
    }
    rdy_assert(rc <= 0);
    return rc;
}
