/* SPDX-License-Identifier: MIT */
/*
 * Opening a listener: options, bind, listen, register; and the file of a Unix one.
 *
 * Options that accepted sockets inherit (TCP_NODELAY, buffers) are set once, on the listener: a
 * connection then costs no setsockopt. What a failure undoes includes the file, from the bind on.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "engine/address.h"
#include "engine/completion.h"
#include "engine/listener.h"
#include "engine/runtime.h"
#include "engine/socket_options.h"
#include "engine/stream.h"
#include "engine/sys.h"
#include "engine/sys_socket.h"

#define BACKLOG_DEFAULT 4096
#define UNIX_MODE_MAX   0777u

struct place {
    const struct sockaddr *addr;
    socklen_t addr_len;
    bool has_path;
    char path[RDY_UNIX_PATH_SIZE];
};

static bool has_inet_options(const struct rdy_listen_opts *opts)
{
    return opts->is_reuseaddr_off || opts->is_nodelay_off || opts->is_freebind ||
           opts->is_transparent || opts->fastopen_queue > 0 || opts->defer_accept_s > 0 ||
           opts->bind_device;
}

static int options_take(struct rdy_listen_opts *taken, const struct rdy_listen_opts *opts,
                        const struct place *place)
{
    bool is_unix = rdy_address_is(place->addr, place->addr_len, AF_UNIX);

    *taken = (struct rdy_listen_opts){.size = sizeof(*taken)};
    if (opts) {
        if (opts->size != sizeof(*opts) || opts->backlog < 0 || opts->fastopen_queue < 0 ||
            opts->defer_accept_s < 0 || opts->send_buf < 0 || opts->recv_buf < 0 ||
            opts->unix_mode > UNIX_MODE_MAX)
            return -EINVAL;
        if (is_unix && has_inet_options(opts))
            return -EINVAL;
        if ((opts->unix_mode != 0 && !place->has_path) || (opts->is_stale_replaced && !is_unix))
            return -EINVAL;
        *taken = *opts;
    }
    if (taken->backlog == 0)
        taken->backlog = BACKLOG_DEFAULT;
    return 0;
}

/* What has to be set before bind(2) and listen(2). */
static int inet_prepare(int fd, int family, const struct rdy_listen_opts *opts)
{
    bool is_inet6 = family == AF_INET6;
    int ip = is_inet6 ? IPPROTO_IPV6 : IPPROTO_IP;
    struct rdy_setting settings[] = {
        {!opts->is_reuseaddr_off, SOL_SOCKET, SO_REUSEADDR, 1},
        {opts->is_reuseport, SOL_SOCKET, SO_REUSEPORT, 1},
        {is_inet6, IPPROTO_IPV6, IPV6_V6ONLY, opts->is_v6only},
        {opts->is_nodelay_off, IPPROTO_TCP, TCP_NODELAY, 0},
        {opts->is_freebind, ip, is_inet6 ? IPV6_FREEBIND : IP_FREEBIND, 1},
        {opts->is_transparent, ip, is_inet6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, 1},
        {opts->fastopen_queue > 0, IPPROTO_TCP, TCP_FASTOPEN, opts->fastopen_queue},
        {opts->defer_accept_s > 0, IPPROTO_TCP, TCP_DEFER_ACCEPT, opts->defer_accept_s},
    };
    int rc = rdy_settings_apply(fd, settings, sizeof(settings) / sizeof(settings[0]));

    return rc < 0 ? rc : rdy_settings_bind_device(fd, opts->bind_device);
}

static int buffers_prepare(int fd, const struct rdy_listen_opts *opts)
{
    struct rdy_setting settings[] = {
        {opts->send_buf > 0, SOL_SOCKET, SO_SNDBUF, opts->send_buf},
        {opts->recv_buf > 0, SOL_SOCKET, SO_RCVBUF, opts->recv_buf},
    };

    return rdy_settings_apply(fd, settings, sizeof(settings) / sizeof(settings[0]));
}

/*
 * Removes the file at the place if nobody listens there, or says -EADDRINUSE. A listener says
 * anything but ECONNREFUSED: it takes the connection, or its queue is full, or it is of another
 * type or not for us.
 */
static int stale_remove(const struct place *place)
{
    int rc = rdy_sys_socket_file_check(place->path);
    int fd;

    rdy_assert(place->has_path);
    if (rc < 0)
        return rc == -ENOENT ? 0 : -EADDRINUSE;
    fd = rdy_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    rc = rdy_sys_connect(fd, place->addr, place->addr_len);
    (void)rdy_sys_close(fd);
    if (rc == -ENOENT)
        return 0;
    if (rc != -ECONNREFUSED)
        return -EADDRINUSE;
    rc = rdy_sys_socket_file_remove(place->path);
    return rc == -ENOENT ? 0 : rc;
}

static int place_bind(int fd, const struct place *place, const struct rdy_listen_opts *opts)
{
    int rc = rdy_sys_bind(fd, place->addr, place->addr_len);

    if (rc != -EADDRINUSE || !opts->is_stale_replaced || !place->has_path)
        return rc;
    rc = stale_remove(place);
    return rc < 0 ? rc : rdy_sys_bind(fd, place->addr, place->addr_len);
}

/*
 * Binds and listens. The mode is first the socket's, from which the bind takes the file's: it is
 * then never wider than wanted. What the umask took away of it is given back before anybody can
 * connect, which takes the listen.
 */
static int place_listen(int fd, const struct place *place, const struct rdy_listen_opts *opts)
{
    int rc = 0;

    if (opts->unix_mode != 0)
        rc = rdy_sys_socket_set_mode(fd, opts->unix_mode);
    if (rc == 0)
        rc = place_bind(fd, place, opts);
    if (rc < 0)
        return rc;
    if (opts->unix_mode != 0)
        rc = rdy_sys_socket_file_set_mode(place->path, opts->unix_mode);
    if (rc == 0)
        rc = rdy_sys_listen(fd, opts->backlog);
    if (rc < 0 && place->has_path)
        (void)rdy_sys_socket_file_remove(place->path);
    return rc;
}

static bool is_inet(const struct sockaddr *addr)
{
    return addr->sa_family == AF_INET || addr->sa_family == AF_INET6;
}

/* The place and the options of one that is wanted; 0 or -EINVAL. */
static int wish_take(struct place *place, struct rdy_listen_opts *taken,
                     const struct rdy_listen_opts *opts)
{
    if (place->addr_len < sizeof(place->addr->sa_family))
        return -EINVAL;
    place->has_path = rdy_address_path(place->addr, place->addr_len, place->path);
    return options_take(taken, opts, place);
}

/* A socket with all that has to be set before bind(2); or -errno. */
static int socket_prepare(const struct place *place, const struct rdy_listen_opts *opts)
{
    int rc = 0;
    int fd = rdy_sys_socket(place->addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return fd;
    if (is_inet(place->addr)) {
        rdy_stream_set_tcp(fd);
        rc = inet_prepare(fd, place->addr->sa_family, opts);
    }
    if (rc == 0)
        rc = buffers_prepare(fd, opts);
    if (rc == 0)
        return fd;
    (void)rdy_sys_close(fd);
    return rc;
}

int rdy_listener_check_place(const struct sockaddr *addr, socklen_t addr_len,
                             const struct rdy_listen_opts *opts)
{
    struct place place = {.addr = addr, .addr_len = addr_len};
    struct rdy_listen_opts taken;
    int fd;
    int rc = wish_take(&place, &taken, opts);

    if (rc < 0 || !is_inet(addr))
        return rc;
    taken.is_reuseport = false;
    fd = socket_prepare(&place, &taken);
    if (fd < 0)
        return fd;
    rc = rdy_sys_bind(fd, addr, addr_len);
    (void)rdy_sys_close(fd);
    return rc;
}

int rdy_listener_socket(const struct sockaddr *addr, socklen_t addr_len,
                        const struct rdy_listen_opts *opts)
{
    struct place place = {.addr = addr, .addr_len = addr_len};
    struct rdy_listen_opts taken;
    int fd;
    int rc = wish_take(&place, &taken, opts);

    if (rc < 0)
        return rc;
    fd = socket_prepare(&place, &taken);
    if (fd < 0)
        return fd;
    rc = place_listen(fd, &place, &taken);
    if (rc == 0)
        return fd;
    (void)rdy_sys_close(fd);
    return rc;
}

void rdy_listener_remove_file(const struct sockaddr *addr, socklen_t addr_len)
{
    char path[RDY_UNIX_PATH_SIZE];

    if (rdy_address_path(addr, addr_len, path))
        (void)rdy_sys_socket_file_remove(path);
}

/* After listen(2): a socket that neither listens nor is connected polls as hung up. */
int rdy_listener_register(struct rdy_listener *listener, struct rdy_driver *driver)
{
    return rdy_register_kind(driver, listener->fd, RDY_INTEREST_READ, RDY_FILE_STREAM,
                             &listener->reg);
}

/*
 * The kernel tells one of those who accept from a socket, and goes on telling the first in line
 * while it is busy with other things: with several of them nobody else would hear of a connection.
 * A watch tells them all, and whoever has time takes it.
 */
int rdy_listener_start_completion(struct rdy_listener *listener, bool is_shared)
{
    int rc = is_shared ? 0 : rdy_completion_attach(&listener->reg, RDY_LANE_LISTENER);

    if (rc < 0)
        return rc;
    listener->flags |= RDY_SOCKET_COMPLETES;
    if (!is_shared && listener->reg.driver->completion->is_native)
        rdy_driver_unwatch(listener->reg.driver, listener->reg.io);
    return 0;
}

int rdy_listener_open(struct rdy_listener *listener, struct rdy_runtime *runtime,
                      const struct sockaddr *addr, socklen_t addr_len,
                      const struct rdy_listen_opts *opts)
{
    struct rdy_listener made = {.fd = rdy_listener_socket(addr, addr_len, opts)};
    int rc;

    if (made.fd < 0)
        return made.fd;
    if (is_inet(addr))
        made.flags = rdy_stream_tcp_flags(runtime->driver);
    rc = rdy_listener_register(&made, runtime->driver);
    if (rc == 0 && opts && opts->is_completing) {
        rc = rdy_listener_start_completion(&made, false);
        if (rc < 0)
            (void)rdy_deregister(&made.reg);
    }
    if (rc == 0) {
        *listener = made;
        return 0;
    }
    rdy_listener_remove_file(addr, addr_len);
    (void)rdy_sys_close(made.fd);
    return rc;
}
