/* SPDX-License-Identifier: MIT */
/* The histogram of apps/histogram.h: exact where it promises to be, under 1 % off elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "apps/histogram.h"

static struct histogram *histogram_new(void)
{
    struct histogram *histogram = calloc(1, sizeof(*histogram));

    assert_non_null(histogram);
    return histogram;
}

static void an_empty_histogram_answers_zero(void **state)
{
    struct histogram *histogram = histogram_new();

    (void)state;
    assert_int_equal(histogram_percentile(histogram, 50), 0);
    assert_int_equal(histogram_percentile(histogram, 100), 0);
    free(histogram);
}

static void small_values_are_exact(void **state)
{
    struct histogram *histogram = histogram_new();

    (void)state;
    for (uint64_t value = 1; value <= 100; value++)
        histogram_record(histogram, value);

    assert_int_equal(histogram_percentile(histogram, 1), 1);
    assert_int_equal(histogram_percentile(histogram, 50), 50);
    assert_int_equal(histogram_percentile(histogram, 99), 99);
    assert_int_equal(histogram_percentile(histogram, 99.9), 100);
    assert_int_equal(histogram_percentile(histogram, 100), 100);
    free(histogram);
}

/* Two values, so that the smaller one's answer is its bucket's end and not the maximum. */
static void every_power_of_two_and_its_neighbours_are_under_one_percent_off(void **state)
{
    (void)state;
    for (uint32_t bit = 0; bit < HISTOGRAM_TOP_BITS - 1; bit++) {
        for (int64_t off = -1; off <= 1; off++) {
            struct histogram *histogram = histogram_new();
            uint64_t value = (UINT64_C(1) << bit) + (uint64_t)off;
            uint64_t answer;

            histogram_record(histogram, value);
            histogram_record(histogram, UINT64_MAX);
            answer = histogram_percentile(histogram, 50);
            assert_true(answer >= value);
            assert_true((answer - value) * 100 <= value);
            free(histogram);
        }
    }
}

static void no_percentile_exceeds_the_largest_value(void **state)
{
    struct histogram *histogram = histogram_new();

    (void)state;
    histogram_record(histogram, 1000001);

    assert_int_equal(histogram_percentile(histogram, 50), 1000001);
    assert_int_equal(histogram->max, 1000001);
    free(histogram);
}

static void values_beyond_the_top_are_clipped_to_it(void **state)
{
    struct histogram *histogram = histogram_new();

    (void)state;
    histogram_record(histogram, UINT64_MAX);

    assert_int_equal(histogram_percentile(histogram, 50), (UINT64_C(1) << HISTOGRAM_TOP_BITS) - 1);
    free(histogram);
}

static void a_merge_is_the_recording_of_both(void **state)
{
    struct histogram *apart[2] = {histogram_new(), histogram_new()};
    struct histogram *together = histogram_new();

    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        histogram_record(apart[i % 2], i * i);
        histogram_record(together, i * i);
    }

    histogram_merge(apart[0], apart[1]);

    assert_memory_equal(apart[0], together, sizeof(*together));
    free(apart[0]);
    free(apart[1]);
    free(together);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_histogram_answers_zero),
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(every_power_of_two_and_its_neighbours_are_under_one_percent_off),
        cmocka_unit_test(no_percentile_exceeds_the_largest_value),
        cmocka_unit_test(values_beyond_the_top_are_clipped_to_it),
        cmocka_unit_test(a_merge_is_the_recording_of_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
