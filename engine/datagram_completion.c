/* SPDX-License-Identifier: MIT */
/*
 * Completion mode of datagram sockets as its users see it: the poll calls over lanes.
 *
 * As with streams a call first looks at the lane, then waits in the entry's poll slot for the
 * readiness with which completed operations are stamped. Where the engine makes the calls they are
 * those of datagram.c, over a buffer of the pool; or over memory of its own, where a ring has the
 * pool's buffers but does not receive for this socket.
 */
#include <rdy/datagram_completion.h>

#include "engine/address.h"
#include "engine/completion.h"
#include "engine/datagram.h"
#include "engine/message.h"
#include "engine/runtime.h"

#define BUFFER_SIZE_MIN (2 * RDY_MESSAGE_HEAD_SIZE)

static struct rdy_lane *lane_of(const struct rdy_datagram *datagram)
{
    return rdy_lane_of(datagram->reg.io);
}

bool rdy_datagram_receives(const struct rdy_datagram *datagram)
{
    return rdy_message_receives(lane_of(datagram));
}

bool rdy_datagram_queues(const struct rdy_datagram *datagram)
{
    return rdy_message_queues(lane_of(datagram));
}

bool rdy_datagram_is_native(const struct rdy_datagram *datagram)
{
    return datagram->fd >= 0 && (datagram->flags & RDY_DATAGRAM_COMPLETES) &&
           !rdy_lane_is_plain(lane_of(datagram));
}

int rdy_datagram_start_completion(struct rdy_datagram *datagram)
{
    bool is_inet = (datagram->flags & (RDY_DATAGRAM_INET | RDY_DATAGRAM_INET6)) != 0;
    struct rdy_driver *driver = datagram->reg.driver;
    int rc;

    if (datagram->fd < 0)
        return -EBADF;
    if (datagram->flags & RDY_DATAGRAM_COMPLETES)
        return 0;
    rc = rdy_completion_open(driver);
    if (rc < 0)
        return rc;
    if (driver->completion->pool.size < BUFFER_SIZE_MIN)
        return -EINVAL;
    rc = rdy_completion_attach(&datagram->reg, RDY_LANE_PATIENT);
    if (rc < 0)
        return rc;
    lane_of(datagram)->message = RDY_MESSAGE_LANE;
    if (!is_inet)
        lane_of(datagram)->message |= RDY_MESSAGE_PLAIN | RDY_MESSAGE_UNIX;
    else if (!driver->completion->has_messages)
        lane_of(datagram)->message |= RDY_MESSAGE_PLAIN;
    datagram->flags |= RDY_DATAGRAM_COMPLETES;
    if (rdy_datagram_is_native(datagram))
        rdy_driver_unwatch(driver, datagram->reg.io);
    return 0;
}

/* Before a call: the socket's lane, entering completion mode. 0 or -errno. */
static int lane_enter(struct rdy_datagram *datagram, struct rdy_lane **lane)
{
    int rc = rdy_datagram_start_completion(datagram);

    if (rc < 0)
        return rc;
    *lane = lane_of(datagram);
    return 0;
}

/* --- receiving --- */

static int wait_to_recv(struct rdy_datagram *datagram, struct rdy_task *task, struct rdy_event seen)
{
    struct rdy_waker waker = rdy_task_waker(task);

    if (rdy_event_ready(seen) != 0)
        rdy_clear_readiness(&datagram->reg, seen);
    return rdy_task_pay_error(
        task, rdy_poll_readiness(&datagram->reg, RDY_DIRECTION_READ, &waker, &seen));
}

/* 0: a datagram is at the front of the lane. */
static int await_message(struct rdy_datagram *datagram, struct rdy_task *task,
                         struct rdy_lane *lane)
{
    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event = rdy_ready_event(&datagram->reg, RDY_INTEREST_READ);
        int rc;

        if (rdy_event_is_shutdown(event))
            return rdy_task_pay_error(task, rdy_scheduled_io_error(datagram->reg.io));
        if (lane->received.first)
            return 0;
        rc = rdy_message_begin(lane);
        if (rc != RDY_PENDING)
            return rdy_task_pay_error(task, rc);
        rc = wait_to_recv(datagram, task, event);
        if (rc != 0)
            return rc;
    }
    return rdy_task_give_way(task);
}

/* The parts of a received datagram, as they lie in its buffer. */
struct opened {
    struct rdy_message_head head;
    const unsigned char *name;
    size_t name_len;
    const unsigned char *control;
    size_t control_len;
    unsigned char *payload;
    size_t payload_len; /* bytes that are here */
};

static struct opened message_open(unsigned char *data, size_t len)
{
    struct opened opened = {.payload = data + RDY_MESSAGE_HEAD_SIZE,
                            .payload_len = len - RDY_MESSAGE_HEAD_SIZE};

    rdy_assert(len >= RDY_MESSAGE_HEAD_SIZE);
    memcpy(&opened.head, data, sizeof(opened.head));
    opened.name = data + sizeof(opened.head);
    opened.name_len =
        opened.head.name_len < RDY_MESSAGE_NAME_ROOM ? opened.head.name_len : RDY_MESSAGE_NAME_ROOM;
    opened.control = opened.name + RDY_MESSAGE_NAME_ROOM;
    opened.control_len = opened.head.control_len < RDY_MESSAGE_CONTROL_ROOM
                             ? opened.head.control_len
                             : RDY_MESSAGE_CONTROL_ROOM;
    return opened;
}

static void message_describe(const struct opened *opened, struct rdy_datagram_info *info)
{
    union {
        struct cmsghdr header;
        unsigned char bytes[RDY_MESSAGE_CONTROL_ROOM];
    } control;
    struct msghdr msg = {.msg_control = &control, .msg_controllen = opened->control_len};

    memset(&info->addr, 0, sizeof(info->addr));
    memcpy(&info->addr, opened->name,
           opened->name_len < sizeof(info->addr) ? opened->name_len : sizeof(info->addr));
    memcpy(&control, opened->control, opened->control_len);
    msg.msg_namelen = (socklen_t)opened->name_len;
    rdy_datagram_describe(info, &msg, opened->head.payload_len);
}

/* Takes the datagram at the front. */
static void message_take(struct rdy_datagram *datagram, struct rdy_task *task,
                         struct rdy_lane *lane, struct rdy_buf *whole)
{
    struct rdy_event event = rdy_ready_event(&datagram->reg, RDY_INTEREST_READ);

    (void)rdy_recv_next(lane, whole);
    rdy_assert(whole->block);
    if (!lane->received.first && !lane->recv_error)
        rdy_clear_readiness(&datagram->reg, event);
    rdy_task_spend(task);
}

static ssize_t native_recv(struct rdy_datagram *datagram, struct rdy_task *task,
                           struct rdy_lane *lane, struct rdy_buf *buf,
                           struct rdy_datagram_info *info)
{
    struct rdy_buf whole = {0};
    struct opened opened;
    int rc = await_message(datagram, task, lane);

    if (rc != 0)
        return rc;
    message_take(datagram, task, lane, &whole);
    opened = message_open(whole.data, whole.len);
    if (info)
        message_describe(&opened, info);
    *buf =
        (struct rdy_buf){.block = whole.block, .data = opened.payload, .len = opened.payload_len};
    return (ssize_t)buf->len;
}

/* The caller's @msg as recvmsg(2) would have left it, with no more room than there were bytes. */
static void message_copy(const struct opened *opened, struct msghdr *msg)
{
    struct iovec *iov = msg->msg_iov;
    size_t name_len = opened->name_len < msg->msg_namelen ? opened->name_len : msg->msg_namelen;

    rdy_assert(msg->msg_iovlen == 1);
    if (iov->iov_len > opened->payload_len)
        iov->iov_len = opened->payload_len;
    if (iov->iov_len > 0)
        memcpy(iov->iov_base, opened->payload, iov->iov_len);
    if (msg->msg_name && name_len > 0)
        memcpy(msg->msg_name, opened->name, name_len);
    msg->msg_namelen = (socklen_t)opened->name_len;
    if (msg->msg_controllen > opened->control_len)
        msg->msg_controllen = opened->control_len;
    if (msg->msg_controllen > 0)
        memcpy(msg->msg_control, opened->control, msg->msg_controllen);
    msg->msg_flags = (int)opened->head.flags;
}

ssize_t rdy_datagram_lane_recv(struct rdy_datagram *datagram, struct rdy_task *task,
                               struct msghdr *msg, bool is_peek)
{
    struct rdy_lane *lane = lane_of(datagram);
    struct rdy_buf whole = {0};
    struct opened opened;
    int rc = await_message(datagram, task, lane);

    if (rc != 0)
        return rc;
    opened = message_open(lane->received.first->data, lane->received.first->len);
    message_copy(&opened, msg);
    if (is_peek) {
        rdy_task_spend(task);
    } else {
        message_take(datagram, task, lane, &whole);
        rdy_buf_release(&whole);
    }
    return (ssize_t)opened.head.payload_len;
}

/* A buffer to receive in. 0, RDY_PENDING or -errno. */
static int plain_block(struct rdy_datagram *datagram, struct rdy_task *task, struct rdy_lane *lane,
                       struct rdy_block **block)
{
    struct rdy_completion *completion = datagram->reg.driver->completion;
    struct rdy_buffer_pool *pool = &completion->pool;
    int rc;

    *block = pool->backend ? NULL : rdy_buffer_pool_take(pool);
    if (*block)
        return 0;
    if (!pool->backend) { /* wait until one is back */
        completion->count.recv_starved++;
        rdy_recv_want(completion, lane);
        rc = wait_to_recv(datagram, task, rdy_ready_event(&datagram->reg, RDY_INTEREST_READ));
        if (rc != 0)
            return rc;
    }
    *block = rdy_block_make(pool, pool->size);
    return rdy_task_pay_error(task, *block ? 0 : -ENOMEM);
}

static ssize_t plain_recv(struct rdy_datagram *datagram, struct rdy_task *task,
                          struct rdy_lane *lane, struct rdy_buf *buf,
                          struct rdy_datagram_info *info)
{
    struct rdy_completion *completion = datagram->reg.driver->completion;
    size_t room = completion->pool.size - RDY_MESSAGE_HEAD_SIZE;
    struct rdy_datagram_info unwanted;
    struct rdy_block *block = NULL;
    ssize_t count = plain_block(datagram, task, lane, &block);

    if (count != 0)
        return count;
    count =
        rdy_datagram_poll_recv_from(datagram, task, block->memory, room, info ? info : &unwanted);
    if (count < 0) {
        struct rdy_buf unused = {.block = block};

        rdy_buf_release(&unused); /* who waits for a buffer is told */
        return count;
    }
    completion->count.recv_buffers++;
    completion->count.recv_bytes += (uint64_t)count;
    *buf = (struct rdy_buf){.block = block, .data = block->memory, .len = (size_t)count};
    return count;
}

ssize_t rdy_datagram_poll_recv_buf(struct rdy_datagram *datagram, struct rdy_task *task,
                                   struct rdy_buf *buf, struct rdy_datagram_info *info)
{
    struct rdy_lane *lane;
    int rc = lane_enter(datagram, &lane);

    if (rc < 0)
        return rc;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (rdy_unlikely(rdy_datagram_has_news(datagram)))
        return rdy_datagram_take_news(datagram, task);
    if (rdy_message_receives(lane))
        return native_recv(datagram, task, lane, buf, info);
    return plain_recv(datagram, task, lane, buf, info);
}

/* --- sending --- */

/* Waits for WRITE: room, or the end of the queue. 0: look again. */
static int wait_to_send(struct rdy_datagram *datagram, struct rdy_task *task, struct rdy_lane *lane)
{
    struct rdy_waker waker = rdy_task_waker(task);
    struct rdy_event event = rdy_ready_event(&datagram->reg, RDY_INTEREST_WRITE);

    if (!rdy_lane_is_plain(lane)) {
        lane->flags |= RDY_LANE_WRITER;
        datagram->reg.driver->completion->is_impatient = true;
        rdy_driver_call_again(datagram->reg.driver);
        if (rdy_event_ready(event) != 0)
            rdy_clear_readiness(&datagram->reg, event);
    }
    return rdy_poll_readiness(&datagram->reg, RDY_DIRECTION_WRITE, &waker, &event);
}

static bool is_flushed(const struct rdy_lane *lane)
{
    return !lane->letters.first && lane->send == RDY_SEND_IDLE;
}

/* 0 when at most @unsent_max bytes are unsent; RDY_PENDING or -errno. */
static int poll_room(struct rdy_datagram *datagram, struct rdy_task *task, struct rdy_lane *lane,
                     uint32_t unsent_max)
{
    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        int rc;

        if (rdy_event_is_shutdown(rdy_ready_event(&datagram->reg, RDY_INTEREST_WRITE)))
            return rdy_scheduled_io_error(datagram->reg.io);
        if (lane->letters.first && rdy_lane_is_plain(lane))
            rdy_message_pump(lane);
        rc = lane->send_error;
        if (rc < 0) {
            lane->send_error = 0;
            return rc;
        }
        if (is_flushed(lane) || (unsent_max > 0 && lane->unsent_bytes < unsent_max))
            return 0;
        rc = wait_to_send(datagram, task, lane);
        if (rc != 0)
            return rc;
    }
    return rdy_task_give_way(task);
}

/* Takes the buffer over: 0; or RDY_PENDING or -errno. */
static int hand_over(struct rdy_datagram *datagram, struct rdy_task *task, struct rdy_buf *buf,
                     const struct msghdr *msg)
{
    struct rdy_lane *lane = lane_of(datagram);
    int rc = rdy_message_add(lane, buf, msg);

    if (rc == 0 && rdy_lane_is_plain(lane))
        rdy_message_pump(lane);
    rdy_task_spend(task);
    return rc;
}

static int await_room(struct rdy_datagram *datagram, struct rdy_task *task)
{
    uint32_t unsent_max = datagram->reg.driver->completion->send_queue_max;

    return rdy_task_pay_error(task, poll_room(datagram, task, lane_of(datagram), unsent_max));
}

ssize_t rdy_datagram_lane_send(struct rdy_datagram *datagram, struct rdy_task *task,
                               const struct msghdr *msg)
{
    const struct iovec *iov = msg->msg_iov;
    struct rdy_buf buf = {.len = iov->iov_len};
    int rc = await_room(datagram, task);

    rdy_assert(msg->msg_iovlen == 1);
    if (rc != 0)
        return rc;
    if (buf.len > RDY_DATAGRAM_LEN_MAX)
        return rdy_task_pay_error(task, -EMSGSIZE);
    buf.block = rdy_block_make(&datagram->reg.driver->completion->pool, buf.len ? buf.len : 1);
    if (!buf.block)
        return rdy_task_pay_error(task, -ENOMEM);
    buf.data = buf.block->memory;
    if (buf.len > 0)
        memcpy(buf.data, iov->iov_base, buf.len);
    rc = hand_over(datagram, task, &buf, msg);
    if (rc < 0)
        rdy_buf_release(&buf);
    return rc < 0 ? rc : (ssize_t)iov->iov_len;
}

/* What the next send or flush tells of; nothing was sent. */
static bool is_of_the_datagram(ssize_t error)
{
    switch (error) {
    case -EBADF:
    case -ESHUTDOWN:
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
        return false;
    default:
        return true;
    }
}

/* Within the call, or not at all. */
static int send_directly(struct rdy_datagram *datagram, struct rdy_task *task, struct rdy_buf *buf,
                         const struct msghdr *msg)
{
    struct rdy_lane *lane = lane_of(datagram);
    int error = lane->send_error;
    ssize_t sent;

    if (error < 0) {
        lane->send_error = 0;
        return rdy_task_pay_error(task, error);
    }
    sent = rdy_datagram_send_message(datagram, task, msg);
    if (sent == RDY_PENDING || (sent < 0 && !is_of_the_datagram(sent)))
        return (int)sent;
    if (sent < 0)
        lane->send_error = (int16_t)sent;
    rdy_buf_release(buf);
    return 0;
}

int rdy_datagram_poll_send_buf(struct rdy_datagram *datagram, struct rdy_task *task,
                               struct rdy_buf *buf, const struct sockaddr *addr, socklen_t addr_len)
{
    struct iovec iov = {.iov_base = buf->data, .iov_len = buf->len};
    struct msghdr msg = {.msg_name = (void *)(uintptr_t)addr,
                         .msg_namelen = addr ? addr_len : 0,
                         .msg_iov = &iov,
                         .msg_iovlen = 1};
    struct rdy_lane *lane;
    int rc = lane_enter(datagram, &lane);

    if (rc < 0)
        return rc;
    if (!buf->block)
        return -EINVAL;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (rdy_unlikely(rdy_datagram_has_news(datagram)))
        return (int)rdy_datagram_take_news(datagram, task);
    if (lane->message & RDY_MESSAGE_UNIX)
        return send_directly(datagram, task, buf, &msg);
    rc = await_room(datagram, task);
    return rc != 0 ? rc : hand_over(datagram, task, buf, &msg);
}

int rdy_datagram_poll_flush(struct rdy_datagram *datagram, struct rdy_task *task)
{
    struct rdy_lane *lane;
    int rc = lane_enter(datagram, &lane);

    if (rc < 0)
        return rc;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = poll_room(datagram, task, lane, 0);
    if (rc != RDY_PENDING)
        rdy_task_spend(task);
    return rc;
}

size_t rdy_datagram_unsent(const struct rdy_datagram *datagram)
{
    size_t count = 0;

    if (datagram->fd < 0 || (datagram->flags & RDY_DATAGRAM_COMPLETES) == 0)
        return 0;
    for (struct rdy_letter *letter = lane_of(datagram)->letters.first; letter;
         letter = letter->next)
        count++;
    return count;
}
