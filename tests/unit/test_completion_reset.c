/* SPDX-License-Identifier: MIT */
/*
 * A connection that breaks while something is being sent. The kernel tells of it once, and it may
 * be the send that hears of it; then the socket's end looks like an orderly one. The reader must
 * hear that it is none: half a request is not to be taken for a whole.
 */
#include "tests/support/rig.h"

#include <rdy/copy.h>
#include <rdy/stream_io.h>

#include "engine/lane.h"
#include "tests/support/pairs.h"

#define MUCH  ((size_t)8 << 20) /* more than the sockets take */
#define TURNS 20

static const unsigned char much[MUCH];

static void connect_tcp(struct rig *rig)
{
    struct pair pair = pair_tcp();

    assert_int_equal(rdy_stream_from_fd(&rig->stream, rig->runtime, pair.ours), 0);
    rig->peer = pair.peer;
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
}

/* The same, with a receive that waits. */
static void recv_over_tcp(struct rig *rig)
{
    connect_tcp(rig);
    rig_start(rig, rig_poll_recv);
}

static void break_off(struct rig *rig)
{
    hang_up(rig->peer);
    rig->peer = -1;
}

/* So much that a part of it waits for the peer. */
static void send_much(struct rig *rig)
{
    rig_hold(rig, much, MUCH);
    rig_start(rig, rig_poll_sends_held);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
}

/* What a receive that waits is told at last; and that it is told so again. */
static void check_told(struct rig *rig, ssize_t told)
{
    unsigned char byte;

    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, told);
    rig_run(rig, rig_poll_recv);
    assert_int_equal(rig->result, told);
    assert_int_equal(rdy_stream_try_read(&rig->stream, &byte, 1),
                     rdy_completion_is_native(rig->runtime) ? -EBUSY : told);
}

static void reset_under_a_send_that_waits_is_no_end(void **state)
{
    struct rig *rig = *state;

    recv_over_tcp(rig);
    send_much(rig);
    break_off(rig);
    check_told(rig, -ECONNRESET);
}

/* What it has moved is told, and not why it ended. */
static void reset_under_a_send_that_had_begun_is_no_end(void **state)
{
    struct rig *rig = *state;

    recv_over_tcp(rig);
    send_much(rig);
    for (int i = 0; i < 3; i++) {
        (void)recv(rig->peer, rig->bytes, sizeof(rig->bytes), 0);
        rig_turn(rig);
    }
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
    break_off(rig);
    check_told(rig, -ECONNRESET);
}

static void reset_before_a_send_is_tried_is_no_end(void **state)
{
    struct rig *rig = *state;

    recv_over_tcp(rig);
    break_off(rig);
    rig_hold(rig, "late", 4);
    (void)spawn_test(rig->runtime, rig_poll_sends_held, NULL, rig);
    check_told(rig, -ECONNRESET);
}

/* The peer had said all that it had to say. */
static void reset_behind_the_end_leaves_it_one(void **state)
{
    struct rig *rig = *state;

    recv_over_tcp(rig);
    send_much(rig);
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
    break_off(rig);
    check_told(rig, 0);
}

/* As is an error of the way there: the connection is as good as it was. */
static void error_of_a_send_alone_spoils_no_end(void **state)
{
    struct rig *rig = *state;

    connect_tcp(rig);
    rdy_lane_of(rig->stream.reg.io)->send_error = -EACCES;
    rig_start(rig, rig_poll_recv);
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
    check_told(rig, 0);
}

static struct rdy_copy_both copies;

static int poll_copies(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_copy_both_poll(&copies, task);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* A proxy whose client sends half a request, does not read, and is gone. */
static void half_a_request_is_not_ended_for_the_upstream(void **state)
{
    struct rig *rig = *state;
    struct rdy_stream upstream;
    struct pair pair = pair_tcp();
    char text[16] = "";

    connect_tcp(rig);
    assert_int_equal(rdy_stream_from_fd(&upstream, rig->runtime, pair.ours), 0);
    assert_int_equal(rdy_stream_start_completion(&upstream), 0);
    assert_int_equal(rdy_copy_both_open(&copies, &rig->stream, &upstream, NULL), 0);
    rig_start(rig, poll_copies);
    put(rig->peer, "half");
    rig_turn(rig);
    for (int i = 0; i < TURNS; i++) {
        fill(pair.peer);
        rig_turn(rig);
    }
    assert_int_equal(recv(pair.peer, text, sizeof(text), 0), 4);

    break_off(rig);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    /* EPIPE is all that an older kernel leaves for the next send, where a part had gone out. */
    assert_true(rig->result == -ECONNRESET || rig->result == -EPIPE);
    assert_int_equal(get(pair.peer, sizeof(text)), -EAGAIN); /* no end */
    rdy_copy_both_close(&copies);
    rdy_stream_close(&upstream);
    assert_int_equal(close(pair.peer), 0);
}

/* --- what a kernel may say of a first send --- */

/* A fast open whose connection has to be made without data first: nothing has failed. */
static void send_that_is_in_progress_is_made_again(void **state)
{
    struct rig *rig = *state;

    connect_tcp(rig);
    ops_of(rig)->send_error = -EINPROGRESS;
    rig_hold(rig, "first", 5);
    rig_run(rig, rig_poll_sends_held);
    rig_run(rig, rig_poll_flushes);
    assert_int_equal(rig->result, 0);
    assert_int_equal(get(rig->peer, 10), 5);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(reset_under_a_send_that_waits_is_no_end),
        ON_THREE(reset_under_a_send_that_had_begun_is_no_end),
        ON_THREE(reset_before_a_send_is_tried_is_no_end),
        ON_THREE(reset_behind_the_end_leaves_it_one),
        ON_THREE(error_of_a_send_alone_spoils_no_end),
        ON_THREE(half_a_request_is_not_ended_for_the_upstream),
        ON_FAKE_ONLY(send_that_is_in_progress_is_made_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
