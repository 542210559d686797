/* SPDX-License-Identifier: MIT */
/*
 * What only Unix sockets can: names, pairs, who the peer is, and passing descriptors.
 *
 * Descriptors travel with data, and a receiver gets them with the first byte of it. To receive them
 * ask with the calls of this header: a plain read or receive takes the data alone, and the kernel
 * closes the descriptors, which it tells nobody. The runtime's thread, but for rdy_unix_address().
 */
#ifndef RDY_UNIX_H
#define RDY_UNIX_H

#include <sys/un.h>

#include <rdy/datagram.h>
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

/* --- passing descriptors --- */

#define RDY_FDS_MAX 253 /* in one message: the kernel's SCM_MAX_FD */

/**
 * rdy_stream_poll_send_fds() - write data, and pass descriptors along
 * @data:      borrowed for this call only; at least one byte
 * @fds:       borrowed for this call only: the receiver gets duplicates, also if they are closed
 *             here meanwhile
 * @fds_count: at most RDY_FDS_MAX
 *
 * The descriptors go with the first byte: after an answer that is a count they are sent, and what
 * is left of the data goes with rdy_stream_poll_write(). Given up while RDY_PENDING, nothing is.
 *
 * Return: bytes written (at least 1, may be fewer than asked), RDY_PENDING, or -errno: as
 *         rdy_stream_poll_write(); -EINVAL for no data or too many descriptors; -EOPNOTSUPP if
 *         this is no Unix socket; -EBADF for one of @fds; -ETOOMANYREFS if more are under way than
 *         this user may have open.
 */
RDY_API RDY_NODISCARD ssize_t rdy_stream_poll_send_fds(struct rdy_stream *stream,
                                                       struct rdy_task *task, const void *data,
                                                       size_t data_len, const int *fds,
                                                       uint32_t fds_count);

/* What came along with received data. */
struct rdy_received {
    uint32_t fds_count;   /* stored: close-on-exec, the caller's to close */
    bool are_fds_cut_off; /* more came: without room in the array, or at the descriptor limit of the
                             process; they are closed */
    bool has_credentials; /* RDY_DATAGRAM_PASS_CREDENTIALS is on */
    struct rdy_credentials credentials; /* the sender's, told by the kernel */
    size_t datagram_len; /* bytes as sent: more than were received if the end was cut off; of a
                            stream, the bytes received */
};

/**
 * rdy_stream_poll_recv_fds() - read data, and take the descriptors that come with it
 * @buf:      borrowed for this call only; at least one byte
 * @fds:      receives at most @fds_max descriptors
 * @received: written when the answer is a count
 *
 * One call takes the descriptors of one rdy_stream_poll_send_fds(), and stops at the next one's.
 * Given up while RDY_PENDING, nothing was taken.
 *
 * Return: bytes read (at least 1), 0 at the end of the stream, RDY_PENDING, or -errno: as
 *         rdy_stream_poll_read(); -EINVAL for @buf_len 0.
 */
RDY_API RDY_NODISCARD ssize_t rdy_stream_poll_recv_fds(struct rdy_stream *stream,
                                                       struct rdy_task *task, void *buf,
                                                       size_t buf_len, int *fds, uint32_t fds_max,
                                                       struct rdy_received *received);

/**
 * rdy_datagram_poll_send_fds() - send one datagram to the peer, and pass descriptors along
 * @data: as in rdy_datagram_poll_send(); may be empty
 * @fds:  as in rdy_stream_poll_send_fds()
 *
 * All goes or nothing. Given up while RDY_PENDING, nothing was sent.
 *
 * Return: @data_len, RDY_PENDING, or -errno as rdy_datagram_poll_send(), and as
 *         rdy_stream_poll_send_fds() for descriptors.
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_send_fds(struct rdy_datagram *datagram,
                                                         struct rdy_task *task, const void *data,
                                                         size_t data_len, const int *fds,
                                                         uint32_t fds_count);

/**
 * rdy_datagram_poll_recv_fds() - take one datagram, with its descriptors and who sent it
 * @fds:      receives at most @fds_max descriptors
 * @received: written when the answer is a count
 *
 * Given up while RDY_PENDING, no datagram was taken.
 *
 * Return: bytes received, 0 for an empty datagram, RDY_PENDING, or -errno: as
 *         rdy_datagram_poll_recv().
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_recv_fds(struct rdy_datagram *datagram,
                                                         struct rdy_task *task, void *buf,
                                                         size_t buf_len, int *fds, uint32_t fds_max,
                                                         struct rdy_received *received);

RDY_END_DECLS

#endif
