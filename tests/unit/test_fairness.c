/* SPDX-License-Identifier: MIT */
/*
 * One that always has something to do must not starve a thousand that seldom have. The loud one is,
 * in turn, a connection with endless data, an accept loop, a datagram socket, a task that yields,
 * two that wake each other, wakes and spawns from other threads, and a crowd of timers. Each of its
 * operations may send a byte to one of the quiet; how long that takes to be read is counted in
 * further operations of the loud one, never in time.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/un.h>

#include <rdy/datagram.h>
#include <rdy/serve.h>
#include <rdy/timer.h>

#include "engine/runtime.h"
#include "tests/support/stress.h"

#define QUIET_COUNT    1000u
#define SERVICES_GOAL  (3 * QUIET_COUNT)
#define OPERATIONS_MAX (1000 * SERVICES_GOAL)
#define BUDGET         128u
#define INTERVAL       61u
#define BOUND          (BUDGET + INTERVAL)
#define TIMERS_COUNT   5000u
#define WOKEN_COUNT    64u
#define IN_FLIGHT_MAX  2000u

struct quiet {
    int peer;
    uint64_t sent_at; /* in operations of the loud one */
    bool is_waiting;  /* for its byte to be read */
};

static struct hall {
    struct rdy_runtime *runtime;
    struct quiet quiet[QUIET_COUNT];
    uint64_t random;
    uint64_t operations;
    uint64_t send_every; /* operations */
    uint64_t delay_most;
    uint64_t served;
    bool is_over;
    struct rdy_a32 has_to_stop; /* the other threads */
    struct rdy_a32 in_flight;
    struct rdy_waker wakers[WOKEN_COUNT];
    struct rdy_timer timers[TIMERS_COUNT];
    struct sockaddr_un unix_addr;
    socklen_t unix_len;
} hall;

/* --- the quiet --- */

struct listener_task {
    struct rdy_stream stream;
    struct quiet *quiet;
};

static int poll_quiet(struct rdy_task *task, void *self)
{
    struct listener_task *my = self;
    char byte;

    for (;;) {
        ssize_t count = rdy_stream_poll_read(&my->stream, task, &byte, 1);
        uint64_t delay;

        if (count == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(count, 1);
        assert_true(my->quiet->is_waiting);
        my->quiet->is_waiting = false;
        delay = hall.operations - my->quiet->sent_at;
        if (delay > hall.delay_most)
            hall.delay_most = delay;
        if (++hall.served >= SERVICES_GOAL) {
            hall.is_over = true;
            rdy_runtime_stop(hall.runtime);
        }
    }
}

static void quiet_drop(void *self)
{
    rdy_stream_close(&((struct listener_task *)self)->stream);
}

static void quiet_spawn(struct quiet *quiet)
{
    struct rdy_task_spec spec = {
        .poll = poll_quiet, .drop = quiet_drop, .self_size = sizeof(struct listener_task)};
    struct listener_task *my;
    void *self = NULL;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(rdy_spawn(hall.runtime, &spec, &self, NULL), 0);
    my = self;
    my->stream.fd = -1;
    my->quiet = quiet;
    assert_int_equal(rdy_stream_from_fd(&my->stream, hall.runtime, fds[0]), 0);
    quiet->peer = fds[1];
}

/* Two thousand descriptors, and some. */
static void allow_descriptors(void)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur >= 8192)
        return;
    limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static int poll_lets_all_begin(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    if (++my->co.line == 2 * QUIET_COUNT / INTERVAL) {
        rdy_runtime_stop(hall.runtime);
        return 0;
    }
    rdy_task_defer(task);
    return RDY_PENDING;
}

/* All of the quiet wait for their first byte afterwards. */
static void hall_open(void **state)
{
    allow_descriptors();
    memset(&hall, 0, sizeof(hall));
    hall.runtime = runtime_of(state);
    hall.random = 88172645463325252;
    hall.send_every = 5;
    for (uint32_t i = 0; i < QUIET_COUNT; i++)
        quiet_spawn(&hall.quiet[i]);
    (void)spawn_test(hall.runtime, poll_lets_all_begin, NULL, NULL);
    assert_int_equal(rdy_runtime_run(hall.runtime), 0);
    assert_true(runtime_stats(hall.runtime).task_polls > QUIET_COUNT);
}

/* The loud one may serve @bound operations between a byte and its reader. */
static void hall_close(void **state, uint64_t bound)
{
    struct runtime_fixture *fixture = *state;

    rdy_runtime_close(hall.runtime);
    for (uint32_t i = 0; i < QUIET_COUNT; i++)
        assert_int_equal(close(hall.quiet[i].peer), 0);
    fixture->runtime = runtime_open(fixture->backend); /* for the teardown */

    assert_true(hall.served >= SERVICES_GOAL);
    if (hall.delay_most > bound)
        print_message("the longest wait was %ju operations\n", (uintmax_t)hall.delay_most);
    assert_true(hall.delay_most <= bound);
}

/* The loud one has done something; now and then one of the quiet gets a byte. */
static void hall_count(void)
{
    struct quiet *quiet = &hall.quiet[stress_random(&hall.random) % QUIET_COUNT];

    assert_true(++hall.operations < OPERATIONS_MAX);
    if (hall.operations % hall.send_every != 0 || quiet->is_waiting)
        return;
    quiet->is_waiting = true;
    quiet->sent_at = hall.operations;
    assert_int_equal(send(quiet->peer, "x", 1, MSG_NOSIGNAL), 1);
}

/* --- the loud --- */

struct loud {
    struct rdy_stream stream;
    struct rdy_listener listener;
    struct rdy_datagram datagram;
    int plain;
    struct sockaddr_in addr;
    ssize_t (*operation)(struct loud *loud, struct rdy_task *task);
    struct loud *other; /* of two that wake each other */
    struct rdy_waker own;
};

static int poll_loud(struct rdy_task *task, void *self)
{
    struct loud *loud = ((struct test_task *)self)->test;

    while (!hall.is_over) {
        ssize_t rc = loud->operation(loud, task);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        assert_true(rc >= 0);
        hall_count();
    }
    return 0;
}

static void hall_run(struct loud *loud, ssize_t (*operation)(struct loud *, struct rdy_task *))
{
    loud->operation = operation;
    (void)spawn_test(hall.runtime, poll_loud, NULL, loud);
    assert_int_equal(rdy_runtime_run(hall.runtime), 0);
}

/* What is read is written again at the other end, so that there is always more. */
static ssize_t loud_reads(struct loud *loud, struct rdy_task *task)
{
    char byte;
    ssize_t count = rdy_stream_poll_read(&loud->stream, task, &byte, 1);

    if (count == 1)
        assert_int_equal(send(loud->plain, "x", 1, MSG_NOSIGNAL), 1);
    return count;
}

static void loud_open_stream(struct loud *loud)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(rdy_stream_from_fd(&loud->stream, hall.runtime, fds[0]), 0);
    loud->plain = fds[1];
}

static void endless_data_does_not_starve_the_quiet(void **state)
{
    struct loud loud = {0};
    char many[256] = {0};

    hall_open(state);
    loud_open_stream(&loud);
    assert_int_equal(send(loud.plain, many, sizeof(many), 0), sizeof(many));
    hall_run(&loud, loud_reads);
    rdy_stream_close(&loud.stream);
    assert_int_equal(close(loud.plain), 0);
    hall_close(state, BOUND);
}

static ssize_t loud_reads_only(struct loud *loud, struct rdy_task *task)
{
    char byte;

    return rdy_stream_poll_read(&loud->stream, task, &byte, 1);
}

static void *thread_writes(void *arg)
{
    char many[4096] = {0};

    while (rdy_a32_load_relaxed(&hall.has_to_stop) == 0) {
        if (send(*(int *)arg, many, sizeof(many), MSG_NOSIGNAL) < 0)
            (void)sched_yield();
    }
    return NULL;
}

static void writer_without_end_does_not_starve_the_quiet(void **state)
{
    struct loud loud = {0};
    pthread_t thread;

    hall_open(state);
    loud_open_stream(&loud);
    assert_int_equal(pthread_create(&thread, NULL, thread_writes, &loud.plain), 0);
    hall_run(&loud, loud_reads_only);
    rdy_a32_store_relaxed(&hall.has_to_stop, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    rdy_stream_close(&loud.stream);
    assert_int_equal(close(loud.plain), 0);
    hall_close(state, BOUND);
}

/* Unix connections wait in the queue at once, and leave no trace when they are closed. */
static void dial_unix(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&hall.unix_addr, hall.unix_len), 0);
    assert_int_equal(close(fd), 0);
}

static void listen_unix(struct rdy_listener *listener, int connections)
{
    hall.unix_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    hall.unix_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                                (size_t)snprintf(&hall.unix_addr.sun_path[1], 64,
                                                 "rdy-test-fairness-%d", (int)getpid()));
    assert_int_equal(rdy_listener_open(listener, hall.runtime, (struct sockaddr *)&hall.unix_addr,
                                       hall.unix_len, NULL),
                     0);
    for (int i = 0; i < connections; i++)
        dial_unix();
}

static ssize_t loud_accepts(struct loud *loud, struct rdy_task *task)
{
    struct rdy_stream stream = {.fd = -1};
    int rc = rdy_listener_poll_accept(&loud->listener, task, &stream);

    rdy_stream_close(&stream);
    if (rc == 0)
        dial_unix();
    return rc;
}

static void endless_connections_do_not_starve_the_quiet(void **state)
{
    struct loud loud = {0};

    hall_open(state);
    listen_unix(&loud.listener, 100);
    hall_run(&loud, loud_accepts);
    rdy_listener_close(&loud.listener);
    hall_close(state, BOUND);
}

/* A session of the accept loop; who ends brings the next, so that the queue is never empty. */
static int poll_session(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    if (!hall.is_over) {
        hall_count();
        dial_unix();
    }
    return 0;
}

/* Each session is a poll; those that one poll of the accept loop began may be ahead of a reader. */
static void endless_sessions_do_not_starve_the_quiet(void **state)
{
    struct rdy_task_spec session = {.poll = poll_session, .self_size = sizeof(struct rdy_stream)};
    struct rdy_listener listener;

    hall_open(state);
    listen_unix(&listener, 500);
    assert_int_equal(rdy_serve(hall.runtime, &listener, &session, NULL), 0);
    assert_int_equal(rdy_runtime_run(hall.runtime), 0);
    rdy_listener_close(&listener);
    hall_close(state, BOUND);
}

static ssize_t loud_receives(struct loud *loud, struct rdy_task *task)
{
    char byte;
    ssize_t count = rdy_datagram_poll_recv(&loud->datagram, task, &byte, 1, NULL);

    if (count == 1)
        assert_int_equal(
            sendto(loud->plain, "x", 1, 0, (struct sockaddr *)&loud->addr, sizeof(loud->addr)), 1);
    return count;
}

static void endless_datagrams_do_not_starve_the_quiet(void **state)
{
    struct sockaddr_in any_port = loopback(0);
    struct sockaddr_storage bound;
    struct loud loud = {0};
    socklen_t len = 0;

    hall_open(state);
    assert_int_equal(rdy_datagram_open(&loud.datagram, hall.runtime, AF_INET, NULL), 0);
    assert_int_equal(
        rdy_datagram_bind(&loud.datagram, (struct sockaddr *)&any_port, sizeof(any_port)), 0);
    assert_int_equal(rdy_datagram_local_address(&loud.datagram, &bound, &len), 0);
    memcpy(&loud.addr, &bound, sizeof(loud.addr));
    loud.plain = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(
            sendto(loud.plain, "x", 1, 0, (struct sockaddr *)&loud.addr, sizeof(loud.addr)), 1);
    hall_run(&loud, loud_receives);
    rdy_datagram_close(&loud.datagram);
    assert_int_equal(close(loud.plain), 0);
    hall_close(state, BOUND);
}

static ssize_t loud_yields(struct loud *loud, struct rdy_task *task)
{
    (void)loud;
    hall_count();
    rdy_task_defer(task);
    return RDY_PENDING;
}

static void task_that_yields_for_ever_does_not_starve_the_quiet(void **state)
{
    struct loud loud = {0};

    hall_open(state);
    hall_run(&loud, loud_yields);
    hall_close(state, INTERVAL);
}

/* Each ends as it has spawned the next. */
static int poll_spawns_the_next(struct rdy_task *task, void *self)
{
    struct rdy_task_spec spec = {.poll = poll_spawns_the_next};

    (void)self;
    if (hall.is_over)
        return 0;
    hall_count();
    assert_int_equal(rdy_spawn(rdy_task_runtime(task), &spec, NULL, NULL), 0);
    return 0;
}

static void spawns_without_end_do_not_starve_the_quiet(void **state)
{
    struct rdy_task_spec spec = {.poll = poll_spawns_the_next};

    hall_open(state);
    assert_int_equal(rdy_spawn(hall.runtime, &spec, NULL, NULL), 0);
    assert_int_equal(rdy_runtime_run(hall.runtime), 0);
    hall_close(state, INTERVAL);
}

static ssize_t loud_wakes_the_other(struct loud *loud, struct rdy_task *task)
{
    loud->own = rdy_task_waker(task);
    rdy_waker_wake(&loud->other->own);
    hall_count();
    return RDY_PENDING;
}

/* Three polls ahead of the queue for each one of the queue's. */
static void tasks_that_wake_each_other_do_not_starve_the_quiet(void **state)
{
    struct loud one = {.operation = loud_wakes_the_other};
    struct loud two = {.other = &one};

    one.other = &two;
    hall_open(state);
    (void)spawn_test(hall.runtime, poll_loud, NULL, &one);
    hall_run(&two, loud_wakes_the_other);
    hall_close(state, BOUND);
}

static ssize_t loud_is_woken(struct loud *loud, struct rdy_task *task)
{
    (void)loud;
    (void)task;
    hall_count();
    return RDY_PENDING;
}

static void *thread_wakes(void *arg)
{
    (void)arg;
    while (rdy_a32_load_relaxed(&hall.has_to_stop) == 0) {
        for (uint32_t i = 0; i < WOKEN_COUNT; i++)
            rdy_waker_wake(&hall.wakers[i]);
    }
    return NULL;
}

static void wakes_from_other_threads_do_not_starve_the_quiet(void **state)
{
    static struct loud loud[WOKEN_COUNT];
    pthread_t threads[2];

    hall_open(state);
    for (uint32_t i = 0; i < WOKEN_COUNT; i++) {
        struct rdy_task_id id;

        loud[i] = (struct loud){.operation = loud_is_woken};
        id = spawn_test(hall.runtime, poll_loud, NULL, &loud[i]);
        hall.wakers[i] = rdy_task_waker(rdy_task_find(hall.runtime, id));
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_wakes, NULL), 0);
    assert_int_equal(rdy_runtime_run(hall.runtime), 0);
    rdy_a32_store_relaxed(&hall.has_to_stop, 1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    hall_close(state, BOUND);
}

static int poll_arrives(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    if (!hall.is_over)
        hall_count();
    return 0;
}

static void arrival_drop(void *self)
{
    (void)self;
    (void)rdy_a32_add_seq_cst(&hall.in_flight, UINT32_MAX);
}

/* As fast as it goes, but no faster than memory lasts. */
static void *thread_spawns(void *arg)
{
    struct rdy_task_spec spec = {.poll = poll_arrives, .drop = arrival_drop};

    (void)arg;
    while (rdy_a32_load_relaxed(&hall.has_to_stop) == 0) {
        if (rdy_a32_load_relaxed(&hall.in_flight) > IN_FLIGHT_MAX) {
            (void)sched_yield();
            continue;
        }
        (void)rdy_a32_add_seq_cst(&hall.in_flight, 1);
        if (rdy_spawn_remote(hall.runtime, &spec, NULL) != 0)
            (void)rdy_a32_add_seq_cst(&hall.in_flight, UINT32_MAX);
    }
    return NULL;
}

static void spawns_from_other_threads_do_not_starve_the_quiet(void **state)
{
    pthread_t threads[2];

    hall_open(state);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_spawns, NULL), 0);
    assert_int_equal(rdy_runtime_run(hall.runtime), 0);
    rdy_a32_store_relaxed(&hall.has_to_stop, 1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    hall_close(state, BOUND);
    assert_int_equal(rdy_a32_load_relaxed(&hall.in_flight), 0);
}

static void timer_rings(void *arg, uint64_t index)
{
    const struct rdy_waker waker = {timer_rings, arg, index};

    if (hall.is_over)
        return;
    hall_count();
    rdy_timer_arm(&hall.timers[index], hall.runtime, 1, &waker);
}

/*
 * All of them are due all the time: a round fires a portion, and one more may be ahead. Fewer bytes
 * here, lest the quiet wait for each other: a round has a thousand timers but 61 polls.
 */
static void timers_that_are_always_due_do_not_starve_the_quiet(void **state)
{
    hall_open(state);
    hall.send_every = 100;
    for (uint32_t i = 0; i < TIMERS_COUNT; i++) {
        const struct rdy_waker waker = {timer_rings, &hall, i};

        rdy_timer_arm(&hall.timers[i], hall.runtime, 1, &waker);
    }
    assert_int_equal(rdy_runtime_run(hall.runtime), 0);
    hall_close(state, 2 * RDY_TIMER_MOVES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(endless_data_does_not_starve_the_quiet),
        ON_BOTH(writer_without_end_does_not_starve_the_quiet),
        ON_BOTH(endless_connections_do_not_starve_the_quiet),
        ON_BOTH(endless_sessions_do_not_starve_the_quiet),
        ON_BOTH(endless_datagrams_do_not_starve_the_quiet),
        ON_BOTH(task_that_yields_for_ever_does_not_starve_the_quiet),
        ON_BOTH(spawns_without_end_do_not_starve_the_quiet),
        ON_BOTH(tasks_that_wake_each_other_do_not_starve_the_quiet),
        ON_BOTH(wakes_from_other_threads_do_not_starve_the_quiet),
        ON_BOTH(spawns_from_other_threads_do_not_starve_the_quiet),
        ON_BOTH(timers_that_are_always_due_do_not_starve_the_quiet),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
