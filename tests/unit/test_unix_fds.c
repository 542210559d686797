/* SPDX-License-Identifier: MIT */
/*
 * Passing descriptors over Unix streams; on both backends.
 */
#include "tests/support/connecting.h"

#include <sys/resource.h>

#include <rdy/unix.h>

/* One of ours sends to the other; pair.have bytes of pair.buf, with fds. */
static struct pair pair;
static int fds[RDY_FDS_MAX + 1];
static uint32_t fds_count;

static int got_fds[RDY_FDS_MAX + 1];
static uint32_t room;
static size_t buf_len;
static struct rdy_received received;
static struct fault fault;

static void open_pair(void **state)
{
    pair_open(&pair, state);
    assert_int_equal(rdy_stream_pair(&pair.server, &pair.client, pair.runtime), 0);
    memset(got_fds, 0xff, sizeof(got_fds));
    fds_count = 0;
    room = RDY_FDS_MAX;
    buf_len = sizeof(pair.buf);
    received = (struct rdy_received){.fds_count = 77};
    fault = (struct fault){0};
}

static int poll_sends(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);
    ssize_t count;

    my->polls++;
    fault_begin(&fault);
    count = rdy_stream_poll_send_fds(&my->client, task, my->buf, my->have, fds, fds_count);
    fault_end(&fault);
    if (count == RDY_PENDING)
        return RDY_PENDING;
    my->result = count;
    return 0;
}

static int poll_receives(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);
    ssize_t count;

    my->polls++;
    fault_begin(&fault);
    count = rdy_stream_poll_recv_fds(&my->server, task, my->buf, buf_len, got_fds, room, &received);
    fault_end(&fault);
    if (count == RDY_PENDING)
        return RDY_PENDING;
    my->result = count;
    return 0;
}

static ssize_t run_once(rdy_poll_fn *poll)
{
    pair.result = RDY_PENDING;
    (void)spawn_test(pair.runtime, poll, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    return pair.result;
}

static ssize_t send_fds(const char *text, uint32_t count)
{
    memcpy(pair.buf, text, strlen(text));
    pair.have = strlen(text);
    fds_count = count;
    return run_once(poll_sends);
}

static void close_received(void)
{
    for (uint32_t i = 0; i < received.fds_count; i++)
        assert_int_equal(close(got_fds[i]), 0);
}

/* A pipe whose write end is what is passed: @reader is at its end when no copy is left. */
static int make_pipe(void)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    for (uint32_t i = 0; i <= RDY_FDS_MAX; i++)
        fds[i] = ends[1];
    return ends[0];
}

static void assert_no_copy_is_left(int reader)
{
    char byte;

    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(read(reader, &byte, 1), 0);
    assert_int_equal(close(reader), 0);
}

static void descriptor_arrives_and_works(void **state)
{
    char text[8] = "";
    int reader = make_pipe();

    open_pair(state);
    assert_int_equal(send_fds("hello", 1), 5);
    assert_int_equal(run_once(poll_receives), 5);
    assert_memory_equal(pair.buf, "hello", 5);
    assert_int_equal(received.fds_count, 1);
    assert_int_equal(received.datagram_len, 5);
    assert_false(received.are_fds_cut_off);
    assert_false(received.has_credentials);
    assert_int_not_equal(got_fds[0], fds[0]);
    assert_true(fcntl(got_fds[0], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(got_fds[0], "through", 7), 7);
    assert_int_equal(read(reader, text, sizeof(text)), 7);
    assert_string_equal(text, "through");
    close_received();
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

static void each_message_comes_with_its_own_descriptors(void **state)
{
    int reader = make_pipe();

    open_pair(state);
    assert_int_equal(send_fds("one", 1), 3);
    assert_int_equal(send_fds("three", 3), 5);
    assert_int_equal(send_fds("none", 0), 4);

    assert_int_equal(run_once(poll_receives), 3);
    assert_int_equal(received.fds_count, 1);
    close_received();
    assert_int_equal(run_once(poll_receives), 5);
    assert_int_equal(received.fds_count, 3);
    close_received();
    assert_int_equal(run_once(poll_receives), 4);
    assert_int_equal(received.fds_count, 0);
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

/* They come with the first byte; the rest of the data is data. */
static void descriptors_come_with_the_first_byte(void **state)
{
    int reader = make_pipe();

    open_pair(state);
    assert_int_equal(send_fds("hello", 2), 5);
    buf_len = 1;
    assert_int_equal(run_once(poll_receives), 1);
    assert_int_equal(received.fds_count, 2);
    close_received();
    buf_len = sizeof(pair.buf);
    assert_int_equal(run_once(poll_receives), 4);
    assert_int_equal(received.fds_count, 0);
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

static void surplus_is_closed_and_reported(void **state)
{
    int before;
    int reader = make_pipe();

    open_pair(state);
    before = descriptors_count();
    for (room = 0; room < 3; room++) {
        assert_int_equal(send_fds("hello", 3), 5);
        assert_int_equal(run_once(poll_receives), 5);
        assert_int_equal(received.fds_count, room);
        assert_true(received.are_fds_cut_off);
        assert_int_equal(got_fds[room], -1);
        assert_int_equal(descriptors_count(), before + (int)room);
        close_received();
        memset(got_fds, 0xff, sizeof(got_fds));
    }
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

static void as_many_as_the_kernel_takes_arrive_and_no_more_are_sent(void **state)
{
    int reader = make_pipe();

    open_pair(state);
    assert_int_equal(send_fds("hello", RDY_FDS_MAX + 1), -EINVAL);
    assert_int_equal(send_fds("hello", RDY_FDS_MAX), 5);
    assert_int_equal(run_once(poll_receives), 5);
    assert_int_equal(received.fds_count, RDY_FDS_MAX);
    assert_false(received.are_fds_cut_off);
    close_received();
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

/* What the process may not open the kernel drops: the data comes, and the loss is told. */
static void descriptor_limit_cuts_off_and_is_reported(void **state)
{
    struct rlimit before;
    struct rlimit tight;
    int reader = make_pipe();
    int lowest;

    open_pair(state);
    assert_int_equal(send_fds("hello", 4), 5);
    lowest = dup(0);
    assert_true(lowest >= 0);
    assert_int_equal(close(lowest), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)lowest + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    (void)run_once(poll_receives);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(pair.result, 5);
    assert_int_equal(received.fds_count, 1);
    assert_true(received.are_fds_cut_off);
    close_received();
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

/* --- partial sends, waits --- */

/* Receives what there is, and counts bytes and descriptors. */
static void receive_all(size_t *bytes, uint32_t *count)
{
    for (int i = 0; i < 1000 && *bytes < (4u << 20); i++) {
        ssize_t got;

        if (recv(pair.server.fd, pair.buf, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
            return;
        got = run_once(poll_receives);
        assert_true(got > 0);
        *bytes += (size_t)got;
        *count += received.fds_count;
        close_received();
    }
}

static void partial_send_passes_the_descriptors_once(void **state)
{
    size_t bytes = 0;
    uint32_t count = 0;
    ssize_t sent;
    ssize_t rest;
    int reader = make_pipe();

    open_pair(state);
    assert_int_equal(rdy_stream_set(&pair.client, RDY_STREAM_SEND_BUF, 16384), 0);
    pair.have = sizeof(pair.buf);
    fds_count = 3;
    sent = run_once(poll_sends);
    assert_in_range(sent, 1, sizeof(pair.buf) - 1);
    assert_false(is_cached(&pair.client, RDY_INTEREST_WRITE, RDY_WRITABLE));
    receive_all(&bytes, &count);
    assert_int_equal(bytes, sent);
    assert_int_equal(count, 3);

    /* The rest goes as any data does. */
    let_driver_turn(&pair);
    fds_count = 0;
    pair.have = 100;
    rest = run_once(poll_sends);
    assert_int_equal(rest, 100);
    receive_all(&bytes, &count);
    assert_int_equal(bytes, sent + rest);
    assert_int_equal(count, 3);
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

/* Sends without descriptors until the socket is full. */
static size_t fill(void)
{
    size_t bytes = 0;
    ssize_t count;

    while ((count = send(pair.client.fd, pair.buf, sizeof(pair.buf), MSG_DONTWAIT)) > 0)
        bytes += (size_t)count;
    assert_int_equal(errno, EAGAIN);
    return bytes;
}

static void sender_waits_for_room_and_has_sent_nothing_when_given_up(void **state)
{
    struct rdy_task_id id;
    size_t filled;
    size_t bytes = 0;
    uint32_t count = 0;
    int reader = make_pipe();

    open_pair(state);
    filled = fill();
    pair.have = 5;
    fds_count = 2;
    pair.result = RDY_PENDING;
    id = spawn_test(pair.runtime, poll_sends, NULL, &pair);
    let_driver_turn(&pair);
    assert_int_equal(pair.result, RDY_PENDING);
    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    receive_all(&bytes, &count);
    assert_int_equal(bytes, filled);
    assert_int_equal(count, 0);

    /* And one that is not given up goes on when there is room. */
    filled = fill();
    pair.result = RDY_PENDING;
    (void)spawn_test(pair.runtime, poll_sends, NULL, &pair);
    let_driver_turn(&pair);
    assert_int_equal(pair.result, RDY_PENDING);
    for (size_t drained = 0; drained < filled;) {
        ssize_t got = recv(pair.server.fd, pair.buf, sizeof(pair.buf), MSG_DONTWAIT);

        assert_true(got > 0);
        drained += (size_t)got;
    }
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.result, 5);
    bytes = 0;
    receive_all(&bytes, &count);
    assert_int_equal(bytes, 5);
    assert_int_equal(count, 2);
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

static void receiver_given_up_takes_nothing_and_another_is_woken(void **state)
{
    struct rdy_task_id id;
    int reader = make_pipe();

    open_pair(state);
    pair.result = RDY_PENDING;
    id = spawn_test(pair.runtime, poll_receives, NULL, &pair);
    let_driver_turn(&pair);
    assert_int_equal(pair.result, RDY_PENDING);
    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    assert_int_equal(received.fds_count, 77);

    (void)spawn_test(pair.runtime, poll_receives, NULL, &pair);
    let_driver_turn(&pair);
    assert_int_equal(pair.result, RDY_PENDING);
    assert_int_equal(send_fds("hello", 1), 5); /* runs until both tasks have ended */
    assert_int_equal(received.fds_count, 1);
    close_received();
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

/* --- what goes wrong --- */

/* The data alone: the kernel closes what came along. */
static void plain_read_drops_descriptors(void **state)
{
    int before;
    int reader = make_pipe();

    open_pair(state);
    before = descriptors_count();
    assert_int_equal(send_fds("hello", 3), 5);
    assert_int_equal(run_once(poll_reads_once), 5);
    assert_int_equal(descriptors_count(), before);
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

/* And of a stream that is closed with descriptors in its queue. */
static void close_drops_descriptors_that_nobody_took(void **state)
{
    int reader = make_pipe();

    open_pair(state);
    assert_int_equal(send_fds("hello", 3), 5);
    pair_close(&pair);
    let_driver_turn(&pair);
    assert_no_copy_is_left(reader);
}

static void end_of_the_stream_brings_nothing(void **state)
{
    open_pair(state);
    rdy_stream_close(&pair.client);
    assert_int_equal(run_once(poll_receives), 0);
    assert_int_equal(received.fds_count, 0);
    assert_false(received.are_fds_cut_off);
    pair_close(&pair);
}

static void peer_that_has_gone_is_an_error_without_a_signal(void **state)
{
    int reader = make_pipe();

    open_pair(state);
    rdy_stream_close(&pair.server);
    let_driver_turn(&pair);
    assert_int_equal(send_fds("hello", 1), -EPIPE);
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

static void what_cannot_be_sent_is_refused_and_the_stream_goes_on(void **state)
{
    int reader = make_pipe();

    open_pair(state);
    assert_int_equal(send_fds("", 1), -EINVAL);
    buf_len = 0;
    assert_int_equal(run_once(poll_receives), -EINVAL);
    buf_len = sizeof(pair.buf);
    fds[1] = 1 << 20;
    assert_int_equal(send_fds("hello", 2), -EBADF);
    assert_int_equal(send_fds("hello", 1), 5);
    assert_int_equal(run_once(poll_receives), 5);
    assert_int_equal(received.fds_count, 1);
    close_received();
    pair_close(&pair);
    assert_int_equal(send_fds("hello", 1), -EBADF);
    assert_int_equal(run_once(poll_receives), -EBADF);
    assert_no_copy_is_left(reader);
}

/* TCP would send the data and drop the descriptors in silence. */
static void tcp_stream_passes_no_descriptors(void **state)
{
    int reader = make_pipe();

    open_pair(state);
    pair_close(&pair);
    pair_accept(&pair);
    pair.client = pair.server;
    assert_int_equal(send_fds("hello", 1), -EOPNOTSUPP);
    say(pair.peer, "hello");
    assert_int_equal(run_once(poll_receives), 5);
    assert_int_equal(received.fds_count, 0);
    pair.client = (struct rdy_stream){.fd = -1};
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

static void failing_calls_lose_nothing(void **state)
{
    int reader = make_pipe();

    open_pair(state);
    for (uint64_t nth = 1; nth <= 2; nth++) { /* the family, the send */
        fault = (struct fault){.left = nth, .error = ENOBUFS};
        assert_int_equal(send_fds("hello", 2), -ENOBUFS);
    }
    assert_int_equal(send_fds("hello", 2), 5);
    fault = (struct fault){.left = 1, .error = ENOMEM};
    assert_int_equal(run_once(poll_receives), -ENOMEM);
    /* Only the close of what there is no room for: it is gone all the same. */
    room = 1;
    fault = (struct fault){.left = 2, .error = EIO};
    assert_int_equal(run_once(poll_receives), 5);
    assert_true(fault.has_come);
    assert_int_equal(received.fds_count, 1);
    close_received();
    assert_no_copy_is_left(reader);
    pair_close(&pair);
}

static int poll_sends_until_pending(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);

    if (my->polls++ > 0)
        return 0;
    for (my->step = 0; my->step < 1000; my->step++)
        if (rdy_stream_poll_send_fds(&my->client, task, "x", 1, NULL, 0) == RDY_PENDING)
            break;
    return RDY_PENDING;
}

static int poll_receives_until_pending(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);

    if (my->polls++ > 0)
        return 0;
    for (my->step = 0; my->step < 1000; my->step++)
        if (rdy_stream_poll_recv_fds(&my->server, task, my->buf, 1, NULL, 0, &received) ==
            RDY_PENDING)
            break;
    return RDY_PENDING;
}

static void both_calls_pay_from_the_budget(void **state)
{
    open_pair(state);
    (void)run_once(poll_sends_until_pending);
    assert_int_equal(pair.step, 128);
    assert_int_equal(send_fds("more", 0), 4);
    pair.polls = 0;
    (void)run_once(poll_receives_until_pending);
    assert_int_equal(pair.step, 128);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(descriptor_arrives_and_works),
        ON_BOTH(each_message_comes_with_its_own_descriptors),
        ON_BOTH(descriptors_come_with_the_first_byte),
        ON_BOTH(surplus_is_closed_and_reported),
        ON_BOTH(as_many_as_the_kernel_takes_arrive_and_no_more_are_sent),
        ON_BOTH(descriptor_limit_cuts_off_and_is_reported),
        ON_BOTH(partial_send_passes_the_descriptors_once),
        ON_BOTH(sender_waits_for_room_and_has_sent_nothing_when_given_up),
        ON_BOTH(receiver_given_up_takes_nothing_and_another_is_woken),
        ON_BOTH(plain_read_drops_descriptors),
        ON_BOTH(close_drops_descriptors_that_nobody_took),
        ON_BOTH(end_of_the_stream_brings_nothing),
        ON_BOTH(peer_that_has_gone_is_an_error_without_a_signal),
        ON_BOTH(what_cannot_be_sent_is_refused_and_the_stream_goes_on),
        ON_BOTH(tcp_stream_passes_no_descriptors),
        ON_BOTH(failing_calls_lose_nothing),
        ON_BOTH(both_calls_pay_from_the_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
