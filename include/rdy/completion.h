/* SPDX-License-Identifier: MIT */
/*
 * Completion mode: the kernel receives, sends and accepts by itself, in buffers of the engine, and
 * tells when it has done so.
 *
 * With readiness a program hears that it could read, and then reads: two system calls a request at
 * least. Here an io_uring does the operations, batched with the wait, which costs a fraction of a
 * call. The same calls work on epoll, where the engine makes the system calls itself, so a program
 * is written once; rdy_completion_is_native() tells which it is.
 *
 * A stream is in completion mode from the first of these calls on, or from the start where its
 * listener was opened, or its connection begun, with is_completing. One task receives and one sends
 * on a stream at a time. A call given up at RDY_PENDING has lost nothing. rdy_stream_poll_read()
 * and poll_write() go on working, with a copy more. The vectored calls, peeks, tries and waits of
 * <rdy/stream_io.h> and the descriptors of <rdy/unix.h> answer -EBUSY where the kernel does the
 * operations, because their bytes would not keep their place; <rdy/copy.h> copies what it would
 * splice. So it is also with calls that were RDY_PENDING when the stream entered completion mode:
 * their tasks are woken, and reads and writes go on in the new way, while the others,
 * rdy_stream_poll_closed() among them, now answer -EBUSY. The runtime's thread throughout.
 *
 * A stream that is closed keeps its descriptor until the driver's next wait, which closes it in the
 * kernel: a process that is forked before inherits it, until it calls exec or ends.
 *
 * Received data waits in the stream until it is asked for: at most recv_queue_max buffers of it,
 * then the stream is read no further. Each answer pays one operation from the task's budget, one
 * that brings more than a buffer of the pool an eighth of it.
 *
 * A stream whose receives keep filling the pool's buffers is taken off the ring: the engine then
 * receives into large buffers and sends by calls of its own, one stream after the other, so that
 * the bytes stay in the cache. When it brings little again it goes back. What the calls here
 * promise does not change with that.
 */
#ifndef RDY_COMPLETION_H
#define RDY_COMPLETION_H

#include <rdy/buffer.h>
#include <rdy/net.h>

RDY_BEGIN_DECLS

/**
 * rdy_stream_poll_recv() - take the next received bytes
 * @buf: written when the answer is a count; the caller's to release, or to send. Its bytes are at
 *       most buffer_size, or those of a large buffer, see struct rdy_driver_opts
 *
 * Return: bytes in @buf (at least 1), 0 at the end of the stream, RDY_PENDING, or -errno
 *         (-ECONNRESET, -ENOMEM, -EBADF, -ESHUTDOWN); what came before the end or the error is
 *         given first. What broke the connection is told here as well if a send heard of it; an
 *         end is only told if the peer ended. Without free buffers the answer is RDY_PENDING until
 *         some come back.
 */
RDY_API RDY_NODISCARD ssize_t rdy_stream_poll_recv(struct rdy_stream *stream, struct rdy_task *task,
                                                   struct rdy_buf *buf);

/**
 * rdy_stream_poll_send() - have a buffer sent
 * @buf: taken with an answer of 0, {0} then; sent as it is: not to be written to by who kept it
 *
 * The answer says that the stream will send it, in the order of the calls, not that it was sent:
 * rdy_stream_poll_flush() says that. What one task hands over in one poll goes out as one, on a
 * ring even what it hands over between two turns of the driver. With more than send_queue_max bytes
 * unsent the answer is RDY_PENDING.
 *
 * An error of sending is told once to the next send or flush, and then again to each.
 *
 * Return: 0, RDY_PENDING, or -errno (-EPIPE, -ECONNRESET, -EINVAL for an empty buffer, ...), with
 *         @buf still the caller's.
 */
RDY_API RDY_NODISCARD int rdy_stream_poll_send(struct rdy_stream *stream, struct rdy_task *task,
                                               struct rdy_buf *buf);

/**
 * rdy_stream_poll_flush() - wait until the kernel has all that was handed over
 *
 * To be called before rdy_stream_close() by who wants the last bytes to arrive: what the kernel has
 * not taken by then is dropped; rdy_stream_poll_close() does both. rdy_stream_shutdown() for
 * writing needs none, it takes its place behind what was handed over or written before; from then
 * on sends and writes answer -EPIPE.
 *
 * Return: 0, RDY_PENDING, or the -errno of a send.
 */
RDY_API RDY_NODISCARD int rdy_stream_poll_flush(struct rdy_stream *stream, struct rdy_task *task);

/* Bytes handed over that the kernel has not taken yet, as far as is known. */
RDY_API size_t rdy_stream_unsent(const struct rdy_stream *stream);

/**
 * rdy_stream_start_completion() - enter completion mode ahead of the first receive
 *
 * Return: 0, also if it is in it, -EINPROGRESS before it is connected, -ENOMEM, or -EBADF.
 */
RDY_API RDY_NODISCARD int rdy_stream_start_completion(struct rdy_stream *stream);

/* True if @runtime's kernel interface runs these operations by itself. If so only after the first
 * use is known; before, it is a guess. */
RDY_API bool rdy_completion_is_native(const struct rdy_runtime *runtime);

/* What a runtime's completion mode did, and what it holds. */
struct rdy_completion_stats {
    uint64_t recvs_armed;  /* receive operations begun */
    uint64_t recv_buffers; /* buffers that came back filled */
    uint64_t recv_bytes;
    uint64_t recv_starved;     /* receives that ended for want of buffers (and were begun again) */
    uint64_t recv_pauses;      /* receives ended because their stream's queue was full */
    uint64_t sends;            /* send operations begun, one for several buffers perhaps */
    uint64_t sends_unfinished; /* those that met a full socket, or want of memory */
    uint64_t send_bytes;
    uint64_t bulks;         /* times a stream that brings much was taken off the ring */
    uint64_t calls;         /* receives and sends of streams that the engine made by itself */
    uint64_t accepts;       /* connections that came by themselves */
    uint64_t connects;      /* connect operations begun */
    uint64_t copies;        /* buffers copied so that the pool had them back */
    uint64_t buffers_total; /* gauge: of the pool */
    uint64_t buffers_free;  /* gauge: ready to be filled */
    uint64_t blocks_live;   /* gauge: buffers that somebody holds, the pool's and others */
};

/* A snapshot; zeros if completion mode was never used. The runtime's thread. */
RDY_API void rdy_completion_read_stats(const struct rdy_runtime *runtime,
                                       struct rdy_completion_stats *stats);

RDY_END_DECLS

#endif
