/* SPDX-License-Identifier: MIT */
/*
 * Sending in completion mode, and leaving in the middle of it: on io_uring, on epoll, and on a fake
 * whose socket can be made to take as little as the test likes.
 */
#include <errno.h>

#include "engine/lane.h"
#include "tests/support/rig.h"

#define LOAD (512u * 1024)

/* Everything that arrives at the peer, without waiting. */
static size_t hear(struct rig *rig, size_t len_max)
{
    size_t have = 0;

    while (have < len_max) {
        ssize_t count = recv(rig->peer, rig->bytes + have, len_max - have, MSG_DONTWAIT);

        if (count <= 0)
            break;
        have += (size_t)count;
    }
    return have;
}

static void buffer_that_was_handed_over_arrives(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_hold(rig, "hello", 5);

    rig_run(rig, rig_poll_sends_held);
    rig_run(rig, rig_poll_flushes);

    assert_int_equal(rig->result, 0);
    assert_int_equal(hear(rig, 100), 5);
    assert_memory_equal(rig->bytes, "hello", 5);
    assert_int_equal(rig_stats(rig).blocks_live, 0);
    assert_int_equal(rig_stats(rig).send_bytes, 5);
}

/* What one task hands over between two turns goes out as one. */
static void buffers_of_one_turn_are_one_operation(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    for (int i = 0; i < 10; i++)
        rig_hold(rig, &"0123456789"[i], 1);

    rig_run(rig, rig_poll_sends_held);
    rig_run(rig, rig_poll_flushes);

    assert_int_equal(hear(rig, 100), 10);
    assert_memory_equal(rig->bytes, "0123456789", 10);
    assert_int_equal(rig_stats(rig).sends, 1);
}

static void more_buffers_than_an_operation_takes_arrive_in_order(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    for (int i = 0; i < 60; i++) {
        unsigned char byte = (unsigned char)i;

        rig_hold(rig, &byte, 1);
    }
    rig_run(rig, rig_poll_sends_held);
    rig_run(rig, rig_poll_flushes);

    assert_int_equal(hear(rig, 100), 60);
    for (int i = 0; i < 60; i++)
        assert_int_equal(rig->bytes[i], i);
}

static void received_buffer_is_sent_as_it_is(void **state)
{
    struct rig *rig = *state;
    char back[8];

    rig_connect(rig);
    rig_say(rig, "echo", 4);
    rig_run(rig, rig_poll_recv);
    rig_run(rig, rig_poll_sends_held);
    rig_run(rig, rig_poll_flushes);

    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), 4);
    assert_memory_equal(back, "echo", 4);
    assert_int_equal(rig_stats(rig).copies, 0);
    assert_int_equal(rig_stats(rig).buffers_free, rig_stats(rig).buffers_total);
}

static void kept_buffer_can_be_sent_twice(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_hold(rig, "twin", 4);
    rig->held[1] = rdy_buf_keep(&rig->held[0]);
    rig->held_count = 2;

    rig_run(rig, rig_poll_sends_held);
    rig_run(rig, rig_poll_flushes);

    assert_int_equal(hear(rig, 100), 8);
    assert_memory_equal(rig->bytes, "twintwin", 8);
}

static void empty_buffer_is_refused_and_stays(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_hold(rig, "x", 1);
    rig->held[0].len = 0;
    rig_run(rig, rig_poll_sends_held);

    assert_int_equal(rig->result, -EINVAL);
    assert_int_equal(rig->held_count, 1);
}

/* --- a peer that does not read --- */

static void fill(struct rig *rig)
{
    static unsigned char block[16384];
    size_t position = 0;

    while (position < LOAD && rig->held_count < 32) {
        pattern_fill(block, sizeof(block), position);
        rig_hold(rig, block, sizeof(block));
        position += sizeof(block);
    }
}

static void small_socket_buffers(struct rig *rig)
{
    int bytes = 4096;

    assert_int_equal(setsockopt(rig->stream.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
}

static void check_pattern(const unsigned char *bytes, size_t len, size_t position)
{
    for (size_t i = 0; i < len; i++)
        assert_int_equal(bytes[i], pattern_at(position + i));
}

/* Hears all of it, turning the driver meanwhile. */
static void hear_all(struct rig *rig, size_t len)
{
    size_t have = 0;

    for (int i = 0; i < 10000 && have < len; i++) {
        size_t count = hear(rig, 4096);

        check_pattern(rig->bytes, count, have);
        have += count;
        rig_turn(rig);
    }
    assert_int_equal(have, len);
}

static void peer_that_does_not_read_makes_the_sender_wait(void **state)
{
    struct rig *rig = *state;
    uint32_t left;

    rig_connect(rig);
    small_socket_buffers(rig);
    fill(rig);
    rig_start(rig, rig_poll_sends_held);
    assert_int_equal(rig->result, RDY_PENDING);
    left = rig->held_count;
    assert_true(left > 0);
    /* The default bound, and one buffer that went over it. */
    assert_true(rdy_stream_unsent(&rig->stream) <= 65536 + 16384);
    rig_turn(rig);
    assert_int_equal(rig->held_count, left);

    hear_all(rig, 32 * 16384);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->held_count, 0);
    assert_int_equal(rdy_stream_unsent(&rig->stream), 0);
}

/* Each of the kernel's answers a part; no byte may be lost, doubled or out of place. */
static void socket_that_takes_a_little_at_a_time_gets_all_in_order(void **state)
{
    struct rig *rig = *state;

    rig->fake->ops_state.send_max = 777;
    rig_connect(rig);
    fill(rig);
    (void)spawn_test(rig->runtime, rig_poll_sends_held, NULL, rig);
    hear_all(rig, 32 * 16384);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_true(rig_stats(rig).sends_unfinished > 0);
}

/* A peer that does not read must not keep a buffer of the pool: others would go without. */
static void pool_is_free_of_what_a_slow_peer_does_not_take(void **state)
{
    struct rig *rig = *state;
    struct rdy_driver_opts opts = {.buffers_count = 4, .buffer_size = 4096};
    unsigned char chunk[4096] = {0};

    rig_reopen(rig, &opts);
    rig_connect(rig);
    small_socket_buffers(rig);
    for (int i = 0; i < 12; i++) {
        rig_say(rig, chunk, sizeof(chunk));
        rig_run(rig, rig_poll_recv);
        assert_true(rig->result > 0);
        rig_run(rig, rig_poll_sends_held);
        assert_int_equal(rig->result, 0);
        rig_turn(rig);
    }
    rig_turn(rig);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
    assert_true(rig_stats(rig).copies > 0);
    assert_int_equal(rig_stats(rig).buffers_free, 4);
}

static int poll_sends_last_held(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_send(&rig->stream, task, &rig->held[--rig->held_count]);
    return 0;
}

/* Sends what it holds; what joins a queue that stands before a full socket must be a copy. */
static int poll_sends_to_slow(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    size_t before = rdy_stream_unsent(&rig->stream);
    int rc;

    while ((rc = rdy_stream_poll_send(&rig->stream, task, &rig->held[0])) == 0) {
        rig->held_count--;
        memmove(rig->held, rig->held + 1, rig->held_count * sizeof(rig->held[0]));
        if (before > 0 && rdy_stream_unsent(&rig->stream) > before)
            rig->have += rig_stats(rig).buffers_total - rig_stats(rig).buffers_free -
                         rig->held_count; /* what still waits in the pool's memory */
        before = rdy_stream_unsent(&rig->stream);
        if (rig->held_count == 0)
            return 0;
    }
    rig->result = rc;
    return RDY_PENDING;
}

/* Else the whole queue would have to be gone through again whenever the peer took a little. */
static void buffer_for_a_slow_peer_is_copied_as_it_comes(void **state)
{
    struct rig *rig = *state;
    struct rdy_driver_opts opts = {
        .buffers_count = 32, .buffer_size = 1024, .send_queue_max = 16384};
    static const unsigned char load[16384];

    rig_reopen(rig, &opts);
    rig_connect(rig);
    small_socket_buffers(rig);
    while (rig->held_count < 24) {
        rig_say(rig, load, 1000);
        rig_run(rig, rig_poll_recv);
        assert_true(rig->result > 0);
    }
    rig_hold(rig, load, sizeof(load));
    rig_run(rig, poll_sends_last_held);
    rig_turn(rig);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);

    (void)spawn_test(rig->runtime, poll_sends_to_slow, NULL, rig);
    for (int i = 0; i < 10000 && rig->held_count > 0; i++) {
        (void)hear(rig, 512);
        rig_turn(rig);
    }
    assert_int_equal(rig->held_count, 0);
    assert_int_equal(rig->result, RDY_PENDING); /* not all of it went out at once */
    assert_int_equal(rig->have, 0);
}

static void flush_waits_for_the_peer(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    small_socket_buffers(rig);
    fill(rig);
    while (rig->held_count > 3)
        rdy_buf_release(&rig->held[--rig->held_count]);
    rig_run(rig, rig_poll_sends_held);
    rig_start(rig, rig_poll_flushes);
    assert_int_equal(rig->result, RDY_PENDING);

    hear_all(rig, 3 * 16384);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, 0);
}

/* --- a peer that is gone --- */

static void error_of_a_send_is_told_to_the_next(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_hang_up(rig);
    rig_hold(rig, "nobody", 6);
    rig_run(rig, rig_poll_sends_held);
    assert_int_equal(rig->result, 0);
    rig_run(rig, rig_poll_flushes);
    assert_int_equal(rig->result, -EPIPE);

    rig_hold(rig, "again", 5);
    rig_run(rig, rig_poll_sends_held);
    assert_int_equal(rig->result, -EPIPE);
    assert_int_equal(rig->held_count, 1);
}

static void peer_that_goes_frees_what_waited_for_it(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    small_socket_buffers(rig);
    fill(rig);
    rig_start(rig, rig_poll_sends_held);
    assert_int_equal(rig->result, RDY_PENDING);

    rig_hang_up(rig);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);

    assert_true(rig->result == -EPIPE || rig->result == -ECONNRESET);
    assert_int_equal(rdy_stream_unsent(&rig->stream), 0);
}

/* --- leaving in the middle; rig_teardown() sees that nothing stays --- */

static void close_right_after_a_send_still_sends_it(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_hold(rig, "goodbye", 7);
    rig_run(rig, rig_poll_sends_held);
    rdy_stream_close(&rig->stream);
    rig_turn(rig);

    assert_int_equal(hear(rig, 100), 7);
    assert_memory_equal(rig->bytes, "goodbye", 7);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT), 0);
}

static void close_while_a_send_waits_drops_the_rest(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    small_socket_buffers(rig);
    fill(rig);
    rig_start(rig, rig_poll_sends_held);
    rdy_stream_close(&rig->stream);
    for (int i = 0; i < 3; i++)
        rig_turn(rig);

    assert_true(hear(rig, sizeof(rig->bytes)) < 32 * 16384);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT), 0);
}

static void task_aborted_in_a_receive_leaves_nothing(void **state)
{
    struct rig *rig = *state;
    struct rdy_task_id id;

    rig_connect(rig);
    id = spawn_test(rig->runtime, rig_poll_recv, NULL, rig);
    rig_turn(rig);
    assert_int_equal(rdy_task_abort(rig->runtime, id), 0);
    rig_say(rig, "unheard", 7);
    rig_turn(rig);

    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT) <= 0, 1);
}

static void runtime_closed_with_all_under_way_leaves_nothing(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    small_socket_buffers(rig);
    (void)spawn_test(rig->runtime, rig_poll_recv_all, NULL, rig);
    fill(rig);
    (void)spawn_test(rig->runtime, rig_poll_sends_held, NULL, rig);
    rig_say(rig, "unread", 6);
    rig_turn(rig);

    rig_release(rig);
    rdy_stream_close(&rig->stream);
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
    assert_true(hear(rig, sizeof(rig->bytes)) > 0);
    assert_int_equal(close(rig->peer), 0);
}

/* What the cancel brings back is tried once more; a full socket is not waited for again. */
static void shutdown_of_the_driver_gives_a_full_socket_up(void **state)
{
    struct rig *rig = *state;
    uint64_t sends;

    rig_connect(rig);
    small_socket_buffers(rig);
    fill(rig);
    (void)spawn_test(rig->runtime, rig_poll_sends_held, NULL, rig);
    rig_turn(rig);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
    sends = rig_stats(rig).sends;

    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(rig->runtime)), 0);
    assert_true(rig_stats(rig).sends <= sends + 1);
    assert_int_equal(driver_stats(rig->runtime).cancels_pending, 0);
    rig_release(rig);
    rdy_stream_close(&rig->stream);
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
    assert_int_equal(close(rig->peer), 0);
}

/* --- the other calls --- */

static int poll_writes(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_write(&rig->stream, task, "written", 7);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

static void plain_write_stays_behind_what_was_handed_over(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_hold(rig, "first ", 6);
    rig_run(rig, rig_poll_sends_held);
    rig_run(rig, poll_writes);
    assert_int_equal(rig->result, 7);
    rig_run(rig, rig_poll_flushes);

    assert_int_equal(hear(rig, 100), 13);
    assert_memory_equal(rig->bytes, "first written", 13);
}

/* A write that was answered is the stream's: what follows it must not overtake it. */
static void shutdown_comes_behind_what_was_written(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_turn(rig);
    rig_run(rig, poll_writes);
    assert_int_equal(rig->result, 7);
    assert_int_equal(rdy_stream_shutdown(&rig->stream, SHUT_WR), 0);
    rig_turn(rig);

    assert_int_equal(hear(rig, 100), 7);
    assert_memory_equal(rig->bytes, "written", 7);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT), 0);
}

static void shutdown_comes_when_a_slow_peer_has_taken_all(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    small_socket_buffers(rig);
    fill(rig);
    while (rig->held_count > 3)
        rdy_buf_release(&rig->held[--rig->held_count]);
    rig_run(rig, rig_poll_sends_held);
    rig_turn(rig);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
    assert_int_equal(rdy_stream_shutdown(&rig->stream, SHUT_WR), 0);
    assert_int_equal(rdy_stream_shutdown(&rig->stream, SHUT_WR), 0);

    rig_hold(rig, "late", 4);
    rig_run(rig, rig_poll_sends_held);
    assert_int_equal(rig->result, -EPIPE);
    hear_all(rig, 3 * 16384);
    rig_run(rig, rig_poll_flushes);
    assert_int_equal(rig->result, 0);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT), 0);
}

static int poll_writes_late(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_write(&rig->stream, task, "late", 4);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* Also where nothing was unsent, and after the end has gone out. */
static void nothing_is_taken_after_a_shutdown(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_hold(rig, "last", 4);
    rig_run(rig, rig_poll_sends_held);
    assert_int_equal(rig->result, 0);
    rig_run(rig, rig_poll_flushes);
    assert_int_equal(rig->result, 0);
    assert_int_equal(rdy_stream_shutdown(&rig->stream, SHUT_WR), 0);
    rig_turn(rig);

    rig_hold(rig, "late", 4);
    rig_run(rig, rig_poll_sends_held);
    assert_int_equal(rig->result, -EPIPE);
    rig_run(rig, poll_writes_late);
    assert_int_equal(rig->result, -EPIPE);
    rig_run(rig, rig_poll_flushes);
    assert_int_equal(rig->result, 0);
    assert_int_equal(rdy_stream_shutdown(&rig->stream, SHUT_WR), 0);
    assert_int_equal(recv(rig->peer, rig->bytes, sizeof(rig->bytes), 0), 4);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, 0), 0);
}

/* An error that leaves the connection up must not be followed by an orderly end. */
static void no_end_is_told_after_a_send_that_failed(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rdy_send_fail(rdy_runtime_driver(rig->runtime)->completion, rdy_lane_of(rig->stream.reg.io),
                  -EIO);
    assert_int_equal(rdy_stream_shutdown(&rig->stream, SHUT_WR), -EIO);
    assert_int_equal(rdy_stream_shutdown(&rig->stream, SHUT_RDWR), -EIO);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(buffer_that_was_handed_over_arrives),
        ON_THREE(buffers_of_one_turn_are_one_operation),
        ON_THREE(more_buffers_than_an_operation_takes_arrive_in_order),
        ON_THREE(received_buffer_is_sent_as_it_is),
        ON_THREE(kept_buffer_can_be_sent_twice),
        ON_THREE(empty_buffer_is_refused_and_stays),
        ON_THREE(peer_that_does_not_read_makes_the_sender_wait),
        ON_FAKE_ONLY(socket_that_takes_a_little_at_a_time_gets_all_in_order),
        ON_THREE(pool_is_free_of_what_a_slow_peer_does_not_take),
        ON_THREE(buffer_for_a_slow_peer_is_copied_as_it_comes),
        ON_THREE(flush_waits_for_the_peer),
        ON_THREE(error_of_a_send_is_told_to_the_next),
        ON_THREE(peer_that_goes_frees_what_waited_for_it),
        ON_THREE(close_right_after_a_send_still_sends_it),
        ON_THREE(close_while_a_send_waits_drops_the_rest),
        ON_THREE(task_aborted_in_a_receive_leaves_nothing),
        ON_THREE(runtime_closed_with_all_under_way_leaves_nothing),
        ON_THREE(shutdown_of_the_driver_gives_a_full_socket_up),
        ON_THREE(plain_write_stays_behind_what_was_handed_over),
        ON_THREE(shutdown_comes_behind_what_was_written),
        ON_THREE(shutdown_comes_when_a_slow_peer_has_taken_all),
        ON_THREE(nothing_is_taken_after_a_shutdown),
        ON_THREE(no_end_is_told_after_a_send_that_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
