/* SPDX-License-Identifier: MIT */
/*
 * Datagrams in completion mode: the kernel receives and sends them by itself, in buffers of the
 * engine, and tells when it has done so. For what that is and what it saves see
 * <rdy/completion.h>.
 *
 * A socket is in completion mode from the first of these calls on. An io_uring does the operations
 * of UDP sockets, where rdy_probe() reports multishot_recvmsg; elsewhere, and for Unix sockets
 * everywhere, the engine makes the system calls, with the same answers. The calls of
 * <rdy/datagram.h> and <rdy/datagram_many.h> go on working, in the same order, with a copy more; a
 * send of theirs that the kernel refuses is then told by the next one. One task receives and one
 * sends on a socket at a time. A call given up at RDY_PENDING has lost nothing. Each answer pays
 * one operation from the task's budget. The runtime's thread throughout.
 *
 * Received datagrams wait in the socket until they are asked for: recv_queue_max of them (64 if
 * that is left at its default), then the kernel's own buffer fills, and what does not fit there is
 * lost, as ever. A buffer holds one datagram of up to buffer_size - 256 bytes, on every kernel
 * interface; the end of a longer one is cut off and lost. RDY_DATAGRAM_GRO makes them as long as
 * 64 KiB.
 */
#ifndef RDY_DATAGRAM_COMPLETION_H
#define RDY_DATAGRAM_COMPLETION_H

#include <rdy/completion.h>
#include <rdy/datagram.h>

RDY_BEGIN_DECLS

/**
 * rdy_datagram_poll_recv_buf() - take the next received datagram
 * @buf:  written when the answer is a count; the caller's to release, or to send. Of an empty
 *        datagram too: it names no bytes then, but a buffer
 * @info: written when the answer is a count; may be NULL
 *
 * What the network has to say of earlier datagrams (-ECONNREFUSED, ...) ends nothing: it is told
 * once, behind the datagrams that came before it. While a receive is under way it takes that news,
 * and no send is told. Without free buffers the answer is RDY_PENDING until some come back.
 *
 * Return: bytes in @buf, 0 for an empty datagram, RDY_PENDING, or -errno as
 *         rdy_datagram_poll_recv(); -EINVAL if the driver's buffer_size is below 512; -ENOMEM.
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_recv_buf(struct rdy_datagram *datagram,
                                                         struct rdy_task *task, struct rdy_buf *buf,
                                                         struct rdy_datagram_info *info);

/**
 * rdy_datagram_poll_send_buf() - have a buffer sent as one datagram
 * @buf:  taken with an answer of 0, {0} then; sent as it is: not to be written to by who kept it.
 *        One that names no bytes is an empty datagram
 * @addr: borrowed for this call only: where to; NULL: to the peer of a connected socket
 *
 * The answer says that the socket will send it, not that it was sent: rdy_datagram_poll_flush()
 * says that. With more than send_queue_max bytes unsent, each datagram counted with 256 more, the
 * answer is RDY_PENDING; a Unix peer whose queue is full makes it so as well.
 *
 * Datagrams go to the kernel in the order of the calls, each its own; only where the socket's
 * buffer is full, one may be overtaken by others that were handed over in the same turn, as on any
 * network. One that the kernel refuses is dropped. That is told once, by the next send or flush,
 * and the socket goes on; if several were refused meanwhile, the first is told of. News of earlier
 * datagrams is told so too, and costs no datagram. So an error speaks of what was handed over
 * before: @buf is still the caller's, who may hand it over again.
 *
 * Return: 0, RDY_PENDING, or -errno of an earlier datagram, as rdy_datagram_poll_send_to(); of this
 *         call are -EINVAL for {0}, -EBADF, -ESHUTDOWN, -ENOMEM, -EMFILE and -ENFILE.
 */
RDY_API RDY_NODISCARD int rdy_datagram_poll_send_buf(struct rdy_datagram *datagram,
                                                     struct rdy_task *task, struct rdy_buf *buf,
                                                     const struct sockaddr *addr,
                                                     socklen_t addr_len);

/**
 * rdy_datagram_poll_flush() - wait until the kernel has all that was handed over
 *
 * To be called before rdy_datagram_close() by who wants the last datagrams to go out, and before
 * rdy_datagram_connect() by who wants them to go to the old peer.
 *
 * Return: 0, RDY_PENDING, or the -errno of a send, told once.
 */
RDY_API RDY_NODISCARD int rdy_datagram_poll_flush(struct rdy_datagram *datagram,
                                                  struct rdy_task *task);

/* Datagrams handed over that the kernel has not taken yet, as far as is known. */
RDY_API size_t rdy_datagram_unsent(const struct rdy_datagram *datagram);

/**
 * rdy_datagram_start_completion() - enter completion mode ahead of the first receive
 *
 * Return: 0, also if it is in it, -EINVAL if the driver's buffer_size is below 512, -ENOMEM, or
 *         -EBADF.
 */
RDY_API RDY_NODISCARD int rdy_datagram_start_completion(struct rdy_datagram *datagram);

/* True if the kernel does this socket's operations by itself. */
RDY_API bool rdy_datagram_is_native(const struct rdy_datagram *datagram);

RDY_END_DECLS

#endif
