/* SPDX-License-Identifier: MIT */
/*
 * Registrations: a file descriptor that the driver watches, and the ways to wait for it.
 *
 * Three ways over one mechanism. rdy_poll_readiness(): one task for each direction, cheapest.
 * struct rdy_readiness: any number of waiters, in the caller's memory, cancellable at any point.
 * rdy_try_io() and rdy_poll_io(): run a nonblocking operation and clear readiness when it says
 * EAGAIN.
 *
 * The rule that keeps readiness from being lost: clear only what an operation refuted, with the
 * event that told you to try. A clear that comes after a newer event changes nothing.
 */
#ifndef RDY_REGISTRATION_H
#define RDY_REGISTRATION_H

#include <rdy/driver.h>
#include <rdy/ready.h>
#include <rdy/waker.h>

RDY_BEGIN_DECLS

struct rdy_scheduled_io;

/*
 * A registered descriptor. The caller's memory; fields are private. A copy is an alias of the
 * same registration, not a second one. {0} is "not registered": every call on it but deregister
 * and close is a bug in the caller, those two answer -EBADF.
 */
struct rdy_registration {
    struct rdy_driver *driver;
    struct rdy_scheduled_io *io;
    uint64_t serial;
};

/**
 * rdy_register() - have a driver watch a descriptor
 * @driver:   borrowed; must outlive the registration
 * @fd:       kept until deregistration; nonblocking (a blocking one may block your reads); stays
 *            the caller's to close, unless rdy_close() is used
 * @interest: RDY_INTEREST_*; ERR and HUP are always watched
 * @reg:      written on success only
 *
 * Register a socket after connect(2), not before: an unconnected TCP socket reports hang-up.
 * An fd is registered at most once per driver at a time; use a union of interests. Only epoll
 * notices a second time (-EEXIST); io_uring would report each event to both.
 *
 * Context: any thread. io_uring is told in the driver's next turn, which is woken if another thread
 *          registers: a refusal by the kernel then reaches the waiters instead of this call.
 * Return:  0 or -errno.
 * Errors:  -EBADF no such descriptor; -EPERM a regular file or directory (always ready), or on
 *          epoll another that cannot be polled; -EEXIST as above; -EINVAL bad interest;
 *          -ESHUTDOWN the driver has ended, or the errno of its backend's death; -ENFILE
 *          entries_max reached; -ENOMEM, also at the kernel's limit of watches; -EOWNERDEAD
 *          called in a forked child.
 */
RDY_API RDY_NODISCARD int rdy_register(struct rdy_driver *driver, int fd, uint32_t interest,
                                       struct rdy_registration *reg);

/**
 * rdy_deregister() - stop watching; the descriptor stays open
 * @reg: its content is taken; {0} afterwards
 *
 * Waiters of the registration are woken, and their polls answer -ECANCELED without touching it.
 * No other call on the same registration may run at the same time. Wakers held in the poll slots
 * are forgotten. The descriptor can be registered again at once, and closed at once; but while
 * io_uring still holds the file, the peer sees no end of stream: prefer rdy_close().
 *
 * Context: any thread, also after the driver's shutdown.
 * Return:  0, or -EBADF if @reg is not registered or its token is stale.
 */
RDY_API int rdy_deregister(struct rdy_registration *reg);

/**
 * rdy_close() - stop watching, then close the descriptor
 * @reg: its content and the descriptor are taken; {0} afterwards
 *
 * The descriptor is closed as soon as the kernel has let go of it: at once on epoll; on io_uring,
 * where an armed poll would otherwise keep the file open, as the driver turns (about 20 a turn). A
 * driver that a waker shut down turns no more: then it is rdy_driver_close() that lets go.
 * In a forked child it closes the child's copy, at once, and leaves the parent's watch.
 *
 * Context: any thread, also after the driver's shutdown.
 * Return:  0, or -EBADF with nothing closed.
 */
RDY_API int rdy_close(struct rdy_registration *reg);

/**
 * rdy_poll_readiness() - is this direction ready; if not, wake me
 * @reg:       borrowed
 * @direction: READ is satisfied by READABLE and READ_CLOSED, WRITE by WRITABLE and WRITE_CLOSED
 * @waker:     borrowed; a copy replaces the slot's when the answer is RDY_PENDING. The replaced
 *             waker is not run: one task for each direction.
 * @event:     written when the answer is 0
 *
 * When ready it takes no lock and keeps no waker.
 *
 * Context: any thread; does not block.
 * Return:  0, RDY_PENDING, -ESHUTDOWN, or the errno with which the kernel refused the file.
 */
RDY_API RDY_NODISCARD int rdy_poll_readiness(struct rdy_registration *reg,
                                             enum rdy_direction direction,
                                             const struct rdy_waker *waker,
                                             struct rdy_event *event);

/**
 * rdy_ready_event() - what is ready now, stamped for a later clear
 * @reg:      borrowed
 * @interest: only flags that satisfy it are reported
 *
 * Context: any thread; no lock, no waker.
 */
RDY_API struct rdy_event rdy_ready_event(const struct rdy_registration *reg, uint32_t interest);

/**
 * rdy_clear_readiness() - an operation answered EAGAIN: drop what was seen
 * @reg:   borrowed
 * @event: the event that told the caller to try
 *
 * Removes the event's flags in each direction where no newer event came; the closed flags stay.
 * Too late a clear changes nothing. Harmless after shutdown.
 *
 * Context: any thread.
 */
RDY_API void rdy_clear_readiness(struct rdy_registration *reg, struct rdy_event event);

/**
 * rdy_assume_ready() - set flags on a guess, without an event
 * @reg:   borrowed
 * @ready: RDY_* flags, closed ones excepted
 *
 * For a socket just accepted or paired: trying at once saves a round through the kernel, a wrong
 * guess costs one EAGAIN. Does nothing after shutdown. Waiters are woken here and now; their
 * wakers must not deregister @reg.
 *
 * Context: any thread.
 */
RDY_API void rdy_assume_ready(struct rdy_registration *reg, uint32_t ready);

/*
 * A wait that can be cancelled: Init -> Waiting -> Done. The caller's memory, kept by the engine
 * from the first RDY_PENDING until the wait is done or cancelled. Fields are private.
 */
struct rdy_readiness {
    struct rdy_link link;
    struct rdy_waker waker;
    struct rdy_scheduled_io *io;
    struct rdy_a32 is_ready;
    int32_t result;
    uint32_t generation;
    uint8_t interest;
    uint8_t state;
};

/* Prepares a wait for @interest on @reg (kept until done or cancelled). The initial state. */
RDY_API void rdy_readiness_init(struct rdy_readiness *wait, struct rdy_registration *reg,
                                uint32_t interest);

/**
 * rdy_readiness_poll() - advance the wait
 * @wait:  kept while the answer is RDY_PENDING
 * @waker: borrowed; copied, replacing the one of an earlier poll
 * @event: written when the answer is 0: current flags of the interest, current ticks. May hold no
 *         flag, if another task cleared first: init again and wait again.
 *
 * After an answer other than RDY_PENDING the wait is done; init it to use it again. Waiters of one
 * registration are woken in the order in which they came.
 *
 * Context: any thread, one at a time for one wait.
 * Return:  0, RDY_PENDING, -ESHUTDOWN, -ECANCELED (deregistered meanwhile), or the errno with which
 *          the kernel refused the file.
 */
RDY_API RDY_NODISCARD int rdy_readiness_poll(struct rdy_readiness *wait,
                                             const struct rdy_waker *waker,
                                             struct rdy_event *event);

/**
 * rdy_readiness_cancel() - give the wait up, in any state
 * @wait: the caller's again on return
 *
 * No readiness is lost by it. False means that a wake was already on its way: the waker has run
 * or is about to, and what it points to must bear that. After an answer on another thread than the
 * driver's, the waker that led to it may also be about to run.
 *
 * Context: any thread, not during a poll of the same wait.
 * Return:  true if no waker of this wait will run any more.
 */
RDY_API bool rdy_readiness_cancel(struct rdy_readiness *wait);

/* One nonblocking attempt: a count, 0, or -errno; -EAGAIN means "was not ready after all". */
typedef ssize_t rdy_io_fn(int fd, void *arg);

/**
 * rdy_try_io() - run @fn once if the cached readiness says so
 * @reg:      borrowed
 * @interest: what must be ready
 * @fn:       called at most once
 * @arg:      passed through
 *
 * Context: any thread.
 * Return:  what @fn returned; -EAGAIN without calling it if nothing is cached; -ESHUTDOWN.
 *          If @fn says -EAGAIN, the readiness that was seen is cleared.
 */
RDY_API RDY_NODISCARD ssize_t rdy_try_io(struct rdy_registration *reg, uint32_t interest,
                                         rdy_io_fn *fn, void *arg);

/**
 * rdy_poll_io() - run @fn until it has an answer, waiting in a direction's poll slot
 * @reg:       borrowed
 * @direction: the slot
 * @waker:     borrowed, copied when the answer is RDY_PENDING
 * @fn:        called when ready; again after a newer event; at most 8 times in one call, then
 *             the waker is run and the answer is RDY_PENDING, so that a file whose readiness never
 *             clears cannot hold the thread
 * @arg:       passed through
 *
 * Context: any thread, one at a time for one direction.
 * Return:  what @fn returned, RDY_PENDING, -ESHUTDOWN, or the errno of a refused file.
 */
RDY_API RDY_NODISCARD ssize_t rdy_poll_io(struct rdy_registration *reg,
                                          enum rdy_direction direction,
                                          const struct rdy_waker *waker, rdy_io_fn *fn, void *arg);

/**
 * rdy_async_io() - the same over a cancellable wait, for any interest and any number of waiters
 * @wait:  initialised by rdy_readiness_init(); kept while the answer is RDY_PENDING; initialised
 *         again by the call when it has an answer, -ECANCELED excepted
 *
 * Context: any thread, one at a time for one wait.
 * Return:  as rdy_poll_io(), or -ECANCELED.
 */
RDY_API RDY_NODISCARD ssize_t rdy_async_io(struct rdy_readiness *wait,
                                           const struct rdy_waker *waker, rdy_io_fn *fn, void *arg);

RDY_END_DECLS

#endif
