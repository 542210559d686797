/* SPDX-License-Identifier: MIT */
/*
 * The budget: whatever has an answer costs one operation, so that a task which takes answer after
 * answer leaves its poll after task_budget of them. Counted in polls and operations.
 */
#include "tests/support/datagrams.h"

#include <rdy/net.h>
#include <rdy/timer.h>

#define BUDGET 128u
/* Where an operation is free its loop would not end. */
#define OPERATIONS_MAX 100000u

static int plain_fds[2];

/* Every kind of call that a task may repeat. */
struct spender {
    struct rdy_runtime *runtime;
    struct rdy_stream stream;
    struct rdy_listener listener;
    struct rdy_datagram datagram;
    struct rdy_timer timer;
    struct rdy_interval interval;
    struct rdy_join join;
    struct sockaddr_in addr;
    int (*operation)(struct spender *spender, struct rdy_task *task);
    uint32_t operations;
    uint32_t polls;
};

static int op_read(struct spender *spender, struct rdy_task *task)
{
    char byte;

    return (int)rdy_stream_poll_read(&spender->stream, task, &byte, 1);
}

static int op_write(struct spender *spender, struct rdy_task *task)
{
    return (int)rdy_stream_poll_write(&spender->stream, task, "x", 1);
}

static int op_accept(struct spender *spender, struct rdy_task *task)
{
    struct rdy_stream stream = {.fd = -1};
    int rc = rdy_listener_poll_accept(&spender->listener, task, &stream);

    rdy_stream_close(&stream);
    return rc;
}

static int op_connect(struct spender *spender, struct rdy_task *task)
{
    return rdy_stream_poll_connect(&spender->stream, task);
}

static int op_recv(struct spender *spender, struct rdy_task *task)
{
    char byte;

    return (int)rdy_datagram_poll_recv(&spender->datagram, task, &byte, 1, NULL);
}

static int op_send(struct spender *spender, struct rdy_task *task)
{
    return (int)rdy_datagram_poll_send_to(&spender->datagram, task, "x", 1,
                                          (struct sockaddr *)&spender->addr, sizeof(spender->addr));
}

static int op_sleep_that_is_over(struct spender *spender, struct rdy_task *task)
{
    return rdy_timer_poll_until(&spender->timer, task, 1);
}

static int op_tick(struct spender *spender, struct rdy_task *task)
{
    return rdy_interval_poll_tick(&spender->interval, task, NULL);
}

static int op_join(struct spender *spender, struct rdy_task *task)
{
    int result;

    return rdy_task_poll_join(&spender->join, task, &result);
}

static int op_charge(struct spender *spender, struct rdy_task *task)
{
    (void)spender;
    return rdy_task_charge(task);
}

static int op_timeout(struct spender *spender, struct rdy_task *task)
{
    return RDY_TIMEOUT(&spender->timer, task, UINT64_MAX, op_charge(spender, task));
}

/* Takes answers, good or bad, until there is none in this poll; waits for the first. */
static int poll_spends(struct rdy_task *task, void *self)
{
    struct spender *spender = ((struct test_task *)self)->test;

    spender->polls++;
    spender->operations = 0;
    while (spender->operations < OPERATIONS_MAX && spender->operation(spender, task) != RDY_PENDING)
        spender->operations++;
    return spender->operations == 0 ? RDY_PENDING : 0;
}

static uint32_t operations_in_one_poll(struct spender *spender,
                                       int (*operation)(struct spender *, struct rdy_task *))
{
    spender->operation = operation;
    (void)spawn_test(spender->runtime, poll_spends, NULL, spender);
    (void)!rdy_runtime_run(spender->runtime); /* some run with a driver that was shut down */
    return spender->operations;
}

static int poll_ends(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return 0;
}

static void spender_open(struct spender *spender, void **state)
{
    struct sockaddr_in any_port = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_storage bound;
    socklen_t len = 0;

    memset(spender, 0, sizeof(*spender));
    spender->runtime = runtime_of(state);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, plain_fds),
                     0);
    assert_int_equal(rdy_stream_from_fd(&spender->stream, spender->runtime, plain_fds[0]), 0);
    assert_int_equal(rdy_listener_open(&spender->listener, spender->runtime,
                                       (struct sockaddr *)&any_port, sizeof(any_port), NULL),
                     0);
    assert_int_equal(rdy_datagram_open(&spender->datagram, spender->runtime, AF_INET, NULL), 0);
    assert_int_equal(
        rdy_datagram_bind(&spender->datagram, (struct sockaddr *)&any_port, sizeof(any_port)), 0);
    assert_int_equal(rdy_datagram_local_address(&spender->datagram, &bound, &len), 0);
    memcpy(&spender->addr, &bound, sizeof(spender->addr));
}

static void spender_close(struct spender *spender)
{
    rdy_stream_close(&spender->stream);
    rdy_listener_close(&spender->listener);
    rdy_datagram_close(&spender->datagram);
    assert_int_equal(close(plain_fds[1]), 0);
}

static void each_kind_of_answer_pays(void **state)
{
    static struct spender spender;
    char many[4096] = {0};
    struct rdy_task_id id;

    spender_open(&spender, state);
    assert_int_equal(write(plain_fds[1], many, sizeof(many)), sizeof(many));
    assert_int_equal(rdy_interval_start(&spender.interval, 1, 1, RDY_MISSED_BURST), 0);
    id = spawn_test(spender.runtime, poll_ends, NULL, NULL);
    assert_int_equal(rdy_join_open(&spender.join, spender.runtime, id), 0);
    assert_int_equal(rdy_runtime_run(spender.runtime), 0);

    assert_int_equal(operations_in_one_poll(&spender, op_charge), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_read), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_write), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_connect), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_send), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_recv), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_sleep_that_is_over), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_tick), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_join), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_timeout), BUDGET);
    assert_true(runtime_stats(spender.runtime).budget_yields > 0);
    rdy_interval_stop(&spender.interval);
    spender_close(&spender);
}

/* A loop that goes on after an error is a bad one, but not one that may stop the runtime. */
static void errors_pay_as_answers_do(void **state)
{
    static struct spender spender;

    spender_open(&spender, state);
    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(spender.runtime)), 0);

    assert_int_equal(operations_in_one_poll(&spender, op_read), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_write), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_accept), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_send), BUDGET);
    assert_int_equal(operations_in_one_poll(&spender, op_recv), BUDGET);
    spender_close(&spender);
}

/* Sends a datagram to itself and receives it, many times: two operations each. */
struct exchange {
    struct ends *ends;
    uint32_t exchanges;
    uint32_t polls;
    bool has_sent;
};

#define EXCHANGES 1000u

static int poll_exchanges(struct rdy_task *task, void *self)
{
    struct exchange *exchange = ((struct test_task *)self)->test;
    struct ends *ends = exchange->ends;
    ssize_t count;

    exchange->polls++;
    while (exchange->exchanges < EXCHANGES) {
        if (!exchange->has_sent) {
            count = rdy_datagram_poll_send_to(&ends->one, task, "x", 1, sockaddr_of(&ends->to),
                                              ends->to.len);
            if (count == RDY_PENDING)
                return RDY_PENDING;
            assert_int_equal(count, 1);
            exchange->has_sent = true;
        }
        count = rdy_datagram_poll_recv(&ends->other, task, ends->buf, ends->buf_len, NULL);
        if (count == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(count, 1);
        exchange->has_sent = false;
        exchange->exchanges++;
    }
    return 0;
}

/* Two operations each: the polls are as many as budgets are used up, and one that waited. */
static void busy_exchange_takes_as_many_polls_as_budgets(void **state)
{
    static struct ends ends;
    struct exchange exchange = {.ends = &ends};

    ends_open(&ends, state);
    (void)bind_loopback(&ends, &ends.one, AF_INET);
    ends.to = bind_loopback(&ends, &ends.other, AF_INET);
    (void)spawn_test(ends.runtime, poll_exchanges, NULL, &exchange);

    assert_int_equal(rdy_runtime_run(ends.runtime), 0);

    assert_int_equal(exchange.exchanges, EXCHANGES);
    assert_true(exchange.polls >= 2 * EXCHANGES / BUDGET);
    assert_true(exchange.polls <= 2 * EXCHANGES / BUDGET + 2);
    assert_true(runtime_stats(ends.runtime).budget_yields >= 2 * EXCHANGES / BUDGET);
    ends_close(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(each_kind_of_answer_pays),
        ON_BOTH(errors_pay_as_answers_do),
        ON_BOTH(busy_exchange_takes_as_many_polls_as_budgets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
