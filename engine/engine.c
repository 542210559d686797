/* SPDX-License-Identifier: MIT */
/*
 * The engine: opening, posting, shutting down, waiting, closing. What a worker's thread does is in
 * engine_worker.c, listening in engine_serve.c.
 *
 * In a forked child none of the workers exists, and what they were changing may have been copied
 * half way. So every call looks at the fork first, before it takes a lock that one of them may have
 * held, and the close touches only what no worker changes.
 */
#include "engine/engine.h"

#include <stdlib.h>

#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/sys.h"
#include "engine/sys_engine.h"
#include "engine/sys_thread.h"

bool rdy_engine_is_forked(const struct rdy_engine *engine)
{
    return rdy_sys_process_stamp() != engine->process_stamp;
}

static bool is_worker_here(const struct rdy_engine *engine)
{
    return rdy_engine_worker_current && rdy_engine_worker_current->engine == engine;
}

/* --- open --- */

/* Copies what the caller knows of the options; the processors are looked at for 0. */
static int options_take(struct rdy_engine_opts *taken, const struct rdy_engine_opts *opts)
{
    *taken = (struct rdy_engine_opts){.size = sizeof(*taken)};
    if (opts) {
        if (opts->size != sizeof(*opts) || opts->workers_count > RDY_WORKERS_MAX)
            return -EINVAL;
        *taken = *opts;
    }
    if (!taken->name)
        taken->name = "rdy";
    return 0;
}

static struct rdy_engine *engine_alloc(const struct rdy_engine_opts *opts)
{
    size_t size = sizeof(struct rdy_engine) +
                  opts->workers_count * sizeof(((struct rdy_engine *)NULL)->workers[0]);
    struct rdy_engine *engine = NULL;

    rdy_assert(opts->workers_count > 0);
    if (posix_memalign((void **)&engine, RDY_CACHE_LINE, size) != 0)
        return NULL;
    memset(engine, 0, size);
    engine->opts = *opts;
    engine->process_stamp = rdy_sys_process_stamp();
    engine->first_dead = RDY_ANY_WORKER;
    rdy_a64_store_relaxed(&engine->shutdown_by_ns, UINT64_MAX);
    (void)pthread_mutex_init(&engine->lock, NULL);
    (void)pthread_cond_init(&engine->changed, NULL);
    return engine;
}

/* Everything but threads and runtimes. */
static void engine_free(struct rdy_engine *engine)
{
    struct rdy_engine_service *service = rdy_aptr_load_relaxed(&engine->services);

    while (service) {
        struct rdy_engine_service *next = service->next;

        free(service);
        service = next;
    }
    if (engine->event_fd >= 0)
        (void)rdy_sys_close(engine->event_fd);
    if (engine->signal_fd >= 0)
        (void)rdy_sys_close(engine->signal_fd);
    (void)pthread_cond_destroy(&engine->changed);
    (void)pthread_mutex_destroy(&engine->lock);
    free(engine);
}

/* Waits for the first @count threads, then frees the runtimes. */
static void workers_reap(struct rdy_engine *engine, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)pthread_join(engine->workers[i].thread, NULL);
    for (uint32_t i = 0; i < engine->opts.workers_count; i++)
        rdy_runtime_close(rdy_engine_runtime(&engine->workers[i]));
}

static void gate_set(struct rdy_engine *engine, enum rdy_engine_gate gate)
{
    (void)pthread_mutex_lock(&engine->lock);
    engine->gate = gate;
    (void)pthread_cond_broadcast(&engine->changed);
    (void)pthread_mutex_unlock(&engine->lock);
}

static int workers_start(struct rdy_engine *engine, const struct rdy_sys_cpus *cpus,
                         struct rdy_engine_failure *failure)
{
    const struct rdy_engine_opts *opts = &engine->opts;
    uint32_t started = 0;
    int rc = 0;

    while (started < opts->workers_count) {
        struct rdy_engine_worker *worker = &engine->workers[started];

        worker->engine = engine;
        worker->index = started;
        worker->cpu = opts->is_pinned ? (int)rdy_sys_cpus_nth(cpus, started) : -1;
        rc = rdy_engine_worker_start(worker);
        if (rc < 0)
            break;
        started++;
    }
    gate_set(engine, rc < 0 ? RDY_GATE_CANCEL : RDY_GATE_OPEN);
    if (rc == 0)
        return 0;
    workers_reap(engine, started);
    if (failure)
        *failure = engine->workers[started].failure;
    return rc;
}

static uint32_t workers_default(const struct rdy_sys_cpus *cpus)
{
    uint32_t count = rdy_sys_cpus_count(cpus);
    uint32_t quota = rdy_sys_cpu_quota();

    count = quota < count ? quota : count;
    count = count < RDY_WORKERS_MAX ? count : RDY_WORKERS_MAX;
    return count > 0 ? count : 1;
}

static int descriptors_open(struct rdy_engine *engine)
{
    sigset_t none;

    (void)sigemptyset(&none);
    engine->signal_fd = -1;
    engine->event_fd = rdy_sys_eventfd();
    if (engine->event_fd < 0)
        return engine->event_fd;
    engine->signal_fd = rdy_sys_signal_fd(-1, &none);
    return engine->signal_fd < 0 ? engine->signal_fd : 0;
}

int rdy_engine_open(struct rdy_engine **out, const struct rdy_engine_opts *opts,
                    struct rdy_engine_failure *failure)
{
    struct rdy_engine_opts taken;
    struct rdy_engine *engine;
    struct rdy_sys_cpus cpus;
    int rc = options_take(&taken, opts);

    if (rc == 0)
        rc = rdy_sys_cpus_get(&cpus);
    if (rc < 0)
        return rc;
    if (taken.workers_count == 0)
        taken.workers_count = workers_default(&cpus);
    engine = engine_alloc(&taken);
    if (!engine)
        return -ENOMEM;
    rc = descriptors_open(engine);
    if (rc == 0)
        rc = workers_start(engine, &cpus, failure);
    if (rc < 0) {
        engine_free(engine);
        return rc;
    }
    *out = engine;
    return 0;
}

/* --- posting --- */

static int post_to(struct rdy_engine_worker *worker, const struct rdy_task_spec *spec,
                   const void *init)
{
    struct rdy_runtime *runtime = rdy_engine_runtime(worker);

    return runtime ? rdy_spawn_remote(runtime, spec, init) : -EAGAIN;
}

static int post_to_any(struct rdy_engine *engine, const struct rdy_task_spec *spec,
                       const void *init)
{
    uint32_t count = engine->opts.workers_count;
    uint32_t next = rdy_a32_add_seq_cst(&engine->next_worker, 1);
    int rc = -ESHUTDOWN;

    for (uint32_t i = 0; i < count; i++) {
        int one = post_to(&engine->workers[(next + i) % count], spec, init);

        if (one != -EAGAIN && one != -ESHUTDOWN)
            return one;
        /* One that is full may have room later: that is the better news. */
        if (one == -EAGAIN)
            rc = one;
    }
    return rc;
}

int rdy_engine_post(struct rdy_engine *engine, uint32_t worker, const struct rdy_task_spec *spec,
                    const void *init)
{
    if (rdy_engine_is_forked(engine))
        return -EOWNERDEAD;
    if (worker != RDY_ANY_WORKER && worker >= engine->opts.workers_count)
        return -EINVAL;
    if (rdy_a32_load_acquire(&engine->is_shutting) != 0)
        return -ESHUTDOWN;
    if (worker == RDY_ANY_WORKER)
        return post_to_any(engine, spec, init);
    return post_to(&engine->workers[worker], spec, init);
}

/* --- the end --- */

int rdy_engine_shutdown(struct rdy_engine *engine, uint64_t grace_ns)
{
    uint64_t by_ns = rdy_clock_after(rdy_sys_now_ns(), grace_ns);
    uint64_t seen = rdy_a64_load_relaxed(&engine->shutdown_by_ns);

    if (rdy_engine_is_forked(engine))
        return -EOWNERDEAD;
    while (by_ns < seen && !rdy_a64_cas_seq_cst(&engine->shutdown_by_ns, &seen, by_ns))
        ;
    (void)rdy_a32_swap_seq_cst(&engine->is_shutting, 1);
    for (uint32_t i = 0; i < engine->opts.workers_count; i++) {
        struct rdy_runtime *runtime = rdy_aptr_load_seq_cst(&engine->workers[i].runtime);

        if (runtime)
            rdy_shutdown_by(runtime, by_ns);
    }
    return 0;
}

/* The lock is held. A death that no wait has told, or NULL. */
static struct rdy_engine_worker *untold_death(struct rdy_engine *engine)
{
    for (uint32_t i = 0; i < engine->opts.workers_count; i++) {
        struct rdy_engine_worker *worker = &engine->workers[i];

        if (worker->failure.error != 0 && !worker->is_failure_told)
            return worker;
    }
    return NULL;
}

/* RDY_PENDING, 0 when all have ended, or the error of a death. */
static int wait_look(struct rdy_engine *engine, struct rdy_engine_failure *failure)
{
    struct rdy_engine_worker *dead;
    int rc = RDY_PENDING;

    (void)pthread_mutex_lock(&engine->lock);
    dead = untold_death(engine);
    if (dead) {
        dead->is_failure_told = true;
        rc = dead->failure.error;
        if (failure)
            *failure = dead->failure;
    } else if (engine->ended_count == engine->opts.workers_count) {
        rc = 0;
    }
    (void)pthread_mutex_unlock(&engine->lock);
    return rc;
}

static void signal_fd_give(struct rdy_engine *engine, int fd)
{
    if (fd != engine->signal_fd) {
        if (fd >= 0)
            (void)rdy_sys_close(fd);
        return;
    }
    (void)pthread_mutex_lock(&engine->lock);
    engine->is_signal_fd_taken = false;
    (void)pthread_mutex_unlock(&engine->lock);
}

/* The engine's own, or a new one if another wait has that. -1 for no signals; or -errno. */
static int signal_fd_take(struct rdy_engine *engine, const sigset_t *signals)
{
    bool is_taken;
    int fd;

    if (!signals)
        return -1;
    (void)pthread_mutex_lock(&engine->lock);
    is_taken = engine->is_signal_fd_taken;
    engine->is_signal_fd_taken = true;
    (void)pthread_mutex_unlock(&engine->lock);
    fd = rdy_sys_signal_fd(is_taken ? -1 : engine->signal_fd, signals);
    if (fd < 0 && !is_taken)
        signal_fd_give(engine, engine->signal_fd);
    return fd;
}

/*
 * The event is taken back before the look, so that what comes after the look is seen. What was
 * found may concern others who wait, who find no event then: so it is put back. They take it, see
 * what there is, and go on waiting.
 */
static int wait_with(struct rdy_engine *engine, int signal_fd, struct rdy_engine_failure *failure)
{
    int rc;

    for (;;) {
        (void)rdy_sys_eventfd_drain(engine->event_fd);
        rc = wait_look(engine, failure);
        if (rc != RDY_PENDING) {
            (void)rdy_sys_eventfd_write(engine->event_fd);
            return rc;
        }
        rc = rdy_sys_await_signal(signal_fd, engine->event_fd);
        if (rc != 0)
            return rc;
    }
}

int rdy_engine_wait(struct rdy_engine *engine, const sigset_t *signals,
                    struct rdy_engine_failure *failure)
{
    int signal_fd;
    int rc;

    if (rdy_engine_is_forked(engine))
        return -EOWNERDEAD;
    if (is_worker_here(engine))
        return -EDEADLK;
    signal_fd = signal_fd_take(engine, signals);
    if (signals && signal_fd < 0)
        return signal_fd;
    rc = wait_with(engine, signal_fd, failure);
    signal_fd_give(engine, signal_fd);
    return rc;
}

int rdy_engine_join(struct rdy_engine *engine, struct rdy_engine_failure *failure)
{
    int rc = 0;

    if (rdy_engine_is_forked(engine))
        return -EOWNERDEAD;
    if (is_worker_here(engine))
        return -EDEADLK;
    (void)pthread_mutex_lock(&engine->lock);
    while (engine->ended_count < engine->opts.workers_count)
        (void)pthread_cond_wait(&engine->changed, &engine->lock);
    if (engine->first_dead != RDY_ANY_WORKER) {
        rc = engine->workers[engine->first_dead].failure.error;
        if (failure)
            *failure = engine->workers[engine->first_dead].failure;
    }
    (void)pthread_mutex_unlock(&engine->lock);
    return rc;
}

/*
 * The number of a listener is taken away before it is closed, and a fork copies the descriptors
 * before the memory: so a number that is found here is open here, and is the listener.
 */
static void close_in_child(struct rdy_engine *engine)
{
    struct rdy_engine_service *service = rdy_aptr_load_relaxed(&engine->services);
    uint32_t count = engine->opts.workers_count;

    for (; service; service = service->next) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t fd = rdy_a32_load_relaxed(&service->fds[i]);

            if (fd != RDY_SERVICE_NO_FD)
                (void)rdy_sys_close((int)fd);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        struct rdy_runtime *runtime = rdy_engine_runtime(&engine->workers[i]);

        if (runtime)
            rdy_runtime_forget(runtime);
    }
    (void)rdy_sys_close(engine->event_fd);
    (void)rdy_sys_close(engine->signal_fd);
    free(engine);
}

void rdy_engine_close(struct rdy_engine *engine)
{
    if (!engine)
        return;
    if (rdy_engine_is_forked(engine)) {
        close_in_child(engine);
        return;
    }
    rdy_assert(!is_worker_here(engine));
    (void)rdy_engine_shutdown(engine, 0);
    workers_reap(engine, engine->opts.workers_count);
    rdy_assert(engine->ended_count == engine->opts.workers_count);
    engine_free(engine);
}

/* --- questions --- */

uint32_t rdy_engine_workers_count(const struct rdy_engine *engine)
{
    return engine->opts.workers_count;
}

int rdy_engine_worker_here(const struct rdy_engine *engine)
{
    if (rdy_engine_is_forked(engine))
        return -EOWNERDEAD;
    return is_worker_here(engine) ? (int)rdy_engine_worker_current->index : -ESRCH;
}

int rdy_engine_read_worker(struct rdy_engine *engine, uint32_t index,
                           struct rdy_engine_worker_stats *stats)
{
    struct rdy_engine_worker *worker;

    if (rdy_engine_is_forked(engine))
        return -EOWNERDEAD;
    if (index >= engine->opts.workers_count)
        return -EINVAL;
    worker = &engine->workers[index];
    *stats = (struct rdy_engine_worker_stats){
        .accepted = rdy_a64_load_relaxed(&worker->accepts.accepted),
        .accept_failures = rdy_a64_load_relaxed(&worker->accepts.failures),
        .accept_pauses = rdy_a64_load_relaxed(&worker->accepts.pauses),
        .cpu = worker->cpu,
    };
    (void)pthread_mutex_lock(&engine->lock);
    stats->error = worker->failure.error;
    stats->has_ended = worker->state == RDY_WORKER_ENDED;
    (void)pthread_mutex_unlock(&engine->lock);
    return 0;
}
