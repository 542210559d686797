/* SPDX-License-Identifier: MIT */
/*
 * A log-linear histogram of durations: constant memory, O(1) to record, under 1 % error.
 *
 * Values below 128 have a bucket each; above, each power of two is cut into 128 buckets of equal
 * width, so that a bucket is at most 1/128 of its value wide. A percentile answers with the upper
 * end of its bucket, never above the largest value seen. One thread.
 */
#ifndef RDY_APPS_HISTOGRAM_H
#define RDY_APPS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7u
#define HISTOGRAM_SUB      (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_TOP_BITS 42u /* values up to 2^42: 73 minutes in nanoseconds; more is clipped */
#define HISTOGRAM_BUCKETS  ((HISTOGRAM_TOP_BITS - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB)

/* {0} is empty. */
struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *histogram, uint64_t value);

/* Adds @from's values to @into. */
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value that @percent of all values do not exceed (0 < percent <= 100); 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

#endif
