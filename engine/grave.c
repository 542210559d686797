/* SPDX-License-Identifier: MIT */
/*
 * The backend of a driver whose ring has died and been closed: what remains are entries to be given
 * back and wakers that run too late. A disarm is done at once, a wake does nothing, a wait is dead.
 */
#include "engine/backend.h"

static void grave_close(struct rdy_backend *backend)
{
    rdy_assert(backend->ops == &rdy_backend_grave); /* a part of its driver, who frees it */
}

static int grave_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    (void)backend;
    (void)fd;
    (void)token;
    (void)events;
    return -ESHUTDOWN;
}

static int grave_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    (void)backend;
    (void)fd;
    (void)token;
    return RDY_DISARMED;
}

static int grave_wait(struct rdy_backend *backend, int64_t timeout_ns, struct rdy_fact *facts,
                      uint32_t facts_max)
{
    (void)backend;
    (void)timeout_ns;
    (void)facts;
    (void)facts_max;
    return -ESHUTDOWN;
}

static void grave_wake(struct rdy_backend *backend)
{
    (void)backend;
}

static int grave_fd(const struct rdy_backend *backend)
{
    (void)backend;
    return -EINVAL;
}

const struct rdy_backend_ops rdy_backend_grave = {
    .name = "none",
    .close = grave_close,
    .arm = grave_arm,
    .disarm = grave_disarm,
    .wait = grave_wait,
    .wake = grave_wake,
    .fd = grave_fd,
};
