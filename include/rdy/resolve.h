/* SPDX-License-Identifier: MIT */
/*
 * Names to addresses, for tasks: getaddrinfo(3) on a thread of a pool (<rdy/blocking.h>).
 *
 * So all that the system knows of names counts: /etc/hosts, name servers, the switch of the C
 * library; and the addresses come in its order (RFC 6724): try them one after the other. What needs
 * no looking up, a numeric host with a numeric service, is answered at once and uses no pool (with
 * AI_ADDRCONFIG it does: which families this machine has is a question to the system).
 *
 * A lookup cannot be stopped. One that is given up goes on on its thread, for as long as the system
 * takes (with the usual resolv.conf up to half a minute), and its answer is thrown away: as many
 * such as the pool has threads hold up all other jobs of that pool. A program that resolves names
 * of strangers gives the resolver a pool of its own.
 */
#ifndef RDY_RESOLVE_H
#define RDY_RESOLVE_H

#include <netdb.h>

#include <rdy/blocking.h>
#include <rdy/endpoint.h>

RDY_BEGIN_DECLS

/* Addresses in the order in which to try them. {0} is empty. */
struct rdy_address_list {
    struct rdy_address *items;
    size_t count;
};

/* Frees the addresses; the list is {0} afterwards. An empty one is fine. Any thread. */
RDY_API void rdy_address_list_free(struct rdy_address_list *list);

/* Set size to sizeof(struct rdy_resolve_hints), the rest to zero for defaults. */
struct rdy_resolve_hints {
    uint32_t size;
    int family;   /* AF_INET, AF_INET6; AF_UNSPEC, which is 0: both */
    int socktype; /* SOCK_STREAM, which is the default, or SOCK_DGRAM */
    int flags;    /* of getaddrinfo(3): AI_PASSIVE, AI_NUMERICHOST, AI_NUMERICSERV, AI_ADDRCONFIG,
                     AI_V4MAPPED, AI_ALL */
};

/* A lookup: the caller's memory, {0} before its first use and after its answer. Fields are
 * private. It may be moved. */
struct rdy_resolve {
    struct rdy_blocking job;
    struct rdy_address_list list;
    int result;
    bool has_result;
};

/**
 * rdy_resolve_start() - begin to look a name up
 * @resolve: {0}; holds the lookup from an answer of 0 until rdy_resolve_poll() has an answer or
 *           rdy_resolve_cancel()
 * @pool:    borrowed; NULL if all must be numeric
 * @host:    borrowed: a name or a numeric address (with a scope: "fe80::1%eth0"), at most 253 bytes
 *           of printable ASCII. NULL: this machine, for connecting to, or with AI_PASSIVE all of
 *           its addresses, for listening; of both families that is a lookup, of one it is not.
 * @service: borrowed: a number up to 65535 or a name of at most 31 bytes; NULL: port 0
 * @hints:   borrowed; NULL for defaults
 *
 * Text like "unix:/path" or "host:80" is not taken apart here: see rdy_endpoint_parse().
 *
 * Context: any thread.
 * Return:  0, also if it is known already that there is no such host; -EINVAL for what can be no
 *          host or service, for hints that do not fit, or for a name without a pool; or -errno as
 *          rdy_blocking_start(). With any -errno @resolve is {0} still.
 */
RDY_API RDY_NODISCARD int rdy_resolve_start(struct rdy_resolve *resolve, struct rdy_pool *pool,
                                            const char *host, const char *service,
                                            const struct rdy_resolve_hints *hints);

/**
 * rdy_resolve_poll() - the addresses
 * @resolve: {0} after any answer but RDY_PENDING
 * @task:    being polled; woken when there is an answer
 * @list:    written with an answer of 0: at least one address; owned by the caller, free it with
 *           rdy_address_list_free()
 *
 * May be given up at RDY_PENDING: the lookup goes on, and poll goes on with it. Who gives up for
 * good, after RDY_TIMEOUT() say, calls rdy_resolve_cancel(), and a task that may be aborted does so
 * in its drop. An answer costs one operation of the budget.
 *
 * Context: the runtime's thread.
 * Return:  0, RDY_PENDING, or -errno. rdy_resolve_error_text() puts these into words:
 *          -ENOENT          no such host, or no such service (EAI_NONAME)
 *          -ENODATA         the host has no address of that family (EAI_NODATA, EAI_ADDRFAMILY)
 *          -EHOSTDOWN       no name server has answered; later it may (EAI_AGAIN). Not -EAGAIN: no
 *                           waker will run
 *          -EREMOTEIO       a name server has answered that it cannot (EAI_FAIL)
 *          -EPROTONOSUPPORT the service is none for that type of socket (EAI_SERVICE)
 *          -ECANCELED       the pool was shut down before the lookup began
 *          -ENOMEM, -EMFILE, -ENFILE, -ENOBUFS, -EACCES, -EPERM, -EAFNOSUPPORT, -ESOCKTNOSUPPORT;
 *          -EIO for anything else (most of EAI_SYSTEM)
 *          -EINVAL          @resolve is {0}; -EOWNERDEAD in a forked child
 */
RDY_API RDY_NODISCARD int rdy_resolve_poll(struct rdy_resolve *resolve, struct rdy_task *task,
                                           struct rdy_address_list *list);

/* Gives a lookup up, in whatever state, and frees what it has found; @resolve is {0} afterwards. No
 * waker of it runs any more. {0} is fine. Any thread. */
RDY_API void rdy_resolve_cancel(struct rdy_resolve *resolve);

/**
 * rdy_resolve_wait() - look a name up on the calling thread, and block meanwhile
 *
 * For the beginning of a program, before a loop runs. Arguments as rdy_resolve_start().
 *
 * Context: any thread that may block.
 * Return:  0 and @list, or -errno as rdy_resolve_start() and rdy_resolve_poll().
 */
RDY_API RDY_NODISCARD int rdy_resolve_wait(const char *host, const char *service,
                                           const struct rdy_resolve_hints *hints,
                                           struct rdy_address_list *list);

/* What an -errno of this header means, in a few words. Static storage, any thread. */
RDY_API const char *rdy_resolve_error_text(int rc);

RDY_END_DECLS

#endif
