/* SPDX-License-Identifier: MIT */
/*
 * Hundreds of TCP connections in completion mode over a pool of four buffers, and a peer thread
 * that does to them what peers do: sends in pieces, reads slowly, half closes, resets. Most are
 * accepted by the server; the others it makes itself. It echoes by every mix of the calls, holds
 * buffers for a while, and has its tasks aborted, also while they connect.
 *
 * Every byte that comes back is checked against its place in the stream. Of a faithful connection
 * all must come back, and then the end; the others may be cut off anywhere, but not be wrong
 * before. A lost wake-up leaves a connection standing, and the watchdog says so. In the end nothing
 * may be left: no task, no entry, no buffer, no block.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include <rdy/rdy.h>

#include "engine/atomic.h"
#include "tests/support/shortage.h"
#include "tests/support/stress.h"

#define CALLS         STRESS_ROUNDS(300u, 200u)
#define CALLS_BACK    STRESS_ROUNDS(150u, 100u) /* that the server makes */
#define CALLERS       8u                        /* of these at a time */
#define LINES         24u                       /* that the peer has open at a time */
#define BYTES_MAX     60000u
#define FAITHFUL      'f' /* the first byte: all of it must come back */
#define FICKLE        'x' /* either side may break it off */
#define ABORT_ONE_OF  30u
#define RESET_ONE_OF  60u
#define HOLD_ONE_OF   8u
#define SOCKET_BUFFER 4096
#define RECV_CHUNK    700u

static unsigned char pattern(uint64_t seed, size_t position)
{
    return (unsigned char)(seed + position * 37 + position / 253);
}

/* --- the peer's thread --- */

struct line {
    int fd; /* -1: none */
    uint64_t seed;
    unsigned char kind;
    size_t goal;
    size_t sent;
    size_t heard;
    bool is_shut;
    bool is_called; /* the server made it */
};

struct peer {
    struct sockaddr_in addr; /* of the server */
    int listener;
    const struct rdy_a32 *calls_over; /* the server makes no more */
    uint64_t random;
    uint32_t opened;
    uint32_t broken; /* faithful ones that the server made, and left without a byte */
    struct line line[LINES];
};

static unsigned char line_byte(const struct line *line, size_t position)
{
    return position == 0 ? line->kind : pattern(line->seed, position);
}

static void line_begin(struct peer *peer, struct line *line, int fd)
{
    *line = (struct line){
        .fd = fd,
        .seed = stress_random(&peer->random),
        .kind = stress_random(&peer->random) % 3 ? FAITHFUL : FICKLE,
        .goal = 1 + stress_random(&peer->random) % BYTES_MAX,
    };
    if (stress_random(&peer->random) % 4 == 0)
        line->goal = 1 + line->goal % 100;
}

static void line_open(struct peer *peer, struct line *line)
{
    int size = SOCKET_BUFFER;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(fd >= 0);
    if (stress_random(&peer->random) % 2)
        must(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0);
    must(connect(fd, (struct sockaddr *)&peer->addr, sizeof(peer->addr)) == 0);
    must(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    line_begin(peer, line, fd);
    peer->opened++;
}

/* False: the server does not call. */
static bool line_accept(struct peer *peer, struct line *line)
{
    int fd = accept4(peer->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        must(errno == EAGAIN);
        return false;
    }
    line_begin(peer, line, fd);
    line->is_called = true;
    return true;
}

/* The server may give up a call of its own that is not made yet for all that it knows. */
static bool line_may_break(const struct line *line)
{
    return line->kind == FICKLE || (line->is_called && line->heard == 0);
}

static void line_close(struct peer *peer, struct line *line, bool is_reset)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (is_reset)
        must(setsockopt(line->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
    must(close(line->fd) == 0);
    line->fd = -1;
    peer->broken += line->kind == FAITHFUL && line->heard < line->goal;
}

/* False: the server has broken it off. */
static bool line_send(struct line *line, uint64_t *random)
{
    unsigned char bytes[3000];
    size_t len = 1 + stress_random(random) % sizeof(bytes);
    ssize_t count;

    if (len > line->goal - line->sent)
        len = line->goal - line->sent;
    for (size_t i = 0; i < len; i++)
        bytes[i] = line_byte(line, line->sent + i);
    count = send(line->fd, bytes, len, MSG_NOSIGNAL);
    if (count < 0) {
        must(errno == EAGAIN || line_may_break(line));
        return errno == EAGAIN;
    }
    line->sent += (size_t)count;
    return true;
}

/* False at the end. */
static bool line_hear(struct line *line, uint64_t *random)
{
    unsigned char bytes[5000];
    ssize_t count = recv(line->fd, bytes, 1 + stress_random(random) % sizeof(bytes), 0);

    if (count < 0) {
        must(errno == EAGAIN || line_may_break(line));
        return errno == EAGAIN;
    }
    for (size_t i = 0; i < (size_t)count; i++)
        must(bytes[i] == line_byte(line, line->heard + i));
    line->heard += (size_t)count;
    must(line->heard <= line->sent);
    if (count == 0)
        must(line_may_break(line) || line->heard == line->goal);
    return count > 0;
}

static void line_step(struct peer *peer, struct line *line)
{
    uint64_t *random = &peer->random;
    bool is_open = true;

    if (line->kind == FICKLE && line->sent > 0 && stress_random(random) % RESET_ONE_OF == 0) {
        line_close(peer, line, true);
        return;
    }
    if (line->sent < line->goal && stress_random(random) % 3 != 0)
        is_open = line_send(line, random);
    if (is_open && line->sent == line->goal && !line->is_shut) {
        must(shutdown(line->fd, SHUT_WR) == 0 || line_may_break(line));
        line->is_shut = true;
    }
    if (is_open && stress_random(random) % 3 == 0)
        is_open = line_hear(line, random);
    if (!is_open)
        line_close(peer, line, false);
}

static void *run_peer(void *arg)
{
    struct peer *peer = arg;
    bool is_busy = true;

    for (uint32_t i = 0; i < LINES; i++)
        peer->line[i].fd = -1;
    while (is_busy) {
        /* Before the look at the queue: what was called by then stands in it. */
        is_busy = rdy_a32_load_acquire(peer->calls_over) == 0;
        for (uint32_t i = 0; i < LINES; i++) {
            struct line *line = &peer->line[i];

            if (line->fd >= 0)
                line_step(peer, line);
            else if (!line_accept(peer, line) && peer->opened < CALLS)
                line_open(peer, line);
            is_busy = is_busy || line->fd >= 0;
        }
        (void)sched_yield();
    }
    return NULL;
}

/* --- the server --- */

struct server {
    struct rdy_runtime *runtime;
    struct rdy_listener listener;
    uint64_t random;
    uint32_t accepted;
    uint32_t live;
    uint32_t aborts;
    struct sockaddr_in peer_addr;
    uint32_t called;
    uint32_t calls_live;
    uint32_t calls_aborted; /* before they were made */
    struct rdy_a32 calls_over;
    struct echo *echoes; /* a list */
};

struct echo {
    struct server *server;
    struct rdy_stream stream;
    struct rdy_buf owed;
    struct rdy_task_id id;
    struct echo *next;
    struct echo **link;
    bool is_fickle;
    bool is_call;     /* made here, */
    bool is_made;     /* as far as is known */
    bool is_given_up; /* before that was known */
    bool has_begun;
    bool has_ended;
};

static ssize_t echo_receive(struct echo *echo, struct rdy_task *task)
{
    unsigned char bytes[RECV_CHUNK];
    ssize_t count;

    if (stress_random(&echo->server->random) % 3 != 0)
        return rdy_stream_poll_recv(&echo->stream, task, &echo->owed);
    count = rdy_stream_poll_read(&echo->stream, task, bytes, sizeof(bytes));
    if (count <= 0)
        return count;
    must(rdy_buf_take(echo->server->runtime, (size_t)count, &echo->owed) == 0);
    memcpy(echo->owed.data, bytes, (size_t)count);
    return count;
}

/* 0, RDY_PENDING or -errno; with a part written the rest is still owed. */
static int echo_send(struct echo *echo, struct rdy_task *task)
{
    ssize_t count;

    if (stress_random(&echo->server->random) % 3 != 0)
        return rdy_stream_poll_send(&echo->stream, task, &echo->owed);
    count = rdy_stream_poll_write(&echo->stream, task, echo->owed.data, echo->owed.len);
    if (count < 0)
        return (int)count;
    rdy_buf_advance(&echo->owed, (size_t)count);
    if (echo->owed.len == 0)
        rdy_buf_release(&echo->owed);
    return 0;
}

/*
 * Now and then ends another connection in the middle of whatever it does. From here rather than by
 * a task with a timer, which would have the driver look again and again, and so hide lost wake-ups.
 */
static void abort_some(struct server *server)
{
    struct echo *echo = server->echoes;

    if (stress_random(&server->random) % ABORT_ONE_OF != 0)
        return;
    for (uint64_t i = stress_random(&server->random) % LINES; echo && i > 0; i--)
        echo = echo->next;
    if (!echo || (echo->is_made && !echo->is_fickle))
        return;
    echo->is_given_up = !echo->is_made;
    server->calls_aborted += echo->is_given_up;
    must(rdy_task_abort(server->runtime, echo->id) == 0);
    server->aborts++;
}

/* Each of these waits for what is unsent, and may be given up for another of them. */
static int echo_finish(struct echo *echo, struct rdy_task *task)
{
    switch (stress_random(&echo->server->random) % 3) {
    case 0:
        return rdy_stream_poll_flush(&echo->stream, task);
    case 1:
        return rdy_stream_poll_shutdown(&echo->stream, task, SHUT_WR);
    default:
        return rdy_stream_poll_close(&echo->stream, task);
    }
}

/* A step: 1 to go on, RDY_PENDING, or 0 when it is over. */
static int echo_step(struct echo *echo, struct rdy_task *task)
{
    ssize_t rc;

    if (!echo->is_made) {
        rc = rdy_stream_poll_connect(&echo->stream, task);
        /* A fickle peer may be gone again before this task has looked: EPIPE, if it ended first. */
        must(rc == RDY_PENDING || rc == 0 || rc == -ECONNRESET || rc == -EPIPE);
        echo->is_made = rc == 0;
        return rc == RDY_PENDING ? RDY_PENDING : (rc == 0);
    }
    if (echo->has_ended) {
        rc = echo_finish(echo, task);
        must(rc == RDY_PENDING || rc == 0 || echo->is_fickle);
        return rc == RDY_PENDING ? RDY_PENDING : 0;
    }
    if (echo->owed.block) {
        if (stress_random(&echo->server->random) % HOLD_ONE_OF == 0) {
            rdy_task_defer(task);
            return RDY_PENDING;
        }
        rc = echo_send(echo, task);
        must(rc == RDY_PENDING || rc == 0 || echo->is_fickle);
        return rc == 0 ? 1 : (rc == RDY_PENDING ? RDY_PENDING : 0);
    }
    rc = echo_receive(echo, task);
    if (rc > 0 && !echo->has_begun) {
        echo->is_fickle = echo->owed.data[0] == FICKLE;
        echo->has_begun = true;
    }
    echo->has_ended = rc == 0;
    must(rc == RDY_PENDING || rc >= 0 || echo->is_fickle || !echo->has_begun);
    return rc >= 0 ? 1 : (rc == RDY_PENDING ? RDY_PENDING : 0);
}

static int poll_echo(struct rdy_task *task, void *self)
{
    struct echo *echo = self;
    int rc;

    abort_some(echo->server);
    if (echo->is_given_up) /* by itself: its peer must not get an answer and then be cut off */
        return RDY_PENDING;
    do
        rc = echo_step(echo, task);
    while (rc == 1);
    return rc;
}

static void call(struct server *server);

static void drop_echo(void *self)
{
    struct echo *echo = self;
    struct server *server = echo->server;

    rdy_buf_release(&echo->owed);
    rdy_stream_close(&echo->stream);
    *echo->link = echo->next;
    if (echo->next)
        echo->next->link = echo->link;
    server->live--;
    if (!echo->is_call)
        return;
    server->calls_live--;
    if (server->called < CALLS_BACK)
        call(server);
    else if (server->calls_live == 0)
        rdy_a32_store_release(&server->calls_over, 1);
}

static void echo_begin(struct server *server, struct rdy_stream stream, bool is_call)
{
    struct rdy_task_spec spec = {
        .poll = poll_echo, .drop = drop_echo, .self_size = sizeof(struct echo)};
    struct rdy_task_id id;
    struct echo *echo;
    void *self;

    must(rdy_spawn(server->runtime, &spec, &self, &id) == 0);
    echo = self;
    *echo = (struct echo){.server = server,
                          .stream = stream,
                          .id = id,
                          .is_call = is_call,
                          .is_made = !is_call,
                          .next = server->echoes,
                          .link = &server->echoes};
    if (echo->next)
        echo->next->link = &echo->next;
    server->echoes = echo;
    server->live++;
    server->calls_live += is_call;
}

static void call(struct server *server)
{
    struct rdy_connect_opts opts = {.size = sizeof(opts),
                                    .send_buf = SOCKET_BUFFER,
                                    .recv_buf = SOCKET_BUFFER,
                                    .is_completing = true};
    struct rdy_stream stream;

    must(rdy_stream_start_connect_with(&stream, server->runtime,
                                       (struct sockaddr *)&server->peer_addr,
                                       sizeof(server->peer_addr), &opts) == 0);
    server->called++;
    echo_begin(server, stream, true);
}

static int poll_accepts(struct rdy_task *task, void *self)
{
    struct server *server = ((struct test_task *)self)->test;

    while (server->accepted < CALLS) {
        struct rdy_stream stream;
        int rc = rdy_listener_poll_accept(&server->listener, task, &stream);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        must(rc == 0);
        server->accepted++;
        echo_begin(server, stream, false);
    }
    rdy_listener_close(&server->listener);
    return 0;
}

static struct {
    uint64_t aborts;
    uint64_t recv_starved;
    uint64_t sends_unfinished;
    uint64_t copies;
    uint64_t connects;
    uint64_t calls_aborted;
    uint64_t bulks;
    uint64_t calls;
} met;

/* The peer listens as well; its connections are accepted in its own thread. */
static void peer_listen(struct peer *peer, struct server *server)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof(any);

    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(peer->listener >= 0);
    assert_int_equal(bind(peer->listener, (struct sockaddr *)&any, addr_len), 0);
    assert_int_equal(listen(peer->listener, 128), 0);
    assert_int_equal(getsockname(peer->listener, (struct sockaddr *)&any, &addr_len), 0);
    server->peer_addr = any;
    peer->calls_over = &server->calls_over;
}

static void nothing_is_lost_or_left(void **state)
{
    static struct server server;
    static struct peer peer;
    const struct shortage *shortage = *state;
    struct rdy_driver_opts opts = {.buffer_size = 512, .recv_queue_max = 2, .send_queue_max = 2000};
    struct rdy_listen_opts listen_opts = {.size = sizeof(listen_opts),
                                          .send_buf = SOCKET_BUFFER,
                                          .recv_buf = SOCKET_BUFFER,
                                          .is_completing = true};
    struct rdy_completion_stats stats;
    struct sockaddr_storage addr;
    socklen_t addr_len = 0;
    pthread_t thread;

    server = (struct server){.runtime = open_short(shortage, &opts), .random = 7};
    peer = (struct peer){.random = 11};
    peer_listen(&peer, &server);
    peer.addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(rdy_listener_open(&server.listener, server.runtime,
                                       (struct sockaddr *)&peer.addr, sizeof(peer.addr),
                                       &listen_opts),
                     0);
    assert_int_equal(rdy_listener_address(&server.listener, &addr, &addr_len), 0);
    memcpy(&peer.addr, &addr, sizeof(peer.addr));

    (void)spawn_test(server.runtime, poll_accepts, NULL, &server);
    for (uint32_t i = 0; i < CALLERS; i++)
        call(&server);
    assert_int_equal(pthread_create(&thread, NULL, run_peer, &peer), 0);
    assert_int_equal(rdy_runtime_run(server.runtime), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(close(peer.listener), 0);

    check_nothing_left(server.runtime, shortage);
    rdy_completion_read_stats(server.runtime, &stats);
    assert_int_equal(server.accepted, CALLS);
    assert_int_equal(server.called, CALLS_BACK);
    assert_int_equal(server.live, 0);
    assert_true(peer.broken <= server.calls_aborted);
    met.aborts += server.aborts;
    met.recv_starved += shortage->buffers_count <= 4 ? stats.recv_starved : 0;
    met.sends_unfinished += stats.sends_unfinished;
    met.copies += stats.copies;
    met.connects += stats.connects;
    met.bulks += stats.bulks;
    met.calls += stats.calls;
    met.calls_aborted += server.calls_aborted;
    rdy_runtime_close(server.runtime);
}

/* Of all together: which of them a single run meets is up to the scheduler. */
static void runs_went_through_what_they_are_to_go_through(void **state)
{
    (void)state;
    assert_true(met.aborts > 0);
    assert_true(met.recv_starved > 0);
    assert_true(met.sends_unfinished > 0);
    assert_true(met.copies > 0);
    assert_true(met.connects > 0);
    assert_true(met.bulks > 0);
#ifndef RDY_VALGRIND /* ten calls a run, of one thread at a time: too few to be sure of this one */
    assert_true(met.calls_aborted > 0);
#endif
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_EACH_SHORTAGE(nothing_is_lost_or_left),
        cmocka_unit_test(runs_went_through_what_they_are_to_go_through),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
