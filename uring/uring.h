/* SPDX-License-Identifier: MIT */
/*
 * The backend's inside: what poll.c (watches, waiting), complete.c and messages.c (operations) and
 * buffers.c share.
 *
 * user_data is a token, whose low word is odd (a live generation), or ours: a cancel carries its
 * target's token with the lowest bit cleared, the wake poll a value of its own, a close one with
 * its descriptor in it.
 */
#ifndef RDY_URING_URING_H
#define RDY_URING_URING_H

#include "uring/ring.h"

/* The group of the provided buffers: there is one. */
#define RDY_URING_GROUP 0

struct rdy_uring_buffers {
    struct io_uring_buf_ring *ring; /* NULL: none were lent */
    unsigned char *memory;
    uint16_t *back; /* those that came back since the last wait, in this order */
    uint32_t back_count;
    uint32_t count;
    uint32_t size;
    uint32_t shown;     /* with the kernel, as far as its completions tell */
    uint32_t hot;       /* how many of them matter to the cache; see buffers.c */
    bool can_move;      /* what the kernel was shown may be put in another order */
    uint32_t sum_taken; /* of the ids that the kernel took, modulo 2^32 */
    uint32_t sum_front; /* of those that were in front then */
};

struct uring {
    struct rdy_backend backend;
    struct rdy_ring ring;
    int wake_fd;          /* written by wake(), never drained: each write is an edge */
    int notify_fd;        /* embedded only: readable when wait() would find something; or -1 */
    bool is_dead;         /* a wait has failed: nothing is submitted any more */
    bool is_wake_armed;   /* a multishot poll on wake_fd is in the kernel */
    struct rdy_a64 wakes; /* system calls of wake() on any thread; wait() moves them over */
    struct rdy_uring_buffers buffers;
};

static_assert(offsetof(struct uring, backend) == 0, "a backend is its uring");

static inline struct uring *uring_of(struct rdy_backend *backend)
{
    return rdy_container_of(backend, struct uring, backend);
}

/* buffers.c */
int rdy_uring_lend(struct rdy_backend *backend, void *memory, uint32_t count, uint32_t size);
void rdy_uring_refill(struct rdy_backend *backend, uint32_t buffer);

/* Shows refilled buffers to the kernel. Before each wait. */
void rdy_uring_show_refills(struct uring *uring);

/* After the ring was closed. */
void rdy_uring_free_buffers(struct uring *uring);

static inline struct io_uring_buf *rdy_uring_buffer_at(const struct rdy_uring_buffers *buffers,
                                                       uint32_t position)
{
    return &buffers->ring->bufs[position & (buffers->count - 1)];
}

/* The kernel says that it took this one. */
static inline void rdy_uring_note_taken(struct rdy_uring_buffers *buffers, uint32_t id)
{
    rdy_assert(buffers->shown > 0);
    buffers->sum_taken += id;
    buffers->sum_front += rdy_uring_buffer_at(buffers, buffers->ring->tail - buffers->shown)->bid;
    buffers->shown--;
}

/* complete.c */
int rdy_uring_recv(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there);
int rdy_uring_accept(struct rdy_backend *backend, int fd, uint64_t token);
int rdy_uring_send(struct rdy_backend *backend, const struct rdy_backend_send *send);
int rdy_uring_connect(struct rdy_backend *backend, int fd, uint64_t token,
                      const struct sockaddr *addr, socklen_t addr_len);

int rdy_uring_close_file(struct rdy_backend *backend, int fd);

/* messages.c; rdy_uring_messages() may be asked without a backend. */
int rdy_uring_messages(struct rdy_backend *backend);
int rdy_uring_recv_message(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there);

/* An operation's completion as a fact. */
void rdy_uring_take_operation(const struct io_uring_cqe *cqe, bool is_overflow,
                              struct rdy_fact *fact);

#endif
