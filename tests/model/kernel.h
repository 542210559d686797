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

struct kernel_file {
    bool is_open;
    bool is_cancelled; /* its last fact is due, by a disarm */
    bool is_ended;     /* the same, by the kernel's own decision */
    uint32_t armed_by; /* index of a backend plus one */
    uint64_t token;
    uint32_t ready; /* events that no wait has told yet */
    uint32_t bytes; /* that a read would get */

    /* kernel_ops.c */
    uint64_t op_token; /* of a receive; 0: none */
    bool is_op_cancelled;
};

/* Buffers that were lent. */
struct kernel_ops {
    unsigned char *memory;
    uint32_t count;
    uint32_t size;
    uint32_t free; /* a mask */
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
    uint32_t state_word;  /* what waiting and waking touch */

    /* When nobody can go on: should a wait have ended? */
    bool (*is_due)(const void *arg);
};

extern struct kernel kernel[1];
extern const struct rdy_backend_ops kernel_ring_ops;       /* one thread's; ends by last facts */
extern const struct rdy_backend_ops kernel_completing_ops; /* a ring that also receives */
extern const struct rdy_backend_ops kernel_epoll_ops;      /* arms anywhere, disarms at once */

/* kernel_ops.c, for kernel.c. */
int kernel_ops_lend(struct rdy_backend *backend, void *memory, uint32_t count, uint32_t size);
void kernel_ops_refill(struct rdy_backend *backend, uint32_t buffer);
int kernel_ops_recv(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there);
int kernel_ops_messages(struct rdy_backend *backend);
int kernel_ops_close_file(struct rdy_backend *backend, int fd);
int kernel_ops_disarm(int fd, uint64_t token);
bool kernel_ops_has_fact(const struct kernel_file *file);
void kernel_ops_tell(struct kernel_file *file, struct rdy_fact *fact);
struct kernel_file *kernel_file_of(int fd);

/* At the beginning of set_up. */
void kernel_reset(void);

/* Opens @fd; has data arrive; ends its poll. Any fiber. */
void kernel_open_file(int fd);
void kernel_event(int fd, uint32_t events);
void kernel_end_poll(int fd);
void kernel_end_receive(int fd);

/* Time stands but for this; with is_timed only. */
void kernel_pass_time(uint64_t ns);

/* An rdy_io_fn: takes a byte, or -EAGAIN. */
ssize_t kernel_read(int fd, void *arg);

/* True if @fd was closed through rdy_sys_close(), is watched, has bytes. No steps. */
bool kernel_is_closed(int fd);
bool kernel_is_watched(int fd);
bool kernel_has_bytes(int fd);

/* The fiber that owns a driver: rdy_sys_thread_id() elsewhere is the fiber's own number. */
#define KERNEL_SETUP_FIBER 1

#endif
