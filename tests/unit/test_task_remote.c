/* SPDX-License-Identifier: MIT */
/*
 * Tasks that other threads hand to a runtime: none is lost, none runs twice, and each drop runs
 * once. A lost one shows as a run that never ends, which the test driver's time limit turns into a
 * failure.
 */
#include "tests/support/runtime.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "engine/atomic.h"
#include "tests/support/stress.h"

#define THREADS_COUNT 4
#define SPAWNS_EACH   STRESS_ROUNDS(25000u, 3000u)

struct crowd;

/* The own struct of a remote task, filled by the thread that spawns it. */
struct parcel {
    struct crowd *crowd;
    uint32_t *content; /* the task's, freed by its drop */
    uint32_t thread;
    uint32_t number;
};

/* What the threads and the runtime share; the plain fields are the runtime's thread's. */
struct crowd {
    struct rdy_runtime *runtime;
    struct rdy_waker keeper; /* wakes the task that keeps the runtime running */
    uint32_t polls;
    uint32_t drops;
    uint32_t goal;
    uint32_t latest[THREADS_COUNT]; /* the number polled last, of each thread's */
    uint32_t disorder;
    struct rdy_a32 accepted;
    struct rdy_a32 refused;
    pthread_t threads[THREADS_COUNT];
};

struct sender {
    struct crowd *crowd;
    uint32_t thread;
};

static int poll_opens_parcel(struct rdy_task *task, void *self)
{
    struct parcel *parcel = self;
    struct crowd *crowd = parcel->crowd;

    (void)task;
    assert_int_equal(*parcel->content, parcel->number);
    crowd->polls++;
    if (parcel->number != crowd->latest[parcel->thread] + 1)
        crowd->disorder++;
    crowd->latest[parcel->thread] = parcel->number;
    return 0;
}

static void parcel_drop(void *self)
{
    struct parcel *parcel = self;
    struct crowd *crowd = parcel->crowd;

    free(parcel->content);
    if (++crowd->drops == crowd->goal)
        rdy_waker_wake(&crowd->keeper);
}

static const struct rdy_task_spec parcel_spec = {
    .poll = poll_opens_parcel,
    .drop = parcel_drop,
    .self_size = sizeof(struct parcel),
};

static int parcel_send(struct crowd *crowd, uint32_t thread, uint32_t number)
{
    struct parcel parcel = {.crowd = crowd, .thread = thread, .number = number};
    int rc;

    parcel.content = malloc(sizeof(*parcel.content));
    assert_non_null(parcel.content);
    *parcel.content = number;
    rc = rdy_spawn_remote(crowd->runtime, &parcel_spec, &parcel);
    if (rc < 0)
        free(parcel.content);
    return rc;
}

static int poll_keeps_running(struct rdy_task *task, void *self)
{
    struct crowd *crowd = ((struct test_task *)self)->test;

    crowd->keeper = rdy_task_waker(task);
    return crowd->drops == crowd->goal ? 0 : RDY_PENDING;
}

static void *thread_sends_all(void *arg)
{
    struct sender *sender = arg;
    uint32_t failures = 0;

    for (uint32_t i = 1; i <= SPAWNS_EACH; i++)
        failures += parcel_send(sender->crowd, sender->thread, i) != 0;
    return (void *)(uintptr_t)failures;
}

static void tasks_of_four_threads_all_run_in_the_order_of_their_thread(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct crowd crowd = {.goal = THREADS_COUNT * SPAWNS_EACH};
    struct sender senders[THREADS_COUNT];
    struct rdy_runtime_stats stats;

    opts.arrivals_max = crowd.goal; /* the senders may be that far ahead */
    assert_int_equal(rdy_runtime_open(&crowd.runtime, &opts), 0);
    (void)spawn_test(crowd.runtime, poll_keeps_running, NULL, &crowd);
    for (uint32_t i = 0; i < THREADS_COUNT; i++) {
        senders[i] = (struct sender){.crowd = &crowd, .thread = i};
        assert_int_equal(pthread_create(&crowd.threads[i], NULL, thread_sends_all, &senders[i]), 0);
    }
    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    for (int i = 0; i < THREADS_COUNT; i++) {
        void *failures = NULL;

        assert_int_equal(pthread_join(crowd.threads[i], &failures), 0);
        assert_null(failures);
    }
    assert_int_equal(crowd.polls, crowd.goal);
    assert_int_equal(crowd.drops, crowd.goal);
    assert_int_equal(crowd.disorder, 0);
    stats = runtime_stats(crowd.runtime);
    assert_int_equal(stats.remote_spawns, crowd.goal);
    assert_int_equal(stats.remote_drops, 0);
    assert_int_equal(stats.tasks_live, 0);
    rdy_runtime_close(crowd.runtime);
}

static int poll_counts_rounds(struct rdy_task *task, void *self)
{
    struct crowd *crowd = ((struct test_task *)self)->test;

    crowd->goal++;
    rdy_task_defer(task);
    return crowd->polls == 1000 ? 0 : RDY_PENDING;
}

/* Begun all at once, they would stand before every task that is queued later. Here the one that
 * yields is polled in each round. */
static void flood_of_arrivals_leaves_room_for_others(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct crowd crowd = {.runtime = NULL};
    struct rdy_task_id id;

    opts.event_interval = 10;
    assert_int_equal(rdy_runtime_open(&crowd.runtime, &opts), 0);
    id = spawn_test(crowd.runtime, poll_counts_rounds, NULL, &crowd);
    for (uint32_t i = 1; i <= 1000; i++)
        assert_int_equal(parcel_send(&crowd, 0, i), 0);
    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    assert_int_equal(rdy_task_abort(crowd.runtime, id), -ESRCH);
    assert_int_equal(crowd.polls, 1000);
    assert_true(crowd.goal >= 200); /* five begin in each round */
    rdy_runtime_close(crowd.runtime);
}

static void *thread_sends_until_refused(void *arg)
{
    struct sender *sender = arg;
    uint32_t number = 1;
    int rc;

    /* -EAGAIN: so many are ahead of the runtime that it takes no more at the moment. */
    do {
        rc = parcel_send(sender->crowd, sender->thread, number);
        number += rc == 0;
        if (rc == 0)
            (void)rdy_a32_add_seq_cst(&sender->crowd->accepted, 1);
    } while ((rc == 0 || rc == -EAGAIN) && number < 50000000);
    if (rc == -ESHUTDOWN)
        (void)rdy_a32_add_seq_cst(&sender->crowd->refused, 1);
    return NULL;
}

/* Runs in the middle of the close: the runtime is still there for the threads to be refused. */
static void drop_that_waits_for_the_threads(void *self)
{
    struct crowd *crowd = ((struct test_task *)self)->test;

    for (int i = 0; i < THREADS_COUNT; i++)
        (void)pthread_join(crowd->threads[i], NULL);
}

static int poll_stops_after_a_hundred(struct rdy_task *task, void *self)
{
    struct crowd *crowd = ((struct test_task *)self)->test;

    crowd->keeper = rdy_task_waker(task);
    if (crowd->drops >= 100)
        rdy_runtime_stop(rdy_task_runtime(task));
    rdy_task_defer(task);
    return RDY_PENDING;
}

static void close_refuses_what_comes_and_drops_what_came(void **state)
{
    struct runtime_fixture *fixture = *state;

    for (int round = 0; round < 10; round++) {
        struct crowd crowd = {.runtime = runtime_open(fixture->backend)};
        struct sender senders[THREADS_COUNT];

        (void)spawn_test(crowd.runtime, poll_stops_after_a_hundred, drop_that_waits_for_the_threads,
                         &crowd);
        for (uint32_t i = 0; i < THREADS_COUNT; i++) {
            senders[i] = (struct sender){.crowd = &crowd, .thread = i};
            assert_int_equal(
                pthread_create(&crowd.threads[i], NULL, thread_sends_until_refused, &senders[i]),
                0);
        }
        assert_int_equal(rdy_runtime_run(crowd.runtime), 0);
        rdy_runtime_close(crowd.runtime);

        assert_int_equal(crowd.refused.v, THREADS_COUNT);
        assert_int_equal(crowd.drops, crowd.accepted.v);
        assert_true(crowd.polls >= 100);
        assert_true(crowd.polls <= crowd.drops);
        assert_int_equal(crowd.disorder, 0);
    }
}

static void *thread_sends_one(void *arg)
{
    return (void *)(intptr_t)parcel_send(arg, 0, ((struct crowd *)arg)->latest[0] + 1);
}

/* Each is the only one: if its unpark is lost, nothing comes that would hide the loss. */
static void single_spawn_reaches_a_blocked_runtime(void **state)
{
    struct crowd crowd = {.runtime = runtime_of(state)};

    for (uint32_t round = 1; round <= 500; round++) {
        pthread_t thread;
        void *rc = NULL;

        crowd.goal = round;
        (void)spawn_test(crowd.runtime, poll_keeps_running, NULL, &crowd);
        assert_int_equal(pthread_create(&thread, NULL, thread_sends_one, &crowd), 0);
        assert_int_equal(rdy_runtime_run(crowd.runtime), 0);
        assert_int_equal(pthread_join(thread, &rc), 0);
        assert_null(rc);
        assert_int_equal(crowd.drops, round);
    }
}

static void what_came_between_two_runs_runs_in_the_next(void **state)
{
    struct crowd crowd = {.runtime = runtime_of(state)};

    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);
    assert_int_equal(parcel_send(&crowd, 0, 1), 0);
    assert_int_equal(parcel_send(&crowd, 0, 2), 0);
    assert_int_equal(crowd.polls, 0);
    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    assert_int_equal(crowd.polls, 2);
    assert_int_equal(crowd.drops, 2);
    assert_int_equal(crowd.disorder, 0);
}

static int poll_sends_another(struct rdy_task *task, void *self)
{
    struct crowd *crowd = ((struct test_task *)self)->test;

    (void)task;
    assert_int_equal(parcel_send(crowd, 0, 1), 0);
    return 0;
}

/* The run does not end while one is on the way, even if its spawner was the last task. */
static void last_task_may_hand_over_to_its_own_runtime(void **state)
{
    struct crowd crowd = {.runtime = runtime_of(state)};

    (void)spawn_test(crowd.runtime, poll_sends_another, NULL, &crowd);
    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    assert_int_equal(crowd.polls, 1);
}

static void arrivals_above_tasks_max_are_dropped_unpolled(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct crowd crowd = {.runtime = NULL};

    opts.tasks_max = 3;
    assert_int_equal(rdy_runtime_open(&crowd.runtime, &opts), 0);
    for (uint32_t i = 1; i <= 5; i++)
        assert_int_equal(parcel_send(&crowd, 0, i), 0);
    assert_int_equal(rdy_runtime_run(crowd.runtime), 0);

    assert_int_equal(crowd.polls, 3);
    assert_int_equal(crowd.drops, 5);
    assert_int_equal(runtime_stats(crowd.runtime).remote_spawns, 3);
    assert_int_equal(runtime_stats(crowd.runtime).remote_drops, 2);
    rdy_runtime_close(crowd.runtime);
}

static int poll_expects_zeros(struct rdy_task *task, void *self)
{
    const struct parcel *parcel = self;

    assert_null(parcel->crowd);
    assert_null(parcel->content);
    assert_string_equal(rdy_task_name(task), "remote");
    return RDY_PENDING;
}

static void remote_task_may_have_a_name_and_a_timeout_and_no_content(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_task_spec spec = {
        .poll = poll_expects_zeros,
        .self_size = sizeof(struct parcel),
        .name = "remote",
        .timeout_ns = 1,
    };

    assert_int_equal(rdy_spawn_remote(runtime, &spec, NULL), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(runtime_stats(runtime).task_timeouts, 1);

    spec.self_size = (size_t)2 * 1024 * 1024;
    assert_int_equal(rdy_spawn_remote(runtime, &spec, NULL), -EINVAL);
    spec.poll = NULL;
    spec.self_size = 0;
    assert_int_equal(rdy_spawn_remote(runtime, &spec, NULL), -EINVAL);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(runtime_stats(runtime).tasks_spawned, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(tasks_of_four_threads_all_run_in_the_order_of_their_thread),
        ON_BOTH(flood_of_arrivals_leaves_room_for_others),
        ON_BOTH(close_refuses_what_comes_and_drops_what_came),
        ON_BOTH(single_spawn_reaches_a_blocked_runtime),
        ON_BOTH(what_came_between_two_runs_runs_in_the_next),
        ON_BOTH(last_task_may_hand_over_to_its_own_runtime),
        ON_BOTH(arrivals_above_tasks_max_are_dropped_unpolled),
        ON_BOTH(remote_task_may_have_a_name_and_a_timeout_and_no_content),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
