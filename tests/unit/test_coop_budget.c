/* SPDX-License-Identifier: MIT */
/*
 * Two sockets of one task that never have to wait for each other, as loopback delivers within the
 * send: only the budget makes the task give way. After Tokio's coop_budget.
 */
#include "tests/support/datagrams.h"

#include <rdy/metrics.h>

#define PACKETS 1024
#define BUDGET  128

struct spam {
    struct ends ends;
    struct rdy_co co;
    ssize_t count;
    int packets;
    int tracker_polls;
    bool is_over;
};

static struct spam spam;

static int poll_spams(struct rdy_task *task, void *self)
{
    (void)self;
    RDY_BEGIN(&spam.co);
    /* The first one waits for the readiness of both sockets; after the yield the budget is new. */
    RDY_AWAIT(&spam.co, spam.count = one_sends_to(&spam.ends, task));
    RDY_AWAIT(&spam.co, spam.count = other_receives(&spam.ends, task));
    RDY_YIELD(&spam.co, task);
    spam.tracker_polls = 0;
    for (spam.packets = 0; spam.packets < PACKETS; spam.packets++) {
        RDY_AWAIT(&spam.co, spam.count = one_sends_to(&spam.ends, task));
        assert_int_equal(spam.count, 5);
        RDY_AWAIT(&spam.co, spam.count = other_receives(&spam.ends, task));
        assert_int_equal(spam.count, 5);
    }
    spam.is_over = true;
    RDY_END(&spam.co);
    return 0;
}

static int poll_tracks(struct rdy_task *task, void *self)
{
    (void)self;
    spam.tracker_polls++;
    if (spam.is_over)
        return 0;
    rdy_task_defer(task);
    return RDY_PENDING;
}

static void sockets_that_are_always_ready_give_way_by_budget(void **state)
{
    struct rdy_metrics metrics;

    memset(&spam, 0, sizeof(spam));
    ends_open(&spam.ends, state);
    (void)bind_loopback(&spam.ends, &spam.ends.one, AF_INET);
    spam.ends.to = bind_loopback(&spam.ends, &spam.ends.other, AF_INET);
    (void)spawn_test(spam.ends.runtime, poll_spams, NULL, NULL);
    (void)spawn_test(spam.ends.runtime, poll_tracks, NULL, NULL);
    assert_int_equal(rdy_runtime_run(spam.ends.runtime), 0);

    rdy_metrics_read(spam.ends.runtime, &metrics);
    assert_int_equal(spam.packets, PACKETS);
    /* Two operations a packet; the last budget is used up just when the last packet is in. */
    assert_int_equal(metrics.budget_forced_yield_count, 2 * PACKETS / BUDGET - 1);
    /* The other task had a turn each time, and one when all was over. */
    assert_int_equal(spam.tracker_polls, 2 * PACKETS / BUDGET);
    ends_close(&spam.ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(sockets_that_are_always_ready_give_way_by_budget),
    };

    return cmocka_run_group_tests_name("coop_budget", tests, NULL, NULL);
}
