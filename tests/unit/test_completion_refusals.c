/* SPDX-License-Identifier: MIT */
/*
 * Completion mode, and calls without an answer: on what was closed, in a poll whose budget is used
 * up, for a datagram that no network carries. On io_uring, on epoll and on the fake.
 */
#include "tests/support/rig.h"

#include <rdy/datagram_completion.h>
#include <rdy/rdy.h>

/* A call, made first in a poll that has no budget left. */
struct spent {
    struct rig *rig;
    struct rdy_datagram *datagram;
    int (*fn)(struct spent *spent, struct rdy_task *task);
    int refused;
    int result;
    uint32_t polls;
};

static int poll_spent(struct rdy_task *task, void *self)
{
    struct spent *spent = ((struct test_task *)self)->test;

    if (++spent->polls == 1) {
        while (rdy_task_charge(task) == 0)
            ;
        spent->refused = spent->fn(spent, task);
        return RDY_PENDING;
    }
    spent->result = spent->fn(spent, task);
    return spent->result == RDY_PENDING ? RDY_PENDING : 0;
}

static void answer_waits_for_budget(struct spent *spent,
                                    int (*fn)(struct spent *spent, struct rdy_task *task))
{
    spent->fn = fn;
    spent->polls = 0;
    (void)spawn_test(spent->rig->runtime, poll_spent, NULL, spent);
    assert_int_equal(rdy_runtime_run(spent->rig->runtime), 0);
    assert_int_equal(spent->refused, RDY_PENDING);
    assert_int_equal(spent->result, 0);
}

static int flush_stream(struct spent *spent, struct rdy_task *task)
{
    return rdy_stream_poll_flush(&spent->rig->stream, task);
}

static int shut_stream(struct spent *spent, struct rdy_task *task)
{
    return rdy_stream_poll_shutdown(&spent->rig->stream, task, SHUT_WR);
}

static int close_stream(struct spent *spent, struct rdy_task *task)
{
    return rdy_stream_poll_close(&spent->rig->stream, task);
}

static int flush_datagrams(struct spent *spent, struct rdy_task *task)
{
    return rdy_datagram_poll_flush(spent->datagram, task);
}

static void call_without_budget_does_nothing_and_answers_later(void **state)
{
    struct rig *rig = *state;
    struct rdy_datagram datagram = {.fd = -1};
    struct spent spent = {.rig = rig, .datagram = &datagram};
    char byte;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    answer_waits_for_budget(&spent, flush_stream);
    answer_waits_for_budget(&spent, shut_stream);
    assert_int_equal(recv(rig->peer, &byte, 1, 0), 0);
    answer_waits_for_budget(&spent, close_stream);
    assert_true(rig->stream.fd < 0);
    assert_int_equal(rdy_datagram_open(&datagram, rig->runtime, AF_INET, NULL), 0);
    assert_int_equal(rdy_datagram_start_completion(&datagram), 0);
    answer_waits_for_budget(&spent, flush_datagrams);
    rdy_datagram_close(&datagram);
}

static int send_stream(struct spent *spent, struct rdy_task *task)
{
    return rdy_stream_poll_send(&spent->rig->stream, task, &spent->rig->held[0]);
}

static int poll_once(struct rdy_task *task, void *self)
{
    struct spent *spent = ((struct test_task *)self)->test;

    spent->result = spent->fn(spent, task);
    return spent->result == RDY_PENDING ? RDY_PENDING : 0;
}

static int answer_of(struct spent *spent, int (*fn)(struct spent *spent, struct rdy_task *task))
{
    spent->fn = fn;
    (void)spawn_test(spent->rig->runtime, poll_once, NULL, spent);
    assert_int_equal(rdy_runtime_run(spent->rig->runtime), 0);
    return spent->result;
}

static int send_datagram(struct spent *spent, struct rdy_task *task)
{
    return rdy_datagram_poll_send_buf(spent->datagram, task, &spent->rig->held[0], NULL, 0);
}

/* A buffer that was not taken is the caller's still. */
static void what_is_closed_says_ebadf_and_takes_nothing(void **state)
{
    struct rig *rig = *state;
    struct rdy_datagram datagram = {.fd = -1};
    struct spent spent = {.rig = rig, .datagram = &datagram};

    assert_int_equal(rdy_stream_start_completion(&rig->stream), -EBADF);
    assert_int_equal(rdy_datagram_start_completion(&datagram), -EBADF);
    rig->held[rig->held_count++] = rig_buf(rig, "x", 1);
    assert_int_equal(answer_of(&spent, send_stream), -EBADF);
    assert_int_equal(answer_of(&spent, send_datagram), -EBADF);
    assert_int_equal(answer_of(&spent, flush_stream), -EBADF);
    assert_int_equal(answer_of(&spent, shut_stream), -EBADF);
    assert_int_equal(answer_of(&spent, close_stream), -EBADF);
    assert_int_equal(answer_of(&spent, flush_datagrams), -EBADF);
    assert_int_equal(rig->held[0].len, 1);
}

static int send_too_much(struct spent *spent, struct rdy_task *task)
{
    static const char bytes[70000];

    return (int)rdy_datagram_poll_send_to(spent->datagram, task, bytes, sizeof(bytes),
                                          (struct sockaddr *)(void *)spent->rig->bytes,
                                          sizeof(struct sockaddr_in));
}

static void datagram_that_no_network_carries_is_refused_at_once(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rig *rig = *state;
    struct rdy_datagram datagram = {.fd = -1};
    struct spent spent = {.rig = rig, .datagram = &datagram};
    struct sockaddr_storage bound;
    socklen_t bound_len;

    assert_int_equal(rdy_datagram_open(&datagram, rig->runtime, AF_INET, NULL), 0);
    assert_int_equal(rdy_datagram_bind(&datagram, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(rdy_datagram_local_address(&datagram, &bound, &bound_len), 0);
    memcpy(rig->bytes, &bound, sizeof(addr));
    assert_int_equal(rdy_datagram_start_completion(&datagram), 0);
    assert_int_equal(answer_of(&spent, send_too_much), -EMSGSIZE);
    assert_int_equal(answer_of(&spent, flush_datagrams), 0);
    rdy_datagram_close(&datagram);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(call_without_budget_does_nothing_and_answers_later),
        ON_THREE(what_is_closed_says_ebadf_and_takes_nothing),
        ON_THREE(datagram_that_no_network_carries_is_refused_at_once),
    };

    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
