/* SPDX-License-Identifier: MIT */
#include "tests/support/odd_ring.h"

#include <errno.h>

struct odd_ring odd = {.register_op = ODD_NO_REGISTER};

void odd_heal(void)
{
    struct odd_ring healed = {
        .register_op = ODD_NO_REGISTER,
        .uring = odd.uring,
        .uring_fd = odd.uring_fd,
        .cq_seen = odd.cq_seen,
        .sq_seen = odd.sq_seen,
    };

    odd = healed;
}

int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __real_io_uring_ring_dontfork(struct io_uring *ring);
int __wrap_io_uring_ring_dontfork(struct io_uring *ring);
int __real_io_uring_register_eventfd(struct io_uring *ring, int fd);
int __wrap_io_uring_register_eventfd(struct io_uring *ring, int fd);
int __real_io_uring_register(unsigned fd, unsigned opcode, const void *arg, unsigned count);
int __wrap_io_uring_register(unsigned fd, unsigned opcode, const void *arg, unsigned count);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __real_io_uring_wait_cqe_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
                                     struct __kernel_timespec *timeout);
int __wrap_io_uring_wait_cqe_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
                                     struct __kernel_timespec *timeout);
int __real_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags,
                           sigset_t *arg, size_t arg_len);
int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags,
                           sigset_t *arg, size_t arg_len);

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    if (odd.queue_init_error)
        return odd.queue_init_error;
    return __real_io_uring_queue_init(entries, ring, flags);
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
    int rc;

    if (params->flags & odd.flags_unknown)
        return -EINVAL;
    if ((odd.sq_entries_max > 0 && entries > odd.sq_entries_max) ||
        (odd.cq_entries_max > 0 && params->cq_entries > odd.cq_entries_max))
        return -ENOMEM;
    rc = __real_io_uring_queue_init_params(entries, ring, params);
    if (rc < 0)
        return rc;
    ring->features &= ~odd.features_missing;
    if (odd.is_without_array) {
        ring->flags |= IORING_SETUP_NO_SQARRAY;
        ring->sq.array = NULL;
    }
    odd.uring = ring;
    odd.uring_fd = ring->ring_fd;
    odd.cq_seen = 0;
    odd.sq_seen = 0;
    return rc;
}

int __wrap_io_uring_ring_dontfork(struct io_uring *ring)
{
    return odd.dontfork_error ? odd.dontfork_error : __real_io_uring_ring_dontfork(ring);
}

int __wrap_io_uring_register_eventfd(struct io_uring *ring, int fd)
{
    return odd.eventfd_error ? odd.eventfd_error : __real_io_uring_register_eventfd(ring, fd);
}

static bool names_buffers(const struct io_uring_restriction *allowed, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (allowed[i].opcode == IORING_RESTRICTION_REGISTER_OP &&
            allowed[i].register_op == IORING_REGISTER_PBUF_RING)
            return true;
    }
    return false;
}

int __wrap_io_uring_register(unsigned fd, unsigned opcode, const void *arg, unsigned count)
{
    if (opcode == odd.register_op)
        return odd.register_error;
    if (odd.has_no_buffers &&
        (opcode == IORING_REGISTER_PBUF_RING ||
         (opcode == IORING_REGISTER_RESTRICTIONS && names_buffers(arg, count))))
        return -EINVAL;
    return __real_io_uring_register(fd, opcode, arg, count);
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
    return odd.submit_error ? odd.submit_error : __real_io_uring_submit(ring);
}

int __wrap_io_uring_wait_cqe_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
                                     struct __kernel_timespec *timeout)
{
    int rc = odd.wait_error;

    if (rc == 0)
        rc = __real_io_uring_wait_cqe_timeout(ring, cqe, timeout);
    if (rc == 0 && odd.on_cqe)
        odd.on_cqe(*cqe, 1);
    return rc;
}

static void spoil_requests(void)
{
    struct io_uring_sq *sq = &odd.uring->sq;

    while (odd.sq_seen != sq->sqe_tail) {
        if (odd.on_sqe)
            odd.on_sqe(&sq->sqes[odd.sq_seen & sq->ring_mask]);
        odd.sq_seen++;
    }
}

static void spoil_completions(void)
{
    struct io_uring_cq *cq = &odd.uring->cq;

    while (odd.cq_seen != io_uring_smp_load_acquire(cq->ktail)) {
        if (odd.on_cqe)
            odd.on_cqe(&cq->cqes[odd.cq_seen & cq->ring_mask], odd.cq_seen + 1);
        odd.cq_seen++;
    }
}

int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags,
                           sigset_t *arg, size_t arg_len)
{
    bool is_ours = odd.uring && (unsigned)odd.uring_fd == fd;
    int rc;

    odd.enters_seen++;
    if (odd.enters > 0 && odd.enters_first > 0) {
        odd.enters_first--;
    } else if (odd.enters > 0) {
        odd.enters--;
        return odd.enter_result;
    }
    if (is_ours && (flags & IORING_ENTER_EXT_ARG))
        odd.batches_seen += ((const struct rdy_getevents_arg *)(void *)arg)->min_wait_usec != 0;
    if (is_ours)
        spoil_requests();
    rc = __real_io_uring_enter2(fd, submit, wait, flags, arg, arg_len);
    if (is_ours)
        spoil_completions();
    return rc;
}
