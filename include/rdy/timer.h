/* SPDX-License-Identifier: MIT */
/*
 * Time for tasks: sleeps, timeouts around any poll call, intervals, and a clock that tests move.
 *
 * All of it stands on struct rdy_timer of <rdy/runtime.h>: the caller's memory, kept by the runtime
 * while a call has said RDY_PENDING and nothing since has answered. A task that may be aborted
 * meanwhile cancels its timers in its drop function. Times are nanoseconds of rdy_runtime_now_ns();
 * a sum that does not fit into 64 bits is taken as "never". Nothing here allocates. The runtime's
 * thread throughout.
 */
#ifndef RDY_TIMER_H
#define RDY_TIMER_H

#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/*
 * Sleeps for @duration_ns in a coroutine, counted from here and from a fresh look at the clock: not
 * shorter, however long the task has been working. 0 goes on at once.
 */
#define RDY_SLEEP(co, timer, task, duration_ns)                                                    \
    do {                                                                                           \
        rdy_timer_start_sleep(timer, task, duration_ns);                                           \
        RDY_AWAIT(co, rdy_timer_poll_sleep(timer, task));                                          \
    } while (0)

/**
 * rdy_timer_start_sleep() - begin a sleep that rdy_timer_poll_sleep() waits for
 * @timer:       borrowed; {0} before its first use, disarmed if it is armed
 * @task:        being polled
 * @duration_ns: from now, after a fresh look at the clock
 *
 * Context: the runtime's thread.
 */
RDY_API void rdy_timer_start_sleep(struct rdy_timer *timer, struct rdy_task *task,
                                   uint64_t duration_ns);

/**
 * rdy_timer_poll_sleep() - RDY_PENDING until the sleep is over, then 0
 * @timer: of rdy_timer_start_sleep(); kept while RDY_PENDING, cancel it when giving up
 * @task:  being polled; woken when the sleep is over
 *
 * May be given up at RDY_PENDING. Pays one operation when the sleep is over.
 * Context: the runtime's thread.
 */
RDY_API RDY_NODISCARD int rdy_timer_poll_sleep(struct rdy_timer *timer, struct rdy_task *task);

/*
 * RDY_TIMEOUT() - a poll call with a deadline; of the type of @expr
 * @timer:       of this operation alone until it has answered; {0} before its first use; kept while
 *               RDY_PENDING. It may serve one operation after the other.
 * @task:        being polled; woken at the deadline. Evaluated twice.
 * @deadline_ns: may be another one at each poll: a later one for every sign of life, say
 * @expr:        the poll call: int or ssize_t, RDY_PENDING for "not yet". Evaluated once, or not at
 *               all when the task's budget is used up.
 *
 *     RDY_AWAIT(&s->co, s->got = RDY_TIMEOUT(&s->timer, task, s->deadline_ns,
 *                                            rdy_stream_poll_read(&s->stream, task, buf, len)));
 *
 * The operation comes first: its answer counts also when the deadline has passed, so that an answer
 * is never thrown away, and a deadline in the past still means one try. Any answer disarms the
 * timer. If it says RDY_PENDING at or after the deadline, the result is -ETIMEDOUT, at once; also
 * if it does so because it used the budget up in this very try, or a busy operation would outlive
 * every deadline. A task whose budget was used up before tries nothing and is queued behind the
 * others, as with every poll call. No budget is paid for the timeout itself.
 *
 * -ETIMEDOUT leaves the operation as giving it up at RDY_PENDING does: see there what is lost, if
 * anything, and what has to be called. Its waker may stay behind, and cost one wake for nothing. An
 * operation may have an -ETIMEDOUT of its own (a connection does): rdy_timer_has_fired() is true if
 * it was the deadline's. Timeouts nest, each with a timer of its own; the inner one comes first.
 */
#define RDY_TIMEOUT(timer, task, deadline_ns, expr)                                                \
    (rdy_timeout_begin(task) ? (__typeof__(expr))rdy_timeout_end(timer, task, deadline_ns, (expr)) \
                             : RDY_PENDING)

/* RDY_TIMEOUT()'s first half: the task has budget for a try. If not, it is queued for the next
 * poll, and nothing is to be tried. */
RDY_API RDY_NODISCARD bool rdy_timeout_begin(struct rdy_task *task);

/* RDY_TIMEOUT()'s second half: @result, or -ETIMEDOUT in the place of RDY_PENDING. */
RDY_API RDY_NODISCARD ssize_t rdy_timeout_end(struct rdy_timer *timer, struct rdy_task *task,
                                              uint64_t deadline_ns, ssize_t result);

/* When the next tick is due after one that was taken too late. */
enum rdy_missed_ticks {
    RDY_MISSED_BURST = 0, /* a period after the last was due: the missed ones follow at once */
    RDY_MISSED_DELAY = 1, /* a period from now */
    RDY_MISSED_SKIP = 2,  /* at the next multiple of the period, counted from the first tick */
};

/*
 * Ticks at a period. The caller's memory, {0} before the first start; fields are private.
 *
 * A tick is too late if it is taken a whole period after it was due, or more than 5 ms: what is
 * less is the jitter of a loop, and does not shift the ticks of RDY_MISSED_DELAY.
 */
struct rdy_interval {
    struct rdy_timer timer;
    uint64_t next_ns;
    uint64_t period_ns;
    enum rdy_missed_ticks missed;
};

/**
 * rdy_interval_start() - set the first tick and the period
 * @interval:  borrowed; one that runs is stopped first
 * @first_ns:  when the first tick is due: rdy_runtime_now_ns() for at once, that and @period_ns for
 *             after a period
 * @period_ns: not 0
 * @missed:    what follows a tick that was taken too late
 *
 * Context: the runtime's thread.
 * Return:  0, or -EINVAL with nothing changed.
 */
RDY_API RDY_NODISCARD int rdy_interval_start(struct rdy_interval *interval, uint64_t first_ns,
                                             uint64_t period_ns, enum rdy_missed_ticks missed);

/**
 * rdy_interval_poll_tick() - RDY_PENDING until the next tick is due, then 0
 * @interval: started; kept while RDY_PENDING, rdy_interval_stop() when giving up
 * @task:     being polled; woken when the tick is due
 * @tick_ns:  receives when the tick was due, which may be some time ago; may be NULL
 *
 * May be given up at RDY_PENDING: the tick stays for the next call. Each tick pays one operation.
 * Context: the runtime's thread.
 */
RDY_API RDY_NODISCARD int rdy_interval_poll_tick(struct rdy_interval *interval,
                                                 struct rdy_task *task, uint64_t *tick_ns);

/* Makes @next_ns the time of the next tick; the period goes on from there. A task that waits for
 * the tick is to poll again. */
RDY_API void rdy_interval_reset(struct rdy_interval *interval, uint64_t next_ns);

/* Disarms the timer. The tick stays: polling goes on with it. {0} is fine. */
RDY_API void rdy_interval_stop(struct rdy_interval *interval);

/**
 * rdy_runtime_pause_clock() - stop the runtime's time, for tests
 * @runtime: borrowed; nothing happens if its clock is paused
 *
 * rdy_runtime_now_ns() then stands still, and moves in two ways only: by rdy_runtime_advance(), and
 * by itself, towards the next armed timer, when no task can run and a turn of the driver that did
 * not block brought nothing; where a cancelled timer was, it may stop on the way. So a test sleeps
 * for hours in no time, and timers fire in the order of their deadlines, those of one deadline in
 * the order of arming, the same in every run.
 *
 * What the runtime cannot see is overtaken by a clock that moves by itself: another thread or
 * process that is still at work, data that is still under way. With no timer armed the driver
 * blocks, and then they are waited for.
 *
 * Context: the runtime's thread, within a task or not.
 */
RDY_API void rdy_runtime_pause_clock(struct rdy_runtime *runtime);

/* Lets the time go on from where it stands; does nothing if it is not paused. The runtime's time
 * is then no longer CLOCK_MONOTONIC, but as fast. The runtime's thread. */
RDY_API void rdy_runtime_resume_clock(struct rdy_runtime *runtime);

/**
 * rdy_runtime_advance() - move a paused clock
 * @runtime:     borrowed
 * @distance_ns: how far
 *
 * Timers that become due fire after the next turn of the driver. A task that wants to see what they
 * did sleeps for one nanosecond: that ends when nothing else can run.
 *
 * Context: the runtime's thread, within a task or not.
 * Return:  0; -EPERM if the clock is not paused; -ERANGE if 64 bits do not hold the new time.
 */
RDY_API RDY_NODISCARD int rdy_runtime_advance(struct rdy_runtime *runtime, uint64_t distance_ns);

RDY_END_DECLS

#endif
