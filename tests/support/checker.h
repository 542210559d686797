/* SPDX-License-Identifier: MIT */
/* What the checker of memory in this build, if there is one, has been told: see engine/poison.h. */
#ifndef RDY_TESTS_SUPPORT_CHECKER_H
#define RDY_TESTS_SUPPORT_CHECKER_H

#include "engine/poison.h"

/* Would a touch of memory that was given back be found? */
static inline bool checker_sees_touches(void)
{
#if defined(RDY_VALGRIND)
    return RUNNING_ON_VALGRIND != 0;
#elif defined(RDY_ASAN) || defined(RDY_MSAN)
    return true;
#else
    return false;
#endif
}

/* Would a decision by a byte that nobody wrote be found? */
static inline bool checker_sees_garbage(void)
{
#if defined(RDY_ASAN)
    return false;
#else
    return checker_sees_touches();
#endif
}

/* False if the checker would report what depends on @byte; it is not read here. */
static inline bool may_be_used(const void *byte)
{
#if defined(RDY_ASAN)
    return !__asan_address_is_poisoned(byte);
#elif defined(RDY_MSAN)
    return __msan_test_shadow(byte, 1) < 0;
#elif defined(RDY_VALGRIND)
    unsigned char unwritten = 0; /* a bit each; left as it is where there is no Valgrind */
    unsigned answer = VALGRIND_GET_VBITS(byte, &unwritten, 1);

    return answer <= 1 && unwritten == 0;
#else
    (void)byte;
    return true;
#endif
}

#endif
