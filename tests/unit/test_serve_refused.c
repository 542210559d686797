/* SPDX-License-Identifier: MIT */
/* An accept loop whose listener the kernel will not watch: it ends, rather than to try for ever. */
#include <rdy/serve.h>

#include "tests/support/rig.h"

static int poll_never(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return RDY_PENDING;
}

/* Out of memory may pass; but of a watch that was refused nothing will ever come. */
static void accept_loop_ends_when_its_listener_was_refused(void **state)
{
    struct rig *rig = *state;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rdy_task_spec session = {.poll = poll_never, .self_size = sizeof(struct rdy_stream)};
    struct rdy_listener listener = {.fd = -1};
    struct rdy_waker nobody = {0};
    struct rdy_join join = {0};
    struct rdy_task_id id;
    int result = 0;

    assert_int_equal(
        rdy_listener_open(&listener, rig->runtime, (struct sockaddr *)&addr, sizeof(addr), NULL),
        0);
    assert_int_equal(rdy_serve(rig->runtime, &listener, &session, &id), 0);
    assert_int_equal(rdy_join_open(&join, rig->runtime, id), 0);
    rig_turn(rig);

    rig->fake->arm_error = -ENOMEM;
    rig->fake->arm_errors = 1;
    fake_push_end(rig->fake, listener.fd, 0, 0, 0);
    rig_turn(rig);

    assert_int_equal(rdy_join_poll(&join, &nobody, &result), 0);
    assert_int_equal(result, -ENOMEM);
    rdy_listener_close(&listener);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_FAKE_ONLY(accept_loop_ends_when_its_listener_was_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
