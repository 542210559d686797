/* SPDX-License-Identifier: MIT */
/* One address on every worker: the balance, the end of it, and what may go wrong. */
#include "tests/support/engine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include <rdy/completion.h>
#include <rdy/stream_io.h>

#include "engine/runtime.h"
#include "engine/sys.h"
#include "tests/support/pairs.h"

#define CLIENTS 64

/* Reads a byte, sends it back, until the peer's end or, between two bytes, the shutdown. */
struct echo {
    struct rdy_stream stream;
    struct rdy_co co;
    struct rdy_shutdown_wait wait;
    ssize_t got;
    size_t done;
    char byte;
};

static int echo_poll(struct rdy_task *task, void *self)
{
    struct echo *echo = self;
    ssize_t rc;

    RDY_BEGIN(&echo->co);
    do {
        RDY_AWAIT(&echo->co, echo->got = RDY_UNTIL_SHUTDOWN(
                                 &echo->wait, task,
                                 rdy_stream_poll_read(&echo->stream, task, &echo->byte, 1)));
        echo->done = 0;
        RDY_AWAIT(&echo->co, rc = rdy_stream_poll_write_all(&echo->stream, task, &echo->byte,
                                                            echo->got == 1, &echo->done));
    } while (echo->got == 1 && rc == 0);
    RDY_END(&echo->co);
    return 0;
}

static void echo_drop(void *self)
{
    rdy_shutdown_wait_cancel(&((struct echo *)self)->wait);
}

static const struct rdy_task_spec echo_spec = {
    .poll = echo_poll,
    .drop = echo_drop,
    .self_size = sizeof(struct echo),
};

/* --- addresses and clients --- */

struct address {
    struct sockaddr_storage addr;
    socklen_t len;
};

static struct address loopback(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct address address = {.len = sizeof(addr)};

    memcpy(&address.addr, &addr, sizeof(addr));
    return address;
}

/* An abstract name: nothing to unlink. */
static struct address unix_name(const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct address address;

    (void)snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "rdy-test-%d-%s", (int)getpid(),
                   name);
    address.len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(addr.sun_path + 1));
    memset(&address.addr, 0, sizeof(address.addr));
    memcpy(&address.addr, &addr, sizeof(addr));
    return address;
}

/* Receives the address that it was bound to. */
static int serve_with(struct rdy_engine *engine, struct address *at,
                      const struct rdy_listen_opts *listen)
{
    struct rdy_engine_serve_opts what = {
        .size = sizeof(what),
        .addr = (struct sockaddr *)&at->addr,
        .addr_len = at->len,
        .session = &echo_spec,
    };
    struct address bound;
    int rc;

    if (listen)
        what.listen = *listen;
    rc = rdy_engine_serve(engine, &what, &bound.addr, &bound.len);
    if (rc == 0)
        *at = bound;
    return rc;
}

static struct address serve(struct rdy_engine *engine, struct address at)
{
    assert_int_equal(serve_with(engine, &at, NULL), 0);
    return at;
}

static int client_connect(const struct address *at)
{
    int fd = socket(at->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at->addr, at->len), 0);
    return fd;
}

static void client_asks(int fd)
{
    assert_int_equal(write(fd, "x", 1), 1);
}

static void client_is_answered(int fd)
{
    char byte = 0;

    assert_int_equal(read(fd, &byte, 1), 1);
    assert_int_equal(byte, 'x');
}

static uint64_t accepted_sum(struct rdy_engine *engine, uint64_t *least)
{
    struct rdy_engine_worker_stats stats;
    uint64_t sum = 0;

    *least = UINT64_MAX;
    for (uint32_t i = 0; i < rdy_engine_workers_count(engine); i++) {
        assert_int_equal(rdy_engine_read_worker(engine, i, &stats), 0);
        sum += stats.accepted;
        *least = stats.accepted < *least ? stats.accepted : *least;
    }
    return sum;
}

static void crowd_is_served(const struct address *at)
{
    int fds[CLIENTS];

    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = client_connect(at);
        client_asks(fds[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        client_is_answered(fds[i]);
        assert_int_equal(close(fds[i]), 0);
    }
}

static void tcp_connections_are_spread_and_none_is_counted_twice(void **state)
{
    for (uint32_t workers = 1; workers <= 4; workers *= 2) {
        struct rdy_engine *engine = engine_of(state, workers);
        struct address at = serve(engine, loopback());
        uint64_t least;

        crowd_is_served(&at);
        assert_int_equal(accepted_sum(engine, &least), CLIENTS);
        assert_true(least > 0); /* the kernel hashes ports: that one gets none has odds of 10^-8 */
        engine_end(engine, UINT64_MAX);
    }
}

static void unix_connections_are_served_by_whoever_is_first(void **state)
{
    for (uint32_t workers = 1; workers <= 4; workers *= 2) {
        struct rdy_engine *engine = engine_of(state, workers);
        struct address at = serve(engine, unix_name("crowd"));
        uint64_t least;

        crowd_is_served(&at);
        assert_int_equal(accepted_sum(engine, &least), CLIENTS);
        engine_end(engine, UINT64_MAX);
    }
}

struct accepts {
    struct latch latch;
    uint64_t count;
    uint64_t receives;
};

static int poll_reads_accepts(struct rdy_task *task, void *self)
{
    struct accepts *accepts = *(struct accepts **)self;
    struct rdy_completion_stats stats;

    rdy_completion_read_stats(task->runtime, &stats);
    accepts->count += stats.accepts;
    accepts->receives += stats.recvs_armed;
    latch_count(&accepts->latch);
    return 0;
}

static void ask_workers(struct rdy_engine *engine, struct accepts *accepts)
{
    struct rdy_task_spec spec = {.poll = poll_reads_accepts, .self_size = sizeof(accepts)};
    uint32_t asked = latch_read(&accepts->latch);

    for (uint32_t i = 0; i < rdy_engine_workers_count(engine); i++) {
        assert_int_equal(rdy_engine_post(engine, i, &spec, &accepts), 0);
        latch_await(&accepts->latch, ++asked);
    }
}

/*
 * The other worker's thread is held: it cannot be the one who accepts. Who is first in the socket's
 * line of those who wait is chance, hence several rounds.
 */
static void unix_socket_is_served_while_one_worker_is_busy(void **state)
{
    struct rdy_listen_opts listen = {.size = sizeof(listen)};

    for (uint32_t i = 0; i < 10; i++) {
        struct rdy_engine *engine = engine_of(state, 2);
        struct address at = unix_name("held");
        struct accepts accepts = {.latch = LATCH};
        struct block block = BLOCK;
        struct rdy_engine_worker_stats stats;
        uint32_t held = i % 2;
        uint64_t before;

        listen.is_completing = i >= 2;
        assert_int_equal(serve_with(engine, &at, &listen), 0);
        ask_workers(engine, &accepts);
        crowd_is_served(&at); /* after their turns: the kernel knows both */
        assert_int_equal(rdy_engine_read_worker(engine, 1 - held, &stats), 0);
        before = stats.accepted;
        block_worker(engine, held, &block);
        crowd_is_served(&at);
        assert_int_equal(rdy_engine_read_worker(engine, 1 - held, &stats), 0);
        assert_int_equal(stats.accepted, before + CLIENTS);
        latch_count(&block.is_free);
        engine_end(engine, UINT64_MAX);
    }
}

static void engine_may_serve_several_addresses(void **state)
{
    struct rdy_engine *engine = engine_of(state, 2);
    struct address first = serve(engine, loopback());
    struct address second = serve(engine, loopback());
    struct address third = serve(engine, unix_name("third"));
    uint64_t least;

    crowd_is_served(&first);
    crowd_is_served(&second);
    crowd_is_served(&third);
    assert_int_equal(accepted_sum(engine, &least), 3 * CLIENTS);
    engine_end(engine, UINT64_MAX);
}

static void connections_come_by_themselves_to_every_worker(void **state)
{
    bool is_uring = backend_of(state) == RDY_BACKEND_URING;
    struct rdy_listen_opts listen = {.size = sizeof(listen), .is_completing = true};

    for (int is_tcp = 0; is_tcp < 2; is_tcp++) {
        struct rdy_engine *engine = engine_of(state, 2);
        struct address at = is_tcp ? loopback() : unix_name("completing");
        struct accepts accepts = {.latch = LATCH};

        assert_int_equal(serve_with(engine, &at, &listen), 0);
        crowd_is_served(&at);
        crowd_is_served(&at);
        ask_workers(engine, &accepts);
        /* A socket of all workers is accepted from by whoever has time; then all is the same. */
        assert_true((accepts.count > 0) == (is_uring && is_tcp));
        assert_true((accepts.receives > 0) == is_uring);
        engine_end(engine, UINT64_MAX);
    }
}

/* --- the end --- */

/*
 * Both workers are held while the clients come, so that they stand in the queues, with their
 * requests, when the shutdown begins.
 */
static void queue(struct rdy_engine *engine, struct block blocks[2], const struct address *at,
                  int fds[CLIENTS])
{
    for (uint32_t i = 0; i < 2; i++)
        block_worker(engine, i, &blocks[i]);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = client_connect(at);
        client_asks(fds[i]);
    }
}

static void release(struct block blocks[2])
{
    for (uint32_t i = 0; i < 2; i++)
        latch_count(&blocks[i].is_free);
}

static void queue_is_drained(void **state, struct address at)
{
    struct rdy_engine *engine = engine_of(state, 2);
    struct block blocks[2] = {BLOCK, BLOCK};
    int fds[CLIENTS];
    uint64_t least;

    at = serve(engine, at);
    queue(engine, blocks, &at, fds);
    assert_int_equal(rdy_engine_shutdown(engine, UINT64_MAX), 0);
    release(blocks);
    for (int i = 0; i < CLIENTS; i++) {
        char byte;

        client_is_answered(fds[i]);
        assert_int_equal(read(fds[i], &byte, 1), 0);
        assert_int_equal(close(fds[i]), 0);
    }
    assert_int_equal(rdy_engine_join(engine, NULL), 0);
    assert_int_equal(accepted_sum(engine, &least), CLIENTS);
    rdy_engine_close(engine);
}

static void tcp_clients_in_the_queue_are_answered_at_a_shutdown(void **state)
{
    queue_is_drained(state, loopback());
}

static void unix_clients_in_the_queue_are_answered_at_a_shutdown(void **state)
{
    queue_is_drained(state, unix_name("drain"));
}

static void without_grace_the_queue_is_reset(void **state)
{
    struct rdy_engine *engine = engine_of(state, 2);
    struct address at = serve(engine, loopback());
    struct block blocks[2] = {BLOCK, BLOCK};
    int fds[CLIENTS];

    queue(engine, blocks, &at, fds);
    assert_int_equal(rdy_engine_shutdown(engine, 0), 0);
    release(blocks);
    for (int i = 0; i < CLIENTS; i++) {
        char byte;

        assert_int_equal(read(fds[i], &byte, 1), -1);
        assert_int_equal(errno, ECONNRESET);
        assert_int_equal(close(fds[i]), 0);
    }
    rdy_engine_close(engine);
}

static void port_is_free_once_the_workers_have_ended(void **state)
{
    struct rdy_engine *engine = engine_of(state, 2);
    struct rdy_engine *other = engine_of(state, 2);
    struct address at = serve(engine, loopback());

    crowd_is_served(&at);
    assert_int_equal(rdy_engine_shutdown(engine, UINT64_MAX), 0);
    assert_int_equal(rdy_engine_join(engine, NULL), 0);
    assert_int_equal(serve_with(other, &at, NULL), 0);
    crowd_is_served(&at);
    rdy_engine_close(engine);
    crowd_is_served(&at);
    engine_end(other, 0);
}

/* --- failures --- */

static int poll_dies(struct rdy_task *task, void *self)
{
    (void)self;
    return lose_the_kernel(task) == 0 ? RDY_PENDING : 0;
}

/* True if the connection is still served. One that was closed with a byte unread is reset. */
static bool is_served(int fd)
{
    char byte = 'x';
    ssize_t got = -1;

    if (send(fd, &byte, 1, MSG_NOSIGNAL) == 1)
        got = read(fd, &byte, 1);
    assert_true(got >= 0 || errno == ECONNRESET || errno == EPIPE);
    return got == 1;
}

/* Its ring had a hold on its files: clients would wait for ever, and new ones not be accepted. */
static void clients_of_a_worker_that_died_see_the_end_and_new_ones_are_served(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 2);
    struct rdy_task_spec death = {.poll = poll_dies};
    struct rdy_engine_failure failure = {0};
    struct rdy_engine_worker_stats stats;
    struct rdy_engine *engine;
    struct address at;
    uint32_t served = 0;
    int fds[CLIENTS];

    opts.survives_deaths = true;
    engine = engine_open(&opts);
    at = serve(engine, loopback());
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = client_connect(&at);
        client_asks(fds[i]);
        client_is_answered(fds[i]);
    }
    assert_int_equal(rdy_engine_post(engine, 0, &death, NULL), 0);
    assert_int_equal(rdy_engine_wait(engine, NULL, &failure), -EPERM);
    assert_int_equal(failure.worker, 0);
    for (int i = 0; i < CLIENTS; i++) {
        served += is_served(fds[i]);
        assert_int_equal(close(fds[i]), 0);
    }
    assert_int_equal(rdy_engine_read_worker(engine, 0, &stats), 0);
    assert_int_equal(stats.accepted, CLIENTS - served);
    do { /* what it had not closed yet when it was reported */
        assert_int_equal(rdy_engine_read_worker(engine, 0, &stats), 0);
    } while (!stats.has_ended);
    crowd_is_served(&at);
    assert_int_equal(rdy_engine_shutdown(engine, 0), 0);
    assert_int_equal(rdy_engine_join(engine, NULL), -EPERM);
    rdy_engine_close(engine);
}

static void taken_port_is_refused_unless_sharing_is_meant(void **state)
{
    struct rdy_listen_opts shared = {.size = sizeof(shared), .is_reuseport = true};
    struct rdy_engine *engine = engine_of(state, 2);
    struct rdy_engine *other = engine_of(state, 2);
    struct address at = loopback();

    assert_int_equal(serve_with(engine, &at, NULL), 0);
    assert_int_equal(serve_with(other, &at, NULL), -EADDRINUSE);
    assert_int_equal(serve_with(other, &at, &shared), 0);
    engine_end(engine, 0);
    crowd_is_served(&at);
    engine_end(other, 0);
}

static void bad_calls_are_refused(void **state)
{
    struct rdy_engine *engine = engine_of(state, 2);
    struct address at = loopback();
    struct rdy_task_spec small = {.poll = echo_poll, .self_size = 8};
    struct rdy_engine_serve_opts what = {
        .size = sizeof(what),
        .addr = (struct sockaddr *)&at.addr,
        .addr_len = at.len,
        .session = &small,
    };

    assert_int_equal(rdy_engine_serve(engine, &what, NULL, NULL), -EINVAL);
    what.session = NULL;
    assert_int_equal(rdy_engine_serve(engine, &what, NULL, NULL), -EINVAL);
    what.session = &echo_spec;
    what.addr_len = 1;
    assert_int_equal(rdy_engine_serve(engine, &what, NULL, NULL), -EINVAL);
    what.addr_len = at.len;
    what.size--;
    assert_int_equal(rdy_engine_serve(engine, &what, NULL, NULL), -EINVAL);
    what.size++;
    what.listen = (struct rdy_listen_opts){.size = 3};
    assert_int_equal(rdy_engine_serve(engine, &what, NULL, NULL), -EINVAL);
    what.listen.size = 0;
    assert_int_equal(rdy_engine_serve(engine, &what, NULL, NULL), 0);
    assert_int_equal(rdy_engine_shutdown(engine, 0), 0);
    assert_int_equal(rdy_engine_serve(engine, &what, NULL, NULL), -ESHUTDOWN);
    rdy_engine_close(engine);
}

/*
 * Each system call of the serving thread fails once; then it works, and nothing is in the way. The
 * workers are held: one that sleeps is woken by a write that cannot fail, and must not here.
 */
static void each_call_that_fails_leaves_nothing_open(void **state, struct address at)
{
    uint32_t fds = fds_open();
    struct rdy_engine *engine = engine_of(state, 2);
    struct block blocks[2] = {BLOCK, BLOCK};
    struct address chosen = at;
    uint32_t failures = 0;
    bool was_injected = true;
    int rc = -ENOBUFS;

    for (uint32_t i = 0; i < 2; i++)
        block_worker(engine, i, &blocks[i]);
    /* Some may fail unnoticed, what a socket can do without: then it serves, at a new port each. */
    for (uint64_t nth = 1; nth < 100 && was_injected; nth++) {
        chosen = at;
        (void)rdy_sys_fail_nth(nth, ENOBUFS);
        rc = serve_with(engine, &chosen, NULL);
        was_injected = rdy_sys_fail_nth(0, 0) >= nth;
        assert_true(rc == 0 || rc == -ENOBUFS);
        failures += rc < 0;
    }
    assert_false(was_injected);
    assert_int_equal(rc, 0);
    assert_true(failures >= 4);
    release(blocks);
    crowd_is_served(&chosen);
    engine_end(engine, UINT64_MAX);
    assert_int_equal(fds_open(), fds);
}

static void each_call_that_fails_on_tcp_leaves_nothing_open(void **state)
{
    each_call_that_fails_leaves_nothing_open(state, loopback());
}

static void each_call_that_fails_on_unix_leaves_nothing_open(void **state)
{
    each_call_that_fails_leaves_nothing_open(state, unix_name("fails"));
}

/* A file that a failure left behind would refuse the next try. */
static void each_call_that_fails_on_a_unix_path_leaves_no_file(void **state)
{
    char folder[] = "/tmp/rdy-test-XXXXXX";
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct address address = {.len = sizeof(addr)};

    assert_non_null(mkdtemp(folder));
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/socket", folder);
    memcpy(&address.addr, &addr, sizeof(addr));
    each_call_that_fails_leaves_nothing_open(state, address);
    assert_int_equal(unlink(addr.sun_path), 0);
    assert_int_equal(rmdir(folder), 0);
}

/* The last worker's driver has no room for a listener: those of the others go, too. */
static void driver_without_room_ends_the_serving_of_all(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 2);
    uint32_t fds = fds_open();
    struct rdy_engine *engine;
    struct address at = loopback();
    int full = 0;
    int rc;

    opts.runtime.driver.entries_max = 2;
    engine = engine_open(&opts);
    for (int i = 0; i < 3; i++) {
        struct address one = loopback();

        rc = serve_with(engine, &one, NULL);
        full += rc == -ENFILE;
        at = rc == 0 ? one : at;
    }
    assert_int_equal(full, 1);
    engine_end(engine, 0);
    assert_int_equal(fds_open(), fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_ON_BOTH(tcp_connections_are_spread_and_none_is_counted_twice),
        ENGINE_ON_BOTH(unix_connections_are_served_by_whoever_is_first),
        ENGINE_ON_BOTH(unix_socket_is_served_while_one_worker_is_busy),
        ENGINE_ON_BOTH(engine_may_serve_several_addresses),
        ENGINE_ON_BOTH(connections_come_by_themselves_to_every_worker),
        ENGINE_ON_BOTH(tcp_clients_in_the_queue_are_answered_at_a_shutdown),
        ENGINE_ON_BOTH(unix_clients_in_the_queue_are_answered_at_a_shutdown),
        ENGINE_ON_BOTH(without_grace_the_queue_is_reset),
        ENGINE_ON_BOTH(port_is_free_once_the_workers_have_ended),
        ENGINE_ON_BOTH(clients_of_a_worker_that_died_see_the_end_and_new_ones_are_served),
        ENGINE_ON_BOTH(taken_port_is_refused_unless_sharing_is_meant),
        ENGINE_ON_BOTH(bad_calls_are_refused),
        ENGINE_ON_BOTH(each_call_that_fails_on_tcp_leaves_nothing_open),
        ENGINE_ON_BOTH(each_call_that_fails_on_unix_leaves_nothing_open),
        ENGINE_ON_BOTH(each_call_that_fails_on_a_unix_path_leaves_no_file),
        ENGINE_ON_BOTH(driver_without_room_ends_the_serving_of_all),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
