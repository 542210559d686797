/* SPDX-License-Identifier: MIT */
/* Moving bytes between sockets and pipes without copying. Any thread may call any of them. */
#include "engine/sys_splice.h"
#include "engine/sys_call.h"
#include "engine/sys_sigpipe.h"

#include <fcntl.h>

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

/* splice(2) has no MSG_NOSIGNAL: the kernel sends SIGPIPE to this thread. */
ssize_t rdy_sys_splice_out(int pipe_fd, int socket_fd, size_t len)
{
    struct rdy_sigpipe_mask mask;
    int before = errno;
    ssize_t result;

    rdy_sigpipe_block(&mask);
    result = splice_retried(pipe_fd, socket_fd, len);
    rdy_sigpipe_restore(&mask, result);
    return rdy_sys_end(before, result);
}
