/* SPDX-License-Identifier: MIT */
/*
 * A list of tests, run on every backend: the ring on each rung of its set-up ladder, and epoll. The
 * backends are driven through their table of functions, as the driver does.
 */
#ifndef RDY_TESTS_KERNEL_BACKENDS_H
#define RDY_TESTS_KERNEL_BACKENDS_H

#include "engine/backend.h"
#include "engine/sys.h"
#include "tests/kernel/helpers.h"
#include "uring/ring.h"

#define TOKEN(slot)   ((uint64_t)(slot) << 32 | 1)
#define SLOT(token)   ((token) >> 32)
#define FACTS_MAX     64
#define SOON_NS       (2000 * RDY_NS_PER_MS) /* a limit for what is due at once */
#define ROUNDS_MAX    100000
#define RUNG_OF_EPOLL RDY_RUNG_COUNT

/* What the list runs on at present; set by each group's set-up. */
static enum rdy_ring_rung variant;

/* NULL, with the reason on stderr, if it cannot be: no assertion, as children call it too. */
static inline struct rdy_backend *backend_try(const struct rdy_backend_opts *opts)
{
    struct rdy_backend *backend = NULL;
    enum rdy_ring_step step = RDY_STEP_NONE;
    char why[128] = "";
    int rc;

    if (variant == RUNG_OF_EPOLL) {
        rc = rdy_backend_epoll->open(&backend, opts, why, sizeof(why));
    } else {
        rc = rdy_uring_open_at(&backend, opts, variant, &step);
        rdy_ring_say(step, rc, why, sizeof(why));
    }
    if (rc < 0)
        (void)fprintf(stderr, "no backend: %s\n", why);
    return backend;
}

static inline struct rdy_backend *backend_open(const struct rdy_backend_opts *opts)
{
    struct rdy_backend *backend = backend_try(opts);

    assert_non_null(backend);
    return backend;
}

static inline struct rdy_backend *backend_new(void)
{
    return backend_open(&(struct rdy_backend_opts){.events_max = FACTS_MAX, .cq_entries = 1024});
}

static inline void backend_close(struct rdy_backend *backend)
{
    backend->ops->close(backend);
}

static inline int backend_wait(struct rdy_backend *backend, int64_t timeout_ns,
                               struct rdy_fact *facts)
{
    return backend->ops->wait(backend, timeout_ns, facts, FACTS_MAX);
}

/* Arms, giving the kernel a chance where it has no room. */
static inline void backend_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    assert_int_equal(backend->ops->arm(backend, fd, token, events), 0);
}

/* The next fact, which must be due. Waits that end early (a cancel's answer, say) are passed by. */
static inline struct rdy_fact next_fact(struct rdy_backend *backend)
{
    struct rdy_fact fact;

    for (int i = 0; i < 8; i++) {
        int count = backend->ops->wait(backend, SOON_NS, &fact, 1);

        assert_true(count >= 0);
        if (count == 1)
            return fact;
    }
    fail_msg("a fact was due and none came");
    return fact;
}

static inline void assert_no_fact(struct rdy_backend *backend)
{
    struct rdy_fact facts[FACTS_MAX];

    for (int i = 0; i < 3; i++)
        assert_int_equal(backend_wait(backend, 0, facts), 0);
}

/* Disarms, and takes what still comes up to the last fact. */
static inline void disarm_fully(struct rdy_backend *backend, int fd, uint64_t token)
{
    int rc = backend->ops->disarm(backend, fd, token);
    struct rdy_fact fact;

    assert_true(rc == RDY_DISARMED || rc == 0);
    if (rc == RDY_DISARMED)
        return;
    do {
        fact = next_fact(backend);
        assert_int_equal(fact.token, token);
    } while (!(fact.flags & RDY_FACT_LAST));
    assert_true(fact.result == 0 || fact.result == -ECANCELED);
}

static inline uint64_t system_calls(const struct rdy_backend *backend)
{
    return rdy_a64_load_relaxed(&backend->system_calls);
}

/* cmocka's group runner wants the array itself; this takes any list. */
static inline int run_on_each_backend(const struct CMUnitTest *tests, size_t tests_count)
{
    static const char *const names[] = {
        [RDY_RUNG_DEFER] = "io_uring, deferred task work",
        [RDY_RUNG_SINGLE_COOP] = "io_uring, single issuer",
        [RDY_RUNG_COOP] = "io_uring, cooperative",
        [RDY_RUNG_SUBMIT_ALL] = "io_uring, submit all",
        [RDY_RUNG_PLAIN] = "io_uring, plain",
        [RUNG_OF_EPOLL] = "epoll",
    };
    int failed = 0;

    for (variant = RDY_RUNG_DEFER; variant <= RUNG_OF_EPOLL; variant++)
        failed += _cmocka_run_group_tests(names[variant], tests, tests_count, NULL, NULL);
    return failed;
}

#endif
