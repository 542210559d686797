/* SPDX-License-Identifier: MIT */
/*
 * Waking (S16 to S25): who is woken, how often, in which order, and what a waker may do while the
 * wake goes on. Wakers are run by hand on one thread, so every interleaving here is exact: a waker
 * that takes the entry's lock would never return if it were held, which is checked first.
 */
#include "tests/support/entry.h"

#include <stdalign.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/wakes.h"

#define WAITERS_MAX 1000

/* A waiter with a memory of its own, and what its waker does when it runs. */
struct actor {
    struct rdy_readiness wait;
    struct scene *scene;
    uint32_t calls;
    uint32_t name;
};

struct scene {
    struct entry entry;
    struct record record;
    struct actor actor[WAITERS_MAX];
    struct rdy_readiness again;
    uint32_t seen_ready; /* waiters that were told, when the first waker ran */
    uint32_t victim;
    bool is_victim_quiet;
};

static int scene_open(void **state)
{
    struct scene *scene = aligned_alloc(alignof(struct scene), sizeof(*scene));

    rdy_assert(scene);
    memset(scene, 0, sizeof(*scene));
    entry_open(&scene->entry);
    for (uint32_t i = 0; i < WAITERS_MAX; i++)
        scene->actor[i] = (struct actor){.scene = scene, .name = i};
    *state = scene;
    (void)alarm(60); /* a lock taken twice is a failure, not a hang */
    return 0;
}

static int scene_close(void **state)
{
    free(*state);
    return 0;
}

static bool lock_is_free(const struct scene *scene)
{
    return rdy_a32_load_relaxed(&scene->entry.io.waitq.lock.state) == 0;
}

/* Every actor's waker begins so: the lock must be free, and the call is written down. */
static struct scene *actor_enter(void *arg)
{
    struct actor *actor = arg;

    rdy_assert(lock_is_free(actor->scene));
    actor->calls++;
    record_wake(&actor->scene->record, actor->name);
    return actor->scene;
}

static void actor_wake(void *arg, uint64_t data)
{
    (void)data;
    (void)actor_enter(arg);
}

static void actors_wait(struct scene *scene, uint32_t first, uint32_t end, uint32_t interest,
                        rdy_wake_fn *fn)
{
    for (uint32_t i = first; i < end; i++) {
        struct actor *actor = &scene->actor[i];

        wait_begin(&actor->wait, &scene->entry, interest,
                   (struct rdy_waker){.fn = fn, .arg = actor});
    }
}

static void check_woken_in_order(const struct scene *scene, uint32_t first, uint32_t end)
{
    assert_int_equal(scene->record.count, end - first);
    for (uint32_t i = first; i < end; i++) {
        assert_int_equal(scene->record.data[i - first], i);
        assert_int_equal(scene->actor[i].calls, 1);
    }
}

/* S18, S21: the numbers stand around the batch of 32, where one is easily dropped or doubled. */
static void each_of_n_waiters_is_woken_once_and_in_order(void **state)
{
    static const uint32_t counts[] = {0, 1, 31, 32, 33, 64, 65, 1000};
    struct scene *scene = *state;

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        uint32_t n = counts[i];

        entry_open(&scene->entry);
        scene->record.count = 0;
        for (uint32_t k = 0; k < n; k++)
            scene->actor[k].calls = 0;
        actors_wait(scene, 0, n, RDY_INTEREST_READ, actor_wake);

        assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE), n);

        check_woken_in_order(scene, 0, n);
        assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE), 0);
        assert_int_equal(scene->record.count, n);
    }
}

static void count_ready_wake(void *arg, uint64_t data)
{
    struct scene *scene = actor_enter(arg);

    (void)data;
    if (scene->record.count != 1)
        return;
    for (uint32_t i = 0; i < WAITERS_MAX; i++)
        scene->seen_ready += rdy_a32_load_relaxed(&scene->actor[i].wait.is_ready);
}

/* The lock is held for a bounded number of steps, however many wait: 32 are taken, then dropped. */
static void wakers_are_taken_32_at_a_time(void **state)
{
    struct scene *scene = *state;

    actors_wait(scene, 0, 100, RDY_INTEREST_READ, count_ready_wake);

    assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE), 100);

    assert_int_equal(scene->seen_ready, RDY_WAKES_MAX);
}

/* S19 for those whose entry has no list: their wakers run with the lock dropped as well. */
static void slot_wakers_run_without_the_lock(void **state)
{
    struct scene *scene = *state;

    for (uint32_t i = 0; i < 2; i++)
        slot_begin(&scene->entry, (enum rdy_direction)i,
                   (struct rdy_waker){.fn = actor_wake, .arg = &scene->actor[i]});

    assert_int_equal(entry_event(&scene->entry, RDY_READABLE | RDY_WRITABLE), 2);

    check_woken_in_order(scene, 0, 2);
}

/* S21: whoever waits in a slot is the one task of its direction and goes first. */
static void reader_slot_goes_before_writer_slot_before_the_list(void **state)
{
    struct scene *scene = *state;

    actors_wait(scene, 0, 1, RDY_INTEREST_WRITE, actor_wake);
    slot_begin(&scene->entry, RDY_DIRECTION_WRITE, record_waker(&scene->record, 901));
    slot_begin(&scene->entry, RDY_DIRECTION_READ, record_waker(&scene->record, 900));
    actors_wait(scene, 1, 40, RDY_INTEREST_READ, actor_wake);

    assert_int_equal(entry_event(&scene->entry, RDY_READABLE | RDY_WRITABLE), 42);

    assert_int_equal(scene->record.data[0], 900);
    assert_int_equal(scene->record.data[1], 901);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(scene->record.data[i + 2], i);
}

/* S16, S30: the other direction's task has nothing to do, and must stay armed. */
static void wake_of_one_direction_leaves_the_other_slot_armed(void **state)
{
    static const uint32_t events[] = {RDY_READABLE, RDY_READ_CLOSED};
    struct scene *scene = *state;

    for (size_t i = 0; i < 2; i++) {
        entry_open(&scene->entry);
        scene->record.count = 0;
        slot_begin(&scene->entry, RDY_DIRECTION_READ, record_waker(&scene->record, 1));
        slot_begin(&scene->entry, RDY_DIRECTION_WRITE, record_waker(&scene->record, 2));

        assert_int_equal(entry_event(&scene->entry, events[i]), 1);
        assert_int_equal(entry_event(&scene->entry, events[i]), 0);
        assert_int_equal(scene->record.data[0], 1);

        assert_int_equal(entry_event(&scene->entry, events[i] << 1), 1);
        assert_int_equal(entry_event(&scene->entry, events[i] << 1), 0);
        assert_int_equal(scene->record.data[1], 2);
    }
}

/* S13, S22: an error alone satisfies those who asked for errors; slots are for data. */
static void error_or_priority_alone_wakes_neither_slot(void **state)
{
    struct scene *scene = *state;

    slot_begin(&scene->entry, RDY_DIRECTION_READ, record_waker(&scene->record, 1));
    slot_begin(&scene->entry, RDY_DIRECTION_WRITE, record_waker(&scene->record, 2));
    actors_wait(scene, 10, 11, RDY_INTEREST_ERROR, actor_wake);
    actors_wait(scene, 11, 12, RDY_INTEREST_PRIORITY, actor_wake);
    actors_wait(scene, 12, 13, RDY_INTEREST_READ | RDY_INTEREST_WRITE, actor_wake);

    assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_ERROR), 1);
    assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_PRIORITY), 1);

    check_woken_in_order(scene, 10, 12);
    assert_int_equal(scene->actor[12].calls, 0);
}

/* S17: a waiter that is passed over keeps its place. */
static void waiters_that_are_not_satisfied_stay_linked_in_order(void **state)
{
    struct scene *scene = *state;

    for (uint32_t i = 0; i < 100; i++)
        actors_wait(scene, i, i + 1, i % 2 ? RDY_INTEREST_WRITE : RDY_INTEREST_READ, actor_wake);

    assert_int_equal(entry_event(&scene->entry, RDY_READABLE), 50);
    assert_int_equal(entry_event(&scene->entry, RDY_WRITABLE), 50);

    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(scene->record.data[i], 2 * i);
        assert_int_equal(scene->record.data[i + 50], 2 * i + 1);
    }
}

static void cancel_wake(void *arg, uint64_t data)
{
    struct scene *scene = actor_enter(arg);

    (void)data;
    if (scene->record.count == 1)
        scene->is_victim_quiet = rdy_readiness_cancel(&scene->actor[scene->victim].wait);
}

/* Its waker points to memory that its owner may free after a cancel that said "quiet". */
static void waiter_cancelled_by_an_earlier_waker_of_the_same_wake_is_not_woken(void **state)
{
    struct scene *scene = *state;

    scene->victim = 40;
    actors_wait(scene, 0, 70, RDY_INTEREST_READ, cancel_wake);

    assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE), 69);

    assert_true(scene->is_victim_quiet);
    assert_int_equal(scene->actor[40].calls, 0);
    assert_int_equal(scene->actor[39].calls, 1);
    assert_int_equal(scene->actor[41].calls, 1);
}

/* One that was copied out already will run: the cancel says so instead of claiming it will not. */
static void waiter_whose_waker_is_on_its_way_is_told_so_by_the_cancel(void **state)
{
    struct scene *scene = *state;

    scene->victim = 5;
    actors_wait(scene, 0, 33, RDY_INTEREST_READ, cancel_wake);

    assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE), 33);

    assert_false(scene->is_victim_quiet);
    check_woken_in_order(scene, 0, 33);
}

static void cancel_rest_wake(void *arg, uint64_t data)
{
    struct scene *scene = actor_enter(arg);

    (void)data;
    for (uint32_t i = 32; scene->record.count == 1 && i < 70; i++)
        rdy_assert(rdy_readiness_cancel(&scene->actor[i].wait));
}

static void waker_may_cancel_everyone_who_is_still_to_come(void **state)
{
    struct scene *scene = *state;

    actors_wait(scene, 0, 70, RDY_INTEREST_READ, cancel_rest_wake);

    assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE), 32);

    check_woken_in_order(scene, 0, 32);
    assert_true(rdy_list_is_empty(&scene->entry.io.waitq.waiters));
}

/* Waits again from inside its own waker, on the same memory. */
static void rewait_wake(void *arg, uint64_t data)
{
    struct actor *actor = arg;
    struct scene *scene = actor_enter(arg);
    struct rdy_event event;

    (void)data;
    rdy_assert(rdy_readiness_poll(&actor->wait, &NO_WAKER, &event) == 0);
    wait_begin(&actor->wait, &scene->entry, RDY_INTEREST_READ,
               (struct rdy_waker){.fn = rewait_wake, .arg = actor});
}

/* Otherwise a wake whose waiters wait again would never end. They are served by the next one. */
static void waiter_that_waits_again_is_not_woken_by_the_same_wake(void **state)
{
    static const uint32_t counts[] = {1, 32, 33, 100};
    struct scene *scene = *state;

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        uint32_t n = counts[i];

        entry_open(&scene->entry);
        for (uint32_t round = 0; round < 3; round++) {
            scene->record.count = 0;
            for (uint32_t k = 0; k < n; k++)
                scene->actor[k].calls = 0;
            if (round == 0)
                actors_wait(scene, 0, n, RDY_INTEREST_READ, rewait_wake);

            assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE), n);

            check_woken_in_order(scene, 0, n);
        }
    }
}

static void busy_wake(void *arg, uint64_t data)
{
    struct scene *scene = actor_enter(arg);
    struct rdy_event event;

    (void)data;
    if (scene->record.count != 1)
        return;
    rdy_assert(rdy_poll_readiness(&scene->entry.reg, RDY_DIRECTION_WRITE, &NO_WAKER, &event) ==
               RDY_PENDING);
    rdy_assert(rdy_try_io(&scene->entry.reg, RDY_INTEREST_WRITE, NULL, NULL) == -EAGAIN);
    wait_begin(&scene->again, &scene->entry, RDY_INTEREST_WRITE, NO_WAKER);
    rdy_assert(rdy_readiness_cancel(&scene->again));
    rdy_clear_readiness(&scene->entry.reg, rdy_ready_event(&scene->entry.reg, RDY_INTEREST_READ));
    rdy_assume_ready(&scene->entry.reg, RDY_WRITABLE);
}

/* S19: with the lock held over a waker, any of these calls is a deadlock. */
static void waker_may_poll_wait_cancel_clear_and_assume_on_its_entry(void **state)
{
    struct scene *scene = *state;

    actors_wait(scene, 0, 40, RDY_INTEREST_READ, busy_wake);

    assert_int_equal(entry_event(&scene->entry, RDY_READABLE), 40);

    check_woken_in_order(scene, 0, 40);
    assert_int_equal(entry_ready(&scene->entry), RDY_WRITABLE);
}

static void nested_wake(void *arg, uint64_t data)
{
    struct scene *scene = actor_enter(arg);

    (void)data;
    if (scene->record.count == 1)
        rdy_assert(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE) == 0);
}

/* Those whom the outer wake has claimed are its own: the inner one finds nobody. */
static void wake_inside_a_wake_wakes_nobody_twice(void **state)
{
    struct scene *scene = *state;

    actors_wait(scene, 0, 70, RDY_INTEREST_READ, nested_wake);

    assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE), 70);

    check_woken_in_order(scene, 0, 70);
}

static void deregister_wake(void *arg, uint64_t data)
{
    struct scene *scene = actor_enter(arg);

    (void)data;
    if (scene->record.count == 1)
        entry_deregister(&scene->entry);
}

/*
 * S19, S54: once a registration is gone its slot may be another file's. Those who were still to be
 * woken must learn that without a look at the entry, which is overwritten here to prove it.
 */
static void waiters_of_an_entry_deregistered_by_a_waker_are_cancelled_blindly(void **state)
{
    struct scene *scene = *state;
    struct rdy_event event;

    slot_begin(&scene->entry, RDY_DIRECTION_WRITE, record_waker(&scene->record, 900));
    actors_wait(scene, 0, 40, RDY_INTEREST_READ, deregister_wake);
    actors_wait(scene, 40, 45, RDY_INTEREST_WRITE, actor_wake);

    assert_int_equal(entry_event(&scene->entry, RDY_READABLE), 40);

    assert_int_equal(scene->record.count, 45);
    for (uint32_t i = 0; i < 32; i++)
        assert_int_equal(rdy_readiness_poll(&scene->actor[i].wait, &NO_WAKER, &event), -ECANCELED);
    memset(&scene->entry.io, 0xff, sizeof(scene->entry.io));
    for (uint32_t i = 32; i < 45; i++) {
        assert_int_equal(scene->actor[i].calls, 1);
        assert_int_equal(rdy_readiness_poll(&scene->actor[i].wait, &NO_WAKER, &event), -ECANCELED);
    }
}

/* S54: a waker kept after deregistration would point to whatever its task has become. */
static void deregistration_forgets_the_slots_and_wakes_the_list(void **state)
{
    struct scene *scene = *state;

    slot_begin(&scene->entry, RDY_DIRECTION_READ, record_waker(&scene->record, 900));
    slot_begin(&scene->entry, RDY_DIRECTION_WRITE, record_waker(&scene->record, 901));
    actors_wait(scene, 0, 70, RDY_INTEREST_ERROR, actor_wake);

    entry_deregister(&scene->entry);

    check_woken_in_order(scene, 0, 70);
    assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READY_ALL), 0);
}

/* S24, S55: nothing will come any more, so nobody may go on waiting, whatever for. */
static void shutdown_wakes_slots_and_every_interest(void **state)
{
    struct scene *scene = *state;

    slot_begin(&scene->entry, RDY_DIRECTION_WRITE, record_waker(&scene->record, 901));
    slot_begin(&scene->entry, RDY_DIRECTION_READ, record_waker(&scene->record, 900));
    for (uint32_t interest = 1; interest <= RDY_INTEREST_ALL; interest++)
        actors_wait(scene, interest, interest + 1, interest, actor_wake);

    assert_int_equal(entry_shut_down(&scene->entry), 2 + RDY_INTEREST_ALL);
    assert_int_equal(entry_shut_down(&scene->entry), 0);

    assert_int_equal(scene->record.count, 2 + RDY_INTEREST_ALL);
}

static void free_wake(void *arg, uint64_t data)
{
    struct actor *actor = arg;

    (void)actor_enter(arg);
    (void)data;
    free(actor);
}

/* A wait is its owner's again once it was told; under AddressSanitizer this shows a late touch. */
static void waiter_may_be_freed_by_its_own_waker(void **state)
{
    struct scene *scene = *state;

    for (uint32_t i = 0; i < 100; i++) {
        struct actor *actor = calloc(1, sizeof(*actor));

        assert_non_null(actor);
        *actor = (struct actor){.scene = scene, .name = i};
        wait_begin(&actor->wait, &scene->entry, RDY_INTEREST_READ,
                   (struct rdy_waker){.fn = free_wake, .arg = actor});
    }

    assert_int_equal(rdy_scheduled_io_wake(&scene->entry.io, RDY_READABLE), 100);

    assert_int_equal(scene->record.count, 100);
}

/* An empty waker is legal: its owner polls by itself. */
static void empty_wakers_are_skipped_and_their_waits_are_told(void **state)
{
    struct scene *scene = *state;
    struct rdy_event event;

    wait_begin(&scene->actor[0].wait, &scene->entry, RDY_INTEREST_READ, NO_WAKER);
    slot_begin(&scene->entry, RDY_DIRECTION_READ, NO_WAKER);

    (void)entry_event(&scene->entry, RDY_READABLE);

    assert_int_equal(rdy_readiness_poll(&scene->actor[0].wait, &NO_WAKER, &event), 0);
    assert_int_equal(rdy_event_ready(event), RDY_READABLE);
}

#define SCENE_TEST(test) cmocka_unit_test_setup_teardown(test, scene_open, scene_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(each_of_n_waiters_is_woken_once_and_in_order),
        SCENE_TEST(wakers_are_taken_32_at_a_time),
        SCENE_TEST(slot_wakers_run_without_the_lock),
        SCENE_TEST(reader_slot_goes_before_writer_slot_before_the_list),
        SCENE_TEST(wake_of_one_direction_leaves_the_other_slot_armed),
        SCENE_TEST(error_or_priority_alone_wakes_neither_slot),
        SCENE_TEST(waiters_that_are_not_satisfied_stay_linked_in_order),
        SCENE_TEST(waiter_cancelled_by_an_earlier_waker_of_the_same_wake_is_not_woken),
        SCENE_TEST(waiter_whose_waker_is_on_its_way_is_told_so_by_the_cancel),
        SCENE_TEST(waker_may_cancel_everyone_who_is_still_to_come),
        SCENE_TEST(waiter_that_waits_again_is_not_woken_by_the_same_wake),
        SCENE_TEST(waker_may_poll_wait_cancel_clear_and_assume_on_its_entry),
        SCENE_TEST(wake_inside_a_wake_wakes_nobody_twice),
        SCENE_TEST(waiters_of_an_entry_deregistered_by_a_waker_are_cancelled_blindly),
        SCENE_TEST(deregistration_forgets_the_slots_and_wakes_the_list),
        SCENE_TEST(shutdown_wakes_slots_and_every_interest),
        SCENE_TEST(waiter_may_be_freed_by_its_own_waker),
        SCENE_TEST(empty_wakers_are_skipped_and_their_waits_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
