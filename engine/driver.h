/* SPDX-License-Identifier: MIT */
/*
 * The driver's inside: what the registration calls, the dispatcher and the tests share.
 *
 * Three groups of fields: constant after open; the registration set (slab, serial, ended) under
 * its lock; the driver's thread's own. Foreign threads reach the third group only through the
 * inbox and the park state.
 */
#ifndef RDY_ENGINE_DRIVER_H
#define RDY_ENGINE_DRIVER_H

#include <rdy/registration.h>

#include "engine/backend.h"
#include "engine/lock.h"
#include "engine/moderation.h"
#include "engine/scheduled_io.h"
#include "engine/slab.h"
#include "engine/spin.h"

/*
 * The counters of rdy_driver_stats. `own` has one writer, the driver's thread; `any` is written by
 * whoever the surprise happens to, rarely.
 */
struct rdy_driver_counts {
    struct rdy_a64 turns;
    struct rdy_a64 parks;
    struct rdy_a64 park_unparks;
    struct rdy_a64 spins;
    struct rdy_a64 spin_hits;
    struct rdy_a64 spin_ns;
    struct rdy_a64 batch_waits;
    struct rdy_a64 batch_fills;
    struct rdy_a64 busy_ns;
    struct rdy_a64 ready_events;
    struct rdy_a64 waker_calls;
    struct rdy_a64 rearms;
    struct rdy_a64 overflows;
    struct rdy_a64 facts_for_closed_entry;
    struct rdy_a64 sets_after_shutdown;
    struct rdy_a64 arm_retries;
    struct rdy_a64 arm_failures;
    struct rdy_a64 unpollable_files;
    struct rdy_a64 backend_moves;
    struct rdy_a64 cancels_pending;
};

struct rdy_driver_any_counts {
    struct rdy_a64 registered;
    struct rdy_a64 unparks;
    struct rdy_a64 unparks_coalesced;
    struct rdy_a64 stale_clears;
    struct rdy_a64 spurious_wakes;
    struct rdy_a64 stale_tokens;
};

/* Every registration of a driver. The lock and what it guards. */
struct rdy_registration_set {
    struct rdy_lock lock;
    int ended;       /* 0, or the answer to every further registration */
    uint32_t serial; /* of the latest registration */
    uint64_t deregistered;
    struct rdy_slab *slab;
};

enum rdy_park_state {
    RDY_PARK_AWAKE = 0,
    RDY_PARK_PARKED,   /* in, or on the way into, a blocking wait */
    RDY_PARK_NOTIFIED, /* the current or next blocking wait ends at once */
};

struct rdy_completion;

struct rdy_driver {
    /* Constant after open, but for a move to another backend by the driver's thread. */
    struct rdy_aptr backend;
    struct rdy_aptr ops; /* the backend's; outlives it, so other threads may ask this at any time */
    struct rdy_fact *facts;
    uint32_t events_max;
    uint32_t fork_epoch;
    uint64_t thread_id;
    bool is_embedded;
    bool may_move; /* AUTO: a lost ring is replaced by epoll */

    /* The driver's thread only. */
    bool is_dispatching;
    bool is_shut;
    bool is_closing; /* asked for files to be closed since the last wait: the next one does it */
    bool has_asked;  /* armed something since the last wait: the kernel may not have heard of it */
    int death;       /* -errno of a dead backend: the answer of every later turn */
    bool is_timed;   /* busy_ns is kept */
    uint64_t busy_since_ns; /* counted up to here, while it is timed */
    uint32_t turn;
    uint32_t arms_left;     /* arms that the inbox may make in this turn */
    bool is_after_overflow; /* the last batch of facts had one that was ended by overflow */
    struct rdy_completion *completion; /* engine/lane.h; NULL until somebody uses it */
    struct rdy_spin spin;              /* never, if it is embedded */
    struct rdy_moderation moderation;  /* if batches are learnt */
    struct rdy_a64 system_calls_moved; /* made by backends that were left */
    struct rdy_driver_opts opts;
    struct rdy_driver_counts count;
    char reason[160];
    struct rdy_backend grave; /* in the place of a ring that died, at the end */

    /* Written by other threads: lines of their own. */
    struct rdy_registration_set set __attribute__((aligned(RDY_CACHE_LINE)));
    struct rdy_aptr inbox __attribute__((aligned(RDY_CACHE_LINE)));
    struct rdy_a32 park;
    struct rdy_a32 wakers_inside; /* threads between "it is parked" and the end of the wake */
    struct rdy_driver_any_counts any;
};

/* As rdy_driver_open(), on a given backend (a test's): no choice, no move. */
int rdy_driver_open_with(struct rdy_driver **out, const struct rdy_driver_opts *opts,
                         const struct rdy_backend_ops *ops);

/* As rdy_register(), the kind of file being known: saves two system calls. */
int rdy_register_kind(struct rdy_driver *driver, int fd, uint32_t interest, enum rdy_file_kind kind,
                      struct rdy_registration *reg);

/* Closes both of a pair; the first by its registration, if it has come to that: {0} is none. */
void rdy_close_pair(struct rdy_registration *first, const int fds[2]);

/* 0 and @event if any of @interest is cached, else -EAGAIN or the answer of an ended entry. */
static inline int rdy_cached_event(const struct rdy_registration *reg, uint32_t interest,
                                   struct rdy_event *event)
{
    *event = rdy_ready_event(reg, interest);
    if (rdy_unlikely(rdy_event_is_shutdown(*event)))
        return rdy_scheduled_io_error(reg->io);
    return rdy_event_ready(*event) != 0 ? 0 : -EAGAIN;
}

bool rdy_driver_is_own_thread(const struct rdy_driver *driver);
bool rdy_driver_is_forked(const struct rdy_driver *driver);

/* The first part of a close: everything ends here; freed is nothing. The driver's thread, or any
 * thread once that one has ended. */
void rdy_driver_end(struct rdy_driver *driver);

/* The close of another thread's driver in a forked child: the descriptors and what is constant. */
void rdy_driver_forget(struct rdy_driver *driver);

/*
 * On the driver's thread; elsewhere only where rdy_driver_arms_anywhere() said yes before, as a
 * driver moves away from a ring but never from epoll, and the old backend is freed.
 */
static inline struct rdy_backend *rdy_driver_backend(const struct rdy_driver *driver)
{
    /* Acquire: pairs with the swap in a move to another backend. */
    return rdy_aptr_load_acquire(&driver->backend);
}

/* What the present backend can do: any thread. */
static inline const struct rdy_backend_ops *rdy_driver_ops(const struct rdy_driver *driver)
{
    /* Acquire: pairs with open_backend(), driver.c, which puts the backend in place before. */
    return rdy_aptr_load_acquire(&driver->ops);
}

/* True if facts carry a file's whole state: a missing PRI then means "no urgent data". */
static inline bool rdy_driver_has_whole_state(const struct rdy_driver *driver)
{
    return (rdy_driver_ops(driver)->capabilities & RDY_BACKEND_WHOLE_STATE) != 0;
}

static inline bool rdy_driver_arms_anywhere(const struct rdy_driver *driver)
{
    return (rdy_driver_ops(driver)->capabilities & RDY_BACKEND_ANY_THREAD) != 0;
}

/* False if entries_max registrations are alive. Any thread; another may be faster. */
bool rdy_driver_has_room(struct rdy_driver *driver);

void rdy_driver_count_spurious_wake(struct rdy_driver *driver);

/*
 * The time since the last call, or since the thread came back from a wait, counts as busy, or does
 * not. Only if the driver is timed; its thread.
 */
void rdy_driver_count_busy(struct rdy_driver *driver, bool was_busy);

/* Puts a request to the driver's thread. Any thread. The caller unparks if need be. */
void rdy_driver_request(struct rdy_scheduled_io *io, uint32_t request);

/*
 * Has the loop around an embedded driver call for a turn, if there is something that the kernel was
 * not told yet. The driver's thread; during a turn it does nothing, the turn's end will.
 */
void rdy_driver_call_again(struct rdy_driver *driver);

/* dispatch.c: the driver's thread only. */

/* Carries out the inbox. */
void rdy_driver_carry_out_all(struct rdy_driver *driver);

static inline void rdy_driver_drain_inbox(struct rdy_driver *driver)
{
    if (rdy_unlikely(rdy_aptr_load_relaxed(&driver->inbox) != NULL))
        rdy_driver_carry_out_all(driver);
    else
        driver->is_after_overflow = false;
}

/* Turns facts into readiness and wakes; returns how many reached live registrations. */
int rdy_driver_dispatch(struct rdy_driver *driver, uint32_t facts_count);

/* Arms an idle entry; a refusal ends it, want of room puts it off. */
void rdy_driver_arm(struct rdy_driver *driver, struct rdy_scheduled_io *io);

/* Asks the kernel to let go of every armed entry, and waits for it; bounded. */
void rdy_driver_quiesce(struct rdy_driver *driver);

/* The backend is gone, and so are its watches: gives back what only waited for them. */
void rdy_driver_forsake_all(struct rdy_driver *driver);

/* Marks every entry ended with @error and wakes everyone; further registrations get @error. */
void rdy_driver_end_all(struct rdy_driver *driver, int error);

/* driver.c: opens epoll in place of the backend that died of @error. 0 or -errno. */
int rdy_driver_swap_backend(struct rdy_driver *driver, int error);

/* The backend died of @error: moves every registration to epoll, or ends them. 0 or -errno. */
int rdy_driver_survive(struct rdy_driver *driver, int error);

/* Gives the entry's slot back and closes its descriptor if it is ours. */
void rdy_driver_give(struct rdy_driver *driver, struct rdy_scheduled_io *io);

/* The same, of a leaving entry, unless the kernel still has something of it. */
void rdy_driver_give_if_idle(struct rdy_driver *driver, struct rdy_scheduled_io *io);

/*
 * Ends the watch of an entry that lives on: operations take its place. What it said is forgotten,
 * and all who wait for it are woken to look how they are to wait now.
 */
void rdy_driver_unwatch(struct rdy_driver *driver, struct rdy_scheduled_io *io);

#endif
