/* SPDX-License-Identifier: MIT */
/*
 * A runtime inside somebody else's loop: poll(2), libuv, GLib, a game's frame.
 *
 * Open the runtime with driver.is_embedded set. The outer loop watches rdy_runtime_fd() for
 * reading, sleeps for no longer than rdy_runtime_timeout_ns(), and calls rdy_runtime_turn() when
 * either is due:
 *
 *     struct pollfd fds[] = {{.fd = rdy_runtime_fd(runtime), .events = POLLIN}, ...};
 *
 *     do {
 *         poll(fds, fds_count, in_milliseconds(rdy_runtime_timeout_ns(runtime)));
 *         ... what else the loop has to do ...
 *         rc = rdy_runtime_turn(runtime, 0);
 *     } while (rc == RDY_TURN_IDLE || rc == RDY_TURN_MORE);
 *
 * No wake is lost between a turn and the loop's sleep. Whatever happens to the runtime outside of a
 * turn makes the descriptor readable: readiness; a task that another thread, or a callback of the
 * outer loop, wakes or spawns; a registration made or given back; a timer that is armed as the
 * first to fire; rdy_runtime_stop() and rdy_runtime_shutdown(). What a turn itself left to be done
 * it says in its answer.
 *
 * On io_uring the kernel interrupts a sleep of the runtime's thread to do the ring's work. poll(2),
 * select(2) and nanosleep(2) go on by themselves; epoll_wait(2) returns EINTR, without any signal:
 * call it again.
 */
#ifndef RDY_EMBED_H
#define RDY_EMBED_H

#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/* What rdy_runtime_turn() answers. */
enum rdy_turn {
    RDY_TURN_IDLE = 0,    /* nothing can run: sleep until the descriptor or the timeout says so */
    RDY_TURN_MORE = 1,    /* more can run at once: turn again before sleeping */
    RDY_TURN_STOPPED = 2, /* rdy_runtime_stop() was called: said once, and further turns go on; or
                             the runtime has shut down: said by every further turn */
};

/**
 * rdy_runtime_turn() - one bounded round of a runtime
 * @runtime:    borrowed; embedded or not
 * @timeout_ns: how long it may block if no task can run: 0 never, negative until something happens
 *
 * Takes in what other threads woke and spawned, polls at most event_interval tasks, turns the
 * driver once and fires the timers that are due: what rdy_runtime_run() does again and again. It
 * does not end for want of tasks: there may be registrations and timers without one.
 *
 * Context: the runtime's thread, not from within a task, a waker or a timer of this runtime.
 * Return:  an enum rdy_turn, or -errno as rdy_driver_turn() when the driver died.
 */
RDY_API RDY_NODISCARD int rdy_runtime_turn(struct rdy_runtime *runtime, int64_t timeout_ns);

/**
 * rdy_runtime_timeout_ns() - how long the outer loop may sleep
 * @runtime: borrowed
 *
 * Holds until the next turn: a timer that is armed meanwhile and is due before makes the descriptor
 * readable. Round up if the loop counts in milliseconds; rounded down, it would turn for nothing
 * until the timer is due.
 *
 * Context: the runtime's thread.
 * Return:  nanoseconds until the next timer; 0: something can run now; -1: no limit.
 */
RDY_API RDY_NODISCARD int64_t rdy_runtime_timeout_ns(struct rdy_runtime *runtime);

/**
 * rdy_runtime_fd() - a descriptor that polls readable when a turn would find something
 * @runtime: borrowed; opened with driver.is_embedded set
 *
 * Level-triggered, and reset by the turn alone. It may be readable once for nothing. Timers do not
 * make it readable when they are due: that is what rdy_runtime_timeout_ns() is for.
 *
 * Context: any thread. The descriptor is borrowed: do not read it, do not close it.
 * Return:  the descriptor, or -EINVAL if the runtime was not opened for embedding.
 */
RDY_API RDY_NODISCARD int rdy_runtime_fd(const struct rdy_runtime *runtime);

RDY_END_DECLS

#endif
