/* SPDX-License-Identifier: MIT */
/* What the wrappers add to the system calls: results instead of errno, kinds of files, flags. */
#include "engine/sys.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Closes @fd, which must have been good. */
static void assert_kind(int fd, enum rdy_file_kind expected)
{
    enum rdy_file_kind kind = RDY_FILE_AUTO;

    assert_true(fd >= 0);
    assert_int_equal(rdy_sys_file_kind(fd, &kind), 0);
    assert_int_equal(kind, expected);
    assert_int_equal(rdy_sys_close(fd), 0);
}

static void every_kind_of_file_is_told_apart(void **state)
{
    sigset_t none;
    int ends[2];

    (void)state;
    (void)sigemptyset(&none);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_kind(ends[0], RDY_FILE_FIFO);
    assert_kind(ends[1], RDY_FILE_FIFO);
    assert_kind(rdy_sys_socket(AF_INET, SOCK_STREAM, 0), RDY_FILE_STREAM);
    assert_kind(rdy_sys_socket(AF_UNIX, SOCK_STREAM, 0), RDY_FILE_STREAM);
    assert_kind(rdy_sys_socket(AF_UNIX, SOCK_SEQPACKET, 0), RDY_FILE_STREAM);
    assert_kind(rdy_sys_socket(AF_INET, SOCK_DGRAM, 0), RDY_FILE_DATAGRAM);
    assert_kind(rdy_sys_socket(AF_UNIX, SOCK_DGRAM, 0), RDY_FILE_DATAGRAM);
    assert_kind(open("/dev/null", O_RDWR | O_CLOEXEC), RDY_FILE_DEVICE);
    assert_kind(rdy_sys_eventfd(), RDY_FILE_OTHER);
    assert_kind(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), RDY_FILE_OTHER);
    assert_kind(signalfd(-1, &none, SFD_CLOEXEC), RDY_FILE_OTHER);
    assert_kind(inotify_init1(IN_CLOEXEC), RDY_FILE_OTHER);
    assert_kind(epoll_create1(EPOLL_CLOEXEC), RDY_FILE_OTHER);
    assert_kind((int)syscall(SYS_pidfd_open, getpid(), 0), RDY_FILE_OTHER);
}

static void files_that_are_always_ready_have_no_kind(void **state)
{
    enum rdy_file_kind kind = RDY_FILE_AUTO;
    int regular = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)state;
    assert_int_equal(rdy_sys_file_kind(regular, &kind), -EPERM);
    assert_int_equal(rdy_sys_file_kind(directory, &kind), -EPERM);
    assert_int_equal(rdy_sys_close(regular), 0);
    assert_int_equal(rdy_sys_close(directory), 0);
    assert_int_equal(rdy_sys_file_kind(directory, &kind), -EBADF);
    assert_int_equal(kind, RDY_FILE_AUTO);
}

static void a_failure_is_returned_and_errno_is_left_alone(void **state)
{
    char byte = 0;

    (void)state;
    errno = 12345;
    assert_int_equal(rdy_sys_close(-1), -EBADF);
    assert_int_equal(rdy_sys_recv(-1, &byte, 1), -EBADF);
    assert_int_equal(rdy_sys_send(-1, &byte, 1), -EBADF);
    assert_int_equal(rdy_sys_accept(-1), -EBADF);
    assert_int_equal(rdy_sys_listen(-1, 1), -EBADF);
    assert_int_equal(rdy_sys_shutdown(-1, SHUT_RDWR), -EBADF);
    assert_int_equal(rdy_sys_eventfd_write(-1), -EBADF);
    assert_int_equal(rdy_sys_eventfd_drain(-1), -EBADF);
    assert_int_equal(errno, 12345);
}

static void an_eventfd_that_is_full_or_empty_is_no_failure(void **state)
{
    const uint64_t nearly_full = UINT64_MAX - 1;
    uint64_t count = 0;
    int fd = rdy_sys_eventfd();

    (void)state;
    assert_int_equal(rdy_sys_eventfd_drain(fd), 0);
    assert_int_equal(write(fd, &nearly_full, sizeof(nearly_full)), sizeof(nearly_full));
    assert_int_equal(rdy_sys_eventfd_write(fd), 0);
    assert_int_equal(rdy_sys_eventfd_drain(fd), 0);
    assert_int_equal(rdy_sys_eventfd_write(fd), 0);
    assert_int_equal(rdy_sys_eventfd_write(fd), 0);
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 2);
    assert_int_equal(rdy_sys_close(fd), 0);
}

static int open_listener(struct sockaddr_in *addr)
{
    socklen_t addr_len = sizeof(*addr);
    int fd = rdy_sys_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    memset(addr, 0, sizeof(*addr));
    addr->sin_family = AF_INET;
    addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(rdy_sys_bind(fd, (const struct sockaddr *)addr, addr_len), 0);
    assert_int_equal(rdy_sys_listen(fd, 4), 0);
    assert_int_equal(rdy_sys_getsockname(fd, (struct sockaddr *)addr, &addr_len), 0);
    return fd;
}

static void an_accepted_socket_is_nonblocking_and_close_on_exec(void **state)
{
    struct sockaddr_in addr;
    int listener = open_listener(&addr);
    int client = rdy_sys_socket(AF_INET, SOCK_STREAM, 0);
    char byte = 'x';
    int accepted;

    (void)state;
    assert_int_equal(rdy_sys_accept(listener), -EAGAIN);
    assert_int_equal(rdy_sys_connect(client, (const struct sockaddr *)&addr, sizeof(addr)), 0);

    accepted = rdy_sys_accept(listener);

    assert_true(accepted >= 0);
    assert_int_equal(fcntl(accepted, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(client, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(rdy_sys_recv(accepted, &byte, 1), -EAGAIN);
    assert_int_equal(rdy_sys_close(accepted), 0);
    assert_int_equal(rdy_sys_close(client), 0);
    assert_int_equal(rdy_sys_close(listener), 0);
}

static void sending_to_a_peer_that_left_is_an_error_and_no_signal(void **state)
{
    int ends[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(rdy_sys_close(ends[1]), 0);
    assert_int_equal(rdy_sys_send(ends[0], "x", 1), -EPIPE);
    assert_int_equal(rdy_sys_close(ends[0]), 0);
}

static void a_forked_child_has_an_id_of_its_own(void **state)
{
    uint64_t before = rdy_sys_thread_id();
    int status = -1;
    pid_t child;

    (void)state;
    assert_int_equal(before, gettid());
    child = fork();
    if (child == 0)
        _exit(rdy_sys_thread_id() == (uint64_t)gettid() && rdy_sys_thread_id() != before ? 0 : 1);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(rdy_sys_thread_id(), before);
}

static void a_socket_option_is_read_back(void **state)
{
    int fd = rdy_sys_socket(AF_INET, SOCK_STREAM, 0);
    int value = 0;

    (void)state;
    assert_int_equal(rdy_sys_setsockopt_int(fd, SOL_SOCKET, SO_REUSEADDR, 1), 0);
    assert_int_equal(rdy_sys_getsockopt_int(fd, SOL_SOCKET, SO_REUSEADDR, &value), 0);
    assert_int_equal(value, 1);
    assert_int_equal(rdy_sys_close(fd), 0);
}

/* Without fault injection every call goes through, which is what the other half states. */
static void the_nth_call_from_now_fails_if_faults_are_built_in(void **state)
{
    uint32_t calls = 0;
    int fd;

    (void)state;
#ifdef RDY_FAULTS
    (void)rdy_sys_fail_nth(2, EMFILE);
    fd = rdy_sys_eventfd();
    assert_true(fd >= 0);
    assert_int_equal(rdy_sys_eventfd(), -EMFILE);
    assert_int_equal(rdy_sys_eventfd_write(fd), 0);
    assert_int_equal(rdy_sys_fail_nth(1, EINTR), 3);
    assert_int_equal(rdy_sys_eventfd_drain(fd), 0);
    assert_int_equal(rdy_sys_fail_nth(1, EIO), 2);
    assert_int_equal(rdy_sys_close(fd), -EIO);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    calls = (uint32_t)rdy_sys_fail_nth(0, 0);
    assert_int_equal(calls, 1);
#else
    (void)rdy_sys_fail_nth(1, EMFILE);
    fd = rdy_sys_eventfd();
    assert_true(fd >= 0);
    assert_int_equal(rdy_sys_close(fd), 0);
    calls = (uint32_t)rdy_sys_fail_nth(0, 0);
    assert_int_equal(calls, 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_file_is_told_apart),
        cmocka_unit_test(files_that_are_always_ready_have_no_kind),
        cmocka_unit_test(a_failure_is_returned_and_errno_is_left_alone),
        cmocka_unit_test(an_eventfd_that_is_full_or_empty_is_no_failure),
        cmocka_unit_test(an_accepted_socket_is_nonblocking_and_close_on_exec),
        cmocka_unit_test(sending_to_a_peer_that_left_is_an_error_and_no_signal),
        cmocka_unit_test(a_forked_child_has_an_id_of_its_own),
        cmocka_unit_test(a_socket_option_is_read_back),
        cmocka_unit_test(the_nth_call_from_now_fails_if_faults_are_built_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
