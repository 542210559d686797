/* SPDX-License-Identifier: MIT */
/*
 * The `rdy` command: finds the subcommand, runs it, and makes sure that its output arrived.
 *
 * A reader that went away (a pipe to head) is no failure of ours: SIGPIPE is ignored and EPIPE on
 * stdout passes in silence. Any other write error is a failure, lest a report be lost unseen.
 */
#include "apps/command.h"
#include "apps/system.h"

#include <rdy/base.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct command *const commands[] = {
    &info_command,
    &echo_command,
    &load_command,
    &demo_command,
};

#define COMMANDS_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *out)
{
    (void)fputs("usage: rdy COMMAND [FLAGS]\n\n", out);
    for (size_t i = 0; i < COMMANDS_COUNT; i++)
        (void)fprintf(out, "  %-6s %s\n", commands[i]->name, commands[i]->summary);
    (void)fputs("\n  rdy COMMAND --help   the flags of a command\n"
                "  rdy --version        the version\n",
                out);
}

/* The engine refuses it too, but as -EINVAL among other things; here the variable can be named. */
static bool environment_is_valid(void)
{
    const char *value = getenv("RDY_BACKEND");

    if (!value || value[0] == '\0' || strcmp(value, "auto") == 0 || strcmp(value, "uring") == 0 ||
        strcmp(value, "epoll") == 0)
        return true;
    (void)fprintf(stderr,
                  "rdy: the environment variable RDY_BACKEND=%s is not valid; use auto, uring or "
                  "epoll, or unset it\n",
                  value);
    return false;
}

static int run_command(int argc, char **argv)
{
    if (!environment_is_valid())
        return STATUS_BAD_INPUT;
    for (size_t i = 0; i < COMMANDS_COUNT; i++) {
        if (strcmp(argv[1], commands[i]->name) == 0)
            return commands[i]->run(commands[i], argc - 1, argv + 1);
    }
    (void)fprintf(stderr, "rdy: unknown command '%s'; use info, echo, load or demo (rdy --help)\n",
                  argv[1]);
    return STATUS_BAD_INPUT;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        (void)fputs("rdy: a command is missing; use info, echo, load or demo (rdy "
                    "--help)\n",
                    stderr);
        return STATUS_BAD_INPUT;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return STATUS_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("rdy " RDY_VERSION);
        return STATUS_OK;
    }
    return run_command(argc, argv);
}

/*
 * Why not all of the output has arrived; NULL if it has, or nobody reads it. Of a write that failed
 * earlier, as it does without a buffer, only the fact is known.
 */
static const char *output_error(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};

    errno = 0;
    if (fflush(stdout) != 0)
        return errno == EPIPE ? NULL : strerror(errno);
    if (!ferror(stdout) || (poll(&out, 1, 0) == 1 && (out.revents & POLLERR)))
        return NULL;
    return "a write failed";
}

int main(int argc, char **argv)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    const char *error;
    int status;

    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)system_files_max();
    status = run(argc, argv);
    error = output_error();
    if (!error)
        return status;
    (void)fprintf(stderr, "rdy: cannot write the output: %s\n", error);
    return STATUS_FAILED;
}
