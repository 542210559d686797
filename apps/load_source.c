/* SPDX-License-Identifier: MIT */
/*
 * More connections to one loopback address than there are ephemeral ports: spread over sources.
 *
 * A source address has some 28,000 ports towards one destination. All of 127.0.0.0/8 is this
 * machine, so connection i comes from 127.0.0.(1 + i / 20000). A stream cannot be bound before it
 * connects, so this is done on the socket and with a short blocking wait: over loopback the
 * handshake is done within the call unless the server's queue is full.
 */
#include "apps/load_source.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define SOURCE_CONNECTIONS 20000
#define SOURCES_MAX        250
#define CONNECT_TIMEOUT_MS 5000

bool load_source_is_needed(const struct load *load)
{
    struct sockaddr_in to;

    if (load->options->connections <= SOURCE_CONNECTIONS ||
        load->endpoint.addr.ss_family != AF_INET)
        return false;
    memcpy(&to, &load->endpoint.addr, sizeof(to));
    return ntohl(to.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static int source_bind(int fd, uint64_t index)
{
    uint32_t host = (uint32_t)(index / SOURCE_CONNECTIONS) % SOURCES_MAX;
    struct sockaddr_in from = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK + host),
    };
    int on = 1;

    /* The port is then chosen by connect(2), which may use it towards other destinations too. */
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) < 0)
        return -errno;
    return bind(fd, (const struct sockaddr *)&from, sizeof(from)) < 0 ? -errno : 0;
}

static int source_connect(int fd, const struct rdy_address *endpoint)
{
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    socklen_t error_size = sizeof(int);
    int error = 0;

    if (connect(fd, (const struct sockaddr *)&endpoint->addr, endpoint->addr_len) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    if (poll(&wait, 1, CONNECT_TIMEOUT_MS) <= 0)
        return -ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) < 0)
        return -errno;
    return -error;
}

int load_source_start_connect(const struct load *load, uint64_t index, struct rdy_stream *stream)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return -errno;
    rc = source_bind(fd, index);
    if (rc == 0)
        rc = source_connect(fd, &load->endpoint);
    if (rc == 0)
        rc = rdy_stream_from_fd(stream, load->runtime, fd);
    if (rc < 0)
        (void)close(fd);
    return rc;
}
