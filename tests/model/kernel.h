/* SPDX-License-Identifier: MIT */
/*
 * A kernel of the model's: a backend of which nothing is known but its contract (engine/backend.h).
 *
 * It gives no ordering of memory: what a fact or a wake-up proves about plain memory, the code
 * under test must have arranged by itself. A wait without facts blocks the fiber until there is a
 * fact or a wake; a wait with a limit does not block at all.
 */
#ifndef RDY_TESTS_MODEL_KERNEL_H
#define RDY_TESTS_MODEL_KERNEL_H

#include "engine/backend.h"

#define KERNEL_FILES 4
#define KERNEL_FD    100 /* the first file's descriptor */

struct kernel_file {
    bool is_open;
    bool is_armed;
    bool is_cancelled; /* its last fact is due */
    uint64_t token;
    uint32_t ready; /* events that no wait has told yet */
};

/* What is common to the model's kernel and to the driver that runs on it: in the arena. */
struct kernel {
    struct rdy_backend backend;
    struct kernel_file file[KERNEL_FILES];
    uint32_t wakes; /* not taken yet */
    uint32_t waits;
    bool is_open;
    int wait_error;      /* a wait fails with it */
    uint32_t arm_busy;   /* so many arms are put off */
    uint32_t state_word; /* what waiting and waking touch */
};

extern struct kernel kernel[1]; /* of this execution, from the open on */
extern const struct rdy_backend_ops
    kernel_ring_ops; /* arms on its own thread, ends by last facts */
extern const struct rdy_backend_ops kernel_epoll_ops; /* arms anywhere, disarms at once */

/* Opens @fd and says which events it will have had at the next wait. Any fiber. */
void kernel_open_file(int fd);
void kernel_event(int fd, uint32_t events);

/* True if @fd was closed through rdy_sys_close(). */
bool kernel_is_closed(int fd);

/* The fiber that owns a driver: rdy_sys_thread_id() elsewhere is the fiber's own number. */
#define KERNEL_SETUP_FIBER 1

#endif
