/* SPDX-License-Identifier: MIT */
/*
 * For tests of datagrams in completion mode: a rig with a UDP socket of ours, and a plain one that
 * is its peer. Numbered datagrams, so that the test sees the order in which they come.
 */
#ifndef RDY_TESTS_SUPPORT_POST_H
#define RDY_TESTS_SUPPORT_POST_H

#include "tests/support/rig.h"

#include <rdy/datagram_completion.h>
#include <rdy/datagram_many.h>

#define POST_MAX 4096u

struct post {
    struct rig rig; /* first: rig_teardown() ends it */
    struct rdy_datagram socket;
    struct sockaddr_in addr; /* ours */
    struct sockaddr_in peer_addr;
    struct rdy_datagram_info info; /* of the latest received */
    uint32_t goal;                 /* of a task that receives or sends many */
    uint32_t count;
    uint32_t number[POST_MAX]; /* that came, in their order */
    size_t len;                /* bytes of each that a task sends; at least 4 */
    int error;                 /* the latest that was told, */
    uint32_t errors;           /* and how many were */
    bool is_to_peer;           /* sends name no address */
};

static inline struct post *post_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static inline struct rig *rig_in(struct post *post)
{
    return &post->rig;
}

static inline struct fake_ops *post_ops(struct post *post)
{
    return &post->rig.fake->ops_state;
}

static inline int post_setup(void **state)
{
    struct post *post = calloc(1, sizeof(*post));

    assert_non_null(post);
    post->rig.kind = *(const enum rig_kind *)*state;
    post->rig.fake = calloc(1, sizeof(*post->rig.fake));
    assert_non_null(post->rig.fake);
    post->rig.stream.fd = -1;
    post->rig.peer = -1;
    post->socket.fd = -1;
    post->len = 100;
    rig_open(&post->rig, NULL);
    *state = post;
    return 0;
}

static inline int post_teardown(void **state)
{
    struct post *post = *state;

    rdy_datagram_close(&post->socket);
    return rig_teardown(state);
}

static inline int post_peer(struct sockaddr_in *addr)
{
    socklen_t addr_len = sizeof(*addr);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)addr, addr_len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &addr_len), 0);
    return fd;
}

/* Both sockets, bound; the peer connected to ours. */
static inline void post_open(struct post *post)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_storage addr;
    socklen_t addr_len;

    assert_int_equal(rdy_datagram_open(&post->socket, post->rig.runtime, AF_INET, NULL), 0);
    assert_int_equal(rdy_datagram_bind(&post->socket, (struct sockaddr *)&any, sizeof(any)), 0);
    assert_int_equal(rdy_datagram_local_address(&post->socket, &addr, &addr_len), 0);
    memcpy(&post->addr, &addr, sizeof(post->addr));
    post->rig.peer = post_peer(&post->peer_addr);
    assert_int_equal(connect(post->rig.peer, (struct sockaddr *)&post->addr, sizeof(post->addr)),
                     0);
}

static inline void post_connect(struct post *post)
{
    assert_int_equal(rdy_datagram_connect(&post->socket, (struct sockaddr *)&post->peer_addr,
                                          sizeof(post->peer_addr)),
                     0);
    post->is_to_peer = true;
}

static inline struct rdy_task_id post_spawn(struct post *post, rdy_poll_fn *poll)
{
    return spawn_test(post->rig.runtime, poll, NULL, post);
}

/* A task that has come to where it waits. */
static inline void post_start(struct post *post, rdy_poll_fn *poll)
{
    (void)post_spawn(post, poll);
    rig_turn(&post->rig);
}

static inline void post_run(struct post *post, rdy_poll_fn *poll)
{
    (void)post_spawn(post, poll);
    assert_int_equal(rdy_runtime_run(post->rig.runtime), 0);
}

/* The peer says a numbered datagram of @len bytes, at least 4. */
static inline void post_say(struct post *post, uint32_t number, size_t len)
{
    unsigned char bytes[2000] = {0};

    memcpy(bytes, &number, sizeof(number));
    rig_say(&post->rig, bytes, len);
}

/* What the peer has heard: the number of the next datagram, or -1. */
static inline int64_t post_hear(struct post *post)
{
    uint32_t number = 0;
    ssize_t count = recv(post->rig.peer, &number, sizeof(number), MSG_DONTWAIT | MSG_TRUNC);

    return count < (ssize_t)sizeof(number) ? -1 : (int64_t)number;
}

/* Exactly these, in their order. */
static inline void assert_heard(struct post *post, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(post_hear(post), i);
    assert_int_equal(post_hear(post), -1);
}

/* Takes one datagram, and keeps it. */
static inline int post_poll_recv(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    struct rdy_buf buf = {0};

    post->rig.result = rdy_datagram_poll_recv_buf(&post->socket, task, &buf, &post->info);
    if (post->rig.result == RDY_PENDING)
        return RDY_PENDING;
    if (post->rig.result >= 0)
        post->rig.held[post->rig.held_count++] = buf;
    return 0;
}

static inline void post_note(struct post *post, const struct rdy_buf *buf)
{
    assert_true(buf->len >= sizeof(post->number[0]) && post->count < POST_MAX);
    memcpy(&post->number[post->count++], buf->data, sizeof(post->number[0]));
}

/* Takes datagrams until there are @goal of them, noting their numbers, and errors apart. */
static inline int post_poll_recv_all(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    struct rdy_buf buf = {0};

    while (post->count < post->goal) {
        ssize_t rc = rdy_datagram_poll_recv_buf(&post->socket, task, &buf, &post->info);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        if (rc < 0) {
            post->error = (int)rc;
            post->errors++;
            continue;
        }
        assert_int_equal(rc, buf.len);
        post_note(post, &buf);
        rdy_buf_release(&buf);
    }
    return 0;
}

static inline int post_send(struct post *post, struct rdy_task *task, struct rdy_buf *buf)
{
    if (post->is_to_peer)
        return rdy_datagram_poll_send_buf(&post->socket, task, buf, NULL, 0);
    return rdy_datagram_poll_send_buf(&post->socket, task, buf, (struct sockaddr *)&post->peer_addr,
                                      sizeof(post->peer_addr));
}

/* Hands over numbered datagrams until there were @goal; an error is noted, and the same tried
 * again. */
static inline int post_poll_send_all(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);
    struct rdy_buf *buf = &post->rig.held[0];

    while (post->count < post->goal) {
        int rc;

        if (post->rig.held_count == 0) {
            assert_int_equal(rdy_buf_take(post->rig.runtime, post->len, buf), 0);
            memset(buf->data, 0, buf->len);
            memcpy(buf->data, &post->count, sizeof(post->count));
            post->rig.held_count = 1;
        }
        rc = post_send(post, task, buf);
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        if (rc == 0) {
            post->rig.held_count = 0;
            post->count++;
        } else {
            post->error = rc;
            assert_true(++post->errors < 100);
        }
    }
    return 0;
}

static inline int post_poll_flush(struct rdy_task *task, void *self)
{
    struct post *post = post_of(self);

    post->rig.result = rdy_datagram_poll_flush(&post->socket, task);
    return post->rig.result == RDY_PENDING ? RDY_PENDING : 0;
}

/* clang-format off */
#define POST_ON(test, kind, name)                                                                  \
    {#test " on " name, test, post_setup, post_teardown, (void *)(uintptr_t)&rig_kinds[kind]}
#define POST_ON_THREE(test)                                                                        \
    POST_ON(test, 0, "io_uring"), POST_ON(test, 1, "epoll"), POST_ON(test, 2, "the fake")
#define POST_ON_REAL(test) POST_ON(test, 0, "io_uring"), POST_ON(test, 1, "epoll")
#define POST_ON_FAKE(test) POST_ON(test, 2, "the fake")
/* clang-format on */

#endif
