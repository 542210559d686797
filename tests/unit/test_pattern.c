/* SPDX-License-Identifier: MIT */
/* The pattern of apps/pattern.h: known bytes, different wherever they could be mixed up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "apps/pattern.h"

static struct pattern pattern;

static int fill(void **state)
{
    (void)state;
    pattern_fill(&pattern);
    return 0;
}

static void the_right_bytes_have_no_mismatch_at_any_position(void **state)
{
    (void)state;
    for (uint64_t position = 0; position < 3ull * PATTERN_PERIOD; position += 997) {
        const unsigned char *data = pattern_at(&pattern, 5, position);

        assert_int_equal(pattern_mismatches(&pattern, 5, position, data, PATTERN_CHUNK), 0);
    }
}

static void windows_join_without_a_seam(void **state)
{
    unsigned char joined[64];
    uint64_t position = PATTERN_PERIOD - 32;

    (void)state;
    memcpy(joined, pattern_at(&pattern, 0, position), 32);
    memcpy(joined + 32, pattern_at(&pattern, 0, position + 32), 32);

    assert_int_equal(pattern_mismatches(&pattern, 0, position, joined, 64), 0);
}

static void one_wrong_byte_is_one_mismatch(void **state)
{
    unsigned char data[1024];

    (void)state;
    memcpy(data, pattern_at(&pattern, 1, 77), sizeof(data));
    data[1023] ^= 0x80;

    assert_int_equal(pattern_mismatches(&pattern, 1, 77, data, sizeof(data)), 1);
}

/* The same message of any two of 10,000 connections differs: a reply to the wrong one is seen. */
static void no_two_connections_send_the_same_message(void **state)
{
    const unsigned char *first = pattern_at(&pattern, 0, 640);

    (void)state;
    for (uint64_t connection = 1; connection < 10000; connection++)
        assert_true(pattern_mismatches(&pattern, connection, 640, first, 64) > 32);
}

/* A lost or doubled message shifts the stream by its size. */
static void a_shift_by_a_usual_message_size_is_seen(void **state)
{
    static const uint64_t sizes[] = {1, 64, 1024, 16384, 65536, 1048576};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const unsigned char *shifted = pattern_at(&pattern, 3, sizes[i]);

        assert_true(pattern_mismatches(&pattern, 3, 0, shifted, 1024) > 512);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_bytes_have_no_mismatch_at_any_position),
        cmocka_unit_test(windows_join_without_a_seam),
        cmocka_unit_test(one_wrong_byte_is_one_mismatch),
        cmocka_unit_test(no_two_connections_send_the_same_message),
        cmocka_unit_test(a_shift_by_a_usual_message_size_is_seen),
    };

    return cmocka_run_group_tests(tests, fill, NULL);
}
