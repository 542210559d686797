/* SPDX-License-Identifier: MIT */
/*
 * The baseline: a TCP echo server written by hand on epoll, one thread, edge-triggered, with no
 * layer in between. rdy is measured against this program, so it does what a good hand-written loop
 * does and nothing else: one 64 KiB buffer that all connections share, read until a short read,
 * send at once, and a copy of its own for a connection only while its peer does not read.
 *
 * It does the same work as `rdy echo`: accept4() with the flags, TCP_NODELAY, MSG_NOSIGNAL, and
 * half close answered after the rest has been echoed. Every system call goes through a counting
 * line, so that calls per request can be compared. At SIGTERM it prints one line of JSON.
 */
#include "bench/raw.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES   65536
#define EVENTS_MAX   1024
#define EVENTS_WATCH (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* What the peer has not taken yet. Exists only while it does not read. */
struct rest {
    size_t len;
    size_t sent;
    char bytes[];
};

struct connection {
    struct rest *rest;
    bool is_ending; /* the peer's end was seen while a rest was to be sent */
};

struct server {
    int epoll_fd;
    int listen_fd;
    bool is_accept_paused; /* out of descriptors; goes on at the next close */
    struct connection *connections;
    uint32_t fds_max;
    struct raw_counts count;
};

static char read_buffer[READ_BYTES];

static void accept_all(struct server *server);

static void connection_close(struct server *server, int fd)
{
    struct connection *connection = &server->connections[fd];

    free(connection->rest);
    *connection = (struct connection){0};
    server->count.system_calls++;
    close(fd);
    server->count.connections_live--;
    if (server->is_accept_paused)
        accept_all(server);
}

static bool connection_open(struct server *server, int fd)
{
    struct epoll_event event = {.events = EVENTS_WATCH, .data = {.fd = fd}};

    server->count.system_calls++;
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void accept_all(struct server *server)
{
    server->is_accept_paused = false;
    for (;;) {
        int fd;

        server->count.system_calls++;
        fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            /* Edge-triggered: what stays queued is not reported again, so remember it. */
            server->is_accept_paused = errno == EMFILE || errno == ENFILE;
            if (errno == ECONNABORTED || errno == EINTR)
                continue;
            return;
        }
        server->count.accepted++;
        server->count.connections_live++;
        if ((uint32_t)fd >= server->fds_max || !connection_open(server, fd)) {
            server->count.system_calls++;
            server->count.connections_live--;
            close(fd);
        }
    }
}

/* The bytes that were sent, or -1 for an error other than a full socket. */
static ssize_t send_some(struct server *server, int fd, const char *data, size_t len)
{
    ssize_t sent;

    server->count.system_calls++;
    sent = send(fd, data, len, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return sent;
}

/* True once nothing is left to send. A false answer with is_dead unset: wait for EPOLLOUT. */
static bool connection_flush(struct server *server, int fd, bool *is_dead)
{
    struct rest *rest = server->connections[fd].rest;
    ssize_t sent;

    if (!rest)
        return true;
    sent = send_some(server, fd, rest->bytes + rest->sent, rest->len - rest->sent);
    if (sent < 0) {
        *is_dead = true;
        return false;
    }
    rest->sent += (size_t)sent;
    if (rest->sent < rest->len)
        return false;
    free(rest);
    server->connections[fd].rest = NULL;
    return true;
}

/* Keeps what could not be sent. False: out of memory. */
static bool connection_keep(struct server *server, int fd, const char *data, size_t len)
{
    struct rest *rest = malloc(sizeof(*rest) + len);

    if (!rest)
        return false;
    rest->len = len;
    rest->sent = 0;
    memcpy(rest->bytes, data, len);
    server->connections[fd].rest = rest;
    return true;
}

/* Sends @len bytes of the shared buffer back. True: all of it went out, go on reading. */
static bool connection_echo(struct server *server, int fd, size_t len, bool *is_dead)
{
    ssize_t sent;

    server->count.requests++;
    server->count.bytes += len;
    sent = send_some(server, fd, read_buffer, len);
    if (sent == (ssize_t)len)
        return true;
    *is_dead = sent < 0 || !connection_keep(server, fd, read_buffer + sent, len - (size_t)sent);
    return false;
}

/*
 * Reads and echoes until a short read: what comes after one raises a new edge. When the event says
 * that the peer has ended, no new edge may come, so go on to the end of the stream.
 */
static void connection_serve(struct server *server, int fd, uint32_t events)
{
    bool is_ending = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    struct connection *connection = &server->connections[fd];
    bool is_dead = false;
    ssize_t len = READ_BYTES;

    connection->is_ending = connection->is_ending || is_ending;
    is_ending = connection->is_ending;
    /* A rest means that reading stopped half way: go on with it once the rest is gone. */
    if (!connection_flush(server, fd, &is_dead)) {
        if (is_dead)
            connection_close(server, fd);
        return;
    }
    while (len == READ_BYTES || is_ending) {
        server->count.system_calls++;
        len = recv(fd, read_buffer, READ_BYTES, 0);
        if (len <= 0) {
            is_dead = len == 0 || (errno != EAGAIN && errno != EINTR);
            break;
        }
        if (!connection_echo(server, fd, (size_t)len, &is_dead))
            break;
    }
    if (is_dead)
        connection_close(server, fd);
}

/* An event of writability alone is news only to a connection that waits to send. */
static bool connection_has_work(const struct server *server, int fd, uint32_t events)
{
    return (events & ~(uint32_t)EPOLLOUT) != 0 || server->connections[fd].rest;
}

static void serve(struct server *server)
{
    static struct epoll_event events[EVENTS_MAX];
    sigset_t none;

    sigemptyset(&none);
    while (!raw_is_stopping) {
        int count;

        server->count.system_calls++;
        /* Signals are let in only here: none is missed between the test and the wait. */
        count = epoll_pwait(server->epoll_fd, events, EVENTS_MAX, -1, &none);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;

            if (fd == server->listen_fd)
                accept_all(server);
            else if (connection_has_work(server, fd, events[i].events))
                connection_serve(server, fd, events[i].events);
        }
    }
}

int main(int argc, char **argv)
{
    struct server server = {0};
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    if (argc != 3 || strcmp(argv[1], "--listen") != 0) {
        fprintf(stderr, "usage: raw_epoll --listen HOST:PORT\n");
        return 2;
    }
    raw_catch_signals();
    server.fds_max = raw_fds_max();
    server.connections = calloc(server.fds_max, sizeof(*server.connections));
    if (!server.connections)
        raw_die("connections", "out of memory");
    server.listen_fd = raw_listen(argv[2]);
    server.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    event.data.fd = server.listen_fd;
    if (server.epoll_fd < 0 || epoll_ctl(server.epoll_fd, EPOLL_CTL_ADD, server.listen_fd, &event))
        raw_die("epoll", strerror(errno));
    raw_print_address(server.listen_fd, "raw-epoll");
    serve(&server);
    raw_print_summary("raw_epoll", &server.count);
    free(server.connections);
    return 0;
}
