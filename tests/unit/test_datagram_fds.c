/* SPDX-License-Identifier: MIT */
/*
 * Unix datagrams with descriptors, and with who sent them; on both backends.
 */
#include "tests/support/datagrams.h"

#include <rdy/unix.h>

#include "engine/sys.h"

static struct ends ends;
static int fds[RDY_FDS_MAX + 1];
static uint32_t fds_count;
static int got_fds[RDY_FDS_MAX];
static uint32_t room;
static struct rdy_received received;

/* Makes the pair, and a pipe whose write end is what is passed; returns the read end. */
static int open_pair(void **state)
{
    int pipe_ends[2];

    ends_open(&ends, state);
    assert_int_equal(rdy_datagram_pair(&ends.one, &ends.other, ends.runtime), 0);
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK), 0);
    for (uint32_t i = 0; i <= RDY_FDS_MAX; i++)
        fds[i] = pipe_ends[1];
    fds_count = 1;
    room = RDY_FDS_MAX;
    received = (struct rdy_received){.fds_count = 77};
    return pipe_ends[0];
}

/* No copy of the write end is left, neither here nor under way. */
static void close_pair(int reader)
{
    char byte;

    ends_close(&ends);
    let_turn(&ends);
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(read(reader, &byte, 1), 0);
    assert_int_equal(close(reader), 0);
}

static ssize_t one_sends_fds(struct ends *my, struct rdy_task *task)
{
    return rdy_datagram_poll_send_fds(&my->one, task, my->text, strlen(my->text), fds, fds_count);
}

static ssize_t other_receives_fds(struct ends *my, struct rdy_task *task)
{
    return rdy_datagram_poll_recv_fds(&my->other, task, my->buf, my->buf_len, got_fds, room,
                                      &received);
}

static void close_received(void)
{
    for (uint32_t i = 0; i < received.fds_count; i++)
        assert_int_equal(close(got_fds[i]), 0);
}

static void datagram_brings_its_descriptors(void **state)
{
    int reader = open_pair(state);

    fds_count = 3;
    assert_int_equal(run_call(&ends, one_sends_fds), 5);
    fds_count = 0;
    assert_int_equal(run_call(&ends, one_sends_fds), 5);
    assert_int_equal(run_call(&ends, other_receives_fds), 5);
    assert_memory_equal(ends.buf, "hello", 5);
    assert_int_equal(received.fds_count, 3);
    assert_int_equal(received.datagram_len, 5);
    assert_false(received.has_credentials);
    assert_true(fcntl(got_fds[2], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(got_fds[2], "x", 1), 1);
    assert_int_equal(read(reader, ends.buf, 1), 1);
    close_received();
    assert_int_equal(run_call(&ends, other_receives_fds), 5);
    assert_int_equal(received.fds_count, 0);
    close_pair(reader);
}

static void empty_datagram_may_bring_descriptors(void **state)
{
    int reader = open_pair(state);

    ends.text = "";
    assert_int_equal(run_call(&ends, one_sends_fds), 0);
    assert_int_equal(run_call(&ends, other_receives_fds), 0);
    assert_int_equal(received.fds_count, 1);
    close_received();
    close_pair(reader);
}

static void what_there_is_no_room_for_is_closed_and_reported(void **state)
{
    int reader = open_pair(state);
    int before = descriptors_count();

    fds_count = 4;
    room = 1;
    ends.buf_len = 2;
    assert_int_equal(run_call(&ends, one_sends_fds), 5);
    assert_int_equal(run_call(&ends, other_receives_fds), 2);
    assert_int_equal(received.datagram_len, 5);
    assert_int_equal(received.fds_count, 1);
    assert_true(received.are_fds_cut_off);
    assert_int_equal(descriptors_count(), before + 1);
    close_received();
    close_pair(reader);
}

static void what_cannot_be_sent_is_refused(void **state)
{
    int reader = open_pair(state);

    fds_count = RDY_FDS_MAX + 1;
    assert_int_equal(run_call(&ends, one_sends_fds), -EINVAL);
    fds_count = RDY_FDS_MAX;
    assert_int_equal(run_call(&ends, one_sends_fds), 5);
    assert_int_equal(run_call(&ends, other_receives_fds), 5);
    assert_int_equal(received.fds_count, RDY_FDS_MAX);
    close_received();
    fds[1] = 1 << 20;
    assert_int_equal(run_call(&ends, one_sends_fds), -EBADF);
    ends_close(&ends);
    assert_int_equal(run_call(&ends, one_sends_fds), -EBADF);
    assert_int_equal(run_call(&ends, other_receives_fds), -EBADF);
    close_pair(reader);
}

/* UDP has neither; its datagrams are received as ever. */
static void udp_passes_no_descriptors(void **state)
{
    int reader = open_pair(state);

    ends_close(&ends);
    ends.to = bind_loopback(&ends, &ends.other, AF_INET);
    (void)bind_loopback(&ends, &ends.one, AF_INET);
    connect_to(&ends.one, ends.to);
    assert_int_equal(run_call(&ends, one_sends_fds), -EOPNOTSUPP);
    assert_int_equal(run_call(&ends, one_sends), 5);
    assert_int_equal(run_call(&ends, other_receives_fds), 5);
    assert_int_equal(received.fds_count, 0);
    assert_int_equal(rdy_datagram_set(&ends.one, RDY_DATAGRAM_PASS_CREDENTIALS, 1), -EOPNOTSUPP);
    close_pair(reader);
}

static void sender_is_told_by_the_kernel_if_asked_for(void **state)
{
    int reader = open_pair(state);
    int value = -1;

    assert_int_equal(rdy_datagram_get(&ends.other, RDY_DATAGRAM_PASS_CREDENTIALS, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(rdy_datagram_set(&ends.other, RDY_DATAGRAM_PASS_CREDENTIALS, 1), 0);
    assert_int_equal(run_call(&ends, one_sends), 5);
    assert_int_equal(run_call(&ends, other_receives_fds), 5);
    assert_true(received.has_credentials);
    assert_int_equal(received.credentials.pid, getpid());
    assert_int_equal(received.credentials.uid, geteuid());
    assert_int_equal(received.credentials.gid, getegid());
    assert_int_equal(received.fds_count, 0);

    /* With the most descriptors beside them. */
    fds_count = RDY_FDS_MAX;
    assert_int_equal(run_call(&ends, one_sends_fds), 5);
    assert_int_equal(run_call(&ends, other_receives_fds), 5);
    assert_true(received.has_credentials);
    assert_int_equal(received.fds_count, RDY_FDS_MAX);
    assert_false(received.are_fds_cut_off);
    close_received();
    close_pair(reader);
}

static void receiver_given_up_takes_nothing_along(void **state)
{
    int reader = open_pair(state);
    struct rdy_task_id id = start_call(&ends, other_receives_fds);

    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    assert_int_equal(rdy_task_abort(ends.runtime, id), 0);
    assert_int_equal(received.fds_count, 77);
    assert_int_equal(run_call(&ends, one_sends_fds), 5);
    assert_int_equal(run_call(&ends, other_receives_fds), 5);
    assert_int_equal(received.fds_count, 1);
    close_received();
    close_pair(reader);
}

static ssize_t one_sends_fds_with_a_fault(struct ends *my, struct rdy_task *task)
{
    ssize_t count;

    (void)rdy_sys_fail_nth(1, ENOBUFS);
    count = one_sends_fds(my, task);
    (void)rdy_sys_fail_nth(0, 0);
    return count;
}

static ssize_t other_receives_fds_with_a_fault(struct ends *my, struct rdy_task *task)
{
    ssize_t count;

    (void)rdy_sys_fail_nth(1, ENOBUFS);
    count = other_receives_fds(my, task);
    (void)rdy_sys_fail_nth(0, 0);
    return count;
}

static void failing_calls_lose_nothing(void **state)
{
    int reader = open_pair(state);

    assert_int_equal(run_call(&ends, one_sends_fds_with_a_fault), -ENOBUFS);
    assert_int_equal(run_call(&ends, one_sends_fds), 5);
    assert_int_equal(run_call(&ends, other_receives_fds_with_a_fault), -ENOBUFS);
    assert_int_equal(received.fds_count, 77);
    assert_int_equal(run_call(&ends, other_receives_fds), 5);
    assert_int_equal(received.fds_count, 1);
    close_received();
    close_pair(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(datagram_brings_its_descriptors),
        ON_BOTH(empty_datagram_may_bring_descriptors),
        ON_BOTH(what_there_is_no_room_for_is_closed_and_reported),
        ON_BOTH(what_cannot_be_sent_is_refused),
        ON_BOTH(udp_passes_no_descriptors),
        ON_BOTH(sender_is_told_by_the_kernel_if_asked_for),
        ON_BOTH(receiver_given_up_takes_nothing_along),
        ON_BOTH(failing_calls_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
