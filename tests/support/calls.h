/* SPDX-License-Identifier: MIT */
/*
 * For tests of poll calls: a task that makes one call until it has an answer, beside others that
 * do the same, and a few turns for the driver in between.
 */
#ifndef RDY_TESTS_SUPPORT_CALLS_H
#define RDY_TESTS_SUPPORT_CALLS_H

#include "tests/support/runtime.h"

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

typedef ssize_t call_fn(void *test, struct rdy_task *task);

/* One call and its answer: RDY_PENDING until it has one. */
struct call {
    struct rdy_runtime *runtime;
    call_fn *fn;
    void *test;
    ssize_t result;
    int polls;
};

static inline int poll_call(struct rdy_task *task, void *self)
{
    struct call *call = ((struct test_task *)self)->test;

    call->polls++;
    call->result = call->fn(call->test, task);
    return call->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* Leaves a task behind that makes the call; it runs with the next run of the runtime. */
static inline struct rdy_task_id call_start(struct call *call, struct rdy_runtime *runtime,
                                            call_fn *fn, void *test)
{
    *call = (struct call){.runtime = runtime, .fn = fn, .test = test, .result = RDY_PENDING};
    return spawn_test(runtime, poll_call, NULL, call);
}

/* Runs until no task is left. */
static inline ssize_t call_finish(struct call *call)
{
    assert_int_equal(rdy_runtime_run(call->runtime), 0);
    return call->result;
}

static inline ssize_t call_run(struct rdy_runtime *runtime, call_fn *fn, void *test)
{
    struct call call;

    (void)call_start(&call, runtime, fn, test);
    return call_finish(&call);
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
