/* SPDX-License-Identifier: MIT */
/*
 * The spin before a sleep: first what decides it, with made-up times; then the driver's loop on a
 * scripted backend, where events, unparks and timers come in a look of the test's choice. That the
 * real backends lose no wake over it is in tests/stress/test_spin.c.
 */
#include "tests/support/scripted.h"

#include <time.h>

#include "engine/spin.h"

#define MAX_NS   50000u
#define LONG_NS  ((uint64_t)MAX_NS * RDY_SPIN_SLEEP_FACTOR + 1)
#define SHORT_NS ((uint64_t)MAX_NS * RDY_SPIN_SLEEP_FACTOR)
#define MANY     1000000u

/* --- the decision --- */

static void spin_is_as_long_as_the_option_and_the_timeout_allow(void **state)
{
    struct rdy_spin spin;

    (void)state;
    rdy_spin_init(&spin, MAX_NS);
    assert_int_equal(rdy_spin_window_ns(&spin, -1), MAX_NS);
    assert_int_equal(rdy_spin_window_ns(&spin, INT64_MAX), MAX_NS);
    assert_int_equal(rdy_spin_window_ns(&spin, MAX_NS), MAX_NS);
    assert_int_equal(rdy_spin_window_ns(&spin, MAX_NS - 1), MAX_NS - 1);
    assert_int_equal(rdy_spin_window_ns(&spin, 1), 1);
    assert_int_equal(rdy_spin_window_ns(&spin, 0), 0);
}

static void spin_of_no_time_is_never_on(void **state)
{
    struct rdy_spin spin;

    (void)state;
    rdy_spin_init(&spin, 0);
    check(!rdy_spin_is_on(&spin));
    for (uint32_t i = 0; i < 5000; i++)
        rdy_spin_slept(&spin, 0);
    check(!rdy_spin_is_on(&spin));
    assert_int_equal(rdy_spin_window_ns(&spin, -1), 0);
}

static void fail_until_off(struct rdy_spin *spin)
{
    uint32_t failures = 0;

    while (rdy_spin_is_on(spin)) {
        rdy_spin_failed(spin);
        check(++failures <= RDY_SPIN_CREDIT_MAX);
    }
}

static void vain_spins_end_it(void **state)
{
    struct rdy_spin spin;

    (void)state;
    rdy_spin_init(&spin, MAX_NS);
    for (uint32_t i = 0; i < RDY_SPIN_CREDIT_MAX; i++) {
        assert_int_equal(rdy_spin_window_ns(&spin, -1), MAX_NS);
        rdy_spin_failed(&spin);
    }
    assert_int_equal(rdy_spin_window_ns(&spin, -1), 0);
}

static void one_spin_in_three_that_pays_keeps_it_on(void **state)
{
    struct rdy_spin spin;

    (void)state;
    rdy_spin_init(&spin, MAX_NS);
    for (uint32_t i = 0; i < MANY; i++) {
        check(rdy_spin_is_on(&spin));
        if (i % 3 == 0)
            rdy_spin_paid(&spin);
        else
            rdy_spin_failed(&spin);
    }
}

static void one_spin_in_four_that_pays_does_not(void **state)
{
    struct rdy_spin spin;
    uint32_t spins = 0;

    (void)state;
    rdy_spin_init(&spin, MAX_NS);
    while (rdy_spin_is_on(&spin) && spins < MANY) {
        if (spins++ % 4 == 0)
            rdy_spin_paid(&spin);
        else
            rdy_spin_failed(&spin);
    }
    assert_in_range(spins, RDY_SPIN_CREDIT_MAX, 4 * RDY_SPIN_CREDIT_MAX);
}

static void long_sleeps_are_never_tried(void **state)
{
    struct rdy_spin spin;

    (void)state;
    rdy_spin_init(&spin, MAX_NS);
    fail_until_off(&spin);
    for (uint32_t i = 0; i < MANY; i++) {
        rdy_spin_slept(&spin, LONG_NS);
        check(!rdy_spin_is_on(&spin));
    }
    /* Nor are they counted against the short one that follows: one is let pass, the next is not. */
    rdy_spin_slept(&spin, SHORT_NS);
    check(!rdy_spin_is_on(&spin));
    rdy_spin_slept(&spin, SHORT_NS);
    check(rdy_spin_is_on(&spin));
}

/* Sleeps until a try; how many sleeps of @slept_ns that took. */
static uint32_t sleep_until_on(struct rdy_spin *spin, uint64_t slept_ns)
{
    uint32_t sleeps = 0;

    while (!rdy_spin_is_on(spin)) {
        rdy_spin_slept(spin, slept_ns);
        check(++sleeps <= RDY_SPIN_SKIPS_MAX + 1);
    }
    return sleeps;
}

static void each_vain_try_doubles_the_sleeps_before_the_next(void **state)
{
    struct rdy_spin spin;

    (void)state;
    rdy_spin_init(&spin, MAX_NS);
    fail_until_off(&spin);
    for (uint32_t skips = 1; skips <= RDY_SPIN_SKIPS_MAX; skips *= 2) {
        assert_int_equal(sleep_until_on(&spin, SHORT_NS), skips + 1);
        rdy_spin_failed(&spin);
        check(!rdy_spin_is_on(&spin)); /* a try is one spin */
    }
    assert_int_equal(sleep_until_on(&spin, 0), RDY_SPIN_SKIPS_MAX + 1);
}

static void try_that_pays_goes_on_and_forgets_the_failures(void **state)
{
    struct rdy_spin spin;

    (void)state;
    rdy_spin_init(&spin, MAX_NS);
    fail_until_off(&spin);
    for (int i = 0; i < 5; i++) {
        (void)sleep_until_on(&spin, SHORT_NS);
        rdy_spin_failed(&spin);
    }
    (void)sleep_until_on(&spin, SHORT_NS);
    rdy_spin_paid(&spin);
    for (uint32_t i = 0; i < RDY_SPIN_GAIN; i++)
        rdy_spin_failed(&spin);
    check(rdy_spin_is_on(&spin));
    fail_until_off(&spin);
    assert_int_equal(sleep_until_on(&spin, SHORT_NS), 2);
}

/*
 * Events come @gap_ns after the last wait ended; a sleep takes @wake_ns to end. The time that was
 * spun in @waits waits.
 */
static uint64_t simulate(uint64_t gap_ns, uint64_t wake_ns, uint32_t waits, uint32_t *hits)
{
    struct rdy_spin spin;
    uint64_t spun_ns = 0;

    *hits = 0;
    rdy_spin_init(&spin, MAX_NS);
    for (uint32_t i = 0; i < waits; i++) {
        uint64_t window_ns = rdy_spin_window_ns(&spin, -1);

        if (window_ns == 0) {
            rdy_spin_slept(&spin, gap_ns + wake_ns);
        } else if (gap_ns <= window_ns) {
            rdy_spin_paid(&spin);
            spun_ns += gap_ns;
            *hits += 1;
        } else {
            rdy_spin_failed(&spin);
            spun_ns += window_ns;
        }
    }
    return spun_ns;
}

static void idle_time_is_slept(void **state)
{
    uint32_t hits;

    (void)state;
    /* A thousand seconds of an event a millisecond: less than half a millisecond of it is spun. */
    assert_int_equal(simulate(1000000, 30000, MANY, &hits), MAX_NS * RDY_SPIN_CREDIT_MAX);
    assert_int_equal(hits, 0);
}

static void time_between_close_events_is_spun(void **state)
{
    uint32_t hits;

    (void)state;
    assert_int_equal(simulate(40000, 30000, MANY, &hits), UINT64_C(40000) * MANY);
    assert_int_equal(hits, MANY);
}

static void events_just_out_of_reach_are_tried_less_and_less(void **state)
{
    uint32_t hits;
    uint64_t spun_ns;

    (void)state;
    spun_ns = simulate(MAX_NS + 1, 0, MANY, &hits);
    assert_int_equal(hits, 0);
    /* At most one wait in a thousand, once the tries have become that rare. */
    assert_in_range(spun_ns / MAX_NS, RDY_SPIN_CREDIT_MAX, MANY / 1000 + 20);
}

/* --- the driver's loop --- */

/* What comes in which look of the fake: on_wait counts down. */
struct coming {
    struct script *script;
    uint32_t looks_left;
    bool is_unpark; /* else a fact of @fd */
    int fd;
};

static void come(void *arg)
{
    struct coming *coming = arg;

    if (coming->looks_left == 0 || --coming->looks_left > 0)
        return;
    if (coming->is_unpark)
        rdy_driver_unpark(coming->script->driver);
    else
        fake_push(&coming->script->fake, coming->fd, RDY_EV_IN);
}

/*
 * Without spin_ns it spins for as long as it takes: what is to come comes, however long the machine
 * leaves us alone between two looks.
 */
static void open_spinning(struct script *script, struct rdy_driver_opts opts)
{
    bool is_endless = opts.spin_ns == 0;

    rdy_driver_close(script->driver);
    script->driver = NULL;
    opts.size = sizeof(opts);
    if (is_endless)
        opts.spin_ns = 1;
    script->fake.waits = 0;
    assert_int_equal(fake_driver_open(&script->fake, &opts, &script->driver), 0);
    if (is_endless && !opts.is_embedded)
        script->driver->spin.max_ns = INT64_MAX;
}

static void spin_beyond_the_limit_is_refused(void **state)
{
    struct script *script = *state;
    struct rdy_driver_opts opts = {.size = sizeof(opts), .spin_ns = 10000001};

    rdy_driver_close(script->driver);
    script->driver = NULL;
    assert_int_equal(fake_driver_open(&script->fake, &opts, &script->driver), -EINVAL);
    opts.spin_ns = 10000000;
    assert_int_equal(fake_driver_open(&script->fake, &opts, &script->driver), 0);
}

static void event_in_a_spin_is_taken_without_a_sleep(void **state)
{
    struct script *script = *state;
    struct coming coming = {.script = script, .looks_left = 10};
    struct rdy_registration reg;

    open_spinning(script, (struct rdy_driver_opts){0});
    reg = script_register(script, &coming.fd);
    script->fake.on_wait = come;
    script->fake.on_wait_arg = &coming;

    assert_int_equal(rdy_driver_turn(script->driver, -1), 1);

    assert_int_equal(script_ready(&reg), RDY_READABLE);
    assert_int_equal(script->fake.waits, 10);
    assert_int_equal(script->fake.waits_blocking, 0);
    assert_int_equal(script_stats(script).spins, 1);
    assert_int_equal(script_stats(script).spin_hits, 1);
    check(script_stats(script).spin_ns > 0);
    assert_int_equal(script_stats(script).parks, 0);
    assert_int_equal(script_stats(script).turns, 1);
    rdy_close(&reg);
}

static void event_that_is_there_needs_no_spin(void **state)
{
    struct script *script = *state;
    struct rdy_registration reg;
    int fd;

    open_spinning(script, (struct rdy_driver_opts){0});
    reg = script_register(script, &fd);
    for (uint32_t i = 1; i <= 3 * RDY_SPIN_CREDIT_MAX; i++) {
        fake_push(&script->fake, fd, RDY_EV_IN);
        assert_int_equal(rdy_driver_turn(script->driver, -1), 1);
        assert_int_equal(script->fake.waits, i);
    }
    assert_int_equal(script_stats(script).spins, 0);
    assert_int_equal(script_stats(script).spin_ns, 0);
    assert_int_equal(script->driver->spin.credit, RDY_SPIN_CREDIT_MAX);
    rdy_close(&reg);
}

static void unpark_in_a_spin_ends_it_without_a_system_call(void **state)
{
    struct script *script = *state;
    struct coming coming = {.script = script, .looks_left = 10, .is_unpark = true};

    open_spinning(script, (struct rdy_driver_opts){0});
    script->fake.on_wait = come;
    script->fake.on_wait_arg = &coming;

    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);

    assert_int_equal(script->fake.waits, 10);
    assert_int_equal(script->fake.waits_blocking, 0);
    assert_int_equal(script->fake.wakes, 0);
    assert_int_equal(script_stats(script).unparks_coalesced, 1);
    assert_int_equal(script_stats(script).spin_hits, 1);
    /* It ended that turn, not the next as well. */
    assert_int_equal(rdy_a32_load_relaxed(&script->driver->park), RDY_PARK_AWAKE);
}

static void unpark_before_a_turn_leaves_nothing_to_spin_for(void **state)
{
    struct script *script = *state;

    open_spinning(script, (struct rdy_driver_opts){0});
    rdy_driver_unpark(script->driver);

    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);

    assert_int_equal(script->fake.waits, 1);
    assert_int_equal(script->fake.waits_blocking, 0);
    assert_int_equal(script_stats(script).spins, 0);
}

static void unpark_with_an_event_ends_one_turn(void **state)
{
    struct script *script = *state;
    struct coming coming = {.script = script, .looks_left = 1, .is_unpark = true};
    struct rdy_registration reg;

    open_spinning(script, (struct rdy_driver_opts){0});
    reg = script_register(script, &coming.fd);
    fake_push(&script->fake, coming.fd, RDY_EV_IN);
    script->fake.on_wait = come;
    script->fake.on_wait_arg = &coming;

    assert_int_equal(rdy_driver_turn(script->driver, -1), 1);

    assert_int_equal(rdy_a32_load_relaxed(&script->driver->park), RDY_PARK_AWAKE);
    rdy_close(&reg);
}

/* A timer that is due within the spin: the turn is over then, and nothing sleeps past it. */
static void timeout_within_a_spin_is_waited_for_awake(void **state)
{
    struct script *script = *state;

    open_spinning(script, (struct rdy_driver_opts){0});
    for (uint32_t i = 1; i <= 2 * RDY_SPIN_CREDIT_MAX; i++) {
        assert_int_equal(rdy_driver_turn(script->driver, 20000), 0);
        assert_int_equal(script_stats(script).spin_hits, i);
    }
    assert_int_equal(script->fake.waits_blocking, 0);
}

static void unpark_at_the_thousandth_look(void *arg)
{
    struct script *script = arg;

    if (script->fake.waits == 1000)
        rdy_driver_unpark(script->driver);
}

/* The kernel has no room for a watch, twice: the next turn asks again, and nothing else does. */
static void what_was_put_off_for_the_next_turn_is_not_spun_for(void **state)
{
    struct script *script = *state;
    struct rdy_registration reg;
    int fd;

    open_spinning(script, (struct rdy_driver_opts){0});
    script->fake.arm_error = -EBUSY;
    script->fake.arm_errors = 2;
    reg = script_register(script, &fd);
    script->fake.on_wait = unpark_at_the_thousandth_look; /* rather than to hang */
    script->fake.on_wait_arg = script;

    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    assert_int_equal(script->fake.waits, 1);
    assert_int_equal(script_stats(script).spins, 0);

    script->fake.on_wait = NULL;
    assert_int_equal(rdy_driver_turn(script->driver, 0), 0);
    fake_push(&script->fake, fd, RDY_EV_IN);
    assert_int_equal(rdy_driver_turn(script->driver, -1), 1);
    assert_int_equal(script_ready(&reg), RDY_READABLE);
    rdy_close(&reg);
}

static void turn_that_may_not_wait_does_not_spin(void **state)
{
    struct script *script = *state;

    open_spinning(script, (struct rdy_driver_opts){0});
    assert_int_equal(rdy_driver_turn(script->driver, 0), 0);
    assert_int_equal(script->fake.waits, 1);
    assert_int_equal(script_stats(script).spins, 0);
}

static void vain_spin_sleeps_what_is_left_of_the_timeout(void **state)
{
    struct script *script = *state;

    open_spinning(script, (struct rdy_driver_opts){.spin_ns = 1000});
    assert_int_equal(rdy_driver_turn(script->driver, INT64_MAX), 0);
    assert_int_equal(script->fake.waits_blocking, 1);
    check(script->fake.timeout_ns > 0 && script->fake.timeout_ns <= INT64_MAX - 1000);
    assert_int_equal(script_stats(script).spins, 1);
    assert_int_equal(script_stats(script).spin_hits, 0);
    assert_int_equal(script_stats(script).parks, 1);
}

/* A sleep is 10 us at the least, which is far from what a spin of 1 us could catch. */
static void sleep_if_it_may_block(void *arg)
{
    const struct fake *fake = arg;
    struct timespec while_ns = {.tv_nsec = 10000};

    if (fake->timeout_ns != 0)
        (void)nanosleep(&while_ns, NULL);
}

static void idle_driver_stops_spinning(void **state)
{
    struct script *script = *state;

    open_spinning(script, (struct rdy_driver_opts){.spin_ns = 1000});
    script->fake.on_wait = sleep_if_it_may_block;
    script->fake.on_wait_arg = &script->fake;
    for (uint32_t i = 0; i < 3 * RDY_SPIN_CREDIT_MAX; i++)
        assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    assert_int_equal(script_stats(script).spins, RDY_SPIN_CREDIT_MAX);
    assert_int_equal(script->fake.waits_blocking, 3 * RDY_SPIN_CREDIT_MAX);
    script->fake.waits = 0;
    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    assert_int_equal(script->fake.waits, 1);
}

static void look_without_a_system_call_spares_the_waits(void **state)
{
    struct script *script = *state;
    struct coming coming = {.script = script, .looks_left = 10};
    struct rdy_registration reg;

    rdy_driver_close(script->driver);
    script->driver = NULL;
    fake_show_news(&script->fake);
    open_spinning(script, (struct rdy_driver_opts){0});
    reg = script_register(script, &coming.fd);
    script->fake.on_wait = come;
    script->fake.on_wait_arg = &coming;

    assert_int_equal(rdy_driver_turn(script->driver, -1), 1);

    assert_int_equal(script->fake.looks, 10);
    assert_int_equal(script->fake.waits, 1);
    assert_int_equal(script_stats(script).spin_hits, 1);
    script->fake.on_wait = NULL;
    rdy_close(&reg);
}

static void backend_that_dies_in_a_spin_is_dead(void **state)
{
    struct script *script = *state;

    open_spinning(script, (struct rdy_driver_opts){0});
    script->fake.wait_error = -EBADR;
    assert_int_equal(rdy_driver_turn(script->driver, -1), -EBADR);
    assert_int_equal(rdy_driver_turn(script->driver, -1), -EBADR);
}

static void embedded_driver_never_spins(void **state)
{
    struct script *script = *state;

    open_spinning(script, (struct rdy_driver_opts){.is_embedded = true});
    assert_int_equal(rdy_driver_turn(script->driver, 1), 0);
    assert_int_equal(script->fake.waits, 1);
    assert_int_equal(script_stats(script).spins, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spin_is_as_long_as_the_option_and_the_timeout_allow),
        cmocka_unit_test(spin_of_no_time_is_never_on),
        cmocka_unit_test(vain_spins_end_it),
        cmocka_unit_test(one_spin_in_three_that_pays_keeps_it_on),
        cmocka_unit_test(one_spin_in_four_that_pays_does_not),
        cmocka_unit_test(long_sleeps_are_never_tried),
        cmocka_unit_test(each_vain_try_doubles_the_sleeps_before_the_next),
        cmocka_unit_test(try_that_pays_goes_on_and_forgets_the_failures),
        cmocka_unit_test(idle_time_is_slept),
        cmocka_unit_test(time_between_close_events_is_spun),
        cmocka_unit_test(events_just_out_of_reach_are_tried_less_and_less),
        SCRIPT_TEST(spin_beyond_the_limit_is_refused),
        SCRIPT_TEST(event_in_a_spin_is_taken_without_a_sleep),
        SCRIPT_TEST(event_that_is_there_needs_no_spin),
        SCRIPT_TEST(unpark_in_a_spin_ends_it_without_a_system_call),
        SCRIPT_TEST(unpark_before_a_turn_leaves_nothing_to_spin_for),
        SCRIPT_TEST(unpark_with_an_event_ends_one_turn),
        SCRIPT_TEST(timeout_within_a_spin_is_waited_for_awake),
        SCRIPT_TEST(what_was_put_off_for_the_next_turn_is_not_spun_for),
        SCRIPT_TEST(turn_that_may_not_wait_does_not_spin),
        SCRIPT_TEST(vain_spin_sleeps_what_is_left_of_the_timeout),
        SCRIPT_TEST(idle_driver_stops_spinning),
        SCRIPT_TEST(look_without_a_system_call_spares_the_waits),
        SCRIPT_TEST(backend_that_dies_in_a_spin_is_dead),
        SCRIPT_TEST(embedded_driver_never_spins),
    };

    return cmocka_run_group_tests_name("spin", tests, NULL, NULL);
}
