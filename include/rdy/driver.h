/* SPDX-License-Identifier: MIT */
/*
 * The driver: one kernel interface (an io_uring or an epoll set), turned into readiness.
 *
 * A driver belongs to the thread that opened it. That thread calls rdy_driver_turn(); every other
 * call that says "any thread" may come from anywhere. Most programs use a runtime (runtime.h),
 * which owns a driver; this header is for those who have a loop of their own.
 */
#ifndef RDY_DRIVER_H
#define RDY_DRIVER_H

#include <rdy/base.h>

RDY_BEGIN_DECLS

struct rdy_driver;

enum rdy_backend_kind {
    RDY_BACKEND_AUTO = 0,  /* io_uring where it works, else epoll, with a reason */
    RDY_BACKEND_URING = 1, /* io_uring or an error */
    RDY_BACKEND_EPOLL = 2, /* epoll */
};

/*
 * Options of a driver. Set size to sizeof(struct rdy_driver_opts) and the rest to zero; zero means
 * the default. The environment variable RDY_BACKEND (auto, uring, epoll) overrides an AUTO choice.
 */
struct rdy_driver_opts {
    uint32_t size;
    enum rdy_backend_kind backend;
    uint32_t events_max;  /* facts taken in one turn; default 1024, at most 65536 */
    uint32_t entries_max; /* registrations alive at once; default 2^22, at most 2^25 */
    uint32_t cq_entries;  /* io_uring: completion slots; default 4096, at most 65536 */
    bool is_embedded;     /* rdy_driver_fd() will be polled by another loop */
    uint32_t spin_ns;     /* see below; default 0: never; at most 10 ms */

    /* Latency for processor time; see below. */
    uint32_t batch_count;   /* events; default 1: no waiting for more; at most 4096 */
    uint32_t batch_wait_us; /* with a batch_count; default 50, at most 1,000,000 */
    bool is_batch_learnt;   /* up to batch_count events (default 8), as many as pay */

    /* Completion mode (<rdy/completion.h>), whose memory is taken at its first use. */
    bool is_watching_only;  /* the kernel shall only watch: a ring is then restricted to that */
    uint32_t buffers_count; /* of the pool; a power of two up to 32768; default 128. More cost
                                memory, no cache: the one that came back last is filled next
                                (by a ring if it is not embedded, from Linux 6.10) */
    uint32_t buffer_size;   /* bytes of each, 64 to 1 MiB; default 16384. Streams that fill them get
                                large ones of four times as much, but 64 KiB at most: one for 16 of
                                the pool's, 8 at most, made when they are wanted */
    uint32_t recv_queue_max; /* buffers that may wait in a stream or a datagram socket; default 16
                                and 64, at most 4096 */
    uint32_t send_queue_max; /* bytes a stream may have unsent before it says RDY_PENDING; default
                                64 KiB, at most 1 GiB */
};

/*
 * spin_ns: before a turn sleeps it looks, for up to so long, whether something comes. That buys the
 * microseconds that a sleeping thread takes to wake with processor time. A driver learns whether it
 * pays: after some spins in vain it sleeps at once, as without the option, and tries again only if
 * its sleeps are so short that a spin might have caught their end; an idle thread does not spin.
 * Worth it where events follow each other within that time and the thread has a processor to
 * itself. A spin ends at once for an event, an unpark, and the turn's timeout (the next timer); a
 * signal ends it if its handler calls rdy_driver_unpark() or what calls that (rdy_runtime_stop()).
 * Has no effect on a driver that is embedded.
 */

/*
 * batch_count: a turn that blocks goes on until so many events have come, or until batch_wait_us
 * are over and one has. That saves processor time, of which sleeping and waking take more than a
 * small request. Its price is latency: an event may be late by what is left of that time, counted
 * from the turn's begin, and so may an unpark; a turn's own timeout never is. The time is a timer
 * of the kernel's, which is late itself, by the thread's timer slack (50 us unless changed) and by
 * what a sleeping processor takes to wake.
 *
 * With a fixed number a single peer that answers within that time is always kept waiting. With
 * is_batch_learnt a driver goes on for no more events than came in time in its last turns, and for
 * none but now and then where they did not; and only in completion mode, for at most one event of
 * each 8 sockets that are in it. So few sockets, or events that are further apart than
 * batch_wait_us, are served as without. Worth it for a thread that many peers keep nearly busy.
 *
 * It needs io_uring of Linux 6.12; elsewhere, on epoll too, a turn ends with its first event
 * (rdy_probe() reports the capability as min_timeout). So does a spin; the sleep after one in vain
 * goes on for a batch.
 */

/* Counters of one driver since it was opened. All are events but spin_ns. */
struct rdy_driver_stats {
    uint64_t turns;                  /* completed rdy_driver_turn() calls */
    uint64_t parks;                  /* turns that asked the kernel to block */
    uint64_t park_unparks;           /* those, and their ends: odd while the thread is blocked */
    uint64_t spins;                  /* turns that looked for a while before they slept */
    uint64_t spin_hits;              /* those in which something came: they did not sleep */
    uint64_t spin_ns;                /* how long they looked, together */
    uint64_t batch_waits;            /* turns that blocked for more than one event */
    uint64_t batch_fills;            /* those in which so many came in time */
    uint64_t unparks;                /* wakes that reached the kernel */
    uint64_t unparks_coalesced;      /* wakes that needed no system call */
    uint64_t registered;             /* successful registrations */
    uint64_t deregistered;           /* entries given back */
    uint64_t ready_events;           /* facts with readiness that reached a live entry */
    uint64_t waker_calls;            /* wakers run for readiness */
    uint64_t system_calls;           /* made by the backend: waits, submits, controls, wakes */
    uint64_t rearms;                 /* polls the kernel ended and the driver armed again */
    uint64_t overflows;              /* re-arms made because the completion queue was full */
    uint64_t stale_clears;           /* clears that came too late and changed nothing */
    uint64_t facts_for_closed_entry; /* events for an entry that was closed (harmless) */
    uint64_t spurious_wakes;         /* waits that ended with no readiness left */
    uint64_t sets_after_shutdown;    /* readiness for an entry that is shut down */
    uint64_t interrupted_waits;      /* waits that a signal ended */
    uint64_t arm_retries;            /* arms put off because the kernel had no room */
    uint64_t arm_failures;           /* arms refused for good after rdy_register() returned */
    uint64_t unpollable_files;       /* found unpollable after rdy_register() returned */
    uint64_t stale_tokens;           /* tokens of the past that were refused */
    uint64_t backend_moves;          /* moves from a lost io_uring to epoll */
    uint64_t entries_live;           /* gauge: entries in use now */
    uint64_t cancels_pending;        /* gauge: entries whose last fact has not come */
};

/**
 * rdy_driver_open() - open a driver for the calling thread
 * @out:  receives the driver, owned by the caller; free it with rdy_driver_close()
 * @opts: borrowed; NULL for defaults
 *
 * Context: the calling thread becomes the driver's thread.
 * Return:  0, or -errno with nothing kept.
 * Errors:  -EINVAL an option is out of range, or RDY_BACKEND names no backend;
 *          -ENOMEM; -EMFILE; and with a forced backend the errno that it failed with.
 */
RDY_API RDY_NODISCARD int rdy_driver_open(struct rdy_driver **out,
                                          const struct rdy_driver_opts *opts);

/**
 * rdy_driver_close() - shut down if need be, drain the kernel side, free everything
 * @driver: taken; NULL is fine. Registrations that are still live end here: their waiters are
 *          woken, handles to them must not be used again. Their files stay open.
 *
 * In a forked child it closes and frees the child's copies, and leaves the parent's driver.
 *
 * Context: the driver's thread, not from within a waker; or any thread once that one has ended.
 */
RDY_API void rdy_driver_close(struct rdy_driver *driver);

/**
 * rdy_driver_turn() - one round: wait, turn completions into readiness, run wakers
 * @driver:     borrowed
 * @timeout_ns: how long to block: 0 never, negative without limit. Never returns early for
 *              rounding; epoll kernels before 5.11 round up to a millisecond.
 *
 * Makes one system call when nothing has to be armed or cancelled: the wait. A signal ends the
 * wait, not the turn's contract: the result is then a count, never -EINTR.
 *
 * Context: the driver's thread.
 * Return:  the number of events that reached registrations, or -errno.
 * Errors:  -EPERM another thread's driver; -EOWNERDEAD called in a forked child; -EDEADLK called by
 *          a waker that a turn runs; -ESHUTDOWN after rdy_driver_shutdown(); any other is the
 *          backend's death, returned by every later turn.
 */
RDY_API RDY_NODISCARD int rdy_driver_turn(struct rdy_driver *driver, int64_t timeout_ns);

/**
 * rdy_driver_unpark() - end the current or the next blocking turn
 * @driver: borrowed; must not be closed meanwhile
 *
 * Many calls before a turn count as one; no system call is made while the driver is not blocked.
 *
 * Context: any thread, and signal handlers.
 */
RDY_API void rdy_driver_unpark(struct rdy_driver *driver);

/**
 * rdy_driver_shutdown() - end the readiness of every registration
 * @driver: borrowed
 *
 * Each live entry gets the shutdown mark and every waiter is woken; a registration that races
 * with this either fails with -ESHUTDOWN or is woken. Calling it twice is calling it once.
 *
 * Context: the driver's thread.
 * Return:  0, -EPERM, or -EOWNERDEAD.
 */
RDY_API int rdy_driver_shutdown(struct rdy_driver *driver);

/**
 * rdy_driver_fd() - a descriptor that polls readable when a turn would find something
 * @driver: borrowed; opened with is_embedded set
 *
 * For those who drive rdy inside another loop: when the descriptor is readable, call
 * rdy_driver_turn(driver, 0). It becomes readable also when a registration was made, given back or
 * closed since, as the kernel may be told of that in a turn only. With io_uring an epoll_wait(2) of
 * the driver's thread may return EINTR without a signal: see embed.h. An embedded driver does not
 * move to epoll when its ring is lost, for this descriptor would change: its turns fail.
 *
 * Context: any thread. The descriptor is borrowed: do not read it, do not close it.
 * Return:  the descriptor, or -EINVAL if the driver was not opened for embedding.
 */
RDY_API RDY_NODISCARD int rdy_driver_fd(const struct rdy_driver *driver);

/* "io_uring" or "epoll" (or the name of a test's backend). Static storage; any thread. */
RDY_API const char *rdy_driver_backend_name(const struct rdy_driver *driver);

/* Why this backend was chosen, in a sentence. Lives as long as @driver; the driver's thread. */
RDY_API const char *rdy_driver_backend_reason(const struct rdy_driver *driver);

/**
 * rdy_driver_read_stats() - a snapshot of the counters
 * @driver: borrowed
 * @stats:  borrowed; overwritten
 *
 * Context: any thread; each counter is whole, the set is not one instant.
 */
RDY_API void rdy_driver_read_stats(const struct rdy_driver *driver, struct rdy_driver_stats *stats);

/* Bytes that one registration takes in the engine, and the line size that it is padded for. */
RDY_API size_t rdy_entry_size(void);
RDY_API size_t rdy_cache_line_size(void);

/* One line of the capability report: what was looked for, whether it is there, and why not. */
struct rdy_capability {
    const char *name;
    bool is_present;
    char why[96];
};

/*
 * What probing found on this machine, for `rdy info` and for bug reports. Completion mode runs in
 * the ring with single_issuer, buffer_rings and op_accept, op_connect, op_send, op_recv and
 * op_close; that of datagrams wants multishot_recvmsg as well.
 */
struct rdy_probe_report {
    uint32_t size;    /* set by the caller to sizeof(struct rdy_probe_report) */
    int uring_result; /* 0 if io_uring can carry the engine, else -errno */
    char auto_backend[16];
    char auto_reason[160];
    uint32_t capabilities_count;
    struct rdy_capability capabilities[32];
};

/**
 * rdy_probe() - find out what an AUTO driver would run on, and why
 * @report: borrowed; size set by the caller, the rest overwritten
 *
 * Opens and closes what it needs. The kernel takes a closed ring apart a little later, and may
 * interrupt a blocking call of this thread once while it does (EINTR without a signal).
 *
 * Context: any thread; takes up to a few milliseconds.
 * Return:  0, or -EINVAL for a size this library does not know.
 */
RDY_API RDY_NODISCARD int rdy_probe(struct rdy_probe_report *report);

RDY_END_DECLS

#endif
