/* SPDX-License-Identifier: MIT */
/* The two that come after the end: the backend of a driver whose ring has died, and the panic. */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/backend.h"
#include "engine/driver.h"
#include "tests/support/check.h"
#include "tests/support/child.h"

static void grave_arms_nothing_and_holds_nothing_up(void **state)
{
    const struct rdy_backend_ops *ops = &rdy_backend_grave;
    struct rdy_backend grave = {.ops = ops};
    struct rdy_fact fact;

    (void)state;
    assert_int_equal(ops->arm(&grave, 0, 1, RDY_EV_IN), -ESHUTDOWN);
    assert_int_equal(ops->disarm(&grave, 0, 1), RDY_DISARMED);
    assert_int_equal(ops->wait(&grave, -1, &fact, 1), -ESHUTDOWN);
    assert_int_equal(ops->fd(&grave), -EINVAL);
    ops->wake(&grave);
    ops->close(&grave);
}

/* Embedded, so that it does not move: it is over, and whoever has it still may call. */
static void lives_on_in_its_grave(int error)
{
    struct rdy_driver_opts opts = {
        .size = sizeof(opts), .backend = RDY_BACKEND_URING, .is_embedded = true};
    struct rdy_driver *driver = NULL;

    child_check(rdy_driver_open(&driver, &opts) == 0);
    child_check(rdy_driver_fd(driver) >= 0);
    forbid(error, false);
    child_check(rdy_driver_turn(driver, 0) == -error);
    rdy_driver_end(driver);
    child_check(rdy_driver_backend(driver)->ops == &rdy_backend_grave);
    rdy_driver_unpark(driver);
    child_check(rdy_driver_fd(driver) == -EINVAL);
    child_check(rdy_driver_turn(driver, -1) == -ESHUTDOWN);
    rdy_driver_close(driver);
}

static void driver_that_was_buried_still_answers_on_uring(void **state)
{
    (void)state;
    in_a_child(lives_on_in_its_grave, EPERM);
}

/* What a person gets to see of a bug: the claim, and where it stood; then the process is gone. */
static void panic_tells_the_claim_and_aborts(void **state)
{
    char text[128] = "";
    int status = 0;
    int ends[2];
    pid_t child;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    (void)fflush(NULL);
    child = fork();
    if (child == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        rdy_panic("two is three", "somewhere.c", 23);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "rdy: broken invariant: two is three (somewhere.c:23)\n");
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(grave_arms_nothing_and_holds_nothing_up),
        cmocka_unit_test(driver_that_was_buried_still_answers_on_uring),
        cmocka_unit_test(panic_tells_the_claim_and_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
