/* SPDX-License-Identifier: MIT */
/*
 * Polling a direction and running operations against cached readiness (S26 to S31, S40 to S43).
 * The operation is a function of the test's own, so a new event can be delivered at the worst
 * moment: inside the operation, before it says EAGAIN.
 */
#include "tests/support/entry.h"

#include <unistd.h>

#define TRIES_MAX 8

struct scene {
    struct entry entry;
    struct record record;
    struct rdy_readiness wait;
    struct rdy_event event;
};

/* What the operation answers, call after call (the last one for ever), and what it sets first. */
struct operation {
    const ssize_t *answers;
    uint32_t answers_count;
    uint32_t calls;
    uint32_t set_in_call; /* 1 is the first; 0 never */
    uint32_t set_ready;
    int fd;
};

static struct scene scene;

static int scene_open(void **state)
{
    (void)state;
    memset(&scene, 0, sizeof(scene));
    entry_open(&scene.entry);
    (void)alarm(60); /* a call that never stops trying is a failure, not a hang */
    return 0;
}

static ssize_t operate(int fd, void *arg)
{
    struct operation *operation = arg;
    uint32_t call = operation->calls++;

    operation->fd = fd;
    if (operation->calls == operation->set_in_call)
        (void)entry_event(&scene.entry, operation->set_ready);
    if (call >= operation->answers_count)
        call = operation->answers_count - 1;
    return operation->answers[call];
}

static const ssize_t always_again[] = {-EAGAIN};
static const ssize_t five[] = {5};

static int poll_slot(enum rdy_direction direction, uint64_t data)
{
    struct rdy_waker waker = record_waker(&scene.record, data);

    return rdy_poll_readiness(&scene.entry.reg, direction, &waker, &scene.event);
}

static ssize_t poll_io(enum rdy_direction direction, struct operation *operation)
{
    struct rdy_waker waker = record_waker(&scene.record, 1);

    return rdy_poll_io(&scene.entry.reg, direction, &waker, operate, operation);
}

static ssize_t async_io(struct operation *operation)
{
    struct rdy_waker waker = record_waker(&scene.record, 1);

    return rdy_async_io(&scene.wait, &waker, operate, operation);
}

/* S26: the common case costs one load. The lock is held here, so taking it would never return. */
static void poll_of_a_ready_direction_takes_no_lock_and_keeps_no_waker(void **state)
{
    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);

    rdy_a32_store_relaxed(&scene.entry.io.waitq.lock.state, 1);
    assert_int_equal(poll_slot(RDY_DIRECTION_READ, 1), 0);
    rdy_a32_store_relaxed(&scene.entry.io.waitq.lock.state, 0);

    assert_int_equal(rdy_event_ready(scene.event), RDY_READABLE);
    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 0);
}

static void poll_of_an_idle_direction_is_pending_until_its_event(void **state)
{
    (void)state;
    assert_int_equal(poll_slot(RDY_DIRECTION_WRITE, 1), RDY_PENDING);
    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 0);
    assert_int_equal(entry_event(&scene.entry, RDY_WRITABLE), 1);

    assert_int_equal(poll_slot(RDY_DIRECTION_WRITE, 1), 0);
    assert_int_equal(rdy_event_ready(scene.event), RDY_WRITABLE);
}

/* S28: one task for each direction; the one that polled last is it. */
static void second_task_in_a_direction_replaces_the_first_which_is_never_woken(void **state)
{
    (void)state;
    assert_int_equal(poll_slot(RDY_DIRECTION_READ, 1), RDY_PENDING);
    assert_int_equal(poll_slot(RDY_DIRECTION_READ, 2), RDY_PENDING);

    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 1);

    assert_int_equal(scene.record.data[0], 2);
    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 0);
}

/* S31: an ended entry with flags left is still ended: its data cannot be waited for again. */
static void poll_after_the_end_answers_the_error_even_with_flags_cached(void **state)
{
    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);
    (void)entry_shut_down(&scene.entry);
    assert_int_equal(poll_slot(RDY_DIRECTION_READ, 1), -ESHUTDOWN);
    assert_int_equal(poll_slot(RDY_DIRECTION_WRITE, 1), -ESHUTDOWN);

    entry_open(&scene.entry);
    rdy_scheduled_io_end(&scene.entry.io, -EPERM);
    assert_int_equal(poll_slot(RDY_DIRECTION_READ, 1), -EPERM);
}

static void ready_event_reports_the_interest_only(void **state)
{
    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE | RDY_WRITABLE | RDY_ERROR);

    assert_int_equal(rdy_event_ready(rdy_ready_event(&scene.entry.reg, RDY_INTEREST_WRITE)),
                     RDY_WRITABLE);
    assert_int_equal(rdy_event_ready(rdy_ready_event(&scene.entry.reg, RDY_INTEREST_PRIORITY)), 0);
}

/* S56: the EAGAIN of an operation that ran into the shutdown is cleared as any other. */
static void clear_after_the_end_is_harmless(void **state)
{
    struct rdy_event event;

    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);
    event = rdy_ready_event(&scene.entry.reg, RDY_INTEREST_READ);
    (void)entry_shut_down(&scene.entry);

    rdy_clear_readiness(&scene.entry.reg, event);

    assert_int_equal(poll_slot(RDY_DIRECTION_READ, 1), -ESHUTDOWN);
}

/* S14: a guess must wake those who wait for it, or they wait for an event that never comes. */
static void assumed_readiness_wakes_and_is_cleared_by_the_first_refusal(void **state)
{
    (void)state;
    assert_int_equal(poll_slot(RDY_DIRECTION_WRITE, 1), RDY_PENDING);

    rdy_assume_ready(&scene.entry.reg, RDY_WRITABLE);

    assert_int_equal(scene.record.count, 1);
    assert_int_equal(poll_slot(RDY_DIRECTION_WRITE, 1), 0);
    rdy_clear_readiness(&scene.entry.reg, scene.event);
    assert_int_equal(entry_word(&scene.entry), 0);
}

static void assumed_readiness_that_is_known_already_wakes_nobody(void **state)
{
    (void)state;
    (void)rdy_scheduled_io_set(&scene.entry.io, RDY_WRITABLE);
    scene.entry.io.waitq.slot[RDY_DIRECTION_WRITE] = record_waker(&scene.record, 1);

    rdy_assume_ready(&scene.entry.reg, RDY_WRITABLE);

    assert_int_equal(scene.record.count, 0);
}

static void assumed_readiness_after_the_end_changes_nothing(void **state)
{
    uint64_t word;

    (void)state;
    (void)entry_shut_down(&scene.entry);
    word = entry_word(&scene.entry);
    scene.entry.io.waitq.slot[RDY_DIRECTION_READ] = record_waker(&scene.record, 1);

    rdy_assume_ready(&scene.entry.reg, RDY_READABLE);

    assert_int_equal(entry_word(&scene.entry), word);
    assert_int_equal(scene.record.count, 0);
}

/* S40: without cached readiness a system call would only say what is known. */
static void try_io_without_cached_readiness_does_not_call_the_operation(void **state)
{
    struct operation operation = {.answers = five, .answers_count = 1};

    (void)state;
    (void)entry_event(&scene.entry, RDY_WRITABLE | RDY_ERROR);

    assert_int_equal(rdy_try_io(&scene.entry.reg, RDY_INTEREST_READ, operate, &operation), -EAGAIN);

    assert_int_equal(operation.calls, 0);
}

/* S41: only EAGAIN refutes readiness; any other answer leaves it for the next try. */
static void try_io_passes_the_answer_on_and_keeps_readiness(void **state)
{
    static const ssize_t answers[] = {5, 0, -ECONNRESET, RDY_PENDING};
    struct operation operation = {.answers = answers, .answers_count = 4};

    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(rdy_try_io(&scene.entry.reg, RDY_INTEREST_READ, operate, &operation),
                         answers[i]);

    assert_int_equal(operation.calls, 4);
    assert_int_equal(operation.fd, ENTRY_FD);
    assert_int_equal(entry_ready(&scene.entry), RDY_READABLE);
}

static void try_io_that_says_again_clears_what_its_interest_saw(void **state)
{
    struct operation operation = {.answers = always_again, .answers_count = 1};

    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE | RDY_WRITABLE);

    assert_int_equal(rdy_try_io(&scene.entry.reg, RDY_INTEREST_READ, operate, &operation), -EAGAIN);

    assert_int_equal(operation.calls, 1);
    assert_int_equal(entry_ready(&scene.entry), RDY_WRITABLE);
    assert_int_equal(entry_stale_clears(&scene.entry), 0);
}

/* S41: data that arrived between the refusal and the clear must not be cleared with it. */
static void try_io_keeps_an_event_that_came_while_the_operation_ran(void **state)
{
    struct operation operation = {
        .answers = always_again, .answers_count = 1, .set_in_call = 1, .set_ready = RDY_READABLE};

    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);

    assert_int_equal(rdy_try_io(&scene.entry.reg, RDY_INTEREST_READ, operate, &operation), -EAGAIN);

    assert_int_equal(entry_ready(&scene.entry), RDY_READABLE);
    assert_int_equal(entry_stale_clears(&scene.entry), 1);
}

/* S6 at the user's level: the other direction's event does not void the clear. */
static void try_io_clears_although_the_other_direction_got_an_event_meanwhile(void **state)
{
    struct operation operation = {
        .answers = always_again, .answers_count = 1, .set_in_call = 1, .set_ready = RDY_WRITABLE};

    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);

    assert_int_equal(rdy_try_io(&scene.entry.reg, RDY_INTEREST_READ, operate, &operation), -EAGAIN);

    assert_int_equal(entry_ready(&scene.entry), RDY_WRITABLE);
    assert_int_equal(entry_stale_clears(&scene.entry), 0);
}

/* S12: with an interest masked by a switch this never runs. */
static void try_io_of_a_combined_interest_runs_on_either_flag(void **state)
{
    static const uint32_t flags[] = {RDY_READABLE, RDY_WRITABLE, RDY_READ_CLOSED};
    const uint32_t both = RDY_INTEREST_READ | RDY_INTEREST_WRITE;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct operation operation = {.answers = five, .answers_count = 1};

        entry_open(&scene.entry);
        (void)entry_event(&scene.entry, flags[i]);
        assert_int_equal(rdy_try_io(&scene.entry.reg, both, operate, &operation), 5);
    }
}

/* S42: elsewhere the operation still runs after the shutdown as long as flags are left. */
static void try_io_after_the_end_does_not_call_the_operation(void **state)
{
    struct operation operation = {.answers = five, .answers_count = 1};

    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);
    (void)entry_shut_down(&scene.entry);
    assert_int_equal(rdy_try_io(&scene.entry.reg, RDY_INTEREST_READ, operate, &operation),
                     -ESHUTDOWN);

    entry_open(&scene.entry);
    rdy_scheduled_io_end(&scene.entry.io, -EPERM);
    assert_int_equal(rdy_try_io(&scene.entry.reg, RDY_INTEREST_READ, operate, &operation), -EPERM);
    assert_int_equal(operation.calls, 0);
}

static void poll_io_waits_in_its_slot_until_the_operation_has_an_answer(void **state)
{
    static const ssize_t answers[] = {-EAGAIN, 7};
    struct operation operation = {.answers = answers, .answers_count = 2};

    (void)state;
    assert_int_equal(poll_io(RDY_DIRECTION_READ, &operation), RDY_PENDING);
    assert_int_equal(operation.calls, 0);

    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 1);
    assert_int_equal(poll_io(RDY_DIRECTION_READ, &operation), RDY_PENDING);
    assert_int_equal(operation.calls, 1);
    assert_int_equal(entry_ready(&scene.entry), 0);

    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 1);
    assert_int_equal(poll_io(RDY_DIRECTION_READ, &operation), 7);
    assert_int_equal(entry_ready(&scene.entry), RDY_READABLE);
}

/* A newer event in between means "try again", not "wait": nobody would wake the waiter for it. */
static void poll_io_tries_again_when_an_event_came_while_the_operation_ran(void **state)
{
    static const ssize_t answers[] = {-EAGAIN, 7};
    struct operation operation = {
        .answers = answers, .answers_count = 2, .set_in_call = 1, .set_ready = RDY_READABLE};

    (void)state;
    (void)entry_event(&scene.entry, RDY_READABLE);

    assert_int_equal(poll_io(RDY_DIRECTION_READ, &operation), 7);

    assert_int_equal(operation.calls, 2);
    assert_int_equal(entry_stale_clears(&scene.entry), 1);
}

/* S43: a final flag on a file that answers EAGAIN would hold the thread for ever. */
static void poll_io_gives_up_after_bounded_tries_and_wakes_itself(void **state)
{
    struct operation operation = {.answers = always_again, .answers_count = 1};

    (void)state;
    (void)entry_event(&scene.entry, RDY_WRITE_CLOSED);

    assert_int_equal(poll_io(RDY_DIRECTION_WRITE, &operation), RDY_PENDING);

    assert_int_equal(operation.calls, TRIES_MAX);
    assert_int_equal(scene.record.count, 1);
    assert_int_equal(poll_io(RDY_DIRECTION_WRITE, &operation), RDY_PENDING);
    assert_int_equal(operation.calls, 2 * TRIES_MAX);
}

static void poll_io_after_the_end_does_not_call_the_operation(void **state)
{
    struct operation operation = {.answers = five, .answers_count = 1};

    (void)state;
    assert_int_equal(poll_io(RDY_DIRECTION_READ, &operation), RDY_PENDING);
    (void)entry_event(&scene.entry, RDY_READABLE);
    (void)entry_shut_down(&scene.entry);

    assert_int_equal(poll_io(RDY_DIRECTION_READ, &operation), -ESHUTDOWN);
    assert_int_equal(operation.calls, 0);
}

static void async_io_waits_until_the_operation_has_an_answer_and_can_be_used_again(void **state)
{
    static const ssize_t answers[] = {-EAGAIN, 7};
    struct operation operation = {.answers = answers, .answers_count = 2};

    (void)state;
    rdy_readiness_init(&scene.wait, &scene.entry.reg, RDY_INTEREST_READ | RDY_INTEREST_ERROR);
    assert_int_equal(async_io(&operation), RDY_PENDING);
    assert_int_equal(entry_event(&scene.entry, RDY_READABLE | RDY_ERROR), 1);
    assert_int_equal(async_io(&operation), RDY_PENDING);
    assert_int_equal(operation.calls, 1);
    assert_int_equal(entry_ready(&scene.entry), 0);

    assert_int_equal(entry_event(&scene.entry, RDY_ERROR), 1);
    assert_int_equal(async_io(&operation), 7);

    assert_int_equal(async_io(&operation), 7);
    assert_int_equal(operation.calls, 3);
    assert_int_equal(operation.fd, ENTRY_FD);
}

static void async_io_tries_again_when_an_event_came_while_the_operation_ran(void **state)
{
    static const ssize_t answers[] = {-EAGAIN, 7};
    struct operation operation = {
        .answers = answers, .answers_count = 2, .set_in_call = 1, .set_ready = RDY_WRITABLE};

    (void)state;
    (void)entry_event(&scene.entry, RDY_WRITABLE);
    rdy_readiness_init(&scene.wait, &scene.entry.reg, RDY_INTEREST_WRITE);

    assert_int_equal(async_io(&operation), 7);

    assert_int_equal(operation.calls, 2);
    assert_int_equal(entry_stale_clears(&scene.entry), 1);
}

/* S35: woken, but another task took the data: it waits again and does not run the operation. */
static void async_io_woken_for_nothing_waits_again(void **state)
{
    struct operation operation = {.answers = five, .answers_count = 1};

    (void)state;
    rdy_readiness_init(&scene.wait, &scene.entry.reg, RDY_INTEREST_READ);
    assert_int_equal(async_io(&operation), RDY_PENDING);
    (void)entry_event(&scene.entry, RDY_READABLE);
    rdy_clear_readiness(&scene.entry.reg, rdy_ready_event(&scene.entry.reg, RDY_INTEREST_READ));

    assert_int_equal(async_io(&operation), RDY_PENDING);

    assert_int_equal(operation.calls, 0);
    assert_int_equal(entry_spurious_wakes(&scene.entry), 1);
    assert_int_equal(entry_event(&scene.entry, RDY_READABLE), 1);
    assert_int_equal(async_io(&operation), 5);
}

static void async_io_gives_up_after_bounded_tries_and_wakes_itself(void **state)
{
    struct operation operation = {.answers = always_again, .answers_count = 1};

    (void)state;
    (void)entry_event(&scene.entry, RDY_READ_CLOSED);
    rdy_readiness_init(&scene.wait, &scene.entry.reg, RDY_INTEREST_READ);

    assert_int_equal(async_io(&operation), RDY_PENDING);

    assert_int_equal(operation.calls, TRIES_MAX);
    assert_int_equal(scene.record.count, 1);
    assert_true(rdy_list_is_empty(&scene.entry.io.waitq.waiters));
}

static void async_io_after_the_end_fails_without_calling_the_operation(void **state)
{
    struct operation operation = {.answers = five, .answers_count = 1};

    (void)state;
    rdy_readiness_init(&scene.wait, &scene.entry.reg, RDY_INTEREST_READ);
    assert_int_equal(async_io(&operation), RDY_PENDING);
    (void)entry_shut_down(&scene.entry);
    assert_int_equal(async_io(&operation), -ESHUTDOWN);
    assert_int_equal(async_io(&operation), -ESHUTDOWN);
    assert_int_equal(operation.calls, 0);
}

/* The slot may be another file's by now: neither its word nor its descriptor may be used. */
static void async_io_of_a_deregistered_entry_is_cancelled_without_a_look_at_it(void **state)
{
    struct operation operation = {.answers = five, .answers_count = 1};

    (void)state;
    rdy_readiness_init(&scene.wait, &scene.entry.reg, RDY_INTEREST_READ);
    assert_int_equal(async_io(&operation), RDY_PENDING);
    entry_deregister(&scene.entry);
    scene.wait.io = NULL; /* a look at the entry would end the test */

    assert_int_equal(async_io(&operation), -ECANCELED);
    assert_int_equal(operation.calls, 0);
}

#define SCENE_TEST(test) cmocka_unit_test_setup(test, scene_open)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(poll_of_a_ready_direction_takes_no_lock_and_keeps_no_waker),
        SCENE_TEST(poll_of_an_idle_direction_is_pending_until_its_event),
        SCENE_TEST(second_task_in_a_direction_replaces_the_first_which_is_never_woken),
        SCENE_TEST(poll_after_the_end_answers_the_error_even_with_flags_cached),
        SCENE_TEST(ready_event_reports_the_interest_only),
        SCENE_TEST(clear_after_the_end_is_harmless),
        SCENE_TEST(assumed_readiness_wakes_and_is_cleared_by_the_first_refusal),
        SCENE_TEST(assumed_readiness_that_is_known_already_wakes_nobody),
        SCENE_TEST(assumed_readiness_after_the_end_changes_nothing),
        SCENE_TEST(try_io_without_cached_readiness_does_not_call_the_operation),
        SCENE_TEST(try_io_passes_the_answer_on_and_keeps_readiness),
        SCENE_TEST(try_io_that_says_again_clears_what_its_interest_saw),
        SCENE_TEST(try_io_keeps_an_event_that_came_while_the_operation_ran),
        SCENE_TEST(try_io_clears_although_the_other_direction_got_an_event_meanwhile),
        SCENE_TEST(try_io_of_a_combined_interest_runs_on_either_flag),
        SCENE_TEST(try_io_after_the_end_does_not_call_the_operation),
        SCENE_TEST(poll_io_waits_in_its_slot_until_the_operation_has_an_answer),
        SCENE_TEST(poll_io_tries_again_when_an_event_came_while_the_operation_ran),
        SCENE_TEST(poll_io_gives_up_after_bounded_tries_and_wakes_itself),
        SCENE_TEST(poll_io_after_the_end_does_not_call_the_operation),
        SCENE_TEST(async_io_waits_until_the_operation_has_an_answer_and_can_be_used_again),
        SCENE_TEST(async_io_tries_again_when_an_event_came_while_the_operation_ran),
        SCENE_TEST(async_io_woken_for_nothing_waits_again),
        SCENE_TEST(async_io_gives_up_after_bounded_tries_and_wakes_itself),
        SCENE_TEST(async_io_after_the_end_fails_without_calling_the_operation),
        SCENE_TEST(async_io_of_a_deregistered_entry_is_cancelled_without_a_look_at_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
