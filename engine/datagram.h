/* SPDX-License-Identifier: MIT */
/* What the datagram files share: a socket's flags, and messages of any kind. */
#ifndef RDY_ENGINE_DATAGRAM_H
#define RDY_ENGINE_DATAGRAM_H

#include <rdy/datagram.h>

#include "engine/base.h"

/* No UDP datagram is longer. */
#define RDY_DATAGRAM_LEN_MAX ((size_t)65535)

/* rdy_datagram.flags: the address family, none of these for another one. */
#define RDY_DATAGRAM_INET      0x1u
#define RDY_DATAGRAM_INET6     0x2u
#define RDY_DATAGRAM_UNIX      0x4u
#define RDY_DATAGRAM_CONNECTED 0x8u  /* an IPv4 or IPv6 socket with a peer */
#define RDY_DATAGRAM_COMPLETES 0x10u /* in completion mode: has a lane */
/* Above these the errno of news that the network had when no call could answer it. */
#define RDY_DATAGRAM_NEWS_SHIFT 16

static inline bool rdy_datagram_has_news(const struct rdy_datagram *datagram)
{
    return (datagram->flags >> RDY_DATAGRAM_NEWS_SHIFT) != 0;
}

/* What ICMP may have to say to a connected socket. */
static inline bool rdy_datagram_is_news(ssize_t error)
{
    switch (error) {
    case -ECONNREFUSED:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
    case -EHOSTDOWN:
    case -ENONET:
    case -ENOPROTOOPT:
    case -EPROTO:
        return true;
    default:
        return false;
    }
}

/* The next call on the socket answers @error. */
static inline void rdy_datagram_keep_news(struct rdy_datagram *datagram, int error)
{
    rdy_assert(error < 0 && !rdy_datagram_has_news(datagram));
    datagram->flags |= (uint32_t)-error << RDY_DATAGRAM_NEWS_SHIFT;
}

/* All but the address itself, which is in place: @msg as recvmsg(2) left it. */
void rdy_datagram_describe(struct rdy_datagram_info *info, struct msghdr *msg, size_t datagram_len);

/* What was kept for the next call, which pays for it. */
ssize_t rdy_datagram_take_news(struct rdy_datagram *datagram, struct rdy_task *task);

/* Sends one message as a poll: the answer of any of the poll_send calls. */
ssize_t rdy_datagram_send_message(struct rdy_datagram *datagram, struct rdy_task *task,
                                  const struct msghdr *msg);

/* Takes or peeks one as a poll: its length as sent; what @msg points to is filled then. Its iovec
 * is no longer than what is there: the engine's buffer may have cut the end off before. */
ssize_t rdy_datagram_recv_message(struct rdy_datagram *datagram, struct rdy_task *task,
                                  struct msghdr *msg, bool is_peek);

/*
 * datagram_completion.c, of a socket in completion mode: does what is received or sent next go
 * through its lane, and the two calls above if it does, without the checks that come first there.
 */
bool rdy_datagram_receives(const struct rdy_datagram *datagram);
bool rdy_datagram_queues(const struct rdy_datagram *datagram);
ssize_t rdy_datagram_lane_recv(struct rdy_datagram *datagram, struct rdy_task *task,
                               struct msghdr *msg, bool is_peek);
ssize_t rdy_datagram_lane_send(struct rdy_datagram *datagram, struct rdy_task *task,
                               const struct msghdr *msg);

#endif
