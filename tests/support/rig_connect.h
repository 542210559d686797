/* SPDX-License-Identifier: MIT */
/*
 * For tests of connections in completion mode: to a target, on each of the rig's backends, and what
 * such a stream must be able to do once it is connected.
 */
#ifndef RDY_TESTS_SUPPORT_RIG_CONNECT_H
#define RDY_TESTS_SUPPORT_RIG_CONNECT_H

#include "tests/support/connecting.h"
#include "tests/support/rig.h"

#include "engine/driver.h"

/* Where the test's stream goes. */
static struct target target;

static inline int start_at(struct rig *rig, struct rdy_address *address,
                           struct rdy_connect_opts opts)
{
    opts.size = sizeof(opts);
    opts.is_completing = true;
    return rdy_stream_start_connect_with(&rig->stream, rig->runtime, sockaddr_at(address),
                                         address->addr_len, &opts);
}

static inline int start(struct rig *rig)
{
    return start_at(rig, &target.address, (struct rdy_connect_opts){0});
}

static inline int poll_connects_rig(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_connect(&rig->stream, task);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* The answer: at once, or when it is there. */
static inline int run_connect_at(struct rig *rig, struct rdy_address *address)
{
    int rc = start_at(rig, address, (struct rdy_connect_opts){0});

    if (rc < 0)
        return rc;
    rig_run(rig, poll_connects_rig);
    return (int)rig->result;
}

static inline int run_connect(struct rig *rig)
{
    return run_connect_at(rig, &target.address);
}

static inline bool has_ring(const struct rig *rig)
{
    return rig->kind != RIG_EPOLL;
}

static inline int poll_sends_held(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_send(&rig->stream, task, &rig->held[0]);
    if (rig->result == 0)
        rig->held_count = 0;
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* Both directions work, and go through the ring where there is one. */
static inline void assert_completes(struct rig *rig)
{
    char back[8];

    assert_int_equal(rdy_completion_is_native(rig->runtime), has_ring(rig));
    assert_int_equal((rig->stream.reg.io->flags & RDY_IO_UNWATCHED) != 0, has_ring(rig));
    rig->peer = target_accept(&target);
    assert_true(rig->peer >= 0);
    rig_hold(rig, "ping", 4);
    rig_run(rig, poll_sends_held);
    assert_int_equal(rig->result, 0);
    rig_turn(rig);
    assert_int_equal(recv(rig->peer, back, sizeof(back), 0), 4);
    rig_say(rig, "pong", 4);
    rig_run(rig, rig_poll_recv);
    assert_int_equal(rig->result, 4);
    assert_memory_equal(rig->held[0].data, "pong", 4);
    if (has_ring(rig))
        assert_true(rig_stats(rig).recvs_armed > 0);
}

#endif
