/* SPDX-License-Identifier: MIT */
/*
 * What the wrappers of system calls share; only engine/sys*.c include it.
 *
 * A wrapper hands back -errno and leaves errno itself as it was, since the engine's interface
 * promises not to touch it and some wrappers run in signal handlers. EINTR is retried where the
 * call did nothing yet; it is not where the kernel has begun something that a second call would not
 * continue (close, connect).
 *
 * With RDY_FAULTS each trip to the kernel first asks whether it is the one that a test wants to
 * fail. A retry is another trip, so that an injected EINTR is seen to be retried.
 */
#ifndef RDY_ENGINE_SYS_CALL_H
#define RDY_ENGINE_SYS_CALL_H

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base.h"

#ifdef RDY_FAULTS
/* Counts the trip; true, with errno set, if it is to fail without reaching the kernel. */
bool rdy_sys_fails(void);
#else
static inline bool rdy_sys_fails(void)
{
    return false;
}
#endif

/* One trip: what the call returns, or -1 with errno set. */
#define rdy_sys_try(call) (rdy_sys_fails() ? -1 : (call))

/* Turns what the C library returned into a result or -errno, and puts errno back. */
static inline ssize_t rdy_sys_end(int errno_before, ssize_t result)
{
    int err = errno;

    if (rdy_likely(result >= 0))
        return result;
    errno = errno_before;
    rdy_assert(err > 0);
    return -err;
}

static inline bool rdy_sys_was_interrupted(ssize_t result)
{
    return result < 0 && errno == EINTR;
}

/*
 * The calls of the hot path go to the kernel directly: the C library's are cancellation points, at
 * two locked instructions a call in a program with threads (some 50 ns a request), and the engine
 * could not bear to be cancelled inside one anyway. Sanitizers want to see the C library's.
 */
#ifdef RDY_SANITIZED
#define rdy_bare_recv(fd, buf, len, flags)  recv(fd, buf, len, flags)
#define rdy_bare_send(fd, data, len, flags) send(fd, data, len, flags)
#define rdy_bare_recvmsg(fd, msg, flags)    recvmsg(fd, msg, flags)
#define rdy_bare_sendmsg(fd, msg, flags)    sendmsg(fd, msg, flags)
#define rdy_bare_read(fd, buf, len)         read(fd, buf, len)
#define rdy_bare_write(fd, data, len)       write(fd, data, len)
#else
#define rdy_bare_recv(fd, buf, len, flags)  syscall(SYS_recvfrom, fd, buf, len, flags, NULL, NULL)
#define rdy_bare_send(fd, data, len, flags) syscall(SYS_sendto, fd, data, len, flags, NULL, 0)
#define rdy_bare_recvmsg(fd, msg, flags)    syscall(SYS_recvmsg, fd, msg, flags)
#define rdy_bare_sendmsg(fd, msg, flags)    syscall(SYS_sendmsg, fd, msg, flags)
#define rdy_bare_read(fd, buf, len)         syscall(SYS_read, fd, buf, len)
#define rdy_bare_write(fd, data, len)       syscall(SYS_write, fd, data, len)
#endif

#endif
