/* SPDX-License-Identifier: MIT */
/*
 * A backend for tests, in the test's own memory: it can be told what to say,
 * and asked what it was told.
 *
 * Scripted, it says what the test queued: facts by descriptor or by raw token,
 * last facts now, later, in another order, or never, refusals, and its own
 * death. In truth mode it asks poll(2) about the real files and reports what
 * changed, either just the new bits, as a ring does, or the whole state, as
 * epoll does; so a scenario on real sockets runs on it as on the real ones.
 * poll(2) shows levels: new data is an edge only if a wait saw the file drained
 * in between.
 *
 * A fake is locked, so that arms, disarms and pushes may come from any thread.
 */
#ifndef RDY_TESTS_FAKE_BACKEND_H
#define RDY_TESTS_FAKE_BACKEND_H

#include <pthread.h>

#include "engine/backend.h"

#define FAKE_WATCHES_MAX 256
#define FAKE_FACTS_MAX   1024
#define FAKE_OPS_MAX     1024
#define FAKE_BUFFERS_MAX 1024

struct fake_watch {
    int fd;
    uint64_t token;
    uint32_t events;
    uint32_t seen; /* truth mode: what poll(2) said last */
    bool is_cancelled;
};

struct fake_queue {
    uint32_t count;
    struct rdy_fact fact[FAKE_FACTS_MAX];
};

/* An operation that a fake with RDY_BACKEND_COMPLETES carries out by itself, in its waits. */
struct fake_op {
    uint64_t token;
    int fd;
    bool may_wait;
    bool is_message; /* of a datagram socket */
    bool is_cancelled;
    bool is_over;
    const struct msghdr *unread; /* of a send: the caller's, until it is submitted */
    const struct sockaddr *addr; /* of a connect: the caller's, until it ends */
    socklen_t addr_len;
    bool is_begun;
    struct msghdr message; /* what is left of it */
    struct iovec pieces[16];
    struct sockaddr_storage name; /* of a send, what message.msg_name says */
    size_t sent;
};

struct fake_ops {
    unsigned char *memory;
    uint32_t buffers_count;
    uint32_t buffer_size;
    uint32_t free[FAKE_BUFFERS_MAX]; /* the one that came back last is handed out first */
    uint32_t free_count;
    uint32_t closing_count;
    int closing[FAKE_OPS_MAX]; /* by the next wait */
    uint32_t ops_count;
    struct fake_op op[FAKE_OPS_MAX];

    /* What the test sets. */
    int lend_error;
    int messages_error; /* what messages() answers */
    int message_error;  /* the next message_errors sends of datagrams fail with it */
    uint32_t message_errors;
    uint32_t message_sends_max; /* so many, then the socket is full until the next wait; 0: any */
    uint32_t message_sends;     /* in this wait */
    int send_error;             /* the next send of a stream ends with it; 0: as the socket says */
    size_t send_max;            /* bytes a socket takes in one wait; 0: as it likes */
    uint32_t recv_max;          /* facts of one receive in one wait; 0: any */
    bool ends_each;             /* a receive or accept ends after each fact, as after an overflow */
    bool is_doubling;           /* the last fact of a cancelled operation comes twice */
    bool is_withholding;        /* facts of operations wait for fake_let_go() */
    bool is_salvaged;           /* what is due is told when the wait has failed */
    bool is_deaf;               /* operations make no progress at all */
    int connect_result;  /* connects end with it, when they have begun; 0: as the socket says */
    bool connects_early; /* connects end in success as soon as they have begun */
};

struct fake {
    struct rdy_backend backend; /* first: the engine sees this */
    struct rdy_backend_ops ops; /* this fake's own, so that its capabilities can be chosen */
    pthread_mutex_t lock;
    int wake_fd;
    bool is_truth;
    bool is_open;

    /* What the test sets. */
    bool is_blocking;    /* scripted: a wait with nothing to say blocks as long as it
                       may */
    bool is_withholding; /* keep the last facts of disarms until fake_let_go() */
    int arm_error;       /* the next arm_errors arms are refused with it */
    uint32_t arm_errors;
    int disarm_error;
    uint32_t disarm_errors;
    int wait_error; /* every wait from now on fails with it */
    int open_error;
    void (*on_wait)(void *arg); /* called at the start of each wait, or look; may be NULL */
    void *on_wait_arg;
    struct rdy_backend_opts opened_with;

    /* What the test reads. */
    uint32_t arms; /* that were accepted */
    uint32_t disarms;
    uint32_t waits;
    uint32_t waits_blocking; /* of these, with a timeout */
    uint32_t looks;
    uint32_t wakes;
    uint32_t watches_count;
    int64_t timeout_ns; /* of the latest wait */

    struct fake_watch watch[FAKE_WATCHES_MAX];
    struct fake_queue due;      /* what the next wait says */
    struct fake_queue withheld; /* last facts of disarms */
    struct fake_ops ops_state;  /* fake_ops.c */
};

/* A scripted fake with RDY_BACKEND_* @capabilities. */
void fake_init(struct fake *fake, uint32_t capabilities);

/* A fake that reports what poll(2) sees; @is_whole: the whole state rather than
 * what is new. */
void fake_init_truth(struct fake *fake, bool is_whole);

/* The same, that runs operations on the real files as well. */
void fake_init_completing(struct fake *fake);

/* fake_ops.c: the operations of a fake's table, their progress in a wait, under the lock. */
void fake_ops_install(struct rdy_backend_ops *ops);
void fake_ops_progress(struct fake *fake);
bool fake_ops_cancel(struct fake *fake, uint64_t token);
void fake_ops_close_files(struct fake *fake);

/* Gives the fake, before it is opened, a has_news() that tells whether a fact is queued. */
void fake_show_news(struct fake *fake);

/* Says something of an operation, the last thing with RDY_FACT_LAST. */
void fake_ops_tell(struct fake *fake, struct fake_op *op, struct rdy_fact fact);

/* The next free buffer, ready to be filled; NULL if there is none. It stays free. */
unsigned char *fake_ops_buffer(struct fake *fake, uint32_t *id);
void fake_ops_use_buffer(struct fake *fake);
void fake_ops_spare_buffer(struct fake *fake);

/* fake_messages.c: a step of an operation on a datagram socket; false: nothing more now. */
bool fake_message_recv_step(struct fake *fake, struct fake_op *op);
void fake_message_send_step(struct fake *fake, struct fake_op *op);

/* Opens a driver on @fake, which must outlive it. @opts may be NULL. */
int fake_driver_open(struct fake *fake, const struct rdy_driver_opts *opts,
                     struct rdy_driver **driver);

/* The present token of a watched descriptor; the test fails if it is not
 * watched. */
uint64_t fake_token(struct fake *fake, int fd);

/* Queues @events for a watched descriptor. */
void fake_push(struct fake *fake, int fd, uint32_t events);

/* Queues a fact with RDY_FACT_* @flags and a result for a watched descriptor.
 */
void fake_push_end(struct fake *fake, int fd, uint32_t events, int result, uint32_t flags);

/* Queues any fact, for instance of a token of the past. */
void fake_push_raw(struct fake *fake, uint64_t token, uint32_t events, int result, uint32_t flags);

/* Hands out the withheld last facts, latest first if @is_reversed. */
void fake_let_go(struct fake *fake, bool is_reversed);

#endif
