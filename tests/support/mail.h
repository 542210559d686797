/* SPDX-License-Identifier: MIT */
/*
 * For tests of datagrams in a child: a UDP socket of ours in completion mode, on whatever AUTO
 * chooses, and a plain one that is its peer. Datagrams are numbers, so that the test sees which
 * come, and in which order.
 */
#ifndef RDY_TESTS_SUPPORT_MAIL_H
#define RDY_TESTS_SUPPORT_MAIL_H

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <rdy/datagram_completion.h>
#include <rdy/rdy.h>

#include "tests/support/child.h"

#define MAIL_MAX 256u

struct mail {
    struct rdy_runtime *runtime;
    struct rdy_datagram socket;
    struct sockaddr_in addr;
    struct sockaddr_in peer_addr;
    int peer; /* plain, and connected to ours */
    struct rdy_buf held[2];
    struct rdy_buf owed;
    uint32_t goal;
    uint32_t sent;
    uint32_t count; /* received */
    uint32_t number[MAIL_MAX];
    uint32_t errors;
    int error; /* the latest */
    uint32_t step;
    int refusal; /* what the filter says */
};

static inline struct mail *mail_of(void *self)
{
    return *(struct mail **)self;
}

/* The kernel takes a closed ring apart in the background, and lets go of its sockets meanwhile. */
static inline int bind_patiently(int fd, const struct sockaddr_in *addr)
{
    for (int tries = 0; tries < 5000; tries++) {
        if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
            return 0;
        if (errno != EADDRINUSE)
            return -errno;
        (void)usleep(1000);
    }
    return -EADDRINUSE;
}

static inline int plain_socket(struct sockaddr_in *addr)
{
    socklen_t addr_len = sizeof(*addr);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    child_check(fd >= 0);
    child_check(bind_patiently(fd, addr) == 0);
    child_check(getsockname(fd, (struct sockaddr *)addr, &addr_len) == 0);
    return fd;
}

static inline void socket_open(struct mail *mail)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_storage addr;
    socklen_t addr_len = 0;

    child_check(rdy_datagram_open(&mail->socket, mail->runtime, AF_INET, NULL) == 0);
    child_check(rdy_datagram_bind(&mail->socket, (struct sockaddr *)&any, sizeof(any)) == 0);
    child_check(rdy_datagram_local_address(&mail->socket, &addr, &addr_len) == 0);
    memcpy(&mail->addr, &addr, sizeof(mail->addr));
    child_check(rdy_datagram_start_completion(&mail->socket) == 0);
    child_check(rdy_datagram_is_native(&mail->socket));
}

static inline void mail_open_with(struct mail *mail, const struct rdy_driver_opts *driver)
{
    struct rdy_runtime_opts opts = {.size = sizeof(opts), .driver = *driver};

    memset(mail, 0, sizeof(*mail));
    opts.driver.size = sizeof(opts.driver);
    mail->peer_addr.sin_family = AF_INET;
    mail->peer_addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    child_check(rdy_runtime_open(&mail->runtime, &opts) == 0);
    socket_open(mail);
    mail->peer = plain_socket(&mail->peer_addr);
    child_check(connect(mail->peer, (struct sockaddr *)&mail->addr, sizeof(mail->addr)) == 0);
}

static inline void mail_open(struct mail *mail)
{
    mail_open_with(mail, &(struct rdy_driver_opts){0});
}

static inline void mail_connect(struct mail *mail)
{
    child_check(rdy_datagram_connect(&mail->socket, (struct sockaddr *)&mail->peer_addr,
                                     sizeof(mail->peer_addr)) == 0);
}

static inline struct rdy_driver *driver_of(const struct mail *mail)
{
    return rdy_runtime_driver(mail->runtime);
}

static inline struct rdy_driver_stats driver_stats(const struct mail *mail)
{
    struct rdy_driver_stats stats;

    rdy_driver_read_stats(driver_of(mail), &stats);
    return stats;
}

static inline void mail_turn(struct mail *mail)
{
    child_check(rdy_driver_turn(driver_of(mail), 0) >= 0);
}

/* The ring dies in the turn that is made here, and the socket goes on without it. */
static inline void mail_lose(struct mail *mail, int error)
{
    forbid(error, false);
    mail_turn(mail);
    child_check(driver_stats(mail).backend_moves == 1);
    child_check(!rdy_datagram_is_native(&mail->socket));
}

static inline void spawn(struct mail *mail, rdy_poll_fn *poll)
{
    struct rdy_task_spec spec = {.poll = poll, .self_size = sizeof(struct mail *)};
    void *self;

    child_check(rdy_spawn(mail->runtime, &spec, &self, NULL) == 0);
    *(struct mail **)self = mail;
}

static inline void run(struct mail *mail, rdy_poll_fn *poll)
{
    spawn(mail, poll);
    child_check(rdy_runtime_run(mail->runtime) == 0);
}

/* Closes all, and sees that nothing is left: no entry, no buffer. */
static inline void mail_close(struct mail *mail)
{
    struct rdy_completion_stats stats;

    rdy_buf_release(&mail->owed);
    for (int i = 0; i < 2; i++)
        rdy_buf_release(&mail->held[i]);
    rdy_datagram_close(&mail->socket);
    for (int i = 0; i < 3; i++)
        mail_turn(mail);
    child_check(driver_stats(mail).entries_live == 0);
    rdy_completion_read_stats(mail->runtime, &stats);
    child_check(stats.blocks_live == 0);
    child_check(stats.buffers_free == stats.buffers_total);
    rdy_runtime_close(mail->runtime);
    child_check(close(mail->peer) == 0);
}

static inline void say(struct mail *mail, uint32_t number)
{
    child_check(send(mail->peer, &number, sizeof(number), 0) == sizeof(number));
}

/* The next number that the peer hears, or -1. */
static inline int64_t hear(struct mail *mail)
{
    uint32_t number = 0;
    ssize_t count = recv(mail->peer, &number, sizeof(number), MSG_DONTWAIT);

    return count == sizeof(number) ? (int64_t)number : -1;
}

static inline void check_heard(struct mail *mail, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        child_check(hear(mail) == i);
    child_check(hear(mail) == -1);
}

static inline void check_received(const struct mail *mail)
{
    child_check(mail->count == mail->goal);
    for (uint32_t i = 0; i < mail->goal; i++)
        child_check(mail->number[i] == i);
}

#endif
