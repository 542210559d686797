/* SPDX-License-Identifier: MIT */
/*
 * Buffers of the engine: bytes that the kernel fills, or sends, while nobody waits.
 *
 * A buffer belongs to the runtime that it came from, and to its thread. It is counted: who has a
 * struct rdy_buf that names one holds a reference, and gives it back once, with rdy_buf_release()
 * or by handing it to a call that takes it. Nothing is copied. Received data comes in buffers of a
 * pool that all connections of the runtime share; the pool is small, so that it stays in the
 * cache, and who keeps its buffers for long holds up everybody's receiving.
 */
#ifndef RDY_BUFFER_H
#define RDY_BUFFER_H

#include <rdy/base.h>

RDY_BEGIN_DECLS

struct rdy_runtime;
struct rdy_block;

/* Some bytes of a buffer, and a reference to it. {0} is none. A copy of the struct is no further
 * reference: rdy_buf_keep() makes one. */
struct rdy_buf {
    struct rdy_block *block; /* private */
    unsigned char *data;
    size_t len; /* bytes */
};

/**
 * rdy_buf_take() - a buffer to be filled and sent
 * @runtime: borrowed; must outlive the buffer
 * @len:     bytes, 1 to 16 MiB; their content is undefined
 * @buf:     written on success only; owned by the caller
 *
 * Memory of its own, not the pool's: sending does not take buffers from receiving.
 *
 * Context: the runtime's thread.
 * Return:  0, -EINVAL, or -ENOMEM.
 */
RDY_API RDY_NODISCARD int rdy_buf_take(struct rdy_runtime *runtime, size_t len,
                                       struct rdy_buf *buf);

/* One more reference to the same bytes. The runtime's thread. */
RDY_API struct rdy_buf rdy_buf_keep(const struct rdy_buf *buf);

/* Gives the reference back; @buf is {0} afterwards, and releasing that does nothing. The runtime's
 * thread. */
RDY_API void rdy_buf_release(struct rdy_buf *buf);

/* Names less of the buffer: drops @len bytes in front, at most all. */
static inline void rdy_buf_advance(struct rdy_buf *buf, size_t len)
{
    if (len > buf->len)
        len = buf->len;
    buf->data += len;
    buf->len -= len;
}

RDY_END_DECLS

#endif
