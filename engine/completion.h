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

/* The flags for a stream with these RDY_SOCKET_* flags. */
static inline uint32_t rdy_completion_flags(uint32_t socket_flags)
{
    bool is_tcp = (socket_flags & (RDY_SOCKET_STATES | RDY_SOCKET_KEYS)) != 0;

    return is_tcp ? RDY_LANE_PATIENT : 0;
}

/* A listener's next connection: its descriptor, RDY_PENDING with the waker kept, or -errno;
 * -EOPNOTSUPP: none is here, and the caller is to accept(2). */
int rdy_completion_poll_accept(struct rdy_listener *listener, struct rdy_task *task);

/* poll_read() and poll_write() of a stream whose backend runs operations. */
ssize_t rdy_completion_poll_read(struct rdy_stream *stream, struct rdy_task *task, void *buf,
                                 size_t buf_len);
ssize_t rdy_completion_poll_write(struct rdy_stream *stream, struct rdy_task *task,
                                  const void *data, size_t data_len);

/* True if the stream's bytes go through the ring now. */
static inline bool rdy_stream_is_native(const struct rdy_stream *stream)
{
    return (stream->flags & RDY_SOCKET_COMPLETES) && stream->reg.driver->completion->is_native;
}

#endif
