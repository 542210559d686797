/* SPDX-License-Identifier: MIT */
/* The demo's parts: a server in a process of its own, and what its idle connections cost. */
#ifndef RDY_APPS_DEMO_H
#define RDY_APPS_DEMO_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "apps/resolve.h"

/* What `rdy echo --json` says at its end, as far as the demo shows it. */
struct server_summary {
    uint64_t system_calls;
    uint64_t connections;
};

/* A child that runs `rdy echo`. */
struct server {
    pid_t pid;
    FILE *output; /* the child's stdout */
    struct rdy_address endpoint;
};

/**
 * server_start() - run `rdy echo` on a free loopback port and wait until it listens
 * @backend: "uring" or "epoll"
 * @mode:    "completion" or "readiness"
 * @cpu:     processor to run on, by index; negative: anywhere
 *
 * Return: 0, or -errno with no child left.
 */
int server_start(struct server *server, const char *backend, const char *mode, int cpu);

/* Ends the child with SIGTERM and reads its summary (may be NULL). 0, or -errno. */
int server_stop(struct server *server, struct server_summary *summary);

/**
 * demo_idle_bytes() - user memory that an idle connection costs a server
 * @connections: opened, each sends one message and gets it back, then rests
 *
 * Return: 0 or -errno; @bytes is the growth of the server's anonymous memory per connection.
 */
int demo_idle_bytes(const struct server *server, uint32_t connections, double *bytes);

#endif
