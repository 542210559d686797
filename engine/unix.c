/* SPDX-License-Identifier: MIT */
/*
 * Unix addresses by name, stream pairs, and who the peer is. The runtime's thread only, but for
 * rdy_unix_address().
 */
#include <rdy/unix.h>

#include "engine/driver.h"
#include "engine/runtime.h"
#include "engine/stream.h"
#include "engine/sys.h"
#include "engine/sys_socket.h"

#define PATH_SIZE   sizeof(((struct sockaddr_un *)NULL)->sun_path)
#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

static_assert(PATH_OFFSET + PATH_SIZE == sizeof(struct sockaddr_un), "nothing after the path");

int rdy_unix_address(struct sockaddr_un *addr, socklen_t *addr_len, const char *name)
{
    struct sockaddr_un made = {.sun_family = AF_UNIX};
    size_t len = strlen(name);
    bool is_abstract = name[0] == '@';

    if (len == 0 || (is_abstract && len == 1))
        return -EINVAL;
    if (len > PATH_SIZE || (len == PATH_SIZE && !is_abstract))
        return -ENAMETOOLONG;
    memcpy(made.sun_path, name, len);
    if (is_abstract)
        made.sun_path[0] = '\0';
    *addr = made;
    /* An abstract name has the zero byte in front, a path behind. */
    *addr_len = (socklen_t)(PATH_OFFSET + len + (is_abstract ? 0 : 1));
    return 0;
}

int rdy_stream_pair(struct rdy_stream *one, struct rdy_stream *other, struct rdy_runtime *runtime)
{
    struct rdy_stream made = {.fd = -1};
    int fds[2];
    int rc;

    rdy_assert(one != other);
    rc = rdy_sys_socketpair(SOCK_STREAM, fds);
    if (rc < 0)
        return rc;
    rc = rdy_stream_register(&made, runtime->driver, fds[0], 0);
    if (rc == 0)
        rc = rdy_stream_register(other, runtime->driver, fds[1], 0);
    if (rc == 0)
        *one = made;
    else
        rdy_close_pair(&made.reg, fds);
    return rc;
}

int rdy_stream_peer_credentials(const struct rdy_stream *stream,
                                struct rdy_credentials *credentials)
{
    struct ucred told = {0};
    socklen_t told_size = sizeof(told);
    int family = 0;
    int rc;

    if (stream->fd < 0)
        return -EBADF;
    /* Other sockets do not refuse, but name process 0 of user 0. */
    rc = rdy_sys_getsockopt_int(stream->fd, SOL_SOCKET, SO_DOMAIN, &family);
    if (rc == 0 && family != AF_UNIX)
        rc = -EOPNOTSUPP;
    if (rc == 0)
        rc = rdy_sys_getsockopt(stream->fd, SOL_SOCKET, SO_PEERCRED, &told, &told_size);
    if (rc < 0)
        return rc;
    if (told.uid == (uid_t)-1)
        return -ENOTCONN;
    *credentials = (struct rdy_credentials){.pid = told.pid, .uid = told.uid, .gid = told.gid};
    return 0;
}
