/* SPDX-License-Identifier: MIT */
/*
 * Connected descriptors for tests: nonblocking, close-on-exec, on loopback.
 * Each call fails the test if the kernel refuses.
 */
#ifndef RDY_TESTS_PAIRS_H
#define RDY_TESTS_PAIRS_H

#include <netinet/in.h>

#include "tests/support/check.h"

/* `ours` is what a test registers, `peer` what it plays the other side with. */
struct pair {
    int ours;
    int peer;
};

int tcp_listener(struct sockaddr_in *address);
int tcp_dial(const struct sockaddr_in *address); /* connected, nonblocking */
int tcp_unconnected(void);

struct pair pair_tcp(void);
struct pair pair_unix(void);
struct pair pair_pipe_reader(void); /* ours reads */
struct pair pair_pipe_writer(void); /* ours writes */

/* A UDP socket connected to a port where nobody listens: what it sends comes
 * back as an error. */
int udp_to_nobody(void);

int event_fd(void);
void event_write(int fd);
bool event_read(int fd); /* false: nothing there */

void put(int fd, const char *text); /* all of it, at once */
ssize_t get(int fd, size_t max);    /* how many bytes came, or -errno */
size_t drain(int fd);               /* reads until EAGAIN, end or error */
void fill(int fd);                  /* writes until EAGAIN */
void hang_up(int fd);               /* closes a TCP socket with a reset */
void close_pair(struct pair *pair); /* those that are not -1 */

/* Open descriptors of this process. */
uint32_t fds_open(void);

#endif
