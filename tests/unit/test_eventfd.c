/* SPDX-License-Identifier: MIT */
/*
 * Counted events: taken at once or one by one, raised by tasks, threads, signal handlers and other
 * processes; on both backends.
 */
#include "tests/support/calls.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <rdy/event.h>
#include <rdy/timer.h>

#include "engine/sys.h"

#define THREADS 4
#define ADDS    20000

struct counter {
    struct rdy_runtime *runtime;
    struct rdy_eventfd event;
    uint64_t taken;
    uint64_t sum;
    uint64_t want;
    int takes;
};

static struct counter counter;

static void counter_open(void **state, uint32_t initial, bool is_semaphore)
{
    struct rdy_eventfd_opts opts = {
        .size = sizeof(opts), .initial = initial, .is_semaphore = is_semaphore};

    memset(&counter, 0, sizeof(counter));
    counter.runtime = runtime_of(state);
    assert_int_equal(rdy_eventfd_open(&counter.event, counter.runtime, &opts), 0);
}

static void counter_close(void)
{
    rdy_eventfd_close(&counter.event);
    rdy_eventfd_close(&counter.event);
    let_close(counter.runtime);
}

static ssize_t takes(void *test, struct rdy_task *task)
{
    struct counter *c = test;

    return rdy_eventfd_poll_take(&c->event, task, &c->taken);
}

static ssize_t takes_until_enough(void *test, struct rdy_task *task)
{
    struct counter *c = test;

    while (c->sum < c->want) {
        ssize_t rc = takes(test, task);

        if (rc != 0)
            return rc;
        c->sum += c->taken;
        c->takes++;
    }
    return 0;
}

static ssize_t ask(call_fn *fn)
{
    return call_ask(counter.runtime, fn, &counter);
}

static void adds_are_summed_up_until_they_are_taken(void **state)
{
    struct call call;

    counter_open(state, 0, false);
    (void)call_start(&call, counter.runtime, takes, &counter);
    let_turn(counter.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_int_equal(rdy_eventfd_add(&counter.event, 3), 0);
    assert_int_equal(rdy_eventfd_add(&counter.event, 4), 0);
    assert_int_equal(rdy_eventfd_add(&counter.event, 0), 0);
    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(counter.taken, 7);
    assert_int_equal(ask(takes), RDY_PENDING);
    counter_close();
}

static void counter_may_begin_with_something(void **state)
{
    counter_open(state, 5, false);
    assert_int_equal(call_run(counter.runtime, takes, &counter), 0);
    assert_int_equal(counter.taken, 5);
    counter_close();
}

/* The add of nothing wakes nobody: eventfd(2) itself would make a turn for it. */
static void add_of_nothing_wakes_nobody(void **state)
{
    struct call call;
    struct rdy_task_id id;

    counter_open(state, 0, false);
    id = call_start(&call, counter.runtime, takes, &counter);
    let_turn(counter.runtime);
    assert_int_equal(rdy_eventfd_add(&counter.event, 0), 0);
    let_turn(counter.runtime);
    assert_int_equal(call.polls, 1);
    (void)rdy_task_abort(counter.runtime, id);
    counter_close();
}

static void semaphore_is_taken_one_by_one(void **state)
{
    counter_open(state, 1, true);
    assert_int_equal(rdy_eventfd_add(&counter.event, 2), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(call_run(counter.runtime, takes, &counter), 0);
        assert_int_equal(counter.taken, 1);
    }
    assert_int_equal(ask(takes), RDY_PENDING);
    counter_close();
}

/* A take has emptied the counter: nobody has to ask the kernel again. */
static void take_needs_no_second_one_to_know_that_it_was_all(void **state)
{
    counter_open(state, 1, false);
    assert_int_equal(call_run(counter.runtime, takes, &counter), 0);
    assert_int_equal(rdy_event_ready(rdy_ready_event(&counter.event.reg, RDY_INTEREST_READ)), 0);
    assert_int_equal(rdy_eventfd_add(&counter.event, 1), 0);
    assert_int_equal(call_run(counter.runtime, takes, &counter), 0);
    counter_close();
}

static void full_counter_refuses_and_is_ready(void **state)
{
    counter_open(state, 0, false);
    assert_int_equal(rdy_eventfd_add(&counter.event, UINT64_MAX), -EINVAL);
    assert_int_equal(rdy_eventfd_add(&counter.event, UINT64_MAX - 1), 0);
    assert_int_equal(rdy_eventfd_add(&counter.event, 1), -EAGAIN);
    assert_int_equal(call_run(counter.runtime, takes, &counter), 0);
    assert_true(counter.taken == UINT64_MAX - 1);
    assert_int_equal(rdy_eventfd_add(&counter.event, 1), 0);
    assert_int_equal(rdy_eventfd_try_take(&counter.event, NULL), 0);
    assert_int_equal(rdy_eventfd_try_take(&counter.event, NULL), -EAGAIN);
    counter_close();
}

/* --- by others --- */

static void *adds_many(void *arg)
{
    struct counter *c = arg;

    for (int i = 0; i < ADDS; i++)
        if (rdy_eventfd_add(&c->event, 1) != 0)
            return c;
    return NULL;
}

static void adds_of_all_threads_arrive(void **state)
{
    struct call call;
    pthread_t threads[THREADS];

    for (int is_semaphore = 0; is_semaphore < 2; is_semaphore++) {
        counter_open(state, 0, is_semaphore != 0);
        counter.want = (uint64_t)THREADS * ADDS;
        (void)call_start(&call, counter.runtime, takes_until_enough, &counter);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, adds_many, &counter), 0);
        assert_int_equal(call_finish(&call), 0);
        for (int i = 0; i < THREADS; i++) {
            void *failed = NULL;

            assert_int_equal(pthread_join(threads[i], &failed), 0);
            assert_null(failed);
        }
        assert_true(counter.sum == counter.want);
        if (is_semaphore)
            assert_int_equal(counter.takes, THREADS * ADDS);
        assert_int_equal(ask(takes), RDY_PENDING);
        counter_close();
    }
}

static void add_in_handler(int signo)
{
    (void)signo;
    errno = 77;
    (void)rdy_eventfd_add(&counter.event, 1);
    if (errno != 77)
        _exit(3);
}

static void signal_handler_may_add(void **state)
{
    struct sigaction action = {.sa_handler = add_in_handler};
    struct sigaction before;

    counter_open(state, 0, false);
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(call_run(counter.runtime, takes, &counter), 0);
    assert_int_equal(counter.taken, 2);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    counter_close();
}

static void another_process_may_add(void **state)
{
    int status = 0;
    pid_t pid;

    counter_open(state, 0, false);
    pid = fork();
    if (pid == 0)
        _exit(rdy_eventfd_add_to(rdy_eventfd_fd(&counter.event), 42) == 0 ? 0 : 1);
    assert_int_equal(call_run(counter.runtime, takes, &counter), 0);
    assert_int_equal(counter.taken, 42);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    counter_close();
}

/* Two processes take from one counter: who finds it empty waits on. */
static void taken_by_somebody_else_it_is_waited_for_on(void **state)
{
    struct call call;
    uint64_t count = 0;

    counter_open(state, 0, false);
    let_turn(counter.runtime);
    assert_int_equal(rdy_eventfd_add(&counter.event, 1), 0);
    let_turn(counter.runtime);
    assert_int_equal(read(rdy_eventfd_fd(&counter.event), &count, sizeof(count)), sizeof(count));
    (void)call_start(&call, counter.runtime, takes, &counter);
    let_turn(counter.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_int_equal(rdy_eventfd_add(&counter.event, 9), 0);
    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(counter.taken, 9);
    counter_close();
}

/* --- taking over, giving up, refusals --- */

static void eventfd_made_elsewhere_is_taken_over(void **state)
{
    int fd = eventfd(2, EFD_CLOEXEC | EFD_SEMAPHORE);

    counter_open(state, 0, false);
    counter_close();
    assert_int_equal(rdy_eventfd_from_fd(&counter.event, counter.runtime, fd, true), 0);
    assert_true(is_nonblocking(fd));
    for (int i = 0; i < 2; i++)
        assert_int_equal(call_run(counter.runtime, takes, &counter), 0);
    assert_int_equal(ask(takes), RDY_PENDING);
    counter_close();
    assert_false(is_open(fd));
}

static void what_is_no_eventfd_is_refused(void **state)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct rdy_eventfd closed = {.fd = -1};
    struct rdy_eventfd_opts opts = {.size = sizeof(opts) - 1};
    int fds[2];

    counter_open(state, 0, false);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(rdy_eventfd_from_fd(&closed, counter.runtime, fd, false), -EPERM);
    assert_int_equal(rdy_eventfd_from_fd(&closed, counter.runtime, fds[0], false), -EINVAL);
    assert_false(is_nonblocking(fds[0]));
    assert_int_equal(close(fd), 0);
    assert_int_equal(rdy_eventfd_from_fd(&closed, counter.runtime, fd, false), -EBADF);
    assert_int_equal(rdy_eventfd_open(&closed, counter.runtime, &opts), -EINVAL);
    assert_int_equal(rdy_eventfd_add(&closed, 1), -EBADF);
    assert_int_equal(rdy_eventfd_try_take(&closed, NULL), -EBADF);
    assert_int_equal(closed.fd, -1);
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(close(fds[1]), 0);
    counter_close();
    assert_int_equal(ask(takes), -EBADF);
}

static ssize_t takes_in_time(void *test, struct rdy_task *task)
{
    static struct rdy_timer timer;

    return RDY_TIMEOUT(&timer, task, 1, (int)takes(test, task));
}

static void take_that_is_given_up_takes_nothing(void **state)
{
    counter_open(state, 0, false);
    assert_int_equal(call_run(counter.runtime, takes_in_time, &counter), -ETIMEDOUT);
    assert_int_equal(ask(takes), RDY_PENDING);
    assert_int_equal(rdy_eventfd_add(&counter.event, 6), 0);
    assert_int_equal(call_run(counter.runtime, takes, &counter), 0);
    assert_int_equal(counter.taken, 6);
    counter_close();
}

static void takes_of_a_semaphore_are_paid_for(void **state)
{
    struct call call;
    struct rdy_task_id id;

    counter_open(state, 100000, true);
    counter.want = UINT64_MAX;
    let_turn(counter.runtime);
    id = call_start(&call, counter.runtime, takes_until_enough, &counter);
    let_turn(counter.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_int_equal(counter.takes, 128 * call.polls);
    (void)rdy_task_abort(counter.runtime, id);
    counter_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(adds_are_summed_up_until_they_are_taken),
        ON_BOTH(counter_may_begin_with_something),
        ON_BOTH(add_of_nothing_wakes_nobody),
        ON_BOTH(semaphore_is_taken_one_by_one),
        ON_BOTH(take_needs_no_second_one_to_know_that_it_was_all),
        ON_BOTH(full_counter_refuses_and_is_ready),
        ON_BOTH(adds_of_all_threads_arrive),
        ON_BOTH(signal_handler_may_add),
        ON_BOTH(another_process_may_add),
        ON_BOTH(taken_by_somebody_else_it_is_waited_for_on),
        ON_BOTH(eventfd_made_elsewhere_is_taken_over),
        ON_BOTH(what_is_no_eventfd_is_refused),
        ON_BOTH(take_that_is_given_up_takes_nothing),
        ON_BOTH(takes_of_a_semaphore_are_paid_for),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
