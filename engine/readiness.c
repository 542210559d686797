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

/*
 * A wait that is in no list cannot be found by a deregistration: one that has not begun, or that
 * was woken and not polled yet. The driver's thread may give the entry's slot back as we look, and
 * somebody take it. So first look at the entry, at what may be read at any address that was one;
 * then at the generation, which changes before all else: if it is ours, so was what we saw.
 */
static bool entry_was_ours(const struct rdy_readiness *wait)
{
    return rdy_a32_load_acquire(&wait->io->head.generation) == wait->generation;
}

/* Done: @event (which may hold no flag) or the entry's error, by what its word was. */
static int wait_finish(struct rdy_readiness *wait, uint64_t word, struct rdy_event *event)
{
    int rc = rdy_word_is_ended(word) ? rdy_scheduled_io_error(wait->io) : 0;

    wait->state = WAIT_DONE;
    if (rdy_unlikely(!entry_was_ours(wait)))
        return -ECANCELED;
    if (rc == 0)
        *event = rdy_word_event(word, rdy_interest_mask(wait->interest));
    return rc;
}

static int wait_start(struct rdy_readiness *wait, const struct rdy_waker *waker,
                      struct rdy_event *event)
{
    uint64_t word = rdy_a64_load_acquire(&wait->io->word);

    if (rdy_word_is_ended(word) || (word & rdy_interest_mask(wait->interest)) != 0)
        return wait_finish(wait, word, event);
    if (rdy_unlikely(!entry_was_ours(wait))) {
        wait->state = WAIT_DONE;
        return -ECANCELED;
    }
    /* Neither ended nor another's: it is registered, and stays so during this call. */
    wait->waker = *waker;
    wait->state = WAIT_WAITING;
    if (rdy_scheduled_io_link(wait->io, wait) != 0)
        return wait_finish(wait, rdy_a64_load_acquire(&wait->io->word), event);
    return RDY_PENDING;
}

/* It was woken: by readiness, by the end, or by a deregistration. */
static int wait_woken(struct rdy_readiness *wait, struct rdy_event *event)
{
    int rc;

    if (wait->result < 0) {
        wait->state = WAIT_DONE;
        return wait->result;
    }
    rc = wait_finish(wait, rdy_a64_load_acquire(&wait->io->word), event);
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
