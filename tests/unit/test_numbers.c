/* SPDX-License-Identifier: MIT */
/* What a person may type for a number, a size and a duration, and what not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "apps/numbers.h"

static void counts_have_decimal_units(void **state)
{
    uint64_t value = 0;

    (void)state;
    assert_int_equal(parse_count("0", &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(parse_count("20k", &value), 0);
    assert_int_equal(value, 20000);
    assert_int_equal(parse_count("3M", &value), 0);
    assert_int_equal(value, 3000000);
    assert_int_equal(parse_count("18446744073709551615", &value), 0);
    assert_true(value == UINT64_MAX);
}

static void sizes_have_binary_units(void **state)
{
    uint64_t bytes = 0;

    (void)state;
    assert_int_equal(parse_size("64k", &bytes), 0);
    assert_int_equal(bytes, 65536);
    assert_int_equal(parse_size("1M", &bytes), 0);
    assert_int_equal(bytes, 1048576);
}

static void numbers_that_do_not_fit_are_out_of_range(void **state)
{
    uint64_t value = 0;

    (void)state;
    assert_int_equal(parse_count("18446744073709551616", &value), -ERANGE);
    assert_int_equal(parse_count("18446744073709551615k", &value), -ERANGE);
    assert_int_equal(parse_size("18014398509481984k", &value), -ERANGE);
    assert_int_equal(parse_duration("18446744074s", &value), -ERANGE);
}

static void anything_but_digits_and_a_unit_is_refused(void **state)
{
    static const char *const texts[] = {"", " 1", "1 ", "-1", "+1", "1.5", "0x1", "k", "1kk", "1g"};
    uint64_t value = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(parse_count(texts[i], &value), -EINVAL);
        assert_int_equal(parse_size(texts[i], &value), -EINVAL);
    }
}

static void durations_take_a_unit_and_a_fraction(void **state)
{
    uint64_t duration_ns = 0;

    (void)state;
    assert_int_equal(parse_duration("2", &duration_ns), 0);
    assert_int_equal(duration_ns, 2000000000);
    assert_int_equal(parse_duration("0.5s", &duration_ns), 0);
    assert_int_equal(duration_ns, 500000000);
    assert_int_equal(parse_duration("1.25ms", &duration_ns), 0);
    assert_int_equal(duration_ns, 1250000);
    assert_int_equal(parse_duration("1.5m", &duration_ns), 0);
    assert_int_equal(duration_ns, 90000000000);
    assert_int_equal(parse_duration("0.0000000019", &duration_ns), 0);
    assert_int_equal(duration_ns, 1);
    assert_int_equal(parse_duration("1.", &duration_ns), -EINVAL);
    assert_int_equal(parse_duration(".5", &duration_ns), -EINVAL);
    assert_int_equal(parse_duration("50.5us", &duration_ns), 0);
    assert_int_equal(duration_ns, 50500);
    assert_int_equal(parse_duration("1ns", &duration_ns), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_have_decimal_units),
        cmocka_unit_test(sizes_have_binary_units),
        cmocka_unit_test(numbers_that_do_not_fit_are_out_of_range),
        cmocka_unit_test(anything_but_digits_and_a_unit_is_refused),
        cmocka_unit_test(durations_take_a_unit_and_a_fraction),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
