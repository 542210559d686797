/* SPDX-License-Identifier: MIT */
/*
 * The timer wheel: deadlines in nanoseconds, arm and cancel in O(1), no allocation, no clock.
 *
 * A hierarchical wheel (Varghese and Lauck 1987, scheme 7): 64 slots a level, slots of 2^16 ns on
 * level 0 and 64 times as long on each level above, eight levels, so that every 64-bit deadline has
 * a slot. A timer lives on the level of the highest digit in which its deadline differs from the
 * wheel's present, so it is always in a slot ahead, all of level n comes before all of level n + 1,
 * and it moves down at most seven times. Exact deadlines are kept: a slot says where to look, never
 * when to fire.
 *
 * The present moves in rdy_wheel_expire() only, and time is an argument. The slots that it passes
 * are emptied at once, as whole lists; their timers are then filed anew one by one, on lower levels
 * or as due, a bounded number in each call: a slot of a high level may hold a million. Due timers
 * go to a list of their own, from which rdy_wheel_take_due() hands them out one by one. At any time
 * every timer, wherever it is, may be armed and cancelled. One thread.
 */
#ifndef RDY_ENGINE_WHEEL_H
#define RDY_ENGINE_WHEEL_H

#include <rdy/runtime.h>

#include "engine/atomic.h"

#define RDY_WHEEL_LEVELS    8u
#define RDY_WHEEL_SLOTS     64u
#define RDY_WHEEL_TICK_BITS 16u
#define RDY_WHEEL_NEVER     UINT64_MAX

#define RDY_WHEEL_SLOTS_COUNT (RDY_WHEEL_LEVELS * RDY_WHEEL_SLOTS)
#define RDY_WHEEL_SLOT_DUE    RDY_WHEEL_SLOTS_COUNT /* rdy_timer.slot of one that is due */
#define RDY_WHEEL_UNBOUNDED   UINT64_MAX

/* rdy_timer.state. {0} is a timer that was never armed. */
enum rdy_timer_state {
    RDY_TIMER_IDLE = 0,
    RDY_TIMER_ARMED = 1,
    RDY_TIMER_FIRED = 2,
};

struct rdy_wheel_slot {
    struct rdy_link timers;
    uint64_t earliest_ns; /* no timer in the slot is due before; stale (too low) after cancels */
};

struct rdy_wheel {
    uint64_t now_ns;
    /* No expire before this time is worth while: the wheel's present as long as timers are to be
     * filed or handed out, RDY_WHEEL_NEVER if none is armed. */
    uint64_t earliest_ns;
    struct rdy_a64 armed_count;               /* written by the runtime's thread */
    uint64_t occupied[RDY_WHEEL_LEVELS];      /* a bit for each slot with a timer */
    struct rdy_link passed[RDY_WHEEL_LEVELS]; /* to be filed anew: from the slots of that level */
    struct rdy_link due;
    struct rdy_wheel_slot slots[RDY_WHEEL_SLOTS_COUNT];
};

/* An empty wheel whose present is @now_ns. */
void rdy_wheel_init(struct rdy_wheel *wheel, uint64_t now_ns);

/* Moves the present of an empty wheel, so that the next timers start on low levels. */
void rdy_wheel_start(struct rdy_wheel *wheel, uint64_t now_ns);

/* Puts @timer in, moving it if it is armed. A deadline in the past is due in the next expire. */
void rdy_wheel_arm(struct rdy_wheel *wheel, struct rdy_timer *timer, uint64_t deadline_ns);

/* Takes @timer out; false if it was not armed (it may have been handed out). */
bool rdy_wheel_cancel(struct rdy_wheel *wheel, struct rdy_timer *timer);

/*
 * Moves the present to @now_ns, which never goes back, and files up to @moves_max timers of slots
 * that were passed now or before; returns how many. As long as some are left, earliest_ns is the
 * present.
 *
 * The levels come from the lowest up, each with half of what the lower ones left, and the rest goes
 * from the highest down: timers for soon do not stand behind a crowd that comes from far, nor does
 * the crowd starve. @moves_max is 2^8 or more, so that every level has a share.
 */
uint64_t rdy_wheel_expire(struct rdy_wheel *wheel, uint64_t now_ns, uint64_t moves_max);

/* Puts what is due into the order of deadlines, that of arming among equal ones. */
void rdy_wheel_sort_due(struct rdy_wheel *wheel);

/* The next timer that is due, marked as fired; NULL when there is none left. */
struct rdy_timer *rdy_wheel_take_due(struct rdy_wheel *wheel);

/* Disarms every timer. */
void rdy_wheel_clear(struct rdy_wheel *wheel);

#endif
