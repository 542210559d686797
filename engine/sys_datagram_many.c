/* SPDX-License-Identifier: MIT */
/*
 * sendmmsg(2) and recvmmsg(2). Straight to the kernel where sanitizers need not see them, as the C
 * library's are cancellation points: see engine/sys_call.h.
 */
#include "engine/sys_datagram_many.h"
#include "engine/sys_call.h"

#ifdef RDY_SANITIZED
#define bare_sendmmsg(fd, messages, count, flags) sendmmsg(fd, messages, count, flags)
#define bare_recvmmsg(fd, messages, count, flags) recvmmsg(fd, messages, count, flags, NULL)
#else
#define bare_sendmmsg(fd, messages, count, flags) syscall(SYS_sendmmsg, fd, messages, count, flags)
#define bare_recvmmsg(fd, messages, count, flags)                                                  \
    syscall(SYS_recvmmsg, fd, messages, count, flags, NULL)
#endif

ssize_t rdy_sys_send_datagrams(int fd, struct mmsghdr *messages, uint32_t count)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(bare_sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}

ssize_t rdy_sys_recv_datagrams(int fd, struct mmsghdr *messages, uint32_t count)
{
    int flags = MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC;
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(bare_recvmmsg(fd, messages, count, flags));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}
