/* SPDX-License-Identifier: MIT */
/*
 * Joins, deadlines and names: who hears of a task's end, when, and with which result.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <string.h>

#include <rdy/serve.h>

/* A task that sleeps until it may end with `result`. */
struct target {
    struct rdy_runtime *runtime;
    struct rdy_task_id id;
    struct rdy_waker waker;
    int result;
    int polls;
    int drops;
    bool may_end;
};

/* A task, or a bare waker, that waits for a target. */
struct joiner {
    struct rdy_join join;
    struct target *target;
    int result;
    int rc;
    int polls;
    int wakes;
};

static void *test_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static int poll_target(struct rdy_task *task, void *self)
{
    struct target *target = test_of(self);

    target->polls++;
    target->waker = rdy_task_waker(task);
    return target->may_end ? target->result : RDY_PENDING;
}

static int poll_aborts_itself(struct rdy_task *task, void *self)
{
    struct target *target = test_of(self);

    assert_int_equal(rdy_task_abort(rdy_task_runtime(task), rdy_task_get_id(task)), 0);
    return target->may_end ? target->result : RDY_PENDING;
}

static void target_drop(void *self)
{
    struct target *target = test_of(self);

    target->drops++;
}

static void target_spawn(struct target *target, struct rdy_runtime *runtime, rdy_poll_fn *poll,
                         uint64_t timeout_ns)
{
    struct rdy_task_spec spec = {
        .poll = poll,
        .drop = target_drop,
        .self_size = sizeof(struct test_task),
        .timeout_ns = timeout_ns,
    };
    void *self = NULL;

    target->runtime = runtime;
    assert_int_equal(rdy_spawn(runtime, &spec, &self, &target->id), 0);
    ((struct test_task *)self)->test = target;
}

static int poll_joins(struct rdy_task *task, void *self)
{
    struct joiner *joiner = test_of(self);

    joiner->polls++;
    joiner->rc = rdy_task_poll_join(&joiner->join, task, &joiner->result);
    return joiner->rc;
}

static void joiner_drop(void *self)
{
    rdy_join_close(&((struct joiner *)test_of(self))->join);
}

static void count_wake(void *arg, uint64_t data)
{
    struct joiner *joiner = arg;

    assert_int_equal(data, 7);
    joiner->wakes++;
    /* All that the target held is free by now. */
    assert_int_equal(joiner->target->drops, 1);
}

static int poll_stops(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    RDY_YIELD(&my->co, task);
    RDY_YIELD(&my->co, task);
    rdy_runtime_stop(rdy_task_runtime(task));
    RDY_END(&my->co);
    return 0;
}

static void run_for_a_while(struct rdy_runtime *runtime)
{
    (void)spawn_test(runtime, poll_stops, NULL, NULL);
    assert_int_equal(rdy_runtime_run(runtime), 0);
}

static void assert_nothing_left(struct rdy_runtime *runtime)
{
    assert_int_equal(runtime_stats(runtime).tasks_live, 0);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
    assert_int_equal(runtime_stats(runtime).tasks_spawned, runtime_stats(runtime).tasks_ended);
}

static void joiner_gets_the_result_and_is_woken_once(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct target target = {.result = 42};
    struct joiner joiner = {.target = &target};

    target_spawn(&target, runtime, poll_target, 0);
    assert_int_equal(rdy_join_open(&joiner.join, runtime, target.id), 0);
    (void)spawn_test(runtime, poll_joins, joiner_drop, &joiner);
    run_for_a_while(runtime);
    assert_int_equal(joiner.polls, 1);
    assert_int_equal(joiner.rc, RDY_PENDING);

    target.may_end = true;
    rdy_waker_wake(&target.waker);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(joiner.polls, 2);
    assert_int_equal(joiner.rc, 0);
    assert_int_equal(joiner.result, 42);
    assert_nothing_left(runtime);
}

static void join_keeps_the_result_of_a_task_that_ended_before_anyone_waited(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct target target = {.result = -EPIPE, .may_end = true};
    struct joiner joiner = {.target = &target};
    struct rdy_waker waker = {.fn = count_wake, .arg = &joiner, .data = 7};

    target_spawn(&target, runtime, poll_target, 0);
    assert_int_equal(rdy_join_open(&joiner.join, runtime, target.id), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    for (int i = 0; i < 2; i++) {
        joiner.result = 0;
        assert_int_equal(rdy_join_poll(&joiner.join, &waker, &joiner.result), 0);
        assert_int_equal(joiner.result, -EPIPE);
    }
    assert_int_equal(joiner.wakes, 0);
    (void)spawn_test(runtime, poll_joins, joiner_drop, &joiner);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(joiner.polls, 1);
    assert_int_equal(joiner.result, -EPIPE);
}

static void join_with_any_waker_wakes_it_once_after_the_drop(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct target target = {.result = 1};
    struct joiner joiner = {.target = &target};
    struct rdy_waker waker = {.fn = count_wake, .arg = &joiner, .data = 7};
    int result = 0;

    target_spawn(&target, runtime, poll_target, 0);
    assert_int_equal(rdy_join_open(&joiner.join, runtime, target.id), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rdy_join_poll(&joiner.join, &waker, &result), RDY_PENDING);
    target.may_end = true;
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(joiner.wakes, 1);
    assert_int_equal(rdy_join_poll(&joiner.join, &waker, &result), 0);
    assert_int_equal(result, 1);
}

static void join_of_an_aborted_task_says_canceled(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct target target = {.result = 1};
    struct joiner joiner = {.target = &target};

    target_spawn(&target, runtime, poll_target, 0);
    assert_int_equal(rdy_join_open(&joiner.join, runtime, target.id), 0);
    (void)spawn_test(runtime, poll_joins, joiner_drop, &joiner);
    run_for_a_while(runtime);
    assert_int_equal(rdy_task_abort(runtime, target.id), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(joiner.polls, 2);
    assert_int_equal(joiner.result, -ECANCELED);
    assert_int_equal(target.drops, 1);
    assert_nothing_left(runtime);
}

static void self_aborted_task_gives_its_own_result_if_it_has_one(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    for (int i = 0; i < 2; i++) {
        struct target target = {.result = 5, .may_end = i == 1};
        struct joiner joiner = {.target = &target};

        target_spawn(&target, runtime, poll_aborts_itself, 0);
        assert_int_equal(rdy_join_open(&joiner.join, runtime, target.id), 0);
        (void)spawn_test(runtime, poll_joins, joiner_drop, &joiner);
        assert_int_equal(rdy_runtime_run(runtime), 0);
        assert_int_equal(joiner.result, i == 1 ? 5 : -ECANCELED);
        assert_int_equal(target.drops, 1);
    }
}

static void dropped_joiner_leaves_the_task_alone(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct target target = {.result = 1};
    struct joiner first = {.target = &target};
    struct joiner second = {.target = &target};
    struct rdy_task_id id;

    target_spawn(&target, runtime, poll_target, 0);
    assert_int_equal(rdy_join_open(&first.join, runtime, target.id), 0);
    id = spawn_test(runtime, poll_joins, joiner_drop, &first);
    run_for_a_while(runtime);
    assert_int_equal(rdy_task_abort(runtime, id), 0);
    memset(&first, 0xee, sizeof(first)); /* its memory is the caller's again */

    assert_int_equal(rdy_join_open(&second.join, runtime, target.id), 0);
    (void)spawn_test(runtime, poll_joins, joiner_drop, &second);
    target.may_end = true;
    rdy_waker_wake(&target.waker);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(second.result, 1);
    assert_int_equal(runtime_stats(runtime).stale_wakes, 0);
    assert_nothing_left(runtime);
}

static int poll_joins_itself(struct rdy_task *task, void *self)
{
    struct joiner *joiner = test_of(self);

    assert_int_equal(rdy_join_open(&joiner->join, rdy_task_runtime(task), rdy_task_get_id(task)),
                     0);
    joiner->rc = rdy_task_poll_join(&joiner->join, task, &joiner->result);
    return 0;
}

static void joins_that_cannot_be_are_refused(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct target target = {.may_end = true};
    struct joiner joiner = {.target = &target};
    struct rdy_join other = {0};
    struct rdy_waker waker = {0};
    int result = 9;

    target_spawn(&target, runtime, poll_target, 0);
    assert_int_equal(rdy_join_open(&joiner.join, runtime, target.id), 0);
    assert_int_equal(rdy_join_open(&other, runtime, target.id), -EBUSY);
    assert_int_equal(rdy_join_poll(&other, &waker, &result), -EINVAL);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(rdy_join_open(&other, runtime, target.id), -ESRCH);
    assert_int_equal(rdy_join_poll(&other, &waker, &result), -EINVAL);
    assert_int_equal(result, 9);
    rdy_join_close(&other);
    rdy_join_close(&joiner.join);
    assert_int_equal(rdy_join_poll(&joiner.join, &waker, &result), -EINVAL);

    (void)spawn_test(runtime, poll_joins_itself, joiner_drop, &joiner);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(joiner.rc, -EDEADLK);
}

static void drop_that_closes_its_own_join(void *self)
{
    struct joiner *joiner = test_of(self);

    joiner->wakes++;
    rdy_join_close(&joiner->join);
}

static void drop_may_close_the_join_of_its_own_task(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct joiner joiner = {.rc = 0};
    struct rdy_task_id id = spawn_test(runtime, poll_stops, drop_that_closes_its_own_join, &joiner);

    assert_int_equal(rdy_join_open(&joiner.join, runtime, id), 0);
    assert_int_equal(rdy_task_abort(runtime, id), 0);

    assert_int_equal(joiner.wakes, 1);
    assert_false(joiner.join.has_result);
}

static void join_outlives_the_runtime(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct target target = {.result = 1};
    struct joiner joiner = {.target = &target};
    struct rdy_waker waker = {.fn = count_wake, .arg = &joiner, .data = 7};
    int result = 0;

    target_spawn(&target, fixture->runtime, poll_target, 0);
    assert_int_equal(rdy_join_open(&joiner.join, fixture->runtime, target.id), 0);
    assert_int_equal(rdy_join_poll(&joiner.join, &waker, &result), RDY_PENDING);
    rdy_runtime_close(fixture->runtime);
    fixture->runtime = NULL;

    assert_int_equal(joiner.wakes, 1);
    assert_int_equal(rdy_join_poll(&joiner.join, &waker, &result), 0);
    assert_int_equal(result, -ECANCELED);
}

static void deadline_ends_a_task_and_its_joiner_hears_timedout(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct target target = {.result = 1};
    struct joiner joiner = {.target = &target};

    target_spawn(&target, runtime, poll_target, 1);
    assert_int_equal(runtime_stats(runtime).timers_armed, 1);
    assert_int_equal(rdy_join_open(&joiner.join, runtime, target.id), 0);
    (void)spawn_test(runtime, poll_joins, joiner_drop, &joiner);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(joiner.result, -ETIMEDOUT);
    assert_int_equal(target.drops, 1);
    assert_int_equal(runtime_stats(runtime).task_timeouts, 1);
    assert_int_equal(runtime_stats(runtime).task_aborts, 0);
    assert_nothing_left(runtime);
}

static void task_that_ends_in_time_takes_its_deadline_along(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct target ends = {.result = 1, .may_end = true};
    struct target aborted = {.result = 1};

    target_spawn(&ends, runtime, poll_target, UINT64_C(3600) * 1000000000);
    target_spawn(&aborted, runtime, poll_target, UINT64_C(3600) * 1000000000);
    assert_int_equal(runtime_stats(runtime).timers_armed, 2);
    run_for_a_while(runtime);
    assert_int_equal(rdy_task_abort(runtime, aborted.id), 0);

    assert_int_equal(ends.drops, 1);
    assert_int_equal(runtime_stats(runtime).task_timeouts, 0);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
    assert_int_equal(rdy_task_set_deadline(runtime, ends.id, 1), -ESRCH);
}

static void deadline_can_be_moved_and_taken_away(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct target target = {.result = 1};
    struct target untimed = {.result = 1};

    target_spawn(&target, runtime, poll_target, UINT64_MAX);
    target_spawn(&untimed, runtime, poll_target, 0);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
    assert_int_equal(rdy_task_set_deadline(runtime, untimed.id, 1), -EINVAL);

    assert_int_equal(rdy_task_set_deadline(runtime, target.id, 1), 0);
    assert_int_equal(rdy_task_set_deadline(runtime, target.id, UINT64_MAX), 0);
    run_for_a_while(runtime);
    assert_int_equal(target.drops, 0);
    assert_int_equal(rdy_task_set_deadline(runtime, target.id, 1), 0);
    run_for_a_while(runtime);

    assert_int_equal(target.drops, 1);
    assert_int_equal(untimed.drops, 0);
    assert_int_equal(rdy_task_abort(runtime, untimed.id), 0);
    assert_nothing_left(runtime);
}

static int poll_notes_its_name(struct rdy_task *task, void *self)
{
    const char **name = test_of(self);

    *name = rdy_task_name(task);
    return 0;
}

static void task_knows_its_name(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    static const char spoken[] = "accept loop";

    for (int i = 0; i < 4; i++) {
        struct rdy_task_spec spec = {
            .poll = poll_notes_its_name,
            .self_size = sizeof(struct test_task),
            .name = i & 1 ? spoken : NULL,
            .timeout_ns = i & 2 ? UINT64_MAX : 0,
        };
        const char *name = NULL;
        void *self = NULL;

        assert_int_equal(rdy_spawn(runtime, &spec, &self, NULL), 0);
        assert_int_equal((uintptr_t)self % 16, 0);
        ((struct test_task *)self)->test = &name;
        assert_int_equal(rdy_runtime_run(runtime), 0);
        assert_string_equal(name, i & 1 ? spoken : "");
    }
}

static int sessions_dropped;

static int poll_session(struct rdy_task *task, void *self)
{
    (void)self;
    assert_string_equal(rdy_task_name(task), "session");
    return RDY_PENDING;
}

/* A drop knows no runtime. */
static struct rdy_runtime *serving;

static void session_drop(void *self)
{
    (void)self;
    sessions_dropped++;
    rdy_runtime_stop(serving);
}

static void session_of_a_server_has_its_name_and_its_timeout(void **state)
{
    static const struct rdy_task_spec session = {
        .poll = poll_session,
        .drop = session_drop,
        .self_size = sizeof(struct rdy_stream),
        .name = "session",
        .timeout_ns = 1,
    };
    struct pair pair;
    struct rdy_task_id id;
    socklen_t addr_len = 0;
    char byte;

    pair_open(&pair, state);
    (void)pair_listen(&pair, &addr_len);
    serving = pair.runtime;
    sessions_dropped = 0;
    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, &session, &id), 0);
    pair.peer = dial(&pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    assert_int_equal(sessions_dropped, 1);
    assert_int_equal(runtime_stats(pair.runtime).task_timeouts, 1);
    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0); /* the descriptor goes with the next turn */
    assert_int_equal(recv(pair.peer, &byte, 1, 0), 0);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(joiner_gets_the_result_and_is_woken_once),
        ON_BOTH(join_keeps_the_result_of_a_task_that_ended_before_anyone_waited),
        ON_BOTH(join_with_any_waker_wakes_it_once_after_the_drop),
        ON_BOTH(join_of_an_aborted_task_says_canceled),
        ON_BOTH(self_aborted_task_gives_its_own_result_if_it_has_one),
        ON_BOTH(dropped_joiner_leaves_the_task_alone),
        ON_BOTH(joins_that_cannot_be_are_refused),
        ON_BOTH(drop_may_close_the_join_of_its_own_task),
        ON_BOTH(join_outlives_the_runtime),
        ON_BOTH(deadline_ends_a_task_and_its_joiner_hears_timedout),
        ON_BOTH(task_that_ends_in_time_takes_its_deadline_along),
        ON_BOTH(deadline_can_be_moved_and_taken_away),
        ON_BOTH(task_knows_its_name),
        ON_BOTH(session_of_a_server_has_its_name_and_its_timeout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
