/* SPDX-License-Identifier: MIT */
/*
 * FIFOs: opened by path and by descriptor, before and after the other end is there; and what is no
 * FIFO. On both backends. After the scenarios of Tokio's net_unix_pipe.
 */
#include "tests/support/pipes.h"

#include <sys/stat.h>

static struct pipes pipes;
static char folder[64];
static char path[96];

static void path_make(void **state)
{
    const char *base = getenv("TMPDIR");

    pipes_init(&pipes, state);
    (void)snprintf(folder, sizeof(folder), "%s/rdy-fifo-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/fifo", folder);
}

static void fifo_make(void **state)
{
    path_make(state);
    assert_int_equal(mkfifo(path, 0600), 0);
}

static void path_remove(void)
{
    pipes_close(&pipes);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static struct rdy_pipe_opts read_write(void)
{
    return (struct rdy_pipe_opts){.size = sizeof(struct rdy_pipe_opts), .is_read_write = true};
}

static int open_receiver(const struct rdy_pipe_opts *opts)
{
    return rdy_pipe_receiver_open(&pipes.receiver, pipes.runtime, path, opts);
}

static int open_sender(const struct rdy_pipe_opts *opts)
{
    return rdy_pipe_sender_open(&pipes.sender, pipes.runtime, path, opts);
}

static void write_and_close(void)
{
    assert_int_equal(open_sender(NULL), 0);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    rdy_pipe_sender_close(&pipes.sender);
    let_turn(pipes.runtime);
}

static ssize_t receive_text(void)
{
    pipes.have = 0;
    pipes.want = pipes.text_len;
    return call_run(pipes.runtime, receives_all, &pipes);
}

/* A read from a FIFO without a writer would say "end"; it is not asked before there was one. */
static void reader_waits_for_the_first_writer_and_its_bytes(void **state)
{
    struct call reader;

    fifo_make(state);
    assert_int_equal(open_receiver(NULL), 0);
    (void)call_start(&reader, pipes.runtime, receives, &pipes);
    let_turn(pipes.runtime);
    assert_int_equal(reader.result, RDY_PENDING);
    assert_int_equal(open_sender(NULL), 0);
    let_turn(pipes.runtime);
    assert_int_equal(reader.result, RDY_PENDING);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, call_finish(&reader));
    path_remove();
}

static void sender_needs_a_reader_unless_it_is_its_own(void **state)
{
    struct rdy_pipe_opts opts = read_write();

    fifo_make(state);
    assert_int_equal(open_sender(NULL), -ENXIO);
    assert_int_equal(pipes.sender.fd, -1);
    assert_int_equal(open_sender(&opts), 0);
    assert_int_equal(ask(&pipes, is_writable), 0);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_int_equal(open_receiver(NULL), 0);
    assert_received(&pipes, receive_text());
    path_remove();
}

/* Each writer is followed by an end, and that by the next writer: no end is for ever. */
static void writers_come_and_go(void **state)
{
    fifo_make(state);
    assert_int_equal(open_receiver(NULL), 0);
    for (int i = 0; i < 3; i++) {
        write_and_close();
        assert_int_equal(ask(&pipes, is_readable), 0);
        assert_received(&pipes, receive_text());
        assert_int_equal(call_run(pipes.runtime, receives, &pipes), 0);
        assert_int_equal(call_run(pipes.runtime, receives, &pipes), 0);
    }
    path_remove();
}

/* With a writer there again, who waits sleeps: it does not try over and over. */
static void expect_sleep_after_the_end(void)
{
    struct call reader;

    write_and_close();
    assert_received(&pipes, receive_text());
    assert_int_equal(call_run(pipes.runtime, receives, &pipes), 0);

    assert_int_equal(open_sender(NULL), 0);
    pipes.want = sizeof(pipes.buf);
    (void)call_start(&reader, pipes.runtime, receives, &pipes);
    for (int i = 0; i < 10; i++)
        let_turn(pipes.runtime);
    assert_int_equal(reader.result, RDY_PENDING);
    assert_true(reader.polls <= 2);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, call_finish(&reader));
}

static void reader_that_saw_the_end_sleeps_until_the_next_writer_writes(void **state)
{
    fifo_make(state);
    assert_int_equal(open_receiver(NULL), 0);
    expect_sleep_after_the_end();
    path_remove();
}

static void reader_by_descriptor_that_saw_the_end_sleeps_as_well(void **state)
{
    int fd;

    fifo_make(state);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(rdy_pipe_receiver_from_fd(&pipes.receiver, pipes.runtime, fd), 0);
    expect_sleep_after_the_end();
    path_remove();
}

/* S75 */
static void reader_that_is_its_own_writer_survives_the_others_leaving(void **state)
{
    struct rdy_pipe_opts opts = read_write();
    struct call reader;

    fifo_make(state);
    assert_int_equal(open_receiver(&opts), 0);
    write_and_close();
    assert_received(&pipes, receive_text());
    pipes.want = sizeof(pipes.buf);
    (void)call_start(&reader, pipes.runtime, receives, &pipes);
    let_turn(pipes.runtime);
    assert_int_equal(reader.result, RDY_PENDING);
    write_and_close();
    assert_received(&pipes, reader.result);
    path_remove();
}

static void sender_survives_the_readers_leaving(void **state)
{
    fifo_make(state);
    assert_int_equal(open_receiver(NULL), 0);
    assert_int_equal(open_sender(NULL), 0);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    rdy_pipe_receiver_close(&pipes.receiver);
    let_turn(pipes.runtime);
    assert_int_equal(call_run(pipes.runtime, sends, &pipes), -EPIPE);

    assert_int_equal(open_receiver(NULL), 0);
    assert_int_equal(call_run(pipes.runtime, sends, &pipes), pipes.text_len);
    assert_received(&pipes, receive_text());
    path_remove();
}

/* --- what is refused --- */

static void what_is_no_fifo_is_refused_by_path(void **state)
{
    struct rdy_pipe_opts packet = {.size = sizeof(packet), .is_packet = true};
    int before;

    path_make(state);
    before = descriptors_count();
    assert_int_equal(open_sender(NULL), -ENOENT);
    assert_int_equal(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
    assert_int_equal(open_sender(NULL), -EINVAL);
    assert_int_equal(open_receiver(NULL), -EINVAL);
    assert_int_equal(open_receiver(&packet), -EINVAL);
    packet.size--;
    assert_int_equal(open_receiver(&packet), -EINVAL);
    packet = (struct rdy_pipe_opts){.size = sizeof(packet), .is_unchecked = true};
    assert_int_equal(open_receiver(&packet), -EPERM);
    assert_int_equal(descriptors_count(), before);
    path_remove();
}

static void what_is_no_fifo_is_refused_by_descriptor_and_left_as_it_was(void **state)
{
    int fd;

    path_make(state);
    fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_int_equal(rdy_pipe_sender_from_fd(&pipes.sender, pipes.runtime, fd), -EINVAL);
    assert_int_equal(rdy_pipe_receiver_from_fd(&pipes.receiver, pipes.runtime, fd), -EINVAL);
    assert_true(is_open(fd));
    assert_false(is_nonblocking(fd));
    assert_int_equal(close(fd), 0);
    assert_int_equal(rdy_pipe_sender_from_fd(&pipes.sender, pipes.runtime, fd), -EBADF);
    path_remove();
}

static void wrong_way_round_is_refused(void **state)
{
    int reader;
    int writer;
    int neither;

    fifo_make(state);
    reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    writer = open(path, O_WRONLY | O_CLOEXEC);
    neither = open(path, O_PATH | O_CLOEXEC);
    assert_int_equal(rdy_pipe_receiver_from_fd(&pipes.receiver, pipes.runtime, writer), -EINVAL);
    assert_int_equal(rdy_pipe_sender_from_fd(&pipes.sender, pipes.runtime, reader), -EINVAL);
    assert_int_equal(rdy_pipe_receiver_from_fd(&pipes.receiver, pipes.runtime, neither), -EINVAL);
    assert_false(is_nonblocking(writer));
    assert_int_equal(close(reader), 0);
    assert_int_equal(close(writer), 0);
    assert_int_equal(close(neither), 0);
    path_remove();
}

/* --- by descriptor --- */

static void fifo_can_be_taken_over_by_descriptor(void **state)
{
    struct call reader;
    int fds[2];

    fifo_make(state);
    fds[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    fds[1] = open(path, O_WRONLY | O_CLOEXEC);
    assert_false(is_nonblocking(fds[1]));
    assert_int_equal(rdy_pipe_receiver_from_fd(&pipes.receiver, pipes.runtime, fds[0]), 0);
    assert_int_equal(rdy_pipe_sender_from_fd(&pipes.sender, pipes.runtime, fds[1]), 0);
    assert_true(is_nonblocking(fds[1]));
    (void)call_start(&reader, pipes.runtime, receives, &pipes);
    let_turn(pipes.runtime);
    assert_int_equal(reader.result, RDY_PENDING);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, call_finish(&reader));
    path_remove();
}

static void full_fifo_is_drained_by_tries(void **state)
{
    size_t sent;
    size_t got = 0;

    fifo_make(state);
    assert_int_equal(open_receiver(NULL), 0);
    assert_int_equal(open_sender(NULL), 0);
    sent = fill_pipe(&pipes);
    assert_int_equal(ask(&pipes, is_writable), RDY_PENDING);
    for (int i = 0; i < 100000 && got < sent; i++) {
        ssize_t count;

        assert_int_equal(call_run(pipes.runtime, is_readable, &pipes), 0);
        count =
            rdy_pipe_receiver_try_read(&pipes.receiver, pipes.buf + got, sizeof(pipes.buf) - got);
        got += count > 0 ? (size_t)count : 0;
    }
    assert_int_equal(got, sent);
    assert_int_equal(ask(&pipes, is_writable), 0);
    path_remove();
}

/* Unchecked, an end may be something else: here a socket, which has to be nonblocking by itself. */
static void unchecked_ends_take_what_can_be_polled(void **state)
{
    int fds[2];

    fifo_make(state);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(rdy_pipe_receiver_from_fd_unchecked(&pipes.receiver, pipes.runtime, fds[0]),
                     0);
    assert_int_equal(rdy_pipe_sender_from_fd_unchecked(&pipes.sender, pipes.runtime, fds[1]), 0);
    assert_int_equal(ask(&pipes, sends), pipes.text_len);
    assert_received(&pipes, ask(&pipes, receives));
    rdy_pipe_sender_close(&pipes.sender);
    let_turn(pipes.runtime);
    assert_int_equal(call_run(pipes.runtime, receives, &pipes), 0);
    path_remove();
}

static void unchecked_path_may_be_a_terminal(void **state)
{
    struct rdy_pipe_opts opts = {.size = sizeof(opts), .is_unchecked = true};

    fifo_make(state);
    assert_int_equal(rdy_pipe_sender_open(&pipes.sender, pipes.runtime, "/dev/ptmx", &opts), 0);
    assert_int_equal(ask(&pipes, is_writable), 0);
    rdy_pipe_sender_close(&pipes.sender);
    opts.is_unchecked = false;
    assert_int_equal(rdy_pipe_sender_open(&pipes.sender, pipes.runtime, "/dev/ptmx", &opts),
                     -EINVAL);
    path_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(reader_waits_for_the_first_writer_and_its_bytes),
        ON_BOTH(sender_needs_a_reader_unless_it_is_its_own),
        ON_BOTH(writers_come_and_go),
        ON_BOTH(reader_that_saw_the_end_sleeps_until_the_next_writer_writes),
        ON_BOTH(reader_by_descriptor_that_saw_the_end_sleeps_as_well),
        ON_BOTH(reader_that_is_its_own_writer_survives_the_others_leaving),
        ON_BOTH(sender_survives_the_readers_leaving),
        ON_BOTH(what_is_no_fifo_is_refused_by_path),
        ON_BOTH(what_is_no_fifo_is_refused_by_descriptor_and_left_as_it_was),
        ON_BOTH(wrong_way_round_is_refused),
        ON_BOTH(fifo_can_be_taken_over_by_descriptor),
        ON_BOTH(full_fifo_is_drained_by_tries),
        ON_BOTH(unchecked_ends_take_what_can_be_polled),
        ON_BOTH(unchecked_path_may_be_a_terminal),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
