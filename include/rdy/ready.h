/* SPDX-License-Identifier: MIT */
/*
 * Readiness: what a file is ready for, what one is interested in, and a tick-stamped event.
 *
 * Readiness is a hint with one promise: it is never lost. A set bit says "try it"; a wake may be
 * spurious; but data that the kernel announced is not forgotten until a clear proves, with the
 * tick that it saw, that nothing came since. The flags have the values that the field uses (mio,
 * Tokio).
 */
#ifndef RDY_READY_H
#define RDY_READY_H

#include <rdy/base.h>

RDY_BEGIN_DECLS

/* Readiness flags. READ_CLOSED and WRITE_CLOSED are final: no clear removes them. */
#define RDY_READABLE     0x01u
#define RDY_WRITABLE     0x02u
#define RDY_READ_CLOSED  0x04u
#define RDY_WRITE_CLOSED 0x08u
#define RDY_PRIORITY     0x10u
#define RDY_ERROR        0x20u
#define RDY_READY_ALL    0x3fu

/* Interests: what to arm and what to wait for. Any union of these is an interest. */
#define RDY_INTEREST_READ     0x1u
#define RDY_INTEREST_WRITE    0x2u
#define RDY_INTEREST_PRIORITY 0x4u
#define RDY_INTEREST_ERROR    0x8u
#define RDY_INTEREST_CLOSED   0x10u /* the end of what the peer sends, without its data */
#define RDY_INTEREST_ALL      0x1fu

/* The two poll slots of a registration: one task waits in each. */
enum rdy_direction {
    RDY_DIRECTION_READ = 0,
    RDY_DIRECTION_WRITE = 1,
};

/*
 * What was ready, and when: the readiness word as it was seen, ready bits masked to the interest
 * that asked. Pass it to rdy_clear_readiness() after EAGAIN. A value; copy it freely. `word` is
 * private; read it through the accessors below.
 */
struct rdy_event {
    uint64_t word;
};

/* The readiness flags of @event: a union of RDY_READABLE and friends, or 0. */
static inline uint32_t rdy_event_ready(struct rdy_event event)
{
    return (uint32_t)(event.word & 0xffffu);
}

/* True if the driver (or this registration) has ended: no readiness will come any more. */
static inline bool rdy_event_is_shutdown(struct rdy_event event)
{
    return (event.word >> 63) != 0;
}

/* A read may make progress: data, end of file or an error to fetch. */
static inline bool rdy_ready_is_readable(uint32_t ready)
{
    return (ready & (RDY_READABLE | RDY_READ_CLOSED)) != 0;
}

/* A write may make progress, or fail at once. */
static inline bool rdy_ready_is_writable(uint32_t ready)
{
    return (ready & (RDY_WRITABLE | RDY_WRITE_CLOSED)) != 0;
}

/*
 * rdy_interest_mask() - the readiness flags that satisfy an interest
 *
 * READ: READABLE or READ_CLOSED. WRITE: WRITABLE or WRITE_CLOSED. PRIORITY: PRIORITY or
 * READ_CLOSED. ERROR: ERROR. CLOSED: READ_CLOSED alone. A combined interest is the union of its
 * parts.
 */
static inline uint32_t rdy_interest_mask(uint32_t interest)
{
    uint32_t mask = 0;

    if (interest & RDY_INTEREST_READ)
        mask |= RDY_READABLE | RDY_READ_CLOSED;
    if (interest & RDY_INTEREST_WRITE)
        mask |= RDY_WRITABLE | RDY_WRITE_CLOSED;
    if (interest & RDY_INTEREST_PRIORITY)
        mask |= RDY_PRIORITY | RDY_READ_CLOSED;
    if (interest & RDY_INTEREST_ERROR)
        mask |= RDY_ERROR;
    if (interest & RDY_INTEREST_CLOSED)
        mask |= RDY_READ_CLOSED;
    return mask;
}

/**
 * rdy_ready_format() - write readiness flags as text, for logs
 * @ready:  flags; unknown bits are printed in hex
 * @buf:    borrowed; receives "readable|writable", "none", ..., always terminated
 * @buf_len: bytes in @buf; 80 holds every combination
 *
 * Context: any thread.
 * Return:  @buf.
 */
RDY_API const char *rdy_ready_format(uint32_t ready, char *buf, size_t buf_len);

RDY_END_DECLS

#endif
