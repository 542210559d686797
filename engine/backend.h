/* SPDX-License-Identifier: MIT */
/*
 * The seam between the engine and a kernel interface: some functions, and facts for answers.
 *
 * A backend translates. It knows tokens, never entries or waiters; it takes no engine lock and
 * never calls up: wait() fills an array of facts, and the driver decides what they mean. A fact
 * carries poll bits rather than readiness, because what "hang-up" or "error" means depends on the
 * kind of file (S57 to S60 of the rules: UDP errors are transient, a pipe's are final), which only
 * the engine knows; the translation is one pure function, engine/translate.h.
 */
#ifndef RDY_ENGINE_BACKEND_H
#define RDY_ENGINE_BACKEND_H

#include <sys/socket.h>

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

/* The fact of a receive: @buffer is filled, and the engine's until refill(). */
#define RDY_FACT_BUFFER 0x8u

struct rdy_fact {
    uint64_t token;  /* as given to arm(), recv(), accept(), send() or connect() */
    uint32_t events; /* RDY_EV_*: what the kernel said; not necessarily the whole state */
    int32_t result;  /* of a watch 0, of an operation its count or descriptor; or -errno: the kernel
                        refused or ended it (then LAST is set; -ECANCELED is the answer to a
                        disarm()) */
    uint32_t flags;  /* RDY_FACT_* */
    uint32_t buffer;
};

/* Capabilities of a backend. */
/* arm() and disarm() may be called from any thread, and answer for the kernel at once. */
#define RDY_BACKEND_ANY_THREAD 0x1u
/* A fact's events are the file's whole state, so that a missing PRI means "no urgent data". */
#define RDY_BACKEND_WHOLE_STATE 0x2u
/* Runs operations: lend() and those that follow it are there. */
#define RDY_BACKEND_COMPLETES 0x4u

/* disarm() did it at once: no further fact will come for the token. */
#define RDY_DISARMED 1

/* The two upper bits of a token: what a fact is about. The lowest bit is always set. */
enum rdy_token_about {
    RDY_ABOUT_WATCH = 0,
    RDY_ABOUT_RECV,
    RDY_ABOUT_SEND, /* or a connect: a socket has one of them at a time */
    RDY_ABOUT_ACCEPT,
};

static inline enum rdy_token_about rdy_token_about(uint64_t token)
{
    return (enum rdy_token_about)(token >> 62);
}

struct rdy_backend_ops;

/* What every backend begins with. */
struct rdy_backend {
    const struct rdy_backend_ops *ops;
    struct rdy_a64 system_calls;
    struct rdy_a64 interruptions; /* waits that a signal ended */
    bool looks_again; /* of two wake-ups, either each is a fact, or one fact holds the state */
    bool is_settled;  /* after wait(): whatever was submitted by then has had its facts */
    bool has_lost;    /* after its death: facts there were that salvage() cannot bring */
    bool has_begun;   /* submitted a part of what was queued before the wait() that is to do it */
    /*
     * Where it can, a wait() that blocks goes on until it has so many, for so long at most. The
     * driver may change both between two waits.
     */
    bool can_batch;
    uint32_t batch_count; /* 0 or 1: until the first */
    uint32_t batch_wait_us;
    uint32_t batch_waited; /* what the last wait() did go on for: it may be less */
};

/* A send operation. What it points to stays until the operation has ended. */
struct rdy_backend_send {
    int fd;
    uint64_t token;
    const struct msghdr *message; /* flags empty; of a stream, address and control as well */
    bool may_wait;                /* for the peer; else tried once */
};

struct rdy_backend_opts {
    uint32_t events_max; /* the largest facts_max that wait() will be given */
    uint32_t cq_entries;
    bool is_embedded;      /* fd() will be used */
    bool is_watching_only; /* no operations: a ring then refuses all but polls */
    bool is_spinning;      /* has_news() will be used, where there is one */
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
     * possible; or -errno: -EBUSY as for arm(), any other means that there is no such watch. One
     * that does it at once goes by @fd: the @token of another thread may be without its arming.
     */
    int (*disarm)(struct rdy_backend *backend, int fd, uint64_t token);

    /*
     * Submits what is queued and waits; @timeout_ns < 0: no limit, 0: do not block. Returns the
     * number of facts, 0 after a signal, a wake or the timeout; -errno: the backend is dead.
     */
    int (*wait)(struct rdy_backend *backend, int64_t timeout_ns, struct rdy_fact *facts,
                uint32_t facts_max);

    /*
     * A look without a system call: false if wait() would find nothing and has nothing to submit.
     * NULL: only a wait() that does not block can tell.
     */
    bool (*has_news)(const struct rdy_backend *backend);

    /* From any thread and from signal handlers: ends the current or the next wait(). */
    void (*wake)(struct rdy_backend *backend);

    /* A descriptor that polls readable when wait() would find something, or -EINVAL. */
    int (*fd)(const struct rdy_backend *backend);

    /*
     * Operations, with RDY_BACKEND_COMPLETES, on the owner's thread. Like an arm each is ended by
     * one fact that says LAST, or by a disarm() of its token and that fact. 0, or -EBUSY as for
     * arm(); what the kernel thinks of it is in the facts.
     */

    /*
     * Takes @count buffers, a power of two, of @size bytes each, one after the other at @memory,
     * until close(). None is filled before its refill(). 0 or -errno: operations cannot be had,
     * watches can.
     */
    int (*lend)(struct rdy_backend *backend, void *memory, uint32_t count, uint32_t size);

    /*
     * The buffer may be filled (again); the kernel is told in the next wait(). The one that came
     * last should be filled first, as it is likely to be in the cache.
     */
    void (*refill)(struct rdy_backend *backend, uint32_t buffer);

    /*
     * Receives into free buffers, again and again; a count of 0 is the end of the stream. -ENOBUFS:
     * none was free. @is_data_there: try at once rather than wait for an event first.
     */
    int (*recv)(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there);

    /* Accepts again and again; results are descriptors, nonblocking and close-on-exec. */
    int (*accept)(struct rdy_backend *backend, int fd, uint64_t token);

    /*
     * Sends all, or what fits (may_wait is false). The latter has a fact, the last, only if
     * something was left; when wait() leaves is_settled set, those without one went out whole.
     */
    int (*send)(struct rdy_backend *backend, const struct rdy_backend_send *send);

    /*
     * Connects a nonblocking IPv4 or IPv6 socket; a result of 0 is a connection. @addr stays until
     * the fact. -EALREADY, -EINPROGRESS, -EAGAIN: it was not waited for, connect(2) can tell.
     */
    int (*connect)(struct rdy_backend *backend, int fd, uint64_t token, const struct sockaddr *addr,
                   socklen_t addr_len);

    /*
     * Closes a file that the backend has nothing of any more, without a fact: with the next wait(),
     * at the latest when that one finds the backend dead, or with close(). 0, or -EBUSY as for
     * arm(): the caller closes it.
     */
    int (*close_file)(struct rdy_backend *backend, int fd);

    /* Can recv_message() be had? 0 or -errno; remembered as probe()'s answer. */
    int (*messages)(struct rdy_backend *backend);

    /*
     * As recv(), of a datagram socket: each datagram in a buffer, as engine/message_head.h has it.
     * The result counts the head. An empty datagram and an error end it; neither is an end.
     */
    int (*recv_message)(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there);

    /* After wait() said that the backend is dead: the facts that can still be had. */
    uint32_t (*salvage)(struct rdy_backend *backend, struct rdy_fact *facts, uint32_t facts_max);
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
