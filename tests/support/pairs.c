/* SPDX-License-Identifier: MIT */
/* Pairs of descriptors, made with plain system calls so that no code under test
 * is in them. */
#include "tests/support/pairs.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define SOCKET_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)

static struct sockaddr *plain(const struct sockaddr_in *address)
{
    return (struct sockaddr *)(uintptr_t)address;
}

int tcp_listener(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCKET_FLAGS, 0);
    socklen_t len = sizeof(*address);

    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(fd >= 0);
    check(bind(fd, plain(address), len) == 0);
    check(listen(fd, 64) == 0);
    check(getsockname(fd, plain(address), &len) == 0);
    return fd;
}

int tcp_unconnected(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCKET_FLAGS, 0);

    check(fd >= 0);
    return fd;
}

int tcp_dial(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check(fd >= 0);
    check(connect(fd, plain(address), sizeof(*address)) == 0);
    check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    return fd;
}

struct pair pair_tcp(void)
{
    struct sockaddr_in address;
    int listener = tcp_listener(&address);
    int peer = tcp_dial(&address);
    struct pollfd item = {.fd = listener, .events = POLLIN};
    struct pair pair = {.peer = peer};

    check(poll(&item, 1, -1) == 1);
    pair.ours = accept4(listener, NULL, NULL, SOCKET_FLAGS);
    check(pair.ours >= 0);
    close(listener);
    return pair;
}

struct pair pair_unix(void)
{
    int fd[2];

    check(socketpair(AF_UNIX, SOCK_STREAM | SOCKET_FLAGS, 0, fd) == 0);
    return (struct pair){.ours = fd[0], .peer = fd[1]};
}

struct pair pair_pipe_reader(void)
{
    int fd[2];

    check(pipe2(fd, O_NONBLOCK | O_CLOEXEC) == 0);
    return (struct pair){.ours = fd[0], .peer = fd[1]};
}

struct pair pair_pipe_writer(void)
{
    struct pair pair = pair_pipe_reader();

    return (struct pair){.ours = pair.peer, .peer = pair.ours};
}

int udp_to_nobody(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int gone = socket(AF_INET, SOCK_DGRAM | SOCKET_FLAGS, 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCKET_FLAGS, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(gone >= 0 && fd >= 0);
    check(bind(gone, plain(&address), len) == 0);
    check(getsockname(gone, plain(&address), &len) == 0);
    check(connect(fd, plain(&address), len) == 0);
    close(gone);
    return fd;
}

int event_fd(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    check(fd >= 0);
    return fd;
}

void event_write(int fd)
{
    uint64_t one = 1;

    check(write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
}

bool event_read(int fd)
{
    uint64_t value;

    return read(fd, &value, sizeof(value)) == (ssize_t)sizeof(value);
}

void put(int fd, const char *text)
{
    size_t len = strlen(text);

    check(write(fd, text, len) == (ssize_t)len);
}

ssize_t get(int fd, size_t max)
{
    char buf[4096];
    ssize_t count = read(fd, buf, max < sizeof(buf) ? max : sizeof(buf));

    return count < 0 ? -errno : count;
}

size_t drain(int fd)
{
    size_t total = 0;
    ssize_t count;

    while ((count = get(fd, 4096)) > 0)
        total += (size_t)count;
    return total;
}

void fill(int fd)
{
    static const char block[65536];
    size_t size = sizeof(block);

    /* Ever smaller, so that not even one byte has room in the end. */
    while (size > 0) {
        if (write(fd, block, size) <= 0)
            size /= 2;
    }
}

void hang_up(int fd)
{
    struct linger abort_it = {.l_onoff = 1, .l_linger = 0};

    check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it)) == 0);
    close(fd);
}

void close_pair(struct pair *pair)
{
    if (pair->ours >= 0)
        close(pair->ours);
    if (pair->peer >= 0)
        close(pair->peer);
    pair->ours = -1;
    pair->peer = -1;
}

uint32_t fds_open(void)
{
    DIR *folder = opendir("/proc/self/fd");
    uint32_t count = 0;

    check(folder != NULL);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count - 3; /* ".", ".." and the folder itself */
}
