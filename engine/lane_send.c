/* SPDX-License-Identifier: MIT */
/*
 * Sending: what was handed over goes out in the next turn, as one operation, tried once. Only if
 * the socket was full does it become an operation that waits in the kernel.
 *
 * At most one operation of a socket is under way, because two may change places once the first had
 * to wait. Pieces stay in the queue until they have gone out, so a failed try loses nothing.
 */
#include "engine/lane_connect.h"
#include "engine/lane_plain.h"
#include "engine/message.h"

void rdy_send_make_dirty(struct rdy_completion *completion, struct rdy_lane *lane)
{
    rdy_debug(lane->send == RDY_SEND_IDLE);
    lane->send = RDY_SEND_QUEUED;
    rdy_lane_list_push(&completion->dirty, lane);
    rdy_driver_call_again(completion->driver);
}

static void begin_later(struct rdy_completion *completion, struct rdy_lane *lane)
{
    if (rdy_lane_is_plain(lane))
        rdy_plain_gather(completion, lane);
    else
        rdy_send_make_dirty(completion, lane);
}

/* False without memory: then it stays in the pool's, slower for others, but right. */
static bool keep_as_copy(struct rdy_completion *completion, struct rdy_piece *piece)
{
    return piece->block->id == RDY_BLOCK_NO_ID || rdy_piece_copy_out(&completion->pool, piece);
}

void rdy_send_keep_copies(struct rdy_completion *completion, struct rdy_lane *lane)
{
    struct rdy_piece *piece = lane->unsent.first;

    if (!piece || (lane->flags & RDY_LANE_SLOW))
        return;
    while (piece && keep_as_copy(completion, piece))
        piece = piece->next;
    if (!piece)
        lane->flags |= RDY_LANE_SLOW;
}

RDY_HOT int rdy_send_add(struct rdy_lane *lane, struct rdy_buf *buf)
{
    struct rdy_completion *completion = lane->io->driver->completion;
    struct rdy_piece *piece = rdy_piece_make(&completion->pool, buf->block, buf->data, buf->len);

    if (!piece)
        return -ENOMEM;
    rdy_piece_queue_push(&lane->unsent, piece);
    lane->unsent_bytes += (uint32_t)buf->len;
    *buf = (struct rdy_buf){0};
    if (rdy_unlikely(lane->flags & RDY_LANE_SLOW) && !keep_as_copy(completion, piece))
        lane->flags &= (uint8_t)~RDY_LANE_SLOW;
    if (lane->send == RDY_SEND_IDLE)
        begin_later(completion, lane);
    return 0;
}

RDY_HOT void rdy_send_advance(struct rdy_completion *completion, struct rdy_lane *lane, size_t sent)
{
    completion->count.send_bytes += sent;
    rdy_assert(sent <= lane->unsent_bytes);
    lane->unsent_bytes -= (uint32_t)sent;
    while (sent > 0) {
        struct rdy_piece *piece = lane->unsent.first;

        if (sent < piece->len) {
            piece->data += sent;
            piece->len -= sent;
            return;
        }
        sent -= piece->len;
        (void)rdy_piece_queue_pop(&lane->unsent);
        rdy_piece_end(&completion->pool, piece, NULL);
    }
    if (!lane->unsent.first)
        lane->flags &= (uint8_t)~RDY_LANE_SLOW;
}

void rdy_send_drop(struct rdy_completion *completion, struct rdy_lane *lane)
{
    struct rdy_piece *piece;

    rdy_assert(lane->sending == 0);
    if (lane->message) {
        rdy_message_drop(completion, lane);
        return;
    }
    while ((piece = rdy_piece_queue_pop(&lane->unsent)))
        rdy_piece_end(&completion->pool, piece, NULL);
    lane->unsent_bytes = 0;
    lane->flags &= (uint8_t)~RDY_LANE_SLOW;
}

void rdy_send_fail(struct rdy_completion *completion, struct rdy_lane *lane, int error)
{
    rdy_assert(error < 0);
    lane->send_error = (int16_t)error;
    rdy_send_drop(completion, lane);
    rdy_lane_stamp(lane, RDY_WRITABLE | RDY_WRITE_CLOSED);
}

/* Not after an error: the peer must not take a part for the whole. */
void rdy_send_finish(struct rdy_lane *lane)
{
    if (rdy_likely((lane->flags & RDY_LANE_SHUTTING) == 0) || lane->unsent.first)
        return;
    lane->flags &= (uint8_t)~RDY_LANE_SHUTTING;
    if (!lane->send_error)
        (void)rdy_sys_shutdown(lane->io->fd, SHUT_WR);
}

void rdy_send_tell_writer(struct rdy_lane *lane)
{
    if ((lane->flags & RDY_LANE_WRITER) == 0)
        return;
    lane->flags &= (uint8_t)~RDY_LANE_WRITER;
    rdy_lane_stamp(lane, RDY_WRITABLE);
}

/* The operation is over: on with what came meanwhile, or with leaving. */
static RDY_HOT void go_on(struct rdy_completion *completion, struct rdy_lane *lane)
{
    lane->sending = 0;
    lane->send = RDY_SEND_IDLE;
    rdy_send_finish(lane);
    if (rdy_unlikely(lane->flags & RDY_LANE_LEAVING)) {
        rdy_lane_check_leaving(lane);
        return;
    }
    if (lane->unsent.first && !rdy_lane_is_unwanted(lane))
        begin_later(completion, lane);
    rdy_send_tell_writer(lane);
}

/* How many pieces fit into one operation; NULL when the messages of this turn are used up. */
static struct rdy_send_message *message_for(struct rdy_completion *completion,
                                            const struct rdy_lane *lane)
{
    if (!lane->unsent.first->next || completion->messages_used == RDY_SEND_MESSAGES)
        return NULL;
    return &completion->messages[completion->messages_used++];
}

static RDY_HOT int try_one(struct rdy_completion *completion, struct rdy_lane *lane)
{
    struct rdy_backend *backend = rdy_driver_backend(completion->driver);
    struct rdy_send_message *message = message_for(completion, lane);
    struct iovec single;
    struct msghdr header = {.msg_iov = &single};
    struct rdy_backend_send send = {
        .fd = lane->io->fd,
        .token = rdy_scheduled_io_op_token(lane->io, RDY_ABOUT_SEND),
        .message = &header,
    };
    struct iovec *pieces = &single;
    struct rdy_piece *piece;
    uint32_t count = 0;
    int rc;

    if (message) {
        message->header = (struct msghdr){.msg_iov = message->pieces};
        send.message = &message->header;
        pieces = message->pieces;
    }
    for (piece = lane->unsent.first; piece; piece = piece->next) {
        if (count == (message ? RDY_SEND_PIECES_MAX : 1))
            break;
        pieces[count++] = (struct iovec){.iov_base = piece->data, .iov_len = piece->len};
    }
    /* The rest, or the end, goes when these are known to be out, which ends no wait by itself. */
    if (piece || (lane->flags & RDY_LANE_SHUTTING))
        completion->is_impatient = true;
    if (message)
        message->header.msg_iovlen = count;
    else
        header.msg_iovlen = 1;
    rc = backend->ops->send(backend, &send);
    if (rc == 0) {
        lane->sending = (uint8_t)count;
        lane->send = RDY_SEND_TRYING;
        completion->count.sends++;
    } else if (message) {
        completion->messages_used--;
    }
    return rc;
}

RDY_HOT void rdy_send_try_all(struct rdy_completion *completion)
{
    struct rdy_lane_list dirty = completion->dirty;
    struct rdy_lane *lane;

    completion->dirty = (struct rdy_lane_list){0};
    /* A kernel short of memory may have left some of the last turn's where they are. */
    if (!completion->trying.first)
        completion->messages_used = 0;
    while ((lane = rdy_lane_list_pop(&dirty))) {
        bool has_room;

        rdy_assert(lane->send == RDY_SEND_QUEUED);
        if (rdy_unlikely(lane->flags & RDY_LANE_CONNECTS)) {
            has_room = rdy_connect_try(completion, lane);
        } else {
            rdy_assert(lane->unsent.first);
            has_room = (lane->message ? rdy_message_try : try_one)(completion, lane) == 0;
            if (rdy_likely(has_room))
                rdy_lane_list_push(&completion->trying, lane);
        }
        if (!has_room) /* now: in the next turn */
            rdy_lane_list_push(&completion->dirty, lane);
    }
}

/* The first piece, by an operation that waits for the peer. */
static void wait_for_peer(struct rdy_completion *completion, struct rdy_lane *lane)
{
    struct rdy_backend *backend = rdy_driver_backend(completion->driver);
    struct rdy_piece *first = lane->unsent.first;
    struct iovec single;
    struct msghdr header = {.msg_iov = &single, .msg_iovlen = 1};
    struct rdy_backend_send send = {
        .fd = lane->io->fd,
        .token = rdy_scheduled_io_op_token(lane->io, RDY_ABOUT_SEND),
        .message = &header,
        .may_wait = true,
    };

    rdy_send_keep_copies(completion, lane);
    single = (struct iovec){.iov_base = first->data, .iov_len = first->len};
    lane->sending = 0;
    lane->send = RDY_SEND_IDLE;
    if (backend->ops->send(backend, &send) != 0) {
        rdy_send_make_dirty(completion, lane); /* no room now: try again in the next turn */
        return;
    }
    rdy_debug(!lane->is_stopping);
    lane->sending = 1;
    lane->send = RDY_SEND_WAITING;
    completion->count.sends++;
    rdy_lane_asked(lane);
}

static size_t tried_bytes(const struct rdy_lane *lane)
{
    const struct rdy_piece *piece = lane->unsent.first;
    size_t bytes = 0;

    for (uint32_t i = 0; i < lane->sending; i++, piece = piece->next)
        bytes += piece->len;
    return bytes;
}

/* What became of a try: all went out, or it met a full socket, or it failed for good. */
static void settle_one(struct rdy_completion *completion, struct rdy_lane *lane)
{
    if (lane->message) {
        rdy_message_settle(completion, lane);
        return;
    }
    if (rdy_likely(lane->send == RDY_SEND_TRYING)) {
        rdy_send_advance(completion, lane, tried_bytes(lane));
        go_on(completion, lane);
        return;
    }
    rdy_assert(lane->send == RDY_SEND_UNFINISHED && lane->sending == 0);
    if (lane->send_error)
        rdy_send_fail(completion, lane, lane->send_error);
    if (lane->send_error || rdy_lane_is_unwanted(lane) || !lane->unsent.first)
        go_on(completion, lane);
    else
        wait_for_peer(completion, lane);
}

RDY_HOT void rdy_send_settle(struct rdy_completion *completion)
{
    struct rdy_lane_list trying = completion->trying;
    struct rdy_lane *lane;

    completion->trying = (struct rdy_lane_list){0};
    while ((lane = rdy_lane_list_pop(&trying)))
        settle_one(completion, lane);
}

/* Counts what went out; keeps an error that ends sending. */
static void take_result(struct rdy_completion *completion, struct rdy_lane *lane, int result)
{
    size_t bytes = tried_bytes(lane);
    bool was_waiting = lane->send == RDY_SEND_WAITING;

    lane->sending = 0;
    switch (result) {
    case -EAGAIN:
    case -EINPROGRESS: /* a fast open's first: the connection is made without data */
    case -EINTR:
    case -ENOMEM:
    case -ENOBUFS:
    case -ECANCELED: /* by us, in leaving; or by a ring that is being closed */
        return;
    default:
        break;
    }
    /* One that waits ends with all sent, or with an error, of which a part that went out is told
     * instead. */
    lane->is_cut = lane->is_cut || (was_waiting && result > 0 && (size_t)result < bytes);
    if (result < 0)
        lane->send_error = (int16_t)result;
    else
        rdy_send_advance(completion, lane, (size_t)result < bytes ? (size_t)result : bytes);
}

int rdy_send_take(struct rdy_completion *completion, struct rdy_lane *lane,
                  const struct rdy_fact *fact)
{
    bool was_waiting = lane->send == RDY_SEND_WAITING;

    if ((fact->flags & RDY_FACT_LAST) == 0)
        return 0;
    if (lane->message)
        return rdy_message_take_sent(completion, lane, fact);
    take_result(completion, lane, fact->result);
    if (!was_waiting) {
        completion->count.sends_unfinished++;
        lane->send = RDY_SEND_UNFINISHED; /* goes on when its list is settled */
        return 0;
    }
    if (lane->send_error)
        rdy_send_fail(completion, lane, lane->send_error);
    go_on(completion, lane);
    return 1;
}
