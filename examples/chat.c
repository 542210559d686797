/* SPDX-License-Identifier: MIT */
/* A line chat; a task reads a half of each connection, one writes the other: nc 127.0.0.1 7777 */
#define _GNU_SOURCE 1 /* memrchr */
#include <err.h>
#include <string.h>

#include <rdy/rdy.h>

static char said[65536]; /* the end of it; who has not heard as much is put out */
static size_t said_count;
static struct rdy_notify more;

struct writer {
    struct rdy_write_half half;
    struct rdy_waiter waiter;
    size_t heard_count;
};

struct reader {
    struct rdy_stream stream; /* first: the connection; halves are made of it */
    struct rdy_read_half half;
    struct rdy_runtime *runtime;
    struct rdy_task_id writer;
    size_t at;
    char in[512]; /* a line that is not said yet, read up to `at` */
};

static int writer_poll(struct rdy_task *task, void *self)
{
    struct writer *w = self;
    ssize_t n = 0;

    while (n >= 0) {
        size_t left = said_count - w->heard_count, at = w->heard_count % sizeof(said);
        size_t len = left < sizeof(said) - at ? left : sizeof(said) - at;

        if (left > sizeof(said))
            return rdy_stream_shutdown(w->half.stream, SHUT_RDWR);
        n = left == 0 ? rdy_notify_poll(&more, task, &w->waiter)
                      : rdy_stream_poll_write(w->half.stream, task, said + at, len);
        w->heard_count += n > 0 ? (size_t)n : 0;
    }
    return (int)n;
}

static void writer_drop(void *self)
{
    rdy_waiter_cancel(&((struct writer *)self)->waiter);
    rdy_write_half_close(&((struct writer *)self)->half);
}

static int reader_begin(struct reader *r, struct rdy_task *task)
{
    static const struct rdy_task_spec spec = {
        .poll = writer_poll, .drop = writer_drop, .self_size = sizeof(struct writer)};
    struct writer writer = {.heard_count = said_count};
    void *self;
    int rc = rdy_stream_split(&r->stream, &r->half, &writer.half);

    if (rc == 0)
        rc = rdy_spawn(r->runtime = rdy_task_runtime(task), &spec, &self, &r->writer);
    if (rc == 0)
        *(struct writer *)self = writer;
    else
        rdy_write_half_close(&writer.half);
    return rc;
}

static int reader_poll(struct rdy_task *task, void *self)
{
    struct reader *r = self;
    ssize_t n;

    if (!r->half.stream && reader_begin(r, task) < 0)
        return -1;
    while ((n = rdy_stream_poll_read(r->half.stream, task, r->in + r->at, sizeof(r->in) - r->at)) >
           0) {
        char *end = memrchr(r->in, '\n', r->at += (size_t)n);
        size_t whole = end ? (size_t)(end + 1 - r->in) : 0;

        for (size_t i = 0; i < whole; i++)
            said[said_count++ % sizeof(said)] = r->in[i];
        memmove(r->in, r->in + whole, r->at -= whole);
        rdy_notify_all(&more);
    }
    return (int)n; /* also when a line has no end */
}

static void reader_drop(void *self)
{
    struct reader *r = self;

    (void)(r->runtime && rdy_task_abort(r->runtime, r->writer));
    rdy_read_half_close(&r->half);
}

int main(int argc, char **argv)
{
    const struct rdy_task_spec spec = {
        .poll = reader_poll, .drop = reader_drop, .self_size = sizeof(struct reader)};
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:7777";

    errx(2, "%s: %s", address, strerror(-rdy_serve_forever(address, &spec)));
}
