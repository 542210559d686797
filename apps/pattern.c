/* SPDX-License-Identifier: MIT */
#include "apps/pattern.h"

#include <string.h>

#define STRIDE 7919u /* prime: the connections' places are spread, and all different */

void pattern_fill(struct pattern *pattern)
{
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

    /* xorshift64*: any generator whose bytes do not repeat within the table will do. */
    for (size_t i = 0; i < PATTERN_PERIOD; i++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        pattern->bytes[i] = (unsigned char)((state * UINT64_C(0x2545f4914f6cdd1d)) >> 56);
    }
    for (size_t i = 0; i < PATTERN_CHUNK; i++)
        pattern->bytes[PATTERN_PERIOD + i] = pattern->bytes[i % PATTERN_PERIOD];
}

const unsigned char *pattern_at(const struct pattern *pattern, uint64_t connection,
                                uint64_t position)
{
    return &pattern->bytes[(connection * STRIDE + position) % PATTERN_PERIOD];
}

size_t pattern_mismatches(const struct pattern *pattern, uint64_t connection, uint64_t position,
                          const unsigned char *data, size_t data_len)
{
    const unsigned char *expected = pattern_at(pattern, connection, position);
    size_t count = 0;

    if (memcmp(data, expected, data_len) == 0)
        return 0;
    for (size_t i = 0; i < data_len; i++)
        count += data[i] != expected[i];
    return count;
}
