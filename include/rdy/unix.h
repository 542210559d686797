/* SPDX-License-Identifier: MIT */
/*
 * What only Unix sockets can: names, pairs, and who the peer is. The runtime's thread, but for
 * rdy_unix_address().
 */
#ifndef RDY_UNIX_H
#define RDY_UNIX_H

#include <sys/un.h>

#include <rdy/net.h>

RDY_BEGIN_DECLS

/**
 * rdy_unix_address() - make an address out of a name
 * @addr:     written on success only
 * @addr_len: the same
 * @name:     borrowed: a path of at most 107 bytes, or '@' and an abstract name of at most 107,
 *            which has no file and goes with its socket. A path that begins so: "./@..."
 *
 * Context: any thread.
 * Return:  0, -EINVAL for an empty name, -ENAMETOOLONG.
 */
RDY_API RDY_NODISCARD int rdy_unix_address(struct sockaddr_un *addr, socklen_t *addr_len,
                                           const char *name);

/* Two Unix streams connected to each other: socketpair(2). Both written, or on -errno neither. */
RDY_API RDY_NODISCARD int rdy_stream_pair(struct rdy_stream *one, struct rdy_stream *other,
                                          struct rdy_runtime *runtime);

/* A process, as it was when it was asked for. The pid is 0 for one of another pid namespace. */
struct rdy_credentials {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};

/**
 * rdy_stream_peer_credentials() - who is at the other end (SO_PEERCRED)
 * @credentials: written on success only. The effective ids: to an accepted stream, of who
 *               connected, when it did; to a connected one, of who called listen; of a pair, of
 *               who made it
 *
 * Return: 0, -EOPNOTSUPP if this is no Unix socket, -ENOTCONN, -EBADF, or another -errno.
 */
RDY_API RDY_NODISCARD int rdy_stream_peer_credentials(const struct rdy_stream *stream,
                                                      struct rdy_credentials *credentials);

RDY_END_DECLS

#endif
