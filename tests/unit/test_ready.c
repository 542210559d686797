/* SPDX-License-Identifier: MIT */
/*
 * Flags, interests and their text: what satisfies whom (S11 to S13), and that a combined interest
 * is the union of its parts. Pure functions.
 */
#include <rdy/ready.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The mask as it is shipped elsewhere: a switch, in which a combination meets the default. */
static uint32_t naive_interest_mask(uint32_t interest)
{
    switch (interest) {
    case RDY_INTEREST_READ:
        return RDY_READABLE | RDY_READ_CLOSED;
    case RDY_INTEREST_WRITE:
        return RDY_WRITABLE | RDY_WRITE_CLOSED;
    case RDY_INTEREST_PRIORITY:
        return RDY_PRIORITY | RDY_READ_CLOSED;
    case RDY_INTEREST_ERROR:
        return RDY_ERROR;
    case RDY_INTEREST_CLOSED:
        return RDY_READ_CLOSED;
    default:
        return 0;
    }
}

/* S12: with the switch, try_io(READ|WRITE) never runs (tokio #5214, #8082). */
static void combined_interest_is_the_union_of_its_parts(void **state)
{
    (void)state;

    assert_int_equal(naive_interest_mask(RDY_INTEREST_READ | RDY_INTEREST_WRITE), 0);
    for (uint32_t interest = 0; interest <= RDY_INTEREST_ALL; interest++) {
        uint32_t sum = 0;

        for (uint32_t part = 1; part <= RDY_INTEREST_ALL; part <<= 1)
            sum |= naive_interest_mask(interest & part);
        assert_int_equal(rdy_interest_mask(interest), sum);
    }
}

/* Data and end of file satisfy a read, room and a broken pipe a write; nothing else does. */
static void direction_is_satisfied_by_its_data_and_its_end_only(void **state)
{
    (void)state;
    for (uint32_t ready = 0; ready <= RDY_READY_ALL; ready++) {
        bool has_read = (ready & RDY_READABLE) || (ready & RDY_READ_CLOSED);
        bool has_write = (ready & RDY_WRITABLE) || (ready & RDY_WRITE_CLOSED);

        assert_int_equal(rdy_ready_is_readable(ready), has_read);
        assert_int_equal(rdy_ready_is_writable(ready), has_write);
    }
}

static void event_gives_its_flags_and_its_end_apart(void **state)
{
    struct rdy_event event = {.word = UINT64_MAX >> 1};

    (void)state;

    assert_int_equal(rdy_event_ready(event), 0xffff);
    assert_false(rdy_event_is_shutdown(event));
    event.word = UINT64_C(1) << 63 | RDY_WRITABLE;
    assert_int_equal(rdy_event_ready(event), RDY_WRITABLE);
    assert_true(rdy_event_is_shutdown(event));
}

/* Other programs' logs and wire formats have these values: they may not move. */
static void flags_have_the_values_of_the_field(void **state)
{
    (void)state;

    assert_int_equal(RDY_READABLE, 1);
    assert_int_equal(RDY_WRITABLE, 2);
    assert_int_equal(RDY_READ_CLOSED, 4);
    assert_int_equal(RDY_WRITE_CLOSED, 8);
    assert_int_equal(RDY_PRIORITY, 16);
    assert_int_equal(RDY_ERROR, 32);
    assert_int_equal(RDY_READY_ALL, 63);
}

static void format_names_each_flag_in_order(void **state)
{
    char text[80];

    (void)state;

    assert_string_equal(rdy_ready_format(0, text, sizeof(text)), "none");
    assert_string_equal(rdy_ready_format(RDY_WRITABLE, text, sizeof(text)), "writable");
    assert_string_equal(rdy_ready_format(RDY_READABLE | RDY_ERROR, text, sizeof(text)),
                        "readable|error");
    assert_string_equal(rdy_ready_format(RDY_READY_ALL, text, sizeof(text)),
                        "readable|writable|read_closed|write_closed|priority|error");
}

/* A flag of a later version must show up in a log rather than vanish. */
static void format_prints_unknown_bits_in_hex(void **state)
{
    char text[80];

    (void)state;

    assert_string_equal(rdy_ready_format(0x40, text, sizeof(text)), "0x40");
    assert_string_equal(rdy_ready_format(0x100u | RDY_READABLE, text, sizeof(text)),
                        "readable|0x100");
    assert_string_equal(rdy_ready_format(UINT32_MAX, text, sizeof(text)),
                        "readable|writable|read_closed|write_closed|priority|error|0xffffffc0");
}

static void format_cuts_to_the_buffer_and_terminates(void **state)
{
    char text[80];
    char whole[80];

    (void)state;
    (void)rdy_ready_format(UINT32_MAX, whole, sizeof(whole));
    for (size_t len = 1; len < sizeof(text); len++) {
        memset(text, 'x', sizeof(text));

        assert_ptr_equal(rdy_ready_format(UINT32_MAX, text, len), text);

        assert_true(strlen(text) < len);
        assert_memory_equal(text, whole, strlen(text));
        for (size_t i = len; i < sizeof(text); i++)
            assert_int_equal(text[i], 'x');
    }
}

static void format_writes_nothing_into_a_buffer_of_no_bytes(void **state)
{
    char byte = 'x';

    (void)state;

    assert_ptr_equal(rdy_ready_format(RDY_READABLE, &byte, 0), &byte);
    assert_int_equal(byte, 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(combined_interest_is_the_union_of_its_parts),
        cmocka_unit_test(direction_is_satisfied_by_its_data_and_its_end_only),
        cmocka_unit_test(event_gives_its_flags_and_its_end_apart),
        cmocka_unit_test(flags_have_the_values_of_the_field),
        cmocka_unit_test(format_names_each_flag_in_order),
        cmocka_unit_test(format_prints_unknown_bits_in_hex),
        cmocka_unit_test(format_cuts_to_the_buffer_and_terminates),
        cmocka_unit_test(format_writes_nothing_into_a_buffer_of_no_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
