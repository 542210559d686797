/* SPDX-License-Identifier: MIT */
/*
 * The graceful end of a runtime: who is told, who may finish, who is ended, and in which thread.
 * Time is the paused clock's where a deadline is to pass: the test does not wait for it.
 */
#include "tests/support/runtime.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rdy/rdy.h>

#include "tests/support/check.h"
#include "tests/support/fork.h"
#include "tests/support/stress.h"

#define GRACE_NS (UINT64_C(10) * 1000000000)

/* What a test's tasks do and how often. */
struct record {
    struct rdy_runtime *runtime;
    int told;
    int finished;
    int drops;
    int order[8];
    pthread_t drop_thread;
    uint64_t end_ns;
};

struct told {
    struct rdy_co co;
    struct rdy_shutdown_wait wait;
    struct rdy_timer timer;
    struct record *record;
    int number;
};

static void told_drop(void *self)
{
    struct told *told = self;

    rdy_shutdown_wait_cancel(&told->wait);
    (void)rdy_timer_cancel(&told->timer);
    told->record->drops++;
    told->record->drop_thread = pthread_self();
}

static struct told *spawn_told(struct record *record, rdy_poll_fn *poll)
{
    struct rdy_task_spec spec = {.poll = poll, .drop = told_drop, .self_size = sizeof(struct told)};
    void *self = NULL;

    assert_int_equal(rdy_spawn(record->runtime, &spec, &self, NULL), 0);
    ((struct told *)self)->record = record;
    return self;
}

static int poll_waits_for_shutdown(struct rdy_task *task, void *self)
{
    struct told *told = self;

    if (rdy_runtime_poll_shutdown(&told->wait, task) == RDY_PENDING)
        return RDY_PENDING;
    told->record->order[told->record->told++] = told->number;
    return 0;
}

static int poll_shuts_down(struct rdy_task *task, void *self)
{
    struct test_task *test = self;

    (void)test;
    return rdy_runtime_shutdown(rdy_task_runtime(task), GRACE_NS);
}

static void those_who_wait_are_told_in_order_and_the_run_ends(void **state)
{
    struct record record = {.runtime = runtime_of(state)};

    for (int i = 0; i < 4; i++)
        spawn_told(&record, poll_waits_for_shutdown)->number = i;
    (void)spawn_test(record.runtime, poll_shuts_down, NULL, NULL);
    assert_false(rdy_runtime_is_shutting_down(record.runtime));
    assert_int_equal(rdy_runtime_run(record.runtime), 0);

    assert_true(rdy_runtime_is_shutting_down(record.runtime));
    assert_int_equal(record.told, 4);
    assert_int_equal(record.drops, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(record.order[i], i);
    assert_int_equal(runtime_stats(record.runtime).task_aborts, 0);
}

static int poll_finishes_in_grace(struct rdy_task *task, void *self)
{
    struct told *told = self;

    RDY_BEGIN(&told->co);
    RDY_AWAIT(&told->co, rdy_runtime_poll_shutdown(&told->wait, task));
    RDY_SLEEP(&told->co, &told->timer, task, GRACE_NS / 2);
    told->record->finished++;
    RDY_END(&told->co);
    return 0;
}

static int poll_never_ends(struct rdy_task *task, void *self)
{
    struct told *told = self;

    told->record->end_ns = rdy_runtime_now_ns(rdy_task_runtime(task));
    return RDY_PENDING;
}

static void busy_ones_finish_and_stuck_ones_end_at_the_deadline(void **state)
{
    struct record record = {.runtime = runtime_of(state)};
    struct record stuck = {.runtime = record.runtime};
    uint64_t begin_ns;

    rdy_runtime_pause_clock(record.runtime);
    begin_ns = rdy_runtime_now_ns(record.runtime);
    (void)spawn_told(&record, poll_finishes_in_grace);
    (void)spawn_told(&stuck, poll_never_ends);
    assert_int_equal(rdy_runtime_shutdown(record.runtime, GRACE_NS), 0);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);

    assert_int_equal(record.finished, 1);
    assert_int_equal(record.drops, 1);
    assert_int_equal(stuck.drops, 1);
    assert_true(pthread_equal(stuck.drop_thread, pthread_self()));
    /* What is left of the grace is counted from where the runtime hears of it. */
    assert_true(rdy_runtime_now_ns(record.runtime) > begin_ns + GRACE_NS / 2);
    assert_true(rdy_runtime_now_ns(record.runtime) <= begin_ns + GRACE_NS);
}

static void without_grace_nothing_is_polled_any_more(void **state)
{
    struct record record = {.runtime = runtime_of(state)};

    (void)spawn_told(&record, poll_finishes_in_grace);
    assert_int_equal(rdy_runtime_shutdown(record.runtime, 0), 0);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(record.drops, 1);
    assert_int_equal(runtime_stats(record.runtime).task_polls, 0);
}

static int poll_shortens(struct rdy_task *task, void *self)
{
    struct told *told = self;
    struct rdy_runtime *runtime = rdy_task_runtime(task);

    RDY_BEGIN(&told->co);
    RDY_AWAIT(&told->co, rdy_runtime_poll_shutdown(&told->wait, task));
    RDY_SLEEP(&told->co, &told->timer, task, 1);
    (void)rdy_runtime_shutdown(runtime, UINT64_MAX); /* a longer one changes nothing */
    (void)rdy_runtime_shutdown(runtime, 0);
    RDY_SLEEP(&told->co, &told->timer, task, 1);
    told->record->finished++;
    RDY_END(&told->co);
    return 0;
}

static void second_call_shortens_the_deadline_and_never_extends_it(void **state)
{
    struct record record = {.runtime = runtime_of(state)};

    rdy_runtime_pause_clock(record.runtime);
    (void)spawn_told(&record, poll_shortens);
    assert_int_equal(rdy_runtime_shutdown(record.runtime, UINT64_MAX), 0);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(record.finished, 0);
    assert_int_equal(record.drops, 1);
}

static int poll_counts(struct rdy_task *task, void *self)
{
    (void)task;
    ((struct told *)self)->record->finished++;
    return 0;
}

static void what_was_handed_over_before_begins_and_nothing_after(void **state)
{
    struct record record = {.runtime = runtime_of(state)};
    struct rdy_task_spec spec = {
        .poll = poll_counts, .drop = told_drop, .self_size = sizeof(struct told)};
    struct told init = {.record = &record};

    assert_int_equal(rdy_spawn_remote(record.runtime, &spec, &init), 0);
    assert_int_equal(rdy_spawn_remote(record.runtime, &spec, &init), 0);
    assert_int_equal(rdy_runtime_shutdown(record.runtime, GRACE_NS), 0);
    assert_int_equal(rdy_spawn_remote(record.runtime, &spec, &init), -ESHUTDOWN);
    /* Tasks of its own it may still begin: what is being finished may need them. */
    (void)spawn_told(&record, poll_counts);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(record.finished, 3);
    assert_int_equal(record.drops, 3);
    assert_int_equal(rdy_spawn(record.runtime, &spec, NULL, NULL), -ESHUTDOWN);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
}

static int poll_gives_up_its_wait(struct rdy_task *task, void *self)
{
    struct told *told = self;

    assert_int_equal(rdy_runtime_poll_shutdown(&told->wait, task), RDY_PENDING);
    rdy_shutdown_wait_cancel(&told->wait);
    rdy_shutdown_wait_cancel(&told->wait);
    return 0;
}

static void wait_can_be_given_up(void **state)
{
    struct record record = {.runtime = runtime_of(state)};

    (void)spawn_told(&record, poll_gives_up_its_wait);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    (void)spawn_told(&record, poll_waits_for_shutdown);
    (void)rdy_runtime_shutdown(record.runtime, GRACE_NS);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(record.told, 1);
}

static struct rdy_runtime *signalled;

static void on_signal(int number)
{
    (void)number;
    (void)rdy_runtime_shutdown(signalled, GRACE_NS);
}

static void *thread_raises(void *arg)
{
    (void)pthread_kill(*(pthread_t *)arg, SIGUSR1);
    return NULL;
}

/* The run blocks, with no timer: only the handler's unpark can end its wait. */
static void signal_handler_may_ask(void **state)
{
    struct record record = {.runtime = runtime_of(state)};
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t self = pthread_self();
    pthread_t thread;

    signalled = record.runtime;
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    (void)spawn_told(&record, poll_waits_for_shutdown);
    assert_int_equal(pthread_create(&thread, NULL, thread_raises, &self), 0);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(record.told, 1);
}

static void *thread_shuts_down(void *arg)
{
    return (void *)(intptr_t)rdy_runtime_shutdown(arg, GRACE_NS);
}

static void other_threads_call_reaches_a_blocked_run(void **state)
{
    struct runtime_fixture *fixture = *state;

    for (int round = 0; round < 100; round++) {
        struct record record = {.runtime = runtime_open(fixture->backend)};
        pthread_t thread;
        void *rc = NULL;

        (void)spawn_told(&record, poll_waits_for_shutdown);
        assert_int_equal(pthread_create(&thread, NULL, thread_shuts_down, record.runtime), 0);
        assert_int_equal(rdy_runtime_run(record.runtime), 0);
        assert_int_equal(pthread_join(thread, &rc), 0);
        assert_null(rc);
        assert_int_equal(record.told, 1);
        rdy_runtime_close(record.runtime);
    }
}

static int poll_stops(struct rdy_task *task, void *self)
{
    (void)self;
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

static void run_that_is_stopped_leaves_the_shutdown_to_the_next(void **state)
{
    struct record record = {.runtime = runtime_of(state)};

    (void)spawn_told(&record, poll_waits_for_shutdown);
    (void)spawn_test(record.runtime, poll_stops, NULL, NULL);
    (void)rdy_runtime_shutdown(record.runtime, GRACE_NS);
    rdy_runtime_stop(record.runtime);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(record.told, 0);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(record.told, 1);
}

/* --- RDY_UNTIL_SHUTDOWN, rdy_serve --- */

struct reader {
    struct rdy_stream stream;
    struct rdy_co co;
    struct rdy_shutdown_wait wait;
    ssize_t got;
    char buf[16];
};

static struct {
    int sessions;
    int requests;
    int ended_by_shutdown;
    int drops;
} served;

static void reader_drop(void *self)
{
    rdy_shutdown_wait_cancel(&((struct reader *)self)->wait);
    served.drops++;
}

static int reader_poll(struct rdy_task *task, void *self)
{
    struct reader *reader = self;

    RDY_BEGIN(&reader->co);
    served.sessions++;
    for (;;) {
        RDY_AWAIT(&reader->co, reader->got = RDY_UNTIL_SHUTDOWN(
                                   &reader->wait, task,
                                   rdy_stream_poll_read(&reader->stream, task, reader->buf,
                                                        sizeof(reader->buf))));
        if (reader->got <= 0)
            break;
        served.requests++;
    }
    served.ended_by_shutdown += reader->got == -ESHUTDOWN;
    RDY_END(&reader->co);
    return 0;
}

static const struct rdy_task_spec reader_spec = {
    .poll = reader_poll,
    .drop = reader_drop,
    .self_size = sizeof(struct reader),
};

static int listen_on_loopback(struct rdy_runtime *runtime, struct rdy_listener *listener,
                              struct sockaddr_in *addr)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);

    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(
        rdy_listener_open(listener, runtime, (struct sockaddr *)addr, sizeof(*addr), NULL), 0);
    assert_int_equal(rdy_listener_address(listener, &bound, &len), 0);
    memcpy(addr, &bound, sizeof(*addr));
    return 0;
}

static int connect_to(const struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
    return fd;
}

/* The clients connect before the server has looked at its queue even once. */
static void queue_is_drained_and_what_has_arrived_is_read(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_listener listener;
    struct sockaddr_in addr;
    int fds[20];

    memset(&served, 0, sizeof(served));
    listen_on_loopback(runtime, &listener, &addr);
    for (int i = 0; i < 20; i++) {
        fds[i] = connect_to(&addr);
        assert_int_equal(write(fds[i], "x", 1), 1);
    }
    assert_int_equal(rdy_serve(runtime, &listener, &reader_spec, NULL), 0);
    assert_int_equal(rdy_runtime_shutdown(runtime, UINT64_MAX), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(served.sessions, 20);
    assert_int_equal(served.requests, 20);
    assert_int_equal(served.ended_by_shutdown, 20);
    assert_int_equal(listener.fd, -1);
    for (int i = 0; i < 20; i++) {
        char byte;

        assert_int_equal(read(fds[i], &byte, 1), 0); /* an end, not a reset */
        assert_int_equal(close(fds[i]), 0);
    }
    rdy_listener_close(&listener);
}

/* Once all three have been polled, and wait for what their clients never send. */
static int poll_shuts_down_once_idle(struct rdy_task *task, void *self)
{
    (void)self;
    if (served.sessions < 3) {
        rdy_task_defer(task);
        return RDY_PENDING;
    }
    return rdy_runtime_shutdown(rdy_task_runtime(task), UINT64_MAX);
}

static void idle_sessions_end_at_once(void **state)
{
    struct record record = {.runtime = runtime_of(state)};
    struct rdy_listener listener;
    struct sockaddr_in addr;
    int fds[3];

    memset(&served, 0, sizeof(served));
    listen_on_loopback(record.runtime, &listener, &addr);
    for (int i = 0; i < 3; i++)
        fds[i] = connect_to(&addr);
    assert_int_equal(rdy_serve(record.runtime, &listener, &reader_spec, NULL), 0);
    (void)spawn_told(&record, poll_shuts_down_once_idle);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(served.ended_by_shutdown, 3);
    assert_int_equal(served.drops, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(close(fds[i]), 0);
    /* The port is free again when the run has returned. */
    assert_int_equal(
        rdy_listener_open(&listener, record.runtime, (struct sockaddr *)&addr, sizeof(addr), NULL),
        0);
    rdy_listener_close(&listener);
}

static void child_of_a_fork_is_told_that_the_owner_is_dead(void **state)
{
    struct record record = {.runtime = runtime_of(state)};
    struct rdy_task_spec spec = {.poll = poll_counts, .self_size = sizeof(struct told)};
    int status = -1;
    pid_t pid;

    (void)spawn_told(&record, poll_waits_for_shutdown);
    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        child_check(rdy_runtime_shutdown(record.runtime, 0) == -EOWNERDEAD);
        child_check(rdy_spawn_remote(record.runtime, &spec, NULL) == -EOWNERDEAD);
        child_check(rdy_runtime_run(record.runtime) == -EOWNERDEAD);
        rdy_runtime_close(record.runtime);
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_false(rdy_runtime_is_shutting_down(record.runtime));
    assert_int_equal(rdy_runtime_shutdown(record.runtime, GRACE_NS), 0);
    assert_int_equal(rdy_runtime_run(record.runtime), 0);
    assert_int_equal(record.told, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(those_who_wait_are_told_in_order_and_the_run_ends),
        ON_BOTH(busy_ones_finish_and_stuck_ones_end_at_the_deadline),
        ON_BOTH(without_grace_nothing_is_polled_any_more),
        ON_BOTH(second_call_shortens_the_deadline_and_never_extends_it),
        ON_BOTH(what_was_handed_over_before_begins_and_nothing_after),
        ON_BOTH(wait_can_be_given_up),
        ON_BOTH(signal_handler_may_ask),
        ON_BOTH(other_threads_call_reaches_a_blocked_run),
        ON_BOTH(run_that_is_stopped_leaves_the_shutdown_to_the_next),
        ON_BOTH(queue_is_drained_and_what_has_arrived_is_read),
        ON_BOTH(idle_sessions_end_at_once),
        ON_BOTH(child_of_a_fork_is_told_that_the_owner_is_dead),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
