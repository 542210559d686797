/* SPDX-License-Identifier: MIT */
/*
 * Sending datagrams in completion mode: the same answers on io_uring, on epoll and on a fake that
 * runs operations; and Unix datagrams, which go the same ways everywhere.
 */
#include "tests/support/post.h"

#include <pthread.h>

static void datagrams_go_out_each_for_itself_in_order(void **state)
{
    struct post *post = *state;

    post_open(post);
    post->goal = 100;
    post_run(post, post_poll_send_all);
    post_run(post, post_poll_flush);

    assert_int_equal(post->rig.result, 0);
    assert_int_equal(post->errors, 0);
    assert_int_equal(rdy_datagram_unsent(&post->socket), 0);
    assert_heard(post, 100);
    assert_int_equal(rig_stats(rig_in(post)).blocks_live, 0);
}

static void peer_of_a_connected_socket_needs_no_address(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_connect(post);
    post->goal = 5;
    post_run(post, post_poll_send_all);
    post_run(post, post_poll_flush);

    assert_heard(post, 5);
}

/* Sends back what comes, in the buffer in which it came. */
static int poll_echoes(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    struct rdy_buf *buf = &post->rig.held[0];

    while (post->count < post->goal) {
        ssize_t rc;

        if (post->rig.held_count == 0) {
            rc = rdy_datagram_poll_recv_buf(&post->socket, task, buf, &post->info);
            if (rc == RDY_PENDING)
                return RDY_PENDING;
            assert_true(rc >= 0);
            post->rig.held_count = 1;
        }
        rc = rdy_datagram_poll_send_buf(&post->socket, task, buf,
                                        (struct sockaddr *)&post->info.addr, post->info.addr_len);
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(rc, 0);
        assert_null(buf->block);
        post->rig.held_count = 0;
        post->count++;
    }
    return 0;
}

static void echo_sends_back_what_came_the_empty_too(void **state)
{
    struct rdy_driver_opts opts = {.buffers_count = 4, .buffer_size = 2048};
    struct post *post = *state;
    unsigned char back[2000];

    rig_reopen(rig_in(post), &opts);
    post_open(post);
    post->goal = 21;
    for (uint32_t i = 0; i < 20; i++)
        post_say(post, i, 4 + i * 70);
    rig_say(rig_in(post), "", 0);
    post_run(post, poll_echoes);
    post_run(post, post_poll_flush);

    for (uint32_t i = 0; i < 21; i++)
        assert_int_equal(recv(post->rig.peer, back, sizeof(back), MSG_DONTWAIT),
                         i < 20 ? (int)(4 + i * 70) : 0);
}

/* The caller may keep what it hands over, and read it. */
static int poll_sends_kept(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    struct rdy_buf kept = rdy_buf_keep(&post->rig.held[0]);

    post->rig.result = post_send(post, task, &kept);
    return post->rig.result == RDY_PENDING ? RDY_PENDING : 0;
}

static void one_buffer_is_sent_many_times(void **state)
{
    struct post *post = *state;
    uint32_t number = 9;

    post_open(post);
    post->rig.held[post->rig.held_count++] = rig_buf(rig_in(post), &number, sizeof(number));
    for (int i = 0; i < 3; i++)
        post_run(post, poll_sends_kept);
    post_run(post, post_poll_flush);
    for (int i = 0; i < 3; i++)
        assert_int_equal(post_hear(post), 9);
    assert_int_equal(rig_stats(rig_in(post)).blocks_live, 1);
}

static int poll_sends_none(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    struct rdy_buf none = {0};

    post->rig.result = post_send(post, task, &none);
    return 0;
}

static void no_buffer_is_no_datagram(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_run(post, poll_sends_none);
    assert_int_equal(post->rig.result, -EINVAL);
}

/* --- errors --- */

/* Held buffers in their order; each -errno is noted, and the same handed over again. */
static int poll_sends_held(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);

    while (post->count < post->goal) {
        struct rdy_buf *buf = &post->rig.held[post->count];
        int rc = post_send(post, task, buf);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        if (rc < 0) {
            post->error = rc;
            assert_true(++post->errors < 100);
            continue;
        }
        post->count++;
    }
    post->rig.held_count = 0;
    return 0;
}

static int poll_flushes_noting(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    int rc = rdy_datagram_poll_flush(&post->socket, task);

    if (rc == RDY_PENDING)
        return RDY_PENDING;
    post->rig.result = rc;
    if (rc < 0) {
        post->error = rc;
        post->errors++;
    }
    return 0;
}

static void refused_datagram_is_told_once_and_costs_no_other(void **state)
{
    static unsigned char bytes[65530]; /* IPv4 takes 65507 */
    struct post *post = *state;

    post_open(post);
    for (uint32_t i = 0; i < 3; i++) {
        memcpy(bytes, &(uint32_t){i / 2}, sizeof(uint32_t));
        post->rig.held[post->rig.held_count++] =
            rig_buf(rig_in(post), bytes, i == 1 ? sizeof(bytes) : 100);
    }
    post->goal = 3;
    post_run(post, poll_sends_held);
    post_run(post, poll_flushes_noting);
    post_run(post, poll_flushes_noting);

    assert_int_equal(post->errors, 1);
    assert_int_equal(post->error, -EMSGSIZE);
    assert_int_equal(post->rig.result, 0);
    assert_heard(post, 2);
}

/* Waits for all of @goal, and answers whether they came. */
static void *hears_all(void *arg)
{
    struct post *post = arg;
    uint32_t number;
    uint32_t count = 0;

    while (count < post->goal && recv(post->rig.peer, &number, sizeof(number), 0) > 0)
        count++;
    number = count == post->goal;
    (void)!send(post->rig.peer, &number, sizeof(number), 0);
    return NULL;
}

/* More than are tried at once; their success is silent, and the task waits for something else. */
static void what_is_left_of_many_goes_out_while_the_task_sleeps(void **state)
{
    struct timeval patience = {.tv_sec = 10};
    struct post *post = *state;
    pthread_t peer;

    post_open(post);
    assert_int_equal(
        setsockopt(post->rig.peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    post->goal = 100;
    post_run(post, post_poll_send_all);
    assert_int_equal(pthread_create(&peer, NULL, hears_all, post), 0);
    post->count = 0;
    post_run(post, post_poll_recv);
    assert_int_equal(pthread_join(peer, NULL), 0);

    assert_int_equal(post->rig.result, sizeof(uint32_t));
    assert_int_equal(post->rig.held[0].data[0], 1);
}

/* An address without a way there: each of the two tries is refused. */
static void destination_without_a_route_is_told_once(void **state)
{
    struct post *post = *state;

    post_open(post);
    post->peer_addr.sin_addr.s_addr = htonl(0xf0000001); /* of class E, which goes nowhere */
    post->rig.held[post->rig.held_count++] = rig_buf(rig_in(post), "?", 1);
    post->goal = 1;
    post_run(post, poll_sends_held);
    for (int i = 0; i < 3; i++)
        post_run(post, poll_flushes_noting);

    assert_int_equal(post->errors, 1);
    assert_true(post->error == -ENETUNREACH || post->error == -EHOSTUNREACH ||
                post->error == -EINVAL);
    assert_int_equal(post->rig.result, 0);
}

static void send_without_a_peer_is_told(void **state)
{
    struct post *post = *state;

    post_open(post);
    post->is_to_peer = true;
    post->rig.held[post->rig.held_count++] = rig_buf(rig_in(post), "?", 1);
    post->goal = 1;
    post_run(post, poll_sends_held);
    post_run(post, poll_flushes_noting);
    post_run(post, poll_flushes_noting);

    assert_int_equal(post->errors, 1);
    assert_int_equal(post->error, -EDESTADDRREQ);
    assert_int_equal(post->rig.result, 0);
}

/* The news is of the first; the one that met it is not lost. */
static void refusal_is_told_once_and_the_next_goes_out(void **state)
{
    struct post *post = *state;

    post_open(post);
    post_connect(post);
    assert_int_equal(close(post->rig.peer), 0);
    post->goal = 1;
    post_run(post, post_poll_send_all);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, 0);
    post->rig.peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        bind(post->rig.peer, (struct sockaddr *)&post->peer_addr, sizeof(post->peer_addr)), 0);
    post->count = 0;
    post->goal = 10;
    post_run(post, post_poll_send_all);
    post_run(post, poll_flushes_noting);
    post_run(post, poll_flushes_noting);

    assert_int_equal(post->errors, 1);
    assert_int_equal(post->error, -ECONNREFUSED);
    assert_int_equal(post->rig.result, 0);
    for (uint32_t seen = 0, i = 0; i < 10; i++) {
        int64_t number = post_hear(post);

        assert_true(number >= 0 && number < 10 && (seen & (1u << number)) == 0);
        seen |= 1u << number;
    }
}

/* --- the other calls --- */

/* One datagram by each of the calls in turn. */
static int poll_mixed(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    const struct sockaddr *to = (struct sockaddr *)&post->peer_addr;
    socklen_t to_len = sizeof(post->peer_addr);
    struct rdy_buf *buf = &post->rig.held[0];

    while (post->count < post->goal) {
        uint32_t number = post->count;
        struct rdy_datagram_message message = {.buf = &number, .len = sizeof(number)};
        struct rdy_datagram_segments segments = {
            .data = &number, .data_len = sizeof(number), .segment_len = 100};
        ssize_t rc;

        memcpy(&message.info.addr, to, to_len);
        message.info.addr_len = to_len;
        switch (number % 4) {
        case 0:
            if (post->rig.held_count == 0)
                *buf = rig_buf(rig_in(post), &number, sizeof(number));
            post->rig.held_count = 1;
            rc = rdy_datagram_poll_send_buf(&post->socket, task, buf, to, to_len);
            break;
        case 1:
            rc =
                rdy_datagram_poll_send_to(&post->socket, task, &number, sizeof(number), to, to_len);
            break;
        case 2:
            rc = rdy_datagram_poll_send_many(&post->socket, task, &message, 1);
            break;
        default:
            rc = rdy_datagram_poll_send_segments(&post->socket, task, &segments, to, to_len);
            break;
        }
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        assert_true(rc >= 0);
        post->rig.held_count = 0;
        post->count++;
    }
    return 0;
}

static void all_calls_send_through_the_same_queue(void **state)
{
    struct post *post = *state;

    post_open(post);
    post->goal = 80;
    post_run(post, poll_mixed);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, 0);
    assert_heard(post, 80);
}

/* --- Unix --- */

static void open_unix(struct post *post, struct rdy_datagram *other)
{
    assert_int_equal(rdy_datagram_pair(&post->socket, other, post->rig.runtime), 0);
    post->is_to_peer = true;
}

static int poll_recv_from(struct rdy_task *task, struct post *post, struct rdy_datagram *from)
{
    struct rdy_buf buf = {0};
    ssize_t rc = rdy_datagram_poll_recv_buf(from, task, &buf, NULL);

    if (rc == RDY_PENDING)
        return RDY_PENDING;
    assert_int_equal(rc, post->len);
    post_note(post, &buf);
    rdy_buf_release(&buf);
    return 0;
}

static struct rdy_datagram unix_other;
static uint32_t unix_sent;

static int poll_sends_unix(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    struct rdy_buf *buf = &post->rig.held[0];

    while (unix_sent < post->goal) {
        if (post->rig.held_count == 0) {
            assert_int_equal(rdy_buf_take(post->rig.runtime, post->len, buf), 0);
            memset(buf->data, 0, post->len);
            memcpy(buf->data, &unix_sent, sizeof(unix_sent));
            post->rig.held_count = 1;
        }
        if (post_send(post, task, buf) == RDY_PENDING)
            return RDY_PENDING;
        assert_null(buf->block);
        post->rig.held_count = 0;
        unix_sent++;
    }
    return 0;
}

static int poll_receives_unix(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);

    while (post->count < post->goal) {
        if (poll_recv_from(task, post, &unix_other) == RDY_PENDING)
            return RDY_PENDING;
    }
    return 0;
}

/* The peer's queue holds few: the sender waits for it again and again. */
static void unix_datagrams_wait_for_a_full_peer_and_keep_their_order(void **state)
{
    struct post *post = *state;

    open_unix(post, &unix_other);
    unix_sent = 0;
    post->goal = 500;
    post_start(post, poll_sends_unix);
    assert_true(unix_sent < 500);
    assert_false(rdy_datagram_is_native(&post->socket));
    post_run(post, poll_receives_unix);

    for (uint32_t i = 0; i < post->goal; i++)
        assert_int_equal(post->number[i], i);
    assert_int_equal(rdy_datagram_unsent(&post->socket), 0);
    rdy_datagram_close(&unix_other);
}

static void unix_datagram_that_is_refused_is_told_by_the_next_call(void **state)
{
    struct post *post = *state;

    open_unix(post, &unix_other);
    rdy_datagram_close(&unix_other);
    rig_turn(rig_in(post));
    post->rig.held[post->rig.held_count++] = rig_buf(rig_in(post), "?", 1);
    post->goal = 1;
    post_run(post, poll_sends_held);
    assert_int_equal(post->errors, 0);
    post_run(post, poll_flushes_noting);
    assert_int_equal(post->rig.result, -ECONNREFUSED);
    post_run(post, poll_flushes_noting);
    assert_int_equal(post->rig.result, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POST_ON_THREE(datagrams_go_out_each_for_itself_in_order),
        POST_ON_THREE(peer_of_a_connected_socket_needs_no_address),
        POST_ON_THREE(echo_sends_back_what_came_the_empty_too),
        POST_ON_THREE(one_buffer_is_sent_many_times),
        POST_ON_THREE(no_buffer_is_no_datagram),
        POST_ON_THREE(refused_datagram_is_told_once_and_costs_no_other),
        POST_ON_THREE(unix_datagram_that_is_refused_is_told_by_the_next_call),
        POST_ON_THREE(what_is_left_of_many_goes_out_while_the_task_sleeps),
        POST_ON_THREE(destination_without_a_route_is_told_once),
        POST_ON_THREE(send_without_a_peer_is_told),
        POST_ON_THREE(refusal_is_told_once_and_the_next_goes_out),
        POST_ON_THREE(all_calls_send_through_the_same_queue),
        POST_ON_THREE(unix_datagrams_wait_for_a_full_peer_and_keep_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
