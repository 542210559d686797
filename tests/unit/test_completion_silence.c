/* SPDX-License-Identifier: MIT */
/*
 * A send that went out whole says nothing, and so it ends no wait. Whatever has to come after it
 * must come all the same while the only task sleeps: here it waits for an answer that the peer, a
 * thread, gives when it has heard all.
 */
#include "tests/support/rig.h"

#include <pthread.h>

#define PATIENCE_S 20 /* then the peer closes, and the test sees no answer */

struct listener_to {
    int fd;
    size_t want;
    bool wants_end;
    pthread_t thread;
};

static void *listens(void *arg)
{
    struct listener_to *peer = arg;
    size_t have = 0;
    ssize_t count = 1;
    char bytes[256];

    while (have < peer->want && (count = recv(peer->fd, bytes, sizeof(bytes), 0)) > 0)
        have += (size_t)count;
    if (have == peer->want && peer->wants_end)
        count = recv(peer->fd, bytes, sizeof(bytes), 0) == 0 ? 1 : -1;
    if (count > 0)
        (void)!send(peer->fd, "!", 1, MSG_NOSIGNAL);
    (void)shutdown(peer->fd, SHUT_RDWR);
    return NULL;
}

static void peer_listens(struct listener_to *peer, struct rig *rig, size_t want, bool wants_end)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};

    *peer = (struct listener_to){.fd = rig->peer, .want = want, .wants_end = wants_end};
    assert_int_equal(fcntl(rig->peer, F_SETFL, 0), 0);
    assert_int_equal(setsockopt(rig->peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
                     0);
    assert_int_equal(pthread_create(&peer->thread, NULL, listens, peer), 0);
}

static void peer_join(struct listener_to *peer)
{
    assert_int_equal(pthread_join(peer->thread, NULL), 0);
}

/* The watch has ended, and no wake-up is left: nothing but the answer will end the wait. */
static void connect_and_settle(struct rig *rig)
{
    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_turn(rig);
    rig_settle(rig);
}

#define PIECES 40

/* More pieces than one operation takes, handed over in one poll; then it waits. */
static int poll_sends_many(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    for (; rig->step < PIECES; rig->step++) {
        struct rdy_buf buf = rig_buf(rig, "piece", 5);

        assert_int_equal(rdy_stream_poll_send(&rig->stream, task, &buf), 0);
    }
    return rig_poll_recv(task, self);
}

static void more_pieces_than_one_operation_takes_all_go_out(void **state)
{
    struct rig *rig = *state;
    struct listener_to peer;

    connect_and_settle(rig);
    peer_listens(&peer, rig, PIECES * 5, false);

    rig_run(rig, poll_sends_many);

    peer_join(&peer);
    assert_int_equal(rig->result, 1);
}

static int poll_sends_and_ends(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    if (rig->step++ == 0) {
        struct rdy_buf buf = rig_buf(rig, "last", 4);

        assert_int_equal(rdy_stream_poll_send(&rig->stream, task, &buf), 0);
        assert_int_equal(rdy_stream_shutdown(&rig->stream, SHUT_WR), 0);
    }
    return rig_poll_recv(task, self);
}

static void end_that_was_put_off_goes_out_while_nothing_else_happens(void **state)
{
    struct rig *rig = *state;
    struct listener_to peer;

    connect_and_settle(rig);
    peer_listens(&peer, rig, 4, true);

    rig_run(rig, poll_sends_and_ends);

    peer_join(&peer);
    assert_int_equal(rig->result, 1);
}

/* The first is handed over, and the kernel has no memory for it; the second stands behind it. */
static int poll_sends_behind_one_that_stays(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    struct rdy_buf buf;

    switch (rig->step++) {
    case 0:
        rig->fake->ops_state.is_deaf = true;
        buf = rig_buf(rig, "one ", 4);
        assert_int_equal(rdy_stream_poll_send(&rig->stream, task, &buf), 0);
        rdy_task_defer(task);
        return RDY_PENDING;
    case 1:
        buf = rig_buf(rig, "two", 3);
        assert_int_equal(rdy_stream_poll_send(&rig->stream, task, &buf), 0);
        rig->fake->ops_state.is_deaf = false;
        break;
    default:
        break;
    }
    return rig_poll_recv(task, self);
}

static void what_the_kernel_left_where_it_was_holds_nothing_up(void **state)
{
    struct rig *rig = *state;
    struct listener_to peer;

    connect_and_settle(rig);
    peer_listens(&peer, rig, 7, false);

    rig_run(rig, poll_sends_behind_one_that_stays);

    peer_join(&peer);
    assert_int_equal(rig->result, 1);
}

/* --- the end of the stream, known before it was received --- */

static int poll_readable(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    struct rdy_waker waker = rdy_task_waker(task);
    struct rdy_event event;
    int rc = rdy_poll_readiness(&rig->stream.reg, RDY_DIRECTION_READ, &waker, &event);

    if (rc == RDY_PENDING || (rdy_event_ready(event) & RDY_READ_CLOSED) == 0) {
        rdy_task_defer(task);
        return RDY_PENDING;
    }
    return 0;
}

/* The watch has told of the end; the pool is empty; who waits for a buffer has to sleep. */
static void known_end_keeps_nobody_awake_who_waits_for_a_buffer(void **state)
{
    struct rig *rig = *state;
    struct rdy_driver_opts opts = {.buffers_count = 1, .buffer_size = 64};
    struct rdy_stream other;
    uint64_t polls;
    int fds[2];

    rig_reopen(rig, &opts);
    rig_connect(rig);
    rig_say(rig, "x", 1);
    rig_run(rig, rig_poll_recv); /* and holds the only buffer */
    assert_int_equal(rig->result, 1);
    other = rig->stream;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(rdy_stream_from_fd(&rig->stream, rig->runtime, fds[0]), 0);
    assert_int_equal(send(fds[1], "rest", 4, MSG_NOSIGNAL), 4);
    assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
    rig_run(rig, poll_readable);

    rig_start(rig, rig_poll_recv);
    polls = runtime_stats(rig->runtime).task_polls;
    rig_turn(rig);
    /* Those six of rig_turn() itself. On epoll it has its answer, in memory of its own. */
    assert_int_equal(runtime_stats(rig->runtime).task_polls - polls, 6);

    rdy_buf_release(&rig->held[0]);
    rig_turn(rig);
    assert_int_equal(rig->result, 4);
    rig_release(rig);
    rdy_stream_close(&other);
    assert_int_equal(close(fds[1]), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(more_pieces_than_one_operation_takes_all_go_out),
        ON_THREE(end_that_was_put_off_goes_out_while_nothing_else_happens),
        ON_FAKE_ONLY(what_the_kernel_left_where_it_was_holds_nothing_up),
        ON_THREE(known_end_keeps_nobody_awake_who_waits_for_a_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
