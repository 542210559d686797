/* SPDX-License-Identifier: MIT */
/*
 * The atomic transitions of a ScheduledIo, and its waiters.
 *
 * No wake is lost because both sides order their steps so that they meet at the lock: a setter
 * changes the word, then takes the lock; a waiter looks at the word again under the lock in which
 * it leaves its waker. Whoever takes the lock second sees the other. Wakers are run, replaced and
 * forgotten as values: nothing of a waiter is touched after it was told that it is ready, because
 * it may be gone by then.
 */
#include "engine/scheduled_io.h"

#include "engine/list.h"
#include "engine/wakes.h"

static inline struct rdy_readiness *wait_of(struct rdy_link *link)
{
    return rdy_container_of(link, struct rdy_readiness, link);
}

void rdy_scheduled_io_init(struct rdy_scheduled_io *io, struct rdy_driver *driver, int fd)
{
    /* Release: who reads these and looks at the generation then finds that it has changed. */
    rdy_a32_store_release(&io->waitq.error, 0);
    rdy_a64_store_release(&io->word, 0);
    rdy_list_init(&io->waitq.waiters);
    io->driver = driver;
    io->fd = fd;
}

RDY_HOT uint64_t rdy_scheduled_io_set(struct rdy_scheduled_io *io, uint32_t ready)
{
    uint64_t word = rdy_a64_load_relaxed(&io->word);

    while (!rdy_a64_cas_acq_rel(&io->word, &word, rdy_word_set(word, ready)))
        ;
    return word;
}

uint64_t rdy_scheduled_io_assume(struct rdy_scheduled_io *io, uint32_t ready)
{
    uint64_t word = rdy_a64_load_relaxed(&io->word);

    while (!rdy_a64_cas_acq_rel(&io->word, &word, rdy_word_assume(word, ready)))
        ;
    return word;
}

RDY_HOT bool rdy_scheduled_io_clear(struct rdy_scheduled_io *io, struct rdy_event seen)
{
    uint64_t word = rdy_a64_load_relaxed(&io->word);
    uint64_t next;

    do {
        next = rdy_word_clear(word, seen);
        if (next == word)
            break;
    } while (!rdy_a64_cas_acq_rel(&io->word, &word, next));
    return !rdy_word_is_newer(word, seen);
}

void rdy_scheduled_io_forget(struct rdy_scheduled_io *io)
{
    uint64_t word = rdy_a64_load_relaxed(&io->word);

    while (!rdy_a64_cas_acq_rel(&io->word, &word, rdy_word_forget(word)))
        ;
}

void rdy_scheduled_io_end(struct rdy_scheduled_io *io, int error)
{
    struct rdy_waitq *queue = &io->waitq;
    uint64_t word;

    rdy_lock_acquire(&queue->lock);
    word = rdy_a64_load_relaxed(&io->word);
    if (!rdy_word_is_ended(word))
        rdy_a32_store_release(&queue->error, (uint32_t)-error); /* as in the init */
    /* Release: publishes the error to whoever sees the mark. */
    while (!rdy_a64_cas_acq_rel(&io->word, &word, rdy_word_end(word)))
        ;
    rdy_lock_release(&queue->lock);
}

int rdy_scheduled_io_error(const struct rdy_scheduled_io *io)
{
    /* Written once, before the mark that the caller saw. Acquire: pairs with the init. */
    uint32_t error = rdy_a32_load_acquire(&io->waitq.error);

    return error != 0 ? -(int)error : -ESHUTDOWN;
}

/* Takes the wakers of the slots that @ready satisfies. */
static void take_slots(struct rdy_waitq *queue, uint32_t ready, struct rdy_wakes *wakes)
    RDY_REQUIRES(queue->lock);
static void take_slots(struct rdy_waitq *queue, uint32_t ready, struct rdy_wakes *wakes)
{
    struct rdy_waker *reader = &queue->slot[RDY_DIRECTION_READ];
    struct rdy_waker *writer = &queue->slot[RDY_DIRECTION_WRITE];

    if (reader->fn && rdy_ready_is_readable(ready)) {
        rdy_wakes_add(wakes, reader);
        reader->fn = NULL;
    }
    if (writer->fn && rdy_ready_is_writable(ready)) {
        rdy_wakes_add(wakes, writer);
        writer->fn = NULL;
    }
}

/* Moves the waiters that @ready satisfies to @due, in order. One pass, whatever their number. */
static void move_due(struct rdy_waitq *queue, uint32_t ready, struct rdy_link *due)
    RDY_REQUIRES(queue->lock);
static void move_due(struct rdy_waitq *queue, uint32_t ready, struct rdy_link *due)
{
    struct rdy_link *link = queue->waiters.next;

    while (link != &queue->waiters) {
        struct rdy_link *next = link->next;

        if (rdy_interest_mask(wait_of(link)->interest) & ready) {
            rdy_list_unlink(link);
            rdy_list_push_back(due, link);
        }
        link = next;
    }
}

/* Copies wakers out of @due until the list is empty or @wakes is full; true if it is full. */
static bool take_due(struct rdy_waitq *queue, struct rdy_link *due, int result,
                     struct rdy_wakes *wakes) RDY_REQUIRES(queue->lock);
static bool take_due(struct rdy_waitq *queue, struct rdy_link *due, int result,
                     struct rdy_wakes *wakes)
{
    while (!rdy_wakes_is_full(wakes)) {
        struct rdy_link *link = rdy_list_pop(due);
        struct rdy_readiness *wait;

        if (!link)
            return false;
        wait = wait_of(link);
        rdy_assert(rdy_a32_load_relaxed(&wait->is_ready) == 0);
        rdy_wakes_add(wakes, &wait->waker);
        /* It may have ended while the lock was dropped; then nobody may look at it any more. */
        wait->result = result ? result : -(int)rdy_a32_load_relaxed(&queue->error);
        /* The last touch: its owner may free it now. Pairs with the load in readiness.c. */
        rdy_a32_store_release(&wait->is_ready, 1);
    }
    return true;
}

/*
 * Those who wait now are first moved to a list of our own, still guarded by the same lock so that a
 * cancel finds them there. That bounds the loop: a waker that waits again joins the queue, not us.
 */
static uint32_t wake_with(struct rdy_scheduled_io *io, uint32_t ready, int result,
                          struct rdy_wakes *wakes) RDY_REQUIRES(io->waitq.lock)
    RDY_RELEASES(io->waitq.lock) RDY_UNCHECKED
{
    struct rdy_waitq *queue = &io->waitq;
    struct rdy_link due;
    uint32_t count = 0;

    rdy_list_init(&due);
    move_due(queue, ready, &due);
    while (take_due(queue, &due, result, wakes)) {
        rdy_lock_release(&queue->lock);
        count += rdy_wakes_run(wakes);
        rdy_lock_acquire(&queue->lock);
    }
    rdy_lock_release(&queue->lock);
    return count + rdy_wakes_run(wakes);
}

RDY_HOT uint32_t rdy_scheduled_io_wake(struct rdy_scheduled_io *io, uint32_t ready) RDY_UNCHECKED
{
    struct rdy_wakes wakes;

    wakes.count = 0;
    rdy_lock_acquire(&io->waitq.lock);
    take_slots(&io->waitq, ready, &wakes);
    if (rdy_unlikely(!rdy_list_is_empty(&io->waitq.waiters)))
        return wake_with(io, ready, 0, &wakes);
    rdy_lock_release(&io->waitq.lock);
    return rdy_wakes_run(&wakes);
}

void rdy_scheduled_io_cancel_all(struct rdy_scheduled_io *io, int result) RDY_UNCHECKED
{
    struct rdy_wakes wakes;

    wakes.count = 0;
    rdy_lock_acquire(&io->waitq.lock);
    io->waitq.slot[RDY_DIRECTION_READ].fn = NULL;
    io->waitq.slot[RDY_DIRECTION_WRITE].fn = NULL;
    (void)wake_with(io, RDY_READY_ALL, result, &wakes);
}

RDY_HOT int rdy_scheduled_io_wait_for(struct rdy_scheduled_io *io, enum rdy_direction direction,
                                      uint32_t mask, const struct rdy_waker *waker,
                                      struct rdy_event *event)
{
    uint64_t word;
    bool is_ready;

    /* Kept only if the answer is "not yet": what a waker points to may be gone after another. */
    rdy_lock_acquire(&io->waitq.lock);
    word = rdy_a64_load_acquire(&io->word);
    is_ready = rdy_word_is_ended(word) || (word & mask) != 0;
    if (!is_ready)
        io->waitq.slot[direction] = *waker;
    rdy_lock_release(&io->waitq.lock);

    if (!is_ready)
        return RDY_PENDING;
    if (rdy_word_is_ended(word))
        return rdy_scheduled_io_error(io);
    *event = rdy_word_event(word, mask);
    return 0;
}

RDY_HOT int rdy_scheduled_io_wait_in_slot(struct rdy_scheduled_io *io, enum rdy_direction direction,
                                          const struct rdy_waker *waker, struct rdy_event *event)
{
    uint32_t mask = direction == RDY_DIRECTION_READ ? RDY_READABLE | RDY_READ_CLOSED
                                                    : RDY_WRITABLE | RDY_WRITE_CLOSED;

    return rdy_scheduled_io_wait_for(io, direction, mask, waker, event);
}

int rdy_scheduled_io_link(struct rdy_scheduled_io *io, struct rdy_readiness *wait)
{
    uint64_t word;
    int is_ready;

    rdy_debug(wait->io == io);
    rdy_lock_acquire(&io->waitq.lock);
    word = rdy_a64_load_acquire(&io->word);
    is_ready = rdy_word_is_ended(word) || (word & rdy_interest_mask(wait->interest)) != 0;
    if (!is_ready)
        rdy_list_push_back(&io->waitq.waiters, &wait->link);
    rdy_lock_release(&io->waitq.lock);
    return is_ready;
}

bool rdy_scheduled_io_rewake(struct rdy_scheduled_io *io, struct rdy_readiness *wait,
                             const struct rdy_waker *waker)
{
    bool is_waiting;

    rdy_debug(wait->io == io);
    rdy_lock_acquire(&io->waitq.lock);
    is_waiting = rdy_a32_load_relaxed(&wait->is_ready) == 0;
    if (is_waiting)
        wait->waker = *waker;
    rdy_lock_release(&io->waitq.lock);
    return is_waiting;
}

bool rdy_scheduled_io_unlink(struct rdy_scheduled_io *io, struct rdy_readiness *wait)
{
    bool is_waiting;

    rdy_debug(wait->io == io);
    rdy_lock_acquire(&io->waitq.lock);
    is_waiting = rdy_a32_load_relaxed(&wait->is_ready) == 0;
    if (is_waiting)
        rdy_list_unlink(&wait->link);
    rdy_lock_release(&io->waitq.lock);
    return is_waiting;
}
