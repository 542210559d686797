/* SPDX-License-Identifier: MIT */
/* For tests of pipes: both ends, buffers, and the calls as functions for struct call. */
#ifndef RDY_TESTS_SUPPORT_PIPES_H
#define RDY_TESTS_SUPPORT_PIPES_H

#include "tests/support/calls.h"

#include <rdy/pipe.h>

struct pipes {
    struct rdy_runtime *runtime;
    struct rdy_pipe_sender sender;
    struct rdy_pipe_receiver receiver;
    const char *text;
    size_t text_len;
    size_t want; /* what the receiver reads at most, or in all */
    size_t have;
    char buf[200000];
};

static inline void pipes_init(struct pipes *pipes, void **state)
{
    memset(pipes, 0, sizeof(*pipes));
    pipes->runtime = runtime_of(state);
    pipes->sender.fd = -1;
    pipes->receiver.fd = -1;
    pipes->want = sizeof(pipes->buf);
    pipes->text = "this goes through the pipe";
    pipes->text_len = strlen(pipes->text);
}

static inline void pipes_open(struct pipes *pipes, void **state, bool is_packet)
{
    struct rdy_pipe_opts opts = {.size = sizeof(opts), .is_packet = is_packet};

    pipes_init(pipes, state);
    assert_int_equal(rdy_pipe_open(&pipes->sender, &pipes->receiver, pipes->runtime, &opts), 0);
}

static inline void pipes_close(struct pipes *pipes)
{
    rdy_pipe_sender_close(&pipes->sender);
    rdy_pipe_receiver_close(&pipes->receiver);
    let_close(pipes->runtime);
}

static inline ssize_t receives(void *test, struct rdy_task *task)
{
    struct pipes *pipes = test;

    return rdy_pipe_receiver_poll_read(&pipes->receiver, task, pipes->buf, pipes->want);
}

/* Reads until there is as much as was wanted, or the end. */
static inline ssize_t receives_all(void *test, struct rdy_task *task)
{
    struct pipes *pipes = test;

    while (pipes->have < pipes->want) {
        ssize_t count = rdy_pipe_receiver_poll_read(
            &pipes->receiver, task, pipes->buf + pipes->have, pipes->want - pipes->have);

        if (count == RDY_PENDING || count < 0)
            return count;
        if (count == 0)
            break;
        pipes->have += (size_t)count;
    }
    return (ssize_t)pipes->have;
}

static inline ssize_t sends(void *test, struct rdy_task *task)
{
    struct pipes *pipes = test;

    return rdy_pipe_sender_poll_write(&pipes->sender, task, pipes->text, pipes->text_len);
}

static inline ssize_t is_readable(void *test, struct rdy_task *task)
{
    return rdy_pipe_receiver_poll_readable(&((struct pipes *)test)->receiver, task);
}

static inline ssize_t is_writable(void *test, struct rdy_task *task)
{
    return rdy_pipe_sender_poll_writable(&((struct pipes *)test)->sender, task);
}

static inline void assert_received(const struct pipes *pipes, ssize_t count)
{
    assert_int_equal(count, pipes->text_len);
    assert_memory_equal(pipes->buf, pipes->text, pipes->text_len);
}

static inline ssize_t ask(struct pipes *pipes, call_fn *fn)
{
    return call_ask(pipes->runtime, fn, pipes);
}

/* Writes until the pipe is full; returns how much went in. */
static inline size_t fill_pipe(struct pipes *pipes)
{
    size_t count = 0;

    for (int i = 0; i < 100000; i++) {
        ssize_t result = rdy_pipe_sender_try_write(&pipes->sender, pipes->text, pipes->text_len);

        if (result == -EAGAIN)
            return count;
        assert_true(result > 0);
        count += (size_t)result;
    }
    fail_msg("the pipe is never full");
    return 0;
}

#endif
