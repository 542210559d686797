/* SPDX-License-Identifier: MIT */
/*
 * The accept loop at its limits: no room for another session, errors of accept(2), and what it
 * keeps of its arguments.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <stdlib.h>

#include <rdy/serve.h>
#include <rdy/timer.h>

#include "engine/sys.h"

/* A session echoes one byte and ends. */
struct session {
    struct rdy_stream stream;
    struct rdy_co co;
    char byte;
    ssize_t count;
};

static uint32_t sessions_begun;
static uint32_t sessions_dropped;

static int poll_session(struct rdy_task *task, void *self)
{
    struct session *session = self;

    RDY_BEGIN(&session->co);
    sessions_begun++;
    RDY_AWAIT(&session->co,
              session->count = rdy_stream_poll_read(&session->stream, task, &session->byte, 1));
    if (session->count == 1) {
        RDY_AWAIT(&session->co, session->count = rdy_stream_poll_write(&session->stream, task,
                                                                       &session->byte, 1));
    }
    RDY_END(&session->co);
    return 0;
}

static void session_drop(void *self)
{
    (void)self;
    sessions_dropped++;
}

static const struct rdy_task_spec session_spec = {
    .poll = poll_session,
    .drop = session_drop,
    .self_size = sizeof(struct session),
};

/* A step of a client, which is blocking: only what has an answer by now. */
static bool hears(int fd, char expected)
{
    char byte = 0;
    ssize_t count = recv(fd, &byte, 1, MSG_DONTWAIT);

    if (count < 0)
        return false;
    assert_int_equal(count, 1);
    assert_int_equal(byte, expected);
    return true;
}

/* Lets the runtime go on until @fd has its echo; a bounded number of rounds. */
struct audience {
    int fd;
    char expected;
    uint32_t rounds_left;
    bool has_heard;
};

static int poll_listens(struct rdy_task *task, void *self)
{
    struct audience *audience = ((struct test_task *)self)->test;

    audience->has_heard = hears(audience->fd, audience->expected);
    if (audience->has_heard || --audience->rounds_left == 0) {
        rdy_runtime_stop(rdy_task_runtime(task));
        return 0;
    }
    rdy_task_defer(task);
    return RDY_PENDING;
}

static bool is_served(struct rdy_runtime *runtime, int fd, char expected)
{
    struct audience audience = {.fd = fd, .expected = expected, .rounds_left = 2000};

    (void)spawn_test(runtime, poll_listens, NULL, &audience);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    return audience.has_heard;
}

/* The clock is a paused one that a test moves, so that the loop's pause takes no time. */
static void pass_the_pause(struct rdy_runtime *runtime)
{
    assert_int_equal(rdy_runtime_advance(runtime, 51 * (uint64_t)1000000), 0);
}

static struct rdy_runtime *reopen_with_tasks(void **state, uint32_t tasks_max)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);

    rdy_runtime_close(fixture->runtime);
    opts.tasks_max = tasks_max;
    assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
    return fixture->runtime;
}

static void connection_is_kept_while_there_is_no_room_for_its_session(void **state)
{
    static struct pair pair;
    socklen_t addr_len = 0;
    struct rdy_task_id id;
    int second;

    /* given room for the accept loop, one session, and the test's own task */
    (void)reopen_with_tasks(state, 3);
    pair_open(&pair, state);
    (void)pair_listen(&pair, &addr_len);
    rdy_runtime_pause_clock(pair.runtime);
    sessions_begun = 0;
    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, &session_spec, &id), 0);

    /* when two clients come, and the first does not go */
    pair.peer = dial(&pair);
    second = dial(&pair);
    say(second, "2");
    assert_false(is_served(pair.runtime, second, '2'));
    pass_the_pause(pair.runtime);
    assert_false(is_served(pair.runtime, second, '2'));
    assert_int_equal(sessions_begun, 1);

    /* then the second is served as soon as the first has gone */
    say(pair.peer, "1");
    assert_true(is_served(pair.runtime, pair.peer, '1'));
    pass_the_pause(pair.runtime);
    assert_true(is_served(pair.runtime, second, '2'));

    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    assert_int_equal(close(second), 0);
    pair_close(&pair);
}

static void loop_that_ends_closes_the_connection_it_holds(void **state)
{
    static struct pair pair;
    socklen_t addr_len = 0;
    struct rdy_task_id id;
    int before = descriptors_count();
    int second;
    char byte;

    (void)reopen_with_tasks(state, 3);
    pair_open(&pair, state);
    (void)pair_listen(&pair, &addr_len);
    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, &session_spec, &id), 0);
    pair.peer = dial(&pair);
    second = dial(&pair);
    assert_false(is_served(pair.runtime, second, '2'));

    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    assert_int_equal(close(pair.peer), 0);
    pair.peer = -1;
    assert_int_equal(rdy_runtime_run(pair.runtime), 0); /* the session ends, and all is let go */

    assert_int_equal(recv(second, &byte, 1, 0), 0);
    assert_int_equal(close(second), 0);
    pair_close(&pair);
    let_driver_turn(&pair);
    assert_int_equal(driver_stats(pair.runtime).entries_live, 0);
    assert_int_equal(runtime_stats(pair.runtime).timers_armed, 0);
    assert_int_equal(descriptors_count(), before);
}

/* It holds a connection and tries again after its pause; meanwhile somebody closed the listener. */
static void loop_whose_listener_was_closed_ends_with_what_held_it_up(void **state)
{
    static struct pair pair;
    socklen_t addr_len = 0;
    struct rdy_waker nobody = {0};
    struct rdy_join join = {0};
    struct rdy_task_id id;
    int result = 0;
    int second;
    char byte;

    (void)reopen_with_tasks(state, 3);
    pair_open(&pair, state);
    (void)pair_listen(&pair, &addr_len);
    rdy_runtime_pause_clock(pair.runtime);
    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, &session_spec, &id), 0);
    assert_int_equal(rdy_join_open(&join, pair.runtime, id), 0);
    pair.peer = dial(&pair);
    second = dial(&pair);
    assert_false(is_served(pair.runtime, second, '2'));

    rdy_listener_close(&pair.listener);
    assert_int_equal(rdy_join_poll(&join, &nobody, &result), RDY_PENDING);
    pass_the_pause(pair.runtime);
    assert_false(is_served(pair.runtime, pair.peer, '1'));

    assert_int_equal(rdy_join_poll(&join, &nobody, &result), 0);
    assert_int_equal(result, -ENFILE);
    assert_int_equal(recv(second, &byte, 1, 0), 0);
    assert_int_equal(close(second), 0);
    pair_close(&pair);
}

static void sessions_outlive_the_spec_and_the_loop(void **state)
{
    static struct pair pair;
    socklen_t addr_len = 0;
    struct rdy_task_id id;
    struct rdy_task_spec *spec = malloc(sizeof(*spec));

    /* given a spec that is gone after the call */
    assert_non_null(spec);
    *spec = session_spec;
    sessions_dropped = 0;
    pair_open(&pair, state);
    (void)pair_listen(&pair, &addr_len);
    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, spec, &id), 0);
    memset(spec, 0xff, sizeof(*spec));
    free(spec);

    /* when a session has begun and the loop ends */
    pair.peer = dial(&pair);
    assert_false(is_served(pair.runtime, pair.peer, '1'));
    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);

    /* then it goes on */
    say(pair.peer, "1");
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_true(hears(pair.peer, '1'));
    assert_int_equal(sessions_dropped, 1);
    pair_close(&pair);
}

static int poll_spoils_the_next_call(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    (void)rdy_sys_fail_nth(1, EPERM);
    return 0;
}

/* What a packet filter says of one connection is no reason to refuse all that follow. */
static void filter_that_refuses_once_does_not_end_the_loop(void **state)
{
    static struct pair pair;
    socklen_t addr_len = 0;
    struct rdy_task_id id;

    pair_open(&pair, state);
    (void)pair_listen(&pair, &addr_len);
    rdy_runtime_pause_clock(pair.runtime);
    pair.peer = dial(&pair);
    say(pair.peer, "1");
    let_driver_turn(&pair);

    (void)spawn_test(pair.runtime, poll_spoils_the_next_call, NULL, NULL);
    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, &session_spec, &id), 0);
    assert_false(is_served(pair.runtime, pair.peer, '1'));
    assert_int_equal(rdy_sys_fail_nth(0, 0), 1); /* the accept that failed, and none since */
    pass_the_pause(pair.runtime);

    assert_true(is_served(pair.runtime, pair.peer, '1'));
    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(connection_is_kept_while_there_is_no_room_for_its_session),
        ON_BOTH(loop_that_ends_closes_the_connection_it_holds),
        ON_BOTH(loop_whose_listener_was_closed_ends_with_what_held_it_up),
        ON_BOTH(filter_that_refuses_once_does_not_end_the_loop),
        ON_BOTH(sessions_outlive_the_spec_and_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
