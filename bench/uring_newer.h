/* SPDX-License-Identifier: MIT */
/*
 * What liburing 2.3 lacks for the switches of the io_uring baseline. The numbers are the kernel's
 * and never change; the structs are as they are since a member took the place of padding.
 */
#ifndef RDY_BENCH_URING_NEWER_H
#define RDY_BENCH_URING_NEWER_H

#include <assert.h>
#include <stdint.h>

#include <liburing.h>

#ifndef IORING_RECVSEND_BUNDLE
#define IORING_RECVSEND_BUNDLE (1U << 4) /* 6.10 */
#endif

/* Of a ring of provided buffers, and of a completion: 6.12, without bugs that we know since 6.15 */
#ifndef IOU_PBUF_RING_INC
#define IOU_PBUF_RING_INC 2U
#endif
#ifndef IORING_CQE_F_BUF_MORE
#define IORING_CQE_F_BUF_MORE (1U << 4)
#endif

#ifndef IORING_FEAT_RECVSEND_BUNDLE
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14) /* 6.10 */
#endif
#ifndef IORING_FEAT_MIN_TIMEOUT
#define IORING_FEAT_MIN_TIMEOUT (1U << 15) /* 6.12 */
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17) /* 6.15 */
#endif

/* struct io_uring_buf_reg, since 6.4. */
struct newer_buf_reg {
    uint64_t ring_addr;
    uint32_t ring_entries;
    uint16_t bgid;
    uint16_t flags;
    uint64_t unused[3];
};

/* struct io_uring_getevents_arg, since 6.12. */
struct newer_getevents_arg {
    uint64_t sigmask;
    uint32_t sigmask_sz;
    uint32_t min_wait_usec;
    uint64_t ts;
};

static_assert(sizeof(struct newer_buf_reg) == sizeof(struct io_uring_buf_reg), "the kernel's");
static_assert(sizeof(struct newer_getevents_arg) == sizeof(struct io_uring_getevents_arg),
              "the kernel's");

#endif
