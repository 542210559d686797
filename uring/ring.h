/* SPDX-License-Identifier: MIT */
/*
 * A ring as this engine uses one: opened down a ladder of flags, restricted to the operations in
 * use, entered once a turn. setup.c opens and closes, ring.c submits, waits and drains, poll.c is
 * the backend on top, probe.c asks whether a kernel can run it.
 *
 * A ring belongs to the thread that opened it. Nothing here is called from any other, except
 * rdy_ring_close() once that thread has ended, or in a forked child.
 */
#ifndef RDY_URING_RING_H
#define RDY_URING_RING_H

#include "engine/backend.h"
#include "uring/compat.h"

/* user_data of a close: this and twice the descriptor. No token is of operation and arming both. */
#define RDY_CLOSE_USER_DATA UINT64_C(0xfffffffd00000000)
#define RDY_CLOSE_MASK      UINT64_C(0xffffffff00000001)

/* Where opening or the smoke test stopped; rdy_ring_say() has the sentences. */
enum rdy_ring_step {
    RDY_STEP_NONE = 0,
    RDY_STEP_MEMORY,
    RDY_STEP_SETUP,
    RDY_STEP_FEATURES,
    RDY_STEP_DONTFORK,
    RDY_STEP_RESTRICT,
    RDY_STEP_ENABLE,
    RDY_STEP_EVENTFD,
    RDY_STEP_ARM,
    RDY_STEP_FIRST_EVENT,
    RDY_STEP_SECOND_EVENT,
    RDY_STEP_CANCEL,
};

/* Rungs of the ladder, newest kernel first; the flags of each are in setup.c. */
enum rdy_ring_rung {
    RDY_RUNG_DEFER = 0,   /* 6.1: task work runs when we ask for events, and only then */
    RDY_RUNG_SINGLE_COOP, /* 6.0 */
    RDY_RUNG_COOP,        /* 5.19: task work without an interrupt */
    RDY_RUNG_SUBMIT_ALL,  /* 5.18: a bad request does not stop those behind it */
    RDY_RUNG_PLAIN,       /* 5.13 */
    RDY_RUNG_COUNT,
};

struct rdy_ring_wish {
    uint32_t cq_entries;
    enum rdy_ring_rung rung_first; /* do not try newer ones */
    int notify_fd;                 /* an eventfd to signal on completions, or -1 */
    bool is_watching_only;         /* refuse all but polls */
    bool is_looked_at;             /* rdy_ring_has_more() will be asked */
};

struct rdy_ring {
    struct io_uring uring;
    struct rdy_backend *backend; /* its counters and its batches are kept here */
    enum rdy_ring_rung rung;
    uint32_t enter_flags;   /* part of every enter */
    uint8_t cancel_flags;   /* of a cancel's SQE: no CQE when it worked, where the kernel can */
    bool is_after_overflow; /* completions before overflow_tail may have waited in the kernel */
    uint32_t overflow_tail; /* a position in the completion queue */
    uint64_t owner_thread;
    uint64_t owner_process; /* rdy_sys_process_stamp() */
};

/* 0, or -errno with @step set. @backend is kept: enters are counted there. */
int rdy_ring_open(struct rdy_ring *ring, const struct rdy_ring_wish *wish,
                  struct rdy_backend *backend, enum rdy_ring_step *step);

/* Cancels what is armed and waits for it, when called by the owner; then frees. */
void rdy_ring_close(struct rdy_ring *ring);

/* One sentence without a full stop: what failed, and how. */
void rdy_ring_say(enum rdy_ring_step step, int error, char *why, size_t why_len);

/* A free SQE, submitting what is queued if there is none; NULL if the kernel takes nothing now. */
struct io_uring_sqe *rdy_ring_sqe(struct rdy_ring *ring);

/*
 * Submits everything and waits until there is a completion, or a batch of them, in one enter. 0, or
 * -errno: the ring is dead. @wanted: with so many completions in hand already, asking for more is
 * left to a later call.
 */
int rdy_ring_wait(struct rdy_ring *ring, int64_t timeout_ns, uint32_t wanted);

/* Carries out the closes that the kernel was not told of, as nobody will tell it any more. */
void rdy_ring_close_unsubmitted(struct rdy_ring *ring);

/* Cancels everything and takes the last completion of each, so that the kernel holds no file. */
void rdy_ring_drain(struct rdy_ring *ring);

/* Queues a close, of which there is a completion only if it failed (before 5.17: always). False:
 * the kernel takes nothing now. */
bool rdy_ring_close_file(struct rdy_ring *ring, int fd);

/* True for the completion of a close. What the kernel could not close then is closed by a call. */
bool rdy_ring_take_close(const struct io_uring_cqe *cqe);

/* Completions that may be looked at now. */
static inline uint32_t rdy_ring_ready(const struct rdy_ring *ring)
{
    const struct io_uring_cq *cq = &ring->uring.cq;

    /* Acquire: pairs with the kernel's release of the tail, after it wrote the CQEs before it. */
    return io_uring_smp_load_acquire(cq->ktail) - *cq->khead;
}

/* The completion at @position, counted from the first that was not yet taken. */
static inline const struct io_uring_cqe *rdy_ring_cqe(const struct rdy_ring *ring,
                                                      uint32_t position)
{
    const struct io_uring_cq *cq = &ring->uring.cq;

    return &cq->cqes[(*cq->khead + position) & cq->ring_mask];
}

/* May the completion at @position have waited in the kernel because the queue was full? */
static inline bool rdy_ring_is_overflow(const struct rdy_ring *ring, uint32_t position)
{
    uint32_t distance = ring->overflow_tail - (*ring->uring.cq.khead + position);

    return ring->is_after_overflow && (int32_t)distance > 0;
}

/*
 * Does the kernel hold something that the next enter would bring? On the rungs down to COOP it
 * needs is_looked_at; on the others what comes is put into the queue at once.
 */
static inline bool rdy_ring_has_more(const struct rdy_ring *ring)
{
    uint32_t flags = IO_URING_READ_ONCE(*ring->uring.sq.kflags);

    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/* Has something been queued that the kernel did not take yet? */
static inline bool rdy_ring_has_queued(const struct rdy_ring *ring)
{
    const struct io_uring_sq *sq = &ring->uring.sq;

    /* Acquire: pairs with the kernel's release of the head, after it read the SQEs before it. */
    return io_uring_smp_load_acquire(sq->khead) != sq->sqe_tail;
}

/* Does the kernel hold completions for which the queue had no room? */
static inline bool rdy_ring_is_overflowing(const struct rdy_ring *ring)
{
    return (IO_URING_READ_ONCE(*ring->uring.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0;
}

/* True if every completion so far has been looked at. What one did not look at may be more, on a
 * ring that does not defer, by the time of the answer. */
static inline bool rdy_ring_is_read_out(const struct rdy_ring *ring)
{
    return rdy_ring_ready(ring) == 0 && !rdy_ring_is_overflowing(ring);
}

/* True if the kernel took all that was queued, and every completion of it has been looked at. */
static inline bool rdy_ring_is_settled(const struct rdy_ring *ring)
{
    return !rdy_ring_has_queued(ring) && rdy_ring_is_read_out(ring);
}

/* As the backend's open(), starting further down the ladder; for tests of the lower rungs. */
int rdy_uring_open_at(struct rdy_backend **out, const struct rdy_backend_opts *opts,
                      enum rdy_ring_rung rung_first, enum rdy_ring_step *step);

/* The backend's probe(), and what makes it ask the kernel again. */
int rdy_uring_probe(struct rdy_probe_report *report, char *why, size_t why_len);
void rdy_uring_probe_forget(void);

#endif
