/* SPDX-License-Identifier: MIT */
/*
 * Streams beyond the plain read and write: each call is an attempt around the routines of
 * stream_ops.h, or a loop around the plain calls.
 *
 * Vectored calls and peeks clear readiness on EAGAIN only. That a short result means "drained" has
 * been shown for the plain read; a vector may be short for other reasons, and a peek leaves what it
 * saw.
 */
#include <rdy/stream_io.h>

#include <limits.h>

#include "engine/stream_ops.h"
#include "engine/sys_stream.h"

struct vector {
    const struct iovec *iov;
    size_t count;
};

static int check_vector(const struct rdy_stream *stream, int iov_count)
{
    if (stream->fd < 0)
        return -EBADF;
    return iov_count >= 0 && iov_count <= IOV_MAX ? 0 : -EINVAL;
}

/* A read into nothing would answer 0, which means the end. */
static bool iov_has_room(const struct iovec *iov, int iov_count)
{
    for (int i = 0; i < iov_count; i++)
        if (iov[i].iov_len > 0)
            return true;
    return false;
}

static ssize_t try_recv_vector(const struct rdy_stream *stream, struct rdy_event event, void *op)
{
    const struct vector *vector = op;

    (void)event;
    return rdy_sys_recv_vector(stream->fd, vector->iov, vector->count);
}

static ssize_t try_send_vector(const struct rdy_stream *stream, struct rdy_event event, void *op)
{
    const struct vector *vector = op;

    (void)event;
    return rdy_sys_send_vector(stream->fd, vector->iov, vector->count);
}

static ssize_t try_peek(const struct rdy_stream *stream, struct rdy_event event, void *op)
{
    const struct rdy_stream_span *span = op;

    (void)event;
    return rdy_sys_peek(stream->fd, span->data, span->len);
}

ssize_t rdy_stream_poll_readv(struct rdy_stream *stream, struct rdy_task *task,
                              const struct iovec *iov, int iov_count)
{
    struct vector vector = {.iov = iov, .count = (size_t)iov_count};
    int rc = check_vector(stream, iov_count);

    if (rc < 0)
        return rc;
    if (!iov_has_room(iov, iov_count))
        return 0;
    return rdy_stream_read_with(stream, task, try_recv_vector, &vector, RDY_STREAM_NO_SHORT);
}

ssize_t rdy_stream_poll_writev(struct rdy_stream *stream, struct rdy_task *task,
                               const struct iovec *iov, int iov_count)
{
    struct vector vector = {.iov = iov, .count = (size_t)iov_count};
    int rc = check_vector(stream, iov_count);

    if (rc < 0)
        return rc;
    return rdy_stream_write_with(stream, task, try_send_vector, &vector, RDY_STREAM_NO_SHORT);
}

ssize_t rdy_stream_poll_peek(struct rdy_stream *stream, struct rdy_task *task, void *buf,
                             size_t buf_len)
{
    struct rdy_stream_span span = {.data = buf, .len = buf_len};

    if (stream->fd < 0)
        return -EBADF;
    if (buf_len == 0)
        return 0;
    return rdy_stream_read_with(stream, task, try_peek, &span, RDY_STREAM_NO_SHORT);
}

/* --- without a task --- */

ssize_t rdy_stream_try_read(struct rdy_stream *stream, void *buf, size_t buf_len)
{
    struct rdy_stream_span span = {.data = buf, .len = buf_len};
    struct rdy_event event;
    int rc;

    if (stream->fd < 0)
        return -EBADF;
    if (buf_len == 0)
        return 0;
    rc = rdy_stream_look(stream, RDY_DIRECTION_READ, &event);
    if (rc < 0)
        return rc;
    return rdy_stream_read_once(stream, event, rdy_stream_try_recv, &span, buf_len);
}

ssize_t rdy_stream_try_write(struct rdy_stream *stream, const void *data, size_t data_len)
{
    struct rdy_stream_span span = rdy_stream_span_of(data, data_len);
    struct rdy_event event;
    int rc;

    if (stream->fd < 0)
        return -EBADF;
    rc = rdy_stream_look(stream, RDY_DIRECTION_WRITE, &event);
    if (rc < 0)
        return rc;
    return rdy_stream_write_once(stream, event, rdy_stream_try_send, &span, data_len);
}

/* --- without I/O --- */

static int poll_direction(struct rdy_stream *stream, struct rdy_task *task,
                          enum rdy_direction direction)
{
    struct rdy_event event;
    int rc;

    if (stream->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = rdy_stream_wait(stream, task, direction, &event);
    if (rc == 0)
        rdy_task_spend(task);
    return rc;
}

int rdy_stream_poll_readable(struct rdy_stream *stream, struct rdy_task *task)
{
    return poll_direction(stream, task, RDY_DIRECTION_READ);
}

int rdy_stream_poll_writable(struct rdy_stream *stream, struct rdy_task *task)
{
    return poll_direction(stream, task, RDY_DIRECTION_WRITE);
}

int rdy_stream_poll_closed(struct rdy_stream *stream, struct rdy_task *task,
                           struct rdy_readiness *wait)
{
    struct rdy_waker waker = rdy_task_waker(task);
    struct rdy_event event;
    int rc;

    if (stream->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (rdy_unlikely(stream->flags & RDY_SOCKET_WILL))
        return rdy_task_pay_error(task, -EINPROGRESS);
    /* A ring tells of the end when all before it was received, and of nothing while nobody does. */
    if (rdy_unlikely(stream->flags & RDY_SOCKET_COMPLETES) && rdy_stream_is_native(stream)) {
        if (wait->io)
            (void)rdy_readiness_cancel(wait); /* begun before */
        *wait = (struct rdy_readiness){0};
        return rdy_task_pay_error(task, -EBUSY);
    }
    do { /* woken without a flag: its watch was ended, and another one has begun since */
        if (!wait->io)
            rdy_readiness_init(wait, &stream->reg, RDY_INTEREST_CLOSED);
        rdy_assert(wait->io == stream->reg.io);
        rc = rdy_readiness_poll(wait, &waker, &event);
        if (rc == RDY_PENDING)
            return rc;
        *wait = (struct rdy_readiness){0};
    } while (rc == 0 && rdy_event_ready(event) == 0);
    rdy_task_spend(task);
    return rc;
}

/* --- whole buffers --- */

int rdy_stream_poll_read_exact(struct rdy_stream *stream, struct rdy_task *task, void *buf,
                               size_t buf_len, size_t *done)
{
    rdy_assert(*done <= buf_len);
    while (*done < buf_len) {
        ssize_t count = rdy_stream_poll_read(stream, task, (char *)buf + *done, buf_len - *done);

        if (count < 0)
            return (int)count;
        if (count == 0)
            return -ENODATA;
        *done += (size_t)count;
    }
    return 0;
}

int rdy_stream_poll_write_all(struct rdy_stream *stream, struct rdy_task *task, const void *data,
                              size_t data_len, size_t *done)
{
    rdy_assert(*done <= data_len);
    while (*done < data_len) {
        ssize_t count =
            rdy_stream_poll_write(stream, task, (const char *)data + *done, data_len - *done);

        if (count < 0)
            return (int)count;
        *done += (size_t)count;
    }
    return 0;
}

/* Lets the array begin behind the first @done bytes, and behind buffers that are empty. */
static void iov_advance(struct iovec **iov, size_t *iov_count, size_t done)
{
    while (*iov_count > 0 && done >= (*iov)->iov_len) {
        done -= (*iov)->iov_len;
        (*iov)++;
        (*iov_count)--;
    }
    rdy_assert(*iov_count > 0 || done == 0);
    if (done == 0)
        return;
    (*iov)->iov_base = (char *)(*iov)->iov_base + done;
    (*iov)->iov_len -= done;
}

int rdy_stream_poll_writev_all(struct rdy_stream *stream, struct rdy_task *task, struct iovec **iov,
                               size_t *iov_count)
{
    iov_advance(iov, iov_count, 0);
    while (*iov_count > 0) {
        int now_count = *iov_count > IOV_MAX ? IOV_MAX : (int)*iov_count;
        ssize_t count = rdy_stream_poll_writev(stream, task, *iov, now_count);

        if (count < 0)
            return (int)count;
        iov_advance(iov, iov_count, (size_t)count);
    }
    return 0;
}
