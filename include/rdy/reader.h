/* SPDX-License-Identifier: MIT */
/*
 * A buffered reader over the caller's memory: lines, records, and whatever follows them.
 *
 * It reads what is buffered before it asks the socket. What it returns lies in the buffer and is
 * not copied: it is the caller's to look at until the next poll call on the reader. Every poll call
 * may be given up at RDY_PENDING: what came so far stays in the buffer. The runtime's thread.
 */
#ifndef RDY_READER_H
#define RDY_READER_H

#include <rdy/net.h>

RDY_BEGIN_DECLS

/* The caller's memory; fields are private. */
struct rdy_reader {
    unsigned char *buf;
    size_t buf_len;
    size_t begin;   /* buffered: from here */
    size_t end;     /* to here */
    size_t scanned; /* up to here there is no `delimiter` */
    unsigned char delimiter;
};

/**
 * rdy_reader_init() - begin with an empty buffer
 * @buf:     kept as long as the reader is used
 * @buf_len: at least 1; what one record may have, its delimiter included
 */
RDY_API void rdy_reader_init(struct rdy_reader *reader, void *buf, size_t buf_len);

/**
 * rdy_reader_poll_until() - take the next record
 * @stream:    borrowed; the same one in every call
 * @delimiter: what a record ends with: '\n' for lines
 * @data:      receives where the record is, when the answer is above 0
 *
 * Return: bytes of the record, the delimiter included; 0 at the end of the stream; -ENODATA if
 *         bytes without a delimiter are left at the end of the stream: rdy_reader_peek() has them;
 *         -EMSGSIZE if the buffer is full of such: consume some, then go on; RDY_PENDING, or
 *         -errno. Nothing is taken out of the buffer but a record.
 */
RDY_API RDY_NODISCARD ssize_t rdy_reader_poll_until(struct rdy_reader *reader,
                                                    struct rdy_stream *stream,
                                                    struct rdy_task *task, unsigned char delimiter,
                                                    const unsigned char **data);

/**
 * rdy_reader_poll_fill() - read more into the buffer, behind what is there
 * @stream: borrowed; the same one in every call
 *
 * Return: bytes added (at least 1), 0 at the end of the stream, -EMSGSIZE if the buffer is full,
 *         RDY_PENDING, or -errno.
 */
RDY_API RDY_NODISCARD ssize_t rdy_reader_poll_fill(struct rdy_reader *reader,
                                                   struct rdy_stream *stream,
                                                   struct rdy_task *task);

/**
 * rdy_reader_poll_read() - read, what is buffered first
 * @buf: borrowed for this call only; with an empty buffer the socket's bytes go straight here
 *
 * Return: as rdy_stream_poll_read().
 */
RDY_API RDY_NODISCARD ssize_t rdy_reader_poll_read(struct rdy_reader *reader,
                                                   struct rdy_stream *stream, struct rdy_task *task,
                                                   void *buf, size_t buf_len);

/* What is buffered; the caller's to look at until the next poll call. Return: how many bytes. */
RDY_API size_t rdy_reader_peek(const struct rdy_reader *reader, const unsigned char **data);

/* Takes @count bytes, at most what rdy_reader_peek() says, out of the buffer. */
RDY_API void rdy_reader_consume(struct rdy_reader *reader, size_t count);

RDY_END_DECLS

#endif
