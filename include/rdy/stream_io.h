/* SPDX-License-Identifier: MIT */
/*
 * More ways to read and write a stream: vectored, peeking, whole buffers, tries without a task, and
 * waits without I/O.
 *
 * All of it shares the stream's two poll slots with <rdy/net.h>: one task reads and one writes.
 * rdy_stream_poll_closed() alone needs no slot. Each completed poll pays from the task's budget;
 * the runtime's thread throughout. A closed stream is -EBADF everywhere.
 */
#ifndef RDY_STREAM_IO_H
#define RDY_STREAM_IO_H

#include <sys/uio.h>

#include <rdy/net.h>

RDY_BEGIN_DECLS

/**
 * rdy_stream_poll_readv() - read into several buffers
 * @iov:       borrowed, as are the buffers: for this call only
 * @iov_count: 0 to IOV_MAX (1024)
 *
 * May be given up at RDY_PENDING: nothing is lost. Unlike rdy_stream_poll_read() a short result is
 * not taken for "drained".
 *
 * Return: bytes read (at least 1), 0 at the end of the stream, RDY_PENDING, -EINVAL for a bad
 *         count, or -errno. 0 also when the buffers have no room.
 */
RDY_API RDY_NODISCARD ssize_t rdy_stream_poll_readv(struct rdy_stream *stream,
                                                    struct rdy_task *task, const struct iovec *iov,
                                                    int iov_count);

/**
 * rdy_stream_poll_writev() - write from several buffers
 * @iov:       borrowed, as are the buffers: for this call only
 * @iov_count: 0 to IOV_MAX (1024)
 *
 * May be given up at RDY_PENDING: nothing has been written.
 *
 * Return: bytes written (may be fewer than asked), RDY_PENDING, -EINVAL for a bad count, or -errno;
 *         SIGPIPE is never raised.
 */
RDY_API RDY_NODISCARD ssize_t rdy_stream_poll_writev(struct rdy_stream *stream,
                                                     struct rdy_task *task, const struct iovec *iov,
                                                     int iov_count);

/**
 * rdy_stream_poll_peek() - look at what is there, and leave it there
 * @buf: borrowed for this call only
 *
 * The next read gets the same bytes. May be given up at RDY_PENDING.
 *
 * Return: as rdy_stream_poll_read().
 */
RDY_API RDY_NODISCARD ssize_t rdy_stream_poll_peek(struct rdy_stream *stream, struct rdy_task *task,
                                                   void *buf, size_t buf_len);

/**
 * rdy_stream_try_read() - read now or not at all
 * @buf: borrowed for this call only
 *
 * The kernel is asked only if the stream is known to be readable: after -EAGAIN wait with
 * rdy_stream_poll_readable(), or data that came since the driver's last turn is not seen. No task
 * is woken and no budget paid; a loop of these pays with rdy_task_charge().
 *
 * Return: bytes read, 0 at the end of the stream (or when @buf_len is 0), -EAGAIN, or -errno.
 */
RDY_API RDY_NODISCARD ssize_t rdy_stream_try_read(struct rdy_stream *stream, void *buf,
                                                  size_t buf_len);

/* As rdy_stream_try_read(), for writing: bytes written, -EAGAIN with nothing written, or -errno. */
RDY_API RDY_NODISCARD ssize_t rdy_stream_try_write(struct rdy_stream *stream, const void *data,
                                                   size_t data_len);

/**
 * rdy_stream_poll_readable() - wait until a read is worth trying, without reading
 *
 * A hint, as all readiness is: the read may still say -EAGAIN, and then this waits for more. It
 * goes on saying 0 until a read found nothing. May be given up at RDY_PENDING.
 *
 * Return: 0 (data, the end or an error is there), RDY_PENDING, or -errno.
 */
RDY_API RDY_NODISCARD int rdy_stream_poll_readable(struct rdy_stream *stream,
                                                   struct rdy_task *task);

/* As rdy_stream_poll_readable(), for writing. */
RDY_API RDY_NODISCARD int rdy_stream_poll_writable(struct rdy_stream *stream,
                                                   struct rdy_task *task);

/**
 * rdy_stream_poll_closed() - wait for the end of what the peer sends, without reading
 * @wait: the caller's memory, {0} before its first use; kept while RDY_PENDING, and {0} again after
 *        any other answer. To give up: rdy_readiness_cancel(), then {0}. A task that may be aborted
 *        does that in its drop, before the stream is closed.
 *
 * The answer is 0 as soon as the kernel has heard that the peer will send no more (its FIN, a
 * reset) or that this side has shut its reading down, however much was sent before and is unread.
 * It takes no poll slot: any number of tasks may wait while others read and write.
 *
 * Return: 0, RDY_PENDING, or -errno: -EBUSY in completion mode (<rdy/completion.h>), also if the
 *         stream enters it while this is RDY_PENDING.
 */
RDY_API RDY_NODISCARD int rdy_stream_poll_closed(struct rdy_stream *stream, struct rdy_task *task,
                                                 struct rdy_readiness *wait);

/**
 * rdy_stream_poll_read_exact() - fill a buffer
 * @buf:  kept by the caller between calls: the same one until it is full
 * @done: how much was read so far: 0 at the first call, kept by the caller between calls
 *
 * Not safe to give up half way: @done bytes have left the stream and are in @buf.
 *
 * Return: 0 when full, RDY_PENDING, -ENODATA if the stream ended before, or -errno.
 */
RDY_API RDY_NODISCARD int rdy_stream_poll_read_exact(struct rdy_stream *stream,
                                                     struct rdy_task *task, void *buf,
                                                     size_t buf_len, size_t *done);

/**
 * rdy_stream_poll_write_all() - write a whole buffer
 * @done: how much was written so far: 0 at the first call, kept by the caller between calls
 *
 * Not safe to give up half way: the peer has seen @done bytes.
 *
 * Return: 0 when all is written, RDY_PENDING, or -errno.
 */
RDY_API RDY_NODISCARD int rdy_stream_poll_write_all(struct rdy_stream *stream,
                                                    struct rdy_task *task, const void *data,
                                                    size_t data_len, size_t *done);

/**
 * rdy_stream_poll_writev_all() - write several buffers, whole
 * @iov:       the caller's pointer to its array; both are advanced over what was written, so that
 *             they describe what is left
 * @iov_count: as many as one likes; 0 in the end
 *
 * Not safe to give up half way: the peer has seen what is no longer described.
 *
 * Return: 0 when all is written, RDY_PENDING, or -errno.
 */
RDY_API RDY_NODISCARD int rdy_stream_poll_writev_all(struct rdy_stream *stream,
                                                     struct rdy_task *task, struct iovec **iov,
                                                     size_t *iov_count);

RDY_END_DECLS

#endif
