/* SPDX-License-Identifier: MIT */
/*
 * What every public header stands on: export and result markers, the version, RDY_PENDING.
 *
 * The conventions of the whole interface are stated once, here. A call returns 0, a count, or
 * -errno, and never touches errno. A call that can be waited for may also return RDY_PENDING: the
 * waker that was passed in will run, call again then. Every pointer and file descriptor is
 * *borrowed* (for this call), *kept* (until the doc comment says), *taken* (on success only) or
 * *owned by the caller* (returned; the doc comment names the call that frees it).
 */
#ifndef RDY_BASE_H
#define RDY_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* clang-format off */
#ifdef __cplusplus
#define RDY_BEGIN_DECLS extern "C" {
#define RDY_END_DECLS   }
#else
#define RDY_BEGIN_DECLS
#define RDY_END_DECLS
#endif
/* clang-format on */

#define RDY_API       __attribute__((visibility("default")))
#define RDY_NODISCARD __attribute__((warn_unused_result))

#define RDY_VERSION_MAJOR 0
#define RDY_VERSION_MINOR 1
#define RDY_VERSION_PATCH 0
#define RDY_VERSION       "0.1.0"

/* A word that the engine reads and writes atomically. Private wherever it appears. */
struct rdy_a32 {
    uint32_t v;
};

/* A node of one of the engine's lists. Private wherever it appears. */
struct rdy_link {
    struct rdy_link *next;
    struct rdy_link *prev;
};

/* "Not yet; your waker will run." Far below every -errno, so that it is never taken for one. */
#define RDY_PENDING (-0x10000)

#endif
