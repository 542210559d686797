/* SPDX-License-Identifier: MIT */
/*
 * Buffers: a pool of equal ones that the kernel fills, blocks that count who holds them, and the
 * pieces that queues are made of.
 *
 * A block is memory with a count: a buffer of the pool, or one allocation with its header in front.
 * A piece is a part of a block that stands in a queue, and one of its references. Free buffers of
 * the pool are either with the backend, which fills the one that came back last where it can, or on
 * a stack of ours, last back first out: what is in use stays in the cache.
 *
 * Beside them are a few large buffers, which only the engine's own calls fill: for a stream whose
 * receives fill the pool's. They are made when they are first wanted, and kept.
 *
 * All of it belongs to the runtime's thread.
 */
#ifndef RDY_ENGINE_BUFFER_POOL_H
#define RDY_ENGINE_BUFFER_POOL_H

#include <rdy/buffer.h>

#include "engine/backend.h"
#include "engine/base.h"

#define RDY_BUFFERS_COUNT_MAX 32768u
#define RDY_BUFFERS_SIZE_MIN  64u
#define RDY_BUFFERS_SIZE_MAX  (1u << 20)
#define RDY_BLOCK_NO_ID       UINT32_MAX
#define RDY_BLOCK_LARGE       (UINT32_MAX - 1)
#define RDY_LARGE_MAX         8u

struct rdy_buffer_pool;

struct rdy_block {
    struct rdy_buffer_pool *pool;
    unsigned char *memory;
    uint32_t refs;
    uint32_t id; /* of the pool's buffer; RDY_BLOCK_LARGE; or RDY_BLOCK_NO_ID: allocated for this */
};

struct rdy_piece {
    struct rdy_piece *next;
    struct rdy_block *block;
    unsigned char *data;
    size_t len;
};

/* First in, first out. */
struct rdy_piece_queue {
    struct rdy_piece *first;
    struct rdy_piece *last;
};

struct rdy_buffer_pool {
    struct rdy_backend *backend; /* that has the free buffers; NULL: free_ids has */
    unsigned char *memory;
    struct rdy_block *blocks;  /* by id */
    struct rdy_piece **queued; /* by id: the piece of a received buffer nobody took yet, or NULL */
    uint32_t *free_ids;
    struct rdy_piece *spare;
    uint32_t count;
    uint32_t size; /* bytes of each */
    uint32_t free_count;
    uint32_t queued_count; /* buffers that `queued` names */
    uint32_t large_size;
    uint32_t large_left; /* may still be made */
    uint32_t large_free; /* so many of `large` */
    struct rdy_block *large[RDY_LARGE_MAX];
    uint64_t blocks_live;
    uint64_t copies;
};

/* @count is a power of two. 0 or -ENOMEM. All buffers are on our stack. */
int rdy_buffer_pool_open(struct rdy_buffer_pool *pool, uint32_t count, uint32_t size);

/* Every block must have come back, but those that the kernel fills. */
void rdy_buffer_pool_close(struct rdy_buffer_pool *pool);

/* From now on the free buffers are @backend's; or (NULL) all that are nobody's are ours again. */
void rdy_buffer_pool_lend(struct rdy_buffer_pool *pool, struct rdy_backend *backend);
void rdy_buffer_pool_reclaim(struct rdy_buffer_pool *pool);

/* A free buffer from our stack, with one reference; NULL if there is none. */
struct rdy_block *rdy_buffer_pool_take(struct rdy_buffer_pool *pool);

/* A large buffer of large_size bytes, with one reference; NULL if all are in use, or no memory. */
struct rdy_block *rdy_buffer_pool_take_large(struct rdy_buffer_pool *pool);

/* True if one may be had. */
static inline bool rdy_buffer_pool_has_large(const struct rdy_buffer_pool *pool)
{
    return pool->large_free > 0 || pool->large_left > 0;
}

/* The buffer into which the backend wrote @len bytes, with one reference. */
struct rdy_block *rdy_buffer_pool_filled(struct rdy_buffer_pool *pool, uint32_t id, size_t len);

/* Memory of its own with one reference, or NULL. */
struct rdy_block *rdy_block_make(struct rdy_buffer_pool *pool, size_t len);

void rdy_block_release(struct rdy_block *block);

/* A piece that takes the caller's reference over, or NULL: no memory, the reference is kept. */
struct rdy_piece *rdy_piece_make(struct rdy_buffer_pool *pool, struct rdy_block *block,
                                 unsigned char *data, size_t len);

/* Frees the piece; its reference becomes the caller's, as @buf, or is given back (NULL). */
void rdy_piece_end(struct rdy_buffer_pool *pool, struct rdy_piece *piece, struct rdy_buf *buf);

/* Received data in a buffer of the pool waits to be asked for: rdy_buffer_pool_relieve() may copy
 * it. Until it is copied or its piece ends. */
void rdy_buffer_pool_queue(struct rdy_buffer_pool *pool, struct rdy_piece *piece);

/* Copies what waits like that, so that the buffers are free; as far as there is memory. */
void rdy_buffer_pool_relieve(struct rdy_buffer_pool *pool);

/* Replaces the piece's buffer of the pool by a copy; a large one that is more than half full just
 * leaves the pool. False without memory; then nothing changed. */
bool rdy_piece_copy_out(struct rdy_buffer_pool *pool, struct rdy_piece *piece);

static inline void rdy_piece_queue_push(struct rdy_piece_queue *queue, struct rdy_piece *piece)
{
    piece->next = NULL;
    if (queue->last)
        queue->last->next = piece;
    else
        queue->first = piece;
    queue->last = piece;
}

static inline struct rdy_piece *rdy_piece_queue_pop(struct rdy_piece_queue *queue)
{
    struct rdy_piece *piece = queue->first;

    if (!piece)
        return NULL;
    queue->first = piece->next;
    if (!queue->first)
        queue->last = NULL;
    return piece;
}

#endif
