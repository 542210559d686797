/* SPDX-License-Identifier: MIT */
/*
 * What an idle connection costs the server: open many, have each do one round trip, look at the
 * server's anonymous memory before and after. Plain blocking sockets, with a timeout: there is one
 * message in flight in all.
 *
 * A first connection is made, used and kept before the first look, so that the fixed costs (the
 * read buffer, the first pages of the slabs) are not counted as a connection's.
 */
#include "apps/demo.h"
#include "apps/system.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define MESSAGE_SIZE 64

/*
 * EINTR without any signal of ours: the kernel takes a ring that was closed a moment ago (the
 * probe's) down in this thread, and that interrupts a receive that has a timeout.
 */
static int idle_receive(int fd, char *data, size_t data_len)
{
    size_t got = 0;
    ssize_t count;

    while (got < data_len) {
        count = recv(fd, data + got, data_len - got, 0);
        if (count == 0)
            return -ECONNRESET;
        if (count < 0 && errno != EINTR)
            return -errno;
        if (count > 0)
            got += (size_t)count;
    }
    return 0;
}

static int idle_round_trip(int fd)
{
    char sent[MESSAGE_SIZE] = "idle";
    char got[MESSAGE_SIZE];
    int rc;

    if (send(fd, sent, sizeof(sent), MSG_NOSIGNAL) != (ssize_t)sizeof(sent))
        return -EPIPE;
    rc = idle_receive(fd, got, sizeof(got));
    if (rc < 0)
        return rc;
    return memcmp(sent, got, sizeof(got)) == 0 ? 0 : -EPROTO;
}

static int idle_open(const struct server *server, int *out)
{
    struct timeval limit = {.tv_sec = 2};
    int fd = socket(server->endpoint.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    rc = 0;
    if (connect(fd, (const struct sockaddr *)&server->endpoint.addr, server->endpoint.addr_len) < 0)
        rc = -errno;
    if (rc == 0)
        rc = idle_round_trip(fd);
    if (rc < 0)
        (void)close(fd);
    else
        *out = fd;
    return rc;
}

/* Opens connections [0, count]; number 0 is the one that is not counted. */
static int idle_measure(const struct server *server, int *fds, uint32_t count, uint32_t *opened,
                        double *bytes)
{
    uint64_t before = 0;
    uint64_t after = 0;
    int rc;

    for (uint32_t i = 0; i <= count; i++) {
        rc = idle_open(server, &fds[i]);
        if (rc < 0)
            return rc;
        *opened = i + 1;
        rc = i == 0 ? system_rss_of_bytes(server->pid, &before) : 0;
        if (rc < 0)
            return rc;
    }
    rc = system_rss_of_bytes(server->pid, &after);
    if (rc < 0)
        return rc;
    *bytes = after > before ? (double)(after - before) / count : 0;
    return 0;
}

int demo_idle_bytes(const struct server *server, uint32_t connections, double *bytes)
{
    int *fds = calloc((size_t)connections + 1, sizeof(*fds));
    uint32_t opened = 0;
    int rc;

    if (!fds)
        return -ENOMEM;
    rc = idle_measure(server, fds, connections, &opened, bytes);
    for (uint32_t i = 0; i < opened; i++)
        (void)close(fds[i]);
    free(fds);
    return rc;
}
