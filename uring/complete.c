/* SPDX-License-Identifier: MIT */
/*
 * Operations that complete in the ring: multishot recv and accept, sends, and connects.
 *
 * Received data lands in one ring of provided buffers that all sockets share. A recv waits for an
 * event before it tries (POLL_FIRST), unless data is known to be there: a try for nothing costs as
 * much as a system call.
 *
 * A send that may not wait is tried within the enter that submits it, and its success is not
 * reported (CQE_SKIP_SUCCESS): what has no completion when that enter's are all seen went out
 * whole. MSG_WAITALL makes the kernel count a part as a failure, whose completion tells how much
 * went. Otherwise the kernel waits for the peer, and says once that all went out, or why not.
 */
#include "engine/base.h"

#ifndef RDY_NO_URING

#include "engine/sys.h"
#include "uring/uring.h"

#include <stdlib.h>

#define PAGE_BYTES 65536 /* at least a page on every architecture */

int rdy_uring_lend(struct rdy_backend *backend, void *memory, uint32_t count, uint32_t size)
{
    struct uring *uring = uring_of(backend);
    size_t bytes =
        (count * sizeof(struct io_uring_buf) + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    struct io_uring_buf_reg reg = {.ring_entries = count, .bgid = RDY_URING_GROUP};
    struct io_uring_buf_ring *ring;
    int rc;

    rdy_assert(!uring->buffers.ring);
    rdy_assert(count > 0 && (count & (count - 1)) == 0);
    /* Before 6.0 there is no multishot recv, and nothing that says so before it is tried. */
    if (uring->ring.rung > RDY_RUNG_SINGLE_COOP)
        return -EOPNOTSUPP;
    ring = aligned_alloc(PAGE_BYTES, bytes);
    if (!ring)
        return -ENOMEM;
    memset(ring, 0, bytes);
    reg.ring_addr = (uint64_t)(uintptr_t)ring;
    rdy_a64_bump(&backend->system_calls, 1);
    rc = io_uring_register((uint32_t)uring->ring.uring.ring_fd, IORING_REGISTER_PBUF_RING, &reg, 1);
    if (rc < 0) {
        free(ring);
        return rc;
    }
    uring->buffers =
        (struct rdy_uring_buffers){.ring = ring, .memory = memory, .count = count, .size = size};
    return 0;
}

void rdy_uring_refill(struct rdy_backend *backend, uint32_t buffer)
{
    struct rdy_uring_buffers *buffers = &uring_of(backend)->buffers;

    rdy_debug(buffer < buffers->count && buffers->refills < buffers->count);
    io_uring_buf_ring_add(buffers->ring, buffers->memory + (size_t)buffer * buffers->size,
                          buffers->size, (unsigned short)buffer, (int)buffers->count - 1,
                          (int)buffers->refills);
    buffers->refills++;
    buffers->free++;
}

void rdy_uring_show_refills(struct uring *uring)
{
    struct rdy_uring_buffers *buffers = &uring->buffers;

    if (buffers->refills > 0)
        io_uring_buf_ring_advance(buffers->ring, (int)buffers->refills);
    buffers->refills = 0;
}

void rdy_uring_free_buffers(struct uring *uring)
{
    free(uring->buffers.ring);
    uring->buffers = (struct rdy_uring_buffers){0};
}

int rdy_uring_recv(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(&uring_of(backend)->ring);

    rdy_assert(rdy_token_about(token) == RDY_ABOUT_RECV);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = RDY_URING_GROUP;
    if (!is_data_there)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->user_data = token;
    return 0;
}

int rdy_uring_accept(struct rdy_backend *backend, int fd, uint64_t token)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(&uring_of(backend)->ring);

    rdy_assert(rdy_token_about(token) == RDY_ABOUT_ACCEPT);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    sqe->user_data = token;
    return 0;
}

int rdy_uring_send(struct rdy_backend *backend, const struct rdy_backend_send *send)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(&uring_of(backend)->ring);
    const struct iovec *pieces = send->message->msg_iov;
    int flags = MSG_NOSIGNAL | MSG_WAITALL | (send->may_wait ? 0 : MSG_DONTWAIT);

    rdy_assert(rdy_token_about(send->token) == RDY_ABOUT_SEND);
    rdy_assert(send->message->msg_iovlen > 0);
    if (!sqe)
        return -EBUSY;
    if (send->message->msg_iovlen == 1 && !send->message->msg_name && !send->message->msg_control)
        io_uring_prep_send(sqe, send->fd, pieces->iov_base, pieces->iov_len, flags);
    else
        io_uring_prep_sendmsg(sqe, send->fd, send->message, (unsigned)flags);
    if (!send->may_wait)
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = send->token;
    return 0;
}

/* The kernel copies the address when it is told. */
int rdy_uring_connect(struct rdy_backend *backend, int fd, uint64_t token,
                      const struct sockaddr *addr, socklen_t addr_len)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(&uring_of(backend)->ring);

    rdy_assert(rdy_token_about(token) == RDY_ABOUT_SEND);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_connect(sqe, fd, addr, addr_len);
    sqe->user_data = token;
    return 0;
}

int rdy_uring_close_file(struct rdy_backend *backend, int fd)
{
    struct uring *uring = uring_of(backend);

    return !uring->is_dead && rdy_ring_close_file(&uring->ring, fd) ? 0 : -EBUSY;
}

void rdy_uring_take_operation(const struct io_uring_cqe *cqe, bool is_overflow,
                              struct rdy_fact *fact)
{
    bool is_last = !(cqe->flags & IORING_CQE_F_MORE);

    fact->token = cqe->user_data;
    fact->events = 0;
    fact->result = cqe->res;
    fact->flags = is_last ? RDY_FACT_LAST : 0;
    fact->buffer = 0;
    if (is_last && is_overflow && cqe->res >= 0)
        fact->flags |= RDY_FACT_OVERFLOW;
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        fact->flags |= RDY_FACT_BUFFER;
        fact->buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    }
}

#endif
