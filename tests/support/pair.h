/* SPDX-License-Identifier: MIT */
/*
 * For tests of sockets: a listener, a stream of ours and its peer, and small tasks that do one
 * thing with them.
 */
#ifndef RDY_TESTS_SUPPORT_PAIR_H
#define RDY_TESTS_SUPPORT_PAIR_H

#include "tests/support/runtime.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rdy/net.h>

/* A listener, both ends of one connection, and what was said over it. */
struct pair {
    struct rdy_runtime *runtime;
    struct rdy_listener listener;
    struct rdy_stream server;
    struct rdy_stream client;
    int peer; /* a plain blocking descriptor, where a test wants to see each byte go */
    struct rdy_timer timer;
    char buf[65536];
    size_t have;
    ssize_t result;
    int polls;
    int step;
};

static inline struct pair *pair_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static inline void pair_open(struct pair *pair, void **state)
{
    memset(pair, 0, sizeof(*pair));
    pair->runtime = runtime_of(state);
    pair->listener.fd = -1;
    pair->server.fd = -1;
    pair->client.fd = -1;
    pair->peer = -1;
}

static inline void pair_close(struct pair *pair)
{
    rdy_listener_close(&pair->listener);
    rdy_stream_close(&pair->server);
    rdy_stream_close(&pair->client);
    if (pair->peer >= 0)
        assert_int_equal(close(pair->peer), 0);
    pair->peer = -1;
}

static inline struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

static inline struct sockaddr_storage pair_listen(struct pair *pair, socklen_t *addr_len)
{
    struct sockaddr_in any_port = loopback(0);
    struct sockaddr_storage addr;

    assert_int_equal(rdy_listener_open(&pair->listener, pair->runtime, (struct sockaddr *)&any_port,
                                       sizeof(any_port), NULL),
                     0);
    assert_int_equal(rdy_listener_address(&pair->listener, &addr, addr_len), 0);
    return addr;
}

/* The listener and the client are at the address, and have not met yet. */
static inline void pair_meet_at(struct pair *pair, const struct sockaddr *addr, socklen_t addr_len)
{
    assert_int_equal(rdy_listener_open(&pair->listener, pair->runtime, addr, addr_len, NULL), 0);
    assert_int_equal(rdy_stream_start_connect(&pair->client, pair->runtime, addr, addr_len), 0);
}

/* A plain client of the listener: blocking, connected. */
static inline int dial(struct pair *pair)
{
    socklen_t addr_len = 0;
    struct sockaddr_storage addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    assert_true(fd >= 0);
    assert_int_equal(rdy_listener_address(&pair->listener, &addr, &addr_len), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, addr_len), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    return fd;
}

static inline int poll_accepts(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);
    int rc = rdy_listener_poll_accept(&pair->listener, task, &pair->server);

    pair->polls++;
    if (rc != RDY_PENDING)
        pair->result = rc;
    return rc;
}

/* Accepts a plain client's connection. */
static inline void pair_accept(struct pair *pair)
{
    socklen_t addr_len = 0;

    (void)pair_listen(pair, &addr_len);
    pair->peer = dial(pair);
    (void)spawn_test(pair->runtime, poll_accepts, NULL, pair);
    assert_int_equal(rdy_runtime_run(pair->runtime), 0);
    assert_int_equal(pair->result, 0);
    assert_true(pair->server.fd >= 0);
}

/* One end of a socketpair(2) as a stream, the other plain. */
static inline void pair_unix(struct pair *pair)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(rdy_stream_from_fd(&pair->server, pair->runtime, fds[0]), 0);
    pair->peer = fds[1];
}

static inline int poll_reads_once(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);
    ssize_t count = rdy_stream_poll_read(&pair->server, task, pair->buf, sizeof(pair->buf));

    pair->polls++;
    if (count == RDY_PENDING)
        return RDY_PENDING;
    pair->result = count;
    return 0;
}

static inline ssize_t read_once(struct pair *pair)
{
    (void)spawn_test(pair->runtime, poll_reads_once, NULL, pair);
    assert_int_equal(rdy_runtime_run(pair->runtime), 0);
    return pair->result;
}

static inline void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Lets the driver have a few turns; tasks that wait go on waiting. */
static inline void let_driver_turn(struct pair *pair)
{
    take_turns(pair->runtime, 3);
}

static inline bool is_cached(const struct rdy_stream *stream, uint32_t interest, uint32_t flag)
{
    return (rdy_event_ready(rdy_ready_event(&stream->reg, interest)) & flag) != 0;
}

static inline int poll_connects(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);
    int rc = rdy_stream_poll_connect(&pair->client, task);

    if (rc != RDY_PENDING)
        pair->result = rc;
    return rc;
}

#endif
