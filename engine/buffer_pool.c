/* SPDX-License-Identifier: MIT */
/* Buffers, blocks and pieces: see engine/buffer_pool.h. */
#include "engine/buffer_pool.h"

#include <stdlib.h>

#include "engine/poison.h"

#define PAGE           4096u
#define LARGE_SIZE_MAX 65536u
#define LARGE_TIMES    4u  /* as many bytes as so many of the pool's, */
#define LARGE_SHARE    16u /* and one for so many of them */
#define LARGE_HEAD     ((size_t)RDY_CACHE_LINE)

_Static_assert(sizeof(struct rdy_block) <= LARGE_HEAD, "its data begins on a line of its own");

static unsigned char *memory_of(const struct rdy_buffer_pool *pool, uint32_t id)
{
    return pool->memory + (size_t)id * pool->size;
}

static void large_open(struct rdy_buffer_pool *pool)
{
    uint32_t count = pool->count / LARGE_SHARE;
    uint32_t size = pool->size * LARGE_TIMES;

    if (size > LARGE_SIZE_MAX)
        size = LARGE_SIZE_MAX;
    pool->large_size = size;
    if (size > pool->size)
        pool->large_left = count < RDY_LARGE_MAX ? count : RDY_LARGE_MAX;
}

int rdy_buffer_pool_open(struct rdy_buffer_pool *pool, uint32_t count, uint32_t size)
{
    size_t bytes = ((size_t)count * size + PAGE - 1) & ~(size_t)(PAGE - 1);

    rdy_assert(count > 0 && count <= RDY_BUFFERS_COUNT_MAX && (count & (count - 1)) == 0);
    rdy_assert(size >= RDY_BUFFERS_SIZE_MIN && size <= RDY_BUFFERS_SIZE_MAX);
    *pool = (struct rdy_buffer_pool){.count = count, .size = size};
    pool->memory = aligned_alloc(PAGE, bytes);
    pool->blocks = calloc(count, sizeof(*pool->blocks));
    pool->queued = calloc(count, sizeof(struct rdy_piece *));
    pool->free_ids = calloc(count, sizeof(*pool->free_ids));
    if (!pool->memory || !pool->blocks || !pool->queued || !pool->free_ids) {
        rdy_buffer_pool_close(pool);
        return -ENOMEM;
    }
    /* Touched now: the first request of a connection is no time for page faults. */
    memset(pool->memory, 0, bytes);
    for (uint32_t id = count; id-- > 0;) {
        pool->blocks[id] =
            (struct rdy_block){.pool = pool, .memory = memory_of(pool, id), .id = id};
        pool->free_ids[pool->free_count++] = id;
        rdy_poison(memory_of(pool, id), size);
    }
    large_open(pool);
    return 0;
}

void rdy_buffer_pool_close(struct rdy_buffer_pool *pool)
{
    rdy_debug(pool->blocks_live == 0);
    while (pool->spare) {
        struct rdy_piece *next = pool->spare->next;

        free(pool->spare);
        pool->spare = next;
    }
    while (pool->large_free > 0) {
        struct rdy_block *block = pool->large[--pool->large_free];

        rdy_unpoison(block->memory, pool->large_size);
        free(block);
    }
    if (pool->memory)
        rdy_unpoison(pool->memory, (size_t)pool->count * pool->size);
    free(pool->memory);
    free(pool->blocks);
    free((void *)pool->queued);
    free(pool->free_ids);
    *pool = (struct rdy_buffer_pool){0};
}

void rdy_buffer_pool_lend(struct rdy_buffer_pool *pool, struct rdy_backend *backend)
{
    rdy_assert(!pool->backend && pool->free_count == pool->count);
    pool->backend = backend;
    while (pool->free_count > 0)
        backend->ops->refill(backend, pool->free_ids[--pool->free_count]);
    pool->free_count = pool->count;
}

void rdy_buffer_pool_reclaim(struct rdy_buffer_pool *pool)
{
    pool->backend = NULL;
    pool->free_count = 0;
    for (uint32_t id = 0; id < pool->count; id++) {
        if (pool->blocks[id].refs == 0)
            pool->free_ids[pool->free_count++] = id;
    }
}

RDY_HOT struct rdy_block *rdy_buffer_pool_filled(struct rdy_buffer_pool *pool, uint32_t id,
                                                 size_t len)
{
    struct rdy_block *block = &pool->blocks[id];

    rdy_assert(id < pool->count && block->refs == 0);
    rdy_assert(pool->free_count > 0);
    rdy_assert(len <= pool->size);
    pool->free_count--;
    pool->blocks_live++;
    block->refs = 1;
    rdy_unpoison(block->memory, pool->size);
    rdy_written(block->memory, len, pool->size);
    return block;
}

RDY_HOT struct rdy_block *rdy_buffer_pool_take(struct rdy_buffer_pool *pool)
{
    rdy_assert(!pool->backend);
    if (pool->free_count == 0)
        return NULL;
    return rdy_buffer_pool_filled(pool, pool->free_ids[pool->free_count - 1], 0);
}

static struct rdy_block *large_make(struct rdy_buffer_pool *pool)
{
    struct rdy_block *block;

    if (pool->large_left == 0)
        return NULL;
    block = aligned_alloc(LARGE_HEAD, (2 * LARGE_HEAD + pool->large_size - 1) & ~(LARGE_HEAD - 1));
    if (!block)
        return NULL;
    pool->large_left--;
    *block = (struct rdy_block){
        .pool = pool, .memory = (unsigned char *)block + LARGE_HEAD, .id = RDY_BLOCK_LARGE};
    return block;
}

RDY_HOT struct rdy_block *rdy_buffer_pool_take_large(struct rdy_buffer_pool *pool)
{
    struct rdy_block *block = NULL;

    if (pool->large_free > 0)
        block = pool->large[--pool->large_free];
    else
        block = large_make(pool);
    if (!block)
        return NULL;
    rdy_assert(block->refs == 0);
    rdy_unpoison(block->memory, pool->large_size);
    rdy_written(block->memory, 0, pool->large_size);
    pool->blocks_live++;
    block->refs = 1;
    return block;
}

struct rdy_block *rdy_block_make(struct rdy_buffer_pool *pool, size_t len)
{
    struct rdy_block *block = malloc(sizeof(*block) + len);

    if (!block)
        return NULL;
    *block = (struct rdy_block){
        .pool = pool, .memory = (unsigned char *)(block + 1), .refs = 1, .id = RDY_BLOCK_NO_ID};
    pool->blocks_live++;
    return block;
}

static void buffer_back(struct rdy_buffer_pool *pool, struct rdy_block *block)
{
    rdy_poison(block->memory, pool->size);
    if (pool->backend)
        pool->backend->ops->refill(pool->backend, block->id);
    else
        pool->free_ids[pool->free_count] = block->id;
    pool->free_count++;
}

static void large_back(struct rdy_buffer_pool *pool, struct rdy_block *block)
{
    rdy_assert(pool->large_free < RDY_LARGE_MAX);
    rdy_poison(block->memory, pool->large_size);
    pool->large[pool->large_free++] = block;
}

RDY_HOT void rdy_block_release(struct rdy_block *block)
{
    struct rdy_buffer_pool *pool = block->pool;

    rdy_assert(block->refs > 0);
    if (--block->refs > 0)
        return;
    pool->blocks_live--;
    if (block->id == RDY_BLOCK_NO_ID)
        free(block);
    else if (block->id == RDY_BLOCK_LARGE)
        large_back(pool, block);
    else
        buffer_back(pool, block);
}

RDY_HOT struct rdy_piece *rdy_piece_make(struct rdy_buffer_pool *pool, struct rdy_block *block,
                                         unsigned char *data, size_t len)
{
    struct rdy_piece *piece = pool->spare;

    rdy_debug(block->refs > 0);
    if (rdy_likely(piece != NULL))
        pool->spare = piece->next;
    else
        piece = malloc(sizeof(*piece));
    if (rdy_unlikely(!piece))
        return NULL;
    *piece = (struct rdy_piece){.block = block, .data = data, .len = len};
    return piece;
}

RDY_HOT void rdy_buffer_pool_queue(struct rdy_buffer_pool *pool, struct rdy_piece *piece)
{
    uint32_t id = piece->block->id;

    rdy_assert(id < pool->count && !pool->queued[id]);
    pool->queued[id] = piece;
    pool->queued_count++;
}

static void unqueue(struct rdy_buffer_pool *pool, const struct rdy_piece *piece)
{
    uint32_t id = piece->block->id;

    if (id >= pool->count || pool->queued[id] != piece)
        return;
    rdy_assert(pool->queued_count > 0);
    pool->queued[id] = NULL;
    pool->queued_count--;
}

RDY_HOT void rdy_piece_end(struct rdy_buffer_pool *pool, struct rdy_piece *piece,
                           struct rdy_buf *buf)
{
    struct rdy_block *block = piece->block;

    unqueue(pool, piece);
    if (buf)
        *buf = (struct rdy_buf){.block = block, .data = piece->data, .len = piece->len};
    else
        rdy_block_release(block);
    piece->next = pool->spare;
    pool->spare = piece;
}

bool rdy_piece_copy_out(struct rdy_buffer_pool *pool, struct rdy_piece *piece)
{
    struct rdy_block *block = piece->block;
    struct rdy_block *copy;

    rdy_assert(block->id != RDY_BLOCK_NO_ID);
    if (block->id == RDY_BLOCK_LARGE && piece->len > pool->large_size / 2) {
        block->id = RDY_BLOCK_NO_ID;
        pool->large_left++;
        return true;
    }
    copy = rdy_block_make(pool, piece->len);
    if (!copy)
        return false;
    memcpy(copy->memory, piece->data, piece->len);
    unqueue(pool, piece);
    piece->block = copy;
    piece->data = copy->memory;
    pool->copies++;
    rdy_block_release(block);
    return true;
}

/* Those who starve may do so for long, because somebody keeps all buffers: then this is a look. */
void rdy_buffer_pool_relieve(struct rdy_buffer_pool *pool)
{
    for (uint32_t id = 0; pool->queued_count > 0 && id < pool->count; id++) {
        if (pool->queued[id] && !rdy_piece_copy_out(pool, pool->queued[id]))
            return;
    }
}
