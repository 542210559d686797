/* SPDX-License-Identifier: MIT */
/*
 * For tests of datagram sockets: two of ours, a plain one, and a way to run one call to its answer.
 */
#ifndef RDY_TESTS_SUPPORT_DATAGRAMS_H
#define RDY_TESTS_SUPPORT_DATAGRAMS_H

#include "tests/support/runtime.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rdy/datagram.h>

struct ends;

typedef ssize_t call_fn(struct ends *ends, struct rdy_task *task);

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
};

struct ends {
    struct rdy_runtime *runtime;
    struct rdy_datagram one;
    struct rdy_datagram other;
    struct address to; /* where one sends to */
    int plain;
    char buf[70000];
    size_t buf_len;
    size_t datagram_len;
    struct rdy_datagram_info info;
    const char *text;
    call_fn *call;
    ssize_t result; /* RDY_PENDING until the call has an answer */
    int polls;
};

static inline struct ends *ends_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static inline void ends_open(struct ends *ends, void **state)
{
    memset(ends, 0, sizeof(*ends));
    ends->runtime = runtime_of(state);
    ends->one.fd = -1;
    ends->other.fd = -1;
    ends->plain = -1;
    ends->buf_len = sizeof(ends->buf);
    ends->text = "hello";
}

static inline void ends_close(struct ends *ends)
{
    rdy_datagram_close(&ends->one);
    rdy_datagram_close(&ends->other);
    if (ends->plain >= 0)
        assert_int_equal(close(ends->plain), 0);
    ends->plain = -1;
}

static inline struct sockaddr *sockaddr_of(struct address *address)
{
    return (struct sockaddr *)&address->storage;
}

static inline struct address loopback_address(int family, uint16_t port)
{
    struct address address = {.len = sizeof(struct sockaddr_in)};
    struct sockaddr_in *inet = (struct sockaddr_in *)&address.storage;
    struct sockaddr_in6 *inet6 = (struct sockaddr_in6 *)&address.storage;

    address.storage.ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        inet->sin_port = htons(port);
        inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        inet6->sin6_port = htons(port);
        inet6->sin6_addr = in6addr_loopback;
        address.len = sizeof(*inet6);
    }
    return address;
}

static inline struct address local_address(const struct rdy_datagram *datagram)
{
    struct address address = {0};

    assert_int_equal(rdy_datagram_local_address(datagram, &address.storage, &address.len), 0);
    return address;
}

static inline void assert_same_address(const struct address *one, const struct address *other)
{
    assert_int_equal(one->len, other->len);
    assert_memory_equal(&one->storage, &other->storage, one->len);
}

/* Opens @datagram and binds it to a port of the loopback interface. */
static inline struct address bind_loopback(struct ends *ends, struct rdy_datagram *datagram,
                                           int family)
{
    struct address any_port = loopback_address(family, 0);

    assert_int_equal(rdy_datagram_open(datagram, ends->runtime, family, NULL), 0);
    assert_int_equal(rdy_datagram_bind(datagram, sockaddr_of(&any_port), any_port.len), 0);
    return local_address(datagram);
}

static inline void connect_to(struct rdy_datagram *datagram, struct address address)
{
    assert_int_equal(rdy_datagram_connect(datagram, sockaddr_of(&address), address.len), 0);
}

static inline int poll_calls(struct rdy_task *task, void *self)
{
    struct ends *ends = ends_of(self);

    ends->polls++;
    ends->result = ends->call(ends, task);
    return ends->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* Leaves a task behind that makes the call; it runs with the next run of the runtime. */
static inline struct rdy_task_id start_call(struct ends *ends, call_fn *call)
{
    ends->call = call;
    ends->result = RDY_PENDING;
    ends->polls = 0;
    return spawn_test(ends->runtime, poll_calls, NULL, ends);
}

static inline ssize_t finish_call(struct ends *ends)
{
    assert_int_equal(rdy_runtime_run(ends->runtime), 0);
    return ends->result;
}

static inline ssize_t run_call(struct ends *ends, call_fn *call)
{
    (void)start_call(ends, call);
    return finish_call(ends);
}

/* Lets the driver have a few turns; tasks that wait go on waiting. */
static inline void let_turn(struct ends *ends)
{
    take_turns(ends->runtime, 4);
}

static inline bool is_ready(const struct rdy_datagram *datagram, uint32_t interest, uint32_t flag)
{
    return (rdy_event_ready(rdy_ready_event(&datagram->reg, interest)) & flag) != 0;
}

static inline ssize_t one_sends(struct ends *ends, struct rdy_task *task)
{
    return rdy_datagram_poll_send(&ends->one, task, ends->text, strlen(ends->text));
}

static inline ssize_t one_sends_to(struct ends *ends, struct rdy_task *task)
{
    return rdy_datagram_poll_send_to(&ends->one, task, ends->text, strlen(ends->text),
                                     sockaddr_of(&ends->to), ends->to.len);
}

static inline ssize_t one_receives(struct ends *ends, struct rdy_task *task)
{
    return rdy_datagram_poll_recv(&ends->one, task, ends->buf, ends->buf_len, &ends->datagram_len);
}

static inline ssize_t other_receives(struct ends *ends, struct rdy_task *task)
{
    return rdy_datagram_poll_recv(&ends->other, task, ends->buf, ends->buf_len,
                                  &ends->datagram_len);
}

static inline ssize_t other_receives_from(struct ends *ends, struct rdy_task *task)
{
    return rdy_datagram_poll_recv_from(&ends->other, task, ends->buf, ends->buf_len, &ends->info);
}

static inline ssize_t other_peeks(struct ends *ends, struct rdy_task *task)
{
    return rdy_datagram_poll_peek_from(&ends->other, task, ends->buf, ends->buf_len, &ends->info);
}

#endif
