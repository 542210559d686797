/* SPDX-License-Identifier: MIT */
/*
 * The engine's inside, a loop around each operation. One thread; nothing here is ever contended.
 */
#include "bench/shim.h"

#include <stdlib.h>

#include "engine/scheduled_io.h"
#include "engine/slab.h"

/* The compiler must take @word as changed: no two rounds are folded into one. */
static inline uint64_t opaque(uint64_t word)
{
    __asm__ volatile("" : "+r"(word));
    return word;
}

uint64_t bench_swap_rounds(uint64_t rounds)
{
    struct rdy_a64 word = {0};

    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t seen = rdy_a64_load_relaxed(&word);

        while (!rdy_a64_cas_acq_rel(&word, &seen, seen + 1))
            ;
    }
    return rdy_a64_load_relaxed(&word);
}

uint64_t bench_word_rounds(uint64_t rounds)
{
    uint64_t word = 0;

    for (uint64_t i = 0; i < rounds; i++) {
        word = opaque(rdy_word_set(word, RDY_READABLE | RDY_WRITABLE));
        word = opaque(rdy_word_clear(word, rdy_word_event(word, RDY_READABLE)));
    }
    return word;
}

uint64_t bench_word_atomic_rounds(uint64_t rounds)
{
    struct rdy_scheduled_io io = {0};
    uint64_t word = 0;

    rdy_scheduled_io_init(&io, NULL, -1);
    for (uint64_t i = 0; i < rounds; i++) {
        rdy_scheduled_io_set(&io, RDY_READABLE | RDY_WRITABLE);
        word = rdy_a64_load_relaxed(&io.word);
        rdy_scheduled_io_clear(&io, rdy_word_event(word, RDY_READABLE));
    }
    return word;
}

struct bench_entries {
    uint32_t count;
    bool is_in_lists;
    struct rdy_scheduled_io *io;
    struct rdy_readiness *wait;
};

struct bench_entries *bench_entries_open(uint32_t count)
{
    struct bench_entries *entries = calloc(1, sizeof(*entries));

    if (!entries)
        return NULL;
    entries->count = count;
    entries->io = aligned_alloc(RDY_CACHE_LINE, count * sizeof(*entries->io));
    entries->wait = calloc(count, sizeof(*entries->wait));
    if (!entries->io || !entries->wait) {
        bench_entries_close(entries);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        entries->io[i] = (struct rdy_scheduled_io){0};
        rdy_scheduled_io_init(&entries->io[i], NULL, -1);
    }
    return entries;
}

void bench_entries_close(struct bench_entries *entries)
{
    free(entries->io);
    free(entries->wait);
    free(entries);
}

bool bench_entries_wait_in_slots(struct bench_entries *entries, const struct rdy_waker *waker)
{
    struct rdy_event event;

    entries->is_in_lists = false;
    for (uint32_t i = 0; i < entries->count; i++)
        if (rdy_scheduled_io_wait_in_slot(&entries->io[i], RDY_DIRECTION_READ, waker, &event) !=
            RDY_PENDING)
            return false;
    return true;
}

bool bench_entries_wait_in_lists(struct bench_entries *entries, const struct rdy_waker *waker)
{
    struct rdy_event event;

    entries->is_in_lists = true;
    for (uint32_t i = 0; i < entries->count; i++) {
        struct rdy_registration reg = {.io = &entries->io[i]};

        rdy_readiness_init(&entries->wait[i], &reg, RDY_INTEREST_READ);
        if (rdy_readiness_poll(&entries->wait[i], waker, &event) != RDY_PENDING)
            return false;
    }
    return true;
}

uint64_t bench_entries_fire(struct bench_entries *entries)
{
    uint64_t wakes = 0;

    for (uint32_t i = 0; i < entries->count; i++) {
        rdy_scheduled_io_set(&entries->io[i], RDY_READABLE);
        wakes += rdy_scheduled_io_wake(&entries->io[i], RDY_READABLE);
    }
    return wakes;
}

bool bench_entries_rest(struct bench_entries *entries)
{
    for (uint32_t i = 0; i < entries->count; i++) {
        struct rdy_scheduled_io *io = &entries->io[i];
        struct rdy_waker nobody = {0};
        struct rdy_event event = rdy_word_event(rdy_a64_load_relaxed(&io->word), RDY_READABLE);

        if (entries->is_in_lists && rdy_readiness_poll(&entries->wait[i], &nobody, &event) != 0)
            return false;
        if (!rdy_scheduled_io_clear(io, event))
            return false;
    }
    return true;
}

struct bench_slab {
    struct rdy_slab *slab;
    void *items[BENCH_DEPTH_MAX];
};

static void slab_warm(struct bench_slab *slab, uint32_t warm_count)
{
    void **items = calloc(warm_count, sizeof(*items));
    uint32_t taken = 0;
    int err;

    while (items && taken < warm_count) {
        items[taken] = rdy_slab_take(slab->slab, &err);
        if (!items[taken])
            break;
        taken++;
    }
    while (taken > 0)
        rdy_slab_give(slab->slab, items[--taken]);
    free(items);
}

struct bench_slab *bench_slab_open(uint32_t warm_count)
{
    struct bench_slab *slab = calloc(1, sizeof(*slab));
    struct rdy_slab_opts opts = {
        .item_size = sizeof(struct rdy_scheduled_io),
        .item_align = RDY_CACHE_LINE,
        .items_max = UINT32_C(1) << 22,
    };

    if (!slab)
        return NULL;
    if (rdy_slab_open(&slab->slab, &opts) != 0) {
        free(slab);
        return NULL;
    }
    slab_warm(slab, warm_count);
    return slab;
}

void bench_slab_close(struct bench_slab *slab)
{
    rdy_slab_close(slab->slab);
    free(slab);
}

bool bench_slab_round(struct bench_slab *slab, uint32_t depth)
{
    int err;

    for (uint32_t i = 0; i < depth; i++) {
        slab->items[i] = rdy_slab_take(slab->slab, &err);
        if (!slab->items[i])
            return false;
    }
    for (uint32_t i = depth; i > 0; i--)
        rdy_slab_give(slab->slab, slab->items[i - 1]);
    return true;
}

bool bench_malloc_round(uint32_t depth)
{
    static void *items[BENCH_DEPTH_MAX];

    for (uint32_t i = 0; i < depth; i++) {
        items[i] = malloc(sizeof(struct rdy_scheduled_io));
        __asm__ volatile("" : "+r"(items[i]) : : "memory");
        if (!items[i])
            return false;
    }
    for (uint32_t i = depth; i > 0; i--)
        free(items[i - 1]);
    return true;
}
