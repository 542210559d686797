/* SPDX-License-Identifier: MIT */
/* What the tests of the slab share: a slab of entries, and items that must be there. */
#ifndef RDY_TESTS_SLAB_ENTRIES_H
#define RDY_TESTS_SLAB_ENTRIES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/slab.h"
#include "tests/support/checker.h"

struct entry {
    struct rdy_slab_head head;
    unsigned char body[120];
};
static_assert(sizeof(struct entry) == 128, "the size that the memory figures are about");

static inline struct rdy_slab *open_sized(uint32_t item_size, uint32_t item_align,
                                          uint32_t items_max)
{
    struct rdy_slab_opts opts = {
        .item_size = item_size, .item_align = item_align, .items_max = items_max};
    struct rdy_slab *slab = NULL;

    assert_int_equal(rdy_slab_open(&slab, &opts), 0);
    assert_non_null(slab);
    return slab;
}

static inline struct rdy_slab *open_entries(uint32_t items_max)
{
    return open_sized(sizeof(struct entry), sizeof(struct entry), items_max);
}

static inline void *take(struct rdy_slab *slab)
{
    int err = 0;
    void *item = rdy_slab_take(slab, &err);

    assert_non_null(item);
    return item;
}

static inline uint64_t token_of(const void *item)
{
    return rdy_slab_token(item);
}

static inline bool is_odd(const void *item)
{
    const struct rdy_slab_head *head = item;

    return (rdy_a32_load_relaxed(&head->generation) & 1) != 0;
}

static inline void **take_many(struct rdy_slab *slab, uint32_t count)
{
    void **items = calloc(count, sizeof(*items));

    assert_non_null(items);
    for (uint32_t i = 0; i < count; i++)
        items[i] = take(slab);
    return items;
}

/* A fixed sequence, the same on every machine (constants of Knuth's MMIX). */
static inline uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

#endif
