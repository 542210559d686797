/* SPDX-License-Identifier: MIT */
/* Signals: as in engine/sys.h, -errno instead of errno, and EINTR dealt with. */
#ifndef RDY_ENGINE_SYS_SIGNAL_H
#define RDY_ENGINE_SYS_SIGNAL_H

#include <signal.h>
#include <sys/signalfd.h>

#include "engine/base.h"

/* Nonblocking, close-on-exec. The descriptor or -errno. */
int rdy_sys_signalfd(const sigset_t *set);

/* Takes one signal; -EAGAIN if none is pending. */
int rdy_sys_signalfd_take(int fd, struct signalfd_siginfo *info);

/* sigaddset(3): -EINVAL for what is no signal, or one that the C library keeps to itself. */
int rdy_sys_signal_add(sigset_t *set, int signo);

/* pthread_sigmask(3). @before may be NULL. */
int rdy_sys_signal_mask(int how, const sigset_t *set, sigset_t *before);

#endif
