/* SPDX-License-Identifier: MIT */
/*
 * One connection of the echo server: read, write back, until the peer has ended its side.
 *
 * A session owns no buffer while it is idle: it reads into its worker's and writes at once. What
 * the socket does not take is copied to a buffer of the session's own, at most one read's worth,
 * and nothing more is read until that is gone: a peer that does not read costs 64 KiB, not more.
 * When the peer half-closes, what is owed is still sent, then our side is shut down. A reset ends
 * the session quietly. The worker's thread throughout.
 */
#include "apps/echo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rest {
    uint32_t len;
    uint32_t sent;
    unsigned char data[];
};

/*
 * With the 16 bytes that rdy_serve() puts in front, 64 and one cache line: with many connections
 * each line is a miss for each request. So what the worker has is found through its runtime.
 */
struct session {
    struct rdy_stream stream;
    struct rest *rest; /* NULL: nothing is owed */
};

_Static_assert(sizeof(struct session) + 16 <= 64, "one cache line");

#define PEER_ENDED 1

static int session_keep(struct session *session, struct echo_worker *worker,
                        const unsigned char *data, size_t data_len)
{
    session->rest = malloc(sizeof(*session->rest) + data_len);
    if (!session->rest) {
        worker->counters.bytes_dropped += data_len;
        return echo_session_failed(worker, -ENOMEM);
    }
    memcpy(session->rest->data, data, data_len);
    session->rest->len = (uint32_t)data_len;
    session->rest->sent = 0;
    return 0;
}

/*
 * One write. RDY_PENDING usually costs no system call: the stream remembers that the socket is
 * full. So only answers are counted.
 */
static ssize_t session_write(struct session *session, struct rdy_task *task, const void *data,
                             size_t data_len)
{
    ssize_t sent = rdy_stream_poll_write(&session->stream, task, data, data_len);

    if (sent != RDY_PENDING)
        echo_worker_of(task)->counters.io_calls++;
    return sent;
}

/* 0 when nothing is owed any more, RDY_PENDING, or -errno. */
static int session_flush(struct session *session, struct rdy_task *task)
{
    struct rest *rest = session->rest;
    ssize_t sent;

    while (rest->sent < rest->len) {
        sent = session_write(session, task, rest->data + rest->sent, rest->len - rest->sent);
        if (sent == RDY_PENDING)
            return RDY_PENDING;
        if (sent < 0)
            return echo_session_failed(echo_worker_of(task), (int)sent);
        rest->sent += (uint32_t)sent;
    }
    free(rest);
    session->rest = NULL;
    return 0;
}

/* Writes what was just read; what does not fit is kept. 0 or -errno. */
static int session_answer(struct session *session, struct rdy_task *task, const unsigned char *data,
                          size_t data_len)
{
    struct echo_worker *worker = echo_worker_of(task);
    ssize_t sent = session_write(session, task, data, data_len);

    if (sent == RDY_PENDING)
        return session_keep(session, worker, data, data_len);
    if (sent < 0) {
        worker->counters.bytes_dropped += data_len;
        return echo_session_failed(worker, (int)sent);
    }
    if ((size_t)sent < data_len)
        return session_keep(session, worker, data + sent, data_len - (size_t)sent);
    return 0;
}

/* One read and its answer. 0 to go on, PEER_ENDED, RDY_PENDING, or -errno. */
static int session_turn(struct session *session, struct rdy_task *task)
{
    struct echo_worker *worker = echo_worker_of(task);
    ssize_t got = rdy_stream_poll_read(&session->stream, task, worker->buffer, ECHO_BUFFER_SIZE);

    if (got == RDY_PENDING)
        return RDY_PENDING;
    worker->counters.io_calls++;
    if (got < 0)
        return echo_session_failed(worker, (int)got);
    if (got == 0)
        return PEER_ENDED;
    worker->counters.requests++;
    worker->counters.bytes += (uint64_t)got;
    return session_answer(session, task, worker->buffer, (size_t)got);
}

static int session_poll(struct rdy_task *task, void *self)
{
    struct session *session = self;
    int rc;

    do {
        rc = session->rest ? session_flush(session, task) : session_turn(session, task);
    } while (rc == 0);
    if (rc != PEER_ENDED) /* nothing is owed at the peer's end: it was read after all was sent */
        return rc;
    echo_worker_of(task)->counters.io_calls++;
    (void)rdy_stream_shutdown(&session->stream, SHUT_WR);
    return 0;
}

/* Also at the worker's end, with bytes still owed. The stream is closed after it. */
static void session_drop(void *self)
{
    struct session *session = self;
    struct echo_worker *worker = rdy_runtime_context(rdy_runtime_here());

    if (session->rest)
        worker->counters.bytes_dropped += session->rest->len - session->rest->sent;
    worker->counters.io_calls++;
    free(session->rest);
}

const struct rdy_task_spec echo_session = {
    .poll = session_poll,
    .drop = session_drop,
    .self_size = sizeof(struct session),
};
