/* SPDX-License-Identifier: MIT */
/*
 * For tests of many datagrams in one call: a batch that goes out, one that comes in, and a way to
 * run one call to its answer.
 */
#ifndef RDY_TESTS_SUPPORT_DATAGRAM_BATCH_H
#define RDY_TESTS_SUPPORT_DATAGRAM_BATCH_H

#include "tests/support/datagrams.h"

#include <stdio.h>

#include <rdy/datagram_many.h>

#include "engine/sys.h"

#define TEXT_SIZE 64
#define MANY      2000 /* more than the kernel takes in a call, UIO_MAXIOV */

static struct ends ends;

/* One direction: what is sent, or received, and how much of it is left to do. */
struct batch {
    struct rdy_datagram_message messages[MANY];
    char texts[MANY][TEXT_SIZE];
    size_t first;
    size_t count;
};

static struct batch out;
static struct batch in;
static int fault;

static inline void begin(void **state)
{
    ends_open(&ends, state);
    memset(&out, 0, sizeof(out));
    memset(&in, 0, sizeof(in));
    fault = 0;
    for (size_t i = 0; i < MANY; i++) {
        in.messages[i].buf = in.texts[i];
        in.messages[i].buf_len = TEXT_SIZE;
        out.messages[i].buf = out.texts[i];
        out.messages[i].len =
            (size_t)snprintf(out.texts[i], TEXT_SIZE, "%zu%.*s", i, (int)(i % 9), "abcdefgh");
    }
}

static inline void address_all(const struct address *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out.messages[i].info.addr = to->storage;
        out.messages[i].info.addr_len = to->len;
    }
}

/* A bound socket each; what goes out goes to the other. */
static inline void begin_inet(void **state, int family)
{
    begin(state);
    ends.to = bind_loopback(&ends, &ends.other, family);
    (void)bind_loopback(&ends, &ends.one, family);
    address_all(&ends.to, MANY);
}

static inline void begin_pair(void **state)
{
    begin(state);
    assert_int_equal(rdy_datagram_pair(&ends.one, &ends.other, ends.runtime), 0);
}

static inline ssize_t one_sends_many(struct ends *e, struct rdy_task *task)
{
    (void)rdy_sys_fail_nth(fault ? 1 : 0, fault);
    return rdy_datagram_poll_send_many(&e->one, task, out.messages + out.first, out.count);
}

static inline ssize_t receives_many(struct rdy_datagram *datagram, struct rdy_task *task)
{
    (void)rdy_sys_fail_nth(fault ? 1 : 0, fault);
    return rdy_datagram_poll_recv_many(datagram, task, in.messages + in.first, in.count);
}

static inline ssize_t other_receives_many(struct ends *e, struct rdy_task *task)
{
    return receives_many(&e->other, task);
}

static inline ssize_t one_receives_many(struct ends *e, struct rdy_task *task)
{
    return receives_many(&e->one, task);
}

static inline ssize_t send_many(size_t first, size_t count)
{
    out.first = first;
    out.count = count;
    return run_call(&ends, one_sends_many);
}

static inline ssize_t recv_many(size_t first, size_t count)
{
    in.first = first;
    in.count = count;
    return run_call(&ends, other_receives_many);
}

static inline void expect_texts(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(in.messages[i].len, out.messages[i].len);
        assert_int_equal(in.messages[i].info.datagram_len, out.messages[i].len);
        assert_memory_equal(in.texts[i], out.texts[i], out.messages[i].len);
    }
}

#endif
