/* SPDX-License-Identifier: MIT */
/*
 * The smallest numbers that the options allow: one fact a turn, one completion slot. Slower, but
 * everything still happens.
 */
#include <pthread.h>

#include "tests/support/stage.h"

#define MANY      600
#define TURNS_MAX 2000

/* --- events_max 1 --- */

static void shutdown_lets_go_of_everything_at_one_fact_a_turn(struct stage *stage)
{
    static struct rdy_registration reg[MANY];
    uint32_t fds_before = fds_open();

    stage->opts.events_max = 1;
    stage_reopen(stage);
    for (int i = 0; i < MANY; i++)
        reg[i] = stage_register(stage, event_fd(), RDY_INTEREST_READ);
    (void)stage_turn(stage, 0);

    assert_int_equal(rdy_driver_shutdown(stage->driver), 0);

    assert_int_equal(stage_stats(stage).cancels_pending, 0);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(rdy_close(&reg[i]), 0);
    assert_int_equal(rdy_driver_turn(stage->driver, 0), -ESHUTDOWN);
    assert_int_equal(stage_stats(stage).entries_live, 0);
    assert_int_equal(fds_open(), fds_before);
}

/* --- cq_entries 1 --- */

struct errand {
    struct stage *stage;
    struct rdy_registration reg;
    int fd;
};

static void *register_elsewhere(void *arg)
{
    struct errand *errand = arg;
    int rc = rdy_register(errand->stage->driver, errand->fd, RDY_INTEREST_READ, &errand->reg);

    return (void *)(intptr_t)rc;
}

static void registration_from_another_thread_is_armed_with_one_completion_slot(struct stage *stage)
{
    struct errand errand = {.stage = stage, .fd = event_fd()};
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_event event;
    pthread_t thread;
    void *rc = NULL;

    stage->opts.cq_entries = 1;
    stage_reopen(stage);
    assert_int_equal(pthread_create(&thread, NULL, register_elsewhere, &errand), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal((intptr_t)rc, 0);
    assert_int_equal(rdy_poll_readiness(&errand.reg, RDY_DIRECTION_READ, &waker, &event),
                     RDY_PENDING);

    event_write(errand.fd);

    for (int i = 0; i < TURNS_MAX && bell_rings(&bell) == 0; i++)
        (void)stage_turn(stage, 10 * RDY_NS_PER_MS);
    assert_int_equal(bell_rings(&bell), 1);
    rdy_close(&errand.reg);
}

int main(void)
{
    static const struct scenario rows[] = {
        SCENARIO(shutdown_lets_go_of_everything_at_one_fact_a_turn, ON_KERNEL),
        SCENARIO(registration_from_another_thread_is_armed_with_one_completion_slot, ON_ALL),
    };

    return scenarios_run("limits", rows, sizeof(rows) / sizeof(rows[0]));
}
