/* SPDX-License-Identifier: MIT */
/*
 * Accepting in completion mode: connections come by themselves, and nothing is lost of those that
 * nobody took. On io_uring, on epoll and on the fake.
 */
#include "tests/support/rig.h"

#include <sys/resource.h>

#include <rdy/serve.h>
#include <rdy/shutdown.h>

#define CALLERS 600u

struct hall {
    struct rig *rig;
    struct rdy_listener listener;
    struct sockaddr_in addr;
    struct rdy_stream streams[CALLERS];
    int callers[CALLERS];
    uint32_t accepted;
    uint32_t wanted;
    int error;
};

static struct hall *hall_open(struct rig *rig)
{
    static struct hall hall;
    struct rdy_listen_opts opts = {.size = sizeof(opts), .is_completing = true};
    struct sockaddr_storage addr;
    socklen_t addr_len = 0;

    memset(&hall, 0, sizeof(hall));
    hall.rig = rig;
    hall.addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(rdy_listener_open(&hall.listener, rig->runtime, (struct sockaddr *)&hall.addr,
                                       sizeof(hall.addr), &opts),
                     0);
    assert_int_equal(rdy_listener_address(&hall.listener, &addr, &addr_len), 0);
    memcpy(&hall.addr, &addr, sizeof(hall.addr));
    return &hall;
}

static int call(const struct hall *hall)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&hall->addr, sizeof(hall->addr)), 0);
    return fd;
}

static void call_many(struct hall *hall, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        hall->callers[i] = call(hall);
}

static void hall_close(struct hall *hall, uint32_t callers)
{
    for (uint32_t i = 0; i < hall->accepted; i++)
        rdy_stream_close(&hall->streams[i]);
    for (uint32_t i = 0; i < callers; i++)
        assert_int_equal(close(hall->callers[i]), 0);
    rdy_listener_close(&hall->listener);
}

static int poll_accepts(struct rdy_task *task, void *self)
{
    struct hall *hall = ((struct test_task *)self)->test;

    while (hall->accepted < hall->wanted) {
        int rc = rdy_listener_poll_accept(&hall->listener, task, &hall->streams[hall->accepted]);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        hall->error = rc;
        if (rc < 0)
            return 0;
        hall->accepted++;
    }
    return 0;
}

static void accept_all(struct hall *hall, uint32_t wanted)
{
    hall->wanted = wanted;
    (void)spawn_test(hall->rig->runtime, poll_accepts, NULL, hall);
    assert_int_equal(rdy_runtime_run(hall->rig->runtime), 0);
}

static void crowd_of_callers_is_accepted(void **state)
{
    struct hall *hall = hall_open(*state);

    call_many(hall, CALLERS);
    accept_all(hall, CALLERS);

    assert_int_equal(hall->accepted, CALLERS);
    for (uint32_t i = 0; i < CALLERS; i++)
        assert_int_equal(fcntl(hall->streams[i].fd, F_GETFD), FD_CLOEXEC);
    hall_close(hall, CALLERS);
}

static void late_caller_wakes_the_acceptor(void **state)
{
    struct rig *rig = *state;
    struct hall *hall = hall_open(rig);

    hall->wanted = 1;
    (void)spawn_test(rig->runtime, poll_accepts, NULL, hall);
    rig_turn(rig);
    assert_int_equal(hall->accepted, 0);
    call_many(hall, 1);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);

    assert_int_equal(hall->accepted, 1);
    hall_close(hall, 1);
}

static void accepted_stream_receives_and_sends(void **state)
{
    struct rig *rig = *state;
    struct hall *hall = hall_open(rig);

    call_many(hall, 1);
    accept_all(hall, 1);
    assert_int_equal(send(hall->callers[0], "ping", 4, 0), 4);
    rig->stream = hall->streams[0];
    rig_run(rig, rig_poll_recv);
    assert_int_equal(rig->result, 4);
    hall->streams[0] = rig->stream;
    rig->stream.fd = -1;

    assert_memory_equal(rig->held[0].data, "ping", 4);
    hall_close(hall, 1);
}

/* At a close the kernel resets what stands in its queue; what stands in ours is closed. */
static void close_of_a_listener_closes_what_nobody_took(void **state)
{
    struct rig *rig = *state;
    struct hall *hall = hall_open(rig);
    char byte;

    call_many(hall, 1);
    accept_all(hall, 1);
    for (uint32_t i = 1; i < 20; i++)
        hall->callers[i] = call(hall);
    rig_turn(rig);
    rdy_listener_close(&hall->listener);
    rig_turn(rig);
    rig_turn(rig);

    for (uint32_t i = 1; i < 20; i++)
        assert_true(recv(hall->callers[i], &byte, 1, 0) <= 0);
    hall_close(hall, 20);
}

static void set_descriptor_limit(rlim_t most)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = most;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void descriptor_limit_is_told_and_the_connection_waits(void **state)
{
    struct rig *rig = *state;
    struct hall *hall = hall_open(rig);
    struct rlimit before;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    call_many(hall, 1);
    set_descriptor_limit((rlim_t)hall->callers[0] + 1);
    accept_all(hall, 1);
    assert_int_equal(hall->error, -EMFILE);
    assert_int_equal(hall->accepted, 0);

    set_descriptor_limit(before.rlim_cur);
    accept_all(hall, 1);
    assert_int_equal(hall->accepted, 1);
    hall_close(hall, 1);
}

static void full_driver_is_told_and_the_connection_waits(void **state)
{
    struct rig *rig = *state;
    struct rdy_driver_opts opts = {.entries_max = 3};
    struct hall *hall;

    rig_reopen(rig, &opts);
    hall = hall_open(rig);
    call_many(hall, 4);
    accept_all(hall, 4);
    assert_int_equal(hall->error, -ENFILE);
    assert_int_equal(hall->accepted, 2);

    rdy_stream_close(&hall->streams[0]);
    rig_turn(rig);
    accept_all(hall, 3);
    assert_int_equal(hall->accepted, 3);
    hall_close(hall, 4);
}

/* --- a shutdown --- */

static uint32_t sessions;

static int poll_session(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    sessions++;
    return 0;
}

/* More than one poll takes, more than a ring accepts ahead, and some that came behind those. */
static void shutdown_takes_what_stands_in_either_queue(void **state)
{
    static const struct rdy_task_spec spec = {.poll = poll_session,
                                              .self_size = sizeof(struct rdy_stream)};
    struct rig *rig = *state;
    struct hall *hall = hall_open(rig);

    sessions = 0;
    assert_int_equal(rdy_serve(rig->runtime, &hall->listener, &spec, NULL), 0);
    rig_turn(rig);
    call_many(hall, 300);
    for (int turn = 0; turn < 4; turn++)
        assert_true(rdy_driver_turn(rdy_runtime_driver(rig->runtime), 0) >= 0);
    for (uint32_t i = 300; i < 350; i++)
        hall->callers[i] = call(hall);
    assert_int_equal(rdy_runtime_shutdown(rig->runtime, UINT64_MAX), 0);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);

    assert_int_equal(sessions, 350);
    hall_close(hall, 350);
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(crowd_of_callers_is_accepted),
        ON_THREE(late_caller_wakes_the_acceptor),
        ON_THREE(accepted_stream_receives_and_sends),
        ON_THREE(close_of_a_listener_closes_what_nobody_took),
        ON_THREE(descriptor_limit_is_told_and_the_connection_waits),
        ON_THREE(full_driver_is_told_and_the_connection_waits),
        ON_THREE(shutdown_takes_what_stands_in_either_queue),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
