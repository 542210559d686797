/* SPDX-License-Identifier: MIT */
/*
 * Text to numbers: counts, sizes, durations and HOST:PORT, as a person types them.
 *
 * Each parser takes the whole text or nothing: trailing junk, a sign, an empty string and an
 * overflow are refused. No locale, no errno.
 */
#ifndef RDY_APPS_NUMBERS_H
#define RDY_APPS_NUMBERS_H

#include <stdint.h>

#define ADDRESS_HOST_MAX 256 /* bytes, the terminator included: the longest DNS name fits */

/* HOST:PORT or [V6]:PORT, taken apart; nothing has been resolved. */
struct address {
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
};

/* A whole number, with k (1000) or M (1000000) behind it if one likes. 0, -EINVAL or -ERANGE. */
int parse_count(const char *text, uint64_t *value);

/* Bytes, with k or K (1024) or M (1048576). 0, -EINVAL or -ERANGE. */
int parse_size(const char *text, uint64_t *bytes);

/* Seconds, or a number with ms, s or m; a fraction is fine ("0.5s"). 0, -EINVAL or -ERANGE. */
int parse_duration(const char *text, uint64_t *duration_ns);

/* 0 or -EINVAL; an IPv6 address must be in brackets. */
int parse_address(const char *text, struct address *address);

#endif
