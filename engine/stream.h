/* SPDX-License-Identifier: MIT */
/*
 * What the two socket files share: flags, and making a registered stream out of a descriptor.
 */
#ifndef RDY_ENGINE_STREAM_H
#define RDY_ENGINE_STREAM_H

#include <rdy/net.h>

#include "engine/base.h"

/* rdy_stream.flags and rdy_listener.flags. */
#define RDY_SOCKET_INQ        0x1u /* TCP_INQ is on: a read also says how much is left */
#define RDY_SOCKET_PRIORITY   0x2u /* urgent data is reported, so its absence is known */
#define RDY_SOCKET_CONNECTING 0x4u
/* Above these the errno of a connection that failed: the kernel tells it once only. */
#define RDY_SOCKET_ERROR_SHIFT 16

/* Registers @fd, a stream socket with these flags; writes @stream on success only. */
int rdy_stream_register(struct rdy_stream *stream, struct rdy_driver *driver, int fd,
                        uint32_t flags);

/*
 * The options that every TCP socket of ours has, listeners included: accepted sockets inherit them.
 * Returns the flags for the socket: how reads on it will learn that it is drained.
 */
uint32_t rdy_stream_prepare_tcp(const struct rdy_driver *driver, int fd);

#endif
