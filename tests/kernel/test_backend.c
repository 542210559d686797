/* SPDX-License-Identifier: MIT */
/*
 * What arm(), disarm() and the facts of wait() promise, on every backend.
 */
#include "tests/kernel/backends.h"
#include "uring/uring.h"

static void arming_reports_the_present_state_and_then_only_changes(void **state)
{
    struct rdy_backend *backend = backend_new();
    int fd = event_new();
    struct rdy_fact fact;

    (void)state;
    event_signal(fd);

    backend_arm(backend, fd, TOKEN(7), RDY_EV_IN);
    fact = next_fact(backend);
    assert_int_equal(fact.token, TOKEN(7));
    assert_int_equal(fact.events, RDY_EV_IN);
    assert_int_equal(fact.result, 0);
    assert_int_equal(fact.flags, 0);
    assert_no_fact(backend);

    event_signal(fd);
    fact = next_fact(backend);
    assert_int_equal(fact.events, RDY_EV_IN);
    assert_int_equal(fact.flags, 0);
    assert_no_fact(backend);

    backend_close(backend);
    (void)close(fd);
}

static void nothing_comes_after_the_last_fact(void **state)
{
    struct rdy_backend *backend = backend_new();
    int fd = event_new();

    (void)state;
    backend_arm(backend, fd, TOKEN(1), RDY_EV_IN);
    assert_no_fact(backend);

    disarm_fully(backend, fd, TOKEN(1));
    event_signal(fd);

    assert_no_fact(backend);
    backend_close(backend);
    (void)close(fd);
}

/* The event has happened and is on its way when the watch is taken off: still exactly one last. */
static void disarming_with_an_event_pending_ends_the_watch_once(void **state)
{
    struct rdy_backend *backend = backend_new();
    int fd = event_new();

    (void)state;
    for (uint32_t i = 0; i < 200; i++) {
        backend_arm(backend, fd, TOKEN(i), RDY_EV_IN);
        assert_no_fact(backend);
        event_signal(fd);

        disarm_fully(backend, fd, TOKEN(i));

        assert_no_fact(backend);
        event_drain(fd);
    }
    backend_close(backend);
    (void)close(fd);
}

static void arm_and_disarm_in_one_turn_cancel_each_other(void **state)
{
    struct rdy_backend *backend = backend_new();
    int fd = event_new();

    (void)state;
    backend_arm(backend, fd, TOKEN(3), RDY_EV_IN);
    disarm_fully(backend, fd, TOKEN(3));

    event_signal(fd);
    assert_no_fact(backend);
    backend_close(backend);
    (void)close(fd);
}

/* The number is used again at once, as accept(2) does; the old watch must not speak for the new. */
static void a_new_watch_on_the_same_descriptor_has_its_own_token(void **state)
{
    struct rdy_backend *backend = backend_new();
    int fd = event_new();

    (void)state;
    backend_arm(backend, fd, TOKEN(1), RDY_EV_IN);
    disarm_fully(backend, fd, TOKEN(1));
    backend_arm(backend, fd, TOKEN(2), RDY_EV_IN);
    event_signal(fd);

    assert_int_equal(next_fact(backend).token, TOKEN(2));
    assert_no_fact(backend);
    backend_close(backend);
    (void)close(fd);
}

static void a_half_close_is_reported_though_nobody_asked(void **state)
{
    struct rdy_backend *backend = backend_new();
    struct rdy_fact fact;
    int pair[2];

    (void)state;
    tcp_pair(pair);
    backend_arm(backend, pair[1], TOKEN(1), RDY_EV_IN);
    assert_no_fact(backend);

    assert_int_equal(shutdown(pair[0], SHUT_WR), 0);

    fact = next_fact(backend);
    assert_int_equal(fact.events & RDY_EV_RDHUP, RDY_EV_RDHUP);
    backend_close(backend);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void a_descriptor_that_does_not_exist_is_refused(void **state)
{
    struct rdy_backend *backend = backend_new();
    int rc = backend->ops->arm(backend, 999999, TOKEN(1), RDY_EV_IN);

    (void)state;
    if (rc == 0) {
        struct rdy_fact fact = next_fact(backend);

        rc = fact.result;
        assert_int_equal(fact.flags, RDY_FACT_LAST);
        assert_int_equal(fact.events, 0);
    }
    assert_int_equal(rc, -EBADF);
    assert_no_fact(backend);
    backend_close(backend);
}

static void no_more_facts_than_asked_for_and_the_rest_later(void **state)
{
    struct rdy_backend *backend = backend_new();
    struct rdy_fact facts[3];
    bool seen[10] = {false};
    int fds[10];
    int total = 0;

    (void)state;
    for (uint32_t i = 0; i < 10; i++) {
        fds[i] = event_new();
        event_signal(fds[i]);
        backend_arm(backend, fds[i], TOKEN(i), RDY_EV_IN);
    }
    for (int i = 0; i < 20 && total < 10; i++) {
        int count = backend->ops->wait(backend, 0, facts, 3);

        assert_in_range(count, 0, 3);
        for (int k = 0; k < count; k++) {
            assert_false(seen[SLOT(facts[k].token)]);
            seen[SLOT(facts[k].token)] = true;
        }
        total += count;
    }
    assert_int_equal(total, 10);
    backend_close(backend);
    for (int i = 0; i < 10; i++)
        (void)close(fds[i]);
}

/* The watch is over before the cancel arrives: its answer, "no such thing", is nobody's fact. */
static void disarming_what_has_ended_by_itself_adds_no_fact(void **state)
{
    struct rdy_backend *backend = backend_new();
    int rc = backend->ops->arm(backend, 999999, TOKEN(1), RDY_EV_IN);

    (void)state;
    if (rc == 0) {
        assert_int_equal(backend->ops->disarm(backend, 999999, TOKEN(1)), 0);
        assert_int_equal(next_fact(backend).result, -EBADF);
    } else {
        assert_int_equal(backend->ops->disarm(backend, 999999, TOKEN(1)), RDY_DISARMED);
    }
    assert_no_fact(backend);
    backend_close(backend);
}

#define CROWD 4000

struct crowd {
    int fds[CROWD];
    bool is_seen[CROWD];
    uint32_t seen;
    uint32_t rearms;
    uint32_t overflows;
};

static void crowd_open(struct crowd *crowd, struct rdy_backend *backend)
{
    struct rdy_fact facts[FACTS_MAX];

    memset(crowd, 0, sizeof(*crowd));
    for (uint32_t i = 0; i < CROWD; i++) {
        crowd->fds[i] = event_new();
        backend_arm(backend, crowd->fds[i], TOKEN(i), RDY_EV_IN);
    }
    assert_int_equal(backend_wait(backend, 0, facts), 0);
}

static void crowd_take(struct crowd *crowd, struct rdy_backend *backend,
                       const struct rdy_fact *fact)
{
    uint64_t slot = SLOT(fact->token);

    assert_int_equal(fact->result, 0);
    assert_true(slot < CROWD);
    if ((fact->events & RDY_EV_IN) && !crowd->is_seen[slot]) {
        crowd->is_seen[slot] = true;
        crowd->seen++;
    }
    if (!(fact->flags & RDY_FACT_LAST))
        return;
    crowd->rearms++;
    crowd->overflows += (fact->flags & RDY_FACT_OVERFLOW) != 0;
    backend_arm(backend, crowd->fds[slot], fact->token, RDY_EV_IN);
}

static void crowd_collect(struct crowd *crowd, struct rdy_backend *backend)
{
    struct rdy_fact facts[FACTS_MAX];

    for (int round = 0; round < ROUNDS_MAX && crowd->seen < CROWD; round++) {
        int count = backend_wait(backend, SOON_NS, facts);

        assert_true(count >= 0);
        for (int i = 0; i < count; i++)
            crowd_take(crowd, backend, &facts[i]);
    }
    assert_int_equal(crowd->seen, CROWD);
}

/*
 * Four thousand are ready at once and the queue has room for 64. Where the queue overflows the
 * kernel ends the polls of the rest; armed again they report again. Then each gets one more event,
 * which is lost if an ended poll was taken for a live one.
 */
static void nobody_is_lost_when_the_completion_queue_overflows(void **state)
{
    struct rdy_backend *backend =
        backend_open(&(struct rdy_backend_opts){.events_max = FACTS_MAX, .cq_entries = 64});
    static struct crowd crowd;

    (void)state;
    crowd_open(&crowd, backend);
    for (int lap = 0; lap < 2; lap++) {
        crowd.seen = 0;
        memset(crowd.is_seen, 0, sizeof(crowd.is_seen));
        for (uint32_t i = 0; i < CROWD; i++)
            event_signal(crowd.fds[i]);
        crowd_collect(&crowd, backend);
    }

    /* Before 6.0 a poll survives; before 6.13 an enter runs all the task work there is. */
    assert_int_equal(crowd.overflows, crowd.rearms);
    if (variant > RDY_RUNG_DEFER && variant <= RDY_RUNG_PLAIN && kernel_is_at_least(6, 0))
        assert_true(crowd.overflows > 0);
    else if (variant != RDY_RUNG_DEFER || kernel_is_at_least(6, 13))
        assert_int_equal(crowd.overflows, 0);

    backend_close(backend);
    for (uint32_t i = 0; i < CROWD; i++)
        (void)close(crowd.fds[i]);
}

/* Through the queue's 256 slots several times over, with no wait in between. */
static void a_full_submission_queue_is_emptied_on_the_way(void **state)
{
    struct rdy_backend *backend = backend_new();
    int fd = event_new();
    int copies[900];

    (void)state;
    for (uint32_t i = 0; i < 900; i++) {
        copies[i] = dup(fd);
        assert_true(copies[i] >= 0);
        backend_arm(backend, copies[i], TOKEN(i), RDY_EV_IN);
    }
    assert_no_fact(backend);
    event_signal(fd);
    for (int total = 0; total < 900; total++)
        assert_int_equal(next_fact(backend).flags, 0);

    backend_close(backend);
    for (int i = 0; i < 900; i++)
        (void)close(copies[i]);
    (void)close(fd);
}

/*
 * Before 5.17 a cancel answers with a completion of its own. One fact a wait is asked for, and each
 * wait must bring one although all the answers stand in the queue before them.
 */
static void answers_to_cancels_take_no_facts_place(void **state)
{
    struct rdy_backend *backend = backend_new();
    int fds[40];

    (void)state;
    if (variant != RUNG_OF_EPOLL)
        uring_of(backend)->ring.cancel_flags = 0;
    for (uint32_t i = 0; i < 40; i++) {
        fds[i] = event_new();
        backend_arm(backend, fds[i], TOKEN(i), RDY_EV_IN);
    }
    assert_no_fact(backend);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(backend->ops->disarm(backend, fds[i], TOKEN(i)),
                         variant == RUNG_OF_EPOLL ? RDY_DISARMED : 0);
    for (uint32_t i = 0; i < 40 && variant != RUNG_OF_EPOLL; i++) {
        struct rdy_fact fact;

        assert_int_equal(backend->ops->wait(backend, SOON_NS, &fact, 1), 1);
        assert_int_equal(fact.flags, RDY_FACT_LAST);
    }
    assert_no_fact(backend);
    backend_close(backend);
    for (uint32_t i = 0; i < 40; i++)
        (void)close(fds[i]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(arming_reports_the_present_state_and_then_only_changes),
    cmocka_unit_test(nothing_comes_after_the_last_fact),
    cmocka_unit_test(disarming_with_an_event_pending_ends_the_watch_once),
    cmocka_unit_test(arm_and_disarm_in_one_turn_cancel_each_other),
    cmocka_unit_test(a_new_watch_on_the_same_descriptor_has_its_own_token),
    cmocka_unit_test(a_half_close_is_reported_though_nobody_asked),
    cmocka_unit_test(a_descriptor_that_does_not_exist_is_refused),
    cmocka_unit_test(disarming_what_has_ended_by_itself_adds_no_fact),
    cmocka_unit_test(no_more_facts_than_asked_for_and_the_rest_later),
    cmocka_unit_test(nobody_is_lost_when_the_completion_queue_overflows),
    cmocka_unit_test(a_full_submission_queue_is_emptied_on_the_way),
    cmocka_unit_test(answers_to_cancels_take_no_facts_place),
};

int main(void)
{
    return run_on_each_backend(tests, sizeof(tests) / sizeof(tests[0]));
}
