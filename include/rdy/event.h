/* SPDX-License-Identifier: MIT */
/*
 * Counted events: an eventfd that a task waits for, and that anybody may raise: another thread, a
 * signal handler, another process that has the descriptor.
 *
 * The counter is the kernel's. Adds that come before the task looks are summed up; none is lost.
 * For events within one thread a task's waker is cheaper, and needs no descriptor.
 */
#ifndef RDY_EVENT_H
#define RDY_EVENT_H

#include <rdy/registration.h>
#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/* The caller's memory; {.fd = -1} is closed. Fields are private. */
struct rdy_eventfd {
    struct rdy_registration reg;
    int fd;
    bool is_semaphore;
};

/* Set size to sizeof(struct rdy_eventfd_opts), the rest to zero for defaults. */
struct rdy_eventfd_opts {
    uint32_t size;
    uint32_t initial;  /* what the counter begins with */
    bool is_semaphore; /* a take takes one; else all there is */
};

/**
 * rdy_eventfd_open() - make an eventfd: nonblocking, close-on-exec
 * @event:   written on success only; free with rdy_eventfd_close()
 * @runtime: borrowed; must outlive @event
 * @opts:    borrowed; NULL for defaults
 *
 * Context: the runtime's thread.
 * Return:  0 or -errno with nothing kept: -EINVAL, -EMFILE, -ENFILE, -ENOMEM, -ESHUTDOWN.
 */
RDY_API RDY_NODISCARD int rdy_eventfd_open(struct rdy_eventfd *event, struct rdy_runtime *runtime,
                                           const struct rdy_eventfd_opts *opts);

/**
 * rdy_eventfd_from_fd() - take over an eventfd that was made elsewhere, by another process say
 * @event:        written on success only
 * @runtime:      borrowed
 * @fd:           taken on success; O_NONBLOCK is set on it, for all who share the open file
 * @is_semaphore: made with EFD_SEMAPHORE, which the kernel does not tell
 *
 * Anything else that is no eventfd is found out by a take at the latest: -EINVAL or so.
 *
 * Context: the runtime's thread.
 * Return:  0 or -errno as rdy_register().
 */
RDY_API RDY_NODISCARD int rdy_eventfd_from_fd(struct rdy_eventfd *event,
                                              struct rdy_runtime *runtime, int fd,
                                              bool is_semaphore);

/* The descriptor, borrowed: for another process, or for rdy_eventfd_add_to(). -1 if closed. */
static inline int rdy_eventfd_fd(const struct rdy_eventfd *event)
{
    return event->fd;
}

/**
 * rdy_eventfd_add_to() - add to the counter of any eventfd
 * @fd:    borrowed
 * @count: 0 does nothing, also wakes nobody
 *
 * Context: any thread, any process, signal handlers; leaves errno alone. Does not block if @fd is
 *          nonblocking. Whoever closes @fd sees to it that nobody still adds: its number may be
 *          another file's by then.
 * Return:  0; -EAGAIN if the counter cannot hold that much, with nothing added: whoever waits has
 *          been told; -EINVAL for UINT64_MAX; -EBADF.
 */
RDY_API int rdy_eventfd_add_to(int fd, uint64_t count);

/* rdy_eventfd_add_to() the descriptor of @event, which must stay open meanwhile; -EBADF if
 * closed. */
RDY_API int rdy_eventfd_add(const struct rdy_eventfd *event, uint64_t count);

/**
 * rdy_eventfd_poll_take() - wait until the counter is not zero, and take
 * @event: borrowed
 * @task:  being polled; one task waits at a time
 * @count: written when the answer is 0: all that was added since the last take, and the counter is
 *         zero again; of a semaphore 1, and the counter is one less. May be NULL.
 *
 * May be given up at RDY_PENDING: nothing was taken. An answer costs one operation of the budget.
 *
 * Context: the runtime's thread.
 * Return:  0, RDY_PENDING, -EBADF, -ESHUTDOWN, ...
 */
RDY_API RDY_NODISCARD int rdy_eventfd_poll_take(struct rdy_eventfd *event, struct rdy_task *task,
                                                uint64_t *count);

/* Takes what is there now; asks the kernel. Return: 0, -EAGAIN, -EBADF, ... Any thread. */
RDY_API RDY_NODISCARD int rdy_eventfd_try_take(struct rdy_eventfd *event, uint64_t *count);

/* Deregisters and closes; {.fd = -1} afterwards, and closing that does nothing. */
RDY_API void rdy_eventfd_close(struct rdy_eventfd *event);

RDY_END_DECLS

#endif
