/* SPDX-License-Identifier: MIT */
/*
 * Tries without a task, waits without I/O, and the wait for the peer's end, each test on io_uring
 * and on epoll.
 */
#include "tests/support/call.h"
#include "tests/support/pair.h"

#include <errno.h>

#include "engine/sys.h"

struct trial {
    struct pair pair;
    struct rdy_readiness wait;
    struct rdy_readiness other_wait;
    size_t sent;
    size_t got;
};

static void trial_open_kind(struct trial *trial, void **state, bool is_unix)
{
    memset(trial, 0, sizeof(*trial));
    pair_open(&trial->pair, state);
    if (is_unix)
        pair_unix(&trial->pair);
    else
        pair_accept(&trial->pair);
}

static void trial_open(struct trial *trial, void **state)
{
    trial_open_kind(trial, state, false);
}

static ssize_t waits_readable(void *test, struct rdy_task *task)
{
    return rdy_stream_poll_readable(&((struct trial *)test)->pair.server, task);
}

static ssize_t waits_writable(void *test, struct rdy_task *task)
{
    return rdy_stream_poll_writable(&((struct trial *)test)->pair.server, task);
}

static ssize_t waits_closed(void *test, struct rdy_task *task)
{
    struct trial *trial = test;

    return rdy_stream_poll_closed(&trial->pair.server, task, &trial->wait);
}

static ssize_t waits_closed_too(void *test, struct rdy_task *task)
{
    struct trial *trial = test;

    return rdy_stream_poll_closed(&trial->pair.server, task, &trial->other_wait);
}

static ssize_t reads_all(void *test, struct rdy_task *task)
{
    struct trial *trial = test;
    ssize_t count;

    do {
        count = rdy_stream_poll_read(&trial->pair.server, task, trial->pair.buf,
                                     sizeof(trial->pair.buf));
        if (count > 0)
            trial->got += (size_t)count;
    } while (count > 0);
    return count;
}

static ssize_t try_read(struct trial *trial)
{
    return rdy_stream_try_read(&trial->pair.server, trial->pair.buf, sizeof(trial->pair.buf));
}

/* --- tries --- */

/* S40: the kernel is asked only on cached readiness, whatever it may have. */
static void try_read_believes_the_cached_readiness(void **state)
{
    static struct trial trial;

    trial_open(&trial, state);
    /* Accepted sockets are assumed readable: the first try asks, is told EAGAIN, and clears. */
    assert_int_equal(try_read(&trial), -EAGAIN);
    assert_false(is_cached(&trial.pair.server, RDY_INTEREST_READ, RDY_READABLE));
    say(trial.pair.peer, "hello");
    (void)rdy_sys_fail_nth(1, EIO);

    assert_int_equal(try_read(&trial), -EAGAIN);

    assert_int_equal(rdy_sys_fail_nth(0, 0), 0);
    let_driver_turn(&trial.pair);
    assert_int_equal(try_read(&trial), 5);
    assert_memory_equal(trial.pair.buf, "hello", 5);
    /* A short read, which on TCP is known to have drained the socket. */
    assert_int_equal(try_read(&trial), -EAGAIN);

    assert_int_equal(rdy_stream_try_read(&trial.pair.server, trial.pair.buf, 0), 0);
    assert_int_equal(shutdown(trial.pair.peer, SHUT_WR), 0);
    let_driver_turn(&trial.pair);
    assert_int_equal(try_read(&trial), 0);
    assert_int_equal(try_read(&trial), 0);
    pair_close(&trial.pair);
}

/* Return: how many bytes went in until the socket was full. */
static size_t fill_by_tries(struct trial *trial)
{
    static char block[65536];
    ssize_t count = 0;
    size_t sent = 0;

    for (int i = 0; i < 10000 && count != -EAGAIN; i++) {
        count = rdy_stream_try_write(&trial->pair.server, block, sizeof(block));
        assert_true(count > 0 || count == -EAGAIN);
        sent += count > 0 ? (size_t)count : 0;
    }
    assert_int_equal(count, -EAGAIN);
    return sent;
}

static void fills_and_goes_on(struct trial *trial)
{
    size_t sent = fill_by_tries(trial);
    size_t drained = 0;
    struct call call;

    assert_false(is_cached(&trial->pair.server, RDY_INTEREST_WRITE, RDY_WRITABLE));
    call_start(&call, trial->pair.runtime, waits_writable, trial);
    take_turns(trial->pair.runtime, 3);
    assert_int_equal(call.result, RDY_PENDING);

    while (drained < sent) {
        ssize_t got = read(trial->pair.peer, trial->pair.buf, sizeof(trial->pair.buf));

        assert_true(got > 0);
        drained += (size_t)got;
    }
    assert_int_equal(call_finish(&call), 0);
    assert_false(is_cached(&trial->pair.server, RDY_INTEREST_WRITE, RDY_WRITE_CLOSED));
    assert_int_equal(rdy_stream_try_write(&trial->pair.server, "x", 1), 1);
}

static void try_write_fills_the_socket_and_goes_on_when_the_peer_reads(void **state)
{
    static struct trial trial;

    for (int is_unix = 0; is_unix < 2; is_unix++) {
        trial_open_kind(&trial, state, is_unix);
        fills_and_goes_on(&trial);
        pair_close(&trial.pair);
    }
}

/* An error that the kernel tells once is handed on, and does not clear what is cached. */
static void tries_hand_errors_on(void **state)
{
    static struct trial trial;

    trial_open(&trial, state);
    (void)rdy_sys_fail_nth(1, EIO);
    assert_int_equal(try_read(&trial), -EIO);
    (void)rdy_sys_fail_nth(1, EIO);
    assert_int_equal(rdy_stream_try_write(&trial.pair.server, "x", 1), -EIO);
    (void)rdy_sys_fail_nth(0, 0);
    assert_true(is_cached(&trial.pair.server, RDY_INTEREST_READ, RDY_READABLE));
    assert_true(is_cached(&trial.pair.server, RDY_INTEREST_WRITE, RDY_WRITABLE));

    reset(trial.pair.peer);
    trial.pair.peer = -1;
    let_driver_turn(&trial.pair);
    assert_int_equal(try_read(&trial), -ECONNRESET);
    assert_int_equal(rdy_stream_try_write(&trial.pair.server, "x", 1), -EPIPE);

    rdy_stream_close(&trial.pair.server);
    assert_int_equal(try_read(&trial), -EBADF);
    assert_int_equal(rdy_stream_try_write(&trial.pair.server, "x", 1), -EBADF);
    pair_close(&trial.pair);
}

/* The other end of a driver that has ended: no readiness will come, so "not yet" would be a lie. */
static void tries_after_the_drivers_shutdown_say_so(void **state)
{
    static struct trial trial;

    trial_open(&trial, state);
    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(trial.pair.runtime)), 0);

    assert_int_equal(try_read(&trial), -ESHUTDOWN);
    assert_int_equal(rdy_stream_try_write(&trial.pair.server, "x", 1), -ESHUTDOWN);
    pair_close(&trial.pair);
}

/* --- waits without I/O --- */

static void readable_takes_nothing_and_stays_until_a_read_found_nothing(void **state)
{
    static struct trial trial;
    struct call call;

    trial_open(&trial, state);
    assert_int_equal(try_read(&trial), -EAGAIN);
    call_start(&call, trial.pair.runtime, waits_readable, &trial);
    take_turns(trial.pair.runtime, 3);
    assert_int_equal(call.result, RDY_PENDING);
    say(trial.pair.peer, "hello");

    assert_int_equal(call_finish(&call), 0);

    assert_int_equal(call_run(trial.pair.runtime, waits_readable, &trial), 0);
    assert_int_equal(try_read(&trial), 5);
    call_start(&call, trial.pair.runtime, waits_readable, &trial);
    call_give_up(&call);
    pair_close(&trial.pair);
}

/* With nothing but tries and waits, more than the sockets hold gets through, back and forth. */
#define TALK_BYTES (2u << 20)

static ssize_t sends_by_tries(void *test, struct rdy_task *task)
{
    struct trial *trial = test;
    unsigned char chunk[10007];

    while (trial->sent < TALK_BYTES) {
        size_t left = TALK_BYTES - trial->sent;
        size_t len = left < sizeof(chunk) ? left : sizeof(chunk);
        ssize_t rc = rdy_stream_poll_writable(&trial->pair.server, task);

        if (rc != 0)
            return rc;
        pattern_fill(chunk, len, trial->sent);
        rc = rdy_stream_try_write(&trial->pair.server, chunk, len);
        assert_true(rc > 0 || rc == -EAGAIN);
        trial->sent += rc > 0 ? (size_t)rc : 0;
    }
    return rdy_stream_shutdown(&trial->pair.server, SHUT_WR);
}

static ssize_t receives_by_tries(void *test, struct rdy_task *task)
{
    struct trial *trial = test;

    for (;;) {
        ssize_t rc = rdy_stream_poll_readable(&trial->pair.client, task);

        if (rc != 0)
            return rc;
        rc = rdy_stream_try_read(&trial->pair.client, trial->pair.buf, sizeof(trial->pair.buf));
        if (rc == 0)
            return 0;
        assert_true(rc > 0 || rc == -EAGAIN);
        if (rc > 0) {
            assert_true(pattern_holds((unsigned char *)trial->pair.buf, (size_t)rc, trial->got));
            trial->got += (size_t)rc;
        }
    }
}

static void tries_and_waits_carry_a_whole_conversation(void **state)
{
    static struct trial trial;
    struct call sender;
    struct call receiver;

    for (int is_unix = 0; is_unix < 2; is_unix++) {
        trial_open_kind(&trial, state, is_unix);
        unblock(trial.pair.peer);
        assert_int_equal(
            rdy_stream_from_fd(&trial.pair.client, trial.pair.runtime, trial.pair.peer), 0);
        trial.pair.peer = -1;
        call_start(&sender, trial.pair.runtime, sends_by_tries, &trial);
        call_start(&receiver, trial.pair.runtime, receives_by_tries, &trial);

        assert_int_equal(call_finish(&receiver), 0);

        assert_int_equal(sender.result, 0);
        assert_int_equal(trial.got, TALK_BYTES);
        pair_close(&trial.pair);
    }
}

/* Whoever waits for readiness, and not for an answer, has to hear that no more will come. */
static void end_makes_an_empty_stream_readable_and_a_full_one_writable(void **state)
{
    static struct trial trial;
    struct call reader;
    struct call writer;

    for (int kind = 0; kind < 4; kind++) {
        bool is_full = kind >= 2;

        trial_open_kind(&trial, state, kind % 2 == 1);
        (void)try_read(&trial);
        call_start(&reader, trial.pair.runtime, waits_readable, &trial);
        if (is_full) {
            (void)fill_by_tries(&trial);
            call_start(&writer, trial.pair.runtime, waits_writable, &trial);
        }
        take_turns(trial.pair.runtime, 3);
        assert_int_equal(reader.result, RDY_PENDING);
        assert_true(!is_full || writer.result == RDY_PENDING);
        assert_int_equal(close(trial.pair.peer), 0);
        trial.pair.peer = -1;

        assert_int_equal(call_finish(&reader), 0);

        if (is_full) /* with data unread at its close, the peer's end is a reset */
            assert_int_equal(writer.result, 0);
        assert_int_equal(try_read(&trial), is_full ? -ECONNRESET : 0);
        assert_int_equal(call_run(trial.pair.runtime, waits_readable, &trial), 0);
        pair_close(&trial.pair);
    }
}

static void reset_makes_a_full_socket_writable_so_that_the_write_can_fail(void **state)
{
    static struct trial trial;
    struct call call;

    trial_open(&trial, state);
    (void)fill_by_tries(&trial);
    call_start(&call, trial.pair.runtime, waits_writable, &trial);
    take_turns(trial.pair.runtime, 3);
    assert_int_equal(call.result, RDY_PENDING);
    reset(trial.pair.peer);
    trial.pair.peer = -1;

    assert_int_equal(call_finish(&call), 0);

    assert_true(is_cached(&trial.pair.server, RDY_INTEREST_WRITE, RDY_WRITE_CLOSED));
    assert_true(rdy_stream_try_write(&trial.pair.server, "x", 1) < 0);
    pair_close(&trial.pair);
}

/* --- the peer's end --- */

/* Data before the end is no end, and needs no reader for the end to be seen behind it. */
static void end_is_seen_behind_data_that_nobody_reads(void **state)
{
    static struct trial trial;

    for (int is_unix = 0; is_unix < 2; is_unix++) {
        struct call call;

        memset(&trial, 0, sizeof(trial));
        pair_open(&trial.pair, state);
        if (is_unix)
            pair_unix(&trial.pair);
        else
            pair_accept(&trial.pair);
        call_start(&call, trial.pair.runtime, waits_closed, &trial);
        say(trial.pair.peer, "hello");
        if (!is_unix) /* nor is an urgent mark the end */
            assert_int_equal(send(trial.pair.peer, "!", 1, MSG_OOB), 1);
        take_turns(trial.pair.runtime, 3);
        assert_int_equal(call.result, RDY_PENDING);
        assert_int_equal(call.polls, 1);
        assert_int_equal(shutdown(trial.pair.peer, SHUT_WR), 0);

        assert_int_equal(call_finish(&call), 0);

        assert_null(trial.wait.io);
        assert_int_equal(call_run(trial.pair.runtime, waits_closed, &trial), 0);
        assert_int_equal(call_run(trial.pair.runtime, reads_all, &trial), 0);
        assert_int_equal(trial.got, 5);
        pair_close(&trial.pair);
    }
}

/* The waits stand beside the poll slot: neither the reader nor they keep each other's wake. */
static void reader_and_two_who_wait_for_the_end_are_all_woken(void **state)
{
    static struct trial trial;
    struct call reader;
    struct call first;
    struct call second;

    trial_open(&trial, state);
    call_start(&first, trial.pair.runtime, waits_closed, &trial);
    call_start(&reader, trial.pair.runtime, reads_all, &trial);
    call_start(&second, trial.pair.runtime, waits_closed_too, &trial);
    for (int i = 0; i < 3; i++) {
        say(trial.pair.peer, "hello");
        take_turns(trial.pair.runtime, 3);
        assert_int_equal(trial.got, 5 * (i + 1));
    }
    assert_int_equal(first.polls, 1);
    assert_int_equal(second.polls, 1);
    assert_int_equal(shutdown(trial.pair.peer, SHUT_WR), 0);

    assert_int_equal(call_finish(&reader), 0);

    assert_int_equal(first.result, 0);
    assert_int_equal(second.result, 0);
    pair_close(&trial.pair);
}

static void reset_and_own_shutdown_of_reading_are_ends_too(void **state)
{
    static struct trial trial;
    struct call call;

    trial_open(&trial, state);
    call_start(&call, trial.pair.runtime, waits_closed, &trial);
    take_turns(trial.pair.runtime, 2);
    reset(trial.pair.peer);
    trial.pair.peer = -1;
    assert_int_equal(call_finish(&call), 0);
    pair_close(&trial.pair);

    trial_open(&trial, state);
    call_start(&call, trial.pair.runtime, waits_closed, &trial);
    take_turns(trial.pair.runtime, 2);
    assert_int_equal(rdy_stream_shutdown(&trial.pair.server, SHUT_RD), 0);
    assert_int_equal(call_finish(&call), 0);
    pair_close(&trial.pair);
}

/* What it means to shut one's writing down: this side may go on reading. */
static void own_shutdown_of_writing_is_no_end(void **state)
{
    static struct trial trial;
    struct call call;

    trial_open(&trial, state);
    assert_int_equal(rdy_stream_shutdown(&trial.pair.server, SHUT_WR), 0);
    assert_int_equal(rdy_stream_shutdown(&trial.pair.server, SHUT_WR), 0);
    call_start(&call, trial.pair.runtime, waits_closed, &trial);
    call_give_up(&call);
    assert_true(rdy_readiness_cancel(&trial.wait));
    trial.wait = (struct rdy_readiness){0};
    /* Given up and begun anew: nothing was lost. */
    assert_int_equal(shutdown(trial.pair.peer, SHUT_WR), 0);
    assert_int_equal(call_run(trial.pair.runtime, waits_closed, &trial), 0);
    pair_close(&trial.pair);
}

static void end_of_the_stream_itself_ends_the_wait_for_it(void **state)
{
    static struct trial trial;
    struct call call;

    trial_open(&trial, state);
    call_start(&call, trial.pair.runtime, waits_closed, &trial);
    take_turns(trial.pair.runtime, 2);
    rdy_stream_close(&trial.pair.server);

    assert_int_equal(call_finish(&call), -EBADF);

    assert_int_equal(call.polls, 2);
    assert_false(rdy_readiness_cancel(&trial.wait));
    assert_int_equal(call_run(trial.pair.runtime, waits_readable, &trial), -EBADF);
    assert_int_equal(call_run(trial.pair.runtime, waits_writable, &trial), -EBADF);
    pair_close(&trial.pair);
}

static ssize_t asks_for_the_end_again_and_again(void *test, struct rdy_task *task)
{
    struct trial *trial = test;
    ssize_t rc = 0;

    while (trial->got < 300 && rc == 0) {
        rc = rdy_stream_poll_closed(&trial->pair.server, task, &trial->wait);
        if (rc == 0)
            trial->got++;
    }
    return rc;
}

static void answers_about_the_end_pay_from_the_budget(void **state)
{
    static struct trial trial;
    struct call call;

    trial_open(&trial, state);
    assert_int_equal(shutdown(trial.pair.peer, SHUT_WR), 0);
    let_driver_turn(&trial.pair);
    call_start(&call, trial.pair.runtime, asks_for_the_end_again_and_again, &trial);

    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(call.polls, 300 / 128 + 1);
    pair_close(&trial.pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(try_read_believes_the_cached_readiness),
        ON_BOTH(try_write_fills_the_socket_and_goes_on_when_the_peer_reads),
        ON_BOTH(tries_hand_errors_on),
        ON_BOTH(tries_after_the_drivers_shutdown_say_so),
        ON_BOTH(readable_takes_nothing_and_stays_until_a_read_found_nothing),
        ON_BOTH(tries_and_waits_carry_a_whole_conversation),
        ON_BOTH(end_makes_an_empty_stream_readable_and_a_full_one_writable),
        ON_BOTH(reset_makes_a_full_socket_writable_so_that_the_write_can_fail),
        ON_BOTH(end_is_seen_behind_data_that_nobody_reads),
        ON_BOTH(reader_and_two_who_wait_for_the_end_are_all_woken),
        ON_BOTH(reset_and_own_shutdown_of_reading_are_ends_too),
        ON_BOTH(own_shutdown_of_writing_is_no_end),
        ON_BOTH(end_of_the_stream_itself_ends_the_wait_for_it),
        ON_BOTH(answers_about_the_end_pay_from_the_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
