/* SPDX-License-Identifier: MIT */
/* The system calls that only datagram sockets need. Any thread may call any of them. */
#include "engine/sys_datagram.h"
#include "engine/sys_call.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

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

int rdy_sys_unsent_bytes(int fd, int *count)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(ioctl(fd, SIOCOUTQ, count)));
}
