/* SPDX-License-Identifier: MIT */
/*
 * What goes wrong in the middle of a batch of datagrams: a datagram that is refused, an addressee
 * that is not there, a system call that fails. Each test on io_uring and on epoll.
 */
#include "tests/support/datagram_batch.h"

#define ROUNDS 1000

static void refused_one_ends_the_batch_and_the_next_call_says_why(void **state)
{
    begin_inet(state, AF_INET);
    ((struct sockaddr_in *)&out.messages[2].info.addr)->sin_port = 0;
    assert_int_equal(send_many(0, 5), 2);
    assert_int_equal(send_many(2, 3), -EINVAL);
    assert_int_equal(send_many(3, 2), 2);
    assert_int_equal(recv_many(0, 10), 4);
    ends_close(&ends);
}

static void one_that_is_too_long_ends_the_batch(void **state)
{
    static char huge[66000];

    begin_inet(state, AF_INET);
    out.messages[1].buf = huge;
    out.messages[1].len = sizeof(huge);
    assert_int_equal(send_many(0, 3), 1);
    assert_int_equal(send_many(1, 2), -EMSGSIZE);
    assert_int_equal(send_many(2, 1), 1);
    assert_int_equal(recv_many(0, 10), 2);
    ends_close(&ends);
}

static void nobody_to_send_to_is_said_at_once(void **state)
{
    begin_inet(state, AF_INET);
    out.messages[0].info.addr_len = 0;
    assert_int_equal(send_many(0, 3), -EDESTADDRREQ);
    ends_close(&ends);
}

/* One has a peer that does not listen: a socket that is connected to itself. */
static void connect_to_nobody(void **state, bool is_from_fd)
{
    begin(state);
    ends.to = bind_loopback(&ends, &ends.other, AF_INET);
    connect_to(&ends.other, ends.to);
    (void)bind_loopback(&ends, &ends.one, AF_INET);
    if (is_from_fd) {
        int fd = fcntl(ends.one.fd, F_DUPFD_CLOEXEC, 0);

        assert_int_equal(connect(fd, sockaddr_of(&ends.to), ends.to.len), 0);
        rdy_datagram_close(&ends.one);
        assert_int_equal(rdy_datagram_from_fd(&ends.one, ends.runtime, fd), 0);
    } else {
        connect_to(&ends.one, ends.to);
    }
}

/*
 * The kernel fetches the news of the first datagram with the second or a later one, and forgets why
 * it stopped there. When it comes depends on the network; that it is told does not.
 */
static void expect_news_of_each_partial_send(call_fn *next)
{
    int partial = 0;

    for (int round = 0; round < ROUNDS && partial < 10; round++) {
        ssize_t count = send_many(0, 4);

        if (count == -ECONNREFUSED || count == 4)
            continue;
        assert_in_range(count, 1, 3);
        partial++;
        in.count = 4;
        assert_int_equal(run_call(&ends, next), -ECONNREFUSED);
    }
    assert_int_equal(partial, 10);
}

static void refusal_in_the_middle_is_told_by_the_next_call(void **state)
{
    for (int is_from_fd = 0; is_from_fd < 2; is_from_fd++) {
        connect_to_nobody(state, is_from_fd != 0);
        expect_news_of_each_partial_send(one_sends_many);
        expect_news_of_each_partial_send(one_receives_many);
        expect_news_of_each_partial_send(one_sends);
        expect_news_of_each_partial_send(one_receives);
        ends_close(&ends);
    }
}

static void refusal_is_told_to_a_receiver_of_many_once(void **state)
{
    connect_to_nobody(state, false);
    assert_int_equal(send_many(0, 1), 1);
    in.count = 4;
    assert_int_equal(run_call(&ends, one_receives_many), -ECONNREFUSED);
    (void)start_call(&ends, one_receives_many);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    ends_close(&ends);
}

/* Of several that one socket sends to, one is not there: the others get theirs. */
static void refusal_by_one_of_many_addressees_harms_nobody(void **state)
{
    struct address nobody;
    struct ends absent;

    begin_inet(state, AF_INET);
    ends_open(&absent, state);
    nobody = bind_loopback(&absent, &absent.one, AF_INET);
    connect_to(&absent.one, nobody);
    out.messages[1].info.addr = nobody.storage;
    assert_int_equal(send_many(0, 4), 4);
    let_turn(&ends);
    assert_int_equal(send_many(4, 1), 1);
    assert_int_equal(recv_many(0, 10), 4);
    assert_int_equal(in.messages[1].len, out.messages[2].len);
    ends_close(&absent);
    ends_close(&ends);
}

static void failing_system_calls_are_said_or_tried_again(void **state)
{
    begin_inet(state, AF_INET);
    fault = ENOBUFS;
    assert_int_equal(send_many(0, 3), -ENOBUFS);
    fault = EINTR;
    assert_int_equal(send_many(0, 3), 3);
    fault = ENOMEM;
    assert_int_equal(recv_many(0, 3), -ENOMEM);
    fault = EINTR;
    assert_int_equal(recv_many(0, 3), 3);
    expect_texts(3);

    /* The call for one has another look, and finds that it may. */
    fault = EAGAIN;
    assert_int_equal(send_many(0, 3), 1);
    fault = 0;
    assert_int_equal(recv_many(0, 3), 1);
    ends_close(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(refused_one_ends_the_batch_and_the_next_call_says_why),
        ON_BOTH(one_that_is_too_long_ends_the_batch),
        ON_BOTH(nobody_to_send_to_is_said_at_once),
        ON_BOTH(refusal_in_the_middle_is_told_by_the_next_call),
        ON_BOTH(refusal_is_told_to_a_receiver_of_many_once),
        ON_BOTH(refusal_by_one_of_many_addressees_harms_nobody),
        ON_BOTH(failing_system_calls_are_said_or_tried_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
