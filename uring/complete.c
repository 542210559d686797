/* SPDX-License-Identifier: MIT */
/*
 * Operations that complete in the ring: multishot recv and accept, sends, and connects.
 *
 * Received data lands in the ring of provided buffers that all sockets share: buffers.c. A recv
 * waits for an event before it tries (POLL_FIRST), unless data is known to be there: a try for
 * nothing costs as much as a system call.
 *
 * A send that may not wait is tried within the enter that submits it, and its success is not
 * reported (CQE_SKIP_SUCCESS): what has no completion when that enter's are all seen went out
 * whole. MSG_WAITALL makes the kernel count a part as a failure, whose completion tells how much
 * went. Otherwise the kernel waits for the peer, and says once that all went out, or why not.
 */
#include "engine/base.h"

#ifndef RDY_NO_URING

#include "uring/uring.h"

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

RDY_HOT int rdy_uring_send(struct rdy_backend *backend, const struct rdy_backend_send *send)
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

RDY_HOT void rdy_uring_take_operation(const struct io_uring_cqe *cqe, bool is_overflow,
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
