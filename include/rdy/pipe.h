/* SPDX-License-Identifier: MIT */
/*
 * Pipes for tasks: anonymous ones, and FIFOs, which have a name in the file system.
 *
 * A pipe has a sender and a receiver, each a struct of the caller's. A poll call returns
 * RDY_PENDING and wakes the task later, or an answer. One task uses an end at a time. Every call
 * that may say RDY_PENDING can be given up at that point: nothing was taken, nothing was written.
 * Each answer pays from the task's budget. The runtime's thread throughout.
 *
 * A pipe carries bytes, unless its writer put it into packet mode (O_DIRECT): then a read takes no
 * more than one write of at most 4096 bytes, what does not fit into the buffer is lost, and larger
 * writes are cut into packets. A receiver reads either kind; only a pipe that rdy_pipe_open() made
 * without is_packet is taken to be a pipe of bytes, on which a short read saves the next one: leave
 * its sender in that mode.
 */
#ifndef RDY_PIPE_H
#define RDY_PIPE_H

#include <sys/uio.h>

#include <rdy/registration.h>
#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/* The end that writes. The caller's memory; {.fd = -1} is closed. Fields are private. */
struct rdy_pipe_sender {
    struct rdy_registration reg;
    int fd;
    uint32_t flags;
};

/* The end that reads. The caller's memory; {.fd = -1} is closed. Fields are private. */
struct rdy_pipe_receiver {
    struct rdy_registration reg;
    int fd;
    uint32_t flags;
};

/* Set size to sizeof(struct rdy_pipe_opts), the rest to zero for defaults. */
struct rdy_pipe_opts {
    uint32_t size;
    bool is_packet;     /* rdy_pipe_open(): packet mode */
    bool is_read_write; /* of a FIFO: open it for both, so that this end is its own other end */
    bool is_unchecked;  /* of a path: do not look whether it is a FIFO; a device will do */
};

/* --- making and ending one --- */

/**
 * rdy_pipe_open() - make an anonymous pipe: pipe2(2)
 * @sender:   written on success only; free with rdy_pipe_sender_close()
 * @receiver: written on success only; free with rdy_pipe_receiver_close()
 * @runtime:  borrowed; must outlive both ends
 * @opts:     borrowed; NULL for defaults; is_packet is the only one that this call takes
 *
 * Return: 0 or -errno with nothing kept: -EINVAL for options that do not fit, -EMFILE, -ENFILE,
 *         -ENOMEM, -ESHUTDOWN.
 */
RDY_API RDY_NODISCARD int rdy_pipe_open(struct rdy_pipe_sender *sender,
                                        struct rdy_pipe_receiver *receiver,
                                        struct rdy_runtime *runtime,
                                        const struct rdy_pipe_opts *opts);

/**
 * rdy_pipe_receiver_open() - open a FIFO to read from it
 * @receiver: written on success only
 * @runtime:  borrowed; must outlive @receiver
 * @path:     borrowed: what mkfifo(3) made
 * @opts:     borrowed; NULL for defaults. is_read_write: the receiver counts as a writer, so that
 *            it sees no end when the last writer leaves, and waits for the next one.
 *
 * Does not wait for a writer. Before the first one came, reads wait; after the last one left they
 * say 0, until another one comes.
 *
 * Return: 0 or -errno with nothing kept: -EINVAL if it is no FIFO, -ENOENT, -EACCES, -EMFILE, ...
 */
RDY_API RDY_NODISCARD int rdy_pipe_receiver_open(struct rdy_pipe_receiver *receiver,
                                                 struct rdy_runtime *runtime, const char *path,
                                                 const struct rdy_pipe_opts *opts);

/**
 * rdy_pipe_sender_open() - open a FIFO to write to it
 * @opts: borrowed; NULL for defaults. is_read_write: the sender counts as a reader, so that it can
 *        be opened, and written to, before a reader is there.
 *
 * Return: as rdy_pipe_receiver_open(), and -ENXIO if nobody has it open for reading.
 */
RDY_API RDY_NODISCARD int rdy_pipe_sender_open(struct rdy_pipe_sender *sender,
                                               struct rdy_runtime *runtime, const char *path,
                                               const struct rdy_pipe_opts *opts);

/**
 * rdy_pipe_receiver_from_fd() - take over the read end of a pipe or FIFO
 * @fd: taken on success; O_NONBLOCK is set on it, which all who share the open file will feel
 *
 * Return: 0; -EINVAL if it is no pipe or not open for reading; -EBADF; or as rdy_register().
 */
RDY_API RDY_NODISCARD int rdy_pipe_receiver_from_fd(struct rdy_pipe_receiver *receiver,
                                                    struct rdy_runtime *runtime, int fd);

/* As rdy_pipe_receiver_from_fd(), for a file that opens for writing. */
RDY_API RDY_NODISCARD int rdy_pipe_sender_from_fd(struct rdy_pipe_sender *sender,
                                                  struct rdy_runtime *runtime, int fd);

/* As rdy_pipe_receiver_from_fd() without a look at the file: it may be whatever can be polled and
 * read, and has to be nonblocking already. -EPERM for a regular file. */
RDY_API RDY_NODISCARD int rdy_pipe_receiver_from_fd_unchecked(struct rdy_pipe_receiver *receiver,
                                                              struct rdy_runtime *runtime, int fd);

/* The same for a file to be written. */
RDY_API RDY_NODISCARD int rdy_pipe_sender_from_fd_unchecked(struct rdy_pipe_sender *sender,
                                                            struct rdy_runtime *runtime, int fd);

/* The descriptor of an end, borrowed; -1 if it is closed. */
static inline int rdy_pipe_receiver_fd(const struct rdy_pipe_receiver *receiver)
{
    return receiver->fd;
}

/* The same of a sender. */
static inline int rdy_pipe_sender_fd(const struct rdy_pipe_sender *sender)
{
    return sender->fd;
}

/**
 * rdy_pipe_receiver_into_fd() - stop watching, and hand the descriptor back
 * @receiver: its content is taken on success; {.fd = -1} afterwards
 *
 * The descriptor stays nonblocking and can be registered again at once.
 *
 * Return: the descriptor, owned by the caller, or -EBADF.
 */
RDY_API RDY_NODISCARD int rdy_pipe_receiver_into_fd(struct rdy_pipe_receiver *receiver);

/* As rdy_pipe_receiver_into_fd(). */
RDY_API RDY_NODISCARD int rdy_pipe_sender_into_fd(struct rdy_pipe_sender *sender);

/* As rdy_pipe_receiver_into_fd(), and makes it blocking: for a child process, say. On -errno the
 * receiver is as it was. */
RDY_API RDY_NODISCARD int rdy_pipe_receiver_into_blocking_fd(struct rdy_pipe_receiver *receiver);

/* As rdy_pipe_receiver_into_blocking_fd(). */
RDY_API RDY_NODISCARD int rdy_pipe_sender_into_blocking_fd(struct rdy_pipe_sender *sender);

/* Deregisters and closes; {.fd = -1} afterwards, and closing that does nothing. The other end sees
 * it when the kernel has let go: at once on epoll, on io_uring as the runtime turns. */
RDY_API void rdy_pipe_receiver_close(struct rdy_pipe_receiver *receiver);

/* As rdy_pipe_receiver_close(). */
RDY_API void rdy_pipe_sender_close(struct rdy_pipe_sender *sender);

/* --- reading --- */

/**
 * rdy_pipe_receiver_poll_read() - read what is there
 * @buf: borrowed for this call only
 *
 * Return: bytes read (at least 1); 0 when there is no writer, or when @buf_len is 0; RDY_PENDING;
 *         or -errno: -EBADF, -ESHUTDOWN, ...
 */
RDY_API RDY_NODISCARD ssize_t rdy_pipe_receiver_poll_read(struct rdy_pipe_receiver *receiver,
                                                          struct rdy_task *task, void *buf,
                                                          size_t buf_len);

/* The same into several buffers, filled one after the other. -EINVAL for more than IOV_MAX. */
RDY_API RDY_NODISCARD ssize_t rdy_pipe_receiver_poll_readv(struct rdy_pipe_receiver *receiver,
                                                           struct rdy_task *task,
                                                           const struct iovec *iov, int iov_count);

/**
 * rdy_pipe_receiver_try_readv() - read if something is known to be there; wait for nothing
 * @iov: borrowed for this call only
 *
 * Keeps no waker and pays nothing: a loop pays with rdy_task_charge().
 *
 * Return: as rdy_pipe_receiver_poll_readv(), but -EAGAIN in place of RDY_PENDING: also if the
 *         driver has not had a turn yet to find out that there is something.
 */
RDY_API RDY_NODISCARD ssize_t rdy_pipe_receiver_try_readv(struct rdy_pipe_receiver *receiver,
                                                          const struct iovec *iov, int iov_count);

/* The same into one buffer. */
RDY_API RDY_NODISCARD ssize_t rdy_pipe_receiver_try_read(struct rdy_pipe_receiver *receiver,
                                                         void *buf, size_t buf_len);

/* RDY_PENDING until a read is worth trying, then 0; or -errno. Costs an operation. */
RDY_API RDY_NODISCARD int rdy_pipe_receiver_poll_readable(struct rdy_pipe_receiver *receiver,
                                                          struct rdy_task *task);

/* --- writing --- */

/**
 * rdy_pipe_sender_poll_write() - write what fits
 * @data: borrowed for this call only
 *
 * At most PIPE_BUF (4096) bytes go whole or not at all.
 *
 * Return: bytes written (may be fewer than asked); RDY_PENDING with nothing written; 0 when
 *         @data_len is 0; or -errno: -EPIPE without a reader, -EBADF, ... SIGPIPE is never raised.
 */
RDY_API RDY_NODISCARD ssize_t rdy_pipe_sender_poll_write(struct rdy_pipe_sender *sender,
                                                         struct rdy_task *task, const void *data,
                                                         size_t data_len);

/* The same out of several buffers, one after the other. -EINVAL for more than IOV_MAX. */
RDY_API RDY_NODISCARD ssize_t rdy_pipe_sender_poll_writev(struct rdy_pipe_sender *sender,
                                                          struct rdy_task *task,
                                                          const struct iovec *iov, int iov_count);

/* Writes if there is known to be room; as rdy_pipe_receiver_try_readv(). */
RDY_API RDY_NODISCARD ssize_t rdy_pipe_sender_try_writev(struct rdy_pipe_sender *sender,
                                                         const struct iovec *iov, int iov_count);

/* The same out of one buffer. */
RDY_API RDY_NODISCARD ssize_t rdy_pipe_sender_try_write(struct rdy_pipe_sender *sender,
                                                        const void *data, size_t data_len);

/* RDY_PENDING until a write is worth trying, then 0; or -errno. Costs an operation. */
RDY_API RDY_NODISCARD int rdy_pipe_sender_poll_writable(struct rdy_pipe_sender *sender,
                                                        struct rdy_task *task);

RDY_END_DECLS

#endif
