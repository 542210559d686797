/* SPDX-License-Identifier: MIT */
/* A program that was linked without epoll: io_uring or nothing, and the error is the ring's. */
#include "engine/choice.h"

#include <stdlib.h>

#include "engine/driver.h"
#include "tests/support/check.h"

/* Defined here, so that the library's is not linked. */
const struct rdy_backend_ops *const rdy_backend_epoll = NULL;

/* A ring that has passed its probe, or not, and cannot be opened. */
static int probe_result;

static int scripted_probe(struct rdy_probe_report *report, char *why, size_t why_len)
{
    rdy_report_add(report, "scripted", probe_result == 0, "of the test");
    (void)snprintf(why, why_len, "of the test");
    return probe_result;
}

static int scripted_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                         size_t why_len)
{
    (void)out;
    (void)opts;
    (void)snprintf(why, why_len, "of the test");
    return -ENOMEM;
}

static const struct rdy_backend_ops scripted_ops = {
    .name = "io_uring",
    .probe = scripted_probe,
    .open = scripted_open,
};

const struct rdy_backend_ops *const rdy_backend_uring = &scripted_ops;

static void free_choice_is_the_ring_or_its_error(void **state)
{
    const struct rdy_backend_ops *ops = NULL;
    char reason[160] = "";

    (void)state;
    probe_result = 0;
    assert_int_equal(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)), 0);
    assert_ptr_equal(ops, rdy_backend_uring);
    ops = NULL;
    probe_result = -ENOSYS;
    assert_int_equal(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)), -ENOSYS);
    assert_null(ops);
    assert_string_equal(reason, "no io_uring: the kernel has no io_uring, or a sandbox hides it");
}

static void named_epoll_is_an_error(void **state)
{
    const struct rdy_backend_ops *ops = NULL;
    char reason[160] = "";

    (void)state;
    assert_int_equal(rdy_choose_backend(RDY_BACKEND_EPOLL, &ops, reason, sizeof(reason)),
                     -EOPNOTSUPP);
    assert_null(ops);
    assert_string_equal(reason, "the program asks for epoll");
}

static void driver_whose_ring_cannot_be_opened_has_nowhere_to_go(void **state)
{
    struct rdy_driver *driver = NULL;

    (void)state;
    probe_result = 0;
    assert_int_equal(rdy_driver_open(&driver, NULL), -ENOMEM);
    assert_null(driver);
}

static void report_has_the_ring_alone(void **state)
{
    struct rdy_probe_report report = {.size = sizeof(report)};

    (void)state;
    probe_result = -ENOSYS;
    assert_int_equal(rdy_probe(&report), 0);
    assert_int_equal(report.uring_result, -ENOSYS);
    assert_string_equal(report.auto_backend, "none");
    assert_int_equal(report.capabilities_count, 1);
    assert_string_equal(report.capabilities[0].name, "scripted");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_choice_is_the_ring_or_its_error),
        cmocka_unit_test(named_epoll_is_an_error),
        cmocka_unit_test(driver_whose_ring_cannot_be_opened_has_nowhere_to_go),
        cmocka_unit_test(report_has_the_ring_alone),
    };

    (void)unsetenv("RDY_BACKEND");
    return cmocka_run_group_tests_name("without epoll", tests, NULL, NULL);
}
