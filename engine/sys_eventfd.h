/* SPDX-License-Identifier: MIT */
/* Eventfds of users: as in engine/sys.h, -errno instead of errno, and EINTR dealt with. */
#ifndef RDY_ENGINE_SYS_EVENTFD_H
#define RDY_ENGINE_SYS_EVENTFD_H

#include "engine/base.h"

/* Nonblocking, close-on-exec. The descriptor or -errno. */
int rdy_sys_eventfd_make(uint32_t initial, bool is_semaphore);

/* Adds @count; -EAGAIN if it does not fit. Signal handlers may call it. */
int rdy_sys_eventfd_add(int fd, uint64_t count);

/* Takes the counter, or one of a semaphore; -EAGAIN if it is zero. */
int rdy_sys_eventfd_take(int fd, uint64_t *count);

#endif
