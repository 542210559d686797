/* SPDX-License-Identifier: MIT */
/*
 * Which backend is chosen where io_uring is forbidden, absent or starved, and what people are told.
 * Each case is a child of its own, as filters and limits do not come off again.
 */
#include "engine/choice.h"
#include "engine/sys.h"
#include "tests/kernel/helpers.h"
#include "tests/support/fork.h"
#include "tests/support/seccomp.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <rdy/datagram_completion.h>
#include <rdy/runtime.h>

/* From now on the three system calls of io_uring fail with @error. */
static int forbid_io_uring(int error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int rc = filter ? 0 : -ENOMEM;

    for (int number = 425; number <= 427 && rc == 0; number++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)error), number, 0);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc;
}

static int child_with_filter(int error)
{
    const char *expected = error == EPERM ? "seccomp" : "no io_uring, or a sandbox";
    const struct rdy_backend_ops *ops = NULL;
    char reason[160] = "";

    CHILD_CLAIM(unsetenv("RDY_BACKEND") == 0);
    CHILD_CLAIM(forbid_io_uring(error) == 0);

    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)) == 0);
    CHILD_CLAIM(ops == rdy_backend_epoll);
    CHILD_CLAIM(strstr(reason, expected));

    ops = NULL;
    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_URING, &ops, reason, sizeof(reason)) == -error);
    CHILD_CLAIM(!ops);
    CHILD_CLAIM(strstr(reason, expected));

    CHILD_CLAIM(setenv("RDY_BACKEND", "uring", 1) == 0);
    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)) == -error);
    CHILD_CLAIM(!ops);
    return 0;
}

static void a_filter_that_says_eperm_leads_to_epoll_and_is_named(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_with_filter, EPERM), 0);
}

static void a_filter_that_says_enosys_leads_to_epoll_and_is_named(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_with_filter, ENOSYS), 0);
}

/* The filter comes while a poll is armed: the next wait must say so, at once and ever after. */
static int child_with_late_filter(int error)
{
    struct rdy_backend_opts opts = {.events_max = 8, .cq_entries = 64};
    struct rdy_backend *backend = NULL;
    struct rdy_fact facts[8];
    char why[128] = "";
    int fd = eventfd(0, EFD_NONBLOCK);

    CHILD_CLAIM(rdy_backend_uring->open(&backend, &opts, why, sizeof(why)) == 0);
    CHILD_CLAIM(backend->ops->arm(backend, fd, 1, RDY_EV_IN) == 0);
    CHILD_CLAIM(backend->ops->wait(backend, 0, facts, 8) == 0);

    CHILD_CLAIM(forbid_io_uring(error) == 0);

    CHILD_CLAIM(backend->ops->wait(backend, -1, facts, 8) == -error);
    CHILD_CLAIM(backend->ops->wait(backend, -1, facts, 8) == -error);
    backend->ops->wake(backend);
    backend->ops->close(backend);
    return 0;
}

static void a_filter_that_comes_later_ends_the_wait_with_its_errno(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_with_late_filter, EPERM), 0);
    assert_int_equal(in_child(child_with_late_filter, ENOSYS), 0);
}

/*
 * The dead ring cannot be told to cancel its polls any more, so it must go altogether: a poll that
 * stays armed keeps its socket open after close(2), and the peer would wait for the end for ever.
 */
static int child_closes_after_late_filter(int error)
{
    struct rdy_backend_opts opts = {.events_max = 8, .cq_entries = 64};
    struct rdy_backend *backend = NULL;
    struct pollfd peer = {.events = POLLIN | POLLRDHUP};
    struct rdy_fact facts[8];
    char why[128] = "";
    int pair[2];

    CHILD_CLAIM(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    peer.fd = pair[0];
    CHILD_CLAIM(rdy_backend_uring->open(&backend, &opts, why, sizeof(why)) == 0);
    CHILD_CLAIM(backend->ops->arm(backend, pair[1], 1, RDY_EV_IN) == 0);
    CHILD_CLAIM(backend->ops->wait(backend, 0, facts, 8) == 0);
    CHILD_CLAIM(forbid_io_uring(error) == 0);
    CHILD_CLAIM(backend->ops->wait(backend, -1, facts, 8) == -error);

    backend->ops->close(backend);
    CHILD_CLAIM(close(pair[1]) == 0);

    CHILD_CLAIM(poll(&peer, 1, 10000) == 1);
    CHILD_CLAIM(peer.revents & POLLRDHUP);
    return 0;
}

static void a_ring_lost_to_a_filter_lets_go_of_its_files(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_closes_after_late_filter, EPERM), 0);
}

/* The probe's answer is from before the filter; a failed open makes it ask again. */
static int child_with_a_stale_answer(int error)
{
    struct rdy_backend_opts opts = {.events_max = 8, .cq_entries = 64};
    const struct rdy_backend_ops *ops = NULL;
    struct rdy_backend *backend = NULL;
    char text[160] = "";

    CHILD_CLAIM(unsetenv("RDY_BACKEND") == 0);
    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, text, sizeof(text)) == 0);
    CHILD_CLAIM(ops == rdy_backend_uring);
    CHILD_CLAIM(forbid_io_uring(error) == 0);

    CHILD_CLAIM(ops->open(&backend, &opts, text, sizeof(text)) == -error);
    CHILD_CLAIM(strstr(text, "io_uring_setup"));

    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, text, sizeof(text)) == 0);
    CHILD_CLAIM(ops == rdy_backend_epoll);
    return 0;
}

static void a_failed_open_makes_the_probe_ask_again(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_with_a_stale_answer, EPERM), 0);
}

/* Rings count as locked memory before 5.12, and again since 6.14. */
static int child_without_locked_memory(int argument)
{
    struct rlimit limit;
    const struct rdy_backend_ops *ops = NULL;
    char reason[160] = "";

    (void)argument;
    CHILD_CLAIM(unsetenv("RDY_BACKEND") == 0);
    CHILD_CLAIM(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    limit.rlim_cur = 0;
    CHILD_CLAIM(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    CHILD_CLAIM(setgid(65534) == 0 && setuid(65534) == 0);

    if (kernel_is_at_least(6, 14)) {
        CHILD_CLAIM(rdy_backend_uring->probe(NULL, reason, sizeof(reason)) == -ENOMEM);
        CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_URING, &ops, reason, sizeof(reason)) == -ENOMEM);
        CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)) == 0);
        CHILD_CLAIM(ops == rdy_backend_epoll);
        CHILD_CLAIM(strstr(reason, "RLIMIT_MEMLOCK"));
    }

    /* A shortage passes, so it is not remembered. */
    limit.rlim_cur = limit.rlim_max;
    CHILD_CLAIM(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)) == 0);
    CHILD_CLAIM(ops == rdy_backend_uring);
    return 0;
}

static void no_locked_memory_leads_to_epoll_for_as_long_as_it_lasts(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_without_locked_memory, 0), 0);
}

/* Says nothing about io_uring, and epoll wants one too. */
static int child_without_descriptors(int argument)
{
    struct rlimit few = {.rlim_cur = 4, .rlim_max = 4};
    const struct rdy_backend_ops *ops = NULL;
    char reason[160] = "";

    (void)argument;
    CHILD_CLAIM(unsetenv("RDY_BACKEND") == 0);
    CHILD_CLAIM(setrlimit(RLIMIT_NOFILE, &few) == 0);
    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)) == -EMFILE);
    CHILD_CLAIM(strstr(reason, "descriptor"));
    CHILD_CLAIM(!ops);
    return 0;
}

static void running_out_of_descriptors_is_an_error_not_a_fallback(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_without_descriptors, 0), 0);
}

static int child_with_environment(int argument)
{
    const struct rdy_backend_ops *ops = NULL;
    char reason[160] = "";

    (void)argument;
    CHILD_CLAIM(setenv("RDY_BACKEND", "epoll", 1) == 0);
    CHILD_CLAIM(rdy_choice_is_forced());
    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)) == 0);
    CHILD_CLAIM(ops == rdy_backend_epoll && strstr(reason, "RDY_BACKEND"));

    /* Only a free choice is overridden. */
    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_URING, &ops, reason, sizeof(reason)) == 0);
    CHILD_CLAIM(ops == rdy_backend_uring && strstr(reason, "program"));

    CHILD_CLAIM(setenv("RDY_BACKEND", "auto", 1) == 0);
    CHILD_CLAIM(!rdy_choice_is_forced());
    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)) == 0);
    CHILD_CLAIM(ops == rdy_backend_uring);

    CHILD_CLAIM(setenv("RDY_BACKEND", "kqueue", 1) == 0);
    CHILD_CLAIM(!rdy_choice_is_forced());
    CHILD_CLAIM(rdy_choose_backend(RDY_BACKEND_AUTO, &ops, reason, sizeof(reason)) == -EINVAL);
    CHILD_CLAIM(strstr(reason, "kqueue") && strstr(reason, "auto, uring or epoll"));
    return 0;
}

static void the_environment_decides_a_free_choice_only(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_with_environment, 0), 0);
}

static int descriptors_open(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

enum listing {
    NOT_LISTED,
    ABSENT,
    PRESENT
};

static enum listing listing_of(const struct rdy_probe_report *report, const char *name)
{
    for (uint32_t i = 0; i < report->capabilities_count; i++) {
        if (strcmp(report->capabilities[i].name, name) == 0)
            return report->capabilities[i].is_present ? PRESENT : ABSENT;
    }
    return NOT_LISTED;
}

static void the_report_names_every_capability_and_leaves_nothing_open(void **state)
{
    static const char *const wanted[] = {"multishot_poll", "restrictions",           "timed_enter",
                                         "op_close",       "no_dropped_completions", "epoll"};
    struct rdy_probe_report report = {.size = sizeof(report)};
    int before = descriptors_open();

    (void)state;
    assert_int_equal(rdy_probe(&report), 0);

    assert_int_equal(report.uring_result, 0);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        assert_int_equal(listing_of(&report, wanted[i]), PRESENT);
    for (uint32_t i = 0; i < report.capabilities_count; i++)
        assert_true(report.capabilities[i].why[0] != '\0');
    assert_int_equal(listing_of(&report, "defer_taskrun"),
                     kernel_is_at_least(6, 1) ? PRESENT : ABSENT);
    assert_true(report.auto_reason[0] != '\0');
    assert_int_equal(descriptors_open(), before);
}

static void the_report_says_of_datagrams_what_a_socket_finds(void **state)
{
    struct rdy_runtime_opts opts = {
        .size = sizeof(opts),
        .driver = {.size = sizeof(opts.driver), .backend = RDY_BACKEND_URING}};
    struct rdy_probe_report report = {.size = sizeof(report)};
    struct rdy_runtime *runtime = NULL;
    struct rdy_datagram datagram;

    (void)state;
    assert_int_equal(rdy_probe(&report), 0);
    assert_int_equal(rdy_runtime_open(&runtime, &opts), 0);
    assert_int_equal(rdy_datagram_open(&datagram, runtime, AF_INET, NULL), 0);
    assert_int_equal(rdy_datagram_start_completion(&datagram), 0);

    assert_int_equal(listing_of(&report, "multishot_recvmsg"),
                     rdy_datagram_is_native(&datagram) ? PRESENT : ABSENT);
    rdy_datagram_close(&datagram);
    rdy_runtime_close(runtime);
}

static int child_reports_under_filter(int error)
{
    struct rdy_probe_report report = {.size = sizeof(report)};

    CHILD_CLAIM(unsetenv("RDY_BACKEND") == 0);
    CHILD_CLAIM(forbid_io_uring(error) == 0);
    CHILD_CLAIM(rdy_probe(&report) == 0);
    CHILD_CLAIM(report.uring_result == -error);
    CHILD_CLAIM(strcmp(report.auto_backend, "epoll") == 0);
    CHILD_CLAIM(listing_of(&report, "multishot_poll") == ABSENT);
    CHILD_CLAIM(listing_of(&report, "op_recv") == ABSENT);
    CHILD_CLAIM(listing_of(&report, "op_close") == ABSENT);
    CHILD_CLAIM(listing_of(&report, "multishot_recvmsg") == ABSENT);
    CHILD_CLAIM(listing_of(&report, "epoll") == PRESENT);
    return 0;
}

static void the_report_under_a_filter_says_no_to_all_of_io_uring(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_reports_under_filter, EPERM), 0);
}

static void a_report_of_an_unknown_size_is_refused(void **state)
{
    struct rdy_probe_report report = {.size = 12};

    (void)state;
    assert_int_equal(rdy_probe(&report), -EINVAL);
    assert_int_equal(rdy_probe(NULL), -EINVAL);
}

/* Each system call of the opening fails once; what was opened before it must be closed. */
static void fail_each_step_of_opening(const struct rdy_backend_ops *ops, uint64_t steps)
{
    struct rdy_backend_opts opts = {.events_max = 8, .cq_entries = 64, .is_embedded = true};
    int before = descriptors_open();

    for (uint64_t step = 1; step <= steps; step++) {
        struct rdy_backend *backend = NULL;
        char why[128] = "";
        int rc;

        (void)rdy_sys_fail_nth(step, ENFILE);
        rc = ops->open(&backend, &opts, why, sizeof(why));
        (void)rdy_sys_fail_nth(0, 0);

        assert_int_equal(rc, -ENFILE);
        assert_null(backend);
        assert_non_null(strstr(why, "eventfd"));
        assert_int_equal(descriptors_open(), before);
    }
}

static void an_opening_that_fails_midway_leaves_nothing_open(void **state)
{
    (void)state;
    fail_each_step_of_opening(rdy_backend_uring, 2);
    fail_each_step_of_opening(rdy_backend_epoll, 1);
}

/* A sandbox that knows epoll_create1(2) alone. */
static int child_without_epoll_ctl(int error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    struct rdy_backend_opts opts = {.events_max = 8};
    struct rdy_backend *open = NULL;
    struct rdy_backend *backend = NULL;
    int before = descriptors_open();
    char why[128] = "";
    int after;

    CHILD_CLAIM(rdy_backend_epoll->open(&open, &opts, why, sizeof(why)) == 0);
    CHILD_CLAIM(open->ops->arm(open, STDOUT_FILENO, 1, RDY_EV_OUT) <= 0);
    CHILD_CLAIM(seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)error), SCMP_SYS(epoll_ctl), 0) ==
                0);
    CHILD_CLAIM(seccomp_load(filter) == 0);
    after = descriptors_open();

    CHILD_CLAIM(rdy_backend_epoll->open(&backend, &opts, why, sizeof(why)) == -error);
    CHILD_CLAIM(!backend && strstr(why, "epoll_ctl: "));
    CHILD_CLAIM(descriptors_open() == after);

    /* Nor can what is watched be let go: the caller must hear of it. */
    CHILD_CLAIM(open->ops->disarm(open, STDOUT_FILENO, 1) == -error);
    open->ops->close(open);
    CHILD_CLAIM(descriptors_open() == before);
    return 0;
}

static void epoll_without_epoll_ctl_is_an_error_that_names_it(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_without_epoll_ctl, ENOMEM), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_that_says_eperm_leads_to_epoll_and_is_named),
        cmocka_unit_test(a_filter_that_says_enosys_leads_to_epoll_and_is_named),
        cmocka_unit_test(a_filter_that_comes_later_ends_the_wait_with_its_errno),
        cmocka_unit_test(a_ring_lost_to_a_filter_lets_go_of_its_files),
        cmocka_unit_test(a_failed_open_makes_the_probe_ask_again),
        cmocka_unit_test(no_locked_memory_leads_to_epoll_for_as_long_as_it_lasts),
        cmocka_unit_test(running_out_of_descriptors_is_an_error_not_a_fallback),
        cmocka_unit_test(the_environment_decides_a_free_choice_only),
        cmocka_unit_test(the_report_names_every_capability_and_leaves_nothing_open),
        cmocka_unit_test(the_report_says_of_datagrams_what_a_socket_finds),
        cmocka_unit_test(the_report_under_a_filter_says_no_to_all_of_io_uring),
        cmocka_unit_test(an_opening_that_fails_midway_leaves_nothing_open),
        cmocka_unit_test(epoll_without_epoll_ctl_is_an_error_that_names_it),
        cmocka_unit_test(a_report_of_an_unknown_size_is_refused),
    };

    return cmocka_run_group_tests_name("the choice of a backend", tests, NULL, NULL);
}
