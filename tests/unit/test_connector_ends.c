/* SPDX-License-Identifier: MIT */
/*
 * A connector that is given up, aborted, or whose system calls fail: nothing is left behind; on
 * both backends.
 */
#include "tests/support/race.h"

static struct race race;

static void race_add_mixed(void)
{
    race_add(&race, target_that_never_answers(AF_INET6));
    race_add(&race, target_that_refuses(AF_INET));
    race_add(&race, target_that_never_answers(AF_INET6));
    race_add(&race, target_that_never_answers(AF_INET));
}

static void cancel_before_the_first_poll_closes_the_attempt(void **state)
{
    race_open(&race, state);
    rdy_connector_cancel(&race.connector); /* never started */
    race_add_mixed();
    race_start(&race);
    assert_int_equal(race.connector.attempts_count, 1);
    rdy_connector_cancel(&race.connector);
    rdy_connector_cancel(&race.connector);
    assert_null(race.connector.runtime);
    race_close(&race);
}

static int poll_aborts(struct rdy_task *task, void *self)
{
    struct race *my = race_of(self);
    int rc = rdy_timer_poll_until(&my->timer, task, my->deadline_ns);

    if (rc == 0)
        rdy_runtime_stop(my->runtime);
    return rc;
}

/* Aborts the connecting task after so long, which is after so many attempts. */
static void abort_after(void **state, uint64_t ms, uint32_t attempts)
{
    struct rdy_task_id id;

    race_open(&race, state);
    race_add_mixed();
    race_start(&race);
    id = race_spawn(&race);
    race.deadline_ns = race.began_ns + ms * RACE_MS;
    (void)spawn_test(race.runtime, poll_aborts, NULL, &race);
    assert_int_equal(rdy_runtime_run(race.runtime), 0);
    assert_int_equal(race.result, RDY_PENDING);
    assert_int_equal(race.connector.attempts_count, attempts);

    assert_int_equal(rdy_task_abort(race.runtime, id), 0);

    assert_null(race.connector.runtime);
    race_close(&race);
}

/* The second address refuses at 250 ms, and the third follows at once. */
static void aborted_task_closes_every_attempt(void **state)
{
    abort_after(state, 1, 1);
    abort_after(state, 249, 1);
    abort_after(state, 251, 2);
    abort_after(state, 501, 3);
    abort_after(state, 60000, 3);
}

static int poll_races_in_time(struct rdy_task *task, void *self)
{
    struct race *my = race_of(self);
    int rc;

    fault_begin(&my->fault);
    rc = RDY_TIMEOUT(&my->timer, task, my->deadline_ns,
                     rdy_connector_poll(&my->connector, task, &my->stream));
    fault_end(&my->fault);
    if (rc != RDY_PENDING)
        my->result = rc;
    return rc == RDY_PENDING ? rc : 0;
}

/* Starts, and gives it ten seconds. */
static int run_in_time(void)
{
    race_start(&race);
    race.deadline_ns = race.began_ns + 10000 * (uint64_t)RACE_MS;
    (void)spawn_test(race.runtime, poll_races_in_time, drop_cancels, &race);
    assert_int_equal(rdy_runtime_run(race.runtime), 0);
    return race.result;
}

static void deadline_ends_what_never_answers(void **state)
{
    race_open(&race, state);
    race_add_mixed();
    assert_int_equal(run_in_time(), -ETIMEDOUT);
    assert_int_equal(rdy_runtime_now_ns(race.runtime), race.deadline_ns);
    race_close(&race);
}

static void connector_can_be_used_again(void **state)
{
    race_open(&race, state);
    race_add(&race, target_that_refuses(AF_INET6));
    for (int i = 0; i < 3; i++)
        assert_int_equal(race_run(&race), -ECONNREFUSED);
    race_add(&race, target_that_accepts(AF_INET));
    assert_int_equal(race_run(&race), 0);
    assert_connected_to(&race, 1);
    race_close(&race);
}

#define CALLS_MAX 100u

/* Every system call in turn: whatever fails, the rest is tried, and all is closed. */
static void walk_over_failures(void **state, int error)
{
    uint32_t connected = 0;
    bool has_come = true;
    uint64_t nth = 1;

    for (; has_come && nth <= CALLS_MAX; nth++) {
        int rc;

        race_open(&race, state);
        race_add(&race, target_that_never_answers(AF_INET6));
        race_add(&race, target_that_refuses(AF_INET));
        race_add(&race, target_that_accepts(AF_INET6));
        race.fault = (struct fault){.left = nth, .error = error};
        rc = run_in_time();
        has_come = race.fault.has_come;
        /* If it was the last attempt that failed, the first is left, which never answers. */
        assert_true(rc == 0 || (rc == -ETIMEDOUT && has_come));
        if (rc == 0)
            assert_connected_to(&race, 2);
        connected += rc == 0;
        race_close(&race);
    }
    assert_false(has_come);
    assert_true(nth > 12);
    assert_in_range(connected, 6, nth - 3);
}

static void failing_calls_leave_nothing_behind(void **state)
{
    walk_over_failures(state, ENOMEM);
    walk_over_failures(state, EMFILE);
}

/* Two registrations only: the third attempt finds none, and the rest is waited for. */
static void want_of_registrations_is_a_failed_attempt(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);

    opts.driver.entries_max = 2;
    rdy_runtime_close(fixture->runtime);
    assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
    race_open(&race, state);
    race_add(&race, target_that_never_answers(AF_INET6));
    race_add(&race, target_that_never_answers(AF_INET));
    race_add(&race, target_that_accepts(AF_INET6));
    assert_int_equal(run_in_time(), -ETIMEDOUT);
    race_close(&race);
}

static void runtime_closes_with_a_connector_under_way(void **state)
{
    struct runtime_fixture *fixture = *state;
    int before;

    race_open(&race, state);
    race_add_mixed();
    rdy_runtime_close(fixture->runtime);
    before = descriptors_count();
    assert_int_equal(rdy_runtime_open(&fixture->runtime, NULL), 0);
    race.runtime = fixture->runtime;
    race_start(&race);
    (void)race_spawn(&race);
    rdy_runtime_close(fixture->runtime);
    fixture->runtime = NULL;
    assert_null(race.connector.runtime);
    assert_int_equal(descriptors_count(), before);
    for (uint32_t i = 0; i < race.count; i++)
        target_close(&race.targets[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(cancel_before_the_first_poll_closes_the_attempt),
        ON_BOTH(aborted_task_closes_every_attempt),
        ON_BOTH(deadline_ends_what_never_answers),
        ON_BOTH(connector_can_be_used_again),
        ON_BOTH(failing_calls_leave_nothing_behind),
        ON_BOTH(want_of_registrations_is_a_failed_attempt),
        ON_BOTH(runtime_closes_with_a_connector_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
