/* SPDX-License-Identifier: MIT */
/*
 * Each way to open a file that is no socket, with its first system call failing, then its second,
 * and so on until it succeeds: the error comes back, and nothing is left behind. On both backends.
 */
#include "tests/support/calls.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <rdy/rdy.h>

#include "engine/pipe.h"
#include "engine/sys.h"

#define FAULT     EDQUOT /* none that the kernel would give */
#define STEPS_MAX 64

struct all {
    struct rdy_runtime *runtime;
    struct rdy_async_fd afd;
    struct rdy_pipe_sender sender;
    struct rdy_pipe_receiver receiver;
    struct rdy_eventfd event;
    struct rdy_signals signals;
    struct rdy_child child;
    struct rdy_child_pipes pipes;
    int fds[2];
    pid_t pid;
};

static struct all all;

typedef int open_fn(void);

static void all_open(void **state)
{
    memset(&all, 0, sizeof(all));
    all.runtime = runtime_of(state);
    all.afd.fd = all.sender.fd = all.receiver.fd = all.event.fd = all.signals.fd = -1;
    all.child.fd = all.pipes.stdin_sender.fd = -1;
    all.pipes.stdout_receiver.fd = all.pipes.stderr_receiver.fd = -1;
    assert_int_equal(pipe2(all.fds, O_CLOEXEC), 0);
}

static bool is_all_closed(void)
{
    return all.afd.fd < 0 && all.sender.fd < 0 && all.receiver.fd < 0 && all.event.fd < 0 &&
           all.signals.fd < 0 && all.child.fd < 0 && all.pipes.stdin_sender.fd < 0 &&
           all.pipes.stdout_receiver.fd < 0 && all.pipes.stderr_receiver.fd < 0;
}

static void all_close(void)
{
    rdy_async_fd_close(&all.afd);
    rdy_pipe_sender_close(&all.sender);
    rdy_pipe_receiver_close(&all.receiver);
    rdy_eventfd_close(&all.event);
    rdy_signals_close(&all.signals);
    rdy_child_close(&all.child);
    rdy_child_pipes_close(&all.pipes);
    let_close(all.runtime);
}

static uint64_t mask_bits(void)
{
    sigset_t mask;
    uint64_t bits = 0;

    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    for (int signo = 1; signo < 65; signo++)
        bits |= (uint64_t)(sigismember(&mask, signo) == 1) << (signo - 1);
    return bits;
}

/* Returns how many of the steps made the call fail. */
static int walk(open_fn *open_it)
{
    int failures = 0;

    for (uint64_t nth = 1; nth < STEPS_MAX; nth++) {
        int before;
        uint64_t mask = mask_bits();
        uint64_t calls;
        int rc;

        let_close(all.runtime);
        before = descriptors_count();
        (void)rdy_sys_fail_nth(nth, FAULT);
        rc = open_it();
        calls = rdy_sys_fail_nth(0, 0);
        if (rc == 0 && calls < nth)
            return failures;
        if (rc == 0) {
            all_close(); /* that call was allowed to fail */
            continue;
        }
        failures++;
        assert_int_equal(rc, -FAULT);
        assert_true(is_all_closed());
        let_close(all.runtime);
        assert_int_equal(descriptors_count(), before);
        assert_true(mask_bits() == mask);
    }
    fail_msg("it never succeeds");
    return -1;
}

static void end(void)
{
    all_close();
    if (all.fds[0] >= 0)
        assert_int_equal(close(all.fds[0]), 0);
    if (all.fds[1] >= 0)
        assert_int_equal(close(all.fds[1]), 0);
    assert_int_equal(driver_stats(all.runtime).cancels_pending, 0);
}

static int open_async_fd(void)
{
    return rdy_async_fd_open(&all.afd, all.runtime, all.fds[0], RDY_INTEREST_READ);
}

static void async_fd_opens_or_leaves_nothing(void **state)
{
    all_open(state);
    assert_int_equal(walk(open_async_fd), 2); /* fstat, fstatfs */
    end();
}

static int open_pipe(void)
{
    return rdy_pipe_open(&all.sender, &all.receiver, all.runtime, NULL);
}

static void pair_of_pipe_ends_opens_or_leaves_nothing(void **state)
{
    all_open(state);
    assert_int_equal(walk(open_pipe), 1);
    end();
}

/* A registration fails where no wrapper does: the pair is made of two. */
static void pair_without_room_for_both_ends_leaves_none(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct rdy_async_fd first = {.fd = -1};
    struct rdy_runtime *small = NULL;
    int before;
    int spare;

    all_open(state);
    opts.driver.entries_max = 2;
    assert_int_equal(rdy_runtime_open(&small, &opts), 0);
    spare = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(rdy_async_fd_open(&first, small, spare, RDY_INTEREST_READ), 0);
    before = descriptors_count();
    assert_int_equal(rdy_pipe_open(&all.sender, &all.receiver, small, NULL), -ENFILE);
    assert_true(is_all_closed());
    let_turn(small);
    assert_int_equal(descriptors_count(), before);
    assert_int_equal(driver_stats(small).entries_live, 1);
    rdy_async_fd_close(&first);
    rdy_runtime_close(small);
    assert_int_equal(close(spare), 0);
    end();
}

static int take_receiver(void)
{
    int rc = rdy_pipe_receiver_from_fd(&all.receiver, all.runtime, all.fds[0]);

    assert_true(is_nonblocking(all.fds[0]) == (rc == 0));
    return rc;
}

static int take_sender(void)
{
    int rc = rdy_pipe_sender_from_fd(&all.sender, all.runtime, all.fds[1]);

    assert_true(is_nonblocking(all.fds[1]) == (rc == 0));
    return rc;
}

static void end_by_descriptor_opens_or_leaves_the_descriptor_as_it_was(void **state)
{
    all_open(state);
    assert_int_equal(walk(take_receiver), 3); /* fstat, two of fcntl */
    all_close();
    assert_int_equal(walk(take_sender), 3);
    all.fds[0] = all.fds[1] = -1;
    end();
}

/* What a registration refuses is given back as blocking as it was. */
static void full_runtime_leaves_descriptors_as_they_were(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct rdy_eventfd event;
    int fd = eventfd(0, EFD_CLOEXEC);

    all_open(state);
    opts.driver.entries_max = 1;
    rdy_runtime_close(fixture->runtime);
    assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
    all.runtime = fixture->runtime;
    assert_int_equal(rdy_eventfd_open(&event, all.runtime, NULL), 0);
    assert_int_equal(take_receiver(), -ENFILE);
    assert_int_equal(take_sender(), -ENFILE);
    assert_int_equal(rdy_eventfd_from_fd(&all.event, all.runtime, fd, false), -ENFILE);
    assert_false(is_nonblocking(fd));
    assert_true(is_all_closed());
    rdy_eventfd_close(&event);
    assert_int_equal(close(fd), 0);
    end();
}

static char fifo[96];

static int open_fifo_receiver(void)
{
    return rdy_pipe_receiver_open(&all.receiver, all.runtime, fifo, NULL);
}

static int open_fifo_sender(void)
{
    struct rdy_pipe_opts opts = {.size = sizeof(opts), .is_read_write = true};

    return rdy_pipe_sender_open(&all.sender, all.runtime, fifo, &opts);
}

static void fifo_by_path_opens_or_leaves_nothing(void **state)
{
    const char *base = getenv("TMPDIR");
    char folder[64];

    all_open(state);
    (void)snprintf(folder, sizeof(folder), "%s/rdy-fault-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(walk(open_fifo_receiver), 4); /* open, fstat twice, fstatfs */
    all_close();
    assert_int_equal(walk(open_fifo_sender), 4);
    assert_int_equal(unlink(fifo), 0);
    assert_int_equal(rmdir(folder), 0);
    end();
}

static void end_that_cannot_be_made_blocking_stays_what_it_was(void **state)
{
    int sender_fd;
    int fd;

    all_open(state);
    assert_int_equal(rdy_pipe_open(&all.sender, &all.receiver, all.runtime, NULL), 0);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        (void)rdy_sys_fail_nth(nth, FAULT);
        assert_int_equal(rdy_pipe_receiver_into_blocking_fd(&all.receiver), -FAULT);
        (void)rdy_sys_fail_nth(nth, FAULT);
        assert_int_equal(rdy_pipe_sender_into_blocking_fd(&all.sender), -FAULT);
    }
    (void)rdy_sys_fail_nth(0, 0);
    assert_true(is_nonblocking(all.receiver.fd) && is_nonblocking(all.sender.fd));
    fd = rdy_pipe_receiver_into_blocking_fd(&all.receiver);
    sender_fd = rdy_pipe_sender_into_blocking_fd(&all.sender);
    assert_true(fd >= 0 && sender_fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(close(sender_fd), 0);
    end();
}

static int open_eventfd(void)
{
    return rdy_eventfd_open(&all.event, all.runtime, NULL);
}

static int take_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    int rc = rdy_eventfd_from_fd(&all.event, all.runtime, fd, false);

    if (rc < 0) {
        assert_false(is_nonblocking(fd));
        assert_int_equal(close(fd), 0);
    }
    return rc;
}

static void eventfd_opens_or_leaves_nothing(void **state)
{
    all_open(state);
    assert_int_equal(walk(open_eventfd), 1);
    all_close();
    assert_int_equal(walk(take_eventfd), 3);
    end();
}

static int open_signals(void)
{
    const int list[] = {SIGUSR1, SIGRTMIN + 5};

    return rdy_signals_open_list(&all.signals, all.runtime, list, 2);
}

static void signals_open_or_leave_the_mask_as_it_was(void **state)
{
    all_open(state);
    assert_int_equal(walk(open_signals), 2); /* signalfd, the mask */
    end();
    assert_true(mask_bits() == 0);
}

static int open_child(void)
{
    return rdy_child_open(&all.child, all.runtime, getppid());
}

static void child_opens_or_leaves_nothing(void **state)
{
    all_open(state);
    assert_int_equal(walk(open_child), 1);
    end();
}

/* Whatever fails, there is no process either: not even one that nobody has waited for. */
static int spawn_child(void)
{
    char *const argv[] = {(char *)(uintptr_t) "sleep", (char *)(uintptr_t) "1000", NULL};
    struct rdy_spawn_spec spec = {.size = sizeof(spec),
                                  .path = argv[0],
                                  .argv = argv,
                                  .stdin_mode = RDY_STDIO_PIPE,
                                  .stdout_mode = RDY_STDIO_PIPE,
                                  .stderr_mode = RDY_STDIO_PIPE};
    int rc = rdy_child_spawn(&all.child, all.runtime, &spec, &all.pipes);

    if (rc < 0) {
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
        return rc;
    }
    assert_int_equal(kill(rdy_child_pid(&all.child), SIGKILL), 0);
    assert_int_equal(waitpid(rdy_child_pid(&all.child), NULL, 0), rdy_child_pid(&all.child));
    return rc;
}

static void program_starts_or_leaves_no_process(void **state)
{
    all_open(state);
    assert_int_equal(walk(spawn_child), 11); /* a pipe and two of fcntl each; spawn, pidfd */
    end();
}

/* --- what is open already --- */

static struct rdy_signal_info info;
static int fault;

static ssize_t reads(void *test, struct rdy_task *task)
{
    static char byte;

    (void)test;
    (void)rdy_sys_fail_nth(1, fault);
    return rdy_pipe_receiver_poll_read(&all.receiver, task, &byte, 1);
}

static ssize_t writes(void *test, struct rdy_task *task)
{
    (void)test;
    (void)rdy_sys_fail_nth(1, fault);
    return rdy_pipe_sender_poll_write(&all.sender, task, "x", 1);
}

static ssize_t takes(void *test, struct rdy_task *task)
{
    (void)test;
    (void)rdy_sys_fail_nth(1, fault);
    return rdy_eventfd_poll_take(&all.event, task, NULL);
}

static ssize_t hears(void *test, struct rdy_task *task)
{
    (void)test;
    (void)rdy_sys_fail_nth(1, fault);
    return rdy_signals_poll_next(&all.signals, task, &info);
}

static ssize_t exits(void *test, struct rdy_task *task)
{
    (void)test;
    (void)rdy_sys_fail_nth(1, fault);
    return rdy_child_poll_exit(&all.child, task, NULL);
}

/* Makes every one of them ready. */
static void open_all_ready(void)
{
    assert_int_equal(open_pipe(), 0);
    assert_int_equal(write(all.sender.fd, "xx", 2), 2);
    assert_int_equal(open_eventfd(), 0);
    assert_int_equal(rdy_eventfd_add(&all.event, 1), 0);
    assert_int_equal(open_signals(), 0);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    all.pid = fork();
    if (all.pid == 0)
        _exit(0);
    assert_int_equal(rdy_child_open(&all.child, all.runtime, all.pid), 0);
}

/* An error is an answer, and what was there is there still; an interruption is neither. */
static void errors_of_the_kernel_are_told_and_interruptions_are_not(void **state)
{
    static const struct {
        call_fn *fn;
        ssize_t success;
    } rows[] = {{reads, 1}, {writes, 1}, {takes, 0}, {hears, 0}, {exits, 0}};

    all_open(state);
    open_all_ready();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fault = FAULT;
        assert_int_equal(call_run(all.runtime, rows[i].fn, NULL), -FAULT);
        fault = EINTR;
        assert_int_equal(call_run(all.runtime, rows[i].fn, NULL), rows[i].success);
        (void)rdy_sys_fail_nth(0, 0);
    }
    (void)rdy_sys_fail_nth(1, FAULT);
    assert_int_equal(rdy_eventfd_add(&all.event, 1), -FAULT);
    (void)rdy_sys_fail_nth(1, EINTR);
    assert_int_equal(rdy_eventfd_add(&all.event, 1), 0);
    (void)rdy_sys_fail_nth(0, 0);
    assert_int_equal(rdy_eventfd_try_take(&all.event, NULL), 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(async_fd_opens_or_leaves_nothing),
        ON_BOTH(pair_of_pipe_ends_opens_or_leaves_nothing),
        ON_BOTH(pair_without_room_for_both_ends_leaves_none),
        ON_BOTH(end_by_descriptor_opens_or_leaves_the_descriptor_as_it_was),
        ON_BOTH(full_runtime_leaves_descriptors_as_they_were),
        ON_BOTH(fifo_by_path_opens_or_leaves_nothing),
        ON_BOTH(end_that_cannot_be_made_blocking_stays_what_it_was),
        ON_BOTH(eventfd_opens_or_leaves_nothing),
        ON_BOTH(signals_open_or_leave_the_mask_as_it_was),
        ON_BOTH(child_opens_or_leaves_nothing),
        ON_BOTH(program_starts_or_leaves_no_process),
        ON_BOTH(errors_of_the_kernel_are_told_and_interruptions_are_not),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
