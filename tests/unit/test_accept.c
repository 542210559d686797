/* SPDX-License-Identifier: MIT */
/*
 * Accepting: how often a task is polled for it, many connections behind one event, and connections
 * whose listener goes; on both backends.
 */
#include "tests/support/connecting.h"

#include <rdy/unix.h>

#define MANY 50

static struct pair pair;

static void accept_on(int family)
{
    struct rdy_address any_port = loopback_at(family, 0);

    assert_int_equal(rdy_listener_open(&pair.listener, pair.runtime, sockaddr_at(&any_port),
                                       any_port.addr_len, NULL),
                     0);
}

/* A plain connection to the listener, from within this thread. */
static int dial_family(int family)
{
    struct rdy_address address = {0};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(rdy_listener_address(&pair.listener, &address.addr, &address.addr_len), 0);
    assert_int_equal(connect(fd, sockaddr_at(&address), address.addr_len), 0);
    return fd;
}

static void accepted_stream_knows_both_addresses(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};

    for (int i = 0; i < 2; i++) {
        struct rdy_address listening = {0};
        struct rdy_address ours = {0};
        struct rdy_address theirs = {0};
        struct rdy_address peer = {.addr_len = sizeof(peer.addr)};

        pair_open(&pair, state);
        accept_on(families[i]);
        pair.peer = dial_family(families[i]);
        (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        assert_int_equal(rdy_listener_address(&pair.listener, &listening.addr, &listening.addr_len),
                         0);
        assert_int_equal(rdy_stream_local_address(&pair.server, &ours.addr, &ours.addr_len), 0);
        assert_int_equal(rdy_stream_peer_address(&pair.server, &theirs.addr, &theirs.addr_len), 0);
        assert_int_equal(getsockname(pair.peer, sockaddr_at(&peer), &peer.addr_len), 0);
        assert_same_address(&ours, &listening);
        assert_same_address(&theirs, &peer);
        pair_close(&pair);
    }
}

/* Once when it begins, once for a connection: the wake-up is no more than one. */
static void waiting_task_is_polled_once_for_a_connection(void **state)
{
    pair_open(&pair, state);
    accept_on(AF_INET);
    let_driver_turn(&pair);
    pair.result = RDY_PENDING;
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    let_driver_turn(&pair);
    assert_int_equal(pair.result, RDY_PENDING);
    assert_int_equal(pair.polls, 1);
    let_driver_turn(&pair);
    assert_int_equal(pair.polls, 1);

    pair.peer = dial_family(AF_INET);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    assert_int_equal(pair.result, 0);
    assert_int_equal(pair.polls, 2);
    pair_close(&pair);
}

static struct rdy_stream streams[MANY];

static int poll_accepts_many(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);

    my->polls++;
    while (my->have < MANY) {
        int rc = rdy_listener_poll_accept(&my->listener, task, &streams[my->have]);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(rc, 0);
        my->have++;
    }
    return 0;
}

static void many_connections_come_out_of_one_event(void **state)
{
    int peers[MANY];

    pair_open(&pair, state);
    accept_on(AF_INET);
    (void)spawn_test(pair.runtime, poll_accepts_many, NULL, &pair);
    let_driver_turn(&pair);
    for (int i = 0; i < MANY; i++)
        peers[i] = dial_family(AF_INET);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.have, MANY);
    assert_in_range(pair.polls, 2, 3);
    for (int i = 0; i < MANY; i++) {
        rdy_stream_close(&streams[i]);
        assert_int_equal(close(peers[i]), 0);
    }
    pair_close(&pair);
}

/* The slot of poll_accept() is for one task; waits beside it there may be as many as one likes. */
struct waiter {
    struct rdy_readiness wait;
    int polls;
    bool has_heard;
};

static int poll_waits_beside_others(struct rdy_task *task, void *self)
{
    struct waiter *waiter = ((struct test_task *)self)->test;
    struct rdy_waker waker = rdy_task_waker(task);
    struct rdy_event event;
    int rc = rdy_readiness_poll(&waiter->wait, &waker, &event);

    waiter->polls++;
    if (rc == RDY_PENDING)
        return RDY_PENDING;
    assert_int_equal(rc, 0);
    waiter->has_heard = (rdy_event_ready(event) & RDY_READABLE) != 0;
    return 0;
}

static void all_who_wait_for_a_listener_hear_of_one_connection(void **state)
{
    static struct waiter waiters[MANY];

    pair_open(&pair, state);
    accept_on(AF_INET);
    memset(waiters, 0, sizeof(waiters));
    for (int i = 0; i < MANY; i++) {
        rdy_readiness_init(&waiters[i].wait, &pair.listener.reg, RDY_INTEREST_READ);
        (void)spawn_test(pair.runtime, poll_waits_beside_others, NULL, &waiters[i]);
    }
    pair.result = RDY_PENDING;
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    let_driver_turn(&pair);
    pair.peer = dial_family(AF_INET);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    assert_int_equal(pair.result, 0);
    for (int i = 0; i < MANY; i++) {
        assert_true(waiters[i].has_heard);
        assert_int_equal(waiters[i].polls, 2);
    }
    pair_close(&pair);
}

/* The connection was in the queue of a listener that closed: its end is told, not waited for. */
static void connection_in_the_queue_of_a_closed_listener_is_reset(void **state)
{
    struct sockaddr_un addr;
    socklen_t addr_len = 0;

    pair_open(&pair, state);
    assert_int_equal(rdy_unix_address(&addr, &addr_len, "@rdy-test-accept-queue"), 0);
    for (int is_waiting = 0; is_waiting < 2; is_waiting++) {
        assert_int_equal(rdy_listener_open(&pair.listener, pair.runtime, (struct sockaddr *)&addr,
                                           addr_len, NULL),
                         0);
        assert_int_equal(rdy_stream_start_connect(&pair.server, pair.runtime,
                                                  (struct sockaddr *)&addr, addr_len),
                         0);
        pair.result = RDY_PENDING;
        if (is_waiting) {
            (void)spawn_test(pair.runtime, poll_reads_once, NULL, &pair);
            let_driver_turn(&pair);
            assert_int_equal(pair.result, RDY_PENDING);
        }
        rdy_listener_close(&pair.listener);
        if (!is_waiting) {
            let_driver_turn(&pair);
            (void)spawn_test(pair.runtime, poll_reads_once, NULL, &pair);
        }
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        assert_int_equal(pair.result, -ECONNRESET);
        rdy_stream_close(&pair.server);
        let_driver_turn(&pair);
    }
    pair_close(&pair);
}

static void acceptor_given_up_leaves_the_connection(void **state)
{
    struct rdy_task_id id;

    pair_open(&pair, state);
    accept_on(AF_INET6);
    pair.result = RDY_PENDING;
    id = spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    let_driver_turn(&pair);
    pair.peer = dial_family(AF_INET6);
    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    let_driver_turn(&pair);
    assert_int_equal(pair.result, RDY_PENDING);
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.result, 0);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(accepted_stream_knows_both_addresses),
        ON_BOTH(waiting_task_is_polled_once_for_a_connection),
        ON_BOTH(many_connections_come_out_of_one_event),
        ON_BOTH(all_who_wait_for_a_listener_hear_of_one_connection),
        ON_BOTH(connection_in_the_queue_of_a_closed_listener_is_reset),
        ON_BOTH(acceptor_given_up_leaves_the_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
