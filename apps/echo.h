/* SPDX-License-Identifier: MIT */
/*
 * The echo server's parts: options, a worker (one thread, one runtime), a session (one connection).
 *
 * Workers share nothing. A worker's counters are written by its own thread and read by the main
 * thread after it has joined it.
 */
#ifndef RDY_APPS_ECHO_H
#define RDY_APPS_ECHO_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include <rdy/rdy.h>

#include "apps/resolve.h"

#define ECHO_BUFFER_SIZE (64 * 1024) /* bytes of the read buffer that a worker's sessions share */

struct echo_options {
    struct rdy_endpoint listen;
    uint64_t workers;
    enum rdy_backend_kind backend;
    bool is_pinned;
    bool is_json;
};

struct echo_counters {
    uint64_t connections;   /* accepted */
    uint64_t requests;      /* reads that returned data */
    uint64_t bytes;         /* read, and therefore owed back */
    uint64_t bytes_dropped; /* read, but the peer was gone before they were sent back */
    uint64_t io_calls;      /* accept, recv, send, shutdown and close, made through our streams */
    uint64_t resets;        /* sessions that the peer ended with a reset */
    uint64_t failures;      /* sessions that ended with any other error */
    uint64_t accept_pauses; /* times that accepting stopped for want of descriptors or memory */
};

struct echo_worker {
    /* Set by the main thread before the start. */
    const struct echo_options *options;
    struct rdy_address endpoint;
    uint32_t index;
    bool is_reuseport;

    /* Set by the worker before it posts @started; @start_step names what failed. */
    sem_t started;
    int start_rc;
    const char *start_step;
    struct rdy_runtime *runtime;
    char backend[16];

    /* Posted by the main thread when it will not touch @runtime any more. */
    sem_t may_close;

    /* The worker's thread only, until it is joined. */
    pthread_t thread;
    int run_rc;
    struct echo_counters counters;
    struct rdy_driver_stats driver;
    unsigned char *buffer;
};

/**
 * echo_worker_start() - start a worker's thread and wait until it listens
 * @worker: kept until echo_worker_join(); the first group of fields is set. @endpoint receives the
 *          bound address.
 *
 * Return: 0, or -errno with @start_step set and no thread left.
 */
int echo_worker_start(struct echo_worker *worker);

/* Makes the worker stop accepting and end its sessions; from the main thread. */
void echo_worker_stop(struct echo_worker *worker);

/* Waits for the end of the thread. Counters are complete then. Return: 0 or why it died. */
int echo_worker_join(struct echo_worker *worker);

/**
 * echo_session_spawn() - serve a connection in a task of its own
 * @stream: taken on success
 *
 * Context: the worker's thread. Return: 0 or -errno.
 */
int echo_session_spawn(struct echo_worker *worker, struct rdy_stream *stream);

#endif
