/* SPDX-License-Identifier: MIT */
/*
 * For tests of files: calls that are asked now, beside others that wait, with a few turns for the
 * driver in between; and what a descriptor is like.
 */
#ifndef RDY_TESTS_SUPPORT_CALLS_H
#define RDY_TESTS_SUPPORT_CALLS_H

#include "tests/support/call.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/check.h"

/*
 * A test program is one file, so this header may define it. Without: at a fork the deadlock
 * detector meets more locks, a few for each arena of jemalloc's, than it can follow, and aborts.
 */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}

/* Lets the driver have a few turns; tasks that wait go on waiting. */
static inline void let_turn(struct rdy_runtime *runtime)
{
    take_turns(runtime, 4);
}

/*
 * What a call says now, with the driver given its turns; the task does not stay. One that waits
 * must sleep: who is polled again and again for nothing is not waiting.
 */
static inline ssize_t call_ask(struct rdy_runtime *runtime, call_fn *fn, void *test)
{
    struct call call;
    struct rdy_task_id id = call_start(&call, runtime, fn, test);

    let_turn(runtime);
    (void)rdy_task_abort(runtime, id);
    if (call.result == RDY_PENDING)
        assert_true(call.polls <= 2);
    return call.result;
}

/* Turns until nothing is registered any more: all that was closed is closed. */
static inline void let_close(struct rdy_runtime *runtime)
{
    for (int i = 0; i < 1000 && driver_stats(runtime).entries_live > 0; i++)
        let_turn(runtime);
    assert_int_equal(driver_stats(runtime).entries_live, 0);
}

static inline bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static inline bool is_nonblocking(int fd)
{
    return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

/* The poll bits of @fd now, of those asked for and the ones that come unasked. */
static inline short poll_bits(int fd, short events)
{
    struct pollfd item = {.fd = fd, .events = events};

    return poll(&item, 1, 0) > 0 ? item.revents : 0;
}

/* A hang is a failure of the program, not of the machine that runs it. */
static inline int give_a_minute(void **state)
{
    (void)state;
    (void)alarm(60);
    return 0;
}

#endif
