/* SPDX-License-Identifier: MIT */
/* What the lane of a datagram socket has that others do not: see engine/message.h. */
#ifndef RDY_ENGINE_LETTER_H
#define RDY_ENGINE_LETTER_H

#include <netinet/in.h>

#include "engine/base.h"

/* rdy_lane.message; 0: not of a datagram socket. */
#define RDY_MESSAGE_LANE  0x1u
#define RDY_MESSAGE_PLAIN 0x2u /* the engine makes the calls, whatever the backend can */
#define RDY_MESSAGE_UNIX  0x4u /* sends are not queued: room in the peer cannot be polled for */

/* What a letter without bytes counts as in a queue that is bounded in bytes. */
#define RDY_LETTER_COST 256u

/* Stays where it is until it has gone out: the kernel reads it when it takes the request. */
struct rdy_letter {
    struct rdy_letter *next;
    struct rdy_block *block;
    struct iovec content;
    struct msghdr header;
    int error;   /* of the present try: 0 is nothing heard */
    int refused; /* once, with news of another one: -errno, not told yet */
    struct sockaddr_in6 addr;
    /* The length of segments. */
    char control[CMSG_SPACE(sizeof(uint16_t))]
        __attribute__((aligned(__alignof__(struct cmsghdr))));
};

/* Datagrams to be sent, first in, first out. */
struct rdy_letter_queue {
    struct rdy_letter *first;
    struct rdy_letter *last;
};

#endif
