/* SPDX-License-Identifier: MIT */
/* Small questions to the operating system: clock, CPU time, processors, memory, file limit. */
#ifndef RDY_APPS_SYSTEM_H
#define RDY_APPS_SYSTEM_H

#include <stdint.h>
#include <sys/types.h>

/* CLOCK_MONOTONIC, the clock of rdy_runtime_now_ns(). */
uint64_t system_now_ns(void);

/* User and system time of this process, all threads. */
void system_cpu_ns(uint64_t *user_ns, uint64_t *kernel_ns);

/* CPU time of another process of ours, user and system together. 0 or -errno. */
int system_cpu_of_ns(pid_t pid, uint64_t *cpu_ns);

/* Largest resident set so far, in bytes. */
uint64_t system_rss_max_bytes(void);

/* Resident memory of a process that no file backs, in bytes. 0 or -errno. */
int system_rss_of_bytes(pid_t pid, uint64_t *rss_bytes);

/* Raises the soft limit of open files to the hard one. Returns the limit that holds now. */
uint64_t system_files_max(void);

/* How many processors this process may use. */
uint32_t system_cpus(void);

/* Binds the calling thread to the @index-th of them, counted round. 0 or -errno. */
int system_pin(uint32_t index);

#endif
