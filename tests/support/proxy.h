/* SPDX-License-Identifier: MIT */
/*
 * For tests of copies: two connections, each with one end of ours and a plain one, a task that
 * joins them, and a way to send and check a pattern over the plain ends.
 *
 *     near <-> a   a copy   b <-> far
 */
#ifndef RDY_TESTS_SUPPORT_PROXY_H
#define RDY_TESTS_SUPPORT_PROXY_H

#include "tests/support/call.h"
#include "tests/support/pair.h"

#include <errno.h>

#include "engine/copy_pool.h"
#include "engine/sys.h"

#define PATTERN_PERIOD (251u * 256u)
#define ROUNDS_MAX     200000

/* What was said on a plain end, and what was heard there. */
struct plain {
    int fd;
    uint64_t sent;
    uint64_t got;
    bool is_over; /* heard the end */
};

struct proxy {
    struct rdy_runtime *runtime;
    struct pair pair[2]; /* their streams are a and b */
    struct plain near;
    struct plain far;
    struct rdy_copy_both both;
    struct rdy_copy copy; /* where a test wants one direction */
    struct call call;
    int fault; /* errno with which the fault_nth call to the kernel is to fail */
    uint64_t fault_nth;
};

/* Every test of a proxy is run with these. */
static const struct rdy_copy_opts proxy_modes[] = {
    {.size = sizeof(struct rdy_copy_opts)},
    {.size = sizeof(struct rdy_copy_opts), .is_splice = true},
};

#define PROXY_MODES (sizeof(proxy_modes) / sizeof(proxy_modes[0]))

static inline struct rdy_stream *proxy_a(struct proxy *proxy)
{
    return &proxy->pair[0].server;
}

static inline struct rdy_stream *proxy_b(struct proxy *proxy)
{
    return &proxy->pair[1].server;
}

static inline struct rdy_copy_stats proxy_stats(const struct proxy *proxy)
{
    struct rdy_copy_stats stats;

    rdy_copy_read_stats(proxy->runtime, &stats);
    return stats;
}

static inline void proxy_connect(struct proxy *proxy, void **state, bool is_unix)
{
    memset(proxy, 0, sizeof(*proxy));
    proxy->runtime = runtime_of(state);
    for (int i = 0; i < 2; i++) {
        pair_open(&proxy->pair[i], state);
        if (is_unix)
            pair_unix(&proxy->pair[i]);
        else
            pair_accept(&proxy->pair[i]);
        rdy_listener_close(&proxy->pair[i].listener);
        unblock(proxy->pair[i].peer);
    }
    proxy->near.fd = proxy->pair[0].peer;
    proxy->far.fd = proxy->pair[1].peer;
    proxy->pair[0].peer = -1;
    proxy->pair[1].peer = -1;
}

static inline ssize_t joins_both(void *test, struct rdy_task *task)
{
    struct proxy *proxy = test;

    if (proxy->fault)
        (void)rdy_sys_fail_nth(proxy->fault_nth, proxy->fault);
    proxy->fault = 0;
    return rdy_copy_both_poll(&proxy->both, task);
}

static inline ssize_t copies_one_way(void *test, struct rdy_task *task)
{
    return rdy_copy_poll(&((struct proxy *)test)->copy, task);
}

/* Leaves a task behind that joins both ends. */
static inline void proxy_join(struct proxy *proxy, const struct rdy_copy_opts *opts)
{
    assert_int_equal(rdy_copy_both_open(&proxy->both, proxy_a(proxy), proxy_b(proxy), opts), 0);
    call_start(&proxy->call, proxy->runtime, joins_both, proxy);
}

static inline void proxy_open(struct proxy *proxy, void **state, const struct rdy_copy_opts *opts)
{
    proxy_connect(proxy, state, false);
    proxy_join(proxy, opts);
}

static inline void plain_close(struct plain *plain)
{
    if (plain->fd >= 0)
        assert_int_equal(close(plain->fd), 0);
    plain->fd = -1;
}

static inline void plain_reset(struct plain *plain)
{
    reset(plain->fd);
    plain->fd = -1;
}

/* Nothing may be held at the end, whatever came before. */
static inline void proxy_close(struct proxy *proxy)
{
    struct rdy_copy_stats stats;

    rdy_copy_both_close(&proxy->both);
    rdy_copy_both_close(&proxy->both);
    rdy_copy_close(&proxy->copy);
    stats = proxy_stats(proxy);
    assert_int_equal(stats.buffers_live, 0);
    assert_int_equal(stats.buffer_bytes, 0);
    assert_int_equal(stats.pipes_live, stats.pipes_spare);
    plain_close(&proxy->near);
    plain_close(&proxy->far);
    pair_close(&proxy->pair[0]);
    pair_close(&proxy->pair[1]);
}

/* The pattern of call.h twice over, so that any piece of a period can be compared at once. */
static inline const unsigned char *pattern_table(void)
{
    static unsigned char table[2 * PATTERN_PERIOD];

    if (table[1] == 0)
        pattern_fill(table, sizeof(table), 0);
    return table;
}

/* Sends up to @count bytes of the pattern; false if the socket took none. */
static inline bool plain_send(struct plain *plain, uint64_t count)
{
    size_t len = count < PATTERN_PERIOD ? (size_t)count : PATTERN_PERIOD;
    ssize_t sent = send(plain->fd, pattern_table() + plain->sent % PATTERN_PERIOD, len,
                        MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent < 0)
        assert_int_equal(errno, EAGAIN);
    plain->sent += sent > 0 ? (uint64_t)sent : 0;
    return sent > 0;
}

/* Takes what is there and checks it; false if there was nothing. */
static inline bool plain_receive(struct plain *plain)
{
    static unsigned char bytes[PATTERN_PERIOD];
    ssize_t count = recv(plain->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (count < 0) {
        assert_int_equal(errno, EAGAIN);
        return false;
    }
    if (count == 0) {
        plain->is_over = true;
        return false;
    }
    assert_memory_equal(bytes, pattern_table() + plain->got % PATTERN_PERIOD, (size_t)count);
    plain->got += (uint64_t)count;
    return true;
}

static inline void plain_end(struct plain *plain)
{
    assert_int_equal(shutdown(plain->fd, SHUT_WR), 0);
}

/* Sends @count bytes at @from and hears them at @to, with turns of the runtime between. */
static inline void proxy_carry(struct proxy *proxy, struct plain *from, struct plain *to,
                               uint64_t count)
{
    uint64_t until = from->sent + count;

    for (int i = 0; i < ROUNDS_MAX && to->got < until && !to->is_over; i++) {
        while (from->sent < until && plain_send(from, until - from->sent))
            ;
        take_turns(proxy->runtime, 2);
        while (plain_receive(to))
            ;
    }
    assert_int_equal(to->got, until);
}

/* Takes turns until @plain has heard the end. */
static inline void proxy_hear_end(struct proxy *proxy, struct plain *plain)
{
    for (int i = 0; i < ROUNDS_MAX && !plain->is_over; i++) {
        take_turns(proxy->runtime, 2);
        while (plain_receive(plain))
            ;
    }
    assert_true(plain->is_over);
}

/* Sends until the proxy takes no more. */
static inline void proxy_fill(struct proxy *proxy, struct plain *plain)
{
    int idle = 0;

    for (int i = 0; i < ROUNDS_MAX && idle < 5; i++) {
        idle++;
        while (plain_send(plain, PATTERN_PERIOD))
            idle = 0;
        take_turns(proxy->runtime, 3);
    }
    assert_int_equal(idle, 5);
}

#endif
