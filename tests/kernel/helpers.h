/* SPDX-License-Identifier: MIT */
/*
 * What the kernel tests share: loopback sockets, a look at a descriptor, a child to break things
 * in. A child reports by its exit status, as cmocka's assertions jump into the parent's frames.
 */
#ifndef RDY_TESTS_KERNEL_HELPERS_H
#define RDY_TESTS_KERNEL_HELPERS_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A claim in a child: a false one is named on stderr and ends it. */
#define CHILD_CLAIM(x)                                                                             \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)fprintf(stderr, "child: false: %s (line %d)\n", #x, __LINE__);                   \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static inline int event_new(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static inline void event_signal(int fd)
{
    uint64_t one = 1;

    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static inline void event_drain(int fd)
{
    uint64_t count;

    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
}

static inline bool is_readable(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};

    return poll(&look, 1, 0) == 1 && (look.revents & POLLIN);
}

/* A listener on a free loopback port (@port 0), or on a given one; -errno if it is taken. */
static inline int listener_new(uint16_t *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t addr_len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&addr, addr_len) < 0 || listen(fd, 16) < 0) {
        int rc = -errno;

        (void)close(fd);
        return rc;
    }
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &addr_len), 0);
    *port = ntohs(addr.sin_port);
    return fd;
}

/* Two connected TCP sockets. */
static inline void tcp_pair(int pair[2])
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    uint16_t port = 0;
    int listener = listener_new(&port);

    assert_true(listener >= 0);
    addr.sin_port = htons(port);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(pair[0] >= 0);
    assert_int_equal(connect(pair[0], (struct sockaddr *)&addr, sizeof(addr)), 0);
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(pair[1] >= 0);
    assert_int_equal(close(listener), 0);
}

/* Runs @body in a child; its result is the child's exit status. */
static inline int in_child(int (*body)(int), int argument)
{
    int status = 0;
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(body(argument));
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline bool kernel_is_at_least(int major, int minor)
{
    struct utsname name;
    int have_major = 0;
    int have_minor = 0;

    assert_int_equal(uname(&name), 0);
    assert_int_equal(sscanf(name.release, "%d.%d", &have_major, &have_minor), 2);
    return have_major > major || (have_major == major && have_minor >= minor);
}

#endif
