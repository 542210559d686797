/* SPDX-License-Identifier: MIT */
/*
 * How waits begin and end on every backend: wakes, signals, timeouts, the system calls that they
 * cost, the descriptor for other loops, and closing.
 */
#include "tests/kernel/backends.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

static void *wake_main(void *argument)
{
    struct rdy_backend *backend = argument;

    backend->ops->wake(backend);
    return NULL;
}

static void a_wake_from_another_thread_ends_an_endless_wait(void **state)
{
    struct rdy_backend *backend = backend_new();
    struct rdy_fact facts[FACTS_MAX];
    pthread_t thread;

    (void)state;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(pthread_create(&thread, NULL, wake_main, backend), 0);
        assert_int_equal(backend_wait(backend, -1, facts), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    backend_close(backend);
}

/*
 * What measures waits runs in a child of its own: a ring that was closed earlier in this process
 * interrupts its waits for a while yet, as a signal would.
 */
static bool wait_is_full(struct rdy_backend *backend, int64_t timeout_ns)
{
    struct rdy_fact facts[FACTS_MAX];
    uint64_t before = rdy_sys_now_ns();

    (void)backend_wait(backend, timeout_ns, facts);
    return rdy_sys_now_ns() - before >= (uint64_t)timeout_ns;
}

/*
 * Waits that ended too early, up to the first that did not. Each is long, lest one that ended early
 * counts as full because we had to wait for the processor.
 */
static int early_waits(struct rdy_backend *backend)
{
    int early = 0;

    while (early < 1000 && !wait_is_full(backend, 100 * RDY_NS_PER_MS))
        early++;
    return early;
}

/*
 * Before 6.1 our own writes leave a completion each: a queue full of them, then the end of the
 * poll, then the one that arming it again brings.
 */
static int child_counts_early_waits(int argument)
{
    bool is_immediate = variant > RDY_RUNG_DEFER && variant <= RDY_RUNG_PLAIN;
    struct rdy_backend *backend =
        backend_try(&(struct rdy_backend_opts){.events_max = FACTS_MAX, .cq_entries = 64});
    int early;

    (void)argument;
    CHILD_CLAIM(backend);
    CHILD_CLAIM(early_waits(backend) == 0);
    for (int i = 0; i < 1000; i++)
        backend->ops->wake(backend);
    early = early_waits(backend);
    CHILD_CLAIM(early >= 1);
    CHILD_CLAIM(early <= (is_immediate ? 4 : 1));

    /* The flood may have ended the poll that hears of wakes; it hears of the next all the same. */
    backend->ops->wake(backend);
    CHILD_CLAIM(early_waits(backend) == 1);
    backend_close(backend);
    return 0;
}

static void many_wakes_end_one_wait(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_counts_early_waits, 0), 0);
}

static void a_wake_makes_the_descriptor_readable_at_once(void **state)
{
    struct rdy_backend *backend = backend_open(
        &(struct rdy_backend_opts){.events_max = FACTS_MAX, .cq_entries = 64, .is_embedded = true});
    struct rdy_fact facts[FACTS_MAX];
    int fd = backend->ops->fd(backend);

    (void)state;
    assert_int_equal(backend_wait(backend, 0, facts), 0);
    assert_false(is_readable(fd));

    backend->ops->wake(backend);

    assert_true(is_readable(fd));
    assert_int_equal(backend_wait(backend, -1, facts), 0);
    backend_close(backend);
}

static int child_waits_in_full(int argument)
{
    static const int64_t timeouts_ns[] = {1, 1000, 300000, 999999, 1000001, 3500000};
    struct rdy_backend *backend = backend_try(&(struct rdy_backend_opts){.events_max = FACTS_MAX});

    (void)argument;
    CHILD_CLAIM(backend);
    for (size_t i = 0; i < sizeof(timeouts_ns) / sizeof(timeouts_ns[0]); i++)
        CHILD_CLAIM(wait_is_full(backend, timeouts_ns[i]));
    backend_close(backend);
    return 0;
}

static void a_wait_is_never_shorter_than_its_timeout(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_waits_in_full, 0), 0);
}

/* Longer than the kernel's own types hold; a wake is the only way out. */
static void a_timeout_of_centuries_is_a_long_wait(void **state)
{
    struct rdy_backend *backend = backend_new();
    struct rdy_fact facts[FACTS_MAX];

    (void)state;
    backend->ops->wake(backend);
    assert_int_equal(backend_wait(backend, INT64_MAX, facts), 0);
    backend_close(backend);
}

static void on_alarm(int signal)
{
    (void)signal;
}

static void a_signal_ends_a_wait_without_an_error(void **state)
{
    struct rdy_backend *backend = backend_new();
    struct itimerval soon = {.it_interval.tv_usec = 1000, .it_value.tv_usec = 1000};
    struct sigaction action = {.sa_handler = on_alarm};
    struct sigaction before;
    struct rdy_fact facts[FACTS_MAX];

    (void)state;
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);

    for (int i = 0; i < 5; i++)
        assert_int_equal(backend_wait(backend, -1, facts), 0);

    soon = (struct itimerval){0};
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    assert_true(rdy_a64_load_relaxed(&backend->interruptions) > 0);
    backend_close(backend);
}

static void an_idle_wait_is_one_system_call(void **state)
{
    struct rdy_backend *backend = backend_new();
    struct rdy_fact facts[FACTS_MAX];
    int fd = event_new();
    uint64_t before;

    (void)state;
    backend_arm(backend, fd, TOKEN(1), RDY_EV_IN);
    assert_no_fact(backend);

    before = system_calls(backend);
    assert_int_equal(backend_wait(backend, RDY_NS_PER_MS, facts), 0);
    assert_int_equal(system_calls(backend) - before, 1);

    before = system_calls(backend);
    assert_int_equal(backend_wait(backend, 0, facts), 0);
    assert_int_equal(system_calls(backend) - before, 1);

    before = system_calls(backend);
    event_signal(fd);
    assert_int_equal(backend_wait(backend, -1, facts), 1);
    assert_int_equal(system_calls(backend) - before, 1);

    backend_close(backend);
    (void)close(fd);
}

static void *signal_main(void *argument)
{
    event_signal(*(const int *)argument);
    return NULL;
}

/*
 * On every rung, with task work that is deferred, cooperative, or run by an interrupt; what another
 * thread does as well as our own. Between the signal and the news no system call is ours but those
 * of pthread_create() and pthread_join(), which do not enter a ring.
 */
static void news_are_seen_without_entering_the_ring(void **state)
{
    struct rdy_backend *backend = backend_open(&(struct rdy_backend_opts){
        .events_max = FACTS_MAX, .cq_entries = 1024, .is_spinning = true});
    int fd = event_new();
    struct rdy_fact facts[FACTS_MAX];
    pthread_t thread;

    (void)state;
    if (variant == RUNG_OF_EPOLL) {
        assert_null(backend->ops->has_news);
        goto close;
    }
    backend_arm(backend, fd, TOKEN(1), RDY_EV_IN);
    assert_true(backend->ops->has_news(backend)); /* there is something to submit */
    assert_int_equal(backend_wait(backend, 0, facts), 0);
    for (int i = 0; i < 100; i++) {
        uint64_t calls = system_calls(backend);

        assert_false(backend->ops->has_news(backend));
        assert_int_equal(pthread_create(&thread, NULL, signal_main, &fd), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        for (int looks = 0; !backend->ops->has_news(backend); looks++)
            assert_true(looks < 100 * ROUNDS_MAX);
        assert_int_equal(system_calls(backend), calls);
        assert_int_equal(backend_wait(backend, 0, facts), 1);
        assert_int_equal(facts[0].token, TOKEN(1));
    }
close:
    backend_close(backend);
    (void)close(fd);
}

static void wakes_are_counted_as_system_calls(void **state)
{
    struct rdy_backend *backend = backend_new();
    struct rdy_fact facts[FACTS_MAX];
    uint64_t before;

    (void)state;
    assert_int_equal(backend_wait(backend, 0, facts), 0);
    before = system_calls(backend);

    for (int i = 0; i < 3; i++)
        backend->ops->wake(backend);
    assert_int_equal(backend_wait(backend, -1, facts), 0);

    assert_int_equal(system_calls(backend) - before, 4);
    backend_close(backend);
}

/* Pipes, because an eventfd's event is signalled to another eventfd only some time later. */
static void the_descriptor_is_readable_exactly_while_there_is_something(void **state)
{
    struct rdy_backend *backend = backend_open(&(struct rdy_backend_opts){
        .events_max = FACTS_MAX, .cq_entries = 1024, .is_embedded = true});
    struct rdy_fact facts[FACTS_MAX];
    int pipes[50][2];
    int total = 0;
    int fd = backend->ops->fd(backend);

    (void)state;
    assert_true(fd >= 0);
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        backend_arm(backend, pipes[i][0], TOKEN(i), RDY_EV_IN);
    }
    assert_no_fact(backend);
    assert_false(is_readable(fd));

    for (int i = 0; i < 50; i++)
        assert_int_equal(write(pipes[i][1], "x", 1), 1);

    /*
     * The kernel may hand over some twenty at a time: readable until the last was taken. 6.12 puts
     * the first signal off by a grace period, so it is waited for.
     */
    for (int i = 0; i < 100 && total < 50; i++) {
        struct pollfd look = {.fd = fd, .events = POLLIN};

        assert_int_equal(poll(&look, 1, (int)(SOON_NS / RDY_NS_PER_MS)), 1);
        total += backend->ops->wait(backend, 0, facts, 8);
    }
    assert_int_equal(total, 50);
    assert_false(is_readable(fd));

    backend_close(backend);
    for (int i = 0; i < 50; i++) {
        (void)close(pipes[i][0]);
        (void)close(pipes[i][1]);
    }
}

/*
 * A deferring ring's own descriptor would sleep on here, and its eventfd wake at the first event
 * only (see poll.c); what fd() returns must hear of each.
 */
static void another_loop_that_sleeps_on_the_descriptor_is_woken(void **state)
{
    struct rdy_backend *backend = backend_open(
        &(struct rdy_backend_opts){.events_max = FACTS_MAX, .cq_entries = 64, .is_embedded = true});
    struct pollfd look = {.fd = backend->ops->fd(backend), .events = POLLIN};
    pthread_t thread;
    int fd = event_new();

    (void)state;
    backend_arm(backend, fd, TOKEN(1), RDY_EV_IN);
    assert_no_fact(backend);
    for (int i = 0; i < 20; i++) {
        int count;

        assert_false(is_readable(look.fd));
        assert_int_equal(pthread_create(&thread, NULL, signal_main, &fd), 0);
        do {
            count = poll(&look, 1, 10000);
        } while (count < 0 && errno == EINTR);
        assert_int_equal(pthread_join(thread, NULL), 0);

        assert_int_equal(count, 1);
        assert_int_equal(next_fact(backend).token, TOKEN(1));
    }
    backend_close(backend);
    (void)close(fd);
}

/* The ring holds the listener until its poll is gone; close() must not return before that. */
static void a_port_is_free_again_once_the_backend_is_closed(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct rdy_backend *backend = backend_new();
        uint16_t port = 0;
        int listener = listener_new(&port);
        int again;

        assert_true(listener >= 0);
        backend_arm(backend, listener, TOKEN(1), RDY_EV_IN);
        assert_no_fact(backend);
        (void)close(listener);

        backend_close(backend);

        again = listener_new(&port);
        assert_true(again >= 0);
        (void)close(again);
    }
}

static struct rdy_backend *parents_backend;

static int close_in_child(int argument)
{
    (void)argument;
    parents_backend->ops->close(parents_backend);
    return 0;
}

static void a_forked_child_can_close_its_copy_and_the_parent_goes_on(void **state)
{
    int fd = event_new();

    (void)state;
    parents_backend = backend_new();
    backend_arm(parents_backend, fd, TOKEN(1), RDY_EV_IN);
    assert_no_fact(parents_backend);

    assert_int_equal(in_child(close_in_child, 0), 0);

    event_signal(fd);
    assert_int_equal(next_fact(parents_backend).token, TOKEN(1));
    disarm_fully(parents_backend, fd, TOKEN(1));
    backend_close(parents_backend);
    (void)close(fd);
}

static void *close_main(void *argument)
{
    *(struct rdy_backend **)argument = backend_new();
    return NULL;
}

/* The orphan's requests went with its thread; there is nothing to cancel, and nobody who may. */
static void closing_for_a_thread_that_has_ended_leaves_ones_own_ring_alone(void **state)
{
    struct rdy_backend *own = backend_new();
    struct rdy_backend *orphan = NULL;
    int fd = event_new();
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, close_main, &orphan), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);

    backend_close(orphan);

    backend_arm(own, fd, TOKEN(1), RDY_EV_IN);
    event_signal(fd);
    assert_int_equal(next_fact(own).token, TOKEN(1));
    backend_close(own);
    (void)close(fd);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_wake_from_another_thread_ends_an_endless_wait),
    cmocka_unit_test(many_wakes_end_one_wait),
    cmocka_unit_test(a_wake_makes_the_descriptor_readable_at_once),
    cmocka_unit_test(a_wait_is_never_shorter_than_its_timeout),
    cmocka_unit_test(a_timeout_of_centuries_is_a_long_wait),
    cmocka_unit_test(a_signal_ends_a_wait_without_an_error),
    cmocka_unit_test(an_idle_wait_is_one_system_call),
    cmocka_unit_test(news_are_seen_without_entering_the_ring),
    cmocka_unit_test(wakes_are_counted_as_system_calls),
    cmocka_unit_test(the_descriptor_is_readable_exactly_while_there_is_something),
    cmocka_unit_test(another_loop_that_sleeps_on_the_descriptor_is_woken),
    cmocka_unit_test(a_port_is_free_again_once_the_backend_is_closed),
    cmocka_unit_test(a_forked_child_can_close_its_copy_and_the_parent_goes_on),
    cmocka_unit_test(closing_for_a_thread_that_has_ended_leaves_ones_own_ring_alone),
};

int main(void)
{
    return run_on_each_backend(tests, sizeof(tests) / sizeof(tests[0]));
}
