/* SPDX-License-Identifier: MIT */
/*
 * UDP on the loopback interface, IPv4 and IPv6, each test on io_uring and on epoll.
 */
#include "tests/support/datagrams.h"

#include "engine/sys.h"

static const int families[] = {AF_INET, AF_INET6};

#define FAMILIES_COUNT 2

static struct ends ends;

static void datagram_comes_with_its_senders_address(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        struct address sender;
        struct address got;

        ends_open(&ends, state);
        ends.to = bind_loopback(&ends, &ends.other, families[i]);
        sender = bind_loopback(&ends, &ends.one, families[i]);

        assert_int_equal(run_call(&ends, one_sends_to), 5);
        assert_int_equal(run_call(&ends, other_receives_from), 5);

        assert_memory_equal(ends.buf, "hello", 5);
        got = (struct address){.storage = ends.info.addr, .len = ends.info.addr_len};
        assert_same_address(&got, &sender);
        assert_int_equal(ends.info.datagram_len, 5);
        assert_int_equal(ends.info.segment_len, 0);
        assert_int_equal(ends.info.tos, -1);
        assert_int_equal(rdy_datagram_ecn(&ends.info), -1);
        ends_close(&ends);
    }
}

/* Nobody has to be bound to send; the kernel chooses a port. */
static void waiting_reader_is_woken_by_a_datagram(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        struct ends sender;

        ends_open(&ends, state);
        ends.to = bind_loopback(&ends, &ends.other, families[i]);
        (void)start_call(&ends, other_receives);
        let_turn(&ends);
        assert_int_equal(ends.result, RDY_PENDING);

        ends_open(&sender, state);
        sender.to = ends.to;
        assert_int_equal(rdy_datagram_open(&sender.one, sender.runtime, families[i], NULL), 0);
        assert_int_equal(run_call(&sender, one_sends_to), 5);

        assert_int_equal(ends.result, 5);
        assert_int_equal(ends.polls, 2);
        ends_close(&sender);
        ends_close(&ends);
    }
}

static void connected_socket_hears_its_peer_alone(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        struct ends stranger;
        struct address one;
        struct address peer = {0};

        ends_open(&ends, state);
        ends.to = bind_loopback(&ends, &ends.other, families[i]);
        one = bind_loopback(&ends, &ends.one, families[i]);
        assert_int_equal(rdy_datagram_peer_address(&ends.one, &peer.storage, &peer.len), -ENOTCONN);
        connect_to(&ends.one, ends.to);
        connect_to(&ends.other, one);
        assert_int_equal(rdy_datagram_peer_address(&ends.other, &peer.storage, &peer.len), 0);
        assert_same_address(&peer, &one);

        ends_open(&stranger, state);
        stranger.to = ends.to;
        stranger.text = "not for you";
        assert_int_equal(rdy_datagram_open(&stranger.one, stranger.runtime, families[i], NULL), 0);
        (void)run_call(&stranger, one_sends_to);
        assert_int_equal(run_call(&ends, one_sends), 5);
        assert_int_equal(run_call(&ends, other_receives), 5);

        /* Its port was the kernel's choice, and goes with the peer. */
        assert_int_equal(rdy_datagram_disconnect(&ends.other), 0);
        assert_int_equal(rdy_datagram_bind(&ends.other, sockaddr_of(&stranger.to), stranger.to.len),
                         0);
        assert_int_equal(run_call(&stranger, one_sends_to), 11);
        assert_int_equal(run_call(&ends, other_receives), 11);
        ends_close(&stranger);
        ends_close(&ends);
    }
}

static void send_without_a_peer_is_refused(void **state)
{
    ends_open(&ends, state);
    (void)bind_loopback(&ends, &ends.one, AF_INET);
    assert_int_equal(run_call(&ends, one_sends), -EDESTADDRREQ);
    ends_close(&ends);
}

static void datagram_that_is_too_long_is_refused(void **state)
{
    static char text[66001];

    memset(text, 'x', sizeof(text) - 1);
    ends_open(&ends, state);
    ends.to = bind_loopback(&ends, &ends.one, AF_INET);
    ends.text = text;
    assert_int_equal(run_call(&ends, one_sends_to), -EMSGSIZE);
    ends.text = "still works";
    assert_int_equal(run_call(&ends, one_sends_to), 11);
    ends_close(&ends);
}

static void empty_datagram_arrives_as_nothing(void **state)
{
    ends_open(&ends, state);
    ends.to = bind_loopback(&ends, &ends.other, AF_INET);
    (void)bind_loopback(&ends, &ends.one, AF_INET);
    ends.text = "";
    ends.datagram_len = 1;

    assert_int_equal(run_call(&ends, one_sends_to), 0);
    assert_int_equal(run_call(&ends, other_receives), 0);

    assert_int_equal(ends.datagram_len, 0);
    ends_close(&ends);
}

static void cut_off_end_is_reported_and_lost(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        ends_open(&ends, state);
        ends.to = bind_loopback(&ends, &ends.other, families[i]);
        (void)bind_loopback(&ends, &ends.one, families[i]);
        for (int count = 0; count < 3; count++)
            assert_int_equal(run_call(&ends, one_sends_to), 5);

        ends.buf_len = 3;
        assert_int_equal(run_call(&ends, other_receives), 3);
        assert_int_equal(ends.datagram_len, 5);
        assert_int_equal(run_call(&ends, other_receives_from), 3);
        assert_int_equal(ends.info.datagram_len, 5);
        ends.buf_len = 5;
        assert_int_equal(run_call(&ends, other_receives), 5);
        assert_int_equal(ends.datagram_len, 5);
        assert_memory_equal(ends.buf, "hello", 5);
        ends_close(&ends);
    }
}

static void peek_leaves_the_datagram(void **state)
{
    ends_open(&ends, state);
    ends.to = bind_loopback(&ends, &ends.other, AF_INET);
    (void)bind_loopback(&ends, &ends.one, AF_INET);
    assert_int_equal(run_call(&ends, one_sends_to), 5);

    ends.buf_len = 2;
    assert_int_equal(run_call(&ends, other_peeks), 2);
    assert_int_equal(ends.info.datagram_len, 5);
    assert_int_equal(ends.info.addr_len, sizeof(struct sockaddr_in));
    ends.buf_len = sizeof(ends.buf);
    assert_int_equal(run_call(&ends, other_receives), 5);
    (void)start_call(&ends, other_peeks);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    assert_int_equal(sendto(ends.one.fd, "again", 5, 0, sockaddr_of(&ends.to), ends.to.len), 5);
    assert_int_equal(finish_call(&ends), 5);
    ends_close(&ends);
}

/* One event may stand for many datagrams: only EAGAIN proves that there is none. */
static void readable_is_cleared_by_eagain_alone(void **state)
{
    ends_open(&ends, state);
    ends.to = bind_loopback(&ends, &ends.other, AF_INET);
    (void)bind_loopback(&ends, &ends.one, AF_INET);
    assert_int_equal(run_call(&ends, one_sends_to), 5);
    assert_int_equal(run_call(&ends, one_sends_to), 5);
    let_turn(&ends);

    assert_int_equal(run_call(&ends, other_receives), 5);
    assert_true(is_ready(&ends.other, RDY_INTEREST_READ, RDY_READABLE));
    assert_int_equal(run_call(&ends, other_receives), 5);
    assert_true(is_ready(&ends.other, RDY_INTEREST_READ, RDY_READABLE));
    (void)start_call(&ends, other_receives);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    assert_false(is_ready(&ends.other, RDY_INTEREST_READ, RDY_READABLE));
    ends_close(&ends);
}

/*
 * Connects one to a port where nobody hears it: the socket there is connected to itself, so that no
 * other process can take the port meanwhile.
 */
static struct address connect_to_nobody(int family)
{
    struct address nobody = bind_loopback(&ends, &ends.other, family);

    connect_to(&ends.other, nobody);
    (void)bind_loopback(&ends, &ends.one, family);
    connect_to(&ends.one, nobody);
    return nobody;
}

/* From now on somebody hears one. */
static void other_comes(void)
{
    connect_to(&ends.other, local_address(&ends.one));
}

static ssize_t reader_waits(struct ends *reader, struct rdy_task *task)
{
    return rdy_datagram_poll_recv(&ends.one, task, reader->buf, sizeof(reader->buf), NULL);
}

/* The error's event says nothing of data; it must wake the reader all the same. */
static void refusal_wakes_a_waiting_reader_once(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        static struct ends reader;
        struct address one;

        ends_open(&ends, state);
        ends_open(&reader, state);
        (void)connect_to_nobody(families[i]);
        one = local_address(&ends.one);
        (void)start_call(&reader, reader_waits);
        let_turn(&ends);
        assert_int_equal(reader.result, RDY_PENDING);

        assert_int_equal(run_call(&ends, one_sends), 5);

        assert_int_equal(reader.result, -ECONNREFUSED);
        assert_int_equal(reader.polls, 2);
        (void)start_call(&reader, reader_waits);
        let_turn(&ends);
        let_turn(&ends);
        assert_int_equal(reader.result, RDY_PENDING);
        assert_true(reader.polls <= 2);
        other_comes();
        assert_int_equal(sendto(ends.other.fd, "back", 4, 0, sockaddr_of(&one), one.len), 4);
        assert_int_equal(finish_call(&reader), 4);
        ends_close(&ends);
    }
}

static void refusal_is_told_to_the_next_send_once(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        ends_open(&ends, state);
        (void)connect_to_nobody(families[i]);
        assert_int_equal(run_call(&ends, one_sends), 5);
        let_turn(&ends);

        assert_int_equal(run_call(&ends, one_sends), -ECONNREFUSED);

        assert_true(is_ready(&ends.one, RDY_INTEREST_WRITE, RDY_WRITABLE));
        assert_false(is_ready(&ends.one, RDY_INTEREST_WRITE, RDY_WRITE_CLOSED));
        assert_false(is_ready(&ends.one, RDY_INTEREST_READ, RDY_READ_CLOSED));
        other_comes();
        assert_int_equal(run_call(&ends, one_sends), 5);
        assert_int_equal(run_call(&ends, other_receives), 5);
        ends_close(&ends);
    }
}

/* Whoever sent to many peers must not hear of one of them that has gone. */
static void refusal_is_not_told_without_a_peer(void **state)
{
    ends_open(&ends, state);
    ends.to = connect_to_nobody(AF_INET);
    assert_int_equal(rdy_datagram_disconnect(&ends.one), 0);
    for (int count = 0; count < 3; count++) {
        assert_int_equal(run_call(&ends, one_sends_to), 5);
        let_turn(&ends);
    }
    ends_close(&ends);
}

static bool has_drunk_enough;

/* Sends to itself within the poll, so that there is always a datagram. */
static int poll_drinks_from_the_hose(struct rdy_task *task, void *self)
{
    struct ends *hose = ends_of(self);

    hose->polls++;
    for (;;) {
        ssize_t count;

        if (has_drunk_enough)
            return 0;
        assert_int_equal(sendto(hose->one.fd, "drop", 4, 0, sockaddr_of(&hose->to), hose->to.len),
                         4);
        count = rdy_datagram_poll_recv(&hose->one, task, hose->buf, sizeof(hose->buf), NULL);
        if (count == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(count, 4);
        hose->datagram_len++;
    }
}

static int poll_has_50_turns(struct rdy_task *task, void *self)
{
    (void)self;
    rdy_task_defer(task);
    if (++ends.polls < 50)
        return RDY_PENDING;
    has_drunk_enough = true;
    return 0;
}

static void endless_datagrams_do_not_starve_another_task(void **state)
{
    static struct ends hose;

    ends_open(&ends, state);
    ends_open(&hose, state);
    has_drunk_enough = false;
    hose.to = bind_loopback(&hose, &hose.one, AF_INET);
    (void)spawn_test(hose.runtime, poll_drinks_from_the_hose, NULL, &hose);
    (void)spawn_test(hose.runtime, poll_has_50_turns, NULL, &hose);

    assert_int_equal(rdy_runtime_run(hose.runtime), 0);

    assert_int_equal(ends.polls, 50);
    assert_true(hose.polls <= 50 * 4);
    assert_true(hose.datagram_len > 128);
    assert_true(hose.datagram_len <= (size_t)hose.polls * 128);
    assert_true(runtime_stats(hose.runtime).budget_yields > 0);
    ends_close(&hose);
}

static ssize_t one_sends_300_times(struct ends *self, struct rdy_task *task)
{
    while (self->datagram_len < 300) {
        ssize_t count = one_sends_to(self, task);

        if (count == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(count, 5);
        self->datagram_len++;
    }
    return 0;
}

static void sends_pay_from_the_budget(void **state)
{
    ends_open(&ends, state);
    ends.to = bind_loopback(&ends, &ends.one, AF_INET);

    assert_int_equal(run_call(&ends, one_sends_300_times), 0);

    assert_int_equal(ends.polls, 3);
    assert_int_equal(runtime_stats(ends.runtime).budget_yields, 2);
    ends_close(&ends);
}

static void reader_given_up_takes_nothing_along(void **state)
{
    struct rdy_task_id id;

    ends_open(&ends, state);
    ends.to = bind_loopback(&ends, &ends.other, AF_INET);
    (void)bind_loopback(&ends, &ends.one, AF_INET);
    id = start_call(&ends, other_receives);
    let_turn(&ends);
    assert_int_equal(sendto(ends.one.fd, "kept", 4, 0, sockaddr_of(&ends.to), ends.to.len), 4);

    assert_int_equal(rdy_task_abort(ends.runtime, id), 0);
    let_turn(&ends);

    assert_int_equal(run_call(&ends, other_receives), 4);
    ends_close(&ends);
}

static void closed_socket_answers_ebadf(void **state)
{
    struct address address = loopback_address(AF_INET, 0);
    struct sockaddr_storage storage;
    socklen_t len;

    ends_open(&ends, state);
    ends.to = address;
    assert_int_equal(run_call(&ends, one_sends), -EBADF);
    assert_int_equal(run_call(&ends, one_sends_to), -EBADF);
    assert_int_equal(run_call(&ends, one_receives), -EBADF);
    assert_int_equal(run_call(&ends, other_receives_from), -EBADF);
    assert_int_equal(run_call(&ends, other_peeks), -EBADF);
    assert_int_equal(rdy_datagram_bind(&ends.one, sockaddr_of(&address), address.len), -EBADF);
    assert_int_equal(rdy_datagram_connect(&ends.one, sockaddr_of(&address), address.len), -EBADF);
    assert_int_equal(rdy_datagram_disconnect(&ends.one), -EBADF);
    assert_int_equal(rdy_datagram_local_address(&ends.one, &storage, &len), -EBADF);
    assert_int_equal(rdy_datagram_peer_address(&ends.one, &storage, &len), -EBADF);
    rdy_datagram_close(&ends.one);
    assert_int_equal(ends.one.fd, -1);
}

static void address_that_is_taken_is_refused(void **state)
{
    struct rdy_datagram_opts opts = {.size = sizeof(opts), .is_reuseport = true};
    struct address taken;

    ends_open(&ends, state);
    taken = bind_loopback(&ends, &ends.one, AF_INET);
    assert_int_equal(rdy_datagram_open(&ends.other, ends.runtime, AF_INET, NULL), 0);
    assert_int_equal(rdy_datagram_bind(&ends.other, sockaddr_of(&taken), taken.len), -EADDRINUSE);
    ends_close(&ends);

    taken = loopback_address(AF_INET, 0);
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_INET, &opts), 0);
    assert_int_equal(rdy_datagram_bind(&ends.one, sockaddr_of(&taken), taken.len), 0);
    taken = local_address(&ends.one);
    assert_int_equal(rdy_datagram_open(&ends.other, ends.runtime, AF_INET, &opts), 0);
    assert_int_equal(rdy_datagram_bind(&ends.other, sockaddr_of(&taken), taken.len), 0);
    ends_close(&ends);
}

static void options_that_do_not_fit_are_refused(void **state)
{
    struct rdy_datagram_opts opts = {.size = sizeof(opts) - 1};

    ends_open(&ends, state);
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_INET, &opts), -EINVAL);
    opts = (struct rdy_datagram_opts){.size = sizeof(opts), .is_v6only = true};
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_INET, &opts), -EINVAL);
    opts = (struct rdy_datagram_opts){.size = sizeof(opts), .is_reuseaddr = true};
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, &opts), -EINVAL);
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_PACKET, NULL), -EAFNOSUPPORT);
    assert_int_equal(ends.one.fd, -1);
}

/* Every system call of an open fails once: nothing is left, and the socket is not written. */
static void failed_open_leaves_nothing(void **state)
{
    struct rdy_datagram_opts opts = {
        .size = sizeof(opts), .is_reuseaddr = true, .is_reuseport = true};
    int before;
    int rc = -1;

    ends_open(&ends, state);
    let_turn(&ends);
    before = descriptors_count();
    for (uint64_t nth = 1; nth <= 4; nth++) {
        (void)rdy_sys_fail_nth(nth, ENOMEM);
        rc = rdy_datagram_open(&ends.one, ends.runtime, AF_INET6, &opts);
        (void)rdy_sys_fail_nth(0, 0);
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(ends.one.fd, -1);
        assert_int_equal(descriptors_count(), before);
    }
    assert_int_equal(driver_stats(ends.runtime).entries_live, 0);
}

static void only_a_datagram_socket_is_adopted(void **state)
{
    int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int blocking = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int fds[2];

    ends_open(&ends, state);
    assert_true(stream >= 0 && blocking >= 0);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(rdy_datagram_from_fd(&ends.one, ends.runtime, stream), -EPROTOTYPE);
    assert_int_equal(rdy_datagram_from_fd(&ends.one, ends.runtime, fds[0]), -EPROTOTYPE);
    assert_int_equal(rdy_datagram_from_fd(&ends.one, ends.runtime, -1), -EBADF);
    assert_int_equal(ends.one.fd, -1);
    /* A blocking one does not block the runtime's thread. */
    assert_int_equal(rdy_datagram_from_fd(&ends.one, ends.runtime, blocking), 0);
    rdy_assume_ready(&ends.one.reg, RDY_READABLE);
    (void)start_call(&ends, one_receives);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    ends_close(&ends);
    assert_int_equal(close(stream), 0);
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(close(fds[1]), 0);
}

static void drop_closes_other(void *self)
{
    rdy_datagram_close(&ends_of(self)->other);
}

static void runtime_closes_with_a_reader_without_a_leak(void **state)
{
    struct runtime_fixture *fixture = *state;
    int before;

    rdy_runtime_close(fixture->runtime);
    before = descriptors_count();
    fixture->runtime = runtime_open(fixture->backend);
    ends_open(&ends, state);
    (void)bind_loopback(&ends, &ends.other, AF_INET);
    ends.call = other_receives;
    (void)spawn_test(ends.runtime, poll_calls, drop_closes_other, &ends);
    let_turn(&ends);

    rdy_runtime_close(fixture->runtime);
    fixture->runtime = NULL;

    assert_int_equal(ends.result, RDY_PENDING);
    assert_int_equal(descriptors_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(datagram_comes_with_its_senders_address),
        ON_BOTH(waiting_reader_is_woken_by_a_datagram),
        ON_BOTH(connected_socket_hears_its_peer_alone),
        ON_BOTH(send_without_a_peer_is_refused),
        ON_BOTH(datagram_that_is_too_long_is_refused),
        ON_BOTH(empty_datagram_arrives_as_nothing),
        ON_BOTH(cut_off_end_is_reported_and_lost),
        ON_BOTH(peek_leaves_the_datagram),
        ON_BOTH(readable_is_cleared_by_eagain_alone),
        ON_BOTH(refusal_wakes_a_waiting_reader_once),
        ON_BOTH(refusal_is_told_to_the_next_send_once),
        ON_BOTH(refusal_is_not_told_without_a_peer),
        ON_BOTH(endless_datagrams_do_not_starve_another_task),
        ON_BOTH(sends_pay_from_the_budget),
        ON_BOTH(reader_given_up_takes_nothing_along),
        ON_BOTH(closed_socket_answers_ebadf),
        ON_BOTH(address_that_is_taken_is_refused),
        ON_BOTH(options_that_do_not_fit_are_refused),
        ON_BOTH(failed_open_leaves_nothing),
        ON_BOTH(only_a_datagram_socket_is_adopted),
        ON_BOTH(runtime_closes_with_a_reader_without_a_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
