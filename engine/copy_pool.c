/* SPDX-License-Identifier: MIT */
/*
 * The memory and the pipes of a runtime's copies. A pipe in the pool is empty; one that is not is
 * closed, since nobody would know whose bytes they are.
 */
#include "engine/copy_pool.h"

#include <fcntl.h>
#include <stdlib.h>

#include "engine/runtime.h"
#include "engine/sys.h"
#include "engine/sys_pipe.h"

struct rdy_copy_pool *rdy_copy_pool_of(struct rdy_runtime *runtime)
{
    struct rdy_copy_pool *pool = runtime->copy_pool;

    if (rdy_likely(pool != NULL))
        return pool;
    pool = malloc(sizeof(*pool));
    if (!pool)
        return NULL;
    pool->count = (struct rdy_copy_stats){.scratch_bytes = sizeof(pool->scratch)};
    runtime->copy_pool = pool;
    return pool;
}

int rdy_copy_pool_take_pipe(struct rdy_copy_pool *pool, int pipe[2])
{
    int rc;

    if (rdy_likely(pool->count.pipes_spare > 0)) {
        pool->count.pipes_spare--;
        memcpy(pipe, pool->spare[pool->count.pipes_spare], 2 * sizeof(pipe[0]));
        return 0;
    }
    rc = rdy_sys_pipe(pipe, O_NONBLOCK);
    if (rc == 0)
        pool->count.pipes_live++;
    return rc;
}

static void pipe_close(struct rdy_copy_pool *pool, const int pipe[2])
{
    rdy_assert(pool->count.pipes_live > 0);
    pool->count.pipes_live--;
    (void)rdy_sys_close(pipe[0]);
    (void)rdy_sys_close(pipe[1]);
}

void rdy_copy_pool_give_pipe(struct rdy_copy_pool *pool, const int pipe[2], bool is_empty)
{
    if (!is_empty || pool->count.pipes_spare == RDY_COPY_PIPES_SPARE_MAX) {
        pipe_close(pool, pipe);
        return;
    }
    memcpy(pool->spare[pool->count.pipes_spare], pipe, 2 * sizeof(pipe[0]));
    pool->count.pipes_spare++;
    rdy_debug(pool->count.pipes_spare <= pool->count.pipes_live);
}

unsigned char *rdy_copy_pool_take_buffer(struct rdy_copy_pool *pool, size_t size)
{
    unsigned char *buffer = malloc(size);

    if (!buffer)
        return NULL;
    pool->count.buffers_taken++;
    pool->count.buffers_live++;
    pool->count.buffer_bytes += size;
    return buffer;
}

void rdy_copy_pool_give_buffer(struct rdy_copy_pool *pool, unsigned char *buffer, size_t size)
{
    rdy_assert(pool->count.buffers_live > 0);
    rdy_assert(pool->count.buffer_bytes >= size);
    pool->count.buffers_live--;
    pool->count.buffer_bytes -= size;
    free(buffer);
}

void rdy_copy_pool_free(struct rdy_copy_pool *pool)
{
    if (!pool)
        return;
    while (pool->count.pipes_spare > 0)
        pipe_close(pool, pool->spare[--pool->count.pipes_spare]);
    /* A copy that is still open now has nowhere to give its memory to: its task forgot a close. */
    rdy_debug(pool->count.buffers_live == 0);
    rdy_debug(pool->count.pipes_live == 0);
    free(pool);
}

void rdy_copy_read_stats(const struct rdy_runtime *runtime, struct rdy_copy_stats *stats)
{
    *stats = runtime->copy_pool ? runtime->copy_pool->count : (struct rdy_copy_stats){0};
}
