/* SPDX-License-Identifier: MIT */
/*
 * Items live in chunks of one page, chunks in groups whose pages lie side by side. What the slab
 * knows about a chunk is kept outside of it, one cache line each, so that a page without live items
 * can be handed to the system whole. A slot is the chunk's number and the item's number in it.
 *
 * A chunk is in one of three states. *Fresh or vacant*: no page behind it; its heads read as zero,
 * which is an even generation and so matches no token. *Mapped with room*: on the room list, the
 * chunk given to last first; if all its items are free also on the idle list, the longest idle
 * first. *Mapped and full*: on no list. Some idle chunks are kept, so that a load that swings makes
 * no system calls; beyond those the longest idle one is vacated. That is never the chunk given to
 * last, so the item given last is always taken next.
 *
 * A vacated chunk's heads are gone, so the highest generation in it is remembered beside it, and
 * its items begin there when it is mapped again: every token of the past stays stale.
 *
 * Addresses stay mapped until close: vacating leaves readable zeros. What
 * find reads (the groups, where a chunk is, the generations) is never taken back and written before
 * it is published; all else belongs to the one thread that the owner's lock lets in.
 *
 * Under AddressSanitizer a free item is poisoned but for its head, which find may always read, and
 * for what is kept.
 */
#include "engine/slab.h"

#include <stdlib.h>

#include "engine/arena.h"
#include "engine/list.h"
#include "engine/poison.h"

#define GROUP_BITS     9 /* 512 chunks: 2 MiB of address space at a time, where a page has 4 KiB */
#define GROUP_CHUNKS   (1U << GROUP_BITS)
#define ITEMS_MAX      (1U << 25)
#define ITEM_SIZE_MAX  1024U
#define IDLE_BYTES_MIN (1U << 20) /* of idle chunks, kept in any case */
#define IDLE_PART      8U         /* kept also: one idle chunk in so many that are mapped */

/* A link to the next follows what is kept. */
struct free_item {
    struct rdy_slab_head head;
};

struct chunk {
    struct rdy_link room; /* while an item is free; on the vacant list while there is no page */
    struct rdy_link idle; /* while @live is 0 */
    char *base;           /* constant once used */
    struct free_item *free;
    uint32_t index;      /* in the slab; constant once used */
    uint32_t generation; /* with which its items began when it was last mapped; even */
    uint32_t live;
};
static_assert(sizeof(struct chunk) <= 64, "a cache line: 1.6 % beside the items");

struct rdy_slab {
    struct rdy_link room;
    struct rdy_link idle;
    struct rdy_link vacant;
    uint32_t live;
    uint32_t idle_count;
    uint32_t idle_min; /* as many idle chunks are kept in any case */
    uint32_t mapped_count;
    uint32_t used_count; /* chunks that ever had a page; the fresh ones follow */
    uint32_t item_size;
    uint32_t front; /* of an item: the head, and what is kept */
    uint32_t items_max;
    uint32_t items_per_chunk;
    uint32_t slot_bits; /* low bits of a slot, for the item in its chunk */
    uint32_t chunks_max;
    uint32_t chunk_size;
    uint32_t arena;
    uint32_t groups_max;
    struct rdy_aptr groups[]; /* of struct chunk[GROUP_CHUNKS], the last may be shorter; or NULL */
};

static void list_push_front(struct rdy_link *list, struct rdy_link *node)
{
    rdy_list_push_back(list->next, node);
}

static struct chunk *chunk_of_room(struct rdy_link *link)
{
    return rdy_container_of(link, struct chunk, room);
}

/* Where the slab's part of a free item begins. */
static struct free_item **item_next(const struct rdy_slab *slab, struct free_item *item)
{
    return (void *)((char *)item + slab->front);
}

static void item_poison(const struct rdy_slab *slab, struct free_item *item)
{
    rdy_poison(item_next(slab, item), slab->item_size - slab->front);
}

static void item_unpoison(const struct rdy_slab *slab, const struct free_item *item)
{
    rdy_unpoison(item, slab->item_size);
}

/* --- items --------------------------------------------------------------------------------- */

/* Only one thread at a time changes a generation: a load and a store will do. */
static uint32_t generation_add(struct rdy_slab_head *head, uint32_t n)
{
    uint32_t next = rdy_a32_load_relaxed(&head->generation) + n;

    rdy_a32_store_relaxed(&head->generation, next);
    return next;
}

static bool item_is_live(const struct rdy_slab_head *head)
{
    return (rdy_a32_load_relaxed(&head->generation) & 1) != 0;
}

static struct rdy_slab_head *page_item(const struct rdy_slab *slab, char *page, uint32_t number)
{
    return (void *)(page + (size_t)number * slab->item_size);
}

/* The first chunk of the group that chunk @index is in; NULL if the group was never used. */
static struct chunk *slab_group(const struct rdy_slab *slab, uint32_t index)
{
    /* Pairs with the store in slab_add_group(). */
    return rdy_aptr_load_acquire(&slab->groups[index >> GROUP_BITS]);
}

/* A chunk that was used. */
static struct chunk *slab_chunk(const struct rdy_slab *slab, uint32_t index)
{
    struct chunk *group = slab_group(slab, index);

    rdy_assert(group);
    return &group[index & (GROUP_CHUNKS - 1)];
}

/* Where a chunk is, from what never changes once it is published. */
static char *slab_page(const struct rdy_slab *slab, uint32_t index)
{
    const struct chunk *group = slab_group(slab, index);

    if (!group)
        return NULL;
    return group->base + (size_t)(index & (GROUP_CHUNKS - 1)) * slab->chunk_size;
}

/* --- chunks come and go -------------------------------------------------------------------- */

static uint32_t group_chunks(const struct rdy_slab *slab, uint32_t group)
{
    uint32_t left = slab->chunks_max - (group << GROUP_BITS);

    return left < GROUP_CHUNKS ? left : GROUP_CHUNKS;
}

static int slab_add_group(struct rdy_slab *slab, uint32_t group)
{
    uint32_t count = group_chunks(slab, group);
    size_t pages_size = (size_t)count * slab->chunk_size;
    struct chunk *chunks = rdy_arena_alloc(slab->arena, count * sizeof(*chunks), RDY_CACHE_LINE);
    char *pages = rdy_arena_alloc_pages(slab->arena, pages_size);

    if (!chunks || !pages) {
        rdy_arena_free(chunks);
        rdy_arena_free(pages);
        return -ENOMEM;
    }
    chunks[0].base = pages;
    rdy_leak_root_add(pages, pages_size);
    /* Pairs with the load in slab_group(): a finder sees where the pages are, and zeros there. */
    rdy_aptr_store_release(&slab->groups[group], chunks);
    return 0;
}

static struct chunk *slab_fresh_chunk(struct rdy_slab *slab)
{
    uint32_t index = slab->used_count;
    struct chunk *chunk;

    rdy_assert(index < slab->chunks_max);
    if (!slab_group(slab, index) && slab_add_group(slab, index >> GROUP_BITS) != 0)
        return NULL;
    slab->used_count++;
    chunk = slab_chunk(slab, index);
    if (!chunk->base) /* a group's first has one, which finders may be reading */
        chunk->base = slab_page(slab, index);
    chunk->index = index;
    return chunk;
}

/* Free items in the order of their addresses. The first write makes the page resident. */
static void chunk_fill(struct rdy_slab *slab, struct chunk *chunk)
{
    rdy_assert(chunk->live == 0);
    rdy_assert((chunk->generation & 1) == 0);
    chunk->free = NULL;
    for (uint32_t number = slab->items_per_chunk; number-- > 0;) {
        struct free_item *item = (void *)page_item(slab, chunk->base, number);

        item_unpoison(slab, item);
        item->head.slot = (chunk->index << slab->slot_bits) + number;
        rdy_a32_store_relaxed(&item->head.generation, chunk->generation);
        *item_next(slab, item) = chunk->free;
        chunk->free = item;
        item_poison(slab, item);
    }
}

static int slab_map_chunk(struct rdy_slab *slab)
{
    struct rdy_link *vacant = rdy_list_pop(&slab->vacant);
    struct chunk *chunk = vacant ? chunk_of_room(vacant) : slab_fresh_chunk(slab);

    if (!chunk)
        return -ENOMEM;
    chunk_fill(slab, chunk);
    list_push_front(&slab->room, &chunk->room);
    rdy_list_push_back(&slab->idle, &chunk->idle);
    slab->idle_count++;
    slab->mapped_count++;
    return 0;
}

/* Measured from where the chunk's items began, so that a generation that wrapped is no surprise. */
static uint32_t chunk_highest_generation(const struct rdy_slab *slab, const struct chunk *chunk)
{
    uint32_t highest = 0;

    for (uint32_t number = 0; number < slab->items_per_chunk; number++) {
        const struct rdy_slab_head *head = page_item(slab, chunk->base, number);
        uint32_t distance = rdy_a32_load_relaxed(&head->generation) - chunk->generation;

        if (distance > highest)
            highest = distance;
    }
    return chunk->generation + highest;
}

static void slab_vacate_chunk(struct rdy_slab *slab, struct chunk *chunk)
{
    rdy_assert(chunk->live == 0);
    rdy_assert(slab->idle_count > 0);
    chunk->generation = chunk_highest_generation(slab, chunk);
    chunk->free = NULL;
    rdy_list_unlink(&chunk->idle);
    rdy_list_unlink(&chunk->room);
    slab->idle_count--;
    slab->mapped_count--;
    rdy_arena_vacate(chunk->base, slab->chunk_size);
    list_push_front(&slab->vacant, &chunk->room);
}

static uint32_t slab_idle_limit(const struct rdy_slab *slab)
{
    uint32_t part = slab->mapped_count / IDLE_PART;

    return part > slab->idle_min ? part : slab->idle_min;
}

/* Vacating lowers the limit too, so one chunk more may call for more than one chunk less. */
static void slab_vacate_surplus(struct rdy_slab *slab)
{
    while (slab->idle_count > slab_idle_limit(slab))
        slab_vacate_chunk(slab, rdy_container_of(slab->idle.next, struct chunk, idle));
}

/* --- take, give, look up ------------------------------------------------------------------- */

__attribute__((noinline, cold)) static bool slab_make_room(struct rdy_slab *slab, int *err)
{
    int failed = slab->live >= slab->items_max ? -ENFILE : slab_map_chunk(slab);

    if (failed != 0)
        *err = failed;
    return failed == 0;
}

static struct free_item *chunk_pop(struct rdy_slab *slab, struct chunk *chunk)
{
    struct free_item *item = chunk->free;

    item_unpoison(slab, item);
    chunk->free = *item_next(slab, item);
    if (chunk->live++ == 0) {
        rdy_list_unlink(&chunk->idle);
        slab->idle_count--;
    }
    if (!chunk->free)
        rdy_list_unlink(&chunk->room);
    return item;
}

void *rdy_slab_take(struct rdy_slab *slab, int *err)
{
    struct free_item *item;

    if (rdy_unlikely(rdy_list_is_empty(&slab->room) || slab->live >= slab->items_max)) {
        if (!slab_make_room(slab, err))
            return NULL;
    }
    item = chunk_pop(slab, chunk_of_room(slab->room.next));
    rdy_assert(!item_is_live(&item->head));
    memset(item_next(slab, item), 0, slab->item_size - slab->front);
    (void)generation_add(&item->head, 1);
    slab->live++;
    return item;
}

/* The chunk given to last is to be the first with room. */
static void slab_put_first(struct rdy_slab *slab, struct chunk *chunk)
{
    if (chunk->live < slab->items_per_chunk) {
        if (slab->room.next == &chunk->room)
            return;
        rdy_list_unlink(&chunk->room);
    }
    list_push_front(&slab->room, &chunk->room);
}

void rdy_slab_give(struct rdy_slab *slab, void *given)
{
    struct free_item *item = given;
    struct chunk *chunk;

    rdy_assert(item_is_live(&item->head));
    rdy_debug(rdy_slab_find(slab, rdy_slab_token(&item->head)) == given);
    chunk = slab_chunk(slab, item->head.slot >> slab->slot_bits);
    slab_put_first(slab, chunk);
    (void)generation_add(&item->head, 1);
    *item_next(slab, item) = chunk->free;
    chunk->free = item;
    item_poison(slab, item);
    slab->live--;
    if (--chunk->live > 0)
        return;

    rdy_list_push_back(&slab->idle, &chunk->idle);
    slab->idle_count++;
    if (rdy_unlikely(slab->idle_count > slab->idle_min))
        slab_vacate_surplus(slab);
}

uint64_t rdy_slab_renew(struct rdy_slab *slab, void *item)
{
    struct rdy_slab_head *head = item;

    rdy_assert(item_is_live(head));
    rdy_debug(rdy_slab_find(slab, rdy_slab_token(head)) == item);
    (void)slab;
    (void)generation_add(head, 2);
    return rdy_slab_token(head);
}

/* What is in @slot, free or live; NULL if nothing ever was. */
static struct rdy_slab_head *slab_look(const struct rdy_slab *slab, uint32_t slot)
{
    uint32_t index = slot >> slab->slot_bits;
    uint32_t number = slot & ((1U << slab->slot_bits) - 1);
    char *page;

    if (index >= slab->chunks_max || number >= slab->items_per_chunk)
        return NULL;
    page = slab_page(slab, index);
    return page ? page_item(slab, page, number) : NULL;
}

/*
 * Relaxed suffices for the generation: whoever holds a live item's token got it, in whatever way it
 * came, from the thread that took the item; and no stale token matches what it may see instead.
 */
RDY_HOT void *rdy_slab_find(const struct rdy_slab *slab, uint64_t token)
{
    uint32_t generation = (uint32_t)token;
    struct rdy_slab_head *head = slab_look(slab, (uint32_t)(token >> 32));

    if (!head || (generation & 1) == 0)
        return NULL;
    return rdy_a32_load_relaxed(&head->generation) == generation ? head : NULL;
}

RDY_HOT void rdy_slab_prefetch(const struct rdy_slab *slab, uint64_t token)
{
    const char *item = (const char *)slab_look(slab, (uint32_t)(token >> 32));

    if (!item)
        return;
    __builtin_prefetch(item, 1);
    __builtin_prefetch(item + 64, 1);
}

void *rdy_slab_at(const struct rdy_slab *slab, uint32_t slot)
{
    struct rdy_slab_head *head = slab_look(slab, slot);

    return head && item_is_live(head) ? head : NULL;
}

/* The number of the first live item in @chunk at or after @number; items_per_chunk if none. */
static uint32_t chunk_next_live(const struct rdy_slab *slab, const struct chunk *chunk,
                                uint32_t number)
{
    if (chunk->live == 0)
        return slab->items_per_chunk;
    while (number < slab->items_per_chunk && !item_is_live(page_item(slab, chunk->base, number)))
        number++;
    return number;
}

void *rdy_slab_next_live(const struct rdy_slab *slab, uint32_t *slot)
{
    uint32_t index = *slot >> slab->slot_bits;
    uint32_t number = *slot & ((1U << slab->slot_bits) - 1);

    for (; index < slab->used_count; index++) {
        const struct chunk *chunk = slab_chunk(slab, index);

        number = chunk_next_live(slab, chunk, number);
        if (number < slab->items_per_chunk) {
            *slot = (index << slab->slot_bits) + number + 1;
            return page_item(slab, chunk->base, number);
        }
        number = 0;
    }
    *slot = index << slab->slot_bits;
    return NULL;
}

uint32_t rdy_slab_live(const struct rdy_slab *slab)
{
    return slab->live;
}

uint64_t rdy_slab_bytes(const struct rdy_slab *slab)
{
    return (uint64_t)slab->mapped_count * slab->chunk_size;
}

/* --- open, close --------------------------------------------------------------------------- */

/* Eight bytes is what a link in a free item wants. */
static bool opts_are_valid(const struct rdy_slab_opts *opts)
{
    if (opts->kept > ITEM_SIZE_MAX || opts->kept % sizeof(void *) != 0 ||
        opts->item_size < sizeof(struct free_item) + opts->kept + sizeof(void *) ||
        opts->item_size > ITEM_SIZE_MAX)
        return false;
    if (opts->item_align < _Alignof(void *) || opts->item_size % opts->item_align != 0)
        return false;
    if ((opts->item_align & (opts->item_align - 1)) != 0)
        return false;
    return opts->items_max > 0 && opts->items_max <= ITEMS_MAX;
}

static void slab_measure(struct rdy_slab *slab, const struct rdy_slab_opts *opts)
{
    slab->item_size = opts->item_size;
    slab->front = (uint32_t)sizeof(struct free_item) + opts->kept;
    slab->items_max = opts->items_max;
    slab->chunk_size = (uint32_t)rdy_arena_page_size();
    slab->idle_min = IDLE_BYTES_MIN / slab->chunk_size;
    slab->items_per_chunk = slab->chunk_size / opts->item_size;
    slab->slot_bits = 32U - (uint32_t)__builtin_clz(slab->items_per_chunk - 1);
    slab->chunks_max = (opts->items_max + slab->items_per_chunk - 1) / slab->items_per_chunk;
    slab->groups_max = (slab->chunks_max + GROUP_CHUNKS - 1) >> GROUP_BITS;
    rdy_assert(slab->items_per_chunk > 1);
    rdy_assert(slab->idle_min > 0);
    rdy_assert((uint64_t)slab->chunks_max << slab->slot_bits <= UINT32_MAX);
}

int rdy_slab_open(struct rdy_slab **out, const struct rdy_slab_opts *opts)
{
    struct rdy_slab measures;
    struct rdy_slab *slab;
    int err;

    if (!opts_are_valid(opts))
        return -EINVAL;
    memset(&measures, 0, sizeof(measures));
    slab_measure(&measures, opts);
    slab = calloc(1, sizeof(*slab) + measures.groups_max * sizeof(slab->groups[0]));
    if (!slab)
        return -ENOMEM;
    *slab = measures;
    rdy_list_init(&slab->room);
    rdy_list_init(&slab->idle);
    rdy_list_init(&slab->vacant);
    err = rdy_arena_open(&slab->arena);
    if (err != 0) {
        free(slab);
        return err;
    }
    *out = slab;
    return 0;
}

/* Whoever gets these addresses next must find them clean. */
static void slab_drop_group(const struct rdy_slab *slab, uint32_t group)
{
    struct chunk *chunks = slab_group(slab, group << GROUP_BITS);
    size_t pages_size = (size_t)group_chunks(slab, group) * slab->chunk_size;

    if (!chunks)
        return;
    rdy_leak_root_remove(chunks->base, pages_size);
    rdy_unpoison(chunks->base, pages_size);
    rdy_arena_free(chunks->base);
    rdy_arena_free(chunks);
}

void rdy_slab_close(struct rdy_slab *slab)
{
    if (!slab)
        return;
    for (uint32_t group = 0; group < slab->groups_max; group++)
        slab_drop_group(slab, group);
    rdy_arena_close(slab->arena);
    free(slab);
}
