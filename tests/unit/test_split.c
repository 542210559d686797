/* SPDX-License-Identifier: MIT */
/*
 * Halves of a stream, and two tasks on one stream, each test on io_uring and on epoll.
 */
#include "tests/support/call.h"
#include "tests/support/pair.h"

#include <errno.h>

struct halves {
    struct pair pair;
    struct rdy_read_half read_half;
    struct rdy_write_half write_half;
    size_t sent;
    size_t got;
};

static void halves_open_kind(struct halves *halves, void **state, bool is_unix)
{
    memset(halves, 0, sizeof(*halves));
    pair_open(&halves->pair, state);
    if (is_unix)
        pair_unix(&halves->pair);
    else
        pair_accept(&halves->pair);
    assert_int_equal(
        rdy_stream_split(&halves->pair.server, &halves->read_half, &halves->write_half), 0);
    assert_int_equal(halves->pair.server.fd, -1);
}

static void halves_open(struct halves *halves, void **state)
{
    halves_open_kind(halves, state, false);
}

static void halves_close(struct halves *halves)
{
    rdy_read_half_close(&halves->read_half);
    rdy_write_half_close(&halves->write_half);
    rdy_read_half_close(&halves->read_half);
    rdy_write_half_close(&halves->write_half);
    pair_close(&halves->pair);
}

static ssize_t reads_half(void *test, struct rdy_task *task)
{
    struct halves *halves = test;

    return rdy_stream_poll_read(halves->read_half.stream, task, halves->pair.buf,
                                sizeof(halves->pair.buf));
}

static ssize_t writes_half(void *test, struct rdy_task *task)
{
    struct halves *halves = test;

    return rdy_stream_poll_write(halves->write_half.stream, task, "x", 1);
}

static ssize_t peer_says(const struct halves *halves)
{
    char byte;

    return recv(halves->pair.peer, &byte, 1, MSG_DONTWAIT);
}

#define TALK_BYTES (2u << 20)

/* Ends on its own, as a task does that owns its half. */
static ssize_t sends_pattern(void *test, struct rdy_task *task)
{
    struct halves *halves = test;
    unsigned char chunk[10007];

    while (halves->sent < TALK_BYTES) {
        size_t left = TALK_BYTES - halves->sent;
        size_t len = left < sizeof(chunk) ? left : sizeof(chunk);
        ssize_t count;

        pattern_fill(chunk, len, halves->sent);
        count = rdy_stream_poll_write(halves->write_half.stream, task, chunk, len);
        if (count < 0)
            return count;
        halves->sent += (size_t)count;
    }
    rdy_write_half_close(&halves->write_half);
    return 0;
}

static ssize_t receives_pattern(void *test, struct rdy_task *task)
{
    struct halves *halves = test;

    for (;;) {
        ssize_t count = reads_half(halves, task);

        if (count <= 0) {
            if (count == 0)
                rdy_read_half_close(&halves->read_half);
            return count;
        }
        assert_true(pattern_holds((unsigned char *)halves->pair.buf, (size_t)count, halves->got));
        halves->got += (size_t)count;
    }
}

static void halves_carry_a_conversation_in_two_tasks(void **state)
{
    static struct halves here;
    static struct halves there;
    struct call calls[4];

    halves_open(&here, state);
    memset(&there, 0, sizeof(there));
    pair_open(&there.pair, state);
    unblock(here.pair.peer);
    assert_int_equal(rdy_stream_from_fd(&there.pair.server, here.pair.runtime, here.pair.peer), 0);
    here.pair.peer = -1;
    assert_int_equal(rdy_stream_split(&there.pair.server, &there.read_half, &there.write_half), 0);
    rdy_listener_close(&here.pair.listener);

    call_start(&calls[0], here.pair.runtime, sends_pattern, &here);
    call_start(&calls[1], here.pair.runtime, receives_pattern, &here);
    call_start(&calls[2], here.pair.runtime, sends_pattern, &there);
    call_start(&calls[3], here.pair.runtime, receives_pattern, &there);
    assert_int_equal(rdy_runtime_run(here.pair.runtime), 0);

    for (size_t i = 0; i < 4; i++)
        assert_int_equal(calls[i].result, 0);
    assert_int_equal(here.got, TALK_BYTES);
    assert_int_equal(there.got, TALK_BYTES);
    /* All four are closed, and with them both streams. */
    assert_int_equal(driver_stats(here.pair.runtime).entries_live, 0);
    halves_close(&here);
    halves_close(&there);
}

static void closing_the_write_half_ends_the_stream_for_the_peer_only(void **state)
{
    static struct halves halves;

    for (int is_unix = 0; is_unix < 2; is_unix++) {
        halves_open_kind(&halves, state, is_unix);
        rdy_write_half_close(&halves.write_half);

        assert_null(halves.write_half.stream);
        assert_int_equal(peer_says(&halves), 0);
        say(halves.pair.peer, "still");
        assert_int_equal(call_run(halves.pair.runtime, reads_half, &halves), 5);
        halves_close(&halves);
    }
}

static void forgotten_write_half_tells_the_peer_nothing(void **state)
{
    static struct halves halves;

    halves_open(&halves, state);
    rdy_write_half_forget(&halves.write_half);
    rdy_write_half_forget(&halves.write_half);
    take_turns(halves.pair.runtime, 3);

    assert_int_equal(peer_says(&halves), -1);
    assert_int_equal(errno, EAGAIN);
    say(halves.pair.peer, "still");
    assert_int_equal(call_run(halves.pair.runtime, reads_half, &halves), 5);
    rdy_read_half_close(&halves.read_half);
    take_turns(halves.pair.runtime, 3);
    assert_int_equal(peer_says(&halves), 0);
    halves_close(&halves);
}

static void closing_the_read_half_first_leaves_the_writer_alone(void **state)
{
    static struct halves halves;

    halves_open(&halves, state);
    rdy_read_half_close(&halves.read_half);
    take_turns(halves.pair.runtime, 3);

    assert_int_equal(call_run(halves.pair.runtime, writes_half, &halves), 1);
    assert_int_equal(peer_says(&halves), 1);
    assert_int_equal(peer_says(&halves), -1);
    /* At once, although a ring may still hold the file. */
    rdy_write_half_close(&halves.write_half);
    assert_int_equal(peer_says(&halves), 0);
    halves_close(&halves);
}

static void closing_the_write_half_after_a_reset_is_fine(void **state)
{
    static struct halves halves;

    halves_open(&halves, state);
    reset(halves.pair.peer);
    halves.pair.peer = -1;
    assert_int_equal(call_run(halves.pair.runtime, reads_half, &halves), -ECONNRESET);

    rdy_write_half_close(&halves.write_half);

    halves_close(&halves);
}

static void reunited_halves_are_the_stream_again(void **state)
{
    static struct halves halves;
    struct rdy_stream stream = {.fd = -1};

    halves_open(&halves, state);
    assert_int_equal(rdy_stream_reunite(&halves.read_half, &halves.write_half, &stream), 0);

    assert_null(halves.read_half.stream);
    assert_null(halves.write_half.stream);
    assert_int_equal(peer_says(&halves), -1);
    halves.pair.server = stream;
    say(halves.pair.peer, "hello");
    assert_int_equal(read_once(&halves.pair), 5);
    halves_close(&halves);
}

static void strangers_are_not_reunited(void **state)
{
    static struct halves one;
    static struct halves other;
    struct rdy_stream stream = {.fd = -2};
    struct rdy_stream *kept[2];

    halves_open(&one, state);
    halves_open(&other, state);
    kept[0] = one.read_half.stream;
    kept[1] = other.write_half.stream;

    assert_int_equal(rdy_stream_reunite(&one.read_half, &other.write_half, &stream), -EINVAL);
    assert_int_equal(rdy_stream_reunite(&other.read_half, &one.write_half, &stream), -EINVAL);
    assert_int_equal(stream.fd, -2);
    assert_ptr_equal(one.read_half.stream, kept[0]);
    assert_ptr_equal(other.write_half.stream, kept[1]);
    assert_int_equal(peer_says(&one), -1);

    /* With a half that is closed there is nothing to reunite with. */
    rdy_write_half_forget(&one.write_half);
    assert_int_equal(rdy_stream_reunite(&one.read_half, &one.write_half, &stream), -EINVAL);
    assert_non_null(one.read_half.stream);
    rdy_read_half_close(&one.read_half);
    assert_int_equal(rdy_stream_reunite(&one.read_half, &one.write_half, &stream), -EINVAL);
    assert_int_equal(stream.fd, -2);
    halves_close(&one);
    halves_close(&other);
}

static void closed_stream_cannot_be_split(void **state)
{
    static struct halves halves;
    struct rdy_stream none = {.fd = -1};

    memset(&halves, 0, sizeof(halves));
    pair_open(&halves.pair, state);

    assert_int_equal(rdy_stream_split(&none, &halves.read_half, &halves.write_half), -EBADF);

    assert_null(halves.read_half.stream);
    assert_null(halves.write_half.stream);
    halves_close(&halves);
}

/* No halves: two tasks on the same stream, which is all that most programs need. */
static ssize_t reads_server(void *test, struct rdy_task *task)
{
    struct halves *halves = test;

    return rdy_stream_poll_read(&halves->pair.server, task, halves->pair.buf,
                                sizeof(halves->pair.buf));
}

static ssize_t writes_server(void *test, struct rdy_task *task)
{
    struct halves *halves = test;

    while (halves->sent < TALK_BYTES) {
        static char chunk[65536];
        ssize_t count = rdy_stream_poll_write(&halves->pair.server, task, chunk, sizeof(chunk));

        if (count < 0)
            return count;
        halves->sent += (size_t)count;
    }
    return 0;
}

static void blocked_writer_and_a_reader_share_a_stream(void **state)
{
    static struct halves halves;
    static char drain[65536];
    struct call reader;
    struct call writer;

    memset(&halves, 0, sizeof(halves));
    pair_open(&halves.pair, state);
    pair_accept(&halves.pair);
    call_start(&writer, halves.pair.runtime, writes_server, &halves);
    call_start(&reader, halves.pair.runtime, reads_server, &halves);
    take_turns(halves.pair.runtime, 5);
    assert_int_equal(reader.result, RDY_PENDING);
    say(halves.pair.peer, "hello");
    take_turns(halves.pair.runtime, 5);
    assert_int_equal(reader.result, 5);

    unblock(halves.pair.peer);
    for (int i = 0; i < 100000 && writer.result == RDY_PENDING; i++) {
        if (read(halves.pair.peer, drain, sizeof(drain)) < 0)
            assert_int_equal(errno, EAGAIN);
        take_turns(halves.pair.runtime, 2);
    }
    assert_int_equal(writer.result, 0);
    pair_close(&halves.pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(halves_carry_a_conversation_in_two_tasks),
        ON_BOTH(closing_the_write_half_ends_the_stream_for_the_peer_only),
        ON_BOTH(forgotten_write_half_tells_the_peer_nothing),
        ON_BOTH(closing_the_read_half_first_leaves_the_writer_alone),
        ON_BOTH(closing_the_write_half_after_a_reset_is_fine),
        ON_BOTH(reunited_halves_are_the_stream_again),
        ON_BOTH(strangers_are_not_reunited),
        ON_BOTH(closed_stream_cannot_be_split),
        ON_BOTH(blocked_writer_and_a_reader_share_a_stream),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
