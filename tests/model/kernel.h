/* SPDX-License-Identifier: MIT */
/*
 * A kernel of the model's: a backend of which nothing is known but its contract (engine/backend.h).
 *
 * As its locks do, it has whoever comes second see the values of atomics that the first one saw; it
 * gives no happens-before: what a fact or a wake-up proves about plain memory, the code under test
 * must have arranged by itself. A wait without facts blocks the fiber until there is a
 * fact or a wake, or until its limit has passed; one of a millisecond or less does not block.
 */
#ifndef RDY_TESTS_MODEL_KERNEL_H
#define RDY_TESTS_MODEL_KERNEL_H

#include "engine/backend.h"

#define KERNEL_FILES    4
#define KERNEL_BACKENDS 2
#define KERNEL_FD       100 /* the first file's descriptor */
#define KERNEL_SENT_MAX 8
#define KERNEL_PIECES   4

/* An operation: the ring's until its last fact was told. */
struct kernel_op {
    uint64_t token; /* 0: none */
    bool is_cancelled;

    /* kernel_out.c */
    bool is_submitted;
    bool is_over; /* its fact is due */
    bool is_connect;
    bool may_wait;
    const struct msghdr *unread; /* of several pieces, until it is submitted */
    struct iovec piece[KERNEL_PIECES];
    uint32_t pieces_count;
    uint32_t sent; /* bytes */
    const struct sockaddr *addr;
    int result; /* of a connect */
};

struct kernel_file {
    bool is_used; /* the descriptor is or was this file's */
    bool is_open;
    bool is_closing;   /* by the ring, with the next submission */
    bool is_cancelled; /* its last fact is due, by a disarm */
    bool is_ended;     /* the same, by the kernel's own decision */
    uint32_t armed_by; /* index of a backend plus one */
    uint64_t token;
    uint32_t ready; /* events that no wait has told yet */
    uint32_t bytes; /* that a read would get */

    /* A socket's. */
    struct kernel_op in;  /* receives or accepts */
    struct kernel_op out; /* sends or connects */
    bool is_connector;
    bool is_connecting;
    bool has_answer;  /* for when it connects */
    bool is_answered; /* with `error`, if that is set */
    int answer;
    bool is_shut;
    int error;             /* of whatever goes out from now on */
    int accept_error;      /* of the next accept */
    uint32_t backlog;      /* connections that nobody accepted */
    uint32_t backlog_late; /* of these, since the ring died: it has the others */
    uint32_t room;         /* bytes that it takes */
    uint32_t sent_count;
    char sent[KERNEL_SENT_MAX + 1]; /* what the peer got */
};

/* Buffers that were lent. */
struct kernel_ops {
    unsigned char *memory;
    uint32_t count;
    uint32_t size;
    uint32_t free;     /* a mask */
    bool closes_files; /* by operations; else the engine does */
    bool is_losing;    /* with the ring, facts that were not told are gone */
};

struct kernel_backend {
    struct rdy_backend backend;
    bool is_open;
    uint32_t wakes;    /* not taken yet */
    uint64_t until_ns; /* the limit of the wait in progress */
    int wait_error;    /* a wait fails with it: the backend is dead */
};

struct kernel {
    struct kernel_backend backend[KERNEL_BACKENDS];
    uint32_t backends_count;
    struct kernel_file file[KERNEL_FILES];
    uint64_t now_ns;
    bool is_timed; /* time will pass: set before the fibers begin */
    struct kernel_ops ops;
    uint32_t arm_busy;    /* so many arms are put off */
    uint32_t disarm_busy; /* and so many questions to an operation to stop */
    uint32_t submit_busy; /* so many waits do not tell what they submitted, if anything */
    uint32_t state_word;  /* what waiting and waking touch */

    /* When nobody can go on: should a wait have ended? */
    bool (*is_due)(const void *arg);
};

extern struct kernel kernel[1];
extern const struct rdy_backend_ops kernel_ring_ops;       /* one thread's; ends by last facts */
extern const struct rdy_backend_ops kernel_completing_ops; /* a ring that runs operations */
extern const struct rdy_backend_ops kernel_epoll_ops;      /* arms anywhere, disarms at once */

/* kernel_ops.c, for kernel.c. */
int kernel_ops_lend(struct rdy_backend *backend, void *memory, uint32_t count, uint32_t size);
void kernel_ops_refill(struct rdy_backend *backend, uint32_t buffer);
int kernel_ops_recv(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there);
int kernel_ops_accept(struct rdy_backend *backend, int fd, uint64_t token);
int kernel_ops_messages(struct rdy_backend *backend);
int kernel_ops_close_file(struct rdy_backend *backend, int fd);
int kernel_ops_disarm(int fd, uint64_t token);
bool kernel_ops_wants_submit(void);
void kernel_ops_submit(void);
void kernel_ops_end(struct kernel_file *file); /* with the ring */
bool kernel_ops_has_fact(const struct kernel_file *file);
uint32_t kernel_ops_tell(struct kernel_file *file, struct rdy_fact *facts, uint32_t facts_max);

/* kernel_out.c, for these. */
int kernel_out_send(struct rdy_backend *backend, const struct rdy_backend_send *send);
int kernel_out_connect(struct rdy_backend *backend, int fd, uint64_t token,
                       const struct sockaddr *addr, socklen_t addr_len);
void kernel_out_submit(struct kernel_file *file);
bool kernel_out_has_fact(const struct kernel_file *file);
void kernel_out_tell(struct kernel_file *file, struct rdy_fact *fact);
uint32_t kernel_out_state(const struct kernel_file *file); /* poll bits */

void kernel_touch(const char *what);
struct kernel_file *kernel_file_of(int fd);

/* At the beginning of set_up. */
void kernel_reset(void);

/* Opens @fd; has data arrive; ends its poll. Any fiber. */
void kernel_open_file(int fd);
void kernel_event(int fd, uint32_t events);
void kernel_end_poll(int fd);
void kernel_end_receive(int fd);

/*
 * What peers do: a connection comes, accepts fail; they read, are gone with @error; they answer a
 * connect (0 or -errno), or it is looked at too early. And: the first backend dies. Any fiber.
 */
void kernel_connection(int fd);
void kernel_fail_accept(int fd, int error);
void kernel_make_room(int fd, uint32_t bytes);
void kernel_reset_peer(int fd, int error);
void kernel_answer(int fd, int error);
void kernel_wake_early(int fd);
void kernel_kill(int error);

/* Time stands but for this; with is_timed only. */
void kernel_pass_time(uint64_t ns);

/* An rdy_io_fn: takes a byte, or -EAGAIN. */
ssize_t kernel_read(int fd, void *arg);

/* True if @fd was closed through rdy_sys_close(), is watched, has bytes. No steps. */
bool kernel_is_closed(int fd);
bool kernel_is_watched(int fd);
bool kernel_has_bytes(int fd);
uint32_t kernel_open_files(void);

/* The fiber that owns a driver: rdy_sys_thread_id() elsewhere is the fiber's own number. */
#define KERNEL_SETUP_FIBER 1

#endif
