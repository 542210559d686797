/* SPDX-License-Identifier: MIT */
/*
 * One connection of the load generator: connect, wait for the start, send and check.
 *
 * Positions are bytes of the stream: @sent and @received, and @due, up to which messages may be
 * sent by now. In the closed loop a complete reply makes one more message due; in the open loop the
 * clock does, whether or not replies come. A message's latency counts from the moment it fell due,
 * not from its write, so time that it spends behind a full socket or a slow server counts.
 *
 * With so many requests a connection, another takes its place when these are answered, under the
 * same positions.
 *
 * One task does both directions: a reply must be read while a long message is still being written,
 * or a server that stops reading when we do would wait for us for ever.
 */
#include "apps/load.h"
#include "apps/load_source.h"
#include "apps/system.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum phase {
    PHASE_NEW = 0,
    PHASE_CONNECTING,
    PHASE_WAITING, /* for the others */
    PHASE_SENDING,
    PHASE_RENEWING, /* connecting in the place of a connection that was used up */
};

/* The answer of an exchange: the connection has had its requests. */
#define USED_UP 1

struct load_connection {
    struct rdy_stream stream;
    struct rdy_timer timer; /* open loop: when the next message falls due */
    struct rdy_waker waker;
    struct load *load;
    uint64_t index;
    uint64_t *due_at_ns; /* closed loop: of message k at [k % depth] */
    uint64_t messages_due;
    uint64_t messages_done;
    uint64_t messages_end; /* of this connection: then another takes its place */
    uint64_t sent;
    uint64_t received;
    enum phase phase;
    bool is_failed;
};

void load_connection_wake(struct load_connection *connection)
{
    rdy_waker_wake(&connection->waker);
}

static bool is_open_loop(const struct load *load)
{
    return load->options->rate > 0;
}

/* Open loop: connections take turns, so that the sends of all of them are evenly spread. */
static uint64_t scheduled_ns(const struct load_connection *connection, uint64_t message)
{
    const struct load *load = connection->load;
    uint64_t ordinal = message * load->options->connections + connection->index;

    return load->start_ns + (uint64_t)((double)ordinal * 1e9 / (double)load->options->rate);
}

static void note_schedule(struct load *load, uint64_t due_ns, uint64_t now_ns)
{
    load->result->sends_scheduled++;
    if (now_ns - due_ns >= LOAD_LATE_NS)
        load->result->sends_late++;
}

/* Open loop: everything whose time has come, but nothing that is due after the end. */
static void connection_follow_clock(struct load_connection *connection, uint64_t now_ns)
{
    struct load *load = connection->load;
    uint64_t due_ns = scheduled_ns(connection, connection->messages_due);

    while (due_ns <= now_ns && due_ns < load->end_ns) {
        note_schedule(load, due_ns, now_ns);
        connection->messages_due++;
        due_ns = scheduled_ns(connection, connection->messages_due);
    }
}

/* Closed loop: one more message may go on this connection, from now on. */
static void connection_credit(struct load_connection *connection, uint64_t now_ns)
{
    struct load *load = connection->load;

    if (load->is_ended || now_ns >= load->end_ns ||
        connection->messages_due == connection->messages_end)
        return;
    connection->due_at_ns[connection->messages_due % load->options->depth] = now_ns;
    connection->messages_due++;
}

/* The oldest unanswered message has its reply. */
static void connection_complete(struct load_connection *connection, uint64_t now_ns)
{
    struct load *load = connection->load;
    uint64_t message = connection->messages_done++;
    uint64_t due_ns;

    due_ns = is_open_loop(load) ? scheduled_ns(connection, message)
                                : connection->due_at_ns[message % load->options->depth];
    histogram_record(&load->result->latency, now_ns > due_ns ? now_ns - due_ns : 0);
    if (now_ns < load->end_ns)
        load->result->requests++;
    if (!is_open_loop(load))
        connection_credit(connection, now_ns);
}

/* Checks what came and completes the messages in it. 0, or -EPROTO for bytes we never sent. */
static int connection_take(struct load_connection *connection, const unsigned char *data,
                           size_t data_len)
{
    struct load *load = connection->load;
    uint64_t now_ns = system_now_ns();
    uint64_t owed = connection->sent - connection->received;
    size_t expected = data_len < owed ? data_len : (size_t)owed;

    load->result->errors.mismatched_bytes +=
        data_len - expected +
        pattern_mismatches(&load->pattern, connection->index, connection->received, data, expected);
    connection->received += expected;
    if (now_ns < load->end_ns)
        load->result->bytes += expected;
    while (connection->received >= (connection->messages_done + 1) * load->options->message_size)
        connection_complete(connection, now_ns);
    return expected == data_len ? 0 : -EPROTO;
}

static void connection_failed(struct load_connection *connection, int error)
{
    struct load_errors *errors = &connection->load->result->errors;

    connection->is_failed = true;
    if (error == -ECONNRESET || error == -EPIPE) {
        errors->resets++;
    } else if (error == -ETIMEDOUT) {
        errors->timeouts++;
    } else if (error == -ENODATA) {
        errors->ended_early++;
    } else if (error != -EPROTO) { /* that one is counted in bytes */
        errors->others++;
        errors->other_error = error;
    }
}

/* Writes until the socket is full or nothing is due. 0, RDY_PENDING or -errno. */
static int connection_write(struct load_connection *connection, struct rdy_task *task)
{
    struct load *load = connection->load;
    uint64_t due = connection->messages_due * load->options->message_size;
    uint64_t left;
    ssize_t sent;

    while (connection->sent < due) {
        left = due - connection->sent;
        sent =
            rdy_stream_poll_write(&connection->stream, task,
                                  pattern_at(&load->pattern, connection->index, connection->sent),
                                  left < PATTERN_CHUNK ? (size_t)left : PATTERN_CHUNK);
        if (sent == RDY_PENDING)
            return RDY_PENDING;
        if (sent < 0)
            return (int)sent;
        connection->sent += (uint64_t)sent;
    }
    return 0;
}

/* One read. 0 if something came, RDY_PENDING or -errno (-ENODATA: the peer closed). */
static int connection_read(struct load_connection *connection, struct rdy_task *task)
{
    struct load *load = connection->load;
    ssize_t got = rdy_stream_poll_read(&connection->stream, task, load->buffer, PATTERN_CHUNK);

    if (got == RDY_PENDING)
        return RDY_PENDING;
    if (got == 0)
        return -ENODATA;
    return got < 0 ? (int)got : connection_take(connection, load->buffer, (size_t)got);
}

/* Open loop: RDY_PENDING until the next message falls due, 0 if it has meanwhile. */
static int connection_sleep(struct load_connection *connection, struct rdy_task *task)
{
    uint64_t due_ns = scheduled_ns(connection, connection->messages_due);

    if (due_ns >= connection->load->end_ns)
        return RDY_PENDING;
    return rdy_timer_poll_until(&connection->timer, task, due_ns);
}

static bool connection_is_done(const struct load_connection *connection)
{
    return connection->load->is_ended && connection->messages_done == connection->messages_due;
}

/* No more is to be asked for over it, and there is time left. */
static bool connection_is_used_up(const struct load_connection *connection)
{
    return connection->messages_done == connection->messages_end &&
           system_now_ns() < connection->load->end_ns;
}

/* 0 when done, USED_UP, RDY_PENDING or -errno. */
static int connection_exchange(struct load_connection *connection, struct rdy_task *task)
{
    int written;
    int got;

    for (;;) {
        /* First: the end may be told before the timer of the last messages has fired. */
        if (is_open_loop(connection->load))
            connection_follow_clock(connection, system_now_ns());
        if (connection_is_done(connection))
            return 0;
        if (connection_is_used_up(connection))
            return USED_UP;
        written = connection_write(connection, task);
        if (written < 0 && written != RDY_PENDING)
            return written;
        got = connection_read(connection, task);
        if (got < 0 && got != RDY_PENDING)
            return got;
        if (got == 0)
            continue; /* it may have made a message due */
        if (!is_open_loop(connection->load) || connection_sleep(connection, task) == RDY_PENDING)
            return RDY_PENDING;
    }
}

static bool load_is_completing(const struct load *load)
{
    enum io_mode mode = load->options->mode;

    return mode == MODE_COMPLETION ||
           (mode == MODE_AUTO && rdy_completion_is_native(load->runtime));
}

static int connection_start_connect(struct load_connection *connection)
{
    struct load *load = connection->load;

    struct rdy_connect_opts opts = {
        .size = sizeof(opts),
        .is_completing = load_is_completing(load),
    };

    if (load->is_spread)
        return load_source_start_connect(load, load->opened++, opts.is_completing,
                                         &connection->stream);
    return rdy_stream_start_connect_with(&connection->stream, load->runtime,
                                         (const struct sockaddr *)&load->endpoint.addr,
                                         load->endpoint.addr_len, &opts);
}

/* 0 when connected, RDY_PENDING, or -errno with the run's connect_rc set. */
static int connection_connect(struct load_connection *connection, struct rdy_task *task)
{
    struct load *load = connection->load;
    int rc = 0;

    if (connection->phase == PHASE_NEW) {
        connection->phase = PHASE_CONNECTING;
        rc = connection_start_connect(connection);
    }
    if (rc == 0)
        rc = rdy_stream_poll_connect(&connection->stream, task);
    if (rc == RDY_PENDING)
        return RDY_PENDING;
    if (rc < 0 && load->connect_rc == 0)
        load->connect_rc = rc;
    if (rc == 0)
        load->connected++;
    rdy_waker_wake(&load->director);
    return rc;
}

/* Closed loop: the first D messages of a connection are due. */
static void connection_credit_first(struct load_connection *connection, uint64_t now_ns)
{
    uint64_t most = connection->load->options->requests_per_connection;

    connection->messages_end = most > 0 ? connection->messages_done + most : UINT64_MAX;
    for (uint64_t i = 0; i < connection->load->options->depth; i++)
        connection_credit(connection, now_ns);
}

/* The first messages are due at the common start, whenever this task gets its turn. */
static void connection_begin(struct load_connection *connection)
{
    connection->phase = PHASE_SENDING;
    connection->messages_end = UINT64_MAX;
    if (!is_open_loop(connection->load))
        connection_credit_first(connection, connection->load->start_ns);
}

/* Another in its place, whose first messages are due from now on: connecting counts. */
static int connection_renew(struct load_connection *connection)
{
    rdy_stream_close(&connection->stream);
    connection->phase = PHASE_RENEWING;
    connection->load->result->renewals++;
    connection_credit_first(connection, system_now_ns());
    return connection_start_connect(connection);
}

/* 0 when done, RDY_PENDING or -errno. */
static int connection_work(struct load_connection *connection, struct rdy_task *task)
{
    int rc;

    for (;;) {
        if (connection->phase == PHASE_RENEWING) {
            rc = rdy_stream_poll_connect(&connection->stream, task);
            if (rc != 0)
                return rc;
            connection->phase = PHASE_SENDING;
        }
        rc = connection_exchange(connection, task);
        if (rc != USED_UP)
            return rc;
        rc = connection_renew(connection);
        if (rc < 0)
            return rc;
    }
}

static int connection_poll(struct rdy_task *task, void *self)
{
    struct load_connection *connection = self;
    int rc;

    connection->waker = rdy_task_waker(task);
    if (connection->phase < PHASE_WAITING) {
        rc = connection_connect(connection, task);
        if (rc != 0)
            return rc;
        connection->phase = PHASE_WAITING;
    }
    if (connection->phase == PHASE_WAITING) {
        if (!connection->load->is_started)
            return RDY_PENDING;
        connection_begin(connection);
    }
    rc = connection_work(connection, task);
    if (rc < 0 && rc != RDY_PENDING)
        connection_failed(connection, rc);
    return rc;
}

static void connection_drop(void *self)
{
    struct load_connection *connection = self;
    struct load *load = connection->load;

    if (connection->is_failed || !load->result->is_interrupted)
        load->result->errors.unanswered += connection->messages_due - connection->messages_done;
    (void)rdy_timer_cancel(&connection->timer);
    rdy_stream_close(&connection->stream);
    free(connection->due_at_ns);
    load->connections[connection->index] = NULL;
    load->live--;
    rdy_waker_wake(&load->director);
}

int load_connection_spawn(struct load *load)
{
    static const struct rdy_task_spec spec = {
        .poll = connection_poll,
        .drop = connection_drop,
        .self_size = sizeof(struct load_connection),
    };
    struct load_connection *connection;
    uint64_t *due_at_ns = NULL;
    void *self;
    int rc;

    if (!is_open_loop(load)) {
        due_at_ns = calloc(load->options->depth, sizeof(*due_at_ns));
        if (!due_at_ns)
            return -ENOMEM;
    }
    rc = rdy_spawn(load->runtime, &spec, &self, NULL);
    if (rc < 0) {
        free(due_at_ns);
        return rc;
    }
    connection = self;
    connection->load = load;
    connection->index = load->spawned;
    connection->due_at_ns = due_at_ns;
    connection->stream.fd = -1;
    load->connections[connection->index] = connection;
    load->spawned++;
    load->live++;
    return 0;
}
