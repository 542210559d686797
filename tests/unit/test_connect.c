/* SPDX-License-Identifier: MIT */
/*
 * Connecting, and how it ends; on both backends.
 */
#include "tests/support/connecting.h"

#include <rdy/timer.h>

static const int families[] = {AF_INET, AF_INET6};

#define FAMILIES_COUNT 2

static struct pair pair;
static struct target target;

static int start(void)
{
    return rdy_stream_start_connect(&pair.client, pair.runtime, sockaddr_at(&target.address),
                                    target.address.addr_len);
}

/* The answer of the connection: at once, or when it is there. */
static int run_connect(void)
{
    int rc = start();

    if (rc < 0)
        return rc;
    (void)spawn_test(pair.runtime, poll_connects, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    return (int)pair.result;
}

static int option_of(int fd, int level, int name)
{
    socklen_t size = sizeof(int);
    int value = -1;

    assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

/* --- how it ends --- */

static void connection_is_made_or_refused_or_unreachable(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        pair_open(&pair, state);
        target = target_that_accepts(families[i]);
        assert_int_equal(run_connect(), 0);
        target_close(&target);
        pair_close(&pair);

        target = target_that_refuses(families[i]);
        assert_int_equal(run_connect(), -ECONNREFUSED);
        target_close(&target);
        pair_close(&pair);
    }
    target.address = unreachable_address();
    assert_int_equal(start(), -ENETUNREACH);
    assert_int_equal(pair.client.fd, -1);
}

static int poll_connects_in_time(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);
    uint64_t deadline_ns = my->have;
    int rc = RDY_TIMEOUT(&my->timer, task, deadline_ns, rdy_stream_poll_connect(&my->client, task));

    if (rc != RDY_PENDING)
        my->result = rc;
    return rc;
}

static void connection_that_never_answers_meets_its_deadline(void **state)
{
    struct holdings before;

    pair_open(&pair, state);
    target = target_that_never_answers(AF_INET);
    rdy_runtime_pause_clock(pair.runtime);
    before = holdings_now(pair.runtime);
    assert_int_equal(start(), 0);
    pair.have = rdy_runtime_now_ns(pair.runtime) + 5000000000u;

    (void)spawn_test(pair.runtime, poll_connects_in_time, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), -0);

    assert_int_equal(pair.result, -ETIMEDOUT);
    assert_true(rdy_timer_has_fired(&pair.timer));
    assert_int_equal(rdy_runtime_now_ns(pair.runtime), pair.have);
    rdy_stream_close(&pair.client);
    assert_nothing_leaked(pair.runtime, before);
    target_close(&target);
    pair_close(&pair);
}

/*
 * A wake-up of the socket that has another reason. On a ring it comes as "writable", though there
 * is no connection: a larger send buffer wakes those who wait to write.
 */
static void wake_up_with_another_reason_is_no_connection(void **state)
{
    struct rdy_task_id id;

    pair_open(&pair, state);
    target = target_that_never_answers(AF_INET);
    assert_int_equal(start(), 0);
    pair.result = RDY_PENDING;
    id = spawn_test(pair.runtime, poll_connects, NULL, &pair);
    let_driver_turn(&pair);

    for (int size = 8192; size <= 65536; size *= 2) {
        assert_int_equal(setsockopt(pair.client.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
        let_driver_turn(&pair);
        assert_int_equal(pair.result, RDY_PENDING);
    }

    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    target_close(&target);
    pair_close(&pair);
}

/* Somebody else fetched the error from the descriptor: no wait without an end. */
static void connection_whose_error_is_gone_is_not_connected(void **state)
{
    pair_open(&pair, state);
    target = target_that_refuses(AF_INET);
    assert_int_equal(start(), 0);
    assert_int_equal(option_of(pair.client.fd, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    (void)spawn_test(pair.runtime, poll_connects, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.result, -ENOTCONN);
    target_close(&target);
    pair_close(&pair);
}

static void connection_given_up_leaves_nothing(void **state)
{
    struct holdings before;
    struct rdy_task_id id;

    pair_open(&pair, state);
    target = target_that_never_answers(AF_INET6);
    before = holdings_now(pair.runtime);
    assert_int_equal(start(), 0);
    id = spawn_test(pair.runtime, poll_connects, NULL, &pair);
    let_driver_turn(&pair);
    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    rdy_stream_close(&pair.client);
    rdy_stream_close(&pair.client);
    assert_nothing_leaked(pair.runtime, before);
    target_close(&target);
    pair_close(&pair);
}

/* --- failing system calls --- */

static struct fault poll_fault;

static int poll_connects_with_a_fault(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);
    int rc;

    fault_begin(&poll_fault);
    rc = rdy_stream_poll_connect(&my->client, task);
    fault_end(&poll_fault);
    if (rc != RDY_PENDING)
        my->result = rc;
    return rc;
}

static void failing_call_while_connecting_is_handed_on(void **state)
{
    pair_open(&pair, state);
    target = target_that_accepts(AF_INET);
    for (uint64_t nth = 1; nth <= 3; nth++) {
        struct holdings before = holdings_now(pair.runtime);

        assert_int_equal(start(), 0);
        poll_fault = (struct fault){.left = nth, .error = ENOBUFS};
        (void)spawn_test(pair.runtime, poll_connects_with_a_fault, NULL, &pair);
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        assert_int_equal(pair.result, poll_fault.has_come ? -ENOBUFS : 0);
        assert_int_equal(poll_fault.has_come, nth < 3); /* the error, and the peer */
        rdy_stream_close(&pair.client);
        assert_nothing_leaked(pair.runtime, before);
    }
    target_close(&target);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(connection_is_made_or_refused_or_unreachable),
        ON_BOTH(connection_that_never_answers_meets_its_deadline),
        ON_BOTH(wake_up_with_another_reason_is_no_connection),
        ON_BOTH(connection_whose_error_is_gone_is_not_connected),
        ON_BOTH(connection_given_up_leaves_nothing),
        ON_BOTH(failing_call_while_connecting_is_handed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
