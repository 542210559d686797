/* SPDX-License-Identifier: MIT */
/*
 * Where epoll has ways of its own: a kernel without nanosecond waits, files that are closed while
 * they are watched, calls from several threads.
 */
#include "engine/backend.h"
#include "engine/sys.h"
#include "tests/kernel/helpers.h"
#include "tests/support/seccomp.h"

#include <pthread.h>
#include <sys/syscall.h>

#define FACTS_MAX 16

static struct rdy_backend *epoll_new(void)
{
    struct rdy_backend_opts opts = {.events_max = FACTS_MAX};
    struct rdy_backend *backend = NULL;
    char why[128] = "";

    return rdy_backend_epoll->open(&backend, &opts, why, sizeof(why)) == 0 ? backend : NULL;
}

static int forbid_pwait2(int error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int rc = filter ? 0 : -ENOMEM;

    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)error), SYS_epoll_pwait2, 0);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc;
}

/* As before Linux 5.11, or in a sandbox that does not know the number. */
static int child_without_pwait2(int error)
{
    static const int64_t timeouts_ns[] = {1, 999999, 1000001, 2500000};
    struct rdy_backend *backend = epoll_new();
    struct rdy_fact facts[FACTS_MAX];

    CHILD_CLAIM(backend);
    CHILD_CLAIM(forbid_pwait2(error) == 0);
    for (size_t i = 0; i < sizeof(timeouts_ns) / sizeof(timeouts_ns[0]); i++) {
        uint64_t before = rdy_sys_now_ns();
        uint64_t calls = rdy_a64_load_relaxed(&backend->system_calls);

        CHILD_CLAIM(backend->ops->wait(backend, timeouts_ns[i], facts, FACTS_MAX) == 0);
        CHILD_CLAIM(rdy_sys_now_ns() - before >= (uint64_t)timeouts_ns[i]);
        /* The first learns it for the rest; the opening's own call is counted there as well. */
        if (i > 0)
            CHILD_CLAIM(rdy_a64_load_relaxed(&backend->system_calls) - calls == 1);
    }

    /* A wait of centuries is clamped to what an int of milliseconds holds. */
    backend->ops->wake(backend);
    CHILD_CLAIM(backend->ops->wait(backend, INT64_MAX, facts, FACTS_MAX) == 0);
    backend->ops->close(backend);
    return 0;
}

static void without_nanosecond_waits_timeouts_are_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_without_pwait2, ENOSYS), 0);
    assert_int_equal(in_child(child_without_pwait2, EPERM), 0);
}

static int child_reports_without_pwait2(int error)
{
    struct rdy_probe_report report = {.size = sizeof(report)};
    char why[128] = "";

    CHILD_CLAIM(forbid_pwait2(error) == 0);
    CHILD_CLAIM(rdy_backend_epoll->probe(&report, why, sizeof(why)) == 0);
    CHILD_CLAIM(report.capabilities_count == 2);
    CHILD_CLAIM(report.capabilities[0].is_present);
    CHILD_CLAIM(!report.capabilities[1].is_present);
    CHILD_CLAIM(strstr(report.capabilities[1].why, "epoll_pwait2"));
    return 0;
}

static void the_report_says_that_nanosecond_waits_are_missing(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_reports_without_pwait2, ENOSYS), 0);
}

static void disarming_a_file_that_was_closed_first_has_worked(void **state)
{
    struct rdy_backend *backend = epoll_new();
    struct rdy_fact facts[FACTS_MAX];
    int fd = event_new();

    (void)state;
    assert_non_null(backend);
    event_signal(fd);
    assert_int_equal(backend->ops->arm(backend, fd, 1, RDY_EV_IN), 0);
    (void)close(fd);

    assert_int_equal(backend->ops->disarm(backend, fd, 1), RDY_DISARMED);
    assert_int_equal(backend->ops->wait(backend, 0, facts, FACTS_MAX), 0);
    backend->ops->close(backend);
}

/* ... and its number is a file's by now that no epoll set takes. */
static void disarming_a_number_that_is_a_regular_file_by_now_has_worked(void **state)
{
    struct rdy_backend *backend = epoll_new();
    FILE *file = tmpfile();
    int fd = event_new();

    (void)state;
    assert_non_null(backend);
    assert_non_null(file);
    assert_int_equal(backend->ops->arm(backend, fd, 1, RDY_EV_IN), 0);
    assert_int_equal(dup2(fileno(file), fd), fd);

    assert_int_equal(backend->ops->disarm(backend, fd, 1), RDY_DISARMED);
    backend->ops->close(backend);
    (void)close(fd);
    (void)fclose(file);
}

static void a_regular_file_is_refused_with_eperm(void **state)
{
    struct rdy_backend *backend = epoll_new();
    FILE *file = tmpfile();

    (void)state;
    assert_non_null(backend);
    assert_non_null(file);
    assert_int_equal(backend->ops->arm(backend, fileno(file), 1, RDY_EV_IN), -EPERM);
    backend->ops->close(backend);
    (void)fclose(file);
}

static void a_fact_carries_the_whole_state(void **state)
{
    struct rdy_backend *backend = epoll_new();
    struct rdy_fact facts[FACTS_MAX];
    int pair[2];

    (void)state;
    assert_non_null(backend);
    tcp_pair(pair);
    assert_int_equal(backend->ops->arm(backend, pair[1], 1, RDY_EV_IN | RDY_EV_OUT), 0);
    assert_int_equal(backend->ops->wait(backend, -1, facts, FACTS_MAX), 1);
    assert_int_equal(facts[0].events, RDY_EV_OUT);

    assert_int_equal(send(pair[0], "x", 1, 0), 1);
    assert_int_equal(backend->ops->wait(backend, -1, facts, FACTS_MAX), 1);

    assert_int_equal(facts[0].events, RDY_EV_IN | RDY_EV_OUT);
    backend->ops->close(backend);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

#define CHURN_ROUNDS 2000

static void *churn_main(void *argument)
{
    struct rdy_backend *backend = argument;
    int fd = eventfd(0, EFD_NONBLOCK);
    intptr_t failures = fd < 0;

    for (uint64_t i = 0; i < CHURN_ROUNDS && fd >= 0; i++) {
        failures += backend->ops->arm(backend, fd, i << 32 | 1, RDY_EV_IN) != 0;
        failures += backend->ops->disarm(backend, fd, i << 32 | 1) != RDY_DISARMED;
    }
    (void)close(fd);
    backend->ops->wake(backend);
    return (void *)failures;
}

static void other_threads_arm_and_disarm_while_the_owner_waits(void **state)
{
    struct rdy_backend *backend = epoll_new();
    struct rdy_fact facts[FACTS_MAX];
    pthread_t thread;
    void *failures = NULL;

    (void)state;
    assert_non_null(backend);
    assert_int_equal(pthread_create(&thread, NULL, churn_main, backend), 0);
    assert_int_equal(backend->ops->wait(backend, -1, facts, FACTS_MAX), 0);
    assert_int_equal(pthread_join(thread, &failures), 0);

    assert_int_equal((intptr_t)failures, 0);
    assert_int_equal(backend->ops->wait(backend, 0, facts, FACTS_MAX), 0);
    /* All of them, the wake, the two waits, and the opening's own. */
    assert_int_equal(rdy_a64_load_relaxed(&backend->system_calls), 2 * CHURN_ROUNDS + 1 + 2 + 1);
    backend->ops->close(backend);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_nanosecond_waits_timeouts_are_rounded_up),
        cmocka_unit_test(the_report_says_that_nanosecond_waits_are_missing),
        cmocka_unit_test(disarming_a_file_that_was_closed_first_has_worked),
        cmocka_unit_test(disarming_a_number_that_is_a_regular_file_by_now_has_worked),
        cmocka_unit_test(a_regular_file_is_refused_with_eperm),
        cmocka_unit_test(a_fact_carries_the_whole_state),
        cmocka_unit_test(other_threads_arm_and_disarm_while_the_owner_waits),
    };

    return cmocka_run_group_tests_name("what epoll promises", tests, NULL, NULL);
}
