/* SPDX-License-Identifier: MIT */
/*
 * The io_uring backend: one multishot POLL_ADD a watch, its completions turned into facts. What
 * completes in the ring besides is in complete.c.
 *
 * What this kernel interface gets wrong, and what is done about it:
 * a) A multishot poll may end by itself, above all when the completion queue is full. A completion
 *    without F_MORE is the last, whatever else it says; the engine arms again.
 * b) Cancelling is a request of its own, and its answer says nothing about the target: the target's
 *    own last completion does. POLL_REMOVE can even fail with the poll left armed, so ASYNC_CANCEL.
 * c) An armed poll keeps the file open. After close(2) a peer sees no FIN until the poll is gone.
 * d) The mask of a completion is what woke the poll, not the file's state, unless several wake-ups
 *    came together; masks must be added up, and PRI may be false.
 * e) A file that cannot be polled is reported as always ready, once. The engine tells them apart.
 * f) The descriptor of a DEFER_TASKRUN ring never wakes another loop, and what it signals to an
 *    eventfd comes too late or never; so a ring that another loop watches does not defer.
 * g) Only the thread that opened the ring may enter it, so arm() and disarm() are its alone.
 */
#include "engine/base.h"

#ifndef RDY_NO_URING

#include "engine/sys.h"
#include "uring/uring.h"

#include <poll.h>
#include <stdlib.h>

#define WAKE_USER_DATA UINT64_C(0xffffffff00000000)
#define EVENTS_ASKED   (RDY_EV_IN | RDY_EV_PRI | RDY_EV_OUT)
/*
 * A socket's data wakes with this bit in the key, and no stream socket's state ever has it: so it
 * tells a key from a state. Asked for along with IN, and taken out again. With PRI as well, because
 * the kernel leaves PRI out when it looks whether a wake-up's key is one that the poll wants: a
 * poll for PRI alone, or with OUT, would sleep through urgent data.
 */
#define KEY_BIT    POLLRDBAND
#define EVENTS_ALL (EVENTS_ASKED | RDY_EV_ERR | RDY_EV_HUP | RDY_EV_RDHUP)

static_assert(RDY_EV_IN == POLLIN && RDY_EV_PRI == POLLPRI && RDY_EV_OUT == POLLOUT, "poll bits");
static_assert(RDY_EV_ERR == POLLERR && RDY_EV_HUP == POLLHUP, "poll bits");
static_assert(RDY_EV_RDHUP == POLLRDHUP, "poll bits");

static int poll_queue(struct uring *uring, int fd, uint64_t user_data, uint32_t events)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(&uring->ring);

    if (!sqe)
        return -EBUSY;
    io_uring_prep_poll_multishot(sqe, fd, events);
    sqe->user_data = user_data;
    return 0;
}

static int uring_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    rdy_assert(token & 1);
    events &= EVENTS_ALL;
    if (events & (RDY_EV_IN | RDY_EV_PRI))
        events |= KEY_BIT;
    return poll_queue(uring_of(backend), fd, token, events);
}

static int cancel_queue(struct uring *uring, uint64_t token)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(&uring->ring);

    if (!sqe)
        return -EBUSY;
    io_uring_prep_cancel64(sqe, token, 0);
    sqe->user_data = token ^ 1;
    sqe->flags |= uring->ring.cancel_flags;
    return 0;
}

static int uring_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    (void)fd;
    rdy_assert(token & 1);
    return cancel_queue(uring_of(backend), token);
}

/*
 * The answer to a cancel. 0: done, the target's last completion follows. -ENOENT: that one has come
 * or is in the queue. -EALREADY (before 5.17): the target was just then being completed, and may
 * have stayed armed for all we know: ask again. Anything else means that this ring can no longer
 * cancel, and an entry would wait for its last fact for ever: better a dead ring.
 */
static int take_cancel(struct uring *uring, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0 || cqe->res == -ENOENT)
        return 0;
    if (cqe->res == -EALREADY)
        return cancel_queue(uring, cqe->user_data | 1);
    return cqe->res;
}

static int take_wake(struct uring *uring, const struct io_uring_cqe *cqe)
{
    if (!(cqe->flags & IORING_CQE_F_MORE))
        uring->is_wake_armed = false;
    return cqe->res < 0 ? cqe->res : 0;
}

static void take_poll(const struct io_uring_cqe *cqe, bool is_overflow, struct rdy_fact *fact)
{
    bool is_last = !(cqe->flags & IORING_CQE_F_MORE);

    fact->token = cqe->user_data;
    fact->events = cqe->res > 0 ? (uint32_t)cqe->res & EVENTS_ALL : 0;
    fact->result = cqe->res < 0 ? cqe->res : 0;
    fact->flags = is_last ? RDY_FACT_LAST : 0;
    if (is_last && is_overflow && cqe->res >= 0)
        fact->flags |= RDY_FACT_OVERFLOW;
    if (cqe->res > 0 && (cqe->res & KEY_BIT))
        fact->flags |= RDY_FACT_KEY;
    fact->buffer = 0;
}

/* 1: a fact; 0: nothing for the engine; -errno: leave this completion where it is. */
static int uring_take(struct uring *uring, uint32_t position, struct rdy_fact *fact)
{
    const struct io_uring_cqe *cqe = rdy_ring_cqe(&uring->ring, position);

    if (rdy_likely(cqe->user_data & 1)) {
        bool is_overflow = rdy_ring_is_overflow(&uring->ring, position);

        if (rdy_token_about(cqe->user_data) == RDY_ABOUT_WATCH)
            take_poll(cqe, is_overflow, fact);
        else
            rdy_uring_take_operation(cqe, is_overflow, fact);
        if (fact->flags & RDY_FACT_BUFFER)
            rdy_uring_note_taken(&uring->buffers, fact->buffer);
        return 1;
    }
    if (cqe->user_data == WAKE_USER_DATA)
        return take_wake(uring, cqe);
    return rdy_ring_take_close(cqe) ? 0 : take_cancel(uring, cqe);
}

/*
 * The tail is read once: completions that come while we look are the next call's. Those that are
 * only ours take no fact's place: before 5.17 each cancel answers, and a shutdown that heard
 * answers only would take the kernel to be done with the rest.
 */
static RDY_HOT int uring_reap(struct uring *uring, struct rdy_fact *facts, uint32_t facts_max)
{
    uint32_t ready = rdy_ring_ready(&uring->ring);
    uint32_t taken;
    int facts_count = 0;
    int rc = 0;

    for (taken = 0; taken < ready && (uint32_t)facts_count < facts_max; taken++) {
        rc = uring_take(uring, taken, &facts[facts_count]);
        if (rc < 0)
            break;
        facts_count += rc;
    }
    io_uring_cq_advance(&uring->ring.uring, taken);
    uring->backend.is_settled = rdy_ring_is_settled(&uring->ring);

    /* Facts in hand go first: what stopped us is still there for the next call. */
    return rc < 0 && rc != -EBUSY && facts_count == 0 ? rc : facts_count;
}

/*
 * Takes the signal back from whoever embeds us, unless there is more. Drained after the enter, not
 * before, because the enter itself signals; the kernel marks pending work before it signals, so
 * work whose signal was drained here is seen by the look that follows.
 */
static void notify_settle(struct uring *uring)
{
    (void)rdy_sys_eventfd_drain(uring->notify_fd);
    rdy_a64_bump(&uring->backend.system_calls, 1);
    if (rdy_ring_ready(&uring->ring) > 0 || rdy_ring_has_more(&uring->ring)) {
        (void)rdy_sys_eventfd_write(uring->notify_fd);
        rdy_a64_bump(&uring->backend.system_calls, 1);
    }
}

/*
 * With operations a turn is kept short. What it brought is received by then, and answered in the
 * next enter: of many sockets the first are out of the cache when the last has been received. Nor
 * is more to be had than there are buffers: a receive that finds none ends, and has to be begun
 * again. (1000 connections, 64 bytes: bench/results.) Who asks for batches gets them.
 */
#define OPERATIONS_WANTED 32u

static uint32_t uring_wanted(const struct uring *uring, uint32_t facts_max)
{
    const struct rdy_uring_buffers *buffers = &uring->buffers;
    uint32_t batch = uring->backend.can_batch ? uring->backend.batch_count : 1;
    uint32_t wanted = batch > OPERATIONS_WANTED ? batch : OPERATIONS_WANTED;

    if (!buffers->ring)
        return facts_max;
    if (wanted > buffers->shown)
        wanted = buffers->shown;
    if (wanted > facts_max)
        wanted = facts_max;
    return wanted > 0 ? wanted : 1;
}

static RDY_HOT int uring_wait(struct rdy_backend *backend, int64_t timeout_ns,
                              struct rdy_fact *facts, uint32_t facts_max)
{
    struct uring *uring = uring_of(backend);
    int rc;

    if (rdy_a64_load_relaxed(&uring->wakes) > 0)
        rdy_a64_bump(&backend->system_calls, rdy_a64_swap_acq_rel(&uring->wakes, 0));

    /* A wake poll that ended is armed again first: the eventfd is not drained, so none is lost. */
    if (rdy_unlikely(!uring->is_wake_armed))
        uring->is_wake_armed = poll_queue(uring, uring->wake_fd, WAKE_USER_DATA, RDY_EV_IN) == 0;
    if (rdy_unlikely(!uring->is_wake_armed) && timeout_ns != 0)
        timeout_ns = 0;

    rdy_uring_show_refills(uring);
    rc = rdy_ring_wait(&uring->ring, timeout_ns, uring_wanted(uring, facts_max));
    if (rdy_unlikely(rc < 0)) {
        uring->is_dead = true;
        rdy_ring_close_unsubmitted(&uring->ring);
        return rc;
    }
    rc = uring_reap(uring, facts, facts_max);
    if (uring->notify_fd >= 0)
        notify_settle(uring);
    return rc;
}

static bool uring_has_news(const struct rdy_backend *backend)
{
    const struct uring *uring = (const struct uring *)(const void *)backend;

    return rdy_ring_ready(&uring->ring) > 0 || rdy_ring_has_more(&uring->ring) ||
           rdy_ring_has_queued(&uring->ring) || uring->buffers.back_count > 0;
}

/* Completions lie in memory that a dead ring still shares with us. */
static uint32_t uring_salvage(struct rdy_backend *backend, struct rdy_fact *facts,
                              uint32_t facts_max)
{
    struct uring *uring = uring_of(backend);
    int count = uring_reap(uring, facts, facts_max);

    if (count > 0)
        return (uint32_t)count;
    /* What stopped it stands in front of others, which stay unseen. */
    backend->has_lost = backend->has_lost || rdy_ring_ready(&uring->ring) > 0;
    return 0;
}

/*
 * The counter is never drained; at a wake a nanosecond it is full after 584 years. Who embeds us is
 * told directly: the ring's signal comes only when its thread has run the poll's work, and it may
 * be another one that sleeps.
 */
static void uring_wake(struct rdy_backend *backend)
{
    struct uring *uring = uring_of(backend);

    (void)rdy_a64_add_relaxed(&uring->wakes, uring->notify_fd >= 0 ? 2 : 1);
    (void)rdy_sys_eventfd_write(uring->wake_fd);
    if (uring->notify_fd >= 0)
        (void)rdy_sys_eventfd_write(uring->notify_fd);
}

static int uring_fd(const struct rdy_backend *backend)
{
    const struct uring *uring = (const struct uring *)(const void *)backend;

    return uring->notify_fd >= 0 ? uring->notify_fd : -EINVAL;
}

static void uring_close(struct rdy_backend *backend)
{
    struct uring *uring = uring_of(backend);

    rdy_ring_close(&uring->ring);
    rdy_uring_free_buffers(uring);
    if (uring->notify_fd >= 0)
        (void)rdy_sys_close(uring->notify_fd);
    (void)rdy_sys_close(uring->wake_fd);
    free(uring);
}

static const struct rdy_backend_ops uring_ops;

/*
 * A deferring ring signals its eventfd from within the event that brings it work. Where that is a
 * write to an eventfd (in Debian's 6.12.117: whatever it is) the kernel puts the signal off by an
 * RCU grace period, some milliseconds, and newer kernels never forget that they did: all further
 * signals of the kind are dropped (seen on 6.12 and 6.18). On the other rungs work that comes
 * interrupts our thread's sleep in the other loop, and signals from there.
 */
static enum rdy_ring_rung rung_of(const struct rdy_backend_opts *opts, enum rdy_ring_rung rung)
{
    return opts->is_embedded && rung < RDY_RUNG_SINGLE_COOP ? RDY_RUNG_SINGLE_COOP : rung;
}

int rdy_uring_open_at(struct rdy_backend **out, const struct rdy_backend_opts *opts,
                      enum rdy_ring_rung rung_first, enum rdy_ring_step *step)
{
    struct rdy_ring_wish wish = {.cq_entries = opts->cq_entries,
                                 .rung_first = rung_of(opts, rung_first)};
    struct uring *uring = calloc(1, sizeof(*uring));
    int rc;

    *step = RDY_STEP_MEMORY;
    if (!uring)
        return -ENOMEM;
    uring->backend.ops = &uring_ops;

    *step = RDY_STEP_EVENTFD;
    rc = rdy_sys_eventfd();
    if (rc < 0)
        goto free_uring;
    uring->wake_fd = rc;

    rc = opts->is_embedded ? rdy_sys_eventfd() : -1;
    if (opts->is_embedded && rc < 0)
        goto close_wake;
    uring->notify_fd = rc;

    wish.notify_fd = uring->notify_fd;
    wish.is_watching_only = opts->is_watching_only;
    wish.is_looked_at = opts->is_embedded || opts->is_spinning;
    rc = rdy_ring_open(&uring->ring, &wish, &uring->backend, step);
    if (rc < 0)
        goto close_notify;

    /* Since Linux 6.0 at the latest; before, a second wake-up could be swallowed by the first. */
    uring->backend.looks_again = uring->ring.rung <= RDY_RUNG_SINGLE_COOP;
    *out = &uring->backend;
    return 0;

close_notify:
    if (uring->notify_fd >= 0)
        (void)rdy_sys_close(uring->notify_fd);
close_wake:
    (void)rdy_sys_close(uring->wake_fd);
free_uring:
    free(uring);
    return rc;
}

static int uring_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                      size_t why_len)
{
    enum rdy_ring_step step;
    int rc = rdy_uring_open_at(out, opts, RDY_RUNG_DEFER, &step);

    if (rc < 0) {
        rdy_ring_say(step, rc, why, why_len);
        /* What the probe found may no longer hold: a filter can come at any time. */
        rdy_uring_probe_forget();
    }
    return rc;
}

static const struct rdy_backend_ops uring_ops = {
    .name = "io_uring",
    .capabilities = RDY_BACKEND_COMPLETES,
    .probe = rdy_uring_probe,
    .open = uring_open,
    .close = uring_close,
    .arm = uring_arm,
    .disarm = uring_disarm,
    .wait = uring_wait,
    .has_news = uring_has_news,
    .wake = uring_wake,
    .fd = uring_fd,
    .lend = rdy_uring_lend,
    .refill = rdy_uring_refill,
    .recv = rdy_uring_recv,
    .accept = rdy_uring_accept,
    .send = rdy_uring_send,
    .connect = rdy_uring_connect,
    .close_file = rdy_uring_close_file,
    .messages = rdy_uring_messages,
    .recv_message = rdy_uring_recv_message,
    .salvage = uring_salvage,
};

const struct rdy_backend_ops *const rdy_backend_uring = &uring_ops;

#else

#include "engine/backend.h"

const struct rdy_backend_ops *const rdy_backend_uring = NULL;

#endif
