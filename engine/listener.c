/* SPDX-License-Identifier: MIT */
/*
 * Listeners: bind, and accept as a poll.
 *
 * Options that accepted sockets inherit (TCP_NODELAY) are set once, on the listener: a
 * connection then costs no setsockopt. Readiness is cleared by EAGAIN only: one event may stand for
 * many connections, and a connection that could not be taken for want of descriptors is still
 * there.
 */
#include <netinet/in.h>

#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/stream.h"
#include "engine/sys.h"

#define BACKLOG_DEFAULT 4096
#define TRIES_MAX       16

static int options_take(struct rdy_listen_opts *taken, const struct rdy_listen_opts *opts)
{
    *taken = (struct rdy_listen_opts){.size = sizeof(*taken)};
    if (opts) {
        if (opts->size != sizeof(*opts) || opts->backlog < 0)
            return -EINVAL;
        *taken = *opts;
    }
    if (taken->backlog == 0)
        taken->backlog = BACKLOG_DEFAULT;
    return 0;
}

/* What has to be set before bind(2). */
static int inet_prepare(int fd, int family, const struct rdy_listen_opts *opts)
{
    int rc = rdy_sys_setsockopt_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);

    if (rc == 0 && opts->is_reuseport)
        rc = rdy_sys_setsockopt_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && family == AF_INET6)
        rc = rdy_sys_setsockopt_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, opts->is_v6only);
    return rc;
}

int rdy_listener_open(struct rdy_listener *listener, struct rdy_runtime *runtime,
                      const struct sockaddr *addr, socklen_t addr_len,
                      const struct rdy_listen_opts *opts)
{
    struct rdy_listener made = {0};
    struct rdy_listen_opts taken;
    int rc = options_take(&taken, opts);

    if (rc < 0)
        return rc;
    if (addr_len < sizeof(addr->sa_family))
        return -EINVAL;
    made.fd = rdy_sys_socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (made.fd < 0)
        return made.fd;
    if (addr->sa_family == AF_INET || addr->sa_family == AF_INET6) {
        rc = inet_prepare(made.fd, addr->sa_family, &taken);
        if (rc < 0)
            goto close_fd;
        made.flags = rdy_stream_prepare_tcp(runtime->driver, made.fd);
    }
    rc = rdy_sys_bind(made.fd, addr, addr_len);
    if (rc < 0)
        goto close_fd;
    rc = rdy_sys_listen(made.fd, taken.backlog);
    if (rc < 0)
        goto close_fd;
    /* After listen(2): a socket that neither listens nor is connected polls as hung up. */
    rc = rdy_register_kind(runtime->driver, made.fd, RDY_INTEREST_READ, RDY_FILE_STREAM, &made.reg);
    if (rc < 0)
        goto close_fd;
    *listener = made;
    return 0;

close_fd:
    (void)rdy_sys_close(made.fd);
    return rc;
}

int rdy_listener_address(const struct rdy_listener *listener, struct sockaddr_storage *addr,
                         socklen_t *addr_len)
{
    if (listener->fd < 0)
        return -EBADF;
    *addr_len = sizeof(*addr);
    return rdy_sys_getsockname(listener->fd, (struct sockaddr *)addr, addr_len);
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

int rdy_listener_poll_accept(struct rdy_listener *listener, struct rdy_task *task,
                             struct rdy_stream *stream)
{
    struct rdy_waker waker = rdy_task_waker(task);

    if (listener->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;

    for (int tries = 0; tries < TRIES_MAX; tries++) {
        struct rdy_event event;
        int fd;
        int rc = rdy_poll_readiness(&listener->reg, RDY_DIRECTION_READ, &waker, &event);

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
        rdy_task_spend(task);
        return fd < 0 ? fd : accept_register(listener, fd, stream);
    }
    rdy_task_defer(task); /* dead connections without end: the other tasks and the
                           driver first */
    return RDY_PENDING;
}

void rdy_listener_close(struct rdy_listener *listener)
{
    if (listener->fd >= 0)
        (void)rdy_close(&listener->reg);
    *listener = (struct rdy_listener){.fd = -1};
}
