/* SPDX-License-Identifier: MIT */
/* An engine of 1, 2 and 4 workers: how it starts, how it fails to, and what is posted to it. */
#include "tests/support/engine.h"

#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <rdy/net.h>

#include "engine/sys.h"
#include "tests/support/fork.h"
#include "tests/support/pairs.h"

#define SENDERS_COUNT 3
#define POSTS_EACH    STRESS_ROUNDS(3000u, 600u)

static const uint32_t worker_counts[] = {1, 2, 4};

/* --- posting --- */

/* What posted tasks found out; each worker writes its own. */
struct visits {
    struct rdy_engine *engine;
    struct latch done;
    struct rdy_a32 of_worker[4];
    struct rdy_a32 misled;
};

struct visit {
    struct visits *visits;
    uint32_t worker; /* or RDY_ANY_WORKER */
};

static int poll_visits(struct rdy_task *task, void *self)
{
    struct visit *visit = self;
    int here = rdy_engine_worker_here(visit->visits->engine);

    (void)task;
    if (here < 0 || (visit->worker != RDY_ANY_WORKER && visit->worker != (uint32_t)here))
        (void)rdy_a32_add_seq_cst(&visit->visits->misled, 1);
    else
        (void)rdy_a32_add_seq_cst(&visit->visits->of_worker[here], 1);
    latch_count(&visit->visits->done);
    return 0;
}

static int post_visit(struct visits *visits, uint32_t worker)
{
    struct rdy_task_spec spec = {.poll = poll_visits, .self_size = sizeof(struct visit)};
    struct visit visit = {.visits = visits, .worker = worker};

    return rdy_engine_post(visits->engine, worker, &spec, &visit);
}

static void task_runs_on_the_worker_that_it_was_posted_to(void **state)
{
    for (size_t i = 0; i < 3; i++) {
        struct visits visits = {.done = LATCH};

        visits.engine = engine_of(state, worker_counts[i]);
        assert_int_equal(rdy_engine_workers_count(visits.engine), worker_counts[i]);
        assert_int_equal(rdy_engine_worker_here(visits.engine), -ESRCH);
        for (uint32_t worker = 0; worker < worker_counts[i]; worker++)
            assert_int_equal(post_visit(&visits, worker), 0);
        latch_await(&visits.done, worker_counts[i]);
        for (uint32_t worker = 0; worker < worker_counts[i]; worker++)
            assert_int_equal(rdy_a32_load_relaxed(&visits.of_worker[worker]), 1);
        assert_int_equal(post_visit(&visits, worker_counts[i]), -EINVAL);
        engine_end(visits.engine, UINT64_MAX);
        assert_int_equal(rdy_a32_load_relaxed(&visits.misled), 0);
    }
}

static void any_worker_is_round_robin(void **state)
{
    struct visits visits = {.engine = engine_of(state, 4), .done = LATCH};

    for (int i = 0; i < 12; i++)
        assert_int_equal(post_visit(&visits, RDY_ANY_WORKER), 0);
    latch_await(&visits.done, 12);
    for (int worker = 0; worker < 4; worker++)
        assert_int_equal(rdy_a32_load_relaxed(&visits.of_worker[worker]), 3);
    engine_end(visits.engine, UINT64_MAX);
}

static void any_worker_passes_by_who_is_full(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 2);
    struct visits visits = {.done = LATCH};
    struct block block = BLOCK;

    opts.runtime.arrivals_max = 3;
    visits.engine = engine_open(&opts);
    block_worker(visits.engine, 0, &block);
    for (int i = 0; i < 3; i++)
        assert_int_equal(post_visit(&visits, 0), 0);
    assert_int_equal(post_visit(&visits, 0), -EAGAIN);
    for (uint32_t i = 1; i <= 5; i++) {
        assert_int_equal(post_visit(&visits, RDY_ANY_WORKER), 0);
        latch_await(&visits.done, i);
    }
    assert_int_equal(rdy_a32_load_relaxed(&visits.of_worker[1]), 5);
    block_worker(visits.engine, 1, &block);
    for (int i = 0; i < 3; i++)
        assert_int_equal(post_visit(&visits, 1), 0);
    assert_int_equal(post_visit(&visits, RDY_ANY_WORKER), -EAGAIN);
    latch_count(&block.is_free);
    latch_await(&visits.done, 11);
    engine_end(visits.engine, UINT64_MAX);
}

/* Each sender's numbers, as a worker has seen them; that worker's thread alone writes them. */
struct order {
    struct rdy_engine *engine;
    uint32_t latest[2][SENDERS_COUNT];
    uint32_t disorder[2];
    struct latch done;
};

struct numbered {
    struct order *order;
    uint32_t worker;
    uint32_t sender;
    uint32_t number;
};

static int poll_checks_the_order(struct rdy_task *task, void *self)
{
    struct numbered *numbered = self;
    struct order *order = numbered->order;
    uint32_t *latest = &order->latest[numbered->worker][numbered->sender];

    (void)task;
    order->disorder[numbered->worker] += *latest + 1 != numbered->number;
    *latest = numbered->number;
    if (numbered->number == POSTS_EACH)
        latch_count(&order->done);
    return 0;
}

struct sender {
    struct order *order;
    uint32_t index;
};

static void *thread_posts_in_order(void *arg)
{
    static const struct rdy_task_spec spec = {
        .poll = poll_checks_the_order,
        .self_size = sizeof(struct numbered),
    };
    struct sender *sender = arg;
    uintptr_t failures = 0;

    for (uint32_t i = 1; i <= POSTS_EACH; i++) {
        for (uint32_t worker = 0; worker < 2; worker++) {
            struct numbered init = {sender->order, worker, sender->index, i};

            failures += rdy_engine_post(sender->order->engine, worker, &spec, &init) != 0;
        }
    }
    return (void *)failures;
}

static void posts_of_each_sender_begin_in_order(void **state)
{
    struct order order = {.engine = engine_of(state, 2), .done = LATCH};
    struct sender senders[SENDERS_COUNT];
    pthread_t threads[SENDERS_COUNT];

    for (uint32_t i = 0; i < SENDERS_COUNT; i++) {
        senders[i] = (struct sender){&order, i};
        assert_int_equal(pthread_create(&threads[i], NULL, thread_posts_in_order, &senders[i]), 0);
    }
    for (int i = 0; i < SENDERS_COUNT; i++) {
        void *failures = NULL;

        assert_int_equal(pthread_join(threads[i], &failures), 0);
        assert_null(failures);
    }
    latch_await(&order.done, 2 * SENDERS_COUNT);
    engine_end(order.engine, UINT64_MAX);
    assert_int_equal(order.disorder[0] + order.disorder[1], 0);
}

static void bad_posts_are_refused(void **state)
{
    struct visits visits = {.engine = engine_of(state, 2), .done = LATCH};
    struct rdy_task_spec spec = {.self_size = 8};

    assert_int_equal(rdy_engine_post(visits.engine, 0, &spec, NULL), -EINVAL);
    assert_int_equal(rdy_engine_post(visits.engine, RDY_ANY_WORKER, &spec, NULL), -EINVAL);
    assert_int_equal(rdy_engine_shutdown(visits.engine, 0), 0);
    assert_int_equal(post_visit(&visits, 1), -ESHUTDOWN);
    assert_int_equal(post_visit(&visits, RDY_ANY_WORKER), -ESHUTDOWN);
    rdy_engine_close(visits.engine);
}

/* --- starting --- */

/* What on_start and on_stop saw. */
struct life {
    enum rdy_backend_kind backend;
    uint32_t started;
    uint32_t stopped;
    uint32_t polls;
    uint32_t drops;
    uint32_t fails_at; /* the worker that does not start, or RDY_ANY_WORKER */
    uint32_t disorder;
    struct sockaddr_in addr;
    struct rdy_listener listeners[4];
    struct latch latch;
    int late_post;
};

static int poll_lives(struct rdy_task *task, void *self)
{
    struct life *life = ((struct test_task *)self)->test;

    (void)task;
    (void)pthread_mutex_lock(&life->latch.lock);
    life->polls++;
    (void)pthread_mutex_unlock(&life->latch.lock);
    return RDY_PENDING;
}

static void drop_counts(void *self)
{
    struct life *life = ((struct test_task *)self)->test;

    (void)pthread_mutex_lock(&life->latch.lock);
    life->drops++;
    (void)pthread_mutex_unlock(&life->latch.lock);
}

static int start_in_order(struct rdy_engine *engine, uint32_t worker, struct rdy_runtime *runtime,
                          void *arg)
{
    struct life *life = arg;

    life->disorder += life->started != worker;
    life->disorder += rdy_engine_worker_here(engine) != (int)worker;
    life->disorder += rdy_runtime_here() != runtime;
    life->started++;
    rdy_runtime_set_context(runtime, life);
    (void)spawn_test(runtime, poll_lives, drop_counts, life);
    return 0;
}

static void stop_and_close(struct rdy_engine *engine, uint32_t worker, struct rdy_runtime *runtime,
                           void *arg)
{
    struct life *life = arg;

    (void)engine;
    (void)runtime;
    (void)pthread_mutex_lock(&life->latch.lock);
    life->stopped++;
    (void)pthread_mutex_unlock(&life->latch.lock);
    if (worker == 2)
        rdy_listener_close(&life->listeners[worker]);
}

static void stop_after_the_tasks(struct rdy_engine *engine, uint32_t worker,
                                 struct rdy_runtime *runtime, void *arg)
{
    struct life *life = arg;
    struct rdy_task_spec spec = {.poll = poll_lives};

    (void)pthread_mutex_lock(&life->latch.lock);
    life->disorder += rdy_engine_worker_here(engine) != (int)worker;
    life->disorder += runtime_stats(runtime).tasks_live != 0;
    life->disorder += rdy_runtime_context(runtime) != life;
    life->disorder += rdy_spawn(runtime, &spec, NULL, NULL) != -ESHUTDOWN;
    life->stopped++;
    (void)pthread_mutex_unlock(&life->latch.lock);
}

static void workers_start_in_order_and_stop_after_their_tasks(void **state)
{
    for (size_t i = 0; i < 3; i++) {
        struct rdy_engine_opts opts = engine_opts(backend_of(state), worker_counts[i]);
        struct life life = {.latch = LATCH};

        opts.on_start = start_in_order;
        opts.on_stop = stop_after_the_tasks;
        opts.arg = &life;
        engine_end(engine_open(&opts), 0);
        assert_int_equal(life.started, worker_counts[i]);
        assert_int_equal(life.stopped, worker_counts[i]);
        assert_int_equal(life.drops, worker_counts[i]);
        assert_int_equal(life.disorder, 0);
    }
}

/* The port is fixed from the first worker on, and nobody may share it. */
static int start_on_one_port(struct rdy_engine *engine, uint32_t worker,
                             struct rdy_runtime *runtime, void *arg)
{
    struct life *life = arg;
    struct sockaddr_storage bound;
    socklen_t len;
    int rc;

    (void)engine;
    if (worker < 2)
        return start_in_order(engine, worker, runtime, arg);
    rc = rdy_listener_open(&life->listeners[worker], runtime, (struct sockaddr *)&life->addr,
                           sizeof(life->addr), NULL);
    if (rc < 0)
        return rc;
    rc = rdy_listener_address(&life->listeners[worker], &bound, &len);
    memcpy(&life->addr, &bound, sizeof(life->addr));
    return rc;
}

static void worker_that_cannot_listen_ends_those_before_it(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 4);
    struct life life = {.latch = LATCH};
    struct rdy_engine_failure failure = {0};
    struct rdy_engine *engine = NULL;
    uint32_t fds = fds_open();

    life.addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    opts.on_start = start_on_one_port;
    opts.on_stop = stop_and_close;
    opts.arg = &life;
    assert_int_equal(rdy_engine_open(&engine, &opts, &failure), -EADDRINUSE);

    assert_null(engine);
    assert_int_equal(failure.worker, 3);
    assert_int_equal(failure.error, -EADDRINUSE);
    assert_string_equal(failure.step, "start");
    assert_int_equal(life.started, 2);
    assert_int_equal(life.stopped, 3); /* worker 2 had started, too */
    assert_int_equal(life.polls, 0);
    assert_int_equal(life.drops, 2);
    assert_int_equal(fds_open(), fds);
}

/* The calls of the opening thread, one after the other. */
static void each_call_that_fails_is_reported_and_leaves_nothing(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 3);
    uint32_t fds = fds_open();
    struct rdy_engine *engine = NULL;
    uint32_t failures = 0;
    int rc = -EMFILE;

    for (uint64_t nth = 1; nth < 50 && rc < 0; nth++) {
        struct rdy_engine_failure failure = {0};

        (void)rdy_sys_fail_nth(nth, EMFILE);
        rc = rdy_engine_open(&engine, &opts, &failure);
        (void)rdy_sys_fail_nth(0, 0);
        assert_true(rc == 0 || rc == -EMFILE);
        failures += rc < 0;
        if (failure.error != 0)
            assert_string_equal(failure.step, "start a thread");
        if (rc < 0) {
            assert_int_equal(fds_open(), fds);
        }
    }
    assert_int_equal(rc, 0);
    assert_true(failures >= 6); /* affinity, two descriptors, three threads */
    engine_end(engine, 0);
    assert_int_equal(fds_open(), fds);
}

static void in_a_child_with_few_files(const struct rdy_engine_opts *opts)
{
    uint32_t failures = 0;
    int rc = -EMFILE;

    for (rlim_t files = fds_open(); files < 200 && rc != 0; files++) {
        struct rlimit limit = {.rlim_cur = files, .rlim_max = 1024};
        struct rdy_engine_failure failure = {0};
        struct rdy_engine *engine = NULL;

        child_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        rc = rdy_engine_open(&engine, opts, &failure);
        child_check(rc == 0 || rc == -EMFILE);
        child_check(failure.error == 0 || strcmp(failure.step, "run") == 0);
        failures += failure.error != 0 && failure.worker == 2;
        rdy_engine_close(engine);
    }
    child_check(rc == 0 && failures > 0);
    _exit(0);
}

static void want_of_descriptors_at_any_worker_ends_all(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 3);
    int status = -1;
    pid_t pid;

    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        (void)alarm(STRESS_LIMIT_S);
        in_a_child_with_few_files(&opts);
    }
    check(pid > 0);
    check(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
}

static void bad_options_are_refused(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 1);
    struct rdy_engine_failure failure = {0};
    struct rdy_engine *engine = NULL;

    opts.size--;
    assert_int_equal(rdy_engine_open(&engine, &opts, NULL), -EINVAL);
    opts.size++;
    opts.workers_count = RDY_WORKERS_MAX + 1;
    assert_int_equal(rdy_engine_open(&engine, &opts, NULL), -EINVAL);
    opts.workers_count = 2;
    opts.runtime.task_budget = UINT32_MAX;
    assert_int_equal(rdy_engine_open(&engine, &opts, &failure), -EINVAL);
    assert_string_equal(failure.step, "run");
    assert_int_equal(failure.worker, 0);
}

static int start_that_posts(struct rdy_engine *engine, uint32_t worker, struct rdy_runtime *runtime,
                            void *arg)
{
    struct life *life = arg;
    struct rdy_task_spec spec = {
        .poll = poll_lives, .drop = drop_counts, .self_size = sizeof(struct test_task)};
    struct test_task init = {.test = life};

    (void)runtime;
    if (worker == 0) {
        life->late_post = rdy_engine_post(engine, 1, &spec, &init);
        return 0;
    }
    return rdy_engine_post(engine, 0, &spec, &init);
}

static void starting_worker_can_be_posted_to_only_once_it_is_there(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 2);
    struct life life = {.latch = LATCH};

    opts.on_start = start_that_posts;
    opts.arg = &life;
    engine_end(engine_open(&opts), 0);
    assert_int_equal(life.late_post, -EAGAIN);
    assert_int_equal(life.drops, 1);
}

/* --- the thread --- */

struct look {
    struct latch done;
    cpu_set_t cpus;
    sigset_t signals;
    char name[16];
};

static int poll_looks_at_its_thread(struct rdy_task *task, void *self)
{
    struct look *look = *(struct look **)self;

    (void)task;
    (void)sched_getaffinity(0, sizeof(look->cpus), &look->cpus);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &look->signals);
    (void)pthread_getname_np(pthread_self(), look->name, sizeof(look->name));
    latch_count(&look->done);
    return 0;
}

static void look_at_worker(struct rdy_engine *engine, uint32_t worker, struct look *look)
{
    struct rdy_task_spec spec = {.poll = poll_looks_at_its_thread, .self_size = sizeof(look)};

    *look = (struct look){.done = LATCH};
    assert_int_equal(rdy_engine_post(engine, worker, &spec, &look), 0);
    latch_await(&look->done, 1);
}

static int nth_cpu(const cpu_set_t *set, int index)
{
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, set) && index-- == 0)
            return (int)cpu;
    }
    return -1;
}

static void pinned_worker_has_the_processor_of_its_index(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 3);
    struct rdy_engine_worker_stats stats;
    struct rdy_engine *engine;
    struct look look;
    cpu_set_t mine;

    assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
    opts.is_pinned = true;
    engine = engine_open(&opts);
    for (uint32_t worker = 0; worker < 3; worker++) {
        int cpu = nth_cpu(&mine, (int)worker % CPU_COUNT(&mine));

        look_at_worker(engine, worker, &look);
        assert_int_equal(CPU_COUNT(&look.cpus), 1);
        assert_true(CPU_ISSET((size_t)cpu, &look.cpus));
        assert_int_equal(rdy_engine_read_worker(engine, worker, &stats), 0);
        assert_int_equal(stats.cpu, cpu);
    }
    engine_end(engine, 0);

    engine = engine_of(state, 1);
    look_at_worker(engine, 0, &look);
    assert_true(CPU_EQUAL(&look.cpus, &mine));
    assert_int_equal(rdy_engine_read_worker(engine, 0, &stats), 0);
    assert_int_equal(stats.cpu, -1);
    assert_int_equal(rdy_engine_read_worker(engine, 1, &stats), -EINVAL);
    engine_end(engine, 0);
}

static void worker_has_a_name_and_blocks_all_signals_but_its_own_faults(void **state)
{
    struct rdy_engine_opts opts = engine_opts(backend_of(state), 2);
    struct rdy_engine *engine;
    struct look look;
    sigset_t mine;

    opts.name = "a-name-that-is-long";
    engine = engine_open(&opts);
    look_at_worker(engine, 1, &look);
    assert_string_equal(look.name, "a-name-that--1");
    assert_true(sigismember(&look.signals, SIGTERM));
    assert_true(sigismember(&look.signals, SIGUSR1));
    assert_true(sigismember(&look.signals, SIGRTMAX));
    assert_false(sigismember(&look.signals, SIGSEGV));
    engine_end(engine, 0);
    /* The opener's own mask is as it was. */
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &mine), 0);
    assert_false(sigismember(&mine, SIGTERM));
}

static void default_is_a_worker_for_each_processor(void **state)
{
    struct rdy_engine *engine = NULL;
    struct look look;
    cpu_set_t mine;
    cpu_set_t one;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
    assert_int_equal(rdy_engine_open(&engine, NULL, NULL), 0);
    /* A control group may allow less. */
    assert_in_range(rdy_engine_workers_count(engine), 1, CPU_COUNT(&mine));
    look_at_worker(engine, 0, &look);
    assert_string_equal(look.name, "rdy-0");
    engine_end(engine, 0);

    CPU_ZERO(&one);
    CPU_SET((size_t)nth_cpu(&mine, 0), &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(rdy_engine_open(&engine, NULL, NULL), 0);
    assert_int_equal(rdy_engine_workers_count(engine), 1);
    engine_end(engine, 0);
    assert_int_equal(sched_setaffinity(0, sizeof(mine), &mine), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_ON_BOTH(task_runs_on_the_worker_that_it_was_posted_to),
        ENGINE_ON_BOTH(any_worker_is_round_robin),
        ENGINE_ON_BOTH(any_worker_passes_by_who_is_full),
        ENGINE_ON_BOTH(posts_of_each_sender_begin_in_order),
        ENGINE_ON_BOTH(bad_posts_are_refused),
        ENGINE_ON_BOTH(workers_start_in_order_and_stop_after_their_tasks),
        ENGINE_ON_BOTH(worker_that_cannot_listen_ends_those_before_it),
        ENGINE_ON_BOTH(each_call_that_fails_is_reported_and_leaves_nothing),
        ENGINE_ON_BOTH(want_of_descriptors_at_any_worker_ends_all),
        ENGINE_ON_BOTH(bad_options_are_refused),
        ENGINE_ON_BOTH(starting_worker_can_be_posted_to_only_once_it_is_there),
        ENGINE_ON_BOTH(pinned_worker_has_the_processor_of_its_index),
        ENGINE_ON_BOTH(worker_has_a_name_and_blocks_all_signals_but_its_own_faults),
        cmocka_unit_test(default_is_a_worker_for_each_processor),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
