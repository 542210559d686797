/* SPDX-License-Identifier: MIT */
/*
 * Tasks among tasks: chains and crowds of them, what happens in one poll or one round, what drops
 * may do, and how other threads come in.
 */
#include "tests/support/runtime.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <rdy/timer.h>

#include "engine/atomic.h"

#define CROWD 200u
#define DEPTH 1000u

/* --- polls --- */

struct counted {
    struct rdy_waker waker;
    uint32_t polls;
    uint32_t polls_max;
    uint32_t *order;
    uint32_t place;
};

static int poll_counts(struct rdy_task *task, void *self)
{
    struct counted *counted = ((struct test_task *)self)->test;

    counted->waker = rdy_task_waker(task);
    if (counted->order)
        counted->place = (*counted->order)++;
    return ++counted->polls < counted->polls_max ? RDY_PENDING : 0;
}

static void spawned_task_does_not_run_before_the_runtime_does(void **state)
{
    struct counted counted = {.polls_max = 1};

    (void)spawn_test(runtime_of(state), poll_counts, NULL, &counted);
    assert_int_equal(counted.polls, 0);
    assert_int_equal(rdy_runtime_run(runtime_of(state)), 0);
    assert_int_equal(counted.polls, 1);
}

/* Wakes another in each of its polls, with a turn of the driver in between. */
static int poll_wakes_slowly(struct rdy_task *task, void *self)
{
    struct counted *other = ((struct test_task *)self)->test;

    if (other->polls == other->polls_max)
        return 0;
    rdy_waker_wake(&other->waker);
    rdy_waker_wake(&other->waker);
    rdy_task_defer(task);
    return RDY_PENDING;
}

static void task_is_polled_once_for_each_wake_and_no_more(void **state)
{
    struct counted counted = {.polls_max = 11};

    (void)spawn_test(runtime_of(state), poll_counts, NULL, &counted);
    (void)spawn_test(runtime_of(state), poll_wakes_slowly, NULL, &counted);
    assert_int_equal(rdy_runtime_run(runtime_of(state)), 0);

    assert_int_equal(counted.polls, 11);
    assert_int_equal(runtime_stats(runtime_of(state)).task_polls, 11 + 12 - 1);
}

static uint32_t turns_seen[4];
static uint32_t turns_count;

static int poll_wakes_itself_and_defers(struct rdy_task *task, void *self)
{
    struct counted *counted = ((struct test_task *)self)->test;
    struct rdy_waker waker = rdy_task_waker(task);
    struct rdy_runtime *runtime = rdy_task_runtime(task);

    assert_true(turns_count < 4);
    turns_seen[turns_count++] = (uint32_t)driver_stats(runtime).turns;
    if (++counted->polls == 3)
        return 0;
    if (counted->polls == 1) {
        rdy_waker_wake(&waker);
        rdy_task_defer(task);
    } else {
        rdy_task_defer(task);
        rdy_waker_wake(&waker);
    }
    return RDY_PENDING;
}

static void wake_and_defer_in_one_poll_are_one_poll_after_a_turn(void **state)
{
    struct counted counted = {0};

    turns_count = 0;
    (void)spawn_test(runtime_of(state), poll_wakes_itself_and_defers, NULL, &counted);
    assert_int_equal(rdy_runtime_run(runtime_of(state)), 0);

    assert_int_equal(counted.polls, 3);
    assert_int_equal(turns_seen[1], turns_seen[0] + 1);
    assert_int_equal(turns_seen[2], turns_seen[1] + 1);
}

static int poll_stops(struct rdy_task *task, void *self)
{
    (void)self;
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

static void stop_within_a_round_loses_nobody_and_no_order(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted[CROWD] = {0};
    uint32_t order = 0;

    /* given more tasks than a round polls, and one among them that stops the run */
    for (uint32_t i = 0; i < CROWD; i++) {
        counted[i] = (struct counted){.polls_max = 1, .order = &order};
        (void)spawn_test(runtime, poll_counts, NULL, &counted[i]);
        if (i == 10)
            (void)spawn_test(runtime, poll_stops, NULL, NULL);
    }
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_true(order < CROWD);

    /* then the next run goes on where that one stopped */
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(order, CROWD);
    for (uint32_t i = 0; i < CROWD; i++)
        assert_int_equal(counted[i].place, i);
}

/* --- deadlines that pass while the task is being polled --- */

static int poll_outlives_its_deadline(struct rdy_task *task, void *self)
{
    struct counted *counted = ((struct test_task *)self)->test;

    assert_int_equal(rdy_runtime_advance(rdy_task_runtime(task), 1000), 0);
    counted->polls++;
    rdy_task_defer(task);
    return counted->polls_max == 1 ? 7 : RDY_PENDING;
}

static int result_past_the_deadline(struct rdy_runtime *runtime, struct counted *counted)
{
    struct rdy_task_spec spec = {.poll = poll_outlives_its_deadline,
                                 .self_size = sizeof(struct test_task),
                                 .timeout_ns = 500};
    const struct rdy_waker nobody = {0};
    struct rdy_join join = {0};
    struct rdy_task_id id;
    void *self = NULL;
    int result = 0;

    assert_int_equal(rdy_spawn(runtime, &spec, &self, &id), 0);
    ((struct test_task *)self)->test = counted;
    assert_int_equal(rdy_join_open(&join, runtime, id), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(rdy_join_poll(&join, &nobody, &result), 0);
    return result;
}

static void deadline_that_passes_during_a_poll_leaves_its_result(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted once = {.polls_max = 1};
    struct counted ever = {0};

    rdy_runtime_pause_clock(runtime);
    assert_int_equal(result_past_the_deadline(runtime, &once), 7);
    assert_int_equal(runtime_stats(runtime).task_timeouts, 0);

    /* while one that is not done by then is not polled again */
    assert_int_equal(result_past_the_deadline(runtime, &ever), -ETIMEDOUT);
    assert_int_equal(ever.polls, 1);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
}

/* --- chains and crowds --- */

struct link_task {
    struct rdy_co co;
    struct rdy_join join;
    uint32_t depth;
    int result;
};

static int poll_link(struct rdy_task *task, void *self);

static void link_drop(void *self)
{
    rdy_join_close(&((struct link_task *)self)->join);
}

static struct rdy_task_id link_spawn(struct rdy_runtime *runtime, uint32_t depth)
{
    struct rdy_task_spec spec = {
        .poll = poll_link, .drop = link_drop, .self_size = sizeof(struct link_task)};
    struct rdy_task_id id;
    void *self = NULL;

    assert_int_equal(rdy_spawn(runtime, &spec, &self, &id), 0);
    ((struct link_task *)self)->depth = depth;
    return id;
}

/* Spawns the next and waits for its result; the last one's is 1. */
static int poll_link(struct rdy_task *task, void *self)
{
    struct link_task *link = self;
    struct rdy_runtime *runtime = rdy_task_runtime(task);

    RDY_BEGIN(&link->co);
    if (link->depth == 0)
        return 1;
    assert_int_equal(rdy_join_open(&link->join, runtime, link_spawn(runtime, link->depth - 1)), 0);
    assert_int_equal(rdy_task_poll_join(&link->join, task, &link->result), RDY_PENDING);
    RDY_AWAIT(&link->co, rdy_task_poll_join(&link->join, task, &link->result));
    RDY_END(&link->co);
    return link->result + 1;
}

static void chain_of_joins_hands_the_result_up(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    const struct rdy_waker nobody = {0};
    struct rdy_join join = {0};
    int result = 0;

    assert_int_equal(rdy_join_open(&join, runtime, link_spawn(runtime, DEPTH)), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(rdy_join_poll(&join, &nobody, &result), 0);
    assert_int_equal(result, DEPTH + 1);
    assert_int_equal(runtime_stats(runtime).tasks_live, 0);
}

static int poll_number(struct rdy_task *task, void *self)
{
    (void)task;
    return (int)(uintptr_t)((struct test_task *)self)->test;
}

struct crowd {
    struct rdy_join joins[CROWD];
    struct rdy_task_id ids[CROWD];
    bool has_ended[CROWD];
    uint32_t ended;
    int64_t sum;
};

static struct crowd crowd;

/* Waits for all of a crowd that the first poll spawned, in whatever order they end. */
static int poll_joins_a_crowd(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct rdy_runtime *runtime = rdy_task_runtime(task);
    int result = 0;

    for (uint32_t i = 0; my->co.line == 0 && i < CROWD; i++) {
        crowd.ids[i] = spawn_test(runtime, poll_number, NULL, (void *)(uintptr_t)i);
        assert_int_equal(rdy_join_open(&crowd.joins[i], runtime, crowd.ids[i]), 0);
    }
    my->co.line = 1;
    for (uint32_t i = 0; i < CROWD; i++) {
        if (crowd.has_ended[i] || rdy_task_poll_join(&crowd.joins[i], task, &result) != 0)
            continue;
        crowd.has_ended[i] = true;
        crowd.ended++;
        crowd.sum += result;
        rdy_join_close(&crowd.joins[i]);
    }
    return crowd.ended == CROWD ? 0 : RDY_PENDING;
}

static void task_spawns_a_crowd_and_hears_of_each(void **state)
{
    memset(&crowd, 0, sizeof(crowd));
    (void)spawn_test(runtime_of(state), poll_joins_a_crowd, NULL, NULL);
    assert_int_equal(rdy_runtime_run(runtime_of(state)), 0);

    assert_int_equal(crowd.ended, CROWD);
    assert_int_equal(crowd.sum, CROWD * (CROWD - 1) / 2);
}

static int poll_waits(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return RDY_PENDING;
}

static int poll_aborts_a_crowd(struct rdy_task *task, void *self)
{
    (void)self;
    for (uint32_t i = CROWD; i-- > 0;)
        assert_int_equal(rdy_task_abort(rdy_task_runtime(task), crowd.ids[i]), 0);
    return 0;
}

/* Half of them wait, half never ran: to each join the same. */
static void abort_of_a_crowd_cancels_every_join(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    const struct rdy_waker nobody = {0};

    memset(&crowd, 0, sizeof(crowd));
    for (uint32_t i = 0; i < CROWD; i++) {
        if (i == CROWD / 2)
            (void)spawn_test(runtime, poll_aborts_a_crowd, NULL, NULL);
        crowd.ids[i] = spawn_test(runtime, poll_waits, NULL, NULL);
        assert_int_equal(rdy_join_open(&crowd.joins[i], runtime, crowd.ids[i]), 0);
    }
    assert_int_equal(rdy_runtime_run(runtime), 0);

    for (uint32_t i = 0; i < CROWD; i++) {
        int result = 0;

        assert_int_equal(rdy_join_poll(&crowd.joins[i], &nobody, &result), 0);
        assert_int_equal(result, -ECANCELED);
    }
    assert_int_equal(runtime_stats(runtime).task_aborts, CROWD);
}

/* --- drops --- */

static struct rdy_runtime *closing;
static struct rdy_waker ring[3];
static uint32_t ring_drops;
static struct rdy_timer drop_timer;

static int poll_joins_the_ring(struct rdy_task *task, void *self)
{
    size_t place = (size_t)(uintptr_t)((struct test_task *)self)->test;

    ring[place] = rdy_task_waker(task);
    return RDY_PENDING;
}

static void drop_wakes_the_ring(void *self)
{
    (void)self;
    ring_drops++;
    for (int i = 0; i < 3; i++)
        rdy_waker_wake(&ring[i]);
}

static void drops_that_wake_each_other_during_a_close_are_harmless(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime *runtime = fixture->runtime;

    ring_drops = 0;
    for (uintptr_t i = 0; i < 3; i++)
        (void)spawn_test(runtime, poll_joins_the_ring, drop_wakes_the_ring, (void *)i);
    (void)spawn_test(runtime, poll_stops, NULL, NULL);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    rdy_runtime_close(runtime);
    fixture->runtime = NULL;
    assert_int_equal(ring_drops, 3);
}

static void drop_uses_its_runtime(void *self)
{
    struct rdy_task_spec spec = {.poll = poll_waits};
    const struct rdy_waker nobody = {0};

    (void)self;
    ring_drops++;
    assert_true(rdy_runtime_now_ns(closing) > 0);
    assert_int_equal(rdy_spawn(closing, &spec, NULL, NULL), -ESHUTDOWN);
    assert_int_equal(rdy_spawn_remote(closing, &spec, NULL), -ESHUTDOWN);
    assert_int_equal(rdy_task_abort(closing, (struct rdy_task_id){0}), -ESRCH);
    rdy_timer_arm(&drop_timer, closing, 1, &nobody);
    rdy_runtime_stop(closing);
}

static void drop_may_use_its_runtime_during_the_close(void **state)
{
    struct runtime_fixture *fixture = *state;

    closing = fixture->runtime;
    ring_drops = 0;
    drop_timer = (struct rdy_timer){0};
    for (int i = 0; i < 3; i++)
        (void)spawn_test(closing, poll_waits, drop_uses_its_runtime, NULL);
    rdy_runtime_close(closing);
    fixture->runtime = NULL;

    assert_int_equal(ring_drops, 3);
    assert_false(rdy_timer_cancel(&drop_timer));
}

/* --- other threads --- */

struct order_to_abort {
    struct rdy_runtime *runtime;
    struct rdy_task_id id;
};

static int poll_aborts_another(struct rdy_task *task, void *self)
{
    struct order_to_abort *order = self;

    (void)task;
    return rdy_task_abort(order->runtime, order->id);
}

static void *thread_sends_an_abort(void *arg)
{
    struct order_to_abort *order = arg;
    struct rdy_task_spec spec = {.poll = poll_aborts_another, .self_size = sizeof(*order)};

    return (void *)(intptr_t)rdy_spawn_remote(order->runtime, &spec, order);
}

/* An abort is a call of the runtime's thread; another thread sends a task to make it. */
static void another_thread_aborts_by_sending_a_task(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct order_to_abort order = {.runtime = runtime};
    const struct rdy_waker nobody = {0};
    struct rdy_join join = {0};
    pthread_t thread;
    void *sent = NULL;
    int result = 0;

    order.id = spawn_test(runtime, poll_waits, NULL, NULL);
    assert_int_equal(rdy_join_open(&join, runtime, order.id), 0);
    assert_int_equal(pthread_create(&thread, NULL, thread_sends_an_abort, &order), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(pthread_join(thread, &sent), 0);

    assert_null(sent);
    assert_int_equal(rdy_join_poll(&join, &nobody, &result), 0);
    assert_int_equal(result, -ECANCELED);
    /* The run ends with the last task: the one that was sent may wait for the next. */
    assert_int_equal(rdy_runtime_run(runtime), 0);
}

static pthread_key_t last_words;

static void wake_at_the_end(void *value)
{
    rdy_waker_wake(value);
}

static void *thread_ends_with_a_wake(void *arg)
{
    (void)pthread_setspecific(last_words, arg);
    return NULL;
}

static int poll_waits_for_last_words(struct rdy_task *task, void *self)
{
    struct counted *counted = ((struct test_task *)self)->test;

    if (++counted->polls == 2)
        return 0;
    counted->waker = rdy_task_waker(task);
    return RDY_PENDING;
}

static void wake_from_a_thread_that_is_ending_arrives(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct counted counted = {0};
    pthread_t thread;

    assert_int_equal(pthread_key_create(&last_words, wake_at_the_end), 0);
    (void)spawn_test(runtime, poll_waits_for_last_words, NULL, &counted);
    (void)spawn_test(runtime, poll_stops, NULL, NULL);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(pthread_create(&thread, NULL, thread_ends_with_a_wake, &counted.waker), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(counted.polls, 2);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_key_delete(last_words), 0);
}

/* A ball between two runtimes on threads of their own. */
struct player {
    struct rdy_runtime *runtime;
    enum rdy_backend_kind backend;
    struct player *other;
    struct rdy_a32 has_ball;
    struct rdy_a32 is_ready;
    struct rdy_waker waker; /* written before is_ready */
    uint32_t rallies;
    int rc;
};

static struct player players[2];

static int poll_plays(struct rdy_task *task, void *self)
{
    struct player *player = ((struct test_task *)self)->test;

    if (rdy_a32_load_relaxed(&player->is_ready) == 0) {
        player->waker = rdy_task_waker(task);
        rdy_a32_store_release(&player->is_ready, 1);
    }
    if (rdy_a32_load_acquire(&player->other->is_ready) == 0) {
        rdy_task_defer(task);
        return RDY_PENDING;
    }
    while (player->rallies < 1000) {
        if (rdy_a32_swap_acq_rel(&player->has_ball, 0) == 0)
            return RDY_PENDING;
        player->rallies++;
        rdy_a32_store_release(&player->other->has_ball, 1);
        rdy_waker_wake(&player->other->waker);
    }
    return 0;
}

static struct rdy_a32 players_done;

/* Neither closes before both are done: a waker is good until its runtime is closed. */
static void *thread_plays(void *arg)
{
    struct player *player = arg;

    player->runtime = runtime_open(player->backend);
    (void)spawn_test(player->runtime, poll_plays, NULL, player);
    player->rc = rdy_runtime_run(player->runtime);
    (void)rdy_a32_add_seq_cst(&players_done, 1);
    while (rdy_a32_load_seq_cst(&players_done) < 2)
        (void)sched_yield();
    rdy_runtime_close(player->runtime);
    return NULL;
}

static void runtimes_of_two_threads_wake_each_other(void **state)
{
    pthread_t threads[2];

    memset(players, 0, sizeof(players));
    rdy_a32_store_relaxed(&players_done, 0);
    rdy_a32_store_relaxed(&players[0].has_ball, 1);
    for (int i = 0; i < 2; i++) {
        players[i].backend = ((struct runtime_fixture *)*state)->backend;
        players[i].other = &players[1 - i];
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_plays, &players[i]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(players[i].rc, 0);
        assert_int_equal(players[i].rallies, 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(spawned_task_does_not_run_before_the_runtime_does),
        ON_BOTH(task_is_polled_once_for_each_wake_and_no_more),
        ON_BOTH(wake_and_defer_in_one_poll_are_one_poll_after_a_turn),
        ON_BOTH(stop_within_a_round_loses_nobody_and_no_order),
        ON_BOTH(deadline_that_passes_during_a_poll_leaves_its_result),
        ON_BOTH(chain_of_joins_hands_the_result_up),
        ON_BOTH(task_spawns_a_crowd_and_hears_of_each),
        ON_BOTH(abort_of_a_crowd_cancels_every_join),
        ON_BOTH(drops_that_wake_each_other_during_a_close_are_harmless),
        ON_BOTH(drop_may_use_its_runtime_during_the_close),
        ON_BOTH(another_thread_aborts_by_sending_a_task),
        ON_BOTH(wake_from_a_thread_that_is_ending_arrives),
        ON_BOTH(runtimes_of_two_threads_wake_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
