/* SPDX-License-Identifier: MIT */
/*
 * A slab: items of one size, at stable addresses, named by tokens that go stale.
 *
 * Items come from small chunks out of a jemalloc arena of the slab's own, so that a spike's memory
 * goes back to the system and is not mixed with anybody else's. Take and give are O(1), the item
 * given back last is taken next. A token is slot and generation; the generation is odd while the
 * item is taken, and changes with each take, give and renew: a token of the past is refused. An
 * address stays readable until close; a head whose page went back to the system reads as zero. So
 * are a few bytes behind the head, if the user wants to: neither a give nor a take touches those.
 *
 * Threads: the slab has no lock. take, give, renew and next_live want mutual exclusion, which its
 * owner provides. find may run at the same time as a take by another thread, but not as a give or a
 * renew: the engine gives and renews on the driver's thread only, where facts are looked up.
 */
#ifndef RDY_ENGINE_SLAB_H
#define RDY_ENGINE_SLAB_H

#include "engine/atomic.h"

/* Every item begins with this; the slab owns it, the rest is the user's. */
struct rdy_slab_head {
    struct rdy_a32 generation; /* odd: taken */
    uint32_t slot;
};

struct rdy_slab_opts {
    uint32_t item_size;  /* bytes, head included; a multiple of item_align, 16 to 1024 */
    uint32_t item_align; /* a power of two, at least 8 */
    uint32_t items_max;  /* at most 2^25 */
    uint32_t kept;       /* bytes behind the head that stay the user's; a multiple of 8 */
};

struct rdy_slab;

/* 0, -ENOMEM, -EINVAL. */
int rdy_slab_open(struct rdy_slab **out, const struct rdy_slab_opts *opts);

/* Frees all chunks, live items included. NULL is fine. */
void rdy_slab_close(struct rdy_slab *slab);

/* An item, zeroed behind what is kept; *err is -ENOMEM or -ENFILE (items_max) when NULL. */
void *rdy_slab_take(struct rdy_slab *slab, int *err);

/* Gives a live item back. Its token is stale from now on. */
void rdy_slab_give(struct rdy_slab *slab, void *item);

/* Makes the item's present token stale and gives it a new one. */
uint64_t rdy_slab_renew(struct rdy_slab *slab, void *item);

/* The item of a token, or NULL if the token is stale or was never given out. */
void *rdy_slab_find(const struct rdy_slab *slab, uint64_t token);

/* Asks for a token's item ahead of a find: its first two cache lines. */
void rdy_slab_prefetch(const struct rdy_slab *slab, uint64_t token);

/* The live item in @slot, whatever its generation, or NULL. Wants mutual exclusion with give. */
void *rdy_slab_at(const struct rdy_slab *slab, uint32_t slot);

/* The first live item at or after *slot, which is moved behind it; NULL at the end. */
void *rdy_slab_next_live(const struct rdy_slab *slab, uint32_t *slot);

/* Items taken now; bytes mapped for chunks now. */
uint32_t rdy_slab_live(const struct rdy_slab *slab);
uint64_t rdy_slab_bytes(const struct rdy_slab *slab);

static inline uint64_t rdy_slab_token(const struct rdy_slab_head *head)
{
    return ((uint64_t)head->slot << 32) | rdy_a32_load_relaxed(&head->generation);
}

#endif
