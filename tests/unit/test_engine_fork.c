/* SPDX-License-Identifier: MIT */
/*
 * A child of a process whose engine is at work. None of the workers exists in it, and what they
 * were changing may have been copied half way: every call says so, the close gives back what is the
 * child's, and the parent does not notice.
 */
#include "tests/support/engine.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/wait.h>

#include <rdy/stream_io.h>

#include "tests/support/fork.h"
#include "tests/support/pairs.h"

#define CHILD_LIFE_S 60
#define CHILDREN     STRESS_ROUNDS(40, 10)
#define LOADERS      2

struct session {
    struct rdy_stream stream;
    struct rdy_co co;
    ssize_t got;
    size_t done;
    char byte;
};

static int session_poll(struct rdy_task *task, void *self)
{
    struct session *session = self;
    ssize_t rc;

    RDY_BEGIN(&session->co);
    do {
        RDY_AWAIT(&session->co,
                  session->got = rdy_stream_poll_read(&session->stream, task, &session->byte, 1));
        session->done = 0;
        RDY_AWAIT(&session->co,
                  rc = rdy_stream_poll_write_all(&session->stream, task, &session->byte,
                                                 session->got == 1, &session->done));
    } while (session->got == 1 && rc == 0);
    RDY_END(&session->co);
    return 0;
}

static const struct rdy_task_spec session_spec = {
    .poll = session_poll,
    .self_size = sizeof(struct session),
};

static int poll_ends(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return 0;
}

static const struct rdy_task_spec post_spec = {.poll = poll_ends, .self_size = 64};

/* An engine that serves, and threads that keep it busy. */
struct parent {
    struct rdy_engine *engine;
    struct sockaddr_in addr;
    struct rdy_engine_serve_opts what;
    struct rdy_a32 is_over;
    struct rdy_a32 round_trips;
    struct rdy_a32 failures;
    pthread_t loaders[LOADERS];
};

static int client_connect(const struct parent *parent)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)&parent->addr, sizeof(parent->addr)) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* A connection, a few round trips and a post: sessions begin and end, slabs and queues change. */
static bool load_once(struct parent *parent)
{
    int fd = client_connect(parent);
    bool is_fine = fd >= 0;
    char byte = 'x';

    for (int i = 0; is_fine && i < 8; i++)
        is_fine = write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1 && byte == 'x';
    if (fd >= 0)
        (void)close(fd);
    return is_fine && rdy_engine_post(parent->engine, RDY_ANY_WORKER, &post_spec, NULL) == 0;
}

static void *thread_loads(void *arg)
{
    struct parent *parent = arg;

    while (rdy_a32_load_acquire(&parent->is_over) == 0) {
        struct rdy_a32 *counter = load_once(parent) ? &parent->round_trips : &parent->failures;

        (void)rdy_a32_add_seq_cst(counter, 1);
    }
    return NULL;
}

static void parent_begin(struct parent *parent, void **state)
{
    struct sockaddr_storage bound;
    socklen_t len;

    *parent = (struct parent){.engine = engine_of(state, 2)};
    parent->addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    parent->what = (struct rdy_engine_serve_opts){
        .size = sizeof(parent->what),
        .addr = (struct sockaddr *)&parent->addr,
        .addr_len = sizeof(parent->addr),
        .session = &session_spec,
    };
    assert_int_equal(rdy_engine_serve(parent->engine, &parent->what, &bound, &len), 0);
    memcpy(&parent->addr, &bound, sizeof(parent->addr));
}

static void load_begin(struct parent *parent)
{
    for (int i = 0; i < LOADERS; i++)
        assert_int_equal(pthread_create(&parent->loaders[i], NULL, thread_loads, parent), 0);
    while (rdy_a32_load_acquire(&parent->round_trips) < 10)
        (void)sched_yield();
}

static void load_end(struct parent *parent)
{
    rdy_a32_store_release(&parent->is_over, 1);
    for (int i = 0; i < LOADERS; i++)
        assert_int_equal(pthread_join(parent->loaders[i], NULL), 0);
    assert_int_equal(rdy_a32_load_relaxed(&parent->failures), 0);
}

static void child_calls_everything(struct parent *parent)
{
    struct rdy_engine *engine = parent->engine;
    struct rdy_engine_worker_stats stats;
    uint32_t fds;

    child_check(rdy_engine_post(engine, 0, &post_spec, NULL) == -EOWNERDEAD);
    child_check(rdy_engine_post(engine, RDY_ANY_WORKER, &post_spec, NULL) == -EOWNERDEAD);
    child_check(rdy_engine_serve(engine, &parent->what, NULL, NULL) == -EOWNERDEAD);
    child_check(rdy_engine_wait(engine, NULL, NULL) == -EOWNERDEAD);
    child_check(rdy_engine_join(engine, NULL) == -EOWNERDEAD);
    child_check(rdy_engine_worker_here(engine) == -EOWNERDEAD);
    child_check(rdy_engine_read_worker(engine, 0, &stats) == -EOWNERDEAD);
    child_check(rdy_engine_shutdown(engine, 0) == -EOWNERDEAD);
    child_check(rdy_engine_workers_count(engine) == 2);
    fds = fds_open();
    rdy_engine_close(engine);
    /* The engine's two, and for each worker a listener and the backend's two. */
    child_check(fds - fds_open() == 2 + 2 * 3);
}

static pid_t fork_a_child(void)
{
    pid_t pid;

    (void)fflush(NULL);
    pid = fork();
    check(pid >= 0);
    if (pid == 0)
        (void)alarm(CHILD_LIFE_S);
    return pid;
}

static void child_is_fine(pid_t pid)
{
    int status = -1;

    check(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
}

static void children_call_everything_while_the_parent_works(void **state)
{
    struct parent parent;

    parent_begin(&parent, state);
    load_begin(&parent);
    for (int i = 0; i < CHILDREN; i++) {
        uint32_t before = rdy_a32_load_acquire(&parent.round_trips);
        pid_t pid = fork_a_child();

        if (pid == 0) {
            child_calls_everything(&parent);
            _exit(0);
        }
        child_is_fine(pid);
        /* It has gone on meanwhile, and does. */
        while (rdy_a32_load_acquire(&parent.round_trips) < before + 3)
            (void)sched_yield();
    }
    load_end(&parent);
    engine_end(parent.engine, UINT64_MAX);
}

/* A child's copy of a listener would keep the port for as long as the child lives. */
static void child_that_has_closed_does_not_hold_the_port(void **state)
{
    struct parent parent;
    int to_parent[2];
    int to_child[2];
    char byte = 0;
    pid_t pid;

    parent_begin(&parent, state);
    assert_true(load_once(&parent));
    assert_int_equal(pipe(to_parent), 0);
    assert_int_equal(pipe(to_child), 0);
    pid = fork_a_child();
    if (pid == 0) {
        rdy_engine_close(parent.engine);
        child_check(write(to_parent[1], &byte, 1) == 1);
        child_check(read(to_child[0], &byte, 1) == 1);
        _exit(0);
    }
    assert_int_equal(read(to_parent[0], &byte, 1), 1);
    assert_true(load_once(&parent));
    engine_end(parent.engine, UINT64_MAX);
    assert_int_equal(client_connect(&parent), -1);
    assert_int_equal(errno, ECONNREFUSED);
    assert_int_equal(write(to_child[1], &byte, 1), 1);
    child_is_fine(pid);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(close(to_parent[i]), 0);
        assert_int_equal(close(to_child[i]), 0);
    }
}

struct forker {
    struct parent *parent;
    struct latch done;
    int status;
};

/* The child's only thread was a worker: it is one no longer. */
static int poll_forks(struct rdy_task *task, void *self)
{
    struct forker *forker = *(struct forker **)self;
    pid_t pid = fork();

    (void)task;
    if (pid == 0) {
        (void)alarm(CHILD_LIFE_S);
        child_calls_everything(forker->parent);
        _exit(0);
    }
    if (pid > 0)
        (void)waitpid(pid, &forker->status, 0);
    latch_count(&forker->done);
    return 0;
}

static void worker_may_fork_too(void **state)
{
    struct parent parent;
    struct forker forker = {.parent = &parent, .done = LATCH, .status = -1};
    struct forker *init = &forker;
    struct rdy_task_spec spec = {.poll = poll_forks, .self_size = sizeof(init)};

    parent_begin(&parent, state);
    (void)fflush(NULL);
    assert_int_equal(rdy_engine_post(parent.engine, 1, &spec, &init), 0);
    latch_await(&forker.done, 1);
    assert_int_equal(forker.status, 0);
    assert_true(load_once(&parent));
    engine_end(parent.engine, UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_ON_BOTH(children_call_everything_while_the_parent_works),
        ENGINE_ON_BOTH(child_that_has_closed_does_not_hold_the_port),
        ENGINE_ON_BOTH(worker_may_fork_too),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
