/* SPDX-License-Identifier: MIT */
/*
 * For tests of the connector: targets of all kinds, one task that connects to whichever answers, on
 * a clock that moves by itself.
 */
#ifndef RDY_TESTS_SUPPORT_RACE_H
#define RDY_TESTS_SUPPORT_RACE_H

#include "tests/support/connecting.h"

#include <rdy/connector.h>
#include <rdy/timer.h>

#define RACE_MAX    48
#define RACE_MS     1000000u /* nanoseconds */
#define RACE_LEEWAY (RACE_MS / 1000u)

struct race {
    struct rdy_runtime *runtime;
    struct rdy_connector connector;
    struct rdy_connector_opts opts;
    struct target targets[RACE_MAX];
    struct rdy_address addrs[RACE_MAX];
    uint32_t count;
    struct rdy_stream stream;
    struct fault fault;
    struct holdings before;
    uint64_t began_ns;
    uint64_t ended_ns;
    int result; /* RDY_PENDING until there is an answer */
    int polls;
    struct rdy_timer timer;
    uint64_t deadline_ns; /* of the task that uses `timer` */
};

static inline struct race *race_of(void *self)
{
    return ((struct test_task *)self)->test;
}

static inline void race_open(struct race *race, void **state)
{
    memset(race, 0, sizeof(*race));
    race->runtime = runtime_of(state);
    race->stream.fd = -1;
    race->opts.size = sizeof(race->opts);
    rdy_runtime_pause_clock(race->runtime);
}

static inline void race_add(struct race *race, struct target target)
{
    assert_true(race->count < RACE_MAX);
    race->targets[race->count] = target;
    race->addrs[race->count++] = target.address;
}

/* Takes note of what there is before the first attempt. */
static inline void race_start(struct race *race)
{
    race->before = holdings_now(race->runtime);
    race->result = RDY_PENDING;
    race->polls = 0;
    race->began_ns = rdy_runtime_now_ns(race->runtime);
    fault_begin(&race->fault);
    assert_int_equal(
        rdy_connector_start(&race->connector, race->runtime, race->addrs, race->count, &race->opts),
        0);
    fault_end(&race->fault);
}

static inline int poll_races(struct rdy_task *task, void *self)
{
    struct race *race = race_of(self);
    int rc;

    race->polls++;
    fault_begin(&race->fault);
    rc = rdy_connector_poll(&race->connector, task, &race->stream);
    fault_end(&race->fault);
    if (rc == RDY_PENDING)
        return RDY_PENDING;
    race->result = rc;
    race->ended_ns = rdy_runtime_now_ns(race->runtime);
    return 0;
}

static inline void drop_cancels(void *self)
{
    rdy_connector_cancel(&race_of(self)->connector);
}

static inline struct rdy_task_id race_spawn(struct race *race)
{
    return spawn_test(race->runtime, poll_races, drop_cancels, race);
}

/* Starts and runs to the answer. */
static inline int race_run(struct race *race)
{
    race_start(race);
    (void)race_spawn(race);
    assert_int_equal(rdy_runtime_run(race->runtime), 0);
    assert_null(race->connector.runtime);
    return race->result;
}

/* How long it took, in milliseconds of the paused clock. */
static inline uint64_t race_ms(const struct race *race)
{
    uint64_t took_ns = race->ended_ns - race->began_ns;

    return took_ns / RACE_MS;
}

/* The stream leads to the target at @index, which says so. */
static inline void assert_connected_to(struct race *race, uint32_t index)
{
    struct rdy_address peer = {0};

    assert_int_equal(race->result, 0);
    assert_true(race->stream.fd >= 0);
    assert_int_equal(rdy_stream_peer_address(&race->stream, &peer.addr, &peer.addr_len), 0);
    assert_same_address(&peer, &race->addrs[index]);
}

/* Beside the winner, if there is one, nothing was left by the attempts. */
static inline void assert_race_left_nothing(struct race *race)
{
    rdy_stream_close(&race->stream);
    assert_nothing_leaked(race->runtime, race->before);
}

static inline void race_close(struct race *race)
{
    assert_race_left_nothing(race);
    for (uint32_t i = 0; i < race->count; i++)
        if (race->targets[i].fd > 0)
            target_close(&race->targets[i]);
    race->count = 0;
}

#endif
