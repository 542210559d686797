/* SPDX-License-Identifier: MIT */
/*
 * Lanes without a backend that runs operations: the entry is watched, and the engine makes the
 * calls. Receiving needs nothing of its own: a buffer of the pool and a read (completion.c). What
 * is handed over while a task is polled goes out when that poll is over, as one call. What a socket
 * does not take is sent on when it is writable, from copies, so that a peer that does not read
 * never holds a buffer of the pool.
 */
#include "engine/lane_plain.h"

#include "engine/message.h"
#include "engine/sys_socket.h"

/* One call's worth of the queue. @asked: bytes that it was given. */
static RDY_HOT ssize_t send_some(const struct rdy_lane *lane, size_t *asked)
{
    struct iovec pieces[RDY_SEND_PIECES_MAX];
    struct msghdr message = {.msg_iov = pieces};
    struct rdy_piece *piece = lane->unsent.first;

    lane->io->driver->completion->count.calls++;
    *asked = piece->len;
    if (!piece->next)
        return rdy_sys_send(lane->io->fd, piece->data, piece->len);
    *asked = 0;
    for (; piece && message.msg_iovlen < RDY_SEND_PIECES_MAX; piece = piece->next) {
        pieces[message.msg_iovlen++] =
            (struct iovec){.iov_base = piece->data, .iov_len = piece->len};
        *asked += piece->len;
    }
    return rdy_sys_send_message(lane->io->fd, &message);
}

/* For memory nobody waits in the kernel, and no event tells of it. */
static void stall(struct rdy_lane *lane, struct rdy_registration *reg, struct rdy_event event)
{
    struct rdy_completion *completion = reg->driver->completion;

    if (lane->send != RDY_SEND_IDLE)
        return; /* is tried again when the task's poll is over */
    rdy_clear_readiness(reg, event);
    completion->count.sends_unfinished++;
    lane->send = RDY_SEND_STALLED;
    rdy_lane_list_push(&completion->stalled, lane);
    rdy_driver_call_again(completion->driver);
}

RDY_HOT void rdy_plain_pump(struct rdy_lane *lane)
{
    struct rdy_completion *completion = lane->io->driver->completion;
    struct rdy_registration reg = {.driver = lane->io->driver, .io = lane->io};

    if (lane->message) {
        rdy_message_pump(lane);
        return;
    }
    if (rdy_lane_is_sending(lane))
        return;
    while (lane->unsent.first) {
        struct rdy_event event = rdy_ready_event(&reg, RDY_INTEREST_WRITE);
        size_t asked;
        ssize_t sent;

        if (rdy_event_ready(event) == 0 || rdy_event_is_shutdown(event))
            break;
        completion->count.sends++;
        sent = send_some(lane, &asked);
        if (rdy_unlikely(sent == -ENOMEM || sent == -ENOBUFS)) {
            stall(lane, &reg, event);
            return;
        }
        if (sent < 0 && sent != -EAGAIN) {
            rdy_send_fail(completion, lane, (int)sent);
            return;
        }
        if (sent > 0)
            rdy_send_advance(completion, lane, (size_t)sent);
        if (sent == (ssize_t)asked)
            continue;
        /* The socket is full, and the kernel will say when it is not. */
        completion->count.sends_unfinished++;
        rdy_clear_readiness(&reg, event);
        if (rdy_event_ready(event) & RDY_WRITE_CLOSED)
            break; /* that flag stays: do not ask again and again */
    }
    rdy_send_finish(lane);
    rdy_send_keep_copies(completion, lane);
}

RDY_HOT void rdy_plain_gather(struct rdy_completion *completion, struct rdy_lane *lane)
{
    rdy_debug(lane->send == RDY_SEND_IDLE);
    lane->send = RDY_SEND_GATHERED;
    rdy_lane_list_push(&completion->gathered, lane);
    rdy_driver_call_again(completion->driver);
}

/* What was handed over or had stalled goes out, if the stream is still one that calls send for. */
static void send_on(struct rdy_completion *completion, struct rdy_lane *lane)
{
    lane->send = RDY_SEND_IDLE;
    rdy_plain_pump(lane);
    if (lane->send == RDY_SEND_IDLE && lane->unsent.first && !rdy_lane_is_plain(lane))
        rdy_send_make_dirty(completion, lane); /* it went back to the ring meanwhile */
}

RDY_HOT void rdy_plain_send_gathered(struct rdy_completion *completion)
{
    struct rdy_lane *lane;

    while ((lane = rdy_lane_list_pop(&completion->gathered))) {
        rdy_debug(lane->send == RDY_SEND_GATHERED);
        send_on(completion, lane);
        rdy_lane_check_leaving(lane);
    }
}

void rdy_plain_resume(struct rdy_completion *completion)
{
    struct rdy_lane_list stalled = completion->stalled;
    struct rdy_lane *lane;

    completion->stalled = (struct rdy_lane_list){0};
    while ((lane = rdy_lane_list_pop(&stalled))) {
        rdy_debug(lane->send == RDY_SEND_STALLED);
        rdy_lane_stamp(lane, RDY_WRITABLE);
        send_on(completion, lane);
        rdy_lane_check_leaving(lane);
    }
}
