/* SPDX-License-Identifier: MIT */
/*
 * An io_uring that is older, poorer or more broken than this machine's. It stands between the
 * engine and liburing: the linker puts odd_ring.c in front of the calls by which the engine opens,
 * sets up and enters rings (--wrap, in tests/CMakeLists.txt), for the programs that ask for it.
 * What the test does not spoil reaches the real kernel.
 */
#ifndef RDY_TESTS_SUPPORT_ODD_RING_H
#define RDY_TESTS_SUPPORT_ODD_RING_H

#include "uring/uring.h"

#define ODD_NO_REGISTER UINT32_MAX

/* A completion, before the engine sees it; @nth of the ring, from 1. */
typedef void odd_cqe_fn(struct io_uring_cqe *cqe, uint32_t nth);

/* A request, before the kernel sees it. */
typedef void odd_sqe_fn(struct io_uring_sqe *sqe);

struct odd_ring {
    /* Opening. */
    uint32_t flags_unknown; /* set-up flags that are refused */
    uint32_t sq_entries_max;
    uint32_t cq_entries_max; /* more is too much memory; 0: any */
    uint32_t features_missing;
    bool is_without_array; /* as newer liburings open rings: requests are not looked up */
    int dontfork_error;
    int eventfd_error;
    uint32_t register_op; /* io_uring_register() of this fails, or ODD_NO_REGISTER */
    int register_error;
    bool has_no_buffers;  /* buffer rings are not known, nor in restrictions */
    int queue_init_error; /* of the rings that the probes open */
    int submit_error;
    int wait_error;

    /* Entering: @enters_first reach the kernel, the next @enters do not and are answered so. */
    uint32_t enters_first;
    uint32_t enters;
    int enter_result;
    odd_cqe_fn *on_cqe;
    odd_sqe_fn *on_sqe;

    /* What the test reads. */
    uint32_t enters_seen;
    uint32_t batches_seen; /* enters of the latest ring that were to go on for more */

    /* The latest ring that was opened, which on_cqe and on_sqe are for. */
    struct io_uring *uring;
    int uring_fd;
    uint32_t cq_seen;
    uint32_t sq_seen;
};

extern struct odd_ring odd;

/* From now on a kernel like any other. A ring that is open stays the one that on_cqe is for. */
void odd_heal(void);

#endif
