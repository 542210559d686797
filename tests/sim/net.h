/* SPDX-License-Identifier: MIT */
/*
 * The simulated network: stream sockets of TCP and Unix, as far as an engine can tell them apart.
 *
 * A connection is two sockets, and two flows: what is written to a flow arrives after a while, in
 * order, and stays until it is read; only then, after another while, is there room again. Flows are
 * small, so that writers meet full sockets. Ends and resets travel like data.
 *
 * Whoever watches a socket stands in its list and is told of each wake-up with the key that Linux
 * gives it: which events woke, or 0 for a change of the connection's state, after which one has to
 * look. What holds is a question of its own: sim_sock_poll().
 *
 * Peers use sockets directly; the engine has descriptors, see files.h.
 */
#ifndef RDY_TESTS_SIM_NET_H
#define RDY_TESTS_SIM_NET_H

#include <sys/socket.h>
#include <sys/types.h>

#include <rdy/base.h>

#include "engine/backend.h"
#include "engine/list.h"
#include "tests/sim/world.h"

/* The key of a socket's data: PRI is in it whether or not there is urgent data. */
#define SIM_KEY_DATA (RDY_EV_IN | RDY_EV_PRI)
#define SIM_KEY_ROOM RDY_EV_OUT

struct sim_waiter {
    struct rdy_link link; /* of sim_sock.waiters */
    void (*woken)(struct sim_waiter *waiter, uint32_t key);
    void (*gone)(struct sim_waiter *waiter); /* the socket is no more; NULL: cannot be */
};

enum sim_sock_state {
    SIM_SOCK_NEW = 0,
    SIM_SOCK_CONNECTING,
    SIM_SOCK_CONNECTED,
    SIM_SOCK_LISTENING,
    SIM_SOCK_OVER, /* reset, refused, or never to be used again */
};

/* Positions count bytes from the begin of the stream: freed <= read <= arrived <= written. */
struct sim_flow {
    unsigned char *bytes; /* a ring */
    uint32_t size;
    uint64_t written;
    uint64_t arrived;
    uint64_t read;
    uint64_t freed;
    uint64_t mark;         /* the urgent byte's position + 1; 0: there is none that counts */
    uint64_t mark_written; /* the same of one that is under way */
};

struct sim_sock {
    struct sim_sock *next; /* of all there are */
    struct rdy_link waiters;
    struct sim_sock *peer;
    enum sim_sock_state state;
    bool is_unix;
    bool is_read_shut;
    bool is_write_shut;
    bool is_end_sent;
    bool has_no_room; /* somebody met a full flow */
    bool is_orphan;   /* closed: nobody will read or write it */
    bool is_excused;  /* of a peer's: what it sent need not come back, for a reason that was told */
    int error;        /* -errno, told once */
    int failure;      /* the same, of what refused or broke off the connection, for good */
    struct sim_flow in;
    uint64_t latest_ns; /* when the latest that is on its way here arrives */
    uint32_t id;

    /* A listener. */
    struct sim_sock *queue_first;
    struct sim_sock *queue_last;
    struct sim_sock *queue_next;
    uint32_t queue_count;
    uint32_t backlog;
    bool is_dark; /* it lets whoever comes try again */

    struct sockaddr_storage address;
    socklen_t address_len;
    void *actor;              /* the peer whose socket it is, if any */
    struct sim_mailbox *mail; /* of a datagram socket: see mail.h */
};

struct sim_sock *sim_sock_make(bool is_unix);

/* All of them, at the end of a seed. How many were left open by the engine is counted elsewhere. */
void sim_net_end(void);

/* 0 or -errno, as the system calls of these names. To connect again tells how it stands. */
int sim_sock_bind(struct sim_sock *sock, const struct sockaddr *addr, socklen_t addr_len);
int sim_sock_listen(struct sim_sock *sock, int backlog);
int sim_sock_connect(struct sim_sock *sock, const struct sockaddr *addr, socklen_t addr_len);
struct sim_sock *sim_sock_accept(struct sim_sock *listener, int *error);
ssize_t sim_sock_recv(struct sim_sock *sock, void *buf, size_t len, bool is_peek);
ssize_t sim_sock_send(struct sim_sock *sock, const void *data, size_t len);
int sim_sock_shutdown(struct sim_sock *sock, int how);

/* TCP only: the last byte of @data is urgent, and no part of the stream for who reads past it. */
ssize_t sim_sock_send_urgent(struct sim_sock *sock, const void *data, size_t len);

/* The last descriptor and the last request let go. @is_reset: with SO_LINGER of 0. */
void sim_sock_close(struct sim_sock *sock, bool is_reset);

/* Whoever is at the other end, or waits in this listener's queue or comes to it later, cannot be
 * served, and the engine is not to blame. */
void sim_sock_give_up(struct sim_sock *sock);

/* What holds: RDY_EV_*. */
uint32_t sim_sock_poll(const struct sim_sock *sock);

/* The same, as a poll asks: a TCP socket without room will say when it has some. */
uint32_t sim_sock_look(struct sim_sock *sock);

/* Bytes that a read would get. */
uint64_t sim_sock_unread(const struct sim_sock *sock);

void sim_sock_watch(struct sim_sock *sock, struct sim_waiter *waiter);
void sim_sock_unwatch(struct sim_waiter *waiter);

#endif
