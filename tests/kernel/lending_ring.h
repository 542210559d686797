/* SPDX-License-Identifier: MIT */
/* A ring that was lent buffers, as completion mode lends them; and the tokens of operations. */
#ifndef RDY_TESTS_KERNEL_LENDING_RING_H
#define RDY_TESTS_KERNEL_LENDING_RING_H

#include <stdlib.h>

#include "engine/backend.h"
#include "tests/kernel/helpers.h"
#include "uring/uring.h"

#define SOON_NS     (2000 * RDY_NS_PER_MS)
#define BUFFERS     8u
#define BUFFER_SIZE 1024u
#define RECV_TOKEN  ((uint64_t)RDY_ABOUT_RECV << 62 | 1)
#define SEND_TOKEN  ((uint64_t)RDY_ABOUT_SEND << 62 | 1)

/* @memory is that of the buffers. */
static inline struct rdy_backend *lending_ring_open(unsigned char **memory)
{
    struct rdy_backend_opts opts = {.events_max = 64, .cq_entries = 64};
    struct rdy_backend *ring = NULL;
    enum rdy_ring_step step;

    assert_int_equal(rdy_uring_open_at(&ring, &opts, RDY_RUNG_DEFER, &step), 0);
    *memory = calloc(BUFFERS, BUFFER_SIZE);
    assert_non_null(*memory);
    assert_int_equal(ring->ops->lend(ring, *memory, BUFFERS, BUFFER_SIZE), 0);
    return ring;
}

/* Gives it every buffer to receive into. */
static inline void lending_ring_fill(struct rdy_backend *ring)
{
    for (uint32_t i = 0; i < BUFFERS; i++)
        ring->ops->refill(ring, i);
}

static inline void lending_ring_close(struct rdy_backend *ring, unsigned char *memory)
{
    ring->ops->close(ring);
    free(memory);
}

#endif
