/* SPDX-License-Identifier: MIT */
/* What the hand-written baselines share: see raw.h. */
#include "bench/raw.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

volatile sig_atomic_t raw_is_stopping;

static void on_signal(int number)
{
    (void)number;
    raw_is_stopping = 1;
}

void raw_die(const char *what, const char *why)
{
    fprintf(stderr, "raw: %s: %s\n", what, why);
    exit(1);
}

void raw_catch_signals(void)
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

uint32_t raw_fds_max(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        raw_die("getrlimit", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > RAW_FDS_MAX ? RAW_FDS_MAX : (uint32_t)limit.rlim_cur;
}

int raw_listen(const char *where)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(where, ':');
    struct addrinfo *found = NULL;
    char host[256];
    int one = 1;
    int rc;
    int fd;

    if (!colon || (size_t)(colon - where) >= sizeof(host))
        raw_die(where, "not HOST:PORT");
    memcpy(host, where, (size_t)(colon - where));
    host[colon - where] = '\0';
    rc = getaddrinfo(host, colon + 1, &hints, &found);
    if (rc)
        raw_die(where, gai_strerror(rc));
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        raw_die("socket", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    /* On Linux accepted sockets inherit it: no call for each of them. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (bind(fd, found->ai_addr, found->ai_addrlen) || listen(fd, RAW_BACKLOG))
        raw_die(where, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

void raw_print_address(int fd, const char *backend)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];

    if (getsockname(fd, (struct sockaddr *)&address, &len) ||
        getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV))
        raw_die("getsockname", strerror(errno));
    printf("listening on %s:%s backend=%s workers=1\n", host, port, backend);
    fflush(stdout);
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

void raw_print_summary(const char *server, const struct raw_counts *counts)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    printf(
        "{\"server\": \"%s\", \"requests\": %" PRIu64 ", \"bytes\": %" PRIu64
        ", \"connections\": %" PRIu64 ", \"connections_live\": %" PRIu64
        ", \"system_calls\": %" PRIu64
        ", \"cpu_user_s\": %.6f, \"cpu_system_s\": %.6f, \"cpu_s\": %.6f, \"rss_max_kb\": %ld}\n",
        server, counts->requests, counts->bytes, counts->accepted, counts->connections_live,
        counts->system_calls, seconds_of(usage.ru_utime), seconds_of(usage.ru_stime),
        seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime), usage.ru_maxrss);
    fflush(stdout);
}
