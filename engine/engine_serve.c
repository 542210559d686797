/* SPDX-License-Identifier: MIT */
/*
 * Listening on every worker.
 *
 * The calling thread does all that can fail before the first connection can be accepted: sockets,
 * the memory of the accept tasks, and last the registrations with each worker's driver, which alone
 * cannot be undone at once, as a ring lets go of a file when it turns. What is left is to hand the
 * tasks over, which only a shutdown can refuse. Then the workers own the listeners.
 *
 * The numbers of the listeners are also kept in the service, for a forked child to close: see
 * close_in_child() in engine.c. They are taken away before the descriptor is closed.
 */
#include "engine/engine.h"

#include <stdlib.h>

#include "engine/driver.h"
#include "engine/listener.h"
#include "engine/runtime.h"
#include "engine/stream.h"
#include "engine/sys.h"
#include "engine/sys_engine.h"

/* An accept task of a worker. */
struct acceptor {
    struct rdy_accept_loop loop;
    struct rdy_listener listener;
    struct rdy_engine_worker *worker;
    struct rdy_engine_service *service;
};

/* What one serve call is making; slots of workers that died meanwhile stay empty. */
struct making {
    struct rdy_engine *engine;
    struct rdy_engine_service *service;
    struct rdy_listen_opts listen;
    struct sockaddr_storage addr;
    socklen_t addr_len;
    bool has_file; /* if it fails, what was bound to the address has to be removed */
    struct rdy_listener *listeners;
    struct rdy_arrival **arrivals;
};

/* --- the worker's thread --- */

static int acceptor_begin(struct acceptor *acceptor, struct rdy_task *task)
{
    struct rdy_accept_loop *loop = &acceptor->loop;

    loop->listener = &acceptor->listener;
    loop->session = acceptor->service->session;
    loop->counts = &acceptor->worker->accepts;
    if (acceptor->service->is_tcp)
        acceptor->listener.flags = rdy_stream_tcp_flags(task->runtime->driver);
    if (acceptor->service->is_completing)
        return rdy_listener_start_completion(&acceptor->listener, acceptor->service->is_shared);
    return 0;
}

/*
 * The number goes first, then a TCP socket stops listening here and now, in case somebody keeps the
 * file open: a ring that died, whose worker the kernel would give its share of the connections for
 * ever; a driver that will not turn again; a child that was just forked.
 */
static void listener_end(struct rdy_engine_service *service, uint32_t index,
                         struct rdy_listener *listener)
{
    rdy_a32_store_relaxed(&service->fds[index], RDY_SERVICE_NO_FD);
    if (listener->fd >= 0 && service->is_tcp)
        (void)rdy_sys_shutdown(listener->fd, SHUT_RDWR);
    if (listener->fd >= 0 && !listener->reg.io) {
        (void)rdy_sys_close(listener->fd);
        listener->fd = -1;
    }
    rdy_listener_close(listener);
}

static int acceptor_poll(struct rdy_task *task, void *self)
{
    struct acceptor *acceptor = self;
    int rc = 0;

    if (!acceptor->loop.listener)
        rc = acceptor_begin(acceptor, task);
    if (rc == 0)
        rc = rdy_accept_loop_poll(&acceptor->loop, task);
    if (rc < 0 && rc != RDY_PENDING && rc != -ESHUTDOWN)
        rdy_engine_worker_die(acceptor->worker, rc, "accept");
    return rc;
}

static void acceptor_drop(void *self)
{
    struct acceptor *acceptor = self;

    rdy_accept_loop_drop(&acceptor->loop);
    listener_end(acceptor->service, acceptor->worker->index, &acceptor->listener);
}

/* --- the calling thread --- */

/* The first socket chooses the port, or is the one of all. The number goes to the service. */
static int open_fd(struct making *making, int first_fd)
{
    int fd;
    int rc;

    if (first_fd >= 0 && !making->service->is_tcp)
        return rdy_sys_dup(first_fd);
    fd = rdy_listener_socket((const struct sockaddr *)&making->addr, making->addr_len,
                             &making->listen);
    making->has_file = fd >= 0 && !making->service->is_tcp;
    if (fd < 0 || first_fd >= 0)
        return fd;
    making->addr_len = sizeof(making->addr);
    rc = rdy_sys_getsockname(fd, (struct sockaddr *)&making->addr, &making->addr_len);
    if (rc == 0)
        return fd;
    (void)rdy_sys_close(fd);
    return rc;
}

/* The listener is filled in once it is registered. */
static struct rdy_arrival *make_task(struct making *making, uint32_t index, int *err)
{
    static const struct rdy_task_spec spec = {
        .poll = acceptor_poll,
        .drop = acceptor_drop,
        .self_size = sizeof(struct acceptor),
        .name = "accept",
    };
    struct acceptor acceptor = {
        .loop = {.held = {.fd = -1}},
        .worker = &making->engine->workers[index],
        .service = making->service,
    };

    return rdy_task_arrival_make(&spec, &acceptor, err);
}

/* A socket and its accept task. A worker that died gets none. */
static int make_one(struct making *making, uint32_t index, int *first_fd)
{
    struct rdy_runtime *runtime = rdy_engine_runtime(&making->engine->workers[index]);
    struct rdy_listener *listener = &making->listeners[index];
    int rc = 0;

    if (!runtime)
        return -EAGAIN;
    if (rdy_runtime_is_shutting_down(runtime))
        return 0;
    listener->fd = open_fd(making, *first_fd);
    if (listener->fd < 0)
        return listener->fd;
    rdy_a32_store_relaxed(&making->service->fds[index], (uint32_t)listener->fd);
    if (*first_fd < 0)
        *first_fd = listener->fd;
    making->arrivals[index] = make_task(making, index, &rc);
    return making->arrivals[index] ? 0 : rc;
}

static int register_one(struct making *making, uint32_t index)
{
    struct rdy_runtime *runtime = rdy_engine_runtime(&making->engine->workers[index]);
    struct rdy_listener *listener = &making->listeners[index];
    struct acceptor *acceptor;
    int rc;

    if (!making->arrivals[index])
        return 0;
    rc = rdy_listener_register(listener, runtime->driver);
    if (rc < 0)
        return rc;
    acceptor = rdy_task_arrival_self(making->arrivals[index]);
    acceptor->listener = *listener;
    return 0;
}

static int make_all(struct making *making)
{
    uint32_t count = making->engine->opts.workers_count;
    int first_fd = -1;
    int rc = 0;

    if (making->service->is_tcp && count > 1) {
        /* Sharing a port with others is refused, unless it is meant. */
        if (!making->listen.is_reuseport)
            rc = rdy_listener_check_place((const struct sockaddr *)&making->addr, making->addr_len,
                                          &making->listen);
        making->listen.is_reuseport = true;
    }
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = make_one(making, i, &first_fd);
    if (rc == 0 && first_fd < 0)
        rc = -ESHUTDOWN;
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = register_one(making, i);
    return rc;
}

/* What was not handed over: listeners whose number is still there, and tasks. */
static void unmake_one(struct making *making, uint32_t index)
{
    if (making->arrivals[index])
        rdy_task_arrival_unmake(making->arrivals[index]);
    making->arrivals[index] = NULL;
    listener_end(making->service, index, &making->listeners[index]);
}

/* 0 if at least one worker took its own. The service is the engine's from here on. */
static int hand_over(struct making *making)
{
    struct rdy_engine *engine = making->engine;
    int rc = -ESHUTDOWN;

    (void)pthread_mutex_lock(&engine->lock);
    making->service->next = rdy_aptr_load_relaxed(&engine->services);
    rdy_aptr_store_release(&engine->services, making->service);
    (void)pthread_mutex_unlock(&engine->lock);
    for (uint32_t i = 0; i < engine->opts.workers_count; i++) {
        if (!making->arrivals[i])
            continue;
        if (rdy_task_arrival_send(rdy_engine_runtime(&engine->workers[i]), making->arrivals[i]) < 0)
            unmake_one(making, i);
        else
            rc = 0;
    }
    return rc;
}

static int making_open(struct making *making, struct rdy_engine *engine,
                       const struct rdy_engine_serve_opts *what)
{
    uint32_t count = engine->opts.workers_count;
    struct rdy_engine_service *service;

    making->listen = what->listen;
    if (what->listen.size == 0)
        making->listen = (struct rdy_listen_opts){.size = sizeof(making->listen)};
    making->engine = engine;
    making->service = calloc(1, sizeof(*making->service) + count * sizeof(making->service->fds[0]));
    making->listeners = calloc(count, sizeof(*making->listeners));
    making->arrivals = calloc(count, sizeof(*making->arrivals));
    if (!making->service || !making->listeners || !making->arrivals)
        return -ENOMEM;
    service = making->service;
    service->session = *what->session;
    service->is_completing = what->listen.is_completing;
    service->is_tcp = what->addr->sa_family == AF_INET || what->addr->sa_family == AF_INET6;
    service->is_shared = !service->is_tcp && count > 1;
    for (uint32_t i = 0; i < count; i++) {
        making->listeners[i] = (struct rdy_listener){.fd = -1};
        rdy_a32_store_relaxed(&service->fds[i], RDY_SERVICE_NO_FD);
    }
    making->addr_len = what->addr_len;
    memcpy(&making->addr, what->addr, what->addr_len);
    return 0;
}

static int serve(struct making *making, struct rdy_engine *engine,
                 const struct rdy_engine_serve_opts *what)
{
    int rc = making_open(making, engine, what);

    if (rc == 0)
        rc = make_all(making);
    if (rc == 0) {
        rc = hand_over(making);
    } else {
        if (making->service && making->listeners && making->arrivals) {
            for (uint32_t i = 0; i < engine->opts.workers_count; i++)
                unmake_one(making, i);
        }
        free(making->service);
    }
    if (rc < 0 && making->has_file)
        rdy_listener_remove_file(what->addr, what->addr_len);
    return rc;
}

int rdy_engine_serve(struct rdy_engine *engine, const struct rdy_engine_serve_opts *what,
                     struct sockaddr_storage *bound, socklen_t *bound_len)
{
    struct making making = {.engine = engine};
    int rc;

    if (rdy_engine_is_forked(engine))
        return -EOWNERDEAD;
    if (what->size != sizeof(*what) || !what->session || !what->addr ||
        what->addr_len < sizeof(what->addr->sa_family) || what->addr_len > sizeof(making.addr))
        return -EINVAL;
    rc = rdy_accept_loop_check(what->session);
    if (rc == 0 && rdy_a32_load_acquire(&engine->is_shutting) != 0)
        rc = -ESHUTDOWN;
    if (rc == 0)
        rc = serve(&making, engine, what);
    free(making.listeners);
    free(making.arrivals);
    if (rc < 0)
        return rc;
    if (bound)
        *bound = making.addr;
    if (bound_len)
        *bound_len = making.addr_len;
    return 0;
}
