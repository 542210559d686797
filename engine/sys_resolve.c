/* SPDX-License-Identifier: MIT */
/* Name lookups: the C library's, its answers as -errno. Any thread. */
#include "engine/sys_resolve.h"
#include "engine/atomic.h"
#include "engine/sys_call.h"

const struct rdy_sys_lookup rdy_sys_lookup_system = {.get = getaddrinfo, .free = freeaddrinfo};

#ifdef RDY_FAULTS

static struct rdy_aptr lookup_of_test;

const struct rdy_sys_lookup *rdy_sys_lookup(void)
{
    /* Acquire: what it points to; pairs with rdy_sys_set_lookup(). */
    const struct rdy_sys_lookup *lookup = rdy_aptr_load_acquire(&lookup_of_test);

    return lookup ? lookup : &rdy_sys_lookup_system;
}

void rdy_sys_set_lookup(const struct rdy_sys_lookup *lookup)
{
    rdy_aptr_store_release(&lookup_of_test, (void *)(uintptr_t)lookup);
}

#else

const struct rdy_sys_lookup *rdy_sys_lookup(void)
{
    return &rdy_sys_lookup_system;
}

void rdy_sys_set_lookup(const struct rdy_sys_lookup *lookup)
{
    (void)lookup;
}

#endif

/* Of what a system call said only what a caller can act on: the rest would read like an answer. */
static int errno_of_system(int err)
{
    switch (err) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EACCES:
    case EPERM:
        return -err;
    default:
        return -EIO;
    }
}

/* Each answer that a caller may want to tell from the others has a number of its own. */
static int errno_of(int answer, int err)
{
    switch (answer) {
    case 0:
        return 0;
    case EAI_NONAME:
        return -ENOENT;
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        return -ENODATA;
    case EAI_AGAIN:
        return -EHOSTDOWN;
    case EAI_FAIL:
        return -EREMOTEIO;
    case EAI_SERVICE:
        return -EPROTONOSUPPORT;
    case EAI_FAMILY:
        return -EAFNOSUPPORT;
    case EAI_SOCKTYPE:
        return -ESOCKTNOSUPPORT;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_BADFLAGS:
        return -EINVAL;
    case EAI_SYSTEM:
        return errno_of_system(err);
    default:
        return -EIO;
    }
}

int rdy_sys_getaddrinfo(const struct rdy_sys_lookup *lookup, const char *host, const char *service,
                        const struct addrinfo *hints, struct addrinfo **list)
{
    int before = errno;
    int answer = EAI_SYSTEM;
    int rc;

    *list = NULL;
    if (!rdy_sys_fails())
        answer = lookup->get(host, service, hints, list);
    rc = errno_of(answer, errno);
    errno = before;
    if (rc < 0)
        *list = NULL; /* whatever stands there then, it is not to be freed */
    return rc;
}
