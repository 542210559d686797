/* SPDX-License-Identifier: MIT */
/*
 * Facts to readiness, and the life of an arming: the driver's thread, between wait and wait.
 *
 * Every arming ends with exactly one fact that says LAST, or with a disarm that says so at once;
 * only then is the slot given back, because until then the kernel may still speak of the token. A
 * poll that the kernel ended by itself is armed again under a new token, so that a late fact of the
 * old arming is not taken for one of the new.
 */
#include "engine/lane_plain.h"
#include "engine/message.h"
#include "engine/probe.h"
#include "engine/translate.h"

/* A file that completed at once this often in a row has no way to wait: it is always ready. */
#define STRIKES_MAX 2

/*
 * With many connections an entry is out of the cache when its fact comes. The facts are known, so
 * the entries are asked for this far ahead, about the time that a miss takes.
 */
#define FACTS_AHEAD 4

/* A file of completion mode is closed along with the next wait; there is none after a shutdown. */
static bool close_later(struct rdy_driver *driver, const struct rdy_scheduled_io *io)
{
    struct rdy_backend *backend = rdy_driver_backend(driver);

    if ((io->flags & RDY_IO_LANE) == 0 || !driver->completion->is_native || driver->is_shut ||
        backend->ops->close_file(backend, io->fd) != 0)
        return false;
    driver->has_asked = true;
    driver->is_closing = true;
    rdy_driver_call_again(driver);
    return true;
}

void rdy_driver_give(struct rdy_driver *driver, struct rdy_scheduled_io *io)
{
    struct rdy_registration_set *set = &driver->set;

    rdy_assert(io->kernel == RDY_KERNEL_IDLE);
    if ((io->flags & RDY_IO_FD_OURS) && !close_later(driver, io))
        (void)rdy_sys_close(io->fd);
    if (io->flags & RDY_IO_LANE)
        rdy_lane_end(io);
    rdy_lock_acquire(&set->lock);
    if (io->is_claimed) /* else its registration failed */
        set->deregistered++;
    rdy_slab_give(set->slab, io);
    rdy_lock_release(&set->lock);
}

void rdy_driver_give_if_idle(struct rdy_driver *driver, struct rdy_scheduled_io *io)
{
    rdy_assert(io->flags & RDY_IO_LEAVING);
    /* What stands in the inbox is reached from there, and given back then. */
    if (rdy_a32_load_relaxed(&io->requests) == 0 && io->kernel == RDY_KERNEL_IDLE &&
        ((io->flags & RDY_IO_LANE) == 0 || rdy_lane_is_idle(io)))
        rdy_driver_give(driver, io);
}

/* Ends one entry with @error and tells everyone who waits for it. */
static void end_entry(struct rdy_driver *driver, struct rdy_scheduled_io *io, int error)
{
    rdy_scheduled_io_end(io, error);
    rdy_a64_bump(&driver->count.waker_calls, rdy_scheduled_io_wake(io, RDY_READY_ALL));
}

static void refuse(struct rdy_driver *driver, struct rdy_scheduled_io *io, int error)
{
    io->kernel = RDY_KERNEL_IDLE;
    rdy_a64_bump(&driver->count.arm_failures, 1);
    end_entry(driver, io, error);
}

static void put_off(struct rdy_driver *driver, struct rdy_scheduled_io *io, uint32_t request)
{
    rdy_a64_bump(&driver->count.arm_retries, 1);
    rdy_driver_request(io, request);
}

/* Asks the kernel to let go. True when it has: the slot may be given back. */
static bool disarm(struct rdy_driver *driver, struct rdy_scheduled_io *io)
{
    struct rdy_backend *backend = rdy_driver_backend(driver);
    int rc = backend->ops->disarm(backend, io->fd, rdy_scheduled_io_token(io));

    switch (rc) {
    case 0:
        io->kernel = RDY_KERNEL_CANCELLING;
        rdy_a64_bump(&driver->count.cancels_pending, 1);
        return false;
    case -EBUSY:
        return false;
    default: /* RDY_DISARMED, or there was nothing to disarm */
        io->kernel = RDY_KERNEL_IDLE;
        return true;
    }
}

/*
 * In a move to epoll another thread may deregister between our look at the entry and the arm: what
 * it disarmed was not there yet. It ends the entry first, so one of the two sees the other's.
 */
static void arm_is_made(struct rdy_driver *driver, struct rdy_scheduled_io *io)
{
    io->kernel = RDY_KERNEL_ARMED;
    if (rdy_driver_arms_anywhere(driver) && rdy_word_is_ended(rdy_a64_load_acquire(&io->word)))
        (void)disarm(driver, io);
}

void rdy_driver_arm(struct rdy_driver *driver, struct rdy_scheduled_io *io)
{
    struct rdy_backend *backend = rdy_driver_backend(driver);
    int rc;

    rdy_assert(io->kernel == RDY_KERNEL_IDLE);
    io->armed_turn = driver->turn;
    driver->has_asked = true;
    rc = backend->ops->arm(backend, io->fd, rdy_scheduled_io_token(io),
                           rdy_events_of_interest(io->interest));
    rdy_probe3(arm, driver, io->fd, rc);
    if (rc == 0)
        arm_is_made(driver, io);
    else if (rc == -EBUSY)
        put_off(driver, io, RDY_REQUEST_ARM);
    else
        refuse(driver, io, rc);
}

/* The kernel has let go by itself. What it might still say under the old token is refused. */
static void retire_arming(struct rdy_scheduled_io *io)
{
    io->kernel = RDY_KERNEL_IDLE;
    io->arming = (uint8_t)((io->arming + 1) % RDY_TOKEN_ARMINGS);
}

static void release_entry(struct rdy_driver *driver, struct rdy_scheduled_io *io, uint32_t request)
{
    io->flags |= RDY_IO_LEAVING;
    if (request & RDY_REQUEST_CLOSE)
        io->flags |= RDY_IO_FD_OURS;
    if (request & RDY_REQUEST_DISARMED)
        io->kernel = RDY_KERNEL_IDLE;
    if (io->flags & RDY_IO_LANE)
        rdy_lane_release(io);

    if (io->kernel == RDY_KERNEL_CANCELLING)
        return; /* the shutdown asked already; its last fact gives the slot back */
    if (io->kernel == RDY_KERNEL_IDLE || disarm(driver, io))
        rdy_driver_give_if_idle(driver, io);
    else if (io->kernel == RDY_KERNEL_ARMED)
        put_off(driver, io, RDY_REQUEST_RELEASE);
}

void rdy_driver_unwatch(struct rdy_driver *driver, struct rdy_scheduled_io *io)
{
    io->flags |= RDY_IO_UNWATCHED;
    if (io->kernel == RDY_KERNEL_ARMED)
        (void)disarm(driver, io); /* without room for it, it goes on watching, unheard */
    driver->has_asked = true;
    /* An end that the watch saw is not an operation's: waiters would take it for news for ever. */
    rdy_scheduled_io_forget(io);
    rdy_a64_bump(&driver->count.waker_calls, rdy_scheduled_io_wake(io, RDY_READY_ALL));
    rdy_driver_call_again(driver);
}

static void arm_in_turn(struct rdy_driver *driver, struct rdy_scheduled_io *io)
{
    if (driver->arms_left == 0) {
        rdy_driver_request(io, RDY_REQUEST_ARM);
        return;
    }
    driver->arms_left--;
    rdy_driver_arm(driver, io);
}

static void carry_out(struct rdy_driver *driver, struct rdy_scheduled_io *io)
{
    /* Acquire: what the requester wrote. From here on the entry may enter the inbox again. */
    uint32_t request = rdy_a32_swap_acq_rel(&io->requests, 0);

    rdy_assert(io->driver == driver);
    rdy_assert(request != 0);
    if (request & RDY_REQUEST_RELEASE)
        release_entry(driver, io, request);
    else if (io->kernel == RDY_KERNEL_IDLE && (io->flags & RDY_IO_UNWATCHED) == 0 &&
             !rdy_word_is_ended(rdy_a64_load_relaxed(&io->word)))
        arm_in_turn(driver, io);
}

/*
 * A file that is ready reports as soon as it is armed. Arming while the kernel still hands over
 * what did not fit would fill the queue again and end those polls too, for ever. So: none until a
 * batch came without overflow, then at most what half the queue holds, but one at least.
 */
static void begin_arms(struct rdy_driver *driver)
{
    driver->arms_left = driver->is_after_overflow ? 0 : (driver->opts.cq_entries + 1) / 2;
    driver->is_after_overflow = false;
}

void rdy_driver_carry_out_all(struct rdy_driver *driver)
{
    struct rdy_scheduled_io *io;

    begin_arms(driver);
    /* Acquire: pairs with the push in rdy_driver_request(). */
    io = rdy_aptr_swap_acq_rel(&driver->inbox, NULL);
    while (io) {
        struct rdy_scheduled_io *next = io->inbox_next;

        carry_out(driver, io);
        io = next;
    }
}

/*
 * Whether urgent data is really there. A key says PRI for any data: those who wait for PRIORITY get
 * it confirmed, streams only want to know that there is none, which a key does not tell.
 */
static uint32_t confirm_priority(const struct rdy_driver *driver, const struct rdy_scheduled_io *io,
                                 const struct rdy_fact *fact)
{
    bool is_there;

    if (rdy_driver_has_whole_state(driver))
        is_there = true;
    else if (io->interest & RDY_INTEREST_URGENT)
        is_there = (fact->flags & RDY_FACT_KEY) == 0;
    else
        is_there = (rdy_sys_poll_now(io->fd, RDY_EV_PRI) & RDY_EV_PRI) != 0;
    return is_there ? fact->events : fact->events & ~RDY_EV_PRI;
}

/* Returns 1 if readiness reached a live registration. */
static int deliver(struct rdy_driver *driver, struct rdy_scheduled_io *io,
                   const struct rdy_fact *fact)
{
    uint32_t events = fact->events;
    uint32_t ready;

    if (rdy_unlikely(events & RDY_EV_PRI))
        events = confirm_priority(driver, io, fact);
    ready = rdy_translate((enum rdy_file_kind)io->kind, events);
    if (ready == 0)
        return 0;
    if (rdy_unlikely(rdy_word_is_ended(rdy_scheduled_io_set(io, ready)))) {
        if (rdy_a32_load_relaxed(&io->requests) & RDY_REQUEST_RELEASE)
            rdy_a64_bump(&driver->count.facts_for_closed_entry, 1);
        else
            rdy_a64_bump(&driver->count.sets_after_shutdown, 1);
        return 0;
    }
    rdy_a64_bump(&driver->count.ready_events, 1);
    if (rdy_unlikely(io->flags & RDY_IO_LANE) && rdy_ready_is_writable(ready) &&
        rdy_lane_is_plain(rdy_lane_of(io)))
        rdy_plain_pump(rdy_lane_of(io));
    rdy_a64_bump(&driver->count.waker_calls, rdy_scheduled_io_wake(io, ready));
    return 1;
}

/*
 * A file whose polls complete as soon as they are armed cannot be waited for: a device (/dev/null),
 * or one of those that have no name (what fsopen(2) returns).
 */
static bool is_unpollable(struct rdy_driver *driver, struct rdy_scheduled_io *io,
                          const struct rdy_fact *fact)
{
    bool is_at_once = driver->turn - io->armed_turn <= 1;

    bool may_lack_poll = io->kind == RDY_FILE_DEVICE || io->kind == RDY_FILE_OTHER;

    if (!may_lack_poll || (fact->flags & RDY_FACT_OVERFLOW) || !is_at_once) {
        io->strikes = 0;
        return false;
    }
    return ++io->strikes >= STRIKES_MAX;
}

/* The kernel ended a poll that we still want. */
static void handle_last(struct rdy_driver *driver, struct rdy_scheduled_io *io,
                        const struct rdy_fact *fact)
{
    retire_arming(io);
    if (io->flags & RDY_IO_UNWATCHED)
        return;
    if (rdy_word_is_ended(rdy_a64_load_relaxed(&io->word)))
        return;

    switch (fact->result) {
    case -ENOMEM:
    case -EAGAIN:
    case -EBUSY: /* the kernel was short of something: ask again in the next turn */
        put_off(driver, io, RDY_REQUEST_ARM);
        return;
    case 0:
    case -ECANCELED: /* not by us: the file is as it was */
        break;
    default:
        refuse(driver, io, fact->result);
        return;
    }
    if (is_unpollable(driver, io, fact)) {
        rdy_a64_bump(&driver->count.unpollable_files, 1);
        end_entry(driver, io, -EPERM);
        return;
    }
    rdy_a64_bump(&driver->count.rearms, 1);
    rdy_probe3(rearm, driver, io->fd, fact->result);
    if (fact->flags & RDY_FACT_OVERFLOW) {
        rdy_a64_bump(&driver->count.overflows, 1);
        rdy_probe2(overflow, driver, io->fd);
        driver->is_after_overflow = true;
        rdy_driver_request(io, RDY_REQUEST_ARM); /* when there is room: see begin_arms() */
        return;
    }
    rdy_driver_arm(driver, io);
}

/* A fact for an entry whose watch we ended: only the last one matters. */
static void handle_cancelling(struct rdy_driver *driver, struct rdy_scheduled_io *io,
                              const struct rdy_fact *fact)
{
    if (fact->events != 0)
        rdy_a64_bump(&driver->count.facts_for_closed_entry, 1);
    if ((fact->flags & RDY_FACT_LAST) == 0)
        return;
    io->kernel = RDY_KERNEL_IDLE;
    rdy_a64_bump(&driver->count.cancels_pending, UINT64_MAX); /* minus one */
    if (io->flags & RDY_IO_LEAVING)
        rdy_driver_give_if_idle(driver, io);
    else
        retire_arming(io);
}

static int handle_fact(struct rdy_driver *driver, const struct rdy_fact *fact)
{
    struct rdy_scheduled_io *io = rdy_slab_find(driver->set.slab, fact->token & RDY_TOKEN_SLAB);
    int reached = 0;

    if (rdy_token_about(fact->token) != RDY_ABOUT_WATCH)
        return rdy_completion_take(driver->completion, io, fact);
    rdy_debug(fact->result <= 0);
    if (rdy_unlikely(!io)) {
        rdy_a64_bump(&driver->count.facts_for_closed_entry, 1);
        return 0;
    }
    /* Acquire: pairs with publish() in registration.c; what the registering thread wrote. */
    (void)rdy_a32_load_acquire(&io->head.generation);
    if (rdy_unlikely(fact->token != rdy_scheduled_io_token(io))) {
        rdy_a64_bump(&driver->count.facts_for_closed_entry, 1);
        return 0;
    }
    if (rdy_unlikely(io->kernel == RDY_KERNEL_CANCELLING)) {
        handle_cancelling(driver, io, fact);
        return 0;
    }
    if (fact->events != 0 && rdy_likely((io->flags & RDY_IO_UNWATCHED) == 0))
        reached = deliver(driver, io, fact);
    if (rdy_unlikely(fact->flags & RDY_FACT_LAST))
        handle_last(driver, io, fact);
    return reached;
}

RDY_HOT int rdy_driver_dispatch(struct rdy_driver *driver, uint32_t facts_count)
{
    int reached = 0;

    rdy_assert(!driver->is_dispatching);
    rdy_assert(facts_count <= driver->events_max);
    driver->is_dispatching = true;
    for (uint32_t i = 1; i < facts_count && i < FACTS_AHEAD; i++)
        rdy_slab_prefetch(driver->set.slab, driver->facts[i].token & RDY_TOKEN_SLAB);
    for (uint32_t i = 0; i < facts_count; i++) {
        if (i + FACTS_AHEAD < facts_count)
            rdy_slab_prefetch(driver->set.slab,
                              driver->facts[i + FACTS_AHEAD].token & RDY_TOKEN_SLAB);
        reached += handle_fact(driver, &driver->facts[i]);
    }
    if (driver->completion)
        rdy_completion_settle(driver->completion);
    driver->is_dispatching = false;
    return reached;
}

/* The next live entry at or after *slot. Stays valid: only this thread gives slots back. */
static struct rdy_scheduled_io *next_live(struct rdy_driver *driver, uint32_t *slot)
{
    struct rdy_scheduled_io *io;

    rdy_lock_acquire(&driver->set.lock);
    io = rdy_slab_next_live(driver->set.slab, slot);
    rdy_lock_release(&driver->set.lock);
    return io;
}

void rdy_driver_end_all(struct rdy_driver *driver, int error)
{
    struct rdy_scheduled_io *io;
    bool was_dispatching = driver->is_dispatching;
    uint32_t slot = 0;

    rdy_lock_acquire(&driver->set.lock);
    driver->set.ended = error;
    rdy_lock_release(&driver->set.lock);

    driver->is_dispatching = true; /* a waker that turns the driver is refused */
    while ((io = next_live(driver, &slot)))
        end_entry(driver, io, error);
    driver->is_dispatching = was_dispatching; /* a waker may have shut us down, mid-batch */
}

/* Takes last facts as long as they come. False: the backend is dead. */
static bool await_last_facts(struct rdy_driver *driver, int64_t most_ns)
{
    struct rdy_backend *backend = rdy_driver_backend(driver);
    int count;

    do {
        int64_t timeout_ns = most_ns;

        if (driver->completion)
            timeout_ns = rdy_completion_begin(driver->completion, timeout_ns);
        driver->has_asked = false;
        driver->is_closing = false;
        count = backend->ops->wait(backend, timeout_ns, driver->facts, driver->events_max);
        if (count < 0) {
            driver->death = count;
            return false;
        }
        (void)rdy_driver_dispatch(driver, (uint32_t)count);
    } while (count > 0 && rdy_a64_load_relaxed(&driver->count.cancels_pending) > 0);
    return true;
}

void rdy_driver_quiesce(struct rdy_driver *driver)
{
    /* One round disarms all there are; shortages take a few more. Then close() must do. */
    for (int round = 0; round < 256; round++) {
        struct rdy_scheduled_io *io;
        bool is_done = true;
        uint32_t slot = 0;

        rdy_driver_drain_inbox(driver);
        while ((io = next_live(driver, &slot))) {
            if (io->kernel == RDY_KERNEL_ARMED)
                (void)disarm(driver, io);
            if (io->flags & RDY_IO_LANE) {
                (void)rdy_lane_stop(io);
                is_done = is_done && rdy_lane_is_idle(io);
            }
            is_done = is_done && io->kernel == RDY_KERNEL_IDLE;
        }
        /* There may be nothing to wait for, but files to be closed. */
        if (is_done && driver->is_closing)
            (void)await_last_facts(driver, 0);
        if (is_done || !await_last_facts(driver, RDY_NS_PER_MS))
            return;
    }
}

/*
 * Arms every live entry on the driver's present backend, which knows none of them; but for those
 * registered since @serial by threads that saw the new backend: they arm by themselves.
 */
static void arm_all(struct rdy_driver *driver, uint32_t serial, int error)
{
    struct rdy_scheduled_io *io;
    uint32_t slot = 0;

    while ((io = next_live(driver, &slot))) {
        if ((int32_t)(io->serial - serial) > 0 && io->kernel == RDY_KERNEL_ARMED)
            continue;
        retire_arming(io);
        io->flags &= (uint8_t)~RDY_IO_UNWATCHED;
        if (io->flags & RDY_IO_LANE)
            rdy_lane_survive(io, error);
        /* What stands in the inbox is reached from there: it must not be given back before. */
        if (rdy_a32_load_relaxed(&io->requests) != 0)
            continue;
        if (io->flags & RDY_IO_LEAVING)
            rdy_driver_give(driver, io);
        else if (!rdy_word_is_ended(rdy_a64_load_relaxed(&io->word)))
            rdy_driver_arm(driver, io);
    }
}

void rdy_driver_forsake_all(struct rdy_driver *driver)
{
    bool was_dispatching = driver->is_dispatching;

    rdy_assert(driver->is_shut); /* so that nobody is armed again */
    rdy_a64_store_relaxed(&driver->count.cancels_pending, 0);
    if (driver->completion)
        rdy_completion_survive(driver->completion);
    driver->is_dispatching = true;
    arm_all(driver, driver->set.serial, driver->death);
    driver->is_dispatching = was_dispatching;
}

/* Data that a ring received before it died is nowhere else. */
static void salvage(struct rdy_driver *driver)
{
    struct rdy_backend *backend = rdy_driver_backend(driver);
    uint32_t count;

    if (!driver->completion->is_native)
        return;
    while ((count = backend->ops->salvage(backend, driver->facts, driver->events_max)) > 0) {
        backend->is_settled = false;
        (void)rdy_driver_dispatch(driver, count);
    }
    driver->completion->is_holed = backend->has_lost;
    driver->completion->is_doubtful = driver->completion->is_doubtful || backend->has_begun;
}

int rdy_driver_survive(struct rdy_driver *driver, int error)
{
    struct rdy_backend *old = rdy_driver_backend(driver);
    uint32_t serial;
    int rc = error;

    if (driver->completion)
        salvage(driver);
    rdy_lock_acquire(&driver->set.lock);
    serial = driver->set.serial;
    rdy_lock_release(&driver->set.lock);
    if (driver->may_move)
        rc = rdy_driver_swap_backend(driver, error);
    if (rc < 0) {
        driver->death = rc;
        rdy_driver_end_all(driver, rc);
        return rc;
    }
    rdy_assert(rdy_driver_backend(driver) != old);
    rdy_a64_store_relaxed(&driver->count.cancels_pending, 0);
    rdy_a64_bump(&driver->count.backend_moves, 1);
    if (driver->completion)
        rdy_completion_survive(driver->completion);
    driver->is_dispatching = true;
    arm_all(driver, serial, error);
    driver->is_dispatching = false;
    return 0;
}
