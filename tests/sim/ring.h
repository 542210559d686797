/* SPDX-License-Identifier: MIT */
/* The ring's inside: what ring.c (the queues) and ring_run.c (the requests' work) share. */
#ifndef RDY_TESTS_SIM_RING_H
#define RDY_TESTS_SIM_RING_H

#include <netinet/in.h>
#include <sys/uio.h>

#include "tests/sim/kernel.h"

#define SIM_REQUESTS_MAX 1024u
#define SIM_SQES_MAX     1024u
#define SIM_CQES_MAX     8192u
#define SIM_PIECES_MAX   16u
#define SIM_BUFFERS_MAX  1024u
#define SIM_GHOSTS_MAX   8u

enum sim_sqe_kind {
    SIM_SQE_POLL,
    SIM_SQE_CANCEL,
    SIM_SQE_RECV,
    SIM_SQE_ACCEPT,
    SIM_SQE_SEND,
    SIM_SQE_CONNECT,
};

struct sim_sqe {
    enum sim_sqe_kind kind;
    int fd;
    uint64_t token;
    uint32_t events;
    bool is_data_there;
    bool may_wait;
    struct iovec single;          /* a send of one piece */
    const struct msghdr *message; /* of several, or with an address: read when it is submitted */
    const struct sockaddr *addr;  /* of a connect, the same */
    socklen_t addr_len;
};

struct sim_request {
    struct sim_waiter waiter; /* first; in its socket's list while it is armed */
    struct sim_ring *ring;
    struct sim_file *file;
    enum sim_sqe_kind kind;
    uint64_t token;
    uint32_t events;
    uint32_t wakes;
    uint32_t key;
    uint64_t run_ns; /* its work may run from then on; SIM_NEVER: there is none */
    uint64_t order;
    bool is_cancelled;
    bool has_ended; /* its last completion was posted */
    struct iovec pieces[SIM_PIECES_MAX];
    uint32_t pieces_count;
    size_t sent;
    struct sockaddr_in to; /* of a datagram that is to be sent */
    bool has_to;
};

struct sim_ring {
    struct rdy_backend backend; /* first */
    uint32_t cq_entries;
    int death;
    bool is_woken;
    bool is_stalled; /* the last submission took a part only */

    struct sim_sqe sqes[SIM_SQES_MAX];
    uint32_t sqes_count;

    int closes[SIM_SQES_MAX]; /* files to be closed, not submitted yet */
    uint32_t closes_count;

    struct sim_request *requests[SIM_REQUESTS_MAX];
    uint32_t requests_count;
    uint64_t orders;

    struct rdy_fact cqes[SIM_CQES_MAX]; /* the first cq_entries are in the queue, the rest waits */
    uint32_t cqes_count;

    struct rdy_fact ghosts[SIM_GHOSTS_MAX]; /* last facts of polls that have ended */
    uint32_t ghosts_count;

    unsigned char *memory;
    uint32_t buffers_count;
    uint32_t buffer_size;
    uint32_t refilled[SIM_BUFFERS_MAX]; /* the kernel is told in the next wait */
    uint32_t refilled_count;
    uint32_t free[SIM_BUFFERS_MAX];
    uint32_t free_count;
    bool is_kernels[SIM_BUFFERS_MAX];
    struct sim_letter *letters[SIM_BUFFERS_MAX]; /* that fill them; NULL: no letter does */
};

/* ring_run.c */

/* Begins what was submitted. The request is kept unless it ends at once. */
void sim_ring_begin(struct sim_ring *ring, const struct sim_sqe *sqe);

/* Runs work that is due; at most a portion. True if some was. */
bool sim_ring_run(struct sim_ring *ring);

/* When the earliest work may run, or SIM_NEVER. */
uint64_t sim_ring_work_ns(const struct sim_ring *ring);

/* Ends the request without a completion. */
void sim_ring_forget(struct sim_request *request);

/* Ends it with one. */
void sim_ring_post_last(struct sim_request *request, int result);

/* A completion of a multishot request, perhaps its last; then false. */
bool sim_ring_post_more(struct sim_request *request, struct rdy_fact fact);

/* A free buffer, of which there is one; and back to where it was. */
uint32_t sim_ring_buffer_take(struct sim_ring *ring);
void sim_ring_buffer_untake(struct sim_ring *ring, uint32_t buffer);

/* ring_message.c: the same of datagrams as is done of streams there. */

/* False when there is nothing more now, or the request has ended. */
bool sim_ring_message_recv(struct sim_request *request);

/* What is to be sent is read when the request is submitted; 0, -EAGAIN or another error. */
void sim_ring_message_keep(struct sim_request *request, const struct msghdr *message);
ssize_t sim_ring_message_send(struct sim_request *request);

/* ring.c */

/* A completion. @fact may lose its "more" for want of room; true if the request goes on. */
bool sim_ring_post(struct sim_ring *ring, struct rdy_fact fact);

struct sim_request *sim_ring_request(struct sim_ring *ring, uint64_t token);

#endif
