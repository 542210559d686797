/* SPDX-License-Identifier: MIT */
/*
 * A hundred thousand times: a runtime in a poll(2) loop that sleeps without limit, woken by two
 * other threads and by the loop's own callbacks, between a turn and the sleep.
 *
 * Each of the two threads wakes a task, or spawns one, and does nothing more until that task has
 * run. The loop has a descriptor of its own, an eventfd; each time it is readable its callback does
 * one thing to the runtime, outside of a turn: it wakes a task, spawns one, or arms a timer that is
 * due. What it set off writes to the eventfd again, and so on, for as long as the threads go on and
 * for some time after. So if one wake of any of these is lost, its chain ends, and when all three
 * have ended the loop sleeps for ever, and the watchdog ends the test. The loop is the least that
 * the header allows: it sleeps in poll(2), without limit but for what rdy_runtime_timeout_ns() said
 * before the callbacks ran, and turns until the answer is idle.
 */
#include "tests/support/embedded.h"
#include "tests/support/stress.h"

#include <pthread.h>
#include <sys/eventfd.h>

#include "engine/atomic.h"
#include "engine/sys.h"

#define ROUNDS       STRESS_ROUNDS(100000, 4000)
#define ROUNDS_ALONE 1000 /* links of the loop's chain when nobody else wakes the loop any more */
#define SPINS        200

/* A thread that goes on when the task that it woke, or spawned, has run. */
struct caller {
    struct rdy_runtime *runtime;
    struct rdy_waker waker;
    struct rdy_a32 runs; /* of the task; the thread sleeps on it */
    bool spawns;
    pthread_t thread;
};

/* What the loop's callback sets off, and what that comes back to. */
struct chain {
    struct rdy_runtime *runtime;
    struct rdy_timer timer;
    struct rdy_waker waker;
    int fd;
    uint64_t calls;
};

/* --- the two threads --- */

static int poll_counts_its_wakes(struct rdy_task *task, void *self)
{
    struct caller *caller = ((struct test_task *)self)->test;

    (void)task;
    rdy_a32_store_release(&caller->runs, rdy_a32_load_relaxed(&caller->runs) + 1);
    rdy_sys_futex_wake(&caller->runs.v, 1);
    return caller->spawns ? 0 : RDY_PENDING;
}

static void caller_call(struct caller *caller)
{
    static const struct rdy_task_spec spec = {.poll = poll_counts_its_wakes,
                                              .self_size = sizeof(struct test_task)};
    struct test_task init = {.test = caller};

    if (caller->spawns)
        rdy_assert(rdy_spawn_remote(caller->runtime, &spec, &init) == 0);
    else
        rdy_waker_wake(&caller->waker);
}

static void *caller_run(void *arg)
{
    struct caller *caller = arg;

    stress_pin(caller->spawns);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        caller_call(caller);
        for (int spins = 0; rdy_a32_load_acquire(&caller->runs) == i; spins++) {
            if (spins >= SPINS)
                rdy_sys_futex_wait(&caller->runs.v, i);
        }
    }
    return NULL;
}

static void caller_start(struct caller *caller)
{
    assert_int_equal(pthread_create(&caller->thread, NULL, caller_run, caller), 0);
}

static int poll_offers_its_waker(struct rdy_task *task, void *self)
{
    struct caller *caller = ((struct test_task *)self)->test;

    if (caller->waker.fn)
        return poll_counts_its_wakes(task, self);
    caller->waker = rdy_task_waker(task);
    caller_start(caller);
    return RDY_PENDING;
}

/* --- the loop's callback --- */

static void chain_back(struct chain *chain)
{
    assert_int_equal(rdy_sys_eventfd_write(chain->fd), 0);
}

static int poll_links(struct rdy_task *task, void *self)
{
    struct chain *chain = ((struct test_task *)self)->test;

    if (!chain->waker.fn)
        chain->waker = rdy_task_waker(task);
    chain_back(chain);
    return RDY_PENDING;
}

static int poll_links_once(struct rdy_task *task, void *self)
{
    (void)task;
    chain_back(((struct test_task *)self)->test);
    return 0;
}

static void fire_links(void *arg, uint64_t data)
{
    (void)data;
    chain_back(arg);
}

static void chain_call(struct chain *chain)
{
    struct rdy_waker waker = {.fn = fire_links, .arg = chain};

    switch (chain->calls++ % 3) {
    case 0:
        rdy_waker_wake(&chain->waker);
        break;
    case 1:
        (void)spawn_test(chain->runtime, poll_links_once, NULL, chain);
        break;
    default:
        rdy_timer_arm(&chain->timer, chain->runtime, rdy_runtime_now_ns(chain->runtime), &waker);
        break;
    }
}

/* --- the loop --- */

/* Turns until nothing more can run; true if the runtime was stopped. */
static bool loop_turn(struct rdy_runtime *runtime)
{
    int rc;

    do {
        rc = rdy_runtime_turn(runtime, 0);
        assert_true(rc >= 0);
    } while (rc == RDY_TURN_MORE);
    return rc == RDY_TURN_STOPPED;
}

static int in_milliseconds(int64_t timeout_ns)
{
    return timeout_ns < 0 ? -1 : (int)((timeout_ns + RDY_NS_PER_MS - 1) / RDY_NS_PER_MS);
}

static void loop_run(struct chain *chain)
{
    struct pollfd fds[] = {
        {.fd = rdy_runtime_fd(chain->runtime), .events = POLLIN},
        {.fd = chain->fd, .events = POLLIN},
    };
    uint64_t links_alone = 0;
    bool is_stopped = false;

    while (links_alone < ROUNDS_ALONE) {
        int timeout_ms;

        is_stopped = loop_turn(chain->runtime) || is_stopped;
        timeout_ms = in_milliseconds(rdy_runtime_timeout_ns(chain->runtime));

        /* The callback comes between the loop's look at the timeout and its sleep. */
        if (fds[1].revents & POLLIN) {
            assert_int_equal(rdy_sys_eventfd_drain(chain->fd), 0);
            chain_call(chain);
            links_alone += is_stopped ? 1 : 0;
        }
        assert_true(poll(fds, 2, timeout_ms) >= 0);
    }
}

static void *stopper_run(void *arg)
{
    struct caller *callers = arg;

    for (int i = 0; i < 2; i++)
        rdy_assert(pthread_join(callers[i].thread, NULL) == 0);
    rdy_runtime_stop(callers[0].runtime);
    return NULL;
}

static void wakes_between_a_turn_and_the_loops_sleep_are_not_lost(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct chain chain = {.runtime = runtime, .fd = rdy_sys_eventfd()};
    struct caller callers[2] = {{.runtime = runtime}, {.runtime = runtime, .spawns = true}};
    pthread_t stopper;

    assert_true(chain.fd >= 0);
    stress_watch();
    (void)spawn_test(runtime, poll_links, NULL, &chain);
    (void)spawn_test(runtime, poll_offers_its_waker, NULL, &callers[0]);
    assert_false(loop_turn(runtime));
    caller_start(&callers[1]);
    assert_int_equal(pthread_create(&stopper, NULL, stopper_run, callers), 0);

    loop_run(&chain);
    assert_int_equal(pthread_join(stopper, NULL), 0);

    for (int i = 0; i < 2; i++)
        assert_int_equal(rdy_a32_load_acquire(&callers[i].runs), ROUNDS);
    (void)rdy_timer_cancel(&chain.timer);
    assert_int_equal(rdy_sys_close(chain.fd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH_EMBEDDED(wakes_between_a_turn_and_the_loops_sleep_are_not_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
