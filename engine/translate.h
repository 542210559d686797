/* SPDX-License-Identifier: MIT */
/*
 * Poll bits to readiness, and interests to poll bits: pure functions, the same for every backend.
 *
 * READ_CLOSED and WRITE_CLOSED are final, so they must be true. What the kernel's bits prove
 * depends on the kind of file; the traps below were all shipped by somebody:
 *
 * - HUP alone on a stream socket means "not connected", which a socket before connect(2) also is;
 *   both halves are closed only when RDHUP stands beside it (wasmtime #7895).
 * - RDHUP alone closes the read half only: a half-closed peer still reads (mio #933).
 * - ERR on a datagram socket is an ICMP message: the next send works. Only on a pipe does it say
 *   that the reader has gone for good; and on a FIFO with a name not even there, nor does HUP.
 * - A bare ERR must also wake those who wait for data: recv(2) is what fetches the error (tokio
 *   #8000: UDP readers hung). So an error makes both directions worth trying.
 */
#ifndef RDY_ENGINE_TRANSLATE_H
#define RDY_ENGINE_TRANSLATE_H

#include <rdy/ready.h>

#include "engine/backend.h"
#include "engine/sys.h"

/*
 * The engine's own interest beside the public ones, for streams: watch for urgent data, but without
 * asking again where the kernel's bits leave it open.
 */
#define RDY_INTEREST_URGENT 0x20u
static_assert((RDY_INTEREST_URGENT & RDY_INTEREST_ALL) == 0, "not a public interest");

/* Another: do not watch at all, for now; operations take the place of it. */
#define RDY_INTEREST_LATER 0x40u
static_assert((RDY_INTEREST_LATER & (RDY_INTEREST_ALL | RDY_INTEREST_URGENT)) == 0, "nor this");

/* What to ask the kernel for. ERR, HUP and RDHUP come unasked. */
static inline uint32_t rdy_events_of_interest(uint32_t interest)
{
    uint32_t events = 0;

    if (interest & RDY_INTEREST_READ)
        events |= RDY_EV_IN | RDY_EV_RDHUP;
    if (interest & RDY_INTEREST_WRITE)
        events |= RDY_EV_OUT;
    if (interest & RDY_INTEREST_CLOSED)
        events |= RDY_EV_RDHUP;
    if (interest & (RDY_INTEREST_PRIORITY | RDY_INTEREST_URGENT))
        events |= RDY_EV_PRI;
    return events;
}

static inline uint32_t rdy_translate_stream(uint32_t events)
{
    uint32_t ready = 0;

    if (events & RDY_EV_RDHUP)
        ready |= RDY_READ_CLOSED;
    if ((events & RDY_EV_HUP) && (events & RDY_EV_RDHUP))
        ready |= RDY_WRITE_CLOSED;
    else if (events & RDY_EV_HUP)
        ready |= RDY_READABLE | RDY_WRITABLE; /* not connected: let the call say so */
    return ready;
}

static inline uint32_t rdy_translate_fifo(uint32_t events)
{
    uint32_t ready = 0;

    if (events & RDY_EV_HUP)
        ready |= RDY_READ_CLOSED;
    if (events & RDY_EV_ERR)
        ready |= RDY_WRITE_CLOSED;
    return ready;
}

static inline uint32_t rdy_translate(enum rdy_file_kind kind, uint32_t events)
{
    uint32_t ready = 0;

    if (events & (RDY_EV_IN | RDY_EV_PRI))
        ready |= RDY_READABLE;
    if (events & RDY_EV_OUT)
        ready |= RDY_WRITABLE;
    if (rdy_likely((events & ~(RDY_EV_IN | RDY_EV_OUT)) == 0))
        return ready;

    if (events & RDY_EV_PRI)
        ready |= RDY_PRIORITY;
    if (events & RDY_EV_ERR)
        ready |= RDY_ERROR | RDY_READABLE | RDY_WRITABLE;
    if (kind == RDY_FILE_STREAM)
        ready |= rdy_translate_stream(events);
    else if (kind == RDY_FILE_FIFO)
        ready |= rdy_translate_fifo(events);
    else if (events & (RDY_EV_HUP | RDY_EV_RDHUP))
        ready |= RDY_READABLE | RDY_WRITABLE; /* a terminal's or device's hang-up may pass */
    return ready;
}

#endif
