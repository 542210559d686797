/* SPDX-License-Identifier: MIT */
/*
 * The other calls on a stream in completion mode: none takes or sends bytes out of their order, and
 * none waits for what would never come.
 */
#include "engine/sys.h"
#include "tests/support/fork.h"
#include "tests/support/rig.h"

#include <sys/wait.h>

#include <rdy/copy.h>
#include <rdy/stream_io.h>
#include <rdy/unix.h>

struct others {
    struct rig *rig;
    ssize_t answers[9];
};

static int poll_all(struct rdy_task *task, void *self)
{
    struct others *others = ((struct test_task *)self)->test;
    struct rdy_stream *stream = &others->rig->stream;
    struct rdy_readiness wait = {0};
    struct rdy_received received;
    char byte = 'x';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    int fd = 0;
    ssize_t *answer = others->answers;

    *answer++ = rdy_stream_poll_readv(stream, task, &iov, 1);
    *answer++ = rdy_stream_poll_writev(stream, task, &iov, 1);
    *answer++ = rdy_stream_poll_peek(stream, task, &byte, 1);
    *answer++ = rdy_stream_try_read(stream, &byte, 1);
    *answer++ = rdy_stream_try_write(stream, &byte, 1);
    *answer++ = rdy_stream_poll_readable(stream, task);
    *answer++ = rdy_stream_poll_closed(stream, task, &wait);
    *answer++ = rdy_stream_poll_send_fds(stream, task, &byte, 1, &fd, 1);
    *answer++ = rdy_stream_poll_recv_fds(stream, task, &byte, 1, &fd, 1, &received);
    if (wait.io)
        rdy_readiness_cancel(&wait);
    return 0;
}

/* Of a real ring the first test demands it; an older kernel's only watches, and that one fails. */
static bool has_ring(const struct rig *rig)
{
    return rdy_completion_is_native(rig->runtime);
}

static void calls_that_would_break_the_order_are_refused(void **state)
{
    struct rig *rig = *state;
    struct others others = {.rig = rig};

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    (void)spawn_test(rig->runtime, poll_all, NULL, &others);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);

    for (size_t i = 0; i < sizeof(others.answers) / sizeof(others.answers[0]); i++) {
        if (rig->kind == RIG_EPOLL)
            assert_int_not_equal(others.answers[i], -EBUSY);
        else
            assert_int_equal(others.answers[i], -EBUSY);
    }
    rig_turn(rig);
    assert_int_equal(recv(rig->peer, rig->bytes, 10, MSG_DONTWAIT),
                     rig->kind == RIG_EPOLL ? 3 : -1);
}

/* --- begun before the stream entered completion mode --- */

static int poll_reads(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_read(&rig->stream, task, rig->bytes, 1);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

static int poll_takes_polled(struct rdy_task *task, void *self)
{
    rig_of(self)->have++;
    return rig_poll_recv(task, self);
}

static void keep_all_buffers(struct rig *rig, struct rdy_stream *greedy, int *greedy_peer)
{
    rig_connect(rig);
    while (rig_stats(rig).buffers_total == 0 || rig_stats(rig).buffers_free > 0) {
        rig_say(rig, "x", 1);
        rig_run(rig, rig_poll_recv);
        assert_int_equal(rig->result, 1);
    }
    *greedy = rig->stream;
    *greedy_peer = rig->peer;
}

static bool sees_the_end(const struct rig *rig)
{
    struct rdy_stream stream = rig->stream;

    return (rdy_event_ready(rdy_ready_event(&stream.reg, RDY_INTEREST_READ)) & RDY_READ_CLOSED) !=
           0;
}

/* The end of the stream is known, but not received; until a buffer is there nobody is to run. */
static void end_that_a_watch_saw_does_not_keep_the_starved_awake(void **state)
{
    struct rig *rig = *state;
    struct rdy_driver_opts opts = {.buffers_count = 2, .buffer_size = 64};
    struct rdy_stream greedy;
    int greedy_peer;

    rig_reopen(rig, &opts);
    keep_all_buffers(rig, &greedy, &greedy_peer);
    rig_connect(rig);
    rig_say(rig, "last", 4);
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
    if (rig->kind == RIG_FAKE)
        fake_push(rig->fake, rig->stream.fd, RDY_EV_IN | RDY_EV_RDHUP);
    rig_turn(rig);
    rig_run(rig, poll_reads);
    assert_int_equal(rig->result, 1);
    assert_true(sees_the_end(rig));

    rig_start(rig, poll_takes_polled);
    if (has_ring(rig)) { /* elsewhere the end can be fetched without a buffer of the pool */
        assert_int_equal(rig->result, RDY_PENDING);
        rig->have = 0;
        rig_turn(rig);
        assert_int_equal(rig->have, 0);
        rdy_buf_release(&rig->held[--rig->held_count]);
    }
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, 3);
    rdy_stream_close(&greedy);
    assert_int_equal(close(greedy_peer), 0);
}

enum early_call {
    EARLY_READABLE,
    EARLY_PEEK,
    EARLY_CLOSED,
    EARLY_CALLS
};

struct early {
    struct rig *rig;
    struct rdy_readiness wait;
    enum early_call call;
    ssize_t result;
};

static int poll_early(struct rdy_task *task, void *self)
{
    struct early *early = ((struct test_task *)self)->test;
    struct rdy_stream *stream = &early->rig->stream;
    char byte;

    if (early->call == EARLY_READABLE) {
        early->result = rdy_stream_try_read(stream, &byte, 1);
        if (early->result < 0) /* a new stream says "readable" until then */
            early->result = rdy_stream_poll_readable(stream, task);
    } else if (early->call == EARLY_PEEK) {
        early->result = rdy_stream_poll_peek(stream, task, &byte, 1);
    } else {
        early->result = rdy_stream_poll_closed(stream, task, &early->wait);
    }
    return early->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* Nothing would ever end them where the watch that they wait for is no more. */
static void waits_begun_before_are_told_that_they_cannot_go_on(void **state)
{
    struct rig *rig = *state;

    for (int call = 0; call < EARLY_CALLS; call++) {
        struct early early = {.rig = rig, .call = (enum early_call)call};

        rig_connect(rig);
        (void)spawn_test(rig->runtime, poll_early, NULL, &early);
        rig_turn(rig);
        assert_int_equal(early.result, RDY_PENDING);
        assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
        rig_turn(rig);
        if (!has_ring(rig)) { /* where they can */
            assert_int_equal(early.result, RDY_PENDING);
            rig_say(rig, "x", 1);
            assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
        }
        assert_int_equal(rdy_runtime_run(rig->runtime), 0);
        assert_int_equal(early.result, has_ring(rig) ? -EBUSY : call != EARLY_CLOSED);
        assert_null(early.wait.io);
        rdy_stream_close(&rig->stream);
        rig_hang_up(rig);
    }
}

static void read_begun_before_goes_on(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_start(rig, poll_reads);
    assert_int_equal(rig->result, RDY_PENDING);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_turn(rig);
    rig_say(rig, "r", 1);
    rig_turn(rig);

    assert_int_equal(rig->result, 1);
    assert_int_equal(rig->bytes[0], 'r');
}

static int poll_writes(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    while ((rig->result = rdy_stream_poll_write(&rig->stream, task, "w", 1)) == 1)
        rig->have++;
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* A task that sends is not the one that writes: each must be heard. */
static void write_begun_before_goes_on(void **state)
{
    struct rig *rig = *state;
    size_t before;

    rig_connect(rig);
    (void)spawn_test(rig->runtime, poll_writes, NULL, rig);
    for (int i = 0; i < 1000 && (i < 2 || before != rig->have); i++) {
        before = rig->have;
        rig_turn(rig);
    }
    assert_int_equal(rig->result, RDY_PENDING);
    before = rig->have;
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    for (int i = 0; i < 10; i++) {
        (void)recv(rig->peer, rig->bytes, sizeof(rig->bytes), MSG_DONTWAIT);
        rig_turn(rig);
    }
    assert_true(rig->have > before);
}

struct echo {
    struct rig *rig;
    struct rdy_copy copy;
    int result;
};

static int poll_copies(struct rdy_task *task, void *self)
{
    struct echo *echo = ((struct test_task *)self)->test;

    echo->result = rdy_copy_poll(&echo->copy, task);
    return echo->result == RDY_PENDING ? RDY_PENDING : 0;
}

static void copy_that_would_splice_copies(void **state)
{
    static unsigned char chunk[100000];
    struct rig *rig = *state;
    struct rdy_copy_opts opts = {.size = sizeof(opts), .is_splice = true};
    struct echo echo = {.rig = rig};
    size_t said = 0;
    size_t heard = 0;

    pattern_fill(chunk, sizeof(chunk), 0);
    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    assert_int_equal(rdy_copy_open(&echo.copy, &rig->stream, &rig->stream, &opts), 0);
    (void)spawn_test(rig->runtime, poll_copies, NULL, &echo);
    for (int i = 0; i < 10000 && heard < sizeof(chunk); i++) {
        ssize_t count = send(rig->peer, chunk + said, sizeof(chunk) - said, MSG_DONTWAIT);

        said += count > 0 ? (size_t)count : 0;
        rig_turn(rig);
        count = recv(rig->peer, rig->bytes + heard, 7000, MSG_DONTWAIT);
        heard += count > 0 ? (size_t)count : 0;
    }
    assert_int_equal(heard, sizeof(chunk));
    assert_memory_equal(rig->bytes, chunk, sizeof(chunk));
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(echo.result, 0);
    assert_int_equal(rdy_copy_bytes(&echo.copy), sizeof(chunk));
    rdy_copy_close(&echo.copy);
}

static int poll_sends_held(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_send(&rig->stream, task, &rig->held[0]);
    if (rig->result == 0)
        rig->held_count = 0;
    return 0;
}

/* Where the engine makes the calls the next one is the send, when this poll is over. */
static int poll_sends_short_of_memory(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    (void)poll_sends_held(task, self);
    if (!has_ring(rig))
        (void)rdy_sys_fail_nth(1, ENOBUFS);
    return 0;
}

/* No event tells that there is memory, and nobody may be waiting. */
static void send_for_which_there_was_no_memory_goes_out(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_hold(rig, (const unsigned char *)"later", 5);
    rig_run(rig, poll_sends_short_of_memory);
    (void)rdy_sys_fail_nth(0, 0);
    assert_int_equal(rig->result, 0);
    if (!has_ring(rig))
        assert_int_equal(rdy_stream_unsent(&rig->stream), 5);
    assert_int_equal(rig_stats(rig).sends_unfinished, !has_ring(rig));
    for (int i = 0; i < 100 && rdy_stream_unsent(&rig->stream) > 0; i++)
        rig_turn(rig);
    assert_int_equal(recv(rig->peer, rig->bytes, 10, MSG_DONTWAIT), 5);
    assert_memory_equal(rig->bytes, "later", 5);
}

static int poll_sends_another(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->step++;
    rig->result = rdy_stream_poll_send(&rig->stream, task, &rig->held[1]);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* It sleeps until what is in front of it has gone out. */
static void sender_behind_want_of_memory_waits_for_room(void **state)
{
    static unsigned char bytes[70000]; /* more than may be unsent */
    struct rig *rig = *state;
    size_t heard = 0;

    rig_connect(rig);
    pattern_fill(bytes, sizeof(bytes), 0);
    rig_hold(rig, bytes, sizeof(bytes));
    rig->held[1] = rig_buf(rig, "behind", 6);
    (void)spawn_test(rig->runtime, poll_sends_short_of_memory, NULL, rig);
    (void)spawn_test(rig->runtime, poll_sends_another, NULL, rig);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    (void)rdy_sys_fail_nth(0, 0);
    assert_int_equal(rig->result, 0);
    assert_in_range(rig->step, 2, 5);
    for (int i = 0; i < 1000 && heard < sizeof(bytes) + 6; i++) {
        ssize_t count =
            recv(rig->peer, rig->bytes + heard, sizeof(rig->bytes) - heard, MSG_DONTWAIT);

        heard += count > 0 ? (size_t)count : 0;
        rig_turn(rig);
    }
    assert_int_equal(heard, sizeof(bytes) + 6);
    assert_memory_equal(rig->bytes, bytes, sizeof(bytes));
    assert_memory_equal(rig->bytes + sizeof(bytes), "behind", 6);
}

/* A receive, received bytes and a send that waits for the peer, all of them the parent's. */
static void child_of_a_fork_lets_go_of_its_copies_only(void **state)
{
    static unsigned char bytes[500000];
    struct rig *rig = *state;
    size_t heard = 0;
    int status = -1;
    pid_t child;

    rig_connect(rig);
    pattern_fill(bytes, sizeof(bytes), 0);
    rig_say(rig, "before", 6);
    rig_run(rig, rig_poll_recv);
    rig_release(rig);
    rig_hold(rig, bytes, sizeof(bytes));
    rig_run(rig, poll_sends_held);
    rig_say(rig, "unread", 6);
    rig_turn(rig);

    child = fork();
    if (child == 0) {
        rdy_stream_close(&rig->stream);
        rdy_runtime_close(rig->runtime);
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);

    rig_run(rig, rig_poll_recv);
    assert_int_equal(rig->result, 6);
    for (int i = 0; i < 10000 && heard < sizeof(bytes); i++) {
        ssize_t count = recv(rig->peer, rig->bytes + heard, 50000, MSG_DONTWAIT);

        heard += count > 0 ? (size_t)count : 0;
        rig_turn(rig);
    }
    assert_int_equal(heard, sizeof(bytes));
    assert_memory_equal(rig->bytes, bytes, sizeof(bytes));
}

struct joined {
    struct rdy_copy_both copy;
    struct rdy_stream from;
    struct rig *rig;
    int from_peer;
    int result;
};

/* A proxy's session: it closes both as soon as they are said to be done. */
static int poll_joins(struct rdy_task *task, void *self)
{
    struct joined *joined = ((struct test_task *)self)->test;

    joined->result = rdy_copy_both_poll(&joined->copy, task);
    if (joined->result == RDY_PENDING)
        return RDY_PENDING;
    rdy_copy_both_close(&joined->copy);
    rdy_stream_close(&joined->from);
    rdy_stream_close(&joined->rig->stream);
    return 0;
}

static void joined_open(struct joined *joined, struct rig *rig)
{
    int bytes = 4096;

    rig_connect(rig);
    joined->rig = rig;
    joined->from = rig->stream;
    joined->from_peer = rig->peer;
    rig_connect(rig);
    assert_int_equal(setsockopt(rig->stream.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    assert_int_equal(rdy_stream_start_completion(&joined->from), 0);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    assert_int_equal(rdy_copy_both_open(&joined->copy, &joined->from, &rig->stream, NULL), 0);
    joined->result = RDY_PENDING;
}

/* Sends of a slow receiver stand in a queue of ours, which a close drops: no answer before. */
static void copies_answer_when_the_kernel_has_all(void **state)
{
    static unsigned char bytes[40000];
    struct rig *rig = *state;
    struct joined joined;
    size_t heard = 0;
    ssize_t count;

    joined_open(&joined, rig);
    pattern_fill(bytes, sizeof(bytes), 0);
    assert_int_equal(send(joined.from_peer, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_int_equal(shutdown(joined.from_peer, SHUT_WR), 0);
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
    (void)spawn_test(rig->runtime, poll_joins, NULL, &joined);
    for (int i = 0; i < 5; i++)
        rig_turn(rig);
    for (int i = 0; i < 10000; i++) {
        count = recv(rig->peer, rig->bytes + heard, 4096, MSG_DONTWAIT);
        if (count == 0)
            break;
        heard += count > 0 ? (size_t)count : 0;
        rig_turn(rig);
    }
    assert_int_equal(joined.result, 0);
    assert_int_equal(heard, sizeof(bytes));
    assert_memory_equal(rig->bytes, bytes, sizeof(bytes));
    assert_int_equal(close(joined.from_peer), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(calls_that_would_break_the_order_are_refused),
        ON_THREE(end_that_a_watch_saw_does_not_keep_the_starved_awake),
        ON_THREE(waits_begun_before_are_told_that_they_cannot_go_on),
        ON_THREE(read_begun_before_goes_on),
        ON_THREE(write_begun_before_goes_on),
        ON_THREE(copy_that_would_splice_copies),
        ON_THREE(copies_answer_when_the_kernel_has_all),
        ON_THREE(send_for_which_there_was_no_memory_goes_out),
        ON_THREE(sender_behind_want_of_memory_waits_for_room),
        ON_REAL(child_of_a_fork_lets_go_of_its_copies_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
