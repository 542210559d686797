/* SPDX-License-Identifier: MIT */
/*
 * How long a wait goes on where that is learnt: first what decides it, then the driver on a
 * scripted backend, whose waits bring as many events as the test likes. That real waits lose
 * nothing over it is in test_completion_batch.c.
 */
#include "tests/support/scripted.h"

#include "engine/lane.h"
#include "engine/moderation.h"

#define MANY        100000u
#define MOST        8u
#define CONNECTIONS (MOST * RDY_MODERATION_SHARE)

/* --- the decision --- */

/* A wait, in which @came of what is asked for come; what it was to go on for. */
static uint32_t pass(struct rdy_moderation *moderation, uint32_t connections, uint32_t came)
{
    uint32_t asked = rdy_moderation_next(moderation, connections, MOST);

    if (asked > 1)
        rdy_moderation_learn(moderation, asked, came);
    return asked;
}

static void few_connections_are_answered_at_once(void **state)
{
    struct rdy_moderation moderation = {0};

    (void)state;
    for (uint32_t i = 0; i < MANY; i++)
        check(pass(&moderation, i % (2 * RDY_MODERATION_SHARE), UINT32_MAX) == 1);
    assert_int_equal(pass(&moderation, 2 * RDY_MODERATION_SHARE, 2), 2);
}

static void events_that_come_in_time_are_waited_for(void **state)
{
    struct rdy_moderation moderation = {0};

    (void)state;
    assert_int_equal(pass(&moderation, CONNECTIONS, 2), 2); /* a try */
    for (uint32_t count = 2; count < MOST; count++) {
        for (uint32_t i = 0; i < RDY_MODERATION_FILLS; i++)
            assert_int_equal(pass(&moderation, CONNECTIONS, count), count);
    }
    for (uint32_t i = 0; i < MANY; i++)
        check(pass(&moderation, UINT32_MAX, UINT32_MAX) == MOST);
}

static void fill_up_to(struct rdy_moderation *moderation, uint32_t count)
{
    uint32_t waits = 0;

    while (pass(moderation, CONNECTIONS, MOST) < count)
        check(++waits < MANY);
}

static void each_wait_in_vain_is_for_one_event_less(void **state)
{
    struct rdy_moderation moderation = {0};

    (void)state;
    fill_up_to(&moderation, MOST);
    for (uint32_t count = MOST; count > 1; count--)
        assert_int_equal(pass(&moderation, CONNECTIONS, count - 1), count);
    assert_int_equal(pass(&moderation, CONNECTIONS, 1), 1);
}

static void one_wait_in_vain_begins_the_count_anew(void **state)
{
    struct rdy_moderation moderation = {0};

    (void)state;
    fill_up_to(&moderation, 3); /* which was the first for 3 */
    for (uint32_t i = 2; i < RDY_MODERATION_FILLS; i++)
        assert_int_equal(pass(&moderation, CONNECTIONS, 3), 3);
    assert_int_equal(pass(&moderation, CONNECTIONS, 2), 3); /* one more would have been enough */
    for (uint32_t i = 0; i < RDY_MODERATION_FILLS; i++)
        assert_int_equal(pass(&moderation, CONNECTIONS, 2), 2);
    assert_int_equal(pass(&moderation, CONNECTIONS, 3), 3);
}

/* Waits that are let pass before the next try; that one brings @came. */
static uint32_t skips_before_a_try(struct rdy_moderation *moderation, uint32_t came)
{
    uint32_t skips = 0;

    while (pass(moderation, CONNECTIONS, came) == 1)
        check(++skips <= RDY_MODERATION_SKIPS);
    return skips;
}

static void vain_tries_are_made_less_and_less(void **state)
{
    struct rdy_moderation moderation = {0};

    (void)state;
    assert_int_equal(skips_before_a_try(&moderation, 1), 0);
    for (uint32_t skips = 1; skips <= RDY_MODERATION_SKIPS; skips *= 2)
        assert_int_equal(skips_before_a_try(&moderation, 1), skips);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(skips_before_a_try(&moderation, 0), RDY_MODERATION_SKIPS);
}

/* Events that are in time now and then must not have each of the other waits be in vain. */
static void tries_that_fill_seldom_stay_rare(void **state)
{
    struct rdy_moderation moderation = {0};
    uint32_t in_vain = 0;
    uint32_t tries = 0;

    (void)state;
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t asked = rdy_moderation_next(&moderation, CONNECTIONS, MOST);
        bool is_in_time = tries % 4 == 0;

        if (asked == 1)
            continue;
        tries++;
        in_vain += !is_in_time;
        rdy_moderation_learn(&moderation, asked, is_in_time ? asked : 1);
    }
    assert_in_range(in_vain, 1, MANY / 100);
}

static void connections_that_leave_are_not_waited_for(void **state)
{
    struct rdy_moderation moderation = {0};

    (void)state;
    fill_up_to(&moderation, MOST);
    assert_int_equal(pass(&moderation, 4 * RDY_MODERATION_SHARE, 4), 4);
    assert_int_equal(pass(&moderation, 4 * RDY_MODERATION_SHARE - 1, 3), 3);
    assert_int_equal(pass(&moderation, 2 * RDY_MODERATION_SHARE - 1, 1), 1);
    assert_int_equal(pass(&moderation, 0, 1), 1);
}

/* --- the driver --- */

static const struct rdy_driver_opts learning = {.is_batch_learnt = true};

/* A driver whose backend can wait for more. */
static void driver_open(struct script *script, struct rdy_driver_opts opts)
{
    opts.size = sizeof(opts);
    rdy_driver_close(script->driver);
    script->driver = NULL;
    assert_int_equal(fake_driver_open(&script->fake, &opts, &script->driver), 0);
    script->fake.backend.can_batch = true;
}

/* The same in completion mode, with so many connections. */
static void open_with(struct script *script, struct rdy_driver_opts opts, uint32_t connections)
{
    driver_open(script, opts);
    assert_int_equal(rdy_completion_open(script->driver), 0);
    script->driver->completion->lanes_count = connections;
}

/* A turn that would block, in which @events come; what it was to go on for. */
static uint32_t turn_with(struct script *script, const int *fds, uint32_t events)
{
    for (uint32_t i = 0; i < events; i++)
        fake_push(&script->fake, fds[i], RDY_EV_IN);
    check(rdy_driver_turn(script->driver, RDY_NS_PER_S) == (int)events);
    return script->fake.backend.batch_count;
}

static void unpark_it(void *arg)
{
    struct script *script = arg;

    rdy_driver_unpark(script->driver);
}

static void register_all(struct script *script, int fds[MOST])
{
    for (uint32_t i = 0; i < MOST; i++)
        (void)script_register(script, &fds[i]);
}

static void driver_learns_from_what_its_turns_bring(void **state)
{
    struct script *script = *state;
    int fds[MOST];

    open_with(script, learning, CONNECTIONS);
    register_all(script, fds);
    assert_int_equal(script->fake.backend.batch_wait_us, 50);
    assert_int_equal(turn_with(script, fds, 2), 2);
    for (uint32_t i = 0; i < RDY_MODERATION_FILLS; i++)
        assert_int_equal(turn_with(script, fds, 2), 2);
    assert_int_equal(turn_with(script, fds, 2), 3);
    assert_int_equal(turn_with(script, fds, 1), 2);
    assert_int_equal(turn_with(script, fds, 1), 1);
    assert_int_equal(script_stats(script).batch_waits, 3 + RDY_MODERATION_FILLS);
    assert_int_equal(script_stats(script).batch_fills, 1 + RDY_MODERATION_FILLS);
}

/* An unpark is a completion of a ring's, but no event. */
static void wait_that_an_unpark_ended_teaches_nothing(void **state)
{
    struct script *script = *state;
    int fds[MOST];

    open_with(script, learning, CONNECTIONS);
    register_all(script, fds);
    assert_int_equal(turn_with(script, fds, 2), 2);
    script->fake.on_wait = unpark_it;
    script->fake.on_wait_arg = script;
    for (int i = 0; i < 100; i++)
        assert_int_equal(turn_with(script, fds, 1), 2);
    script->fake.on_wait = NULL;
    assert_int_equal(turn_with(script, fds, 1), 2);
    assert_int_equal(turn_with(script, fds, 1), 1);
    assert_int_equal(script_stats(script).batch_waits, 102);
}

/* It has what it came for, or the loop around it does the waiting. */
static void turn_that_does_not_block_teaches_nothing(void **state)
{
    struct script *script = *state;

    open_with(script, learning, CONNECTIONS);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(rdy_driver_turn(script->driver, 0), 0);
    assert_int_equal(script_stats(script).batch_waits, 0);
    assert_int_equal(script->fake.backend.batch_count, 1);
}

static void turn_of_a_dead_backend_teaches_nothing(void **state)
{
    struct script *script = *state;

    open_with(script, learning, CONNECTIONS);
    script->fake.wait_error = -EPERM;
    assert_int_equal(rdy_driver_turn(script->driver, RDY_NS_PER_S), -EPERM);
    assert_int_equal(script_stats(script).batch_waits, 0);
}

static void count_that_was_asked_for_stays(void **state)
{
    struct script *script = *state;
    int fds[MOST];

    open_with(script, (struct rdy_driver_opts){.batch_count = 32, .batch_wait_us = 7}, 1);
    register_all(script, fds);
    for (int i = 0; i < 100; i++)
        assert_int_equal(turn_with(script, fds, 1), 32);
    assert_int_equal(script->fake.backend.batch_wait_us, 7);
    assert_int_equal(script_stats(script).batch_waits, 100);
    assert_int_equal(script_stats(script).batch_fills, 0);
}

static void check_that_none_goes_on(struct script *script)
{
    int fds[MOST];

    register_all(script, fds);
    for (int i = 0; i < 100; i++)
        assert_int_equal(turn_with(script, fds, MOST), 1);
    assert_int_equal(script_stats(script).batch_waits, 0);
}

static void no_turn_goes_on_where_nobody_asked(void **state)
{
    struct script *script = *state;

    open_with(script, (struct rdy_driver_opts){0}, CONNECTIONS);
    check_that_none_goes_on(script);
    open_with(script, (struct rdy_driver_opts){.batch_count = 1, .is_batch_learnt = true},
              CONNECTIONS);
    check_that_none_goes_on(script);
}

static void no_turn_goes_on_where_the_kernel_cannot(void **state)
{
    struct script *script = *state;

    open_with(script, learning, CONNECTIONS);
    script->fake.backend.can_batch = false;
    check_that_none_goes_on(script);
}

static void no_turn_goes_on_without_completion_mode(void **state)
{
    struct script *script = *state;

    driver_open(script, learning);
    check_that_none_goes_on(script);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_connections_are_answered_at_once),
        cmocka_unit_test(events_that_come_in_time_are_waited_for),
        cmocka_unit_test(each_wait_in_vain_is_for_one_event_less),
        cmocka_unit_test(one_wait_in_vain_begins_the_count_anew),
        cmocka_unit_test(vain_tries_are_made_less_and_less),
        cmocka_unit_test(tries_that_fill_seldom_stay_rare),
        cmocka_unit_test(connections_that_leave_are_not_waited_for),
        SCRIPT_TEST(driver_learns_from_what_its_turns_bring),
        SCRIPT_TEST(wait_that_an_unpark_ended_teaches_nothing),
        SCRIPT_TEST(turn_that_does_not_block_teaches_nothing),
        SCRIPT_TEST(turn_of_a_dead_backend_teaches_nothing),
        SCRIPT_TEST(count_that_was_asked_for_stays),
        SCRIPT_TEST(no_turn_goes_on_where_nobody_asked),
        SCRIPT_TEST(no_turn_goes_on_where_the_kernel_cannot),
        SCRIPT_TEST(no_turn_goes_on_without_completion_mode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
