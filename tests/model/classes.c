/* SPDX-License-Identifier: MIT */
/*
 * What a search has come to, up to the exchange of steps that commute: two executions are of one
 * class if in both each fiber makes the same steps, with the same values, behind the same steps of
 * the others. A reduction may leave out executions, but no class; so two searches are compared.
 *
 * A class is known by a hash, into which go the steps in any order, each with the count of steps
 * of each fiber that it cannot be exchanged with, itself included: that names its place.
 */
#include "tests/model/checker.h"

#define CLASSES_SIZE (1u << 21)
#define CLASSES_MAX  (CLASSES_SIZE / 2)

struct class
{
    uint64_t hash; /* 0: none */
    bool is_seen_again;
};

static struct class classes[CLASSES_SIZE];
static uint32_t classes_used;
static uint32_t classes_seen_again;
static bool is_second;

static uint64_t mix(uint64_t hash, uint64_t v)
{
    hash = (hash ^ v) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

static uint64_t hash_of_step(const struct step *step, const uint16_t *counts)
{
    uint64_t hash = step->fiber;

    for (uint32_t i = 1; i < FIBERS; i++)
        hash = mix(hash, counts[i]);
    hash = mix(hash, (uint64_t)step->op.kind << 1 | step->has_failed);
    hash = mix(hash, (uintptr_t)step->op.pc);
    hash = mix(hash, (uintptr_t)step->op.at);
    hash = mix(hash, step->before);
    hash = mix(hash, step->after);
    return mix(hash, step->behind);
}

static uint64_t hash_of_run(void)
{
    static uint16_t counts[STEPS_MAX][FIBERS];
    uint64_t hash = 0;

    for (uint32_t i = 0; i < run.steps_count; i++) {
        const struct step *step = &run.step[i];

        memset(counts[i], 0, sizeof(counts[i]));
        for (uint32_t k = 0; k < i; k++) {
            const struct step *other = &run.step[k];

            if (other->fiber != step->fiber && !search_are_dependent(&other->op, &step->op))
                continue;
            for (uint32_t f = 1; f < FIBERS; f++) {
                if (counts[k][f] > counts[i][f])
                    counts[i][f] = counts[k][f];
            }
        }
        counts[i][step->fiber]++;
        hash += hash_of_step(step, counts[i]);
    }
    return hash ? hash : 1;
}

void classes_begin(bool is_second_)
{
    is_second = is_second_;
    classes_seen_again = 0;
    if (is_second)
        return;
    memset(classes, 0, sizeof(classes));
    classes_used = 0;
}

bool classes_count(void)
{
    uint64_t hash = hash_of_run();
    uint32_t i = (uint32_t)(hash >> 32) % CLASSES_SIZE;

    while (classes[i].hash && classes[i].hash != hash)
        i = (i + 1) % CLASSES_SIZE;
    if (is_second) {
        if (classes[i].hash && !classes[i].is_seen_again)
            classes_seen_again++;
        classes[i].is_seen_again = true;
        return true;
    }
    if (!classes[i].hash)
        classes_used++;
    classes[i].hash = hash;
    return classes_used < CLASSES_MAX;
}

uint32_t classes_total(void)
{
    return classes_used;
}

uint32_t classes_missing(void)
{
    return classes_used - classes_seen_again;
}
