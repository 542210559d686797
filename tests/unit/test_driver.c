/* SPDX-License-Identifier: MIT */
/*
 * The driver's life on a scripted backend: options, turn, unpark, shutdown, close, and the death of
 * the backend in the middle of it all.
 */
#include "engine/driver.h"

#include <pthread.h>

#include "tests/support/scripted.h"

/* --- open --- */

static int open_with(struct script *script, struct rdy_driver_opts opts)
{
    int rc;

    rdy_driver_close(script->driver);
    script->driver = NULL;
    if (opts.size == 0)
        opts.size = sizeof(opts);
    rc = fake_driver_open(&script->fake, &opts, &script->driver);
    return rc;
}

static void options_out_of_range_are_refused(void **state)
{
    struct script *script = *state;
    struct rdy_driver_opts unknown = {0};

    assert_int_equal(open_with(script, (struct rdy_driver_opts){.size = 1}), -EINVAL);
    assert_int_equal(open_with(script, (struct rdy_driver_opts){.events_max = 65537}), -EINVAL);
    assert_int_equal(open_with(script, (struct rdy_driver_opts){.cq_entries = 65537}), -EINVAL);
    assert_int_equal(open_with(script, (struct rdy_driver_opts){.entries_max = (1u << 25) + 1}),
                     -EINVAL);
    assert_int_equal(open_with(script, (struct rdy_driver_opts){.batch_count = 4097}), -EINVAL);
    assert_int_equal(open_with(script, (struct rdy_driver_opts){.batch_wait_us = 1000001}),
                     -EINVAL);
    memset(&unknown.backend, 0x7f, sizeof(unknown.backend));
    assert_int_equal(open_with(script, unknown), -EINVAL);
    check(!script->fake.is_open);
}

static void a_batch_is_the_backend_s_to_wait_for(void **state)
{
    struct script *script = *state;
    const struct rdy_backend *opened = &script->fake.backend;

    assert_int_equal(open_with(script, (struct rdy_driver_opts){0}), 0);
    assert_int_equal(opened->batch_count, 1);
    assert_int_equal(opened->batch_wait_us, 50);
    assert_int_equal(open_with(script, (struct rdy_driver_opts){.batch_count = 32}), 0);
    assert_int_equal(opened->batch_count, 32);
    assert_int_equal(opened->batch_wait_us, 50);
    assert_int_equal(
        open_with(script, (struct rdy_driver_opts){.batch_count = 4096, .batch_wait_us = 1000000}),
        0);
    assert_int_equal(opened->batch_count, 4096);
    assert_int_equal(opened->batch_wait_us, 1000000);
}

static void open_that_the_backend_refuses_keeps_nothing(void **state)
{
    struct script *script = *state;
    uint32_t fds_before;

    rdy_driver_close(script->driver);
    script->driver = NULL;
    fds_before = fds_open();
    script->fake.open_error = -EMFILE;

    assert_int_equal(fake_driver_open(&script->fake, NULL, &script->driver), -EMFILE);

    assert_null(script->driver);
    assert_int_equal(fds_open(), fds_before);
}

static void entries_beyond_the_limit_are_refused(void **state)
{
    struct script *script = *state;
    struct rdy_registration reg;
    struct rdy_registration other;
    int fd;
    int fd_other = event_fd();

    assert_int_equal(open_with(script, (struct rdy_driver_opts){.entries_max = 1}), 0);
    reg = script_register(script, &fd);

    assert_int_equal(rdy_register(script->driver, fd_other, RDY_INTEREST_READ, &other), -ENFILE);

    rdy_close(&reg);
    close(fd_other);
    (void)script_turn(script);
    (void)script_turn(script);
    reg = script_register(script, &fd);
    rdy_close(&reg);
}

static void closing_nothing_does_nothing(void **state)
{
    (void)state;
    rdy_driver_close(NULL);
}

/* --- turn and unpark --- */

static void turn_counts_the_events_that_reached_a_registration(void **state)
{
    struct script *script = *state;
    int fd_a;
    int fd_b;
    struct rdy_registration a = script_register(script, &fd_a);
    struct rdy_registration b = script_register(script, &fd_b);

    fake_push(&script->fake, fd_a, RDY_EV_IN);
    fake_push(&script->fake, fd_b, RDY_EV_OUT);

    assert_int_equal(script_turn(script), 2);
    assert_int_equal(script_ready(&a), RDY_READABLE);
    assert_int_equal(script_ready(&b), RDY_WRITABLE);

    rdy_close(&a);
    rdy_close(&b);
}

static void turn_in_a_waker(void *arg)
{
    struct script *script = arg;

    assert_int_equal(rdy_driver_turn(script->driver, 0), -EDEADLK);
}

static void turn_within_a_waker_is_refused(void **state)
{
    struct script *script = *state;
    struct bell bell = {.then = turn_in_a_waker, .arg = script};
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script_await_read(&reg, &bell);
    fake_push(&script->fake, fd, RDY_EV_IN);

    assert_int_equal(script_turn(script), 1);
    assert_int_equal(bell_rings(&bell), 1);

    rdy_close(&reg);
}

static void timeout_reaches_the_backend_whole(void **state)
{
    struct script *script = *state;

    assert_int_equal(rdy_driver_turn(script->driver, 1234567891), 0);
    assert_int_equal(script->fake.timeout_ns, 1234567891);

    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    assert_int_equal(script->fake.timeout_ns, -1);
}

static void unpark_before_a_turn_makes_it_not_block(void **state)
{
    struct script *script = *state;

    rdy_driver_unpark(script->driver);
    rdy_driver_unpark(script->driver);
    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    assert_int_equal(script->fake.timeout_ns, 0);

    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    assert_int_equal(script->fake.timeout_ns, -1);
}

static void turn_without_time_keeps_the_unpark_for_the_next(void **state)
{
    struct script *script = *state;

    rdy_driver_unpark(script->driver);
    assert_int_equal(rdy_driver_turn(script->driver, 0), 0);
    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);

    assert_int_equal(script->fake.timeout_ns, 0);
}

/* --- shutdown --- */

static void shutdown_wakes_everybody_and_answers_eshutdown(void **state)
{
    struct script *script = *state;
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_readiness wait;
    struct rdy_event event;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    struct rdy_registration late;

    assert_int_equal(rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event), RDY_PENDING);
    assert_int_equal(rdy_poll_readiness(&reg, RDY_DIRECTION_WRITE, &waker, &event), RDY_PENDING);
    rdy_readiness_init(&wait, &reg, RDY_INTEREST_ERROR);
    assert_int_equal(rdy_readiness_poll(&wait, &waker, &event), RDY_PENDING);

    assert_int_equal(rdy_driver_shutdown(script->driver), 0);

    assert_int_equal(bell_rings(&bell), 3);
    assert_int_equal(rdy_readiness_poll(&wait, &waker, &event), -ESHUTDOWN);
    assert_int_equal(rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event), -ESHUTDOWN);
    assert_int_equal(rdy_driver_turn(script->driver, 0), -ESHUTDOWN);
    assert_int_equal(rdy_register(script->driver, fd, RDY_INTEREST_READ, &late), -ESHUTDOWN);
    assert_int_equal(script->fake.watches_count, 0);

    rdy_close(&reg);
}

static void second_shutdown_does_nothing(void **state)
{
    struct script *script = *state;
    struct bell bell = {0};
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script_await_read(&reg, &bell);
    assert_int_equal(rdy_driver_shutdown(script->driver), 0);
    assert_int_equal(rdy_driver_shutdown(script->driver), 0);

    assert_int_equal(bell_rings(&bell), 1);
    rdy_close(&reg);
}

static void everything_after_shutdown_is_harmless(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    struct rdy_event event;

    fake_push(&script->fake, fd, RDY_EV_IN | RDY_EV_OUT);
    (void)script_turn(script);
    event = rdy_ready_event(&reg, RDY_INTEREST_READ);
    assert_int_equal(rdy_driver_shutdown(script->driver), 0);

    rdy_clear_readiness(&reg, event);
    rdy_assume_ready(&reg, RDY_WRITABLE);
    rdy_driver_unpark(script->driver);
    check(rdy_event_is_shutdown(rdy_ready_event(&reg, RDY_INTEREST_READ)));
    assert_int_equal(rdy_deregister(&reg), 0);
    assert_int_equal(rdy_driver_turn(script->driver, 0), -ESHUTDOWN);
    assert_int_equal(script_stats(script).entries_live, 0);

    close(fd);
}

static void shut_down_in_a_waker(void *arg)
{
    struct script *script = arg;

    assert_int_equal(rdy_driver_shutdown(script->driver), 0);
    assert_int_equal(rdy_driver_turn(script->driver, 0), -EDEADLK);
}

/* The rest of the batch is still to be handled, and its array must not be used for another wait. */
static void shutdown_within_a_waker_leaves_the_batch_alone(void **state)
{
    struct script *script = *state;
    struct bell bell = {.then = shut_down_in_a_waker, .arg = script};
    int fd_a;
    int fd_b;
    struct rdy_registration a = script_register(script, &fd_a);
    struct rdy_registration b = script_register(script, &fd_b);
    uint32_t waits;

    script_await_read(&a, &bell);
    fake_push(&script->fake, fd_a, RDY_EV_IN);
    fake_push(&script->fake, fd_b, RDY_EV_IN);
    waits = script->fake.waits;

    assert_int_equal(script_turn(script), 1);

    assert_int_equal(script->fake.waits, waits + 1);
    assert_int_equal(script_stats(script).sets_after_shutdown, 1);
    rdy_close(&a);
    rdy_close(&b);
}

/* --- close --- */

static void close_ends_what_is_still_registered(void **state)
{
    struct script *script = *state;
    struct bell bell = {0};
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script_await_read(&reg, &bell);
    rdy_driver_close(script->driver);
    script->driver = NULL;

    assert_int_equal(bell_rings(&bell), 1);
    assert_int_equal(script->fake.watches_count, 0);
    check(!script->fake.is_open);
    event_write(fd); /* the file stays open */
    close(fd);
}

/* The kernel may never say the last word; a descriptor handed over is closed all the same. */
static void close_with_the_last_fact_outstanding_closes_the_descriptor(void **state)
{
    struct script *script = *state;
    uint32_t fds_before = fds_open();
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script->fake.is_withholding = true;
    assert_int_equal(rdy_close(&reg), 0);
    (void)script_turn(script);
    assert_int_equal(fds_open(), fds_before + 1);
    rdy_driver_close(script->driver);
    script->driver = NULL;

    assert_int_equal(fds_open(), fds_before - 1); /* the fake's own as well */
}

struct owner {
    struct script *script;
    struct rdy_registration reg;
    struct bell bell;
    int fd;
};

static void *open_register_and_end(void *arg)
{
    struct owner *owner = arg;
    struct rdy_waker waker = bell_waker(&owner->bell);
    struct rdy_event event;

    if (fake_driver_open(&owner->script->fake, NULL, &owner->script->driver) != 0)
        return NULL;
    owner->fd = event_fd();
    if (rdy_register(owner->script->driver, owner->fd, RDY_INTEREST_READ, &owner->reg) == 0 &&
        rdy_poll_readiness(&owner->reg, RDY_DIRECTION_READ, &waker, &event) == RDY_PENDING)
        return owner;
    return NULL;
}

static void close_by_another_thread_wakes_the_waiters_too(void **state)
{
    struct script *script = *state;
    struct owner owner = {.script = script};
    pthread_t thread;
    void *result = NULL;

    rdy_driver_close(script->driver);
    script->driver = NULL;
    check(pthread_create(&thread, NULL, open_register_and_end, &owner) == 0);
    pthread_join(thread, &result);
    check(result != NULL);

    rdy_driver_close(script->driver);
    script->driver = NULL;

    assert_int_equal(bell_rings(&owner.bell), 1);
    close(owner.fd);
}

/* --- the death of the backend --- */

static void dead_backend_is_told_by_every_later_turn(void **state)
{
    struct script *script = *state;
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_event event;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);
    struct rdy_registration late;

    assert_int_equal(rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event), RDY_PENDING);
    script->fake.wait_error = -EPERM;

    assert_int_equal(rdy_driver_turn(script->driver, -1), -EPERM);
    assert_int_equal(rdy_driver_turn(script->driver, -1), -EPERM);

    assert_int_equal(bell_rings(&bell), 1);
    assert_int_equal(rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event), -EPERM);
    assert_int_equal(rdy_register(script->driver, fd, RDY_INTEREST_READ, &late), -EPERM);
    assert_string_equal(rdy_driver_backend_name(script->driver), "fake");
    rdy_close(&reg);
}

static void dead_backend_of_an_auto_driver_is_replaced_by_epoll(void **state)
{
    struct script *script = *state;
    struct bell bell = {0};
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script_await_read(&reg, &bell);
    script->driver->may_move = true;
    script->fake.wait_error = -EPERM;

    assert_int_equal(rdy_driver_turn(script->driver, -1), 0);
    check(!script->fake.is_open);
    assert_string_equal(rdy_driver_backend_name(script->driver), "epoll");
    assert_non_null(strstr(rdy_driver_backend_reason(script->driver), strerror(EPERM)));
    assert_int_equal(bell_rings(&bell), 0);

    event_write(fd); /* from here on it is the kernel that speaks */
    for (int i = 0; i < 100 && bell_rings(&bell) == 0; i++)
        check(rdy_driver_turn(script->driver, 10 * RDY_NS_PER_MS) >= 0);
    assert_int_equal(bell_rings(&bell), 1);
    check(script_ready(&reg) & RDY_READABLE);
    rdy_close(&reg);
}

static void counters_survive_the_move(void **state)
{
    struct script *script = *state;
    struct rdy_driver_stats before;

    rdy_a64_bump(&script->fake.backend.interruptions, 3);
    (void)script_turn(script);
    before = script_stats(script);
    script->driver->may_move = true;
    script->fake.wait_error = -ENOSYS;

    assert_int_equal(rdy_driver_turn(script->driver, 0), 0);

    check(script_stats(script).system_calls > before.system_calls);
    assert_int_equal(script_stats(script).interrupted_waits, 3);
    assert_int_equal(script_stats(script).backend_moves, 1);
}

/* Half released: the backend had no room for the disarm, so the entry waits in the inbox. */
static void release_that_was_put_off_survives_the_move(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script->driver->may_move = true;
    script->fake.disarm_error = -EBUSY;
    script->fake.disarm_errors = 1;
    script->fake.wait_error = -EPERM;
    assert_int_equal(rdy_close(&reg), 0);

    assert_int_equal(rdy_driver_turn(script->driver, 0), 0);
    assert_int_equal(rdy_driver_turn(script->driver, 0), 0);

    assert_int_equal(script_stats(script).entries_live, 0);
    assert_int_equal(script_stats(script).deregistered, 1);
}

/* The kernel that was asked to let go died; its last fact will never come. */
static void release_in_progress_survives_the_move(void **state)
{
    struct script *script = *state;
    int fd;
    struct rdy_registration reg = script_register(script, &fd);

    script->fake.is_withholding = true;
    assert_int_equal(rdy_close(&reg), 0);
    (void)script_turn(script);
    assert_int_equal(script_stats(script).cancels_pending, 1);
    script->driver->may_move = true;
    script->fake.wait_error = -EPERM;

    assert_int_equal(rdy_driver_turn(script->driver, 0), 0);

    assert_int_equal(script_stats(script).cancels_pending, 0);
    assert_int_equal(script_stats(script).entries_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(options_out_of_range_are_refused),
        SCRIPT_TEST(a_batch_is_the_backend_s_to_wait_for),
        SCRIPT_TEST(open_that_the_backend_refuses_keeps_nothing),
        SCRIPT_TEST(entries_beyond_the_limit_are_refused),
        SCRIPT_TEST(closing_nothing_does_nothing),
        SCRIPT_TEST(turn_counts_the_events_that_reached_a_registration),
        SCRIPT_TEST(turn_within_a_waker_is_refused),
        SCRIPT_TEST(timeout_reaches_the_backend_whole),
        SCRIPT_TEST(unpark_before_a_turn_makes_it_not_block),
        SCRIPT_TEST(turn_without_time_keeps_the_unpark_for_the_next),
        SCRIPT_TEST(shutdown_wakes_everybody_and_answers_eshutdown),
        SCRIPT_TEST(second_shutdown_does_nothing),
        SCRIPT_TEST(everything_after_shutdown_is_harmless),
        SCRIPT_TEST(shutdown_within_a_waker_leaves_the_batch_alone),
        SCRIPT_TEST(close_ends_what_is_still_registered),
        SCRIPT_TEST(close_with_the_last_fact_outstanding_closes_the_descriptor),
        SCRIPT_TEST(close_by_another_thread_wakes_the_waiters_too),
        SCRIPT_TEST(dead_backend_is_told_by_every_later_turn),
        SCRIPT_TEST(dead_backend_of_an_auto_driver_is_replaced_by_epoll),
        SCRIPT_TEST(counters_survive_the_move),
        SCRIPT_TEST(release_that_was_put_off_survives_the_move),
        SCRIPT_TEST(release_in_progress_survives_the_move),
    };

    return cmocka_run_group_tests_name("driver", tests, NULL, NULL);
}
