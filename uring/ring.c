/* SPDX-License-Identifier: MIT */
/*
 * Submitting, waiting and draining: every io_uring_enter() of the engine is in this file.
 *
 * Ours rather than liburing's, because 2.3 cannot pass NO_IOWAIT (without which an idle loop shows
 * as a machine that waits for its disk) and because one call must submit and wait. What enter
 * returns is a trap: with anything submitted it returns that number, and a signal or the timeout
 * goes unmentioned. So nothing is concluded from it but "dead" or "go and look".
 */
#include "engine/base.h"

#ifndef RDY_NO_URING

#include "engine/sys.h"
#include "uring/ring.h"

/* How long to wait before asking a kernel again that had no memory for a request. */
#define RETRY_NS RDY_NS_PER_MS

/* IO_LOCAL_TW_DEFAULT_MAX in the kernel. A smaller number there would cost turns, a larger none. */
#define TASK_WORK_PORTION 20u

#define DAY_NS (86400 * RDY_NS_PER_S)

#define DRAIN_ROUNDS_MAX 64
#define DRAIN_WAIT_NS    (50 * RDY_NS_PER_MS)

/* Even low word: no token, whose generation is odd. */
#define DRAIN_USER_DATA UINT64_C(0xfffffffe00000000)

/* Makes what is queued visible to the kernel; returns how much it has not taken. */
static uint32_t ring_flush(struct rdy_ring *ring)
{
    struct io_uring_sq *sq = &ring->uring.sq;

    if (sq->sqe_head != sq->sqe_tail) {
        sq->sqe_head = sq->sqe_tail;
        /* Release: pairs with the kernel's acquire of the tail, before it reads the SQEs. */
        io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    }
    return sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
}

/*
 * A full completion queue leaves the rest in the kernel, and the next enter brings it. Such
 * completions end multishot polls that have done nothing wrong, so where they are is remembered:
 * "pending before the enter" means that all it brought may be of them.
 */
static void ring_note_overflow(struct rdy_ring *ring, bool was_overflowing)
{
    if (was_overflowing) {
        ring->is_after_overflow = true;
        ring->overflow_tail = io_uring_smp_load_acquire(ring->uring.cq.ktail);
    } else if (ring->is_after_overflow && !rdy_ring_is_overflow(ring, 0)) {
        ring->is_after_overflow = false;
    }
}

/* Said by -EBADR only when an enter finds nothing else to tell; the counter says it at once. */
static bool ring_has_dropped(const struct rdy_ring *ring)
{
    return IO_URING_READ_ONCE(*ring->uring.cq.koverflow) != 0;
}

/* What an enter waits for: nothing, some completions, or a batch of them if they come soon. */
struct ring_wait {
    uint32_t count;
    uint32_t batch_us;  /* after so long one is enough; 0: all of them are wanted */
    int64_t timeout_ns; /* negative: no limit */
};

static const struct ring_wait wait_for_none = {.count = 0};

static RDY_HOT int ring_enter(struct rdy_ring *ring, uint32_t submit, uint32_t flags,
                              const struct ring_wait *wait)
{
    struct __kernel_timespec ts;
    struct rdy_getevents_arg arg = {.min_wait_usec = wait->batch_us};
    bool was_overflowing = rdy_ring_is_overflowing(ring);
    void *arg_ptr = NULL;
    size_t arg_len = 0;
    int rc;

    flags |= ring->enter_flags;
    if (wait->count > 0 && wait->timeout_ns >= 0) {
        ts.tv_sec = wait->timeout_ns / RDY_NS_PER_S;
        ts.tv_nsec = wait->timeout_ns % RDY_NS_PER_S;
        arg.ts = (uint64_t)(uintptr_t)&ts;
    }
    if (arg.ts != 0 || arg.min_wait_usec != 0) {
        arg_ptr = &arg;
        arg_len = sizeof(arg);
        flags |= IORING_ENTER_EXT_ARG;
    }
    rdy_a64_bump(&ring->backend->system_calls, 1);
    rc = io_uring_enter2((uint32_t)ring->uring.ring_fd, submit, wait->count, flags, arg_ptr,
                         arg_len);
    ring_note_overflow(ring, was_overflowing);
    return rc;
}

/* Submits without waiting; stops when the kernel takes no more. */
static void ring_submit(struct rdy_ring *ring)
{
    uint32_t queued = ring_flush(ring);

    while (queued > 0) {
        if (ring_enter(ring, queued, 0, &wait_for_none) <= 0)
            return;
        ring->backend->has_begun = true;
        queued = ring_flush(ring);
    }
}

RDY_HOT struct io_uring_sqe *rdy_ring_sqe(struct rdy_ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (rdy_unlikely(!sqe)) {
        ring_submit(ring);
        sqe = io_uring_get_sqe(&ring->uring);
    }
    return sqe;
}

/*
 * A batch is not waited for longer than the caller would wait at all, because the kernel looks at
 * the timeout when the batch's time is over; nor is more waited for than the caller takes. And
 * without a timeout the kernel ends the wait at that time even if nothing came: an idle program
 * would turn for ever. So there always is one.
 */
static struct ring_wait batch_wait(const struct rdy_ring *ring, int64_t timeout_ns, uint32_t wanted)
{
    const struct rdy_backend *backend = ring->backend;
    struct ring_wait wait = {.count = 1, .timeout_ns = timeout_ns};
    int64_t most_us = backend->batch_wait_us;

    if (rdy_likely(backend->batch_count <= 1))
        return wait;
    if (timeout_ns >= 0 && timeout_ns / RDY_NS_PER_US < most_us)
        most_us = timeout_ns / RDY_NS_PER_US;
    if (backend->can_batch && wanted > 1 && most_us > 0) {
        wait.count = backend->batch_count < wanted ? backend->batch_count : wanted;
        wait.batch_us = (uint32_t)most_us;
        if (timeout_ns < 0)
            wait.timeout_ns = DAY_NS;
    }
    return wait;
}

/* One enter for all, or a few where a kernel before 5.18 stops behind each bad request. */
static int ring_submit_and_wait(struct rdy_ring *ring, int64_t timeout_ns, uint32_t wanted)
{
    const struct ring_wait wait = batch_wait(ring, timeout_ns, wanted);

    for (;;) {
        uint32_t queued = ring_flush(ring);
        uint32_t ready = rdy_ring_ready(ring);
        uint32_t flags = ready < wanted ? IORING_ENTER_GETEVENTS : 0;
        bool may_wait = ready == 0 && timeout_ns != 0;
        int rc;

        ring->backend->batch_waited = may_wait ? wait.count : 1;
        if (queued == 0 && flags == 0)
            return 0;
        rc = ring_enter(ring, queued, flags, may_wait ? &wait : &wait_for_none);
        if (rc <= 0 || (uint32_t)rc >= queued)
            return rc;
        ring->backend->has_begun = true;
    }
}

/*
 * With DEFER_TASKRUN an enter runs some twenty pieces of the work that waits (before 6.13: all) and
 * leaves the rest. Taking no more would serve those later and later who come at a higher rate than
 * twenty a turn. So as long as each enter brings as many, the next is made at once; but not into a
 * queue that might overflow of it.
 */
static void ring_take_rest(struct rdy_ring *ring, uint32_t before, uint32_t wanted)
{
    uint32_t room = ring->uring.cq.ring_entries;
    uint32_t ready = rdy_ring_ready(ring);

    while (ready - before >= TASK_WORK_PORTION && ready < wanted &&
           ready + TASK_WORK_PORTION <= room) {
        before = ready;
        if (ring_enter(ring, 0, IORING_ENTER_GETEVENTS, &wait_for_none) < 0)
            return; /* what it was, the next call hears; here are completions to be taken */
        ready = rdy_ring_ready(ring);
        rdy_assert(ready - before <= room);
    }
}

RDY_HOT int rdy_ring_wait(struct rdy_ring *ring, int64_t timeout_ns, uint32_t wanted)
{
    uint32_t before = rdy_ring_ready(ring);
    struct ring_wait retry;
    int rc = ring_submit_and_wait(ring, timeout_ns, wanted);

    if (rc >= 0 && ring->rung == RDY_RUNG_DEFER)
        ring_take_rest(ring, before, wanted);

    /* No memory for a request, or (before 5.19) a backlog of completions: wait a little. */
    if ((rc == -EAGAIN || rc == -EBUSY) && rdy_ring_ready(ring) == 0) {
        if (timeout_ns < 0 || timeout_ns > RETRY_NS)
            timeout_ns = RETRY_NS;
        retry = (struct ring_wait){.count = timeout_ns > 0, .timeout_ns = timeout_ns};
        rc = ring_enter(ring, 0, IORING_ENTER_GETEVENTS, &retry);
    }
    /*
     * All else is death: -EBADR (the kernel dropped completions for want of memory, and cannot say
     * whose), -EPERM and -ENOSYS (a filter came after us), -EOWNERDEAD, -EEXIST (not our thread).
     */
    if (rc == -EINTR)
        rdy_a64_bump(&ring->backend->interruptions, 1);
    if (rdy_unlikely(ring_has_dropped(ring)))
        rc = -EBADR;
    if (rc >= 0 || rc == -EINTR || rc == -ETIME || rc == -EAGAIN || rc == -EBUSY) {
        ring->backend->has_begun = false;
        return 0;
    }
    ring->backend->has_lost = rc == -EBADR || rdy_ring_is_overflowing(ring);
    return rc;
}

bool rdy_ring_close_file(struct rdy_ring *ring, int fd)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(ring);

    if (!sqe)
        return false;
    io_uring_prep_close(sqe, fd);
    sqe->flags |= ring->cancel_flags;
    sqe->user_data = RDY_CLOSE_USER_DATA | (uint64_t)fd << 1;
    return true;
}

/* As with close(2), an error of closing itself (EIO, EINTR) has closed it all the same. */
bool rdy_ring_take_close(const struct io_uring_cqe *cqe)
{
    if ((cqe->user_data & RDY_CLOSE_MASK) != RDY_CLOSE_USER_DATA)
        return false;
    if (cqe->res == -EACCES || cqe->res == -EAGAIN || cqe->res == -ECANCELED || cqe->res == -ENOMEM)
        (void)rdy_sys_close((int)((uint32_t)cqe->user_data >> 1));
    return true;
}

/*
 * The kernel moves the head past what it took, and carried out: a close is, in the enter that
 * submits it, whatever becomes of its completion.
 */
void rdy_ring_close_unsubmitted(struct rdy_ring *ring)
{
    struct io_uring_sq *sq = &ring->uring.sq;

    for (uint32_t at = io_uring_smp_load_acquire(sq->khead); at != sq->sqe_tail; at++) {
        struct io_uring_sqe *sqe = &sq->sqes[at & sq->ring_mask];

        if (sqe->opcode != IORING_OP_CLOSE)
            continue;
        (void)rdy_sys_close(sqe->fd);
        io_uring_prep_nop(sqe); /* should this ring be asked again */
    }
}

struct drain {
    bool is_answered; /* the cancel's own completion came: */
    int cancelled;    /* so many requests were found, or -errno */
    uint32_t finals;  /* last completions of requests seen so far */
};

/* A completion that nobody else will see: what it says is done, what it brings is let go. */
static void drain_take(struct drain *drain, const struct io_uring_cqe *cqe)
{
    if (cqe->user_data == DRAIN_USER_DATA) {
        drain->is_answered = true;
        drain->cancelled = cqe->res;
        return;
    }
    if (rdy_ring_take_close(cqe))
        return;
    if (rdy_token_about(cqe->user_data) == RDY_ABOUT_ACCEPT && (cqe->user_data & 1) &&
        cqe->res >= 0)
        (void)rdy_sys_close(cqe->res);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        drain->finals++;
}

/* Takes all completions there are, waiting for @wait_for of them; false if none came. */
static bool ring_collect(struct rdy_ring *ring, struct drain *drain, uint32_t wait_for)
{
    const struct ring_wait wait = {.count = wait_for, .timeout_ns = DRAIN_WAIT_NS};
    uint32_t queued = ring_flush(ring);
    uint32_t ready;
    int rc;

    rc = ring_enter(ring, queued, IORING_ENTER_GETEVENTS, &wait);
    ready = rdy_ring_ready(ring);
    for (uint32_t i = 0; i < ready; i++)
        drain_take(drain, rdy_ring_cqe(ring, i));
    io_uring_cq_advance(&ring->uring, ready);
    return ready > 0 || rc > 0 || rc == -EINTR;
}

/*
 * Leaving it to the ring's exit would do the same some milliseconds later, out of our sight: a
 * listener's port would still be taken when close() has returned. Kernels before 5.19 do not know
 * CANCEL_ANY, answer -EINVAL, and leave it at that.
 */
void rdy_ring_drain(struct rdy_ring *ring)
{
    for (int round = 0; round < DRAIN_ROUNDS_MAX; round++) {
        struct io_uring_sqe *sqe = rdy_ring_sqe(ring);
        struct drain drain = {.is_answered = false};
        bool is_moving = true;

        if (!sqe)
            return;
        io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
        sqe->user_data = DRAIN_USER_DATA;

        while (!drain.is_answered && is_moving)
            is_moving = ring_collect(ring, &drain, 1);
        if (!drain.is_answered || drain.cancelled <= 0)
            return;
        while (is_moving && drain.finals < (uint32_t)drain.cancelled)
            is_moving = ring_collect(ring, &drain, (uint32_t)drain.cancelled - drain.finals);
    }
}

#endif
