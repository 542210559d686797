/* SPDX-License-Identifier: MIT */
/*
 * A ring that dies over datagrams, on the fake: those that it had not sent yet, had sent and not
 * told, or kept waiting for room, and tasks that wait for any of this. What it may not have sent is
 * sent again: a datagram may come twice, but none is lost.
 */
#include "tests/support/post.h"

#include "engine/driver.h"

/* From here on epoll is in its place. */
static void lose_the_ring(struct post *post)
{
    rdy_runtime_driver(post->rig.runtime)->may_move = true;
    post->rig.fake->wait_error = -EPERM;
    rig_turn(rig_in(post));
    assert_int_equal(driver_stats(post->rig.runtime).backend_moves, 1);
    assert_false(rdy_datagram_is_native(&post->socket));
}

static void send_numbers(struct post *post, uint32_t count)
{
    post->count = 0;
    post->goal = count;
    (void)post_spawn(post, post_poll_send_all);
    rig_turn(rig_in(post));
    assert_int_equal(post->count, count);
}

static void what_the_ring_has_not_sent_goes_out_over_epoll(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_ops(post)->is_deaf = true;
    send_numbers(post, 40);
    assert_int_equal(rdy_datagram_unsent(&post->socket), 40);
    assert_int_equal(post_hear(post), -1);

    lose_the_ring(post); /* nobody needs to ask for it */
    assert_heard(post, 40);
    assert_int_equal(rdy_datagram_unsent(&post->socket), 0);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, 0);
}

/* A fact that is held back keeps the ring from being known to be done. */
static void what_the_ring_has_sent_untold_goes_out_twice_rather_than_never(void **state)
{
    struct post *post = *state;
    struct rdy_task_id id;

    post_open(post);
    id = post_spawn(post, post_poll_recv);
    rig_turn(rig_in(post));
    assert_int_equal(rdy_task_abort(post->rig.runtime, id), 0);
    post_ops(post)->is_withholding = true;
    post_say(post, 9, 4);
    send_numbers(post, 5);
    assert_int_equal(rdy_datagram_unsent(&post->socket), 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(post_hear(post), i);

    lose_the_ring(post);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, 0);
    assert_heard(post, 5);
    post_say(post, 10, 4); /* what the ring had received, and not told, is lost with it */
    post_run(post, post_poll_recv);
    assert_memory_equal(post->rig.held[0].data, &(uint32_t){10}, sizeof(uint32_t));
}

static void what_waited_in_the_ring_for_room_goes_out_over_epoll(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_ops(post)->message_error = -EAGAIN;
    post_ops(post)->message_errors = UINT32_MAX;
    send_numbers(post, 50);
    assert_int_equal(rdy_datagram_unsent(&post->socket), 50);
    assert_true(rig_stats(rig_in(post)).sends_unfinished > 0);

    lose_the_ring(post);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, 0);
    assert_heard(post, 50);
}

/* Of a send that ended with an error before the others were heard of, the error is told. */
static void refusal_that_was_not_told_yet_is_told_after_the_loss(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_ops(post)->message_error = -EPERM;
    post_ops(post)->message_errors = 1;
    send_numbers(post, 3);
    lose_the_ring(post);

    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, -EPERM);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, 0);
    assert_int_equal(post_hear(post), 1);
    assert_int_equal(post_hear(post), 2);
    assert_int_equal(post_hear(post), -1);
}

static void tasks_that_wait_for_room_and_for_the_end_are_woken(void **state)
{
    struct rdy_driver_opts opts = {.send_queue_max = 4 * 356};
    struct post *post = *state;

    rig_reopen(rig_in(post), &opts);
    post_open(post);
    post_ops(post)->is_deaf = true;
    post->goal = 20;
    (void)post_spawn(post, post_poll_send_all);
    rig_turn(rig_in(post));
    assert_int_equal(post->count, 4);

    lose_the_ring(post);
    assert_int_equal(rdy_runtime_run(post->rig.runtime), 0);
    assert_int_equal(post->count, 20);
    assert_heard(post, 20);
}

static void flush_that_waits_is_woken(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_ops(post)->is_deaf = true;
    send_numbers(post, 3);
    (void)post_spawn(post, post_poll_flush);
    rig_turn(rig_in(post));
    assert_int_equal(post->rig.result, RDY_PENDING);

    lose_the_ring(post);
    assert_int_equal(rdy_runtime_run(post->rig.runtime), 0);
    assert_int_equal(post->rig.result, 0);
    assert_heard(post, 3);
}

/* Its last facts are held back, and never come: the file is closed and the buffers are back. */
static void close_that_waits_for_the_ring_ends_with_it(void **state)
{
    struct post *post = *state;
    int fd;

    post_open(post);
    (void)post_spawn(post, post_poll_recv);
    rig_turn(rig_in(post));
    post_ops(post)->is_withholding = true;
    post_say(post, 0, 10);
    fd = post->socket.fd;
    rdy_datagram_close(&post->socket);
    rig_turn(rig_in(post));
    assert_int_equal(driver_stats(post->rig.runtime).entries_live, 1);
    assert_true(fcntl(fd, F_GETFD) >= 0);

    rdy_runtime_driver(post->rig.runtime)->may_move = true;
    post->rig.fake->wait_error = -EPERM;
    rig_turn(rig_in(post));
    assert_int_equal(driver_stats(post->rig.runtime).entries_live, 0);
    assert_int_equal(driver_stats(post->rig.runtime).cancels_pending, 0);
    assert_int_equal(rig_stats(rig_in(post)).buffers_free, rig_stats(rig_in(post)).buffers_total);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POST_ON_FAKE(what_the_ring_has_not_sent_goes_out_over_epoll),
        POST_ON_FAKE(what_the_ring_has_sent_untold_goes_out_twice_rather_than_never),
        POST_ON_FAKE(what_waited_in_the_ring_for_room_goes_out_over_epoll),
        POST_ON_FAKE(refusal_that_was_not_told_yet_is_told_after_the_loss),
        POST_ON_FAKE(tasks_that_wait_for_room_and_for_the_end_are_woken),
        POST_ON_FAKE(flush_that_waits_is_woken),
        POST_ON_FAKE(close_that_waits_for_the_ring_ends_with_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
