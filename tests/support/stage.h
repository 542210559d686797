/* SPDX-License-Identifier: MIT */
/*
 * One scenario, many backends: each row of a table is run on io_uring, on epoll
 * and on two fakes, as a test of its own, named scenario_on_uring and so on.
 *
 * A stage is a fresh driver and what a scenario needs around it: counting
 * wakers, turns until nothing more comes. When the scenario is over the stage
 * closes the driver and sees that no slot and no descriptor was left behind.
 * Where io_uring cannot run, its tests fail: a suite that quietly tested epoll
 * twice would prove nothing.
 */
#ifndef RDY_TESTS_STAGE_H
#define RDY_TESTS_STAGE_H

#include <rdy/registration.h>

#include "tests/support/check.h"
#include "tests/support/fake_backend.h"
#include "tests/support/pairs.h"

/* Where a scenario runs. */
#define ON_URING      0x1u
#define ON_EPOLL      0x2u
#define ON_FAKE_KEYS  0x4u /* poll(2), reporting only what is new, as a ring does */
#define ON_FAKE_STATE 0x8u /* poll(2), reporting the whole state, as epoll does */
#define ON_KERNEL     (ON_URING | ON_EPOLL)
#define ON_ALL        0xfu

struct stage {
    struct rdy_driver *driver;
    uint32_t on;
    struct rdy_driver_opts opts; /* of the driver that stage_reopen() opens */
    struct fake *fake;           /* on the fakes */
};

struct scenario {
    const char *name;
    void (*run)(struct stage *stage);
    uint32_t on;
};

#define SCENARIO(function, where)                                                                  \
    {                                                                                              \
        .name = #function, .run = (function), .on = (where)                                        \
    }

/* Runs each row on each of its backends; what main() returns. */
int scenarios_run(const char *group, const struct scenario *rows, size_t rows_count);

/* Closes the driver and opens another with stage->opts. */
void stage_reopen(struct stage *stage);

struct rdy_registration stage_register(struct stage *stage, int fd, uint32_t interest);

/* A turn that must not fail; the number of events. */
int stage_turn(struct stage *stage, int64_t timeout_ns);

/* Turns until nothing comes any more. */
void stage_settle(struct stage *stage);

/* Turns until the kernel has let go of all that was released: no registration is live. */
void stage_empty(struct stage *stage);

/*
 * Turns, a bounded number of times, until @interest is ready for exactly
 * @ready; then goes on until nothing comes any more and looks again, so that a
 * flag too many is found as well.
 */
void stage_expect(struct stage *stage, const struct rdy_registration *reg, uint32_t interest,
                  uint32_t ready);

/* Forgets what is ready for @interest, as after EAGAIN. Final flags stay. */
void stage_forget(struct rdy_registration *reg, uint32_t interest);

struct rdy_driver_stats stage_stats(const struct stage *stage);

/* A waker that counts, and may call back. */
struct bell {
    struct rdy_a32 rings;
    void (*then)(void *arg);
    void *arg;
};

struct rdy_waker bell_waker(struct bell *bell);
uint32_t bell_rings(const struct bell *bell);

#endif
