/* SPDX-License-Identifier: MIT */
/*
 * An entry without a kernel, for tests of the readiness core: a ScheduledIo, the counters of a
 * driver that was never opened, a registration that names both, and wakers that keep a record.
 *
 * Nothing here has a lock: one thread at a time, except that the entry itself is the engine's.
 */
#ifndef RDY_TESTS_SUPPORT_ENTRY_H
#define RDY_TESTS_SUPPORT_ENTRY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/driver.h"
#include "engine/list.h"
#include "engine/scheduled_io.h"

#define ENTRY_FD   77
#define RECORD_MAX 1100
#define NO_WAKER   ((struct rdy_waker){0})

struct entry {
    struct rdy_driver driver;
    struct rdy_scheduled_io io;
    struct rdy_registration reg;
};

static inline void entry_open(struct entry *entry)
{
    memset(entry, 0, sizeof(*entry));
    rdy_scheduled_io_init(&entry->io, &entry->driver, ENTRY_FD);
    entry->reg = (struct rdy_registration){.driver = &entry->driver, .io = &entry->io};
}

static inline uint64_t entry_word(const struct entry *entry)
{
    return rdy_a64_load_relaxed(&entry->io.word);
}

static inline uint32_t entry_ready(const struct entry *entry)
{
    return (uint32_t)(entry_word(entry) & RDY_WORD_READY);
}

/* What the driver does when the kernel reports something. Returns how many wakers ran. */
static inline uint32_t entry_event(struct entry *entry, uint32_t ready)
{
    (void)rdy_scheduled_io_set(&entry->io, ready);
    return rdy_scheduled_io_wake(&entry->io, ready);
}

/* What the driver's shutdown does to an entry. */
static inline uint32_t entry_shut_down(struct entry *entry)
{
    rdy_scheduled_io_end(&entry->io, 0);
    return rdy_scheduled_io_wake(&entry->io, RDY_READY_ALL);
}

/* What a deregistration does to an entry, before the driver takes the slot back. */
static inline void entry_deregister(struct entry *entry)
{
    rdy_scheduled_io_end(&entry->io, -ECANCELED);
    rdy_scheduled_io_cancel_all(&entry->io, -ECANCELED);
}

static inline uint64_t entry_stale_clears(const struct entry *entry)
{
    return rdy_a64_load_relaxed(&entry->driver.any.stale_clears);
}

static inline uint64_t entry_spurious_wakes(const struct entry *entry)
{
    return rdy_a64_load_relaxed(&entry->driver.any.spurious_wakes);
}

/* Who was woken, in which order: each call of a recording waker appends its data. */
struct record {
    uint32_t count;
    uint64_t data[RECORD_MAX];
};

static inline void record_wake(void *arg, uint64_t data)
{
    struct record *record = arg;

    rdy_assert(record->count < RECORD_MAX);
    record->data[record->count++] = data;
}

static inline struct rdy_waker record_waker(struct record *record, uint64_t data)
{
    return (struct rdy_waker){.fn = record_wake, .arg = record, .data = data};
}

/* Starts a wait that is not satisfied yet, and claims that it waits. */
static inline void wait_begin(struct rdy_readiness *wait, struct entry *entry, uint32_t interest,
                              struct rdy_waker waker)
{
    struct rdy_event event = {0};

    rdy_readiness_init(wait, &entry->reg, interest);
    rdy_assert(rdy_readiness_poll(wait, &waker, &event) == RDY_PENDING);
}

/* Waits in a slot that is not satisfied yet, and claims that it waits. */
static inline void slot_begin(struct entry *entry, enum rdy_direction direction,
                              struct rdy_waker waker)
{
    struct rdy_event event = {0};

    rdy_assert(rdy_poll_readiness(&entry->reg, direction, &waker, &event) == RDY_PENDING);
}

#endif
