/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a batch, on every backend. Where the kernel can (io_uring of Linux 6.12) a wait goes
 * on after its first event; where it cannot nothing changes. A batch time of an hour stands for
 * "never": a wait that must not last so long hangs if it does. Each runs in a child of its own, as
 * a ring that was closed earlier in a process interrupts its waits for a while yet.
 */
#include "tests/kernel/backends.h"

#include <pthread.h>

#define NEVER_US UINT32_MAX
#define LATE_NS  (30 * RDY_NS_PER_MS)

struct late {
    pthread_t thread;
    int fd;
};

static void *late_main(void *argument)
{
    const struct late *late = argument;
    struct timespec pause = {.tv_nsec = LATE_NS};

    (void)nanosleep(&pause, NULL);
    event_signal(late->fd);
    return NULL;
}

/* An event that comes when the wait has begun: most likely, and nothing fails if it does not. */
static bool signal_later(struct late *late, int fd)
{
    late->fd = fd;
    return pthread_create(&late->thread, NULL, late_main, late) == 0;
}

static struct rdy_backend *backend_with_batch(uint32_t count, uint32_t wait_us)
{
    struct rdy_backend *backend =
        backend_try(&(struct rdy_backend_opts){.events_max = FACTS_MAX, .cq_entries = 1024});

    if (backend) {
        backend->batch_count = count;
        backend->batch_wait_us = wait_us;
    }
    return backend;
}

static bool kernel_can_batch(void)
{
    struct io_uring_params params = {0};
    int fd = io_uring_setup(2, &params);

    (void)close(fd);
    return variant != RUNG_OF_EPOLL && (params.features & IORING_FEAT_MIN_TIMEOUT) != 0;
}

static int child_a_wait_goes_on_until_the_batch_is_there(int is_batching)
{
    struct rdy_backend *backend = backend_with_batch(2, NEVER_US);
    struct rdy_fact facts[FACTS_MAX];
    int first = event_new();
    int second = event_new();
    struct late late;
    int count;

    CHILD_CLAIM(backend);
    backend_arm(backend, first, TOKEN(1), RDY_EV_IN);
    backend_arm(backend, second, TOKEN(2), RDY_EV_IN);
    event_signal(first);
    CHILD_CLAIM(signal_later(&late, second));

    count = backend_wait(backend, -1, facts);
    if (is_batching)
        CHILD_CLAIM(count == 2);
    CHILD_CLAIM(count >= 1);
    CHILD_CLAIM(facts[0].token == TOKEN(1));
    if (count == 1)
        CHILD_CLAIM(backend_wait(backend, -1, facts) == 1 && facts[0].token == TOKEN(2));

    CHILD_CLAIM(pthread_join(late.thread, NULL) == 0);
    backend_close(backend);
    (void)close(first);
    (void)close(second);
    return 0;
}

static void a_wait_goes_on_until_the_batch_is_there(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_a_wait_goes_on_until_the_batch_is_there, kernel_can_batch()),
                     0);
}

static int child_a_batch_that_does_not_fill_ends_with_its_time(int argument)
{
    struct rdy_backend *backend = backend_with_batch(FACTS_MAX, 1000);
    struct rdy_fact facts[FACTS_MAX];
    int fd = event_new();

    (void)argument;
    CHILD_CLAIM(backend);
    backend_arm(backend, fd, TOKEN(1), RDY_EV_IN);
    event_signal(fd);

    CHILD_CLAIM(backend_wait(backend, -1, facts) == 1);

    backend_close(backend);
    (void)close(fd);
    return 0;
}

static void a_batch_that_does_not_fill_ends_with_its_time(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_a_batch_that_does_not_fill_ends_with_its_time, 0), 0);
}

static int child_an_empty_batch_s_time_does_not_end_the_wait(int argument)
{
    struct rdy_backend *backend = backend_with_batch(FACTS_MAX, 1000);
    struct rdy_fact facts[FACTS_MAX];
    int fd = event_new();
    struct late late;

    (void)argument;
    CHILD_CLAIM(backend);
    backend_arm(backend, fd, TOKEN(1), RDY_EV_IN);
    CHILD_CLAIM(signal_later(&late, fd));

    CHILD_CLAIM(backend_wait(backend, -1, facts) == 1);

    CHILD_CLAIM(pthread_join(late.thread, NULL) == 0);
    backend_close(backend);
    (void)close(fd);
    return 0;
}

static void an_empty_batch_s_time_does_not_end_the_wait(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_an_empty_batch_s_time_does_not_end_the_wait, 0), 0);
}

static int child_a_batch_is_not_waited_for_beyond_the_timeout(int argument)
{
    static const int64_t timeouts_ns[] = {0, 1, 999, 1000, 2 * RDY_NS_PER_MS};
    struct rdy_backend *backend = backend_with_batch(2, NEVER_US);
    struct rdy_fact facts[FACTS_MAX];
    int fd = event_new();

    (void)argument;
    CHILD_CLAIM(backend);
    backend_arm(backend, fd, TOKEN(1), RDY_EV_IN);
    for (size_t i = 0; i < sizeof(timeouts_ns) / sizeof(timeouts_ns[0]); i++) {
        event_signal(fd);
        CHILD_CLAIM(backend_wait(backend, timeouts_ns[i], facts) == 1);
    }
    backend_close(backend);
    (void)close(fd);
    return 0;
}

static void a_batch_is_not_waited_for_beyond_the_timeout(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_a_batch_is_not_waited_for_beyond_the_timeout, 0), 0);
}

static int child_no_more_is_waited_for_than_is_taken(int argument)
{
    struct rdy_backend *backend = backend_with_batch(FACTS_MAX, NEVER_US);
    struct rdy_fact fact;
    int fd = event_new();

    (void)argument;
    CHILD_CLAIM(backend);
    backend_arm(backend, fd, TOKEN(1), RDY_EV_IN);
    event_signal(fd);

    CHILD_CLAIM(backend->ops->wait(backend, -1, &fact, 1) == 1);

    backend_close(backend);
    (void)close(fd);
    return 0;
}

static void no_more_is_waited_for_than_is_taken(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_no_more_is_waited_for_than_is_taken, 0), 0);
}

static int child_a_wake_ends_the_wait_when_the_batch_s_time_is_over(int argument)
{
    struct rdy_backend *backend = backend_with_batch(FACTS_MAX, 1000);
    struct rdy_fact facts[FACTS_MAX];

    (void)argument;
    CHILD_CLAIM(backend);
    for (int i = 0; i < 10; i++) {
        backend->ops->wake(backend);
        CHILD_CLAIM(backend_wait(backend, -1, facts) == 0);
    }
    backend_close(backend);
    return 0;
}

static void a_wake_ends_the_wait_when_the_batch_s_time_is_over(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_a_wake_ends_the_wait_when_the_batch_s_time_is_over, 0), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_wait_goes_on_until_the_batch_is_there),
    cmocka_unit_test(a_batch_that_does_not_fill_ends_with_its_time),
    cmocka_unit_test(an_empty_batch_s_time_does_not_end_the_wait),
    cmocka_unit_test(a_batch_is_not_waited_for_beyond_the_timeout),
    cmocka_unit_test(no_more_is_waited_for_than_is_taken),
    cmocka_unit_test(a_wake_ends_the_wait_when_the_batch_s_time_is_over),
};

int main(void)
{
    return run_on_each_backend(tests, sizeof(tests) / sizeof(tests[0]));
}
