/* SPDX-License-Identifier: MIT */
/*
 * sim: deterministic simulation of the engine.
 *
 *   sim --seed N [--trace]       one seed; with each step, to be read
 *   sim --seeds N [--from M]     so many, beginning at M (default 1)
 *   sim --seconds S [--from M]   as many as can be done in that time
 *   sim --twice                  with the others: runs each twice, and compares the digests
 *
 * The seeds run in a child, so that a crash, a sanitizer's report or a hang has a seed, too. Exit
 * status: 0, 1 a seed failed (its replay is printed), 2 bad arguments.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/scene.h"
#include "tests/sim/world.h"

#define SEED_LIMIT_S 60u /* of real time: a hang */

struct wish {
    uint64_t from;
    uint64_t seeds;
    uint64_t seconds;
    bool is_one;
    bool is_tracing;
    bool is_twice;
};

/* Shared with the child. */
struct progress {
    uint64_t seed;
    uint64_t done;
    uint64_t steps;
    uint64_t happened;
    uint64_t sessions;
    uint64_t quiet;
    uint64_t lost;
    uint64_t batched;
};

static struct progress *progress;

static int usage(const char *problem, const char *argument)
{
    (void)fprintf(stderr, "sim: %s '%s'; see the head of tests/sim/main.c\n", problem, argument);
    return 2;
}

static bool number_of(const char *text, uint64_t *value)
{
    char *end = NULL;

    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &end, 0);
    return errno == 0 && *end == '\0';
}

static int wish_take(struct wish *wish, int argc, char **argv)
{
    *wish = (struct wish){.from = 1, .seeds = 1000};
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : "";
        uint64_t *value = NULL;

        if (strcmp(argv[i], "--trace") == 0)
            wish->is_tracing = true;
        else if (strcmp(argv[i], "--twice") == 0)
            wish->is_twice = true;
        else if (strcmp(argv[i], "--seed") == 0 || strcmp(argv[i], "--from") == 0)
            value = &wish->from;
        else if (strcmp(argv[i], "--seeds") == 0)
            value = &wish->seeds;
        else if (strcmp(argv[i], "--seconds") == 0)
            value = &wish->seconds;
        else
            return usage("what is", argv[i]);
        wish->is_one = wish->is_one || strcmp(argv[i], "--seed") == 0;
        if (value && !number_of(next, value))
            return usage("a number must follow", argv[i]);
        i += value ? 1 : 0;
    }
    if (wish->is_one)
        wish->seeds = 1;
    return 0;
}

static void run_seed(uint64_t seed, const struct wish *wish)
{
    uint64_t digest;

    progress->seed = seed;
    (void)alarm(SEED_LIMIT_S);
    sim_scene_run(seed, wish->is_tracing);
    digest = sim.digest;
    if (wish->is_twice) {
        sim_scene_run(seed, false);
        if (sim.digest != digest)
            sim_fail("the same seed ran in another way");
    }
    progress->done++;
    progress->steps += sim.step;
    progress->happened += sim.happened;
    progress->sessions += sim_scene.sessions_count;
    progress->quiet += sim.was_quiet ? 1 : 0;
    progress->lost += sim.was_lost ? 1 : 0;
    progress->batched += sim.has_batched ? 1 : 0;
}

static uint64_t seconds_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static void run_seeds(const struct wish *wish)
{
    uint64_t began_s = seconds_now();

    for (uint64_t i = 0; wish->seconds > 0 || i < wish->seeds; i++) {
        run_seed(wish->from + i, wish);
        if (wish->seconds > 0 && seconds_now() - began_s >= wish->seconds)
            break;
    }
    (void)fflush(stdout);
}

static int report(const struct wish *wish, int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        (void)printf("sim: %" PRIu64 " seeds from %" PRIu64 ": %" PRIu64 " steps, %" PRIu64
                     " events, %" PRIu64 " sessions; %" PRIu64 " came to rest, %" PRIu64
                     " lost their ring, %" PRIu64 " waited for more than one event\n",
                     progress->done, wish->from, progress->steps, progress->happened,
                     progress->sessions, progress->quiet, progress->lost, progress->batched);
        return 0;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1) {
        (void)fprintf(stderr,
                      "sim: seed %" PRIu64 " ended by %s\n"
                      "sim: see it again with: %s --seed %" PRIu64 " --trace\n",
                      progress->seed,
                      WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "an exit of its own",
                      sim_command, progress->seed);
    }
    (void)fprintf(stderr, "sim: %" PRIu64 " seeds passed before it\n", progress->done);
    return 1;
}

int main(int argc, char **argv)
{
    struct wish wish;
    int status = 0;
    pid_t child;
    int rc = wish_take(&wish, argc, argv);

    if (rc != 0)
        return rc;
    sim_command = argv[0];
    (void)unsetenv("RDY_BACKEND");
    progress =
        mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED)
        return 2;
    (void)fflush(stdout);
    child = fork();
    if (child == 0) {
        run_seeds(&wish);
        exit(0); /* where a sanitizer looks for leaks */
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 2;
    return report(&wish, status);
}
