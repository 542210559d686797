/* SPDX-License-Identifier: MIT */
/*
 * The house rule is that a test which wants io_uring and does not get it fails. On a machine that
 * cannot run io_uring at all, that leaves nothing to be seen of the rest. There, whoever runs the
 * tests says so with RDY_TEST_WITHOUT_URING=1, and each test "on io_uring", or of a group that is
 * named so (tests/kernel/backends.h), becomes another one: the refusal must be the one that the
 * probe told of, and auto must have taken epoll. Said of a machine that has io_uring, it makes them
 * all fail.
 *
 * Lines are written out one by one, lest a test that aborts take with it what was said before.
 *
 * The linker puts this in the place of cmocka's own runner (--wrap, in tests/CMakeLists.txt).
 */
#include "tests/support/check.h"

#include <stdlib.h>
#include <string.h>

#include <rdy/driver.h>

#define TESTS_MAX 512

int __real__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);
int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);

static void io_uring_is_refused_as_the_probe_says(void **state)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts), .backend = RDY_BACKEND_URING};
    struct rdy_probe_report report = {.size = sizeof(report)};
    struct rdy_driver *driver = NULL;

    (void)state;
    assert_int_equal(rdy_probe(&report), 0);
    assert_true(report.uring_result < 0);
    assert_string_equal(report.auto_backend, "epoll");
    assert_int_equal(rdy_driver_open(&driver, &opts), report.uring_result);
    assert_null(driver);
}

static bool ends_with(const char *text, const char *end)
{
    size_t text_len = strlen(text);
    size_t end_len = strlen(end);

    return text_len >= end_len && strcmp(text + text_len - end_len, end) == 0;
}

static bool is_on_uring(const char *group, const char *test)
{
    return strncmp(group, "io_uring, ", strlen("io_uring, ")) == 0 ||
           ends_with(test, " on io_uring") || ends_with(test, "_on_uring");
}

int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown)
{
    static struct CMUnitTest replaced[TESTS_MAX];
    const char *value = getenv("RDY_TEST_WITHOUT_URING");

    (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    if (!value || strcmp(value, "1") != 0)
        return __real__cmocka_run_group_tests(name, tests, count, setup, teardown);
    rdy_assert(count <= TESTS_MAX);
    for (size_t i = 0; i < count; i++) {
        replaced[i] = tests[i];
        if (is_on_uring(name, tests[i].name))
            replaced[i] = (struct CMUnitTest){.name = tests[i].name,
                                              .test_func = io_uring_is_refused_as_the_probe_says};
    }
    return __real__cmocka_run_group_tests(name, replaced, count, setup, teardown);
}
