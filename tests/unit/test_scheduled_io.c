/* SPDX-License-Identifier: MIT */
/*
 * The atomic transitions of an entry and its two waiting places, called directly: what they report
 * to their caller, and what they do when the entry changed between a look and the lock. That gap
 * is made exact by changing the word first and calling the locked half by itself.
 */
#include "tests/support/entry.h"

#include <pthread.h>
#include <unistd.h>

#include "tests/support/stress.h"

#define SETS_COUNT STRESS_ROUNDS(1000000, 100000)

static const struct rdy_waker waker_of_nobody;

/* S1: whatever the slot held before, a fresh entry is ready for nothing and nobody waits. */
static void fresh_entry_is_ready_for_nothing(void **state)
{
    struct entry entry;

    (void)state;
    entry_open(&entry);

    assert_int_equal(entry_word(&entry), 0);
    assert_true(rdy_list_is_empty(&entry.io.waitq.waiters));
    assert_null(entry.io.waitq.slot[RDY_DIRECTION_READ].fn);
    assert_null(entry.io.waitq.slot[RDY_DIRECTION_WRITE].fn);
    assert_int_equal(rdy_scheduled_io_wake(&entry.io, RDY_READY_ALL), 0);
}

/* The caller decides by the word before: was it ended, was this flag new. */
static void set_and_assume_return_the_word_before(void **state)
{
    struct entry entry;
    uint64_t first;

    (void)state;
    entry_open(&entry);

    assert_int_equal(rdy_scheduled_io_set(&entry.io, RDY_READABLE), 0);
    first = entry_word(&entry);
    assert_int_equal(rdy_scheduled_io_assume(&entry.io, RDY_WRITABLE), first);
    assert_int_equal(entry_word(&entry), first | RDY_WRITABLE);
    rdy_scheduled_io_end(&entry.io, 0);
    assert_true(rdy_word_is_ended(rdy_scheduled_io_set(&entry.io, RDY_READABLE)));
}

/* S5: late is a clear that a newer event in its direction overtook, and no other. */
static void clear_tells_whether_it_came_too_late(void **state)
{
    struct entry entry;
    struct rdy_event seen;

    (void)state;
    entry_open(&entry);
    (void)rdy_scheduled_io_set(&entry.io, RDY_READABLE);
    seen = rdy_ready_event(&entry.reg, RDY_INTEREST_READ);
    (void)rdy_scheduled_io_set(&entry.io, RDY_WRITABLE);

    assert_true(rdy_scheduled_io_clear(&entry.io, seen));
    assert_int_equal(entry_ready(&entry), RDY_WRITABLE);
    assert_true(rdy_scheduled_io_clear(&entry.io, seen)); /* another task was first: not late */

    (void)rdy_scheduled_io_set(&entry.io, RDY_READABLE);
    assert_false(rdy_scheduled_io_clear(&entry.io, seen));
    assert_int_equal(entry_ready(&entry), RDY_WRITABLE | RDY_READABLE);
}

/* S31: "the driver has ended" unless the entry has a reason of its own; the first one counts. */
static void ended_entry_answers_its_first_error(void **state)
{
    struct entry entry;

    (void)state;
    entry_open(&entry);
    rdy_scheduled_io_end(&entry.io, -EPERM);
    rdy_scheduled_io_end(&entry.io, -ECANCELED);
    assert_int_equal(rdy_scheduled_io_error(&entry.io), -EPERM);

    entry_open(&entry);
    rdy_scheduled_io_end(&entry.io, 0);
    rdy_scheduled_io_end(&entry.io, -ECANCELED);
    assert_int_equal(rdy_scheduled_io_error(&entry.io), -ESHUTDOWN);
}

static void ending_keeps_flags_and_ticks(void **state)
{
    struct entry entry;
    uint64_t word;

    (void)state;
    entry_open(&entry);
    (void)rdy_scheduled_io_set(&entry.io, RDY_READABLE | RDY_WRITE_CLOSED);
    word = entry_word(&entry);

    rdy_scheduled_io_end(&entry.io, 0);

    assert_int_equal(entry_word(&entry), word | RDY_WORD_END);
}

/* S27: readiness that came between the look and the lock is an answer, not a lost wake. */
static void slot_wait_that_finds_readiness_under_the_lock_answers_it(void **state)
{
    struct entry entry;
    struct rdy_event event = {0};

    (void)state;
    entry_open(&entry);
    (void)rdy_scheduled_io_set(&entry.io, RDY_READ_CLOSED | RDY_WRITABLE);

    assert_int_equal(
        rdy_scheduled_io_wait_in_slot(&entry.io, RDY_DIRECTION_READ, &waker_of_nobody, &event), 0);

    assert_int_equal(rdy_event_ready(event), RDY_READ_CLOSED);
    assert_int_equal(event.word & ~RDY_WORD_READY, entry_word(&entry) & ~RDY_WORD_READY);
    assert_int_equal(
        rdy_scheduled_io_wait_in_slot(&entry.io, RDY_DIRECTION_WRITE, &waker_of_nobody, &event), 0);
    assert_int_equal(rdy_event_ready(event), RDY_WRITABLE);
}

/*
 * A caller that was told "ready" may free what its waker points to. If the slot had kept the waker,
 * the next event would run it.
 */
static void slot_wait_keeps_its_waker_only_when_it_answers_pending(void **state)
{
    struct record record = {0};
    struct entry entry;
    struct rdy_event event;
    struct rdy_waker first = record_waker(&record, 1);
    struct rdy_waker second = record_waker(&record, 2);

    (void)state;
    entry_open(&entry);
    slot_begin(&entry, RDY_DIRECTION_READ, first);
    (void)rdy_scheduled_io_set(&entry.io, RDY_READABLE);

    assert_int_equal(rdy_scheduled_io_wait_in_slot(&entry.io, RDY_DIRECTION_READ, &second, &event),
                     0);
    (void)rdy_scheduled_io_wake(&entry.io, RDY_READABLE);
    assert_int_equal(record.count, 1);
    assert_int_equal(record.data[0], 1);

    rdy_scheduled_io_end(&entry.io, 0);
    assert_int_equal(rdy_scheduled_io_wait_in_slot(&entry.io, RDY_DIRECTION_READ, &second, &event),
                     -ESHUTDOWN);
    (void)rdy_scheduled_io_wake(&entry.io, RDY_READY_ALL);
    assert_int_equal(record.count, 1);
}

/* An end that came in the gap is as good as readiness: nobody would wake this waiter again. */
static void slot_wait_that_finds_the_end_under_the_lock_answers_the_error(void **state)
{
    struct entry entry;
    struct rdy_event event;

    (void)state;
    entry_open(&entry);
    rdy_scheduled_io_end(&entry.io, -EPERM);

    assert_int_equal(
        rdy_scheduled_io_wait_in_slot(&entry.io, RDY_DIRECTION_WRITE, &waker_of_nobody, &event),
        -EPERM);
}

/* S13: neither an error nor urgent data is what a slot waits for. */
static void slot_wait_is_not_satisfied_by_error_or_priority(void **state)
{
    struct entry entry;
    struct rdy_event event;

    (void)state;
    entry_open(&entry);
    (void)rdy_scheduled_io_set(&entry.io, RDY_ERROR | RDY_PRIORITY);

    for (int direction = RDY_DIRECTION_READ; direction <= RDY_DIRECTION_WRITE; direction++)
        assert_int_equal(rdy_scheduled_io_wait_in_slot(&entry.io, (enum rdy_direction)direction,
                                                       &waker_of_nobody, &event),
                         RDY_PENDING);
}

/* S33: a waiter that linked itself after the wake went by would wait for ever. */
static void link_refuses_a_waiter_whose_readiness_came_before_the_lock(void **state)
{
    struct entry entry;
    struct rdy_readiness wait;

    (void)state;
    entry_open(&entry);
    rdy_readiness_init(&wait, &entry.reg, RDY_INTEREST_READ | RDY_INTEREST_ERROR);
    (void)rdy_scheduled_io_set(&entry.io, RDY_ERROR);

    assert_int_equal(rdy_scheduled_io_link(&entry.io, &wait), 1);
    assert_true(rdy_list_is_empty(&entry.io.waitq.waiters));

    entry_open(&entry);
    rdy_scheduled_io_end(&entry.io, 0);
    assert_int_equal(rdy_scheduled_io_link(&entry.io, &wait), 1);
    assert_true(rdy_list_is_empty(&entry.io.waitq.waiters));
}

/* Readiness in a direction that nobody here asked for is no reason not to wait. */
static void link_takes_a_waiter_that_other_flags_do_not_satisfy(void **state)
{
    struct entry entry;
    struct rdy_readiness wait;

    (void)state;
    entry_open(&entry);
    rdy_readiness_init(&wait, &entry.reg, RDY_INTEREST_READ);
    (void)rdy_scheduled_io_set(&entry.io, RDY_WRITABLE | RDY_ERROR | RDY_PRIORITY);

    assert_int_equal(rdy_scheduled_io_link(&entry.io, &wait), 0);
    assert_ptr_equal(entry.io.waitq.waiters.next, &wait.link);
    assert_true(rdy_scheduled_io_unlink(&entry.io, &wait));
    assert_true(rdy_list_is_empty(&entry.io.waitq.waiters));
}

/* S37: after the wake the wait is its owner's; neither call may touch it or the list. */
static void rewake_and_unlink_refuse_a_wait_that_was_woken(void **state)
{
    struct entry entry;
    struct record record = {0};
    struct rdy_readiness wait;
    struct rdy_waker other = record_waker(&record, 2);

    (void)state;
    entry_open(&entry);
    wait_begin(&wait, &entry, RDY_INTEREST_READ, record_waker(&record, 1));
    (void)entry_event(&entry, RDY_READABLE);

    assert_false(rdy_scheduled_io_rewake(&entry.io, &wait, &other));
    assert_false(rdy_scheduled_io_unlink(&entry.io, &wait));

    assert_int_equal(wait.waker.data, 1);
    assert_int_equal(record.count, 1);
}

/* A deregistration may come after a shutdown, which has no error of its own to leave. */
static void cancel_of_all_waits_answers_its_own_result(void **state)
{
    struct entry entry;
    struct rdy_event event;
    struct rdy_readiness wait;

    (void)state;
    entry_open(&entry);
    wait_begin(&wait, &entry, RDY_INTEREST_ERROR, NO_WAKER);

    rdy_scheduled_io_cancel_all(&entry.io, -ECANCELED);

    assert_int_equal(rdy_readiness_poll(&wait, &NO_WAKER, &event), -ECANCELED);
}

struct setter {
    pthread_t thread;
    struct entry *entry;
    struct rdy_a32 *started; /* setters that have started: they begin together */
    uint32_t ready;
    bool is_second;
};

static void *set_many(void *arg)
{
    struct setter *setter = arg;

    stress_pin(setter->is_second);
    (void)rdy_a32_add_seq_cst(setter->started, 1);
    while (rdy_a32_load_acquire(setter->started) < 2)
        rdy_sys_cpu_relax();
    for (int i = 0; i < SETS_COUNT; i++)
        (void)rdy_scheduled_io_set(&setter->entry->io, setter->ready);
    return NULL;
}

/* S2: two events at once are two ticks and both flags, or a clear would find one too few. */
static void concurrent_sets_lose_neither_flag_nor_tick(void **state)
{
    struct entry entry;
    struct rdy_a32 started = {0};
    struct setter setter[2] = {{.ready = RDY_READABLE | RDY_WRITABLE},
                               {.ready = RDY_PRIORITY, .is_second = true}};
    uint64_t word;

    (void)state;
    entry_open(&entry);
    for (int i = 0; i < 2; i++) {
        setter[i].entry = &entry;
        setter[i].started = &started;
        assert_int_equal(pthread_create(&setter[i].thread, NULL, set_many, &setter[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(setter[i].thread, NULL), 0);

    word = entry_word(&entry);
    assert_int_equal((word & RDY_WORD_READ_TICK) >> 16, 2 * SETS_COUNT);
    assert_int_equal((word & RDY_WORD_WRITE_TICK) >> 39, SETS_COUNT);
    assert_int_equal(word & RDY_WORD_READY, RDY_READABLE | RDY_WRITABLE | RDY_PRIORITY);
}

static int arm_watchdog(void **state)
{
    (void)state;
    (void)alarm(60); /* a lock taken twice is a failure, not a hang */
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_entry_is_ready_for_nothing),
        cmocka_unit_test(set_and_assume_return_the_word_before),
        cmocka_unit_test(clear_tells_whether_it_came_too_late),
        cmocka_unit_test(ended_entry_answers_its_first_error),
        cmocka_unit_test(ending_keeps_flags_and_ticks),
        cmocka_unit_test(slot_wait_that_finds_readiness_under_the_lock_answers_it),
        cmocka_unit_test(slot_wait_keeps_its_waker_only_when_it_answers_pending),
        cmocka_unit_test(slot_wait_that_finds_the_end_under_the_lock_answers_the_error),
        cmocka_unit_test(slot_wait_is_not_satisfied_by_error_or_priority),
        cmocka_unit_test(link_refuses_a_waiter_whose_readiness_came_before_the_lock),
        cmocka_unit_test(link_takes_a_waiter_that_other_flags_do_not_satisfy),
        cmocka_unit_test(rewake_and_unlink_refuse_a_wait_that_was_woken),
        cmocka_unit_test(cancel_of_all_waits_answers_its_own_result),
        cmocka_unit_test(concurrent_sets_lose_neither_flag_nor_tick),
    };

    return cmocka_run_group_tests(tests, arm_watchdog, NULL);
}
