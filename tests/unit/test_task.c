/* SPDX-License-Identifier: MIT */
/*
 * Tasks: when they are polled, when they end, and what a wake does in each state.
 */
#include "tests/support/runtime.h"

#include <string.h>

#include "engine/task.h"

/* What a test sees of one task. */
struct probe {
    struct rdy_co co;
    struct rdy_runtime *runtime;
    struct rdy_waker waker; /* of the task, after its first poll */
    struct rdy_task_id id;
    int polls;
    int drops;
    int goal;
};

static struct probe *probe_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static void probe_drop(void *self)
{
    probe_of(self)->drops++;
}

static int poll_ends_at_once(struct rdy_task *task, void *self)
{
    (void)task;
    probe_of(self)->polls++;
    return 0;
}

/* Leaves its waker in the probe and sleeps; ends after `goal` polls. */
static int poll_sleeps(struct rdy_task *task, void *self)
{
    struct probe *probe = probe_of(self);

    probe->waker = rdy_task_waker(task);
    probe->polls++;
    return probe->polls >= probe->goal ? 0 : RDY_PENDING;
}

/* Goes to the back of the run queue each time. */
static int poll_wakes_itself(struct rdy_task *task, void *self)
{
    struct rdy_waker waker = rdy_task_waker(task);

    rdy_waker_wake(&waker);
    return poll_sleeps(task, self);
}

static int poll_defers(struct rdy_task *task, void *self)
{
    rdy_task_defer(task);
    return poll_sleeps(task, self);
}

/* Stops the runtime after `goal` polls, without ending; a yield between two polls. */
static int poll_stops_runtime(struct rdy_task *task, void *self)
{
    struct probe *probe = probe_of(self);

    probe->waker = rdy_task_waker(task);
    probe->polls++;
    rdy_task_defer(task);
    if (probe->polls >= probe->goal) {
        rdy_runtime_stop(rdy_task_runtime(task));
        return 0;
    }
    return RDY_PENDING;
}

/* Runs the tasks there are for a few rounds. */
static void run_for_a_while(struct rdy_runtime *runtime)
{
    struct probe stopper = {.goal = 4};

    (void)spawn_test(runtime, poll_stops_runtime, NULL, &stopper);
    assert_int_equal(rdy_runtime_run(runtime), 0);
}

static void task_runs_and_its_drop_runs_once(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {0};

    (void)spawn_test(runtime, poll_ends_at_once, probe_drop, &probe);
    assert_int_equal(probe.polls, 0);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(probe.polls, 1);
    assert_int_equal(probe.drops, 1);
    assert_int_equal(runtime_stats(runtime).tasks_live, 0);
    assert_int_equal(runtime_stats(runtime).tasks_ended, 1);
}

static void own_struct_is_zeroed_and_aligned(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);

    for (size_t size = 1; size <= 100; size++) {
        struct rdy_task_spec spec = {.poll = poll_ends_at_once, .self_size = size};
        struct rdy_task_id id;
        unsigned char *self = NULL;

        assert_int_equal(rdy_spawn(runtime, &spec, (void **)&self, &id), 0);
        assert_int_equal((uintptr_t)self % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(self[i], 0);
        memset(self, 0xff, size);
        assert_int_equal(rdy_task_abort(runtime, id), 0);
    }
}

static void header_of_a_task_is_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct rdy_task) <= 96);
}

static void absurd_spawns_are_refused(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_task_spec no_poll = {.self_size = 16};
    struct rdy_task_spec too_large = {.poll = poll_ends_at_once, .self_size = 1024 * 1024 + 1};

    assert_int_equal(rdy_spawn(runtime, &no_poll, NULL, NULL), -EINVAL);
    assert_int_equal(rdy_spawn(runtime, &too_large, NULL, NULL), -EINVAL);
    assert_int_equal(runtime_stats(runtime).tasks_live, 0);
}

static void more_tasks_than_tasks_max_are_refused_until_one_ends(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct rdy_task_spec spec = {.poll = poll_ends_at_once};
    struct rdy_runtime *runtime = NULL;

    opts.tasks_max = 3;
    assert_int_equal(rdy_runtime_open(&runtime, &opts), 0);
    for (int round = 0; round < 3; round++) {
        struct rdy_task_id id;

        spec.poll = poll_ends_at_once;
        assert_int_equal(rdy_spawn(runtime, &spec, NULL, &id), 0);
        assert_int_equal(rdy_task_abort(runtime, id), 0);
    }
    assert_int_equal(rdy_runtime_run(runtime), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rdy_spawn(runtime, &spec, NULL, NULL), 0);

    assert_int_equal(rdy_spawn(runtime, &spec, NULL, NULL), -ENFILE);

    rdy_runtime_close(runtime);
}

struct order {
    int next;
    int seen[8];
};

struct ordered {
    struct order *order;
    int number;
};

static int poll_notes_its_turn(struct rdy_task *task, void *self)
{
    struct ordered *ordered = ((struct test_task *)self)->test;

    (void)task;
    ordered->order->seen[ordered->order->next++] = ordered->number;
    return 0;
}

static void tasks_run_in_the_order_of_spawning(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct order order = {0};
    struct ordered ordered[8];

    for (int i = 0; i < 8; i++) {
        ordered[i] = (struct ordered){.order = &order, .number = i};
        (void)spawn_test(runtime, poll_notes_its_turn, NULL, &ordered[i]);
    }
    assert_int_equal(rdy_runtime_run(runtime), 0);

    for (int i = 0; i < 8; i++)
        assert_int_equal(order.seen[i], i);
}

static void task_that_wakes_itself_is_polled_again(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {.goal = 1000};

    (void)spawn_test(runtime, poll_wakes_itself, probe_drop, &probe);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(probe.polls, 1000);
    assert_int_equal(probe.drops, 1);
}

static int poll_wakes_other_thrice(struct rdy_task *task, void *self)
{
    struct probe *other = probe_of(self);

    (void)task;
    for (int i = 0; i < 3; i++)
        rdy_waker_wake(&other->waker);
    return 0;
}

static void many_wakes_before_a_poll_are_one_poll(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {.goal = 100};

    (void)spawn_test(runtime, poll_sleeps, NULL, &probe);
    run_for_a_while(runtime);
    assert_int_equal(probe.polls, 1);

    (void)spawn_test(runtime, poll_wakes_other_thrice, NULL, &probe);
    run_for_a_while(runtime);
    assert_int_equal(probe.polls, 2);

    /* Outside of a run the same goes for wakes from this thread. */
    for (int i = 0; i < 3; i++)
        rdy_waker_wake(&probe.waker);
    run_for_a_while(runtime);
    assert_int_equal(probe.polls, 3);
}

static void abort_of_a_task_that_never_ran_drops_it_unpolled(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {0};
    struct rdy_task_id id = spawn_test(runtime, poll_sleeps, probe_drop, &probe);

    assert_int_equal(rdy_task_abort(runtime, id), 0);

    assert_int_equal(probe.drops, 1);
    assert_int_equal(rdy_task_abort(runtime, id), -ESRCH);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(probe.polls, 0);
    assert_int_equal(probe.drops, 1);
    assert_int_equal(runtime_stats(runtime).task_aborts, 1);
}

static void abort_of_a_sleeping_task_drops_it_at_once(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {.goal = 100};
    struct rdy_task_id id = spawn_test(runtime, poll_sleeps, probe_drop, &probe);

    run_for_a_while(runtime);
    assert_int_equal(rdy_task_abort(runtime, id), 0);

    assert_int_equal(probe.drops, 1);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(probe.polls, 1);
    assert_int_equal(probe.drops, 1);
}

static void abort_of_a_woken_task_drops_it_unpolled(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {.goal = 100};
    struct rdy_task_id id = spawn_test(runtime, poll_sleeps, probe_drop, &probe);

    run_for_a_while(runtime);
    rdy_waker_wake(&probe.waker);
    assert_int_equal(rdy_task_abort(runtime, id), 0);

    assert_int_equal(probe.drops, 1);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(probe.polls, 1);
    assert_int_equal(probe.drops, 1);
}

static int poll_aborts_itself(struct rdy_task *task, void *self)
{
    struct probe *probe = probe_of(self);

    probe->polls++;
    assert_int_equal(rdy_task_abort(rdy_task_runtime(task), rdy_task_get_id(task)), 0);
    assert_int_equal(rdy_task_abort(rdy_task_runtime(task), rdy_task_get_id(task)), 0);
    assert_int_equal(probe->drops, 0);
    rdy_task_defer(task);
    return RDY_PENDING;
}

static void abort_of_the_running_task_takes_effect_when_its_poll_returns(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {0};

    (void)spawn_test(runtime, poll_aborts_itself, probe_drop, &probe);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(probe.polls, 1);
    assert_int_equal(probe.drops, 1);
    assert_int_equal(runtime_stats(runtime).task_aborts, 1);
}

static int poll_aborts_other(struct rdy_task *task, void *self)
{
    struct probe *other = probe_of(self);

    assert_int_equal(rdy_task_abort(rdy_task_runtime(task), other->id), 0);
    assert_int_equal(other->drops, 1);
    return 0;
}

static void task_aborts_another_that_is_deferred(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {.goal = 100};

    probe.id = spawn_test(runtime, poll_defers, probe_drop, &probe);
    (void)spawn_test(runtime, poll_aborts_other, NULL, &probe);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(probe.polls, 1);
    assert_int_equal(probe.drops, 1);
    assert_int_equal(runtime_stats(runtime).tasks_live, 0);
}

/* Its own name is stale by then, its wakers too: whatever a drop does, it does not run again. */
static void drop_that_aborts_and_wakes(void *self)
{
    struct probe *probe = probe_of(self);

    probe->drops++;
    assert_int_equal(rdy_task_abort(probe->runtime, probe->id), -ESRCH);
    rdy_waker_wake(&probe->waker);
}

static void drop_that_aborts_and_wakes_its_own_task_does_nothing(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {.goal = 1, .runtime = runtime};

    probe.id = spawn_test(runtime, poll_sleeps, drop_that_aborts_and_wakes, &probe);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(probe.drops, 1);
    assert_int_equal(probe.polls, 1);
    assert_int_equal(runtime_stats(runtime).stale_wakes, 1);
}

static void wake_after_the_end_is_counted_and_reaches_nobody(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe gone = {.goal = 1};
    struct probe successor = {.goal = 100};

    (void)spawn_test(runtime, poll_sleeps, NULL, &gone);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    rdy_waker_wake(&gone.waker);
    assert_int_equal(runtime_stats(runtime).stale_wakes, 1);

    /* The next task lives in the same header; the old waker must not wake it. */
    (void)spawn_test(runtime, poll_sleeps, NULL, &successor);
    run_for_a_while(runtime);
    assert_ptr_equal(successor.waker.arg, gone.waker.arg);
    rdy_waker_wake(&gone.waker);
    run_for_a_while(runtime);

    assert_int_equal(successor.polls, 1);
    assert_int_equal(runtime_stats(runtime).stale_wakes, 2);
}

static void stale_names_are_refused(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {0};
    struct rdy_task_id none = {0};
    struct rdy_task_id never = {.slot = 77, .generation = 1};
    struct rdy_task_id id = spawn_test(runtime, poll_ends_at_once, NULL, &probe);

    assert_int_equal(rdy_task_abort(runtime, none), -ESRCH);
    assert_int_equal(rdy_task_abort(runtime, never), -ESRCH);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(rdy_task_abort(runtime, id), -ESRCH);
    (void)spawn_test(runtime, poll_ends_at_once, NULL, &probe);
    assert_int_equal(rdy_task_abort(runtime, id), -ESRCH);
}

struct yielder {
    uint64_t turns_before;
    uint64_t turns_after;
};

static int poll_yields(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct yielder *yielder = my->test;

    RDY_BEGIN(&my->co);
    yielder->turns_before = driver_stats(rdy_task_runtime(task)).turns;
    RDY_YIELD(&my->co, task);
    yielder->turns_after = driver_stats(rdy_task_runtime(task)).turns;
    RDY_END(&my->co);
    return 0;
}

/* A yield that came back before the driver was looked at would starve I/O (tokio #5223). */
static void yielded_task_runs_after_a_turn_of_the_driver(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct yielder yielder = {0};

    (void)spawn_test(runtime, poll_yields, NULL, &yielder);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_true(yielder.turns_after > yielder.turns_before);
}

/* Works without end, paying for each piece; ends after `goal` polls. */
static int poll_works_for_ever(struct rdy_task *task, void *self)
{
    struct probe *probe = probe_of(self);
    int done = 0;

    while (rdy_task_charge(task) == 0)
        assert_true(++done <= 128);
    assert_int_equal(done, 128);
    assert_int_equal(rdy_task_charge(task), RDY_PENDING);
    return ++probe->polls >= probe->goal ? 0 : RDY_PENDING;
}

static void task_that_never_rests_leaves_room_for_others(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe hungry[2] = {{.goal = 50}, {.goal = 50}};
    struct probe quiet = {.goal = 20};

    (void)spawn_test(runtime, poll_works_for_ever, NULL, &hungry[0]);
    (void)spawn_test(runtime, poll_works_for_ever, NULL, &hungry[1]);
    (void)spawn_test(runtime, poll_wakes_itself, NULL, &quiet);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(hungry[0].polls, 50);
    assert_int_equal(hungry[1].polls, 50);
    assert_int_equal(quiet.polls, 20);
    assert_int_equal(runtime_stats(runtime).budget_yields, 100);
}

static int poll_spawns(struct rdy_task *task, void *self)
{
    struct probe *probe = probe_of(self);

    probe->polls++;
    if (probe->polls < probe->goal)
        (void)spawn_test(rdy_task_runtime(task), poll_spawns, probe_drop, probe);
    return 0;
}

static void tasks_spawn_tasks(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct probe probe = {.goal = 1000};

    (void)spawn_test(runtime, poll_spawns, probe_drop, &probe);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(probe.polls, 1000);
    assert_int_equal(probe.drops, 1000);
}

static void drop_that_spawns(void *self)
{
    struct probe *probe = probe_of(self);
    struct rdy_task_spec spec = {.poll = poll_ends_at_once};

    probe->drops++;
    assert_int_equal(rdy_spawn(probe->runtime, &spec, NULL, NULL), -ESHUTDOWN);
}

/* One in each state that a task can be in between two rounds. */
static void close_drops_every_live_task_once(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime *runtime = fixture->runtime;
    struct probe idle = {.goal = 100, .runtime = runtime};
    struct probe queued = {.goal = 100, .runtime = runtime};
    struct probe woken = {.goal = 100, .runtime = runtime};
    struct probe aborted = {.goal = 100, .runtime = runtime};
    struct probe ended = {.goal = 1, .runtime = runtime};
    struct rdy_task_id id;

    (void)spawn_test(runtime, poll_sleeps, drop_that_spawns, &idle);
    (void)spawn_test(runtime, poll_sleeps, drop_that_spawns, &woken);
    (void)spawn_test(runtime, poll_ends_at_once, probe_drop, &ended);
    run_for_a_while(runtime);
    rdy_waker_wake(&woken.waker);
    (void)spawn_test(runtime, poll_sleeps, drop_that_spawns, &queued);
    id = spawn_test(runtime, poll_sleeps, probe_drop, &aborted);
    assert_int_equal(rdy_task_abort(runtime, id), 0);

    rdy_runtime_close(runtime);
    fixture->runtime = NULL;

    assert_int_equal(idle.drops, 1);
    assert_int_equal(woken.drops, 1);
    assert_int_equal(queued.drops, 1);
    assert_int_equal(aborted.drops, 1);
    assert_int_equal(ended.drops, 1);
    assert_int_equal(queued.polls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_of_a_task_is_small),
        ON_BOTH(task_runs_and_its_drop_runs_once),
        ON_BOTH(own_struct_is_zeroed_and_aligned),
        ON_BOTH(absurd_spawns_are_refused),
        ON_BOTH(more_tasks_than_tasks_max_are_refused_until_one_ends),
        ON_BOTH(tasks_run_in_the_order_of_spawning),
        ON_BOTH(task_that_wakes_itself_is_polled_again),
        ON_BOTH(many_wakes_before_a_poll_are_one_poll),
        ON_BOTH(abort_of_a_task_that_never_ran_drops_it_unpolled),
        ON_BOTH(abort_of_a_sleeping_task_drops_it_at_once),
        ON_BOTH(abort_of_a_woken_task_drops_it_unpolled),
        ON_BOTH(abort_of_the_running_task_takes_effect_when_its_poll_returns),
        ON_BOTH(task_aborts_another_that_is_deferred),
        ON_BOTH(drop_that_aborts_and_wakes_its_own_task_does_nothing),
        ON_BOTH(wake_after_the_end_is_counted_and_reaches_nobody),
        ON_BOTH(stale_names_are_refused),
        ON_BOTH(yielded_task_runs_after_a_turn_of_the_driver),
        ON_BOTH(task_that_never_rests_leaves_room_for_others),
        ON_BOTH(tasks_spawn_tasks),
        ON_BOTH(close_drops_every_live_task_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
