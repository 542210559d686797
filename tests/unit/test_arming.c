/* SPDX-License-Identifier: MIT */
/*
 * The life of an arming, on a scripted backend: what the driver does when the kernel refuses, ends
 * a watch by itself, speaks late, twice, or not at all.
 */
#include "tests/support/scripted.h"

#include <pthread.h>

#define TOKEN_OF_NOBODY UINT64_C(0x0000270f00000001)

static int answer(struct rdy_registration *reg)
{
    struct rdy_waker nobody = {0};
    struct rdy_event event;

    return rdy_poll_readiness(reg, RDY_DIRECTION_READ, &nobody, &event);
}

/* --- refusals --- */

static void refused_arm_fails_the_registration_and_keeps_nothing(void **state)
{
    static const int errors[] = {-EPERM, -ENOMEM, -ENOSPC, -EBADF};
    struct script *script = *state;
    struct rdy_registration reg = {0};
    int fd = event_fd();

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        script->fake.arm_error = errors[i];
        script->fake.arm_errors = 1;
        assert_int_equal(rdy_register(script->driver, fd, RDY_INTEREST_READ, &reg), errors[i]);
        assert_null(reg.io);
        assert_int_equal(script_stats(script).entries_live, 0);
    }

    assert_int_equal(rdy_register(script->driver, fd, RDY_INTEREST_READ, &reg), 0);
    rdy_close(&reg);
}

/* The kernel has no room just now: the caller need not know, the driver asks again. */
static void arm_without_room_is_repeated_until_there_is(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg;

    script->fake.arm_error = -EBUSY;
    script->fake.arm_errors = 3;
    reg = script_register(script, &fd);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(script->fake.arms, 0);
        (void)script_turn(script);
    }

    assert_int_equal(script->fake.arms, 1);
    fake_push(&script->fake, fd, RDY_EV_IN);
    assert_int_equal(script_turn(script), 1);
    rdy_close(&reg);
}

/* With an arm to repeat, the driver must not go to sleep. */
static void arm_without_room_keeps_the_turn_from_blocking(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg;

    script->fake.arm_error = -EBUSY;
    script->fake.arm_errors = 2;
    reg = script_register(script, &fd);

    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    assert_int_equal(script->fake.timeout_ns, 0);

    rdy_close(&reg);
}

struct errand {
    struct script *script;
    struct rdy_registration reg;
    int fd;
    int result;
};

static void *register_when_parked(void *arg)
{
    struct errand *errand = arg;
    struct rdy_driver *driver = errand->script->driver;

    while (rdy_a32_load_acquire(&driver->park) != RDY_PARK_PARKED)
        rdy_sys_cpu_relax();
    errand->result = rdy_register(driver, errand->fd, RDY_INTEREST_READ, &errand->reg);
    return NULL;
}

/* Refused on a foreign thread while the driver sleeps: it must get up to repeat the arm. */
static void foreign_arm_without_room_wakes_the_driver(void **state)
{
    struct script *script = *state;
    struct errand errand = {.script = script, .fd = event_fd(), .result = 1};
    pthread_t thread;

    script->fake.is_blocking = true;
    script->fake.arm_error = -EBUSY;
    script->fake.arm_errors = 1;
    check(pthread_create(&thread, NULL, register_when_parked, &errand) == 0);
    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    pthread_join(thread, NULL);
    (void)script_turn(script);

    assert_int_equal(errand.result, 0);
    assert_int_equal(script->fake.arms, 1);
    rdy_close(&errand.reg);
}

/* A ring cannot refuse before the next turn: then it is the waiters who hear of it. */
static void refusal_that_comes_later_reaches_the_waiters(void **state)
{
    struct script *script = *state;
    struct bell bell = {0};
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script_await_read(&reg, &bell);
    fake_push_end(&script->fake, fd, 0, -EBADF, 0);
    (void)script_turn(script);

    assert_int_equal(bell_rings(&bell), 1);
    assert_int_equal(answer(&reg), -EBADF);
    assert_int_equal(script->fake.arms, 1); /* and not again */
    rdy_close(&reg);
}

static void shortage_that_comes_later_is_repeated(void **state)
{
    static const int errors[] = {-ENOMEM, -EAGAIN, -EBUSY};
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        fake_push_end(&script->fake, fd, 0, errors[i], 0);
        (void)script_turn(script);
        (void)script_turn(script);
        assert_int_equal(script->fake.arms, i + 2);
    }

    assert_int_equal(answer(&reg), RDY_PENDING);
    rdy_close(&reg);
}

static void disarm_without_room_is_repeated(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script->fake.disarm_error = -EBUSY;
    script->fake.disarm_errors = 2;
    assert_int_equal(rdy_close(&reg), 0);
    for (int i = 0; i < 4; i++)
        (void)script_turn(script);

    assert_int_equal(script->fake.disarms, 3);
    assert_int_equal(script_stats(script).entries_live, 0);
}

/* --- watches that the kernel ended --- */

static void watch_that_ended_is_armed_again_and_its_last_event_counts(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    uint64_t token = fake_token(&script->fake, fd);

    fake_push_end(&script->fake, fd, RDY_EV_IN, 0, 0);
    assert_int_equal(script_turn(script), 1);

    assert_int_equal(script_ready(&reg), RDY_READABLE);
    assert_int_equal(script->fake.arms, 2);
    check(fake_token(&script->fake, fd) != token);
    fake_push(&script->fake, fd, RDY_EV_OUT);
    assert_int_equal(script_turn(script), 1);
    assert_int_equal(script_ready(&reg), RDY_READABLE | RDY_WRITABLE);
    rdy_close(&reg);
}

/* After an overflow the driver arms again only when a batch came without one. */
static void script_turn_until_armed(struct script *script, int arms)
{
    for (int i = 0; i < 4 && script->fake.arms < (uint32_t)arms; i++)
        (void)script_turn(script);
    assert_int_equal(script->fake.arms, arms);
}

/* What an arming said after its last word is not taken for the next one's. */
static void fact_of_an_earlier_arming_is_ignored(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    uint64_t token = fake_token(&script->fake, fd);

    fake_push_end(&script->fake, fd, 0, 0, RDY_FACT_OVERFLOW);
    (void)script_turn(script);
    fake_push_raw(&script->fake, token, RDY_EV_IN, 0, 0);
    fake_push_raw(&script->fake, token, RDY_EV_IN, 0, RDY_FACT_LAST);

    assert_int_equal(script_turn(script), 0);
    assert_int_equal(script_ready(&reg), 0);
    script_turn_until_armed(script, 2);
    rdy_close(&reg);
}

static void second_last_fact_in_a_batch_is_ignored(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    uint64_t token = fake_token(&script->fake, fd);

    fake_push_raw(&script->fake, token, RDY_EV_IN, 0, RDY_FACT_LAST);
    fake_push_raw(&script->fake, token, RDY_EV_IN, 0, RDY_FACT_LAST);

    assert_int_equal(script_turn(script), 1);
    assert_int_equal(script->fake.arms, 2);
    assert_int_equal(script_stats(script).facts_for_closed_entry, 1);
    rdy_close(&reg);
}

static void fact_for_nobody_is_ignored(void **state)
{
    struct script *script = *state;

    fake_push_raw(&script->fake, TOKEN_OF_NOBODY, RDY_EV_IN, 0, RDY_FACT_LAST);

    assert_int_equal(script_turn(script), 0);
    assert_int_equal(script_stats(script).facts_for_closed_entry, 1);
}

/* --- devices that cannot be polled --- */

static void device_that_completes_at_once_again_and_again_is_refused(void **state)
{
    struct script *script = *state;
    struct rdy_registration reg;
    int fd = event_fd();

    assert_int_equal(
        rdy_register_kind(script->driver, fd, RDY_INTEREST_READ, RDY_FILE_DEVICE, &reg), 0);
    fake_push_end(&script->fake, fd, RDY_EV_IN, 0, 0);
    (void)script_turn(script);
    check(answer(&reg) != -EPERM); /* one sample is no proof */
    fake_push_end(&script->fake, fd, RDY_EV_IN, 0, 0);
    (void)script_turn(script);

    assert_int_equal(answer(&reg), -EPERM);
    assert_int_equal(script->fake.arms, 2);
    rdy_close(&reg);
}

/* Not every file that has no poll function is a device: what fsopen(2) returns is of no kind. */
static void file_of_no_kind_that_completes_at_once_again_and_again_is_refused(void **state)
{
    struct script *script = *state;
    struct rdy_registration reg;
    int fd = event_fd();

    assert_int_equal(rdy_register_kind(script->driver, fd, RDY_INTEREST_READ, RDY_FILE_OTHER, &reg),
                     0);
    for (int i = 0; i < 2; i++) {
        fake_push_end(&script->fake, fd, RDY_EV_IN, 0, 0);
        (void)script_turn(script);
    }

    assert_int_equal(answer(&reg), -EPERM);
    assert_int_equal(script->fake.arms, 2);
    rdy_close(&reg);
}

static void overflow_does_not_count_against_a_device(void **state)
{
    struct script *script = *state;
    struct rdy_registration reg;
    int fd = event_fd();

    assert_int_equal(
        rdy_register_kind(script->driver, fd, RDY_INTEREST_READ, RDY_FILE_DEVICE, &reg), 0);
    for (int i = 0; i < 5; i++) {
        fake_push_end(&script->fake, fd, RDY_EV_IN, 0, RDY_FACT_OVERFLOW);
        script_turn_until_armed(script, i + 2);
    }

    assert_int_equal(answer(&reg), 0);
    assert_int_equal(script->fake.arms, 6);
    rdy_close(&reg);
}

/* --- letting go --- */

/* Until its last fact the kernel may speak of the token, so the slot is nobody else's. */
static void slot_is_not_used_again_before_the_last_fact(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    struct rdy_scheduled_io *slot = reg.io;
    struct rdy_registration other;

    script->fake.is_withholding = true;
    assert_int_equal(rdy_deregister(&reg), 0);
    (void)script_turn(script);
    other = script_register(script, &(int){0});
    check(other.io != slot);
    assert_int_equal(script_stats(script).entries_live, 2);

    script->fake.is_withholding = false;
    fake_let_go(&script->fake, false);
    (void)script_turn(script);
    assert_int_equal(script_stats(script).entries_live, 1);

    rdy_close(&other);
    close(fd);
}

static void events_between_disarm_and_last_fact_reach_nobody(void **state)
{
    struct script *script = *state;
    struct bell bell = {0};
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    uint64_t token = fake_token(&script->fake, fd);

    script_await_read(&reg, &bell);
    script->fake.is_withholding = true;
    assert_int_equal(rdy_close(&reg), 0);
    (void)script_turn(script);
    fake_push_raw(&script->fake, token, RDY_EV_IN, 0, 0);
    assert_int_equal(script_turn(script), 0);
    fake_let_go(&script->fake, false);
    (void)script_turn(script);

    assert_int_equal(bell_rings(&bell), 0);
    assert_int_equal(script_stats(script).entries_live, 0);
}

static void last_facts_may_come_in_any_order(void **state)
{
    struct script *script = *state;
    struct rdy_registration reg[8];
    uint32_t fds_before = fds_open();

    script->fake.is_withholding = true;
    for (int i = 0; i < 8; i++)
        reg[i] = script_register(script, &(int){0});
    for (int i = 0; i < 8; i++)
        assert_int_equal(rdy_close(&reg[i]), 0);
    (void)script_turn(script);
    assert_int_equal(script_stats(script).cancels_pending, 8);
    assert_int_equal(fds_open(), fds_before + 8);
    fake_let_go(&script->fake, true);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).cancels_pending, 0);
    assert_int_equal(script_stats(script).entries_live, 0);
    assert_int_equal(fds_open(), fds_before);
}

/* The kernel ended the watch just before it was told to: then its own last word is the last. */
static void watch_that_ended_by_itself_needs_no_answer_to_the_disarm(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    fake_push_end(&script->fake, fd, RDY_EV_IN, 0, 0);
    script->fake.is_withholding = true;
    assert_int_equal(rdy_close(&reg), 0);
    (void)script_turn(script);

    assert_int_equal(script_stats(script).entries_live, 0);
    assert_int_equal(script->fake.arms, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(refused_arm_fails_the_registration_and_keeps_nothing),
        SCRIPT_TEST(arm_without_room_is_repeated_until_there_is),
        SCRIPT_TEST(arm_without_room_keeps_the_turn_from_blocking),
        cmocka_unit_test_setup_teardown(foreign_arm_without_room_wakes_the_driver,
                                        script_setup_any_thread, script_teardown),
        SCRIPT_TEST(refusal_that_comes_later_reaches_the_waiters),
        SCRIPT_TEST(shortage_that_comes_later_is_repeated),
        SCRIPT_TEST(disarm_without_room_is_repeated),
        SCRIPT_TEST(watch_that_ended_is_armed_again_and_its_last_event_counts),
        SCRIPT_TEST(fact_of_an_earlier_arming_is_ignored),
        SCRIPT_TEST(second_last_fact_in_a_batch_is_ignored),
        SCRIPT_TEST(fact_for_nobody_is_ignored),
        SCRIPT_TEST(device_that_completes_at_once_again_and_again_is_refused),
        SCRIPT_TEST(file_of_no_kind_that_completes_at_once_again_and_again_is_refused),
        SCRIPT_TEST(overflow_does_not_count_against_a_device),
        SCRIPT_TEST(slot_is_not_used_again_before_the_last_fact),
        SCRIPT_TEST(events_between_disarm_and_last_fact_reach_nobody),
        SCRIPT_TEST(last_facts_may_come_in_any_order),
        SCRIPT_TEST(watch_that_ended_by_itself_needs_no_answer_to_the_disarm),
    };

    return cmocka_run_group_tests_name("arming", tests, NULL, NULL);
}
