/* SPDX-License-Identifier: MIT */
/*
 * The fake's operations: carried out on the real files, a step in each wait, with the system calls
 * that a ring would spare us. What a kernel does seldom (ends that come late, twice, or after each
 * fact, sends that take a part, operations that stand still) is what a test can ask for.
 */
#include "tests/support/fake_backend.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base.h"
#include "engine/poison.h"

static struct fake *fake_of(struct rdy_backend *backend)
{
    return (struct fake *)(void *)backend;
}

static void tell(struct fake *fake, struct rdy_fact fact)
{
    struct fake_queue *queue = fake->ops_state.is_withholding ? &fake->withheld : &fake->due;

    rdy_assert(queue->count < FAKE_FACTS_MAX);
    queue->fact[queue->count++] = fact;
}

static int ops_lend(struct rdy_backend *backend, void *memory, uint32_t count, uint32_t size)
{
    struct fake_ops *ops = &fake_of(backend)->ops_state;

    if (ops->lend_error)
        return ops->lend_error;
    rdy_assert(count <= FAKE_BUFFERS_MAX);
    ops->memory = memory;
    ops->buffers_count = count;
    ops->buffer_size = size;
    return 0;
}

static void ops_refill(struct rdy_backend *backend, uint32_t buffer)
{
    struct fake_ops *ops = &fake_of(backend)->ops_state;

    rdy_assert(buffer < ops->buffers_count && ops->free_count < ops->buffers_count);
    ops->free[ops->free_count++] = buffer;
}

static int op_add(struct fake *fake, struct fake_op op)
{
    struct fake_ops *ops = &fake->ops_state;

    if (fake->arm_errors > 0) {
        fake->arm_errors--;
        return fake->arm_error;
    }
    rdy_assert(ops->ops_count < FAKE_OPS_MAX);
    for (uint32_t i = 0; i < ops->ops_count; i++)
        rdy_assert(ops->op[i].token != op.token); /* one of a kind at a time */
    ops->op[ops->ops_count++] = op;
    return 0;
}

static int ops_recv(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there)
{
    (void)is_data_there;
    return op_add(fake_of(backend), (struct fake_op){.fd = fd, .token = token});
}

static int ops_messages(struct rdy_backend *backend)
{
    return fake_of(backend)->ops_state.messages_error;
}

static int ops_recv_message(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there)
{
    (void)is_data_there;
    return op_add(fake_of(backend), (struct fake_op){.fd = fd, .token = token, .is_message = true});
}

static int ops_accept(struct rdy_backend *backend, int fd, uint64_t token)
{
    return op_add(fake_of(backend), (struct fake_op){.fd = fd, .token = token});
}

static int ops_send(struct rdy_backend *backend, const struct rdy_backend_send *send)
{
    struct fake_op op = {.fd = send->fd, .token = send->token, .may_wait = send->may_wait};

    int type = 0;
    socklen_t type_size = sizeof(type);

    rdy_assert(getsockopt(send->fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0);
    if (type == SOCK_DGRAM) { /* read when it is submitted */
        op.is_message = true;
        op.unread = send->message;
        return op_add(fake_of(backend), op);
    }
    rdy_assert(send->message->msg_iovlen <= sizeof(op.pieces) / sizeof(op.pieces[0]));
    if (send->message->msg_iovlen > 1)
        op.unread = send->message;
    op.message.msg_iovlen = send->message->msg_iovlen;
    memcpy(op.pieces, send->message->msg_iov, op.message.msg_iovlen * sizeof(op.pieces[0]));
    return op_add(fake_of(backend), op);
}

static int ops_connect(struct rdy_backend *backend, int fd, uint64_t token,
                       const struct sockaddr *addr, socklen_t addr_len)
{
    struct fake_op op = {.fd = fd, .token = token, .addr = addr, .addr_len = addr_len};

    return op_add(fake_of(backend), op);
}

static int ops_close_file(struct rdy_backend *backend, int fd)
{
    struct fake *fake = fake_of(backend);
    struct fake_ops *ops = &fake->ops_state;

    if (fake->arm_errors > 0) {
        fake->arm_errors--;
        return fake->arm_error;
    }
    rdy_assert(ops->closing_count < FAKE_OPS_MAX);
    for (uint32_t i = 0; i < ops->ops_count; i++)
        rdy_assert(ops->op[i].fd != fd); /* closed under an operation */
    ops->closing[ops->closing_count++] = fd;
    return 0;
}

void fake_ops_close_files(struct fake *fake)
{
    struct fake_ops *ops = &fake->ops_state;

    while (ops->closing_count > 0)
        rdy_assert(close(ops->closing[--ops->closing_count]) == 0);
}

static uint32_t ops_salvage(struct rdy_backend *backend, struct rdy_fact *facts, uint32_t facts_max)
{
    struct fake *fake = fake_of(backend);
    struct fake_queue *due = &fake->due;
    uint32_t count = due->count;

    if (!fake->ops_state.is_salvaged)
        return 0;
    rdy_assert(count <= facts_max);
    memcpy(facts, due->fact, count * sizeof(*facts));
    due->count = 0;
    return count;
}

void fake_ops_install(struct rdy_backend_ops *ops)
{
    ops->lend = ops_lend;
    ops->refill = ops_refill;
    ops->recv = ops_recv;
    ops->accept = ops_accept;
    ops->send = ops_send;
    ops->connect = ops_connect;
    ops->close_file = ops_close_file;
    ops->messages = ops_messages;
    ops->recv_message = ops_recv_message;
    ops->salvage = ops_salvage;
}

void fake_ops_tell(struct fake *fake, struct fake_op *op, struct rdy_fact fact)
{
    fact.token = op->token;
    if (fact.flags & RDY_FACT_LAST)
        op->is_over = true;
    tell(fake, fact);
}

unsigned char *fake_ops_buffer(struct fake *fake, uint32_t *id)
{
    struct fake_ops *ops = &fake->ops_state;
    unsigned char *buffer;

    if (ops->free_count == 0)
        return NULL;
    *id = ops->free[ops->free_count - 1];
    buffer = ops->memory + (size_t)*id * ops->buffer_size;
    rdy_unpoison(buffer, ops->buffer_size); /* it is the kernel's to write to, but only its */
    return buffer;
}

void fake_ops_use_buffer(struct fake *fake)
{
    fake->ops_state.free_count--;
}

void fake_ops_spare_buffer(struct fake *fake)
{
    struct fake_ops *ops = &fake->ops_state;

    rdy_poison(ops->memory + (size_t)ops->free[ops->free_count - 1] * ops->buffer_size,
               ops->buffer_size);
}

static void op_last(struct fake *fake, struct fake_op *op, int result)
{
    tell(fake, (struct rdy_fact){.token = op->token, .result = result, .flags = RDY_FACT_LAST});
    op->is_over = true;
}

bool fake_ops_cancel(struct fake *fake, uint64_t token)
{
    for (uint32_t i = 0; i < fake->ops_state.ops_count; i++) {
        struct fake_op *op = &fake->ops_state.op[i];

        if (op->token == token && !op->is_over) {
            op->is_cancelled = true;
            return true;
        }
    }
    return false;
}

/* A step of a receive; false when there is nothing more now. */
static bool recv_step(struct fake *fake, struct fake_op *op)
{
    struct fake_ops *ops = &fake->ops_state;
    struct rdy_fact fact = {.token = op->token, .flags = RDY_FACT_BUFFER};
    unsigned char *buffer;
    unsigned char byte;
    ssize_t count;

    if (ops->free_count == 0) {
        count = recv(op->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (count >= 0 || errno != EAGAIN)
            op_last(fake, op, count > 0 ? -ENOBUFS : (count == 0 ? 0 : -errno));
        return false;
    }
    buffer = fake_ops_buffer(fake, &fact.buffer);
    count = recv(op->fd, buffer, ops->buffer_size, MSG_DONTWAIT);
    if (count <= 0) {
        fake_ops_spare_buffer(fake);
        if (count == 0 || errno != EAGAIN)
            op_last(fake, op, count == 0 ? 0 : -errno);
        return false;
    }
    fake_ops_use_buffer(fake);
    fact.result = (int)count;
    if (ops->ends_each) {
        fact.flags |= RDY_FACT_LAST | RDY_FACT_OVERFLOW;
        op->is_over = true;
    }
    tell(fake, fact);
    return !op->is_over;
}

static bool accept_step(struct fake *fake, struct fake_op *op)
{
    struct rdy_fact fact = {.token = op->token};

    fact.result = accept4(op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fact.result < 0) {
        if (errno != EAGAIN)
            op_last(fake, op, -errno);
        return false;
    }
    if (fake->ops_state.ends_each) {
        fact.flags |= RDY_FACT_LAST | RDY_FACT_OVERFLOW;
        op->is_over = true;
    }
    tell(fake, fact);
    return !op->is_over;
}

static void send_advance(struct fake_op *op, size_t sent)
{
    struct iovec *piece = op->pieces;

    op->sent += sent;
    while (sent > 0 && op->message.msg_iovlen > 0) {
        size_t part = sent < piece->iov_len ? sent : piece->iov_len;

        piece->iov_base = (char *)piece->iov_base + part;
        piece->iov_len -= part;
        sent -= part;
        if (piece->iov_len > 0)
            return;
        op->message.msg_iovlen--;
        memmove(op->pieces, op->pieces + 1, op->message.msg_iovlen * sizeof(op->pieces[0]));
    }
}

/* As a ring, which reads a message of several pieces when the operation is submitted. */
static void send_submit(struct fake_op *op)
{
    if (!op->unread)
        return;
    op->message.msg_iovlen = op->unread->msg_iovlen;
    memcpy(op->pieces, op->unread->msg_iov, op->message.msg_iovlen * sizeof(op->pieces[0]));
    op->unread = NULL;
}

static void send_step(struct fake *fake, struct fake_op *op)
{
    struct msghdr message = op->message;
    size_t most = fake->ops_state.send_max;
    ssize_t count;

    message.msg_iov = op->pieces;
    if (fake->ops_state.send_error) {
        op_last(fake, op, fake->ops_state.send_error);
        fake->ops_state.send_error = 0;
        return;
    }
    if (most > 0) {
        message.msg_iovlen = 1;
        count = send(op->fd, op->pieces[0].iov_base,
                     op->pieces[0].iov_len < most ? op->pieces[0].iov_len : most,
                     MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        count = sendmsg(op->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (count < 0 && errno != EAGAIN) { /* as the kernel, which then tells of what went out */
        op_last(fake, op, op->sent > 0 ? (int)op->sent : -errno);
        return;
    }
    if (count > 0)
        send_advance(op, (size_t)count);
    if (op->message.msg_iovlen > 0) {
        if (!op->may_wait)
            op_last(fake, op, op->sent > 0 ? (int)op->sent : -EAGAIN);
        return;
    }
    if (op->may_wait)
        op_last(fake, op, (int)op->sent);
    op->is_over = true;
}

/* The address is read late, and each time, so that a sanitizer sees it freed too early. */
static void connect_step(struct fake *fake, struct fake_op *op)
{
    struct pollfd poller = {.fd = op->fd, .events = POLLOUT};
    socklen_t error_size = sizeof(int);
    int error = 0;

    if (!op->is_begun) {
        op->is_begun = true;
        if (connect(op->fd, op->addr, op->addr_len) != 0 && errno != EINPROGRESS) {
            op_last(fake, op, -errno);
            return;
        }
    }
    if (fake->ops_state.connect_result || fake->ops_state.connects_early) {
        op_last(fake, op, fake->ops_state.connect_result);
        return;
    }
    rdy_assert(op->addr->sa_family == AF_INET || op->addr->sa_family == AF_INET6);
    if (poll(&poller, 1, 0) == 1) {
        rdy_assert(getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &error_size) == 0);
        op_last(fake, op, -error);
    }
}

static bool (*step_of(const struct fake_op *op))(struct fake *fake, struct fake_op *op)
{
    if (rdy_token_about(op->token) == RDY_ABOUT_ACCEPT)
        return accept_step;
    return op->is_message ? fake_message_recv_step : recv_step;
}

static void op_progress(struct fake *fake, struct fake_op *op)
{
    uint32_t steps_max = fake->ops_state.recv_max ? fake->ops_state.recv_max : 32;

    if (op->is_cancelled) {
        op_last(fake, op, -ECANCELED);
        if (fake->ops_state.is_doubling)
            op_last(fake, op, -ECANCELED);
        return;
    }
    if (fake->ops_state.is_deaf)
        return;
    if (op->addr) {
        connect_step(fake, op);
        return;
    }
    if (op->is_message && rdy_token_about(op->token) == RDY_ABOUT_SEND) {
        fake_message_send_step(fake, op);
        return;
    }
    if (rdy_token_about(op->token) == RDY_ABOUT_SEND) {
        send_submit(op);
        send_step(fake, op);
        return;
    }
    for (uint32_t step = 0; step < steps_max; step++) {
        if (!step_of(op)(fake, op))
            return;
    }
}

void fake_ops_progress(struct fake *fake)
{
    struct fake_ops *ops = &fake->ops_state;
    uint32_t kept = 0;

    ops->message_sends = 0;
    for (uint32_t i = 0; i < ops->ops_count; i++)
        op_progress(fake, &ops->op[i]);
    for (uint32_t i = 0; i < ops->ops_count; i++) {
        if (!ops->op[i].is_over)
            ops->op[kept++] = ops->op[i];
    }
    ops->ops_count = kept;
    /* Told in this wait, or not at all: nothing of a try is kept back unless the test does so. */
    fake->backend.is_settled = !ops->is_deaf && fake->withheld.count == 0;
}
