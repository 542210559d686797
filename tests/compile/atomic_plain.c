/* SPDX-License-Identifier: MIT */
/* Arithmetic on an atomic that names no memory order; with VIOLATE only, see lock_missing.c. */
#include "engine/atomic.h"

uint64_t word_next(const struct rdy_a64 *word);

uint64_t word_next(const struct rdy_a64 *word)
{
#ifdef VIOLATE
    return *word + 1;
#else
    return rdy_a64_load_relaxed(word) + 1;
#endif
}
