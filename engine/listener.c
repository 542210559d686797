/* SPDX-License-Identifier: MIT */
/*
 * Listeners: accept as a poll. Opening one is in engine/listener_open.c.
 *
 * Readiness is cleared by EAGAIN only: one event may stand for many connections, and a connection
 * that could not be taken for want of descriptors is still there.
 */
#include "engine/address.h"
#include "engine/completion.h"
#include "engine/runtime.h"
#include "engine/stream.h"
#include "engine/sys.h"

#define TRIES_MAX 16

int rdy_listener_address(const struct rdy_listener *listener, struct sockaddr_storage *addr,
                         socklen_t *addr_len)
{
    return rdy_address_local(listener->fd, addr, addr_len);
}

/*
 * Errors of the connection rather than of the listener: Linux hands the network's errors on through
 * accept(2), which says in its manual page to treat them like EAGAIN. The connection is gone.
 */
static bool is_dead_connection(int error)
{
    switch (error) {
    case -ECONNABORTED:
    case -EPROTO:
    case -EINTR:
    case -ENETDOWN:
    case -ENOPROTOOPT:
    case -EHOSTDOWN:
    case -ENONET:
    case -EHOSTUNREACH:
    case -EOPNOTSUPP:
    case -ENETUNREACH:
        return true;
    default:
        return false;
    }
}

static int accept_register(struct rdy_listener *listener, int fd, struct rdy_stream *stream)
{
    int rc = rdy_stream_register(stream, listener->reg.driver, fd, listener->flags);

    if (rc < 0)
        (void)rdy_sys_close(fd);
    return rc;
}

/* The end of a poll: a connection's descriptor, RDY_PENDING, or -errno. */
static int accepted(struct rdy_listener *listener, struct rdy_task *task, int fd,
                    struct rdy_stream *stream)
{
    if (fd == RDY_PENDING)
        return RDY_PENDING;
    rdy_task_spend(task);
    return fd < 0 ? fd : accept_register(listener, fd, stream);
}

int rdy_listener_poll_accept(struct rdy_listener *listener, struct rdy_task *task,
                             struct rdy_stream *stream)
{
    struct rdy_waker waker = rdy_task_waker(task);

    if (listener->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (listener->reg.io->flags & RDY_IO_LANE) { /* what it accepts may complete without */
        int fd = rdy_completion_poll_accept(listener, task);

        if (fd != -EOPNOTSUPP)
            return accepted(listener, task, is_dead_connection(fd) ? rdy_task_give_way(task) : fd,
                            stream);
    }

    for (int tries = 0; tries < TRIES_MAX; tries++) {
        struct rdy_event event;
        int fd;
        int rc = rdy_task_pay_error(
            task, rdy_poll_readiness(&listener->reg, RDY_DIRECTION_READ, &waker, &event));

        if (rc != 0)
            return rc;
        /* Asked before: what was accepted cannot be put back into the queue. */
        fd = rdy_driver_has_room(listener->reg.driver) ? rdy_sys_accept(listener->fd) : -ENFILE;
        if (fd == -EAGAIN) {
            rdy_clear_readiness(&listener->reg, event);
            continue;
        }
        if (is_dead_connection(fd))
            continue;
        return accepted(listener, task, fd, stream);
    }
    return rdy_task_give_way(task); /* dead connections without end */
}

void rdy_listener_close(struct rdy_listener *listener)
{
    if (listener->fd >= 0)
        (void)rdy_close(&listener->reg);
    *listener = (struct rdy_listener){.fd = -1};
}
