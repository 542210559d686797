/* SPDX-License-Identifier: MIT */
/* getaddrinfo(3), with -errno for its answers, and a place to put another in its stead in tests. */
#ifndef RDY_ENGINE_SYS_RESOLVE_H
#define RDY_ENGINE_SYS_RESOLVE_H

#include <netdb.h>

#include "engine/base.h"

/* Who looks names up. */
struct rdy_sys_lookup {
    int (*get)(const char *host, const char *service, const struct addrinfo *hints,
               struct addrinfo **list); /* 0 or EAI_*, as getaddrinfo() */
    void (*free)(struct addrinfo *list);
};

/* The C library, or what a test has set. */
const struct rdy_sys_lookup *rdy_sys_lookup(void);

/* The C library. */
extern const struct rdy_sys_lookup rdy_sys_lookup_system;

/* 0 or -errno: see <rdy/resolve.h> for which is which. */
int rdy_sys_getaddrinfo(const struct rdy_sys_lookup *lookup, const char *host, const char *service,
                        const struct addrinfo *hints, struct addrinfo **list);

/*
 * For tests, compiled in with RDY_FAULTS: from now on @lookup answers what is not numeric, in the
 * whole process. Kept; NULL for the C library again. No lookup may be under way.
 */
void rdy_sys_set_lookup(const struct rdy_sys_lookup *lookup);

#endif
