/* SPDX-License-Identifier: MIT */
/*
 * The echo server's parts: options, what each worker of the engine has, a session (one connection).
 *
 * Workers share nothing. A worker's counters are written by its own thread and read by the main
 * thread after it has joined the engine.
 */
#ifndef RDY_APPS_ECHO_H
#define RDY_APPS_ECHO_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include <rdy/rdy.h>

#include "apps/options.h"
#include "apps/resolve.h"

#define ECHO_BUFFER_SIZE (64 * 1024) /* bytes of the read buffer that a worker's sessions share */

struct echo_options {
    struct rdy_endpoint listen;
    struct rdy_endpoint metrics; /* no host: not asked for */
    uint64_t workers;
    uint64_t batch_count; /* of each worker's driver, as the time; 0: its default */
    uint64_t batch_wait_ns;
    enum rdy_backend_kind backend;
    enum io_mode mode;
    uint64_t spin_us;
    bool is_batch_learnt;
    bool is_pinned;
    bool is_json;
};

struct echo_counters {
    uint64_t requests;      /* reads that returned data */
    uint64_t bytes;         /* read, and therefore owed back */
    uint64_t bytes_dropped; /* read, but the peer was gone before they were sent back */
    uint64_t io_calls;      /* recv, send, shutdown and close, made through our streams */
    uint64_t resets;        /* sessions that the peer ended with a reset */
    uint64_t failures;      /* sessions that ended with any other error */
};

/* The context of a worker's runtime. */
struct echo_worker {
    struct echo_counters counters;
    struct rdy_driver_stats driver; /* at the end */
    struct rdy_completion_stats completion;
    bool is_native;
    char backend[16];
    unsigned char *buffer;
};

/* What the worker of a session's task has. */
static inline struct echo_worker *echo_worker_of(struct rdy_task *task)
{
    return rdy_runtime_context(rdy_task_runtime(task));
}

/* Counts a session that ends with @error, which it hands back. */
static inline int echo_session_failed(struct echo_worker *worker, int error)
{
    if (error == -ECONNRESET || error == -EPIPE)
        worker->counters.resets++;
    else
        worker->counters.failures++;
    return error;
}

/* Sessions, for rdy_engine_serve(): by readiness, and in completion mode. */
extern const struct rdy_task_spec echo_session;
extern const struct rdy_task_spec echo_completion_session;

#endif
