/* SPDX-License-Identifier: MIT */
/*
 * Counted events over an eventfd.
 *
 * A take empties the counter, and every later add is an event: so READABLE is cleared at once, and
 * the take that would only say EAGAIN is saved. A semaphore may have more; it is taken from until
 * it says EAGAIN.
 */
#include <rdy/event.h>

#include "engine/file_wait.h"
#include "engine/sys_eventfd.h"
#include "engine/sys_pipe.h"

static int eventfd_register(struct rdy_eventfd *event, struct rdy_runtime *runtime, int fd,
                            bool is_semaphore)
{
    struct rdy_eventfd made = {.fd = fd, .is_semaphore = is_semaphore};
    int rc = rdy_register_kind(runtime->driver, fd, RDY_INTEREST_READ, RDY_FILE_OTHER, &made.reg);

    rdy_assert(rc <= 0);
    if (rc == 0)
        *event = made;
    return rc;
}

int rdy_eventfd_open(struct rdy_eventfd *event, struct rdy_runtime *runtime,
                     const struct rdy_eventfd_opts *opts)
{
    struct rdy_eventfd_opts taken = {.size = sizeof(taken)};
    int fd;
    int rc;

    if (opts) {
        if (opts->size != sizeof(*opts))
            return -EINVAL;
        taken = *opts;
    }
    fd = rdy_sys_eventfd_make(taken.initial, taken.is_semaphore);
    if (fd < 0)
        return fd;
    rc = eventfd_register(event, runtime, fd, taken.is_semaphore);
    if (rc < 0)
        (void)rdy_sys_close(fd);
    return rc;
}

int rdy_eventfd_from_fd(struct rdy_eventfd *event, struct rdy_runtime *runtime, int fd,
                        bool is_semaphore)
{
    enum rdy_file_kind kind = RDY_FILE_AUTO;
    int flags = rdy_sys_file_flags(fd);
    int rc;

    if (flags < 0)
        return flags;
    rc = rdy_sys_file_kind(fd, &kind);
    if (rc < 0)
        return rc;
    if (kind != RDY_FILE_OTHER)
        return -EINVAL;
    rc = rdy_sys_make_nonblocking(fd, flags);
    if (rc < 0)
        return rc;
    rc = eventfd_register(event, runtime, fd, is_semaphore);
    if (rc < 0)
        rdy_sys_unmake_nonblocking(fd, flags);
    return rc;
}

int rdy_eventfd_add_to(int fd, uint64_t count)
{
    return count == 0 ? 0 : rdy_sys_eventfd_add(fd, count);
}

int rdy_eventfd_add(const struct rdy_eventfd *event, uint64_t count)
{
    return event->fd < 0 ? -EBADF : rdy_eventfd_add_to(event->fd, count);
}

int rdy_eventfd_poll_take(struct rdy_eventfd *event, struct rdy_task *task, uint64_t *count)
{
    if (event->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event seen;
        uint64_t taken = 0;
        int rc = rdy_file_wait(&event->reg, task, RDY_DIRECTION_READ, &seen);

        if (rc != 0)
            return rc;
        rc = rdy_sys_eventfd_take(event->fd, &taken);
        if (rc == -EAGAIN || (rc == 0 && !event->is_semaphore))
            rdy_clear_readiness(&event->reg, seen);
        if (rc == -EAGAIN)
            continue;
        rdy_debug(rc < 0 || taken > 0);
        if (rc == 0 && count)
            *count = taken;
        rdy_task_spend(task);
        return rc;
    }
    return rdy_task_give_way(task);
}

int rdy_eventfd_try_take(struct rdy_eventfd *event, uint64_t *count)
{
    uint64_t taken = 0;
    int rc;

    if (event->fd < 0)
        return -EBADF;
    rc = rdy_sys_eventfd_take(event->fd, &taken);
    if (rc == 0 && count)
        *count = taken;
    return rc;
}

void rdy_eventfd_close(struct rdy_eventfd *event)
{
    if (event->fd >= 0)
        (void)rdy_close(&event->reg);
    *event = (struct rdy_eventfd){.fd = -1};
}
