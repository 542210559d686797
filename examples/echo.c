/* SPDX-License-Identifier: MIT */
/* An echo server, one task a connection. Try it with: nc 127.0.0.1 7777 */
#include <err.h>
#include <string.h>

#include <rdy/rdy.h>

struct session {
    struct rdy_stream stream; /* first: the connection, which is closed when the task ends */
    struct rdy_co co;
    ssize_t n;
    size_t done;
    char buf[4096];
};

static int session_poll(struct rdy_task *task, void *self)
{
    struct session *s = self;
    int rc;

    RDY_BEGIN(&s->co);
    do {
        RDY_AWAIT(&s->co, s->n = rdy_stream_poll_read(&s->stream, task, s->buf, sizeof(s->buf)));
        s->done = 0;
        RDY_AWAIT(&s->co, rc = rdy_stream_poll_write_all(&s->stream, task, s->buf,
                                                         s->n > 0 ? (size_t)s->n : 0, &s->done));
    } while (s->n > 0 && rc == 0);
    RDY_END(&s->co);
    return 0;
}

int main(int argc, char **argv)
{
    const struct rdy_task_spec spec = {.poll = session_poll, .self_size = sizeof(struct session)};
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:7777";
    int rc = rdy_serve_forever(address, &spec);

    errx(2, "%s: %s", address, strerror(-rc));
}
