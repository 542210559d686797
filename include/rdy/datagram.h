/* SPDX-License-Identifier: MIT */
/*
 * Datagram sockets for tasks: UDP over IPv4 and IPv6, and Unix datagrams.
 *
 * A poll call returns RDY_PENDING and wakes the task later, or an answer. One task receives and one
 * sends on a socket at a time (they may be the same). A datagram goes whole or not at all, so every
 * call that may say RDY_PENDING can be given up at that point: nothing was taken, nothing was sent.
 * Each answer pays from the task's budget. The runtime's thread throughout.
 *
 * A connected UDP socket is told when nobody listens at the other end: the next call, of either
 * direction, answers -ECONNREFUSED, a task that waits is woken for it, and the call after that
 * works again. The socket is not at an end by it.
 */
#ifndef RDY_DATAGRAM_H
#define RDY_DATAGRAM_H

#include <sys/socket.h>

#include <rdy/registration.h>
#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/* The caller's memory; {.fd = -1} is closed. Fields are private. */
struct rdy_datagram {
    struct rdy_registration reg;
    struct rdy_registration peer_reg; /* of a descriptor that watches a full Unix peer */
    int fd;
    uint32_t flags;
};

/* Set size to sizeof(struct rdy_datagram_opts), the rest to zero for defaults. */
struct rdy_datagram_opts {
    uint32_t size;
    bool is_reuseaddr; /* SO_REUSEADDR: several receivers of one multicast group's port */
    bool is_reuseport; /* SO_REUSEPORT: one socket for each worker */
    bool is_v6only;
};

/* What is known of a received datagram beside its bytes. */
struct rdy_datagram_info {
    struct sockaddr_storage addr; /* the sender's */
    socklen_t addr_len;           /* bytes in addr; 0: a Unix socket without a name */
    int tos; /* type of service or traffic class; -1 unless RDY_DATAGRAM_RECV_TOS is on */
    size_t datagram_len; /* bytes as sent: more than were received if the end was cut off */
    size_t segment_len;  /* not 0: several datagrams, each of so many bytes, the last one perhaps
                            shorter (RDY_DATAGRAM_GRO) */
};

/* What the network did to say that it is congested: the two low bits of tos; -1 if not known. */
static inline int rdy_datagram_ecn(const struct rdy_datagram_info *info)
{
    return info->tos < 0 ? -1 : info->tos & 3;
}

/* --- making and ending one --- */

/**
 * rdy_datagram_open() - make a socket without an address, and register it
 * @datagram: written on success only; free with rdy_datagram_close()
 * @runtime:  borrowed; must outlive the socket
 * @family:   AF_INET, AF_INET6 or AF_UNIX
 * @opts:     borrowed; NULL for defaults; a Unix socket has none
 *
 * Return: 0 or -errno with nothing kept: -EINVAL for options that do not fit, -EAFNOSUPPORT,
 *         -EMFILE, -ENFILE, -ENOMEM, ...
 */
RDY_API RDY_NODISCARD int rdy_datagram_open(struct rdy_datagram *datagram,
                                            struct rdy_runtime *runtime, int family,
                                            const struct rdy_datagram_opts *opts);

/**
 * rdy_datagram_from_fd() - register a datagram socket that was made elsewhere
 * @fd: taken on success; need not be nonblocking
 *
 * Return: 0, -EPROTOTYPE if it is no datagram socket, or -errno as rdy_register().
 */
RDY_API RDY_NODISCARD int rdy_datagram_from_fd(struct rdy_datagram *datagram,
                                               struct rdy_runtime *runtime, int fd);

/* Two Unix datagram sockets connected to each other: socketpair(2). Both written, or on -errno
 * neither. */
RDY_API RDY_NODISCARD int rdy_datagram_pair(struct rdy_datagram *one, struct rdy_datagram *other,
                                            struct rdy_runtime *runtime);

/**
 * rdy_datagram_bind() - give the socket an address of its own
 * @addr: borrowed. Port 0: any. Unix: a path, whose file the caller removes; a name that begins
 *        with a zero byte is abstract, without a file; the family alone asks for any such name.
 *
 * Return: 0 or -errno: -EADDRINUSE, -EACCES, -EADDRNOTAVAIL, -EINVAL (has one), -EBADF, ...
 */
RDY_API RDY_NODISCARD int rdy_datagram_bind(struct rdy_datagram *datagram,
                                            const struct sockaddr *addr, socklen_t addr_len);

/**
 * rdy_datagram_connect() - choose the peer: where poll_send() goes, and whom alone to hear
 * @addr: borrowed. Again, with another one, it changes the peer.
 *
 * Does not wait, on any kind of socket. A poll_send() that waits is woken, to try the new peer.
 *
 * Return: 0 or -errno: -ECONNREFUSED and -ENOENT (Unix), -EPERM (the Unix peer is connected to
 *         another), -ENETUNREACH, -EACCES (broadcast), -EBADF, ...
 */
RDY_API RDY_NODISCARD int rdy_datagram_connect(struct rdy_datagram *datagram,
                                               const struct sockaddr *addr, socklen_t addr_len);

/* Forgets the peer. With it goes a port that the kernel chose, also for a bind to port 0: a socket
 * that shall be heard afterwards is bound again. Return: 0 or -errno. */
RDY_API RDY_NODISCARD int rdy_datagram_disconnect(struct rdy_datagram *datagram);

/* The socket's own address; a Unix socket without a name has the family alone. 0 or -errno. */
RDY_API RDY_NODISCARD int rdy_datagram_local_address(const struct rdy_datagram *datagram,
                                                     struct sockaddr_storage *addr,
                                                     socklen_t *addr_len);

/* The peer's address. Return: 0, -ENOTCONN, or another -errno. */
RDY_API RDY_NODISCARD int rdy_datagram_peer_address(const struct rdy_datagram *datagram,
                                                    struct sockaddr_storage *addr,
                                                    socklen_t *addr_len);

/* Deregisters and closes; the socket is {.fd = -1} afterwards, and closing that does nothing. */
RDY_API void rdy_datagram_close(struct rdy_datagram *datagram);

/* --- sending --- */

/**
 * rdy_datagram_poll_send() - send one datagram to the peer
 * @data: borrowed for this call only; @data_len 0 sends an empty datagram
 *
 * To a Unix peer whose queue is full it waits until that has room, and a send_to() of a socket
 * that is connected to such a peer with it. Given up while RDY_PENDING, nothing was sent.
 *
 * Return: @data_len, RDY_PENDING, or -errno. -ECONNREFUSED: nobody there (from UDP it tells of an
 *         earlier datagram; a Unix socket has no peer any more after it); -EDESTADDRREQ and
 *         -ENOTCONN without a peer; -EMSGSIZE; -EBADF; ... SIGPIPE is never raised.
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_send(struct rdy_datagram *datagram,
                                                     struct rdy_task *task, const void *data,
                                                     size_t data_len);

/**
 * rdy_datagram_poll_send_to() - send one datagram to an address
 * @addr: borrowed for this call only
 *
 * As rdy_datagram_poll_send(). The kernel does not say when a Unix queue that is full of other
 * senders' datagrams has room again, unless one is connected: while this call waits for that, the
 * socket holds a second, connected descriptor. Given up, it goes with the next send or the close.
 *
 * Return: as rdy_datagram_poll_send(), and of a Unix address -ENOENT, -EPERM (its owner listens to
 *         another peer only), and -EMFILE or -ENFILE if there is no descriptor to wait with.
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_send_to(struct rdy_datagram *datagram,
                                                        struct rdy_task *task, const void *data,
                                                        size_t data_len,
                                                        const struct sockaddr *addr,
                                                        socklen_t addr_len);

/* One buffer to be sent as many UDP datagrams. */
struct rdy_datagram_segments {
    const void *data;
    size_t data_len;    /* bytes in all, at most 65507 over IPv4 and 65487 over IPv6 */
    size_t segment_len; /* bytes of each datagram but the last, which has the rest */
};

/**
 * rdy_datagram_poll_send_segments() - send many UDP datagrams with one call (UDP_SEGMENT)
 * @segments: borrowed for this call only; at most 64 datagrams
 * @addr:     borrowed for this call only; NULL for the peer of a connected socket
 *
 * Costs one operation of the budget. All are sent or none. Given up while RDY_PENDING, none.
 *
 * Return: bytes sent, RDY_PENDING, or -errno as rdy_datagram_poll_send(); -EINVAL for too many
 *         segments, for a segment_len of 0 or above 65535, and from a kernel that cannot do it
 *         (rdy_datagram_probe()); -EOPNOTSUPP on a Unix socket.
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_send_segments(
    struct rdy_datagram *datagram, struct rdy_task *task,
    const struct rdy_datagram_segments *segments, const struct sockaddr *addr, socklen_t addr_len);

/* --- receiving --- */

/**
 * rdy_datagram_poll_recv() - take one datagram, without asking who sent it
 * @buf:          borrowed for this call only
 * @datagram_len: receives the bytes as sent, written when the answer is a count; more than that
 *                count if the end did not fit and is lost. May be NULL.
 *
 * Given up while RDY_PENDING, no datagram was taken.
 *
 * Return: bytes received, 0 for an empty datagram, RDY_PENDING, or -errno: -ECONNREFUSED and other
 *         news of the network, each once; -ECONNRESET, once, when a Unix peer connected elsewhere
 *         and lost what it had not read from here (one that closes is not told of); -EBADF.
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_recv(struct rdy_datagram *datagram,
                                                     struct rdy_task *task, void *buf,
                                                     size_t buf_len, size_t *datagram_len);

/**
 * rdy_datagram_poll_recv_from() - take one datagram, and learn who sent it
 * @info: written when the answer is a count
 *
 * As rdy_datagram_poll_recv(). Descriptors that came along on a Unix socket are closed unseen.
 *
 * Return: as rdy_datagram_poll_recv().
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_recv_from(struct rdy_datagram *datagram,
                                                          struct rdy_task *task, void *buf,
                                                          size_t buf_len,
                                                          struct rdy_datagram_info *info);

/**
 * rdy_datagram_poll_peek_from() - look at the next datagram and leave it there
 *
 * As rdy_datagram_poll_recv_from(); an error that is returned counts as told. It pays like any
 * other call, so looking again and again does not hold up other tasks.
 *
 * Return: as rdy_datagram_poll_recv().
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_peek_from(struct rdy_datagram *datagram,
                                                          struct rdy_task *task, void *buf,
                                                          size_t buf_len,
                                                          struct rdy_datagram_info *info);

/* --- options --- */

enum rdy_datagram_option {
    RDY_DATAGRAM_SEND_BUF = 0,   /* bytes asked for; Linux doubles them, and reads back so */
    RDY_DATAGRAM_RECV_BUF,       /* the same */
    RDY_DATAGRAM_BROADCAST,      /* 0 or 1: sending to a broadcast address is allowed; IPv4 only */
    RDY_DATAGRAM_TTL,            /* 1 to 255 hops; on IPv6 the hop limit */
    RDY_DATAGRAM_TOS,            /* 0 to 255, with ECN in the two low bits; the traffic class */
    RDY_DATAGRAM_RECV_TOS,       /* 0 or 1: fill rdy_datagram_info.tos */
    RDY_DATAGRAM_MULTICAST_TTL,  /* 0 to 255 hops; 0 stays on this machine */
    RDY_DATAGRAM_MULTICAST_LOOP, /* 0 or 1: members on this machine hear what is sent */
    RDY_DATAGRAM_GRO,            /* 0 or 1: let the kernel join datagrams, up to 64 KiB: receive
                                    with a struct rdy_datagram_info, its segment_len parts them */
    RDY_DATAGRAM_PASS_CREDENTIALS, /* 0 or 1: who sent it; Unix only, see <rdy/unix.h> */
};

/**
 * rdy_datagram_set() - set an option; an IPv6 socket gets it for IPv4 traffic too
 *
 * Return: 0, -EINVAL for a value out of range, -EOPNOTSUPP if this family has no such option,
 *         -ENOPROTOOPT if this kernel has not, -EBADF, ...
 */
RDY_API RDY_NODISCARD int rdy_datagram_set(struct rdy_datagram *datagram,
                                           enum rdy_datagram_option option, int value);

/* Reads an option into @value. Return: as rdy_datagram_set(), with @value unchanged on -errno. */
RDY_API RDY_NODISCARD int rdy_datagram_get(const struct rdy_datagram *datagram,
                                           enum rdy_datagram_option option, int *value);

/**
 * rdy_datagram_join() - hear what is sent to a multicast group
 * @group:           borrowed: a multicast address of IPv4 or IPv6; its port does not matter
 * @interface_index: from if_nametoindex(3); 0: where the route to the group goes
 *
 * Return: 0 or -errno: -EADDRINUSE (is a member), -EINVAL (no multicast address), -ENODEV,
 *         -ENOBUFS (too many groups), -EOPNOTSUPP on a Unix socket, -EBADF, ...
 */
RDY_API RDY_NODISCARD int rdy_datagram_join(struct rdy_datagram *datagram,
                                            const struct sockaddr *group, socklen_t group_len,
                                            uint32_t interface_index);

/* Undoes rdy_datagram_join(), with the same arguments. Return: 0, -EADDRNOTAVAIL (is no member), or
 * another -errno. */
RDY_API RDY_NODISCARD int rdy_datagram_leave(struct rdy_datagram *datagram,
                                             const struct sockaddr *group, socklen_t group_len,
                                             uint32_t interface_index);

/* The interface that multicast is sent through; 0: by the route. Return: 0, -ENODEV, ... */
RDY_API RDY_NODISCARD int rdy_datagram_set_multicast_interface(struct rdy_datagram *datagram,
                                                               uint32_t interface_index);

/* What a kernel may lack. */
#define RDY_DATAGRAM_CAN_SEGMENT 0x1u /* rdy_datagram_poll_send_segments() */
#define RDY_DATAGRAM_CAN_GRO     0x2u /* RDY_DATAGRAM_GRO */

/**
 * rdy_datagram_probe() - find out what this kernel can, by trying
 * @abilities: receives a union of RDY_DATAGRAM_CAN_*
 *
 * Context: any thread; opens and closes a socket.
 * Return:  0 or -errno: -EMFILE, -ENFILE, -ENOMEM, -EAFNOSUPPORT without IPv4.
 */
RDY_API RDY_NODISCARD int rdy_datagram_probe(uint32_t *abilities);

RDY_END_DECLS

#endif
