/* SPDX-License-Identifier: MIT */
/*
 * Shutting down and closing behind what was handed over: in completion mode on io_uring, on epoll
 * and on a fake, and in readiness mode, where the same calls have nothing to wait for.
 */
#include "tests/support/rig.h"

#include "engine/driver.h"

static int poll_closes(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_close(&rig->stream, task);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

static int poll_shuts(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_shutdown(&rig->stream, task, SHUT_WR);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

static int poll_shuts_reading(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_shutdown(&rig->stream, task, SHUT_RD);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* More than the socket takes while the peer does not read. */
static void hand_over_a_load(struct rig *rig)
{
    static unsigned char block[16384];
    int bytes = 4096;

    assert_int_equal(setsockopt(rig->stream.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    for (size_t position = 0; position < 3 * sizeof(block); position += sizeof(block)) {
        pattern_fill(block, sizeof(block), position);
        rig_hold(rig, block, sizeof(block));
    }
    rig_run(rig, rig_poll_sends_held);
    rig_turn(rig);
    assert_int_equal(rig->held_count, 0);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
}

/* The peer leaves while @poll waits for the load to go out. */
static void hang_up_on_a_load(struct rig *rig, rdy_poll_fn *poll)
{
    rig_connect(rig);
    hand_over_a_load(rig);
    rig_start(rig, poll);
    rig_hang_up(rig);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_true(rig->result == -EPIPE || rig->result == -ECONNRESET);
}

/* Hears the load and what is behind it; true if that is the end of the stream. */
static bool hear_to_the_end(struct rig *rig)
{
    ssize_t count = -1;

    rig->have = 0;
    for (int i = 0; i < 10000 && count != 0; i++) {
        count = recv(rig->peer, rig->bytes + rig->have, 4096, MSG_DONTWAIT);
        if (count > 0)
            rig->have += (size_t)count;
        rig_turn(rig);
    }
    assert_int_equal(rig->have, 3 * 16384);
    for (size_t i = 0; i < rig->have; i++)
        assert_int_equal(rig->bytes[i], pattern_at(i));
    return count == 0;
}

static void close_waits_for_what_was_handed_over(void **state)
{
    struct rig *rig = *state;
    int fd;

    rig_connect(rig);
    hand_over_a_load(rig);
    fd = rig->stream.fd;
    rig_start(rig, poll_closes);
    assert_int_equal(rig->result, RDY_PENDING);

    assert_true(hear_to_the_end(rig));
    assert_int_equal(rig->result, 0);
    assert_int_equal(rig->stream.fd, -1);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(rig_stats(rig).blocks_live, 0);
}

static void close_with_nothing_to_send_comes_at_once(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_run(rig, poll_closes);
    assert_int_equal(rig->result, 0);
    assert_int_equal(rig->stream.fd, -1);
    rig_turn(rig);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT), 0);
    rig_run(rig, poll_closes);
    assert_int_equal(rig->result, -EBADF);
}

/* Given up in the middle: the stream is open, sends on, and can be closed by another. */
static void close_that_was_given_up_has_closed_nothing(void **state)
{
    struct rig *rig = *state;
    struct rdy_task_id id;

    rig_connect(rig);
    hand_over_a_load(rig);
    id = spawn_test(rig->runtime, poll_closes, NULL, rig);
    rig_turn(rig);
    assert_int_equal(rdy_task_abort(rig->runtime, id), 0);
    assert_true(rig->stream.fd >= 0);
    (void)spawn_test(rig->runtime, poll_closes, NULL, rig);
    assert_true(hear_to_the_end(rig));
    assert_int_equal(rig->result, 0);
}

static void close_tells_of_a_send_that_failed_and_closes_all_the_same(void **state)
{
    struct rig *rig = *state;

    hang_up_on_a_load(rig, poll_closes);
    assert_int_equal(rig->stream.fd, -1);
}

static void shutdown_of_the_driver_ends_a_close_that_waits(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    hand_over_a_load(rig);
    rig_start(rig, poll_closes);
    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(rig->runtime)), 0);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, -ESHUTDOWN);
    assert_int_equal(rig->stream.fd, -1);
    rig_abandon(rig);
}

/* Cancelled, a send that waited for the peer was begun anew, and so on some hundred times. */
static void shutdown_of_the_driver_begins_no_send(void **state)
{
    struct rig *rig = *state;
    uint64_t sends;

    rig_connect(rig);
    hand_over_a_load(rig);
    sends = rig_stats(rig).sends;
    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(rig->runtime)), 0);
    assert_int_equal(rig_stats(rig).sends, sends);
    rdy_stream_close(&rig->stream);
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
    assert_int_equal(close(rig->peer), 0);
}

static void shutdown_has_been_done_when_it_answers(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    hand_over_a_load(rig);
    rig_start(rig, poll_shuts);
    assert_int_equal(rig->result, RDY_PENDING);
    assert_true(hear_to_the_end(rig));
    assert_int_equal(rig->result, 0);

    /* The other direction is as it was; a second time is harmless. */
    rig_say(rig, "still", 5);
    rig_run(rig, rig_poll_recv);
    assert_int_equal(rig->result, 5);
    rig_run(rig, poll_shuts);
    assert_int_equal(rig->result, 0);
}

/* Nothing is promised for later by a call that was given up: what is written then goes out too. */
static void shutdown_that_was_given_up_has_shut_nothing(void **state)
{
    struct rig *rig = *state;
    struct rdy_task_id id;

    rig_connect(rig);
    hand_over_a_load(rig);
    id = spawn_test(rig->runtime, poll_shuts, NULL, rig);
    rig_turn(rig);
    assert_int_equal(rdy_task_abort(rig->runtime, id), 0);
    assert_false(hear_to_the_end(rig));
    rig_hold(rig, "more", 4);
    rig_run(rig, rig_poll_sends_held);
    rig_run(rig, poll_shuts);
    assert_int_equal(rig->result, 0);
    assert_int_equal(recv(rig->peer, rig->bytes, 10, MSG_DONTWAIT), 4);
    assert_int_equal(recv(rig->peer, rig->bytes, 10, MSG_DONTWAIT), 0);
}

static void shutdown_for_reading_waits_for_nothing(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    hand_over_a_load(rig);
    rig_run(rig, poll_shuts_reading);
    assert_int_equal(rig->result, 0);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
    rig_run(rig, rig_poll_recv);
    assert_int_equal(rig->result, 0);
}

static void shutdown_after_a_failed_send_tells_and_does_nothing(void **state)
{
    struct rig *rig = *state;

    hang_up_on_a_load(rig, poll_shuts);
    assert_true(rig->stream.fd >= 0);
}

/* --- the file --- */

/* A ring is told of it with its next wait, and there is none. */
static void runtime_that_closes_at_once_closes_the_file(void **state)
{
    struct rig *rig = *state;
    int fd;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_turn(rig);
    fd = rig->stream.fd;
    rdy_stream_close(&rig->stream);
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT), 0);
    assert_int_equal(close(rig->peer), 0);
}

/* Nor does one come after a shutdown. */
static void file_is_closed_when_the_driver_has_shut_down(void **state)
{
    struct rig *rig = *state;
    int fd;

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);
    fd = rig->stream.fd;
    rdy_stream_close(&rig->stream);
    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(rig->runtime)), 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT), 0);
    rig_abandon(rig);
}

/* A close that a turn has asked for is carried out by the shutdown, in whichever turn that was. */
static void shutdown_carries_out_the_closes_that_were_asked_for(void **state)
{
    struct rig *rig = *state;

    for (int turns = 0; turns < 4; turns++) {
        struct rdy_driver *driver;
        int fd;

        rig_connect(rig);
        (void)spawn_test(rig->runtime, rig_poll_recv, NULL, rig);
        rig_turn(rig);
        driver = rdy_runtime_driver(rig->runtime);
        fd = rig->stream.fd;
        rdy_stream_close(&rig->stream);
        for (int turn = 0; turn < turns; turn++)
            assert_true(rdy_driver_turn(driver, 0) >= 0);
        assert_int_equal(rdy_driver_shutdown(driver), 0);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        assert_int_equal(close(rig->peer), 0);
        rig->peer = -1;
        rig_reopen(rig, NULL);
    }
}

static int poll_asks_once(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    struct rdy_buf none;

    rig->result = rdy_stream_poll_recv(&rig->stream, task, &none);
    return 0;
}

/* Closes, and ends rig->step rounds later. */
static int poll_closes_and_ends(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rdy_stream_close(&rig->stream);
    if (rig->step-- == 0)
        return 0;
    rdy_task_defer(task);
    return RDY_PENDING;
}

/* Nobody knows when the next run will be: this one does not leave a peer without its end. */
static void run_does_not_end_before_what_was_closed_is(void **state)
{
    struct rig *rig = *state;

    for (uint32_t rounds = 0; rounds < 4; rounds++) {
        int fd;

        rig_connect(rig);
        rig_run(rig, poll_asks_once);
        assert_int_equal(rig->result, RDY_PENDING);
        rig_turn(rig);
        fd = rig->stream.fd;
        rig->step = rounds;
        rig_run(rig, poll_closes_and_ends);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        assert_int_equal(recv(rig->peer, rig->bytes, 1, MSG_DONTWAIT), 0);
        assert_int_equal(close(rig->peer), 0);
        rig->peer = -1;
    }
}

#define CROWD 300 /* more than a ring's queue has places */

static void crowd_that_closes_in_one_turn_is_closed(void **state)
{
    struct rig *rig = *state;
    static struct rdy_stream streams[CROWD];
    static int peers[CROWD];

    for (size_t i = 0; i < CROWD; i++) {
        rig_connect(rig);
        assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
        streams[i] = rig->stream;
        peers[i] = rig->peer;
        rig->stream.fd = -1;
        rig->peer = -1;
    }
    rig_turn(rig);
    for (size_t i = 0; i < CROWD; i++)
        rdy_stream_close(&streams[i]);
    rig_turn(rig);
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(recv(peers[i], rig->bytes, 1, MSG_DONTWAIT), 0);
        assert_int_equal(close(peers[i]), 0);
    }
}

static void file_is_closed_by_a_call_where_the_ring_has_no_room(void **state)
{
    struct rig *rig = *state;
    int fd;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_turn(rig);
    fd = rig->stream.fd;
    rig->fake->arm_error = -EBUSY;
    rig->fake->arm_errors = 1;
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(rig->fake->arm_errors, 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* --- readiness mode --- */

static int poll_writes(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_write(&rig->stream, task, "written", 7);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

static void both_work_in_readiness_mode(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_run(rig, poll_writes);
    rig_run(rig, poll_shuts);
    assert_int_equal(rig->result, 0);
    assert_int_equal(recv(rig->peer, rig->bytes, 10, MSG_DONTWAIT), 7);
    assert_int_equal(recv(rig->peer, rig->bytes, 10, MSG_DONTWAIT), 0);
    rig_run(rig, poll_closes);
    assert_int_equal(rig->result, 0);
    assert_int_equal(rig->stream.fd, -1);
    assert_int_equal(rig_stats(rig).buffers_total, 0); /* completion mode was not begun for it */
    rig_run(rig, poll_shuts);
    assert_int_equal(rig->result, -EBADF);
}

/* --- what kernels do seldom --- */

static void close_waits_for_a_send_of_which_nothing_is_heard(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    ops_of(rig)->is_deaf = true;
    rig_hold(rig, "slow", 4);
    rig_run(rig, rig_poll_sends_held);
    rig_start(rig, poll_closes);
    assert_int_equal(rig->result, RDY_PENDING);
    assert_int_equal(rdy_stream_unsent(&rig->stream), 4);

    ops_of(rig)->is_deaf = false;
    rig_turn(rig);
    assert_int_equal(rig->result, 0);
    assert_int_equal(recv(rig->peer, rig->bytes, 10, MSG_DONTWAIT), 4);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
}

static int poll_sends_and_closes(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_send(&rig->stream, task, &rig->held[--rig->held_count]);
    rdy_stream_close(&rig->stream);
    return 0;
}

/* It is tried once, and then forgotten. */
static void buffer_handed_over_before_a_close_is_tried(void **state)
{
    struct rig *rig = *state;
    char back[8];

    rig_connect(rig);
    rig_hold(rig, "last", 4);
    rig_run(rig, poll_sends_and_closes);
    rig_turn(rig);
    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), 4);
    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(buffer_handed_over_before_a_close_is_tried),
        ON_THREE(close_waits_for_what_was_handed_over),
        ON_THREE(close_with_nothing_to_send_comes_at_once),
        ON_THREE(close_that_was_given_up_has_closed_nothing),
        ON_THREE(close_tells_of_a_send_that_failed_and_closes_all_the_same),
        ON_REAL(shutdown_of_the_driver_ends_a_close_that_waits),
        ON_THREE(shutdown_of_the_driver_begins_no_send),
        ON_THREE(shutdown_has_been_done_when_it_answers),
        ON_THREE(shutdown_that_was_given_up_has_shut_nothing),
        ON_THREE(shutdown_for_reading_waits_for_nothing),
        ON_THREE(shutdown_after_a_failed_send_tells_and_does_nothing),
        ON_THREE(runtime_that_closes_at_once_closes_the_file),
        ON_THREE(file_is_closed_when_the_driver_has_shut_down),
        ON_THREE(shutdown_carries_out_the_closes_that_were_asked_for),
        ON_THREE(run_does_not_end_before_what_was_closed_is),
        ON_REAL(crowd_that_closes_in_one_turn_is_closed),
        ON_FAKE_ONLY(file_is_closed_by_a_call_where_the_ring_has_no_room),
        ON_THREE(both_work_in_readiness_mode),
        ON_FAKE_ONLY(close_waits_for_a_send_of_which_nothing_is_heard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
