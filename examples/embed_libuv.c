/* SPDX-License-Identifier: MIT */
/* An echo server inside libuv. A connection is closed after a second, SIGTERM ends the program. */
#include <err.h>
#include <uv.h>

#include <rdy/rdy.h>

struct session {
    struct rdy_stream stream; /* first: the connection, which is closed when the task ends */
    struct rdy_co co;
    ssize_t n;
    size_t done;
    char buf[4096];
};

static struct rdy_runtime *runtime;
static uv_timer_t timer;

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

/* A turn, and when libuv is to come back if nothing makes the descriptor readable before. */
static void turn(uv_timer_t *handle)
{
    int rc = rdy_runtime_turn(runtime, 0);
    int64_t sleep_ns = rdy_runtime_timeout_ns(runtime);

    if (rc < 0)
        errx(1, "%s", uv_strerror(rc));
    if (sleep_ns >= 0)
        (void)uv_timer_start(handle, turn, ((uint64_t)sleep_ns + 999999) / 1000000, 0);
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    (void)handle, (void)status, (void)events;
    turn(&timer);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number, uv_stop(handle->loop);
}

int main(int argc, char **argv)
{
    static const struct rdy_task_spec session = {
        .poll = session_poll, .self_size = sizeof(struct session), .timeout_ns = 1000000000};
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:7777";
    static const struct rdy_runtime_opts opts = {
        .size = sizeof(opts), .driver = {.size = sizeof(opts.driver), .is_embedded = true}};
    int rc = rdy_runtime_open(&runtime, &opts);
    uv_signal_t term;
    uv_poll_t poll;

    if (rc < 0 || (rc = rdy_serve_at(runtime, address, &session, NULL)) < 0)
        errx(2, "%s: %s", address, uv_strerror(rc));
    (void)uv_timer_init(uv_default_loop(), &timer);
    (void)uv_poll_init(uv_default_loop(), &poll, rdy_runtime_fd(runtime));
    (void)uv_poll_start(&poll, UV_READABLE, on_readable);
    (void)uv_signal_init(uv_default_loop(), &term);
    (void)uv_signal_start(&term, on_signal, SIGTERM);
    (void)uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    rdy_runtime_close(runtime);
    return 0;
}
