/* SPDX-License-Identifier: MIT */
/*
 * Completion mode in a driver that another loop embeds: what a task asked for outside of a turn,
 * and what a turn left to be asked for, must make the driver's descriptor readable, or that loop
 * would never turn the driver again.
 */
#include "tests/support/rig.h"

#include <poll.h>

#define CALL_MS 5000

static bool is_called(const struct rig *rig, int timeout_ms)
{
    struct pollfd item = {.fd = rdy_driver_fd(rdy_runtime_driver(rig->runtime)), .events = POLLIN};

    return poll(&item, 1, timeout_ms) == 1;
}

/* As the loop outside does it. */
static void turn_while_called(struct rig *rig)
{
    for (int i = 0; is_called(rig, 0); i++) {
        assert_true(i < 1000);
        assert_true(rdy_driver_turn(rdy_runtime_driver(rig->runtime), 0) >= 0);
    }
}

static void open_embedded(struct rig *rig, uint32_t buffers_count)
{
    struct rdy_driver_opts opts = {.is_embedded = true, .buffers_count = buffers_count};

    rig_reopen(rig, &opts);
    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    turn_while_called(rig);
}

/* Asks once and leaves, so that the run ends without a turn. */
static int poll_asks(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_recv(&rig->stream, task, &rig->held[rig->held_count]);
    if (rig->result > 0)
        rig->held_count++;
    return 0;
}

static int poll_sends(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_send(&rig->stream, task, &rig->held[0]);
    if (rig->result == 0)
        rig->held_count = 0;
    return 0;
}

/* With io_uring the receive itself has to reach the kernel before anything can come of it. */
static void outer_loop_is_told_of_a_receive(void **state)
{
    struct rig *rig = *state;

    open_embedded(rig, 0);
    rig_run(rig, poll_asks);
    assert_int_equal(rig->result, RDY_PENDING);
    turn_while_called(rig);
    rig_say(rig, "hello", 5);
    assert_true(is_called(rig, CALL_MS));
    turn_while_called(rig);
    rig_run(rig, poll_asks);

    assert_int_equal(rig->result, 5);
}

/* Also of what remains to be done when the socket was full, turn after turn. */
static void outer_loop_is_told_of_a_send_until_all_is_out(void **state)
{
    static unsigned char bytes[400000];
    struct rig *rig = *state;
    size_t heard = 0;

    open_embedded(rig, 0);
    pattern_fill(bytes, sizeof(bytes), 0);
    rig_hold(rig, bytes, sizeof(bytes));
    rig_run(rig, poll_sends);
    assert_int_equal(rig->result, 0);
    while (heard < sizeof(bytes)) {
        ssize_t count;

        turn_while_called(rig);
        count = recv(rig->peer, rig->bytes + heard, 10000, MSG_DONTWAIT);
        if (count > 0)
            heard += (size_t)count;
        else
            assert_true(is_called(rig, CALL_MS));
    }
    assert_memory_equal(rig->bytes, bytes, sizeof(bytes));
}

/*
 * Some kernels (6.1, 6.12) end a receive when it has filled the last buffer, not when it needs the
 * next: the engine copies then, nobody starves, and all has come when the buffer is released.
 */
static void outer_loop_is_told_of_a_buffer_that_others_wait_for(void **state)
{
    struct rig *rig = *state;

    open_embedded(rig, 1);
    rig_say(rig, "x", 1);
    for (int i = 0; i < 20 && rig->held_count == 0; i++) {
        rig_run(rig, poll_asks);
        turn_while_called(rig);
    }
    assert_int_equal(rig->held_count, 1);
    rig_say(rig, "parked", 6);
    rig_run(rig, poll_asks);
    assert_int_equal(rig->result, RDY_PENDING);
    turn_while_called(rig);

    rdy_buf_release(&rig->held[--rig->held_count]);
    assert_true(rig_stats(rig).recv_bytes == 7 || is_called(rig, CALL_MS));
    turn_while_called(rig);
    rig_run(rig, poll_asks);
    assert_int_equal(rig->result, 6);
}

/* The pool's buffers wait in a stream that nobody reads; a turn copies them out, if one is made. */
static void outer_loop_is_told_of_buffers_that_a_turn_can_free(void **state)
{
    struct rig *rig = *state;
    struct rdy_stream unread;
    int unread_peer;

    open_embedded(rig, 2);
    rig_run(rig, poll_asks);
    unread = rig->stream;
    unread_peer = rig->peer;
    rig_connect(rig);
    rig_run(rig, poll_asks);
    turn_while_called(rig);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(send(unread_peer, "x", 1, 0), 1);
        (void)is_called(rig, CALL_MS);
        turn_while_called(rig);
    }
    rig_say(rig, "starved", 7);
    assert_true(is_called(rig, CALL_MS));
    turn_while_called(rig);
    rig_run(rig, poll_asks);

    assert_int_equal(rig->result, 7);
    rdy_stream_close(&unread);
    assert_int_equal(close(unread_peer), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_REAL(outer_loop_is_told_of_a_receive),
        ON_REAL(outer_loop_is_told_of_a_send_until_all_is_out),
        ON_REAL(outer_loop_is_told_of_a_buffer_that_others_wait_for),
        ON_REAL(outer_loop_is_told_of_buffers_that_a_turn_can_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
