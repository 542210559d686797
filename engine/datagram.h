/* SPDX-License-Identifier: MIT */
/* What the datagram files share: a socket's flags, and messages of any kind. */
#ifndef RDY_ENGINE_DATAGRAM_H
#define RDY_ENGINE_DATAGRAM_H

#include <rdy/datagram.h>

#include "engine/base.h"

/* rdy_datagram.flags: the address family, none of these for another one. */
#define RDY_DATAGRAM_INET  0x1u
#define RDY_DATAGRAM_INET6 0x2u
#define RDY_DATAGRAM_UNIX  0x4u

/* Sends one message as a poll: the answer of any of the poll_send calls. */
ssize_t rdy_datagram_send_message(struct rdy_datagram *datagram, struct rdy_task *task,
                                  const struct msghdr *msg);

/* Takes or peeks one as a poll: its length as sent; what @msg points to is filled then. */
ssize_t rdy_datagram_recv_message(struct rdy_datagram *datagram, struct rdy_task *task,
                                  struct msghdr *msg, bool is_peek);

#endif
