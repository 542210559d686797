/* SPDX-License-Identifier: MIT */
/*
 * Receiving datagrams in completion mode: the same answers on io_uring, on epoll and on a fake that
 * runs operations.
 */
#include "tests/support/post.h"

#include <netinet/udp.h>

static void datagram_comes_in_a_buffer_with_its_sender(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);

    post_open(post);
    rig_say(rig, "hello", 5);
    post_run(post, post_poll_recv);

    assert_int_equal(rig->result, 5);
    assert_int_equal(rig->held[0].len, 5);
    assert_memory_equal(rig->held[0].data, "hello", 5);
    assert_int_equal(post->info.addr_len, sizeof(post->peer_addr));
    assert_memory_equal(&post->info.addr, &post->peer_addr, sizeof(post->peer_addr));
    assert_int_equal(post->info.datagram_len, 5);
    assert_int_equal(post->info.segment_len, 0);
    assert_int_equal(post->info.tos, -1);
    assert_int_equal(rig_stats(rig).recv_bytes, 5);
    assert_int_equal(rig_stats(rig).buffers_free, rig_stats(rig).buffers_total - 1);
    assert_int_equal(rdy_datagram_is_native(&post->socket), rig->kind != RIG_EPOLL);
}

static void task_that_waits_is_woken_by_what_comes(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);

    post_open(post);
    post_start(post, post_poll_recv);
    assert_int_equal(rig->result, RDY_PENDING);
    rig_say(rig, "late", 4);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);

    assert_int_equal(rig->result, 4);
}

static void socket_with_data_already_enters_completion_mode(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);

    post_open(post);
    rig_say(rig, "early", 5);
    rig_turn(rig);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    rig_turn(rig);
    post_run(post, post_poll_recv);

    assert_int_equal(rig->result, 5);
}

static void end_that_does_not_fit_is_cut_off_and_told(void **state)
{
    struct rdy_driver_opts opts = {.buffers_count = 4, .buffer_size = 512};
    struct post *post = *state;
    struct rig *rig = rig_in(post);

    rig_reopen(rig, &opts);
    post_open(post);
    post_say(post, 1, 256);
    post_say(post, 2, 257);
    post_run(post, post_poll_recv);
    assert_int_equal(rig->result, 256);
    assert_int_equal(post->info.datagram_len, 256);

    post_run(post, post_poll_recv);
    assert_int_equal(rig->result, 256);
    assert_int_equal(post->info.datagram_len, 257);
}

static void empty_datagrams_are_datagrams(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);

    post_open(post);
    for (int round = 0; round < 3; round++) {
        rig_say(rig, "", 0);
        rig_say(rig, "", 0);
        rig_say(rig, "x", 1);
        for (int i = 0; i < 3; i++) {
            post_run(post, post_poll_recv);
            assert_int_equal(rig->result, i == 2 ? 1 : 0);
            assert_non_null(rig->held[0].block);
            assert_int_equal(post->info.datagram_len, i == 2 ? 1 : 0);
            rig_release(rig);
        }
    }
}

static void type_of_service_is_told(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);
    int tos = 0x2e;

    post_open(post);
    assert_int_equal(rdy_datagram_set(&post->socket, RDY_DATAGRAM_RECV_TOS, 1), 0);
    assert_int_equal(setsockopt(rig->peer, IPPROTO_IP, IP_TOS, &tos, sizeof(tos)), 0);
    rig_say(rig, "marked", 6);
    post_run(post, post_poll_recv);

    assert_int_equal(post->info.tos, tos);
    assert_int_equal(rdy_datagram_ecn(&post->info), tos & 3);
}

static void joined_datagrams_come_with_the_length_of_each(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);
    unsigned char bytes[2500] = {0};
    uint16_t segment_len = 1000;
    uint32_t found = 0;

    post_open(post);
    assert_int_equal(rdy_datagram_probe(&found), 0);
    assert_true(found & RDY_DATAGRAM_CAN_GRO);
    assert_int_equal(rdy_datagram_set(&post->socket, RDY_DATAGRAM_GRO, 1), 0);
    assert_int_equal(setsockopt(rig->peer, SOL_UDP, UDP_SEGMENT, &(int){segment_len}, sizeof(int)),
                     0);
    rig_say(rig, bytes, sizeof(bytes));
    post_run(post, post_poll_recv);

    assert_int_equal(rig->result, sizeof(bytes));
    assert_int_equal(post->info.segment_len, segment_len);
}

/* --- errors --- */

/* Nobody is at the peer's port for a moment. */
static void be_refused(struct post *post)
{
    assert_int_equal(close(post->rig.peer), 0);
    assert_int_equal(send(post->socket.fd, "?", 1, MSG_DONTWAIT), 1);
    post->rig.peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        bind(post->rig.peer, (struct sockaddr *)&post->peer_addr, sizeof(post->peer_addr)), 0);
    assert_int_equal(connect(post->rig.peer, (struct sockaddr *)&post->addr, sizeof(post->addr)),
                     0);
}

static void refusal_is_told_once_and_the_socket_goes_on(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);

    post_open(post);
    post_connect(post);
    post_start(post, post_poll_recv);
    for (int i = 0; i < 3; i++) {
        be_refused(post);
        assert_int_equal(rdy_runtime_run(rig->runtime), 0);
        assert_int_equal(rig->result, -ECONNREFUSED);

        rig->result = RDY_PENDING;
        post_start(post, post_poll_recv);
        assert_int_equal(rig->result, RDY_PENDING);
    }
    rig_say(rig, "here", 4);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, 4);
}

/* A ring takes what is there and then the news; epoll's calls find the news first. */
static void refusal_between_datagrams_loses_none(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);

    post_open(post);
    post_connect(post);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    rig_turn(rig);
    post_say(post, 0, 10);
    post_say(post, 1, 10);
    be_refused(post);
    post_say(post, 2, 10);
    post->goal = 3;
    post_run(post, post_poll_recv_all);

    assert_int_equal(post->errors, 1);
    assert_int_equal(post->error, -ECONNREFUSED);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(post->number[i], i);
}

/* The news stand behind what came before; the reader takes its time to come to them. */
static void datagrams_behind_news_that_were_not_told_yet_are_kept(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);

    post_open(post);
    post_connect(post);
    post_say(post, 0, 10);
    post->goal = 1;
    post_run(post, post_poll_recv_all); /* from here on the ring receives */
    post_say(post, 1, 10);
    post_say(post, 2, 10);
    rig_turn(rig);
    be_refused(post);
    rig_turn(rig);
    post->goal = 2;
    post_run(post, post_poll_recv_all);
    post_say(post, 3, 10);
    rig_turn(rig);
    post->goal = 4;
    post_run(post, post_poll_recv_all);

    assert_int_equal(post->errors, 1);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(post->number[i], i);
}

/* --- few buffers, short queues --- */

static void starve(struct post *post, uint32_t buffers)
{
    struct rdy_driver_opts opts = {.buffers_count = buffers, .buffer_size = 512};
    struct rig *rig = rig_in(post);
    uint64_t turns;

    rig_reopen(rig, &opts);
    post_open(post);
    for (uint32_t i = 0; i < buffers; i++) {
        post_say(post, i, 10);
        post_run(post, post_poll_recv);
        assert_int_equal(rig->result, 10);
    }
    post_say(post, 7, 20);
    post_say(post, 8, 21);
    post_start(post, post_poll_recv);
    assert_int_equal(rig->result, RDY_PENDING);
    turns = driver_stats(rig->runtime).turns;
    for (int i = 0; i < 3; i++)
        assert_true(rdy_driver_turn(rdy_runtime_driver(rig->runtime), 1000000) >= 0);
    assert_int_equal(driver_stats(rig->runtime).turns, turns + 3);
    assert_int_equal(rig->result, RDY_PENDING);

    rdy_buf_release(&rig->held[--rig->held_count]);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, 20);
    rdy_buf_release(&rig->held[--rig->held_count]);
    post_run(post, post_poll_recv);
    assert_int_equal(rig->result, 21);
    assert_true(rig_stats(rig).recv_starved >= 1);
}

/* Whoever keeps all buffers holds up the rest, who sleep meanwhile and take no turns. */
static void socket_without_buffers_sleeps_until_one_is_back(void **state)
{
    struct post *post = *state;

    starve(post, 1);
    rig_release(rig_in(post));
    rdy_datagram_close(&post->socket);
    assert_int_equal(close(post->rig.peer), 0);
    rig_turn(rig_in(post));
    starve(post, 2);
}

static void all_come_in_order_over_a_pool_of(struct post *post, uint32_t buffers)
{
    struct rdy_driver_opts opts = {.buffers_count = buffers, .buffer_size = 1024};

    rig_reopen(rig_in(post), &opts);
    post_open(post);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    post->goal = 100;
    for (uint32_t i = 0; i < post->goal; i++)
        post_say(post, i, 4 + i);
    post_run(post, post_poll_recv_all);

    for (uint32_t i = 0; i < post->goal; i++)
        assert_int_equal(post->number[i], i);
}

static void pool_of_one_loses_nothing(void **state)
{
    all_come_in_order_over_a_pool_of(*state, 1);
}

static void pool_of_two_loses_nothing(void **state)
{
    all_come_in_order_over_a_pool_of(*state, 2);
}

/* Taken by nobody, they stay in the kernel's buffer beyond the bound. */
static void queue_is_bounded_and_the_kernel_holds_the_rest(void **state)
{
    struct rdy_driver_opts opts = {.recv_queue_max = 4};
    struct post *post = *state;
    struct rig *rig = rig_in(post);
    bool is_native;

    rig_reopen(rig, &opts);
    post_open(post);
    post_say(post, 0, 10);
    post_run(post, post_poll_recv); /* the receive is on its way */
    rig_release(rig);
    is_native = rdy_datagram_is_native(&post->socket);
    for (uint32_t i = 0; i < 100; i++) {
        post_say(post, i, 10);
        if (i == 10)
            rig_turn(rig);
    }
    rig_turn(rig);
    assert_int_equal(rig_stats(rig).recv_pauses > 0, is_native);
    assert_true(rig_stats(rig).recv_buffers < 60);

    post->goal = 100;
    post_run(post, post_poll_recv_all);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(post->number[i], i);
}

static void pool_with_buffers_too_small_is_refused(void **state)
{
    struct rdy_driver_opts opts = {.buffer_size = 511};
    struct post *post = *state;

    rig_reopen(rig_in(post), &opts);
    post_open(post);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), -EINVAL);
    post_run(post, post_poll_recv);
    assert_int_equal(post->rig.result, -EINVAL);
}

/* --- the other calls --- */

/* One datagram by each of the calls in turn, all in their order. */
static int poll_mixed(struct rdy_task *task, void *self)
{
    static const ssize_t answers[] = {10, 10, 4, 1};
    struct post *post = post_of(self);
    unsigned char bytes[64];
    struct rdy_datagram_message message = {.buf = bytes, .buf_len = sizeof(bytes)};
    struct rdy_buf buf = {.data = bytes, .len = sizeof(uint32_t)};
    struct rdy_datagram_info info;
    size_t datagram_len = 0;
    ssize_t rc = 0;

    while (post->count < post->goal) {
        rc = rdy_datagram_poll_peek_from(&post->socket, task, bytes, 2, &info);
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(rc, 2);
        assert_int_equal(info.datagram_len, 10);
        assert_int_equal(bytes[0], post->count);
        switch (post->count % 4) {
        case 0:
            rc = rdy_datagram_poll_recv_buf(&post->socket, task, &buf, NULL);
            break;
        case 1:
            rc = rdy_datagram_poll_recv(&post->socket, task, bytes, sizeof(bytes), &datagram_len);
            break;
        case 2:
            rc = rdy_datagram_poll_recv_from(&post->socket, task, bytes, 4, &info);
            break;
        default:
            rc = rdy_datagram_poll_recv_many(&post->socket, task, &message, 1);
            break;
        }
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(rc, answers[post->count % 4]);
        post_note(post, &buf);
        if (buf.block)
            rdy_buf_release(&buf);
        buf = (struct rdy_buf){.data = bytes, .len = sizeof(uint32_t)};
    }
    return 0;
}

static void all_calls_take_from_the_same_queue(void **state)
{
    struct post *post = *state;

    post_open(post);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    post->goal = 40;
    for (uint32_t i = 0; i < post->goal; i++)
        post_say(post, i, 10);
    post_run(post, poll_mixed);

    for (uint32_t i = 0; i < post->goal; i++)
        assert_int_equal(post->number[i], i);
}

/* With more room than a buffer of the engine has: no byte is counted that is not there. */
static int poll_roomy(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    size_t there = rdy_datagram_is_native(&post->socket) ? 256 : 600;
    struct rdy_datagram_info info;
    size_t datagram_len = 0;

    while (post->count < post->goal) {
        unsigned char bytes[1000];
        ssize_t rc = 0;

        memset(bytes, 0xff, sizeof(bytes));
        if (post->count == 0)
            rc = rdy_datagram_poll_peek_from(&post->socket, task, bytes, sizeof(bytes), &info);
        else if (post->count == 1)
            rc = rdy_datagram_poll_recv_from(&post->socket, task, bytes, sizeof(bytes), &info);
        else
            rc = rdy_datagram_poll_recv(&post->socket, task, bytes, sizeof(bytes), &datagram_len);
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(rc, there);
        assert_int_equal(post->count < 2 ? info.datagram_len : datagram_len, 600);
        assert_int_equal(bytes[there - 1], 0);
        assert_int_equal(bytes[there], 0xff);
        post->count++;
    }
    return 0;
}

static void copying_call_counts_no_more_than_a_buffer_had(void **state)
{
    struct rdy_driver_opts opts = {.buffers_count = 4, .buffer_size = 512};
    struct post *post = *state;

    rig_reopen(rig_in(post), &opts);
    post_open(post);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    post->goal = 3;
    post_say(post, 1, 600);
    post_say(post, 2, 600);
    post_run(post, poll_roomy);

    assert_int_equal(post->count, 3);
}

/* --- ends --- */

static void shutdown_of_the_driver_ends_a_wait(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_start(post, post_poll_recv);
    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(post->rig.runtime)), 0);
    assert_int_equal(rdy_runtime_run(post->rig.runtime), 0);

    assert_int_equal(post->rig.result, -ESHUTDOWN);
    rdy_datagram_close(&post->socket);
    rdy_runtime_close(post->rig.runtime);
    post->rig.runtime = NULL;
    assert_int_equal(close(post->rig.peer), 0);
}

static void task_aborted_in_a_receive_leaves_the_datagram_to_the_next(void **state)
{
    struct post *post = *state;
    struct rig *rig = rig_in(post);
    struct rdy_task_id id;

    post_open(post);
    id = post_spawn(post, post_poll_recv);
    rig_turn(rig);
    assert_int_equal(rdy_task_abort(rig->runtime, id), 0);
    rig_say(rig, "next", 4);
    rig_turn(rig);
    assert_int_equal(rig->result, RDY_PENDING);
    post_run(post, post_poll_recv);
    assert_int_equal(rig->result, 4);
}

static void close_with_datagrams_that_nobody_took_leaves_nothing(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_start(post, post_poll_recv);
    for (uint32_t i = 0; i < 10; i++)
        post_say(post, i, 10);
    rig_turn(rig_in(post));
    post_say(post, 10, 10);
    /* post_teardown() closes, and sees that every buffer is back */
}

static void call_after_close_is_refused(void **state)
{
    struct post *post = *state;

    post_open(post);
    rdy_datagram_close(&post->socket);
    post_run(post, post_poll_recv);
    assert_int_equal(post->rig.result, -EBADF);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, -EBADF);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), -EBADF);
    assert_int_equal(rdy_datagram_unsent(&post->socket), 0);
    assert_false(rdy_datagram_is_native(&post->socket));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POST_ON_THREE(datagram_comes_in_a_buffer_with_its_sender),
        POST_ON_THREE(task_that_waits_is_woken_by_what_comes),
        POST_ON_THREE(socket_with_data_already_enters_completion_mode),
        POST_ON_THREE(end_that_does_not_fit_is_cut_off_and_told),
        POST_ON_THREE(empty_datagrams_are_datagrams),
        POST_ON_THREE(type_of_service_is_told),
        POST_ON_THREE(joined_datagrams_come_with_the_length_of_each),
        POST_ON_THREE(refusal_is_told_once_and_the_socket_goes_on),
        POST_ON_THREE(refusal_between_datagrams_loses_none),
        POST_ON_THREE(datagrams_behind_news_that_were_not_told_yet_are_kept),
        POST_ON_THREE(socket_without_buffers_sleeps_until_one_is_back),
        POST_ON_THREE(pool_of_one_loses_nothing),
        POST_ON_THREE(pool_of_two_loses_nothing),
        POST_ON_THREE(queue_is_bounded_and_the_kernel_holds_the_rest),
        POST_ON_THREE(pool_with_buffers_too_small_is_refused),
        POST_ON_THREE(all_calls_take_from_the_same_queue),
        POST_ON_THREE(copying_call_counts_no_more_than_a_buffer_had),
        POST_ON_THREE(shutdown_of_the_driver_ends_a_wait),
        POST_ON_THREE(task_aborted_in_a_receive_leaves_the_datagram_to_the_next),
        POST_ON_THREE(close_with_datagrams_that_nobody_took_leaves_nothing),
        POST_ON_THREE(call_after_close_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
