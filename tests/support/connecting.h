/* SPDX-License-Identifier: MIT */
/*
 * For tests of connections: addresses that accept, that refuse, and that never answer.
 *
 * An address that never answers is a listener whose queue is full: the kernel drops each further
 * SYN, and says nothing. One connection fills a queue of backlog 0.
 */
#ifndef RDY_TESTS_SUPPORT_CONNECTING_H
#define RDY_TESTS_SUPPORT_CONNECTING_H

#include "tests/support/pair.h"

#include <errno.h>

#include <rdy/endpoint.h>
#include <rdy/socket.h>

#include "engine/sys.h"

/* A plain listening socket, and the connection that fills its queue, if any. */
struct target {
    int fd;
    int filler;
    struct rdy_address address;
};

static inline struct sockaddr *sockaddr_at(struct rdy_address *address)
{
    return (struct sockaddr *)&address->addr;
}

static inline struct rdy_address loopback_at(int family, uint16_t port)
{
    struct rdy_address address = {.addr_len = sizeof(struct sockaddr_in)};
    struct sockaddr_in6 *inet6 = (struct sockaddr_in6 *)&address.addr;
    struct sockaddr_in inet = loopback(port);

    if (family == AF_INET) {
        memcpy(&address.addr, &inet, sizeof(inet));
        return address;
    }
    inet6->sin6_family = AF_INET6;
    inet6->sin6_port = htons(port);
    inet6->sin6_addr = in6addr_loopback;
    address.addr_len = sizeof(*inet6);
    return address;
}

static inline struct target target_open(int family, int backlog)
{
    struct rdy_address any_port = loopback_at(family, 0);
    struct target target = {.filler = -1, .address.addr_len = sizeof(target.address.addr)};

    target.fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(target.fd >= 0);
    assert_int_equal(bind(target.fd, sockaddr_at(&any_port), any_port.addr_len), 0);
    assert_int_equal(listen(target.fd, backlog), 0);
    assert_int_equal(getsockname(target.fd, sockaddr_at(&target.address), &target.address.addr_len),
                     0);
    return target;
}

static inline struct target target_that_accepts(int family)
{
    return target_open(family, 16);
}

static inline struct target target_that_never_answers(int family)
{
    struct target target = target_open(family, 0);

    target.filler = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(target.filler >= 0);
    assert_int_equal(connect(target.filler, sockaddr_at(&target.address), target.address.addr_len),
                     0);
    return target;
}

/* The port stays bound, so that nobody else listens there: each connection is refused. */
static inline struct target target_that_refuses(int family)
{
    struct rdy_address any_port = loopback_at(family, 0);
    struct target target = {.filler = -1, .address.addr_len = sizeof(target.address.addr)};

    target.fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(target.fd >= 0);
    assert_int_equal(bind(target.fd, sockaddr_at(&any_port), any_port.addr_len), 0);
    assert_int_equal(getsockname(target.fd, sockaddr_at(&target.address), &target.address.addr_len),
                     0);
    return target;
}

/* The broadcast address of the loopback network: no connection goes there. */
static inline struct rdy_address unreachable_address(void)
{
    struct rdy_address address = loopback_at(AF_INET, 9);

    ((struct sockaddr_in *)&address.addr)->sin_addr.s_addr = htonl(0x7fffffff);
    return address;
}

static inline void target_close(struct target *target)
{
    if (target->filler >= 0)
        assert_int_equal(close(target->filler), 0);
    assert_int_equal(close(target->fd), 0);
    *target = (struct target){.fd = -1, .filler = -1};
}

/* A plain descriptor of the connection at the head of the queue, or -1 if there is none. */
static inline int target_accept(const struct target *target)
{
    return accept4(target->fd, NULL, NULL, SOCK_CLOEXEC);
}

static inline void assert_same_address(const struct rdy_address *one,
                                       const struct rdy_address *other)
{
    assert_int_equal(one->addr_len, other->addr_len);
    assert_memory_equal(&one->addr, &other->addr, one->addr_len);
}

/* What a test may not leave behind. */
struct holdings {
    int descriptors;
    uint64_t registrations;
    uint64_t timers;
};

static inline struct holdings holdings_now(struct rdy_runtime *runtime)
{
    return (struct holdings){
        .descriptors = descriptors_count(),
        .registrations = driver_stats(runtime).entries_live,
        .timers = runtime_stats(runtime).timers_armed,
    };
}

/* A ring closes as the driver turns; the test has no task of its own at this point. */
static inline void assert_nothing_leaked(struct rdy_runtime *runtime, struct holdings before)
{
    struct holdings after;

    for (int turn = 0; turn < 8; turn++)
        assert_true(rdy_driver_turn(rdy_runtime_driver(runtime), 0) >= 0);
    after = holdings_now(runtime);
    assert_int_equal(after.descriptors, before.descriptors);
    assert_int_equal(after.registrations, before.registrations);
    assert_int_equal(after.timers, before.timers);
}

/*
 * The nth system call of a series of calls fails, however many polls these take: to be begun before
 * each of them and ended after.
 */
struct fault {
    uint64_t left; /* until the one that fails; 0: it has, or none is to */
    int error;
    bool has_come;
};

static inline void fault_begin(struct fault *fault)
{
    (void)rdy_sys_fail_nth(fault->left, fault->error);
}

static inline void fault_end(struct fault *fault)
{
    uint64_t calls = rdy_sys_fail_nth(0, 0);

    if (fault->left == 0)
        return;
    fault->has_come = calls >= fault->left;
    fault->left = fault->has_come ? 0 : fault->left - calls;
}

#endif
