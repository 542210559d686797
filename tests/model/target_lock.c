/* SPDX-License-Identifier: MIT */
/*
 * The lock itself, word by word: engine/lock.c over a futex.
 */
#include <stdlib.h>

#include "engine/lock.h"
#include "tests/model/model.h"

struct guarded {
    struct rdy_lock lock;
    uint32_t inside;
    uint32_t count; /* plain: a race unless the lock orders it */
};

static struct guarded *guarded;

static void set_up(void)
{
    guarded = calloc(1, sizeof(*guarded));
    model_name(&guarded->lock, sizeof(guarded->lock), "lock");
    model_name(&guarded->count, sizeof(guarded->count), "count");
}

static void enter_once(void)
{
    rdy_lock_acquire(&guarded->lock);
    guarded->count++;
    rdy_lock_release(&guarded->lock);
}

static void enter_twice(void)
{
    enter_once();
    enter_once();
}

static void finish_two(void)
{
    model_require(guarded->count == 3);
    model_require(guarded->lock.state.v == 0 || guarded->lock.state.v == 2);
    free(guarded);
}

static void finish_three(void)
{
    model_require(guarded->count == 3);
    free(guarded);
}

static const struct model_target lock_two = {
    .name = "lock_two",
    .claim = "two threads exclude each other, hand over what they wrote, and nobody sleeps on",
    .set_up = set_up,
    .finish = finish_two,
    .fiber = {{"once", enter_once}, {"twice", enter_twice}},
    .stale_max = 3,
    .has_real_locks = true,
};

static const struct model_target lock_three = {
    .name = "lock_three",
    .claim = "the same of three, of whom two may sleep",
    .set_up = set_up,
    .finish = finish_three,
    .fiber = {{"a", enter_once}, {"b", enter_once}, {"c", enter_once}},
    .stale_max = 1,
    .has_real_locks = true,
};

const struct model_target *const model_lock_targets[] = {&lock_two, &lock_three, NULL};
