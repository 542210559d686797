/* SPDX-License-Identifier: MIT */
/*
 * ScheduledIo: one watched file. Its readiness word, who waits for it, and what the kernel knows.
 *
 * Padded to the cache's line pair so that two busy files never share one, and small enough that a
 * million of them fit into 128 MB. Five kinds of field, by who may touch them:
 *
 *   word, requests    atomics, any thread
 *   waitq             any thread, under its lock
 *   fd, kind, ...     written before the entry is published, then constant
 *   armed_turn, kernel, strikes, arming, flags    the driver's thread only
 *   is_claimed        under the registration set's lock
 */
#ifndef RDY_ENGINE_SCHEDULED_IO_H
#define RDY_ENGINE_SCHEDULED_IO_H

#include <rdy/registration.h>

#include "engine/backend.h"
#include "engine/lock.h"
#include "engine/slab.h"
#include "engine/sys.h"
#include "engine/word.h"

/* Who waits. The lock and what it guards, touched by RDY_REQUIRES functions only. */
struct rdy_waitq {
    struct rdy_lock lock;
    struct rdy_a32 error;     /* of an ended entry: errno, 0: ESHUTDOWN; set before `end` is */
    struct rdy_link waiters;  /* of rdy_readiness.link, first come first */
    struct rdy_waker slot[2]; /* by enum rdy_direction */
};

/* What the kernel knows of the entry. */
enum rdy_kernel_state {
    RDY_KERNEL_IDLE = 0,   /* nothing: the slot may be given back */
    RDY_KERNEL_ARMED,      /* watches; facts will come */
    RDY_KERNEL_CANCELLING, /* asked to stop; the last fact has not come */
};

/* Requests to the driver's thread; the entry is in the inbox while any is set. */
#define RDY_REQUEST_ARM      0x1u
#define RDY_REQUEST_RELEASE  0x2u
#define RDY_REQUEST_CLOSE    0x4u /* with RELEASE: close the descriptor as well */
#define RDY_REQUEST_DISARMED 0x8u /* with RELEASE: the kernel was told already */

/* rdy_scheduled_io.flags */
#define RDY_IO_FD_OURS   0x1u /* rdy_close(): close it when the kernel has let go */
#define RDY_IO_LEAVING   0x2u /* released: give the slot back after the last fact */
#define RDY_IO_LANE      0x4u /* has a lane: engine/lane.h */
#define RDY_IO_UNWATCHED 0x8u /* operations only: its watch is not armed */

struct rdy_scheduled_io {
    struct rdy_slab_head head;
    struct rdy_a64 word;
    struct rdy_waitq waitq;
    struct rdy_driver *driver;
    struct rdy_scheduled_io *inbox_next;
    int32_t fd;
    struct rdy_a32 requests;
    uint32_t serial;     /* names this registration; a slot's next one has another */
    uint32_t armed_turn; /* driver thread: the turn that armed it last */
    uint8_t kind;        /* enum rdy_file_kind */
    uint8_t interest;
    uint8_t kernel;  /* enum rdy_kernel_state */
    uint8_t strikes; /* a device that completes as soon as it is armed */
    uint8_t arming;  /* part of the token: which of the entry's arms a fact speaks of */
    uint8_t flags;   /* RDY_IO_* */
    bool is_claimed; /* under the registration set's lock: somebody released it */
} __attribute__((aligned(RDY_CACHE_LINE)));

static_assert(sizeof(struct rdy_scheduled_io) % RDY_CACHE_LINE == 0, "no two share a line pair");

/*
 * What may be read at any address that was an entry, besides the generation: word, lock, error.
 * Whoever does looks at the generation afterwards, by which he knows whose they were.
 */
#define RDY_SCHEDULED_IO_KEPT                                                                      \
    (offsetof(struct rdy_scheduled_io, waitq.waiters) - sizeof(struct rdy_slab_head))

static_assert(offsetof(struct rdy_scheduled_io, word) == sizeof(struct rdy_slab_head), "in front");
static_assert(RDY_SCHEDULED_IO_KEPT == 16, "a word, a lock and an error");
#if defined(__x86_64__)
static_assert(sizeof(struct rdy_scheduled_io) == 128, "a million take 128 MB");
static_assert(offsetof(struct rdy_scheduled_io, waitq.slot) < 64, "word and lists on one line");
#endif

/*
 * Tokens for the backend: enum rdy_token_about 2 bits, arming 5, slot 25, generation 32. The
 * generation is the registration's and stays; a late fact of an earlier arming of its watch is told
 * apart by the arming. Operations have none: each is begun anew only when it has ended. Sends of
 * datagrams, of which several may be under way, number themselves there.
 */
#define RDY_TOKEN_SLOTS_MAX    (1u << 25)
#define RDY_TOKEN_SLAB         UINT64_C(0x01ffffffffffffff)
#define RDY_TOKEN_ARMINGS      32u
#define RDY_TOKEN_ARMING_SHIFT 57

static inline uint64_t rdy_scheduled_io_token(const struct rdy_scheduled_io *io)
{
    rdy_debug(io->head.slot < RDY_TOKEN_SLOTS_MAX);
    rdy_debug(io->arming < RDY_TOKEN_ARMINGS);
    return ((uint64_t)io->arming << RDY_TOKEN_ARMING_SHIFT) | rdy_slab_token(&io->head);
}

static inline uint64_t rdy_scheduled_io_op_token(const struct rdy_scheduled_io *io,
                                                 enum rdy_token_about about)
{
    rdy_debug(io->head.slot < RDY_TOKEN_SLOTS_MAX);
    return ((uint64_t)about << 62) | rdy_slab_token(&io->head);
}

/* Prepares a slot just taken (zeroed behind its head). */
void rdy_scheduled_io_init(struct rdy_scheduled_io *io, struct rdy_driver *driver, int fd);

/*
 * Sets flags, bumping ticks, and returns the word before. The caller then wakes. Release: what the
 * driver saw is visible to whoever reads the flags; pairs with the acquire loads of the polls.
 */
uint64_t rdy_scheduled_io_set(struct rdy_scheduled_io *io, uint32_t ready);
uint64_t rdy_scheduled_io_assume(struct rdy_scheduled_io *io, uint32_t ready);

/* What is ready of @mask now. Acquires. */
static inline struct rdy_event rdy_scheduled_io_event(const struct rdy_scheduled_io *io,
                                                      uint32_t mask)
{
    return rdy_word_event(rdy_a64_load_acquire(&io->word), mask);
}

/* False if the clear came too late: a newer event stood in one of its directions. */
bool rdy_scheduled_io_clear(struct rdy_scheduled_io *io, struct rdy_event seen);

/* Drops all flags: a new way of telling begins. The caller then wakes, so that all look again. */
void rdy_scheduled_io_forget(struct rdy_scheduled_io *io);

/* Marks the entry ended with @error (0: the driver's shutdown). The caller then wakes. */
void rdy_scheduled_io_end(struct rdy_scheduled_io *io, int error);

/* The answer of an ended entry. Only after its word was seen ended. Acquires. */
int rdy_scheduled_io_error(const struct rdy_scheduled_io *io);

/*
 * Wakes everyone whom @ready satisfies: poll slots, then waiters in the order in which they came,
 * 32 at a time with the lock dropped. Returns the number of wakers run.
 */
uint32_t rdy_scheduled_io_wake(struct rdy_scheduled_io *io, uint32_t ready);

/* Ends all waits with @result (-ECANCELED) and forgets the slots' wakers. */
void rdy_scheduled_io_cancel_all(struct rdy_scheduled_io *io, int result);

/* Looks again under the lock; keeps @waker in the slot only if the answer is RDY_PENDING. */
int rdy_scheduled_io_wait_in_slot(struct rdy_scheduled_io *io, enum rdy_direction direction,
                                  const struct rdy_waker *waker, struct rdy_event *event);

/* The same, for those flags of the direction that are in @mask. */
int rdy_scheduled_io_wait_for(struct rdy_scheduled_io *io, enum rdy_direction direction,
                              uint32_t mask, const struct rdy_waker *waker,
                              struct rdy_event *event);

/* Links @wait, unless the entry became ready or ended: then 1. 0: linked. */
int rdy_scheduled_io_link(struct rdy_scheduled_io *io, struct rdy_readiness *wait);

/* Replaces the waker of a linked wait, or takes the wait out. False if it was woken already. */
bool rdy_scheduled_io_rewake(struct rdy_scheduled_io *io, struct rdy_readiness *wait,
                             const struct rdy_waker *waker);
bool rdy_scheduled_io_unlink(struct rdy_scheduled_io *io, struct rdy_readiness *wait);

#endif
