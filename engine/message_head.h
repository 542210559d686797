/* SPDX-License-Identifier: MIT */
/*
 * How a received datagram lies in a buffer of the pool: a head of fixed size, then its bytes.
 *
 *   0                16              144                 256
 *   | message head   | sender's name | control messages  | the bytes ...
 *
 * A backend fills it so, whatever there is of name and control; what lies beyond their lengths is
 * undefined. The first 16 bytes are the kernel's struct io_uring_recvmsg_out.
 */
#ifndef RDY_ENGINE_MESSAGE_HEAD_H
#define RDY_ENGINE_MESSAGE_HEAD_H

#include <sys/socket.h>

#include "engine/base.h"

#define RDY_MESSAGE_NAME_ROOM    128u
#define RDY_MESSAGE_CONTROL_ROOM 112u
#define RDY_MESSAGE_HEAD_SIZE    256u

struct rdy_message_head {
    uint32_t name_len;    /* bytes, more than the room if it was cut off; as is the next */
    uint32_t control_len; /* bytes */
    uint32_t payload_len; /* bytes of the datagram as sent */
    uint32_t flags;       /* MSG_* of recvmsg(2) */
};

static_assert(sizeof(struct rdy_message_head) + RDY_MESSAGE_NAME_ROOM + RDY_MESSAGE_CONTROL_ROOM ==
                  RDY_MESSAGE_HEAD_SIZE,
              "the parts are the whole");
static_assert(sizeof(struct sockaddr_storage) <= RDY_MESSAGE_NAME_ROOM, "any name has room");

#endif
