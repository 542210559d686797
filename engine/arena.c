/* SPDX-License-Identifier: MIT */
/*
 * The only file that knows jemalloc. Any thread may open and close arenas; one arena has one user
 * at a time. Thread caches are bypassed: they would keep memory of an arena that is gone.
 *
 * A closed arena is kept for the next one who opens, since jemalloc 5.3 cannot destroy one without
 * a trace: each time two megabytes of address space and the page that describes them are lost.
 * An empty arena holds no pages but its own 90 KB, as it lets go of freed pages at once.
 */
#include "engine/arena.h"

#include <jemalloc/jemalloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/atomic.h"

#define CLOSED_MAX 256

/* Index plus one of closed arenas; 0 is an empty place. No lock, so that a fork cannot hold it. */
static struct rdy_a32 closed[CLOSED_MAX];

/* Taking one out pairs with arena_put(): its former user's last writes come before the next's. */
static bool arena_pick(uint32_t *arena)
{
    for (uint32_t i = 0; i < CLOSED_MAX; i++) {
        uint32_t found = 0;

        if (rdy_a32_load_relaxed(&closed[i]) != 0)
            found = rdy_a32_swap_acq_rel(&closed[i], 0);
        if (found != 0) {
            *arena = found - 1;
            return true;
        }
    }
    return false;
}

/* Pairs with arena_pick(). */
static bool arena_put(uint32_t arena)
{
    for (uint32_t i = 0; i < CLOSED_MAX; i++) {
        uint32_t seen = 0;

        if (rdy_a32_cas_acq_rel(&closed[i], &seen, arena + 1))
            return true;
    }
    return false;
}

/* @name is of the kind "arena.0.x"; @value NULL when it is a command. */
static int arena_control(uint32_t arena, const char *name, void *value, size_t value_size)
{
    size_t path[3];
    size_t path_len = sizeof(path) / sizeof(path[0]);
    int err = mallctlnametomib(name, path, &path_len);

    rdy_assert(err == 0);
    path[1] = arena;
    return mallctlbymib(path, path_len, NULL, NULL, value, value_size);
}

static void arena_destroy(uint32_t arena)
{
    int err = arena_control(arena, "arena.0.destroy", NULL, 0);

    rdy_assert(err == 0);
}

int rdy_arena_open(uint32_t *arena)
{
    unsigned index = 0;
    size_t index_size = sizeof(index);
    ssize_t at_once = 0;
    int err;

    if (arena_pick(arena))
        return 0;
    /* EAGAIN here means no memory or no arena left, and waiting helps against neither. */
    if (mallctl("arenas.create", &index, &index_size, NULL, 0) != 0)
        return -ENOMEM;
    err = arena_control(index, "arena.0.dirty_decay_ms", &at_once, sizeof(at_once));
    rdy_assert(err == 0);
    err = arena_control(index, "arena.0.muzzy_decay_ms", &at_once, sizeof(at_once));
    rdy_assert(err == 0);
    *arena = index;
    return 0;
}

void rdy_arena_close(uint32_t arena)
{
    if (!arena_put(arena))
        arena_destroy(arena);
}

void *rdy_arena_alloc(uint32_t arena, size_t size, size_t align)
{
    rdy_assert(size > 0);
    rdy_assert(align > 0 && (align & (align - 1)) == 0);
    return mallocx(size, MALLOCX_ARENA(arena) | MALLOCX_ALIGN(align) | MALLOCX_TCACHE_NONE |
                             MALLOCX_ZERO);
}

void rdy_arena_free(void *memory)
{
    if (memory)
        dallocx(memory, MALLOCX_TCACHE_NONE);
}

void *rdy_arena_alloc_pages(uint32_t arena, size_t size)
{
    void *pages = rdy_arena_alloc(arena, size, rdy_arena_page_size());

    /*
     * Where huge pages are given without asking, one written byte would make two megabytes
     * resident, and the kernel would refill what was vacated. A kernel without huge pages refuses:
     * then there is nothing to prevent.
     */
    if (pages)
        (void)madvise(pages, size, MADV_NOHUGEPAGE);
    return pages;
}

/* Fails for locked memory, which its owner wanted to be resident: then it keeps its content. */
void rdy_arena_vacate(void *pages, size_t size)
{
    rdy_assert((uintptr_t)pages % rdy_arena_page_size() == 0);
    rdy_assert(size % rdy_arena_page_size() == 0);
    (void)madvise(pages, size, MADV_DONTNEED);
}

size_t rdy_arena_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}
