/* SPDX-License-Identifier: MIT */
/*
 * Poll bits to readiness: the kernel's truth table (S58) for each kind of file, and the mappings
 * that others shipped, each as a naive_ function that shows its failure. Pure functions.
 */
#include "engine/translate.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BOTH_DIRECTIONS (RDY_READABLE | RDY_WRITABLE)
#define BOTH_CLOSED     (RDY_READ_CLOSED | RDY_WRITE_CLOSED)
#define IN              RDY_EV_IN
#define OUT             RDY_EV_OUT
#define PRI             RDY_EV_PRI
#define ERR             RDY_EV_ERR
#define HUP             RDY_EV_HUP
#define RDHUP           RDY_EV_RDHUP

static_assert(IN == POLLIN && OUT == POLLOUT && PRI == POLLPRI, "the seam's bits are poll(2)'s");
static_assert(ERR == POLLERR && HUP == POLLHUP && RDHUP == POLLRDHUP, "all of them");

static const enum rdy_file_kind kinds[] = {RDY_FILE_STREAM, RDY_FILE_DATAGRAM, RDY_FILE_FIFO,
                                           RDY_FILE_DEVICE, RDY_FILE_OTHER};

#define KINDS_COUNT (sizeof(kinds) / sizeof(kinds[0]))

/* The mapping that is shipped elsewhere: one for all kinds of file, closed flags by guess (S57). */
static uint32_t naive_translate(uint32_t events)
{
    uint32_t ready = 0;

    if (events & (IN | PRI))
        ready |= RDY_READABLE;
    if (events & OUT)
        ready |= RDY_WRITABLE;
    if ((events & HUP) || ((events & IN) && (events & RDHUP)))
        ready |= RDY_READ_CLOSED;
    if ((events & HUP) || ((events & OUT) && (events & ERR)) || events == ERR)
        ready |= RDY_WRITE_CLOSED;
    if (events & ERR)
        ready |= RDY_ERROR;
    return ready;
}

struct row {
    uint32_t events;
    uint32_t ready;
};

static void check_rows(enum rdy_file_kind kind, const struct row *rows, size_t rows_count)
{
    for (size_t i = 0; i < rows_count; i++) {
        if (rdy_translate(kind, rows[i].events) != rows[i].ready)
            print_error("kind %d, events 0x%x\n", kind, rows[i].events);
        assert_int_equal(rdy_translate(kind, rows[i].events), rows[i].ready);
    }
}

/* What the kernel was seen to report over the life of a TCP or Unix connection. */
static void stream_events_become_the_readiness_of_the_table(void **state)
{
    static const struct row rows[] = {
        {OUT, RDY_WRITABLE},                                           /* fresh */
        {IN | OUT, BOTH_DIRECTIONS},                                   /* data */
        {IN | OUT | RDHUP, BOTH_DIRECTIONS | RDY_READ_CLOSED},         /* peer sent FIN */
        {IN | OUT | RDHUP | HUP, BOTH_DIRECTIONS | BOTH_CLOSED},       /* and so did we */
        {IN | OUT | ERR | HUP | RDHUP, RDY_READY_ALL & ~RDY_PRIORITY}, /* reset */
        {OUT | ERR | HUP | RDHUP, RDY_READY_ALL & ~RDY_PRIORITY},      /* reset, writer only */
        {IN | PRI | OUT, BOTH_DIRECTIONS | RDY_PRIORITY},              /* urgent data */
        {OUT | HUP, BOTH_DIRECTIONS},                                  /* not connected */
        {ERR, BOTH_DIRECTIONS | RDY_ERROR},                            /* an error alone */
        {0, 0},
    };

    (void)state;
    check_rows(RDY_FILE_STREAM, rows, sizeof(rows) / sizeof(rows[0]));
}

static void pipe_events_become_the_readiness_of_the_table(void **state)
{
    static const struct row rows[] = {
        {IN, RDY_READABLE},
        {OUT, RDY_WRITABLE},
        {IN | HUP, RDY_READABLE | RDY_READ_CLOSED},                  /* writer gone, data left */
        {HUP, RDY_READ_CLOSED},                                      /* writer gone, empty */
        {OUT | ERR, BOTH_DIRECTIONS | RDY_WRITE_CLOSED | RDY_ERROR}, /* reader gone */
        {ERR, BOTH_DIRECTIONS | RDY_WRITE_CLOSED | RDY_ERROR},       /* reader gone, pipe full */
    };

    (void)state;
    check_rows(RDY_FILE_FIFO, rows, sizeof(rows) / sizeof(rows[0]));
}

/*
 * S59: a TCP socket before connect(2) reports OUT|HUP. Taken for "closed", it is final: the socket
 * reads as ended for ever once it is connected (wasmtime #7895).
 */
static void unconnected_stream_is_worth_trying_and_not_closed(void **state)
{
    (void)state;

    assert_int_equal(naive_translate(OUT | HUP) & BOTH_CLOSED, BOTH_CLOSED);
    assert_int_equal(rdy_translate(RDY_FILE_STREAM, OUT | HUP), BOTH_DIRECTIONS);
}

/*
 * S59: an ICMP error on UDP is OUT|ERR, the next send works. Taken for "write closed", writable()
 * is true for ever and a full send buffer spins.
 */
static void datagram_error_is_not_a_sticky_write_closed(void **state)
{
    (void)state;

    assert_int_equal(naive_translate(OUT | ERR) & RDY_WRITE_CLOSED, RDY_WRITE_CLOSED);
    assert_int_equal(naive_translate(ERR) & RDY_WRITE_CLOSED, RDY_WRITE_CLOSED);
    assert_int_equal(rdy_translate(RDY_FILE_DATAGRAM, OUT | ERR), BOTH_DIRECTIONS | RDY_ERROR);
    assert_int_equal(rdy_translate(RDY_FILE_DATAGRAM, ERR), BOTH_DIRECTIONS | RDY_ERROR);
}

/* S22: recv(2) fetches the error; a reader that a bare ERR does not wake hangs (tokio #8000). */
static void bare_error_makes_both_directions_worth_trying_on_every_kind(void **state)
{
    (void)state;

    assert_false(rdy_ready_is_readable(naive_translate(ERR)));
    for (size_t i = 0; i < KINDS_COUNT; i++) {
        uint32_t ready = rdy_translate(kinds[i], ERR);

        assert_int_equal(ready & (BOTH_DIRECTIONS | RDY_ERROR), BOTH_DIRECTIONS | RDY_ERROR);
    }
}

/* S60: a half-closed peer still reads; a writer told "closed" gives it up (mio #933). */
static void peer_that_shut_its_write_half_leaves_ours_open(void **state)
{
    (void)state;

    assert_int_equal(rdy_translate(RDY_FILE_STREAM, RDHUP), RDY_READ_CLOSED);
    assert_int_equal(rdy_translate(RDY_FILE_STREAM, OUT | RDHUP), RDY_WRITABLE | RDY_READ_CLOSED);
}

/* A pipe's reader that misses the hang-up, or its writer the error alone, waits for ever. */
static void pipe_end_is_final_in_the_direction_that_ended(void **state)
{
    (void)state;

    assert_int_equal(rdy_translate(RDY_FILE_FIFO, HUP) & BOTH_CLOSED, RDY_READ_CLOSED);
    assert_int_equal(rdy_translate(RDY_FILE_FIFO, ERR) & BOTH_CLOSED, RDY_WRITE_CLOSED);
}

/* Terminals hang up and come back: no bit may say for ever what holds for now. */
static void no_closed_flag_is_invented_for_datagrams_devices_and_others(void **state)
{
    static const enum rdy_file_kind never[] = {RDY_FILE_DATAGRAM, RDY_FILE_DEVICE, RDY_FILE_OTHER};

    (void)state;
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        for (uint32_t bits = 0; bits < 64; bits++) {
            uint32_t events = (bits & 31) | (bits & 32 ? RDHUP : 0);

            assert_int_equal(rdy_translate(never[i], events) & BOTH_CLOSED, 0);
        }
    }
}

/* Every bit of the kernel's makes something worth trying: an event that wakes nobody is a hang. */
static void no_event_is_swallowed(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS_COUNT; i++) {
        for (uint32_t bits = 1; bits < 64; bits++) {
            uint32_t events = (bits & 31) | (bits & 32 ? RDHUP : 0);
            uint32_t ready = rdy_translate(kinds[i], events);
            bool is_told = rdy_ready_is_readable(ready) || rdy_ready_is_writable(ready);

            if (kinds[i] == RDY_FILE_FIFO && events == RDHUP)
                continue; /* a pipe has no such event */
            assert_true(is_told);
            assert_int_equal(ready & ~RDY_READY_ALL, 0);
        }
    }
}

/* Data is data, whatever carries it; urgent data also makes a read worth trying (S57). */
static void plain_data_events_mean_the_same_on_every_kind(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS_COUNT; i++) {
        assert_int_equal(rdy_translate(kinds[i], IN), RDY_READABLE);
        assert_int_equal(rdy_translate(kinds[i], OUT), RDY_WRITABLE);
        assert_int_equal(rdy_translate(kinds[i], IN | OUT), BOTH_DIRECTIONS);
        assert_int_equal(rdy_translate(kinds[i], PRI), RDY_READABLE | RDY_PRIORITY);
    }
}

/* Error-only asks for nothing: ERR comes unasked, and asking for data would wake it for data. */
static void interest_becomes_the_poll_bits_that_serve_it(void **state)
{
    (void)state;

    assert_int_equal(rdy_events_of_interest(RDY_INTEREST_READ), IN | RDHUP);
    assert_int_equal(rdy_events_of_interest(RDY_INTEREST_WRITE), OUT);
    assert_int_equal(rdy_events_of_interest(RDY_INTEREST_PRIORITY), PRI);
    assert_int_equal(rdy_events_of_interest(RDY_INTEREST_ERROR), 0);
    assert_int_equal(rdy_events_of_interest(RDY_INTEREST_CLOSED), RDHUP);
    for (uint32_t interest = 0; interest <= RDY_INTEREST_ALL; interest++) {
        uint32_t sum = 0;

        for (uint32_t part = 1; part <= RDY_INTEREST_ALL; part <<= 1)
            sum |= interest & part ? rdy_events_of_interest(part) : 0;
        assert_int_equal(rdy_events_of_interest(interest), sum);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_events_become_the_readiness_of_the_table),
        cmocka_unit_test(pipe_events_become_the_readiness_of_the_table),
        cmocka_unit_test(unconnected_stream_is_worth_trying_and_not_closed),
        cmocka_unit_test(datagram_error_is_not_a_sticky_write_closed),
        cmocka_unit_test(bare_error_makes_both_directions_worth_trying_on_every_kind),
        cmocka_unit_test(peer_that_shut_its_write_half_leaves_ours_open),
        cmocka_unit_test(pipe_end_is_final_in_the_direction_that_ended),
        cmocka_unit_test(no_closed_flag_is_invented_for_datagrams_devices_and_others),
        cmocka_unit_test(no_event_is_swallowed),
        cmocka_unit_test(plain_data_events_mean_the_same_on_every_kind),
        cmocka_unit_test(interest_becomes_the_poll_bits_that_serve_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
