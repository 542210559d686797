/* SPDX-License-Identifier: MIT */
/*
 * The timer wheel. See wheel.h for the shape; here are the invariants that it rests on.
 *
 * With `now` the wheel's present: a timer in a slot of level n agrees with `now` in all digits
 * above n; on levels above 0 its digit n is greater than that of `now`, on level 0 it is not
 * smaller (a deadline in the past is filed under `now`); and a slot's bit is set exactly if it has
 * a timer. Hence the first set bit of the lowest level that has one is the slot with the earliest
 * timer. Those who were passed and wait to be filed anew stand in no slot, so `now` may go on
 * without them: when one is filed, it is by the `now` of that moment, to a lower level.
 */
#include "engine/wheel.h"

#include "engine/list.h"

#define DIGIT_BITS 6u
#define DIGIT_MASK 63u

static_assert(RDY_WHEEL_SLOTS == 1u << DIGIT_BITS, "a digit names a slot");
static_assert(RDY_WHEEL_TICK_BITS + RDY_WHEEL_LEVELS * DIGIT_BITS == 64, "every deadline fits");
static_assert(sizeof(((struct rdy_wheel *)0)->occupied[0]) * 8 == RDY_WHEEL_SLOTS, "a bit a slot");
static_assert(sizeof(struct rdy_timer) == 64, "a timer is a cache line, no more");

static inline struct rdy_timer *timer_of(struct rdy_link *link)
{
    return rdy_container_of(link, struct rdy_timer, link);
}

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

/* Files @timer under its deadline, last in its slot: one slot hands out in the order of arming. */
static void wheel_link(struct rdy_wheel *wheel, struct rdy_timer *timer)
{
    uint32_t slot_index = wheel_place(wheel, timer->deadline_ns);
    struct rdy_wheel_slot *slot = &wheel->slots[slot_index];
    bool is_first = rdy_list_is_empty(&slot->timers);

    timer->slot = slot_index;
    rdy_list_push_back(&slot->timers, &timer->link);
    if (is_first || timer->deadline_ns < slot->earliest_ns)
        slot->earliest_ns = timer->deadline_ns;
    wheel->occupied[slot_index / RDY_WHEEL_SLOTS] |= UINT64_C(1) << (slot_index & DIGIT_MASK);
}

/* Takes @timer out, wherever it is. One that was passed names its old slot: if that is empty its
 * bit is clear, and clearing it again is harmless. */
static void wheel_unlink(struct rdy_wheel *wheel, struct rdy_timer *timer)
{
    rdy_assert(timer->slot <= RDY_WHEEL_SLOT_DUE);
    rdy_list_unlink(&timer->link);
    if (timer->slot != RDY_WHEEL_SLOT_DUE && rdy_list_is_empty(&wheel->slots[timer->slot].timers))
        wheel->occupied[timer->slot / RDY_WHEEL_SLOTS] &=
            ~(UINT64_C(1) << (timer->slot & DIGIT_MASK));
}

static bool wheel_has_passed(const struct rdy_wheel *wheel)
{
    for (uint32_t level = 0; level < RDY_WHEEL_LEVELS; level++) {
        if (!rdy_list_is_empty(&wheel->passed[level]))
            return true;
    }
    return false;
}

/* See earliest_ns in wheel.h; among the slots, the first one of the lowest level says it. */
static uint64_t wheel_find_earliest(const struct rdy_wheel *wheel)
{
    if (rdy_a64_load_relaxed(&wheel->armed_count) == 0)
        return RDY_WHEEL_NEVER;
    if (!rdy_list_is_empty(&wheel->due) || wheel_has_passed(wheel))
        return wheel->now_ns;
    for (uint32_t level = 0; level < RDY_WHEEL_LEVELS; level++) {
        uint64_t occupied = wheel->occupied[level];

        if (occupied != 0)
            return wheel->slots[level * RDY_WHEEL_SLOTS + (uint32_t)__builtin_ctzll(occupied)]
                .earliest_ns;
    }
    return RDY_WHEEL_NEVER;
}

/* The slots of a level whose beginning lies between two ticks, both ends included. */
static uint64_t slots_between(uint64_t from_tick, uint64_t to_tick, uint32_t level)
{
    uint64_t from = from_tick >> (level * DIGIT_BITS);
    uint64_t to = to_tick >> (level * DIGIT_BITS);

    if (from >> DIGIT_BITS != to >> DIGIT_BITS)
        return UINT64_MAX;
    return (UINT64_MAX << (from & DIGIT_MASK)) & (UINT64_MAX >> (DIGIT_MASK - (to & DIGIT_MASK)));
}

/* Empties a level's slots in @between. The cost is that of the slots, not of their timers. */
static void wheel_pass(struct rdy_wheel *wheel, uint32_t level, uint64_t between)
{
    uint64_t found = wheel->occupied[level] & between;

    wheel->occupied[level] &= ~between;
    while (found != 0) {
        uint32_t digit = (uint32_t)__builtin_ctzll(found);
        struct rdy_wheel_slot *slot = &wheel->slots[level * RDY_WHEEL_SLOTS + digit];

        rdy_assert(!rdy_list_is_empty(&slot->timers));
        rdy_list_append(&wheel->passed[level], &slot->timers);
        found &= found - 1;
    }
}

/* Files up to @moves_max timers of a level anew; returns how many. */
static uint64_t wheel_refile(struct rdy_wheel *wheel, uint32_t level, uint64_t moves_max)
{
    uint64_t moves = 0;

    while (moves < moves_max && !rdy_list_is_empty(&wheel->passed[level])) {
        struct rdy_timer *timer = timer_of(rdy_list_pop(&wheel->passed[level]));

        moves++;
        if (timer->deadline_ns > wheel->now_ns) {
            wheel_link(wheel, timer);
            rdy_debug(level == 0 || timer->slot / RDY_WHEEL_SLOTS < level);
        } else {
            timer->slot = RDY_WHEEL_SLOT_DUE;
            rdy_list_push_back(&wheel->due, &timer->link);
        }
    }
    return moves;
}

void rdy_wheel_init(struct rdy_wheel *wheel, uint64_t now_ns)
{
    memset(wheel, 0, sizeof(*wheel));
    wheel->now_ns = now_ns;
    wheel->earliest_ns = RDY_WHEEL_NEVER;
    rdy_list_init(&wheel->due);
    for (uint32_t level = 0; level < RDY_WHEEL_LEVELS; level++)
        rdy_list_init(&wheel->passed[level]);
    for (uint32_t i = 0; i < RDY_WHEEL_SLOTS_COUNT; i++)
        rdy_list_init(&wheel->slots[i].timers);
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
    wheel_link(wheel, timer);
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

uint64_t rdy_wheel_expire(struct rdy_wheel *wheel, uint64_t now_ns, uint64_t moves_max)
{
    uint64_t from_tick = wheel->now_ns >> RDY_WHEEL_TICK_BITS;
    uint64_t to_tick = now_ns >> RDY_WHEEL_TICK_BITS;
    uint64_t left = moves_max;

    static_assert(1u << RDY_WHEEL_LEVELS == 256, "what leaves each level a share");
    rdy_assert(moves_max >= 256);
    if (rdy_a64_load_relaxed(&wheel->armed_count) == 0 || now_ns < wheel->earliest_ns)
        return 0;
    rdy_assert(now_ns >= wheel->now_ns);
    wheel->now_ns = now_ns;
    for (uint32_t level = 0; level < RDY_WHEEL_LEVELS; level++)
        wheel_pass(wheel, level, slots_between(from_tick, to_tick, level));

    for (uint32_t level = 0; level < RDY_WHEEL_LEVELS; level++)
        left -= wheel_refile(wheel, level, left / 2);
    for (uint32_t level = RDY_WHEEL_LEVELS; level-- > 0;)
        left -= wheel_refile(wheel, level, left);
    wheel->earliest_ns = wheel_find_earliest(wheel);
    return moves_max - left;
}

/* Merges two chains by deadline; among equal ones those of @earlier come first. */
static struct rdy_link *chain_merge(struct rdy_link *earlier, struct rdy_link *later)
{
    struct rdy_link *merged = NULL;
    struct rdy_link **end = &merged;

    while (earlier && later) {
        bool is_later = timer_of(later)->deadline_ns < timer_of(earlier)->deadline_ns;
        struct rdy_link **from = is_later ? &later : &earlier;

        *end = *from;
        *from = (*from)->next;
        end = &(*end)->next;
    }
    *end = earlier ? earlier : later;
    return merged;
}

/* Sorts a chain that ends with NULL by deadline, equal ones in their order: merges, bottom up. */
static struct rdy_link *chain_sort(struct rdy_link *chain)
{
    struct rdy_link *runs[64] = {0}; /* runs[i] has 2^i timers or none; the higher came earlier */
    struct rdy_link *sorted = NULL;

    while (chain) {
        struct rdy_link *run = chain;
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
    struct rdy_link *chain = wheel->due.next;
    uint64_t last_ns = 0;

    if (rdy_list_is_empty(&wheel->due))
        return;
    wheel->due.prev->next = NULL;
    rdy_list_init(&wheel->due);
    chain = chain_sort(chain);
    while (chain) {
        struct rdy_link *link = chain;

        chain = chain->next;
        rdy_assert(timer_of(link)->deadline_ns >= last_ns);
        last_ns = timer_of(link)->deadline_ns;
        rdy_list_push_back(&wheel->due, link);
    }
}

struct rdy_timer *rdy_wheel_take_due(struct rdy_wheel *wheel)
{
    struct rdy_link *link = rdy_list_pop(&wheel->due);
    struct rdy_timer *timer;

    if (!link)
        return NULL;
    timer = timer_of(link);
    rdy_assert(timer->state == RDY_TIMER_ARMED && timer->slot == RDY_WHEEL_SLOT_DUE);
    timer->state = RDY_TIMER_FIRED;
    rdy_a64_bump(&wheel->armed_count, UINT64_MAX); /* minus one */
    if (rdy_list_is_empty(&wheel->due))
        wheel->earliest_ns = wheel_find_earliest(wheel);
    return timer;
}

static void list_clear(struct rdy_wheel *wheel, struct rdy_link *list)
{
    while (!rdy_list_is_empty(list))
        (void)rdy_wheel_cancel(wheel, timer_of(list->next));
}

void rdy_wheel_clear(struct rdy_wheel *wheel)
{
    list_clear(wheel, &wheel->due);
    for (uint32_t level = 0; level < RDY_WHEEL_LEVELS; level++)
        list_clear(wheel, &wheel->passed[level]);
    for (uint32_t i = 0; i < RDY_WHEEL_SLOTS_COUNT; i++)
        list_clear(wheel, &wheel->slots[i].timers);
    rdy_assert(rdy_a64_load_relaxed(&wheel->armed_count) == 0);
}
