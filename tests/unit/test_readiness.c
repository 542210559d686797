/* SPDX-License-Identifier: MIT */
/*
 * The cancellable wait (S32 to S39), state by state: Init, Waiting, woken but not polled, Done; and
 * in each of them readiness, an end, a cancel. One thread; events are delivered by hand.
 */
#include "tests/support/entry.h"

#include <unistd.h>

struct scene {
    struct entry entry;
    struct record record;
    struct rdy_readiness wait;
    struct rdy_event event;
};

static struct scene scene;

static int scene_open(void **state)
{
    (void)state;
    memset(&scene, 0, sizeof(scene));
    entry_open(&scene.entry);
    (void)alarm(60); /* a lock taken twice is a failure, not a hang */
    return 0;
}

static int poll_with(uint64_t data)
{
    struct rdy_waker waker = record_waker(&scene.record, data);

    return rdy_readiness_poll(&scene.wait, &waker, &scene.event);
}

static void begin(uint32_t interest)
{
    rdy_readiness_init(&scene.wait, &scene.entry.reg, interest);
}

static bool nobody_waits(void)
{
    return rdy_list_is_empty(&scene.entry.io.waitq.waiters);
}

/* S32: the common case costs one load. The lock is held here, so taking it would never return. */
static void first_poll_of_a_ready_entry_is_done_without_the_lock(void **state)
{
    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE | RDY_WRITABLE);
    begin(RDY_INTEREST_READ);

    rdy_a32_store_relaxed(&scene.entry.io.waitq.lock.state, 1);
    assert_int_equal(poll_with(1), 0);
    rdy_a32_store_relaxed(&scene.entry.io.waitq.lock.state, 0);

    assert_int_equal(rdy_event_ready(scene.event), RDY_READABLE);
    assert_true(nobody_waits());
    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 0);
}

static void first_poll_of_an_idle_entry_waits(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);

    assert_int_equal(poll_with(1), RDY_PENDING);
    assert_int_equal(poll_with(1), RDY_PENDING);

    assert_int_equal(scene.record.count, 0);
    assert_ptr_equal(scene.entry.io.waitq.waiters.next, &scene.wait.link);
    assert_ptr_equal(scene.entry.io.waitq.waiters.prev, &scene.wait.link);
}

static void woken_wait_is_done_at_its_next_poll(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);

    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 1);

    assert_int_equal(poll_with(1), 0);
    assert_int_equal(rdy_event_ready(scene.event), RDY_READABLE);
    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 0);
    assert_int_equal(entry_spurious_wakes(&scene.entry), 0);
}

/* S20: an event that nobody waits for is kept for whoever comes next. */
static void event_before_the_wait_is_not_lost(void **state)
{
    (void)state;
    assert_int_equal(entry_event(&scene.entry, RDY_WRITABLE), 0);
    begin(RDY_INTEREST_WRITE);

    assert_int_equal(poll_with(1), 0);
    assert_int_equal(rdy_event_ready(scene.event), RDY_WRITABLE);
}

/* S34: a task that moved polls with another waker; the old one points to where it was. */
static void poll_with_another_waker_replaces_the_first(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);
    assert_int_equal(poll_with(2), RDY_PENDING);

    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 1);

    assert_int_equal(scene.record.count, 1);
    assert_int_equal(scene.record.data[0], 2);
}

/* A new waker does not send its owner to the end of the queue. */
static void replaced_waker_keeps_its_place_in_the_queue(void **state)
{
    struct rdy_readiness second;

    (void)state;
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);
    wait_begin(&second, &scene.entry, RDY_INTEREST_READ, record_waker(&scene.record, 2));
    assert_int_equal(poll_with(3), RDY_PENDING);

    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 2);

    assert_int_equal(scene.record.data[0], 3);
    assert_int_equal(scene.record.data[1], 2);
}

/* S35: a clear with the tick of the wake would be refused if another event came before the poll. */
static void event_carries_the_tick_of_the_poll_and_not_of_the_wake(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);
    (void)entry_event(&scene.entry, RDY_READABLE);
    (void)entry_event(&scene.entry, RDY_READABLE | RDY_READ_CLOSED);

    assert_int_equal(poll_with(1), 0);
    assert_int_equal(rdy_event_ready(scene.event), RDY_READABLE | RDY_READ_CLOSED);
    rdy_clear_readiness(&scene.entry.reg, scene.event);

    assert_int_equal(entry_ready(&scene.entry), RDY_READ_CLOSED);
    assert_int_equal(entry_stale_clears(&scene.entry), 0);
}

/* S35: somebody else took the data first. Legal, counted, and the caller waits again. */
static void wake_whose_readiness_was_cleared_gives_an_empty_event_and_is_counted(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);
    (void)entry_event(&scene.entry, RDY_READABLE | RDY_WRITABLE);
    rdy_clear_readiness(&scene.entry.reg, rdy_ready_event(&scene.entry.reg, RDY_INTEREST_READ));

    assert_int_equal(poll_with(1), 0);

    assert_int_equal(rdy_event_ready(scene.event), 0);
    assert_int_equal(entry_spurious_wakes(&scene.entry), 1);
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);
    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 1);
}

/* S36: flags of others in the event would let this task's clear take them (tokio #2886). */
static void event_holds_only_flags_of_its_interest_that_are_really_set(void **state)
{
    (void)state;
    (void)entry_event(&scene.entry, RDY_READY_ALL & ~RDY_READ_CLOSED);
    begin(RDY_INTEREST_READ);

    assert_int_equal(poll_with(1), 0);
    assert_int_equal(rdy_event_ready(scene.event), RDY_READABLE);
    rdy_clear_readiness(&scene.entry.reg, scene.event);

    assert_int_equal(entry_ready(&scene.entry), RDY_READY_ALL & ~(RDY_READ_CLOSED | RDY_READABLE));
}

/* S12: every interest waits for the union of its parts, and for nothing else. */
static void each_interest_is_woken_by_its_flags_and_by_no_other(void **state)
{
    (void)state;
    for (uint32_t interest = 1; interest <= RDY_INTEREST_ALL; interest++) {
        for (uint32_t flag = 1; flag <= RDY_READY_ALL; flag <<= 1) {
            bool is_due = (rdy_interest_mask(interest) & flag) != 0;

            entry_open(&scene.entry);
            begin(interest);
            assert_int_equal(poll_with(1), RDY_PENDING);

            assert_int_equal(entry_event(&scene.entry, flag), is_due);

            scene.record.count = 0;
            assert_int_equal(poll_with(1), is_due ? 0 : RDY_PENDING);
            assert_int_equal(rdy_readiness_cancel(&scene.wait), true);
        }
    }
}

/* S39: nothing would ever wake it, so it must not begin to wait. */
static void wait_begun_after_the_shutdown_fails_at_once(void **state)
{
    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);
    (void)entry_shut_down(&scene.entry);
    begin(RDY_INTEREST_READ);

    assert_int_equal(poll_with(1), -ESHUTDOWN);
    assert_true(nobody_waits());
}

static void shutdown_wakes_a_wait_which_then_fails(void **state)
{
    (void)state;
    begin(RDY_INTEREST_PRIORITY);
    assert_int_equal(poll_with(1), RDY_PENDING);

    assert_int_equal(entry_shut_down(&scene.entry), 1);

    assert_int_equal(poll_with(1), -ESHUTDOWN);
    assert_int_equal(entry_spurious_wakes(&scene.entry), 0);
}

/* The kernel refused the file after the registration had returned: its waiters learn the reason. */
static void wait_on_a_refused_file_answers_the_kernels_errno(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);
    rdy_scheduled_io_end(&scene.entry.io, -EPERM);
    (void)rdy_scheduled_io_wake(&scene.entry.io, RDY_READY_ALL);

    assert_int_equal(poll_with(1), -EPERM);
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), -EPERM);
}

/* After a deregistration the slot may be another's, so nothing of it may be read. */
static void wait_of_a_deregistered_entry_is_cancelled_without_a_look_at_it(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);
    entry_deregister(&scene.entry);
    scene.wait.io = NULL; /* a look at the entry would end the test */

    assert_int_equal(scene.record.count, 1);
    assert_int_equal(poll_with(1), -ECANCELED);
}

static void cancel_after_a_deregistration_does_not_touch_the_entry(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);
    entry_deregister(&scene.entry);
    scene.wait.io = NULL; /* a look at the entry would end the test */

    assert_false(rdy_readiness_cancel(&scene.wait));
}

/* S37: dropped before it was polled. */
static void cancel_in_init_is_quiet(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);

    assert_true(rdy_readiness_cancel(&scene.wait));
    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 0);
}

/* S37: dropped while it waits; its memory may go, and its neighbours stay. */
static void cancel_while_waiting_unlinks_and_keeps_the_neighbours(void **state)
{
    struct rdy_readiness before;
    struct rdy_readiness after;

    (void)state;
    wait_begin(&before, &scene.entry, RDY_INTEREST_READ, record_waker(&scene.record, 1));
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(2), RDY_PENDING);
    wait_begin(&after, &scene.entry, RDY_INTEREST_READ, record_waker(&scene.record, 3));

    assert_true(rdy_readiness_cancel(&scene.wait));
    memset(&scene.wait, 0xff, sizeof(scene.wait));

    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 2);
    assert_int_equal(scene.record.data[0], 1);
    assert_int_equal(scene.record.data[1], 3);
}

/* S37: woken, not polled, dropped: the flags stay for the next task, so nothing is lost. */
static void cancel_after_the_wake_says_so_and_loses_no_readiness(void **state)
{
    (void)state;
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), RDY_PENDING);
    (void)entry_event(&scene.entry, RDY_READABLE);

    assert_false(rdy_readiness_cancel(&scene.wait));

    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(2), 0);
    assert_int_equal(rdy_event_ready(scene.event), RDY_READABLE);
}

static void cancel_after_done_and_cancel_twice_are_quiet(void **state)
{
    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);
    begin(RDY_INTEREST_READ);
    assert_int_equal(poll_with(1), 0);
    assert_true(rdy_readiness_cancel(&scene.wait));

    begin(RDY_INTEREST_WRITE);
    assert_int_equal(poll_with(1), RDY_PENDING);
    assert_true(rdy_readiness_cancel(&scene.wait));
    assert_true(rdy_readiness_cancel(&scene.wait));
    assert_true(nobody_waits());
}

/* S38: readiness is a hint to all who asked, not a ticket for one of them. */
static void ten_waits_for_one_event_all_complete(void **state)
{
    struct rdy_readiness wait[10];

    (void)state;
    for (uint64_t i = 0; i < 10; i++)
        wait_begin(&wait[i], &scene.entry, RDY_INTEREST_READ, record_waker(&scene.record, i));

    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 10);

    for (int i = 0; i < 10; i++) {
        assert_int_equal(rdy_readiness_poll(&wait[i], &NO_WAKER, &scene.event), 0);
        assert_int_equal(rdy_event_ready(scene.event), RDY_READABLE);
    }
}

#define SCENE_TEST(test) cmocka_unit_test_setup(test, scene_open)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(first_poll_of_a_ready_entry_is_done_without_the_lock),
        SCENE_TEST(first_poll_of_an_idle_entry_waits),
        SCENE_TEST(woken_wait_is_done_at_its_next_poll),
        SCENE_TEST(event_before_the_wait_is_not_lost),
        SCENE_TEST(poll_with_another_waker_replaces_the_first),
        SCENE_TEST(replaced_waker_keeps_its_place_in_the_queue),
        SCENE_TEST(event_carries_the_tick_of_the_poll_and_not_of_the_wake),
        SCENE_TEST(wake_whose_readiness_was_cleared_gives_an_empty_event_and_is_counted),
        SCENE_TEST(event_holds_only_flags_of_its_interest_that_are_really_set),
        SCENE_TEST(each_interest_is_woken_by_its_flags_and_by_no_other),
        SCENE_TEST(wait_begun_after_the_shutdown_fails_at_once),
        SCENE_TEST(shutdown_wakes_a_wait_which_then_fails),
        SCENE_TEST(wait_on_a_refused_file_answers_the_kernels_errno),
        SCENE_TEST(wait_of_a_deregistered_entry_is_cancelled_without_a_look_at_it),
        SCENE_TEST(cancel_after_a_deregistration_does_not_touch_the_entry),
        SCENE_TEST(cancel_in_init_is_quiet),
        SCENE_TEST(cancel_while_waiting_unlinks_and_keeps_the_neighbours),
        SCENE_TEST(cancel_after_the_wake_says_so_and_loses_no_readiness),
        SCENE_TEST(cancel_after_done_and_cancel_twice_are_quiet),
        SCENE_TEST(ten_waits_for_one_event_all_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
