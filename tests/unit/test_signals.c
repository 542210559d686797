/* SPDX-License-Identifier: MIT */
/*
 * Signals as events: whose they are, what coalesces and what queues up, what happens to the mask;
 * on both backends.
 */
#include "tests/support/calls.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <rdy/pipe.h>
#include <rdy/signal.h>
#include <rdy/timer.h>

#define MANY    200
#define THREADS 4

struct scene {
    struct rdy_runtime *runtime;
    struct rdy_signals signals;
    struct rdy_signals others;
    struct rdy_signal_info info;
    int taken;
    int want;
};

static struct scene scene;
static volatile sig_atomic_t handled;

static void scene_init(void **state)
{
    memset(&scene, 0, sizeof(scene));
    scene.runtime = runtime_of(state);
    scene.signals.fd = -1;
    scene.others.fd = -1;
    handled = 0;
}

static void scene_open(void **state, const int *list, size_t count)
{
    scene_init(state);
    assert_int_equal(rdy_signals_open_list(&scene.signals, scene.runtime, list, count), 0);
}

static void scene_open_one(void **state, int signo)
{
    scene_open(state, &signo, 1);
}

static void scene_close(void)
{
    rdy_signals_close(&scene.signals);
    rdy_signals_close(&scene.others);
    rdy_signals_close(&scene.signals);
    let_close(scene.runtime);
}

static ssize_t takes(void *test, struct rdy_task *task)
{
    struct scene *s = test;

    return rdy_signals_poll_next(&s->signals, task, &s->info);
}

static ssize_t takes_of_others(void *test, struct rdy_task *task)
{
    struct scene *s = test;

    return rdy_signals_poll_next(&s->others, task, &s->info);
}

static ssize_t ask(call_fn *fn)
{
    return call_ask(scene.runtime, fn, &scene);
}

static ssize_t take(void)
{
    return call_run(scene.runtime, takes, &scene);
}

static bool is_blocked(int signo)
{
    sigset_t mask;

    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    return sigismember(&mask, signo) == 1;
}

static void mask_one(int how, int signo)
{
    sigset_t set;

    assert_int_equal(sigemptyset(&set), 0);
    assert_int_equal(sigaddset(&set, signo), 0);
    assert_int_equal(pthread_sigmask(how, &set, NULL), 0);
}

static void count_handled(int signo)
{
    (void)signo;
    handled = handled + 1;
}

static void handle(int signo)
{
    struct sigaction action = {.sa_handler = count_handled};

    assert_int_equal(sigaction(signo, &action, NULL), 0);
}

static void unhandle(int signo)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    assert_int_equal(sigaction(signo, &action, NULL), 0);
}

/* --- who sent what --- */

static void signal_to_ourselves_comes_as_an_event(void **state)
{
    struct call call;

    scene_open_one(state, SIGUSR1);
    (void)call_start(&call, scene.runtime, takes, &scene);
    let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(scene.info.signo, SIGUSR1);
    assert_int_equal(scene.info.code, SI_USER);
    assert_int_equal(scene.info.pid, getpid());
    assert_int_equal(scene.info.uid, getuid());
    assert_int_equal(ask(takes), RDY_PENDING);
    scene_close();
}

static void signal_of_a_child_says_whose_it_is_and_so_does_its_end(void **state)
{
    const int list[] = {SIGUSR2, SIGCHLD};
    int status = 0;
    pid_t pid;

    scene_open(state, list, 2);
    pid = fork();
    if (pid == 0) {
        (void)kill(getppid(), SIGUSR2);
        _exit(7);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(take(), 0);
        assert_int_equal(scene.info.pid, pid);
        if (scene.info.signo == SIGCHLD) {
            assert_int_equal(scene.info.code, CLD_EXITED);
            assert_int_equal(scene.info.status, 7);
        } else {
            assert_int_equal(scene.info.signo, SIGUSR2);
        }
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    scene_close();
}

static void real_time_signals_queue_up_in_order_and_keep_their_values(void **state)
{
    const int list[] = {SIGRTMIN + 1, SIGRTMIN + 2};

    scene_open(state, list, 2);
    for (int i = 0; i < MANY; i++) {
        union sigval value = {.sival_int = i};

        assert_int_equal(sigqueue(getpid(), list[1 - i % 2], value), 0);
    }
    for (int i = 0; i < MANY; i++) {
        bool is_low = i < MANY / 2;

        assert_int_equal(take(), 0);
        assert_int_equal(scene.info.signo, list[is_low ? 0 : 1]);
        assert_int_equal(scene.info.value, is_low ? 2 * i + 1 : 2 * (i - MANY / 2));
        assert_int_equal(scene.info.code, SI_QUEUE);
    }
    assert_int_equal(ask(takes), RDY_PENDING);
    scene_close();
}

static void every_real_time_signal_can_be_heard(void **state)
{
    int list[64];
    size_t count = 0;

    for (int signo = SIGRTMIN; signo <= SIGRTMAX; signo++)
        list[count++] = signo;
    scene_open(state, list, count);
    for (size_t i = count; i > 0; i--)
        assert_int_equal(kill(getpid(), list[i - 1]), 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(take(), 0);
        assert_int_equal(scene.info.signo, list[i]);
    }
    assert_int_equal(ask(takes), RDY_PENDING);
    scene_close();
}

static void value_may_be_a_pointer(void **state)
{
    union sigval value = {.sival_ptr = &scene};

    scene_open_one(state, SIGRTMIN + 3);
    assert_int_equal(sigqueue(getpid(), SIGRTMIN + 3, value), 0);
    assert_int_equal(take(), 0);
    assert_ptr_equal(scene.info.pointer, &scene);
    scene_close();
}

static void standard_signals_coalesce_and_others_beside_them_do_not(void **state)
{
    const int list[] = {SIGUSR1, SIGUSR2, SIGHUP};
    bool seen[3] = {false};

    scene_open(state, list, 3);
    for (int i = 0; i < 30; i++)
        assert_int_equal(kill(getpid(), list[i % 3]), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(take(), 0);
        for (int j = 0; j < 3; j++)
            seen[j] = seen[j] || scene.info.signo == list[j];
    }
    assert_true(seen[0] && seen[1] && seen[2]);
    assert_int_equal(ask(takes), RDY_PENDING);
    scene_close();
}

/* --- other threads, other signals, other work --- */

static void *wait_for_end(void *arg)
{
    char byte;

    while (read(*(int *)arg, &byte, 1) > 0)
        ;
    return NULL;
}

/* Threads that were started after the open have its mask, and take nothing away. */
static void threads_started_afterwards_take_no_signal_away(void **state)
{
    pthread_t threads[THREADS];
    int fds[2];

    scene_open_one(state, SIGUSR1);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_end, &fds[0]), 0);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
        assert_int_equal(take(), 0);
    }
    /* but what is sent to one of them is its own */
    assert_int_equal(pthread_kill(threads[0], SIGUSR1), 0);
    assert_int_equal(ask(takes), RDY_PENDING);
    assert_int_equal(close(fds[1]), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(close(fds[0]), 0);
    scene_close();
}

static void signals_outside_the_set_are_handled_as_ever(void **state)
{
    scene_open_one(state, SIGUSR1);
    handle(SIGUSR2);
    handle(SIGUSR1);
    assert_int_equal(kill(getpid(), SIGUSR2), 0);
    assert_int_equal(handled, 1);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(handled, 1);
    assert_int_equal(take(), 0);
    assert_int_equal(scene.info.signo, SIGUSR1);
    assert_int_equal(handled, 1);
    unhandle(SIGUSR1);
    unhandle(SIGUSR2);
    scene_close();
}

struct load {
    struct rdy_pipe_sender sender;
    struct rdy_pipe_receiver receiver;
    uint64_t rounds;
};

/* Writes a byte to itself and reads it, for ever. */
static ssize_t works(void *test, struct rdy_task *task)
{
    struct load *load = test;
    char byte = 'x';

    for (;;) {
        ssize_t count = rdy_pipe_receiver_poll_read(&load->receiver, task, &byte, 1);

        if (count != 1)
            return count;
        count = rdy_pipe_sender_poll_write(&load->sender, task, &byte, 1);
        if (count != 1)
            return count; /* the pipe is all but empty: never RDY_PENDING for want of room */
        load->rounds++;
    }
}

static ssize_t takes_and_stops(void *test, struct rdy_task *task)
{
    ssize_t rc = takes(test, task);

    if (rc == 0)
        rdy_runtime_stop(scene.runtime);
    return rc;
}

/* A runtime that is never idle still hears that it shall end. */
static void termination_is_heard_under_load(void **state)
{
    static struct load loads[8];
    struct rdy_task_id ids[8];
    struct call calls[8];
    struct call term;
    pid_t pid;

    scene_open_one(state, SIGTERM);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(rdy_pipe_open(&loads[i].sender, &loads[i].receiver, scene.runtime, NULL),
                         0);
        assert_int_equal(write(loads[i].sender.fd, "x", 1), 1);
        ids[i] = call_start(&calls[i], scene.runtime, works, &loads[i]);
    }
    (void)call_start(&term, scene.runtime, takes_and_stops, &scene);
    let_turn(scene.runtime);
    pid = fork();
    if (pid == 0) {
        (void)kill(getppid(), SIGTERM);
        _exit(0);
    }
    assert_int_equal(rdy_runtime_run(scene.runtime), 0);
    assert_int_equal(term.result, 0);
    assert_int_equal(scene.info.signo, SIGTERM);
    assert_int_equal(scene.info.pid, pid);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    for (int i = 0; i < 8; i++) {
        assert_true(loads[i].rounds > 0);
        (void)rdy_task_abort(scene.runtime, ids[i]);
        rdy_pipe_sender_close(&loads[i].sender);
        rdy_pipe_receiver_close(&loads[i].receiver);
    }
    scene_close();
}

/* --- the mask --- */

static void close_puts_the_mask_back(void **state)
{
    mask_one(SIG_BLOCK, SIGUSR2);
    {
        const int list[] = {SIGUSR1, SIGUSR2};

        scene_open(state, list, 2);
        assert_true(is_blocked(SIGUSR1) && is_blocked(SIGUSR2));
        scene_close();
    }
    assert_false(is_blocked(SIGUSR1));
    assert_true(is_blocked(SIGUSR2)); /* it was, before us */
    mask_one(SIG_UNBLOCK, SIGUSR2);
}

/* Whichever of two sets is closed first, the other one still gets its signals. */
static void sets_that_overlap_hold_the_mask_together(void **state)
{
    const int first[] = {SIGUSR1, SIGHUP};
    const int second[] = {SIGUSR1, SIGUSR2};

    for (int order = 0; order < 2; order++) {
        scene_open(state, first, 2);
        assert_int_equal(rdy_signals_open_list(&scene.others, scene.runtime, second, 2), 0);
        rdy_signals_close(order == 0 ? &scene.signals : &scene.others);
        assert_true(is_blocked(SIGUSR1));
        assert_true(is_blocked(SIGHUP) == (order == 1));
        assert_true(is_blocked(SIGUSR2) == (order == 0));
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
        assert_int_equal(call_run(scene.runtime, order == 0 ? takes_of_others : takes, &scene), 0);
        scene_close();
        assert_false(is_blocked(SIGUSR1) || is_blocked(SIGHUP) || is_blocked(SIGUSR2));
    }
}

/* One signal, two who wait for it: one gets it, and the other one waits on. */
static void sets_that_overlap_share_what_comes(void **state)
{
    const int list[] = {SIGUSR1};
    struct call one;
    struct call other;

    scene_open(state, list, 1);
    assert_int_equal(rdy_signals_open_list(&scene.others, scene.runtime, list, 1), 0);
    (void)call_start(&one, scene.runtime, takes, &scene);
    (void)call_start(&other, scene.runtime, takes_of_others, &scene);
    let_turn(scene.runtime);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    let_turn(scene.runtime);
    assert_int_equal((one.result == 0) + (other.result == 0), 1);
    assert_int_equal((one.result == RDY_PENDING) + (other.result == RDY_PENDING), 1);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(rdy_runtime_run(scene.runtime), 0);
    assert_int_equal(one.result, 0);
    assert_int_equal(other.result, 0);
    scene_close();
}

/* Two runtimes have the signal; what is left of them hears on when the other has gone. */
static void set_hears_on_when_that_of_another_runtime_is_closed(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime *first = fixture->runtime;
    const int list[] = {SIGUSR1};

    scene_open(state, list, 1);
    fixture->runtime = runtime_open(fixture->backend);
    assert_int_equal(rdy_signals_open_list(&scene.others, fixture->runtime, list, 1), 0);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(take(), 0);
    rdy_signals_close(&scene.signals);
    rdy_runtime_close(first);

    scene.runtime = fixture->runtime;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
        assert_int_equal(call_run(scene.runtime, takes_of_others, &scene), 0);
    }
    scene_close();
    assert_false(is_blocked(SIGUSR1));
}

static void signal_that_was_not_taken_is_delivered_at_the_close(void **state)
{
    scene_open_one(state, SIGUSR1);
    handle(SIGUSR1);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    let_turn(scene.runtime);
    assert_int_equal(handled, 0);
    rdy_signals_close(&scene.signals);
    assert_int_equal(handled, 1);
    unhandle(SIGUSR1);
    scene_close();
}

static void signal_that_was_pending_before_is_the_first_to_come(void **state)
{
    mask_one(SIG_BLOCK, SIGUSR1);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    scene_open_one(state, SIGUSR1);
    assert_int_equal(take(), 0);
    scene_close();
    mask_one(SIG_UNBLOCK, SIGUSR1);
}

/* --- refusals, giving up, budget --- */

static void expect_refusal(int first, int second)
{
    const int list[] = {first, second};

    assert_int_equal(rdy_signals_open_list(&scene.signals, scene.runtime, list, 2), -EINVAL);
    assert_int_equal(scene.signals.fd, -1);
    assert_false(is_blocked(SIGUSR1));
}

static void what_cannot_be_an_event_is_refused(void **state)
{
    sigset_t none;
    int before = errno = 4711;

    scene_init(state);
    expect_refusal(SIGUSR1, SIGKILL);
    expect_refusal(SIGSTOP, SIGUSR1);
    expect_refusal(SIGUSR1, 0);
    expect_refusal(SIGUSR1, -1);
    expect_refusal(SIGUSR1, 65);
    expect_refusal(SIGUSR1, 32); /* the C library's own */
    assert_int_equal(errno, before);
    assert_int_equal(sigemptyset(&none), 0);
    assert_int_equal(rdy_signals_open(&scene.signals, scene.runtime, &none), -EINVAL);
    assert_int_equal(ask(takes), -EBADF);
    scene_close();
}

static ssize_t takes_in_time(void *test, struct rdy_task *task)
{
    static struct rdy_timer timer;

    return RDY_TIMEOUT(&timer, task, 1, (int)takes(test, task));
}

static void wait_that_is_given_up_takes_nothing(void **state)
{
    scene_open_one(state, SIGUSR1);
    assert_int_equal(call_run(scene.runtime, takes_in_time, &scene), -ETIMEDOUT);
    assert_int_equal(ask(takes), RDY_PENDING);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(take(), 0);
    scene_close();
}

static ssize_t takes_many(void *test, struct rdy_task *task)
{
    while (scene.taken < scene.want) {
        ssize_t rc = takes(test, task);

        if (rc != 0)
            return rc;
        scene.taken++;
    }
    return 0;
}

static void signals_are_paid_for(void **state)
{
    struct call call;
    union sigval value = {.sival_int = 0};

    scene_open_one(state, SIGRTMIN + 1);
    scene.want = 300;
    for (int i = 0; i < scene.want; i++)
        assert_int_equal(sigqueue(getpid(), SIGRTMIN + 1, value), 0);
    let_turn(scene.runtime);
    (void)call_start(&call, scene.runtime, takes_many, &scene);
    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(call.polls, 3); /* 128, 128, 44 */
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(signal_to_ourselves_comes_as_an_event),
        ON_BOTH(signal_of_a_child_says_whose_it_is_and_so_does_its_end),
        ON_BOTH(real_time_signals_queue_up_in_order_and_keep_their_values),
        ON_BOTH(every_real_time_signal_can_be_heard),
        ON_BOTH(value_may_be_a_pointer),
        ON_BOTH(standard_signals_coalesce_and_others_beside_them_do_not),
        ON_BOTH(threads_started_afterwards_take_no_signal_away),
        ON_BOTH(signals_outside_the_set_are_handled_as_ever),
        ON_BOTH(termination_is_heard_under_load),
        ON_BOTH(close_puts_the_mask_back),
        ON_BOTH(sets_that_overlap_hold_the_mask_together),
        ON_BOTH(sets_that_overlap_share_what_comes),
        ON_BOTH(set_hears_on_when_that_of_another_runtime_is_closed),
        ON_BOTH(signal_that_was_not_taken_is_delivered_at_the_close),
        ON_BOTH(signal_that_was_pending_before_is_the_first_to_come),
        ON_BOTH(what_cannot_be_an_event_is_refused),
        ON_BOTH(wait_that_is_given_up_takes_nothing),
        ON_BOTH(signals_are_paid_for),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
