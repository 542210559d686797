/* SPDX-License-Identifier: MIT */
/* The system calls that streams need beyond recv and send. Any thread may call any of them. */
#include "engine/sys_stream.h"
#include "engine/sys_call.h"

/* recvmsg(2) and not readv(2): both directions then are socket calls, with flags where needed. */
ssize_t rdy_sys_recv_vector(int fd, const struct iovec *iov, size_t iov_count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = iov_count};
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_recvmsg(fd, &msg, 0));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}

ssize_t rdy_sys_send_vector(int fd, const struct iovec *iov, size_t iov_count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = iov_count};
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_sendmsg(fd, &msg, MSG_NOSIGNAL));
    } while (rdy_sys_was_interrupted(result));
    result = rdy_sys_end(before, result);
    return result == -EINPROGRESS ? -EAGAIN : result; /* as rdy_sys_send() */
}

ssize_t rdy_sys_peek(int fd, void *buf, size_t len)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_recv(fd, buf, len, MSG_PEEK));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}
