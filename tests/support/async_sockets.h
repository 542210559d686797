/* SPDX-License-Identifier: MIT */
/* For tests of AsyncFd: two ends of a Unix stream, both watched, and operations to try on them. */
#ifndef RDY_TESTS_SUPPORT_ASYNC_SOCKETS_H
#define RDY_TESTS_SUPPORT_ASYNC_SOCKETS_H

#include "tests/support/calls.h"

#include <rdy/async_fd.h>

#define RW                         (RDY_INTEREST_READ | RDY_INTEREST_WRITE)
#define assert_ready(guard, flags) assert_int_equal(rdy_guard_ready(guard), flags)

struct sockets {
    struct rdy_runtime *runtime;
    struct rdy_async_fd a;
    struct rdy_async_fd b;
    struct rdy_ready_guard guard;
    struct rdy_readiness wait;
    int calls;
};

__attribute__((unused)) static struct sockets sockets;

/* Two ends of a Unix stream, both watched for both directions and owned. */
static inline void sockets_open(void **state)
{
    int fds[2];

    memset(&sockets, 0, sizeof(sockets));
    sockets.runtime = runtime_of(state);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(rdy_async_fd_open_owned(&sockets.a, sockets.runtime, fds[0], RW), 0);
    assert_int_equal(rdy_async_fd_open_owned(&sockets.b, sockets.runtime, fds[1], RW), 0);
}

static inline void sockets_close(void)
{
    rdy_async_fd_close(&sockets.a);
    rdy_async_fd_close(&sockets.b);
    let_close(sockets.runtime);
}

static inline ssize_t a_is_readable(void *test, struct rdy_task *task)
{
    struct sockets *s = test;

    return rdy_async_fd_poll_readable(&s->a, task, &s->guard);
}

static inline ssize_t a_is_writable(void *test, struct rdy_task *task)
{
    struct sockets *s = test;

    return rdy_async_fd_poll_writable(&s->a, task, &s->guard);
}

static inline ssize_t b_is_writable(void *test, struct rdy_task *task)
{
    struct sockets *s = test;

    return rdy_async_fd_poll_writable(&s->b, task, &s->guard);
}

static inline ssize_t ask(call_fn *fn)
{
    return call_ask(sockets.runtime, fn, &sockets);
}

static inline ssize_t read_byte(int fd, void *arg)
{
    ssize_t count = read(fd, arg, 1);

    return count < 0 ? -errno : count;
}

static inline ssize_t write_block(int fd, void *arg)
{
    static const char block[512];
    ssize_t count = write(fd, block, sizeof(block));

    (void)arg;
    return count < 0 ? -errno : count;
}

static inline ssize_t would_block(int fd, void *arg)
{
    (void)fd;
    (void)arg;
    sockets.calls++;
    return -EAGAIN;
}

static inline ssize_t succeed(int fd, void *arg)
{
    (void)fd;
    (void)arg;
    return 7;
}

static inline ssize_t go_wrong(int fd, void *arg)
{
    (void)fd;
    (void)arg;
    return -EIO;
}

static inline void drain(int fd)
{
    char buf[512];

    while (read(fd, buf, sizeof(buf)) > 0)
        ;
    assert_int_equal(errno, EAGAIN);
}

static inline void say(const struct rdy_async_fd *afd)
{
    assert_int_equal(write(afd->fd, "0", 1), 1);
}

/* Fills the socket through the guard until it says that it would block. */
static inline void fill_a(struct rdy_ready_guard *guard)
{
    ssize_t result = 0;
    int rounds = 0;

    while (rdy_guard_try_io(guard, write_block, NULL, &result)) {
        assert_true(result > 0);
        assert_true(rounds++ < 100000);
    }
}

#endif
