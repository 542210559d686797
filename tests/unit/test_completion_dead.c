/* SPDX-License-Identifier: MIT */
/*
 * A ring that dies, on the fake: what it had done and not told, what it had told and nobody taken,
 * and operations that never end. Each must leave nothing behind, which rig_teardown() sees.
 */
#include "tests/support/rig.h"

#include <rdy/serve.h>
#include <rdy/stream_io.h>

#include "engine/driver.h"
#include "engine/lane.h"

/* The call that would have submitted more is refused; what an earlier one submitted went out. */
static void send_that_went_out_unheard_is_not_sent_again(void **state)
{
    struct rig *rig = *state;
    char back[32];

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);
    ops_of(rig)->is_withholding = true;
    rig_say(rig, "untold", 6);
    rig->held[0] = rig_buf(rig, "once", 4);
    rig->held_count = 1;
    rig_start(rig, rig_poll_sends_held);
    assert_int_equal(rdy_stream_unsent(&rig->stream), 4);

    rdy_runtime_driver(rig->runtime)->may_move = true;
    rig->fake->wait_error = -EPERM;
    rig_turn(rig);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).backend_moves, 1);
    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), 4);
    assert_int_equal(rig->result, -EIO); /* so hears who was receiving */
    rig->result = 0;
    rig_run(rig, rig_poll_flushes);
    assert_int_equal(rig->result, -EIO);
}

/* The connection is reset, the ring tells it of a send, and dies before that is settled. */
static void send_of_which_a_dead_ring_had_told_an_error_is_not_sent_again(void **state)
{
    struct rig *rig = *state;
    struct rdy_driver *driver = rdy_runtime_driver(rig->runtime);
    char back[32];

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_turn(rig);
    rig->held[rig->held_count++] = rig_buf(rig, "once", 4);
    rig_run(rig, rig_poll_sends_held);
    assert_int_equal(rdy_stream_unsent(&rig->stream), 4);

    driver->may_move = true;
    rig->fake->wait_error = -EPERM;
    ops_of(rig)->is_salvaged = true;
    fake_push_raw(rig->fake, rdy_scheduled_io_op_token(rig->stream.reg.io, RDY_ABOUT_SEND), 0,
                  -ECONNRESET, RDY_FACT_LAST);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).backend_moves, 1);
    rig_run(rig, rig_poll_flushes);
    assert_int_equal(rig->result, -ECONNRESET);
    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), -1);
}

static void die_at_the_third_look(void *arg)
{
    struct rig *rig = arg;

    if (++rig->step == 3)
        rig->fake->wait_error = -EPERM;
}

/* A look of a spin has submitted it, and a later look of the same spin is refused. */
static void send_that_a_spin_has_submitted_is_not_sent_again(void **state)
{
    struct rdy_driver_opts opts = {.spin_ns = 1};
    struct rig *rig = *state;
    struct rdy_driver *driver;
    struct rdy_task_id id;
    char back[32];

    rig_reopen(rig, &opts);
    driver = rdy_runtime_driver(rig->runtime);
    driver->spin.max_ns = INT64_MAX;
    rig_connect(rig);
    id = spawn_test(rig->runtime, rig_poll_recv, NULL, rig);
    rig_turn(rig);
    rig_settle(rig);
    assert_int_equal(rdy_task_abort(rig->runtime, id), 0);
    ops_of(rig)->is_withholding = true;
    rig_say(rig, "untold", 6);
    rig->held[rig->held_count++] = rig_buf(rig, "once", 4);
    rig_run(rig, rig_poll_sends_held);
    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), -1);

    rig->step = 0;
    rig->fake->on_wait = die_at_the_third_look;
    rig->fake->on_wait_arg = rig;
    driver->may_move = true;
    assert_true(rdy_driver_turn(driver, -1) >= 0);
    assert_int_equal(rig->step, 3);
    assert_int_equal(driver_stats(rig->runtime).backend_moves, 1);
    rig_run(rig, rig_poll_flushes);
    assert_int_equal(rig->result, -EIO);
    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), 4);
}

/* What it had received is gone with it: after that no byte would be in its place. */
static void stream_ends_of_which_a_dead_ring_has_lost_bytes(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);

    rdy_runtime_driver(rig->runtime)->may_move = true;
    rig->fake->wait_error = -EBADR;
    rig->fake->backend.has_lost = true;
    rig_turn(rig);
    rig_say(rig, "later", 5);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).backend_moves, 1);
    assert_int_equal(rig->result, -EIO);
}

struct ending {
    struct rig *rig;
    struct rdy_readiness wait;
    int result;
    int polls;
};

static int poll_closed(struct rdy_task *task, void *self)
{
    struct ending *ending = ((struct test_task *)self)->test;

    ending->polls++;
    ending->result = rdy_stream_poll_closed(&ending->rig->stream, task, &ending->wait);
    return ending->result == RDY_PENDING ? RDY_PENDING : 0;
}

/*
 * The stream enters completion mode, which ends the watch; the ring is lost before the task that it
 * wakes is polled. It finds neither a ring, which would have its wait refused, nor an end.
 */
static void wait_for_the_end_that_was_woken_for_nothing_goes_on(void **state)
{
    struct rig *rig = *state;
    struct ending ending = {.rig = rig};
    struct rdy_driver *driver = rdy_runtime_driver(rig->runtime);

    rig_connect(rig);
    (void)spawn_test(rig->runtime, poll_closed, NULL, &ending);
    rig_turn(rig);
    assert_int_equal(ending.result, RDY_PENDING);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    driver->may_move = true;
    rig->fake->wait_error = -EPERM;
    assert_true(rdy_driver_turn(driver, 0) >= 0);
    assert_int_equal(driver_stats(rig->runtime).backend_moves, 1);
    assert_int_equal(ending.polls, 1);

    rig_turn(rig);
    assert_int_equal(ending.polls, 2);
    assert_int_equal(ending.result, RDY_PENDING);
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(ending.result, 0);
}

struct listening {
    struct rdy_listener listener;
    struct rdy_stream stream;
};

static int poll_accepts(struct rdy_task *task, void *self)
{
    struct listening *listening = ((struct test_task *)self)->test;

    return rdy_listener_poll_accept(&listening->listener, task, &listening->stream) == RDY_PENDING
               ? RDY_PENDING
               : 0;
}

static int connect_to(const struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
    return fd;
}

/* Listens, and has the ring accept what comes, for nobody. */
static void accept_in_the_ring(struct rig *rig, struct listening *listening,
                               struct sockaddr_in *addr)
{
    struct rdy_listen_opts opts = {.size = sizeof(opts), .is_completing = true};
    socklen_t addr_len = sizeof(*addr);
    struct rdy_task_id id;

    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(rdy_listener_open(&listening->listener, rig->runtime, (struct sockaddr *)addr,
                                       addr_len, &opts),
                     0);
    assert_int_equal(getsockname(listening->listener.fd, (struct sockaddr *)addr, &addr_len), 0);
    id = spawn_test(rig->runtime, poll_accepts, NULL, listening);
    rig_turn(rig);
    assert_int_equal(rdy_task_abort(rig->runtime, id), 0);
}

/* One was accepted by the ring before it died, the other came when epoll watched. */
static void connections_from_before_and_after_the_loss_are_accepted(void **state)
{
    struct rig *rig = *state;
    struct sockaddr_in addr;
    struct listening listening = {.listener.fd = -1, .stream.fd = -1};
    struct rdy_task_id id;
    int peers[2];

    accept_in_the_ring(rig, &listening, &addr);
    peers[0] = connect_to(&addr);
    rig_turn(rig);

    rdy_runtime_driver(rig->runtime)->may_move = true;
    rig->fake->wait_error = -EPERM;
    rig_turn(rig);
    peers[1] = connect_to(&addr);
    rig_turn(rig);
    for (int i = 0; i < 2; i++) {
        id = spawn_test(rig->runtime, poll_accepts, NULL, &listening);
        rig_turn(rig);
        assert_int_equal(rdy_task_abort(rig->runtime, id), -ESRCH);
        rdy_stream_close(&listening.stream);
        assert_int_equal(close(peers[i]), 0);
    }
    rdy_listener_close(&listening.listener);
}

struct visit {
    struct rdy_stream stream;
    char byte;
};

static uint32_t visits_ended;

/* A session: hears the end of its peer. */
static int poll_visit(struct rdy_task *task, void *self)
{
    struct visit *visit = self;
    ssize_t got = rdy_stream_poll_read(&visit->stream, task, &visit->byte, 1);

    if (got == RDY_PENDING)
        return RDY_PENDING;
    assert_int_equal(got, 0);
    visits_ended++;
    return 0;
}

/*
 * Epoll, in the place of the lost ring, has no room for the listener: it has ended. What the ring
 * had accepted gets its sessions all the same, and is not kept from them by a shortage.
 */
static void accepted_connections_outlive_their_listener(void **state)
{
    static const struct rdy_task_spec session = {.poll = poll_visit,
                                                 .self_size = sizeof(struct visit)};
    struct rdy_driver_opts driver_opts = {.entries_max = 2}; /* the listener, and one of them */
    struct rig *rig = *state;
    struct sockaddr_in addr;
    struct listening listening = {.listener.fd = -1, .stream.fd = -1};
    struct rdy_driver *driver;
    struct rdy_task_id id;
    struct rdy_join join = {0};
    int peers[2];
    int result = 0;

    rig_reopen(rig, &driver_opts);
    driver = rdy_runtime_driver(rig->runtime);
    accept_in_the_ring(rig, &listening, &addr);
    for (int i = 0; i < 2; i++)
        peers[i] = connect_to(&addr);
    rig_turn(rig);

    driver->may_move = true;
    rig->fake->wait_error = -EPERM;
    assert_true(rdy_driver_turn(driver, 0) >= 0);
    assert_int_equal(driver_stats(rig->runtime).backend_moves, 1);
    rdy_scheduled_io_end(listening.listener.reg.io, -ENOMEM);

    visits_ended = 0;
    assert_int_equal(rdy_serve(rig->runtime, &listening.listener, &session, &id), 0);
    assert_int_equal(rdy_join_open(&join, rig->runtime, id), 0);
    rig_turn(rig); /* the second finds no room, and is waited with */
    for (int i = 0; i < 2; i++)
        assert_int_equal(close(peers[i]), 0);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(visits_ended, 2);
    assert_int_equal(rdy_join_poll(&join, &(struct rdy_waker){0}, &result), 0);
    assert_int_equal(result, -ENOMEM);
    rdy_listener_close(&listening.listener);
}

/* Connections and the room for them are freed all the same; ASan sees that. */
static void runtime_closes_over_an_accept_that_never_ends(void **state)
{
    struct rig *rig = *state;
    struct rdy_listen_opts opts = {.size = sizeof(opts), .is_completing = true};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct listening listening = {.listener.fd = -1};
    int rc = rdy_listener_open(&listening.listener, rig->runtime, (struct sockaddr *)&addr,
                               sizeof(addr), &opts);

    assert_int_equal(rc, 0);
    (void)spawn_test(rig->runtime, poll_accepts, NULL, &listening);
    rig_turn(rig);
    ops_of(rig)->is_withholding = true;

    rdy_listener_close(&listening.listener);
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_FAKE_ONLY(send_that_went_out_unheard_is_not_sent_again),
        ON_FAKE_ONLY(send_of_which_a_dead_ring_had_told_an_error_is_not_sent_again),
        ON_FAKE_ONLY(send_that_a_spin_has_submitted_is_not_sent_again),
        ON_FAKE_ONLY(wait_for_the_end_that_was_woken_for_nothing_goes_on),
        ON_FAKE_ONLY(stream_ends_of_which_a_dead_ring_has_lost_bytes),
        ON_FAKE_ONLY(connections_from_before_and_after_the_loss_are_accepted),
        ON_FAKE_ONLY(accepted_connections_outlive_their_listener),
        ON_FAKE_ONLY(runtime_closes_over_an_accept_that_never_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
