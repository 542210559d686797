/* SPDX-License-Identifier: MIT */
/*
 * What a target of the model checker is made of.
 *
 * A target is a scenario of two to four fibers over production code that was compiled for the model
 * (RDY_MODEL): each atomic access, lock, wake, and kernel wait in it is a point at which another
 * fiber may go on, and each load may see any value that the memory model allows. The checker runs
 * the scenario again and again, a different way each time, until there is none left.
 *
 * What fibers share lives in memory of malloc(): that is never used twice within an execution, and
 * each plain access to it is watched for races and for use after free. docs/testing.md tells how to
 * write a target, and what a passed one proves.
 */
#ifndef RDY_TESTS_MODEL_H
#define RDY_TESTS_MODEL_H

#include <rdy/waker.h>

#include "engine/atomic.h"

#define MODEL_FIBERS_MAX 4

struct model_fiber {
    const char *name;
    void (*run)(void);
};

struct model_target {
    const char *name;
    const char *claim;    /* what must never happen, or always does: for the list */
    void (*set_up)(void); /* before the fibers, on nobody's clock */
    void (*finish)(void); /* after all of them: looks at what came out, frees everything */
    struct model_fiber fiber[MODEL_FIBERS_MAX];
    uint32_t stale_max;    /* loads in one execution that may see something else than the latest */
    uint32_t preemptions;  /* 0: every interleaving; else so many switches away from who can run */
    const char *must_fail; /* what is to be found: a test of the checker; else NULL */
    bool has_real_locks;   /* engine/lock.c word by word, rather than "waits until it is free" */
};

/* The targets, file by file; each list ends with NULL. */
extern const struct model_target *const model_self_targets[];
extern const struct model_target *const model_lock_targets[];
extern const struct model_target *const model_readiness_targets[];
extern const struct model_target *const model_driver_targets[];
extern const struct model_target *const model_slab_targets[];
extern const struct model_target *const model_task_targets[];
extern const struct model_target *const model_lane_targets[];
extern const struct model_target *const model_lane_send_targets[];
extern const struct model_target *const model_lane_accept_targets[];
extern const struct model_target *const model_lane_connect_targets[];

/* Ends the execution as a failure, with a sentence. */
__attribute__((noreturn, format(printf, 1, 2))) void model_fail(const char *format, ...);

#define model_require(x) ((x) ? (void)0 : model_fail("%s:%d: not true: %s", __FILE__, __LINE__, #x))

/*
 * Waits until @is_ready says so; it looks at memory, and changes nothing. Whoever makes it true
 * calls model_touch() with the same @object, or changes an atomic there. @is_due: when nothing can
 * go on, was there a reason to be awake? Then the failure is a lost wake-up.
 */
struct model_wait {
    const void *object;
    bool (*is_ready)(const void *arg);
    bool (*is_due)(const void *arg);
    const void *arg;
    const char *what;
};
void model_wait(const struct model_wait *wait);

/* A change of @object that is no atomic's: a scheduling point. @what is for the schedule. */
void model_touch(const void *object, const char *what);

/* The bytes get a name in schedules: "entry+8". */
void model_name(const void *bytes, size_t size, const char *name);

/* One of @count possibilities: the search tries them all. */
uint32_t model_choose(uint32_t count);

/* Which fiber runs: 1 and up in the order of the target, 0 in set_up and finish. */
uint32_t model_fiber_id(void);

/* A thread-local variable of the code under test: each fiber gets its own. Before or in set_up. */
void model_thread_local(void *variable, size_t size);

/* A waker that counts, and somebody who sleeps until it has run. */
struct model_alarm {
    struct rdy_a32 rings; /* since the last sleep ended */
    uint32_t total;       /* in sleeps that ended */
    uint32_t asked;       /* by the target: so many may there be */
    bool (*is_due)(const void *arg);
    const void *arg;
};
struct rdy_waker model_alarm_waker(struct model_alarm *alarm);
void model_alarm_sleep(struct model_alarm *alarm);

/* As it is now: no step. */
bool model_alarm_is_silent(const struct model_alarm *alarm);

/* What the code under test cannot see, and what orders nothing: the bytes in a file. */
void model_unwatched_add(uint32_t *count, uint32_t n);
bool model_unwatched_take(uint32_t *count);

#endif
