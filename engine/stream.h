/* SPDX-License-Identifier: MIT */
/*
 * What the two socket files share: flags, and making a registered stream out of a descriptor.
 */
#ifndef RDY_ENGINE_STREAM_H
#define RDY_ENGINE_STREAM_H

#include <rdy/net.h>

#include "engine/base.h"

/* rdy_stream.flags and rdy_listener.flags. */
#define RDY_SOCKET_STATES     0x1u  /* events are states: no PRIORITY, no urgent data */
#define RDY_SOCKET_KEYS       0x2u  /* events may be keys, of which a mark has two */
#define RDY_SOCKET_FED        0x8u  /* data was read since the stream was last found drained */
#define RDY_SOCKET_UNSURE     0x10u /* the first event of a mark may have been used up */
#define RDY_SOCKET_CONNECTING 0x4u
#define RDY_SOCKET_COMPLETES  0x20u /* has a lane: completion mode */
#define RDY_SOCKET_MARKED     0x40u /* has had urgent data: no short read proves anything */
#define RDY_SOCKET_WILL       0x80u /* complete, from the moment it is connected */
#define RDY_SOCKET_LANED      (RDY_SOCKET_COMPLETES | RDY_SOCKET_WILL)
/* Above these the errno of a connection that failed: the kernel tells it once only. */
#define RDY_SOCKET_ERROR_SHIFT 16

/* Registers @fd, a stream socket with these flags; writes @stream on success only. */
int rdy_stream_register(struct rdy_stream *stream, struct rdy_driver *driver, int fd,
                        uint32_t flags);

/* The options that every TCP socket of ours has, listeners included: accepted ones inherit them. */
void rdy_stream_set_tcp(int fd);

/* The flags of one: how reads on it will learn that it is drained. The driver's thread. */
uint32_t rdy_stream_tcp_flags(const struct rdy_driver *driver);

/* Both. */
uint32_t rdy_stream_prepare_tcp(const struct rdy_driver *driver, int fd);

/*
 * As rdy_stream_poll_connect(), without the task's budget: for who asks several streams in one
 * operation. Leaves the task's waker in the write slot with RDY_PENDING.
 */
int rdy_stream_advance_connect(struct rdy_stream *stream, struct rdy_task *task);

#endif
