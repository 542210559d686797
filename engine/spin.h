/* SPDX-License-Identifier: MIT */
/*
 * Looking for a while before a wait sleeps: when, how long, and when not.
 *
 * Two states. On, each wait spins, and its end is booked: one that something came in adds credit,
 * a vain one takes some, and without credit it is off. Off, each wait sleeps at once, and how long
 * it slept tells whether a spin might have caught its end. If so, one spin is tried, and after each
 * vain try twice as many such waits are let pass. So whoever sleeps long is never tried: an idle
 * thread does not spin at all, and wakes for nothing else either.
 *
 * The decisions know no clock and no kernel; the loop over them is in spin.c. The driver's thread.
 */
#ifndef RDY_ENGINE_SPIN_H
#define RDY_ENGINE_SPIN_H

#include "engine/base.h"

struct rdy_driver;

/* Vain spins in a row before it is off, and what one that paid is worth: on at a third. */
#define RDY_SPIN_CREDIT_MAX 8u
#define RDY_SPIN_GAIN       2u

/* Waits worth a try of which one is tried, at the least. */
#define RDY_SPIN_SKIPS_MAX 1024u

/*
 * A sleep of up to so many times the longest spin is worth a try: half of it, or more where a
 * processor has to be woken, may have been the way back from the kernel.
 */
#define RDY_SPIN_SLEEP_FACTOR 2u

struct rdy_spin {
    uint64_t max_ns;  /* 0: never */
    uint32_t credit;  /* 0: off */
    uint32_t skips;   /* while it is off: waits worth a try that are let pass before the next */
    uint32_t backoff; /* of the last try: skips were set to this */
};

/* Begins on, with full credit: a program that has just started learns soon enough. */
void rdy_spin_init(struct rdy_spin *spin, uint64_t max_ns);

static inline bool rdy_spin_is_on(const struct rdy_spin *spin)
{
    return spin->credit > 0;
}

/* How long a wait of @timeout_ns (negative: without limit) shall spin: 0 is not at all. */
uint64_t rdy_spin_window_ns(const struct rdy_spin *spin, int64_t timeout_ns);

/* The wait spun, and something came. */
void rdy_spin_paid(struct rdy_spin *spin);

/* The wait spun in vain. */
void rdy_spin_failed(struct rdy_spin *spin);

/* The wait did not spin, and slept so long. */
void rdy_spin_slept(struct rdy_spin *spin, uint64_t slept_ns);

/*
 * Spins until facts, an unpark, an error or the timeout comes, or long enough, and books what came
 * of it. It is on, and the driver not embedded. Returns the number of facts, or -errno. @left_ns:
 * the timeout; receives what is left of it if the wait is not over, else 0.
 */
int rdy_driver_spin(struct rdy_driver *driver, int64_t *left_ns);

#endif
