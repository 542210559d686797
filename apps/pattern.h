/* SPDX-License-Identifier: MIT */
/*
 * The bytes that a load sends: random, but known for each connection and position.
 *
 * One table of PATTERN_PERIOD random bytes, read in a circle from a place that depends on the
 * connection. The period is prime, so no two of the first 65,521 connections start at the same
 * place and no whole message of a usual size fits it: a byte that comes from another connection or
 * another position differs. The first chunk is repeated behind the end, so that any window is
 * contiguous: it is sent and compared where it lies.
 */
#ifndef RDY_APPS_PATTERN_H
#define RDY_APPS_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#define PATTERN_PERIOD 65521u
#define PATTERN_CHUNK  (64u * 1024u) /* the longest window */

struct pattern {
    unsigned char bytes[PATTERN_PERIOD + PATTERN_CHUNK];
};

void pattern_fill(struct pattern *pattern);

/* The bytes of @connection from @position on, PATTERN_CHUNK of them. */
const unsigned char *pattern_at(const struct pattern *pattern, uint64_t connection,
                                uint64_t position);

/* How many of @data_len bytes (at most PATTERN_CHUNK) are not what they should be. */
size_t pattern_mismatches(const struct pattern *pattern, uint64_t connection, uint64_t position,
                          const unsigned char *data, size_t data_len);

#endif
