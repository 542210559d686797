/* SPDX-License-Identifier: MIT */
/* What the socket files call when a socket is in completion mode. */
#ifndef RDY_ENGINE_COMPLETION_H
#define RDY_ENGINE_COMPLETION_H

#include <rdy/completion.h>

#include "engine/lane.h"
#include "engine/stream.h"

/* True if the driver's backend runs operations; begins completion mode to find out. */
bool rdy_completion_try_native(struct rdy_driver *driver);

/* Makes the lane of a registration, with RDY_LANE_* flags. 0 or -ENOMEM. */
int rdy_completion_attach(struct rdy_registration *reg, uint32_t lane_flags);

/* Enters completion mode, of a connected stream that is not in it. 0 or -ENOMEM. */
int rdy_completion_enter(struct rdy_stream *stream);

/* The flags for a stream with these RDY_SOCKET_* flags. */
static inline uint32_t rdy_completion_flags(uint32_t socket_flags)
{
    bool is_tcp = (socket_flags & (RDY_SOCKET_STATES | RDY_SOCKET_KEYS)) != 0;

    return is_tcp ? RDY_LANE_PATIENT : 0;
}

/* A listener's next connection: its descriptor, RDY_PENDING with the waker kept, or -errno;
 * -EOPNOTSUPP: none is here, and the caller is to accept(2). */
int rdy_completion_poll_accept(struct rdy_listener *listener, struct rdy_task *task);

/* True if a ring has accepted connections that nobody took; that ring may be lost. */
bool rdy_completion_has_accepted(const struct rdy_listener *listener);

/* poll_read() and poll_write() of a stream whose bytes go through its lane. */
ssize_t rdy_completion_poll_read(struct rdy_stream *stream, struct rdy_task *task, void *buf,
                                 size_t buf_len);
ssize_t rdy_completion_poll_write(struct rdy_stream *stream, struct rdy_task *task,
                                  const void *data, size_t data_len);

#define RDY_SHUT_LATER 0 /* put off until what is unsent has gone out */
#define RDY_SHUT_NOW   1

/* Before a shutdown for writing: one of these, or the error of a send that forbids it. */
int rdy_completion_shut(struct rdy_stream *stream);

/* Before another call than those, in completion mode: 0, -EBUSY, or the error of a send.
 * -EINPROGRESS where that mode begins with the connection, before there is one. */
int rdy_completion_gate(struct rdy_stream *stream, enum rdy_direction direction);

/* A read has met the end: 0, or what broke the connection, if a send took that. */
int rdy_completion_end_error(const struct rdy_stream *stream);

/* True if the stream's bytes go through the ring now. */
static inline bool rdy_stream_is_native(const struct rdy_stream *stream)
{
    return (stream->flags & RDY_SOCKET_COMPLETES) && stream->reg.driver->completion->is_native;
}

/* True if what is to be read next may be in the lane: also what a lost ring has left there. */
static inline bool rdy_stream_receives(const struct rdy_stream *stream)
{
    const struct rdy_lane *lane = rdy_lane_of(stream->reg.io);

    return rdy_stream_is_native(stream) || lane->received.first || lane->recv == RDY_RECV_ENDED;
}

/* True if what is written next has to queue, or must not go out: a send that failed left a hole. */
static inline bool rdy_stream_queues(const struct rdy_stream *stream)
{
    const struct rdy_lane *lane = rdy_lane_of(stream->reg.io);

    return rdy_stream_is_native(stream) || lane->unsent.first || lane->send_error;
}

#endif
