/* SPDX-License-Identifier: MIT */
/*
 * The ring of the io_uring baseline: set up, entered once a round, with one ring of provided
 * buffers for all connections. Every feature beyond that is a switch and off unless asked for, so
 * that it can be measured against the loop without it; docs/optional-features.md has the outcome.
 *
 * Received data is a chain of pieces, each a part of a buffer. A buffer goes back to the kernel
 * when its last piece is freed and the kernel does not fill it any more.
 */
#ifndef RDY_BENCH_RAW_RING_H
#define RDY_BENCH_RAW_RING_H

#include "bench/raw.h"

#include <stdbool.h>
#include <stddef.h>

#include <liburing.h>

#define NO_PIECE (-1)

struct raw_options {
    const char *where;        /* to listen */
    uint32_t buffers;         /* a power of two */
    uint32_t buffer_size;     /* bytes, a power of two */
    uint32_t buffer_gap;      /* bytes between two buffers: so they begin on different lines */
    uint32_t wait_for;        /* completions that a wait asks for, */
    uint32_t wait_us;         /* but so long only; then one is enough */
    uint32_t wait_after_full; /* completions asked for, without waiting, after a full portion */
    uint32_t zero_copy_from;  /* bytes: sends of as many or more are SEND_ZC; 0: none */
    uint32_t has_bundles;     /* one completion for several buffers */
    uint32_t has_incremental; /* a buffer takes messages until it is full */
    uint32_t has_files;       /* registered sockets, accepted straight into the table */
    uint32_t has_ring_fd;     /* the ring's own descriptor is registered */
};

struct piece {
    int next;
    int buffer;
    uint32_t len;
    char *bytes;
};

struct buffer {
    uint32_t pieces;
    uint32_t filled; /* bytes, of a buffer that is filled incrementally */
    bool is_kernels; /* it will put more into it */
};

struct raw_ring {
    struct io_uring uring;
    const struct raw_options *options;
    struct raw_counts *count;
    uint32_t enter_flags;
    uint32_t entered_with; /* completions that the last enter brought */
    int enter_fd;

    struct io_uring_buf_ring *buffer_ring;
    struct buffer *buffers;
    char *bytes;
    uint32_t returned; /* buffers put into the ring, not yet shown to the kernel */
    uint16_t *order;   /* in which they were */
    uint16_t order_tail;
    uint16_t order_head; /* the next that a bundle takes */

    struct piece *pieces; /* moves when it grows: do not keep pointers */
    int pieces_count;
    int pieces_free; /* a chain */
};

/* From the command line; exits with 2 and says why if it makes no sense. */
void raw_options_parse(struct raw_options *options, int argc, char **argv);

/* @options and @count stay the caller's and must live on. Exits if the kernel lacks something. */
void raw_ring_open(struct raw_ring *ring, const struct raw_options *options,
                   struct raw_counts *count, uint32_t files_max);

/* Never NULL: submits when the queue is full. */
struct io_uring_sqe *raw_ring_sqe(struct raw_ring *ring);

/* Submits everything, and waits for completions if it @may_wait. Signals are let in here. */
void raw_ring_enter(struct raw_ring *ring, bool may_wait);

/* The data of a completion that brought some, as a chain. Returns its first piece, and the last. */
int raw_ring_take(struct raw_ring *ring, const struct io_uring_cqe *cqe, int *last);

/* Frees a chain, perhaps an empty one. */
void raw_ring_free(struct raw_ring *ring, int piece);

/* Shows the kernel the buffers that came back; true if there were any. */
bool raw_ring_show_buffers(struct raw_ring *ring);

#endif
