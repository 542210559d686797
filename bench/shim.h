/* SPDX-License-Identifier: MIT */
/*
 * What the benches need of the engine's inside, for C++. The engine's headers are C and stay C;
 * here are the few operations that have no public call: a word's transitions, an entry without a
 * driver, the slab. Each runs many rounds in one call, so that the call itself costs nothing.
 */
#ifndef RDY_BENCH_SHIM_H
#define RDY_BENCH_SHIM_H

#include <rdy/waker.h>

RDY_BEGIN_DECLS

/* One uncontended compare-and-swap a round: what an atomic transition cannot be cheaper than. */
uint64_t bench_swap_rounds(uint64_t rounds);

/* A pure transition a round: an event, and the clear of what it brought. No atomics. */
uint64_t bench_word_rounds(uint64_t rounds);

/* The same two on an entry's atomic word: two compare-and-swaps a round. */
uint64_t bench_word_atomic_rounds(uint64_t rounds);

/* Entries in memory of their own, without driver and file. */
struct bench_entries;

struct bench_entries *bench_entries_open(uint32_t count);
void bench_entries_close(struct bench_entries *entries);

/* Leaves one waiter with each entry. False: one of them did not wait. */
bool bench_entries_wait_in_slots(struct bench_entries *entries, const struct rdy_waker *waker);
bool bench_entries_wait_in_lists(struct bench_entries *entries, const struct rdy_waker *waker);

/* Sets each entry readable and wakes its waiter; returns how many wakers ran. */
uint64_t bench_entries_fire(struct bench_entries *entries);

/* Ends the waits in the lists, clears what was set: ready for the next round of waiting. */
bool bench_entries_rest(struct bench_entries *entries);

/* A slab of items as large as an entry, with @warm_count items taken and given back once. */
struct bench_slab;

struct bench_slab *bench_slab_open(uint32_t warm_count);
void bench_slab_close(struct bench_slab *slab);

/* Takes @depth items and gives them back, last one first; false if the slab said no. */
bool bench_slab_round(struct bench_slab *slab, uint32_t depth);

/* The same with malloc(3) and free(3). */
bool bench_malloc_round(uint32_t depth);

#define BENCH_DEPTH_MAX 1024

RDY_END_DECLS

#endif
