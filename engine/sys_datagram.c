/* SPDX-License-Identifier: MIT */
/*
 * The system calls that only datagram sockets need. Any thread may call any of them; there is no
 * state.
 *
 * Hot calls go to the kernel directly: the C library's are cancellation points, which costs in a
 * program with threads. Sanitizers want to see the C library's.
 */
#include "engine/sys_datagram.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef RDY_SANITIZED
#define bare_recvmsg(fd, msg, flags) recvmsg(fd, msg, flags)
#define bare_sendmsg(fd, msg, flags) sendmsg(fd, msg, flags)
#else
#define bare_recvmsg(fd, msg, flags) syscall(SYS_recvmsg, fd, msg, flags)
#define bare_sendmsg(fd, msg, flags) syscall(SYS_sendmsg, fd, msg, flags)
#endif

/* Turns what the C library returned into a result or -errno, and puts errno back. */
static ssize_t call_end(int errno_before, ssize_t result)
{
    int err = errno;

    if (result >= 0)
        return result;
    errno = errno_before;
    rdy_assert(err > 0);
    return -err;
}

ssize_t rdy_sys_send_datagram(int fd, const struct msghdr *msg)
{
    int before = errno;
    ssize_t result;

    do {
        result = bare_sendmsg(fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (result < 0 && errno == EINTR);
    return call_end(before, result);
}

ssize_t rdy_sys_recv_datagram(int fd, struct msghdr *msg, bool is_peek)
{
    int flags = MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC | (is_peek ? MSG_PEEK : 0);
    int before = errno;
    ssize_t result;

    do {
        result = bare_recvmsg(fd, msg, flags);
    } while (result < 0 && errno == EINTR);
    return call_end(before, result);
}

int rdy_sys_datagram_pair(int fds[2])
{
    int before = errno;
    int type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

    return (int)call_end(before, socketpair(AF_UNIX, type, 0, fds));
}

int rdy_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
    int before = errno;

    return (int)call_end(before, getpeername(fd, addr, addr_len));
}

int rdy_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t value_size)
{
    int before = errno;

    return (int)call_end(before, setsockopt(fd, level, name, value, value_size));
}

int rdy_sys_unsent_bytes(int fd, int *count)
{
    int before = errno;

    return (int)call_end(before, ioctl(fd, SIOCOUTQ, count));
}
