/* SPDX-License-Identifier: MIT */
/* Bytes for streams that are to arrive whole and in order. */
#ifndef RDY_TESTS_SUPPORT_PATTERN_H
#define RDY_TESTS_SUPPORT_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A byte of a stream whose every position can be told from its neighbours. */
static inline unsigned char pattern_at(uint64_t position)
{
    return (unsigned char)(position * 31 + position / 251);
}

static inline void pattern_fill(unsigned char *bytes, size_t count, uint64_t position)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = pattern_at(position + i);
}

/* True if the bytes are those of the pattern from @position on. */
static inline bool pattern_holds(const unsigned char *bytes, size_t count, uint64_t position)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != pattern_at(position + i))
            return false;
    return true;
}

#endif
