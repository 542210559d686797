/* SPDX-License-Identifier: MIT */
/* The system calls for signals. Any thread may call any of them. */
#include "engine/sys_signal.h"
#include "engine/sys_call.h"

int rdy_sys_signalfd(const sigset_t *set)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC)));
}

int rdy_sys_signalfd_take(int fd, struct signalfd_siginfo *info)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_read(fd, info, sizeof(*info)));
    } while (rdy_sys_was_interrupted(result));
    result = rdy_sys_end(before, result);
    rdy_assert(result < 0 || result == (ssize_t)sizeof(*info));
    return result < 0 ? (int)result : 0;
}

int rdy_sys_signal_add(sigset_t *set, int signo)
{
    int before = errno;

    return (int)rdy_sys_end(before, sigaddset(set, signo));
}

/* The C library returns the error here instead of setting errno. */
int rdy_sys_signal_mask(int how, const sigset_t *set, sigset_t *before)
{
    int errno_before = errno;
    int err = rdy_sys_fails() ? errno : pthread_sigmask(how, set, before);

    errno = errno_before;
    return -err;
}
