/* SPDX-License-Identifier: MIT */
/*
 * What the hand-written baselines share: they differ in their loop only, so that the loop is what a
 * comparison compares. A listening socket like that of `rdy echo`, signals that are let in where
 * the loop waits and nowhere else, and a summary in one line of JSON.
 */
#ifndef RDY_BENCH_RAW_H
#define RDY_BENCH_RAW_H

#include <signal.h>
#include <stdint.h>

#define RAW_BACKLOG 4096
#define RAW_FDS_MAX (1 << 20)

struct raw_counts {
    uint64_t system_calls;
    uint64_t requests; /* reads that brought data: with a depth above one, several messages */
    uint64_t bytes;
    uint64_t accepted;
    uint64_t connections_live;
};

extern volatile sig_atomic_t raw_is_stopping;

/* Says what failed, and why, and exits with 1. */
__attribute__((noreturn)) void raw_die(const char *what, const char *why);

/* Holds SIGTERM and SIGINT back; they set raw_is_stopping when they are let in. */
void raw_catch_signals(void);

/* Takes as many descriptors as the process may have; how many that is. */
uint32_t raw_fds_max(void);

/* A nonblocking listener on HOST:PORT. */
int raw_listen(const char *where);

/* "listening on HOST:PORT", with the port that the kernel chose, for whoever started us. */
void raw_print_address(int fd, const char *backend);

void raw_print_summary(const char *server, const struct raw_counts *counts);

#endif
