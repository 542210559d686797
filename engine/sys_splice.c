/* SPDX-License-Identifier: MIT */
/* Moving bytes between sockets and pipes without copying. Any thread may call any of them. */
#include "engine/sys_splice.h"
#include "engine/sys_call.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

ssize_t rdy_sys_read(int fd, void *buf, size_t len)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_read(fd, buf, len));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}

/* Moves nothing before it can be interrupted, as read(2) does not. */
static ssize_t splice_retried(int from_fd, int to_fd, size_t len)
{
    ssize_t result;

    do {
        result =
            rdy_sys_try(splice(from_fd, NULL, to_fd, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK));
    } while (rdy_sys_was_interrupted(result));
    return result;
}

ssize_t rdy_sys_splice_in(int socket_fd, int pipe_fd, size_t len)
{
    int before = errno;

    return rdy_sys_end(before, splice_retried(socket_fd, pipe_fd, len));
}

/* True if a SIGPIPE waits that is not ours; only where the caller itself has blocked it. */
static bool has_pending_sigpipe(const sigset_t *mask)
{
    sigset_t pending;

    return sigismember(mask, SIGPIPE) == 1 && sigpending(&pending) == 0 &&
           sigismember(&pending, SIGPIPE) == 1;
}

/*
 * splice(2) has no MSG_NOSIGNAL: the kernel sends SIGPIPE to this thread. It is blocked meanwhile,
 * and the one that came is taken out again, so that the program's own disposition does not matter.
 */
ssize_t rdy_sys_splice_out(int pipe_fd, int socket_fd, size_t len)
{
    const struct timespec at_once = {0};
    int before = errno;
    sigset_t sigpipe;
    sigset_t mask;
    bool was_pending;
    ssize_t result;
    int err;

    (void)sigemptyset(&sigpipe);
    (void)sigaddset(&sigpipe, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &sigpipe, &mask);
    was_pending = has_pending_sigpipe(&mask);
    result = splice_retried(pipe_fd, socket_fd, len);
    err = errno;
    if (result < 0 && err == EPIPE && !was_pending)
        (void)sigtimedwait(&sigpipe, NULL, &at_once);
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
    errno = err;
    return rdy_sys_end(before, result);
}
