/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target without a fuzzer: the inputs of files and folders, and random ones.
 *
 *     fuzz_TARGET FILE-OR-FOLDER...           what was found before must stay mended
 *     fuzz_TARGET --random SEED COUNT LENGTH  COUNT inputs of LENGTH bytes; the same for a SEED
 *
 * An input that fails aborts, as under the fuzzer; of a random one the bytes are left in the file
 * failed-input, to be kept in the corpus.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX 65536u
#define COUNT_MAX 100000000ul
#define FAILED    "failed-input"

static uint8_t input[INPUT_MAX];
static size_t input_len;

static int usage(void)
{
    fprintf(stderr, "usage: FILE-OR-FOLDER... | --random SEED COUNT LENGTH (at most %u)\n",
            INPUT_MAX);
    return 2;
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");

    if (!file) {
        fprintf(stderr, "fuzz: %s: %s\n", path, strerror(errno));
        return 2;
    }
    input_len = fread(input, 1, sizeof(input), file);
    fclose(file);
    return LLVMFuzzerTestOneInput(input, input_len);
}

static int run_path(const char *path, unsigned long *count)
{
    struct stat status;
    struct dirent **items;
    int items_count;
    int rc = 0;

    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode)) {
        ++*count;
        return run_file(path);
    }
    items_count = scandir(path, &items, NULL, alphasort);
    for (int i = 0; i < items_count; i++) {
        char name[4096];

        snprintf(name, sizeof(name), "%s/%s", path, items[i]->d_name);
        if (items[i]->d_name[0] != '.' && rc == 0) {
            ++*count;
            rc = run_file(name);
        }
        free(items[i]);
    }
    if (items_count < 0) {
        fprintf(stderr, "fuzz: %s: %s\n", path, strerror(errno));
        return 2;
    }
    free((void *)items);
    return rc;
}

/* xorshift64*, by Vigna, "An experimental exploration of Marsaglia's xorshift generators". */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static void keep_input(int number)
{
    FILE *file = fopen(FAILED, "wb");

    (void)number; /* the default action follows, for the handler is reset */
    if (file) {
        (void)!fwrite(input, 1, input_len, file);
        fclose(file);
        fprintf(stderr, "fuzz: the input is in " FAILED "\n");
    }
}

static int run_random(char **args)
{
    uint64_t seed = strtoull(args[0], NULL, 0);
    unsigned long count = strtoul(args[1], NULL, 0);
    struct sigaction keep = {.sa_handler = keep_input, .sa_flags = (int)SA_RESETHAND};
    uint64_t state = seed ? seed : 1;

    input_len = strtoul(args[2], NULL, 0);
    if (count == 0 || count > COUNT_MAX || input_len == 0 || input_len > INPUT_MAX)
        return usage();
    sigaction(SIGABRT, &keep, NULL);
    for (unsigned long i = 0; i < count; i++) {
        for (size_t k = 0; k < input_len; k++)
            input[k] = (uint8_t)(next_random(&state) >> 32);
        (void)LLVMFuzzerTestOneInput(input, input_len);
    }
    printf("fuzz: %lu random inputs of %zu bytes, seed %llu\n", count, input_len,
           (unsigned long long)seed);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned long count = 0;

    if (argc == 5 && strcmp(argv[1], "--random") == 0)
        return run_random(argv + 2);
    if (argc < 2 || argv[1][0] == '-')
        return usage();
    for (int i = 1; i < argc; i++) {
        int rc = run_path(argv[i], &count);

        if (rc != 0)
            return rc;
    }
    printf("fuzz: %lu inputs from files\n", count);
    return count > 0 ? 0 : 2;
}
