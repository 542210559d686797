/* SPDX-License-Identifier: MIT */
/*
 * TCP and Unix stream sockets for tasks: listen, accept, connect, read, write, shut down.
 *
 * A poll call returns RDY_PENDING and wakes the task later, or an answer. One task reads and one
 * writes a stream at a time (they may be the same). Every call that may say RDY_PENDING can be
 * given up at that point: nothing is lost, nothing has been written. Each completed operation pays
 * from the task's budget. The runtime's thread throughout.
 */
#ifndef RDY_NET_H
#define RDY_NET_H

#include <sys/socket.h>

#include <rdy/registration.h>
#include <rdy/runtime.h>

RDY_BEGIN_DECLS

struct rdy_listener {
    struct rdy_registration reg;
    int fd;
    uint32_t flags;
};

/* The caller's memory; {.fd = -1} is closed. Fields are private. */
struct rdy_stream {
    struct rdy_registration reg;
    int fd;
    uint32_t flags;
    uint32_t drained_tick;
};

/*
 * Set size to sizeof(struct rdy_listen_opts), the rest to zero for defaults. A Unix socket ignores
 * is_reuseport and is_v6only; other options that are not of the family are refused.
 */
struct rdy_listen_opts {
    uint32_t size;
    int backlog;       /* default 4096 */
    bool is_reuseport; /* SO_REUSEPORT: one listener for each worker */
    bool is_v6only;
    bool is_reuseaddr_off; /* leave SO_REUSEADDR off: refuse a port with connections in TIME_WAIT */
    bool is_nodelay_off;   /* accepted streams begin without TCP_NODELAY */
    bool is_freebind;      /* IP_FREEBIND: an address that this machine does not have yet */
    bool is_transparent;   /* IP_TRANSPARENT: one that it never will; wants CAP_NET_ADMIN */
    bool is_stale_replaced;  /* Unix: see rdy_listener_open() */
    uint32_t unix_mode;      /* permissions of the socket's file, 1 to 0777; 0: by the umask */
    int fastopen_queue;      /* connections whose SYN brought data, at most; 0: not taken */
    int defer_accept_s;      /* accept when data is there, or after about so long; 0: at once */
    int send_buf;            /* bytes, for accepted streams too; 0: the system's */
    int recv_buf;            /* the same; before listening, as it sets the largest window */
    const char *bind_device; /* SO_BINDTODEVICE: an interface's name; NULL: any */
    bool is_completing;      /* accept, and have accepted streams, in completion mode */
};

/**
 * rdy_listener_open() - bind, listen and register
 * @listener: written on success only; free with rdy_listener_close()
 * @opts:     borrowed; NULL for defaults
 *
 * A Unix listener leaves its file behind when it is closed, and the file refuses the next one:
 * -EADDRINUSE. With is_stale_replaced such a file is removed if it is a socket that nobody answers:
 * a connection is tried (who does listen there sees one that ends at once), and any answer but
 * -ECONNREFUSED leaves it. There is a race: of two processes that begin at once, one may take the
 * other's file for stale between its bind and its listen, and that one then listens where nobody
 * finds it. Where that can happen, hold a lock on a file beside it.
 *
 * The permissions of unix_mode are there before anybody can connect.
 *
 * Return: 0 or -errno, with nothing kept and no file left: -EADDRINUSE, -EACCES, -EADDRNOTAVAIL,
 *         -EINVAL, -ENODEV, -EPERM, ...
 */
RDY_API RDY_NODISCARD int rdy_listener_open(struct rdy_listener *listener,
                                            struct rdy_runtime *runtime,
                                            const struct sockaddr *addr, socklen_t addr_len,
                                            const struct rdy_listen_opts *opts);

/* The bound address, for port 0. Return: 0 or -errno. */
RDY_API RDY_NODISCARD int rdy_listener_address(const struct rdy_listener *listener,
                                               struct sockaddr_storage *addr, socklen_t *addr_len);

/**
 * rdy_listener_poll_accept() - take one connection
 * @stream: written when the answer is 0: nonblocking, close-on-exec, registered, TCP_NODELAY set
 *          unless the listener left it off, assumed readable and writable. The caller's; free with
 *          rdy_stream_close().
 *
 * Connections that died in the queue are skipped. At the descriptor limit the answer is -EMFILE
 * (or -ENFILE, also at the driver's entries_max, -ENOBUFS, -ENOMEM) and the connection stays in the
 * queue: wait (a timer, or a close of your own) before trying again. Only where -ENOMEM came when
 * it had been accepted (no memory for its registration) is that one closed.
 *
 * Return: 0, RDY_PENDING, or -errno.
 */
RDY_API RDY_NODISCARD int rdy_listener_poll_accept(struct rdy_listener *listener,
                                                   struct rdy_task *task,
                                                   struct rdy_stream *stream);

/* Deregisters and closes; what stands in the queue is reset by the kernel. Twice is harmless. */
RDY_API void rdy_listener_close(struct rdy_listener *listener);

/**
 * rdy_stream_start_connect() - begin a connection
 * @stream: written on success only; then poll rdy_stream_poll_connect(). TCP_NODELAY is set.
 *
 * Return: 0 (connected or in progress), or -errno at once.
 */
RDY_API RDY_NODISCARD int rdy_stream_start_connect(struct rdy_stream *stream,
                                                   struct rdy_runtime *runtime,
                                                   const struct sockaddr *addr, socklen_t addr_len);

/* Return: 0 when connected, RDY_PENDING, or the connection's -errno (-ECONNREFUSED, ...), however
 * often it is asked. The stream is still to be closed after an error. */
RDY_API RDY_NODISCARD int rdy_stream_poll_connect(struct rdy_stream *stream, struct rdy_task *task);

/* Registers a connected, nonblocking stream socket. @fd is taken on success. */
RDY_API RDY_NODISCARD int rdy_stream_from_fd(struct rdy_stream *stream, struct rdy_runtime *runtime,
                                             int fd);

/**
 * rdy_stream_poll_read() - read what is there
 * @buf: borrowed for this call only: an idle connection needs no buffer
 *
 * Return: bytes read (at least 1), 0 at the end of the stream, RDY_PENDING, or -errno. 0 also
 *         when @buf_len is 0.
 */
RDY_API RDY_NODISCARD ssize_t rdy_stream_poll_read(struct rdy_stream *stream, struct rdy_task *task,
                                                   void *buf, size_t buf_len);

/**
 * rdy_stream_poll_write() - write what fits
 * @data: borrowed for this call only
 *
 * Return: bytes written (may be fewer than asked), RDY_PENDING with nothing written, or -errno
 *         (-EPIPE, -ECONNRESET); SIGPIPE is never raised.
 */
RDY_API RDY_NODISCARD ssize_t rdy_stream_poll_write(struct rdy_stream *stream,
                                                    struct rdy_task *task, const void *data,
                                                    size_t data_len);

/* shutdown(2): SHUT_RD, SHUT_WR, SHUT_RDWR. Again, or after a reset, it is still 0; -EINPROGRESS
 * before a stream is connected that is to begin in completion mode. For writing, and after a send
 * that failed on a connection that stands (-EIO, -ENOMEM, -ENOBUFS), that error, and the stream is
 * not shut down: the peer must not take a part for the whole. */
RDY_API int rdy_stream_shutdown(struct rdy_stream *stream, int how);

/**
 * rdy_stream_poll_shutdown() - shut down when all that was handed over has gone out
 * @how: SHUT_RD waits for nothing; SHUT_WR and SHUT_RDWR wait as rdy_stream_poll_flush() does
 *
 * Outside completion mode nothing is ever kept back, and the answer comes at once. With the answer
 * 0 the kernel has all the bytes and has been told of their end; rdy_stream_shutdown() promises
 * the end for later. After an error of sending the stream is not shut down: the peer must not take
 * a part for the whole.
 *
 * Return: 0, RDY_PENDING, the -errno of a send, or as rdy_stream_shutdown().
 */
RDY_API RDY_NODISCARD int rdy_stream_poll_shutdown(struct rdy_stream *stream, struct rdy_task *task,
                                                   int how);

/**
 * rdy_stream_poll_close() - close when all that was handed over has gone out
 *
 * After any answer but RDY_PENDING the stream is closed, also after an error.
 *
 * Return: 0, RDY_PENDING, the -errno of a send (what was still unsent is lost), or -EBADF if it is
 *         closed.
 */
RDY_API RDY_NODISCARD int rdy_stream_poll_close(struct rdy_stream *stream, struct rdy_task *task);

/* Deregisters and closes; the stream is {.fd = -1} afterwards, and closing that does nothing. */
RDY_API void rdy_stream_close(struct rdy_stream *stream);

RDY_END_DECLS

#endif
