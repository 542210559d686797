/* SPDX-License-Identifier: MIT */
/*
 * For tests of tasks: a fixture that opens a runtime on a named backend, each test on both. A
 * backend that cannot run here fails the test; it is not skipped.
 */
#ifndef RDY_TESTS_SUPPORT_RUNTIME_H
#define RDY_TESTS_SUPPORT_RUNTIME_H

/* cmocka.h wants these before it. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <rdy/driver.h>
#include <rdy/runtime.h>

static const enum rdy_backend_kind backend_kinds[] = {RDY_BACKEND_URING, RDY_BACKEND_EPOLL};

/* What the process has open, and what it takes to look: to be compared with another count. */
static inline int descriptors_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    assert_int_equal(closedir(dir), 0);
    return count;
}

/* What *state points to during a test. */
struct runtime_fixture {
    struct rdy_runtime *runtime;
    enum rdy_backend_kind backend;
};

static inline struct rdy_runtime_opts runtime_opts(enum rdy_backend_kind backend)
{
    struct rdy_runtime_opts opts = {.size = sizeof(opts)};

    opts.driver.size = sizeof(opts.driver);
    opts.driver.backend = backend;
    return opts;
}

static inline struct rdy_runtime *runtime_open(enum rdy_backend_kind backend)
{
    struct rdy_runtime_opts opts = runtime_opts(backend);
    struct rdy_runtime *runtime = NULL;

    assert_int_equal(rdy_runtime_open(&runtime, &opts), 0);
    return runtime;
}

static inline int runtime_setup(void **state)
{
    static struct runtime_fixture fixture;

    fixture.backend = *(const enum rdy_backend_kind *)*state;
    fixture.runtime = runtime_open(fixture.backend);
    *state = &fixture;
    return 0;
}

/* A test that closes the runtime itself leaves NULL. */
static inline int runtime_teardown(void **state)
{
    struct runtime_fixture *fixture = *state;

    rdy_runtime_close(fixture->runtime);
    fixture->runtime = NULL;
    return 0;
}

static inline struct rdy_runtime *runtime_of(void **state)
{
    return ((struct runtime_fixture *)*state)->runtime;
}

static inline struct rdy_runtime_stats runtime_stats(const struct rdy_runtime *runtime)
{
    struct rdy_runtime_stats stats;

    rdy_runtime_read_stats(runtime, &stats);
    return stats;
}

static inline struct rdy_driver_stats driver_stats(struct rdy_runtime *runtime)
{
    struct rdy_driver_stats stats;

    rdy_driver_read_stats(rdy_runtime_driver(runtime), &stats);
    return stats;
}

/* The test tasks' own struct: a place to go on, and what the test wants of it. */
struct test_task {
    struct rdy_co co;
    void *test;
};

/* Spawns a task over @test; the test fails if that fails. */
static inline struct rdy_task_id spawn_test(struct rdy_runtime *runtime, rdy_poll_fn *poll,
                                            rdy_drop_fn *drop, void *test)
{
    struct rdy_task_spec spec = {.poll = poll, .drop = drop, .self_size = sizeof(struct test_task)};
    struct rdy_task_id id;
    void *self = NULL;

    assert_int_equal(rdy_spawn(runtime, &spec, &self, &id), 0);
    ((struct test_task *)self)->test = test;
    return id;
}

static inline int poll_counts_turns(struct rdy_task *task, void *self)
{
    int *left = self;

    rdy_task_defer(task);
    if (--*left > 0)
        return RDY_PENDING;
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

/* Lets the driver have a few turns; tasks that wait go on waiting. */
static inline void take_turns(struct rdy_runtime *runtime, int count)
{
    struct rdy_task_spec spec = {.poll = poll_counts_turns, .self_size = sizeof(count)};
    void *left = NULL;

    assert_int_equal(rdy_spawn(runtime, &spec, &left, NULL), 0);
    *(int *)left = count;
    assert_int_equal(rdy_runtime_run(runtime), 0);
}

/* The two entries of a test in a list of tests: on io_uring and on epoll. */
/* clang-format off */
#define ON_BOTH(test)                                                                              \
    {#test " on io_uring", test, runtime_setup, runtime_teardown,                                  \
     (void *)(uintptr_t)&backend_kinds[0]},                                                        \
    {#test " on epoll", test, runtime_setup, runtime_teardown,                                     \
     (void *)(uintptr_t)&backend_kinds[1]}
/* clang-format on */

#endif
