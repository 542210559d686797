/* SPDX-License-Identifier: MIT */
/*
 * The checker's inside: fiber.c runs fibers, memory.c is the memory model behind the atomics,
 * plain.c watches plain accesses and allocations, search.c decides what comes next, sharing.c knows
 * what there is to decide, classes.c compares searches, report.c prints a schedule. One thread;
 * everything is reset before each execution, but for the search's path and what is shared.
 */
#ifndef RDY_TESTS_MODEL_CHECKER_H
#define RDY_TESTS_MODEL_CHECKER_H

#include "tests/model/model.h"

#define FIBERS    (MODEL_FIBERS_MAX + 1) /* 0 is whoever sets up and finishes */
#define LOCS_MAX  160                    /* atomics that fibers touch in one execution */
#define STEPS_MAX 1200                   /* of one execution; more is a livelock */

/* What a fiber knows: how far it has seen each fiber, and each atomic's history. */
struct view {
    uint32_t clock[FIBERS];
    uint16_t at[LOCS_MAX];
};

enum op_kind {
    OP_LOAD,
    OP_STORE,
    OP_CHANGE,
    OP_CAS,
    OP_WAIT,
    OP_TOUCH
};

/* A step that a fiber is about to make. Two commute unless they touch the same and one writes. */
struct op {
    enum op_kind kind;
    bool writes;
    bool is_acquiring; /* a lock: never able to run together with a release of it */
    int order;         /* __ATOMIC_* */
    uint32_t size;
    const void *at;
    const void *pc;
    bool (*is_ready)(const void *arg); /* NULL: at any time */
    bool (*is_due)(const void *arg);
    const void *arg;
    const char *what;
};

/* A step that was made, for the schedule and for the search. */
struct step {
    struct op op;
    uint64_t before; /* the value that was there, or was loaded */
    uint64_t after;
    uint32_t behind; /* a load: so many newer values there were */
    bool has_failed; /* a compare-and-swap */
    uint8_t fiber;
    uint16_t node; /* of the search's path, where it was chosen */
    uint16_t
        before_count[FIBERS]; /* steps of each fiber that it cannot be exchanged with, plus 1 */
    uint32_t depth;           /* of the call stack */
    const void *stack[8];
};

enum outcome {
    OUTCOME_RUNNING,
    OUTCOME_DONE,
    OUTCOME_PRUNED,
    OUTCOME_FAILED
};

struct run {
    const struct model_target *target;
    enum outcome outcome;
    uint32_t number; /* of the execution */
    uint32_t steps_count;
    uint32_t stale_count;
    struct step step[STEPS_MAX];
    char failure[512];
};

extern struct run run;

/* fiber.c */
struct fiber {
    bool is_used;
    bool is_started;
    bool is_done;
    struct op op; /* what it waits to do, once started */
    struct view view;
    uint32_t depth;
    const void *stack[64]; /* return addresses, from __tsan_func_entry() */
};

extern struct fiber fibers[FIBERS];
extern uint32_t self; /* the fiber that runs; 0: set-up or finish */

/* Announces @op, lets others go first, returns when it is to be done: its place in the schedule. */
struct step *fiber_step(const struct op *op);

/* Runs the target once, from its set-up to its finish. */
void fiber_run_once(void);

/* memory.c */
void memory_reset(void);
bool memory_equals(const void *at, uint32_t size, uint64_t v); /* the latest value */
void memory_forget(const void *at, const void *pc);     /* was an atomic: now plainly written */
void memory_check_read(const void *at, const void *pc); /* an atomic, plainly read */
bool memory_is_newer_loaded(const void *fiber);
void memory_pass_kernel(void);
void memory_await_newer(const char *what, const void *pc);
void view_join(struct view *view, const struct view *other);

/* plain.c */
#define ARENA_SIZE (512u << 10)
void plain_reset(void);
void plain_finish(void); /* what was not freed is a leak */
void plain_check_atomic(const void *at, size_t size, const void *pc);
void plain_mark_atomic(const void *at);
void plain_check_kernel(const void *at, size_t size); /* the kernel reads it: is it there? */
void *plain_alloc(size_t size, size_t align, bool is_zero, const void *pc);
const char *plain_describe(const void *at, char *text, size_t text_len);

/* search.c */
enum search_mode {
    SEARCH_ALL,
    SEARCH_RANDOM,
    SEARCH_REPLAY
};

struct search_opts {
    enum search_mode mode;
    uint32_t preemptions; /* 0: none, all interleavings up to commuting steps */
    bool is_whole;        /* those that only exchange commuting steps as well */
    uint64_t seed;        /* of the first random execution */
    uint64_t executions_max;
    const char *replay;
};

struct search_totals {
    uint64_t executions; /* whole ones */
    uint64_t pruned;     /* left because they only exchange steps that commute */
    uint32_t steps_max;  /* of one */
    bool is_complete;    /* nothing was left out but for what the bounds say */
    bool is_cut;         /* the bound of preemptions left something out */
};

void search_begin(const struct search_opts *opts);
bool search_next(void);       /* is there another execution? */
void search_count(void);      /* one has been run */
uint32_t search_choose(void); /* the fiber to go on with; 0: none, run.outcome says why */
bool search_are_dependent(const struct op *a, const struct op *b);
bool search_is_alone(const struct op *op);    /* true: nobody else is concerned, go on */
uint32_t search_choose_value(uint32_t count); /* 0: the latest */
void search_print_replay(void);
const struct search_totals *search_totals(void);

/* sharing.c */
void sharing_reset(void);               /* a search begins */
void sharing_begin(void);               /* an execution does */
void sharing_note(const struct op *op); /* about to be announced */
bool sharing_is_shared(const void *at);
bool sharing_is_outdated(void); /* this execution has shown something to be shared */

/* classes.c */
void classes_begin(bool is_second); /* a search; of the second it is seen what it has and lacks */
bool classes_count(void);           /* an execution is over. False: there are too many */
uint32_t classes_total(void);       /* of the first search */
uint32_t classes_missing(void);     /* of these, those that the second did not come to */

/* report.c */
void report_failure(void);
const char *report_order(int order);

#endif
