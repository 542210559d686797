/* SPDX-License-Identifier: MIT */
/*
 * Many datagrams in one call, each with its own buffer and address: recvmmsg(2) and sendmmsg(2).
 *
 * As the calls of datagram.h for one: one task receives and one sends at a time, both may be given
 * up at RDY_PENDING, the runtime's thread throughout. What was received can be sent back as it is:
 * the same array, the same fields.
 */
#ifndef RDY_DATAGRAM_MANY_H
#define RDY_DATAGRAM_MANY_H

#include <rdy/datagram.h>

RDY_BEGIN_DECLS

/* So many at most in one call; a larger count is no error. */
#define RDY_DATAGRAM_MANY_MAX 64

/* One of them. */
struct rdy_datagram_message {
    void *buf;      /* borrowed for the call; sending only reads it */
    size_t buf_len; /* receiving: the room in buf */
    size_t len;     /* sending: bytes to send, 0 an empty datagram. Receiving: bytes stored */
    struct rdy_datagram_info info; /* receiving: all of it. Sending: addr and addr_len alone are
                                      read, where to; addr_len 0: to the peer */
};

/**
 * rdy_datagram_poll_recv_many() - take the datagrams that are there
 * @messages: borrowed for this call only; the first so many are written, with their info
 * @count:    how many there is room for; 0 is answered by 0 at once
 *
 * Waits for the first only. Each datagram costs one operation of the budget, as if it had been
 * received alone: a poll that has few left takes few.
 *
 * Return: how many, at least 1, RDY_PENDING, or -errno as rdy_datagram_poll_recv(). Fewer than
 *         @count says nothing about what is left: another call does.
 */
RDY_API RDY_NODISCARD ssize_t rdy_datagram_poll_recv_many(struct rdy_datagram *datagram,
                                                          struct rdy_task *task,
                                                          struct rdy_datagram_message *messages,
                                                          size_t count);

/**
 * rdy_datagram_poll_send_many() - send datagrams, in their order
 * @messages: borrowed for this call only
 * @count:    how many; 0 is answered by 0 at once
 *
 * Sends until one would have to wait or is refused, or as the budget lasts: each costs one
 * operation. Begin the next call with the first that was not sent; it waits, or says why. What the
 * network refuses is told as ever: by the next call on the socket if some had been sent by then. A
 * connected UDP socket makes a system call for each datagram, for in a batch the kernel would drop
 * that news; rdy_datagram_poll_send_segments() is faster there.
 *
 * Return: how many were sent, at least 1, RDY_PENDING with none sent, or -errno of the first, as
 *         rdy_datagram_poll_send_to().
 */
RDY_API RDY_NODISCARD ssize_t
rdy_datagram_poll_send_many(struct rdy_datagram *datagram, struct rdy_task *task,
                            const struct rdy_datagram_message *messages, size_t count);

RDY_END_DECLS

#endif
