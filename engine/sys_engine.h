/* SPDX-License-Identifier: MIT */
/*
 * The system calls of an engine of several threads: processors, what a container may use of them,
 * waiting for a signal or a descriptor. The threads themselves are in sys_thread.h.
 */
#ifndef RDY_ENGINE_SYS_ENGINE_H
#define RDY_ENGINE_SYS_ENGINE_H

#include <sched.h>
#include <signal.h>

#include "engine/base.h"

#define RDY_SYS_CPUS_MAX 8192 /* what the kernel can be built for */

/* As many processors as the kernel knows, where cpu_set_t ends at 1024. */
struct rdy_sys_cpus {
    cpu_set_t sets[RDY_SYS_CPUS_MAX / CPU_SETSIZE];
};

/* The processors that the calling thread may run on. 0 or -errno. */
int rdy_sys_cpus_get(struct rdy_sys_cpus *cpus);

uint32_t rdy_sys_cpus_count(const struct rdy_sys_cpus *cpus);

/* The number of the @index-th of them, counted round; there is at least one. */
uint32_t rdy_sys_cpus_nth(const struct rdy_sys_cpus *cpus, uint32_t index);

/* Binds the calling thread to one processor. 0 or -errno. */
int rdy_sys_pin(uint32_t cpu);

/*
 * How many processors' time the control group of this process may use (cpu.max of it and of those
 * above it, version 2), rounded up; UINT32_MAX if nothing says so.
 */
uint32_t rdy_sys_cpu_quota(void);

/* A descriptor that reads @signals, which are blocked: @fd with another set than before, or for -1
 * a new one. Or -errno. */
int rdy_sys_signal_fd(int fd, const sigset_t *signals);

/*
 * Blocks until a signal came through @signal_fd (its number is returned, and it is no longer
 * pending), which may be -1, or @event_fd is readable (0). Or -errno.
 */
int rdy_sys_await_signal(int signal_fd, int event_fd);

/* A second descriptor of the same file, close-on-exec, or -errno. */
int rdy_sys_dup(int fd);

#endif
