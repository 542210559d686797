/* SPDX-License-Identifier: MIT */
/*
 * Connecting to whichever of several addresses answers first: "Happy Eyeballs", RFC 8305.
 *
 * A name often has addresses of both families, and one family may be broken on the way without an
 * error. So the addresses are tried in turns of families, each after a short delay or as soon as
 * one before it has failed; the attempts run side by side, the first connection wins, and the
 * others are closed. Resolving and sorting (RFC 6724) is left to the resolver.
 */
#ifndef RDY_CONNECTOR_H
#define RDY_CONNECTOR_H

#include <rdy/endpoint.h>
#include <rdy/socket.h>

RDY_BEGIN_DECLS

#define RDY_CONNECTOR_ATTEMPTS_MAX 8

/* Set size to sizeof(struct rdy_connector_opts), the rest to zero for defaults. */
struct rdy_connector_opts {
    uint32_t size;
    uint32_t attempts_max;       /* in flight at once; default and most: 8. When so many are, the
                                    next address waits for one of them to fail */
    uint64_t attempt_delay_ns;   /* before the next is tried beside it; default 250 ms, at least
                                    10 ms; UINT64_MAX: only when it has failed */
    int first_family;            /* AF_INET or AF_INET6; default: that of the first address */
    uint32_t first_family_count; /* addresses of it before the turns begin; default 1 */
    const struct rdy_connect_opts *connect; /* borrowed for the start; what it points to is kept
                                               until the answer. NULL for defaults */
};

/*
 * The caller's memory, {0} before its first use and after the answer; fields are private. All calls
 * on the runtime's thread. Allocates nothing beyond what each attempt's stream takes: a descriptor
 * and a registration.
 */
struct rdy_connector {
    struct rdy_runtime *runtime;
    const struct rdy_address *addrs;
    struct rdy_timer timer;
    struct rdy_connect_opts connect;
    uint64_t attempt_delay_ns;
    uint64_t next_ns; /* when the next attempt may begin beside those in flight */
    struct rdy_stream attempts[RDY_CONNECTOR_ATTEMPTS_MAX]; /* in flight, the oldest first */
    uint32_t attempts_count;
    uint32_t attempts_max;
    uint32_t addrs_count;
    uint32_t next_first; /* the next address of the first family, and of all others */
    uint32_t next_other;
    uint32_t first_left; /* addresses of the first family that go before the turns begin */
    int first_family;
    int error; /* the most useful one so far */
    bool is_other_next;
    bool is_next_due; /* one failed: the next begins at once */
};

/**
 * rdy_connector_start() - begin with the first address
 * @connector: {0} or answered; kept until the answer or rdy_connector_cancel()
 * @addrs:     kept as long; not empty. An address that fails at once is a failed attempt
 * @opts:      borrowed; NULL for defaults
 *
 * Return: 0, or -EINVAL with nothing begun: no address, options out of range, or is_fastopen, with
 *         which every address would seem to be connected.
 */
RDY_API RDY_NODISCARD int rdy_connector_start(struct rdy_connector *connector,
                                              struct rdy_runtime *runtime,
                                              const struct rdy_address *addrs, uint32_t addrs_count,
                                              const struct rdy_connector_opts *opts);

/**
 * rdy_connector_poll() - go on, and take the first connection
 * @connector: started; {0} again after an answer, with every other attempt closed
 * @task:      being polled; woken when an attempt has an answer, and when the next is due
 * @stream:    written when the answer is 0: connected, the caller's
 *
 * The delay to the next attempt counts from the start of the last one, and passes only while the
 * task can be polled. May be given up at RDY_PENDING, with rdy_connector_cancel(). An answer costs
 * one operation of the budget. There is no limit of time but the kernel's (two minutes): put
 * RDY_TIMEOUT() around.
 *
 * Return: 0, RDY_PENDING, or, when every address has failed, the -errno that says most: what this
 *         process lacks (-EMFILE, -ENFILE, -ENOMEM, -ENOBUFS) or may not do (-EACCES, -EPERM),
 *         then what came nearest to the peer: -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT,
 *         -EHOSTUNREACH, -ENETUNREACH, others. -EINVAL if it is not started.
 */
RDY_API RDY_NODISCARD int rdy_connector_poll(struct rdy_connector *connector, struct rdy_task *task,
                                             struct rdy_stream *stream);

/* Closes every attempt, at any point; {0} afterwards. Twice is harmless. */
RDY_API void rdy_connector_cancel(struct rdy_connector *connector);

RDY_END_DECLS

#endif
