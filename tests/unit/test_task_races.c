/* SPDX-License-Identifier: MIT */
/*
 * A task that holds a stream, a timer, a deadline and a joiner ends in every way and at every
 * moment, and leaves nothing behind: slab, wheel, registrations and descriptors are counted.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <pthread.h>

#include "tests/support/stress.h"

#define VICTIMS_COUNT 10000u
#define IN_FLIGHT     16u
#define CLOSES_COUNT  STRESS_ROUNDS(200, 40)
#define CLOSED_WITH   50u
#define HOUR_NS       (UINT64_C(3600) * 1000000000)

/* A task's own struct: all that it holds is inside. */
struct victim {
    struct rdy_stream stream;
    struct rdy_timer timer;
    uint32_t *drops;
    char byte;
    uint32_t mood; /* 0 sleeps, 1 defers, 2 wakes itself */
};

/* Waits for the stream and for its timer at once. */
static int poll_victim(struct rdy_task *task, void *self)
{
    struct victim *victim = self;
    struct rdy_waker waker = rdy_task_waker(task);
    ssize_t count = rdy_stream_poll_read(&victim->stream, task, &victim->byte, 1);

    if (count != RDY_PENDING)
        return (int)count;
    if (rdy_timer_poll_until(&victim->timer, task, HOUR_NS * 24 * 365 * 100) == 0)
        return -EIO;
    if (victim->mood == 1)
        rdy_task_defer(task);
    else if (victim->mood == 2)
        rdy_waker_wake(&waker);
    return RDY_PENDING;
}

static void victim_drop(void *self)
{
    struct victim *victim = self;

    (void)rdy_timer_cancel(&victim->timer);
    rdy_stream_close(&victim->stream);
    (*victim->drops)++;
}

/* One end of a socketpair becomes the victim's, the other is returned. */
static int victim_spawn(struct rdy_runtime *runtime, uint32_t *drops, uint32_t mood,
                        struct rdy_task_id *id)
{
    struct rdy_task_spec spec = {
        .poll = poll_victim,
        .drop = victim_drop,
        .self_size = sizeof(struct victim),
        .name = "victim",
        .timeout_ns = HOUR_NS,
    };
    struct victim *victim;
    void *self = NULL;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(rdy_spawn(runtime, &spec, &self, id), 0);
    victim = self;
    victim->drops = drops;
    victim->mood = mood;
    victim->stream.fd = -1;
    assert_int_equal(rdy_stream_from_fd(&victim->stream, runtime, fds[0]), 0);
    return fds[1];
}

/* A victim in flight. */
struct flight {
    struct rdy_join join;
    struct rdy_task_id id;
    int peer;
    uint32_t plan; /* 1 abort, 2 deadline; the peer's end is closed in any case, by the thread */
    uint32_t delay;
    bool is_up;
};

/* Lets victims end: in each round of the runtime a step for each. */
struct director {
    struct flight flights[IN_FLIGHT];
    uint64_t random;
    uint32_t launched;
    uint32_t landed;
    uint32_t drops;
    uint32_t results[3]; /* ended by itself, aborted, timed out */
    int closer;          /* descriptors to be closed by another thread go in here */
};

static void *thread_closes(void *arg)
{
    int fd = -1;

    while (read(*(int *)arg, &fd, sizeof(fd)) == (ssize_t)sizeof(fd))
        (void)close(fd);
    return NULL;
}

static void hand_to_closer(struct director *director, struct flight *flight)
{
    if (flight->peer < 0)
        return;
    assert_int_equal(write(director->closer, &flight->peer, sizeof(flight->peer)),
                     sizeof(flight->peer));
    flight->peer = -1;
}

static void flight_launch(struct director *director, struct flight *flight,
                          struct rdy_runtime *runtime)
{
    uint64_t random = stress_random(&director->random);

    *flight = (struct flight){.plan = random & 3, .delay = (uint32_t)(random >> 8) & 3};
    flight->is_up = true;
    flight->peer =
        victim_spawn(runtime, &director->drops, (uint32_t)(random >> 16) % 3, &flight->id);
    assert_int_equal(rdy_join_open(&flight->join, runtime, flight->id), 0);
    director->launched++;
    if (random >> 24 & 1)
        hand_to_closer(director, flight);
}

/* The deadline passes in this round; the abort comes at once, or in a later one. */
static void flight_shoot(struct director *director, struct flight *flight,
                         struct rdy_runtime *runtime)
{
    int rc;

    if (flight->delay-- > 0)
        return;
    flight->delay = 0;
    if (flight->plan & 2) {
        rc = rdy_task_set_deadline(runtime, flight->id, 1);
        assert_true(rc == 0 || rc == -ESRCH);
        flight->plan &= ~2u;
        if (stress_random(&director->random) & 1)
            return;
    }
    if (flight->plan & 1) {
        rc = rdy_task_abort(runtime, flight->id);
        assert_true(rc == 0 || rc == -ESRCH);
        flight->plan &= ~1u;
        return;
    }
    hand_to_closer(director, flight);
}

static void flight_land(struct director *director, struct flight *flight, int result)
{
    assert_true(result == 0 || result == -ECANCELED || result == -ETIMEDOUT);
    director->results[result == 0 ? 0 : result == -ECANCELED ? 1 : 2]++;
    director->landed++;
    hand_to_closer(director, flight);
    rdy_join_close(&flight->join);
    flight->is_up = false;
}

static int poll_directs(struct rdy_task *task, void *self)
{
    struct director *director = ((struct test_task *)self)->test;
    struct rdy_runtime *runtime = rdy_task_runtime(task);

    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        struct flight *flight = &director->flights[i];
        int result = 0;

        if (!flight->is_up && director->launched < VICTIMS_COUNT)
            flight_launch(director, flight, runtime);
        if (!flight->is_up)
            continue;
        flight_shoot(director, flight, runtime);
        if (rdy_task_poll_join(&flight->join, task, &result) == 0)
            flight_land(director, flight, result);
    }
    if (director->landed == VICTIMS_COUNT)
        return 0;
    rdy_task_defer(task);
    return RDY_PENDING;
}

static void ten_thousand_ends_leave_nothing_behind(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct director director = {.random = 88172645463325252};
    struct rdy_runtime_stats stats;
    int before = descriptors_count();
    pthread_t thread;
    int pipe_fds[2];

    assert_int_equal(pipe(pipe_fds), 0);
    director.closer = pipe_fds[1];
    assert_int_equal(pthread_create(&thread, NULL, thread_closes, &pipe_fds[0]), 0);
    (void)spawn_test(runtime, poll_directs, NULL, &director);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(close(pipe_fds[1]), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(close(pipe_fds[0]), 0);

    assert_int_equal(director.drops, VICTIMS_COUNT);
    for (int i = 0; i < 3; i++)
        assert_true(director.results[i] > 0);
    stats = runtime_stats(runtime);
    assert_int_equal(stats.tasks_live, 0);
    assert_int_equal(stats.timers_armed, 0);
    assert_int_equal(stats.tasks_spawned, VICTIMS_COUNT + 1);
    assert_int_equal(stats.tasks_ended, VICTIMS_COUNT + 1);
    assert_int_equal(stats.task_aborts, director.results[1]);
    assert_int_equal(stats.task_timeouts, director.results[2]);
    assert_int_equal(driver_stats(runtime).entries_live, 0);
    assert_int_equal(driver_stats(runtime).cancels_pending, 0);
    assert_int_equal(descriptors_count(), before);
}

static int poll_stops(struct rdy_task *task, void *self)
{
    (void)self;
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

/* Idle, queued, deferred, never polled, aborted: all of them while their runtime is closed. */
static void close_in_the_middle_leaves_nothing_behind(void **state)
{
    struct runtime_fixture *fixture = *state;
    uint64_t random = 88172645463325252;
    int before = descriptors_count();

    for (int round = 0; round < CLOSES_COUNT; round++) {
        struct rdy_runtime *runtime = runtime_open(fixture->backend);
        struct rdy_join joins[CLOSED_WITH] = {0};
        struct rdy_waker nobody = {0};
        int peers[CLOSED_WITH];
        uint32_t drops = 0;

        for (uint32_t i = 0; i < CLOSED_WITH; i++) {
            struct rdy_task_id id;

            if (i == CLOSED_WITH / 2) {
                (void)spawn_test(runtime, poll_stops, NULL, NULL);
                assert_int_equal(rdy_runtime_run(runtime), 0);
            }
            peers[i] = victim_spawn(runtime, &drops, (uint32_t)stress_random(&random) % 3, &id);
            assert_int_equal(rdy_join_open(&joins[i], runtime, id), 0);
            if ((stress_random(&random) & 7) == 0)
                assert_int_equal(rdy_task_abort(runtime, id), 0);
        }
        rdy_runtime_close(runtime);

        assert_int_equal(drops, CLOSED_WITH);
        for (uint32_t i = 0; i < CLOSED_WITH; i++) {
            int result = 0;

            assert_int_equal(rdy_join_poll(&joins[i], &nobody, &result), 0);
            assert_int_equal(result, -ECANCELED);
            assert_int_equal(close(peers[i]), 0);
        }
    }
    assert_int_equal(descriptors_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(ten_thousand_ends_leave_nothing_behind),
        ON_BOTH(close_in_the_middle_leaves_nothing_behind),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
