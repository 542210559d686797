/* SPDX-License-Identifier: MIT */
/*
 * The slab under its owner's lock: one thread takes, the driver's takes, gives and looks up.
 */
#include <stdlib.h>

#include "engine/lock.h"
#include "engine/slab.h"
#include "tests/model/model.h"

struct item {
    struct rdy_slab_head head;
    uint64_t value;
    uint64_t more[2];
};

struct stage {
    struct rdy_slab *slab;
    struct rdy_lock lock;
    struct rdy_a64 token; /* of the taker's item, once it is filled */
    uint64_t stale;
    struct item *held;
    struct item *taken[2];
};

static struct stage *stage;

static void set_up(void)
{
    struct rdy_slab_opts opts = {
        .item_size = 1024, .item_align = 64, .items_max = 8}; /* four in a chunk */

    stage = calloc(1, sizeof(*stage));
    model_require(rdy_slab_open(&stage->slab, &opts) == 0);
    model_name(stage, sizeof(*stage), "stage");
}

static struct item *take(void)
{
    struct item *item;
    int err = 0;

    rdy_lock_acquire(&stage->lock);
    item = rdy_slab_take(stage->slab, &err);
    rdy_lock_release(&stage->lock);
    model_require(item && item->value == 0);
    return item;
}

static void give(struct item *item)
{
    rdy_lock_acquire(&stage->lock);
    rdy_slab_give(stage->slab, item);
    rdy_lock_release(&stage->lock);
}

static void finish(void)
{
    rdy_slab_close(stage->slab);
    free(stage);
}

/* --- take and give against a stale token --------------------------------------------------- */

static void set_up_held(void)
{
    set_up();
    stage->held = take();
    stage->held->value = 1;
    stage->stale = rdy_slab_token(&stage->held->head);
}

static void give_and_find(void)
{
    model_require(rdy_slab_find(stage->slab, stage->stale) == stage->held);
    give(stage->held);
    model_require(!rdy_slab_find(stage->slab, stage->stale));
    stage->taken[0] = take();
    stage->taken[0]->value = 2;
    model_require(!rdy_slab_find(stage->slab, stage->stale));
}

static void take_one(void)
{
    stage->taken[1] = take();
    stage->taken[1]->value = 3;
}

static void finish_taken(void)
{
    model_require(stage->taken[0] != stage->taken[1]);
    model_require(stage->taken[0]->value == 2 && stage->taken[1]->value == 3);
    model_require(!rdy_slab_find(stage->slab, stage->stale));
    model_require(rdy_slab_live(stage->slab) == 2);
    finish();
}

static const struct model_target slab_stale = {
    .name = "slab_stale_token",
    .claim = "a token of the past finds nothing, whoever has the item now",
    .set_up = set_up_held,
    .finish = finish_taken,
    .fiber = {{"driver", give_and_find}, {"taker", take_one}},
    .stale_max = 2,
};

/* --- a take that maps memory, against a lookup --------------------------------------------- */

static void take_and_tell(void)
{
    struct item *item = take();

    item->value = 7;
    rdy_a64_store_release(&stage->token, rdy_slab_token(&item->head));
}

/* Tokens come from anywhere: one that was told, and one that never was. */
static void find_told(void)
{
    uint64_t token = rdy_a64_load_acquire(&stage->token);
    struct item *item;

    if (token == 0) {
        model_require(!rdy_slab_find(stage->slab, (UINT64_C(3) << 32) | 1));
        return;
    }
    item = rdy_slab_find(stage->slab, token);
    model_require(item && item->value == 7);
}

static const struct model_target slab_map = {
    .name = "slab_map_vs_find",
    .claim = "a lookup that meets the first take sees whole pages or none",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"driver", find_told}, {"taker", take_and_tell}},
    .stale_max = 2,
};

const struct model_target *const model_slab_targets[] = {&slab_stale, &slab_map, NULL};
