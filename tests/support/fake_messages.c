/* SPDX-License-Identifier: MIT */
/* The fake's operations on datagram sockets, as multishot recvmsg and sendmsg do them in a ring. */
#include "tests/support/fake_backend.h"

#include <errno.h>
#include <string.h>

#include "engine/message_head.h"

/* Fills @buffer as the kernel does; the result, or -errno. */
static int receive(int fd, unsigned char *buffer, uint32_t buffer_size)
{
    struct iovec iov = {.iov_base = buffer + RDY_MESSAGE_HEAD_SIZE,
                        .iov_len = buffer_size - RDY_MESSAGE_HEAD_SIZE};
    union {
        size_t aligned;
        unsigned char bytes[RDY_MESSAGE_CONTROL_ROOM];
    } control;
    struct msghdr msg = {
        .msg_name = buffer + sizeof(struct rdy_message_head),
        .msg_namelen = RDY_MESSAGE_NAME_ROOM,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
        .msg_iov = &iov,
        .msg_iovlen = 1,
    };
    ssize_t count = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
    struct rdy_message_head head;

    if (count < 0)
        return -errno;
    head = (struct rdy_message_head){
        .name_len = msg.msg_namelen,
        .control_len = (uint32_t)msg.msg_controllen,
        .payload_len = (uint32_t)count,
        .flags = (uint32_t)msg.msg_flags,
    };
    memcpy(buffer, &head, sizeof(head));
    memcpy(buffer + sizeof(head) + RDY_MESSAGE_NAME_ROOM, &control, msg.msg_controllen);
    return (int)RDY_MESSAGE_HEAD_SIZE +
           (int)((size_t)count < iov.iov_len ? (size_t)count : iov.iov_len);
}

bool fake_message_recv_step(struct fake *fake, struct fake_op *op)
{
    struct rdy_fact fact = {.flags = RDY_FACT_BUFFER};
    unsigned char *buffer = fake_ops_buffer(fake, &fact.buffer);
    unsigned char byte;

    rdy_assert(fake->ops_state.buffer_size > RDY_MESSAGE_HEAD_SIZE);
    if (!buffer) {
        if (recv(op->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
            return false;
        fake_ops_tell(fake, op, (struct rdy_fact){.result = -ENOBUFS, .flags = RDY_FACT_LAST});
        return false;
    }
    fact.result = receive(op->fd, buffer, fake->ops_state.buffer_size);
    if (fact.result < 0) {
        fake_ops_spare_buffer(fake);
        if (fact.result != -EAGAIN)
            fake_ops_tell(fake, op,
                          (struct rdy_fact){.result = fact.result, .flags = RDY_FACT_LAST});
        return false;
    }
    fake_ops_use_buffer(fake);
    if (fake->ops_state.ends_each || fact.result == (int)RDY_MESSAGE_HEAD_SIZE)
        fact.flags |= RDY_FACT_LAST;
    fake_ops_tell(fake, op, fact);
    return !op->is_over;
}

/* As a ring, which reads the message when the operation is submitted. */
static void submit(struct fake_op *op)
{
    if (!op->unread)
        return;
    op->message = *op->unread;
    rdy_assert(op->message.msg_iovlen == 1 && op->message.msg_namelen <= sizeof(op->name));
    op->pieces[0] = op->message.msg_iov[0];
    if (op->message.msg_name)
        memcpy(&op->name, op->message.msg_name, op->message.msg_namelen);
    op->unread = NULL;
}

static int send_now(struct fake *fake, struct fake_op *op)
{
    struct fake_ops *ops = &fake->ops_state;
    struct msghdr message = op->message;
    ssize_t count;

    message.msg_iov = op->pieces;
    message.msg_name = op->message.msg_name ? &op->name : NULL;
    if (ops->message_sends_max > 0 && ops->message_sends >= ops->message_sends_max)
        return -EAGAIN;
    ops->message_sends++;
    if (ops->message_errors > 0) {
        ops->message_errors--;
        return ops->message_error;
    }
    count = sendmsg(op->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return count < 0 ? -errno : (int)count;
}

void fake_message_send_step(struct fake *fake, struct fake_op *op)
{
    int result;

    submit(op);
    result = send_now(fake, op);
    if (result == -EAGAIN && op->may_wait)
        return;
    if (result >= 0 && !op->may_wait)
        op->is_over = true; /* silently */
    else
        fake_ops_tell(fake, op, (struct rdy_fact){.result = result, .flags = RDY_FACT_LAST});
}
