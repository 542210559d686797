/* SPDX-License-Identifier: MIT */
/*
 * For tests that install a filter: libseccomp compares memory of its own, of which MemorySanitizer
 * has not seen that it was written, as the library is not built with it. Such a program does
 * without the sanitizer's look into memcmp(). Included by one file a program.
 */
#ifndef RDY_TESTS_SUPPORT_SECCOMP_H
#define RDY_TESTS_SUPPORT_SECCOMP_H

#include <seccomp.h>

#include "tests/support/stress.h"

#ifdef STRESS_IS_SANITIZED
const char *__msan_default_options(void);

__attribute__((visibility("default"), used)) const char *__msan_default_options(void)
{
    return "intercept_memcmp=0";
}
#endif

#endif
