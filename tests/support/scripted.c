/* SPDX-License-Identifier: MIT */
/* The fixture of the scripted tests: see scripted.h. */
#include "tests/support/scripted.h"

#include <stdlib.h>

static int setup(void **state, uint32_t capabilities)
{
    struct script *script = calloc(1, sizeof(*script));

    if (!script)
        return -1;
    *state = script;
    fake_init(&script->fake, capabilities);
    return fake_driver_open(&script->fake, NULL, &script->driver);
}

int script_setup(void **state)
{
    return setup(state, 0);
}

int script_setup_any_thread(void **state)
{
    return setup(state, RDY_BACKEND_ANY_THREAD | RDY_BACKEND_WHOLE_STATE);
}

int script_teardown(void **state)
{
    struct script *script = *state;

    script->fake.on_wait = NULL; /* what it works on was the test's */
    rdy_driver_close(script->driver);
    free(script);
    return 0;
}

struct rdy_registration script_register(struct script *script, int *fd)
{
    struct rdy_registration reg;

    *fd = event_fd();
    assert_int_equal(
        rdy_register(script->driver, *fd, RDY_INTEREST_READ | RDY_INTEREST_WRITE, &reg), 0);
    return reg;
}

void script_await_read(struct rdy_registration *reg, struct bell *bell)
{
    struct rdy_waker waker = bell_waker(bell);
    struct rdy_event event;

    assert_int_equal(rdy_poll_readiness(reg, RDY_DIRECTION_READ, &waker, &event), RDY_PENDING);
}

int script_turn(struct script *script)
{
    int rc = rdy_driver_turn(script->driver, 0);

    if (rc < 0)
        fail_msg("the turn failed: %s", strerror(-rc));
    return rc;
}

uint32_t script_ready(const struct rdy_registration *reg)
{
    return rdy_event_ready(rdy_ready_event(reg, RDY_INTEREST_READ | RDY_INTEREST_WRITE));
}

struct rdy_driver_stats script_stats(const struct script *script)
{
    struct rdy_driver_stats stats;

    rdy_driver_read_stats(script->driver, &stats);
    return stats;
}
