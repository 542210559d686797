/* SPDX-License-Identifier: MIT */
/* HTTP/1.1 "hello": keep-alive, pipelined requests, limits. Try: curl http://127.0.0.1:8080/ */
#define _GNU_SOURCE 1 /* memmem, strcasestr */
#include <err.h>
#include <string.h>

#include <rdy/rdy.h>

#define CLOSING "Connection: close\r\n\r\n"

static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
static const char last[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n" CLOSING "hello\n";
static const char bad[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n" CLOSING;
static const char large[] = "HTTP/1.1 431 Fields Too Large\r\nContent-Length: 0\r\n" CLOSING;

struct session {
    struct rdy_stream stream; /* first: the connection, which is closed when the task ends */
    struct rdy_co co;
    const char *reply;
    char *end; /* of the first request in buf */
    size_t have;
    size_t done;
    ssize_t n;
    char buf[4097];
};

/* The answer to a request whose fields end at @end. Those with a body are not for us. */
static const char *answer(char *head, char *end)
{
    const char *version = head + 4 + strcspn(head + 4, " \r\n");

    end[2] = '\0';
    if (strlen(head) != (size_t)(end + 2 - head) || strncmp(head, "GET /", 5) != 0 ||
        strncmp(version, " HTTP/1.1\r\n", 11) != 0 || !strcasestr(version, "\r\nHost:") ||
        strcasestr(version, "\r\nContent-Length:") || strcasestr(version, "\r\nTransfer-Encoding:"))
        return bad;
    return strcasestr(version, "\r\nConnection: close\r\n") ? last : hello;
}

static int session_poll(struct rdy_task *task, void *self)
{
    struct session *s = self;
    size_t room = sizeof(s->buf) - 1;
    int rc;

    RDY_BEGIN(&s->co);
    do {
        while (!(s->end = memmem(s->buf, s->have, "\r\n\r\n", 4)) && s->have < room) {
            RDY_AWAIT(&s->co, s->n = rdy_stream_poll_read(&s->stream, task, s->buf + s->have,
                                                          room - s->have));
            if (s->n <= 0)
                return (int)s->n;
            s->have += (size_t)s->n;
        }
        s->reply = s->end ? answer(s->buf, s->end) : large;
        s->done = 0;
        RDY_AWAIT(&s->co, rc = rdy_stream_poll_write_all(&s->stream, task, s->reply,
                                                         strlen(s->reply), &s->done));
        s->have -= s->end ? (size_t)(s->end + 4 - s->buf) : 0;
        memmove(s->buf, s->end ? s->end + 4 : s->buf, s->have);
    } while (rc == 0 && s->reply == hello);
    /* A close with something unread would take the answer back: read to the end. */
    (void)rdy_stream_shutdown(&s->stream, SHUT_WR);
    do {
        RDY_AWAIT(&s->co, s->n = rdy_stream_poll_read(&s->stream, task, s->buf, room));
    } while (s->n > 0);
    RDY_END(&s->co);
    return 0;
}

int main(int argc, char **argv)
{
    const struct rdy_task_spec spec = {.poll = session_poll,
                                       .self_size = sizeof(struct session),
                                       .timeout_ns = UINT64_C(60000000000)}; /* for a session */
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:8080";

    errx(2, "%s: %s", address, strerror(-rdy_serve_forever(address, &spec)));
}
