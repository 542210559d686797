/* SPDX-License-Identifier: MIT */
/*
 * Tasks that wait for a datagram, a connection, the other end of one, a task of their own, under
 * nested timeouts, end in every way and at every moment: aborted, past their deadline, answered by
 * another thread, while a third wakes them for nothing. Slab, wheel, registrations and descriptors
 * are counted to zero afterwards.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <pthread.h>

#include <rdy/datagram.h>
#include <rdy/timer.h>

#include "engine/runtime.h"
#include "tests/support/stress.h"

#define VICTIMS_COUNT 10000u
#define IN_FLIGHT     16u
#define CLOSES_COUNT  STRESS_ROUNDS(150, 30)
#define CLOSED_WITH   24u
#define HOUR_NS       (UINT64_C(3600) * 1000000000)

enum kind {
    KIND_RECEIVES,
    KIND_ACCEPTS,
    KIND_CONNECTS,
    KIND_JOINS,
    KIND_COUNT,
};

/* What a helper thread is to do: send a datagram to a port, or dial it and hang up. */
struct errand {
    uint16_t port;
    uint16_t is_tcp; /* no bool: behind it would be a byte that is sent and that nobody wrote */
};

static struct race {
    struct rdy_runtime *runtime;
    uint64_t random;
    uint32_t spawned;
    uint32_t drops;
    uint32_t landed;
    uint32_t results[4];          /* an answer, aborted, timed out, refused */
    struct sockaddr_in full_addr; /* a listener whose queue is full: connecting to it hangs */
    int full_fds[10];
    int errands; /* to the thread that runs them */
    int errands_end;
    pthread_t runner;
    pthread_t waker;
    pthread_mutex_t wakers_lock;
    struct rdy_waker wakers[IN_FLIGHT];
    struct rdy_a32 has_to_stop;
} race;

struct victim {
    enum kind kind;
    struct rdy_datagram datagram;
    struct rdy_listener listener;
    struct rdy_stream stream;
    struct rdy_join child;
    struct rdy_task_id child_id;
    struct rdy_timer inner;
    struct rdy_timer outer;
    uint64_t inner_ns;
};

static ssize_t victim_tries(struct victim *victim, struct rdy_task *task)
{
    char byte;
    int result = 0;
    int rc;

    switch (victim->kind) {
    case KIND_RECEIVES:
        return rdy_datagram_poll_recv(&victim->datagram, task, &byte, 1, NULL);
    case KIND_ACCEPTS:
        return rdy_listener_poll_accept(&victim->listener, task, &victim->stream);
    case KIND_CONNECTS:
        return rdy_stream_poll_connect(&victim->stream, task);
    case KIND_JOINS:
    case KIND_COUNT:
        break;
    }
    rc = rdy_task_poll_join(&victim->child, task, &result);
    return rc == 0 ? result : rc;
}

static int poll_victim(struct rdy_task *task, void *self)
{
    struct victim *victim = self;
    ssize_t rc = RDY_TIMEOUT(
        &victim->outer, task, HOUR_NS * 24 * 365 * 100,
        RDY_TIMEOUT(&victim->inner, task, victim->inner_ns, victim_tries(victim, task)));

    return rc > 0 ? 0 : (int)rc;
}

static void victim_drop(void *self)
{
    struct victim *victim = self;

    (void)rdy_timer_cancel(&victim->inner);
    (void)rdy_timer_cancel(&victim->outer);
    rdy_datagram_close(&victim->datagram);
    rdy_listener_close(&victim->listener);
    rdy_stream_close(&victim->stream);
    rdy_join_close(&victim->child);
    if (victim->child_id.generation != 0)
        (void)rdy_task_abort(race.runtime, victim->child_id);
    race.drops++;
}

static void run_errand(uint16_t port, bool is_tcp)
{
    struct errand errand = {.port = port, .is_tcp = is_tcp};

    assert_int_equal(write(race.errands, &errand, sizeof(errand)), sizeof(errand));
}

static struct rdy_task_id victim_spawn(enum kind kind);

/* Opens what the victim waits for; for half of them something is on its way. */
static void victim_prepare(struct victim *victim)
{
    struct sockaddr_in any_port = loopback(0);
    struct sockaddr_storage bound;
    socklen_t len = 0;
    bool is_answered = (stress_random(&race.random) >> 20 & 1) != 0;

    switch (victim->kind) {
    case KIND_RECEIVES:
        assert_int_equal(rdy_datagram_open(&victim->datagram, race.runtime, AF_INET, NULL), 0);
        assert_int_equal(
            rdy_datagram_bind(&victim->datagram, (struct sockaddr *)&any_port, sizeof(any_port)),
            0);
        assert_int_equal(rdy_datagram_local_address(&victim->datagram, &bound, &len), 0);
        break;
    case KIND_ACCEPTS:
        assert_int_equal(rdy_listener_open(&victim->listener, race.runtime,
                                           (struct sockaddr *)&any_port, sizeof(any_port), NULL),
                         0);
        assert_int_equal(rdy_listener_address(&victim->listener, &bound, &len), 0);
        break;
    case KIND_CONNECTS:
        assert_int_equal(rdy_stream_start_connect(&victim->stream, race.runtime,
                                                  (struct sockaddr *)&race.full_addr,
                                                  sizeof(race.full_addr)),
                         0);
        return;
    case KIND_JOINS:
    case KIND_COUNT:
        victim->child_id = victim_spawn((enum kind)(stress_random(&race.random) % KIND_JOINS));
        assert_int_equal(rdy_join_open(&victim->child, race.runtime, victim->child_id), 0);
        return;
    }
    if (is_answered)
        run_errand(ntohs(((struct sockaddr_in *)&bound)->sin_port), victim->kind == KIND_ACCEPTS);
}

static struct rdy_task_id victim_spawn(enum kind kind)
{
    struct rdy_task_spec spec = {
        .poll = poll_victim,
        .drop = victim_drop,
        .self_size = sizeof(struct victim),
        .timeout_ns = HOUR_NS,
    };
    struct rdy_task_id id;
    struct victim *victim;
    void *self = NULL;

    assert_int_equal(rdy_spawn(race.runtime, &spec, &self, &id), 0);
    race.spawned++;
    victim = self;
    victim->kind = kind;
    victim->datagram.fd = -1;
    victim->listener.fd = -1;
    victim->stream.fd = -1;
    victim->inner_ns = HOUR_NS * 24 * 365 * 100;
    if ((stress_random(&race.random) & 7) == 0)
        victim->inner_ns = rdy_runtime_now_ns(race.runtime) + stress_random(&race.random) % 100000;
    victim_prepare(victim);
    return id;
}

/* --- the other threads --- */

static void *thread_runs_errands(void *arg)
{
    struct errand errand;

    while (read(*(int *)arg, &errand, sizeof(errand)) == (ssize_t)sizeof(errand)) {
        struct sockaddr_in addr = loopback(errand.port);
        int type = errand.is_tcp ? SOCK_STREAM : SOCK_DGRAM;
        int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        /* The victim may be gone by now, and its port with it. */
        if (errand.is_tcp)
            (void)connect(fd, (struct sockaddr *)&addr, sizeof(addr));
        else
            (void)sendto(fd, "x", 1, 0, (struct sockaddr *)&addr, sizeof(addr));
        (void)close(fd);
    }
    return NULL;
}

/* Wakes whoever is in flight, and those who were: for nothing, and stale. */
static void *thread_wakes(void *arg)
{
    (void)arg;
    while (rdy_a32_load_relaxed(&race.has_to_stop) == 0) {
        for (uint32_t i = 0; i < IN_FLIGHT; i++) {
            struct rdy_waker waker;

            (void)pthread_mutex_lock(&race.wakers_lock);
            waker = race.wakers[i];
            (void)pthread_mutex_unlock(&race.wakers_lock);
            rdy_waker_wake(&waker);
        }
        (void)sched_yield();
    }
    return NULL;
}

static void waker_publish(uint32_t i, struct rdy_task_id id)
{
    struct rdy_task *task = rdy_task_find(race.runtime, id);

    (void)pthread_mutex_lock(&race.wakers_lock);
    race.wakers[i] = rdy_task_waker(task);
    (void)pthread_mutex_unlock(&race.wakers_lock);
}

/* A listener nobody accepts from, its queue filled up. */
static void full_listener_open(void)
{
    struct sockaddr_in addr = loopback(0);
    socklen_t len = sizeof(race.full_addr);

    race.full_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(race.full_fds[0], (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(race.full_fds[0], 0), 0);
    assert_int_equal(getsockname(race.full_fds[0], (struct sockaddr *)&race.full_addr, &len), 0);
    for (int i = 1; i < 10; i++) {
        race.full_fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(race.full_fds[i], (struct sockaddr *)&race.full_addr, len);
    }
}

static void race_begin(struct rdy_runtime *runtime)
{
    int fds[2];

    memset(&race, 0, sizeof(race));
    race.runtime = runtime;
    race.random = 88172645463325252;
    assert_int_equal(pthread_mutex_init(&race.wakers_lock, NULL), 0);
    full_listener_open();
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    race.errands_end = fds[0];
    race.errands = fds[1];
    assert_int_equal(pthread_create(&race.runner, NULL, thread_runs_errands, &race.errands_end), 0);
    assert_int_equal(pthread_create(&race.waker, NULL, thread_wakes, NULL), 0);
}

/* The wakes end before the runtime may be closed. */
static void race_stop_wakes(void)
{
    rdy_a32_store_relaxed(&race.has_to_stop, 1);
    assert_int_equal(pthread_join(race.waker, NULL), 0);
}

static void race_end(void)
{
    assert_int_equal(close(race.errands), 0);
    assert_int_equal(pthread_join(race.runner, NULL), 0);
    assert_int_equal(close(race.errands_end), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(close(race.full_fds[i]), 0);
    assert_int_equal(pthread_mutex_destroy(&race.wakers_lock), 0);
}

/* --- ten thousand ends --- */

struct flight {
    struct rdy_join join;
    struct rdy_task_id id;
    uint32_t plan; /* 1 abort, 2 deadline, or both */
    uint32_t delay;
    bool is_up;
};

static struct flight flights[IN_FLIGHT];

static void flight_launch(uint32_t i)
{
    struct flight *flight = &flights[i];
    uint64_t random = stress_random(&race.random);

    *flight =
        (struct flight){.plan = 1 + (uint32_t)random % 3, .delay = (uint32_t)(random >> 8) & 3};
    flight->is_up = true;
    flight->id = victim_spawn((enum kind)((random >> 16) % KIND_COUNT));
    assert_int_equal(rdy_join_open(&flight->join, race.runtime, flight->id), 0);
    waker_publish(i, flight->id);
}

static void flight_shoot(struct flight *flight)
{
    int rc;

    if (flight->delay-- > 0)
        return;
    flight->delay = 0;
    if (flight->plan & 2) {
        rc = rdy_task_set_deadline(race.runtime, flight->id, 1);
        assert_true(rc == 0 || rc == -ESRCH);
        flight->plan &= ~2u;
        if (stress_random(&race.random) & 1)
            return;
    }
    if (flight->plan & 1) {
        rc = rdy_task_abort(race.runtime, flight->id);
        assert_true(rc == 0 || rc == -ESRCH);
        flight->plan &= ~1u;
    }
}

static void flight_land(struct flight *flight, int result)
{
    switch (result) {
    case 0:
        race.results[0]++;
        break;
    case -ECANCELED:
        race.results[1]++;
        break;
    case -ETIMEDOUT:
        race.results[2]++;
        break;
    default: /* what a connection may say */
        assert_true(result == -ECONNREFUSED || result == -ECONNRESET || result == -ECONNABORTED);
        race.results[3]++;
    }
    race.landed++;
    rdy_join_close(&flight->join);
    flight->is_up = false;
}

static int poll_directs(struct rdy_task *task, void *self)
{
    (void)self;
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        struct flight *flight = &flights[i];
        int result = 0;

        if (!flight->is_up && race.spawned < VICTIMS_COUNT)
            flight_launch(i);
        if (!flight->is_up)
            continue;
        flight_shoot(flight);
        if (rdy_task_poll_join(&flight->join, task, &result) == 0)
            flight_land(flight, result);
    }
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        if (flights[i].is_up) {
            rdy_task_defer(task);
            return RDY_PENDING;
        }
    }
    return 0;
}

static void assert_nothing_left(void)
{
    struct rdy_runtime_stats stats = runtime_stats(race.runtime);

    assert_int_equal(race.drops, race.spawned);
    assert_int_equal(stats.tasks_live, 0);
    assert_int_equal(stats.timers_armed, 0);
    assert_int_equal(stats.tasks_spawned, stats.tasks_ended);
    assert_int_equal(driver_stats(race.runtime).entries_live, 0);
    assert_int_equal(driver_stats(race.runtime).cancels_pending, 0);
}

static void ten_thousand_waits_for_sockets_end_and_leave_nothing(void **state)
{
    int before = descriptors_count();

    race_begin(runtime_of(state));
    (void)spawn_test(race.runtime, poll_directs, NULL, NULL);
    assert_int_equal(rdy_runtime_run(race.runtime), 0);
    race_stop_wakes();
    race_end();

    assert_true(race.spawned >= VICTIMS_COUNT);
    assert_true(race.results[0] > 0 && race.results[1] > 0 && race.results[2] > 0);
    assert_nothing_left();
    assert_int_equal(descriptors_count(), before);
}

/* --- a close in the middle --- */

static struct rdy_a32 parcels_taken;
static struct rdy_a32 parcels_dropped;

static int poll_parcel(struct rdy_task *task, void *self)
{
    (void)self;
    (void)task;
    return 0;
}

static void parcel_drop(void *self)
{
    (void)self;
    (void)rdy_a32_add_seq_cst(&parcels_dropped, 1);
}

static void *thread_spawns_until_refused(void *arg)
{
    struct rdy_task_spec spec = {.poll = poll_parcel, .drop = parcel_drop, .timeout_ns = HOUR_NS};

    while (rdy_spawn_remote(arg, &spec, NULL) == 0)
        (void)rdy_a32_add_seq_cst(&parcels_taken, 1);
    return NULL;
}

/* The runtime's memory lasts until the thread has been refused: close waits for it here. */
static pthread_t parcel_thread;

static void guard_drop(void *self)
{
    (void)self;
    race_stop_wakes();
    assert_int_equal(pthread_join(parcel_thread, NULL), 0);
}

static int poll_waits(struct rdy_task *task, void *self)
{
    (void)self;
    (void)task;
    return RDY_PENDING;
}

static int poll_stops(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    if (++my->co.line <= 3) {
        rdy_task_defer(task);
        return RDY_PENDING;
    }
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

static void close_in_the_middle_of_everything_leaves_nothing(void **state)
{
    struct runtime_fixture *fixture = *state;
    int before = descriptors_count();

    for (int round = 0; round < CLOSES_COUNT; round++) {
        struct rdy_runtime *runtime = runtime_open(fixture->backend);

        race_begin(runtime);
        race.random += (uint64_t)round * 2 + 1;
        rdy_a32_store_relaxed(&parcels_taken, 0);
        rdy_a32_store_relaxed(&parcels_dropped, 0);
        (void)spawn_test(runtime, poll_waits, guard_drop, NULL);
        assert_int_equal(pthread_create(&parcel_thread, NULL, thread_spawns_until_refused, runtime),
                         0);
        for (uint32_t i = 0; i < CLOSED_WITH; i++) {
            struct rdy_task_id id;

            if (i == CLOSED_WITH / 2) {
                (void)spawn_test(runtime, poll_stops, NULL, NULL);
                assert_int_equal(rdy_runtime_run(runtime), 0);
            }
            id = victim_spawn((enum kind)(stress_random(&race.random) % KIND_COUNT));
            waker_publish(i % IN_FLIGHT, id);
            if ((stress_random(&race.random) & 7) == 0)
                assert_int_equal(rdy_task_abort(runtime, id), 0);
        }
        rdy_runtime_close(runtime);
        race_end();

        assert_int_equal(race.drops, race.spawned);
        assert_int_equal(rdy_a32_load_relaxed(&parcels_dropped),
                         rdy_a32_load_relaxed(&parcels_taken));
    }
    assert_int_equal(descriptors_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(ten_thousand_waits_for_sockets_end_and_leave_nothing),
        ON_BOTH(close_in_the_middle_of_everything_leaves_nothing),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
