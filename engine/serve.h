/* SPDX-License-Identifier: MIT */
/* The accept loop's inside, for rdy_serve() and for the workers of an engine. */
#ifndef RDY_ENGINE_SERVE_H
#define RDY_ENGINE_SERVE_H

#include <rdy/serve.h>
#include <rdy/shutdown.h>

#include "engine/atomic.h"

/* Written by the runtime's thread, read by any. */
struct rdy_accept_counts {
    struct rdy_a64 accepted;
    struct rdy_a64 failures; /* tries that ended in a pause */
    struct rdy_a64 pauses;   /* spells of such tries */
};

/* Fill in the first four, the rest is zero. */
struct rdy_accept_loop {
    struct rdy_listener *listener;
    struct rdy_task_spec session;
    struct rdy_stream held;           /* accepted, without a session so far; {.fd = -1} at first */
    struct rdy_accept_counts *counts; /* NULL: nobody counts */
    struct rdy_co co;
    int rc;
    struct rdy_timer pause;
    struct rdy_shutdown_wait shutdown;
    uint64_t resume_ns;
    uint32_t drained_count; /* accepted since the runtime shuts down */
    bool is_draining;
    bool is_starved; /* a spell of failed tries is on */
};

/* 0, or -EINVAL: rdy_spawn() would refuse each session. */
int rdy_accept_loop_check(const struct rdy_task_spec *session);

/* A poll function's body: accepts until the runtime shuts down and the queue is drained: 0, the
 * listener is to be closed. Or -errno of one that fails for good. */
int rdy_accept_loop_poll(struct rdy_accept_loop *loop, struct rdy_task *task);

/* For the drop. The listener is not touched. */
void rdy_accept_loop_drop(struct rdy_accept_loop *loop);

#endif
