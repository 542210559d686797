/* SPDX-License-Identifier: MIT */
/*
 * The buffered reader. Bytes are moved to the front of the buffer only when there is no room behind
 * them, and no byte is searched twice for the same delimiter.
 *
 * begin <= scanned <= end <= buf_len, always; and begin is 0 if nothing is buffered.
 */
#include <rdy/reader.h>

#include "engine/runtime.h"

static void reader_check(const struct rdy_reader *reader)
{
    rdy_debug(reader->begin <= reader->scanned);
    rdy_debug(reader->scanned <= reader->end);
    rdy_debug(reader->end <= reader->buf_len);
    (void)reader;
}

void rdy_reader_init(struct rdy_reader *reader, void *buf, size_t buf_len)
{
    rdy_assert(buf && buf_len > 0);
    *reader = (struct rdy_reader){.buf = buf, .buf_len = buf_len};
}

size_t rdy_reader_peek(const struct rdy_reader *reader, const unsigned char **data)
{
    *data = reader->buf + reader->begin;
    return reader->end - reader->begin;
}

/* The bytes stay where they are, for whom they were just returned to. */
void rdy_reader_consume(struct rdy_reader *reader, size_t count)
{
    rdy_assert(count <= reader->end - reader->begin);
    reader->begin += count;
    if (reader->scanned < reader->begin)
        reader->scanned = reader->begin;
    if (reader->begin == reader->end)
        reader->begin = reader->end = reader->scanned = 0;
    reader_check(reader);
}

static void reader_move_to_front(struct rdy_reader *reader)
{
    if (reader->begin == 0)
        return;
    memmove(reader->buf, reader->buf + reader->begin, reader->end - reader->begin);
    reader->scanned -= reader->begin;
    reader->end -= reader->begin;
    reader->begin = 0;
    reader_check(reader);
}

ssize_t rdy_reader_poll_fill(struct rdy_reader *reader, struct rdy_stream *stream,
                             struct rdy_task *task)
{
    ssize_t count;

    if (reader->end == reader->buf_len)
        reader_move_to_front(reader);
    if (reader->end == reader->buf_len)
        return -EMSGSIZE;
    count = rdy_stream_poll_read(stream, task, reader->buf + reader->end,
                                 reader->buf_len - reader->end);
    if (count > 0)
        reader->end += (size_t)count;
    reader_check(reader);
    return count;
}

ssize_t rdy_reader_poll_read(struct rdy_reader *reader, struct rdy_stream *stream,
                             struct rdy_task *task, void *buf, size_t buf_len)
{
    size_t count = reader->end - reader->begin;

    if (count == 0)
        return rdy_stream_poll_read(stream, task, buf, buf_len);
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rdy_task_spend(task);
    if (count > buf_len)
        count = buf_len;
    memcpy(buf, reader->buf + reader->begin, count);
    rdy_reader_consume(reader, count);
    return (ssize_t)count;
}

/* Takes a whole record out of the buffer: its length, or 0 if there is none. */
static size_t reader_take(struct rdy_reader *reader, unsigned char delimiter,
                          const unsigned char **data)
{
    const unsigned char *found;
    size_t count;

    if (delimiter != reader->delimiter) {
        reader->delimiter = delimiter;
        reader->scanned = reader->begin;
    }
    found = memchr(reader->buf + reader->scanned, delimiter, reader->end - reader->scanned);
    reader->scanned = reader->end;
    if (!found)
        return 0;
    *data = reader->buf + reader->begin;
    count = (size_t)(found - *data) + 1;
    reader->scanned = reader->begin;
    rdy_reader_consume(reader, count);
    return count;
}

ssize_t rdy_reader_poll_until(struct rdy_reader *reader, struct rdy_stream *stream,
                              struct rdy_task *task, unsigned char delimiter,
                              const unsigned char **data)
{
    size_t count;

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    count = reader_take(reader, delimiter, data);
    if (count > 0)
        rdy_task_spend(task);
    while (count == 0) {
        ssize_t filled = rdy_reader_poll_fill(reader, stream, task);

        if (filled == 0)
            return reader->end > reader->begin ? -ENODATA : 0;
        if (filled < 0)
            return filled;
        count = reader_take(reader, delimiter, data); /* the read has paid for it */
    }
    return (ssize_t)count;
}
