/* SPDX-License-Identifier: MIT */
/* Lanes of datagram sockets: see engine/message.h. */
#include "engine/message.h"

#include <stdlib.h>

#include "engine/datagram.h"
#include "engine/sys_socket.h"

/* So many letters are kept for later. */
#define SPARE_MAX 256u

static_assert(RDY_MESSAGE_TRIES <= UINT8_MAX, "their number is kept in rdy_lane.sending");

/* --- receiving --- */

int rdy_message_begin(struct rdy_lane *lane)
{
    struct rdy_buf none;
    int error;

    rdy_assert(!lane->received.first);
    if (lane->recv_error == 0 && rdy_recv_next(lane, &none) == RDY_PENDING)
        return RDY_PENDING;
    error = lane->recv_error;
    rdy_assert(error < 0);
    lane->recv_error = 0;
    if (lane->recv == RDY_RECV_ENDED) /* for want of memory: that may pass */
        lane->recv = RDY_RECV_IDLE;
    return error;
}

uint32_t rdy_message_take_last(struct rdy_completion *completion, struct rdy_lane *lane, int result)
{
    rdy_recv_let_go(completion, lane);
    switch (result) {
    case -ENOBUFS:
        completion->count.recv_starved++;
        break;
    case -ECANCELED: /* by us; or by the kernel, for reasons of its own */
    case -EAGAIN:
    case -EINTR:
    case -ENOMEM:
        break;
    default:
        if (result < 0 && lane->recv_error == 0)
            lane->recv_error = (int16_t)result;
        break;
    }
    /* Whoever is told of it begins the receive again: nothing that stays can make us spin. */
    if (lane->recv_error)
        return RDY_READABLE;
    if (lane->received_count < completion->message_queue_max)
        rdy_recv_want(completion, lane);
    return 0;
}

/* --- letters --- */

static struct rdy_letter *letter_make(struct rdy_completion *completion)
{
    struct rdy_letter_queue *spare = &completion->spare_letters;
    struct rdy_letter *letter = spare->first;

    if (!letter)
        return malloc(sizeof(*letter));
    spare->first = letter->next;
    completion->spare_letters_count--;
    return letter;
}

static void letter_free(struct rdy_completion *completion, struct rdy_letter *letter)
{
    rdy_block_release(letter->block);
    if (completion->spare_letters_count == SPARE_MAX) {
        free(letter);
        return;
    }
    letter->next = completion->spare_letters.first;
    completion->spare_letters.first = letter;
    completion->spare_letters_count++;
}

void rdy_message_free_spare(struct rdy_completion *completion)
{
    struct rdy_letter *letter;

    while ((letter = completion->spare_letters.first)) {
        completion->spare_letters.first = letter->next;
        free(letter);
    }
    completion->spare_letters_count = 0;
}

/* So that a socket without room never holds a buffer of the pool. False without memory: then it
 * stays there, slower for others, but right. */
static bool letter_copy_out(struct rdy_completion *completion, struct rdy_letter *letter)
{
    size_t len = letter->content.iov_len;
    struct rdy_block *copy;

    if (letter->block->id == RDY_BLOCK_NO_ID)
        return true;
    copy = rdy_block_make(&completion->pool, len > 0 ? len : 1);
    if (!copy)
        return false;
    memcpy(copy->memory, letter->content.iov_base, len);
    letter->content.iov_base = copy->memory;
    rdy_block_release(letter->block);
    letter->block = copy;
    completion->pool.copies++;
    return true;
}

/* As rdy_send_keep_copies(): each letter is looked at once, however slowly they go out. */
static void keep_copies(struct rdy_completion *completion, struct rdy_lane *lane)
{
    struct rdy_letter *letter = lane->letters.first;

    if (!letter || (lane->flags & RDY_LANE_SLOW))
        return;
    while (letter && letter_copy_out(completion, letter))
        letter = letter->next;
    if (!letter)
        lane->flags |= RDY_LANE_SLOW;
}

static void letter_address(struct rdy_letter *letter, const struct msghdr *msg)
{
    size_t name_len =
        msg->msg_namelen < sizeof(letter->addr) ? msg->msg_namelen : sizeof(letter->addr);

    letter->header = (struct msghdr){.msg_iov = &letter->content, .msg_iovlen = 1};
    if (msg->msg_name) { /* of what is longer the kernel would read no more either */
        memcpy(&letter->addr, msg->msg_name, name_len);
        letter->header.msg_name = &letter->addr;
        letter->header.msg_namelen = (socklen_t)name_len;
    }
    if (msg->msg_controllen > 0) {
        rdy_assert(msg->msg_controllen <= sizeof(letter->control));
        memcpy(letter->control, msg->msg_control, msg->msg_controllen);
        letter->header.msg_control = letter->control;
        letter->header.msg_controllen = msg->msg_controllen;
    }
}

int rdy_message_add(struct rdy_lane *lane, struct rdy_buf *buf, const struct msghdr *msg)
{
    struct rdy_completion *completion = lane->io->driver->completion;
    struct rdy_letter *letter = letter_make(completion);

    if (!letter)
        return -ENOMEM;
    *letter = (struct rdy_letter){.block = buf->block,
                                  .content = {.iov_base = buf->data, .iov_len = buf->len}};
    letter_address(letter, msg);
    if (lane->letters.first)
        lane->letters.last->next = letter;
    else
        lane->letters.first = letter;
    lane->letters.last = letter;
    lane->unsent_bytes += (uint32_t)buf->len + RDY_LETTER_COST;
    *buf = (struct rdy_buf){0};
    if (rdy_unlikely(lane->flags & RDY_LANE_SLOW) && !letter_copy_out(completion, letter))
        lane->flags &= (uint8_t)~RDY_LANE_SLOW;
    if (!rdy_lane_is_plain(lane) && lane->send == RDY_SEND_IDLE)
        rdy_send_make_dirty(completion, lane);
    return 0;
}

/* The letter that @link points to leaves the queue; @before is in front of it, or NULL. */
static void letter_end(struct rdy_completion *completion, struct rdy_lane *lane,
                       struct rdy_letter **link, struct rdy_letter *before)
{
    struct rdy_letter *letter = *link;
    uint32_t cost = (uint32_t)letter->content.iov_len + RDY_LETTER_COST;

    rdy_assert(lane->unsent_bytes >= cost);
    lane->unsent_bytes -= cost;
    *link = letter->next;
    if (lane->letters.last == letter)
        lane->letters.last = before;
    if (!lane->letters.first)
        lane->flags &= (uint8_t)~RDY_LANE_SLOW;
    letter_free(completion, letter);
}

void rdy_message_drop(struct rdy_completion *completion, struct rdy_lane *lane)
{
    while (lane->letters.first)
        letter_end(completion, lane, &lane->letters.first, NULL);
    rdy_assert(lane->unsent_bytes == 0);
}

/* --- sending --- */

enum fate {
    FATE_SENT,
    FATE_REFUSED, /* for good; send_error says so */
    FATE_AGAIN,   /* the error was another's: it was told, and this one was not sent */
    FATE_FULL,    /* the socket has no room */
};

/* News come of what was sent before: the datagram that met them is tried once more. */
static enum fate letter_fate(struct rdy_lane *lane, struct rdy_letter *letter)
{
    int error = letter->error;

    letter->error = 0;
    switch (error) {
    case 0:
        if (letter->refused && lane->send_error == 0)
            lane->send_error = (int16_t)letter->refused;
        return FATE_SENT;
    case -EAGAIN:
    case -EINTR:
    case -ENOMEM:
    case -ECANCELED: /* by us, in leaving; or by a ring that is being closed */
        return FATE_FULL;
    default:
        break;
    }
    /* Told when its fate is known, or a destination without a route would be told of twice. */
    if (rdy_datagram_is_news(error) && !letter->refused) {
        letter->refused = error;
        return FATE_AGAIN;
    }
    if (lane->send_error == 0)
        lane->send_error = (int16_t)error;
    return FATE_REFUSED;
}

static int letter_send(struct rdy_lane *lane, struct rdy_letter *letter, uint32_t place,
                       bool may_wait)
{
    struct rdy_completion *completion = lane->io->driver->completion;
    struct rdy_backend *backend = rdy_driver_backend(completion->driver);
    struct rdy_backend_send send = {
        .fd = lane->io->fd,
        .token = rdy_scheduled_io_op_token(lane->io, RDY_ABOUT_SEND) |
                 (uint64_t)place << RDY_TOKEN_ARMING_SHIFT,
        .message = &letter->header,
        .may_wait = may_wait,
    };
    int rc = backend->ops->send(backend, &send);

    rdy_debug(letter->error == 0);
    if (rc == 0)
        completion->count.sends++;
    return rc;
}

int rdy_message_try(struct rdy_completion *completion, struct rdy_lane *lane)
{
    struct rdy_letter *letter = lane->letters.first;
    uint32_t count = 0;

    for (; letter && count < RDY_MESSAGE_TRIES; letter = letter->next) {
        if (letter_send(lane, letter, count, false) != 0)
            break;
        count++;
    }
    if (count == 0)
        return -EBUSY;
    /* The rest goes when these are known to be out, and silence ends no wait. */
    if (letter)
        completion->is_impatient = true;
    lane->sending = (uint8_t)count;
    lane->send = RDY_SEND_TRYING;
    return 0;
}

/* The operations are over: on with what is left and what came meanwhile, or with leaving. */
static void go_on(struct rdy_completion *completion, struct rdy_lane *lane)
{
    lane->sending = 0;
    lane->send = RDY_SEND_IDLE;
    if (rdy_unlikely(lane->flags & RDY_LANE_LEAVING)) {
        rdy_lane_check_leaving(lane);
        return;
    }
    if (lane->letters.first && !rdy_lane_is_unwanted(lane))
        rdy_send_make_dirty(completion, lane);
    rdy_send_tell_writer(lane);
}

/* The first letter, by an operation that waits for room. */
static void wait_for_room(struct rdy_completion *completion, struct rdy_lane *lane)
{
    keep_copies(completion, lane);
    lane->sending = 0;
    lane->send = RDY_SEND_IDLE;
    if (lane->send_error)
        rdy_send_tell_writer(lane);
    if (letter_send(lane, lane->letters.first, 0, true) != 0) {
        /* No room now: a try in the next turn, whose silence must not keep who waits here. */
        completion->is_impatient = completion->is_impatient || (lane->flags & RDY_LANE_WRITER);
        rdy_send_make_dirty(completion, lane);
        return;
    }
    rdy_debug(!lane->is_stopping);
    lane->sending = 1;
    lane->send = RDY_SEND_WAITING;
    rdy_lane_asked(lane);
}

/* Those of which nothing was heard went out. */
void rdy_message_settle(struct rdy_completion *completion, struct rdy_lane *lane)
{
    struct rdy_letter **link = &lane->letters.first;
    struct rdy_letter *before = NULL;
    bool is_full = false;

    for (uint32_t i = 0; i < lane->sending; i++) {
        struct rdy_letter *letter = *link;
        enum fate fate = letter_fate(lane, letter);

        is_full = is_full || fate == FATE_FULL;
        if (fate == FATE_SENT || fate == FATE_REFUSED) {
            completion->count.send_bytes += fate == FATE_SENT ? letter->content.iov_len : 0;
            letter_end(completion, lane, link, before);
        } else {
            before = letter;
            link = &letter->next;
        }
    }
    if (is_full && !rdy_lane_is_unwanted(lane))
        wait_for_room(completion, lane);
    else
        go_on(completion, lane);
}

int rdy_message_take_sent(struct rdy_completion *completion, struct rdy_lane *lane,
                          const struct rdy_fact *fact)
{
    uint32_t place = (uint32_t)(fact->token >> RDY_TOKEN_ARMING_SHIFT) % RDY_TOKEN_ARMINGS;
    struct rdy_letter *letter = lane->letters.first;

    if (place >= lane->sending)
        return 0; /* a last fact that came twice */
    while (place-- > 0)
        letter = letter->next;
    letter->error = fact->result < 0 ? fact->result : 0;
    if (lane->send == RDY_SEND_WAITING) {
        rdy_message_settle(completion, lane);
        return 1;
    }
    completion->count.sends_unfinished += fact->result < 0;
    return 0; /* goes on when its list is settled */
}

/* --- without the ring --- */

/* What is not known to have gone out goes out again: a datagram may come twice, a lost one not. */
void rdy_message_survive(struct rdy_lane *lane)
{
    for (struct rdy_letter *letter = lane->letters.first; letter; letter = letter->next)
        letter->error = 0;
    if (lane->recv != RDY_RECV_ENDED)
        lane->recv = RDY_RECV_IDLE;
    lane->sending = 0;
    lane->send = RDY_SEND_IDLE;
}

void rdy_message_pump(struct rdy_lane *lane)
{
    struct rdy_completion *completion = lane->io->driver->completion;
    struct rdy_registration reg = {.driver = lane->io->driver, .io = lane->io};

    while (lane->letters.first) {
        struct rdy_event event = rdy_ready_event(&reg, RDY_INTEREST_WRITE);
        struct rdy_letter *letter = lane->letters.first;
        ssize_t sent;
        enum fate fate;

        if (rdy_event_ready(event) == 0 || rdy_event_is_shutdown(event))
            break;
        completion->count.sends++;
        sent = rdy_sys_send_message(lane->io->fd, &letter->header);
        if (sent == -EAGAIN)
            rdy_clear_readiness(&reg, event);
        letter->error = sent < 0 ? (int)sent : 0;
        fate = letter_fate(lane, letter);
        if (fate == FATE_FULL)
            break; /* the kernel will say when it is not; or the next who asks tries again */
        if (fate == FATE_AGAIN)
            continue;
        completion->count.send_bytes += fate == FATE_SENT ? (uint64_t)sent : 0;
        letter_end(completion, lane, &lane->letters.first, NULL);
    }
    keep_copies(completion, lane);
}
