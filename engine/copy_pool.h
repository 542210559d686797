/* SPDX-License-Identifier: MIT */
/*
 * What all copies of a runtime share: scratch memory, spare pipes, and the counts of what they
 * hold. Made by the first copy that is polled, freed with the runtime. The runtime's thread.
 */
#ifndef RDY_ENGINE_COPY_POOL_H
#define RDY_ENGINE_COPY_POOL_H

#include <rdy/copy.h>

#include "engine/base.h"

/*
 * Less costs system calls: 64 KiB by 16 KiB at a time take 1.7 times as long as by a plain read and
 * write, by 32 or 64 KiB 1.0 to 1.07 times (bench/bench_copy.cc).
 */
#define RDY_COPY_SCRATCH 65536u

/* Pipes that are kept empty: what a busy runtime needs at once is one or two. */
#define RDY_COPY_PIPES_SPARE_MAX 16u

struct rdy_copy_pool {
    struct rdy_copy_stats count;
    int spare[RDY_COPY_PIPES_SPARE_MAX][2];
    unsigned char scratch[RDY_COPY_SCRATCH]; /* used within one step of one copy */
};

/* The runtime's pool, made if need be; NULL: no memory. */
struct rdy_copy_pool *rdy_copy_pool_of(struct rdy_runtime *runtime);

/* 0 and an empty pipe, or -errno. */
int rdy_copy_pool_take_pipe(struct rdy_copy_pool *pool, int pipe[2]);

/* Keeps an empty pipe, or closes it. */
void rdy_copy_pool_give_pipe(struct rdy_copy_pool *pool, const int pipe[2], bool is_empty);

/* A direction's buffer; NULL: no memory. */
unsigned char *rdy_copy_pool_take_buffer(struct rdy_copy_pool *pool, size_t size);
void rdy_copy_pool_give_buffer(struct rdy_copy_pool *pool, unsigned char *buffer, size_t size);

/* In closing the runtime, when no task lives. NULL is fine. */
void rdy_copy_pool_free(struct rdy_copy_pool *pool);

#endif
