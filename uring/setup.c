/* SPDX-License-Identifier: MIT */
/*
 * Opening a ring: the ladder of set-up flags, the features that must be there, the restriction to
 * the operations in use, and the way back.
 *
 * Flags are found by trying, newest first, because distributions port features backwards and
 * version numbers lie. A ring starts disabled: while it is, we register what we need and name what
 * it may ever do: watch and cancel, and unless that is all, receive, send, accept, connect,
 * close, and register the buffers for it. The thread that enables it is its owner.
 *
 * Two things are left out. NO_SQARRAY: liburing 2.3 writes through the array's address, and the
 * gain could not be measured in a server. The registered ring descriptor: it saves some 40 ns an
 * enter, but pins the ring to its thread; after a seccomp filter came in mid-run it could not be
 * taken back, and the dead ring's polls would keep every file open, so that no peer saw a FIN.
 *
 * liburing 2.3 declares but does not export the calls that restrict and enable a ring, so those go
 * through io_uring_register().
 */
#include "engine/base.h"

#ifndef RDY_NO_URING

#include "engine/sys.h"
#include "uring/ring.h"

#include <stdio.h>

#define SQ_ENTRIES     256U
#define SQ_ENTRIES_MIN 32U
#define CQ_ENTRIES     4096U
#define CQ_ENTRIES_MIN 64U

/* No lost completions, timed waits, one mapping; RSRC_TAGS came with multishot poll, in 5.13. */
#define FEATURES_NEEDED                                                                            \
    (IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_SINGLE_MMAP | IORING_FEAT_RSRC_TAGS)

#define SETUP_ALWAYS (IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED)

static const uint32_t rung_flags[RDY_RUNG_COUNT] = {
    [RDY_RUNG_DEFER] =
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    [RDY_RUNG_SINGLE_COOP] =
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
    [RDY_RUNG_COOP] = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,
    [RDY_RUNG_SUBMIT_ALL] = IORING_SETUP_SUBMIT_ALL,
    [RDY_RUNG_PLAIN] = 0,
};

static const char *const step_names[] = {
    [RDY_STEP_NONE] = "nothing failed",
    [RDY_STEP_MEMORY] = "allocating memory",
    [RDY_STEP_SETUP] = "io_uring_setup",
    [RDY_STEP_FEATURES] = "the kernel is older than 5.13: required ring features",
    [RDY_STEP_DONTFORK] = "keeping the ring out of forked children",
    [RDY_STEP_RESTRICT] = "restricting the ring",
    [RDY_STEP_ENABLE] = "enabling the ring",
    [RDY_STEP_EVENTFD] = "opening or registering an eventfd",
    [RDY_STEP_ARM] = "smoke test, arming a multishot poll",
    [RDY_STEP_FIRST_EVENT] = "smoke test, the first event of a multishot poll",
    [RDY_STEP_SECOND_EVENT] = "smoke test, the second event of a multishot poll",
    [RDY_STEP_CANCEL] = "smoke test, cancelling a multishot poll",
};

void rdy_ring_say(enum rdy_ring_step step, int error, char *why, size_t why_len)
{
    rdy_assert((size_t)step < sizeof(step_names) / sizeof(step_names[0]));
    if (why_len > 0)
        (void)snprintf(why, why_len, "%s: %s", step_names[step], strerror(-error));
}

static uint32_t setup_flags(const struct rdy_ring_wish *wish, enum rdy_ring_rung rung)
{
    uint32_t flags = SETUP_ALWAYS | rung_flags[rung];

    /*
     * Who embeds the ring must be told when an enter left work in the kernel, and who spins when
     * there is some; rdy_ring_has_more() reads the flag that this makes the kernel maintain.
     */
    if (wish->is_looked_at && (flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN)))
        flags |= IORING_SETUP_TASKRUN_FLAG;
    return flags;
}

/*
 * -EINVAL is an old kernel: one rung down. -ENOMEM is a memory limit (RLIMIT_MEMLOCK counts rings
 * before 5.12 and again since 6.14): a smaller ring, and the completion queue last, because a small
 * one ends polls when it overflows. Anything else is an answer.
 */
static int ring_setup(struct rdy_ring *ring, const struct rdy_ring_wish *wish)
{
    enum rdy_ring_rung rung = wish->rung_first;
    uint32_t cq_entries = wish->cq_entries > 0 ? wish->cq_entries : CQ_ENTRIES;
    uint32_t sq_entries = cq_entries < SQ_ENTRIES ? cq_entries : SQ_ENTRIES;

    for (;;) {
        struct io_uring_params params = {.flags = setup_flags(wish, rung),
                                         .cq_entries = cq_entries};
        int rc = io_uring_queue_init_params(sq_entries, &ring->uring, &params);

        if (rc == -EINVAL && rung + 1 < RDY_RUNG_COUNT) {
            rung++;
        } else if (rc == -ENOMEM && sq_entries > SQ_ENTRIES_MIN) {
            sq_entries /= 2;
        } else if (rc == -ENOMEM && cq_entries > CQ_ENTRIES_MIN) {
            cq_entries /= 2;
        } else {
            ring->rung = rung;
            return rc;
        }
    }
}

/* Slot n of the queue is SQE n, for good: submitting is then one store of the tail. */
static void ring_fill_array(struct rdy_ring *ring)
{
    struct io_uring_sq *sq = &ring->uring.sq;

    if (ring->uring.flags & IORING_SETUP_NO_SQARRAY)
        return;
    for (uint32_t i = 0; i < sq->ring_entries; i++)
        sq->array[i] = i;
}

/* The first of these are all that a ring may do that only watches. */
#define WATCHING_COUNT 2

/*
 * Names what the ring may ever do. A kernel refuses the whole list for one name that it does not
 * know: before 5.19 that is the buffers' registration, without which there is nothing to lend.
 */
static int ring_restrict_to(const struct rdy_ring *ring, bool is_watching_only, bool has_buffers)
{
    struct io_uring_restriction allowed[] = {
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_POLL_ADD},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_ASYNC_CANCEL},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_RECV},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_SEND},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_SENDMSG},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_RECVMSG},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_ACCEPT},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_CONNECT},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_CLOSE},
        {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_PBUF_RING},
        {0},
    };
    uint32_t count = sizeof(allowed) / sizeof(allowed[0]) - 1;

    if (is_watching_only)
        count = WATCHING_COUNT;
    else if (!has_buffers)
        count--;
    allowed[count++] = (struct io_uring_restriction){
        .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
        .sqe_flags = is_watching_only ? IOSQE_CQE_SKIP_SUCCESS
                                      : IOSQE_CQE_SKIP_SUCCESS | IOSQE_BUFFER_SELECT,
    };
    return io_uring_register((uint32_t)ring->uring.ring_fd, IORING_REGISTER_RESTRICTIONS, allowed,
                             count);
}

static int ring_restrict(const struct rdy_ring *ring, bool is_watching_only)
{
    int rc = ring_restrict_to(ring, is_watching_only, true);

    return rc == -EINVAL ? ring_restrict_to(ring, is_watching_only, false) : rc;
}

/* Everything that a disabled ring still needs. */
static int ring_prepare(struct rdy_ring *ring, const struct rdy_ring_wish *wish,
                        enum rdy_ring_step *step)
{
    int rc;

    *step = RDY_STEP_FEATURES;
    if ((ring->uring.features & FEATURES_NEEDED) != FEATURES_NEEDED)
        return -EOPNOTSUPP;

    *step = RDY_STEP_DONTFORK;
    rc = io_uring_ring_dontfork(&ring->uring);
    if (rc < 0)
        return rc;

    *step = RDY_STEP_EVENTFD;
    rc = wish->notify_fd >= 0 ? io_uring_register_eventfd(&ring->uring, wish->notify_fd) : 0;
    if (rc < 0)
        return rc;

    *step = RDY_STEP_RESTRICT;
    rc = ring_restrict(ring, wish->is_watching_only);
    if (rc < 0)
        return rc;

    *step = RDY_STEP_ENABLE;
    return io_uring_register((uint32_t)ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int rdy_ring_open(struct rdy_ring *ring, const struct rdy_ring_wish *wish,
                  struct rdy_backend *backend, enum rdy_ring_step *step)
{
    int rc;

    memset(ring, 0, sizeof(*ring));
    ring->backend = backend;
    ring->owner_thread = rdy_sys_thread_id();
    ring->owner_process = rdy_sys_process_stamp();

    *step = RDY_STEP_SETUP;
    rc = ring_setup(ring, wish);
    if (rc < 0)
        return rc;
    ring_fill_array(ring);

    rc = ring_prepare(ring, wish, step);
    if (rc < 0) {
        io_uring_queue_exit(&ring->uring);
        return rc;
    }

    *step = RDY_STEP_NONE;
    if (ring->uring.features & IORING_FEAT_NO_IOWAIT)
        ring->enter_flags |= IORING_ENTER_NO_IOWAIT;
    ring->backend->can_batch = (ring->uring.features & IORING_FEAT_MIN_TIMEOUT) != 0;
    if (ring->uring.features & IORING_FEAT_CQE_SKIP)
        ring->cancel_flags = IOSQE_CQE_SKIP_SUCCESS;
    return 0;
}

void rdy_ring_close(struct rdy_ring *ring)
{
    /* A forked child has no mapping of the ring's memory: all that is its own is the descriptor.
     * Its number may be the parent's, where it is the first of another namespace. */
    if (ring->owner_process != rdy_sys_process_stamp()) {
        (void)rdy_sys_close(ring->uring.ring_fd);
        return;
    }

    /* The requests of a thread that has ended went with it; only the owner has any to drain. */
    if (ring->owner_thread == rdy_sys_thread_id())
        rdy_ring_drain(ring);
    rdy_ring_close_unsubmitted(ring);
    io_uring_queue_exit(&ring->uring);
}

#endif
