/* SPDX-License-Identifier: MIT */
/* How an engine ends: gracefully, at the deadline, from wherever, and by the death of a worker. */
#include "tests/support/engine.h"

#include <signal.h>
#include <stdio.h>

#include "tests/support/pairs.h"

#define MS UINT64_C(1000000)

/* One task a worker; what became of them. */
struct record {
    struct rdy_engine *engine;
    struct latch begun;
    struct rdy_a32 told;
    struct rdy_a32 finished;
    struct rdy_a32 drops;
    struct rdy_a32 misplaced; /* drops on another thread than the worker's */
    uint64_t busy_ns;
};

struct session {
    struct rdy_co co;
    struct rdy_shutdown_wait wait;
    struct rdy_timer timer;
    struct record *record;
    uint32_t worker;
};

static void session_drop(void *self)
{
    struct session *session = self;
    struct record *record = session->record;

    rdy_shutdown_wait_cancel(&session->wait);
    (void)rdy_timer_cancel(&session->timer);
    if (rdy_engine_worker_here(record->engine) != (int)session->worker)
        (void)rdy_a32_add_seq_cst(&record->misplaced, 1);
    (void)rdy_a32_add_seq_cst(&record->drops, 1);
}

/* Idle until it is told, then busy for as long as the test says. */
static int poll_idle_then_busy(struct rdy_task *task, void *self)
{
    struct session *session = self;

    RDY_BEGIN(&session->co);
    latch_count(&session->record->begun);
    RDY_AWAIT(&session->co, rdy_runtime_poll_shutdown(&session->wait, task));
    (void)rdy_a32_add_seq_cst(&session->record->told, 1);
    RDY_SLEEP(&session->co, &session->timer, task, session->record->busy_ns);
    (void)rdy_a32_add_seq_cst(&session->record->finished, 1);
    RDY_END(&session->co);
    return 0;
}

static int poll_stuck(struct rdy_task *task, void *self)
{
    (void)task;
    latch_count(&((struct session *)self)->record->begun);
    return RDY_PENDING;
}

static void begin_sessions(struct record *record, rdy_poll_fn *poll)
{
    struct rdy_task_spec spec = {
        .poll = poll, .drop = session_drop, .self_size = sizeof(struct session)};
    uint32_t count = rdy_engine_workers_count(record->engine);
    uint32_t before = latch_read(&record->begun);

    for (uint32_t worker = 0; worker < count; worker++) {
        struct session init = {.record = record, .worker = worker};

        assert_int_equal(rdy_engine_post(record->engine, worker, &spec, &init), 0);
    }
    latch_await(&record->begun, before + count);
}

static uint32_t value(const struct rdy_a32 *counter)
{
    return rdy_a32_load_acquire(counter);
}

static void idle_ones_are_told_and_end(void **state)
{
    for (uint32_t workers = 1; workers <= 4; workers *= 2) {
        struct record record = {.engine = engine_of(state, workers), .begun = LATCH};

        begin_sessions(&record, poll_idle_then_busy);
        assert_int_equal(value(&record.told), 0);
        engine_end(record.engine, UINT64_MAX);
        assert_int_equal(value(&record.told), workers);
        assert_int_equal(value(&record.finished), workers);
        assert_int_equal(value(&record.drops), workers);
        assert_int_equal(value(&record.misplaced), 0);
    }
}

static void busy_ones_finish_in_the_grace(void **state)
{
    struct record record = {.engine = engine_of(state, 2), .begun = LATCH, .busy_ns = 30 * MS};

    begin_sessions(&record, poll_idle_then_busy);
    engine_end(record.engine, 3600 * 1000 * MS);
    assert_int_equal(value(&record.finished), 2);
}

static void stuck_ones_are_dropped_at_the_deadline_by_their_worker(void **state)
{
    struct record record = {.engine = engine_of(state, 4), .begun = LATCH, .busy_ns = UINT64_MAX};

    begin_sessions(&record, poll_stuck);
    begin_sessions(&record, poll_idle_then_busy);
    engine_end(record.engine, 20 * MS);
    assert_int_equal(value(&record.told), 4);
    assert_int_equal(value(&record.finished), 0);
    assert_int_equal(value(&record.drops), 8);
    assert_int_equal(value(&record.misplaced), 0);
}

static void second_shutdown_shortens_the_first(void **state)
{
    struct record record = {.engine = engine_of(state, 2), .begun = LATCH};

    begin_sessions(&record, poll_stuck);
    assert_int_equal(rdy_engine_shutdown(record.engine, UINT64_MAX), 0);
    assert_int_equal(rdy_engine_shutdown(record.engine, 5 * MS), 0);
    assert_int_equal(rdy_engine_shutdown(record.engine, UINT64_MAX), 0);
    assert_int_equal(rdy_engine_join(record.engine, NULL), 0);
    assert_int_equal(rdy_engine_join(record.engine, NULL), 0);
    assert_int_equal(value(&record.drops), 2);
    rdy_engine_close(record.engine);
}

static void close_alone_ends_everything(void **state)
{
    struct record record = {.engine = engine_of(state, 2), .begun = LATCH};
    uint32_t fds;

    rdy_engine_close(NULL);
    begin_sessions(&record, poll_stuck);
    begin_sessions(&record, poll_idle_then_busy);
    fds = fds_open();
    rdy_engine_close(record.engine);
    assert_true(fds_open() < fds);
    assert_int_equal(value(&record.drops), 4);
    assert_int_equal(value(&record.misplaced), 0);
}

struct start {
    uint32_t stops;
    pthread_mutex_t lock;
};

static int start_that_shuts_down(struct rdy_engine *engine, uint32_t worker,
                                 struct rdy_runtime *runtime, void *arg)
{
    (void)runtime;
    (void)arg;
    return worker == 1 ? rdy_engine_shutdown(engine, 0) : 0;
}

static void stop_counts(struct rdy_engine *engine, uint32_t worker, struct rdy_runtime *runtime,
                        void *arg)
{
    struct start *start = arg;

    (void)engine;
    (void)worker;
    (void)runtime;
    (void)pthread_mutex_lock(&start->lock);
    start->stops++;
    (void)pthread_mutex_unlock(&start->lock);
}

static void shutdown_during_the_start_ends_all_of_them(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 4);
    struct start start = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct rdy_engine *engine;

    opts.on_start = start_that_shuts_down;
    opts.on_stop = stop_counts;
    opts.arg = &start;
    engine = engine_open(&opts);
    assert_int_equal(rdy_engine_join(engine, NULL), 0);
    assert_int_equal(start.stops, 4);
    rdy_engine_close(engine);
}

static void *thread_joins(void *arg)
{
    return (void *)(intptr_t)rdy_engine_join(arg, NULL);
}

static void *thread_waits(void *arg)
{
    return (void *)(intptr_t)rdy_engine_wait(arg, NULL, NULL);
}

static void several_threads_may_join_and_wait(void **state)
{
    struct record record = {.engine = engine_of(state, 2), .begun = LATCH};
    pthread_t threads[6];

    begin_sessions(&record, poll_idle_then_busy);
    for (int i = 0; i < 6; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, i % 2 ? thread_joins : thread_waits, record.engine),
            0);
    assert_int_equal(rdy_engine_shutdown(record.engine, UINT64_MAX), 0);
    for (int i = 0; i < 6; i++) {
        void *rc = record.engine;

        assert_int_equal(pthread_join(threads[i], &rc), 0);
        assert_null(rc);
    }
    assert_int_equal(value(&record.finished), 2);
    rdy_engine_close(record.engine);
}

static int poll_asks_its_own_engine(struct rdy_task *task, void *self)
{
    struct record *record = ((struct session *)self)->record;

    (void)task;
    if (rdy_engine_join(record->engine, NULL) == -EDEADLK &&
        rdy_engine_wait(record->engine, NULL, NULL) == -EDEADLK)
        (void)rdy_a32_add_seq_cst(&record->finished, 1);
    latch_count(&record->begun);
    return rdy_engine_shutdown(record->engine, 0);
}

static void worker_cannot_wait_for_itself_but_may_end_it_all(void **state)
{
    struct record record = {.engine = engine_of(state, 1), .begun = LATCH};

    begin_sessions(&record, poll_asks_its_own_engine);
    assert_int_equal(rdy_engine_join(record.engine, NULL), 0);
    assert_int_equal(value(&record.finished), 1);
    assert_int_equal(value(&record.drops), 1);
    rdy_engine_close(record.engine);
}

/* --- signals --- */

static void wait_hands_out_signals_and_then_the_end(void **state)
{
    struct record record = {.begun = LATCH};
    sigset_t signals;
    sigset_t outer;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGUSR1);
    (void)sigaddset(&signals, SIGUSR2);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &signals, &outer), 0);
    record.engine = engine_of(state, 2);
    begin_sessions(&record, poll_idle_then_busy);
    assert_int_equal(kill(getpid(), SIGUSR2), 0);
    assert_int_equal(rdy_engine_wait(record.engine, &signals, NULL), SIGUSR2);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(rdy_engine_wait(record.engine, &signals, NULL), SIGUSR1);
    assert_int_equal(rdy_engine_shutdown(record.engine, UINT64_MAX), 0);
    assert_int_equal(rdy_engine_wait(record.engine, &signals, NULL), 0);
    assert_int_equal(rdy_engine_wait(record.engine, NULL, NULL), 0);
    rdy_engine_close(record.engine);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &outer, NULL), 0);
}

static struct rdy_engine *signalled;

static void on_signal(int number)
{
    (void)number;
    (void)rdy_engine_shutdown(signalled, UINT64_MAX);
}

static void signal_handler_may_shut_down(void **state)
{
    struct record record = {.engine = engine_of(state, 2), .begun = LATCH};
    struct sigaction action = {.sa_handler = on_signal};

    signalled = record.engine;
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    begin_sessions(&record, poll_idle_then_busy);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(rdy_engine_join(record.engine, NULL), 0);
    assert_int_equal(value(&record.finished), 2);
    rdy_engine_close(record.engine);
}

/* --- deaths --- */

static int poll_loses_its_kernel(struct rdy_task *task, void *self)
{
    struct session *session = self;

    if (lose_the_kernel(task) == 0)
        (void)rdy_a32_add_seq_cst(&session->record->finished, 1);
    latch_count(&session->record->begun);
    return RDY_PENDING;
}

static int poll_stops_its_runtime(struct rdy_task *task, void *self)
{
    latch_count(&((struct session *)self)->record->begun);
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

static void post_death(struct record *record, uint32_t worker, rdy_poll_fn *poll)
{
    struct rdy_task_spec spec = {
        .poll = poll, .drop = session_drop, .self_size = sizeof(struct session)};
    struct session init = {.record = record, .worker = worker};

    assert_int_equal(rdy_engine_post(record->engine, worker, &spec, &init), 0);
}

static void driver_that_dies_is_reported_and_the_others_shut_down(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 3);
    static struct record record; /* the workers may outlive a test that fails */
    struct rdy_engine_failure failure = {0};

    record = (struct record){.begun = LATCH};
    opts.death_grace_ns = UINT64_MAX;
    record.engine = engine_open(&opts);
    begin_sessions(&record, poll_idle_then_busy);
    post_death(&record, 1, poll_loses_its_kernel);
    assert_int_equal(rdy_engine_wait(record.engine, NULL, &failure), -EPERM);
    assert_int_equal(failure.worker, 1);
    assert_int_equal(failure.error, -EPERM);
    assert_string_equal(failure.step, "run");
    memset(&failure, 0, sizeof(failure));
    assert_int_equal(rdy_engine_join(record.engine, &failure), -EPERM);
    assert_int_equal(failure.worker, 1);
    assert_int_equal(rdy_engine_wait(record.engine, NULL, NULL), 0); /* told once */
    assert_int_equal(value(&record.finished), 3); /* the filter, and two in grace */
    assert_int_equal(value(&record.drops), 4);
    assert_int_equal(value(&record.misplaced), 0);
    rdy_engine_close(record.engine);
}

static void others_go_on_after_a_death_if_that_was_asked_for(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 3);
    static struct record record; /* the workers may outlive a test that fails */
    struct rdy_engine_failure failure = {0};
    struct rdy_engine_worker_stats stats;

    record = (struct record){.begun = LATCH};
    opts.survives_deaths = true;
    record.engine = engine_open(&opts);
    post_death(&record, 0, poll_loses_its_kernel);
    assert_int_equal(rdy_engine_wait(record.engine, NULL, &failure), -EPERM);
    assert_int_equal(failure.worker, 0);
    post_death(&record, 2, poll_stops_its_runtime);
    assert_int_equal(rdy_engine_wait(record.engine, NULL, &failure), -ECANCELED);
    assert_int_equal(failure.worker, 2);

    for (uint32_t i = 0; i < 6; i++) {
        struct rdy_task_spec spec = {
            .poll = poll_stuck, .drop = session_drop, .self_size = sizeof(struct session)};
        struct session init = {.record = &record, .worker = 1};

        assert_int_equal(rdy_engine_post(record.engine, RDY_ANY_WORKER, &spec, &init), 0);
        assert_int_equal(rdy_engine_post(record.engine, 0, &spec, &init), -ESHUTDOWN);
    }
    latch_await(&record.begun, 2 + 6);
    assert_int_equal(rdy_engine_read_worker(record.engine, 0, &stats), 0);
    assert_int_equal(stats.error, -EPERM);
    assert_int_equal(rdy_engine_read_worker(record.engine, 1, &stats), 0);
    assert_int_equal(stats.error, 0);
    assert_false(stats.has_ended);
    assert_int_equal(rdy_engine_shutdown(record.engine, 0), 0);
    assert_int_equal(rdy_engine_join(record.engine, &failure), -EPERM);
    assert_int_equal(failure.worker, 0); /* the first */
    assert_int_equal(value(&record.drops), 8);
    assert_int_equal(value(&record.misplaced), 0);
    rdy_engine_close(record.engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_ON_BOTH(idle_ones_are_told_and_end),
        ENGINE_ON_BOTH(busy_ones_finish_in_the_grace),
        ENGINE_ON_BOTH(stuck_ones_are_dropped_at_the_deadline_by_their_worker),
        ENGINE_ON_BOTH(second_shutdown_shortens_the_first),
        ENGINE_ON_BOTH(close_alone_ends_everything),
        ENGINE_ON_BOTH(shutdown_during_the_start_ends_all_of_them),
        ENGINE_ON_BOTH(several_threads_may_join_and_wait),
        ENGINE_ON_BOTH(worker_cannot_wait_for_itself_but_may_end_it_all),
        ENGINE_ON_BOTH(wait_hands_out_signals_and_then_the_end),
        ENGINE_ON_BOTH(signal_handler_may_shut_down),
        ENGINE_ON_BOTH(driver_that_dies_is_reported_and_the_others_shut_down),
        ENGINE_ON_BOTH(others_go_on_after_a_death_if_that_was_asked_for),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
