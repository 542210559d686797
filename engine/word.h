/* SPDX-License-Identifier: MIT */
/*
 * The readiness word: what one file is ready for, since when, and whether it has ended.
 *
 *  63   62  61        39 38       16 15        0
 * | end | 0 | write tick | read tick | ready    |
 *
 * A tick counts the driver's events in its direction. A clear carries the word that it saw and
 * touches a direction only if no event came since. There is a tick per direction because with a
 * shared one a write event voids a read clear, and the reader spins on EAGAIN (a livelock that was
 * shipped elsewhere, tokio #8054). Ticks are 23 bits and are compared whole: a truncated compare
 * accepts a clear that is exactly 256 events late and loses an edge (tokio #6133, #8331).
 *
 * One rule covers every transition: it may only touch the bits that it names. `end` is only ever
 * set. Transitions are pure functions on a word; scheduled_io.c makes them atomic, one loop each.
 * After the design of Tokio's scheduled_io.rs.
 */
#ifndef RDY_ENGINE_WORD_H
#define RDY_ENGINE_WORD_H

#include <rdy/ready.h>

#include "engine/base.h"

#define RDY_WORD_READY      UINT64_C(0x000000000000ffff)
#define RDY_WORD_READ_TICK  UINT64_C(0x0000007fffff0000)
#define RDY_WORD_WRITE_TICK UINT64_C(0x3fffff8000000000)
#define RDY_WORD_ZERO       UINT64_C(0x4000000000000000)
#define RDY_WORD_END        UINT64_C(0x8000000000000000)

static_assert((RDY_WORD_READY | RDY_WORD_READ_TICK | RDY_WORD_WRITE_TICK | RDY_WORD_ZERO |
               RDY_WORD_END) == UINT64_MAX,
              "the fields fill the word");
static_assert(RDY_WORD_READY + RDY_WORD_READ_TICK + RDY_WORD_WRITE_TICK + RDY_WORD_ZERO +
                      RDY_WORD_END ==
                  UINT64_MAX,
              "the fields do not overlap");
static_assert((RDY_READY_ALL & ~RDY_WORD_READY) == 0, "every flag fits");

/* Which tick stamps which flag. Errors are fetched by a read, so they belong to that side. */
#define RDY_READ_SIDE  (RDY_READABLE | RDY_READ_CLOSED | RDY_PRIORITY | RDY_ERROR)
#define RDY_WRITE_SIDE (RDY_WRITABLE | RDY_WRITE_CLOSED)
#define RDY_FINAL      (RDY_READ_CLOSED | RDY_WRITE_CLOSED)

static_assert((RDY_READ_SIDE | RDY_WRITE_SIDE) == RDY_READY_ALL, "every flag has a side");
static_assert((RDY_READ_SIDE & RDY_WRITE_SIDE) == 0, "and only one");

/* Adds one to the field @mask and drops the carry. */
static inline uint64_t rdy_word_bump(uint64_t word, uint64_t mask)
{
    uint64_t one = mask & (~mask + 1);

    return (word & ~mask) | (((word & mask) + one) & mask);
}

#define RDY_TICKS_MASK 0x7fffffu /* ticks are counted modulo 2^23 */

/* How many events the read side has seen, modulo 2^23. */
static inline uint32_t rdy_word_read_tick(uint64_t word)
{
    return (uint32_t)((word & RDY_WORD_READ_TICK) >> 16);
}

static inline bool rdy_word_is_ended(uint64_t word)
{
    return (word & RDY_WORD_END) != 0;
}

/* The driver saw @ready. Each side that it touches gets a new tick; nothing is taken away. */
static inline uint64_t rdy_word_set(uint64_t word, uint32_t ready)
{
    rdy_debug((ready & ~RDY_READY_ALL) == 0);
    if (rdy_word_is_ended(word))
        return word;
    if (ready & RDY_READ_SIDE)
        word = rdy_word_bump(word, RDY_WORD_READ_TICK);
    if (ready & RDY_WRITE_SIDE)
        word = rdy_word_bump(word, RDY_WORD_WRITE_TICK);
    return word | ready;
}

/* Somebody guesses @ready. No event, hence no tick: a clear of an earlier event still counts. */
static inline uint64_t rdy_word_assume(uint64_t word, uint32_t ready)
{
    return rdy_word_is_ended(word) ? word : word | ready;
}

/* No event came since @seen, in any direction, nor the end: what is mostly so. */
static inline bool rdy_word_is_as_seen(uint64_t word, struct rdy_event seen)
{
    return rdy_likely(((word ^ seen.word) & ~RDY_WORD_READY) == 0);
}

/* An operation refuted @seen: drop its flags where nothing came since. Final flags stay. */
static inline uint64_t rdy_word_clear(uint64_t word, struct rdy_event seen)
{
    uint64_t drop = 0;

    if (rdy_word_is_as_seen(word, seen))
        return word & ~(seen.word & RDY_WORD_READY & ~(uint64_t)RDY_FINAL);
    if (((word ^ seen.word) & RDY_WORD_READ_TICK) == 0)
        drop |= seen.word & RDY_READ_SIDE;
    if (((word ^ seen.word) & RDY_WORD_WRITE_TICK) == 0)
        drop |= seen.word & RDY_WRITE_SIDE;
    return word & ~(drop & ~(uint64_t)RDY_FINAL);
}

/* Whoever told of readiness tells no more: what it said may be old by now. Final flags, too. */
static inline uint64_t rdy_word_forget(uint64_t word)
{
    return word & ~RDY_WORD_READY;
}

/* True if an event came after @seen, in a direction of which @seen holds a flag. */
static inline bool rdy_word_is_newer(uint64_t word, struct rdy_event seen)
{
    uint64_t ticks = 0;

    if (rdy_word_is_as_seen(word, seen))
        return false;
    if (seen.word & RDY_READ_SIDE)
        ticks |= RDY_WORD_READ_TICK;
    if (seen.word & RDY_WRITE_SIDE)
        ticks |= RDY_WORD_WRITE_TICK;
    return ((word ^ seen.word) & ticks) != 0;
}

/* Nothing will come any more. */
static inline uint64_t rdy_word_end(uint64_t word)
{
    return word | RDY_WORD_END;
}

/* What a waiter sees of the word: the flags of its mask only, so its clear cannot take more. */
static inline struct rdy_event rdy_word_event(uint64_t word, uint32_t mask)
{
    return (struct rdy_event){.word = word & (~RDY_WORD_READY | mask)};
}

#endif
