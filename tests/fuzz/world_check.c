/* SPDX-License-Identifier: MIT */
/* What must hold in a world: see tests/fuzz/world.h. */
#include "tests/fuzz/world.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETTLE_TURNS_MAX 256
#define SETTLE_QUIET     3 /* turns without an event; a ring tells of an arming in the next */
#define DRAIN_ROUNDS_MAX 16

void world_fail(const struct world *world, const struct world_slot *slot, const char *what)
{
    fprintf(stderr, "fuzz: %s, operation %llu: %s\n", world->name,
            (unsigned long long)world->operations, what);
    if (slot)
        fprintf(stderr, "fuzz: slot %d, kind %d, fd %d, interest 0x%x, readiness 0x%x\n",
                (int)(slot - world->slots), (int)slot->kind, slot->fd, slot->interest,
                rdy_event_ready(rdy_ready_event(&slot->reg, 0x3fu)));
    abort();
}

void world_settle(struct world *world)
{
    int quiet = 0;

    for (int i = 0; i < SETTLE_TURNS_MAX; i++) {
        int rc = rdy_driver_turn(world->driver, 0);

        if (rc < 0)
            world_fail(world, NULL, strerror(-rc));
        quiet = rc == 0 ? quiet + 1 : 0;
        if (quiet == SETTLE_QUIET)
            return;
    }
    world_fail(world, NULL, "turns bring events for ever");
}

static short ask_poll(const struct world_slot *slot)
{
    struct pollfd item = {.fd = slot->fd, .events = POLLIN | POLLOUT | POLLRDHUP};

    return poll(&item, 1, 0) > 0 ? item.revents : 0;
}

/* The readiness that poll(2) speaks for, of what is asked for. */
static uint32_t truth_of(const struct world_slot *slot)
{
    short events = ask_poll(slot);
    uint32_t ready = 0;

    if (events & POLLNVAL)
        return 0;
    if ((events & POLLIN) && (slot->interest & RDY_INTEREST_READ))
        ready |= RDY_READABLE;
    if ((events & POLLOUT) && (slot->interest & RDY_INTEREST_WRITE))
        ready |= RDY_WRITABLE;
    if (events & POLLRDHUP)
        ready |= RDY_READ_CLOSED;
    if ((events & POLLHUP) && slot->kind != WORLD_PIPE)
        ready |= RDY_READ_CLOSED | RDY_WRITE_CLOSED;
    return ready;
}

static uint32_t readiness_of(const struct world_slot *slot)
{
    return rdy_event_ready(rdy_ready_event(&slot->reg, 0x3fu));
}

static uint32_t satisfied_by(uint32_t interest)
{
    uint32_t ready = 0;

    if (interest & RDY_INTEREST_READ)
        ready |= RDY_READABLE | RDY_READ_CLOSED;
    if (interest & RDY_INTEREST_WRITE)
        ready |= RDY_WRITABLE | RDY_WRITE_CLOSED;
    return ready;
}

static void check_slot(const struct world *world, const struct world_slot *slot)
{
    uint32_t truth = truth_of(slot);
    uint32_t ready = readiness_of(slot);

    if (truth & ~ready)
        world_fail(world, slot, "poll(2) says ready, the registration does not");
    for (uint32_t direction = 0; direction < 2; direction++) {
        uint32_t wanted =
            satisfied_by(direction == RDY_DIRECTION_READ ? RDY_INTEREST_READ : RDY_INTEREST_WRITE);
        const struct world_bell *bell = &slot->bells[direction];

        if (bell->is_waiting && bell->rung == 0 && (truth & wanted))
            world_fail(world, slot, "a poll slot's waker was not run");
    }
    for (uint32_t i = 0; i < WORLD_WAITS; i++) {
        const struct world_wait *wait = &slot->waits[i];

        if (wait->is_begun && wait->bell.rung == 0 && (truth & satisfied_by(wait->interest)))
            world_fail(world, slot, "a wait was not woken");
    }
}

void world_check(struct world *world)
{
    world_settle(world);
    for (uint32_t i = 0; i < WORLD_SLOTS; i++) {
        if (world->slots[i].is_registered)
            check_slot(world, &world->slots[i]);
    }
}

static ssize_t take_all(int fd, void *arg)
{
    char buf[4096];
    ssize_t count = read(fd, buf, sizeof(buf));

    (void)arg;
    return count < 0 ? -errno : count;
}

static ssize_t put_all(int fd, void *arg)
{
    static const char buf[4096];
    const struct world_slot *slot = arg;
    ssize_t count = write(fd, buf, slot->kind == WORLD_EVENT ? sizeof(uint64_t) : sizeof(buf));

    return count < 0 ? -errno : count;
}

/* True if the direction came to EAGAIN; false at an end or an error, which stays ready. */
static bool exhaust(struct world_slot *slot, uint32_t interest, rdy_io_fn *fn)
{
    for (int i = 0; i < 4096; i++) {
        ssize_t count = rdy_try_io(&slot->reg, interest, fn, slot);

        if (count == -EAGAIN)
            return true;
        if (count <= 0)
            return false;
    }
    return false;
}

/* An event that was on its way may set it once more. */
static void check_exhausted(struct world *world, struct world_slot *slot, uint32_t interest,
                            rdy_io_fn *fn, uint32_t flag)
{
    if ((slot->interest & interest) == 0)
        return;
    for (int round = 0; round < DRAIN_ROUNDS_MAX; round++) {
        if (!exhaust(slot, interest, fn))
            return;
        world_settle(world);
        if ((readiness_of(slot) & flag) == (truth_of(slot) & flag))
            return;
    }
    world_fail(world, slot, "readiness stands, though the file said EAGAIN");
}

void world_check_drained(struct world *world)
{
    world_check(world);
    for (uint32_t i = 0; i < WORLD_SLOTS; i++) {
        struct world_slot *slot = &world->slots[i];

        if (!slot->is_registered)
            continue;
        check_exhausted(world, slot, RDY_INTEREST_READ, take_all, RDY_READABLE);
        /* Of an event counter, writing would fill the reader; what fills a socket is its peer's. */
        if (slot->kind != WORLD_EVENT)
            check_exhausted(world, slot, RDY_INTEREST_WRITE, put_all, RDY_WRITABLE);
    }
    world_check(world);
}
