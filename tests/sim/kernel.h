/* SPDX-License-Identifier: MIT */
/*
 * The simulated kernel as a backend sees it: two of them, put in the place of the library's.
 *
 * The ring has requests: polls and operations that stay until they have ended, a submission queue
 * that the kernel reads in a wait, and a completion queue that may be full. Epoll has watches.
 * Which one a runtime gets is the engine's own choice, as on a real machine.
 */
#ifndef RDY_TESTS_SIM_KERNEL_H
#define RDY_TESTS_SIM_KERNEL_H

#include "engine/backend.h"
#include "tests/sim/files.h"

/* What a backend still has of a token. */
enum sim_hold {
    SIM_HOLD_NONE = 0,
    SIM_HOLD_QUEUED, /* submitted in the next wait */
    SIM_HOLD_LIVE,
    SIM_HOLD_ENDED, /* but its last fact has not been handed out */
};

/* Of the present backend, for the invariants: what it has of a token, and all tokens that it has.
 * Tokens of cancels are not counted. */
enum sim_hold sim_kernel_hold(uint64_t token);
uint32_t sim_kernel_tokens(uint64_t *tokens, uint32_t tokens_max);

/* True if the kernel was asked to end it. */
bool sim_kernel_is_cancelled(uint64_t token);

/* Buffers that the kernel has: free ones, and those whose facts were not handed out. */
uint32_t sim_kernel_buffers(void);

/* True if the present backend is a ring. */
bool sim_kernel_is_ring(void);

/* For the end: no backend is open, nothing is left of one. */
bool sim_kernel_is_closed(void);

/* The connection that waits first, as a descriptor; or -errno. */
int sim_sys_accept(struct sim_sock *listener);

/* What a wait begins with: the invariants, and whether the run has to end. world calls back. */
void sim_step(void);

/*
 * What a wait does when there is nothing for it: lets time pass to whatever comes first of the next
 * event, @until_ns and @work_ns (work that a ring has put off). False: the wait is over.
 */
bool sim_pass_time(uint64_t until_ns, uint64_t work_ns);

/* ring.c and epoll.c, for kernel.c. */
bool sim_ring_is_open(void);
enum sim_hold sim_ring_hold(uint64_t token);
bool sim_ring_is_cancelled(uint64_t token);
uint32_t sim_ring_tokens(uint64_t *tokens, uint32_t tokens_max);
uint32_t sim_ring_buffers(void);
bool sim_epoll_is_open(void);
enum sim_hold sim_epoll_hold(uint64_t token);
uint32_t sim_epoll_tokens(uint64_t *tokens, uint32_t tokens_max);

#endif
