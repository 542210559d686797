/* SPDX-License-Identifier: MIT */
/*
 * For the stress tests: how much work is bearable in this build, and a watchdog. Under a sanitizer
 * every step costs ten to fifty times as much, under Valgrind, which runs one thread at a time,
 * some hundred times, and more than usual where lines are counted; the counts are bounded and fixed
 * in each build.
 */
#ifndef RDY_TESTS_SUPPORT_STRESS_H
#define RDY_TESTS_SUPPORT_STRESS_H

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "engine/base.h"

#if defined(RDY_SANITIZED) || defined(RDY_VALGRIND) || defined(RDY_COVERAGE)
#define STRESS_IS_SANITIZED 1
#endif

#if defined(RDY_VALGRIND)
#define STRESS_ROUNDS(many, few) ((few) / 10)
#define STRESS_LIMIT_S           350
#elif defined(STRESS_IS_SANITIZED)
#define STRESS_ROUNDS(many, few) (few)
#define STRESS_LIMIT_S           350
#else
#define STRESS_ROUNDS(many, few) (many)
#define STRESS_LIMIT_S           100
#endif

static inline void stress_bark(int number)
{
    static const char message[] = "stress: no end in sight: a wake-up was lost\n";

    (void)number;
    (void)!write(STDERR_FILENO, message, sizeof(message) - 1);
    _exit(1);
}

/*
 * From now on a hang is a failure with a message. Called again, the time begins anew: a test whose
 * parts have ends of their own calls it for each, so that a slow machine is no lost wake-up.
 */
static inline void stress_watch(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = stress_bark;
    (void)sigaction(SIGALRM, &action, NULL);
    (void)alarm(STRESS_LIMIT_S);
}

/*
 * Puts the calling thread on the first or the last of the processors that it may use. Two threads
 * that wake each other are otherwise put on one processor, where they take turns and race seldom.
 */
static inline void stress_pin(bool is_last)
{
    cpu_set_t may;
    cpu_set_t one;

    if (sched_getaffinity(0, sizeof(may), &may) != 0)
        return;
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &may))
            continue;
        if (is_last)
            CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (!is_last)
            break;
    }
    (void)sched_setaffinity(0, sizeof(one), &one);
}

static inline uint64_t stress_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
