/* SPDX-License-Identifier: MIT */
/*
 * What liburing 2.3 lacks of newer kernels' interface. Opcodes are members of an enum there, which
 * no #ifndef can see, so ours have names of their own; flags are macros and are filled in only
 * where the installed header has none. The numbers are the kernel's and never change.
 */
#ifndef RDY_URING_COMPAT_H
#define RDY_URING_COMPAT_H

#include <assert.h>
#include <stdint.h>

#include <liburing.h>

/* io_uring_setup(), 6.6: newer liburing asks for it by itself, and the SQ has no array then. */
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

/* Feature bits. */
#ifndef IORING_FEAT_RECVSEND_BUNDLE
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14) /* 6.10 */
#endif
#ifndef IORING_FEAT_MIN_TIMEOUT
#define IORING_FEAT_MIN_TIMEOUT (1U << 15) /* 6.12 */
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17) /* 6.15 */
#endif

/* io_uring_enter(), 6.15: an idle wait is not shown as waiting for a disk. */
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7)
#endif

/* struct io_uring_getevents_arg since 6.12: the time had been padding. */
struct rdy_getevents_arg {
    uint64_t sigmask;
    uint32_t sigmask_sz;
    uint32_t min_wait_usec;
    uint64_t ts;
};

static_assert(sizeof(struct rdy_getevents_arg) == sizeof(struct io_uring_getevents_arg),
              "the kernel tells them apart by nothing");

/* Opcodes newer than liburing 2.3. */
#define RDY_OP_READ_MULTISHOT 49 /* 6.7 */
#define RDY_OP_FUTEX_WAIT     51 /* 6.7 */
#define RDY_OP_BIND           56 /* 6.11 */
#define RDY_OP_LISTEN         57 /* 6.11 */

static_assert(IORING_OP_SENDMSG_ZC == 48, "the numbers above continue liburing's enum");

#endif
