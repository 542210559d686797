/* SPDX-License-Identifier: MIT */
/*
 * Notifications and semaphores between tasks of one runtime: order, permits that are kept, waits
 * that are given up, the budget. Channels are in test_channel.c.
 */
#include "tests/support/players.h"

static struct scene scene;

static int wait_notified(struct player *player, struct rdy_task *task)
{
    return rdy_notify_poll(&player->scene->notify, task, &player->waiter);
}

static int wait_permits(struct player *player, struct rdy_task *task)
{
    return rdy_semaphore_poll_acquire(&player->scene->semaphore, task, &player->waiter,
                                      player->permits);
}

static void abort_player(struct rdy_task_id id)
{
    assert_int_equal(rdy_task_abort(scene.runtime, id), 0);
}

/* --- notifications --- */

static void one_notification_wakes_the_one_who_waited_longest(void **state)
{
    scene_open(&scene, state);
    for (int i = 1; i <= 3; i++)
        (void)play(&scene, wait_notified, i, 0);
    settle(&scene);
    expect_nobody(&scene);

    rdy_notify_one(&scene.notify);
    settle(&scene);
    expect_served(&scene, 0, 1);
    rdy_notify_one(&scene.notify);
    rdy_notify_one(&scene.notify);
    settle(&scene);
    expect_served(&scene, 0, 2, 3);
}

static void notification_for_nobody_is_kept_once(void **state)
{
    scene_open(&scene, state);
    rdy_notify_one(&scene.notify);
    rdy_notify_one(&scene.notify);
    (void)play(&scene, wait_notified, 1, 0);
    (void)play(&scene, wait_notified, 2, 0);
    settle(&scene);

    expect_served(&scene, 0, 1);
    rdy_notify_one(&scene.notify);
    settle(&scene);
    expect_served(&scene, 0, 2);
}

static void notification_for_all_wakes_those_who_wait_now(void **state)
{
    scene_open(&scene, state);
    rdy_notify_all(&scene.notify);
    (void)play(&scene, wait_notified, 1, 0);
    (void)play(&scene, wait_notified, 2, 0);
    settle(&scene);
    expect_nobody(&scene);

    rdy_notify_all(&scene.notify);
    (void)play(&scene, wait_notified, 3, 0);
    settle(&scene);
    expect_served(&scene, 0, 1, 2);
    rdy_notify_one(&scene.notify);
    settle(&scene);
    expect_served(&scene, 0, 3);
}

static void given_up_wait_is_passed_over(void **state)
{
    struct rdy_task_id ids[4];

    scene_open(&scene, state);
    for (int i = 1; i <= 3; i++)
        ids[i] = play(&scene, wait_notified, i, 0);
    settle(&scene);

    abort_player(ids[2]);
    rdy_notify_one(&scene.notify);
    rdy_notify_one(&scene.notify);
    settle(&scene);
    expect_served(&scene, 0, 1, 3);
}

/* Chosen, but ended before it was polled: the notification must not go down with it. */
static void given_up_notification_goes_to_the_next(void **state)
{
    struct rdy_task_id first;
    struct rdy_task_id third;

    scene_open(&scene, state);
    first = play(&scene, wait_notified, 1, 0);
    (void)play(&scene, wait_notified, 2, 0);
    settle(&scene);
    rdy_notify_one(&scene.notify);
    abort_player(first);
    settle(&scene);
    expect_served(&scene, 0, 2);

    third = play(&scene, wait_notified, 3, 0);
    settle(&scene);
    rdy_notify_one(&scene.notify);
    abort_player(third);
    (void)play(&scene, wait_notified, 4, 0);
    settle(&scene);
    expect_served(&scene, 0, 4);
}

static void given_up_notification_for_all_is_not_passed_on(void **state)
{
    struct rdy_task_id first;

    scene_open(&scene, state);
    first = play(&scene, wait_notified, 1, 0);
    settle(&scene);
    rdy_notify_all(&scene.notify);
    abort_player(first);
    (void)play(&scene, wait_notified, 2, 0);
    settle(&scene);
    expect_nobody(&scene);
    rdy_notify_one(&scene.notify);
    settle(&scene);
    expect_served(&scene, 0, 2);
}

/* Who was woken with all the others takes no permit, whether it is polled or ends before. */
static void permit_that_follows_a_notification_for_all_stays(void **state)
{
    for (int is_given_up = 0; is_given_up < 2; is_given_up++) {
        struct rdy_task_id first;
        struct rdy_task_id third;

        scene_open(&scene, state);
        first = play(&scene, wait_notified, 1, 0);
        settle(&scene);
        rdy_notify_all(&scene.notify);
        rdy_notify_one(&scene.notify);
        if (is_given_up)
            abort_player(first);
        settle(&scene);
        if (is_given_up)
            expect_nobody(&scene);
        else
            expect_served(&scene, 0, 1);

        (void)play(&scene, wait_notified, 2, 0);
        third = play(&scene, wait_notified, 3, 0);
        settle(&scene);
        expect_served(&scene, 0, 2);
        abort_player(third);
    }
}

static void cancel_of_a_waiter_that_does_not_wait_is_fine(void **state)
{
    struct rdy_waiter waiter = {0};

    (void)state;
    rdy_waiter_cancel(&waiter);
    rdy_waiter_cancel(&waiter);
}

/* A condition and a notification, as they are meant to be used: no round is missed. */
struct table {
    struct rdy_notify there;
    struct rdy_notify taken;
    struct rdy_waiter waiter;
    int pieces;
    int put;
    int got;
};

#define PIECES 10000

static int poll_puts(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct table *table = my->test;
    static struct rdy_waiter waiter;

    RDY_BEGIN(&my->co);
    waiter = (struct rdy_waiter){0};
    for (table->put = 0; table->put < PIECES; table->put++) {
        while (table->pieces == 3) {
            RDY_AWAIT(&my->co, rdy_notify_poll(&table->taken, task, &waiter));
        }
        table->pieces++;
        rdy_notify_one(&table->there);
    }
    RDY_END(&my->co);
    return 0;
}

static int poll_gets(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct table *table = my->test;

    RDY_BEGIN(&my->co);
    for (table->got = 0; table->got < PIECES; table->got++) {
        while (table->pieces == 0) {
            RDY_AWAIT(&my->co, rdy_notify_poll(&table->there, task, &table->waiter));
        }
        table->pieces--;
        rdy_notify_one(&table->taken);
    }
    RDY_END(&my->co);
    return 0;
}

static void look_then_wait_misses_nothing(void **state)
{
    struct table table = {0};

    (void)spawn_test(runtime_of(state), poll_gets, NULL, &table);
    (void)spawn_test(runtime_of(state), poll_puts, NULL, &table);
    assert_int_equal(rdy_runtime_run(runtime_of(state)), 0);
    assert_int_equal(table.got, PIECES);
    assert_int_equal(table.pieces, 0);
}

/* --- semaphores --- */

static void permits_are_taken_while_they_last(void **state)
{
    scene_open(&scene, state);
    rdy_semaphore_init(&scene.semaphore, 3);
    (void)play(&scene, wait_permits, 1, 2);
    (void)play(&scene, wait_permits, 2, 1);
    (void)play(&scene, wait_permits, 3, 1);
    settle(&scene);

    expect_served(&scene, 0, 1, 2);
    assert_int_equal(rdy_semaphore_available(&scene.semaphore), 0);
    rdy_semaphore_release(&scene.semaphore, 1);
    settle(&scene);
    expect_served(&scene, 0, 3);
    assert_int_equal(rdy_semaphore_available(&scene.semaphore), 0);
}

/* Or a stream of those who want one would keep who wants many waiting for ever. */
static void who_wants_many_is_not_passed_by_those_who_want_few(void **state)
{
    scene_open(&scene, state);
    rdy_semaphore_init(&scene.semaphore, 2);
    (void)play(&scene, wait_permits, 1, 3);
    (void)play(&scene, wait_permits, 2, 1);
    settle(&scene);
    expect_nobody(&scene);
    assert_int_equal(rdy_semaphore_try_acquire(&scene.semaphore, 1), -EAGAIN);

    rdy_semaphore_release(&scene.semaphore, 2);
    settle(&scene);
    expect_served(&scene, 0, 1, 2);
}

static void trying_takes_what_is_there(void **state)
{
    struct rdy_semaphore semaphore;

    (void)state;
    rdy_semaphore_init(&semaphore, 2);
    assert_int_equal(rdy_semaphore_try_acquire(&semaphore, 3), -EAGAIN);
    assert_int_equal(rdy_semaphore_try_acquire(&semaphore, 2), 0);
    assert_int_equal(rdy_semaphore_try_acquire(&semaphore, 1), -EAGAIN);
    assert_int_equal(rdy_semaphore_try_acquire(&semaphore, 0), 0);
    rdy_semaphore_release(&semaphore, UINT32_MAX);
    assert_int_equal(rdy_semaphore_try_acquire(&semaphore, UINT32_MAX), 0);
}

/* Permits that were granted are not there for who comes later, though nobody has taken them yet. */
static void granted_permits_are_not_for_those_who_come_between(void **state)
{
    scene_open(&scene, state);
    (void)play(&scene, wait_permits, 1, 1);
    settle(&scene);

    rdy_semaphore_release(&scene.semaphore, 1);
    assert_int_equal(rdy_semaphore_try_acquire(&scene.semaphore, 1), -EAGAIN);
    settle(&scene);
    expect_served(&scene, 0, 1);
}

static void given_up_first_place_lets_those_behind_go(void **state)
{
    struct rdy_task_id first;

    scene_open(&scene, state);
    rdy_semaphore_init(&scene.semaphore, 1);
    first = play(&scene, wait_permits, 1, 2);
    (void)play(&scene, wait_permits, 2, 1);
    settle(&scene);
    expect_nobody(&scene);

    abort_player(first);
    settle(&scene);
    expect_served(&scene, 0, 2);
}

static void given_up_permits_go_to_the_next(void **state)
{
    struct rdy_task_id first;

    scene_open(&scene, state);
    first = play(&scene, wait_permits, 1, 2);
    (void)play(&scene, wait_permits, 2, 1);
    (void)play(&scene, wait_permits, 3, 1);
    settle(&scene);

    rdy_semaphore_release(&scene.semaphore, 2);
    abort_player(first);
    settle(&scene);
    expect_served(&scene, 0, 2, 3);
    assert_int_equal(rdy_semaphore_available(&scene.semaphore), 0);
}

static void closed_semaphore_refuses_all_but_those_it_has_served(void **state)
{
    scene_open(&scene, state);
    (void)play(&scene, wait_permits, 1, 1);
    (void)play(&scene, wait_permits, 2, 1);
    (void)play(&scene, wait_permits, 3, 1);
    settle(&scene);

    rdy_semaphore_release(&scene.semaphore, 1);
    rdy_semaphore_close(&scene.semaphore);
    rdy_semaphore_close(&scene.semaphore);
    settle(&scene);
    assert_int_equal(scene.served, 3);
    assert_int_equal(scene.answers[0], 0);
    assert_int_equal(scene.numbers[0], 1);
    assert_int_equal(scene.answers[1], -ESHUTDOWN);
    assert_int_equal(scene.answers[2], -ESHUTDOWN);
    scene.served = 0;

    rdy_semaphore_release(&scene.semaphore, 5);
    assert_int_equal(rdy_semaphore_try_acquire(&scene.semaphore, 1), -ESHUTDOWN);
    (void)play(&scene, wait_permits, 4, 1);
    settle(&scene);
    expect_served(&scene, -ESHUTDOWN, 4);
}

/* --- the budget --- */

static int poll_takes_all_it_can(struct rdy_task *task, void *self)
{
    struct scene *my = ((struct test_task *)self)->test;
    struct rdy_waiter waiter = {0};

    my->numbers[my->served] = 0;
    while (rdy_semaphore_poll_acquire(&my->semaphore, task, &waiter, 1) == 0)
        my->numbers[my->served]++;
    rdy_waiter_cancel(&waiter);
    my->served++;
    return my->served < 3 ? RDY_PENDING : 0;
}

static void answers_are_paid_from_the_budget(void **state)
{
    scene_open(&scene, state);
    rdy_semaphore_init(&scene.semaphore, 300);
    (void)spawn_test(scene.runtime, poll_takes_all_it_can, NULL, &scene);
    settle(&scene);

    assert_int_equal(scene.served, 3);
    assert_int_equal(scene.numbers[0], 128);
    assert_int_equal(scene.numbers[1], 128);
    assert_int_equal(scene.numbers[2], 300 - 2 * 128);
    assert_int_equal(runtime_stats(scene.runtime).budget_yields, 2);
}

/* --- players come, go, and give up at random: the books balance --- */

#define CROWD        40
#define CROWD_ROUNDS 2000

static void crowd_that_gives_up_at_random_loses_no_permit(void **state)
{
    struct rdy_task_id ids[CROWD] = {0};
    uint64_t random = 88172645463325252u;
    uint32_t out = 0; /* permits that players took and kept */

    scene_open(&scene, state);
    rdy_semaphore_init(&scene.semaphore, 10);
    for (int round = 0; round < CROWD_ROUNDS; round++) {
        uint32_t permits;
        int seat;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        seat = (int)(random % CROWD);
        permits = (uint32_t)(random >> 40) % 4;
        if (random & (1u << 20)) {
            (void)rdy_task_abort(scene.runtime, ids[seat]);
            ids[seat] = play(&scene, wait_permits, (int)permits, permits);
        } else if (out > 0) {
            rdy_semaphore_release(&scene.semaphore, 1);
            out--;
            if (random & (1u << 21)) /* at times just when it was granted something */
                (void)rdy_task_abort(scene.runtime, ids[seat]);
        }
        if (random & (1u << 22))
            settle(&scene);
        for (int i = 0; i < scene.served; i++)
            out += (uint32_t)scene.numbers[i];
        scene.served = 0;
    }
    for (int i = 0; i < CROWD; i++)
        (void)rdy_task_abort(scene.runtime, ids[i]);
    assert_int_equal(rdy_semaphore_available(&scene.semaphore) + out, 10);
    assert_null(scene.semaphore.waiters.first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(one_notification_wakes_the_one_who_waited_longest),
        ON_BOTH(notification_for_nobody_is_kept_once),
        ON_BOTH(notification_for_all_wakes_those_who_wait_now),
        ON_BOTH(given_up_wait_is_passed_over),
        ON_BOTH(given_up_notification_goes_to_the_next),
        ON_BOTH(given_up_notification_for_all_is_not_passed_on),
        ON_BOTH(permit_that_follows_a_notification_for_all_stays),
        cmocka_unit_test(cancel_of_a_waiter_that_does_not_wait_is_fine),
        ON_BOTH(look_then_wait_misses_nothing),
        ON_BOTH(permits_are_taken_while_they_last),
        ON_BOTH(who_wants_many_is_not_passed_by_those_who_want_few),
        cmocka_unit_test(trying_takes_what_is_there),
        ON_BOTH(granted_permits_are_not_for_those_who_come_between),
        ON_BOTH(given_up_first_place_lets_those_behind_go),
        ON_BOTH(given_up_permits_go_to_the_next),
        ON_BOTH(closed_semaphore_refuses_all_but_those_it_has_served),
        ON_BOTH(answers_are_paid_from_the_budget),
        ON_BOTH(crowd_that_gives_up_at_random_loses_no_permit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
