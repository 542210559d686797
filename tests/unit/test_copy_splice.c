/* SPDX-License-Identifier: MIT */
/*
 * What splice(2) gets wrong, and a splicing copy must not: signals, urgent marks, false ends, and a
 * kernel that has no splice. Each test on io_uring and on epoll.
 */
#include "tests/support/proxy.h"

#include <pthread.h>
#include <signal.h>

#include "engine/sys_pipe.h"
#include "engine/sys_splice.h"

/* --- signals --- */

static volatile sig_atomic_t sigpipes;

static void count_sigpipe(int signo)
{
    (void)signo;
    sigpipes = sigpipes + 1;
}

/* A pipe with five bytes in it, and a stream socket whose peer has gone: writing there is EPIPE. */
static void open_dead_end(int pipe[2], int *fd)
{
    int fds[2];

    assert_int_equal(rdy_sys_pipe(pipe, O_NONBLOCK), 0);
    assert_int_equal(write(pipe[1], "hello", 5), 5);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(close(fds[1]), 0);
    *fd = fds[0];
}

static void close_dead_end(const int pipe[2], int fd)
{
    assert_int_equal(close(pipe[0]), 0);
    assert_int_equal(close(pipe[1]), 0);
    assert_int_equal(close(fd), 0);
}

/* What we lean on: without our care the kernel does raise it. */
static void bare_splice_to_a_dead_peer_raises_sigpipe(void **state)
{
    struct sigaction counting = {.sa_handler = count_sigpipe};
    struct sigaction before;
    int pipe[2];
    int fd;

    (void)state;
    open_dead_end(pipe, &fd);
    assert_int_equal(sigaction(SIGPIPE, &counting, &before), 0);
    sigpipes = 0;

    assert_int_equal(splice(pipe[0], NULL, fd, NULL, 5, SPLICE_F_NONBLOCK), -1);
    assert_int_equal(errno, EPIPE);
    assert_int_equal(sigpipes, 1);
    assert_int_equal(rdy_sys_splice_out(pipe[0], fd, 5), -EPIPE);
    assert_int_equal(sigpipes, 1);

    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
    close_dead_end(pipe, fd);
}

/* One that the program has blocked and not yet taken is its own. */
static void pending_sigpipe_of_the_program_stays_pending(void **state)
{
    sigset_t sigpipe;
    sigset_t before;
    sigset_t pending;
    int pipe[2];
    int fd;

    (void)state;
    open_dead_end(pipe, &fd);
    assert_int_equal(sigemptyset(&sigpipe), 0);
    assert_int_equal(sigaddset(&sigpipe, SIGPIPE), 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &sigpipe, &before), 0);

    assert_int_equal(rdy_sys_splice_out(pipe[0], fd, 5), -EPIPE);
    assert_int_equal(sigpending(&pending), 0);
    assert_int_equal(sigismember(&pending, SIGPIPE), 0);

    assert_int_equal(pthread_kill(pthread_self(), SIGPIPE), 0);
    assert_int_equal(rdy_sys_splice_out(pipe[0], fd, 5), -EPIPE);
    assert_int_equal(sigpending(&pending), 0);
    assert_int_equal(sigismember(&pending, SIGPIPE), 1);

    assert_int_equal(sigtimedwait(&sigpipe, NULL, &(struct timespec){0}), SIGPIPE);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    close_dead_end(pipe, fd);
}

static void splicing_copy_to_a_dead_peer_ends_with_an_error_and_no_signal(void **state)
{
    struct sigaction counting = {.sa_handler = count_sigpipe};
    struct sigaction before;
    static struct proxy proxy;

    assert_int_equal(sigaction(SIGPIPE, &counting, &before), 0);
    sigpipes = 0;
    proxy_connect(&proxy, state, true);
    assert_int_equal(rdy_copy_open(&proxy.copy, proxy_a(&proxy), proxy_b(&proxy), &proxy_modes[1]),
                     0);
    assert_true(plain_send(&proxy.near, 1000));
    plain_close(&proxy.far);

    assert_int_equal(call_run(proxy.runtime, copies_one_way, &proxy), -EPIPE);

    assert_int_equal(sigpipes, 0);
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
    assert_int_equal(proxy_stats(&proxy).pipes_live, 0);
    proxy_close(&proxy);
}

/* --- urgent marks --- */

static void send_mark(struct plain *plain)
{
    assert_int_equal(send(plain->fd, "!", 1, MSG_OOB), 1);
}

/* splice(2) stops at a mark and says EAGAIN, whatever is behind it; no event follows. */
static void urgent_mark_does_not_stop_a_splicing_copy(void **state)
{
    static struct proxy proxy;

    for (int before = 0; before < 2; before++) {
        proxy_connect(&proxy, state, false);
        if (before)
            proxy_join(&proxy, &proxy_modes[1]);
        assert_true(plain_send(&proxy.near, 3));
        send_mark(&proxy.near);
        assert_true(plain_send(&proxy.near, 5));
        take_turns(proxy.runtime, 3);
        if (!before)
            proxy_join(&proxy, &proxy_modes[1]);
        proxy_carry(&proxy, &proxy.near, &proxy.far, 0);
        assert_int_equal(proxy.far.got, 8);

        for (int i = 0; i < 20; i++) {
            if (i % 3 == 0)
                send_mark(&proxy.near);
            proxy_carry(&proxy, &proxy.near, &proxy.far, 100);
        }
        plain_end(&proxy.near);
        plain_end(&proxy.far);
        proxy_hear_end(&proxy, &proxy.far);
        assert_int_equal(call_finish(&proxy.call), 0);
        proxy_close(&proxy);
    }
}

/* Behind a mark splice(2) says 0, as at the end, when the sender has ended: data would be lost. */
static void end_behind_an_urgent_mark_cuts_nothing_off(void **state)
{
    static struct proxy proxy;

    proxy_connect(&proxy, state, false);
    assert_true(plain_send(&proxy.near, 3));
    send_mark(&proxy.near);
    assert_true(plain_send(&proxy.near, 50000));
    plain_end(&proxy.near);
    plain_end(&proxy.far);
    take_turns(proxy.runtime, 3);
    proxy_join(&proxy, &proxy_modes[1]);

    proxy_hear_end(&proxy, &proxy.far);

    assert_int_equal(proxy.far.got, 50003);
    assert_int_equal(call_finish(&proxy.call), 0);
    proxy_close(&proxy);
}

/* --- no splice here --- */

static bool fails_nth_in_mode(struct proxy *proxy, void **state, uint64_t nth, int fault)
{
    proxy_connect(proxy, state, false);
    assert_true(plain_send(&proxy->near, 40000));
    plain_end(&proxy->near);
    plain_end(&proxy->far);
    take_turns(proxy->runtime, 3);
    proxy->fault = fault;
    proxy->fault_nth = nth;
    proxy_join(proxy, &proxy_modes[1]);
    (void)call_finish(&proxy->call);
    (void)rdy_sys_fail_nth(0, 0);
    return proxy->call.result == 0;
}

/* The first call of a splicing copy is pipe2(2), the second splices in, the third splices out. */
static void copy_goes_on_without_a_splice_that_is_refused(void **state)
{
    static const int faults[] = {EINVAL, ENOSYS, EPERM};
    static struct proxy proxy;

    for (uint64_t nth = 2; nth <= 3; nth++) {
        for (size_t i = 0; i < 3; i++) {
            rdy_runtime_close(runtime_of(state)); /* for an empty pool of pipes */
            ((struct runtime_fixture *)*state)->runtime =
                runtime_open(((struct runtime_fixture *)*state)->backend);
            assert_true(fails_nth_in_mode(&proxy, state, nth, faults[i]));
            proxy_hear_end(&proxy, &proxy.far);
            assert_int_equal(proxy.far.got, 40000);
            assert_int_equal(proxy_stats(&proxy).bytes_spliced, 0);
            assert_int_equal(proxy_stats(&proxy).bytes_copied, 40000);
            proxy_close(&proxy);
        }
    }
}

static void copy_goes_on_without_a_pipe(void **state)
{
    static struct proxy proxy;

    assert_true(fails_nth_in_mode(&proxy, state, 1, EMFILE));
    proxy_hear_end(&proxy, &proxy.far);
    assert_int_equal(proxy.far.got, 40000);
    /* The direction that was refused copies, whatever the other does. */
    assert_int_equal(proxy_stats(&proxy).bytes_copied, 40000);
    proxy_close(&proxy);
}

static void interrupted_calls_are_made_again(void **state)
{
    static struct proxy proxy;

    for (uint64_t nth = 2; nth <= 3; nth++) {
        rdy_runtime_close(runtime_of(state));
        ((struct runtime_fixture *)*state)->runtime =
            runtime_open(((struct runtime_fixture *)*state)->backend);
        assert_true(fails_nth_in_mode(&proxy, state, nth, EINTR));
        proxy_hear_end(&proxy, &proxy.far);
        assert_int_equal(proxy_stats(&proxy).bytes_spliced, 40000);
        proxy_close(&proxy);
    }
}

/* Unix streams have no proof of "drained", so each round ends with a read that says EAGAIN. */
static void unix_streams_are_spliced_too(void **state)
{
    static struct proxy proxy;

    proxy_connect(&proxy, state, true);
    proxy_join(&proxy, &proxy_modes[1]);
    proxy_carry(&proxy, &proxy.near, &proxy.far, 1u << 20);
    proxy_carry(&proxy, &proxy.far, &proxy.near, 1u << 20);
    plain_end(&proxy.near);
    proxy_hear_end(&proxy, &proxy.far);
    plain_end(&proxy.far);
    assert_int_equal(call_finish(&proxy.call), 0);
    assert_true(proxy_stats(&proxy).bytes_spliced > 1u << 20);
    proxy_close(&proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(bare_splice_to_a_dead_peer_raises_sigpipe),
        ON_BOTH(pending_sigpipe_of_the_program_stays_pending),
        ON_BOTH(splicing_copy_to_a_dead_peer_ends_with_an_error_and_no_signal),
        ON_BOTH(urgent_mark_does_not_stop_a_splicing_copy),
        ON_BOTH(end_behind_an_urgent_mark_cuts_nothing_off),
        ON_BOTH(copy_goes_on_without_a_splice_that_is_refused),
        ON_BOTH(copy_goes_on_without_a_pipe),
        ON_BOTH(interrupted_calls_are_made_again),
        ON_BOTH(unix_streams_are_spliced_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
