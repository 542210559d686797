/* SPDX-License-Identifier: MIT */
/*
 * The ring of provided buffers: what the kernel receives into.
 *
 * The kernel takes from the front of the ring and has what came back added behind its end, so it
 * goes around all buffers, however few are in use, and out of the cache. We want the one that came
 * back last: so before an enter those that came back are written in front, over the entries that
 * would be taken next, which move back by as many places.
 *
 * That is only ours to do while the kernel does not look at the ring: on a ring that defers its
 * task work, where receives run in our own enters alone. Before 6.9 a worker thread could run one
 * for which there had been no memory to wait in its place, so it must be a kernel that is newer.
 * And we must know where the front is: the kernel tells of each buffer that it took, but we may not
 * have heard of all yet. Otherwise those that came back are added behind. That the kernel took
 * those that we had in front is looked at all the time; if once it did not, none is moved again.
 *
 * To move all of them would make it a stack, last back first out. As far down as that nobody looks:
 * as many move as were out at a time of late (`hot`), up to what a cache may hold, and what is
 * pushed out of those places goes to the end.
 */
#include "engine/base.h"

#ifndef RDY_NO_URING

#include "engine/sys.h"
#include "uring/uring.h"

#include <stdlib.h>

#define PAGE_BYTES 65536 /* at least a page on every architecture */
#define HOT_MAX    128u  /* of 16 KiB they fill two MiB */
#define HOT_FADE   32u

static size_t whole_pages(size_t bytes)
{
    return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

int rdy_uring_lend(struct rdy_backend *backend, void *memory, uint32_t count, uint32_t size)
{
    struct uring *uring = uring_of(backend);
    size_t bytes = whole_pages(count * sizeof(struct io_uring_buf));
    struct io_uring_buf_reg reg = {.ring_entries = count, .bgid = RDY_URING_GROUP};
    struct rdy_uring_buffers *buffers = &uring->buffers;
    int rc;

    rdy_assert(!buffers->ring);
    rdy_assert(count > 0 && (count & (count - 1)) == 0);
    /* Before 6.0 there is no multishot recv, and nothing that says so before it is tried. */
    if (uring->ring.rung > RDY_RUNG_SINGLE_COOP)
        return -EOPNOTSUPP;
    *buffers = (struct rdy_uring_buffers){.memory = memory, .count = count, .size = size};
    /* Bundles came with 6.10, and no flag with 6.9. */
    buffers->can_move = uring->ring.rung == RDY_RUNG_DEFER &&
                        (uring->ring.uring.features & IORING_FEAT_RECVSEND_BUNDLE) != 0;
    buffers->ring = aligned_alloc(PAGE_BYTES, bytes);
    buffers->back = malloc(count * sizeof(*buffers->back));
    rc = -ENOMEM;
    if (!buffers->ring || !buffers->back)
        goto free_buffers;
    memset(buffers->ring, 0, bytes);
    reg.ring_addr = (uint64_t)(uintptr_t)buffers->ring;
    rdy_a64_bump(&backend->system_calls, 1);
    rc = io_uring_register((uint32_t)uring->ring.uring.ring_fd, IORING_REGISTER_PBUF_RING, &reg, 1);
    if (rc == 0)
        return 0;

free_buffers:
    rdy_uring_free_buffers(uring);
    return rc;
}

void rdy_uring_free_buffers(struct uring *uring)
{
    free(uring->buffers.ring);
    free(uring->buffers.back);
    uring->buffers = (struct rdy_uring_buffers){0};
}

RDY_HOT void rdy_uring_refill(struct rdy_backend *backend, uint32_t buffer)
{
    struct rdy_uring_buffers *buffers = &uring_of(backend)->buffers;

    rdy_assert(buffer < buffers->count && buffers->shown + buffers->back_count < buffers->count);
    buffers->back[buffers->back_count++] = (uint16_t)buffer;
}

/* Not the last field: in the first entry that is the ring's tail. */
static void put(const struct rdy_uring_buffers *buffers, uint32_t position, uint16_t id)
{
    struct io_uring_buf *entry = rdy_uring_buffer_at(buffers, position);

    entry->addr = (uint64_t)(uintptr_t)(buffers->memory + (size_t)id * buffers->size);
    entry->len = buffers->size;
    entry->bid = id;
}

static void put_behind(const struct rdy_uring_buffers *buffers, uint32_t tail)
{
    for (uint32_t i = 0; i < buffers->back_count; i++)
        put(buffers, tail + i, buffers->back[i]);
}

/*
 * The first @moving entries move back by as many places as buffers came back; those that have no
 * place among the first any more go behind the end. From the last to the first: none is written
 * over that is still to be read.
 */
static void put_in_front(const struct rdy_uring_buffers *buffers, uint32_t tail, uint32_t moving)
{
    uint32_t head = tail - buffers->shown;
    uint32_t back_count = buffers->back_count;

    for (uint32_t place = back_count + moving; place-- > 0;) {
        uint32_t position = place < moving ? head + place : tail + (place - moving);

        if (place >= back_count)
            put(buffers, position, rdy_uring_buffer_at(buffers, head + place - back_count)->bid);
        else
            put(buffers, position, buffers->back[back_count - 1 - place]);
    }
}

/* As many as are out, and come back with this; those of a busier time are forgotten by and by. */
static void note_use(struct rdy_uring_buffers *buffers)
{
    uint32_t out = buffers->count - buffers->shown;
    uint32_t faded = buffers->hot - (buffers->hot + HOT_FADE - 1) / HOT_FADE;

    buffers->hot = out > faded ? out : faded;
    if (buffers->hot > HOT_MAX)
        buffers->hot = HOT_MAX;
}

/* The sums are only the same when all was heard: completions may come in another order. */
static bool may_move(struct uring *uring)
{
    struct rdy_uring_buffers *buffers = &uring->buffers;

    if (!buffers->can_move || !rdy_ring_is_read_out(&uring->ring))
        return false;
    buffers->can_move = buffers->sum_taken == buffers->sum_front;
    return buffers->can_move;
}

RDY_HOT void rdy_uring_show_refills(struct uring *uring)
{
    struct rdy_uring_buffers *buffers = &uring->buffers;

    if (buffers->back_count == 0)
        return;
    note_use(buffers);
    if (may_move(uring))
        put_in_front(buffers, buffers->ring->tail,
                     buffers->hot < buffers->shown ? buffers->hot : buffers->shown);
    else
        put_behind(buffers, buffers->ring->tail);
    io_uring_buf_ring_advance(buffers->ring, (int)buffers->back_count);
    buffers->shown += buffers->back_count;
    buffers->back_count = 0;
}

#endif
