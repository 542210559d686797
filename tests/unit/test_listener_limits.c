/* SPDX-License-Identifier: MIT */
/*
 * A listener whose driver takes no more registrations: connections stay in the queue. Streams that
 * the last task of a run closed: their peers are told. Sessions that nobody could start: refused.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <poll.h>

#include <rdy/serve.h>

#define MANY        200
#define ENTRIES_MAX 2u /* the listener and one connection */

static void open_small(struct pair *pair, void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);

    opts.driver.entries_max = ENTRIES_MAX;
    rdy_runtime_close(fixture->runtime);
    assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
    pair_open(pair, state);
}

static void connection_waits_in_the_queue_while_no_registration_is_free(void **state)
{
    static struct pair pair;
    struct pollfd peer = {.events = POLLIN | POLLRDHUP};

    /* given a driver that has room for one connection, and has it */
    open_small(&pair, state);
    pair_accept(&pair);
    pair.client = pair.server;
    pair.server = (struct rdy_stream){.fd = -1};
    peer.fd = dial(&pair);

    /* when another is to be accepted */
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    /* then that fails, and it is taken as soon as there is room */
    assert_int_equal(pair.result, -ENFILE);
    assert_int_equal(poll(&peer, 1, 0), 0);
    rdy_stream_close(&pair.client);
    let_driver_turn(&pair);
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.result, 0);
    assert_int_equal(send(peer.fd, "hello", 5, MSG_NOSIGNAL), 5);
    assert_int_equal(read_once(&pair), 5);
    assert_int_equal(close(peer.fd), 0);
    pair_close(&pair);
}

static int poll_closes(struct rdy_task *task, void *self)
{
    (void)task;
    rdy_stream_close(&pair_of(self)->server);
    return 0;
}

static void peer_is_told_of_what_the_last_task_closed(void **state)
{
    static struct pair pair;
    struct pollfd peer = {.events = POLLRDHUP};

    pair_open(&pair, state);
    pair_accept(&pair);
    let_driver_turn(&pair);
    peer.fd = pair.peer;

    (void)spawn_test(pair.runtime, poll_closes, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    assert_int_equal(poll(&peer, 1, 5000), 1);
    assert_true(peer.revents & POLLRDHUP);
    pair_close(&pair);
}

static int poll_closes_all(struct rdy_task *task, void *self)
{
    struct rdy_stream *streams = ((struct test_task *)self)->test;

    (void)task;
    for (int i = 0; i < MANY; i++)
        rdy_stream_close(&streams[i]);
    return 0;
}

/* More than the kernel lets go of in one turn. */
static void every_peer_is_told_of_what_the_last_task_closed(void **state)
{
    static struct rdy_stream streams[MANY];
    static struct pair pair;
    int peers[MANY];

    pair_open(&pair, state);
    for (int i = 0; i < MANY; i++) {
        pair_unix(&pair);
        streams[i] = pair.server;
        peers[i] = pair.peer;
    }
    pair.server = (struct rdy_stream){.fd = -1};
    pair.peer = -1;
    let_driver_turn(&pair);

    (void)spawn_test(pair.runtime, poll_closes_all, NULL, streams);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    for (int i = 0; i < MANY; i++) {
        struct pollfd peer = {.fd = peers[i], .events = POLLRDHUP};

        assert_int_equal(poll(&peer, 1, 0), 1);
        assert_int_equal(close(peers[i]), 0);
    }
    assert_int_equal(driver_stats(pair.runtime).entries_live, 0);
}

static int poll_connects_again(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);
    int rc = rdy_stream_poll_connect(&pair->client, task);

    if (rc == RDY_PENDING)
        return RDY_PENDING;
    pair->result = rc;
    return rdy_stream_poll_connect(&pair->client, task);
}

static int poll_asks_again(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);

    pair->result = rdy_stream_poll_connect(&pair->client, task);
    return 0;
}

/* The kernel tells an error once; a stream that failed must not pass for connected afterwards. */
static void failed_connection_stays_failed(void **state)
{
    static struct pair pair;
    socklen_t addr_len = 0;
    struct sockaddr_storage addr;

    pair_open(&pair, state);
    addr = pair_listen(&pair, &addr_len);
    rdy_listener_close(&pair.listener);
    let_driver_turn(&pair);
    assert_int_equal(
        rdy_stream_start_connect(&pair.client, pair.runtime, (struct sockaddr *)&addr, addr_len),
        0);
    (void)spawn_test(pair.runtime, poll_connects_again, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.result, -ECONNREFUSED);

    (void)spawn_test(pair.runtime, poll_asks_again, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    assert_int_equal(pair.result, -ECONNREFUSED);
    pair_close(&pair);
}

static int poll_ends(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return 0;
}

/* Otherwise the first connection would find out, and end the accept loop for all that follow. */
static void session_that_could_never_be_spawned_is_refused_at_once(void **state)
{
    static struct pair pair;
    struct rdy_task_spec large = {.poll = poll_ends, .self_size = 1024 * 1024};
    struct rdy_task_spec small = {.poll = poll_ends, .self_size = sizeof(struct rdy_stream) - 1};
    struct rdy_task_spec idle = {.self_size = sizeof(struct rdy_stream)};
    socklen_t addr_len = 0;

    pair_open(&pair, state);
    (void)pair_listen(&pair, &addr_len);

    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, &large, NULL), -EINVAL);
    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, &small, NULL), -EINVAL);
    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, &idle, NULL), -EINVAL);

    assert_int_equal(runtime_stats(pair.runtime).tasks_live, 0);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(connection_waits_in_the_queue_while_no_registration_is_free),
        ON_BOTH(peer_is_told_of_what_the_last_task_closed),
        ON_BOTH(every_peer_is_told_of_what_the_last_task_closed),
        ON_BOTH(failed_connection_stays_failed),
        ON_BOTH(session_that_could_never_be_spawned_is_refused_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
