/* SPDX-License-Identifier: MIT */
/*
 * For tests of poll calls: one call as a task of its own, begun, given up, or run to its answer.
 */
#ifndef RDY_TESTS_SUPPORT_CALL_H
#define RDY_TESTS_SUPPORT_CALL_H

#include "tests/support/runtime.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rdy/rdy.h>

#include "tests/support/pattern.h"

/* Makes the call; polled until it says something else than RDY_PENDING. */
typedef ssize_t call_fn(void *test, struct rdy_task *task);

struct call {
    struct rdy_runtime *runtime;
    call_fn *fn;
    void *test;
    ssize_t result; /* RDY_PENDING until there is an answer */
    int polls;
    struct rdy_task_id id;
};

static inline int poll_makes_call(struct rdy_task *task, void *self)
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
    call->id = spawn_test(runtime, poll_makes_call, NULL, call);
    return call->id;
}

/* Runs until all tasks have ended. */
static inline ssize_t call_finish(struct call *call)
{
    assert_int_equal(rdy_runtime_run(call->runtime), 0);
    assert_int_not_equal(call->result, RDY_PENDING);
    return call->result;
}

static inline ssize_t call_run(struct rdy_runtime *runtime, call_fn *fn, void *test)
{
    struct call call;

    (void)call_start(&call, runtime, fn, test);
    return call_finish(&call);
}

/* Ends a call that waits, as a task that loses interest would. */
static inline void call_give_up(struct call *call)
{
    take_turns(call->runtime, 3);
    assert_int_equal(call->result, RDY_PENDING);
    assert_int_equal(rdy_task_abort(call->runtime, call->id), 0);
}

/* Lets a plain descriptor say -EAGAIN instead of waiting. */
static inline void unblock(int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

/* Closes with a reset instead of an end. */
static inline void reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    assert_int_equal(close(fd), 0);
}

#endif
