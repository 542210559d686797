/* SPDX-License-Identifier: MIT */
/*
 * Fibers on one thread, and the life of one execution.
 *
 * A fiber runs until its next step: an atomic access, a wait, a touch. There it says what it is
 * about to do, asks the search who goes on, and if that is itself it does not even switch. What is
 * between two steps touches what only this fiber can touch, or it is a race, which plain.c finds
 * whatever the order. An execution that fails or is pruned is left where it is: the next one begins
 * with new stacks and an empty arena.
 *
 * makecontext() gives a fiber its stack; from then on setjmp() and longjmp() switch, since
 * swapcontext() makes two system calls each time.
 */
#include "tests/model/checker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#define STACK_SIZE    (128u << 10)
#define VARIABLES_MAX 4
#define VARIABLE_SIZE 32

struct run run;
struct fiber fibers[FIBERS];
uint32_t self;

static jmp_buf place[FIBERS];
static jmp_buf failed; /* of a failure outside of fibers */
static ucontext_t context[FIBERS];
static char stacks[FIBERS][STACK_SIZE] __attribute__((aligned(64)));
static volatile bool is_starting;

static struct variable {
    void *at;
    size_t size;
    char value[FIBERS][VARIABLE_SIZE];
} variables[VARIABLES_MAX];
static uint32_t variables_count;

void model_thread_local(void *variable, size_t size)
{
    for (uint32_t i = 0; i < variables_count; i++) {
        if (variables[i].at == variable)
            return;
    }
    rdy_assert(variables_count < VARIABLES_MAX && size <= VARIABLE_SIZE);
    variables[variables_count] = (struct variable){.at = variable, .size = size};
    for (uint32_t fiber = 0; fiber < FIBERS; fiber++)
        memcpy(variables[variables_count].value[fiber], variable, size);
    variables_count++;
}

static void variables_swap(uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < variables_count; i++) {
        memcpy(variables[i].value[from], variables[i].at, variables[i].size);
        memcpy(variables[i].at, variables[i].value[to], variables[i].size);
    }
}

static void variables_reset(void)
{
    for (uint32_t i = 0; i < variables_count; i++) {
        memset(variables[i].at, 0, variables[i].size);
        memset(variables[i].value, 0, sizeof(variables[i].value));
    }
}

uint32_t model_fiber_id(void)
{
    return self;
}

static void fiber_switch(uint32_t to)
{
    uint32_t from = self;

    variables_swap(from, to);
    if (_setjmp(place[from]) == 0) {
        self = to;
        if (to == 0 || fibers[to].is_started)
            _longjmp(place[to], 1);
        fibers[to].is_started = true;
        (void)setcontext(&context[to]);
        abort();
    }
}

/* Gives the processor away for good: to another fiber, or to whoever began the execution. */
__attribute__((noreturn)) static void fiber_leave(uint32_t to)
{
    variables_swap(self, to);
    self = to;
    if (to != 0 && !fibers[to].is_started) {
        fibers[to].is_started = true;
        (void)setcontext(&context[to]);
    }
    _longjmp(place[to], 1);
}

void model_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(run.failure, sizeof(run.failure), format, args);
    va_end(args);
    run.outcome = OUTCOME_FAILED;
    if (self == 0)
        _longjmp(failed, 1);
    fiber_leave(0);
}

/* A broken rdy_assert() of the code under test. */
void rdy_panic(const char *claim, const char *file, int line)
{
    model_fail("broken invariant: %s (%s:%d)", claim, file, line);
}

static void fiber_main(void)
{
    run.target->fiber[self - 1].run();
    fibers[self].is_done = true;
    if (is_starting)
        fiber_leave(0);
    fiber_leave(search_choose());
}

struct step *fiber_step(const struct op *op)
{
    struct fiber *fiber = &fibers[self];
    struct step *step;
    uint32_t next;

    fiber->op = *op;
    sharing_note(op);
    if (is_starting)
        next = 0;
    else if (search_is_alone(op))
        next = self;
    else
        next = search_choose();
    if (next != self)
        fiber_switch(next);

    if (run.steps_count == STEPS_MAX)
        model_fail("livelock: %u steps and no end", STEPS_MAX);
    step = &run.step[run.steps_count - 1]; /* the search made it when it chose us */
    step->depth = fiber->depth;
    for (uint32_t i = 0; i < sizeof(step->stack) / sizeof(step->stack[0]) && i < fiber->depth; i++)
        step->stack[i] = fiber->stack[fiber->depth - 1 - i];
    return step;
}

static void fibers_reset(void)
{
    memset(fibers, 0, sizeof(fibers));
    self = 0;
    for (uint32_t i = 1; i < FIBERS; i++) {
        if (!run.target->fiber[i - 1].run)
            continue;
        fibers[i].is_used = true;
        fibers[i].view.clock[i] = 1;
        (void)getcontext(&context[i]);
        context[i].uc_stack.ss_sp = stacks[i];
        context[i].uc_stack.ss_size = STACK_SIZE;
        context[i].uc_link = NULL;
        makecontext(&context[i], fiber_main, 0);
    }
}

/* Each to its first step, which nobody else can influence; then as the search says. */
static void fibers_run(void)
{
    is_starting = true;
    for (uint32_t i = 1; i < FIBERS && run.outcome == OUTCOME_RUNNING; i++) {
        if (fibers[i].is_used)
            fiber_switch(i);
    }
    is_starting = false;
    if (run.outcome == OUTCOME_RUNNING) {
        uint32_t next = search_choose();

        if (next != 0)
            fiber_switch(next);
    }
}

static void execute(void)
{
    run.target->set_up();
    fibers_run();
    if (run.outcome != OUTCOME_DONE)
        return;
    for (uint32_t i = 1; i < FIBERS; i++)
        view_join(&fibers[0].view, &fibers[i].view);
    run.target->finish();
    plain_finish();
}

void fiber_run_once(void)
{
    run.number++;
    run.outcome = OUTCOME_RUNNING;
    run.steps_count = 0;
    run.stale_count = 0;
    plain_reset();
    memory_reset();
    variables_reset();
    fibers_reset();
    if (_setjmp(failed) == 0)
        execute();
}
