/* SPDX-License-Identifier: MIT */
/*
 * Anonymous pipes: reading, writing, both ends of the end, packets, and SIGPIPE; on both backends.
 * After the scenarios of Tokio's net_unix_pipe.
 */
#include "tests/support/pipes.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include <rdy/timer.h>

#include "engine/pipe.h"

#define STREAM_LEN 2000000

static struct pipes pipes;

static void what_is_sent_is_received(void **state)
{
    struct call reader;

    pipes_open(&pipes, state, false);
    (void)call_start(&reader, pipes.runtime, receives, &pipes);
    let_turn(pipes.runtime);
    assert_int_equal(reader.result, RDY_PENDING);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, call_finish(&reader));
    assert_int_equal(reader.polls, 2);
    pipes_close(&pipes);
}

static void fresh_pipe_is_writable_and_not_readable(void **state)
{
    pipes_open(&pipes, state, false);
    assert_int_equal(ask(&pipes, is_writable), 0);
    assert_int_equal(ask(&pipes, is_readable), RDY_PENDING);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_int_equal(ask(&pipes, is_readable), 0);
    pipes_close(&pipes);
}

/* What a read leaves behind is not announced again. */
static void what_does_not_fit_is_read_next(void **state)
{
    pipes_open(&pipes, state, false);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    pipes.want = 5;
    assert_int_equal(ask(&pipes, receives), 5);
    assert_int_equal(ask(&pipes, receives), 5);
    pipes.want = sizeof(pipes.buf);
    assert_int_equal(ask(&pipes, receives), pipes.text_len - 10);
    assert_int_equal(ask(&pipes, receives), RDY_PENDING);
    pipes_close(&pipes);
}

static void end_comes_after_the_last_byte_and_stays(void **state)
{
    pipes_open(&pipes, state, false);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    rdy_pipe_sender_close(&pipes.sender);
    let_turn(pipes.runtime);
    assert_received(&pipes, call_run(pipes.runtime, receives, &pipes));
    for (int i = 0; i < 3; i++)
        assert_int_equal(call_run(pipes.runtime, receives, &pipes), 0);
    pipes_close(&pipes);
}

/* One event for the bytes and the end: a read that is short took the bytes, not the end. */
static void end_that_came_with_the_bytes_is_not_lost_by_a_short_read(void **state)
{
    int fd;

    pipes_open(&pipes, state, false);
    let_turn(pipes.runtime);
    fd = rdy_pipe_sender_into_fd(&pipes.sender);
    let_turn(pipes.runtime);
    assert_int_equal(write(fd, pipes.text, pipes.text_len), pipes.text_len);
    assert_int_equal(close(fd), 0);
    let_turn(pipes.runtime);
    assert_received(&pipes, call_run(pipes.runtime, receives, &pipes));
    assert_int_equal(call_run(pipes.runtime, receives, &pipes), 0);
    pipes_close(&pipes);
}

static void writer_waits_while_the_pipe_is_full(void **state)
{
    struct call writer;
    size_t count;

    pipes_open(&pipes, state, false);
    count = fill_pipe(&pipes);
    assert_true(count > 4096);
    (void)call_start(&writer, pipes.runtime, sends, &pipes);
    let_turn(pipes.runtime);
    assert_int_equal(writer.result, RDY_PENDING);

    pipes.want = count;
    assert_int_equal(ask(&pipes, receives_all), count);
    assert_int_equal(call_finish(&writer), pipes.text_len);
    assert_int_equal(writer.polls, 2);
    pipes.want = sizeof(pipes.buf);
    assert_received(&pipes, ask(&pipes, receives));
    pipes_close(&pipes);
}

/* --- what a read costs --- */

static bool is_cached(const struct rdy_registration *reg, uint32_t interest)
{
    return rdy_event_ready(rdy_ready_event(reg, interest)) != 0;
}

/* The read that would say EAGAIN is saved where it is sure that it would, and only there. */
static void short_read_of_bytes_needs_no_second_one(void **state)
{
    pipes_open(&pipes, state, false);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, ask(&pipes, receives));
    assert_false(is_cached(&pipes.receiver.reg, RDY_INTEREST_READ));
    (void)rdy_sys_fail_nth(0, 0);
    assert_int_equal(rdy_pipe_receiver_try_read(&pipes.receiver, pipes.buf, 10), -EAGAIN);
    assert_int_equal(rdy_sys_fail_nth(0, 0), 0);

    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    pipes.want = pipes.text_len;
    assert_received(&pipes, ask(&pipes, receives));
    assert_true(
        is_cached(&pipes.receiver.reg, RDY_INTEREST_READ)); /* a full buffer tells nothing */
    pipes_close(&pipes);
}

/* --- packets --- */

/* Two packets, one event: the second must be found without another. */
static void expect_two_packets(void)
{
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, call_run(pipes.runtime, receives, &pipes));
    assert_received(&pipes, call_run(pipes.runtime, receives, &pipes));
    assert_int_equal(ask(&pipes, receives), RDY_PENDING);
}

static void packets_are_read_one_by_one_without_losing_any(void **state)
{
    pipes_open(&pipes, state, true);
    expect_two_packets();
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    pipes.want = 4;
    assert_int_equal(ask(&pipes, receives), 4); /* the rest of that packet is gone */
    pipes.want = sizeof(pipes.buf);
    assert_received(&pipes, ask(&pipes, receives));
    pipes_close(&pipes);
}

/* The reader of a pipe cannot see that its writer sends packets. */
static void packets_of_a_stranger_are_read_one_by_one_without_losing_any(void **state)
{
    int fds[2];

    pipes_init(&pipes, state);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fds[1], F_SETFL, O_DIRECT), 0);
    assert_int_equal(rdy_pipe_receiver_from_fd(&pipes.receiver, pipes.runtime, fds[0]), 0);
    assert_int_equal(rdy_pipe_sender_from_fd(&pipes.sender, pipes.runtime, fds[1]), 0);
    expect_two_packets();
    pipes_close(&pipes);
}

/* --- several buffers, and without waiting --- */

static ssize_t sends_vector(void *test, struct rdy_task *task)
{
    struct pipes *p = test;
    char text[3][8] = {"three ", "small ", "pieces"};
    struct iovec iov[3];

    for (int i = 0; i < 3; i++)
        iov[i] = (struct iovec){.iov_base = text[i], .iov_len = 6};
    return rdy_pipe_sender_poll_writev(&p->sender, task, iov, 3);
}

static ssize_t receives_vector(void *test, struct rdy_task *task)
{
    struct pipes *p = test;
    struct iovec iov[2] = {{.iov_base = p->buf, .iov_len = 10},
                           {.iov_base = p->buf + 100, .iov_len = 100}};

    return rdy_pipe_receiver_poll_readv(&p->receiver, task, iov, 2);
}

static void several_buffers_are_one_stream_of_bytes(void **state)
{
    struct iovec one = {.iov_base = pipes.buf, .iov_len = 1};

    pipes_open(&pipes, state, false);
    assert_int_equal(ask(&pipes, sends_vector), 18);
    assert_int_equal(ask(&pipes, receives_vector), 18);
    assert_memory_equal(pipes.buf, "three smal", 10);
    assert_memory_equal(pipes.buf + 100, "l pieces", 8);
    assert_int_equal(ask(&pipes, receives_vector), RDY_PENDING);
    assert_int_equal(rdy_pipe_sender_try_writev(&pipes.sender, &one, -1), -EINVAL);
    assert_int_equal(rdy_pipe_sender_try_writev(&pipes.sender, &one, 1025), -EINVAL);
    assert_int_equal(rdy_pipe_receiver_try_readv(&pipes.receiver, NULL, 1), -EINVAL);
    pipes_close(&pipes);
}

static void tries_work_on_what_is_known_and_never_wait(void **state)
{
    size_t sent;
    size_t got = 0;

    pipes_open(&pipes, state, false);
    let_turn(pipes.runtime);
    (void)rdy_sys_fail_nth(0, 0);
    assert_int_equal(rdy_pipe_receiver_try_read(&pipes.receiver, pipes.buf, 10), -EAGAIN);
    assert_int_equal(rdy_sys_fail_nth(0, 0), 0);
    sent = fill_pipe(&pipes);
    (void)rdy_sys_fail_nth(0, 0);
    assert_int_equal(rdy_pipe_sender_try_write(&pipes.sender, "x", 1), -EAGAIN);
    assert_int_equal(rdy_sys_fail_nth(0, 0), 0); /* neither asked the kernel */
    for (int i = 0; i < 100000 && got < sent; i++) {
        struct iovec iov[2] = {{.iov_base = pipes.buf + got, .iov_len = 1000},
                               {.iov_base = pipes.buf + got + 1000, .iov_len = 777}};
        ssize_t count;

        assert_int_equal(call_run(pipes.runtime, is_readable, &pipes), 0);
        count = rdy_pipe_receiver_try_readv(&pipes.receiver, iov, 2);
        assert_true(count > 0 || count == -EAGAIN);
        got += count > 0 ? (size_t)count : 0;
    }
    assert_int_equal(got, sent);
    for (size_t i = 0; i + pipes.text_len <= got; i += pipes.text_len)
        assert_memory_equal(pipes.buf + i, pipes.text, pipes.text_len);
    assert_int_equal(rdy_pipe_receiver_try_read(&pipes.receiver, pipes.buf, 10), -EAGAIN);
    pipes_close(&pipes);
}

/* --- no reader --- */

static void assert_no_signal(void)
{
    sigset_t set;

    assert_int_equal(sigpending(&set), 0);
    assert_int_equal(sigismember(&set, SIGPIPE), 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &set), 0);
    assert_int_equal(sigismember(&set, SIGPIPE), 0);
}

/* SIGPIPE is at its default here: it would end the test. */
static void write_without_a_reader_is_an_error_and_no_signal(void **state)
{
    for (int round = 0; round < 2; round++) {
        pipes_open(&pipes, state, false);
        if (round == 1) /* as on a kernel that cannot be told */
            pipes.sender.flags |= RDY_PIPE_MASKED;
        assert_int_equal(ask(&pipes, sends), pipes.text_len);
        rdy_pipe_receiver_close(&pipes.receiver);
        let_turn(pipes.runtime);
        assert_int_equal(call_run(pipes.runtime, sends, &pipes), -EPIPE);
        assert_int_equal(call_run(pipes.runtime, sends, &pipes), -EPIPE);
        assert_no_signal();
        pipes_close(&pipes);
    }
}

static void writer_that_waits_hears_that_the_reader_has_gone(void **state)
{
    struct call writer;

    pipes_open(&pipes, state, false);
    (void)fill_pipe(&pipes);
    (void)call_start(&writer, pipes.runtime, sends, &pipes);
    let_turn(pipes.runtime);
    assert_int_equal(writer.result, RDY_PENDING);
    rdy_pipe_receiver_close(&pipes.receiver);
    assert_int_equal(call_finish(&writer), -EPIPE);
    pipes_close(&pipes);
}

static void kernel_that_cannot_spare_the_signal_is_asked_once(void **state)
{
    pipes_open(&pipes, state, false);
    (void)rdy_sys_fail_nth(1, EOPNOTSUPP);
    assert_int_equal(rdy_pipe_sender_try_write(&pipes.sender, "one", 3), 3);
    assert_int_equal(rdy_sys_fail_nth(0, 0), 2);
    assert_int_equal(rdy_pipe_sender_try_write(&pipes.sender, "two", 3), 3);
    assert_int_equal(rdy_sys_fail_nth(0, 0), 1);
    assert_int_equal(ask(&pipes, receives), 6);
    pipes_close(&pipes);
}

/* A pending SIGPIPE is somebody else's: it stays. */
static void signal_that_was_pending_before_stays_pending(void **state)
{
    sigset_t set;
    int signo = 0;

    pipes_open(&pipes, state, false);
    assert_int_equal(sigemptyset(&set), 0);
    assert_int_equal(sigaddset(&set, SIGPIPE), 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    assert_int_equal(raise(SIGPIPE), 0);
    pipes.sender.flags |= RDY_PIPE_MASKED;
    rdy_pipe_receiver_close(&pipes.receiver);
    let_turn(pipes.runtime);
    assert_int_equal(call_run(pipes.runtime, sends, &pipes), -EPIPE);
    assert_int_equal(sigpending(&set), 0);
    assert_int_equal(sigismember(&set, SIGPIPE), 1);

    assert_int_equal(sigemptyset(&set), 0);
    assert_int_equal(sigaddset(&set, SIGPIPE), 0);
    assert_int_equal(sigwait(&set, &signo), 0);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    pipes_close(&pipes);
}

/* --- descriptors in and out --- */

static void descriptors_of_a_pipe_are_taken_over_and_made_nonblocking(void **state)
{
    int fds[2];

    pipes_init(&pipes, state);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(rdy_pipe_receiver_from_fd(&pipes.receiver, pipes.runtime, fds[0]), 0);
    assert_int_equal(rdy_pipe_sender_from_fd(&pipes.sender, pipes.runtime, fds[1]), 0);
    assert_true(is_nonblocking(fds[0]));
    assert_true(is_nonblocking(fds[1]));
    assert_int_equal(rdy_pipe_receiver_fd(&pipes.receiver), fds[0]);
    assert_int_equal(rdy_pipe_sender_fd(&pipes.sender), fds[1]);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, ask(&pipes, receives));
    rdy_pipe_sender_close(&pipes.sender);
    let_turn(pipes.runtime);
    assert_int_equal(call_run(pipes.runtime, receives, &pipes), 0);
    pipes_close(&pipes);
}

static void descriptors_come_back_nonblocking_or_blocking(void **state)
{
    int reader;
    int writer;

    pipes_open(&pipes, state, false);
    let_turn(pipes.runtime);
    reader = rdy_pipe_receiver_into_fd(&pipes.receiver);
    writer = rdy_pipe_sender_into_fd(&pipes.sender);
    assert_true(is_nonblocking(reader) && is_nonblocking(writer));
    assert_int_equal(rdy_pipe_receiver_into_fd(&pipes.receiver), -EBADF);
    assert_int_equal(rdy_pipe_sender_into_blocking_fd(&pipes.sender), -EBADF);

    /* again, at once */
    assert_int_equal(rdy_pipe_receiver_from_fd(&pipes.receiver, pipes.runtime, reader), 0);
    assert_int_equal(rdy_pipe_sender_from_fd(&pipes.sender, pipes.runtime, writer), 0);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, ask(&pipes, receives));

    assert_int_equal(rdy_pipe_receiver_into_blocking_fd(&pipes.receiver), reader);
    assert_int_equal(rdy_pipe_sender_into_blocking_fd(&pipes.sender), writer);
    assert_false(is_nonblocking(reader) || is_nonblocking(writer));
    assert_int_equal(close(reader), 0);
    assert_int_equal(close(writer), 0);
    pipes_close(&pipes);
}

/* A program's output through our pipe, and its end when the program has ended. */
static void pipe_can_be_a_programs_stdout(void **state)
{
    int status = 0;
    pid_t pid;
    int fd;

    pipes_open(&pipes, state, false);
    let_turn(pipes.runtime);
    fd = rdy_pipe_sender_into_blocking_fd(&pipes.sender);
    pid = fork();
    if (pid == 0) {
        (void)dup2(fd, 1);
        (void)execlp("echo", "echo", "-n", pipes.text, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(close(fd), 0);
    assert_received(&pipes, call_run(pipes.runtime, receives_all, &pipes));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(rdy_pipe_receiver_try_read(&pipes.receiver, pipes.buf, 10), 0);
    pipes_close(&pipes);
}

/* --- giving up, budget, closed ends --- */

static ssize_t receives_in_time(void *test, struct rdy_task *task)
{
    static struct rdy_timer timer;

    return RDY_TIMEOUT(&timer, task, 1, receives(test, task));
}

static void read_or_write_that_is_given_up_loses_nothing(void **state)
{
    size_t count;

    pipes_open(&pipes, state, false);
    assert_int_equal(call_run(pipes.runtime, receives_in_time, &pipes), -ETIMEDOUT);
    assert_int_equal(ask(&pipes, receives), RDY_PENDING);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, call_run(pipes.runtime, receives, &pipes));

    count = fill_pipe(&pipes);
    assert_int_equal(ask(&pipes, sends), RDY_PENDING);
    pipes.want = count;
    assert_int_equal(call_run(pipes.runtime, receives_all, &pipes), (ssize_t)count);
    pipes_close(&pipes);
}

static ssize_t receives_bytes_one_by_one(void *test, struct rdy_task *task)
{
    struct pipes *p = test;
    ssize_t count;

    while ((count = rdy_pipe_receiver_poll_read(&p->receiver, task, p->buf, 1)) > 0)
        p->have++;
    return count;
}

static void answers_are_paid_for(void **state)
{
    struct rdy_task_id id;
    struct call call;

    pipes_open(&pipes, state, false);
    (void)fill_pipe(&pipes);
    let_turn(pipes.runtime);
    id = call_start(&call, pipes.runtime, receives_bytes_one_by_one, &pipes);
    let_turn(pipes.runtime);
    assert_true(call.polls >= 2);
    assert_int_equal(pipes.have, 128 * (size_t)call.polls);
    assert_int_equal(rdy_task_abort(pipes.runtime, id), 0);
    pipes_close(&pipes);
}

static void closed_ends_and_empty_buffers_have_their_answers(void **state)
{
    struct rdy_pipe_opts bad = {.size = sizeof(bad) + 1};
    struct rdy_pipe_opts of_fifos = {.size = sizeof(of_fifos), .is_read_write = true};

    pipes_init(&pipes, state);
    assert_int_equal(call_run(pipes.runtime, receives, &pipes), -EBADF);
    assert_int_equal(call_run(pipes.runtime, sends, &pipes), -EBADF);
    assert_int_equal(call_run(pipes.runtime, is_readable, &pipes), -EBADF);
    assert_int_equal(call_run(pipes.runtime, is_writable, &pipes), -EBADF);
    assert_int_equal(rdy_pipe_receiver_try_read(&pipes.receiver, pipes.buf, 1), -EBADF);
    assert_int_equal(rdy_pipe_sender_try_write(&pipes.sender, "x", 1), -EBADF);
    assert_int_equal(rdy_pipe_open(&pipes.sender, &pipes.receiver, pipes.runtime, &bad), -EINVAL);
    assert_int_equal(rdy_pipe_open(&pipes.sender, &pipes.receiver, pipes.runtime, &of_fifos),
                     -EINVAL);

    assert_int_equal(rdy_pipe_open(&pipes.sender, &pipes.receiver, pipes.runtime, NULL), 0);
    pipes.want = 0;
    pipes.text_len = 0;
    assert_int_equal(call_run(pipes.runtime, receives, &pipes), 0);
    assert_int_equal(call_run(pipes.runtime, sends, &pipes), 0);
    pipes_close(&pipes);
    pipes_close(&pipes);
}

/* --- against a writer on another processor --- */

static unsigned char byte_at(size_t offset)
{
    return (unsigned char)(offset * 31 + (offset >> 8));
}

static void *writes_in_pieces(void *arg)
{
    int fd = *(int *)arg;
    uint32_t seed = 12345;
    size_t done = 0;

    while (done < STREAM_LEN) {
        unsigned char piece[3000];
        size_t len;

        seed = seed * 1664525u + 1013904223u;
        len = 1 + (seed >> 8) % (seed & 0x80 ? sizeof(piece) : 40);
        if (len > STREAM_LEN - done)
            len = STREAM_LEN - done;
        for (size_t i = 0; i < len; i++)
            piece[i] = byte_at(done + i);
        if (write(fd, piece, len) != (ssize_t)len)
            break;
        done += len;
        if (seed & 0x100)
            (void)sched_yield();
    }
    (void)close(fd);
    return NULL;
}

static ssize_t receives_the_stream(void *test, struct rdy_task *task)
{
    struct pipes *p = test;

    for (;;) {
        ssize_t count =
            rdy_pipe_receiver_poll_read(&p->receiver, task, p->buf, 1 + p->have % sizeof(p->buf));

        if (count <= 0)
            return count < 0 ? count : (ssize_t)p->have;
        for (ssize_t i = 0; i < count; i++)
            if ((unsigned char)p->buf[i] != byte_at(p->have++))
                return -EBADMSG;
    }
}

/* Reads that are short while bytes arrive: each that is missed hangs the test. */
static void no_byte_is_missed_while_a_thread_writes(void **state)
{
    struct call call;
    pthread_t thread;
    int fd;

    pipes_open(&pipes, state, false);
    let_turn(pipes.runtime);
    fd = rdy_pipe_sender_into_blocking_fd(&pipes.sender);
    (void)call_start(&call, pipes.runtime, receives_the_stream, &pipes);
    assert_int_equal(pthread_create(&thread, NULL, writes_in_pieces, &fd), 0);
    assert_int_equal(call_finish(&call), STREAM_LEN);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pipes_close(&pipes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(what_is_sent_is_received),
        ON_BOTH(fresh_pipe_is_writable_and_not_readable),
        ON_BOTH(what_does_not_fit_is_read_next),
        ON_BOTH(end_comes_after_the_last_byte_and_stays),
        ON_BOTH(end_that_came_with_the_bytes_is_not_lost_by_a_short_read),
        ON_BOTH(writer_waits_while_the_pipe_is_full),
        ON_BOTH(short_read_of_bytes_needs_no_second_one),
        ON_BOTH(packets_are_read_one_by_one_without_losing_any),
        ON_BOTH(packets_of_a_stranger_are_read_one_by_one_without_losing_any),
        ON_BOTH(several_buffers_are_one_stream_of_bytes),
        ON_BOTH(tries_work_on_what_is_known_and_never_wait),
        ON_BOTH(write_without_a_reader_is_an_error_and_no_signal),
        ON_BOTH(writer_that_waits_hears_that_the_reader_has_gone),
        ON_BOTH(kernel_that_cannot_spare_the_signal_is_asked_once),
        ON_BOTH(signal_that_was_pending_before_stays_pending),
        ON_BOTH(descriptors_of_a_pipe_are_taken_over_and_made_nonblocking),
        ON_BOTH(descriptors_come_back_nonblocking_or_blocking),
        ON_BOTH(pipe_can_be_a_programs_stdout),
        ON_BOTH(read_or_write_that_is_given_up_loses_nothing),
        ON_BOTH(answers_are_paid_for),
        ON_BOTH(closed_ends_and_empty_buffers_have_their_answers),
        ON_BOTH(no_byte_is_missed_while_a_thread_writes),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
