/* SPDX-License-Identifier: MIT */
/*
 * For tests that fork with many arenas in use: jemalloc takes all of its locks around a fork, and
 * ThreadSanitizer's deadlock detector ends the program at the 64th. Included by one file a program.
 */
#ifndef RDY_TESTS_SUPPORT_FORK_H
#define RDY_TESTS_SUPPORT_FORK_H

#include "tests/support/stress.h"

#ifdef STRESS_IS_SANITIZED
const char *__tsan_default_options(void);

__attribute__((visibility("default"), used)) const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}
#endif

#endif
