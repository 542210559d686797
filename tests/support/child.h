/* SPDX-License-Identifier: MIT */
/*
 * For tests of what cannot be taken back, a seccomp filter above all: a child process for each. A
 * child that hangs is killed by its alarm, which the parent sees as a failure.
 */
#ifndef RDY_TESTS_SUPPORT_CHILD_H
#define RDY_TESTS_SUPPORT_CHILD_H

#include <stdlib.h>
#include <sys/wait.h>

#include "tests/support/check.h"
#include "tests/support/seccomp.h"

#define CHILD_LIFE_S 60

typedef void child_fn(int error);

static inline void in_a_child(child_fn *run, int error)
{
    int status = -1;
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    if (child == 0) {
        (void)alarm(CHILD_LIFE_S);
        (void)unsetenv("RDY_BACKEND");
        run(error);
        _exit(0);
    }
    check(child > 0);
    check(waitpid(child, &status, 0) == child);
    assert_int_equal(status, 0);
}

/* From here on io_uring's calls answer @error; @is_whole: also the one that makes a ring. */
static inline void forbid(int error, bool is_whole)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    uint32_t action = SCMP_ACT_ERRNO((uint32_t)error);

    child_check(filter != NULL);
    child_check(seccomp_rule_add(filter, action, SCMP_SYS(io_uring_enter), 0) == 0);
    if (is_whole) {
        child_check(seccomp_rule_add(filter, action, SCMP_SYS(io_uring_setup), 0) == 0);
        child_check(seccomp_rule_add(filter, action, SCMP_SYS(io_uring_register), 0) == 0);
    }
    child_check(seccomp_load(filter) == 0);
    seccomp_release(filter);
}

#endif
