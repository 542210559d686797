/* SPDX-License-Identifier: MIT */
/*
 * A jemalloc arena of its owner's own: what comes out of it shares no page with anybody else's
 * memory. Pages whose content is no longer needed are handed to the system in place and stay
 * mapped; all that is freed goes to the system at once.
 */
#ifndef RDY_ENGINE_ARENA_H
#define RDY_ENGINE_ARENA_H

#include "engine/base.h"

/*
 * 0 or -ENOMEM: jemalloc has a limit of some 4,000 arenas beside that of memory. An arena costs
 * about 90 KB even when it is empty.
 */
int rdy_arena_open(uint32_t *arena);

/* Everything that came out of it has been freed. */
void rdy_arena_close(uint32_t arena);

/* @size bytes of zeros at a multiple of @align; NULL when there is no memory. */
void *rdy_arena_alloc(uint32_t arena, size_t size, size_t align);

void rdy_arena_free(void *memory);

/*
 * As rdy_arena_alloc(), page-aligned, for memory that rdy_arena_vacate() is meant for. Only pages
 * that were written to become resident.
 */
void *rdy_arena_alloc_pages(uint32_t arena, size_t size);

/* Whole pages of rdy_arena_alloc_pages(): readable, zero (as a rule), not resident from now on. */
void rdy_arena_vacate(void *pages, size_t size);

size_t rdy_arena_page_size(void);

#endif
