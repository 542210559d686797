/* SPDX-License-Identifier: MIT */
/*
 * The bound on tasks that other threads have handed over and that have not begun: never one too
 * many, never one refused while there is a place, and nothing is lost of what was refused.
 */
#include "tests/support/runtime.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "engine/atomic.h"
#include "tests/support/stress.h"

#define THREADS_COUNT 4
#define PLACES        5u
#define ROUNDS        STRESS_ROUNDS(300, 60)

struct queue {
    struct rdy_runtime *runtime;
    uint32_t begun; /* the runtime's thread's */
    uint32_t drops;
    struct rdy_a32 begun_of[THREADS_COUNT];
    struct rdy_a32 accepted;
    struct rdy_a32 refused;
    struct rdy_a32 is_finished;
    struct rdy_waker keeper;
};

struct parcel {
    struct queue *queue;
    uint32_t thread;
};

static int poll_begins(struct rdy_task *task, void *self)
{
    struct parcel *parcel = self;

    (void)task;
    parcel->queue->begun++;
    (void)rdy_a32_add_seq_cst(&parcel->queue->begun_of[parcel->thread], 1);
    return 0;
}

static void parcel_drop(void *self)
{
    ((struct parcel *)self)->queue->drops++;
}

static const struct rdy_task_spec spec = {
    .poll = poll_begins,
    .drop = parcel_drop,
    .self_size = sizeof(struct parcel),
};

static int hand_over(struct queue *queue, uint32_t thread)
{
    struct parcel parcel = {.queue = queue, .thread = thread};

    return rdy_spawn_remote(queue->runtime, &spec, &parcel);
}

static struct rdy_runtime *open_with_places(void **state, uint32_t places)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct rdy_runtime *runtime = NULL;

    opts.arrivals_max = places;
    assert_int_equal(rdy_runtime_open(&runtime, &opts), 0);
    return runtime;
}

static void one_too_many_is_refused_and_its_drop_does_not_run(void **state)
{
    struct queue queue = {.runtime = open_with_places(state, PLACES)};

    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < PLACES; i++)
            assert_int_equal(hand_over(&queue, 0), 0);
        assert_int_equal(hand_over(&queue, 0), -EAGAIN);
        assert_int_equal(hand_over(&queue, 0), -EAGAIN);
        assert_int_equal(rdy_runtime_run(queue.runtime), 0);
    }
    assert_int_equal(queue.begun, 3 * PLACES);
    assert_int_equal(queue.drops, 3 * PLACES);
    rdy_runtime_close(queue.runtime);
    assert_int_equal(queue.drops, 3 * PLACES);
}

static void default_is_sixty_five_thousand(void **state)
{
    struct queue queue = {.runtime = runtime_of(state)};

    for (uint32_t i = 0; i < 65536; i++)
        assert_int_equal(hand_over(&queue, 0), 0);
    assert_int_equal(hand_over(&queue, 0), -EAGAIN);
    assert_int_equal(rdy_runtime_run(queue.runtime), 0);
    assert_int_equal(queue.begun, 65536);
}

static void absurd_bound_is_refused(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct rdy_runtime *runtime = NULL;

    opts.arrivals_max = UINT32_MAX;
    assert_int_equal(rdy_runtime_open(&runtime, &opts), -EINVAL);
}

static void *thread_fills(void *arg)
{
    struct queue *queue = arg;

    while (hand_over(queue, 0) == 0)
        (void)rdy_a32_add_seq_cst(&queue->accepted, 1);
    return NULL;
}

/* All race for the last place, in each round. */
static void threads_at_once_get_exactly_the_places_there_are(void **state)
{
    struct queue queue = {.runtime = open_with_places(state, PLACES)};

    for (uint32_t round = 1; round <= ROUNDS; round++) {
        pthread_t threads[THREADS_COUNT];

        for (int i = 0; i < THREADS_COUNT; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, thread_fills, &queue), 0);
        for (int i = 0; i < THREADS_COUNT; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(rdy_a32_load_relaxed(&queue.accepted), round * PLACES);
        assert_int_equal(rdy_runtime_run(queue.runtime), 0);
        assert_int_equal(queue.begun, round * PLACES);
    }
    rdy_runtime_close(queue.runtime);
}

struct sender {
    struct queue *queue;
    uint32_t thread;
};

/* Has at most one that has not begun; so there is always a place for it. */
static void *thread_sends_one_after_the_other(void *arg)
{
    struct sender *sender = arg;
    struct queue *queue = sender->queue;

    for (uint32_t i = 1; i <= ROUNDS * 20; i++) {
        if (hand_over(queue, sender->thread) != 0)
            (void)rdy_a32_add_seq_cst(&queue->refused, 1);
        else
            while (rdy_a32_load_acquire(&queue->begun_of[sender->thread]) != i)
                (void)sched_yield();
        if (rdy_a32_load_relaxed(&queue->refused) != 0)
            break;
    }
    (void)rdy_a32_add_seq_cst(&queue->is_finished, 1);
    rdy_waker_wake(&queue->keeper);
    return NULL;
}

static int poll_keeps_running(struct rdy_task *task, void *self)
{
    struct queue *queue = ((struct test_task *)self)->test;

    (void)task;
    return rdy_a32_load_acquire(&queue->is_finished) == THREADS_COUNT ? 0 : RDY_PENDING;
}

static int poll_shows_its_waker(struct rdy_task *task, void *self)
{
    struct queue *queue = ((struct test_task *)self)->test;

    if (!queue->keeper.fn) {
        queue->keeper = rdy_task_waker(task);
        rdy_task_defer(task);
        rdy_runtime_stop(queue->runtime);
        return RDY_PENDING;
    }
    return poll_keeps_running(task, self);
}

static void nobody_is_refused_while_there_is_a_place(void **state)
{
    struct queue queue = {.runtime = open_with_places(state, THREADS_COUNT)};
    struct sender senders[THREADS_COUNT];
    pthread_t threads[THREADS_COUNT];

    (void)spawn_test(queue.runtime, poll_shows_its_waker, NULL, &queue);
    assert_int_equal(rdy_runtime_run(queue.runtime), 0); /* the waker is there for the threads */
    for (uint32_t i = 0; i < THREADS_COUNT; i++) {
        senders[i] = (struct sender){.queue = &queue, .thread = i};
        assert_int_equal(
            pthread_create(&threads[i], NULL, thread_sends_one_after_the_other, &senders[i]), 0);
    }
    assert_int_equal(rdy_runtime_run(queue.runtime), 0);
    for (int i = 0; i < THREADS_COUNT; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(rdy_a32_load_relaxed(&queue.refused), 0);
    rdy_runtime_close(queue.runtime);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(one_too_many_is_refused_and_its_drop_does_not_run),
        ON_BOTH(default_is_sixty_five_thousand),
        ON_BOTH(absurd_bound_is_refused),
        ON_BOTH(threads_at_once_get_exactly_the_places_there_are),
        ON_BOTH(nobody_is_refused_while_there_is_a_place),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
