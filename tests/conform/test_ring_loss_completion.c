/* SPDX-License-Identifier: MIT */
/*
 * A ring that is taken away while it receives and sends: the streams go on over epoll, and no byte
 * is lost, doubled or out of place. What was waiting in the kernel then cannot be known: such a
 * stream ends with an error instead.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <rdy/rdy.h>

#include "tests/support/child.h"

struct talk {
    struct rdy_runtime *runtime;
    struct rdy_stream stream;
    int peer;
    struct rdy_buf owed;
    unsigned char heard[4096];
    size_t heard_len;
    size_t echoed;
    size_t goal;
    int error;
};

static struct talk *talk_of(void *self)
{
    return *(struct talk **)self;
}

/* Sends back what it receives, until @goal bytes are on their way. */
static int poll_echoes(struct rdy_task *task, void *self)
{
    struct talk *talk = talk_of(self);

    while (talk->echoed < talk->goal) {
        ssize_t rc;

        if (!talk->owed.block) {
            rc = rdy_stream_poll_recv(&talk->stream, task, &talk->owed);
            if (rc == RDY_PENDING)
                return RDY_PENDING;
            if (rc <= 0) {
                talk->error = rc < 0 ? (int)rc : -ENODATA;
                return 0;
            }
            talk->echoed += (size_t)rc;
        }
        rc = rdy_stream_poll_send(&talk->stream, task, &talk->owed);
        if (rc != 0) {
            talk->error = rc == RDY_PENDING ? 0 : (int)rc;
            return rc == RDY_PENDING ? RDY_PENDING : 0;
        }
    }
    return rdy_stream_poll_flush(&talk->stream, task) == RDY_PENDING ? RDY_PENDING : 0;
}

/* Gives the talk a stream, and its peer. */
static void talk_pair(struct talk *talk)
{
    int fds[2];

    child_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    child_check(rdy_stream_from_fd(&talk->stream, talk->runtime, fds[0]) == 0);
    talk->peer = fds[1];
}

static void talk_begin(struct talk *talk, struct rdy_runtime *runtime)
{
    memset(talk, 0, sizeof(*talk));
    talk->runtime = runtime;
    talk_pair(talk);
    child_check(rdy_stream_start_completion(&talk->stream) == 0);
    child_check(rdy_completion_is_native(talk->runtime));
}

static void talk_open(struct talk *talk)
{
    struct rdy_runtime_opts opts = {.size = sizeof(opts), .driver.size = sizeof(opts.driver)};
    struct rdy_runtime *runtime = NULL;

    child_check(rdy_runtime_open(&runtime, &opts) == 0);
    talk_begin(talk, runtime);
}

static void talk_spawn(struct talk *talk)
{
    struct rdy_task_spec spec = {.poll = poll_echoes, .self_size = sizeof(struct talk *)};
    void *self;

    child_check(rdy_spawn(talk->runtime, &spec, &self, NULL) == 0);
    *(struct talk **)self = talk;
}

static void talk_run(struct talk *talk, size_t goal)
{
    talk->goal = goal;
    talk_spawn(talk);
    child_check(rdy_runtime_run(talk->runtime) == 0);
}

static void say(struct talk *talk, const char *text)
{
    child_check(send(talk->peer, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static void hear(struct talk *talk)
{
    ssize_t count = recv(talk->peer, talk->heard + talk->heard_len,
                         sizeof(talk->heard) - talk->heard_len, MSG_DONTWAIT);

    if (count > 0)
        talk->heard_len += (size_t)count;
}

static void talk_close(struct talk *talk)
{
    rdy_buf_release(&talk->owed);
    rdy_stream_close(&talk->stream);
    rdy_runtime_close(talk->runtime);
    child_check(close(talk->peer) == 0);
}

static void streams_go_on(int error)
{
    struct talk talk;

    talk_open(&talk);
    say(&talk, "one ");
    talk_run(&talk, 4);

    forbid(error, false);
    say(&talk, "two ");
    talk_run(&talk, 8);
    child_check(!rdy_completion_is_native(talk.runtime));
    say(&talk, "three");
    talk_run(&talk, 13);

    hear(&talk);
    child_check(talk.error == 0);
    child_check(talk.heard_len == 13 && memcmp(talk.heard, "one two three", 13) == 0);
    talk_close(&talk);
}

static void echo_goes_on_over_epoll(void **state)
{
    (void)state;
    in_a_child(streams_go_on, EPERM);
    in_a_child(streams_go_on, ENOSYS);
}

static int poll_sends(struct rdy_task *task, void *self)
{
    struct talk *talk = talk_of(self);

    return rdy_stream_poll_send(&talk->stream, task, &talk->owed) == RDY_PENDING ? RDY_PENDING : 0;
}

/* Handed over, and the very call that would have submitted it is refused. */
static void handed_over_at_the_end(int error)
{
    struct rdy_task_spec spec = {.poll = poll_sends, .self_size = sizeof(struct talk *)};
    struct talk talk;
    void *self;

    talk_open(&talk);
    child_check(rdy_buf_take(talk.runtime, 6, &talk.owed) == 0);
    memcpy(talk.owed.data, "unsent", 6);
    child_check(rdy_spawn(talk.runtime, &spec, &self, NULL) == 0);
    *(struct talk **)self = &talk;
    forbid(error, false);
    child_check(rdy_runtime_run(talk.runtime) == 0);
    talk_run(&talk, 0); /* flushes */

    hear(&talk);
    child_check(talk.heard_len == 6 && memcmp(talk.heard, "unsent", 6) == 0);
    talk_close(&talk);
}

static void what_was_handed_over_last_is_sent_by_epoll(void **state)
{
    (void)state;
    in_a_child(handed_over_at_the_end, EPERM);
}

static int poll_arms(struct rdy_task *task, void *self)
{
    struct talk *talk = talk_of(self);

    child_check(rdy_stream_poll_recv(&talk->stream, task, &talk->owed) == RDY_PENDING);
    return 0;
}

/* Reads what is there, one byte less than the first part at a time. */
static int poll_reads(struct rdy_task *task, void *self)
{
    struct talk *talk = talk_of(self);

    while (talk->heard_len < talk->goal) {
        ssize_t rc = rdy_stream_poll_read(&talk->stream, task, talk->heard + talk->heard_len, 3);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        if (rc <= 0) {
            talk->error = rc < 0 ? (int)rc : -ENODATA;
            return 0;
        }
        talk->heard_len += (size_t)rc;
    }
    return 0;
}

static int poll_writes(struct rdy_task *task, void *self)
{
    struct talk *talk = talk_of(self);

    child_check(rdy_stream_poll_write(&talk->stream, task, " then", 5) == 5);
    return 0;
}

static void talk_task(struct talk *talk, rdy_poll_fn *poll)
{
    struct rdy_task_spec spec = {.poll = poll, .self_size = sizeof(struct talk *)};
    void *self;

    child_check(rdy_spawn(talk->runtime, &spec, &self, NULL) == 0);
    *(struct talk **)self = talk;
    child_check(rdy_runtime_run(talk->runtime) == 0);
}

static void talk_turn(struct talk *talk)
{
    child_check(rdy_driver_turn(rdy_runtime_driver(talk->runtime), 0) >= 0);
}

/* What the ring had received waits in the stream, while the socket has what came after it. */
static void received_before_the_end(int error)
{
    struct talk talk;

    talk_open(&talk);
    talk_task(&talk, poll_arms);
    talk_turn(&talk);
    say(&talk, "first ");
    talk_turn(&talk);
    forbid(error, false);
    talk_turn(&talk);
    child_check(!rdy_completion_is_native(talk.runtime));
    say(&talk, "second");
    talk_turn(&talk);
    talk.goal = 12;
    talk_task(&talk, poll_reads);

    child_check(talk.error == 0);
    child_check(memcmp(talk.heard, "first second", 12) == 0);
    talk_close(&talk);
}

static void plain_read_takes_first_what_the_ring_had_received(void **state)
{
    (void)state;
    in_a_child(received_before_the_end, EPERM);
}

static void written_after_the_end(int error)
{
    struct rdy_task_spec spec = {.poll = poll_sends, .self_size = sizeof(struct talk *)};
    struct talk talk;
    void *self;

    talk_open(&talk);
    child_check(rdy_buf_take(talk.runtime, 5, &talk.owed) == 0);
    memcpy(talk.owed.data, "first", 5);
    child_check(rdy_spawn(talk.runtime, &spec, &self, NULL) == 0);
    *(struct talk **)self = &talk;
    forbid(error, false);
    child_check(rdy_runtime_run(talk.runtime) == 0);
    talk_turn(&talk);
    child_check(!rdy_completion_is_native(talk.runtime));
    talk_task(&talk, poll_writes);
    talk_run(&talk, 0); /* flushes */

    hear(&talk);
    child_check(talk.heard_len == 10 && memcmp(talk.heard, "first then", 10) == 0);
    talk_close(&talk);
}

static void plain_write_stays_behind_what_the_ring_did_not_send(void **state)
{
    (void)state;
    in_a_child(written_after_the_end, EPERM);
}

/* Puts a TCP connection in the place of the pair. */
static void talk_over_tcp(struct talk *talk)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    rdy_stream_close(&talk->stream);
    child_check(close(talk->peer) == 0);
    child_check(bind(listener, (struct sockaddr *)&addr, addr_len) == 0);
    child_check(listen(listener, 1) == 0);
    child_check(getsockname(listener, (struct sockaddr *)&addr, &addr_len) == 0);
    child_check(connect(fd, (struct sockaddr *)&addr, addr_len) == 0);
    child_check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    talk->peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    child_check(talk->peer >= 0);
    child_check(rdy_stream_from_fd(&talk->stream, talk->runtime, fd) == 0);
    child_check(close(listener) == 0);
}

/* The kernel tells of a reset once, and has told the ring: a read would take it for a clean end. */
static void reset_before_the_end(int error)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct talk talk;

    talk_open(&talk);
    talk_over_tcp(&talk);
    talk_task(&talk, poll_arms);
    talk_turn(&talk);
    child_check(setsockopt(talk.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
    child_check(close(talk.peer) == 0);
    talk_turn(&talk);
    forbid(error, false);
    talk_turn(&talk);
    child_check(!rdy_completion_is_native(talk.runtime));
    talk_run(&talk, 1);
    child_check(talk.error == -ECONNRESET);
    talk.goal = 1;
    talk_task(&talk, poll_reads);
    child_check(talk.error == -ECONNRESET);
    talk.peer = dup(0);
    talk_close(&talk);
}

static void reset_that_the_ring_was_told_of_is_not_forgotten(void **state)
{
    (void)state;
    in_a_child(reset_before_the_end, EPERM);
}

/*
 * Closed, and the very call that would have told the ring of it is refused. The number is free at
 * once, and what takes it (a descriptor of epoll's) is not closed in its turn: turns go on.
 */
static void closed_at_the_end(int error)
{
    struct talk talk;

    talk_open(&talk);
    talk_turn(&talk);
    rdy_stream_close(&talk.stream);
    forbid(error, false);
    talk_turn(&talk);
    child_check(!rdy_completion_is_native(talk.runtime));
    child_check(recv(talk.peer, talk.heard, 1, MSG_DONTWAIT) == 0);
    for (int i = 0; i < 3; i++)
        talk_turn(&talk);
    rdy_runtime_close(talk.runtime);
    child_check(close(talk.peer) == 0);
}

static void file_is_closed_once_when_the_ring_is_lost(void **state)
{
    (void)state;
    in_a_child(closed_at_the_end, EPERM);
    in_a_child(closed_at_the_end, ENOSYS);
}

#define LINES 4

struct lines {
    struct rdy_runtime *runtime;
    struct talk talk[LINES];
};

/* A driver that cannot move, of two facts a turn; all but the last of the streams receive. */
static void lines_open(struct lines *lines)
{
    struct rdy_runtime_opts opts = {
        .size = sizeof(opts),
        .driver = {.size = sizeof(opts.driver), .backend = RDY_BACKEND_URING, .events_max = 2}};

    memset(lines, 0, sizeof(*lines));
    child_check(rdy_runtime_open(&lines->runtime, &opts) == 0);
    for (int i = 0; i < LINES; i++) {
        struct talk *talk = &lines->talk[i];

        talk_begin(talk, lines->runtime);
        if (i < LINES - 1)
            talk_task(talk, poll_arms);
    }
    for (int i = 0; i < 2 * LINES; i++)
        talk_turn(&lines->talk[0]);
}

/* What the peer of each sees: 0 is the end. */
static ssize_t ended(const struct lines *lines, int line)
{
    char byte;
    ssize_t count = recv(lines->talk[line].peer, &byte, 1, MSG_DONTWAIT);

    return count < 0 ? -errno : count;
}

/*
 * Three streams leave in one turn, of which the driver takes two facts: two closes stand in the
 * ring's queue when it dies, and the third is of a fact that is salvaged. The fourth stream is
 * closed after that. No close may wait for the driver's, which may be long in coming; and none may
 * hit what has the number by then.
 */
static void closes_at_the_death(int error)
{
    struct lines lines;
    int others[LINES + 1];
    int rc;

    lines_open(&lines);
    for (int i = 0; i < LINES - 1; i++)
        rdy_stream_close(&lines.talk[i].stream);
    talk_turn(&lines.talk[0]);
    forbid(error, false);
    for (int i = 0; i < LINES - 1; i++)
        child_check(ended(&lines, i) == -EAGAIN);

    rc = rdy_driver_turn(rdy_runtime_driver(lines.runtime), 0);
    child_check(rc == -error);
    for (int i = 0; i < LINES - 1; i++)
        child_check(ended(&lines, i) == 0);
    child_check(ended(&lines, LINES - 1) == -EAGAIN);

    rdy_stream_close(&lines.talk[LINES - 1].stream);
    rc = rdy_driver_turn(rdy_runtime_driver(lines.runtime), 0);
    child_check(rc == -error);
    child_check(ended(&lines, LINES - 1) == 0);

    for (int i = 0; i <= LINES; i++)
        others[i] = dup(0);
    rdy_runtime_close(lines.runtime);
    for (int i = 0; i <= LINES; i++)
        child_check(close(others[i]) == 0);
}

static void files_are_closed_once_when_the_ring_dies_and_after(void **state)
{
    (void)state;
    in_a_child(closes_at_the_death, EPERM);
    in_a_child(closes_at_the_death, ENOSYS);
}

struct ending {
    struct talk talk;
    struct rdy_readiness wait;
    int polls;
    int result;
};

static int poll_closed(struct rdy_task *task, void *self)
{
    struct ending *ending = *(struct ending **)self;

    ending->polls++;
    ending->result = rdy_stream_poll_closed(&ending->talk.stream, task, &ending->wait);
    return ending->result == RDY_PENDING ? RDY_PENDING : 0;
}

static int poll_stops(struct rdy_task *task, void *self)
{
    rdy_runtime_stop(rdy_task_runtime(task));
    (void)self;
    return 0;
}

/* Between the end of the watch, which woke the task, and its poll. */
static void lost_before_the_poll(int error)
{
    struct rdy_runtime_opts opts = {.size = sizeof(opts), .driver.size = sizeof(opts.driver)};
    struct rdy_task_spec spec = {.poll = poll_closed, .self_size = sizeof(struct ending *)};
    struct ending ending = {.polls = 0};
    struct talk *talk = &ending.talk;
    void *self;

    child_check(rdy_runtime_open(&talk->runtime, &opts) == 0);
    talk_pair(talk);
    child_check(rdy_spawn(talk->runtime, &spec, &self, NULL) == 0);
    *(struct ending **)self = &ending;
    talk_task(talk, poll_stops);
    child_check(ending.result == RDY_PENDING);
    child_check(rdy_stream_start_completion(&talk->stream) == 0);
    child_check(rdy_completion_is_native(talk->runtime));
    forbid(error, false);
    talk_turn(talk);
    child_check(!rdy_completion_is_native(talk->runtime));
    child_check(ending.polls == 1);

    talk_task(talk, poll_stops);
    child_check(ending.polls == 2 && ending.result == RDY_PENDING);
    child_check(shutdown(talk->peer, SHUT_WR) == 0);
    child_check(rdy_runtime_run(talk->runtime) == 0);
    child_check(ending.result == 0);
    talk_close(talk);
}

static void wait_for_the_end_is_not_ended_by_the_loss(void **state)
{
    (void)state;
    in_a_child(lost_before_the_poll, EPERM);
}

#define CHUNK 4096

/* Writes as long as it can without waiting. */
static int poll_fills(struct rdy_task *task, void *self)
{
    static const char chunk[CHUNK];
    struct talk *talk = talk_of(self);

    while (rdy_stream_poll_write(&talk->stream, task, chunk, sizeof(chunk)) > 0)
        talk->echoed += sizeof(chunk);
    return 0;
}

static void talk_drain(struct talk *talk)
{
    char bytes[CHUNK];

    while (recv(talk->peer, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        ;
}

static int poll_tries_all(struct rdy_task *task, void *self)
{
    struct talk *talk = talk_of(self);
    struct iovec piece = {.iov_base = talk->heard, .iov_len = 1};

    child_check(rdy_stream_poll_write(&talk->stream, task, "!", 1) == -EIO);
    child_check(rdy_stream_poll_writev(&talk->stream, task, &piece, 1) == -EIO);
    child_check(rdy_stream_poll_flush(&talk->stream, task) == -EIO);
    child_check(rdy_stream_poll_recv(&talk->stream, task, &talk->owed) == -EIO);
    child_check(rdy_stream_poll_read(&talk->stream, task, talk->heard, 1) == -EIO);
    return 0;
}

/* Some of it is lost, so nothing must follow; and the answer to it may never come. */
static void waiting_send_at_the_end(int error)
{
    struct talk talk;

    talk_open(&talk);
    talk_task(&talk, poll_arms);
    for (int i = 0; i < 4; i++) {
        talk_task(&talk, poll_fills);
        talk_turn(&talk);
    }
    child_check(talk.echoed > 0 && rdy_stream_unsent(&talk.stream) > 0);
    forbid(error, false);
    talk_turn(&talk);
    child_check(!rdy_completion_is_native(talk.runtime));
    talk_drain(&talk); /* there would be room for more */
    talk_turn(&talk);
    talk_task(&talk, poll_tries_all);
    talk_close(&talk);
}

static void stream_with_a_hole_ends_for_who_writes_and_who_reads(void **state)
{
    (void)state;
    in_a_child(waiting_send_at_the_end, EPERM);
    in_a_child(waiting_send_at_the_end, ENXIO);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_goes_on_over_epoll),
        cmocka_unit_test(what_was_handed_over_last_is_sent_by_epoll),
        cmocka_unit_test(plain_read_takes_first_what_the_ring_had_received),
        cmocka_unit_test(plain_write_stays_behind_what_the_ring_did_not_send),
        cmocka_unit_test(reset_that_the_ring_was_told_of_is_not_forgotten),
        cmocka_unit_test(file_is_closed_once_when_the_ring_is_lost),
        cmocka_unit_test(files_are_closed_once_when_the_ring_dies_and_after),
        cmocka_unit_test(wait_for_the_end_is_not_ended_by_the_loss),
        cmocka_unit_test(stream_with_a_hole_ends_for_who_writes_and_who_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
