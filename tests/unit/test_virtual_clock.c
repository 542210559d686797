/* SPDX-License-Identifier: MIT */
/*
 * The paused clock: it stands, it goes to the next timer when nothing can run, and timers fire in
 * the order of their deadlines, whatever time of the kernel's clock the test was started at.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <pthread.h>

#include <rdy/timer.h>

#include "engine/base.h"
#include "engine/sys.h"

#define MS      ((uint64_t)RDY_NS_PER_MS)
#define HOUR_NS (UINT64_C(3600000) * MS)

/* Sleeps once, and notes when it went on, and after how many others. */
struct sleeper {
    struct rdy_timer timer;
    uint64_t sleep_ns;
    uint64_t woke_ns;
    uint32_t *order;
    uint32_t place;
};

static int poll_sleeps(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct sleeper *sleeper = my->test;

    RDY_BEGIN(&my->co);
    RDY_SLEEP(&my->co, &sleeper->timer, task, sleeper->sleep_ns);
    RDY_END(&my->co);
    sleeper->woke_ns = rdy_runtime_now_ns(rdy_task_runtime(task));
    sleeper->place = (*sleeper->order)++;
    return 0;
}

static uint64_t pause_now(struct rdy_runtime *runtime)
{
    rdy_runtime_pause_clock(runtime);
    return rdy_runtime_now_ns(runtime);
}

static void clock_goes_to_the_next_timer_when_nothing_can_run(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);
    uint32_t order = 0;
    struct sleeper sleepers[3] = {
        {.sleep_ns = 2 * HOUR_NS, .order = &order},
        {.sleep_ns = 24 * HOUR_NS, .order = &order},
        {.sleep_ns = 1, .order = &order},
    };

    for (int i = 0; i < 3; i++)
        (void)spawn_test(runtime, poll_sleeps, NULL, &sleepers[i]);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    for (int i = 0; i < 3; i++)
        assert_int_equal(sleepers[i].woke_ns, start_ns + sleepers[i].sleep_ns);
    assert_int_equal(sleepers[2].place, 0);
    assert_int_equal(sleepers[0].place, 1);
    assert_int_equal(sleepers[1].place, 2);
    assert_int_equal(rdy_runtime_now_ns(runtime), start_ns + 24 * HOUR_NS);
}

struct yielder {
    uint64_t start_ns;
    int yields;
};

static int poll_yields(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct yielder *yielder = my->test;

    RDY_BEGIN(&my->co);
    for (yielder->yields = 0; yielder->yields < 1000; yielder->yields++) {
        assert_int_equal(rdy_runtime_now_ns(rdy_task_runtime(task)), yielder->start_ns);
        RDY_YIELD(&my->co, task);
    }
    RDY_END(&my->co);
    return 0;
}

static void clock_stands_while_a_task_can_run(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct yielder yielder = {.start_ns = pause_now(runtime)};
    uint32_t order = 0;
    struct sleeper sleeper = {.sleep_ns = 1, .order = &order};

    (void)spawn_test(runtime, poll_sleeps, NULL, &sleeper);
    (void)spawn_test(runtime, poll_yields, NULL, &yielder);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(yielder.yields, 1000);
    assert_int_equal(sleeper.woke_ns, yielder.start_ns + 1);
}

/* 200 bytes there and back, one by one: each a turn in which no task can run at first. */
static int poll_echoes_bytes(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct rdy_stream *stream = my->test;
    char byte;
    ssize_t count;

    while ((count = rdy_stream_poll_read(stream, task, &byte, 1)) > 0)
        assert_int_equal(rdy_stream_poll_write(stream, task, &byte, 1), 1);
    return (int)count;
}

static int poll_asks_200_times(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct pair *pair = my->test;

    RDY_BEGIN(&my->co);
    for (pair->step = 0; pair->step < 200; pair->step++) {
        assert_int_equal(rdy_stream_poll_write(&pair->client, task, "?", 1), 1);
        RDY_AWAIT(&my->co, (pair->result = RDY_TIMEOUT(
                                &pair->timer, task, rdy_runtime_now_ns(pair->runtime) + 1,
                                rdy_stream_poll_read(&pair->client, task, pair->buf, 1))));
        assert_int_equal(pair->result, 1);
    }
    RDY_END(&my->co);
    rdy_stream_close(&pair->client);
    return 0;
}

/* The tightest deadline there is, and it is never met: what is ready goes before the clock. */
static void clock_stands_while_sockets_bring_something(void **state)
{
    struct pair pair;
    uint64_t start_ns;

    pair_open(&pair, state);
    start_ns = pause_now(pair.runtime);
    pair_unix(&pair);
    assert_int_equal(fcntl(pair.peer, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(rdy_stream_from_fd(&pair.client, pair.runtime, pair.peer), 0);
    pair.peer = -1;
    (void)spawn_test(pair.runtime, poll_echoes_bytes, NULL, &pair.server);
    (void)spawn_test(pair.runtime, poll_asks_200_times, NULL, &pair);

    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    assert_int_equal(pair.step, 200);
    assert_int_equal(rdy_runtime_now_ns(pair.runtime), start_ns);
    assert_int_equal(runtime_stats(pair.runtime).timers_fired, 0);
    pair_close(&pair);
}

#define CROWD 256

/* Many streams become readable, and only the last has somebody who waits. */
struct crowd {
    struct rdy_stream streams[CROWD];
    int peers[CROWD];
    struct rdy_timer timer;
    uint64_t deadline_ns;
    ssize_t result;
};

static int poll_reads_the_last(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct crowd *crowd = my->test;
    char byte;

    RDY_BEGIN(&my->co);
    RDY_AWAIT(&my->co, (crowd->result = RDY_TIMEOUT(
                            &crowd->timer, task, crowd->deadline_ns,
                            rdy_stream_poll_read(&crowd->streams[CROWD - 1], task, &byte, 1))));
    RDY_END(&my->co);
    return 0;
}

static int poll_writes_to_all(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct crowd *crowd = my->test;

    RDY_BEGIN(&my->co);
    RDY_YIELD(&my->co, task);
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(write(crowd->peers[i], "!", 1), 1);
    RDY_END(&my->co);
    return 0;
}

/* A ring hands out its work in portions: a turn that wakes nobody need not be the last one. */
static void clock_stands_until_a_turn_brings_nothing(void **state)
{
    static struct crowd crowd;
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);

    crowd = (struct crowd){.deadline_ns = start_ns + 1};
    for (int i = 0; i < CROWD; i++) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                         0);
        assert_int_equal(rdy_stream_from_fd(&crowd.streams[i], runtime, fds[0]), 0);
        crowd.peers[i] = fds[1];
    }
    (void)spawn_test(runtime, poll_reads_the_last, NULL, &crowd);
    (void)spawn_test(runtime, poll_writes_to_all, NULL, &crowd);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(crowd.result, 1);
    assert_int_equal(rdy_runtime_now_ns(runtime), start_ns);
    for (int i = 0; i < CROWD; i++) {
        rdy_stream_close(&crowd.streams[i]);
        assert_int_equal(close(crowd.peers[i]), 0);
    }
}

#define ALARMS 64

/* Timers without tasks, and the order in which they fired. */
struct alarms {
    struct rdy_timer timers[ALARMS];
    uint64_t deadlines_ns[ALARMS];
    uint32_t fired[ALARMS];
    uint32_t fired_count;
};

static struct alarms alarms;

static void alarm_note(void *arg, uint64_t index)
{
    assert_ptr_equal(arg, &alarms);
    assert_true(alarms.fired_count < ALARMS);
    alarms.fired[alarms.fired_count++] = (uint32_t)index;
}

/* Deadlines that share slots of the wheel of any size, each one four times. */
static void alarms_arm(struct rdy_runtime *runtime, uint64_t round)
{
    uint64_t random = round * UINT64_C(0x9e3779b97f4a7c15) + 1;
    uint64_t now_ns = rdy_runtime_now_ns(runtime);

    alarms.fired_count = 0;
    for (uint32_t i = 0; i < ALARMS; i++) {
        struct rdy_waker waker = {alarm_note, &alarms, i};

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        alarms.deadlines_ns[i] = i % 4 != 0 ? alarms.deadlines_ns[i - i % 4]
                                            : now_ns + 1 + (random >> (34 + random % 20));
        rdy_timer_arm(&alarms.timers[i], runtime, alarms.deadlines_ns[i], &waker);
    }
}

/* By deadline, then by arming. */
static void alarms_check(void)
{
    assert_int_equal(alarms.fired_count, ALARMS);
    for (uint32_t i = 1; i < ALARMS; i++) {
        uint32_t before = alarms.fired[i - 1];
        uint32_t after = alarms.fired[i];

        assert_true(alarms.deadlines_ns[before] <= alarms.deadlines_ns[after]);
        if (alarms.deadlines_ns[before] == alarms.deadlines_ns[after])
            assert_true(before < after);
    }
}

/* Advances far beyond all deadlines, and sees them fired after a nanosecond of sleep. */
static int poll_advances(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct sleeper *sleeper = my->test;

    RDY_BEGIN(&my->co);
    assert_int_equal(rdy_runtime_advance(rdy_task_runtime(task), HOUR_NS), 0);
    assert_int_equal(alarms.fired_count, 0);
    RDY_SLEEP(&my->co, &sleeper->timer, task, 1);
    alarms_check();
    RDY_END(&my->co);
    sleeper->place++;
    return 0;
}

static void timers_fire_in_the_order_of_deadlines_however_far_the_clock_moves(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct sleeper sleeper = {0};

    (void)pause_now(runtime);
    for (uint64_t round = 0; round < 200; round++) {
        alarms_arm(runtime, round);
        (void)spawn_test(runtime, poll_advances, NULL, &sleeper);
        assert_int_equal(rdy_runtime_run(runtime), 0);
    }
    assert_int_equal(sleeper.place, 200);
    assert_int_equal(runtime_stats(runtime).timers_armed, 0);
}

static void advance_is_refused_unless_paused_and_within_time(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns;

    assert_int_equal(rdy_runtime_advance(runtime, 1), -EPERM);
    start_ns = pause_now(runtime);
    assert_int_equal(rdy_runtime_advance(runtime, UINT64_MAX), -ERANGE);
    assert_int_equal(rdy_runtime_advance(runtime, UINT64_MAX - start_ns), -ERANGE);
    assert_int_equal(rdy_runtime_now_ns(runtime), start_ns);

    assert_int_equal(rdy_runtime_advance(runtime, UINT64_MAX - 1 - start_ns), 0);
    assert_true(rdy_runtime_now_ns(runtime) == UINT64_MAX - 1);
    rdy_runtime_resume_clock(runtime);
    assert_int_equal(rdy_runtime_advance(runtime, 0), -EPERM);
    /* What is left of the time is a nanosecond; then it stands rather than begin anew. */
    assert_true(pause_now(runtime) >= UINT64_MAX - 1);
}

static void resumed_clock_goes_on_from_where_it_stood(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);
    uint32_t order = 0;
    struct sleeper sleeper = {.sleep_ns = MS, .order = &order};
    uint64_t real_ns;
    uint64_t paused_ns;

    assert_int_equal(rdy_runtime_advance(runtime, HOUR_NS), 0);
    rdy_runtime_pause_clock(runtime); /* once more: nothing happens */
    assert_int_equal(rdy_runtime_now_ns(runtime), start_ns + HOUR_NS);
    real_ns = rdy_sys_now_ns();
    rdy_runtime_resume_clock(runtime);
    rdy_runtime_resume_clock(runtime);

    (void)spawn_test(runtime, poll_sleeps, NULL, &sleeper);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_true(rdy_sys_now_ns() - real_ns >= MS);
    assert_true(sleeper.woke_ns >= start_ns + HOUR_NS + MS);

    paused_ns = pause_now(runtime);
    assert_true(paused_ns >= sleeper.woke_ns);
    assert_int_equal(rdy_runtime_now_ns(runtime), paused_ns);
}

static int poll_waits_for_ever(struct rdy_task *task, void *self)
{
    struct rdy_waker *waker = ((struct test_task *)self)->test;

    if (waker->fn)
        return 0;
    *waker = rdy_task_waker(task);
    return RDY_PENDING;
}

static void *thread_stops(void *arg)
{
    rdy_runtime_stop(arg);
    return NULL;
}

/* Without a timer there is nowhere to go: the driver waits for the other thread. */
static void paused_runtime_without_timers_waits_for_other_threads(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);
    struct rdy_waker waker = {0};
    struct rdy_timer never = {0};
    pthread_t thread;

    rdy_timer_arm(&never, runtime, UINT64_MAX, &waker);
    (void)spawn_test(runtime, poll_waits_for_ever, NULL, &waker);
    assert_int_equal(pthread_create(&thread, NULL, thread_stops, runtime), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);

    assert_int_equal(rdy_runtime_now_ns(runtime), start_ns);
    assert_true(rdy_timer_cancel(&never));
}

/* Two tasks that have the place ahead of the queue to themselves: nothing else is queued. */
struct player {
    struct rdy_waker own;
    struct player *other;
    uint64_t start_ns;
    uint32_t polls;
};

static int poll_plays(struct rdy_task *task, void *self)
{
    struct player *player = ((struct test_task *)self)->test;

    player->own = rdy_task_waker(task);
    assert_int_equal(rdy_runtime_now_ns(rdy_task_runtime(task)), player->start_ns);
    rdy_waker_wake(&player->other->own);
    return ++player->polls < 500 ? RDY_PENDING : 0;
}

static void clock_stands_while_two_tasks_wake_each_other(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);
    struct player players[2] = {{.start_ns = start_ns}, {.start_ns = start_ns}};
    struct rdy_waker nobody = {0};
    struct rdy_timer timer = {0};

    players[0].other = &players[1];
    players[1].other = &players[0];
    rdy_timer_arm(&timer, runtime, start_ns + HOUR_NS, &nobody);
    (void)spawn_test(runtime, poll_plays, NULL, &players[0]);
    (void)spawn_test(runtime, poll_plays, NULL, &players[1]);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(players[0].polls + players[1].polls, 1000);
    assert_true(rdy_timer_cancel(&timer));
}

static int poll_looks_at_the_clock(struct rdy_task *task, void *self)
{
    assert_int_equal(rdy_runtime_now_ns(rdy_task_runtime(task)),
                     *(uint64_t *)((struct test_task *)self)->test);
    return 0;
}

/* More than one round begins, so that some are known and wait. */
static void clock_stands_while_arrivals_wait_to_begin(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint64_t start_ns = pause_now(runtime);
    struct test_task init = {.test = &start_ns};
    struct rdy_task_spec spec = {.poll = poll_looks_at_the_clock, .self_size = sizeof(init)};
    struct rdy_waker nobody = {0};
    struct rdy_timer timer = {0};

    rdy_timer_arm(&timer, runtime, start_ns + HOUR_NS, &nobody);
    for (int i = 0; i < 200; i++)
        assert_int_equal(rdy_spawn_remote(runtime, &spec, &init), 0);

    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(runtime_stats(runtime).remote_spawns, 200);
    assert_true(rdy_timer_cancel(&timer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(clock_goes_to_the_next_timer_when_nothing_can_run),
        ON_BOTH(clock_stands_while_a_task_can_run),
        ON_BOTH(clock_stands_while_sockets_bring_something),
        ON_BOTH(clock_stands_until_a_turn_brings_nothing),
        ON_BOTH(timers_fire_in_the_order_of_deadlines_however_far_the_clock_moves),
        ON_BOTH(advance_is_refused_unless_paused_and_within_time),
        ON_BOTH(resumed_clock_goes_on_from_where_it_stood),
        ON_BOTH(clock_stands_while_two_tasks_wake_each_other),
        ON_BOTH(clock_stands_while_arrivals_wait_to_begin),
        ON_BOTH(paused_runtime_without_timers_waits_for_other_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
