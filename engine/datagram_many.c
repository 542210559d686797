/* SPDX-License-Identifier: MIT */
/*
 * Many datagrams in one call: the short way where the socket is ready. Everything else, waiting,
 * clearing, a full Unix peer, is the calls' for one datagram, which are made for the first when the
 * batch found nothing.
 *
 * An error that ends a batch after some went through must not be lost. The kernel keeps one that
 * ended a receipt. One that ended a send it drops: no harm where it belongs to the datagram, which
 * is refused again when it is the first; but news of an earlier datagram (ICMP) is fetched by a
 * send once, and only a connected UDP socket gets such news. So those send one by one, and what
 * came too late to be the answer is kept in the flags for the next call of any kind.
 */
#include <rdy/datagram_many.h>

#include "engine/datagram.h"
#include "engine/runtime.h"
#include "engine/sys_datagram_many.h"

/* Room for what comes beside the bytes of one: type of service and traffic class, GRO. */
struct control {
    char bytes[128] __attribute__((aligned(__alignof__(struct cmsghdr))));
};

static_assert(sizeof(struct control) >= 3 * CMSG_SPACE(sizeof(int)), "three numbers");

/* How many of @count one call may deal with: what costs a datagram is paid for each. */
static uint32_t batch_of(const struct rdy_task *task, size_t count)
{
    uint32_t batch = count < RDY_DATAGRAM_MANY_MAX ? (uint32_t)count : RDY_DATAGRAM_MANY_MAX;
    uint32_t left = rdy_task_budget_left(task);

    return batch < left ? batch : left;
}

static bool is_ready(const struct rdy_event event)
{
    return rdy_event_ready(event) != 0 && !rdy_event_is_shutdown(event);
}

/* In completion mode, where the kernel or a lost ring has left them: one by one, in their order. */
static bool is_in_lane(const struct rdy_datagram *datagram)
{
    return (datagram->flags & RDY_DATAGRAM_COMPLETES) &&
           (rdy_datagram_receives(datagram) || rdy_datagram_queues(datagram));
}

/* --- receiving --- */

static void recv_prepare(const struct rdy_datagram *datagram, struct mmsghdr *header,
                         struct iovec *iov, struct rdy_datagram_message *message,
                         struct control *control)
{
    message->info.addr.ss_family = AF_UNSPEC; /* a sender without a name leaves it so */
    *iov = (struct iovec){.iov_base = message->buf, .iov_len = message->buf_len};
    *header = (struct mmsghdr){
        .msg_hdr = {.msg_name = &message->info.addr,
                    .msg_namelen = sizeof(message->info.addr),
                    .msg_iov = iov,
                    .msg_iovlen = 1},
    };
    /* Without room for them the kernel closes descriptors that a Unix peer sends. */
    if (datagram->flags & (RDY_DATAGRAM_INET | RDY_DATAGRAM_INET6)) {
        header->msg_hdr.msg_control = control;
        header->msg_hdr.msg_controllen = sizeof(*control);
    }
}

static ssize_t recv_batch(struct rdy_datagram *datagram, struct rdy_datagram_message *messages,
                          uint32_t count)
{
    struct control controls[RDY_DATAGRAM_MANY_MAX];
    struct mmsghdr headers[RDY_DATAGRAM_MANY_MAX];
    struct iovec iovs[RDY_DATAGRAM_MANY_MAX];
    ssize_t got;

    rdy_assert(count > 0 && count <= RDY_DATAGRAM_MANY_MAX);
    for (uint32_t i = 0; i < count; i++)
        recv_prepare(datagram, &headers[i], &iovs[i], &messages[i], &controls[i]);
    got = rdy_sys_recv_datagrams(datagram->fd, headers, count);
    for (ssize_t i = 0; i < got; i++) {
        struct rdy_datagram_message *message = &messages[i];
        size_t datagram_len = headers[i].msg_len;

        rdy_datagram_describe(&message->info, &headers[i].msg_hdr, datagram_len);
        message->len = datagram_len < message->buf_len ? datagram_len : message->buf_len;
    }
    return got;
}

/* Nothing is there, or it is not known: as for one alone, whose info comes in one piece, too. */
static ssize_t recv_first(struct rdy_datagram *datagram, struct rdy_task *task,
                          struct rdy_datagram_message *message)
{
    ssize_t count =
        rdy_datagram_poll_recv_from(datagram, task, message->buf, message->buf_len, &message->info);

    if (count < 0)
        return count;
    message->len = (size_t)count;
    return 1;
}

ssize_t rdy_datagram_poll_recv_many(struct rdy_datagram *datagram, struct rdy_task *task,
                                    struct rdy_datagram_message *messages, size_t count)
{
    struct rdy_event event;
    ssize_t got;

    if (datagram->fd < 0)
        return -EBADF;
    if (count == 0)
        return 0;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    event = rdy_ready_event(&datagram->reg, RDY_INTEREST_READ);
    if (!is_ready(event) || rdy_datagram_has_news(datagram) || is_in_lane(datagram))
        return recv_first(datagram, task, messages);

    got = recv_batch(datagram, messages, batch_of(task, count));
    if (got == -EAGAIN) {
        rdy_clear_readiness(&datagram->reg, event);
        return recv_first(datagram, task, messages);
    }
    rdy_task_spend_many(task, got > 0 ? (uint32_t)got : 1);
    return got;
}

/* --- sending --- */

/* To the peer if the message names nobody. The kernel only reads what a send points to. */
static void send_prepare(struct mmsghdr *header, struct iovec *iov,
                         const struct rdy_datagram_message *message)
{
    *iov = (struct iovec){.iov_base = message->buf, .iov_len = message->len};
    *header = (struct mmsghdr){.msg_hdr = {.msg_iov = iov, .msg_iovlen = 1}};
    if (message->info.addr_len > 0) {
        header->msg_hdr.msg_name = (void *)(uintptr_t)&message->info.addr;
        header->msg_hdr.msg_namelen = message->info.addr_len;
    }
}

static ssize_t send_batch(const struct rdy_datagram *datagram,
                          const struct rdy_datagram_message *messages, uint32_t count)
{
    struct mmsghdr headers[RDY_DATAGRAM_MANY_MAX];
    struct iovec iovs[RDY_DATAGRAM_MANY_MAX];

    rdy_assert(count > 0 && count <= RDY_DATAGRAM_MANY_MAX);
    for (uint32_t i = 0; i < count; i++)
        send_prepare(&headers[i], &iovs[i], &messages[i]);
    return rdy_sys_send_datagrams(datagram->fd, headers, count);
}

/* As for one alone: 1, RDY_PENDING, -errno. */
static ssize_t send_one(struct rdy_datagram *datagram, struct rdy_task *task,
                        const struct rdy_datagram_message *message)
{
    const struct sockaddr *addr = (const struct sockaddr *)&message->info.addr;
    ssize_t sent;

    if (message->info.addr_len > 0)
        sent = rdy_datagram_poll_send_to(datagram, task, message->buf, message->len, addr,
                                         message->info.addr_len);
    else
        sent = rdy_datagram_poll_send(datagram, task, message->buf, message->len);
    return sent < 0 ? sent : 1;
}

static ssize_t send_each(struct rdy_datagram *datagram, struct rdy_task *task,
                         const struct rdy_datagram_message *messages, uint32_t count)
{
    uint32_t sent = 0;
    ssize_t rc = 1;

    while (sent < count && rc == 1) {
        rc = send_one(datagram, task, &messages[sent]);
        if (rc == 1)
            sent++;
    }
    if (sent == 0)
        return rc;
    if (rc < 0 && rdy_datagram_is_news(rc))
        rdy_datagram_keep_news(datagram, (int)rc);
    return sent;
}

ssize_t rdy_datagram_poll_send_many(struct rdy_datagram *datagram, struct rdy_task *task,
                                    const struct rdy_datagram_message *messages, size_t count)
{
    struct rdy_event event;
    ssize_t sent;

    if (datagram->fd < 0)
        return -EBADF;
    if (count == 0)
        return 0;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if ((datagram->flags & RDY_DATAGRAM_CONNECTED) || is_in_lane(datagram))
        return send_each(datagram, task, messages, batch_of(task, count));
    event = rdy_ready_event(&datagram->reg, RDY_INTEREST_WRITE);
    /* A peer that was full, and is watched, is the affair of the call that watches. */
    if (!is_ready(event) || datagram->peer_reg.io)
        return send_one(datagram, task, messages);

    sent = send_batch(datagram, messages, batch_of(task, count));
    if (sent == -EAGAIN)
        return send_one(datagram, task, messages);
    rdy_task_spend_many(task, sent > 0 ? (uint32_t)sent : 1);
    return sent;
}
