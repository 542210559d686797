/* SPDX-License-Identifier: MIT */
/*
 * Many datagrams in one call, UDP and Unix, each test on io_uring and on epoll. What goes wrong in
 * a batch is in test_datagram_many_errors.c.
 */
#include "tests/support/datagram_batch.h"

#include <sys/uio.h>

#include "engine/runtime.h"

static const int families[] = {AF_INET, AF_INET6};

/* --- all goes well --- */

static void one_call_sends_and_one_receives_all_with_addresses(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct address sender;

        begin_inet(state, families[i]);
        sender = local_address(&ends.one);
        assert_int_equal(send_many(0, 10), 10);
        assert_int_equal(recv_many(0, 20), 10);
        expect_texts(10);
        for (int n = 0; n < 10; n++) {
            const struct rdy_datagram_info *info = &in.messages[n].info;
            struct address got = {.storage = info->addr, .len = info->addr_len};

            assert_same_address(&got, &sender);
            assert_int_equal(info->tos, -1);
            assert_int_equal(info->segment_len, 0);
        }
        ends_close(&ends);
    }
}

static void unix_pair_talks_to_its_peer_without_addresses(void **state)
{
    begin_pair(state);
    assert_int_equal(send_many(0, 5), 5);
    assert_int_equal(recv_many(0, 20), 5);
    expect_texts(5);
    assert_int_equal(in.messages[4].info.addr_len, 0);
    assert_int_equal(in.messages[4].info.addr.ss_family, AF_UNSPEC);
    ends_close(&ends);
}

static ssize_t other_sends_back(struct ends *e, struct rdy_task *task)
{
    return rdy_datagram_poll_send_many(&e->other, task, in.messages, in.count);
}

static void what_was_received_can_be_sent_back_as_it_is(void **state)
{
    begin_inet(state, AF_INET6);
    assert_int_equal(send_many(0, 7), 7);
    assert_int_equal(recv_many(0, 7), 7);
    in.count = 7;
    assert_int_equal(run_call(&ends, other_sends_back), 7);
    for (int i = 0; i < 7; i++)
        memset(in.texts[i], 0, TEXT_SIZE);
    in.count = 20;
    assert_int_equal(run_call(&ends, one_receives_many), 7);
    expect_texts(7);
    ends_close(&ends);
}

static void type_of_service_comes_with_each(void **state)
{
    for (int i = 0; i < 2; i++) {
        begin_inet(state, families[i]);
        assert_int_equal(rdy_datagram_set(&ends.other, RDY_DATAGRAM_RECV_TOS, 1), 0);
        assert_int_equal(rdy_datagram_set(&ends.one, RDY_DATAGRAM_TOS, 0x12), 0);
        assert_int_equal(send_many(0, 2), 2);
        assert_int_equal(rdy_datagram_set(&ends.one, RDY_DATAGRAM_TOS, 0x21), 0);
        assert_int_equal(send_many(2, 1), 1);
        assert_int_equal(recv_many(0, 3), 3);
        assert_int_equal(in.messages[1].info.tos, 0x12);
        assert_int_equal(in.messages[2].info.tos, 0x21);
        assert_int_equal(rdy_datagram_ecn(&in.messages[2].info), 1);
        ends_close(&ends);
    }
}

/* --- sizes --- */

static void cut_off_end_of_one_is_reported_and_leaves_the_others_whole(void **state)
{
    begin_inet(state, AF_INET);
    in.messages[1].buf_len = 3;
    in.messages[2].buf_len = 0;
    assert_int_equal(send_many(8, 4), 4);
    assert_int_equal(recv_many(0, 4), 4);
    assert_int_equal(in.messages[0].len, out.messages[8].len);
    assert_int_equal(in.messages[1].len, 1); /* "9" */
    out.messages[9].len = TEXT_SIZE - 1;
    assert_int_equal(send_many(9, 2), 2);
    in.messages[0].buf_len = 5;
    assert_int_equal(recv_many(0, 2), 2);
    assert_int_equal(in.messages[0].len, 5);
    assert_int_equal(in.messages[0].info.datagram_len, TEXT_SIZE - 1);
    assert_memory_equal(in.texts[0], out.texts[9], 5);
    assert_int_equal(in.messages[1].len, out.messages[10].len > 3 ? 3 : out.messages[10].len);
    assert_int_equal(in.messages[1].info.datagram_len, out.messages[10].len);
    ends_close(&ends);

    begin_pair(state);
    in.messages[1].buf_len = 1;
    assert_int_equal(send_many(10, 3), 3);
    assert_int_equal(recv_many(0, 3), 3);
    assert_int_equal(in.messages[1].len, 1);
    assert_int_equal(in.messages[1].info.datagram_len, out.messages[11].len);
    assert_int_equal(in.messages[2].len, out.messages[12].len);
    ends_close(&ends);
}

static void empty_datagrams_keep_their_places(void **state)
{
    begin_inet(state, AF_INET);
    out.messages[0].len = 0;
    out.messages[2].len = 0;
    assert_int_equal(send_many(0, 4), 4);
    assert_int_equal(recv_many(0, 4), 4);
    expect_texts(4);
    out.messages[0].len = 0;
    assert_int_equal(send_many(0, 1), 1);
    assert_int_equal(recv_many(0, 1), 1);
    assert_int_equal(in.messages[0].len, 0);
    ends_close(&ends);
}

static ssize_t count_of_nothing(struct ends *e, struct rdy_task *task)
{
    uint32_t before = rdy_task_budget_left(task);

    assert_int_equal(rdy_datagram_poll_recv_many(&e->one, task, NULL, 0), 0);
    assert_int_equal(rdy_datagram_poll_send_many(&e->one, task, NULL, 0), 0);
    assert_int_equal(rdy_task_budget_left(task), before);
    return 0;
}

static void count_of_nothing_is_nothing_and_costs_nothing(void **state)
{
    begin_inet(state, AF_INET);
    assert_int_equal(run_call(&ends, count_of_nothing), 0);
    ends_close(&ends);
}

static void count_beyond_any_limit_is_no_error(void **state)
{
    size_t sent = 0;
    size_t received = 0;

    assert_true(MANY > UIO_MAXIOV);
    begin_inet(state, AF_INET);
    while (sent < 3 * RDY_DATAGRAM_MANY_MAX) {
        ssize_t count = send_many(sent, MANY - sent);

        assert_int_equal(count, RDY_DATAGRAM_MANY_MAX);
        sent += (size_t)count;
    }
    while (received < sent) {
        ssize_t count = recv_many(received, MANY - received);

        assert_int_equal(count, RDY_DATAGRAM_MANY_MAX);
        received += (size_t)count;
    }
    expect_texts(received);
    ends_close(&ends);
}

static void closed_socket_is_refused(void **state)
{
    begin(state);
    assert_int_equal(send_many(0, 1), -EBADF);
    assert_int_equal(recv_many(0, 1), -EBADF);
    assert_int_equal(send_many(0, 0), -EBADF);
}

/* --- waiting --- */

static void waiting_reader_takes_all_that_came(void **state)
{
    static struct ends sender;

    begin_inet(state, AF_INET);
    in.count = 20;
    (void)start_call(&ends, other_receives_many);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    assert_false(is_ready(&ends.other, RDY_INTEREST_READ, RDY_READABLE));

    ends_open(&sender, state);
    sender.one = ends.one;
    ends.one.fd = -1;
    out.count = 6;
    assert_int_equal(run_call(&sender, one_sends_many), 6);
    assert_int_equal(ends.result, 6);
    assert_int_equal(ends.polls, 2);
    expect_texts(6);
    ends_close(&sender);
    ends_close(&ends);
}

static void reader_given_up_has_taken_nothing(void **state)
{
    struct rdy_task_id id;

    begin_inet(state, AF_INET);
    in.count = 20;
    id = start_call(&ends, other_receives_many);
    let_turn(&ends);
    assert_int_equal(rdy_task_abort(ends.runtime, id), 0);
    assert_int_equal(send_many(0, 3), 3);
    assert_int_equal(recv_many(0, 20), 3);
    expect_texts(3);
    ends_close(&ends);
}

/* How much a socket may have sent that is unread is the machine's setting. */
static size_t fill_pair(void)
{
    size_t sent = 0;
    ssize_t count;

    do {
        count = send_many(sent, 7);
        assert_in_range(count, 1, 7);
        sent += (size_t)count;
        assert_true(sent < MANY - 7);
    } while (count == 7);
    return sent;
}

static void partial_send_is_a_count_and_the_rest_waits(void **state)
{
    size_t sent;

    begin_pair(state);
    sent = fill_pair();
    out.first = sent;
    out.count = 4;
    (void)start_call(&ends, one_sends_many);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);

    for (size_t i = 0; i < sent; i++) {
        ssize_t len = recv(ends.other.fd, in.texts[i], TEXT_SIZE, MSG_DONTWAIT);

        assert_int_equal(len, out.messages[i].len);
        in.messages[i].len = (size_t)len;
        in.messages[i].info.datagram_len = (size_t)len;
    }
    assert_int_equal(finish_call(&ends), 4);
    assert_int_equal(recv_many(sent, 10), 4);
    sent += 4;
    expect_texts(sent);
    ends_close(&ends);
}

static void sender_given_up_has_sent_nothing(void **state)
{
    struct rdy_task_id id;
    size_t sent;
    size_t received = 0;

    begin_pair(state);
    sent = fill_pair();
    out.first = sent;
    out.count = 4;
    id = start_call(&ends, one_sends_many);
    let_turn(&ends);
    assert_int_equal(rdy_task_abort(ends.runtime, id), 0);
    while (received < sent)
        received += (size_t)recv_many(received, sent - received);
    expect_texts(sent);
    in.count = 1;
    (void)start_call(&ends, other_receives_many);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    assert_int_equal(send_many(0, 1), 1);
    ends_close(&ends);
}

/* A queue that is full of a stranger's datagrams: the wait needs a descriptor of its own. */
static void send_to_a_queue_full_of_others_waits_until_it_drains(void **state)
{
    struct address any = {.storage.ss_family = AF_UNIX, .len = sizeof(sa_family_t)};
    struct address to;
    int stranger;
    int filled = 0;

    begin(state);
    assert_int_equal(rdy_datagram_open(&ends.other, ends.runtime, AF_UNIX, NULL), 0);
    assert_int_equal(rdy_datagram_bind(&ends.other, sockaddr_of(&any), any.len), 0);
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
    to = local_address(&ends.other);
    address_all(&to, 10);
    stranger = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(stranger >= 0);
    while (sendto(stranger, "x", 1, 0, sockaddr_of(&to), to.len) == 1 && filled < 100000)
        filled++;
    out.count = 3;
    (void)start_call(&ends, one_sends_many);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);

    for (int i = 0; i < filled; i++)
        assert_int_equal(recv(ends.other.fd, in.texts[0], TEXT_SIZE, MSG_DONTWAIT), 1);
    assert_int_equal(finish_call(&ends), 1);
    assert_int_equal(send_many(1, 2), 2);
    assert_int_equal(recv_many(0, 10), 3);
    expect_texts(3);
    assert_int_equal(close(stranger), 0);
    ends_close(&ends);
}

/* --- the budget --- */

static ssize_t receives_all_it_can(struct ends *e, struct rdy_task *task)
{
    ssize_t count;

    while ((count = rdy_datagram_poll_recv_many(&e->other, task, in.messages + in.first, 50)) > 0) {
        in.first += (size_t)count;
        if (in.first == in.count)
            return 0;
    }
    if (e->polls == 1)
        assert_int_equal(in.first, 128);
    return count;
}

static void each_datagram_is_paid_for(void **state)
{
    begin_inet(state, AF_INET);
    for (size_t sent = 0; sent < 150; sent += 50)
        assert_int_equal(send_many(sent, 50), 50);
    let_turn(&ends);
    in.count = 150;
    in.first = 0;
    assert_int_equal(run_call(&ends, receives_all_it_can), 0);
    assert_int_equal(ends.polls, 2);
    assert_int_equal(runtime_stats(ends.runtime).budget_yields, 1);
    expect_texts(150);
    ends_close(&ends);
}

static ssize_t has_little_left(struct ends *e, struct rdy_task *task)
{
    if (e->polls > 1)
        return 0;
    for (int i = 0; i < 121; i++)
        assert_int_equal(rdy_task_charge(task), 0);
    assert_int_equal(rdy_datagram_poll_send_many(&e->one, task, out.messages + 4, 4), 4);
    assert_int_equal(rdy_datagram_poll_recv_many(&e->other, task, in.messages, 20), 3);
    assert_int_equal(rdy_datagram_poll_recv_many(&e->other, task, in.messages + 3, 20),
                     RDY_PENDING);
    return rdy_datagram_poll_send_many(&e->one, task, out.messages, 4);
}

static void poll_that_has_little_budget_left_takes_little(void **state)
{
    begin_inet(state, AF_INET);
    assert_int_equal(send_many(0, 4), 4);
    let_turn(&ends);
    assert_int_equal(run_call(&ends, has_little_left), 0);
    assert_int_equal(ends.polls, 2);
    assert_int_equal(recv_many(3, 20), 5);
    expect_texts(8);
    ends_close(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(one_call_sends_and_one_receives_all_with_addresses),
        ON_BOTH(unix_pair_talks_to_its_peer_without_addresses),
        ON_BOTH(what_was_received_can_be_sent_back_as_it_is),
        ON_BOTH(type_of_service_comes_with_each),
        ON_BOTH(cut_off_end_of_one_is_reported_and_leaves_the_others_whole),
        ON_BOTH(empty_datagrams_keep_their_places),
        ON_BOTH(count_of_nothing_is_nothing_and_costs_nothing),
        ON_BOTH(count_beyond_any_limit_is_no_error),
        ON_BOTH(closed_socket_is_refused),
        ON_BOTH(waiting_reader_takes_all_that_came),
        ON_BOTH(reader_given_up_has_taken_nothing),
        ON_BOTH(partial_send_is_a_count_and_the_rest_waits),
        ON_BOTH(sender_given_up_has_sent_nothing),
        ON_BOTH(send_to_a_queue_full_of_others_waits_until_it_drains),
        ON_BOTH(each_datagram_is_paid_for),
        ON_BOTH(poll_that_has_little_budget_left_takes_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
