/* SPDX-License-Identifier: MIT */
/* What the pool of blocking work asks of the system: threads, and whether it is a forked child. */
#ifndef RDY_ENGINE_SYS_THREAD_H
#define RDY_ENGINE_SYS_THREAD_H

#include <pthread.h>

#include "engine/base.h"

typedef void *rdy_sys_thread_fn(void *arg);

/*
 * Starts a thread that blocks every signal but those that a thread brings upon itself. @stack_size
 * 0 is the system's default. 0 or -errno.
 */
int rdy_sys_thread_start(pthread_t *thread, size_t stack_size, rdy_sys_thread_fn *fn, void *arg);

/* Names the calling thread; at most 15 bytes. */
void rdy_sys_thread_set_name(const char *name);

/* The least that a thread's stack may have. */
size_t rdy_sys_thread_stack_min(void);

#endif
