/* SPDX-License-Identifier: MIT */
/* An echo server, one task a connection. Try it with: nc 127.0.0.1 7777 */
#include <arpa/inet.h>
#include <stdlib.h>

#include <rdy/rdy.h>

struct session {
    struct rdy_stream stream; /* first: rdy_serve() puts the connection here, and closes it */
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
    static const struct rdy_task_spec session = {.poll = session_poll,
                                                 .self_size = sizeof(struct session)};
    const char *port = argc > 1 ? argv[1] : "7777";
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    struct rdy_runtime *runtime = NULL;
    struct rdy_listener listener;

    if (rdy_runtime_open(&runtime, NULL) < 0 ||
        rdy_listener_open(&listener, runtime, (struct sockaddr *)&addr, sizeof(addr), NULL) < 0 ||
        rdy_serve(runtime, &listener, &session, NULL) < 0 || rdy_runtime_run(runtime) < 0)
        return 1;
    rdy_runtime_close(runtime);
    return 0;
}
