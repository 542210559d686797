/* SPDX-License-Identifier: MIT */
/*
 * Text to numbers: counts, sizes and durations, as a person types them.
 *
 * Each parser takes the whole text or nothing: trailing junk, a sign, an empty string and an
 * overflow are refused. No locale, no errno.
 */
#ifndef RDY_APPS_NUMBERS_H
#define RDY_APPS_NUMBERS_H

#include <stdint.h>

/* A whole number, with k (1000) or M (1000000) behind it if one likes. 0, -EINVAL or -ERANGE. */
int parse_count(const char *text, uint64_t *value);

/* Bytes, with k or K (1024) or M (1048576). 0, -EINVAL or -ERANGE. */
int parse_size(const char *text, uint64_t *bytes);

/* Seconds, or a number with us, ms, s or m; a fraction is fine ("0.5s"). 0, -EINVAL or -ERANGE. */
int parse_duration(const char *text, uint64_t *duration_ns);

#endif
