/* SPDX-License-Identifier: MIT */
/*
 * Lanes of datagram sockets: what differs from a stream's.
 *
 * Received datagrams wait in the lane's queue, each with its head (engine/message_head.h), in the
 * order in which they came. An error of the network is no end: it ends the receive, is told once,
 * and the next who asks begins it again.
 *
 * To be sent, each is a letter: bytes, and where to. A turn tries up to RDY_MESSAGE_TRIES of them,
 * each by an operation of its own; the arming bits of the token, which operations do not use, say
 * which one a fact is about. Nothing heard: it went out. What met a full socket stays, and the
 * first of those waits for room in the kernel, alone. What the kernel refused is dropped, and told.
 *
 * Where the engine makes the calls, the queue is tried at once and when the socket becomes
 * writable. A Unix socket has no queue (a full peer cannot be polled for: see datagram.c).
 */
#ifndef RDY_ENGINE_MESSAGE_H
#define RDY_ENGINE_MESSAGE_H

#include "engine/lane.h"
#include "engine/message_head.h"

#define RDY_MESSAGE_TRIES RDY_TOKEN_ARMINGS

/* True if the engine makes the calls of this lane. */
static inline bool rdy_lane_is_plain(const struct rdy_lane *lane)
{
    return (lane->message & RDY_MESSAGE_PLAIN) || lane->is_bulk ||
           !lane->io->driver->completion->is_native;
}

/* True if what is to be received next may be in the lane: also what a lost ring has left there. */
static inline bool rdy_message_receives(const struct rdy_lane *lane)
{
    return !rdy_lane_is_plain(lane) || lane->received.first || lane->recv_error;
}

/* True if what another call sends next has to queue. */
static inline bool rdy_message_queues(const struct rdy_lane *lane)
{
    return !rdy_lane_is_plain(lane) || lane->letters.first || lane->send_error;
}

/* Nothing received is here. The error to be told, or RDY_PENDING: a receive is on its way. */
int rdy_message_begin(struct rdy_lane *lane);

/* What the last fact of a receive means; the readiness that comes of it. */
uint32_t rdy_message_take_last(struct rdy_completion *completion, struct rdy_lane *lane,
                               int result);

/* Has @buf sent to where @msg says (its bytes are not looked at). Takes the buffer over: 0; or
 * -ENOMEM with nothing taken. */
int rdy_message_add(struct rdy_lane *lane, struct rdy_buf *buf, const struct msghdr *msg);

/* rdy_send_try_all(), of one lane: 0, or -EBUSY with none begun. */
int rdy_message_try(struct rdy_completion *completion, struct rdy_lane *lane);

void rdy_message_settle(struct rdy_completion *completion, struct rdy_lane *lane);
int rdy_message_take_sent(struct rdy_completion *completion, struct rdy_lane *lane,
                          const struct rdy_fact *fact);
void rdy_message_drop(struct rdy_completion *completion, struct rdy_lane *lane);

/* The backend is gone: what may have been sent is sent again, what was received stays. */
void rdy_message_survive(struct rdy_lane *lane);

/* Sends what is unsent, by calls, as far as the socket takes it. */
void rdy_message_pump(struct rdy_lane *lane);

void rdy_message_free_spare(struct rdy_completion *completion);

#endif
