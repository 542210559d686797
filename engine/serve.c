/* SPDX-License-Identifier: MIT */
/*
 * The accept loop that most servers want: a task like any other, built on the public calls alone.
 *
 * A session's allocation is a small head, then the user's struct, which begins with the stream. The
 * head has the user's functions, and lets the stream be closed after the user's drop has run. A
 * connection for which there is no session yet is held, not closed: its peer waits, as those do who
 * were not accepted.
 */
#include <rdy/serve.h>

#include "engine/base.h"

#define PAUSE_NS (50 * RDY_NS_PER_MS)

struct accept_loop {
    struct rdy_co co;
    struct rdy_listener *listener;
    struct rdy_task_spec session;
    struct rdy_stream held; /* accepted, without a session so far */
    struct rdy_timer pause;
    uint64_t resume_ns;
    int rc;
};

struct session_head {
    rdy_poll_fn *poll;
    rdy_drop_fn *drop;
};

static_assert(sizeof(struct session_head) == 16, "what follows stays aligned");

/* A task's own struct may have 1 MiB, our head included. */
#define SESSION_SIZE_MAX ((size_t)1024 * 1024 - sizeof(struct session_head))

static int session_poll(struct rdy_task *task, void *self)
{
    struct session_head *head = self;

    return head->poll(task, head + 1);
}

static void session_drop(void *self)
{
    struct session_head *head = self;

    if (head->drop)
        head->drop(head + 1);
    rdy_stream_close((struct rdy_stream *)(head + 1));
}

/* Gives the connection that is held to a session of its own; it stays held if that fails. */
static int start_session(struct accept_loop *loop, struct rdy_task *task)
{
    struct rdy_task_spec spec = {
        .poll = session_poll,
        .drop = session_drop,
        .self_size = sizeof(struct session_head) + loop->session.self_size,
        .name = loop->session.name,
        .timeout_ns = loop->session.timeout_ns,
    };
    struct session_head *head;
    void *self = NULL;
    int rc = rdy_spawn(rdy_task_runtime(task), &spec, &self, NULL);

    if (rc < 0)
        return rc;
    head = self;
    *head = (struct session_head){.poll = loop->session.poll, .drop = loop->session.drop};
    *(struct rdy_stream *)(head + 1) = loop->held;
    loop->held = (struct rdy_stream){.fd = -1};
    return 0;
}

/* Accepts and starts sessions until there is nothing to accept, or an error. */
static int accept_some(struct accept_loop *loop, struct rdy_task *task)
{
    int rc;

    do {
        rc = 0;
        if (loop->held.fd < 0)
            rc = rdy_listener_poll_accept(loop->listener, task, &loop->held);
        if (rc == 0)
            rc = start_session(loop, task);
    } while (rc == 0);
    return rc;
}

/* A shortage, or a packet filter that refuses one connection (EPERM): it may be another time. */
static bool is_passing(int rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM || rc == -EPERM;
}

static int accept_poll(struct rdy_task *task, void *self)
{
    struct accept_loop *loop = self;
    struct rdy_runtime *runtime = rdy_task_runtime(task);

    RDY_BEGIN(&loop->co);
    for (;;) {
        RDY_AWAIT(&loop->co, loop->rc = accept_some(loop, task));
        if (!is_passing(loop->rc))
            return loop->rc;
        loop->resume_ns = rdy_runtime_now_ns(runtime) + PAUSE_NS;
        RDY_AWAIT(&loop->co, rdy_timer_poll_until(&loop->pause, task, loop->resume_ns));
    }
    RDY_END(&loop->co);
    return 0;
}

static void accept_drop(void *self)
{
    struct accept_loop *loop = self;

    (void)rdy_timer_cancel(&loop->pause);
    rdy_stream_close(&loop->held);
}

int rdy_serve(struct rdy_runtime *runtime, struct rdy_listener *listener,
              const struct rdy_task_spec *session, struct rdy_task_id *id)
{
    static const struct rdy_task_spec spec = {
        .poll = accept_poll,
        .drop = accept_drop,
        .self_size = sizeof(struct accept_loop),
    };
    struct accept_loop *loop;
    void *self = NULL;
    int rc;

    /* Each session would be refused by rdy_spawn(), and the first of them would end the loop. */
    if (!session->poll || session->self_size > SESSION_SIZE_MAX)
        return -EINVAL;
    if (session->self_size < sizeof(struct rdy_stream))
        return -EINVAL;
    rc = rdy_spawn(runtime, &spec, &self, id);
    if (rc < 0)
        return rc;
    loop = self;
    loop->listener = listener;
    loop->session = *session;
    loop->held.fd = -1;
    return 0;
}

int rdy_stream_poll_write_all(struct rdy_stream *stream, struct rdy_task *task, const void *data,
                              size_t data_len, size_t *done)
{
    while (*done < data_len) {
        ssize_t n =
            rdy_stream_poll_write(stream, task, (const char *)data + *done, data_len - *done);

        if (n < 0)
            return (int)n;
        *done += (size_t)n;
    }
    return 0;
}
