/* SPDX-License-Identifier: MIT */
/*
 * Timeouts around reads of a real socket, and around calls that say what a test wants; on a paused
 * clock, so that a deadline is met to the nanosecond.
 */
#include "tests/support/pair.h"

#include <errno.h>

#include <rdy/timer.h>

#include "engine/base.h"

#define MS ((uint64_t)RDY_NS_PER_MS)

/* A read with a deadline, and how often it was tried. */
struct timed {
    struct pair pair;
    struct rdy_timer outer;
    uint64_t start_ns;
    uint64_t deadline_ns;
    ssize_t said; /* what try_scripted() says */
    ssize_t result;
    uint32_t tries;
    int step;
};

static struct timed timed;

static void timed_open(void **state)
{
    memset(&timed, 0, sizeof(timed));
    pair_open(&timed.pair, state);
    rdy_runtime_pause_clock(timed.pair.runtime);
    timed.start_ns = rdy_runtime_now_ns(timed.pair.runtime);
    pair_unix(&timed.pair);
    timed.result = -EINPROGRESS;
}

static void timed_run(rdy_poll_fn *poll)
{
    (void)spawn_test(timed.pair.runtime, poll, NULL, NULL);
    assert_int_equal(rdy_runtime_run(timed.pair.runtime), 0);
    assert_int_equal(runtime_stats(timed.pair.runtime).timers_armed, 0);
}

static uint64_t timed_now_ns(void)
{
    return rdy_runtime_now_ns(timed.pair.runtime) - timed.start_ns;
}

static ssize_t try_read(struct rdy_task *task)
{
    timed.tries++;
    return rdy_stream_poll_read(&timed.pair.server, task, timed.pair.buf, sizeof(timed.pair.buf));
}

static int try_scripted(void)
{
    timed.tries++;
    return (int)timed.said;
}

static int poll_reads_in_time(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    RDY_AWAIT(&my->co, (timed.result = RDY_TIMEOUT(&timed.pair.timer, task, timed.deadline_ns,
                                                   try_read(task))));
    RDY_END(&my->co);
    return 0;
}

static int poll_writes_after_5_ms(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    RDY_SLEEP(&my->co, &timed.outer, task, 5 * MS);
    assert_int_equal(write(timed.pair.peer, "answer", 6), 6);
    RDY_END(&my->co);
    return 0;
}

static void answer_disarms_the_timer(void **state)
{
    timed_open(state);
    timed.deadline_ns = timed.start_ns + 10 * MS;
    (void)spawn_test(timed.pair.runtime, poll_writes_after_5_ms, NULL, NULL);

    timed_run(poll_reads_in_time);

    assert_int_equal(timed.result, 6);
    assert_int_equal(timed_now_ns(), 5 * MS);
    assert_false(rdy_timer_has_fired(&timed.pair.timer));
    pair_close(&timed.pair);
}

static void silence_ends_at_the_deadline(void **state)
{
    timed_open(state);
    timed.deadline_ns = timed.start_ns + 3600000 * MS;

    timed_run(poll_reads_in_time);

    assert_int_equal(timed.result, -ETIMEDOUT);
    assert_int_equal(timed_now_ns(), 3600000 * MS);
    assert_true(rdy_timer_has_fired(&timed.pair.timer));
    pair_close(&timed.pair);
}

/* A deadline in the past means one try: for what is there, and for what is not. */
static void operation_is_tried_once_at_a_deadline_in_the_past(void **state)
{
    timed_open(state);
    assert_int_equal(write(timed.pair.peer, "answer", 6), 6);
    timed_run(poll_reads_in_time);
    assert_int_equal(timed.result, 6);
    assert_int_equal(timed.tries, 1);

    timed_run(poll_reads_in_time);
    assert_int_equal(timed.result, -ETIMEDOUT);
    assert_int_equal(timed.tries, 2);
    assert_int_equal(timed_now_ns(), 0);
    pair_close(&timed.pair);
}

static int poll_answers_after_5_ms(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    RDY_SLEEP(&my->co, &timed.outer, task, 5 * MS);
    timed.said = 6;
    RDY_END(&my->co);
    return 0;
}

static int poll_asks_in_time(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    RDY_AWAIT(&my->co, (timed.result = RDY_TIMEOUT(&timed.pair.timer, task, timed.deadline_ns,
                                                   try_scripted())));
    RDY_END(&my->co);
    return 0;
}

/* The clock stands on the deadline when the answer comes, and the timer has fired. */
static void answer_at_the_deadline_is_not_thrown_away(void **state)
{
    timed_open(state);
    timed.said = RDY_PENDING;
    timed.deadline_ns = timed.start_ns + 5 * MS;
    (void)spawn_test(timed.pair.runtime, poll_answers_after_5_ms, NULL, NULL);
    timed_run(poll_asks_in_time);

    assert_int_equal(timed.result, 6);
    assert_int_equal(timed.tries, 2);
    assert_int_equal(timed_now_ns(), 5 * MS);
    assert_int_equal(runtime_stats(timed.pair.runtime).timers_fired, 2);
    assert_false(rdy_timer_has_fired(&timed.pair.timer));
    pair_close(&timed.pair);
}

/* The read is given up, the bytes come later, and the next read has them all. */
static int poll_times_out_and_reads_again(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    RDY_AWAIT(&my->co, (timed.result = RDY_TIMEOUT(&timed.pair.timer, task, timed.start_ns + 2 * MS,
                                                   try_read(task))));
    assert_int_equal(timed.result, -ETIMEDOUT);
    assert_int_equal(timed_now_ns(), 2 * MS);
    RDY_AWAIT(&my->co, (timed.result = RDY_TIMEOUT(&timed.pair.timer, task,
                                                   timed.start_ns + 10 * MS, try_read(task))));
    assert_int_equal(timed_now_ns(), 5 * MS);
    RDY_END(&my->co);
    return 0;
}

static void timed_out_read_loses_nothing_and_its_timer_serves_again(void **state)
{
    timed_open(state);
    (void)spawn_test(timed.pair.runtime, poll_writes_after_5_ms, NULL, NULL);

    timed_run(poll_times_out_and_reads_again);

    assert_int_equal(timed.result, 6);
    assert_memory_equal(timed.pair.buf, "answer", 6);
    pair_close(&timed.pair);
}

static int poll_has_an_answer(struct rdy_task *task, void *self)
{
    int result;

    (void)self;
    result = RDY_TIMEOUT(&timed.pair.timer, task, timed.deadline_ns, try_scripted());
    timed.result = result;
    return 0;
}

static void operation_s_own_timeout_is_told_from_the_deadline(void **state)
{
    timed_open(state);
    timed.said = -ETIMEDOUT;
    timed_run(poll_has_an_answer);
    assert_int_equal(timed.result, -ETIMEDOUT);
    assert_false(rdy_timer_has_fired(&timed.pair.timer));

    timed.said = RDY_PENDING;
    timed_run(poll_has_an_answer);
    assert_int_equal(timed.result, -ETIMEDOUT);
    assert_true(rdy_timer_has_fired(&timed.pair.timer));

    timed.said = 0;
    timed_run(poll_has_an_answer);
    assert_int_equal(timed.result, 0);
    assert_false(rdy_timer_has_fired(&timed.pair.timer));
    pair_close(&timed.pair);
}

/* The deadline is 10 ms after the last byte; there are bytes every 5 ms, twenty times. */
static int poll_writes_often(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    for (timed.step = 0; timed.step < 20; timed.step++) {
        RDY_SLEEP(&my->co, &timed.outer, task, 5 * MS);
        assert_int_equal(write(timed.pair.peer, "!", 1), 1);
    }
    RDY_END(&my->co);
    return 0;
}

static int poll_reads_until_idle(struct rdy_task *task, void *self)
{
    (void)self;
    for (;;) {
        timed.result = RDY_TIMEOUT(&timed.pair.timer, task, timed.deadline_ns, try_read(task));
        if (timed.result <= 0)
            return timed.result == RDY_PENDING ? RDY_PENDING : 0;
        timed.pair.have += (size_t)timed.result;
        timed.deadline_ns = rdy_runtime_now_ns(rdy_task_runtime(task)) + 10 * MS;
    }
}

static void deadline_moves_with_each_sign_of_life(void **state)
{
    timed_open(state);
    timed.deadline_ns = timed.start_ns + 10 * MS;
    (void)spawn_test(timed.pair.runtime, poll_writes_often, NULL, NULL);

    timed_run(poll_reads_until_idle);

    assert_int_equal(timed.pair.have, 20);
    assert_int_equal(timed.result, -ETIMEDOUT);
    assert_int_equal(timed_now_ns(), 110 * MS);
    pair_close(&timed.pair);
}

/* An operation that always has more to do than the budget allows; each poll takes 1 ms. */
static int try_for_ever(struct rdy_task *task)
{
    timed.tries++;
    assert_int_equal(rdy_runtime_advance(rdy_task_runtime(task), MS), 0);
    while (rdy_task_charge(task) == 0)
        ;
    return RDY_PENDING;
}

static int poll_is_busy_for_ever(struct rdy_task *task, void *self)
{
    (void)self;
    timed.result = RDY_TIMEOUT(&timed.pair.timer, task, timed.deadline_ns, try_for_ever(task));
    return timed.result == RDY_PENDING && timed.tries < 100 ? RDY_PENDING : 0;
}

static void operation_that_uses_every_budget_up_meets_its_deadline(void **state)
{
    timed_open(state);
    timed.deadline_ns = timed.start_ns + 10 * MS;

    timed_run(poll_is_busy_for_ever);

    assert_int_equal(timed.result, -ETIMEDOUT);
    assert_int_equal(timed.tries, 10);
    pair_close(&timed.pair);
}

/* The task has spent its budget before; the operation would have an answer. */
static int poll_spends_first(struct rdy_task *task, void *self)
{
    (void)self;
    while (timed.step == 0 && rdy_task_charge(task) == 0)
        ;
    if (timed.step++ == 0) {
        timed.result = RDY_TIMEOUT(&timed.pair.timer, task, timed.deadline_ns, try_scripted());
        assert_int_equal(timed.result, RDY_PENDING);
        assert_int_equal(timed.tries, 0);
        return RDY_PENDING;
    }
    timed.result = RDY_TIMEOUT(&timed.pair.timer, task, timed.deadline_ns, try_scripted());
    return 0;
}

static void deadline_does_not_strike_an_operation_that_was_not_tried(void **state)
{
    timed_open(state);
    timed.said = 42;

    timed_run(poll_spends_first);

    assert_int_equal(timed.step, 2);
    assert_int_equal(timed.tries, 1);
    assert_int_equal(timed.result, 42);
    pair_close(&timed.pair);
}

static void drop_cancels(void *self)
{
    (void)self;
    timed.step = rdy_timer_cancel(&timed.pair.timer);
}

static int poll_aborts_the_reader(struct rdy_task *task, void *self)
{
    struct rdy_task_id *id = ((struct test_task *)self)->test;

    assert_int_equal(runtime_stats(rdy_task_runtime(task)).timers_armed, 1);
    return rdy_task_abort(rdy_task_runtime(task), *id);
}

static void aborted_task_cancels_its_timeout_and_nothing_is_left(void **state)
{
    struct rdy_task_id id;

    timed_open(state);
    timed.deadline_ns = timed.start_ns + 10 * MS;
    id = spawn_test(timed.pair.runtime, poll_reads_in_time, drop_cancels, NULL);
    (void)spawn_test(timed.pair.runtime, poll_aborts_the_reader, NULL, &id);
    assert_int_equal(rdy_runtime_run(timed.pair.runtime), 0);

    assert_int_equal(timed.step, 1);
    assert_int_equal(runtime_stats(timed.pair.runtime).timers_armed, 0);
    assert_int_equal(runtime_stats(timed.pair.runtime).timers_fired, 0);
    assert_int_equal(timed_now_ns(), 0);
    pair_close(&timed.pair);
}

static ssize_t try_inner(struct rdy_task *task, uint64_t inner_ns)
{
    return RDY_TIMEOUT(&timed.pair.timer, task, timed.start_ns + inner_ns, try_read(task));
}

static int poll_nests(struct rdy_task *task, void *self)
{
    struct test_task *my = self;

    RDY_BEGIN(&my->co);
    RDY_AWAIT(&my->co, (timed.result = RDY_TIMEOUT(&timed.outer, task, timed.start_ns + 4 * MS,
                                                   try_inner(task, 2 * MS))));
    assert_int_equal(timed.result, -ETIMEDOUT);
    assert_int_equal(timed_now_ns(), 2 * MS);
    assert_true(rdy_timer_has_fired(&timed.pair.timer));
    assert_false(rdy_timer_has_fired(&timed.outer));
    RDY_AWAIT(&my->co, (timed.result = RDY_TIMEOUT(&timed.outer, task, timed.start_ns + 4 * MS,
                                                   try_inner(task, 9 * MS))));
    assert_int_equal(timed.result, -ETIMEDOUT);
    assert_int_equal(timed_now_ns(), 4 * MS);
    assert_true(rdy_timer_has_fired(&timed.outer));
    /* The outer deadline has given the inner call up, and that includes its timer. */
    assert_true(rdy_timer_cancel(&timed.pair.timer));
    RDY_END(&my->co);
    timed.step = 1;
    return 0;
}

static void timeouts_nest(void **state)
{
    timed_open(state);
    timed_run(poll_nests);
    assert_int_equal(timed.step, 1);
    pair_close(&timed.pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(answer_disarms_the_timer),
        ON_BOTH(silence_ends_at_the_deadline),
        ON_BOTH(operation_is_tried_once_at_a_deadline_in_the_past),
        ON_BOTH(answer_at_the_deadline_is_not_thrown_away),
        ON_BOTH(timed_out_read_loses_nothing_and_its_timer_serves_again),
        ON_BOTH(operation_s_own_timeout_is_told_from_the_deadline),
        ON_BOTH(deadline_moves_with_each_sign_of_life),
        ON_BOTH(operation_that_uses_every_budget_up_meets_its_deadline),
        ON_BOTH(deadline_does_not_strike_an_operation_that_was_not_tried),
        ON_BOTH(aborted_task_cancels_its_timeout_and_nothing_is_left),
        ON_BOTH(timeouts_nest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
