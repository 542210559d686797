/* SPDX-License-Identifier: MIT */
/*
 * The cancellable wait: Init -> Waiting -> Done, after Tokio's Readiness future.
 *
 * A wait that was told that it is ready no longer touches the entry's list; one whose registration
 * has ended no longer touches the entry, which may be another file's by then.
 */
#include "engine/driver.h"
#include "engine/scheduled_io.h"

enum wait_state {
    WAIT_INIT = 0,
    WAIT_WAITING,
    WAIT_DONE,
};

void rdy_readiness_init(struct rdy_readiness *wait, struct rdy_registration *reg, uint32_t interest)
{
    rdy_assert(reg->io);
    rdy_assert(interest != 0 && (interest & ~RDY_INTEREST_ALL) == 0);
    *wait = (struct rdy_readiness){
        .io = reg->io,
        .generation = rdy_a32_load_relaxed(&reg->io->head.generation),
        .interest = (uint8_t)interest,
    };
}

/* The answer now: 0 and @event (which may hold no flag), or the entry's error. */
static int wait_finish(struct rdy_readiness *wait, struct rdy_event *event)
{
    uint64_t word = rdy_a64_load_acquire(&wait->io->word);

    wait->state = WAIT_DONE;
    if (rdy_word_is_ended(word))
        return rdy_scheduled_io_error(wait->io);
    *event = rdy_word_event(word, rdy_interest_mask(wait->interest));
    return 0;
}

/*
 * A wait that is in no list cannot be found by a deregistration: one that has not begun, or that
 * was woken and not polled yet. The generation tells: it may be read at any address that was an
 * entry, and changes when the slot is given back.
 */
static bool entry_is_still_ours(const struct rdy_readiness *wait)
{
    return rdy_a32_load_acquire(&wait->io->head.generation) == wait->generation;
}

static int wait_start(struct rdy_readiness *wait, const struct rdy_waker *waker,
                      struct rdy_event *event)
{
    uint64_t word;

    if (rdy_unlikely(!entry_is_still_ours(wait))) {
        wait->state = WAIT_DONE;
        return -ECANCELED;
    }
    word = rdy_a64_load_acquire(&wait->io->word);
    if (rdy_word_is_ended(word) || (word & rdy_interest_mask(wait->interest)) != 0)
        return wait_finish(wait, event);

    wait->waker = *waker;
    wait->state = WAIT_WAITING;
    if (rdy_scheduled_io_link(wait->io, wait) != 0)
        return wait_finish(wait, event);
    return RDY_PENDING;
}

/* It was woken: by readiness, by the end, or by a deregistration. */
static int wait_woken(struct rdy_readiness *wait, struct rdy_event *event)
{
    int rc;

    if (wait->result < 0 || !entry_is_still_ours(wait)) {
        wait->state = WAIT_DONE;
        return wait->result < 0 ? wait->result : -ECANCELED;
    }
    rc = wait_finish(wait, event);
    if (rc == 0 && rdy_event_ready(*event) == 0)
        rdy_driver_count_spurious_wake(wait->io->driver);
    return rc;
}

int rdy_readiness_poll(struct rdy_readiness *wait, const struct rdy_waker *waker,
                       struct rdy_event *event)
{
    rdy_assert(wait->state != WAIT_DONE);
    if (wait->state == WAIT_INIT)
        return wait_start(wait, waker, event);

    /* Acquire: pairs with the release in take_due(), scheduled_io.c; shows the result. */
    if (rdy_a32_load_acquire(&wait->is_ready) == 0 &&
        rdy_scheduled_io_rewake(wait->io, wait, waker))
        return RDY_PENDING;
    return wait_woken(wait, event);
}

bool rdy_readiness_cancel(struct rdy_readiness *wait)
{
    bool was_waiting = wait->state == WAIT_WAITING;
    bool is_quiet = true;

    wait->state = WAIT_DONE;
    if (!was_waiting)
        return true;
    if (rdy_a32_load_acquire(&wait->is_ready) != 0)
        is_quiet = false;
    else
        is_quiet = rdy_scheduled_io_unlink(wait->io, wait);
    return is_quiet;
}
