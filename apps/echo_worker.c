/* SPDX-License-Identifier: MIT */
/*
 * A worker of the echo server: a thread with a runtime, a listener and the sessions it accepts.
 *
 * The runtime is opened, run and closed by the worker's own thread. The main thread touches two
 * things only: rdy_runtime_stop(), and after that the semaphore that lets the worker close the
 * runtime; so a worker that dies by itself does not free what the main thread is about to stop.
 *
 * Accepting pauses when descriptors or memory run out. The connection then stays in the kernel's
 * queue and the listener stays readable: without a pause the task would spin.
 */
#include "apps/echo.h"
#include "apps/system.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACCEPT_PAUSE_NS UINT64_C(50000000) /* long enough to cost nothing, short for a person */

struct acceptor {
    struct echo_worker *worker;
    struct rdy_listener listener;
    struct rdy_timer timer;
    uint64_t resume_ns;
    bool is_paused;
    bool is_starved; /* since the last connection that was accepted */
};

static bool is_shortage(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

static void acceptor_pause(struct acceptor *acceptor)
{
    if (!acceptor->is_starved)
        acceptor->worker->counters.accept_pauses++;
    acceptor->is_starved = true;
    acceptor->is_paused = true;
    acceptor->resume_ns = system_now_ns() + ACCEPT_PAUSE_NS;
}

/* 0 to go on, RDY_PENDING, or -errno. */
static int acceptor_turn(struct acceptor *acceptor, struct rdy_task *task)
{
    struct echo_worker *worker = acceptor->worker;
    struct rdy_stream stream;
    int rc = rdy_listener_poll_accept(&acceptor->listener, task, &stream);

    if (rc == RDY_PENDING)
        return RDY_PENDING;
    worker->counters.io_calls++;
    if (rc == 0) {
        rc = echo_session_spawn(worker, &stream);
        if (rc < 0)
            rdy_stream_close(&stream);
    }
    if (is_shortage(rc)) {
        acceptor_pause(acceptor);
        return 0;
    }
    if (rc < 0)
        return rc;
    acceptor->is_starved = false;
    worker->counters.connections++;
    return 0;
}

static int acceptor_poll(struct rdy_task *task, void *self)
{
    struct acceptor *acceptor = self;
    int rc;

    for (;;) {
        if (acceptor->is_paused) {
            rc = rdy_timer_poll_until(&acceptor->timer, task, acceptor->resume_ns);
            if (rc == RDY_PENDING)
                return RDY_PENDING;
            acceptor->is_paused = false;
        }
        rc = acceptor_turn(acceptor, task);
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        if (rc < 0) {
            /* A server that accepts no more is no server: end, and let the main thread say why. */
            acceptor->worker->run_rc = rc;
            rdy_runtime_stop(acceptor->worker->runtime);
            return rc;
        }
    }
}

static void acceptor_drop(void *self)
{
    struct acceptor *acceptor = self;

    (void)rdy_timer_cancel(&acceptor->timer);
    rdy_listener_close(&acceptor->listener);
}

static int worker_spawn_acceptor(struct echo_worker *worker, struct rdy_listener *listener)
{
    static const struct rdy_task_spec spec = {
        .poll = acceptor_poll,
        .drop = acceptor_drop,
        .self_size = sizeof(struct acceptor),
    };
    struct acceptor *acceptor;
    void *self;
    int rc = rdy_spawn(worker->runtime, &spec, &self, NULL);

    if (rc < 0)
        return rc;
    acceptor = self;
    acceptor->worker = worker;
    acceptor->listener = *listener;
    return 0;
}

static int worker_listen(struct echo_worker *worker)
{
    struct rdy_listen_opts opts = {.size = sizeof(opts), .is_reuseport = worker->is_reuseport};
    struct rdy_listener listener;
    int rc = rdy_listener_open(&listener, worker->runtime,
                               (const struct sockaddr *)&worker->endpoint.addr,
                               worker->endpoint.addr_len, &opts);

    if (rc < 0)
        return rc;
    worker->endpoint.addr_len = sizeof(worker->endpoint.addr);
    rc = rdy_listener_address(&listener, &worker->endpoint.addr, &worker->endpoint.addr_len);
    if (rc == 0)
        rc = worker_spawn_acceptor(worker, &listener);
    if (rc < 0)
        rdy_listener_close(&listener);
    return rc;
}

/* On failure the runtime, if any, is for the caller to close. */
static int worker_open(struct echo_worker *worker)
{
    struct rdy_runtime_opts opts = {
        .size = sizeof(opts),
        .driver = {.size = sizeof(opts.driver), .backend = worker->options->backend},
    };
    int rc;

    worker->start_step = "pin";
    rc = worker->options->is_pinned ? system_pin(worker->index) : 0;
    if (rc < 0)
        return rc;
    worker->start_step = "run";
    worker->buffer = malloc(ECHO_BUFFER_SIZE);
    if (!worker->buffer)
        return -ENOMEM;
    rc = rdy_runtime_open(&worker->runtime, &opts);
    if (rc < 0)
        return rc;
    (void)snprintf(worker->backend, sizeof(worker->backend), "%s",
                   rdy_driver_backend_name(rdy_runtime_driver(worker->runtime)));
    worker->start_step = "listen";
    return worker_listen(worker);
}

static void worker_close(struct echo_worker *worker)
{
    if (worker->runtime) {
        rdy_driver_read_stats(rdy_runtime_driver(worker->runtime), &worker->driver);
        rdy_runtime_close(worker->runtime);
        worker->runtime = NULL;
    }
    free(worker->buffer);
    worker->buffer = NULL;
}

static void *worker_main(void *arg)
{
    struct echo_worker *worker = arg;
    int rc = worker_open(worker);

    if (rc < 0) {
        worker_close(worker);
        worker->start_rc = rc;
        (void)sem_post(&worker->started);
        return NULL;
    }
    (void)sem_post(&worker->started);
    rc = rdy_runtime_run(worker->runtime);
    if (rc < 0)
        worker->run_rc = rc;
    if (worker->run_rc < 0)
        (void)kill(getpid(), SIGTERM); /* wakes the main thread, which waits for just that */
    (void)sem_wait(&worker->may_close);
    worker_close(worker);
    return NULL;
}

static void worker_forget(struct echo_worker *worker)
{
    (void)sem_destroy(&worker->started);
    (void)sem_destroy(&worker->may_close);
}

int echo_worker_start(struct echo_worker *worker)
{
    int rc;

    (void)sem_init(&worker->started, 0, 0);
    (void)sem_init(&worker->may_close, 0, 0);
    worker->start_step = "start a thread";
    rc = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (rc != 0) {
        worker_forget(worker);
        return -rc;
    }
    (void)sem_wait(&worker->started);
    if (worker->start_rc < 0) {
        (void)pthread_join(worker->thread, NULL);
        worker_forget(worker);
    }
    return worker->start_rc;
}

void echo_worker_stop(struct echo_worker *worker)
{
    rdy_runtime_stop(worker->runtime);
    (void)sem_post(&worker->may_close);
}

int echo_worker_join(struct echo_worker *worker)
{
    (void)pthread_join(worker->thread, NULL);
    worker_forget(worker);
    return worker->run_rc;
}
