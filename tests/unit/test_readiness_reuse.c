/* SPDX-License-Identifier: MIT */
/*
 * Waits that outlive their registration. A wait that has not begun, or was woken and not polled
 * yet, is in no list, so the deregistration cannot tell it anything; by the time it is polled the
 * slot may be another file's. It must answer -ECANCELED, not with the other file's readiness.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/driver.h"

struct stage {
    struct rdy_driver *driver;
    int first_fd;
    int second_fd;
    struct rdy_registration first;
    struct rdy_registration second;
};

static void wake_count(void *arg, uint64_t data)
{
    *(uint64_t *)arg += data;
}

static ssize_t must_not_run(int fd, void *arg)
{
    (void)fd;
    (void)arg;
    fail_msg("the operation ran on another file's descriptor");
    return 0;
}

static void turn(struct stage *stage)
{
    assert_true(rdy_driver_turn(stage->driver, 0) >= 0);
}

static void stage_open(struct stage *stage)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts), .backend = RDY_BACKEND_EPOLL};

    *stage = (struct stage){0};
    assert_int_equal(rdy_driver_open(&stage->driver, &opts), 0);
    stage->first_fd = rdy_sys_eventfd();
    stage->second_fd = rdy_sys_eventfd();
    assert_true(stage->first_fd >= 0 && stage->second_fd >= 0);
    assert_int_equal(rdy_register(stage->driver, stage->first_fd, RDY_INTEREST_READ, &stage->first),
                     0);
}

/* Ends the first registration and has the second file take over its slot, readable. */
static void stage_replace(struct stage *stage)
{
    const struct rdy_scheduled_io *slot = stage->first.io;

    assert_int_equal(rdy_deregister(&stage->first), 0);
    turn(stage);
    assert_int_equal(
        rdy_register(stage->driver, stage->second_fd, RDY_INTEREST_READ, &stage->second), 0);
    assert_ptr_equal(stage->second.io, slot);
    assert_int_equal(rdy_sys_eventfd_write(stage->second_fd), 0);
    turn(stage);
    assert_int_equal(rdy_event_ready(rdy_ready_event(&stage->second, RDY_INTEREST_READ)),
                     RDY_READABLE);
}

static void stage_close(struct stage *stage)
{
    assert_int_equal(rdy_deregister(&stage->second), 0);
    rdy_driver_close(stage->driver);
    (void)close(stage->first_fd);
    (void)close(stage->second_fd);
}

static void wait_woken_before_its_slot_was_reused_is_cancelled(void **state)
{
    uint64_t wakes = 0;
    struct rdy_waker waker = {wake_count, &wakes, 1};
    struct rdy_readiness wait;
    struct rdy_event event;
    struct stage stage;

    (void)state;
    stage_open(&stage);
    rdy_readiness_init(&wait, &stage.first, RDY_INTEREST_READ);
    assert_int_equal(rdy_readiness_poll(&wait, &waker, &event), RDY_PENDING);
    assert_int_equal(rdy_sys_eventfd_write(stage.first_fd), 0);
    turn(&stage);
    assert_int_equal(wakes, 1);

    stage_replace(&stage);

    assert_int_equal(rdy_readiness_poll(&wait, &waker, &event), -ECANCELED);
    stage_close(&stage);
}

static void wait_begun_after_its_slot_was_reused_is_cancelled(void **state)
{
    struct rdy_waker nobody = {0};
    struct rdy_readiness wait;
    struct rdy_event event;
    struct stage stage;

    (void)state;
    stage_open(&stage);
    rdy_readiness_init(&wait, &stage.first, RDY_INTEREST_READ);

    stage_replace(&stage);

    assert_int_equal(rdy_readiness_poll(&wait, &nobody, &event), -ECANCELED);
    stage_close(&stage);
}

static void async_io_never_runs_on_the_file_that_took_the_slot(void **state)
{
    uint64_t wakes = 0;
    struct rdy_waker waker = {wake_count, &wakes, 1};
    struct rdy_readiness wait;
    struct stage stage;

    (void)state;
    stage_open(&stage);
    rdy_readiness_init(&wait, &stage.first, RDY_INTEREST_READ);
    assert_int_equal(rdy_async_io(&wait, &waker, must_not_run, NULL), RDY_PENDING);
    assert_int_equal(rdy_sys_eventfd_write(stage.first_fd), 0);
    turn(&stage);
    assert_int_equal(wakes, 1);

    stage_replace(&stage);

    assert_int_equal(rdy_async_io(&wait, &waker, must_not_run, NULL), -ECANCELED);
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait_woken_before_its_slot_was_reused_is_cancelled),
        cmocka_unit_test(wait_begun_after_its_slot_was_reused_is_cancelled),
        cmocka_unit_test(async_io_never_runs_on_the_file_that_took_the_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
