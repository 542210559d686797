/* SPDX-License-Identifier: MIT */
/*
 * Plain memory: every access to it is watched, and none of it is used twice.
 *
 * The code under test is compiled with -fsanitize=thread and linked without that library: the calls
 * that the compiler puts before each plain access come here. An access is a data race if another
 * fiber's access to the same byte, one of the two a write, is not known to be over, by the vector
 * clocks that come with acquired values. That does not depend on the order in which the two came,
 * so plain accesses need not be steps of the search.
 *
 * malloc() and its kin hand out an arena from the bottom up; what is freed stays poisoned until the
 * execution is over. The arena's addresses are the same each time. Stacks are outside and are not
 * watched: what fibers share lives in the arena.
 */
#include "tests/model/checker.h"

#include <stdio.h>

#include "engine/arena.h"

#define BLOCKS_MAX 256
#define NAMES_MAX  32
#define PAGE_SIZE  4096u

enum shade {
    SHADE_FINE = 0,
    SHADE_POISONED,
    SHADE_FREED
};

/* The last accesses to one byte, in this execution. */
struct cell {
    uint32_t run_number;
    uint32_t write_clock;
    uint32_t read_clock[FIBERS];
    const void *write_pc;
    const void *read_pc;
    uint8_t writer;
    bool is_atomic; /* the first byte of one */
};

struct block {
    char *at;
    size_t size;
    const void *pc;
    bool is_live;
};

struct name {
    const char *at;
    size_t size;
    const char *name;
};

static char arena[ARENA_SIZE] __attribute__((aligned(PAGE_SIZE)));
static uint8_t shade[ARENA_SIZE];
static struct cell cells[ARENA_SIZE];
static size_t arena_used;
static struct block blocks[BLOCKS_MAX];
static uint32_t blocks_count;
static struct name names[NAMES_MAX];
static uint32_t names_count;

void plain_reset(void)
{
    memset(shade, SHADE_FINE, arena_used);
    memset(arena, 0xa5, arena_used);
    arena_used = 0;
    blocks_count = 0;
    names_count = 0;
}

static size_t offset_of(const void *at)
{
    return (size_t)((const char *)at - arena);
}

static bool is_inside(const void *at)
{
    return offset_of(at) < arena_used;
}

static struct cell *cell_of(const void *at)
{
    struct cell *cell = &cells[offset_of(at)];

    if (cell->run_number != run.number) {
        memset(cell, 0, sizeof(*cell));
        cell->run_number = run.number;
    }
    return cell;
}

/* --- names, for reports -------------------------------------------------------------------- */

void model_name(const void *bytes, size_t size, const char *name)
{
    rdy_assert(names_count < NAMES_MAX);
    names[names_count++] = (struct name){.at = bytes, .size = size, .name = name};
}

const char *plain_describe(const void *at, char *text, size_t text_len)
{
    const char *byte = at;

    for (uint32_t i = names_count; i-- > 0;) {
        if (byte >= names[i].at && byte < names[i].at + names[i].size) {
            (void)snprintf(text, text_len, "%s+%zu", names[i].name, (size_t)(byte - names[i].at));
            return text;
        }
    }
    for (uint32_t i = 0; i < blocks_count; i++) {
        if (byte >= blocks[i].at && byte < blocks[i].at + blocks[i].size) {
            (void)snprintf(text, text_len, "block%u+%zu", i, (size_t)(byte - blocks[i].at));
            return text;
        }
    }
    (void)snprintf(text, text_len, "%p", at);
    return text;
}

/* --- accesses ------------------------------------------------------------------------------ */

__attribute__((noreturn, cold)) static void fail_touch(const void *at, const char *how,
                                                       const void *pc)
{
    char text[64];

    run.step[run.steps_count].op.pc = pc;
    model_fail("%s of %s, at %s, by pc %p", how,
               shade[offset_of(at)] == SHADE_FREED ? "freed memory" : "memory that is nobody's",
               plain_describe(at, text, sizeof(text)), pc);
}

__attribute__((noreturn, cold)) static void fail_race(const void *at, const char *now,
                                                      const void *pc, const char *before,
                                                      uint32_t fiber, const void *before_pc)
{
    char text[64];

    model_fail("data race at %s: %s by '%s' at pc %p, %s by '%s' at pc %p",
               plain_describe(at, text, sizeof(text)), now, run.target->fiber[self - 1].name, pc,
               before, run.target->fiber[fiber - 1].name, before_pc);
}

static bool is_over(uint32_t fiber, uint32_t clock)
{
    return clock <= fibers[self].view.clock[fiber];
}

static void check_write_before(const struct cell *cell, const void *at, const char *now,
                               const void *pc)
{
    if (rdy_unlikely(cell->write_clock != 0 && !is_over(cell->writer, cell->write_clock)))
        fail_race(at, now, pc, "written", cell->writer, cell->write_pc);
}

static void byte_read(struct cell *cell, const void *at, const void *pc)
{
    check_write_before(cell, at, "read", pc);
    if (rdy_unlikely(cell->is_atomic))
        memory_check_read(at, pc);
    cell->read_clock[self] = fibers[self].view.clock[self];
    cell->read_pc = pc;
}

static void byte_write(struct cell *cell, const void *at, const char *how, const void *pc)
{
    check_write_before(cell, at, how, pc);
    for (uint32_t i = 1; i < FIBERS; i++) {
        if (rdy_unlikely(cell->read_clock[i] != 0 && !is_over(i, cell->read_clock[i])))
            fail_race(at, how, pc, "read", i, cell->read_pc);
    }
    if (rdy_unlikely(cell->is_atomic)) {
        memory_forget(at, pc);
        cell->is_atomic = false;
    }
    cell->write_clock = fibers[self].view.clock[self];
    cell->writer = (uint8_t)self;
    cell->write_pc = pc;
}

static void touch(const void *at, size_t size, bool is_write, const void *pc)
{
    const char *byte = at;

    if (!is_inside(at) || run.outcome == OUTCOME_FAILED)
        return;
    for (size_t i = 0; i < size; i++) {
        if (rdy_unlikely(shade[offset_of(byte + i)] != SHADE_FINE))
            fail_touch(byte + i, is_write ? "write" : "read", pc);
        if (self == 0)
            continue;
        if (is_write)
            byte_write(cell_of(byte + i), byte + i, "written", pc);
        else
            byte_read(cell_of(byte + i), byte + i, pc);
    }
}

void plain_check_atomic(const void *at, size_t size, const void *pc)
{
    (void)size;
    if (!is_inside(at) || run.outcome == OUTCOME_FAILED)
        return;
    if (rdy_unlikely(shade[offset_of(at)] != SHADE_FINE))
        fail_touch(at, "atomic access", pc);
    if (self != 0)
        check_write_before(cell_of(at), at, "accessed atomically", pc);
}

/* No race: it was written before the kernel was told of it. */
void plain_check_kernel(const void *at, size_t size)
{
    const char *byte = at;

    if (!is_inside(at) || run.outcome == OUTCOME_FAILED)
        return;
    for (size_t i = 0; i < size; i++) {
        if (rdy_unlikely(shade[offset_of(byte + i)] != SHADE_FINE))
            fail_touch(byte + i, "the kernel's read", __builtin_return_address(0));
    }
}

void plain_mark_atomic(const void *at)
{
    if (is_inside(at))
        cell_of(at)->is_atomic = true;
}

void rdy_model_poison(const void *bytes, size_t size)
{
    if (is_inside(bytes))
        memset(&shade[offset_of(bytes)], SHADE_POISONED, size);
}

void rdy_model_unpoison(const void *bytes, size_t size)
{
    if (is_inside(bytes))
        memset(&shade[offset_of(bytes)], SHADE_FINE, size);
}

/* What the compiler calls: its names, which are reserved for it. */
#define WATCH(bytes)                                                                               \
    void __tsan_read##bytes(const void *at);                                                       \
    void __tsan_read##bytes(const void *at)                                                        \
    {                                                                                              \
        touch(at, bytes, false, __builtin_return_address(0));                                      \
    }                                                                                              \
    void __tsan_write##bytes(const void *at);                                                      \
    void __tsan_write##bytes(const void *at)                                                       \
    {                                                                                              \
        touch(at, bytes, true, __builtin_return_address(0));                                       \
    }                                                                                              \
    void __tsan_unaligned_read##bytes(const void *at);                                             \
    void __tsan_unaligned_read##bytes(const void *at)                                              \
    {                                                                                              \
        touch(at, bytes, false, __builtin_return_address(0));                                      \
    }                                                                                              \
    void __tsan_unaligned_write##bytes(const void *at);                                            \
    void __tsan_unaligned_write##bytes(const void *at)                                             \
    {                                                                                              \
        touch(at, bytes, true, __builtin_return_address(0));                                       \
    }

WATCH(1)
WATCH(2)
WATCH(4)
WATCH(8)
WATCH(16)

void __tsan_read_range(const void *at, size_t size);
void __tsan_read_range(const void *at, size_t size)
{
    touch(at, size, false, __builtin_return_address(0));
}

void __tsan_write_range(const void *at, size_t size);
void __tsan_write_range(const void *at, size_t size)
{
    touch(at, size, true, __builtin_return_address(0));
}

void __tsan_init(void);
void __tsan_init(void)
{
}

void __tsan_func_entry(const void *pc);
void __tsan_func_entry(const void *pc)
{
    struct fiber *fiber = &fibers[self];

    if (fiber->depth < sizeof(fiber->stack) / sizeof(fiber->stack[0]))
        fiber->stack[fiber->depth] = pc;
    fiber->depth++;
}

void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
    fibers[self].depth--;
}

/* The code under test is compiled with these names in the place of the library's. */
void *rdy_model_memset(void *to, int byte, size_t size);
void *rdy_model_memset(void *to, int byte, size_t size)
{
    touch(to, size, true, __builtin_return_address(0));
    return memset(to, byte, size);
}

void *rdy_model_memcpy(void *to, const void *from, size_t size);
void *rdy_model_memcpy(void *to, const void *from, size_t size)
{
    touch(from, size, false, __builtin_return_address(0));
    touch(to, size, true, __builtin_return_address(0));
    return memcpy(to, from, size);
}

/* --- allocations --------------------------------------------------------------------------- */

void *plain_alloc(size_t size, size_t align, bool is_zero, const void *pc)
{
    size_t start = (arena_used + align - 1) & ~(align - 1);

    if (start + size + 16 > ARENA_SIZE || blocks_count == BLOCKS_MAX)
        model_fail("the target allocates more than the arena has");
    memset(arena + arena_used, 0xa5, start + size + 16 - arena_used);
    arena_used = start + size + 16;
    memset(&shade[start + size], SHADE_POISONED, 16); /* a rim */
    if (is_zero)
        memset(arena + start, 0, size);
    blocks[blocks_count++] =
        (struct block){.at = arena + start, .size = size, .pc = pc, .is_live = true};
    return arena + start;
}

static struct block *block_at(const void *at)
{
    for (uint32_t i = 0; i < blocks_count; i++) {
        if (blocks[i].at == at)
            return &blocks[i];
    }
    return NULL;
}

static void plain_free(void *at, const void *pc)
{
    struct block *block = block_at(at);

    if (!at)
        return;
    if (!block)
        model_fail("free of what was never allocated: %p", at);
    if (!block->is_live)
        model_fail("freed twice: block%u", (uint32_t)(block - blocks));
    for (size_t i = 0; self != 0 && i < block->size; i++) {
        struct cell *cell = &cells[offset_of(block->at + i)];

        if (cell->run_number == run.number)
            byte_write(cell, block->at + i, "freed", pc);
    }
    block->is_live = false;
    memset(&shade[offset_of(block->at)], SHADE_FREED, block->size);
}

void plain_finish(void)
{
    for (uint32_t i = 0; i < blocks_count; i++) {
        if (blocks[i].is_live)
            model_fail("leak: block%u of %zu bytes, allocated by pc %p", i, blocks[i].size,
                       blocks[i].pc);
    }
}

void *rdy_model_malloc(size_t size);
void *rdy_model_calloc(size_t count, size_t size);
int rdy_model_posix_memalign(void **out, size_t align, size_t size);
void *rdy_model_aligned_alloc(size_t align, size_t size);
void *rdy_model_realloc(void *at, size_t size);
void rdy_model_free(void *at);

void *rdy_model_malloc(size_t size)
{
    return plain_alloc(size, 16, false, __builtin_return_address(0));
}

void *rdy_model_calloc(size_t count, size_t size)
{
    return plain_alloc(count * size, 16, true, __builtin_return_address(0));
}

int rdy_model_posix_memalign(void **out, size_t align, size_t size)
{
    *out = plain_alloc(size, align, false, __builtin_return_address(0));
    return 0;
}

void *rdy_model_aligned_alloc(size_t align, size_t size)
{
    return plain_alloc(size, align, false, __builtin_return_address(0));
}

void *rdy_model_realloc(void *at, size_t size)
{
    const void *pc = __builtin_return_address(0);
    const struct block *block = block_at(at);
    void *made = plain_alloc(size, 16, false, pc);

    if (block)
        memcpy(made, at, block->size < size ? block->size : size);
    plain_free(at, pc);
    return made;
}

void rdy_model_free(void *at)
{
    plain_free(at, __builtin_return_address(0));
}

/* engine/arena.h: there is no jemalloc here, and pages are not given back. */
int rdy_arena_open(uint32_t *index)
{
    *index = 0;
    return 0;
}

void rdy_arena_close(uint32_t index)
{
    (void)index;
}

void *rdy_arena_alloc(uint32_t index, size_t size, size_t align)
{
    (void)index;
    return plain_alloc(size, align, true, __builtin_return_address(0));
}

void rdy_arena_free(void *memory)
{
    plain_free(memory, __builtin_return_address(0));
}

void *rdy_arena_alloc_pages(uint32_t index, size_t size)
{
    return rdy_arena_alloc(index, size, PAGE_SIZE);
}

void rdy_arena_vacate(void *pages, size_t size)
{
    memset(pages, 0, size);
}

size_t rdy_arena_page_size(void)
{
    return PAGE_SIZE;
}
