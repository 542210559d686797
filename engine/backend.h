/* SPDX-License-Identifier: MIT */
/*
 * The seam between the engine and a kernel interface: seven functions, and facts for answers.
 *
 * A backend translates. It knows tokens, never entries or waiters; it takes no engine lock and
 * never calls up: wait() fills an array of facts, and the driver decides what they mean. A fact
 * carries poll bits rather than readiness, because what "hang-up" or "error" means depends on the
 * kind of file (S57 to S60 of the rules: UDP errors are transient, a pipe's are final), which only
 * the engine knows; the translation is one pure function, engine/translate.h.
 */
#ifndef RDY_ENGINE_BACKEND_H
#define RDY_ENGINE_BACKEND_H

#include <rdy/driver.h>

#include "engine/atomic.h"

/* Poll bits, numbered as poll(2) does on Linux; each backend asserts that its own agree. */
#define RDY_EV_IN    0x0001u
#define RDY_EV_PRI   0x0002u
#define RDY_EV_OUT   0x0004u
#define RDY_EV_ERR   0x0008u
#define RDY_EV_HUP   0x0010u
#define RDY_EV_RDHUP 0x2000u

/* Nothing will follow for this token: the kernel has let go. */
#define RDY_FACT_LAST 0x1u
/* The last, for want of room in the completion queue; arm again, the file may still be ready. */
#define RDY_FACT_OVERFLOW 0x2u

/*
 * The events are the key of one wake-up of a socket, not its state: data wakes with PRI in the key
 * whether or not there is urgent data. Without this flag PRI is true of a socket.
 */
#define RDY_FACT_KEY 0x4u

struct rdy_fact {
    uint64_t token;  /* as given to arm() */
    uint32_t events; /* RDY_EV_*: what the kernel said; not necessarily the whole state */
    int32_t result;  /* 0, or -errno: the kernel refused or ended the watch (then LAST is set;
                        -ECANCELED is the answer to a disarm()) */
    uint32_t flags;  /* RDY_FACT_* */
    uint32_t reserved;
};

/* Capabilities of a backend. */
/* arm() and disarm() may be called from any thread, and answer for the kernel at once. */
#define RDY_BACKEND_ANY_THREAD 0x1u
/* A fact's events are the file's whole state, so that a missing PRI means "no urgent data". */
#define RDY_BACKEND_WHOLE_STATE 0x2u

/* disarm() did it at once: no further fact will come for the token. */
#define RDY_DISARMED 1

struct rdy_backend_ops;

/* What every backend begins with. */
struct rdy_backend {
    const struct rdy_backend_ops *ops;
    struct rdy_a64 system_calls;
    struct rdy_a64 interruptions; /* waits that a signal ended */
    bool looks_again; /* of two wake-ups, either each is a fact, or one fact holds the state */
};

struct rdy_backend_opts {
    uint32_t events_max; /* the largest facts_max that wait() will be given */
    uint32_t cq_entries;
    bool is_embedded; /* fd() will be used */
};

struct rdy_backend_ops {
    const char *name;
    uint32_t capabilities;

    /*
     * Can this kernel run us? Returns 0 or -errno with a sentence in @why; leaves nothing open.
     * @report may be NULL; otherwise capabilities are appended to it. The answer is remembered for
     * the process, except for shortages (-ENOMEM, -EMFILE, -ENFILE), which pass.
     */
    int (*probe)(struct rdy_probe_report *report, char *why, size_t why_len);

    /* Opens for the calling thread. 0 or -errno, with nothing stored and a sentence in @why. */
    int (*open)(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                size_t why_len);

    /* Ends every watch, waits for the kernel to let go where it must, frees. Watched files stay. */
    void (*close)(struct rdy_backend *backend);

    /*
     * Watches @fd until disarm(): first its present state, then every change (edges). ERR, HUP and
     * RDHUP are always watched. 0 or -errno; -EBUSY: no room now, ask again in the next turn.
     */
    int (*arm)(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events);

    /*
     * Ends the watch. RDY_DISARMED; or 0: a fact with LAST will come, later ones before it are
     * possible; or -errno: -EBUSY as for arm(), any other means that there is no such watch.
     */
    int (*disarm)(struct rdy_backend *backend, int fd, uint64_t token);

    /*
     * Submits what is queued and waits; @timeout_ns < 0: no limit, 0: do not block. Returns the
     * number of facts, 0 after a signal, a wake or the timeout; -errno: the backend is dead.
     */
    int (*wait)(struct rdy_backend *backend, int64_t timeout_ns, struct rdy_fact *facts,
                uint32_t facts_max);

    /* From any thread and from signal handlers: ends the current or the next wait(). */
    void (*wake)(struct rdy_backend *backend);

    /* A descriptor that polls readable when wait() would find something, or -EINVAL. */
    int (*fd)(const struct rdy_backend *backend);
};

/* The two backends that ship. Either may be left out of a build; its pointer is then NULL. */
extern const struct rdy_backend_ops *const rdy_backend_uring;
extern const struct rdy_backend_ops *const rdy_backend_epoll;

/* grave.c: watches nothing and has nothing; it is never chosen. */
extern const struct rdy_backend_ops rdy_backend_grave;

/* Appends one line to a report; does nothing if @report is NULL or full. */
void rdy_report_add(struct rdy_probe_report *report, const char *name, bool is_present,
                    const char *why);

#endif
