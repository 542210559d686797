/* SPDX-License-Identifier: MIT */
/*
 * AsyncFd with many who wait: all of them hear, each keeps what is its own, and who finds nothing
 * waits on; on both backends. After the scenarios of Tokio's io_async_fd.
 */
#include "tests/support/async_sockets.h"

#define WAITERS   10
#define SPINS_MAX 100

struct waiter {
    struct rdy_readiness wait;
    struct rdy_ready_guard guard;
    struct call call;
    struct rdy_task_id id;
};

static ssize_t waiter_is_ready(void *test, struct rdy_task *task)
{
    struct waiter *waiter = test;

    return rdy_async_fd_poll_ready(&sockets.a, &waiter->wait, task, &waiter->guard);
}

static void waiters_start(struct waiter *waiters, int count)
{
    for (int i = 0; i < count; i++) {
        rdy_async_fd_init_wait(&sockets.a, &waiters[i].wait, RDY_INTEREST_READ);
        waiters[i].id = call_start(&waiters[i].call, sockets.runtime, waiter_is_ready, &waiters[i]);
    }
    let_turn(sockets.runtime);
    for (int i = 0; i < count; i++)
        assert_int_equal(waiters[i].call.result, RDY_PENDING);
}

static void all_who_wait_hear_of_one_byte(void **state)
{
    static struct waiter waiters[WAITERS];

    sockets_open(state);
    waiters_start(waiters, WAITERS);
    say(&sockets.b);
    assert_int_equal(rdy_runtime_run(sockets.runtime), 0);

    for (int i = 0; i < WAITERS; i++) {
        assert_int_equal(waiters[i].call.result, 0);
        assert_int_equal(waiters[i].call.polls, 2);
        assert_ready(&waiters[i].guard, RDY_READABLE);
        rdy_guard_clear(&waiters[i].guard);
    }
    assert_int_equal(ask(a_is_readable), RDY_PENDING);
    sockets_close();
}

/* The first of them clears before the others look: they go on waiting instead of returning
 * nothing. */
static void who_finds_the_readiness_cleared_waits_on(void **state)
{
    static struct waiter waiters[2];
    struct rdy_ready_guard guard;

    sockets_open(state);
    waiters_start(waiters, 2);
    say(&sockets.b);
    for (int i = 0; i < SPINS_MAX; i++) {
        assert_true(rdy_driver_turn(rdy_runtime_driver(sockets.runtime), 0) >= 0);
        if (rdy_event_ready(rdy_ready_event(&sockets.a.reg, RDY_INTEREST_READ)) != 0)
            break;
    }
    guard = (struct rdy_ready_guard){.afd = &sockets.a,
                                     .event = rdy_ready_event(&sockets.a.reg, RDY_INTEREST_READ)};
    assert_ready(&guard, RDY_READABLE);
    rdy_guard_clear(&guard);
    let_turn(sockets.runtime);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(waiters[i].call.result, RDY_PENDING);
        assert_int_equal(waiters[i].call.polls, 2);
    }

    say(&sockets.b);
    assert_int_equal(rdy_runtime_run(sockets.runtime), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(waiters[i].call.result, 0);
    sockets_close();
}

static void wait_that_is_given_up_takes_nothing_from_the_others(void **state)
{
    static struct waiter waiters[2];

    sockets_open(state);
    waiters_start(waiters, 2);
    assert_int_equal(rdy_task_abort(sockets.runtime, waiters[0].id), 0);
    assert_true(rdy_readiness_cancel(&waiters[0].wait));
    say(&sockets.b);
    assert_int_equal(rdy_runtime_run(sockets.runtime), 0);

    assert_int_equal(waiters[0].call.polls, 1);
    assert_int_equal(waiters[1].call.result, 0);
    sockets_close();
}

/* One task for each direction: the one that came last; directions do not disturb each other. */
static void slots_keep_the_last_task_of_each_direction_apart(void **state)
{
    static struct waiter waiter;
    struct rdy_task_id replaced_id;
    struct call replaced;
    struct call reader;
    struct call writer;

    sockets_open(state);
    assert_int_equal(ask(a_is_writable), 0);
    fill_a(&sockets.guard);
    replaced_id = call_start(&replaced, sockets.runtime, a_is_readable, &sockets);
    let_turn(sockets.runtime);
    (void)call_start(&reader, sockets.runtime, a_is_readable, &sockets);
    (void)call_start(&writer, sockets.runtime, a_is_writable, &sockets);
    waiters_start(&waiter, 1);

    say(&sockets.b);
    let_turn(sockets.runtime);
    assert_int_equal(reader.result, 0);
    assert_int_equal(waiter.call.result, 0);
    assert_int_equal(replaced.result, RDY_PENDING);
    assert_int_equal(replaced.polls, 1);
    assert_int_equal(writer.result, RDY_PENDING);
    assert_int_equal(writer.polls, 1);

    assert_int_equal(rdy_task_abort(sockets.runtime, replaced_id), 0);
    drain(sockets.b.fd);
    assert_int_equal(call_finish(&writer), 0);
    sockets_close();
}

static void who_waits_when_it_is_closed_is_told_so(void **state)
{
    static struct waiter waiters[2];
    int fd;

    sockets_open(state);
    waiters_start(waiters, 2);
    fd = rdy_async_fd_into_fd(&sockets.a);
    assert_int_equal(rdy_runtime_run(sockets.runtime), 0);

    for (int i = 0; i < 2; i++)
        assert_int_equal(waiters[i].call.result, -ECANCELED);
    assert_int_equal(close(fd), 0);
    sockets_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(all_who_wait_hear_of_one_byte),
        ON_BOTH(who_finds_the_readiness_cleared_waits_on),
        ON_BOTH(wait_that_is_given_up_takes_nothing_from_the_others),
        ON_BOTH(slots_keep_the_last_task_of_each_direction_apart),
        ON_BOTH(who_waits_when_it_is_closed_is_told_so),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
