/* SPDX-License-Identifier: MIT */
/* The harness of the conformance suite: see stage.h. */
#include "tests/support/stage.h"

#include <stdlib.h>

#include "engine/atomic.h"

#define TURNS_MAX        500
#define TURN_NS          (10 * RDY_NS_PER_MS)
#define TESTS_MAX        256
#define NAME_LEN         128
#define BACKENDS_MAX     4
#define QUIET_TURNS      2
#define SETTLE_TURNS_MAX 20000
#define QUIET_TURN_NS    (2 * RDY_NS_PER_MS)

/*
 * ThreadSanitizer's deadlock detector can follow 64 locks held at once and aborts at the next;
 * jemalloc's fork handler takes a few for each arena there ever was, and each driver has an arena.
 * Data races, which are what we run it for, are found all the same.
 */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}

static const struct {
    uint32_t on;
    const char *suffix;
} backends[BACKENDS_MAX] = {
    {ON_URING, "uring"},
    {ON_EPOLL, "epoll"},
    {ON_FAKE_KEYS, "fake_keys"},
    {ON_FAKE_STATE, "fake_state"},
};

struct act {
    const struct scenario *scenario;
    uint32_t on;
    char name[NAME_LEN];
};

static void stage_open(struct stage *stage)
{
    int rc;

    stage->opts.size = sizeof(stage->opts);
    if (stage->on & ON_KERNEL) {
        stage->opts.backend = stage->on == ON_URING ? RDY_BACKEND_URING : RDY_BACKEND_EPOLL;
        rc = rdy_driver_open(&stage->driver, &stage->opts);
    } else {
        fake_init_truth(stage->fake, stage->on == ON_FAKE_STATE);
        rc = fake_driver_open(stage->fake, &stage->opts, &stage->driver);
    }
    if (rc != 0)
        fail_msg("no driver on %s: %s", stage->on == ON_URING ? "io_uring" : "this backend",
                 strerror(-rc));
}

void stage_reopen(struct stage *stage)
{
    rdy_driver_close(stage->driver);
    stage_open(stage);
}

/* Turns until the kernel has let go of everything; that is no event, so turns seem quiet. */
void stage_empty(struct stage *stage)
{
    stage_settle(stage);
    for (int i = 0; i < SETTLE_TURNS_MAX && stage_stats(stage).entries_live > 0; i++)
        if (rdy_driver_turn(stage->driver, QUIET_TURN_NS) < 0)
            return;
}

static void act_run(void **state)
{
    const struct act *act = *state;
    struct stage stage = {.on = act->on};
    uint32_t fds_before = fds_open();

    stage.fake = calloc(1, sizeof(*stage.fake));
    check(stage.fake != NULL);
    stage_open(&stage);
    act->scenario->run(&stage);

    if (stage.driver) {
        stage_empty(&stage);
        assert_int_equal(stage_stats(&stage).entries_live, 0);
        assert_int_equal(stage_stats(&stage).cancels_pending, 0);
        rdy_driver_close(stage.driver);
    }
    free(stage.fake);
    assert_int_equal(fds_open(), fds_before);
}

/* The first driver of a process opens what stays open; so that no scenario is
 * blamed for it. */
static int warm_up(void **state)
{
    static struct rdy_probe_report report = {.size = sizeof(report)};

    (void)state;
    return rdy_probe(&report);
}

int scenarios_run(const char *group, const struct scenario *rows, size_t rows_count)
{
    static struct act acts[TESTS_MAX];
    static struct CMUnitTest tests[TESTS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < rows_count * BACKENDS_MAX; i++) {
        const struct scenario *row = &rows[i / BACKENDS_MAX];
        struct act *act = &acts[count];

        if ((row->on & backends[i % BACKENDS_MAX].on) == 0)
            continue;
        rdy_assert(count < TESTS_MAX);
        act->scenario = row;
        act->on = backends[i % BACKENDS_MAX].on;
        (void)snprintf(act->name, NAME_LEN, "%s_on_%s", row->name,
                       backends[i % BACKENDS_MAX].suffix);
        tests[count++] =
            (struct CMUnitTest){.name = act->name, .test_func = act_run, .initial_state = act};
    }
    return _cmocka_run_group_tests(group, tests, count, warm_up, NULL);
}

struct rdy_registration stage_register(struct stage *stage, int fd, uint32_t interest)
{
    struct rdy_registration reg;

    assert_int_equal(rdy_register(stage->driver, fd, interest, &reg), 0);
    return reg;
}

int stage_turn(struct stage *stage, int64_t timeout_ns)
{
    int rc = rdy_driver_turn(stage->driver, timeout_ns);

    if (rc < 0)
        fail_msg("the turn failed: %s", strerror(-rc));
    return rc;
}

void stage_settle(struct stage *stage)
{
    int quiet = 0;

    for (int i = 0; i < SETTLE_TURNS_MAX && quiet < QUIET_TURNS; i++) {
        int rc = rdy_driver_turn(stage->driver, QUIET_TURN_NS);

        if (rc == -ESHUTDOWN)
            return;
        check(rc >= 0);
        quiet = rc == 0 ? quiet + 1 : 0;
    }
    assert_int_equal(quiet, QUIET_TURNS);
}

static void same_ready(uint32_t is, uint32_t want)
{
    char is_text[80];
    char want_text[80];

    if (is != want)
        fail_msg("ready for %s, not for %s", rdy_ready_format(is, is_text, sizeof(is_text)),
                 rdy_ready_format(want, want_text, sizeof(want_text)));
}

void stage_expect(struct stage *stage, const struct rdy_registration *reg, uint32_t interest,
                  uint32_t ready)
{
    for (int i = 0; i < TURNS_MAX; i++) {
        if (rdy_event_ready(rdy_ready_event(reg, interest)) == ready)
            break;
        (void)stage_turn(stage, TURN_NS);
    }
    stage_settle(stage);
    same_ready(rdy_event_ready(rdy_ready_event(reg, interest)), ready);
}

void stage_forget(struct rdy_registration *reg, uint32_t interest)
{
    rdy_clear_readiness(reg, rdy_ready_event(reg, interest));
}

struct rdy_driver_stats stage_stats(const struct stage *stage)
{
    struct rdy_driver_stats stats;

    rdy_driver_read_stats(stage->driver, &stats);
    return stats;
}

/* Who waits for the ring may be gone with the bell as soon as it has rung. */
static void bell_ring(void *arg, uint64_t data)
{
    struct bell *bell = arg;
    struct bell copy = {.then = bell->then, .arg = bell->arg};

    (void)data;
    (void)__atomic_fetch_add(&bell->rings.v, 1, __ATOMIC_ACQ_REL);
    if (copy.then)
        copy.then(copy.arg);
}

struct rdy_waker bell_waker(struct bell *bell)
{
    return (struct rdy_waker){.fn = bell_ring, .arg = bell};
}

uint32_t bell_rings(const struct bell *bell)
{
    return rdy_a32_load_acquire(&bell->rings);
}
