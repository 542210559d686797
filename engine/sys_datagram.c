/* SPDX-License-Identifier: MIT */
/* The system calls that only datagram sockets need. Any thread may call any of them. */
#include "engine/sys_datagram.h"
#include "engine/sys_call.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

ssize_t rdy_sys_send_datagram(int fd, const struct msghdr *msg)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_sendmsg(fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}

ssize_t rdy_sys_recv_datagram(int fd, struct msghdr *msg, bool is_peek)
{
    int flags = MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC | (is_peek ? MSG_PEEK : 0);
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_recvmsg(fd, msg, flags));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}

int rdy_sys_datagram_pair(int fds[2])
{
    int before = errno;
    int type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

    return (int)rdy_sys_end(before, rdy_sys_try(socketpair(AF_UNIX, type, 0, fds)));
}

int rdy_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(getpeername(fd, addr, addr_len)));
}

int rdy_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t value_size)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(setsockopt(fd, level, name, value, value_size)));
}

int rdy_sys_unsent_bytes(int fd, int *count)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(ioctl(fd, SIOCOUTQ, count)));
}
