/* SPDX-License-Identifier: MIT */
/*
 * AsyncFd: guards, what stays and what is cleared, the ways back to a descriptor; on both backends.
 * After the scenarios of Tokio's io_async_fd.
 */
#include "tests/support/async_sockets.h"

#include <rdy/timer.h>

static void both_ends_are_writable_at_first_and_not_readable(void **state)
{
    sockets_open(state);

    assert_int_equal(ask(a_is_writable), 0);
    assert_ready(&sockets.guard, RDY_WRITABLE);
    rdy_guard_clear(&sockets.guard);
    assert_int_equal(ask(b_is_writable), 0);
    rdy_guard_clear(&sockets.guard);
    assert_int_equal(ask(a_is_readable), RDY_PENDING);
    assert_int_equal(ask(a_is_writable), RDY_PENDING);

    sockets_close();
}

static void readable_stays_until_it_is_cleared_and_comes_again_with_the_next_byte(void **state)
{
    struct rdy_ready_guard first;
    struct call call;
    ssize_t result = 0;
    char byte;

    sockets_open(state);
    (void)call_start(&call, sockets.runtime, a_is_readable, &sockets);
    let_turn(sockets.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    say(&sockets.b);
    assert_int_equal(call_finish(&call), 0);
    first = sockets.guard;
    assert_true(rdy_guard_try_io(&first, read_byte, &byte, &result));
    assert_int_equal(result, 1);

    /* nothing is left to read, but nobody has said so */
    assert_int_equal(ask(a_is_readable), 0);
    rdy_guard_retain(&sockets.guard);
    assert_int_equal(ask(a_is_readable), 0);

    rdy_guard_clear(&first);
    assert_int_equal(ask(a_is_readable), RDY_PENDING);
    say(&sockets.b);
    assert_int_equal(ask(a_is_readable), 0);
    rdy_guard_clear(&sockets.guard);

    sockets_close();
}

static void writable_is_cleared_by_a_full_socket_and_comes_again_when_it_is_drained(void **state)
{
    struct call call;

    sockets_open(state);
    assert_int_equal(ask(a_is_writable), 0);
    fill_a(&sockets.guard);
    assert_ready(&sockets.guard, 0);
    (void)call_start(&call, sockets.runtime, a_is_writable, &sockets);
    let_turn(sockets.runtime);
    assert_int_equal(call.result, RDY_PENDING);

    drain(sockets.b.fd);
    assert_int_equal(call_finish(&call), 0);

    sockets_close();
}

static void close_closes_what_is_owned_and_leaves_what_is_borrowed(void **state)
{
    char byte;
    int fds[2];

    sockets_open(state);
    assert_int_equal(read(sockets.b.fd, &byte, 1), -1);
    rdy_async_fd_close(&sockets.a);
    let_turn(sockets.runtime);
    assert_int_equal(read(sockets.b.fd, &byte, 1), 0);
    rdy_async_fd_close(&sockets.a); /* twice is once */
    sockets_close();

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(rdy_async_fd_open(&sockets.a, sockets.runtime, fds[0], RW), 0);
    let_turn(sockets.runtime);
    rdy_async_fd_close(&sockets.a);
    let_close(sockets.runtime);
    assert_int_equal(read(fds[1], &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(close(fds[1]), 0);
}

/* S53: the kernel may still hold the old watch when the new one is made. */
static void descriptor_taken_back_is_open_and_can_be_registered_again_at_once(void **state)
{
    int fd;

    sockets_open(state);
    let_turn(sockets.runtime);
    fd = rdy_async_fd_into_fd(&sockets.a);
    assert_true(fd >= 0);
    assert_true(is_open(fd));
    assert_int_equal(rdy_async_fd_into_fd(&sockets.a), -EBADF);
    assert_int_equal(rdy_async_fd_open_owned(&sockets.a, sockets.runtime, fd, RW), 0);

    say(&sockets.b);
    assert_int_equal(ask(a_is_readable), 0);
    assert_ready(&sockets.guard, RDY_READABLE);

    sockets_close();
}

static void guard_try_io_clears_when_it_would_block_and_only_then(void **state)
{
    struct rdy_ready_guard guard;
    ssize_t result = 0;
    char byte;

    sockets_open(state);
    say(&sockets.b);
    assert_int_equal(ask(a_is_readable), 0);
    guard = sockets.guard;
    assert_int_equal(read(sockets.a.fd, &byte, 1), 1);

    assert_true(rdy_guard_try_io(&guard, succeed, NULL, &result));
    assert_int_equal(result, 7);
    assert_int_equal(ask(a_is_readable), 0);
    assert_true(rdy_guard_try_io(&guard, go_wrong, NULL, &result));
    assert_int_equal(result, -EIO);
    assert_int_equal(ask(a_is_readable), 0);
    assert_false(rdy_guard_try_io(&guard, would_block, NULL, &result));
    assert_int_equal(result, -EIO);
    assert_ready(&guard, 0);
    assert_int_equal(ask(a_is_readable), RDY_PENDING);

    say(&sockets.b);
    assert_int_equal(ask(a_is_readable), 0);
    sockets_close();
}

/* S46, and what the tick is for: a byte that came after the guard is not the guard's to clear. */
static void guard_clears_once_and_not_what_came_after_it(void **state)
{
    struct rdy_ready_guard guard;
    uint64_t stale;

    sockets_open(state);
    say(&sockets.b);
    assert_int_equal(ask(a_is_readable), 0);
    guard = sockets.guard;
    drain(sockets.a.fd);
    say(&sockets.b);
    let_turn(sockets.runtime);

    stale = driver_stats(sockets.runtime).stale_clears;
    rdy_guard_clear(&guard);
    rdy_guard_clear(&guard);
    assert_int_equal(driver_stats(sockets.runtime).stale_clears, stale + 1);
    assert_int_equal(ask(a_is_readable), 0);

    sockets_close();
}

static ssize_t a_is_ready(void *test, struct rdy_task *task)
{
    struct sockets *s = test;

    return rdy_async_fd_poll_ready(&s->a, &s->wait, task, &s->guard);
}

static void clear_matching_leaves_the_rest_in_the_guard_and_in_the_cache(void **state)
{
    sockets_open(state);
    say(&sockets.b);
    let_turn(sockets.runtime);
    rdy_async_fd_init_wait(&sockets.a, &sockets.wait, RW);
    assert_int_equal(ask(a_is_ready), 0);
    assert_ready(&sockets.guard, RDY_READABLE | RDY_WRITABLE);

    rdy_guard_clear_matching(&sockets.guard, RDY_READABLE);
    assert_ready(&sockets.guard, RDY_WRITABLE);
    assert_int_equal(rdy_event_ready(rdy_ready_event(&sockets.a.reg, RW)), RDY_WRITABLE);
    rdy_guard_clear_matching(&sockets.guard, RDY_READABLE | RDY_ERROR);
    assert_ready(&sockets.guard, RDY_WRITABLE);
    rdy_guard_clear_matching(&sockets.guard, RDY_WRITABLE);
    assert_ready(&sockets.guard, 0);
    assert_int_equal(rdy_event_ready(rdy_ready_event(&sockets.a.reg, RW)), 0);

    sockets_close();
}

/* The other way round: clearing WRITABLE, which is true, does not bring it back by itself. */
static void clear_matching_of_one_direction_does_not_wait_for_the_other(void **state)
{
    sockets_open(state);
    say(&sockets.b);
    let_turn(sockets.runtime);
    rdy_async_fd_init_wait(&sockets.a, &sockets.wait, RW);
    assert_int_equal(ask(a_is_ready), 0);

    rdy_guard_clear_matching(&sockets.guard, RDY_WRITABLE);
    assert_ready(&sockets.guard, RDY_READABLE);
    assert_int_equal(ask(a_is_ready), 0);
    assert_ready(&sockets.guard, RDY_READABLE);
    assert_int_equal(ask(a_is_writable), RDY_PENDING);

    sockets_close();
}

/* --- waiting and trying in one --- */

static ssize_t a_reads(void *test, struct rdy_task *task)
{
    static char byte;
    struct sockets *s = test;

    return rdy_async_fd_async_io(&s->wait, task, read_byte, &byte);
}

static void async_io_waits_until_the_operation_has_an_answer(void **state)
{
    struct call call;
    char byte;

    sockets_open(state);
    rdy_async_fd_init_wait(&sockets.a, &sockets.wait, RDY_INTEREST_READ);
    assert_int_equal(rdy_async_fd_try_io(&sockets.a, RDY_INTEREST_READ, read_byte, &byte), -EAGAIN);
    (void)call_start(&call, sockets.runtime, a_reads, &sockets);
    let_turn(sockets.runtime);
    say(&sockets.b);
    assert_int_equal(call_finish(&call), 1);

    /* the cache still says readable: the next one tries, clears, and waits */
    (void)call_start(&call, sockets.runtime, a_reads, &sockets);
    let_turn(sockets.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    say(&sockets.b);
    assert_int_equal(call_finish(&call), 1);
    sockets_close();
}

/* Nothing is cached before the driver had a turn: the operation is not tried. */
static void try_io_asks_the_cache_first_and_clears_it_when_it_was_wrong(void **state)
{
    sockets_open(state);
    assert_int_equal(rdy_async_fd_try_io(&sockets.a, RDY_INTEREST_WRITE, would_block, NULL),
                     -EAGAIN);
    assert_int_equal(sockets.calls, 0);
    let_turn(sockets.runtime);
    assert_int_equal(rdy_async_fd_try_io(&sockets.a, RDY_INTEREST_WRITE, succeed, NULL), 7);
    assert_int_equal(rdy_async_fd_try_io(&sockets.a, RW, would_block, NULL), -EAGAIN);
    assert_int_equal(sockets.calls, 1);
    assert_int_equal(rdy_async_fd_try_io(&sockets.a, RDY_INTEREST_WRITE, succeed, NULL), -EAGAIN);
    assert_int_equal(ask(a_is_writable), RDY_PENDING);

    assert_int_equal(rdy_async_fd_try_io(&sockets.a, RDY_INTEREST_READ, succeed, NULL), -EAGAIN);
    say(&sockets.b);
    let_turn(sockets.runtime);
    assert_int_equal(rdy_async_fd_try_io(&sockets.a, RDY_INTEREST_READ, succeed, NULL), 7);
    assert_int_equal(rdy_async_fd_try_io(&sockets.a, RDY_INTEREST_READ, would_block, NULL),
                     -EAGAIN);
    assert_int_equal(sockets.calls, 2);
    assert_int_equal(rdy_async_fd_try_io(&sockets.a, RDY_INTEREST_READ, succeed, NULL), -EAGAIN);
    sockets_close();
}

static ssize_t a_is_readable_in_time(void *test, struct rdy_task *task)
{
    static struct rdy_timer timer;
    struct sockets *s = test;

    return RDY_TIMEOUT(&timer, task, 1, rdy_async_fd_poll_readable(&s->a, task, &s->guard));
}

static void timeout_that_gives_up_loses_nothing(void **state)
{
    sockets_open(state);
    assert_int_equal(call_run(sockets.runtime, a_is_readable_in_time, &sockets), -ETIMEDOUT);
    say(&sockets.b);
    assert_int_equal(call_run(sockets.runtime, a_is_readable, &sockets), 0);
    sockets_close();
}

/* A task that asks without end what is ready without end lets the others live. */
static ssize_t asks_without_end(void *test, struct rdy_task *task)
{
    struct sockets *s = test;

    for (int i = 0; i < 100000; i++) {
        ssize_t rc = rdy_async_fd_poll_writable(&s->a, task, &s->guard);

        if (rc != 0)
            return rc;
        s->calls++;
    }
    return 0;
}

static void answers_are_paid_for(void **state)
{
    struct rdy_task_id id;
    struct call call;

    sockets_open(state);
    let_turn(sockets.runtime);
    id = call_start(&call, sockets.runtime, asks_without_end, &sockets);
    let_turn(sockets.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_int_equal(sockets.calls, 128 * call.polls);
    assert_int_equal(rdy_task_abort(sockets.runtime, id), 0);
    sockets_close();
}

/* --- what cannot be opened --- */

static void refused_descriptors_stay_the_callers(void **state)
{
    int regular = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct rdy_async_fd afd = {.fd = -1};
    struct rdy_ready_guard guard = {0};

    sockets_open(state);
    assert_int_equal(rdy_async_fd_open_owned(&afd, sockets.runtime, regular, RW), -EPERM);
    assert_true(is_open(regular));
    assert_int_equal(afd.fd, -1);
    assert_int_equal(rdy_async_fd_open(&afd, sockets.runtime, -1, RW), -EBADF);
    assert_int_equal(rdy_async_fd_open(&afd, sockets.runtime, sockets.b.fd, 0), -EINVAL);
    assert_int_equal(rdy_async_fd_open(&afd, sockets.runtime, sockets.b.fd, RDY_INTEREST_ALL + 1),
                     -EINVAL);
    assert_int_equal(rdy_async_fd_try_io(&afd, RW, succeed, NULL), -EBADF);
    rdy_async_fd_close(&afd);
    rdy_guard_clear(&guard); /* an empty one has nothing to clear, and names nobody */
    assert_int_equal(close(regular), 0);
    sockets_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(both_ends_are_writable_at_first_and_not_readable),
        ON_BOTH(readable_stays_until_it_is_cleared_and_comes_again_with_the_next_byte),
        ON_BOTH(writable_is_cleared_by_a_full_socket_and_comes_again_when_it_is_drained),
        ON_BOTH(close_closes_what_is_owned_and_leaves_what_is_borrowed),
        ON_BOTH(descriptor_taken_back_is_open_and_can_be_registered_again_at_once),
        ON_BOTH(guard_try_io_clears_when_it_would_block_and_only_then),
        ON_BOTH(guard_clears_once_and_not_what_came_after_it),
        ON_BOTH(clear_matching_leaves_the_rest_in_the_guard_and_in_the_cache),
        ON_BOTH(clear_matching_of_one_direction_does_not_wait_for_the_other),
        ON_BOTH(async_io_waits_until_the_operation_has_an_answer),
        ON_BOTH(try_io_asks_the_cache_first_and_clears_it_when_it_was_wrong),
        ON_BOTH(timeout_that_gives_up_loses_nothing),
        ON_BOTH(answers_are_paid_for),
        ON_BOTH(refused_descriptors_stay_the_callers),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
