/* SPDX-License-Identifier: MIT */
/*
 * The transitions of the readiness word, against the rules S1 to S15 and against the versions that
 * others shipped. Each of those stands here as a naive_ function, and its test asserts twice: the
 * naive version shows the failure, ours does not. One thread; no entry, no kernel.
 */
#include "engine/word.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define READ_TICK_ONE   UINT64_C(0x0000000000010000)
#define WRITE_TICK_ONE  UINT64_C(0x0000008000000000)
#define TICK_BITS       23
#define FLAG_SETS       64
#define RANDOM_ROUNDS   200
#define ALL_BUT_READY   (~RDY_WORD_READY)
#define BOTH_TICKS      (RDY_WORD_READ_TICK | RDY_WORD_WRITE_TICK)
#define BOTH_DIRECTIONS (RDY_READABLE | RDY_WRITABLE)

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct rdy_event whole_event(uint64_t word)
{
    return rdy_word_event(word, RDY_READY_ALL);
}

static uint64_t set_times(uint64_t word, uint32_t ready, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++)
        word = rdy_word_set(word, ready);
    return word;
}

/*
 * The word as it was shipped elsewhere: one 15-bit tick for both directions, of which an event
 * remembers eight bits, and a clear that builds the word anew from flags and tick.
 */
#define NAIVE_TICK UINT64_C(0x000000007fff0000)
#define NAIVE_END  UINT64_C(0x0000000080000000)

struct naive_event {
    uint8_t tick;
    uint32_t ready;
};

static uint64_t naive_tick(uint64_t word)
{
    return (word & NAIVE_TICK) >> 16;
}

static uint64_t naive_set(uint64_t word, uint32_t ready)
{
    uint64_t tick = (naive_tick(word) + 1) & 0x7fff;

    return (word & ~NAIVE_TICK) | tick << 16 | ready;
}

static struct naive_event naive_see(uint64_t word)
{
    return (struct naive_event){(uint8_t)naive_tick(word), (uint32_t)(word & RDY_READY_ALL)};
}

static uint64_t naive_clear(uint64_t word, struct naive_event seen)
{
    if ((uint8_t)naive_tick(word) != seen.tick)
        return word;
    return (word & RDY_READY_ALL & ~(uint64_t)(seen.ready & ~RDY_FINAL)) | (uint64_t)seen.tick
                                                                               << 16;
}

/* The same with the tick compared whole, at its 15 bits. */
static uint64_t narrow_clear(uint64_t word, uint64_t seen)
{
    if (naive_tick(word) != naive_tick(seen))
        return word;
    return word & ~(seen & RDY_READY_ALL & ~(uint64_t)RDY_FINAL);
}

/* Another way of telling begins; a clear still on its way must find the ticks as they are. */
static void forget_drops_all_flags_and_nothing_else(void **state)
{
    uint64_t ticks = 5 * WRITE_TICK_ONE | 9 * READ_TICK_ONE;

    (void)state;

    assert_int_equal(rdy_word_forget(ticks | RDY_READY_ALL), ticks);
    assert_int_equal(rdy_word_forget(ticks | RDY_READY_ALL | RDY_WORD_END), ticks | RDY_WORD_END);
}

/* S2: an event adds, it takes nothing away, and only the side that it touches gets a new tick. */
static void set_adds_flags_and_moves_only_the_tick_of_its_side(void **state)
{
    uint64_t word = RDY_WRITABLE | 5 * WRITE_TICK_ONE | 9 * READ_TICK_ONE;

    (void)state;

    assert_int_equal(rdy_word_set(word, RDY_READABLE), (word | RDY_READABLE) + READ_TICK_ONE);
    assert_int_equal(rdy_word_set(word, RDY_WRITE_CLOSED),
                     (word | RDY_WRITE_CLOSED) + WRITE_TICK_ONE);
    assert_int_equal(rdy_word_set(word, BOTH_DIRECTIONS),
                     (word | RDY_READABLE) + READ_TICK_ONE + WRITE_TICK_ONE);
    assert_int_equal(rdy_word_set(word, 0), word);
}

/* An error is fetched by a read, urgent data too: a clear of theirs goes by the read tick. */
static void priority_and_error_are_stamped_by_the_read_tick(void **state)
{
    (void)state;

    assert_int_equal(rdy_word_set(0, RDY_PRIORITY), RDY_PRIORITY | READ_TICK_ONE);
    assert_int_equal(rdy_word_set(0, RDY_ERROR), RDY_ERROR | READ_TICK_ONE);
    assert_int_equal(rdy_word_set(0, RDY_READ_CLOSED), RDY_READ_CLOSED | READ_TICK_ONE);
    assert_int_equal(rdy_word_set(0, RDY_WRITABLE), RDY_WRITABLE | WRITE_TICK_ONE);
}

/* S3: the carry of a full tick must not run into its neighbour or into the end mark. */
static void tick_that_is_full_wraps_to_zero_and_touches_no_neighbour(void **state)
{
    uint64_t word = BOTH_TICKS;

    (void)state;

    assert_int_equal(rdy_word_set(word, RDY_READABLE), RDY_READABLE | RDY_WORD_WRITE_TICK);
    assert_int_equal(rdy_word_set(word, RDY_WRITABLE), RDY_WRITABLE | RDY_WORD_READ_TICK);
    assert_int_equal(rdy_word_set(word, BOTH_DIRECTIONS), BOTH_DIRECTIONS);
}

/* S4: the ordinary case, without which the rest is worth nothing. */
static void clear_with_the_current_event_drops_its_flags_and_keeps_the_ticks(void **state)
{
    uint64_t word = rdy_word_set(rdy_word_set(0, RDY_READABLE | RDY_PRIORITY), RDY_WRITABLE);

    (void)state;

    assert_int_equal(rdy_word_clear(word, whole_event(word)), word & ALL_BUT_READY);
    assert_int_equal(rdy_word_clear(word, rdy_word_event(word, RDY_READABLE)),
                     word & ~(uint64_t)RDY_READABLE);
}

/* S5: the newer event may be about data that the operation did not see. */
static void clear_that_is_one_event_late_leaves_the_word_bit_identical(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_READABLE);
    struct rdy_event seen = whole_event(word);

    (void)state;
    word = rdy_word_set(word, RDY_READABLE);

    assert_int_equal(rdy_word_clear(word, seen), word);
    assert_true(rdy_word_is_newer(word, seen));
}

/*
 * S6: a task saw "readable", the driver then reported a write, and only now does the task's clear
 * arrive. With one tick for both directions the clear is refused and the task spins on EAGAIN for
 * ever; that was a real livelock elsewhere (tokio #8054).
 */
static void write_event_does_not_void_a_read_clear(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_READABLE);
    uint64_t naive = naive_set(0, RDY_READABLE);
    struct rdy_event seen = rdy_word_event(word, RDY_READABLE);
    struct naive_event naive_seen = naive_see(naive);

    (void)state;
    word = rdy_word_set(word, RDY_WRITABLE);
    naive = naive_set(naive, RDY_WRITABLE);

    assert_int_equal(naive_clear(naive, naive_seen) & RDY_READABLE, RDY_READABLE);
    assert_int_equal(rdy_word_clear(word, seen) & RDY_READY_ALL, RDY_WRITABLE);
    assert_false(rdy_word_is_newer(word, seen));
}

static void read_event_does_not_void_a_write_clear(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_WRITABLE);
    struct rdy_event seen = rdy_word_event(word, RDY_WRITABLE);

    (void)state;
    word = rdy_word_set(word, RDY_READABLE);

    assert_int_equal(rdy_word_clear(word, seen) & RDY_READY_ALL, RDY_READABLE);
    assert_false(rdy_word_is_newer(word, seen));
}

/* Of an event of both directions, each goes by its own tick. */
static void clear_that_is_late_in_one_direction_still_clears_the_other(void **state)
{
    uint64_t word = rdy_word_set(0, BOTH_DIRECTIONS);
    struct rdy_event seen = whole_event(word);

    (void)state;
    word = rdy_word_set(word, RDY_READABLE);

    assert_int_equal(rdy_word_clear(word, seen) & RDY_READY_ALL, RDY_READABLE);
    assert_true(rdy_word_is_newer(word, seen));
}

/* S7: one lap of an 8-bit tick, at which a truncated compare loses an edge (tokio #6133, #8331). */
static void clear_that_is_256_events_late_changes_nothing(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_READABLE);
    uint64_t naive = naive_set(0, RDY_READABLE);
    struct rdy_event seen = whole_event(word);
    struct naive_event naive_seen = naive_see(naive);

    (void)state;
    word = set_times(word, RDY_READABLE, 256);
    for (int i = 0; i < 256; i++)
        naive = naive_set(naive, RDY_READABLE);

    assert_int_equal(naive_clear(naive, naive_seen) & RDY_READABLE, 0);
    assert_int_equal(rdy_word_clear(word, seen), word);
    assert_true(rdy_word_is_newer(word, seen));
}

/* S7 again: one lap of the 15-bit tick that the 8-bit one was replaced by. */
static void clear_that_is_32768_events_late_changes_nothing(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_READABLE);
    uint64_t narrow = naive_set(0, RDY_READABLE);
    struct rdy_event seen = whole_event(word);
    uint64_t narrow_seen = narrow;

    (void)state;
    word = set_times(word, RDY_READABLE, 32768);
    for (int i = 0; i < 32768; i++)
        narrow = naive_set(narrow, RDY_READABLE);

    assert_int_equal(narrow_clear(narrow, narrow_seen) & RDY_READABLE, 0);
    assert_int_equal(rdy_word_clear(word, seen), word);
}

/* Every width at which somebody could have cut the tick, in both directions. */
static void clear_that_is_any_power_of_two_late_changes_nothing(void **state)
{
    (void)state;
    for (int bits = 0; bits < TICK_BITS; bits++) {
        uint64_t read = RDY_READABLE | READ_TICK_ONE << bits;
        uint64_t write = RDY_WRITABLE | WRITE_TICK_ONE << bits;

        assert_int_equal(rdy_word_clear(read, (struct rdy_event){RDY_READABLE}), read);
        assert_int_equal(rdy_word_clear(write, (struct rdy_event){RDY_WRITABLE}), write);
        assert_true(rdy_word_is_newer(read, (struct rdy_event){RDY_READABLE}));
        assert_true(rdy_word_is_newer(write, (struct rdy_event){RDY_WRITABLE}));
    }
}

/*
 * The limit of our own 23 bits, stated rather than hidden: a clear that is exactly 2^23 events of
 * its direction late is taken for a current one; one event less or more, and it is not.
 */
static void clear_is_mistaken_only_when_exactly_2_to_the_23_events_late(void **state)
{
    const uint32_t lap = UINT32_C(1) << TICK_BITS;
    uint64_t word = rdy_word_set(0, RDY_READABLE);
    struct rdy_event seen = whole_event(word);

    (void)state;
    word = set_times(word, RDY_READABLE, lap - 1);
    assert_int_equal(rdy_word_clear(word, seen), word);

    word = rdy_word_set(word, RDY_READABLE);
    assert_int_equal(rdy_word_clear(word, seen), word & ALL_BUT_READY);

    word = rdy_word_set(word, RDY_READABLE);
    assert_int_equal(rdy_word_clear(word, seen), word);
}

/* S8: a tick of 300 that is stored from eight bits comes back as 44, and old clears count again. */
static void clear_never_winds_a_tick_back(void **state)
{
    uint64_t word = set_times(0, RDY_READABLE, 300);
    uint64_t naive = 0;

    (void)state;
    for (int i = 0; i < 300; i++)
        naive = naive_set(naive, RDY_READABLE);

    naive = naive_clear(naive, naive_see(naive));
    word = rdy_word_clear(word, whole_event(word));

    assert_int_equal(naive_tick(naive), 44);
    assert_int_equal((word & RDY_WORD_READ_TICK) / READ_TICK_ONE, 300);
}

/* S9: a clear that builds the word anew forgets the shutdown, and the next wait hangs. */
static void clear_keeps_an_end_that_came_after_its_event(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_READABLE);
    uint64_t naive = naive_set(0, RDY_READABLE);
    struct rdy_event seen = whole_event(word);
    struct naive_event naive_seen = naive_see(naive);

    (void)state;
    word = rdy_word_end(word);
    naive |= NAIVE_END;

    assert_int_equal(naive_clear(naive, naive_seen) & NAIVE_END, 0);
    assert_true(rdy_word_is_ended(rdy_word_clear(word, seen)));
    assert_int_equal(rdy_word_clear(word, seen) & RDY_READY_ALL, 0);
}

/* S10: end of file stays; a reader that cleared it would wait for ever on a dead connection. */
static void closed_flags_survive_the_clear_that_names_them(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_READY_ALL);

    (void)state;
    word = rdy_word_clear(word, whole_event(word));

    assert_int_equal(word & RDY_READY_ALL, RDY_READ_CLOSED | RDY_WRITE_CLOSED);
    assert_true(rdy_ready_is_readable((uint32_t)(word & RDY_READY_ALL)));
    assert_true(rdy_ready_is_writable((uint32_t)(word & RDY_READY_ALL)));
}

/* A clear takes what its event saw, not what its direction has. */
static void clear_keeps_flags_that_its_event_did_not_see(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_READABLE | RDY_PRIORITY | RDY_ERROR);

    (void)state;

    assert_int_equal(rdy_word_clear(word, rdy_word_event(word, RDY_PRIORITY)) & RDY_READY_ALL,
                     RDY_READABLE | RDY_ERROR);
}

/* S14: a guess is no event: the EAGAIN that refutes it must be able to clear it. */
static void assume_adds_flags_without_a_tick(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_PRIORITY);
    struct rdy_event seen = whole_event(word);
    uint64_t guess = rdy_word_assume(word, BOTH_DIRECTIONS);

    (void)state;

    assert_int_equal(guess, word | BOTH_DIRECTIONS);
    assert_int_equal(rdy_word_clear(guess, seen) & RDY_READY_ALL, BOTH_DIRECTIONS);
    assert_int_equal(rdy_word_clear(guess, whole_event(guess)) & RDY_READY_ALL, 0);
}

/* S15: a fact may arrive after the shutdown; it is dropped, it does not abort and does not show. */
static void set_and_assume_after_the_end_change_nothing(void **state)
{
    uint64_t word = rdy_word_end(rdy_word_set(0, RDY_WRITABLE));

    (void)state;

    assert_int_equal(rdy_word_set(word, RDY_READABLE), word);
    assert_int_equal(rdy_word_assume(word, RDY_READABLE), word);
    assert_int_equal(rdy_word_end(word), word);
}

/*
 * S36: an event with more flags than its waiter asked for lets the waiter's clear eat the other
 * direction, whose task then hangs (tokio #2886).
 */
static void event_holds_only_the_flags_of_its_mask(void **state)
{
    uint64_t word = rdy_word_set(0, RDY_READY_ALL);
    struct rdy_event naive = {.word = word};
    struct rdy_event event = rdy_word_event(word, rdy_interest_mask(RDY_INTEREST_READ));

    (void)state;

    assert_int_equal(rdy_word_clear(word, naive) & RDY_WRITABLE, 0);
    assert_int_equal(rdy_event_ready(event), RDY_READABLE | RDY_READ_CLOSED);
    assert_int_equal(event.word & ALL_BUT_READY, word & ALL_BUT_READY);
    assert_int_equal(rdy_word_clear(word, event) & RDY_WRITABLE, RDY_WRITABLE);
}

static void event_of_an_ended_word_says_so(void **state)
{
    (void)state;

    assert_true(rdy_event_is_shutdown(rdy_word_event(rdy_word_end(0), RDY_READABLE)));
    assert_false(rdy_event_is_shutdown(rdy_word_event(RDY_WORD_ZERO - 1, RDY_READABLE)));
}

/* An event without a flag refutes nothing: no direction of it can be late. */
static void event_without_flags_is_never_late(void **state)
{
    (void)state;

    assert_false(rdy_word_is_newer(BOTH_TICKS, (struct rdy_event){0}));
}

static void check_set(uint64_t word, uint32_t ready)
{
    uint64_t next = rdy_word_set(word, ready);
    uint64_t may = ready;

    if (rdy_word_is_ended(word)) {
        assert_int_equal(next, word);
        return;
    }
    if (ready & RDY_READ_SIDE) {
        may |= RDY_WORD_READ_TICK;
        assert_int_equal(((next & RDY_WORD_READ_TICK) - (word & RDY_WORD_READ_TICK)) &
                             RDY_WORD_READ_TICK,
                         READ_TICK_ONE);
    }
    if (ready & RDY_WRITE_SIDE) {
        may |= RDY_WORD_WRITE_TICK;
        assert_int_equal(((next & RDY_WORD_WRITE_TICK) - (word & RDY_WORD_WRITE_TICK)) &
                             RDY_WORD_WRITE_TICK,
                         WRITE_TICK_ONE);
    }
    assert_int_equal((word ^ next) & ~may, 0);
    assert_int_equal(next & ready, ready);
}

static void check_clear(uint64_t word, struct rdy_event seen)
{
    uint64_t next = rdy_word_clear(word, seen);
    bool is_read_late = ((word ^ seen.word) & RDY_WORD_READ_TICK) != 0;
    bool is_write_late = ((word ^ seen.word) & RDY_WORD_WRITE_TICK) != 0;
    uint64_t drop = seen.word & RDY_READY_ALL & ~(uint64_t)RDY_FINAL;

    if (is_read_late)
        drop &= ~(uint64_t)RDY_READ_SIDE;
    if (is_write_late)
        drop &= ~(uint64_t)RDY_WRITE_SIDE;
    assert_int_equal(next, word & ~drop);
    assert_int_equal(rdy_word_is_newer(word, seen),
                     (is_read_late && (seen.word & RDY_READ_SIDE)) ||
                         (is_write_late && (seen.word & RDY_WRITE_SIDE)));
}

static void check_others(uint64_t word, uint32_t flags)
{
    uint64_t assumed = rdy_word_assume(word, flags);

    assert_int_equal(assumed, rdy_word_is_ended(word) ? word : word | flags);
    assert_int_equal(rdy_word_end(word), word | RDY_WORD_END);
    assert_int_equal(rdy_word_event(word, flags).word, (word & ALL_BUT_READY) | (word & flags));
}

/* The tick of an event: the word's own, one before it in either direction, or any. */
static uint64_t event_ticks(uint64_t word, uint64_t random, int round)
{
    uint64_t ticks = round % 4 == 3 ? random : word;

    if (round % 4 == 1)
        ticks = rdy_word_bump(ticks, RDY_WORD_READ_TICK);
    if (round % 4 == 2)
        ticks = rdy_word_bump(ticks, RDY_WORD_WRITE_TICK);
    return ticks & BOTH_TICKS;
}

/* The one rule behind all of the above, over every pair of flag sets and over random ticks. */
static void every_transition_touches_only_the_bits_that_it_names(void **state)
{
    uint64_t random = UINT64_C(0x9e3779b97f4a7c15);

    (void)state;
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        for (uint32_t flags = 0; flags < FLAG_SETS; flags++) {
            uint64_t word = (random_next(&random) & (BOTH_TICKS | RDY_WORD_END)) | flags;

            for (uint32_t other = 0; other < FLAG_SETS; other++) {
                uint64_t ticks = event_ticks(word, random_next(&random), round);

                check_set(word, other);
                check_clear(word, (struct rdy_event){ticks | other});
                check_others(word, other);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forget_drops_all_flags_and_nothing_else),
        cmocka_unit_test(set_adds_flags_and_moves_only_the_tick_of_its_side),
        cmocka_unit_test(priority_and_error_are_stamped_by_the_read_tick),
        cmocka_unit_test(tick_that_is_full_wraps_to_zero_and_touches_no_neighbour),
        cmocka_unit_test(clear_with_the_current_event_drops_its_flags_and_keeps_the_ticks),
        cmocka_unit_test(clear_that_is_one_event_late_leaves_the_word_bit_identical),
        cmocka_unit_test(write_event_does_not_void_a_read_clear),
        cmocka_unit_test(read_event_does_not_void_a_write_clear),
        cmocka_unit_test(clear_that_is_late_in_one_direction_still_clears_the_other),
        cmocka_unit_test(clear_that_is_256_events_late_changes_nothing),
        cmocka_unit_test(clear_that_is_32768_events_late_changes_nothing),
        cmocka_unit_test(clear_that_is_any_power_of_two_late_changes_nothing),
        cmocka_unit_test(clear_is_mistaken_only_when_exactly_2_to_the_23_events_late),
        cmocka_unit_test(clear_never_winds_a_tick_back),
        cmocka_unit_test(clear_keeps_an_end_that_came_after_its_event),
        cmocka_unit_test(closed_flags_survive_the_clear_that_names_them),
        cmocka_unit_test(clear_keeps_flags_that_its_event_did_not_see),
        cmocka_unit_test(assume_adds_flags_without_a_tick),
        cmocka_unit_test(set_and_assume_after_the_end_change_nothing),
        cmocka_unit_test(event_holds_only_the_flags_of_its_mask),
        cmocka_unit_test(event_of_an_ended_word_says_so),
        cmocka_unit_test(event_without_flags_is_never_late),
        cmocka_unit_test(every_transition_touches_only_the_bits_that_it_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
