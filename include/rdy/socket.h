/* SPDX-License-Identifier: MIT */
/*
 * Stream sockets beyond <rdy/net.h>: options, addresses, and connecting with options.
 *
 * None of these calls waits. The runtime's thread throughout.
 */
#ifndef RDY_SOCKET_H
#define RDY_SOCKET_H

#include <rdy/net.h>

RDY_BEGIN_DECLS

/*
 * Buffers are for every family. The TTL, the type of service, keepalive and linger are for IPv4 and
 * IPv6, and the others for TCP.
 */
enum rdy_stream_option {
    RDY_STREAM_NODELAY = 0,          /* 0 or 1: do not wait to fill a segment; 1 from the start */
    RDY_STREAM_QUICKACK,             /* 0 or 1: acknowledge at once; the kernel takes it back */
    RDY_STREAM_CORK,                 /* 0 or 1: hold back what does not fill a segment, 200 ms */
    RDY_STREAM_KEEPALIVE,            /* 0 or 1: probe an idle connection */
    RDY_STREAM_KEEPALIVE_IDLE_S,     /* 1 to 32767 seconds before the first probe */
    RDY_STREAM_KEEPALIVE_INTERVAL_S, /* 1 to 32767 seconds between probes */
    RDY_STREAM_KEEPALIVE_COUNT,      /* 1 to 127 probes without an answer end it: -ETIMEDOUT */
    RDY_STREAM_LINGER_S,             /* -1: close sends what is left; 0: close resets. See below */
    RDY_STREAM_SEND_BUF,             /* bytes asked for; Linux doubles them, and reads back so */
    RDY_STREAM_RECV_BUF,             /* the same; for a large window set it before connecting */
    RDY_STREAM_USER_TIMEOUT_MS,      /* unacknowledged for so long: -ETIMEDOUT; 0: the system's */
    RDY_STREAM_TOS,                  /* 0 to 255, or the traffic class; TCP keeps the ECN bits */
    RDY_STREAM_TTL,                  /* 1 to 255 hops; on IPv6 the hop limit */
    RDY_STREAM_NOTSENT_LOWAT,        /* writable only below so many unsent bytes; 0: the system's */
};

/**
 * rdy_stream_set() - set an option; an IPv6 socket gets it for IPv4 traffic too
 *
 * RDY_STREAM_LINGER_S takes no positive time: on Linux that makes close(2) block its thread for as
 * long, also on a nonblocking socket, and the thread is the runtime's. To see what was written
 * arrive, shut the stream down for writing and read to its end.
 *
 * Return: 0, -EINVAL for a value out of range, -EOPNOTSUPP if this family has no such option,
 *         -EBADF, or another -errno.
 */
RDY_API RDY_NODISCARD int rdy_stream_set(struct rdy_stream *stream, enum rdy_stream_option option,
                                         int value);

/* Reads an option into @value. Return: as rdy_stream_set(), with @value unchanged on -errno. */
RDY_API RDY_NODISCARD int rdy_stream_get(const struct rdy_stream *stream,
                                         enum rdy_stream_option option, int *value);

/* The stream's own address; a Unix socket without a name has the family alone. 0 or -errno. */
RDY_API RDY_NODISCARD int rdy_stream_local_address(const struct rdy_stream *stream,
                                                   struct sockaddr_storage *addr,
                                                   socklen_t *addr_len);

/* The peer's address. Return: 0, -ENOTCONN (not yet, or after a reset), or another -errno. */
RDY_API RDY_NODISCARD int rdy_stream_peer_address(const struct rdy_stream *stream,
                                                  struct sockaddr_storage *addr,
                                                  socklen_t *addr_len);

/**
 * rdy_stream_take_error() - fetch the error that waits in the socket (SO_ERROR)
 * @error: receives -errno, or 0 if there is none. The kernel tells each error once: after this the
 *         next read or write does not. Of a connection that failed it stays for
 *         rdy_stream_poll_connect() to tell.
 *
 * Return: 0 or -errno of the asking itself.
 */
RDY_API RDY_NODISCARD int rdy_stream_take_error(struct rdy_stream *stream, int *error);

/*
 * How to connect. Set size to sizeof(struct rdy_connect_opts), the rest to zero for defaults. A
 * Unix socket takes @local, the buffers and is_completing only.
 */
struct rdy_connect_opts {
    uint32_t size;
    socklen_t local_len;
    const struct sockaddr *local; /* bind to it first; NULL: the kernel chooses. With port 0 the
                                      port is chosen with the destination known, so that one
                                      address has all ports towards each destination */
    const char *bind_device;      /* SO_BINDTODEVICE: an interface's name; NULL: any */
    int send_buf;                 /* bytes, as RDY_STREAM_SEND_BUF; 0: the system's */
    int recv_buf;                 /* the same */
    int keepalive_idle_s;         /* with is_keepalive; 0: the system's */
    int keepalive_interval_s;     /* the same */
    int keepalive_count;          /* the same */
    int user_timeout_ms;          /* 0: the system's */
    bool is_reuseaddr;            /* SO_REUSEADDR, for a local port in TIME_WAIT */
    bool is_nodelay_off;          /* leave TCP_NODELAY off */
    bool is_keepalive;            /* probe an idle connection */
    bool is_fastopen;             /* send the first data with the SYN: see below */
    bool is_fastopen_cookieless;  /* also where the server has not given us a cookie before; for
                                      networks that one trusts. With is_fastopen only */
    bool is_completing;           /* in completion mode from the start: see below */
};

/**
 * rdy_stream_start_connect_with() - begin a connection, with options
 * @stream: written on success only; then poll rdy_stream_poll_connect()
 * @addr:   borrowed
 * @opts:   borrowed, with what it points to; NULL for defaults: rdy_stream_start_connect()
 *
 * With is_fastopen (TCP_FASTOPEN_CONNECT) and a cookie of the server's, nothing is sent yet: the
 * stream is connected at once, writable, without a peer address, and the first write sends the SYN
 * with its data. So write before you wait for the peer to say something, and expect a refusal from
 * the read or write after it. The data may arrive twice if the SYN does: send what bears that.
 *
 * With is_completing the stream is in completion mode (<rdy/completion.h>) from the moment it is
 * connected, as an accepted one is from the start, and where a ring runs the operations it connects
 * too (IPv4 and IPv6, without is_fastopen): then errors that connect(2) has at once are told by
 * rdy_stream_poll_connect(). Before that has answered 0, other calls say -EINPROGRESS.
 *
 * Return: 0 (connected or in progress), or -errno with nothing kept: as connect(2) at once;
 *         -EINVAL (options that do not fit each other or the family), -EAFNOSUPPORT (@local of
 *         another family), -EADDRINUSE, -EADDRNOTAVAIL, -ENODEV, -EPERM, -EOPNOTSUPP
 *         (is_fastopen, switched off on this system), ...
 */
RDY_API RDY_NODISCARD int rdy_stream_start_connect_with(struct rdy_stream *stream,
                                                        struct rdy_runtime *runtime,
                                                        const struct sockaddr *addr,
                                                        socklen_t addr_len,
                                                        const struct rdy_connect_opts *opts);

RDY_END_DECLS

#endif
