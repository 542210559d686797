/* SPDX-License-Identifier: MIT */
/* Eventfds of users. Any thread may call any of these, and add() signal handlers, too. */
#include "engine/sys_eventfd.h"
#include "engine/sys_call.h"

#include <sys/eventfd.h>

int rdy_sys_eventfd_make(uint32_t initial, bool is_semaphore)
{
    int flags = EFD_NONBLOCK | EFD_CLOEXEC | (is_semaphore ? EFD_SEMAPHORE : 0);
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(eventfd(initial, flags)));
}

int rdy_sys_eventfd_add(int fd, uint64_t count)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_write(fd, &count, sizeof(count)));
    } while (rdy_sys_was_interrupted(result));
    result = rdy_sys_end(before, result);
    return result < 0 ? (int)result : 0;
}

/* Fewer bytes than a counter: that is no eventfd. */
int rdy_sys_eventfd_take(int fd, uint64_t *count)
{
    int before = errno;
    uint64_t taken = 0;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_read(fd, &taken, sizeof(taken)));
    } while (rdy_sys_was_interrupted(result));
    result = rdy_sys_end(before, result);
    if (result < 0)
        return (int)result;
    if (result != (ssize_t)sizeof(taken))
        return -EINVAL;
    *count = taken;
    return 0;
}
