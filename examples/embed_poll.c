/* SPDX-License-Identifier: MIT */
/* An echo server in a poll(2) loop that also reads stdin: a line asks how many are connected. */
#include <err.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rdy/rdy.h>

struct session {
    struct rdy_stream stream; /* first: the connection, which is closed when the task ends */
    struct rdy_co co;
    ssize_t n;
    size_t done;
    char buf[4096];
};

static long connected;

static int session_poll(struct rdy_task *task, void *self)
{
    struct session *s = self;
    int rc;

    RDY_BEGIN(&s->co);
    connected++;
    do {
        RDY_AWAIT(&s->co, s->n = rdy_stream_poll_read(&s->stream, task, s->buf, sizeof(s->buf)));
        s->done = 0;
        RDY_AWAIT(&s->co, rc = rdy_stream_poll_write_all(&s->stream, task, s->buf,
                                                         s->n > 0 ? (size_t)s->n : 0, &s->done));
    } while (s->n > 0 && rc == 0);
    connected--;
    RDY_END(&s->co);
    return 0;
}

static int loop(struct rdy_runtime *runtime)
{
    struct pollfd fds[] = {{.fd = rdy_runtime_fd(runtime), .events = POLLIN},
                           {.fd = STDIN_FILENO, .events = POLLIN}};
    char text[256];
    int rc;

    while ((rc = rdy_runtime_turn(runtime, 0)) >= 0) {
        int64_t sleep_ns = rdy_runtime_timeout_ns(runtime);
        int64_t sleep_ms = sleep_ns < 0 ? -1 : (sleep_ns + 999999) / 1000000;

        if (poll(fds, 2, (int)(sleep_ms < INT_MAX ? sleep_ms : INT_MAX)) < 0)
            fds[1].revents = 0; /* interrupted */
        if (fds[1].revents != 0) {
            if (read(STDIN_FILENO, text, sizeof(text)) <= 0)
                return 0;
            (void)dprintf(STDOUT_FILENO, "%ld connected\n", connected);
        }
    }
    return rc;
}

int main(int argc, char **argv)
{
    static const struct rdy_task_spec session = {.poll = session_poll,
                                                 .self_size = sizeof(struct session)};
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:7777";
    struct rdy_runtime_opts opts = {.size = sizeof(opts), .driver.size = sizeof(opts.driver)};
    struct rdy_runtime *runtime = NULL;
    int rc;

    opts.driver.is_embedded = true;
    rc = rdy_runtime_open(&runtime, &opts);
    rc = rc < 0 ? rc : rdy_serve_at(runtime, address, &session, NULL);
    rc = rc < 0 ? rc : loop(runtime);
    rdy_runtime_close(runtime);
    if (rc < 0)
        errx(2, "%s: %s", address, strerror(-rc));
    return 0;
}
