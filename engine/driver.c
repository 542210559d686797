/* SPDX-License-Identifier: MIT */
/*
 * The driver's life: open, turn, unpark, shutdown, close.
 *
 * Parking is a handshake over one atomic (AWAKE, PARKED, NOTIFIED). The driver publishes PARKED,
 * then looks at its inbox once more, then blocks; whoever puts something into the inbox first puts
 * it there, then swaps in NOTIFIED, and makes the system call only if it took PARKED out. All four
 * steps are sequentially consistent, so one of the two sees the other and no wake-up is lost. A
 * spin (spin.c) comes before the first step: the driver is awake then, and looks for NOTIFIED.
 */
#include "engine/lane.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/choice.h"
#include "engine/probe.h"

#define EVENTS_DEFAULT   1024u
#define EVENTS_LIMIT     65536u
#define ENTRIES_DEFAULT  (1u << 22)
#define ENTRIES_LIMIT    RDY_TOKEN_SLOTS_MAX
#define CQ_DEFAULT       4096u
#define CQ_LIMIT         65536u
#define RECV_QUEUE_LIMIT 4096u
#define SEND_QUEUE_LIMIT (1u << 30)
#define SPIN_LIMIT_NS    (10u * RDY_NS_PER_MS)

#define BATCH_LIMIT           4096u
#define BATCH_LEARNT_DEFAULT  8u
#define BATCH_WAIT_US_DEFAULT 50u
#define BATCH_WAIT_US_LIMIT   1000000u

/* How many forks lie between this process and the one that loaded us. */
static struct rdy_a32 fork_epoch;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void fork_in_child(void)
{
    (void)rdy_a32_add_seq_cst(&fork_epoch, 1);
}

static void fork_watch(void)
{
    /* Without it a child is not told apart; its calls then fail as the kernel has them fail. */
    (void)pthread_atfork(NULL, NULL, fork_in_child);
}

bool rdy_driver_is_forked(const struct rdy_driver *driver)
{
    return rdy_a32_load_relaxed(&fork_epoch) != driver->fork_epoch;
}

bool rdy_driver_is_own_thread(const struct rdy_driver *driver)
{
    return rdy_sys_thread_id() == driver->thread_id;
}

void rdy_driver_count_spurious_wake(struct rdy_driver *driver)
{
    (void)rdy_a64_add_relaxed(&driver->any.spurious_wakes, 1);
}

/* Fills the defaults in. */
static bool read_batch(struct rdy_driver_opts *opts)
{
    if (opts->batch_count == 0)
        opts->batch_count = opts->is_batch_learnt ? BATCH_LEARNT_DEFAULT : 1;
    if (opts->batch_wait_us == 0)
        opts->batch_wait_us = BATCH_WAIT_US_DEFAULT;
    return opts->batch_count <= BATCH_LIMIT && opts->batch_wait_us <= BATCH_WAIT_US_LIMIT;
}

/* Zeros are defaults. */
static bool are_buffers_sound(const struct rdy_driver_opts *opts)
{
    return opts->buffers_count <= RDY_BUFFERS_COUNT_MAX &&
           (opts->buffers_count & (opts->buffers_count - 1)) == 0 &&
           (opts->buffer_size == 0 || opts->buffer_size >= RDY_BUFFERS_SIZE_MIN) &&
           opts->buffer_size <= RDY_BUFFERS_SIZE_MAX && opts->recv_queue_max <= RECV_QUEUE_LIMIT &&
           opts->send_queue_max <= SEND_QUEUE_LIMIT;
}

/* Copies what the caller knows of the options, fills the defaults in. */
static int read_opts(struct rdy_driver_opts *opts, const struct rdy_driver_opts *given)
{
    *opts = (struct rdy_driver_opts){.size = sizeof(*opts)};
    if (given) {
        if (given->size != sizeof(*opts))
            return -EINVAL;
        *opts = *given;
    }
    if (opts->events_max == 0)
        opts->events_max = EVENTS_DEFAULT;
    if (opts->entries_max == 0)
        opts->entries_max = ENTRIES_DEFAULT;
    if (opts->cq_entries == 0)
        opts->cq_entries = CQ_DEFAULT;
    if (opts->events_max > EVENTS_LIMIT || opts->entries_max > ENTRIES_LIMIT ||
        opts->cq_entries > CQ_LIMIT)
        return -EINVAL;
    if (!read_batch(opts) || !are_buffers_sound(opts) || opts->spin_ns > SPIN_LIMIT_NS)
        return -EINVAL;
    if (opts->is_embedded) /* it is the outer loop that waits */
        opts->spin_ns = 0;
    if (opts->backend != RDY_BACKEND_AUTO && opts->backend != RDY_BACKEND_URING &&
        opts->backend != RDY_BACKEND_EPOLL)
        return -EINVAL;
    return 0;
}

static int open_backend(struct rdy_driver *driver, const struct rdy_backend_ops *ops)
{
    struct rdy_backend_opts opts = {
        .events_max = driver->opts.events_max,
        .cq_entries = driver->opts.cq_entries,
        .is_embedded = driver->opts.is_embedded,
        .is_watching_only = driver->opts.is_watching_only,
        .is_spinning = driver->opts.spin_ns > 0,
    };
    struct rdy_backend *backend = NULL;
    int rc = ops->open(&backend, &opts, driver->reason, sizeof(driver->reason));

    if (rc == 0) {
        rdy_assert(backend && backend->ops == ops);
        backend->batch_count = driver->opts.is_batch_learnt ? 1 : driver->opts.batch_count;
        backend->batch_wait_us = driver->opts.batch_wait_us;
        /*
         * Not just a release: in a move, the look at wakers_inside that follows must come after it,
         * or a waker could have counted itself in unseen and still hold the old backend.
         */
        (void)rdy_aptr_swap_seq_cst(&driver->backend, backend);
        /* Release: who sees what it can do finds it in place. Pairs with rdy_driver_ops(). */
        rdy_aptr_store_release(&driver->ops, (void *)(uintptr_t)ops);
    }
    return rc;
}

static int open_slab(struct rdy_driver *driver)
{
    struct rdy_slab_opts opts = {
        .item_size = sizeof(struct rdy_scheduled_io),
        .item_align = RDY_CACHE_LINE,
        .items_max = driver->opts.entries_max,
        .kept = RDY_SCHEDULED_IO_KEPT,
    };

    return rdy_slab_open(&driver->set.slab, &opts);
}

static struct rdy_driver *driver_alloc(void)
{
    struct rdy_driver *driver = NULL;

    if (posix_memalign((void **)&driver, RDY_CACHE_LINE, sizeof(*driver)) != 0)
        return NULL;
    memset(driver, 0, sizeof(*driver));
    return driver;
}

int rdy_driver_open_with(struct rdy_driver **out, const struct rdy_driver_opts *given,
                         const struct rdy_backend_ops *ops)
{
    struct rdy_driver *driver = driver_alloc();
    int rc;

    if (!driver)
        return -ENOMEM;
    (void)pthread_once(&fork_once, fork_watch);
    rc = read_opts(&driver->opts, given);
    if (rc < 0)
        goto free_driver;
    driver->events_max = driver->opts.events_max;
    driver->is_embedded = driver->opts.is_embedded;
    rdy_spin_init(&driver->spin, driver->opts.spin_ns);
    driver->fork_epoch = rdy_a32_load_relaxed(&fork_epoch);
    driver->thread_id = rdy_sys_thread_id();

    rc = -ENOMEM;
    driver->facts = calloc(driver->events_max, sizeof(*driver->facts));
    if (!driver->facts)
        goto free_driver;
    rc = open_slab(driver);
    if (rc < 0)
        goto free_facts;
    rc = open_backend(driver, ops);
    if (rc < 0)
        goto close_slab;
    *out = driver;
    return 0;

close_slab:
    rdy_slab_close(driver->set.slab);
free_facts:
    free(driver->facts);
free_driver:
    free(driver);
    return rc;
}

int rdy_driver_open(struct rdy_driver **out, const struct rdy_driver_opts *given)
{
    const struct rdy_backend_ops *ops = NULL;
    struct rdy_driver_opts opts;
    bool may_fall_back;
    char reason[sizeof((*out)->reason)];
    int rc = read_opts(&opts, given);

    if (rc < 0)
        return rc;
    rc = rdy_choose_backend(opts.backend, &ops, reason, sizeof(reason));
    if (rc < 0)
        return rc;
    may_fall_back = opts.backend == RDY_BACKEND_AUTO && ops != rdy_backend_epoll &&
                    rdy_backend_epoll && !rdy_choice_is_forced();
    rc = rdy_driver_open_with(out, given, ops);
    /* The probe passed, but this ring did not: locked memory may have run out in between. */
    if (rc < 0 && may_fall_back) {
        (void)snprintf(reason, sizeof(reason),
                       "io_uring works here, but not for one more driver: %s", strerror(-rc));
        rc = rdy_driver_open_with(out, given, rdy_backend_epoll);
    }
    if (rc < 0)
        return rc;
    /* Not where another loop polls our descriptor: it would be gone without that loop's knowing. */
    (*out)->may_move = may_fall_back && !opts.is_embedded;
    memcpy((*out)->reason, reason, sizeof(reason));
    return 0;
}

/* Ends the blocking wait that was seen. Signal-safe; holds off a move to another backend. */
static void wake_backend(struct rdy_driver *driver)
{
    struct rdy_backend *backend;

    (void)rdy_a32_add_seq_cst(&driver->wakers_inside, 1);
    backend = rdy_aptr_load_seq_cst(&driver->backend);
    if (backend)
        backend->ops->wake(backend);
    (void)rdy_a32_add_seq_cst(&driver->wakers_inside, UINT32_MAX); /* minus one */
}

void rdy_driver_unpark(struct rdy_driver *driver)
{
    uint32_t was;

    if (rdy_driver_is_forked(driver))
        return;
    was = rdy_a32_swap_seq_cst(&driver->park, RDY_PARK_NOTIFIED);
    if (was == RDY_PARK_PARKED || (driver->is_embedded && was == RDY_PARK_AWAKE)) {
        (void)rdy_a64_add_relaxed(&driver->any.unparks, 1);
        wake_backend(driver);
    } else {
        (void)rdy_a64_add_relaxed(&driver->any.unparks_coalesced, 1);
    }
}

RDY_HOT void rdy_driver_call_again(struct rdy_driver *driver)
{
    bool has_work;

    if (rdy_likely(!driver->is_embedded) || driver->is_dispatching)
        return;
    /* Where any thread arms, the kernel knows already. */
    has_work = !rdy_driver_arms_anywhere(driver) &&
               (driver->has_asked || rdy_aptr_load_relaxed(&driver->inbox));
    if (has_work || (driver->completion && rdy_completion_has_work(driver->completion)))
        rdy_driver_unpark(driver);
}

/* Publishes that we are about to block; the timeout to use, 0 if there is work already. */
static int64_t park_begin(struct rdy_driver *driver, int64_t timeout_ns)
{
    uint32_t seen = RDY_PARK_AWAKE;

    if (timeout_ns == 0)
        return 0;
    if (!rdy_a32_cas_seq_cst(&driver->park, &seen, RDY_PARK_PARKED)) {
        rdy_assert(seen == RDY_PARK_NOTIFIED);
        return 0;
    }
    if (rdy_aptr_load_seq_cst(&driver->inbox))
        return 0;
    rdy_a64_bump(&driver->count.parks, 1);
    rdy_a64_bump(&driver->count.park_unparks, 1);
    return timeout_ns;
}

/* @blocked_ns: what park_begin() said. True if somebody unparked. */
static bool park_end(struct rdy_driver *driver, int64_t timeout_ns, int64_t blocked_ns)
{
    bool was_notified = false;

    if (timeout_ns != 0 || driver->is_embedded)
        was_notified = rdy_a32_swap_seq_cst(&driver->park, RDY_PARK_AWAKE) == RDY_PARK_NOTIFIED;
    if (blocked_ns == 0)
        return was_notified;
    rdy_a64_bump(&driver->count.park_unparks, 1);
    if (rdy_unlikely(driver->is_timed))
        rdy_driver_count_busy(driver, false);
    return was_notified;
}

void rdy_driver_count_busy(struct rdy_driver *driver, bool was_busy)
{
    uint64_t now_ns = rdy_sys_now_ns();

    rdy_assert(driver->is_timed && now_ns >= driver->busy_since_ns);
    if (was_busy)
        rdy_a64_bump(&driver->count.busy_ns, now_ns - driver->busy_since_ns);
    driver->busy_since_ns = now_ns;
}

/* How many events the next wait, if it blocks, is to go on for. */
static void batch_choose(struct rdy_driver *driver, struct rdy_backend *backend)
{
    if (driver->opts.is_batch_learnt && backend->can_batch && driver->completion)
        backend->batch_count = rdy_moderation_next(
            &driver->moderation, driver->completion->lanes_count, driver->opts.batch_count);
}

/* It did for @asked, two at least. @came: events, or -errno. An unpark fills no batch. */
static void batch_end(struct rdy_driver *driver, uint32_t asked, int came, bool was_notified)
{
    if (came < 0)
        return;
    rdy_a64_bump(&driver->count.batch_waits, 1);
    rdy_a64_bump(&driver->count.batch_fills, (uint32_t)came >= asked);
    if (driver->opts.is_batch_learnt && !was_notified)
        rdy_moderation_learn(&driver->moderation, asked, (uint32_t)came);
}

static RDY_HOT int wait_for_facts(struct rdy_driver *driver, int64_t timeout_ns)
{
    struct rdy_backend *backend = rdy_driver_backend(driver);
    int64_t blocked_ns = park_begin(driver, timeout_ns);
    bool was_notified;
    int rc;

    if (blocked_ns != 0)
        batch_choose(driver, backend);
    rc = backend->ops->wait(backend, blocked_ns, driver->facts, driver->events_max);
    was_notified = park_end(driver, timeout_ns, blocked_ns);
    if (rdy_unlikely(backend->batch_waited > 1))
        batch_end(driver, backend->batch_waited, rc, was_notified);
    return rc;
}

/* The same, after a spin; or with a watch on how long it sleeps, where that is to be learnt. */
static int spin_for_facts(struct rdy_driver *driver, int64_t timeout_ns)
{
    bool is_on = rdy_spin_is_on(&driver->spin);
    int64_t left_ns = timeout_ns;
    uint64_t begin_ns;
    int rc;

    if (is_on) {
        rc = rdy_driver_spin(driver, &left_ns);
        if (left_ns != 0)
            return wait_for_facts(driver, left_ns);
        (void)park_end(driver, timeout_ns, 0);
        return rc;
    }
    begin_ns = rdy_sys_now_ns();
    rc = wait_for_facts(driver, timeout_ns);
    rdy_spin_slept(&driver->spin, rdy_sys_now_ns() - begin_ns);
    return rc;
}

/* 0 if this thread may turn the driver now. */
static int check_owner(const struct rdy_driver *driver)
{
    if (rdy_unlikely(rdy_driver_is_forked(driver)))
        return -EOWNERDEAD;
    if (rdy_unlikely(!rdy_driver_is_own_thread(driver)))
        return -EPERM;
    return 0;
}

RDY_HOT int rdy_driver_turn(struct rdy_driver *driver, int64_t timeout_ns)
{
    int rc = check_owner(driver);

    if (rdy_unlikely(rc < 0))
        return rc;
    if (rdy_unlikely(driver->is_dispatching))
        return -EDEADLK;
    driver->turn++;
    rdy_driver_drain_inbox(driver);
    if (rdy_unlikely(driver->is_shut))
        return -ESHUTDOWN;
    if (rdy_unlikely(driver->death != 0))
        return driver->death;

    if (driver->completion)
        timeout_ns = rdy_completion_begin(driver->completion, timeout_ns);
    driver->has_asked = false;
    driver->is_closing = false;
    if (rdy_unlikely(driver->is_timed))
        rdy_driver_count_busy(driver, true);
    rdy_probe2(turn_begin, driver, timeout_ns);
    /* Relaxed: what this thread has put off for the next turn; others unpark. */
    if (rdy_likely(driver->spin.max_ns == 0) || timeout_ns == 0 ||
        rdy_aptr_load_relaxed(&driver->inbox))
        rc = wait_for_facts(driver, timeout_ns);
    else
        rc = spin_for_facts(driver, timeout_ns);
    rdy_a64_bump(&driver->count.turns, 1);
    if (rdy_unlikely(rc < 0)) {
        rdy_probe2(turn_end, driver, rc);
        return rdy_driver_survive(driver, rc);
    }
    rc = rdy_driver_dispatch(driver, (uint32_t)rc);
    rdy_probe2(turn_end, driver, rc);
    rdy_driver_call_again(driver);
    return rc;
}

static void shut_down(struct rdy_driver *driver)
{
    if (driver->is_shut)
        return;
    driver->is_shut = true;
    rdy_driver_end_all(driver, -ESHUTDOWN);
}

int rdy_driver_shutdown(struct rdy_driver *driver)
{
    int rc = check_owner(driver);

    if (rc < 0)
        return rc;
    if (driver->is_shut)
        return 0;
    shut_down(driver);
    /* From within a waker the kernel side is drained by close(); the entries are ended all the
     * same. */
    if (!driver->is_dispatching && driver->death == 0)
        rdy_driver_quiesce(driver);
    return 0;
}

/* Closes the descriptors that were handed to us and whose last fact never came. */
static void close_leaving(struct rdy_driver *driver)
{
    struct rdy_scheduled_io *io;
    uint32_t slot = 0;

    while ((io = rdy_slab_next_live(driver->set.slab, &slot))) {
        if (io->flags & RDY_IO_FD_OURS)
            (void)rdy_sys_close(io->fd);
    }
}

/* Another is in place: frees @old, when those who may be inside it have left. */
static void leave_backend(struct rdy_driver *driver, struct rdy_backend *old)
{
    rdy_assert(rdy_driver_backend(driver) != old);
    /* Nobody new can reach the old one; those who are inside have one system call to make. */
    while (rdy_a32_load_seq_cst(&driver->wakers_inside) != 0)
        rdy_sys_cpu_relax();
    rdy_a64_bump(&driver->system_calls_moved, rdy_a64_load_relaxed(&old->system_calls));
    rdy_a64_bump(&rdy_driver_backend(driver)->interruptions,
                 rdy_a64_load_relaxed(&old->interruptions));
    old->ops->close(old);
}

/*
 * A ring that died keeps its hold on the files that it polls: their peers would see no end, and a
 * listener would go on listening, until the driver is freed. In its place stands one that knows
 * nothing. Epoll holds no file, and other threads use it: it stays.
 */
static void bury_backend(struct rdy_driver *driver)
{
    struct rdy_backend *old = rdy_driver_backend(driver);

    rdy_assert(driver->is_shut && driver->death != 0);
    if (old == &driver->grave || rdy_driver_arms_anywhere(driver))
        return;
    driver->grave.ops = &rdy_backend_grave;
    (void)rdy_aptr_swap_seq_cst(&driver->backend, &driver->grave);
    leave_backend(driver, old);
    rdy_driver_forsake_all(driver);
}

void rdy_driver_end(struct rdy_driver *driver)
{
    rdy_assert(!driver->is_dispatching);
    shut_down(driver);
    rdy_driver_drain_inbox(driver);
    /* What came after the shutdown may have armed cancels; let the kernel finish. */
    if (rdy_driver_is_own_thread(driver) && driver->death == 0)
        rdy_driver_quiesce(driver);
    if (driver->death != 0)
        bury_backend(driver);
}

void rdy_driver_forget(struct rdy_driver *driver)
{
    struct rdy_backend *backend = rdy_driver_backend(driver);

    rdy_assert(rdy_driver_is_forked(driver));
    backend->ops->close(backend);
    free(driver->facts);
    free(driver);
}

void rdy_driver_close(struct rdy_driver *driver)
{
    struct rdy_backend *backend;

    if (!driver)
        return;
    rdy_assert(!driver->is_dispatching);
    if (!rdy_driver_is_forked(driver))
        rdy_driver_end(driver);
    backend = rdy_driver_backend(driver);
    backend->ops->close(backend); /* in a forked child: its copies of the descriptors */
    if (!rdy_driver_is_forked(driver))
        close_leaving(driver);
    rdy_completion_close(driver->completion);
    rdy_slab_close(driver->set.slab);
    free(driver->facts);
    free(driver);
}

int rdy_driver_swap_backend(struct rdy_driver *driver, int error)
{
    struct rdy_backend *old = rdy_driver_backend(driver);
    int rc;

    if (!rdy_backend_epoll || old->ops == rdy_backend_epoll)
        return error;
    rc = open_backend(driver, rdy_backend_epoll);
    if (rc < 0)
        return error;
    leave_backend(driver, old);
    (void)snprintf(driver->reason, sizeof(driver->reason),
                   "moved from io_uring, which stopped working: %s", strerror(-error));
    return 0;
}

int rdy_driver_fd(const struct rdy_driver *driver)
{
    const struct rdy_backend *backend = rdy_driver_backend(driver);

    return driver->is_embedded ? backend->ops->fd(backend) : -EINVAL;
}

const char *rdy_driver_backend_name(const struct rdy_driver *driver)
{
    return rdy_driver_ops(driver)->name;
}

const char *rdy_driver_backend_reason(const struct rdy_driver *driver)
{
    return driver->reason;
}

size_t rdy_entry_size(void)
{
    return sizeof(struct rdy_scheduled_io);
}

size_t rdy_cache_line_size(void)
{
    return RDY_CACHE_LINE;
}
