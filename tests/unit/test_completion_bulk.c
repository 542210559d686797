/* SPDX-License-Identifier: MIT */
/*
 * Streams that bring much: they get large buffers, and on a ring the engine makes the calls for as
 * long as that lasts. Whichever way the bytes take, they come whole and in order.
 */
#include "tests/support/rig_tcp.h"

#include <rdy/stream_io.h>

#include "engine/driver.h"
#include "engine/lane.h"

#define BUFFER 4096u
#define LARGE  (4 * BUFFER)
#define LARGES 4u

static const struct rdy_driver_opts opts_of_many = {.buffers_count = 64, .buffer_size = BUFFER};

/* An older ring runs no operations: the engine makes the calls from the begin. */
static bool has_ring(const struct rig *rig)
{
    return rdy_completion_is_native(rig->runtime);
}

/* The peer sends @len bytes more of the pattern. rig->step counts what it has sent. */
static void say_more(struct rig *rig, size_t len)
{
    unsigned char chunk[16 * BUFFER];

    assert_true(len <= sizeof(chunk));
    pattern_fill(chunk, len, rig->step);
    rig_say(rig, chunk, len);
    rig->step += (uint32_t)len;
}

/* Receives all that was said, into rig->bytes. */
static int poll_hears_all(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    struct rdy_buf buf = {0};

    while (rig->have < rig->step) {
        rig->result = rdy_stream_poll_recv(&rig->stream, task, &buf);
        if (rig->result <= 0)
            return rig->result == RDY_PENDING ? RDY_PENDING : 0;
        assert_int_equal(rig->result, (ssize_t)buf.len);
        memcpy(rig->bytes + rig->have, buf.data, buf.len);
        rig->have += buf.len;
        rdy_buf_release(&buf);
    }
    return 0;
}

static void hear_all(struct rig *rig)
{
    rig_run(rig, poll_hears_all);
    assert_int_equal(rig->have, rig->step);
    for (size_t i = 0; i < rig->have; i++)
        assert_int_equal(rig->bytes[i], pattern_at(i));
}

/* So much came that the next receive is into a large buffer. */
static void bring_much(struct rig *rig)
{
    say_more(rig, 16 * BUFFER);
    hear_all(rig);
    rig_turn(rig);
    assert_int_equal(rig_stats(rig).bulks, has_ring(rig) ? 1 : 0);
}

static void open_bulk(struct rig *rig)
{
    rig_reopen(rig, &opts_of_many);
    rig_connect(rig);
    bring_much(rig);
}

static void stream_that_brings_much_gets_large_buffers(void **state)
{
    struct rig *rig = *state;
    uint64_t buffers;

    open_bulk(rig);
    buffers = rig_stats(rig).recv_buffers;
    say_more(rig, 2 * LARGE);
    hear_all(rig);

    assert_int_equal(rig_stats(rig).recv_buffers - buffers, 2);
    assert_int_equal(rig_stats(rig).recv_bytes, rig->step);
    assert_int_equal(rig_stats(rig).blocks_live, 0);
    assert_int_equal(rig_stats(rig).buffers_free, rig_stats(rig).buffers_total);
}

static void stream_that_brings_little_again_goes_back_to_the_ring(void **state)
{
    struct rig *rig = *state;
    uint64_t calls;

    open_bulk(rig);
    for (int i = 0; i < 20; i++) {
        say_more(rig, 100);
        hear_all(rig);
    }
    calls = rig_stats(rig).calls;
    say_more(rig, 100);
    hear_all(rig);
    if (has_ring(rig))
        assert_int_equal(rig_stats(rig).calls, calls);
    say_more(rig, 16 * BUFFER);
    hear_all(rig);
    rig_turn(rig);
    assert_int_equal(rig_stats(rig).bulks, has_ring(rig) ? 2 : 0);
}

/* Some are kept, which is what they may be: then the pool's must do, and the ring. */
static void stream_goes_on_without_a_large_buffer(void **state)
{
    struct rig *rig = *state;

    open_bulk(rig);
    for (uint32_t i = 0; i < LARGES; i++) {
        say_more(rig, LARGE);
        rig_run(rig, rig_poll_recv);
        assert_int_equal(rig->result, LARGE);
        assert_int_equal(rig->held[i].len, LARGE);
        rig->have += LARGE;
        memcpy(rig->bytes + rig->have - LARGE, rig->held[i].data, LARGE);
    }
    for (int i = 0; i < 4; i++) {
        uint64_t buffers = rig_stats(rig).recv_buffers;

        say_more(rig, LARGE);
        hear_all(rig);
        assert_int_equal(rig_stats(rig).recv_buffers - buffers, LARGE / BUFFER);
    }
    rig_release(rig);
    say_more(rig, 8 * BUFFER);
    hear_all(rig);
    rig_turn(rig);
    assert_int_equal(rig_stats(rig).bulks, has_ring(rig) ? 2 : 0);
}

/* A ring does as well with these, for fewer calls. */
static void messages_of_one_buffer_stay_on_the_ring(void **state)
{
    struct rig *rig = *state;

    rig_reopen(rig, &opts_of_many);
    rig_connect(rig);
    for (int i = 0; i < 20; i++) {
        say_more(rig, BUFFER);
        hear_all(rig);
    }
    assert_int_equal(rig_stats(rig).bulks, 0);
    assert_int_equal(rig_stats(rig).recv_buffers, 20);
}

/* The tasks of others wait as long as for a stream on a ring, which has a limit of its own. */
static int poll_hears_one_poll(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    struct rdy_buf buf = {0};

    while ((rig->result = rdy_stream_poll_recv(&rig->stream, task, &buf)) > 0) {
        rig->have += buf.len;
        rdy_buf_release(&buf);
    }
    return 0;
}

static void one_poll_receives_so_much_and_no_more(void **state)
{
    struct rig *rig = *state;
    int bytes = 1 << 18;
    size_t before;

    open_bulk(rig);
    assert_int_equal(setsockopt(rig->peer, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    before = rig->have;
    for (int i = 0; i < 3; i++)
        say_more(rig, 16 * BUFFER);
    rig_turn(rig);
    rig_run(rig, poll_hears_one_poll);
    assert_int_equal(rig->result, RDY_PENDING);
    assert_int_equal(rig->have - before, 8 * LARGE);
    rig_run(rig, poll_hears_one_poll);
    assert_int_equal(rig->have, rig->step);
}

/* Hears at the peer what is there: it must go on where the pattern is. */
static size_t peer_hears(struct rig *rig, size_t position, size_t len_max)
{
    static unsigned char bytes[8192];
    ssize_t count =
        recv(rig->peer, bytes, len_max < sizeof(bytes) ? len_max : sizeof(bytes), MSG_DONTWAIT);

    for (ssize_t i = 0; i < count; i++)
        assert_int_equal(bytes[i], pattern_at(position + (size_t)i));
    return count > 0 ? (size_t)count : 0;
}

static void hand_over(struct rig *rig, size_t position, size_t len)
{
    unsigned char chunk[4 * BUFFER];

    assert_true(len <= sizeof(chunk));
    pattern_fill(chunk, len, position);
    rig_hold(rig, chunk, len);
    rig_start(rig, rig_poll_sends_held);
    assert_int_equal(rig->held_count, 0);
}

/* A send waits in the ring for the peer as the stream is taken off the ring, or goes back to it. */
static void bytes_to_be_sent_keep_their_order(void **state)
{
    struct rig *rig = *state;
    size_t said = 0;
    size_t heard = 0;
    int bytes = 4096;

    rig_reopen(rig, &opts_of_many);
    rig_connect(rig);
    assert_int_equal(setsockopt(rig->stream.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    hand_over(rig, 0, 4 * BUFFER);
    said = 4 * BUFFER;
    rig_turn(rig);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);

    bring_much(rig);
    hand_over(rig, said, 1000);
    said += 1000;
    for (int i = 0; heard < 4 * BUFFER && i < 1000; i++) { /* so far it was the ring that sent */
        heard += peer_hears(rig, heard, 512);
        rig_turn(rig);
    }
    hand_over(rig, said, 2 * BUFFER);
    said += 2 * BUFFER;
    for (int i = 0; i < 20; i++) { /* it goes back, with bytes that are still unsent */
        say_more(rig, 100);
        hear_all(rig);
    }
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
    for (int i = 0; heard < said && i < 1000; i++) {
        heard += peer_hears(rig, heard, 512);
        rig_turn(rig);
    }
    assert_int_equal(heard, said);
    rig_run(rig, rig_poll_flushes);
    assert_int_equal(rig->result, 0);
}

static int poll_sends_and_receives(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    struct rdy_buf buf = {0};

    assert_int_equal(rdy_stream_poll_send(&rig->stream, task, &rig->held[--rig->held_count]), 0);
    rig->result = rdy_stream_poll_recv(&rig->stream, task, &buf);
    assert_int_equal(rig->result, RDY_PENDING);
    return 0;
}

/* What a poll has gathered, before it finds that the stream goes back, meets a full socket. */
static void bytes_gathered_go_back_to_the_ring(void **state)
{
    struct rig *rig = *state;
    unsigned char chunk[4 * BUFFER];
    size_t heard = 0;
    int bytes = 4096;

    open_bulk(rig);
    assert_int_equal(setsockopt(rig->stream.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    for (int i = 0; i < 7; i++) {
        say_more(rig, 100);
        hear_all(rig);
    }
    pattern_fill(chunk, sizeof(chunk), 0);
    rig_hold(rig, chunk, sizeof(chunk));
    rig_run(rig, poll_sends_and_receives);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
    for (int i = 0; heard < sizeof(chunk) && i < 1000; i++) {
        heard += peer_hears(rig, heard, 512);
        rig_turn(rig);
    }
    assert_int_equal(heard, sizeof(chunk));
}

/* What waits for a slow peer is not in the way of others: a full large buffer is the queue's. */
static void slow_peer_keeps_no_large_buffer(void **state)
{
    struct rig *rig = *state;
    int bytes = 4096;

    open_bulk(rig);
    assert_int_equal(setsockopt(rig->stream.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    for (uint32_t i = 0; i < 3; i++) {
        say_more(rig, LARGE);
        rig_run(rig, rig_poll_recv);
        assert_int_equal(rig->result, LARGE);
        rig->have += LARGE;
        rig_run(rig, rig_poll_sends_held);
        assert_int_equal(rig->result, 0);
    }
    assert_true(rdy_stream_unsent(&rig->stream) > 2 * LARGE);
    for (uint32_t i = 0; i < LARGES; i++) {
        say_more(rig, LARGE);
        rig_run(rig, rig_poll_recv);
        assert_int_equal(rig->result, LARGE);
    }
    assert_int_equal(rig_stats(rig).copies, 0);
}

static void end_is_told_after_the_bytes(void **state)
{
    struct rig *rig = *state;

    open_bulk(rig);
    say_more(rig, LARGE + 10);
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
    rig_run(rig, rig_poll_recv_all);
    assert_int_equal(rig->result, 0);
    assert_int_equal(rig->have, rig->step);
    rig->result = -1;
    rig_run(rig, rig_poll_recv_all);
    assert_int_equal(rig->result, 0);
}

static void reset_is_told(void **state)
{
    struct rig *rig = *state;

    rig_reopen(rig, &opts_of_many);
    rig_connect_tcp(rig);
    bring_much(rig);
    rig_start(rig, rig_poll_recv_all);
    assert_int_equal(rig->result, RDY_PENDING);
    rig_reset_peer(rig);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, -ECONNRESET);
    if (!has_ring(rig))
        return;
    rig->result = 0;
    rig_run(rig, rig_poll_recv_all);
    assert_int_equal(rig->result, -ECONNRESET);
}

static int poll_reads_and_vectors(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    struct iovec piece = {.iov_base = rig->bytes + rig->have, .iov_len = 100};

    if (has_ring(rig))
        assert_int_equal(rdy_stream_poll_readv(&rig->stream, task, &piece, 1), -EBUSY);
    rig->result = rdy_stream_poll_read(&rig->stream, task, rig->bytes + rig->have, 5000);
    if (rig->result == RDY_PENDING)
        return RDY_PENDING;
    rig->have += (size_t)rig->result;
    return 0;
}

/* Reads go past the large buffers; calls that a ring does not allow stay forbidden. */
static void read_takes_its_bytes_from_the_socket(void **state)
{
    struct rig *rig = *state;

    open_bulk(rig);
    say_more(rig, 10000);
    rig_run(rig, poll_reads_and_vectors);
    assert_int_equal(rig->result, 5000);
    hear_all(rig);
    for (int i = 0; i < 20; i++) {
        say_more(rig, 10);
        rig_run(rig, poll_reads_and_vectors);
        assert_int_equal(rig->result, 10);
    }
    if (has_ring(rig))
        assert_true(rig_stats(rig).recvs_armed > 1);
    say_more(rig, 10);
    hear_all(rig);
}

static void stream_in_bulk_outlives_its_ring(void **state)
{
    struct rig *rig = *state;

    open_bulk(rig);
    say_more(rig, LARGE);
    rdy_runtime_driver(rig->runtime)->may_move = true;
    rig->fake->wait_error = -EPERM;
    rig_turn(rig);
    hear_all(rig);
    say_more(rig, LARGE);
    hear_all(rig);
    assert_int_equal(driver_stats(rig->runtime).backend_moves, 1);
    hand_over(rig, 0, 1000);
    assert_int_equal(peer_hears(rig, 0, 1000), 1000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(stream_that_brings_much_gets_large_buffers),
        ON_THREE(stream_that_brings_little_again_goes_back_to_the_ring),
        ON_THREE(stream_goes_on_without_a_large_buffer),
        ON_THREE(messages_of_one_buffer_stay_on_the_ring),
        ON_THREE(one_poll_receives_so_much_and_no_more),
        ON_THREE(bytes_to_be_sent_keep_their_order),
        ON_THREE(bytes_gathered_go_back_to_the_ring),
        ON_THREE(slow_peer_keeps_no_large_buffer),
        ON_THREE(end_is_told_after_the_bytes),
        ON_THREE(reset_is_told),
        ON_THREE(read_takes_its_bytes_from_the_socket),
        ON_FAKE_ONLY(stream_in_bulk_outlives_its_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
