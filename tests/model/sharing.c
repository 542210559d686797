/* SPDX-License-Identifier: MIT */
/*
 * Which atomics more than one fiber uses, as far as this search has shown. Who used one in an
 * execution is forgotten with it; that it is shared is not.
 */
#include "tests/model/checker.h"

#define USAGES_SIZE 4096u

struct usage {
    const char *at;
    uint32_t run_number;
    uint8_t users; /* masks of fibers, in that execution */
    uint8_t writers;
    bool is_shared;
};

static struct usage usages[USAGES_SIZE];
static bool is_outdated; /* something turned out to be shared */

static struct usage *usage_of(const void *at)
{
    uint32_t i = (uint32_t)(((uintptr_t)at >> 2) * 0x9e3779b1u >> 8) % USAGES_SIZE;

    while (usages[i].at && usages[i].at != at)
        i = (i + 1) % USAGES_SIZE;
    usages[i].at = at;
    return &usages[i];
}

void sharing_note(const struct op *op)
{
    struct usage *usage;

    if (!op->at)
        return;
    usage = usage_of(op->at);
    if (usage->run_number != run.number) {
        usage->run_number = run.number;
        usage->users = 0;
        usage->writers = 0;
    }
    usage->users |= (uint8_t)(1u << self);
    if (op->writes)
        usage->writers |= (uint8_t)(1u << self);
    if (!usage->is_shared && usage->writers != 0 && (usage->users & (usage->users - 1u)) != 0) {
        usage->is_shared = true;
        is_outdated = true;
    }
}

void sharing_reset(void)
{
    memset(usages, 0, sizeof(usages));
}

void sharing_begin(void)
{
    is_outdated = false;
}

bool sharing_is_shared(const void *at)
{
    return usage_of(at)->is_shared;
}

bool sharing_is_outdated(void)
{
    return is_outdated;
}
