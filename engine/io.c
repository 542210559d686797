/* SPDX-License-Identifier: MIT */
/*
 * Polling a direction, and running an operation against cached readiness: the calls of
 * registration.h that users live in. Any thread; nothing here is global.
 */
#include "engine/driver.h"
#include "engine/scheduled_io.h"

/*
 * An operation that keeps saying EAGAIN although readiness does not clear (a final flag on a file
 * that lies) would hold the thread for ever; after this many tries it goes to the end of the queue.
 */
#define IO_TRIES_MAX 8

static inline uint32_t direction_mask(enum rdy_direction direction)
{
    return direction == RDY_DIRECTION_READ ? RDY_READABLE | RDY_READ_CLOSED
                                           : RDY_WRITABLE | RDY_WRITE_CLOSED;
}

RDY_HOT int rdy_poll_readiness(struct rdy_registration *reg, enum rdy_direction direction,
                               const struct rdy_waker *waker, struct rdy_event *event)
{
    struct rdy_scheduled_io *io = reg->io;
    uint32_t mask = direction_mask(direction);
    uint64_t word;

    rdy_assert(io);
    word = rdy_a64_load_acquire(&io->word);
    if (rdy_unlikely(rdy_word_is_ended(word)))
        return rdy_scheduled_io_error(io);
    if ((word & mask) == 0)
        return rdy_scheduled_io_wait_in_slot(io, direction, waker, event);
    *event = rdy_word_event(word, mask);
    return 0;
}

RDY_HOT struct rdy_event rdy_ready_event(const struct rdy_registration *reg, uint32_t interest)
{
    rdy_assert(reg->io);
    return rdy_scheduled_io_event(reg->io, rdy_interest_mask(interest));
}

RDY_HOT void rdy_clear_readiness(struct rdy_registration *reg, struct rdy_event event)
{
    rdy_assert(reg->io);
    if (!rdy_scheduled_io_clear(reg->io, event))
        (void)rdy_a64_add_relaxed(&reg->driver->any.stale_clears, 1);
}

void rdy_assume_ready(struct rdy_registration *reg, uint32_t ready)
{
    uint64_t word;

    rdy_assert(reg->io);
    rdy_assert((ready & ~(RDY_READY_ALL & ~RDY_FINAL)) == 0);
    word = rdy_scheduled_io_assume(reg->io, ready);
    if (!rdy_word_is_ended(word) && (~word & ready) != 0)
        (void)rdy_scheduled_io_wake(reg->io, ready);
}

ssize_t rdy_try_io(struct rdy_registration *reg, uint32_t interest, rdy_io_fn *fn, void *arg)
{
    struct rdy_event event;
    ssize_t result = rdy_cached_event(reg, interest, &event);

    if (result != 0)
        return result;
    result = fn(reg->io->fd, arg);
    if (result == -EAGAIN)
        rdy_clear_readiness(reg, event);
    return result;
}

ssize_t rdy_poll_io(struct rdy_registration *reg, enum rdy_direction direction,
                    const struct rdy_waker *waker, rdy_io_fn *fn, void *arg)
{
    for (int tries = 0; tries < IO_TRIES_MAX; tries++) {
        struct rdy_event event;
        ssize_t result = rdy_poll_readiness(reg, direction, waker, &event);

        if (result != 0)
            return result;
        result = fn(reg->io->fd, arg);
        if (result != -EAGAIN)
            return result;
        rdy_clear_readiness(reg, event);
    }
    rdy_waker_wake(waker);
    return RDY_PENDING;
}

ssize_t rdy_async_io(struct rdy_readiness *wait, const struct rdy_waker *waker, rdy_io_fn *fn,
                     void *arg)
{
    for (int tries = 0; tries < IO_TRIES_MAX; tries++) {
        struct rdy_registration reg;
        struct rdy_event event;
        ssize_t result = rdy_readiness_poll(wait, waker, &event);

        if (result == RDY_PENDING)
            return result;
        /* For the same registration: after an error its slot may be another's by now. */
        *wait = (struct rdy_readiness){
            .io = wait->io, .generation = wait->generation, .interest = wait->interest};
        if (result != 0)
            return result;
        reg = (struct rdy_registration){.driver = wait->io->driver, .io = wait->io};
        if (rdy_event_ready(event) == 0)
            continue;
        result = fn(reg.io->fd, arg);
        if (result != -EAGAIN)
            return result;
        rdy_clear_readiness(&reg, event);
    }
    rdy_waker_wake(waker);
    return RDY_PENDING;
}
