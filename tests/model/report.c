/* SPDX-License-Identifier: MIT */
/*
 * The schedule of a failed execution: each step with its fiber, what it did and saw, and where it
 * stands in the source. Return addresses become lines by addr2line, once, at the end.
 */
#include "tests/model/checker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PLACES_MAX 2048
#define LINE_MAX_  512

struct place {
    uintptr_t pc;
    char text[120];
};

static struct place places[PLACES_MAX];
static uint32_t places_count;

const char *report_order(int order)
{
    switch (order) {
    case __ATOMIC_RELAXED:
        return "relaxed";
    case __ATOMIC_ACQUIRE:
        return "acquire";
    case __ATOMIC_RELEASE:
        return "release";
    case __ATOMIC_ACQ_REL:
        return "acq_rel";
    default:
        return "seq_cst";
    }
}

/* A return address is behind the call. */
static void place_add(const void *pc)
{
    uintptr_t at = (uintptr_t)pc - 1;

    if (!pc)
        return;
    for (uint32_t i = 0; i < places_count; i++) {
        if (places[i].pc == at)
            return;
    }
    if (places_count < PLACES_MAX)
        places[places_count++] = (struct place){.pc = at};
}

static const char *place_text(const void *pc)
{
    for (uint32_t i = 0; i < places_count; i++) {
        if (places[i].pc == (uintptr_t)pc - 1 && places[i].text[0] != '\0')
            return places[i].text;
    }
    return "?";
}

/* Frames that say nothing about who called. */
static bool is_wrapper(const char *file)
{
    static const char *const names[] = {"/atomic.h:", "/lock.h:", "/list.h:"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strstr(file, names[i]))
            return true;
    }
    return false;
}

static void place_take(struct place *place, const char *function, const char *file)
{
    const char *name = strrchr(file, '/');

    if (place->text[0] != '\0' && !strstr(place->text, ".h:"))
        return;
    if (place->text[0] != '\0' && is_wrapper(file))
        return;
    (void)snprintf(place->text, sizeof(place->text), "%.60s %.50s", name ? name + 1 : file,
                   function);
}

/* "0xADDRESS", then pairs of function and file:line, the innermost first. */
static void read_places(FILE *pipe)
{
    struct place *place = NULL;
    char function[LINE_MAX_] = "";
    char line[LINE_MAX_];
    uint32_t count = 0;

    while (fgets(line, sizeof(line), pipe)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0x", 2) == 0) {
            place = count < places_count ? &places[count++] : NULL;
            function[0] = '\0';
        } else if (function[0] == '\0') {
            memcpy(function, line, sizeof(function));
        } else {
            if (place)
                place_take(place, function, line);
            function[0] = '\0';
        }
    }
}

static void resolve(void)
{
    static char command[64 + PLACES_MAX * 20] = "addr2line -a -f -i -e /proc/$PPID/exe";
    size_t used = strlen(command);
    FILE *pipe;

    for (uint32_t i = 0; i < places_count && used + 24 < sizeof(command); i++)
        used += (size_t)snprintf(command + used, sizeof(command) - used, " 0x%lx",
                                 (unsigned long)places[i].pc);
    (void)fflush(stdout);
    pipe = popen(command, "r");
    if (!pipe)
        return;
    read_places(pipe);
    (void)pclose(pipe);
}

static size_t add_value(char *text, size_t text_len, uint64_t v)
{
    if (v < 4096)
        return (size_t)snprintf(text, text_len, "%" PRIu64, v);
    return (size_t)snprintf(text, text_len, "0x%" PRIx64, v);
}

/* What the step did, in @text. */
static void describe_step(const struct step *step, char *text, size_t text_len)
{
    static const char *const verbs[] = {"load", "store", "change", "cas", "waited for", "touch"};
    const char *verb = verbs[step->op.kind];
    char name[64];
    size_t used;

    if (step->op.kind == OP_WAIT || step->op.kind == OP_TOUCH) {
        (void)snprintf(text, text_len, "%s %s", verb, step->op.what);
        return;
    }
    (void)plain_describe(step->op.at, name, sizeof(name));
    used = (size_t)snprintf(text, text_len, "%s.%s %s: ", verb, report_order(step->op.order), name);
    used += add_value(text + used, text_len - used, step->before);
    if (step->op.kind == OP_LOAD) {
        if (step->behind > 0)
            (void)snprintf(text + used, text_len - used, " (%u newer)", step->behind);
    } else if (step->has_failed) {
        (void)snprintf(text + used, text_len - used, ", failed");
    } else {
        used += (size_t)snprintf(text + used, text_len - used, " -> ");
        (void)add_value(text + used, text_len - used, step->after);
    }
}

static void print_step(uint32_t index)
{
    const struct step *step = &run.step[index];
    uint32_t depth = step->depth < 4 ? step->depth : 4;
    char what[160];

    describe_step(step, what, sizeof(what));
    (void)printf("%4u %-10s %-48s %s", index, run.target->fiber[step->fiber - 1].name, what,
                 place_text(step->op.pc));
    for (uint32_t i = 0; i + 1 < depth; i++)
        (void)printf(" < %s", place_text(step->stack[i]));
    (void)printf("\n");
}

/* "pc 0x..." becomes the line. */
static void print_failure(bool is_collecting)
{
    const char *text = run.failure;

    while (*text) {
        if (strncmp(text, "pc 0x", 5) == 0) {
            char *end;
            const void *pc = (const void *)(uintptr_t)strtoul(text + 3, &end, 16);

            if (is_collecting)
                place_add(pc);
            else
                (void)printf("%s", place_text(pc));
            text = end;
        } else {
            if (!is_collecting)
                (void)putchar(*text);
            text++;
        }
    }
}

void report_failure(void)
{
    for (uint32_t i = 0; i < run.steps_count; i++) {
        place_add(run.step[i].op.pc);
        for (uint32_t j = 0; j < 3; j++)
            place_add(run.step[i].stack[j]);
    }
    print_failure(true);
    resolve();
    (void)printf("FAILED: %s: ", run.target->name);
    print_failure(false);
    (void)printf("\nschedule:\n");
    for (uint32_t i = 0; i < run.steps_count; i++)
        print_step(i);
    search_print_replay();
}
