/* SPDX-License-Identifier: MIT */
/*
 * model_check: runs targets, every way there is or at random, and prints the schedule that fails.
 *
 *   model_check --list
 *   model_check --table
 *   model_check --target NAME [--preemptions N] [--executions N] [--seconds N] [--compare]
 *   model_check [--target NAME] --random N [--seed N]
 *   model_check --target NAME --replay CHOICES
 *
 * With --compare the target is searched twice, first without the reduction, which then must not
 * have left out more than executions that exchange steps which commute.
 *
 * Exit status: 0 nothing was found and the search is complete, 1 a failure or a search that was not
 * finished, 2 a command that makes no sense.
 */
#include "tests/model/checker.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct command {
    const char *target;
    const char *replay;
    uint64_t executions;
    uint64_t random;
    uint64_t seed;
    uint64_t seconds;
    int64_t preemptions; /* -1: as the target says */
    bool is_list;
    bool is_table;
    bool is_compared;
};

static const struct model_target *const *const lists[] = {
    model_self_targets,         model_lock_targets,      model_readiness_targets,
    model_driver_targets,       model_slab_targets,      model_task_targets,
    model_lane_targets,         model_lane_send_targets, model_lane_accept_targets,
    model_lane_connect_targets,
};

#define LISTS_COUNT (sizeof(lists) / sizeof(lists[0]))

static const struct model_target *find(const char *name)
{
    for (size_t i = 0; i < LISTS_COUNT; i++) {
        for (const struct model_target *const *target = lists[i]; *target; target++) {
            if (strcmp((*target)->name, name) == 0)
                return *target;
        }
    }
    return NULL;
}

static void print_list(void)
{
    for (size_t i = 0; i < LISTS_COUNT; i++) {
        for (const struct model_target *const *target = lists[i]; *target; target++)
            (void)printf("%s: %s%s\n", (*target)->name, (*target)->claim,
                         (*target)->must_fail ? " (must be found)" : "");
    }
}

/* Of this process: what others do with the machine is not the search's. */
static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void print_totals(const struct command *command, double seconds)
{
    const struct search_totals *totals = search_totals();

    (void)printf("%s: %llu executions", run.target->name, (unsigned long long)totals->executions);
    if (totals->pruned > 0)
        (void)printf(" (and %llu left early)", (unsigned long long)totals->pruned);
    (void)printf(", longest %u steps, %.2f s", totals->steps_max, seconds);
    if (command->random > 0)
        (void)printf(", random, seeds %llu and up", (unsigned long long)command->seed);
    else if (!totals->is_complete)
        (void)printf(run.outcome == OUTCOME_FAILED ? " until it was found" : ", NOT FINISHED");
    else if (totals->is_cut)
        (void)printf(", all with few enough preemptions");
    else
        (void)printf(", all there are");
    (void)printf("\n");
}

/* The same as a row of Markdown. */
static void print_row(double seconds)
{
    const struct search_totals *totals = search_totals();
    const struct model_target *target = run.target;

    (void)printf("| `%s` | %llu | %u | ", target->name, (unsigned long long)totals->executions,
                 totals->steps_max);
    if (target->preemptions > 0)
        (void)printf("%u | ", target->preemptions);
    else
        (void)printf("none | ");
    (void)printf("%u | ", target->stale_max);
    if (!totals->is_complete)
        (void)printf("**no**");
    else
        (void)printf(totals->is_cut ? "within the bound" : "yes");
    (void)printf(" | %.2f |\n", seconds);
}

static void print_result(const struct command *command, double seconds)
{
    if (command->is_table)
        print_row(seconds);
    else
        print_totals(command, seconds);
}

static struct search_opts opts_of(const struct command *command)
{
    struct search_opts opts = {
        .mode = SEARCH_ALL,
        .preemptions = run.target->preemptions,
        .executions_max = command->executions,
        .seed = command->seed,
        .replay = command->replay,
    };

    if (command->preemptions >= 0)
        opts.preemptions = (uint32_t)command->preemptions;
    if (command->random > 0) {
        opts.mode = SEARCH_RANDOM;
        opts.executions_max = command->random;
    }
    if (command->replay)
        opts.mode = SEARCH_REPLAY;
    return opts;
}

/* 0: nothing found, all searched; 1. */
static int check(const struct command *command)
{
    struct search_opts opts = opts_of(command);
    double began = now_s();
    bool is_late = false;

    search_begin(&opts);
    while (!is_late && search_next()) {
        fiber_run_once();
        search_count();
        if (run.outcome == OUTCOME_FAILED) {
            report_failure();
            print_result(command, now_s() - began);
            return run.target->must_fail && strstr(run.failure, run.target->must_fail) ? 0 : 1;
        }
        is_late = now_s() - began > (double)command->seconds;
    }
    print_result(command, now_s() - began);
    if (run.target->must_fail) {
        (void)printf("%s: '%s' was not found\n", run.target->name, run.target->must_fail);
        return 1;
    }
    return opts.mode != SEARCH_ALL || search_totals()->is_complete ? 0 : 1;
}

/* True: whole, and nothing was found. */
static bool count_classes(const struct search_opts *opts, const struct command *command,
                          bool is_second)
{
    double began = now_s();
    bool has_room = true;

    classes_begin(is_second);
    search_begin(opts);
    while (has_room && search_next()) {
        fiber_run_once();
        search_count();
        if (run.outcome == OUTCOME_FAILED) {
            report_failure();
            return false;
        }
        if (run.outcome == OUTCOME_DONE)
            has_room = classes_count() && now_s() - began < (double)command->seconds;
    }
    print_totals(command, now_s() - began);
    return search_totals()->is_complete;
}

/* 0: both searches have come to the same classes of executions; 1. */
static int compare(const struct command *command)
{
    struct search_opts opts = opts_of(command);
    bool is_whole;

    opts.is_whole = true;
    is_whole = count_classes(&opts, command, false);
    opts.is_whole = false;
    if (!is_whole || !count_classes(&opts, command, true))
        return 1;
    (void)printf("%s: %u classes, of which the reduction left out %u\n", run.target->name,
                 classes_total(), classes_missing());
    return classes_missing() == 0 ? 0 : 1;
}

/* Every target that has to pass: at random, or as a table. */
static int check_all(const struct command *command)
{
    int failures = 0;

    if (command->is_table)
        (void)printf(
            "| target | executions | steps | preemptions | stale loads | all of them | s |\n"
            "|---|---:|---:|---:|---:|---|---:|\n");
    for (size_t i = 0; i < LISTS_COUNT; i++) {
        for (const struct model_target *const *target = lists[i]; *target; target++) {
            run.target = *target;
            if (!run.target->must_fail)
                failures += check(command);
        }
    }
    return failures > 0 ? 1 : 0;
}

static bool read_number(const char *text, uint64_t *number)
{
    char *end = NULL;

    *number = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0';
}

static bool read_command(int argc, char **argv, struct command *command)
{
    static const struct option options[] = {
        {"target", required_argument, NULL, 't'},
        {"replay", required_argument, NULL, 'p'},
        {"executions", required_argument, NULL, 'e'},
        {"random", required_argument, NULL, 'r'},
        {"seed", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 'l'},
        {"preemptions", required_argument, NULL, 'b'},
        {"list", no_argument, NULL, 'i'},
        {"table", no_argument, NULL, 'a'},
        {"compare", no_argument, NULL, 'c'},
        {0},
    };
    uint64_t number = 0;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == '?')
            return false;
        if (option == 'i')
            command->is_list = true;
        else if (option == 'a')
            command->is_table = true;
        else if (option == 'c')
            command->is_compared = true;
        else if (option == 't')
            command->target = optarg;
        else if (option == 'p')
            command->replay = optarg;
        else if (!read_number(optarg, &number))
            return false;
        else if (option == 'e')
            command->executions = number;
        else if (option == 'r')
            command->random = number;
        else if (option == 's')
            command->seed = number;
        else if (option == 'l')
            command->seconds = number;
        else
            command->preemptions = (int64_t)number;
    }
    return optind == argc &&
           (command->is_list || command->is_table || command->target || command->random > 0);
}

int main(int argc, char **argv)
{
    struct command command = {
        .executions = UINT64_MAX,
        .seed = 1,
        .seconds = 1u << 20,
        .preemptions = -1,
    };

    if (!read_command(argc, argv, &command)) {
        (void)fprintf(
            stderr,
            "model_check: --list, --table, --target NAME or --random N; see tests/model/main.c\n");
        return 2;
    }
    if (command.is_list) {
        print_list();
        return 0;
    }
    if (!command.target)
        return check_all(&command);
    run.target = find(command.target);
    if (!run.target) {
        (void)fprintf(stderr, "model_check: no target '%s'; --list shows them\n", command.target);
        return 2;
    }
    return command.is_compared ? compare(&command) : check(&command);
}
