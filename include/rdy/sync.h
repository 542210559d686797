/* SPDX-License-Identifier: MIT */
/*
 * What tasks of one runtime wait for each other with: a notification, a semaphore, a bounded
 * channel.
 *
 * All of it belongs to one thread, the runtime's, and costs no atomics: nothing can happen between
 * a task's look at its condition and its wait. Another thread hands the runtime a task that does
 * the call (rdy_spawn_remote()), or writes to an eventfd that a task of the runtime watches. Who
 * does not wait may call from anywhere on that thread: a timer's waker, a drop, an outer loop.
 *
 * A wait stands in a struct rdy_waiter: the caller's memory, {0} before its first use, kept while
 * a poll has said RDY_PENDING, for one wait at a time. Waiters are served in the order in which
 * they came. A wait may be given up at RDY_PENDING, by rdy_waiter_cancel(): what it had been given
 * and not taken yet goes to the next, so nothing is lost. A task that may end while it waits
 * cancels in its drop. What is waited for must outlive the wait.
 *
 * The fairness, the permits and the cancellation rules are those of Tokio's sync module.
 */
#ifndef RDY_SYNC_H
#define RDY_SYNC_H

#include <rdy/task.h>

RDY_BEGIN_DECLS

/* Fields are private. */
struct rdy_waiter {
    struct rdy_waiter *next;
    struct rdy_waiter *prev;
    void *owner; /* the notification or the semaphore */
    struct rdy_waker waker;
    uint32_t wanted;
    uint32_t state;
};

/* Fields are private. */
struct rdy_waiters {
    struct rdy_waiter *first;
    struct rdy_waiter *last;
};

/* Gives a wait up, whatever it is for. {0}, and one that has ended, are fine. */
RDY_API void rdy_waiter_cancel(struct rdy_waiter *waiter);

/* --- notification: "look again", without saying at what --- */

/* The caller's memory, {0} before its first use; fields are private. */
struct rdy_notify {
    struct rdy_waiters waiters;
    bool has_permit;
};

/**
 * rdy_notify_one() - wake the task that has waited longest
 * @notify: borrowed
 *
 * If nobody waits, the next wait ends at once: one permit is kept, however often this is called.
 */
RDY_API void rdy_notify_one(struct rdy_notify *notify);

/* Wakes all who wait now; keeps no permit for those who come later. */
RDY_API void rdy_notify_all(struct rdy_notify *notify);

/**
 * rdy_notify_poll() - wait for a notification
 * @notify: kept while RDY_PENDING
 * @task:   being polled; woken by the notification
 * @waiter: kept while RDY_PENDING
 *
 * Look at the condition, then poll: a notification that comes after the look is not missed. Given
 * up after rdy_notify_one() chose this wait, the notification goes to the next.
 *
 * Return: 0 or RDY_PENDING. An answer costs one operation of the budget.
 */
RDY_API RDY_NODISCARD int rdy_notify_poll(struct rdy_notify *notify, struct rdy_task *task,
                                          struct rdy_waiter *waiter);

/* --- semaphore: so many at a time --- */

/* The caller's memory, {0} has no permits; fields are private. */
struct rdy_semaphore {
    struct rdy_waiters waiters;
    uint32_t permits;
    bool is_closed;
};

/* Sets how many permits there are, nobody waiting. */
RDY_API void rdy_semaphore_init(struct rdy_semaphore *semaphore, uint32_t permits);

/**
 * rdy_semaphore_poll_acquire() - take permits, all or none
 * @semaphore: kept while RDY_PENDING
 * @task:      being polled; woken when it has the permits
 * @waiter:    kept while RDY_PENDING
 * @permits:   how many; the same in each poll of one wait
 *
 * First come, first served: who wants many is not passed by those who want few. Give them back by
 * rdy_semaphore_release(), in a drop if the task may end before.
 *
 * Return: 0, RDY_PENDING, or -ESHUTDOWN. An answer costs one operation of the budget.
 */
RDY_API RDY_NODISCARD int rdy_semaphore_poll_acquire(struct rdy_semaphore *semaphore,
                                                     struct rdy_task *task,
                                                     struct rdy_waiter *waiter, uint32_t permits);

/* Takes permits if they are there and nobody waits. Return: 0, -EAGAIN, -ESHUTDOWN. */
RDY_API RDY_NODISCARD int rdy_semaphore_try_acquire(struct rdy_semaphore *semaphore,
                                                    uint32_t permits);

/* Adds permits, whether they were taken before or are new: at most 2^32 - 1 in all. */
RDY_API void rdy_semaphore_release(struct rdy_semaphore *semaphore, uint32_t permits);

/* How many permits nobody has. */
RDY_API uint32_t rdy_semaphore_available(const struct rdy_semaphore *semaphore);

/* Whoever waits, or comes later, gets -ESHUTDOWN; who was given permits before keeps them. */
RDY_API void rdy_semaphore_close(struct rdy_semaphore *semaphore);

/* --- channel: items of one size, first in, first out --- */

/* The caller's memory, {0} is closed; fields are private. */
struct rdy_channel {
    struct rdy_semaphore room;
    struct rdy_semaphore items;
    char *ring;
    size_t item_size;
    uint32_t capacity;
    uint32_t first; /* the place of the oldest item */
    uint32_t count;
};

/**
 * rdy_channel_open() - make a channel
 * @channel:   written on success only; free with rdy_channel_close()
 * @item_size: bytes of an item, which is copied in and out; not 0
 * @capacity:  items that it holds before senders wait; not 0
 *
 * Return: 0, -ENOMEM, or -EINVAL.
 */
RDY_API RDY_NODISCARD int rdy_channel_open(struct rdy_channel *channel, size_t item_size,
                                           uint32_t capacity);

/**
 * rdy_channel_poll_send() - put an item in, waiting for room
 * @channel: kept while RDY_PENDING
 * @task:    being polled; woken when it has room
 * @waiter:  kept while RDY_PENDING; of this task alone
 * @item:    borrowed for this call only; copied with an answer of 0
 *
 * Any number of tasks may send. Given up at RDY_PENDING, nothing was sent.
 *
 * Return: 0, RDY_PENDING, or -ESHUTDOWN. An answer costs one operation of the budget.
 */
RDY_API RDY_NODISCARD int rdy_channel_poll_send(struct rdy_channel *channel, struct rdy_task *task,
                                                struct rdy_waiter *waiter, const void *item);

/* Puts an item in if there is room and nobody waits for it. Return: 0, -EAGAIN, -ESHUTDOWN. */
RDY_API RDY_NODISCARD int rdy_channel_try_send(struct rdy_channel *channel, const void *item);

/**
 * rdy_channel_poll_recv() - take the oldest item out, waiting for one
 * @channel: kept while RDY_PENDING
 * @task:    being polled; woken when there is an item for it
 * @waiter:  kept while RDY_PENDING; of this task alone
 * @item:    borrowed for this call only; written with an answer of 0
 *
 * Any number of tasks may receive; each item goes to one of them. Given up at RDY_PENDING, no item
 * is lost.
 *
 * Return: 0, RDY_PENDING, or -ESHUTDOWN: the channel was shut and is empty. An answer costs one
 *         operation of the budget.
 */
RDY_API RDY_NODISCARD int rdy_channel_poll_recv(struct rdy_channel *channel, struct rdy_task *task,
                                                struct rdy_waiter *waiter, void *item);

/* Takes the oldest item that no waiting task has been given. Return: 0, -EAGAIN, -ESHUTDOWN. */
RDY_API RDY_NODISCARD int rdy_channel_try_recv(struct rdy_channel *channel, void *item);

/* Items inside, those that a woken receiver has not taken yet included. */
RDY_API uint32_t rdy_channel_count(const struct rdy_channel *channel);

/* No more goes in: senders get -ESHUTDOWN, receivers when it is empty. Twice is harmless. */
RDY_API void rdy_channel_shut(struct rdy_channel *channel);

/* Shuts it and frees its memory. Items inside go with it: if they own something, take them out
 * first. Whoever waits gets -ESHUTDOWN. A closed one is fine. */
RDY_API void rdy_channel_close(struct rdy_channel *channel);

RDY_END_DECLS

#endif
