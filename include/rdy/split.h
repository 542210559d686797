/* SPDX-License-Identifier: MIT */
/*
 * A stream in two halves, for two tasks that each own theirs.
 *
 * Two tasks that live as long as the stream need none of this: one may read and the other write
 * the same struct rdy_stream. Halves are for tasks that end on their own: the stream is closed when
 * both halves are. The runtime's thread; both tasks are that runtime's.
 */
#ifndef RDY_SPLIT_H
#define RDY_SPLIT_H

#include <rdy/net.h>

RDY_BEGIN_DECLS

/*
 * The caller's memory; may be moved. {0} is closed. `stream` is for every call that takes a stream,
 * but for rdy_stream_close(): close the half.
 */
struct rdy_read_half {
    struct rdy_stream *stream;
};

struct rdy_write_half {
    struct rdy_stream *stream;
};

/**
 * rdy_stream_split() - make halves of a stream
 * @stream:     its content is taken on success: {.fd = -1} then
 * @read_half:  written on success only; free with rdy_read_half_close()
 * @write_half: written on success only; free with rdy_write_half_close() or _forget()
 *
 * Return: 0, -EBADF, or -ENOMEM.
 */
RDY_API RDY_NODISCARD int rdy_stream_split(struct rdy_stream *stream,
                                           struct rdy_read_half *read_half,
                                           struct rdy_write_half *write_half);

/* Lets go of the half; the peer notices when the other one is closed as well. {0} afterwards, and
 * closing that does nothing. */
RDY_API void rdy_read_half_close(struct rdy_read_half *read_half);

/* Shuts the writing down, so that the peer sees the end of the stream, and lets go of the half.
 * After a reset it is as good. In completion mode it waits for nothing: once both halves are closed
 * what the kernel has not taken is dropped, so flush first. {0} afterwards, and closing that does
 * nothing. */
RDY_API void rdy_write_half_close(struct rdy_write_half *write_half);

/* Lets go of the half without telling the peer, whose stream goes on until the read half is closed.
 * {0} afterwards. */
RDY_API void rdy_write_half_forget(struct rdy_write_half *write_half);

/**
 * rdy_stream_reunite() - make one stream of its halves again
 * @read_half:  its content is taken on success: {0} then
 * @write_half: its content is taken on success: {0} then
 * @stream:     written on success only; free with rdy_stream_close()
 *
 * Return: 0, or -EINVAL with nothing changed for halves of two streams or a closed half.
 */
RDY_API RDY_NODISCARD int rdy_stream_reunite(struct rdy_read_half *read_half,
                                             struct rdy_write_half *write_half,
                                             struct rdy_stream *stream);

RDY_END_DECLS

#endif
