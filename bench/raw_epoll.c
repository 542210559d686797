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
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES   65536
#define EVENTS_MAX   1024
#define FDS_MAX      (1 << 20)
#define BACKLOG      4096
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
    uint64_t system_calls;
    uint64_t requests; /* reads that brought data: with a depth above one, several messages */
    uint64_t bytes;
    uint64_t accepted;
    uint64_t connections_live;
};

static volatile sig_atomic_t is_stopping;
static char read_buffer[READ_BYTES];

static void on_signal(int number)
{
    (void)number;
    is_stopping = 1;
}

__attribute__((noreturn)) static void die(const char *what, const char *why)
{
    fprintf(stderr, "raw_epoll: %s: %s\n", what, why);
    exit(1);
}

static void accept_all(struct server *server);

static void connection_close(struct server *server, int fd)
{
    struct connection *connection = &server->connections[fd];

    free(connection->rest);
    *connection = (struct connection){0};
    server->system_calls++;
    close(fd);
    server->connections_live--;
    if (server->is_accept_paused)
        accept_all(server);
}

static bool connection_open(struct server *server, int fd)
{
    struct epoll_event event = {.events = EVENTS_WATCH, .data = {.fd = fd}};

    server->system_calls++;
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void accept_all(struct server *server)
{
    server->is_accept_paused = false;
    for (;;) {
        int fd;

        server->system_calls++;
        fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            /* Edge-triggered: what stays queued is not reported again, so remember it. */
            server->is_accept_paused = errno == EMFILE || errno == ENFILE;
            if (errno == ECONNABORTED || errno == EINTR)
                continue;
            return;
        }
        server->accepted++;
        server->connections_live++;
        if ((uint32_t)fd >= server->fds_max || !connection_open(server, fd)) {
            server->system_calls++;
            server->connections_live--;
            close(fd);
        }
    }
}

/* The bytes that were sent, or -1 for an error other than a full socket. */
static ssize_t send_some(struct server *server, int fd, const char *data, size_t len)
{
    ssize_t sent;

    server->system_calls++;
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

    server->requests++;
    server->bytes += len;
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
        server->system_calls++;
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
    while (!is_stopping) {
        int count;

        server->system_calls++;
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

static int listen_on(const char *where)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(where, ':');
    struct addrinfo *found = NULL;
    char host[256];
    int one = 1;
    int rc;
    int fd;

    if (!colon || (size_t)(colon - where) >= sizeof(host))
        die(where, "not HOST:PORT");
    memcpy(host, where, (size_t)(colon - where));
    host[colon - where] = '\0';
    rc = getaddrinfo(host, colon + 1, &hints, &found);
    if (rc)
        die(where, gai_strerror(rc));
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    /* On Linux accepted sockets inherit it: no call for each of them. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (bind(fd, found->ai_addr, found->ai_addrlen) || listen(fd, BACKLOG))
        die(where, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

/* "listening on HOST:PORT", with the port that the kernel chose, for whoever started us. */
static void print_address(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];

    if (getsockname(fd, (struct sockaddr *)&address, &len) ||
        getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV))
        die("getsockname", strerror(errno));
    printf("listening on %s:%s backend=raw-epoll workers=1\n", host, port);
    fflush(stdout);
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void print_summary(const struct server *server)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    printf(
        "{\"server\": \"raw_epoll\", \"requests\": %" PRIu64 ", \"bytes\": %" PRIu64
        ", \"connections\": %" PRIu64 ", \"connections_live\": %" PRIu64
        ", \"system_calls\": %" PRIu64
        ", \"cpu_user_s\": %.6f, \"cpu_system_s\": %.6f, \"cpu_s\": %.6f, \"rss_max_kb\": %ld}\n",
        server->requests, server->bytes, server->accepted, server->connections_live,
        server->system_calls, seconds_of(usage.ru_utime), seconds_of(usage.ru_stime),
        seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime), usage.ru_maxrss);
    fflush(stdout);
}

/* As many descriptors as we may have, and a table entry for each. */
static void make_table(struct server *server)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        die("getrlimit", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    server->fds_max = limit.rlim_cur > FDS_MAX ? FDS_MAX : (uint32_t)limit.rlim_cur;
    server->connections = calloc(server->fds_max, sizeof(*server->connections));
    if (!server->connections)
        die("connections", "out of memory");
}

/* SIGTERM and SIGINT are held back everywhere but in the wait. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t held;

    sigemptyset(&held);
    sigaddset(&held, SIGTERM);
    sigaddset(&held, SIGINT);
    sigprocmask(SIG_BLOCK, &held, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

int main(int argc, char **argv)
{
    struct server server = {0};
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    if (argc != 3 || strcmp(argv[1], "--listen") != 0) {
        fprintf(stderr, "usage: raw_epoll --listen HOST:PORT\n");
        return 2;
    }
    catch_signals();
    make_table(&server);
    server.listen_fd = listen_on(argv[2]);
    server.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    event.data.fd = server.listen_fd;
    if (server.epoll_fd < 0 || epoll_ctl(server.epoll_fd, EPOLL_CTL_ADD, server.listen_fd, &event))
        die("epoll", strerror(errno));
    print_address(server.listen_fd);
    serve(&server);
    print_summary(&server);
    free(server.connections);
    return 0;
}
