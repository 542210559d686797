/* SPDX-License-Identifier: MIT */
/*
 * Vectored reads and writes, peeks, and whole buffers, each test on io_uring and on epoll.
 */
#include "tests/support/call.h"
#include "tests/support/pair.h"

#include <errno.h>
#include <limits.h>

#include "engine/sys.h"

#define IOVS_MANY 3000 /* more than one system call takes */

struct io {
    struct pair pair;
    struct iovec *iov;
    int iov_count;
    size_t iov_left;
    size_t done;
    size_t len;
    int fault; /* errno for the next system call of the call under test */
};

static void io_open(struct io *io, void **state)
{
    memset(io, 0, sizeof(*io));
    pair_open(&io->pair, state);
    pair_accept(&io->pair);
}

static ssize_t reads_vector(void *test, struct rdy_task *task)
{
    struct io *io = test;

    if (io->fault)
        (void)rdy_sys_fail_nth(1, io->fault);
    return rdy_stream_poll_readv(&io->pair.server, task, io->iov, io->iov_count);
}

static ssize_t writes_vector(void *test, struct rdy_task *task)
{
    struct io *io = test;

    if (io->fault)
        (void)rdy_sys_fail_nth(1, io->fault);
    return rdy_stream_poll_writev(&io->pair.server, task, io->iov, io->iov_count);
}

static ssize_t peeks(void *test, struct rdy_task *task)
{
    struct io *io = test;

    if (io->fault)
        (void)rdy_sys_fail_nth(1, io->fault);
    return rdy_stream_poll_peek(&io->pair.server, task, io->pair.buf, io->len);
}

static ssize_t reads_exactly(void *test, struct rdy_task *task)
{
    struct io *io = test;

    return rdy_stream_poll_read_exact(&io->pair.server, task, io->pair.buf, io->len, &io->done);
}

static ssize_t run(struct io *io, call_fn *fn)
{
    return call_run(io->pair.runtime, fn, io);
}

/* --- vectors --- */

static void vectored_read_fills_one_buffer_after_the_other(void **state)
{
    static struct io io;
    char one[2];
    char two[4];
    char rest[8] = {0};
    struct iovec iov[] = {{one, sizeof(one)}, {NULL, 0}, {two, sizeof(two)}, {rest, sizeof(rest)}};

    io_open(&io, state);
    io.iov = iov;
    io.iov_count = 4;
    say(io.pair.peer, "abcdefgh");

    assert_int_equal(run(&io, reads_vector), 8);

    assert_memory_equal(one, "ab", 2);
    assert_memory_equal(two, "cdef", 4);
    assert_string_equal(rest, "gh");
    pair_close(&io.pair);
}

static void vectored_write_sends_the_buffers_in_order(void **state)
{
    static struct io io;
    char text[] = "one two three";
    struct iovec iov[] = {{text, 4}, {text + 8, 5}, {NULL, 0}, {text, 3}};
    char got[16] = {0};

    io_open(&io, state);
    io.iov = iov;
    io.iov_count = 4;

    assert_int_equal(run(&io, writes_vector), 12);

    assert_int_equal(recv(io.pair.peer, got, 12, MSG_WAITALL), 12);
    assert_string_equal(got, "one threeone");
    pair_close(&io.pair);
}

static void more_buffers_than_the_kernel_takes_are_refused(void **state)
{
    static struct iovec iov[IOV_MAX + 1];
    static struct io io;
    static char bytes[IOV_MAX + 1];

    io_open(&io, state);
    for (size_t i = 0; i <= IOV_MAX; i++)
        iov[i] = (struct iovec){&bytes[i], 1};
    io.iov = iov;
    say(io.pair.peer, "abc");

    for (io.iov_count = -1; io.iov_count <= IOV_MAX + 1; io.iov_count += IOV_MAX + 2) {
        assert_int_equal(run(&io, reads_vector), -EINVAL);
        assert_int_equal(run(&io, writes_vector), -EINVAL);
    }
    io.iov_count = IOV_MAX;
    assert_int_equal(run(&io, reads_vector), 3);
    assert_int_equal(run(&io, writes_vector), IOV_MAX);
    pair_close(&io.pair);
}

/* 0 means the end, so a read into nothing must not ask the kernel. */
static void vectored_read_without_room_answers_0_and_takes_nothing(void **state)
{
    static struct io io;
    char byte;
    struct iovec iov[] = {{NULL, 0}, {&byte, 0}};

    io_open(&io, state);
    io.iov = iov;
    say(io.pair.peer, "x");
    let_driver_turn(&io.pair);

    for (io.iov_count = 0; io.iov_count <= 2; io.iov_count++)
        assert_int_equal(run(&io, reads_vector), 0);
    iov[1].iov_len = 1;
    io.iov_count = 2;
    assert_int_equal(run(&io, reads_vector), 1);
    assert_int_equal(byte, 'x');

    assert_int_equal(shutdown(io.pair.peer, SHUT_WR), 0);
    assert_int_equal(run(&io, reads_vector), 0);
    pair_close(&io.pair);
}

/* S45: what a short vector proves has not been shown, so only EAGAIN clears. */
static void short_vectored_read_does_not_clear_readable(void **state)
{
    static struct io io;
    struct iovec iov = {io.pair.buf, sizeof(io.pair.buf)};
    struct call call;

    io_open(&io, state);
    io.iov = &iov;
    io.iov_count = 1;
    say(io.pair.peer, "hello");
    let_driver_turn(&io.pair);

    assert_int_equal(run(&io, reads_vector), 5);
    assert_true(is_cached(&io.pair.server, RDY_INTEREST_READ, RDY_READABLE));

    call_start(&call, io.pair.runtime, reads_vector, &io);
    call_give_up(&call);
    assert_false(is_cached(&io.pair.server, RDY_INTEREST_READ, RDY_READABLE));

    /* Given up at RDY_PENDING: the next reader gets what comes. */
    say(io.pair.peer, "again");
    assert_int_equal(run(&io, reads_vector), 5);
    assert_memory_equal(io.pair.buf, "again", 5);
    pair_close(&io.pair);
}

static void vectored_write_clears_writable_on_eagain_only(void **state)
{
    static struct io io;
    static char block[1 << 20];
    struct iovec iov[2] = {{block, sizeof(block)}, {block, sizeof(block)}};
    struct call call;
    ssize_t sent = 0;
    ssize_t drained = 0;

    io_open(&io, state);
    io.iov = iov;
    io.iov_count = 2;
    for (int i = 0; i < 100 && is_cached(&io.pair.server, RDY_INTEREST_WRITE, RDY_WRITABLE); i++) {
        call_start(&call, io.pair.runtime, writes_vector, &io);
        take_turns(io.pair.runtime, 2);
        if (call.result == RDY_PENDING)
            break;
        assert_true(call.result > 0);
        if ((size_t)call.result < 2 * sizeof(block))
            assert_true(is_cached(&io.pair.server, RDY_INTEREST_WRITE, RDY_WRITABLE));
        sent += call.result;
    }
    assert_int_equal(call.result, RDY_PENDING);
    call_give_up(&call);

    while (drained < sent) {
        ssize_t count = read(io.pair.peer, io.pair.buf, sizeof(io.pair.buf));

        assert_true(count > 0);
        drained += count;
    }
    iov[0].iov_len = 1;
    io.iov_count = 1;
    assert_int_equal(run(&io, writes_vector), 1);
    pair_close(&io.pair);
}

/* --- peeking --- */

static void peek_sees_what_the_next_read_gets(void **state)
{
    static struct io io;
    struct call call;

    io_open(&io, state);
    io.len = 3;
    call_start(&call, io.pair.runtime, peeks, &io);
    take_turns(io.pair.runtime, 3);
    assert_int_equal(call.result, RDY_PENDING);
    say(io.pair.peer, "hello");

    assert_int_equal(call_finish(&call), 3);
    assert_memory_equal(io.pair.buf, "hel", 3);
    io.len = sizeof(io.pair.buf);
    assert_int_equal(run(&io, peeks), 5);
    assert_int_equal(run(&io, peeks), 5);
    assert_true(is_cached(&io.pair.server, RDY_INTEREST_READ, RDY_READABLE));
    assert_int_equal(read_once(&io.pair), 5);
    assert_memory_equal(io.pair.buf, "hello", 5);

    io.len = 0;
    assert_int_equal(run(&io, peeks), 0);
    io.len = 1;
    assert_int_equal(shutdown(io.pair.peer, SHUT_WR), 0);
    assert_int_equal(run(&io, peeks), 0);
    pair_close(&io.pair);
}

/* The peek used up the events; the read that follows must not take the mark for the end of it. */
static void peek_before_an_urgent_mark_hides_nothing(void **state)
{
    static struct io io;

    io_open(&io, state);
    io.len = 100;
    say(io.pair.peer, "abc");
    assert_int_equal(send(io.pair.peer, "d", 1, MSG_OOB), 1);
    say(io.pair.peer, "efg");
    let_driver_turn(&io.pair);

    assert_int_equal(run(&io, peeks), 3);
    io.len = 6;
    assert_int_equal(run(&io, reads_exactly), 0);
    assert_memory_equal(io.pair.buf, "abcefg", 6);
    pair_close(&io.pair);
}

/* --- whole buffers --- */

static void exact_read_waits_for_the_last_byte(void **state)
{
    static struct io io;
    struct call call;

    io_open(&io, state);
    io.len = 8;
    call_start(&call, io.pair.runtime, reads_exactly, &io);
    for (int i = 0; i < 3; i++) {
        say(io.pair.peer, "ab");
        take_turns(io.pair.runtime, 3);
        assert_int_equal(call.result, RDY_PENDING);
        assert_int_equal(io.done, 2 * (i + 1));
    }
    say(io.pair.peer, "cdef");

    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(io.done, 8);
    assert_memory_equal(io.pair.buf, "abababcd", 8);

    io.done = 0;
    io.len = 2;
    assert_int_equal(run(&io, reads_exactly), 0);
    assert_memory_equal(io.pair.buf, "ef", 2);
    pair_close(&io.pair);
}

static void exact_read_of_a_stream_that_ends_early_says_how_much_came(void **state)
{
    static struct io io;

    io_open(&io, state);
    io.len = 8;
    say(io.pair.peer, "abc");
    assert_int_equal(shutdown(io.pair.peer, SHUT_WR), 0);

    assert_int_equal(run(&io, reads_exactly), -ENODATA);
    assert_int_equal(io.done, 3);
    assert_int_equal(run(&io, reads_exactly), -ENODATA);
    assert_int_equal(io.done, 3);

    io.done = 0;
    io.len = 0;
    assert_int_equal(run(&io, reads_exactly), 0);
    pair_close(&io.pair);
}

static ssize_t writes_vectors_whole(void *test, struct rdy_task *task)
{
    struct io *io = test;

    return rdy_stream_poll_writev_all(&io->pair.server, task, &io->iov, &io->iov_left);
}

/* So that the kernel, which lets buffers grow to some megabytes, cannot take all at once. */
static void keep_buffers_small(const struct pair *pair)
{
    int bytes = 1 << 16;

    assert_int_equal(setsockopt(pair->server.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    assert_int_equal(setsockopt(pair->peer, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
}

/* Empty buffers, more of them than a call takes, and a peer that is slow. */
static void vectored_write_of_all_gets_through_a_slow_peer(void **state)
{
    static unsigned char bytes[4u << 20];
    static struct iovec iov[IOVS_MANY];
    static struct io io;
    struct call call;
    size_t begin = 0;
    size_t got = 0;

    io_open(&io, state);
    keep_buffers_small(&io.pair);
    pattern_fill(bytes, sizeof(bytes), 0);
    for (size_t i = 0; i < IOVS_MANY; i++) {
        size_t len = i % 7 == 0 ? 0 : i * 13 % 3001;

        if (i == IOVS_MANY - 1)
            len = sizeof(bytes) - begin;
        iov[i] = (struct iovec){bytes + begin, len};
        begin += len;
        assert_true(begin <= sizeof(bytes));
    }
    io.iov = iov;
    io.iov_left = IOVS_MANY;
    unblock(io.pair.peer);
    call_start(&call, io.pair.runtime, writes_vectors_whole, &io);

    for (int i = 0; i < 100000 && got < sizeof(bytes); i++) {
        ssize_t count = read(io.pair.peer, io.pair.buf, sizeof(io.pair.buf));

        if (count < 0) {
            assert_int_equal(errno, EAGAIN);
            take_turns(io.pair.runtime, 2);
            continue;
        }
        assert_true(pattern_holds((unsigned char *)io.pair.buf, (size_t)count, got));
        got += (size_t)count;
    }

    assert_int_equal(got, sizeof(bytes));
    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(io.iov_left, 0);
    assert_ptr_equal(io.iov, iov + IOVS_MANY);
    assert_true(call.polls > 1);
    pair_close(&io.pair);
}

/* --- errors --- */

static void errors_of_the_kernel_are_passed_on_and_interrupts_are_not(void **state)
{
    static struct io io;
    struct iovec iov = {io.pair.buf, 5};
    call_fn *calls[] = {reads_vector, writes_vector, peeks};

    io_open(&io, state);
    io.iov = &iov;
    io.iov_count = 1;
    io.len = 5;
    say(io.pair.peer, "hello");
    let_driver_turn(&io.pair);

    for (size_t i = 0; i < 3; i++) {
        io.fault = EIO;
        assert_int_equal(run(&io, calls[i]), -EIO);
    }
    for (size_t i = 0; i < 3; i++) {
        io.fault = EINTR;
        /* In reverse: the read takes what the peek saw. */
        assert_int_equal(run(&io, calls[2 - i]), 5);
    }
    (void)rdy_sys_fail_nth(0, 0);
    pair_close(&io.pair);
}

/* An injected EAGAIN is a lie; the call believes it, clears, and waits. */
static void eagain_of_any_of_them_is_a_wait(void **state)
{
    static struct io io;
    struct iovec iov = {io.pair.buf, 5};
    call_fn *calls[] = {reads_vector, peeks, writes_vector};

    io_open(&io, state);
    io.iov = &iov;
    io.iov_count = 1;
    io.len = 5;
    for (size_t i = 0; i < 3; i++) {
        struct call call;

        rdy_assume_ready(&io.pair.server.reg, i < 2 ? RDY_READABLE : RDY_WRITABLE);
        io.fault = EAGAIN;
        call_start(&call, io.pair.runtime, calls[i], &io);
        call_give_up(&call);
        assert_int_equal(call.polls, 1);
    }
    (void)rdy_sys_fail_nth(0, 0);
    assert_false(is_cached(&io.pair.server, RDY_INTEREST_READ, RDY_READABLE));
    assert_false(is_cached(&io.pair.server, RDY_INTEREST_WRITE, RDY_WRITABLE));
    pair_close(&io.pair);
}

static ssize_t writes_one_whole(void *test, struct rdy_task *task)
{
    struct io *io = test;

    return rdy_stream_poll_write_all(&io->pair.server, task, "x", 1, &io->done);
}

static void closed_stream_answers_ebadf(void **state)
{
    call_fn *calls[] = {reads_vector,  writes_vector,    peeks,
                        reads_exactly, writes_one_whole, writes_vectors_whole};
    static struct io io;
    struct iovec iov = {io.pair.buf, 5};

    io_open(&io, state);
    rdy_stream_close(&io.pair.server);
    io.iov = &iov;
    io.iov_count = 1;
    io.iov_left = 1;
    io.len = 5;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        assert_int_equal(run(&io, calls[i]), -EBADF);
    pair_close(&io.pair);
}

static ssize_t spends_all_it_has(void *test, struct rdy_task *task)
{
    struct io *io = test;
    ssize_t rc = 0;

    while (io->done < 1000 && rc != RDY_PENDING) {
        rc = io->done % 3 == 0   ? peeks(io, task)
             : io->done % 3 == 1 ? writes_vector(io, task)
                                 : rdy_stream_poll_readable(&io->pair.server, task);
        if (rc >= 0)
            io->done++;
    }
    return rc == RDY_PENDING ? rc : 0;
}

static void each_of_them_pays_from_the_budget(void **state)
{
    static struct io io;
    struct iovec iov = {io.pair.buf, 1};
    struct call call;

    io_open(&io, state);
    io.iov = &iov;
    io.iov_count = 1;
    io.len = 5;
    say(io.pair.peer, "hello");
    let_driver_turn(&io.pair);
    call_start(&call, io.pair.runtime, spends_all_it_has, &io);

    assert_int_equal(call_finish(&call), 0);

    assert_int_equal(io.done, 1000);
    assert_int_equal(call.polls, 1000 / 128 + 1);
    pair_close(&io.pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(vectored_read_fills_one_buffer_after_the_other),
        ON_BOTH(vectored_write_sends_the_buffers_in_order),
        ON_BOTH(more_buffers_than_the_kernel_takes_are_refused),
        ON_BOTH(vectored_read_without_room_answers_0_and_takes_nothing),
        ON_BOTH(short_vectored_read_does_not_clear_readable),
        ON_BOTH(vectored_write_clears_writable_on_eagain_only),
        ON_BOTH(peek_sees_what_the_next_read_gets),
        ON_BOTH(peek_before_an_urgent_mark_hides_nothing),
        ON_BOTH(exact_read_waits_for_the_last_byte),
        ON_BOTH(exact_read_of_a_stream_that_ends_early_says_how_much_came),
        ON_BOTH(vectored_write_of_all_gets_through_a_slow_peer),
        ON_BOTH(errors_of_the_kernel_are_passed_on_and_interrupts_are_not),
        ON_BOTH(eagain_of_any_of_them_is_a_wait),
        ON_BOTH(closed_stream_answers_ebadf),
        ON_BOTH(each_of_them_pays_from_the_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
