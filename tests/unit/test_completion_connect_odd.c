/* SPDX-License-Identifier: MIT */
/*
 * What kernels do seldom to a connect, on the fake: ends without an answer, last facts that come
 * late, twice or never, requests that find no room, and the loss of the backend.
 */
#include "tests/support/rig_connect.h"

/* Ends that are no answers: connect(2) and the watch go on with it. */
static void operation_that_ends_without_an_answer_is_gone_on_with(void **state)
{
    static const int results[] = {-EALREADY, -EINPROGRESS, -EAGAIN, -EINTR, -ENOMEM, -ECANCELED};
    struct rig *rig = *state;

    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        target = target_that_accepts(AF_INET);
        ops_of(rig)->connect_result = results[i];
        assert_int_equal(run_connect(rig), 0);
        assert_completes(rig);
        rig_finish(rig);
        target_close(&target);
    }
}

/* Kernels before 6.6 take a wake-up for any reason for the answer, and no error for success. */
static void success_without_a_peer_is_none(void **state)
{
    struct rig *rig = *state;

    target = target_that_never_answers(AF_INET);
    ops_of(rig)->connects_early = true;
    assert_int_equal(start(rig), 0);
    rig->result = 1;
    (void)spawn_test(rig->runtime, poll_connects_rig, NULL, rig);
    rig_turn(rig);
    assert_int_equal(rig_stats(rig).connects, 1);
    assert_int_equal(rig->result, RDY_PENDING);
    assert_false(rig->stream.reg.io->flags & RDY_IO_UNWATCHED); /* the watch goes on with it */

    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    target_close(&target);
}

static void early_success_with_a_peer_is_one(void **state)
{
    struct rig *rig = *state;

    target = target_that_accepts(AF_INET);
    ops_of(rig)->connects_early = true;
    assert_int_equal(run_connect(rig), 0);
    assert_completes(rig);
    target_close(&target);
}

/* The connection that the socket told the ring of is told again when it is asked. */
static void refusal_is_found_without_an_answer_too(void **state)
{
    struct rig *rig = *state;

    target = target_that_refuses(AF_INET);
    ops_of(rig)->connect_result = -ECANCELED;
    assert_int_equal(run_connect(rig), -ECONNREFUSED);
    target_close(&target);
}

static void operation_without_room_for_it_is_begun_later(void **state)
{
    struct rig *rig = *state;

    target = target_that_accepts(AF_INET);
    rig->fake->arm_error = -EBUSY;
    rig->fake->arm_errors = 3;
    assert_int_equal(run_connect(rig), 0);
    assert_int_equal(rig->fake->arm_errors, 0);
    assert_completes(rig);
    target_close(&target);
}

static void close_before_there_was_room_asks_for_nothing(void **state)
{
    struct rig *rig = *state;

    target = target_that_accepts(AF_INET);
    rig->fake->arm_error = -EBUSY;
    rig->fake->arm_errors = 100;
    assert_int_equal(start(rig), 0);
    rig_turn(rig);
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
    assert_int_equal(rig_stats(rig).connects, 0);
    rig->fake->arm_errors = 0;
    target_close(&target);
}

static void close_waits_for_a_last_fact_that_is_late(void **state)
{
    struct rig *rig = *state;
    int fd;

    target = target_that_never_answers(AF_INET);
    assert_int_equal(start(rig), 0);
    rig_turn(rig);
    fd = rig->stream.fd;
    ops_of(rig)->is_withholding = true;
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 1);
    assert_true(fcntl(fd, F_GETFD) >= 0);

    fake_let_go(rig->fake, false);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    target_close(&target);
}

static void last_fact_that_comes_twice_is_refused_once(void **state)
{
    struct rig *rig = *state;

    target = target_that_never_answers(AF_INET);
    assert_int_equal(start(rig), 0);
    rig_turn(rig);
    ops_of(rig)->is_doubling = true;
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
    assert_int_equal(driver_stats(rig->runtime).facts_for_closed_entry, 1);
    target_close(&target);
}

static void cancel_without_room_for_it_is_asked_again(void **state)
{
    struct rig *rig = *state;

    target = target_that_never_answers(AF_INET);
    assert_int_equal(start(rig), 0);
    rig_turn(rig);
    rig->fake->disarm_error = -EBUSY;
    rig->fake->disarm_errors = 2;
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
    target_close(&target);
}

static void runtime_closes_over_a_connect_that_never_ends(void **state)
{
    struct rig *rig = *state;

    target = target_that_accepts(AF_INET);
    ops_of(rig)->is_deaf = true;
    assert_int_equal(start(rig), 0);
    rig_turn(rig);
    ops_of(rig)->is_withholding = true;
    rdy_stream_close(&rig->stream);
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
    target_close(&target);
}

/* The wait that would have begun it fails, or a later one: another backend goes on. */
static void connection_goes_on_when_its_backend_is_lost(void **state)
{
    struct rig *rig = *state;

    for (int turns = 0; turns < 2; turns++) {
        target = target_that_accepts(AF_INET);
        rig_reopen(rig, NULL);
        ops_of(rig)->is_withholding = turns > 0;
        assert_int_equal(start(rig), 0);
        if (turns > 0)
            rig_turn(rig);
        rdy_runtime_driver(rig->runtime)->may_move = true;
        rig->fake->wait_error = -EPERM;
        rig_run(rig, poll_connects_rig);
        assert_int_equal(rig->result, 0);
        assert_int_equal(driver_stats(rig->runtime).backend_moves, 1);
        assert_false(rdy_completion_is_native(rig->runtime));
        rig->peer = target_accept(&target);
        rig_say(rig, "after", 5);
        rig_run(rig, rig_poll_recv);
        assert_int_equal(rig->result, 5);
        rig_finish(rig);
        target_close(&target);
    }
}

/* Where it cannot move, the runtime ends, and frees what was kept for the operation. */
static void connection_dies_with_a_backend_that_nothing_replaces(void **state)
{
    struct rig *rig = *state;

    target = target_that_never_answers(AF_INET);
    assert_int_equal(start(rig), 0);
    rig->result = RDY_PENDING;
    rig_start(rig, poll_connects_rig);
    rig->fake->wait_error = -EPERM;
    assert_int_equal(rdy_runtime_run(rig->runtime), -EPERM);
    assert_int_equal(rdy_driver_turn(rdy_runtime_driver(rig->runtime), 0), -EPERM);
    rdy_stream_close(&rig->stream);
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
    target_close(&target);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_FAKE_ONLY(operation_that_ends_without_an_answer_is_gone_on_with),
        ON_FAKE_ONLY(success_without_a_peer_is_none),
        ON_FAKE_ONLY(early_success_with_a_peer_is_one),
        ON_FAKE_ONLY(refusal_is_found_without_an_answer_too),
        ON_FAKE_ONLY(operation_without_room_for_it_is_begun_later),
        ON_FAKE_ONLY(close_before_there_was_room_asks_for_nothing),
        ON_FAKE_ONLY(close_waits_for_a_last_fact_that_is_late),
        ON_FAKE_ONLY(last_fact_that_comes_twice_is_refused_once),
        ON_FAKE_ONLY(cancel_without_room_for_it_is_asked_again),
        ON_FAKE_ONLY(runtime_closes_over_a_connect_that_never_ends),
        ON_FAKE_ONLY(connection_goes_on_when_its_backend_is_lost),
        ON_FAKE_ONLY(connection_dies_with_a_backend_that_nothing_replaces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
