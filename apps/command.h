/* SPDX-License-Identifier: MIT */
/*
 * What the subcommands of `rdy` share: their table entry, exit statuses, the one-line complaint.
 *
 * Exit status 0 is success, 1 is a failure while it ran (wrong bytes, a lost server), 2 is that it
 * could not begin with what it was given: a bad flag, a port in use, a connection refused, a
 * backend that cannot run. Every failure is one line on stderr that says what to do about it.
 */
#ifndef RDY_APPS_COMMAND_H
#define RDY_APPS_COMMAND_H

#define STATUS_OK        0
#define STATUS_FAILED    1
#define STATUS_BAD_INPUT 2

struct command {
    const char *name;
    const char *summary; /* one line for `rdy --help` */
    const char *usage;   /* the whole of `rdy NAME --help` */
    int (*run)(const struct command *command, int argc, char **argv);
};

extern const struct command info_command;
extern const struct command echo_command;
extern const struct command load_command;
extern const struct command demo_command;

/* Prints "rdy NAME: ..." and a newline on stderr. */
__attribute__((format(printf, 2, 3))) void complain(const char *name, const char *format, ...);

#endif
