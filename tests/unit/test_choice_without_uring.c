/* SPDX-License-Identifier: MIT */
/* A program that was linked without io_uring: it runs on epoll, and says why. */
#include "engine/choice.h"

#include <stdlib.h>

#include "engine/driver.h"
#include "tests/support/check.h"

#define NOT_THERE "it is not part of this build"

/* Defined here, so that the library's is not linked. */
const struct rdy_backend_ops *const rdy_backend_uring = NULL;

static void free_choice_is_epoll(void **state)
{
    struct rdy_driver *driver = NULL;

    (void)state;
    assert_int_equal(rdy_driver_open(&driver, NULL), 0);
    assert_string_equal(rdy_driver_backend_name(driver), "epoll");
    assert_string_equal(rdy_driver_backend_reason(driver), "no io_uring: " NOT_THERE);
    assert_int_equal(rdy_driver_turn(driver, 0), 0);
    rdy_driver_close(driver);
}

static void named_ring_is_an_error(void **state)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts), .backend = RDY_BACKEND_URING};
    const struct rdy_backend_ops *ops = NULL;
    struct rdy_driver *driver = NULL;
    char reason[160] = "";

    (void)state;
    assert_int_equal(rdy_driver_open(&driver, &opts), -EOPNOTSUPP);
    assert_null(driver);
    assert_int_equal(rdy_choose_backend(RDY_BACKEND_URING, &ops, reason, sizeof(reason)),
                     -EOPNOTSUPP);
    assert_null(ops);
    assert_string_equal(reason, "the program asks for io_uring, but it cannot run: " NOT_THERE);
}

static void report_has_epoll_alone(void **state)
{
    struct rdy_probe_report report = {.size = sizeof(report)};

    (void)state;
    assert_int_equal(rdy_probe(&report), 0);
    assert_int_equal(report.uring_result, -EOPNOTSUPP);
    assert_string_equal(report.auto_backend, "epoll");
    assert_string_equal(report.auto_reason, "no io_uring: " NOT_THERE);
    assert_string_equal(report.capabilities[0].name, "epoll");
    assert_true(report.capabilities[0].is_present);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_choice_is_epoll),
        cmocka_unit_test(named_ring_is_an_error),
        cmocka_unit_test(report_has_epoll_alone),
    };

    (void)unsetenv("RDY_BACKEND");
    return cmocka_run_group_tests_name("without io_uring", tests, NULL, NULL);
}
