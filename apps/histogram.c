/* SPDX-License-Identifier: MIT */
#include "apps/histogram.h"

#include <assert.h>

#define VALUE_MAX ((UINT64_C(1) << HISTOGRAM_TOP_BITS) - 1)

static_assert(HISTOGRAM_SUB >= 100, "a bucket is under 1 % wide");

/*
 * A value with its highest bit at 7 + r lies in row r + 1; its next seven bits are the column. Row
 * 0 is the values below 128, one each.
 */
static uint32_t bucket_of(uint64_t value)
{
    uint32_t row;

    if (value < HISTOGRAM_SUB)
        return (uint32_t)value;
    row = 63u - (uint32_t)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (row + 1) * HISTOGRAM_SUB + (uint32_t)((value >> row) - HISTOGRAM_SUB);
}

/* The largest value that falls into @bucket. */
static uint64_t bucket_end(uint32_t bucket)
{
    uint32_t row = bucket / HISTOGRAM_SUB;
    uint64_t column = bucket % HISTOGRAM_SUB;

    if (row == 0)
        return column;
    return ((HISTOGRAM_SUB + column + 1) << (row - 1)) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    if (value > VALUE_MAX)
        value = VALUE_MAX;
    histogram->count++;
    if (value > histogram->max)
        histogram->max = value;
    histogram->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    into->count += from->count;
    if (from->max > into->max)
        into->max = from->max;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

/* How many values must lie at or below the answer: at least one, at most all. */
static uint64_t rank_of(const struct histogram *histogram, double percent)
{
    double exact = (double)histogram->count * percent / 100.0;
    uint64_t rank = (uint64_t)exact;

    if ((double)rank < exact)
        rank++;
    if (rank == 0)
        rank = 1;
    return rank < histogram->count ? rank : histogram->count;
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t rank;
    uint64_t seen = 0;
    uint64_t end;

    if (histogram->count == 0)
        return 0;
    rank = rank_of(histogram, percent);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            end = bucket_end(i);
            return end < histogram->max ? end : histogram->max;
        }
    }
    return histogram->max;
}
