/* SPDX-License-Identifier: MIT */
/*
 * What goes wrong with an engine that has begun: listeners that break, workers that have died when
 * an address is to be served, workers that are not there yet, and waits that cannot be made.
 */
#include "tests/support/engine.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <rdy/net.h>

#include "engine/sys.h"
#include "tests/support/child.h"
#include "tests/support/fork.h"
#include "tests/support/pairs.h"

#define FAULT  EDQUOT /* none that the kernel would give */
#define FD_MAX 1024

static int session_poll(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return 0;
}

/* A session that only closes: who connects sees the end. */
static const struct rdy_task_spec session = {
    .poll = session_poll,
    .self_size = sizeof(struct rdy_stream),
};

static int serve(struct rdy_engine *engine, struct sockaddr_in *addr)
{
    struct sockaddr_storage bound;
    struct rdy_engine_serve_opts what = {
        .size = sizeof(what),
        .addr = (struct sockaddr *)addr,
        .addr_len = sizeof(*addr),
        .session = &session,
    };
    int rc;

    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    rc = rdy_engine_serve(engine, &what, &bound, NULL);
    if (rc == 0)
        memcpy(addr, &bound, sizeof(*addr));
    return rc;
}

static void client_is_served(const struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char byte;

    assert_int_equal(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
    assert_int_equal(read(fd, &byte, 1), 0);
    assert_int_equal(close(fd), 0);
}

/* --- listeners that break --- */

static uint32_t break_listeners(void)
{
    uint32_t broken = 0;

    for (int fd = 3; fd < FD_MAX; fd++) {
        socklen_t size = sizeof(int);
        int is_listening = 0;

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &size) == 0 && is_listening)
            broken += shutdown(fd, SHUT_RDWR) == 0;
    }
    return broken;
}

/* Two break at once: the worker dies of the first that it sees, and that is told once. */
static void worker_whose_listeners_break_dies_of_the_first(void **state)
{
    struct rdy_engine *engine = engine_of(state, 1);
    struct rdy_engine_failure failure = {0};
    struct block block = BLOCK;
    struct sockaddr_in addr;

    assert_int_equal(serve(engine, &addr), 0);
    client_is_served(&addr);
    assert_int_equal(serve(engine, &addr), 0);
    client_is_served(&addr);
    block_worker(engine, 0, &block);
    assert_int_equal(break_listeners(), 2);
    latch_count(&block.is_free);
    assert_int_equal(rdy_engine_wait(engine, NULL, &failure), -EINVAL);
    assert_int_equal(failure.worker, 0);
    assert_string_equal(failure.step, "accept");
    assert_int_equal(rdy_engine_join(engine, NULL), -EINVAL);
    assert_int_equal(rdy_engine_wait(engine, NULL, &failure), 0);
    rdy_engine_close(engine);
}

/* --- workers that have died --- */

static int poll_dies(struct rdy_task *task, void *self)
{
    (void)self;
    return lose_the_kernel(task) == 0 ? RDY_PENDING : 0;
}

static void kill_worker(struct rdy_engine *engine, uint32_t worker)
{
    struct rdy_task_spec death = {.poll = poll_dies};
    struct rdy_engine_failure failure = {0};

    assert_int_equal(rdy_engine_post(engine, worker, &death, NULL), 0);
    assert_int_equal(rdy_engine_wait(engine, NULL, &failure), -EPERM);
    assert_int_equal(failure.worker, worker);
}

static void address_is_served_by_those_who_live(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 3);
    struct rdy_engine_worker_stats stats;
    struct rdy_engine *engine;
    struct sockaddr_in addr;

    opts.survives_deaths = true;
    engine = engine_open(&opts);
    kill_worker(engine, 1);
    assert_int_equal(serve(engine, &addr), 0);
    for (int i = 0; i < 16; i++)
        client_is_served(&addr);
    assert_int_equal(rdy_engine_read_worker(engine, 1, &stats), 0);
    assert_int_equal(stats.accepted, 0);
    kill_worker(engine, 0);
    kill_worker(engine, 2);
    assert_int_equal(serve(engine, &addr), -ESHUTDOWN);
    assert_int_equal(rdy_engine_shutdown(engine, 0), 0);
    assert_int_equal(rdy_engine_join(engine, NULL), -EPERM);
    rdy_engine_close(engine);
}

/* --- workers that are not there yet --- */

static int start_that_serves(struct rdy_engine *engine, uint32_t worker,
                             struct rdy_runtime *runtime, void *arg)
{
    struct sockaddr_in addr;

    (void)runtime;
    ((int *)arg)[worker] = serve(engine, &addr);
    return 0;
}

static void serving_waits_until_all_workers_are_there(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 2);
    uint32_t fds = fds_open();
    struct rdy_engine *engine;
    int served[2] = {1, 1};

    opts.on_start = start_that_serves;
    opts.arg = served;
    engine = engine_open(&opts);
    assert_int_equal(served[0], -EAGAIN);
    assert_int_equal(served[1], 0);
    engine_end(engine, 0);
    assert_int_equal(fds_open(), fds);
}

static void pinned_without_permission(int backend)
{
    struct rdy_engine_opts opts = engine_opts((enum rdy_backend_kind)backend, 2);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    struct rdy_engine_failure failure = {0};
    struct rdy_engine *engine = NULL;

    child_check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(sched_setaffinity), 0) ==
                0);
    child_check(seccomp_load(filter) == 0);
    seccomp_release(filter);
    opts.is_pinned = true;
    child_check(rdy_engine_open(&engine, &opts, &failure) == -EPERM);
    child_check(!engine && failure.worker == 0 && strcmp(failure.step, "pin") == 0);
}

static void worker_that_cannot_be_pinned_is_told(void **state)
{
    in_a_child(pinned_without_permission, (int)backend_of(state));
}

/* --- waits --- */

static void *thread_waits_for_signals(void *arg)
{
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGUSR2);
    return (void *)(intptr_t)rdy_engine_wait(arg, &signals, NULL);
}

/* Each has a descriptor of its own, which is closed behind it; a signal is one thread's. */
static void two_may_wait_for_signals(void **state)
{
    struct rdy_engine *engine = engine_of(state, 1);
    uint32_t fds = fds_open();
    pthread_t threads[2];
    void *results[2];
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGUSR2);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &signals, NULL), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_waits_for_signals, engine), 0);
    while (fds_open() < fds + 1) /* the second has its own */
        sched_yield();
    assert_int_equal(rdy_engine_shutdown(engine, 0), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], &results[i]), 0);
    assert_int_equal((intptr_t)results[0], 0);
    assert_int_equal((intptr_t)results[1], 0);
    assert_int_equal(fds_open(), fds);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &signals, NULL), 0);
    rdy_engine_close(engine);
}

/* The one that waits alone has the engine's own descriptor, also after a wait that failed. */
static void wait_that_failed_may_be_repeated_without_a_descriptor_left(void **state)
{
    struct rdy_engine *engine = engine_of(state, 1);
    struct rlimit before;
    struct rlimit none;
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGUSR2);
    (void)rdy_sys_fail_nth(1, FAULT);
    assert_int_equal(rdy_engine_wait(engine, &signals, NULL), -FAULT);
    (void)rdy_sys_fail_nth(0, 0);
    assert_int_equal(rdy_engine_shutdown(engine, 0), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(rdy_engine_wait(engine, &signals, NULL), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    rdy_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_ON_BOTH(worker_whose_listeners_break_dies_of_the_first),
        ENGINE_ON_BOTH(address_is_served_by_those_who_live),
        ENGINE_ON_BOTH(serving_waits_until_all_workers_are_there),
        ENGINE_ON_BOTH(worker_that_cannot_be_pinned_is_told),
        ENGINE_ON_BOTH(two_may_wait_for_signals),
        ENGINE_ON_BOTH(wait_that_failed_may_be_repeated_without_a_descriptor_left),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
