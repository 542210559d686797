/* SPDX-License-Identifier: MIT */
/*
 * Register, deregister, close: from any thread.
 *
 * A slot is given out under the set's lock, and given back by the driver's thread alone, between
 * turns: no fact and no waker call can hold a pointer to it then. In between, a foreign thread only
 * leaves requests. A backend that takes arms and disarms from any thread (epoll) is told at once,
 * which matters for deregistering: the caller may close the descriptor next, and its number may
 * come back as another file before the driver's next turn.
 */
#include "engine/lane.h"
#include "engine/probe.h"
#include "engine/translate.h"

/* What is to be watched. */
struct watch {
    int fd;
    uint8_t kind;
    uint8_t interest;
    bool is_armed_here; /* by this thread, at once; else by the driver's, when it gets to it */
};

/*
 * Release: where another thread arms, the driver's thread hears of the entry from the kernel, and
 * the kernel's own order is not the language's. Pairs with the load in handle_fact(), dispatch.c.
 */
static void publish(struct rdy_scheduled_io *io)
{
    rdy_a32_store_release(&io->head.generation, rdy_a32_load_relaxed(&io->head.generation));
}

/*
 * Takes a slot and prepares it, under the lock: from then on the driver's thread comes across the
 * entry when it ends or moves all there are, whether it was armed yet or not.
 */
static int set_take(struct rdy_driver *driver, const struct watch *wanted,
                    struct rdy_scheduled_io **out)
{
    struct rdy_registration_set *set = &driver->set;
    int rc = 0;

    rdy_lock_acquire(&set->lock);
    if (set->ended != 0) {
        rc = set->ended;
    } else {
        *out = rdy_slab_take(set->slab, &rc);
        if (*out) {
            rc = 0;
            rdy_scheduled_io_init(*out, driver, wanted->fd);
            (*out)->kind = wanted->kind;
            (*out)->interest = wanted->interest;
            if (wanted->is_armed_here)
                (*out)->kernel = RDY_KERNEL_ARMED;
            (*out)->serial = ++set->serial;
            publish(*out);
        }
    }
    rdy_lock_release(&set->lock);
    return rc;
}

/*
 * Undoes set_take() for an entry that no user has seen. Only the driver's thread may give a slot
 * back: another's lookup of a fact must not race it.
 */
static void set_untake(struct rdy_driver *driver, struct rdy_scheduled_io *io)
{
    if (rdy_driver_is_own_thread(driver)) {
        io->kernel = RDY_KERNEL_IDLE;
        rdy_driver_give(driver, io);
        return;
    }
    rdy_scheduled_io_end(io, -ECANCELED);
    rdy_driver_request(io, RDY_REQUEST_RELEASE | RDY_REQUEST_DISARMED);
}

void rdy_driver_request(struct rdy_scheduled_io *io, uint32_t request)
{
    struct rdy_driver *driver = io->driver;
    void *head;

    rdy_assert(request != 0);
    /* Whoever sets the first bit puts the entry into the inbox. Pairs with the swap in drain. */
    if (rdy_a32_or_acq_rel(&io->requests, request) != 0)
        return;
    head = rdy_aptr_load_relaxed(&driver->inbox);
    do {
        io->inbox_next = head;
    } while (!rdy_aptr_cas_seq_cst(&driver->inbox, &head, io));
}

/* The first arm of a new entry. On failure the entry is gone. */
static int arm_new(struct rdy_driver *driver, struct rdy_scheduled_io *io, bool is_armed_here)
{
    struct rdy_backend *backend = rdy_driver_backend(driver);
    uint32_t events = rdy_events_of_interest(io->interest);
    bool is_own = rdy_driver_is_own_thread(driver);
    int rc;

    if (!is_armed_here) {
        rdy_driver_request(io, RDY_REQUEST_ARM);
        rdy_driver_unpark(driver);
        return 0;
    }
    if (is_own) {
        io->armed_turn = driver->turn;
        driver->has_asked = true;
    }
    rc = backend->ops->arm(backend, io->fd, rdy_scheduled_io_token(io), events);
    rdy_probe3(arm, driver, io->fd, rc);
    if (rc == -EBUSY) {
        io->kernel = RDY_KERNEL_IDLE;
        rdy_driver_request(io, RDY_REQUEST_ARM);
        if (is_own)
            rdy_a64_bump(&driver->count.arm_retries, 1); /* that counter has one writer */
        else
            rdy_driver_unpark(driver);
        rc = 0;
    }
    if (rc < 0)
        set_untake(driver, io);
    if (is_own)
        rdy_driver_call_again(driver);
    return rc;
}

int rdy_register_kind(struct rdy_driver *driver, int fd, uint32_t interest, enum rdy_file_kind kind,
                      struct rdy_registration *reg)
{
    struct watch wanted = {.fd = fd, .interest = (uint8_t)interest};
    struct rdy_scheduled_io *io = NULL;
    int rc;

    if (interest == 0 ||
        (interest & ~(RDY_INTEREST_ALL | RDY_INTEREST_URGENT | RDY_INTEREST_LATER)) != 0)
        return -EINVAL;
    if (rdy_driver_is_forked(driver))
        return -EOWNERDEAD;
    if (kind == RDY_FILE_AUTO) {
        rc = rdy_sys_file_kind(fd, &kind);
        if (rc < 0)
            return rc;
    }
    wanted.kind = (uint8_t)kind;
    wanted.is_armed_here = rdy_driver_is_own_thread(driver) || rdy_driver_arms_anywhere(driver);
    rc = set_take(driver, &wanted, &io);
    if (rc < 0)
        return rc;

    if (interest & RDY_INTEREST_LATER) {
        rdy_assert(rdy_driver_is_own_thread(driver));
        io->kernel = RDY_KERNEL_IDLE;
        io->flags |= RDY_IO_UNWATCHED;
    }
    /* Before the arm: on another thread the entry may be used from then on. */
    *reg = (struct rdy_registration){.driver = driver, .io = io, .serial = io->serial};
    reg->serial |= (uint64_t)io->head.slot << 32;
    if ((interest & RDY_INTEREST_LATER) == 0)
        rc = arm_new(driver, io, wanted.is_armed_here);
    if (rc < 0) {
        *reg = (struct rdy_registration){0};
        return rc;
    }
    (void)rdy_a64_add_relaxed(&driver->any.registered, 1);
    rdy_probe3(register, driver, fd, interest);
    return 0;
}

int rdy_register(struct rdy_driver *driver, int fd, uint32_t interest, struct rdy_registration *reg)
{
    struct rdy_registration result;
    int rc;

    if ((interest & ~RDY_INTEREST_ALL) != 0)
        return -EINVAL;
    rc = rdy_register_kind(driver, fd, interest, RDY_FILE_AUTO, &result);
    if (rc == 0)
        *reg = result;
    return rc;
}

/* True if @reg names the entry that lives in its slot now. Of two copies, one wins. */
static bool set_claim(struct rdy_driver *driver, const struct rdy_registration *reg)
{
    struct rdy_registration_set *set = &driver->set;
    struct rdy_scheduled_io *io;
    bool is_ours;

    rdy_lock_acquire(&set->lock);
    io = rdy_slab_at(set->slab, (uint32_t)(reg->serial >> 32));
    is_ours = io && io == reg->io && io->serial == (uint32_t)reg->serial && !io->is_claimed;
    if (is_ours)
        io->is_claimed = true;
    rdy_lock_release(&set->lock);
    return is_ours;
}

/*
 * Hands the entry to the driver's thread. Where the kernel takes a disarm from any thread it is
 * told here and now, before the caller can close the descriptor and have its number used again.
 */
static void hand_over(struct rdy_driver *driver, struct rdy_scheduled_io *io, uint32_t request)
{
    if (rdy_driver_is_forked(driver)) {
        /* The watch is the parent's; the descriptor is our copy, and nobody else closes it. */
        if (request & RDY_REQUEST_CLOSE)
            (void)rdy_sys_close(io->fd);
        return;
    }
    if (rdy_driver_arms_anywhere(driver)) {
        struct rdy_backend *backend = rdy_driver_backend(driver);

        /* Without the arming, which may change under us; such a backend knows nothing of it. */
        (void)backend->ops->disarm(backend, io->fd, rdy_slab_token(&io->head));
        if (request & RDY_REQUEST_CLOSE)
            (void)rdy_sys_close(io->fd);
        rdy_driver_request(io, RDY_REQUEST_RELEASE | RDY_REQUEST_DISARMED);
        return;
    }
    rdy_driver_request(io, request);
    if (rdy_driver_is_own_thread(driver))
        rdy_driver_call_again(driver);
    else
        rdy_driver_unpark(driver);
}

bool rdy_driver_has_room(struct rdy_driver *driver)
{
    bool has_room;

    rdy_lock_acquire(&driver->set.lock);
    has_room = rdy_slab_live(driver->set.slab) < driver->opts.entries_max;
    rdy_lock_release(&driver->set.lock);
    return has_room;
}

static int release(struct rdy_registration *reg, uint32_t request)
{
    struct rdy_driver *driver = reg->driver;
    struct rdy_scheduled_io *io = reg->io;

    if (!io)
        return -EBADF;
    if (!set_claim(driver, reg)) {
        (void)rdy_a64_add_relaxed(&driver->any.stale_tokens, 1);
        *reg = (struct rdy_registration){0};
        return -EBADF;
    }
    *reg = (struct rdy_registration){0};

    rdy_probe2(deregister, driver, io->fd);
    rdy_scheduled_io_end(io, -ECANCELED);
    rdy_scheduled_io_cancel_all(io, -ECANCELED);
    hand_over(driver, io, request);
    return 0;
}

int rdy_deregister(struct rdy_registration *reg)
{
    return release(reg, RDY_REQUEST_RELEASE);
}

int rdy_close(struct rdy_registration *reg)
{
    return release(reg, RDY_REQUEST_RELEASE | RDY_REQUEST_CLOSE);
}

void rdy_close_pair(struct rdy_registration *first, const int fds[2])
{
    if (first->io)
        (void)rdy_close(first);
    else
        (void)rdy_sys_close(fds[0]);
    (void)rdy_sys_close(fds[1]);
}
