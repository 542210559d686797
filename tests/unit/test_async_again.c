/* SPDX-License-Identifier: MIT */
/*
 * rdy_async_io() prepares its wait anew with each answer. When the answer was an error and the
 * registration is given up, the slot may have its next tenant by the time the answer is fetched:
 * the wait must not become a wait for that one.
 */
#include "tests/support/scripted.h"

static ssize_t count_calls(int fd, void *arg)
{
    (void)fd;
    return ++*(int *)arg;
}

static void wait_that_failed_does_not_turn_to_the_slots_next_tenant(void **state)
{
    struct script *script = *state;
    struct rdy_waker nobody = {0};
    struct rdy_registration reg;
    struct rdy_registration next;
    struct rdy_scheduled_io *slot;
    struct rdy_readiness wait;
    int calls = 0;
    int fd;

    /* given a wait that was told of a refusal, and a slot that is somebody else's by now */
    reg = script_register(script, &fd);
    slot = reg.io;
    rdy_readiness_init(&wait, &reg, RDY_INTEREST_READ);
    assert_int_equal(rdy_async_io(&wait, &nobody, count_calls, &calls), RDY_PENDING);
    fake_push_end(&script->fake, fd, 0, -EPERM, 0);
    (void)script_turn(script);
    rdy_close(&reg);
    (void)script_turn(script);
    next = script_register(script, &fd);
    assert_ptr_equal(next.io, slot);
    rdy_assume_ready(&next, RDY_READABLE);

    /* when the answer is fetched, and asked for once more */
    assert_int_equal(rdy_async_io(&wait, &nobody, count_calls, &calls), -EPERM);
    assert_int_equal(rdy_async_io(&wait, &nobody, count_calls, &calls), -ECANCELED);

    /* then the new tenant's file was never touched */
    assert_int_equal(calls, 0);
    rdy_close(&next);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(wait_that_failed_does_not_turn_to_the_slots_next_tenant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
