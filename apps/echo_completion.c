/* SPDX-License-Identifier: MIT */
/*
 * One connection of the echo server in completion mode: what was received is sent as it is, from
 * the buffer that it came in. No copy, and nothing of the session's own while it is idle. When the
 * peer has half closed, what is owed is still sent, then our side is closed. The worker's thread
 * throughout.
 */
#include "apps/echo.h"

struct session {
    struct rdy_stream stream;
    struct rdy_buf owed; /* received, and not yet handed over for sending */
    bool is_ended;       /* the peer sends no more */
};

/* 0 when it was handed over. */
static int session_send(struct session *session, struct rdy_task *task)
{
    int rc = rdy_stream_poll_send(&session->stream, task, &session->owed);

    return rc == 0 || rc == RDY_PENDING ? rc : echo_session_failed(echo_worker_of(task), rc);
}

static int session_receive(struct session *session, struct rdy_task *task)
{
    struct echo_worker *worker = echo_worker_of(task);
    ssize_t count = rdy_stream_poll_recv(&session->stream, task, &session->owed);

    if (count == RDY_PENDING)
        return RDY_PENDING;
    if (count < 0)
        return echo_session_failed(worker, (int)count);
    if (count == 0) {
        session->is_ended = true;
        return 0;
    }
    worker->counters.requests++;
    worker->counters.bytes += (uint64_t)count;
    return 0;
}

static int session_poll(struct rdy_task *task, void *self)
{
    struct session *session = self;
    int rc;

    while (!session->is_ended) {
        rc = session->owed.block ? session_send(session, task) : session_receive(session, task);
        if (rc != 0)
            return rc;
    }
    rc = rdy_stream_poll_close(&session->stream, task);
    return rc < 0 && rc != RDY_PENDING ? echo_session_failed(echo_worker_of(task), rc) : rc;
}

/* Also at the worker's end, with bytes still owed. The stream is closed after it. */
static void session_drop(void *self)
{
    struct session *session = self;
    struct echo_worker *worker = rdy_runtime_context(rdy_runtime_here());

    worker->counters.bytes_dropped += session->owed.len + rdy_stream_unsent(&session->stream);
    if (!rdy_completion_is_native(rdy_runtime_here()))
        worker->counters.io_calls++; /* else a ring closes it, with the next enter */
    rdy_buf_release(&session->owed);
}

const struct rdy_task_spec echo_completion_session = {
    .poll = session_poll,
    .drop = session_drop,
    .self_size = sizeof(struct session),
};
