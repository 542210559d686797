/* SPDX-License-Identifier: MIT */
/*
 * The truth table of what is no socket: eventfd, timerfd, signalfd, inotify, pidfd, pipes with and
 * without a name; and priority, alone. None of them but the anonymous pipe has an end: a flag that
 * says "closed" would be believed for ever.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include "tests/support/stage.h"

#define READ RDY_INTEREST_READ
#define RW   (RDY_INTEREST_READ | RDY_INTEREST_WRITE)
#define RWE  (RW | RDY_INTEREST_ERROR)

/* --- priority without reading --- */

/*
 * A ring's poll for PRI alone is not woken by a socket's data at all, unless something else of the
 * wake-up's key is asked for.
 */
static void priority_interest_alone_hears_of_urgent_data(struct stage *stage)
{
    uint32_t interest = RDY_INTEREST_PRIORITY;
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, interest);

    stage_expect(stage, &reg, interest, 0);
    put(pair.peer, "data");
    stage_settle(stage);
    stage_expect(stage, &reg, interest, 0);
    check(send(pair.peer, "!", 1, MSG_OOB) == 1);
    stage_expect(stage, &reg, interest, RDY_PRIORITY);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void priority_beside_writing_hears_of_urgent_data(struct stage *stage)
{
    uint32_t interest = RDY_INTEREST_PRIORITY | RDY_INTEREST_WRITE;
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, interest);

    stage_expect(stage, &reg, interest, RDY_WRITABLE);
    check(send(pair.peer, "!", 1, MSG_OOB) == 1);
    stage_expect(stage, &reg, interest, RDY_WRITABLE | RDY_PRIORITY);

    rdy_deregister(&reg);
    close_pair(&pair);
}

/* --- what the kernel counts --- */

static void eventfd_is_readable_when_raised_and_writable_until_full(struct stage *stage)
{
    uint64_t full = UINT64_MAX - 1;
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RWE);

    stage_expect(stage, &reg, RWE, RDY_WRITABLE);
    event_write(fd);
    stage_expect(stage, &reg, RWE, RDY_WRITABLE | RDY_READABLE);
    check(event_read(fd));
    check(write(fd, &full, sizeof(full)) == sizeof(full));
    stage_settle(stage);
    stage_forget(&reg, RWE);
    stage_expect(stage, &reg, RWE, 0);
    check(event_read(fd));
    stage_expect(stage, &reg, RWE, RDY_WRITABLE);

    rdy_deregister(&reg);
    close(fd);
}

static void timerfd_is_readable_at_each_expiry(struct stage *stage)
{
    struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct rdy_registration reg = stage_register(stage, fd, RWE);

    for (int i = 0; i < 2; i++) {
        stage_expect(stage, &reg, RWE, 0);
        check(timerfd_settime(fd, 0, &soon, NULL) == 0);
        stage_expect(stage, &reg, RWE, RDY_READABLE);
        check(event_read(fd));
        stage_forget(&reg, READ);
    }

    rdy_deregister(&reg);
    close(fd);
}

static void signalfd_is_readable_while_a_signal_is_pending(struct stage *stage)
{
    struct signalfd_siginfo info;
    struct rdy_registration reg;
    sigset_t set;
    int fd;

    check(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0);
    check(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    reg = stage_register(stage, fd, RWE);
    for (int i = 0; i < 2; i++) {
        stage_expect(stage, &reg, RWE, 0);
        check(kill(getpid(), SIGUSR1) == 0);
        stage_expect(stage, &reg, RWE, RDY_READABLE);
        check(read(fd, &info, sizeof(info)) == sizeof(info));
        check(info.ssi_signo == SIGUSR1);
        stage_forget(&reg, READ);
    }

    rdy_deregister(&reg);
    close(fd);
    check(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
}

static void directory_make(char *path, size_t path_size)
{
    const char *base = getenv("TMPDIR");

    check((size_t)snprintf(path, path_size, "%s/rdy-kinds-XXXXXX", base ? base : "/tmp") <
          path_size);
    check(mkdtemp(path) != NULL);
}

struct fifo {
    char folder[64];
    char path[80];
};

/* Its reader; the file is in a folder of its own. */
static int fifo_make(struct fifo *fifo)
{
    directory_make(fifo->folder, sizeof(fifo->folder));
    (void)snprintf(fifo->path, sizeof(fifo->path), "%s/fifo", fifo->folder);
    check(mkfifo(fifo->path, 0600) == 0);
    return open(fifo->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

static void fifo_remove(const struct fifo *fifo)
{
    check(unlink(fifo->path) == 0 && rmdir(fifo->folder) == 0);
}

static void inotify_is_readable_when_something_changes(struct stage *stage)
{
    char path[64];
    char file[80];
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    struct rdy_registration reg;

    directory_make(path, sizeof(path));
    (void)snprintf(file, sizeof(file), "%s/x", path);
    check(inotify_add_watch(fd, path, IN_CREATE | IN_DELETE) >= 0);
    reg = stage_register(stage, fd, RWE);
    stage_expect(stage, &reg, RWE, 0);
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    stage_expect(stage, &reg, RWE, RDY_READABLE);
    check(drain(fd) > 0);
    stage_settle(stage);
    stage_forget(&reg, READ);
    check(unlink(file) == 0);
    stage_expect(stage, &reg, RWE, RDY_READABLE);

    rdy_deregister(&reg);
    close(fd);
    check(rmdir(path) == 0);
}

/* --- processes --- */

/* A child that ends when its pipe does. */
static pid_t fork_reader(int *hold)
{
    int fds[2];
    pid_t pid;

    check(pipe2(fds, O_CLOEXEC) == 0);
    pid = fork();
    if (pid == 0) {
        char byte;

        (void)close(fds[1]);
        while (read(fds[0], &byte, 1) > 0)
            ;
        _exit(3);
    }
    check(pid > 0);
    close(fds[0]);
    *hold = fds[1];
    return pid;
}

static void pidfd_is_readable_when_its_process_has_ended(struct stage *stage)
{
    int hold = -1;
    pid_t pid = fork_reader(&hold);
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct rdy_registration reg = stage_register(stage, fd, READ | RDY_INTEREST_ERROR);
    struct rdy_registration late;

    stage_expect(stage, &reg, READ | RDY_INTEREST_ERROR, 0);
    close(hold);
    stage_expect(stage, &reg, READ | RDY_INTEREST_ERROR, RDY_READABLE);
    check(waitpid(pid, NULL, 0) == pid);

    /* reaped, it may say "hang-up" as well: worth trying, not closed */
    stage_settle(stage);
    stage_expect(stage, &reg, READ | RDY_INTEREST_ERROR, RDY_READABLE);
    rdy_deregister(&reg);
    stage_empty(stage);
    late = stage_register(stage, fd, READ | RDY_INTEREST_ERROR);
    stage_expect(stage, &late, READ | RDY_INTEREST_ERROR, RDY_READABLE);

    rdy_deregister(&late);
    close(fd);
}

/* --- pipes --- */

static void anonymous_pipe_is_over_when_the_writer_has_gone(struct stage *stage)
{
    struct pair pair = pair_pipe_reader();
    struct rdy_registration reg = stage_register(stage, pair.ours, READ);

    stage_expect(stage, &reg, READ, 0);
    put(pair.peer, "last words");
    close(pair.peer);
    stage_expect(stage, &reg, READ, RDY_READABLE | RDY_READ_CLOSED);

    rdy_deregister(&reg);
    close(pair.ours);
}

/* With a flag that says "closed", who waits for the second writer would spin for ever. */
static void named_fifo_is_not_over_when_a_writer_has_gone(struct stage *stage)
{
    struct rdy_registration reg;
    struct fifo fifo;
    int reader;
    int writer;

    reader = fifo_make(&fifo);
    reg = stage_register(stage, reader, READ);
    for (int i = 0; i < 2; i++) {
        stage_expect(stage, &reg, READ, 0);
        writer = open(fifo.path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        put(writer, "hello");
        stage_expect(stage, &reg, READ, RDY_READABLE);
        check(drain(reader) == 5);
        stage_forget(&reg, READ);
        stage_expect(stage, &reg, READ, 0);
        close(writer);
        stage_expect(stage, &reg, READ, RDY_READABLE);
        assert_int_equal(get(reader, 1), 0);

        /* the next writer, before anybody says so: the hint is refuted, and goes */
        writer = open(fifo.path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        assert_int_equal(get(reader, 1), -EAGAIN);
        stage_forget(&reg, READ);
        stage_expect(stage, &reg, READ, 0);
        close(writer);
        stage_settle(stage);
        stage_forget(&reg, READ);
    }

    rdy_deregister(&reg);
    close(reader);
    fifo_remove(&fifo);
}

static void named_fifo_is_writable_again_when_a_reader_comes_back(struct stage *stage)
{
    struct rdy_registration reg;
    struct fifo fifo;
    int reader;
    int writer;

    reader = fifo_make(&fifo);
    writer = open(fifo.path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    reg = stage_register(stage, writer, RDY_INTEREST_WRITE);
    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE);
    close(reader);
    stage_settle(stage);
    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE);
    reader = open(fifo.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    fill(writer);
    stage_forget(&reg, RDY_INTEREST_WRITE);
    stage_expect(stage, &reg, RDY_INTEREST_WRITE, 0);
    check(drain(reader) > 0);
    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE);

    rdy_deregister(&reg);
    close(writer);
    close(reader);
    fifo_remove(&fifo);
}

int main(void)
{
    static const struct scenario rows[] = {
        SCENARIO(priority_interest_alone_hears_of_urgent_data, ON_ALL),
        SCENARIO(priority_beside_writing_hears_of_urgent_data, ON_ALL),
        SCENARIO(eventfd_is_readable_when_raised_and_writable_until_full, ON_ALL),
        SCENARIO(timerfd_is_readable_at_each_expiry, ON_ALL),
        SCENARIO(signalfd_is_readable_while_a_signal_is_pending, ON_ALL),
        SCENARIO(inotify_is_readable_when_something_changes, ON_ALL),
        SCENARIO(pidfd_is_readable_when_its_process_has_ended, ON_KERNEL),
        SCENARIO(anonymous_pipe_is_over_when_the_writer_has_gone, ON_ALL),
        SCENARIO(named_fifo_is_not_over_when_a_writer_has_gone, ON_ALL),
        SCENARIO(named_fifo_is_writable_again_when_a_reader_comes_back, ON_ALL),
    };

    return scenarios_run("file_kinds", rows, sizeof(rows) / sizeof(rows[0]));
}
