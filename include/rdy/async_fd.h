/* SPDX-License-Identifier: MIT */
/*
 * Any pollable descriptor for tasks: a device, an inotify, a timerfd, a raw socket, a library's
 * own.
 *
 * You bring the nonblocking operation, rdy brings the waiting. A wait answers with a guard: what is
 * ready, and when that was seen. Try the operation; if it says EAGAIN, clear through the guard;
 * then wait again. rdy_guard_try_io() does that. A guard that is thrown away clears nothing, so
 * that no readiness is lost by giving up. After Tokio's AsyncFd.
 *
 * What has a type of its own needs none of this: sockets (net.h, datagram.h), pipes (pipe.h),
 * eventfds (event.h), signals (signal.h), processes (process.h).
 */
#ifndef RDY_ASYNC_FD_H
#define RDY_ASYNC_FD_H

#include <rdy/registration.h>
#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/*
 * A descriptor that a runtime watches. The caller's memory; {.fd = -1} is closed. Fields are
 * private, but for `reg`, which those who wait from other threads than the runtime's may pass to
 * the calls of registration.h, and to rdy_readiness_init().
 */
struct rdy_async_fd {
    struct rdy_registration reg;
    int fd;
    bool is_owned;
};

/* --- making and ending one --- */

/**
 * rdy_async_fd_open() - watch a descriptor that stays the caller's
 * @afd:      written on success only
 * @runtime:  borrowed; must outlive @afd
 * @fd:       kept until rdy_async_fd_close(), which does not close it; must be nonblocking
 * @interest: RDY_INTEREST_*: what may be waited for. With RDY_INTEREST_ERROR alone nothing but
 *            errors wakes, and none is reported as readable.
 *
 * Context: the runtime's thread.
 * Return:  0 or -errno as rdy_register(): -EPERM for a regular file or a directory, -EEXIST if it
 *          is watched already, -EBADF, -EINVAL, -ENFILE, -ENOMEM, -ESHUTDOWN.
 */
RDY_API RDY_NODISCARD int rdy_async_fd_open(struct rdy_async_fd *afd, struct rdy_runtime *runtime,
                                            int fd, uint32_t interest);

/* As rdy_async_fd_open(), but @fd is taken, on success only: rdy_async_fd_close() closes it. */
RDY_API RDY_NODISCARD int rdy_async_fd_open_owned(struct rdy_async_fd *afd,
                                                  struct rdy_runtime *runtime, int fd,
                                                  uint32_t interest);

/**
 * rdy_async_fd_into_fd() - stop watching, and hand the descriptor back
 * @afd: its content is taken; {.fd = -1} afterwards
 *
 * Who waits is woken and gets -ECANCELED (in a poll slot: is not woken any more). The descriptor
 * can be registered again at once. See rdy_deregister() for what a close right after this does.
 *
 * Context: the runtime's thread, also after the driver's shutdown.
 * Return:  the descriptor, owned by the caller, or -EBADF if @afd is closed.
 */
RDY_API RDY_NODISCARD int rdy_async_fd_into_fd(struct rdy_async_fd *afd);

/* Stops watching; closes the descriptor if it was taken, as rdy_close(). {.fd = -1} afterwards, and
 * closing that does nothing. Waiters as in rdy_async_fd_into_fd(). The runtime's thread, before
 * the runtime is closed. */
RDY_API void rdy_async_fd_close(struct rdy_async_fd *afd);

/* --- guards --- */

/*
 * What a wait saw. A value of the caller's; throw it away freely: the readiness stays cached then.
 * {0} is empty. Not to be used after its descriptor was closed or taken back.
 */
struct rdy_ready_guard {
    struct rdy_async_fd *afd;
    struct rdy_event event;
};

/* What the guard holds: RDY_READABLE and friends. 0 once it was cleared. */
static inline uint32_t rdy_guard_ready(const struct rdy_ready_guard *guard)
{
    return rdy_event_ready(guard->event);
}

/**
 * rdy_guard_clear() - the operation said EAGAIN: drop what the guard saw
 * @guard: borrowed; empty afterwards, so that a second clear does nothing
 *
 * Where a newer event came since, nothing is dropped; closed flags stay cached in any case.
 *
 * Context: any thread.
 */
RDY_API void rdy_guard_clear(struct rdy_ready_guard *guard);

/**
 * rdy_guard_clear_matching() - drop some of what the guard saw
 * @guard: borrowed; keeps what is not in @ready
 * @ready: RDY_* flags; those that the guard does not hold are left alone
 *
 * Context: any thread.
 */
RDY_API void rdy_guard_clear_matching(struct rdy_ready_guard *guard, uint32_t ready);

/* Says that the readiness stays: does nothing, as throwing the guard away. For the reader's eye. */
static inline void rdy_guard_retain(const struct rdy_ready_guard *guard)
{
    (void)guard;
}

/**
 * rdy_guard_try_io() - try the operation; if it says EAGAIN, clear
 * @guard:  borrowed; empty after an EAGAIN, unchanged otherwise
 * @fn:     called once, with the descriptor
 * @arg:    passed through
 * @result: written when the answer is true: what @fn returned
 *
 * Context: any thread.
 * Return:  false if @fn said -EAGAIN: it would block, wait again. True if it had an answer, be it
 *          an error.
 */
RDY_API RDY_NODISCARD bool rdy_guard_try_io(struct rdy_ready_guard *guard, rdy_io_fn *fn, void *arg,
                                            ssize_t *result);

/* --- waiting --- */

/**
 * rdy_async_fd_poll_readable() - wait for READABLE or READ_CLOSED in the read slot
 * @afd:   borrowed
 * @task:  being polled; woken when it is ready
 * @guard: written when the answer is 0
 *
 * One task for each direction: another that waits replaces it, and the replaced one is not woken.
 * May be given up at RDY_PENDING. An answer costs one operation of the budget.
 *
 * Context: the runtime's thread.
 * Return:  0, RDY_PENDING, -EBADF, -ESHUTDOWN, or the errno with which the kernel refused the file.
 */
RDY_API RDY_NODISCARD int rdy_async_fd_poll_readable(struct rdy_async_fd *afd,
                                                     struct rdy_task *task,
                                                     struct rdy_ready_guard *guard);

/* As rdy_async_fd_poll_readable(), for WRITABLE or WRITE_CLOSED in the write slot. */
RDY_API RDY_NODISCARD int rdy_async_fd_poll_writable(struct rdy_async_fd *afd,
                                                     struct rdy_task *task,
                                                     struct rdy_ready_guard *guard);

/* Prepares @wait for rdy_async_fd_poll_ready() and rdy_async_fd_async_io(): any union of interests
 * that @afd was opened with. @afd must be open. */
RDY_API void rdy_async_fd_init_wait(struct rdy_async_fd *afd, struct rdy_readiness *wait,
                                    uint32_t interest);

/**
 * rdy_async_fd_poll_ready() - wait for any interest, beside any number of others who wait
 * @afd:   borrowed
 * @wait:  of rdy_async_fd_init_wait(); kept while RDY_PENDING, then rdy_readiness_cancel() when
 *         giving up; prepared again by the call when it has an answer, -ECANCELED excepted
 * @task:  being polled; woken when it is ready, in the order in which those who wait came
 * @guard: written when the answer is 0; holds at least one flag, and only flags of the interest
 *
 * An answer costs one operation of the budget.
 *
 * Context: the runtime's thread.
 * Return:  as rdy_async_fd_poll_readable(); -ECANCELED: closed or taken back meanwhile. While such
 *          an answer is outstanding, @afd itself is not looked at.
 */
RDY_API RDY_NODISCARD int rdy_async_fd_poll_ready(struct rdy_async_fd *afd,
                                                  struct rdy_readiness *wait, struct rdy_task *task,
                                                  struct rdy_ready_guard *guard);

/* --- waiting and trying in one --- */

/* Runs @fn once if the cached readiness says so: rdy_try_io() of registration.h. -EBADF if @afd is
 * closed. Any thread; pays nothing. */
RDY_API RDY_NODISCARD ssize_t rdy_async_fd_try_io(struct rdy_async_fd *afd, uint32_t interest,
                                                  rdy_io_fn *fn, void *arg);

/**
 * rdy_async_fd_async_io() - run @fn until it has an answer, waiting as rdy_async_fd_poll_ready()
 * @wait: as there
 * @task: being polled
 * @fn:   a nonblocking attempt; called when ready, again after a newer event, a few times at most
 *        before other tasks have their turn
 * @arg:  passed through
 *
 * May be given up at RDY_PENDING, if @fn did nothing when it said -EAGAIN. An answer costs one
 * operation of the budget.
 *
 * Context: the runtime's thread.
 * Return:  what @fn returned, RDY_PENDING, -ECANCELED, or as rdy_async_fd_poll_readable().
 */
RDY_API RDY_NODISCARD ssize_t rdy_async_fd_async_io(struct rdy_readiness *wait,
                                                    struct rdy_task *task, rdy_io_fn *fn,
                                                    void *arg);

RDY_END_DECLS

#endif
