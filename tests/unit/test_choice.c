/* SPDX-License-Identifier: MIT */
/*
 * The choice of a backend, its explanation and its way back, with an io_uring that answers what the
 * test wants: it is defined here, so that the library's is not linked. Epoll is the real one.
 */
#include "engine/choice.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "engine/driver.h"
#include "engine/sys.h"
#include "tests/support/check.h"

#define OWN_WORDS "the scripted ring has the flu"

/* What the ring answers, and how often it was opened. */
static struct {
    int probe_result;
    int open_result;
    uint32_t opens;
} scripted;

static int scripted_probe(struct rdy_probe_report *report, char *why, size_t why_len)
{
    rdy_report_add(report, "scripted", scripted.probe_result == 0, OWN_WORDS);
    (void)snprintf(why, why_len, "%s", OWN_WORDS);
    return scripted.probe_result;
}

static int scripted_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                         size_t why_len)
{
    (void)out;
    (void)opts;
    (void)snprintf(why, why_len, "%s", OWN_WORDS);
    scripted.opens++;
    return scripted.open_result;
}

static const struct rdy_backend_ops scripted_ops = {
    .name = "io_uring",
    .probe = scripted_probe,
    .open = scripted_open,
};

const struct rdy_backend_ops *const rdy_backend_uring = &scripted_ops;

static int scripted_setup(void **state)
{
    (void)state;
    memset(&scripted, 0, sizeof(scripted));
    return unsetenv("RDY_BACKEND");
}

/* --- what people are told --- */

static void is_told(int error, const char *text)
{
    const struct rdy_backend_ops *ops = NULL;
    char expected[256];
    char reason[256] = "";

    scripted.probe_result = error;
    assert_int_equal(rdy_choose_backend(RDY_BACKEND_URING, &ops, reason, sizeof(reason)), error);
    assert_null(ops);
    (void)snprintf(expected, sizeof(expected),
                   "the program asks for io_uring, but it cannot run: %s", text);
    assert_string_equal(reason, expected);

    assert_int_equal(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)), 0);
    assert_ptr_equal(ops, rdy_backend_epoll);
    (void)snprintf(expected, sizeof(expected), "no io_uring: %s", text);
    assert_string_equal(reason, expected);
}

static void each_errno_has_its_likely_cause(void **state)
{
    (void)state;
    is_told(-ENOSYS, "the kernel has no io_uring, or a sandbox hides it");
    is_told(-EPROTO, OWN_WORDS);
    is_told(-EOPNOTSUPP, OWN_WORDS);
}

/* The sysctl came with Linux 6.6; where it forbids io_uring, it is blamed, and else the filter. */
static void refusal_blames_the_sysctl_where_it_forbids(void **state)
{
    char text[128] = "blocked by a seccomp filter, as containers install";
    FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    int value = 0;

    (void)state;
    if (file) {
        assert_int_equal(fscanf(file, "%d", &value), 1);
        assert_int_equal(fclose(file), 0);
    }
    if (value > 0)
        (void)snprintf(text, sizeof(text), "blocked: the sysctl kernel.io_uring_disabled is %d",
                       value);
    is_told(-EPERM, text);
    is_told(-EACCES, text);
}

/* The linker puts it in the place of the C library's: who is not root cannot lift a limit. */
int __wrap_getrlimit(int resource, struct rlimit *limit);

static struct rlimit memlock;

int __wrap_getrlimit(int resource, struct rlimit *limit)
{
    assert_int_equal(resource, RLIMIT_MEMLOCK);
    *limit = memlock;
    return 0;
}

/* Of memory that is missing the limit is to blame, if there is one. */
static void want_of_memory_blames_the_limit_if_there_is_one(void **state)
{
    (void)state;
    memlock = (struct rlimit){.rlim_cur = 64 << 10, .rlim_max = RLIM_INFINITY};
    is_told(-ENOMEM, "RLIMIT_MEMLOCK is too small (64 KiB for all of a user)");
    memlock.rlim_cur = RLIM_INFINITY;
    is_told(-ENOMEM, "the kernel has no memory for a ring");
}

/* Epoll would need a descriptor as well. */
static void want_of_descriptors_is_an_error_and_not_a_choice(void **state)
{
    static const int errors[] = {-EMFILE, -ENFILE};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct rdy_backend_ops *ops = NULL;
        char reason[160] = "";

        scripted.probe_result = errors[i];
        assert_int_equal(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)),
                         errors[i]);
        assert_null(ops);
        assert_string_equal(reason, "no file descriptor is left");
    }
}

static void who_asked_is_named(void **state)
{
    const struct rdy_backend_ops *ops = NULL;
    char reason[160] = "";

    (void)state;
    assert_int_equal(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)), 0);
    assert_ptr_equal(ops, rdy_backend_uring);
    assert_string_equal(reason, "io_uring works here: it passed its smoke test");
    assert_int_equal(rdy_choose_backend(RDY_BACKEND_EPOLL, &ops, reason, sizeof(reason)), 0);
    assert_ptr_equal(ops, rdy_backend_epoll);
    assert_string_equal(reason, "the program asks for epoll");
    assert_int_equal(setenv("RDY_BACKEND", "uring", 1), 0);
    assert_int_equal(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)), 0);
    assert_ptr_equal(ops, rdy_backend_uring);
    assert_string_equal(reason, "RDY_BACKEND asks for io_uring");
}

static void no_such_backend_is_refused_by_its_number(void **state)
{
    const struct rdy_backend_ops *ops = NULL;
    enum rdy_backend_kind wanted;
    char reason[160] = "";

    (void)state;
    memset(&wanted, 0, sizeof(wanted));
    memset(&wanted, 0x11, 1);
    assert_int_equal(rdy_choose_backend(wanted, &ops, reason, sizeof(reason)), -EINVAL);
    assert_null(ops);
    assert_string_equal(reason, "there is no backend number 17");
}

/* --- the report --- */

static void full_report_takes_no_more_lines(void **state)
{
    struct rdy_probe_report report = {.size = sizeof(report)};
    uint32_t room = sizeof(report.capabilities) / sizeof(report.capabilities[0]);

    (void)state;
    for (uint32_t i = 0; i < room + 2; i++)
        rdy_report_add(&report, i < room ? "within" : "beyond", true, "of the test");
    assert_int_equal(report.capabilities_count, room);
    assert_string_equal(report.capabilities[room - 1].name, "within");
    rdy_report_add(NULL, "nowhere", true, "of the test");
}

static void report_of_a_machine_without_either_names_none(void **state)
{
    struct rdy_probe_report report = {.size = sizeof(report)};

    (void)state;
    scripted.probe_result = -EMFILE;
    assert_int_equal(rdy_probe(&report), 0);
    assert_int_equal(report.uring_result, -EMFILE);
    assert_string_equal(report.auto_backend, "none");
    assert_string_equal(report.auto_reason, "no file descriptor is left");
}

/* What epoll says of itself when it cannot be opened: the one descriptor that the seam opens. */
static void report_says_why_epoll_cannot_run(void **state)
{
    struct rdy_probe_report report = {.size = sizeof(report)};
    char why[128] = "";

    (void)state;
    (void)rdy_sys_fail_nth(1, ENFILE);
    assert_int_equal(rdy_backend_epoll->probe(&report, why, sizeof(why)), -ENFILE);
    (void)rdy_sys_fail_nth(0, 0);
    assert_non_null(strstr(why, "opening an eventfd"));
    assert_string_equal(report.capabilities[0].name, "epoll");
    assert_false(report.capabilities[0].is_present);
    assert_string_equal(report.capabilities[0].why, why);
}

/* --- the way back --- */

static uint32_t descriptors_count(void)
{
    uint32_t count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* The probe passed, and this one ring did not: locked memory is short, say. */
static void driver_whose_ring_cannot_be_opened_runs_on_epoll_and_says_so(void **state)
{
    uint32_t before = descriptors_count();
    struct rdy_driver *driver = NULL;

    (void)state;
    scripted.open_result = -ENOMEM;
    assert_int_equal(rdy_driver_open(&driver, NULL), 0);
    assert_int_equal(scripted.opens, 1);
    assert_string_equal(rdy_driver_backend_name(driver), "epoll");
    assert_string_equal(rdy_driver_backend_reason(driver),
                        "io_uring works here, but not for one more driver: Cannot allocate memory");
    assert_int_equal(rdy_driver_turn(driver, 0), 0);
    rdy_driver_close(driver);
    assert_int_equal(descriptors_count(), before);
}

static void driver_that_finds_neither_is_an_error(void **state)
{
    uint32_t before = descriptors_count();
    struct rdy_driver *driver = NULL;

    (void)state;
    scripted.open_result = -ENOMEM;
    (void)rdy_sys_fail_nth(1, ENFILE);
    assert_int_equal(rdy_driver_open(&driver, NULL), -ENFILE);
    (void)rdy_sys_fail_nth(0, 0);
    assert_null(driver);
    assert_int_equal(descriptors_count(), before);
}

/* Whoever names the ring, in the program or outside of it, never gets the other. */
static void ring_that_was_named_has_no_way_back(void **state)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts), .backend = RDY_BACKEND_URING};
    struct rdy_driver *driver = NULL;

    (void)state;
    scripted.open_result = -ENOMEM;
    assert_int_equal(rdy_driver_open(&driver, &opts), -ENOMEM);
    assert_int_equal(setenv("RDY_BACKEND", "uring", 1), 0);
    assert_int_equal(rdy_driver_open(&driver, NULL), -ENOMEM);
    assert_int_equal(scripted.opens, 2);
    assert_int_equal(setenv("RDY_BACKEND", "kqueue", 1), 0);
    assert_int_equal(rdy_driver_open(&driver, NULL), -EINVAL);
    assert_null(driver);
}

static void driver_of_bad_options_does_not_choose(void **state)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts), .events_max = 65537};
    struct rdy_driver *driver = NULL;

    (void)state;
    assert_int_equal(rdy_driver_open(&driver, &opts), -EINVAL);
    assert_int_equal(scripted.opens, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_errno_has_its_likely_cause, scripted_setup),
        cmocka_unit_test_setup(refusal_blames_the_sysctl_where_it_forbids, scripted_setup),
        cmocka_unit_test_setup(want_of_memory_blames_the_limit_if_there_is_one, scripted_setup),
        cmocka_unit_test_setup(want_of_descriptors_is_an_error_and_not_a_choice, scripted_setup),
        cmocka_unit_test_setup(who_asked_is_named, scripted_setup),
        cmocka_unit_test_setup(no_such_backend_is_refused_by_its_number, scripted_setup),
        cmocka_unit_test_setup(full_report_takes_no_more_lines, scripted_setup),
        cmocka_unit_test_setup(report_of_a_machine_without_either_names_none, scripted_setup),
        cmocka_unit_test_setup(report_says_why_epoll_cannot_run, scripted_setup),
        cmocka_unit_test_setup(driver_whose_ring_cannot_be_opened_runs_on_epoll_and_says_so,
                               scripted_setup),
        cmocka_unit_test_setup(driver_that_finds_neither_is_an_error, scripted_setup),
        cmocka_unit_test_setup(ring_that_was_named_has_no_way_back, scripted_setup),
        cmocka_unit_test_setup(driver_of_bad_options_does_not_choose, scripted_setup),
    };

    return cmocka_run_group_tests_name("the choice of a backend", tests, NULL, NULL);
}
