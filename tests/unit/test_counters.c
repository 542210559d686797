/* SPDX-License-Identifier: MIT */
/*
 * Every counter of struct rdy_driver_stats, each made to say 1 (or exactly so many) by the one
 * thing that it counts. What is legal but surprising is counted rather than logged, so a counter
 * that does not count is an observer gone blind.
 */
#include "tests/support/scripted.h"

#include <pthread.h>

static struct rdy_event seen(const struct rdy_registration *reg, uint32_t interest)
{
    return rdy_ready_event(reg, interest);
}

static void turns_counts_turns(void **state)
{
    struct script *script = *state;

    (void)script_turn(script);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).turns, 2);
}

static void parks_counts_turns_that_may_block(void **state)
{
    struct script *script = *state;

    (void)script_turn(script);
    assert_int_equal(rdy_driver_turn(script->driver, 1), 0);

    assert_int_equal(script_stats(script).parks, 1);
}

static void *unpark_when_parked(void *arg)
{
    struct rdy_driver *driver = arg;

    while (rdy_a32_load_acquire(&driver->park) != RDY_PARK_PARKED)
        rdy_sys_cpu_relax();
    rdy_driver_unpark(driver);
    return NULL;
}

static void unparks_counts_wakes_of_a_parked_driver(void **state)
{
    struct script *script = *state;
    pthread_t thread;

    script->fake.is_blocking = true;
    check(pthread_create(&thread, NULL, unpark_when_parked, script->driver) == 0);
    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    pthread_join(thread, NULL);

    assert_int_equal(script_stats(script).unparks, 1);
    assert_int_equal(script->fake.wakes, 1);
    assert_int_equal(script_stats(script).unparks_coalesced, 0);
}

static void unparks_coalesced_counts_wakes_that_cost_nothing(void **state)
{
    struct script *script = *state;

    rdy_driver_unpark(script->driver);

    assert_int_equal(script_stats(script).unparks_coalesced, 1);
    assert_int_equal(script->fake.wakes, 0);
}

static void registrations_are_counted_when_they_come_and_when_they_are_gone(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    assert_int_equal(script_stats(script).registered, 1);
    assert_int_equal(script_stats(script).deregistered, 0);
    assert_int_equal(script_stats(script).entries_live, 1);

    rdy_close(&reg);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).registered, 1);
    assert_int_equal(script_stats(script).deregistered, 1);
    assert_int_equal(script_stats(script).entries_live, 0);
}

static void registration_that_failed_is_not_counted(void **state)
{
    struct script *script = *state;
    struct rdy_registration reg;
    int fd = event_fd();

    script->fake.arm_error = -ENOMEM;
    script->fake.arm_errors = 1;
    assert_int_equal(rdy_register(script->driver, fd, RDY_INTEREST_READ, &reg), -ENOMEM);

    assert_int_equal(script_stats(script).registered, 0);
    assert_int_equal(script_stats(script).deregistered, 0);
    close(fd);
}

static void ready_events_counts_facts_that_reached_a_live_entry(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    fake_push(&script->fake, fd, RDY_EV_IN);
    fake_push(&script->fake, fd, 0);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).ready_events, 1);
    rdy_close(&reg);
}

static void waker_calls_counts_wakers(void **state)
{
    struct script *script = *state;
    struct bell bell = {0};
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script_await_read(&reg, &bell);
    fake_push(&script->fake, fd, RDY_EV_IN);
    fake_push(&script->fake, fd, RDY_EV_IN);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).waker_calls, 1);
    rdy_close(&reg);
}

static void system_calls_counts_what_the_backend_made(void **state)
{
    struct script *script = *state;

    (void)script_turn(script);

    assert_int_equal(script_stats(script).system_calls, 1);
}

static void rearms_and_overflows_count_watches_that_the_kernel_ended(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    fake_push_end(&script->fake, fd, 0, 0, 0);
    (void)script_turn(script);
    assert_int_equal(script_stats(script).rearms, 1);
    assert_int_equal(script_stats(script).overflows, 0);

    fake_push_end(&script->fake, fd, RDY_EV_IN, 0, RDY_FACT_OVERFLOW);
    (void)script_turn(script);
    assert_int_equal(script_stats(script).rearms, 2);
    assert_int_equal(script_stats(script).overflows, 1);
    rdy_close(&reg);
}

static void stale_clears_counts_clears_that_came_too_late(void **state)
{
    struct script *script = *state;
    struct rdy_event event;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    fake_push(&script->fake, fd, RDY_EV_IN);
    (void)script_turn(script);
    event = seen(&reg, RDY_INTEREST_READ);
    fake_push(&script->fake, fd, RDY_EV_IN);
    (void)script_turn(script);
    rdy_clear_readiness(&reg, event);
    assert_int_equal(script_stats(script).stale_clears, 1);
    assert_int_equal(script_ready(&reg), RDY_READABLE);

    rdy_clear_readiness(&reg, seen(&reg, RDY_INTEREST_READ));
    assert_int_equal(script_stats(script).stale_clears, 1);
    assert_int_equal(script_ready(&reg), 0);
    rdy_close(&reg);
}

static void facts_for_closed_entry_counts_events_after_the_release(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    uint64_t token = fake_token(&script->fake, fd);

    rdy_close(&reg);
    (void)script_turn(script);
    fake_push_raw(&script->fake, token, RDY_EV_IN, 0, 0);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).facts_for_closed_entry, 1);
}

static void release_in_a_waker(void *arg)
{
    assert_int_equal(rdy_deregister(arg), 0);
}

static void facts_for_closed_entry_counts_events_later_in_the_batch(void **state)
{
    struct script *script = *state;
    int fd_a;
    int fd_b;
    struct rdy_registration a = script_register(script, &fd_a);
    struct rdy_registration b = script_register(script, &fd_b);
    struct bell bell = {.then = release_in_a_waker, .arg = &b};

    script_await_read(&a, &bell);
    fake_push(&script->fake, fd_a, RDY_EV_IN);
    fake_push(&script->fake, fd_b, RDY_EV_IN);

    assert_int_equal(script_turn(script), 1);
    assert_int_equal(script_stats(script).facts_for_closed_entry, 1);
    rdy_close(&a);
    close(fd_b);
}

static void spurious_wakes_counts_waits_that_ended_with_nothing_left(void **state)
{
    struct script *script = *state;
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_readiness wait;
    struct rdy_event event;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    rdy_readiness_init(&wait, &reg, RDY_INTEREST_READ);
    assert_int_equal(rdy_readiness_poll(&wait, &waker, &event), RDY_PENDING);
    fake_push(&script->fake, fd, RDY_EV_IN);
    (void)script_turn(script);
    rdy_clear_readiness(&reg, seen(&reg, RDY_INTEREST_READ));

    assert_int_equal(rdy_readiness_poll(&wait, &waker, &event), 0);
    assert_int_equal(rdy_event_ready(event), 0);
    assert_int_equal(script_stats(script).spurious_wakes, 1);
    rdy_close(&reg);
}

static void shut_down_in_a_waker(void *arg)
{
    assert_int_equal(rdy_driver_shutdown(arg), 0);
}

static void sets_after_shutdown_counts_facts_for_ended_entries(void **state)
{
    struct script *script = *state;
    struct bell bell = {.then = shut_down_in_a_waker, .arg = script->driver};
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script_await_read(&reg, &bell);
    fake_push(&script->fake, fd, RDY_EV_IN);
    fake_push(&script->fake, fd, RDY_EV_OUT);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).sets_after_shutdown, 1);
    rdy_close(&reg);
}

static void interrupted_waits_is_the_backends_count(void **state)
{
    struct script *script = *state;

    rdy_a64_bump(&script->fake.backend.interruptions, 1);

    assert_int_equal(script_stats(script).interrupted_waits, 1);
}

static void arm_retries_counts_arms_put_off(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    fake_push_end(&script->fake, fd, 0, -ENOMEM, 0);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).arm_retries, 1);
    rdy_close(&reg);
}

/* The first arm of a registration is no exception. */
static void arm_retries_counts_a_first_arm_put_off(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg;

    script->fake.arm_error = -EBUSY;
    script->fake.arm_errors = 1;
    reg = script_register(script, &fd);

    assert_int_equal(script_stats(script).arm_retries, 1);
    rdy_close(&reg);
}

static void arm_failures_counts_arms_refused_for_good(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    fake_push_end(&script->fake, fd, 0, -EBADF, 0);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).arm_failures, 1);
    rdy_close(&reg);
}

static void unpollable_files_counts_devices_that_cannot_wait(void **state)
{
    struct script *script = *state;
    struct rdy_registration reg;
    int fd = event_fd();

    assert_int_equal(
        rdy_register_kind(script->driver, fd, RDY_INTEREST_READ, RDY_FILE_DEVICE, &reg), 0);
    for (int i = 0; i < 2; i++) {
        fake_push_end(&script->fake, fd, RDY_EV_IN, 0, 0);
        (void)script_turn(script);
    }

    assert_int_equal(script_stats(script).unpollable_files, 1);
    rdy_close(&reg);
}

static void stale_tokens_counts_releases_of_what_is_gone(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    struct rdy_registration alias = reg;

    assert_int_equal(rdy_close(&reg), 0);
    assert_int_equal(rdy_close(&alias), -EBADF);

    assert_int_equal(script_stats(script).stale_tokens, 1);
}

static void backend_moves_counts_moves(void **state)
{
    struct script *script = *state;

    script->driver->may_move = true;
    script->fake.wait_error = -EPERM;
    assert_int_equal(rdy_driver_turn(script->driver, 0), 0);

    assert_int_equal(script_stats(script).backend_moves, 1);
}

static void cancels_pending_is_a_gauge_of_outstanding_last_facts(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script->fake.is_withholding = true;
    rdy_close(&reg);
    (void)script_turn(script);
    assert_int_equal(script_stats(script).cancels_pending, 1);
    fake_let_go(&script->fake, false);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).cancels_pending, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(turns_counts_turns),
        SCRIPT_TEST(parks_counts_turns_that_may_block),
        SCRIPT_TEST(unparks_counts_wakes_of_a_parked_driver),
        SCRIPT_TEST(unparks_coalesced_counts_wakes_that_cost_nothing),
        SCRIPT_TEST(registrations_are_counted_when_they_come_and_when_they_are_gone),
        SCRIPT_TEST(registration_that_failed_is_not_counted),
        SCRIPT_TEST(ready_events_counts_facts_that_reached_a_live_entry),
        SCRIPT_TEST(waker_calls_counts_wakers),
        SCRIPT_TEST(system_calls_counts_what_the_backend_made),
        SCRIPT_TEST(rearms_and_overflows_count_watches_that_the_kernel_ended),
        SCRIPT_TEST(stale_clears_counts_clears_that_came_too_late),
        SCRIPT_TEST(facts_for_closed_entry_counts_events_after_the_release),
        SCRIPT_TEST(facts_for_closed_entry_counts_events_later_in_the_batch),
        SCRIPT_TEST(spurious_wakes_counts_waits_that_ended_with_nothing_left),
        SCRIPT_TEST(sets_after_shutdown_counts_facts_for_ended_entries),
        SCRIPT_TEST(interrupted_waits_is_the_backends_count),
        SCRIPT_TEST(arm_retries_counts_arms_put_off),
        SCRIPT_TEST(arm_retries_counts_a_first_arm_put_off),
        SCRIPT_TEST(arm_failures_counts_arms_refused_for_good),
        SCRIPT_TEST(unpollable_files_counts_devices_that_cannot_wait),
        SCRIPT_TEST(stale_tokens_counts_releases_of_what_is_gone),
        SCRIPT_TEST(backend_moves_counts_moves),
        SCRIPT_TEST(cancels_pending_is_a_gauge_of_outstanding_last_facts),
    };

    return cmocka_run_group_tests_name("counters", tests, NULL, NULL);
}
