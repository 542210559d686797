/* SPDX-License-Identifier: MIT */
/*
 * For tests of completion mode: a runtime on io_uring, on epoll, or on a fake that runs operations,
 * each test on all three. One end of a connection is ours, the other a plain descriptor, so that
 * the test sees each byte go.
 */
#ifndef RDY_TESTS_SUPPORT_RIG_H
#define RDY_TESTS_SUPPORT_RIG_H

#include "tests/support/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rdy/completion.h>

#include "engine/runtime.h"
#include "tests/support/fake_backend.h"
#include "tests/support/pattern.h"

enum rig_kind {
    RIG_URING,
    RIG_EPOLL,
    RIG_FAKE
};

static const enum rig_kind rig_kinds[] = {RIG_URING, RIG_EPOLL, RIG_FAKE};

struct rig {
    enum rig_kind kind;
    struct rdy_runtime *runtime;
    struct fake *fake;
    struct rdy_stream stream;
    int peer;
    struct rdy_buf held[64]; /* what the test's tasks keep */
    uint32_t held_count;
    unsigned char bytes[1 << 20]; /* what they received */
    size_t have;
    ssize_t result;
    uint32_t step;
};

static inline void rig_open(struct rig *rig, const struct rdy_driver_opts *given)
{
    struct rdy_runtime_opts opts = {.size = sizeof(opts)};
    struct rdy_driver *driver = NULL;

    if (given)
        opts.driver = *given;
    opts.driver.size = sizeof(opts.driver);
    opts.driver.backend = rig->kind == RIG_URING ? RDY_BACKEND_URING : RDY_BACKEND_EPOLL;
    if (rig->kind != RIG_FAKE) {
        assert_int_equal(rdy_runtime_open(&rig->runtime, &opts), 0);
        return;
    }
    memset(rig->fake, 0, sizeof(*rig->fake));
    fake_init_completing(rig->fake);
    assert_int_equal(fake_driver_open(rig->fake, &opts.driver, &driver), 0);
    assert_int_equal(rdy_runtime_open_with(&rig->runtime, &opts, driver), 0);
}

static inline int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));

    assert_non_null(rig);
    rig->kind = *(const enum rig_kind *)*state;
    rig->fake = calloc(1, sizeof(*rig->fake));
    assert_non_null(rig->fake);
    rig->stream.fd = -1;
    rig->peer = -1;
    rig_open(rig, NULL);
    *state = rig;
    return 0;
}

static inline struct rdy_completion_stats rig_stats(const struct rig *rig)
{
    struct rdy_completion_stats stats;

    rdy_completion_read_stats(rig->runtime, &stats);
    return stats;
}

static inline void rig_release(struct rig *rig)
{
    while (rig->held_count > 0)
        rdy_buf_release(&rig->held[--rig->held_count]);
}

/* A few turns of the driver; tasks that wait go on waiting. */
static inline void rig_turn(struct rig *rig)
{
    take_turns(rig->runtime, 6);
}

/* rig_turn() leaves a wake-up behind, which would end the next wait: from here on waits are
 * long. */
static inline void rig_settle(struct rig *rig)
{
    for (int i = 0; i < 2; i++)
        assert_true(rdy_driver_turn(rdy_runtime_driver(rig->runtime), RDY_NS_PER_MS) >= 0);
}

/* The peer is gone. */
static inline void rig_hang_up(struct rig *rig)
{
    assert_int_equal(close(rig->peer), 0);
    rig->peer = -1;
}

/* The runtime ends before the test does; rig_teardown() then looks for nothing. */
static inline void rig_abandon(struct rig *rig)
{
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
    rig_hang_up(rig);
}

/* Closes both ends, and sees that nothing is left: no entry, no buffer. */
static inline void rig_finish(struct rig *rig)
{
    rig_release(rig);
    rdy_stream_close(&rig->stream);
    if (rig->peer >= 0)
        rig_hang_up(rig);
    for (int i = 0; i < 100 && driver_stats(rig->runtime).entries_live > 0; i++)
        rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
    assert_int_equal(driver_stats(rig->runtime).cancels_pending, 0);
    assert_int_equal(rig_stats(rig).blocks_live, 0);
    assert_int_equal(rig_stats(rig).buffers_free, rig_stats(rig).buffers_total);
}

static inline int rig_teardown(void **state)
{
    struct rig *rig = *state;

    if (rig->runtime) {
        rig_finish(rig);
        rdy_runtime_close(rig->runtime);
    }
    free(rig->fake);
    free(rig);
    return 0;
}

static inline void rig_reopen(struct rig *rig, const struct rdy_driver_opts *opts)
{
    rdy_runtime_close(rig->runtime);
    rig_open(rig, opts);
}

/* A connection over a Unix socket pair. */
static inline void rig_connect(struct rig *rig)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(rdy_stream_from_fd(&rig->stream, rig->runtime, fds[0]), 0);
    rig->peer = fds[1];
}

static inline void rig_say(struct rig *rig, const void *data, size_t len)
{
    assert_int_equal(send(rig->peer, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static inline void rig_run(struct rig *rig, rdy_poll_fn *poll)
{
    (void)spawn_test(rig->runtime, poll, NULL, rig);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
}

/* A task that has come to where it waits. */
static inline void rig_start(struct rig *rig, rdy_poll_fn *poll)
{
    (void)spawn_test(rig->runtime, poll, NULL, rig);
    rig_turn(rig);
}

static inline struct rig *rig_of(void *self)
{
    return ((struct test_task *)self)->test;
}

/* What the fake can be told of its operations. */
static inline struct fake_ops *ops_of(struct rig *rig)
{
    return &rig->fake->ops_state;
}

/* Takes one buffer, and keeps it. */
static inline int rig_poll_recv(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    struct rdy_buf buf = {0};

    rig->result = rdy_stream_poll_recv(&rig->stream, task, &buf);
    if (rig->result == RDY_PENDING)
        return RDY_PENDING;
    if (rig->result > 0)
        rig->held[rig->held_count++] = buf;
    return 0;
}

/* Receives to the end of the stream, into rig->bytes. */
static inline int rig_poll_recv_all(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);
    struct rdy_buf buf = {0};

    for (;;) {
        rig->result = rdy_stream_poll_recv(&rig->stream, task, &buf);
        if (rig->result == RDY_PENDING)
            return RDY_PENDING;
        if (rig->result <= 0)
            return 0;
        assert_int_equal(rig->result, (ssize_t)buf.len);
        assert_true(rig->have + buf.len <= sizeof(rig->bytes));
        memcpy(rig->bytes + rig->have, buf.data, buf.len);
        rig->have += buf.len;
        rdy_buf_release(&buf);
    }
}

static inline struct rdy_buf rig_buf(struct rig *rig, const void *data, size_t len)
{
    struct rdy_buf buf;

    assert_int_equal(rdy_buf_take(rig->runtime, len, &buf), 0);
    memcpy(buf.data, data, len);
    return buf;
}

static inline void rig_hold(struct rig *rig, const void *data, size_t len)
{
    rig->held[rig->held_count++] = rig_buf(rig, data, len);
}

/* clang-format off */
#define ON_THREE(test)                                                                             \
    {#test " on io_uring", test, rig_setup, rig_teardown, (void *)(uintptr_t)&rig_kinds[0]},       \
    {#test " on epoll", test, rig_setup, rig_teardown, (void *)(uintptr_t)&rig_kinds[1]},          \
    {#test " on the fake", test, rig_setup, rig_teardown, (void *)(uintptr_t)&rig_kinds[2]}
#define ON_REAL(test)                                                                              \
    {#test " on io_uring", test, rig_setup, rig_teardown, (void *)(uintptr_t)&rig_kinds[0]},       \
    {#test " on epoll", test, rig_setup, rig_teardown, (void *)(uintptr_t)&rig_kinds[1]}
#define ON_FAKE_ONLY(test)                                                                         \
    {#test " on the fake", test, rig_setup, rig_teardown, (void *)(uintptr_t)&rig_kinds[2]}
/* clang-format on */

/* Sends what is held, in its order; the latest answer is the result. */
static inline int rig_poll_sends_held(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    while (rig->held_count > 0) {
        int rc = rdy_stream_poll_send(&rig->stream, task, &rig->held[0]);

        rig->result = rc;
        if (rc != 0)
            return rc == RDY_PENDING ? RDY_PENDING : 0;
        rig->held_count--;
        memmove(rig->held, rig->held + 1, rig->held_count * sizeof(rig->held[0]));
    }
    return 0;
}

static inline int rig_poll_flushes(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_flush(&rig->stream, task);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

#endif
