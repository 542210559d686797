/* SPDX-License-Identifier: MIT */
/*
 * Receiving: filled buffers wait in the lane's queue until somebody asks.
 *
 * A queue that nobody empties stops the receive at recv_queue_max buffers, and it goes on when half
 * of them were taken. If the pool runs dry, what waits in queues is copied into memory of its own
 * (nobody can be made to take it, and others could not receive meanwhile), and those who found no
 * buffer go on in the order in which they came, when buffers are back: no spinning, no timer.
 *
 * Only TCP's receives wait for an event first. On a Unix socket whose peer had ended before, Linux
 * 6.18 tells of the data then and never of the end (tests/kernel/test_uring_operations.c).
 */
#include <stdlib.h>

#include "engine/lane_plain.h"
#include "engine/message.h"

#define UNARMED_MIN 64u

static uint32_t queue_max(const struct rdy_completion *completion, const struct rdy_lane *lane)
{
    return lane->message ? completion->message_queue_max : completion->recv_queue_max;
}

static bool unarmed_grow(struct rdy_completion *completion)
{
    uint32_t size = completion->unarmed_size ? completion->unarmed_size * 2 : UNARMED_MIN;
    uint64_t *tokens = malloc(size * sizeof(*tokens));

    if (!tokens)
        return false;
    for (uint32_t i = 0; i < completion->unarmed_count; i++)
        tokens[i] =
            completion->unarmed[(completion->unarmed_first + i) & (completion->unarmed_size - 1)];
    free(completion->unarmed);
    completion->unarmed = tokens;
    completion->unarmed_first = 0;
    completion->unarmed_size = size;
    return true;
}

/* Without memory for a place in the list the stream ends, rather than to hang. */
void rdy_recv_want(struct rdy_completion *completion, struct rdy_lane *lane)
{
    uint32_t place;

    if (lane->flags & (RDY_LANE_UNARMED | RDY_LANE_LEAVING))
        return;
    if (completion->unarmed_count == completion->unarmed_size && !unarmed_grow(completion)) {
        lane->recv = RDY_RECV_ENDED;
        lane->recv_error = -ENOMEM;
        /* Of a datagram socket it passes: nothing final. */
        rdy_lane_stamp(lane, lane->message ? RDY_READABLE : RDY_READABLE | RDY_READ_CLOSED);
        return;
    }
    place =
        (completion->unarmed_first + completion->unarmed_count) & (completion->unarmed_size - 1);
    completion->unarmed[place] = rdy_slab_token(&lane->io->head);
    completion->unarmed_count++;
    lane->flags |= RDY_LANE_UNARMED;
    rdy_driver_call_again(lane->io->driver);
}

static uint64_t unarmed_pop(struct rdy_completion *completion)
{
    uint64_t token = completion->unarmed[completion->unarmed_first];

    completion->unarmed_first = (completion->unarmed_first + 1) & (completion->unarmed_size - 1);
    completion->unarmed_count--;
    return token;
}

static int recv_arm(struct rdy_lane *lane, bool is_data_there)
{
    struct rdy_scheduled_io *io = lane->io;
    struct rdy_backend *backend = rdy_driver_backend(io->driver);
    uint64_t token = rdy_scheduled_io_op_token(io, RDY_ABOUT_RECV);
    bool is_at_once = is_data_there || (lane->flags & RDY_LANE_PATIENT) == 0;
    int rc;

    rdy_assert(lane->recv == RDY_RECV_IDLE);
    rc = lane->message ? backend->ops->recv_message(backend, io->fd, token, is_at_once)
                       : backend->ops->recv(backend, io->fd, token, is_at_once);
    if (rc == 0) {
        lane->recv = RDY_RECV_ACTIVE;
        io->driver->completion->count.recvs_armed++;
        rdy_lane_asked(lane);
    }
    return rc;
}

/* False: the kernel has no room now. */
static bool arm_one(struct rdy_completion *completion, struct rdy_lane *lane)
{
    lane->flags &= (uint8_t)~RDY_LANE_UNARMED;
    if (lane->recv != RDY_RECV_IDLE || (lane->flags & RDY_LANE_LEAVING) ||
        rdy_word_is_ended(rdy_a64_load_relaxed(&lane->io->word)))
        return true;
    if (!completion->is_native || lane->is_bulk) {
        rdy_lane_stamp(lane, RDY_READABLE); /* there is a buffer to try with */
        return true;
    }
    if (recv_arm(lane, true) == 0)
        return true;
    rdy_recv_want(completion, lane);
    return false;
}

void rdy_recv_arm_all(struct rdy_completion *completion)
{
    uint32_t buffers = completion->pool.free_count;
    uint32_t count = completion->unarmed_count;

    for (uint32_t i = 0; i < count && buffers > 0; i++) {
        uint64_t token = unarmed_pop(completion);
        struct rdy_scheduled_io *io = rdy_slab_find(completion->driver->set.slab, token);

        if (!io || !(io->flags & RDY_IO_LANE))
            continue;
        buffers--;
        if (!arm_one(completion, rdy_lane_of(io)))
            return;
    }
}

void rdy_recv_stop(struct rdy_lane *lane, enum rdy_token_about about)
{
    struct rdy_scheduled_io *io = lane->io;
    struct rdy_backend *backend = rdy_driver_backend(io->driver);

    if (lane->recv != RDY_RECV_ACTIVE)
        return;
    if (backend->ops->disarm(backend, io->fd, rdy_scheduled_io_op_token(io, about)) < 0)
        return;
    lane->recv = RDY_RECV_CANCELLING;
    rdy_a64_bump(&io->driver->count.cancels_pending, 1);
    rdy_lane_asked(lane);
}

static void deliver(struct rdy_completion *completion, struct rdy_lane *lane,
                    struct rdy_block *block, size_t len)
{
    struct rdy_piece *piece = rdy_piece_make(&completion->pool, block, block->memory, len);

    if (rdy_unlikely(!piece)) { /* a hole in the stream: it must not go on */
        rdy_block_release(block);
        lane->recv_error = -ENOMEM;
        rdy_recv_stop(lane, RDY_ABOUT_RECV);
        return;
    }
    rdy_buffer_pool_queue(&completion->pool, piece);
    rdy_piece_queue_push(&lane->received, piece);
    lane->received_count++;
    if (rdy_unlikely(lane->received_count >= queue_max(completion, lane)) &&
        lane->recv == RDY_RECV_ACTIVE) {
        completion->count.recv_pauses++;
        rdy_recv_stop(lane, RDY_ABOUT_RECV);
    }
}

static void take_buffer(struct rdy_completion *completion, struct rdy_lane *lane,
                        const struct rdy_fact *fact)
{
    size_t len = fact->result > 0 ? (size_t)fact->result : 0;
    struct rdy_block *block = rdy_buffer_pool_filled(&completion->pool, fact->buffer, len);
    int32_t head = lane->message ? (int32_t)RDY_MESSAGE_HEAD_SIZE : 1;

    completion->count.recv_buffers++;
    if (fact->result < head || (lane->flags & RDY_LANE_LEAVING) || lane->recv_error) {
        rdy_block_release(block);
        if (lane->recv_error && !lane->message)
            rdy_recv_stop(lane, RDY_ABOUT_RECV); /* again, if there was no room for a cancel */
        return;
    }
    completion->count.recv_bytes += len - (lane->message ? (uint32_t)head : 0);
    deliver(completion, lane, block, len);
    if (lane->message)
        return;
    /* One alone is a message of just that size, for which a ring does as well. */
    if (len < completion->pool.size || lane->received_count > 1)
        rdy_plain_weigh(lane, &completion->pool, len);
    if (rdy_unlikely(lane->fullness >= RDY_FULLNESS_BULK) && (fact->flags & RDY_FACT_LAST) == 0 &&
        rdy_bulk_may_begin(lane))
        rdy_recv_stop(lane, RDY_ABOUT_RECV);
}

/*
 * The kernel tells once what broke a connection, and a send that takes it leaves the end for the
 * receive: to a reader, half a request would be a whole one. Not after EPIPE, which a reset that
 * comes behind the peer's orderly end is.
 */
int rdy_recv_end_error(const struct rdy_lane *lane)
{
    int error = lane->send_error == -EPIPE ? 0 : lane->send_error;

    if (lane->is_cut && !error)
        error = -ECONNRESET;
    return error && (rdy_sys_poll_now(lane->io->fd, RDY_EV_OUT) & RDY_EV_HUP) ? error : 0;
}

static uint32_t end_with(struct rdy_lane *lane, int error)
{
    lane->recv = RDY_RECV_ENDED;
    if (lane->recv_error == 0)
        lane->recv_error = (int16_t)error;
    if (error == -ECONNRESET || error == -EPIPE)
        return RDY_READABLE | RDY_READ_CLOSED | RDY_WRITE_CLOSED;
    return RDY_READABLE | RDY_READ_CLOSED;
}

void rdy_recv_let_go(struct rdy_completion *completion, struct rdy_lane *lane)
{
    if (lane->recv == RDY_RECV_CANCELLING)
        rdy_a64_bump(&completion->driver->count.cancels_pending, UINT64_MAX); /* minus one */
    lane->recv = RDY_RECV_IDLE;
}

/* What the end of a receive means; the readiness that comes of it. */
static uint32_t take_last(struct rdy_completion *completion, struct rdy_lane *lane,
                          const struct rdy_fact *fact)
{
    /* What was asked to stop for it may have brought a little since. */
    uint32_t enough = lane->recv == RDY_RECV_CANCELLING ? RDY_FULLNESS_STOPPED : RDY_FULLNESS_BULK;

    if (lane->message)
        return rdy_message_take_last(completion, lane, fact->result);
    rdy_recv_let_go(completion, lane);
    if (lane->recv_error)
        return end_with(lane, lane->recv_error);

    switch (fact->result) {
    case 0:
        return end_with(lane, rdy_recv_end_error(lane));
    case -ENOBUFS:
        completion->count.recv_starved++;
        break;
    case -ECANCELED: /* by us; or by the kernel, for reasons of its own */
    case -EAGAIN:
    case -EINTR:
    case -ENOMEM:
        break;
    default:
        if (fact->result < 0)
            return end_with(lane, fact->result);
        break; /* it ended after some data, for want of room */
    }
    if (rdy_unlikely(lane->fullness >= enough) && rdy_bulk_begin(lane))
        return RDY_READABLE;
    if (lane->received_count < queue_max(completion, lane))
        rdy_recv_want(completion, lane);
    return 0;
}

RDY_HOT int rdy_recv_take(struct rdy_completion *completion, struct rdy_lane *lane,
                          const struct rdy_fact *fact)
{
    uint32_t ready = fact->result > 0 ? RDY_READABLE : 0;

    if (rdy_likely(fact->flags & RDY_FACT_BUFFER))
        take_buffer(completion, lane, fact);
    if (rdy_unlikely(fact->flags & RDY_FACT_LAST))
        ready |= take_last(completion, lane, fact);
    if (rdy_unlikely(lane->flags & RDY_LANE_LEAVING)) {
        rdy_lane_check_leaving(lane);
        return 0;
    }
    if (ready)
        rdy_lane_stamp(lane, ready);
    return ready ? 1 : 0;
}

void rdy_recv_drop(struct rdy_completion *completion, struct rdy_lane *lane)
{
    struct rdy_piece *piece;

    while ((piece = rdy_piece_queue_pop(&lane->received)))
        rdy_piece_end(&completion->pool, piece, NULL);
    lane->received_count = 0;
}

RDY_HOT ssize_t rdy_recv_next(struct rdy_lane *lane, struct rdy_buf *buf)
{
    struct rdy_completion *completion = lane->io->driver->completion;
    struct rdy_piece *piece = rdy_piece_queue_pop(&lane->received);

    if (piece) {
        rdy_piece_end(&completion->pool, piece, buf);
        lane->received_count--;
        /* Not before a datagram socket's error was told: what came then would be dropped. */
        if (rdy_unlikely(lane->recv == RDY_RECV_IDLE) && !lane->recv_error && !lane->is_bulk &&
            lane->received_count <= queue_max(completion, lane) / 2)
            rdy_recv_want(completion, lane);
        return (ssize_t)buf->len;
    }
    if (lane->recv == RDY_RECV_ENDED)
        return lane->recv_error;
    if (lane->recv == RDY_RECV_IDLE && (lane->flags & RDY_LANE_UNARMED) == 0) {
        if (completion->pool.free_count == 0 || recv_arm(lane, false) != 0)
            rdy_recv_want(completion, lane);
        if (lane->recv == RDY_RECV_ENDED)
            return lane->recv_error;
    }
    return RDY_PENDING;
}

void rdy_recv_put_back(struct rdy_lane *lane, struct rdy_buf *buf)
{
    struct rdy_piece_queue *queue = &lane->received;
    struct rdy_buffer_pool *pool = buf->block->pool;
    struct rdy_piece *piece = rdy_piece_make(pool, buf->block, buf->data, buf->len);

    rdy_assert(piece); /* the one that rdy_recv_next() has just freed */
    if (buf->block->id < pool->count)
        rdy_buffer_pool_queue(pool, piece);
    piece->next = queue->first;
    queue->first = piece;
    if (!queue->last)
        queue->last = piece;
    lane->received_count++;
    *buf = (struct rdy_buf){0};
    rdy_lane_stamp(lane, RDY_READABLE);
}
