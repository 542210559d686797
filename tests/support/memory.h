/* SPDX-License-Identifier: MIT */
/*
 * Allocations that fail. The linker puts the functions of memory.c in front of the C library's and
 * jemalloc's (--wrap, in tests/CMakeLists.txt), for what is linked statically: the engine and the
 * test. So the engine has no seam for it, and what is tested is the library as it ships.
 */
#ifndef RDY_TESTS_SUPPORT_MEMORY_H
#define RDY_TESTS_SUPPORT_MEMORY_H

#include <stdint.h>

/* From now on the @fail_at-th allocation of this thread fails; those of all are counted. */
void memory_watch(uint32_t fail_at);

/* How many allocations this thread made since memory_watch(), the one that failed included. @live:
 * how many more allocations than frees there were, on all threads. */
uint32_t memory_unwatch(int64_t *live);

/*
 * Runs @run with its first allocation failing, its second, and so on until it has gone through
 * without: it must end with 0 or -ENOMEM, and leave neither memory nor a descriptor behind. Returns
 * how many allocations failed.
 */
typedef int memory_scene_fn(void *arg);
uint32_t memory_walk(memory_scene_fn *run, void *arg);

#endif
