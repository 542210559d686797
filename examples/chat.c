/* SPDX-License-Identifier: MIT */
/* A line chat; each connection has a task that reads and one that writes. Try: nc 127.0.0.1 7777 */
#include <err.h>
#include <string.h>

#include <rdy/rdy.h>

static char said[65536]; /* the end of it; who has not heard as much is put out */
static size_t said_count;
static struct rdy_notify more;

struct member {
    struct rdy_stream stream; /* first: the connection, which is closed when the reader ends */
    struct rdy_runtime *runtime;
    struct rdy_task_id writer;
    struct rdy_waiter waiter;
    size_t heard_count, at;
    char in[512]; /* a line that is not said yet, read up to `at` */
};

static int writer_poll(struct rdy_task *task, void *self)
{
    struct member *m = *(struct member **)self;
    ssize_t n = 0;

    while (n >= 0) {
        size_t left = said_count - m->heard_count, at = m->heard_count % sizeof(said);
        size_t len = left < sizeof(said) - at ? left : sizeof(said) - at;

        if (left > sizeof(said))
            return rdy_stream_shutdown(&m->stream, SHUT_RDWR);
        n = left == 0 ? rdy_notify_poll(&more, task, &m->waiter)
                      : rdy_stream_poll_write(&m->stream, task, said + at, len);
        m->heard_count += n > 0 ? (size_t)n : 0;
    }
    return (int)n;
}

static int reader_poll(struct rdy_task *task, void *self)
{
    static const struct rdy_task_spec spec = {.poll = writer_poll, .self_size = sizeof(void *)};
    struct member *m = self;
    void *writer;
    ssize_t n;

    if (!m->runtime) {
        m->heard_count = said_count;
        if (rdy_spawn(m->runtime = rdy_task_runtime(task), &spec, &writer, &m->writer) < 0)
            return -1;
        *(struct member **)writer = m;
    }
    while ((n = rdy_stream_poll_read(&m->stream, task, m->in + m->at, sizeof(m->in) - m->at)) > 0) {
        char *end = memrchr(m->in, '\n', m->at += (size_t)n);
        size_t whole = end ? (size_t)(end + 1 - m->in) : 0;

        for (size_t i = 0; i < whole; i++)
            said[said_count++ % sizeof(said)] = m->in[i];
        memmove(m->in, m->in + whole, m->at -= whole);
        rdy_notify_all(&more);
    }
    return (int)n; /* also when a line has no end */
}

static void member_drop(void *self)
{
    struct member *m = self;

    (void)(m->runtime && rdy_task_abort(m->runtime, m->writer));
    rdy_waiter_cancel(&m->waiter);
}

int main(int argc, char **argv)
{
    const struct rdy_task_spec spec = {
        .poll = reader_poll, .drop = member_drop, .self_size = sizeof(struct member)};
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:7777";

    errx(2, "%s: %s", address, strerror(-rdy_serve_forever(address, &spec)));
}
