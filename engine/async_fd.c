/* SPDX-License-Identifier: MIT */
/*
 * AsyncFd: a registration with a descriptor, guards, and waits that pay from a task's budget.
 *
 * Everything that could lose readiness is the registration's; what is ours is who closes what, and
 * that a guard can only clear what it saw.
 */
#include <rdy/async_fd.h>

#include "engine/driver.h"
#include "engine/runtime.h"

static int async_fd_open(struct rdy_async_fd *afd, struct rdy_runtime *runtime, int fd,
                         uint32_t interest, bool is_owned)
{
    struct rdy_async_fd made = {.fd = fd, .is_owned = is_owned};
    int rc = rdy_register(runtime->driver, fd, interest, &made.reg);

    if (rc < 0)
        return rc;
    rdy_assert(fd >= 0);
    *afd = made;
    return 0;
}

int rdy_async_fd_open(struct rdy_async_fd *afd, struct rdy_runtime *runtime, int fd,
                      uint32_t interest)
{
    return async_fd_open(afd, runtime, fd, interest, false);
}

int rdy_async_fd_open_owned(struct rdy_async_fd *afd, struct rdy_runtime *runtime, int fd,
                            uint32_t interest)
{
    return async_fd_open(afd, runtime, fd, interest, true);
}

int rdy_async_fd_into_fd(struct rdy_async_fd *afd)
{
    int fd = afd->fd;

    if (fd < 0)
        return -EBADF;
    (void)rdy_deregister(&afd->reg);
    *afd = (struct rdy_async_fd){.fd = -1};
    return fd;
}

void rdy_async_fd_close(struct rdy_async_fd *afd)
{
    if (afd->fd >= 0 && afd->is_owned)
        (void)rdy_close(&afd->reg);
    else if (afd->fd >= 0)
        (void)rdy_deregister(&afd->reg);
    *afd = (struct rdy_async_fd){.fd = -1};
}

/* --- guards --- */

void rdy_guard_clear_matching(struct rdy_ready_guard *guard, uint32_t ready)
{
    /* The ticks stay in the event: they say when the rest of it was seen, too. */
    struct rdy_event matching = rdy_word_event(guard->event.word, ready & RDY_READY_ALL);

    if (rdy_event_ready(matching) == 0)
        return;
    rdy_assert(guard->afd && guard->afd->fd >= 0);
    rdy_clear_readiness(&guard->afd->reg, matching);
    guard->event.word &= ~(uint64_t)rdy_event_ready(matching);
}

void rdy_guard_clear(struct rdy_ready_guard *guard)
{
    rdy_guard_clear_matching(guard, RDY_READY_ALL);
    rdy_assert(rdy_guard_ready(guard) == 0);
}

bool rdy_guard_try_io(struct rdy_ready_guard *guard, rdy_io_fn *fn, void *arg, ssize_t *result)
{
    ssize_t answer;

    rdy_assert(guard->afd && guard->afd->fd >= 0);
    answer = fn(guard->afd->fd, arg);
    if (answer == -EAGAIN) {
        rdy_guard_clear(guard);
        return false;
    }
    *result = answer;
    return true;
}

/* --- waiting --- */

static int poll_direction(struct rdy_async_fd *afd, struct rdy_task *task,
                          enum rdy_direction direction, struct rdy_ready_guard *guard)
{
    struct rdy_waker waker = rdy_task_waker(task);
    struct rdy_event event;
    int rc;

    if (afd->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = rdy_poll_readiness(&afd->reg, direction, &waker, &event);
    if (rc == RDY_PENDING)
        return rc;
    if (rc == 0)
        *guard = (struct rdy_ready_guard){.afd = afd, .event = event};
    rdy_task_spend(task);
    return rc;
}

int rdy_async_fd_poll_readable(struct rdy_async_fd *afd, struct rdy_task *task,
                               struct rdy_ready_guard *guard)
{
    return poll_direction(afd, task, RDY_DIRECTION_READ, guard);
}

int rdy_async_fd_poll_writable(struct rdy_async_fd *afd, struct rdy_task *task,
                               struct rdy_ready_guard *guard)
{
    return poll_direction(afd, task, RDY_DIRECTION_WRITE, guard);
}

void rdy_async_fd_init_wait(struct rdy_async_fd *afd, struct rdy_readiness *wait, uint32_t interest)
{
    rdy_assert(afd->fd >= 0);
    rdy_readiness_init(wait, &afd->reg, interest);
}

/* For the same registration as before: after an end its entry may be another's by now. */
static void wait_again(struct rdy_readiness *wait)
{
    *wait = (struct rdy_readiness){
        .io = wait->io, .generation = wait->generation, .interest = wait->interest};
}

int rdy_async_fd_poll_ready(struct rdy_async_fd *afd, struct rdy_readiness *wait,
                            struct rdy_task *task, struct rdy_ready_guard *guard)
{
    struct rdy_waker waker = rdy_task_waker(task);

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event;
        int rc = rdy_readiness_poll(wait, &waker, &event);

        if (rc == RDY_PENDING)
            return rc;
        if (rc != -ECANCELED)
            wait_again(wait);
        if (rc == 0 && rdy_event_ready(event) == 0)
            continue; /* somebody else cleared it in between */
        if (rc == 0)
            *guard = (struct rdy_ready_guard){.afd = afd, .event = event};
        rdy_task_spend(task);
        return rc;
    }
    return rdy_task_give_way(task); /* another task clears whatever wakes this one */
}

/* --- waiting and trying in one --- */

ssize_t rdy_async_fd_try_io(struct rdy_async_fd *afd, uint32_t interest, rdy_io_fn *fn, void *arg)
{
    if (afd->fd < 0)
        return -EBADF;
    return rdy_try_io(&afd->reg, interest, fn, arg);
}

ssize_t rdy_async_fd_async_io(struct rdy_readiness *wait, struct rdy_task *task, rdy_io_fn *fn,
                              void *arg)
{
    struct rdy_waker waker = rdy_task_waker(task);
    ssize_t result;

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    result = rdy_async_io(wait, &waker, fn, arg);
    if (result != RDY_PENDING)
        rdy_task_spend(task);
    return result;
}
