/* SPDX-License-Identifier: MIT */
/*
 * For tests of a runtime inside another loop: one that is opened so, and the loop's side of it.
 */
#ifndef RDY_TESTS_SUPPORT_EMBEDDED_H
#define RDY_TESTS_SUPPORT_EMBEDDED_H

#include "tests/support/runtime.h"

#include <poll.h>

#include <rdy/embed.h>

/* More turns than any test needs until nothing is left to be done. */
#define TURNS_MAX 200

static inline struct rdy_runtime *embedded_open(enum rdy_backend_kind backend)
{
    struct rdy_runtime_opts opts = runtime_opts(backend);
    struct rdy_runtime *runtime = NULL;

    opts.driver.is_embedded = true;
    assert_int_equal(rdy_runtime_open(&runtime, &opts), 0);
    return runtime;
}

/* As runtime_setup(), for ON_BOTH_EMBEDDED. */
static inline int embedded_setup(void **state)
{
    static struct runtime_fixture fixture;

    fixture.backend = *(const enum rdy_backend_kind *)*state;
    fixture.runtime = embedded_open(fixture.backend);
    *state = &fixture;
    return 0;
}

static inline bool is_readable(const struct rdy_runtime *runtime, int timeout_ms)
{
    struct pollfd outer = {.fd = rdy_runtime_fd(runtime), .events = POLLIN};

    return poll(&outer, 1, timeout_ms) == 1 && (outer.revents & POLLIN) != 0;
}

/* Turns until nothing is left to be done and the descriptor says so, too. */
static inline void turn_until_quiet(struct rdy_runtime *runtime)
{
    int rc = RDY_TURN_MORE;

    for (int turns = 0; turns < TURNS_MAX; turns++) {
        if (rc == RDY_TURN_IDLE && !is_readable(runtime, 0))
            return;
        rc = rdy_runtime_turn(runtime, 0);
        assert_true(rc == RDY_TURN_IDLE || rc == RDY_TURN_MORE);
    }
    fail_msg("the runtime never has enough");
}

/* clang-format off */
#define ON_BOTH_EMBEDDED(test)                                                                     \
    {#test " on io_uring", test, embedded_setup, runtime_teardown,                                 \
     (void *)(uintptr_t)&backend_kinds[0]},                                                        \
    {#test " on epoll", test, embedded_setup, runtime_teardown,                                    \
     (void *)(uintptr_t)&backend_kinds[1]}
/* clang-format on */

#endif
