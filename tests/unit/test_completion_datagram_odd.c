/* SPDX-License-Identifier: MIT */
/*
 * What kernels do seldom to datagrams, on the fake: facts that come late, in another order, twice
 * or not before the end; a socket without room; a backend without receives for datagrams. Each must
 * leave nothing behind, which post_teardown() sees.
 */
#include "tests/support/post.h"

#include "engine/driver.h"

static void open_receiving(struct post *post)
{
    post_open(post);
    post_start(post, post_poll_recv);
    assert_int_equal(post->rig.result, RDY_PENDING);
}

/* --- receiving --- */

static void close_waits_for_a_last_fact_that_is_late(void **state)
{
    struct post *post = *state;
    int fd;

    open_receiving(post);
    fd = post->socket.fd;
    post_ops(post)->is_withholding = true;
    rdy_datagram_close(&post->socket);
    rig_turn(rig_in(post));
    assert_int_equal(driver_stats(post->rig.runtime).entries_live, 1);
    assert_true(fcntl(fd, F_GETFD) >= 0);

    fake_let_go(post->rig.fake, false);
    rig_turn(rig_in(post));
    assert_int_equal(driver_stats(post->rig.runtime).entries_live, 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void datagrams_that_arrive_while_leaving_go_back_to_the_pool(void **state)
{
    struct post *post = *state;

    for (int is_reversed = 0; is_reversed < 2; is_reversed++) {
        open_receiving(post);
        post_ops(post)->is_withholding = true;
        post_say(post, 0, 10);
        rig_say(rig_in(post), "", 0); /* ends the receive by itself */
        rig_turn(rig_in(post));
        rdy_datagram_close(&post->socket);
        rig_turn(rig_in(post));
        post_ops(post)->is_withholding = false;
        fake_let_go(post->rig.fake, is_reversed != 0);
        rig_turn(rig_in(post));
        rig_turn(rig_in(post));

        assert_int_equal(driver_stats(post->rig.runtime).entries_live, 0);
        assert_int_equal(rig_stats(rig_in(post)).buffers_free,
                         rig_stats(rig_in(post)).buffers_total);
        assert_int_equal(close(post->rig.peer), 0);
        post->rig.peer = -1;
        post->rig.result = RDY_PENDING;
    }
}

static void last_fact_that_comes_twice_is_refused_once(void **state)
{
    struct post *post = *state;

    open_receiving(post);
    post_ops(post)->is_doubling = true;
    rdy_datagram_close(&post->socket);
    rig_turn(rig_in(post));

    assert_int_equal(driver_stats(post->rig.runtime).entries_live, 0);
    assert_int_equal(driver_stats(post->rig.runtime).facts_for_closed_entry, 1);
}

static void receive_that_ends_after_each_fact_goes_on(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_ops(post)->ends_each = true;
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    post->goal = 50;
    for (uint32_t i = 0; i < post->goal; i++)
        post_say(post, i, 20);
    post_run(post, post_poll_recv_all);

    for (uint32_t i = 0; i < post->goal; i++)
        assert_int_equal(post->number[i], i);
    assert_true(rig_stats(rig_in(post)).recvs_armed >= 50);
}

static void receive_without_room_for_it_is_begun_later(void **state)
{
    struct post *post = *state;

    post_open(post);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    rig_turn(rig_in(post));
    post->rig.fake->arm_error = -EBUSY;
    post->rig.fake->arm_errors = 3;
    rig_say(rig_in(post), "patience", 8);
    post_run(post, post_poll_recv);

    assert_int_equal(post->rig.result, 8);
    assert_int_equal(post->rig.fake->arm_errors, 0);
}

static void cancel_without_room_for_it_is_asked_again(void **state)
{
    struct post *post = *state;

    open_receiving(post);
    post->rig.fake->disarm_error = -EBUSY;
    post->rig.fake->disarm_errors = 2;
    rdy_datagram_close(&post->socket);
    rig_turn(rig_in(post));

    assert_int_equal(driver_stats(post->rig.runtime).entries_live, 0);
}

/* The pause was asked for and has not come: what comes meanwhile is kept, in order. */
static void pause_that_is_late_loses_nothing(void **state)
{
    struct rdy_driver_opts opts = {.recv_queue_max = 2};
    struct post *post = *state;

    rig_reopen(rig_in(post), &opts);
    open_receiving(post);
    post_say(post, 0, 4);
    assert_int_equal(rdy_runtime_run(post->rig.runtime), 0);
    rig_release(rig_in(post));
    post->count = 1;
    post_ops(post)->recv_max = 1;
    for (uint32_t i = 1; i < 20; i++)
        post_say(post, i, 20);
    rig_turn(rig_in(post));
    assert_true(rig_stats(rig_in(post)).recv_pauses > 0);
    post->goal = 20;
    post_run(post, post_poll_recv_all);
    for (uint32_t i = 1; i < 20; i++)
        assert_int_equal(post->number[i], i);
}

/* --- sending --- */

static void send_is_not_taken_for_done_too_early(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_ops(post)->is_deaf = true;
    post->goal = 5;
    post_run(post, post_poll_send_all);
    rig_turn(rig_in(post));
    assert_int_equal(rdy_datagram_unsent(&post->socket), 5);

    post_ops(post)->is_deaf = false;
    rig_turn(rig_in(post));
    assert_int_equal(rdy_datagram_unsent(&post->socket), 0);
    assert_heard(post, 5);
}

/* Each wait takes three; no try gets a fourth through, and the first of the rest waits alone. */
static void socket_without_room_is_waited_for(void **state)
{
    struct post *post = *state;
    bool is_heard[200] = {false};
    int64_t number;
    uint32_t heard = 0;

    post_open(post);
    post_ops(post)->message_sends_max = 3;
    post->goal = 200;
    post_run(post, post_poll_send_all);
    post_run(post, post_poll_flush);

    assert_int_equal(post->rig.result, 0);
    assert_true(rig_stats(rig_in(post)).sends_unfinished > 0);
    while ((number = post_hear(post)) >= 0) {
        assert_true(number < 200 && !is_heard[number]);
        assert_int_equal(number, heard); /* the fake has no room for those behind, either */
        is_heard[number] = true;
        heard++;
    }
    assert_int_equal(heard, 200);
}

static int poll_sends_pool_buffer(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    int rc = post_send(post, task, &post->rig.held[0]);

    if (rc == RDY_PENDING)
        return RDY_PENDING;
    assert_int_equal(rc, 0);
    post->rig.held_count = 0;
    return 0;
}

/* What waits for room holds no buffer of the pool. */
static void datagram_that_waits_is_copied_out_of_the_pool(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_say(post, 0, 10);
    post_run(post, post_poll_recv);
    assert_int_equal(rig_stats(rig_in(post)).buffers_free,
                     rig_stats(rig_in(post)).buffers_total - 1);
    post_ops(post)->message_error = -EAGAIN;
    post_ops(post)->message_errors = UINT32_MAX;
    post_run(post, poll_sends_pool_buffer);
    rig_turn(rig_in(post));
    assert_int_equal(rdy_datagram_unsent(&post->socket), 1);
    assert_int_equal(rig_stats(rig_in(post)).buffers_free, rig_stats(rig_in(post)).buffers_total);

    post_ops(post)->message_errors = 0;
    post_run(post, post_poll_flush);
    assert_heard(post, 1);
}

/* Has a task send @goal datagrams, which the kernel lets lie, to a queue that takes @room. */
static void fill_queue(struct post *post, uint32_t room, uint32_t goal)
{
    struct rdy_driver_opts opts = {.send_queue_max = room * 356};

    rig_reopen(rig_in(post), &opts);
    post_open(post);
    post_ops(post)->is_deaf = true;
    post->goal = goal;
    post_start(post, post_poll_send_all);
    assert_int_equal(post->count, room);
}

static void full_queue_is_told_by_pending_and_goes_on(void **state)
{
    struct post *post = *state;

    fill_queue(post, 4, 20);
    assert_int_equal(rdy_datagram_unsent(&post->socket), 4);

    post_ops(post)->is_deaf = false;
    assert_int_equal(rdy_runtime_run(post->rig.runtime), 0);
    assert_int_equal(post->count, 20);
    post_run(post, post_poll_flush);
    assert_heard(post, 20);
}

/* Refused once with news of an earlier one, the datagram goes out; twice, it is dropped. */
static void news_cost_no_datagram_but_a_refusal_that_stays_does(void **state)
{
    struct post *post = *state;

    for (uint32_t times = 1; times <= 2; times++) {
        post_open(post);
        post_ops(post)->message_error = -EHOSTUNREACH;
        post_ops(post)->message_errors = times;
        post->goal = 1;
        post->count = 0;
        post_run(post, post_poll_send_all);
        for (int i = 0; i < 3; i++)
            rig_turn(rig_in(post));
        assert_int_equal(post_hear(post), times == 1 ? 0 : -1);
        post_run(post, post_poll_flush);
        assert_int_equal(post->rig.result, -EHOSTUNREACH);
        post_run(post, post_poll_flush);
        assert_int_equal(post->rig.result, 0);
        rdy_datagram_close(&post->socket);
        assert_int_equal(close(post->rig.peer), 0);
        post->rig.peer = -1;
    }
}

/* The task sleeps for room, and is woken for the error. */
static void task_that_waits_for_room_is_told_of_an_error(void **state)
{
    struct post *post = *state;

    fill_queue(post, 2, 4);
    post_ops(post)->message_error = -EPERM;
    post_ops(post)->message_errors = 2;
    post_ops(post)->is_deaf = false;
    assert_int_equal(rdy_runtime_run(post->rig.runtime), 0);

    assert_int_equal(post->errors, 1);
    assert_int_equal(post->error, -EPERM);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, 0);
    assert_int_equal(post_hear(post), 2);
    assert_int_equal(post_hear(post), 3);
}

static void send_without_room_for_it_is_begun_later(void **state)
{
    struct post *post = *state;

    post_open(post);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    rig_turn(rig_in(post));
    post->rig.fake->arm_error = -EBUSY;
    post->rig.fake->arm_errors = 3;
    post->goal = 40;
    post_run(post, post_poll_send_all);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.fake->arm_errors, 0);
    assert_heard(post, 40);
}

/* A wait for room that failed, and cannot be begun again now, becomes a try, which says nothing. */
static void try_in_the_place_of_a_wait_is_heard_of(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_ops(post)->message_error = -EAGAIN;
    post_ops(post)->message_errors = UINT32_MAX;
    post->goal = 1;
    post_run(post, post_poll_send_all);
    rig_turn(rig_in(post));
    (void)post_spawn(post, post_poll_flush);
    rig_turn(rig_in(post));
    rig_turn(rig_in(post));
    assert_int_equal(rdy_datagram_unsent(&post->socket), 1);

    post_ops(post)->message_error = -ENOMEM;
    post_ops(post)->message_errors = 1;
    post->rig.fake->arm_error = -EBUSY;
    post->rig.fake->arm_errors = 1;
    assert_int_equal(rdy_runtime_run(post->rig.runtime), 0);
    assert_int_equal(post->rig.result, 0);
    assert_int_equal(post->rig.fake->arm_errors, 0);
    assert_int_equal(post_ops(post)->message_errors, 0);
    assert_heard(post, 1);
}

/* In each state that a send can be in. */
static void close_drops_what_is_unsent_and_waits_for_the_kernel(void **state)
{
    struct post *post = *state;

    for (int way = 0; way < 4; way++) {
        post_open(post);
        post_ops(post)->message_error = -EAGAIN;
        post_ops(post)->message_errors = way == 2 || way == 3 ? UINT32_MAX : 0;
        post_ops(post)->is_deaf = way == 1;
        post->goal = 40;
        post->count = 0;
        post_run(post, post_poll_send_all);
        if (way > 0)
            rig_turn(rig_in(post)); /* tried; and (2, 3) waiting */
        post_ops(post)->is_doubling = way == 3;
        rdy_datagram_close(&post->socket);
        rig_turn(rig_in(post));
        if (way == 1) {
            assert_int_equal(driver_stats(post->rig.runtime).entries_live, 1);
            assert_int_equal(rig_stats(rig_in(post)).blocks_live, 40);
            post_ops(post)->is_deaf = false;
            rig_turn(rig_in(post));
        }
        assert_int_equal(driver_stats(post->rig.runtime).entries_live, 0);
        assert_int_equal(rig_stats(rig_in(post)).blocks_live, 0);
        post_ops(post)->is_doubling = false;
        post_ops(post)->message_errors = 0;
        assert_int_equal(close(post->rig.peer), 0);
        post->rig.peer = -1;
    }
}

static void runtime_closes_over_what_never_ends(void **state)
{
    struct post *post = *state;

    open_receiving(post);
    post_ops(post)->is_deaf = true;
    post->goal = 5;
    post_start(post, post_poll_send_all);
    assert_int_equal(post->count, 5);
    rdy_datagram_close(&post->socket);
    rdy_runtime_close(post->rig.runtime);
    post->rig.runtime = NULL;
    assert_int_equal(close(post->rig.peer), 0);
}

static void shutdown_of_the_driver_gives_a_full_socket_up(void **state)
{
    struct post *post = *state;
    uint64_t sends;

    post_open(post);
    post_ops(post)->message_error = -EAGAIN;
    post_ops(post)->message_errors = UINT32_MAX;
    post->goal = 5;
    (void)post_spawn(post, post_poll_send_all);
    rig_turn(rig_in(post));
    assert_true(rdy_datagram_unsent(&post->socket) > 0);
    sends = rig_stats(rig_in(post)).sends;

    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(post->rig.runtime)), 0);
    assert_int_equal(rig_stats(rig_in(post)).sends, sends);
    rdy_datagram_close(&post->socket);
    rdy_runtime_close(post->rig.runtime);
    post->rig.runtime = NULL;
    assert_int_equal(close(post->rig.peer), 0);
}

/* --- without the operation --- */

/* The backend runs operations, but not this one: the engine makes the calls, answers as ever. */
static void backend_without_receives_of_datagrams_is_done_without(void **state)
{
    struct post *post = *state;

    post_ops(post)->messages_error = -EINVAL;
    post_open(post);
    post_start(post, post_poll_recv);
    assert_false(rdy_datagram_is_native(&post->socket));
    assert_true(rdy_completion_is_native(post->rig.runtime));
    rig_say(rig_in(post), "plain", 5);
    assert_int_equal(rdy_runtime_run(post->rig.runtime), 0);
    assert_int_equal(post->rig.result, 5);
    assert_memory_equal(&post->info.addr, &post->peer_addr, sizeof(post->peer_addr));
    rig_release(rig_in(post));

    post->goal = 40;
    post_run(post, post_poll_send_all);
    assert_int_equal(rdy_datagram_unsent(&post->socket), 0);
    assert_heard(post, 40);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POST_ON_FAKE(close_waits_for_a_last_fact_that_is_late),
        POST_ON_FAKE(datagrams_that_arrive_while_leaving_go_back_to_the_pool),
        POST_ON_FAKE(last_fact_that_comes_twice_is_refused_once),
        POST_ON_FAKE(receive_that_ends_after_each_fact_goes_on),
        POST_ON_FAKE(receive_without_room_for_it_is_begun_later),
        POST_ON_FAKE(cancel_without_room_for_it_is_asked_again),
        POST_ON_FAKE(pause_that_is_late_loses_nothing),
        POST_ON_FAKE(send_is_not_taken_for_done_too_early),
        POST_ON_FAKE(socket_without_room_is_waited_for),
        POST_ON_FAKE(datagram_that_waits_is_copied_out_of_the_pool),
        POST_ON_FAKE(full_queue_is_told_by_pending_and_goes_on),
        POST_ON_FAKE(news_cost_no_datagram_but_a_refusal_that_stays_does),
        POST_ON_FAKE(task_that_waits_for_room_is_told_of_an_error),
        POST_ON_FAKE(send_without_room_for_it_is_begun_later),
        POST_ON_FAKE(try_in_the_place_of_a_wait_is_heard_of),
        POST_ON_FAKE(close_drops_what_is_unsent_and_waits_for_the_kernel),
        POST_ON_FAKE(runtime_closes_over_what_never_ends),
        POST_ON_FAKE(shutdown_of_the_driver_gives_a_full_socket_up),
        POST_ON_FAKE(backend_without_receives_of_datagrams_is_done_without),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
