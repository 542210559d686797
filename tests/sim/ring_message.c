/* SPDX-License-Identifier: MIT */
/*
 * Datagrams in the simulated ring, as multishot recvmsg and sendmsg do them: a buffer is taken
 * before anything is looked at, an empty datagram and an error end the receive.
 */
#include "tests/sim/ring.h"

#include "engine/message_head.h"
#include "engine/poison.h"
#include "tests/sim/mail.h"

/* Whatever lies in a buffer beyond what the kernel filled in. */
#define GARBAGE 0xdd

/* Fills @memory; the completion's result, or -errno. */
static int fill(struct sim_sock *sock, unsigned char *memory, uint32_t size)
{
    struct iovec iov = {.iov_base = memory + RDY_MESSAGE_HEAD_SIZE,
                        .iov_len = size - RDY_MESSAGE_HEAD_SIZE};
    struct msghdr msg = {.msg_name = memory + sizeof(struct rdy_message_head),
                         .msg_namelen = RDY_MESSAGE_NAME_ROOM,
                         .msg_iov = &iov,
                         .msg_iovlen = 1};
    struct rdy_message_head head;
    ssize_t count;

    rdy_assert(size > RDY_MESSAGE_HEAD_SIZE);
    memset(memory, GARBAGE, size);
    count = sim_mail_recv(sock, &msg, false);
    if (count < 0)
        return (int)count;
    head = (struct rdy_message_head){.name_len = msg.msg_namelen,
                                     .payload_len = (uint32_t)count,
                                     .flags = (uint32_t)msg.msg_flags};
    memcpy(memory, &head, sizeof(head));
    if ((size_t)count > iov.iov_len)
        count = (ssize_t)iov.iov_len;
    return (int)RDY_MESSAGE_HEAD_SIZE + (int)count;
}

bool sim_ring_message_recv(struct sim_request *request)
{
    struct sim_ring *ring = request->ring;
    struct sim_sock *sock = request->file->sock;
    struct rdy_fact fact = {.token = request->token, .flags = RDY_FACT_BUFFER};
    unsigned char *memory;

    if (ring->free_count == 0) {
        sim_ring_post_last(request, -ENOBUFS);
        return false;
    }
    fact.buffer = sim_ring_buffer_take(ring);
    memory = ring->memory + (size_t)fact.buffer * ring->buffer_size;
    rdy_unpoison(memory, ring->buffer_size);
    fact.result = fill(sock, memory, ring->buffer_size);
    if (fact.result < 0) {
        rdy_poison(memory, ring->buffer_size);
        sim_ring_buffer_untake(ring, fact.buffer);
        if (fact.result != -EAGAIN)
            sim_ring_post_last(request, fact.result);
        return false;
    }
    ring->is_kernels[fact.buffer] = false;
    ring->letters[fact.buffer] = sock->mail->given.last;
    if (fact.result == (int)RDY_MESSAGE_HEAD_SIZE)
        fact.flags |= RDY_FACT_LAST;
    return sim_ring_post_more(request, fact);
}

void sim_ring_message_keep(struct sim_request *request, const struct msghdr *message)
{
    request->has_to = message->msg_name != NULL;
    if (!request->has_to)
        return;
    rdy_assert(message->msg_namelen == sizeof(request->to));
    memcpy(&request->to, message->msg_name, sizeof(request->to));
}

ssize_t sim_ring_message_send(struct sim_request *request)
{
    struct msghdr msg = {.msg_iov = request->pieces, .msg_iovlen = 1};
    ssize_t count;

    rdy_assert(request->pieces_count == 1);
    if (request->has_to) {
        msg.msg_name = &request->to;
        msg.msg_namelen = sizeof(request->to);
    }
    count = sim_mail_send(request->file->sock, &msg);
    if (count < 0)
        return count;
    request->sent = (size_t)count;
    request->pieces_count = 0;
    return 0;
}
