/* SPDX-License-Identifier: MIT */
/*
 * The timer wheel. See wheel.h for the shape; here are the three invariants that it rests on.
 *
 * With `now` the wheel's present: a timer on level n agrees with `now` in all digits above n; on
 * levels above 0 its digit n is greater than that of `now`, on level 0 it is not smaller (a
 * deadline in the past is filed under `now`); and a slot's bit is set exactly if it has a timer.
 * Hence the first set bit of the lowest level that has one is the slot with the earliest timer.
 */
#include "engine/wheel.h"

#define DIGIT_BITS 6u
#define DIGIT_MASK 63u
#define SLOT_DUE   (RDY_WHEEL_LEVELS * RDY_WHEEL_SLOTS)

static_assert(RDY_WHEEL_SLOTS == 1u << DIGIT_BITS, "a digit names a slot");
static_assert(RDY_WHEEL_TICK_BITS + RDY_WHEEL_LEVELS * DIGIT_BITS == 64, "every deadline fits");
static_assert(sizeof(((struct rdy_wheel *)0)->occupied[0]) * 8 == RDY_WHEEL_SLOTS, "a bit a slot");

/* The slot of @deadline_ns as seen from the wheel's present. */
static uint32_t wheel_place(const struct rdy_wheel *wheel, uint64_t deadline_ns)
{
    uint64_t filed_ns = deadline_ns > wheel->now_ns ? deadline_ns : wheel->now_ns;
    uint64_t tick = filed_ns >> RDY_WHEEL_TICK_BITS;
    uint64_t difference = tick ^ (wheel->now_ns >> RDY_WHEEL_TICK_BITS);
    uint32_t level = 0;

    if (difference != 0)
        level = (63u - (uint32_t)__builtin_clzll(difference)) / DIGIT_BITS;
    rdy_assert(level < RDY_WHEEL_LEVELS);
    return level * RDY_WHEEL_SLOTS + (uint32_t)((tick >> (level * DIGIT_BITS)) & DIGIT_MASK);
}

/* Appends @timer to the slot, so that timers of one slot come out in the order of arming. */
static void wheel_link(struct rdy_wheel *wheel, struct rdy_timer *timer, uint32_t slot_index)
{
    struct rdy_wheel_slot *slot = &wheel->slots[slot_index];

    timer->slot = slot_index;
    timer->next = NULL;
    if (slot->first) {
        timer->prev = slot->first->prev;
        timer->prev->next = timer;
        slot->first->prev = timer;
        if (timer->deadline_ns < slot->earliest_ns)
            slot->earliest_ns = timer->deadline_ns;
        return;
    }
    timer->prev = timer;
    slot->first = timer;
    slot->earliest_ns = timer->deadline_ns;
    if (slot_index != SLOT_DUE)
        wheel->occupied[slot_index / RDY_WHEEL_SLOTS] |= UINT64_C(1) << (slot_index & DIGIT_MASK);
}

static void wheel_unlink(struct rdy_wheel *wheel, struct rdy_timer *timer)
{
    struct rdy_wheel_slot *slot = &wheel->slots[timer->slot];

    rdy_assert(timer->slot <= SLOT_DUE && slot->first);
    if (timer->next)
        timer->next->prev = timer->prev;
    else
        slot->first->prev = timer->prev;
    if (timer == slot->first)
        slot->first = timer->next;
    else
        timer->prev->next = timer->next;
    if (!slot->first && timer->slot != SLOT_DUE)
        wheel->occupied[timer->slot / RDY_WHEEL_SLOTS] &=
            ~(UINT64_C(1) << (timer->slot & DIGIT_MASK));
    timer->next = NULL;
    timer->prev = NULL;
}

/* A lower bound of all deadlines, by the first set bit of the lowest level. */
static uint64_t wheel_find_earliest(const struct rdy_wheel *wheel)
{
    for (uint32_t level = 0; level < RDY_WHEEL_LEVELS; level++) {
        uint64_t occupied = wheel->occupied[level];

        if (occupied != 0)
            return wheel->slots[level * RDY_WHEEL_SLOTS + (uint32_t)__builtin_ctzll(occupied)]
                .earliest_ns;
    }
    return RDY_WHEEL_NEVER;
}

/* The slots of a level whose beginning lies between two ticks, both ends included. */
static uint64_t wheel_passed(uint64_t from_tick, uint64_t to_tick, uint32_t level)
{
    uint64_t from = from_tick >> (level * DIGIT_BITS);
    uint64_t to = to_tick >> (level * DIGIT_BITS);

    if (from >> DIGIT_BITS != to >> DIGIT_BITS)
        return UINT64_MAX;
    return (UINT64_MAX << (from & DIGIT_MASK)) & (UINT64_MAX >> (DIGIT_MASK - (to & DIGIT_MASK)));
}

/* Takes the chains of a level's slots in @passed and returns them as one, in front of @chain. */
static struct rdy_timer *wheel_collect(struct rdy_wheel *wheel, uint32_t level, uint64_t passed,
                                       struct rdy_timer *chain)
{
    uint64_t found = wheel->occupied[level] & passed;

    wheel->occupied[level] &= ~passed;
    while (found != 0) {
        /* From the last slot down, so that the chain ends up in the order of the slots. */
        uint32_t digit = 63u - (uint32_t)__builtin_clzll(found);
        struct rdy_wheel_slot *slot = &wheel->slots[level * RDY_WHEEL_SLOTS + digit];

        rdy_assert(slot->first);
        slot->first->prev->next = chain;
        chain = slot->first;
        slot->first = NULL;
        found &= ~(UINT64_C(1) << digit);
    }
    return chain;
}

void rdy_wheel_init(struct rdy_wheel *wheel, uint64_t now_ns)
{
    memset(wheel, 0, sizeof(*wheel));
    wheel->now_ns = now_ns;
    wheel->earliest_ns = RDY_WHEEL_NEVER;
}

void rdy_wheel_start(struct rdy_wheel *wheel, uint64_t now_ns)
{
    rdy_assert(rdy_a64_load_relaxed(&wheel->armed_count) == 0);
    if (now_ns > wheel->now_ns)
        wheel->now_ns = now_ns;
}

void rdy_wheel_arm(struct rdy_wheel *wheel, struct rdy_timer *timer, uint64_t deadline_ns)
{
    if (timer->state == RDY_TIMER_ARMED)
        wheel_unlink(wheel, timer);
    else
        rdy_a64_bump(&wheel->armed_count, 1);
    timer->state = RDY_TIMER_ARMED;
    timer->deadline_ns = deadline_ns;
    wheel_link(wheel, timer, wheel_place(wheel, deadline_ns));
    if (deadline_ns < wheel->earliest_ns)
        wheel->earliest_ns = deadline_ns;
}

bool rdy_wheel_cancel(struct rdy_wheel *wheel, struct rdy_timer *timer)
{
    if (timer->state != RDY_TIMER_ARMED)
        return false;
    rdy_assert(rdy_a64_load_relaxed(&wheel->armed_count) > 0);
    wheel_unlink(wheel, timer);
    timer->state = RDY_TIMER_IDLE;
    rdy_a64_bump(&wheel->armed_count, UINT64_MAX); /* minus one */
    if (rdy_a64_load_relaxed(&wheel->armed_count) == 0)
        wheel->earliest_ns = RDY_WHEEL_NEVER;
    return true;
}

void rdy_wheel_expire(struct rdy_wheel *wheel, uint64_t now_ns)
{
    uint64_t from_tick = wheel->now_ns >> RDY_WHEEL_TICK_BITS;
    uint64_t to_tick = now_ns >> RDY_WHEEL_TICK_BITS;
    struct rdy_timer *chain = NULL;

    if (rdy_a64_load_relaxed(&wheel->armed_count) == 0 || now_ns < wheel->earliest_ns)
        return;
    rdy_assert(now_ns >= wheel->now_ns);
    for (uint32_t level = RDY_WHEEL_LEVELS; level-- > 0;)
        chain = wheel_collect(wheel, level, wheel_passed(from_tick, to_tick, level), chain);
    wheel->now_ns = now_ns;

    while (chain) {
        struct rdy_timer *timer = chain;

        chain = timer->next;
        wheel_link(wheel, timer,
                   timer->deadline_ns <= now_ns ? SLOT_DUE
                                                : wheel_place(wheel, timer->deadline_ns));
    }
    wheel->earliest_ns = wheel_find_earliest(wheel);
}

/* Merges two chains by deadline; among equal ones those of @earlier come first. */
static struct rdy_timer *chain_merge(struct rdy_timer *earlier, struct rdy_timer *later)
{
    struct rdy_timer *merged = NULL;
    struct rdy_timer **end = &merged;

    while (earlier && later) {
        struct rdy_timer **from = later->deadline_ns < earlier->deadline_ns ? &later : &earlier;

        *end = *from;
        *from = (*from)->next;
        end = &(*end)->next;
    }
    *end = earlier ? earlier : later;
    return merged;
}

/* Sorts by deadline and keeps the order of equal ones: a merge sort, bottom up. */
static struct rdy_timer *chain_sort(struct rdy_timer *chain)
{
    struct rdy_timer *runs[64] = {0}; /* runs[i] has 2^i timers or none; the higher came earlier */
    struct rdy_timer *sorted = NULL;

    while (chain) {
        struct rdy_timer *run = chain;
        uint32_t i = 0;

        chain = chain->next;
        run->next = NULL;
        for (; runs[i]; i++) {
            run = chain_merge(runs[i], run);
            runs[i] = NULL;
        }
        runs[i] = run;
    }
    for (uint32_t i = 0; i < 64; i++)
        sorted = chain_merge(runs[i], sorted);
    return sorted;
}

void rdy_wheel_sort_due(struct rdy_wheel *wheel)
{
    struct rdy_wheel_slot *due = &wheel->slots[SLOT_DUE];
    struct rdy_timer *last = NULL;

    if (!due->first)
        return;
    due->first = chain_sort(due->first);
    for (struct rdy_timer *timer = due->first; timer; timer = timer->next) {
        rdy_assert(!last || last->deadline_ns <= timer->deadline_ns);
        timer->prev = last;
        last = timer;
    }
    due->first->prev = last;
}

struct rdy_timer *rdy_wheel_take_due(struct rdy_wheel *wheel)
{
    struct rdy_timer *timer = wheel->slots[SLOT_DUE].first;

    if (!timer)
        return NULL;
    rdy_assert(timer->state == RDY_TIMER_ARMED);
    wheel_unlink(wheel, timer);
    timer->state = RDY_TIMER_FIRED;
    rdy_a64_bump(&wheel->armed_count, UINT64_MAX); /* minus one */
    if (rdy_a64_load_relaxed(&wheel->armed_count) == 0)
        wheel->earliest_ns =
            RDY_WHEEL_NEVER; /* a timer cancelled meanwhile may have left its own */
    return timer;
}

void rdy_wheel_clear(struct rdy_wheel *wheel)
{
    for (uint32_t i = 0; i <= SLOT_DUE; i++) {
        while (wheel->slots[i].first)
            (void)rdy_wheel_cancel(wheel, wheel->slots[i].first);
    }
    rdy_assert(rdy_a64_load_relaxed(&wheel->armed_count) == 0);
}
