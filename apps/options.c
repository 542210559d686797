/* SPDX-License-Identifier: MIT */
#include "apps/options.h"

#include <rdy/endpoint.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define VALUE_HELP 'h'
#define VALUE_BASE 256 /* flag i comes back from getopt_long() as VALUE_BASE + i */

const char *start_remedy(enum rdy_backend_kind backend, int rc)
{
    if (rc == -EMFILE || rc == -ENFILE)
        return "raise ulimit -n";
    if (rc == -ENOMEM)
        return "free some memory, or raise ulimit -l and -v";
    if (backend == RDY_BACKEND_URING)
        return "use --backend auto, or see rdy info for what io_uring lacks here";
    return "see rdy info for what works here";
}

static int parse_backend(const char *text, enum rdy_backend_kind *backend)
{
    static const struct {
        const char *name;
        enum rdy_backend_kind kind;
    } names[] = {{"auto", RDY_BACKEND_AUTO},
                 {"uring", RDY_BACKEND_URING},
                 {"io_uring", RDY_BACKEND_URING},
                 {"epoll", RDY_BACKEND_EPOLL}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i].name) == 0) {
            *backend = names[i].kind;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_mode(const char *text, enum io_mode *mode)
{
    if (strcmp(text, io_mode_name(false)) == 0)
        *mode = MODE_READINESS;
    else if (strcmp(text, io_mode_name(true)) == 0)
        *mode = MODE_COMPLETION;
    else
        return -EINVAL;
    return 0;
}

static int parse_number(const struct flag *flag, const char *text)
{
    uint64_t *value = flag->value;
    int rc;

    if (flag->kind == FLAG_COUNT)
        rc = parse_count(text, value);
    else if (flag->kind == FLAG_SIZE)
        rc = parse_size(text, value);
    else
        rc = parse_duration(text, value);
    if (rc == 0 && (*value < flag->min || *value > flag->max))
        rc = -ERANGE;
    return rc;
}

static int parse_flag_address(const struct flag *flag, const char *text)
{
    struct rdy_endpoint endpoint;

    if (rdy_endpoint_parse(text, &endpoint) < 0 || endpoint.kind != RDY_ENDPOINT_HOST)
        return -EINVAL;
    if (endpoint.port < flag->min)
        return -ERANGE;
    *(struct rdy_endpoint *)flag->value = endpoint;
    return 0;
}

/* 0, -EINVAL or -ERANGE. */
static int flag_set(struct flag *flag, const char *text)
{
    flag->is_given = true;
    switch (flag->kind) {
    case FLAG_SWITCH:
        *(bool *)flag->value = true;
        return 0;
    case FLAG_BACKEND:
        return parse_backend(text, flag->value);
    case FLAG_MODE:
        return parse_mode(text, flag->value);
    case FLAG_ADDRESS:
        return parse_flag_address(flag, text);
    case FLAG_COUNT:
    case FLAG_SIZE:
    case FLAG_DURATION:
        return parse_number(flag, text);
    }
    return -EINVAL;
}

static const char *flag_expects(const struct flag *flag)
{
    switch (flag->kind) {
    case FLAG_BACKEND:
        return "auto, uring or epoll";
    case FLAG_MODE:
        return "readiness or completion";
    case FLAG_ADDRESS:
        return flag->min > 0 ? "HOST:PORT with a port from 1 to 65535, IPv6 as [::1]:7000"
                             : "HOST:PORT with a port from 0 to 65535, IPv6 as [::1]:7000";
    case FLAG_COUNT:
        return "a whole number";
    case FLAG_SIZE:
        return "a number of bytes, k and M are understood,";
    case FLAG_DURATION:
        return "seconds, or a number with us, ms, s or m,";
    case FLAG_SWITCH:
        break;
    }
    return "no value";
}

static void complain_about_value(const struct command *command, const struct flag *flag,
                                 const char *text)
{
    if (flag->range)
        complain(command->name, "--%s %s is not valid; use %s from %s", flag->name, text,
                 flag_expects(flag), flag->range);
    else
        complain(command->name, "--%s %s is not valid; use %s", flag->name, text,
                 flag_expects(flag));
}

/* getopt_long() said ':' (a value is missing) or '?' (anything else). */
static void complain_about_flag(const struct command *command, const struct flag *flags, int answer,
                                char **argv)
{
    const char *text = argv[optind - 1];

    if (answer == ':' && optopt >= VALUE_BASE)
        complain(command->name, "--%s needs a value; use %s", flags[optopt - VALUE_BASE].name,
                 flag_expects(&flags[optopt - VALUE_BASE]));
    else if (optopt >= VALUE_BASE)
        complain(command->name, "--%s takes no value; write --%s alone",
                 flags[optopt - VALUE_BASE].name, flags[optopt - VALUE_BASE].name);
    else if (optopt != 0 && text[0] == '-' && text[1] == '-')
        complain(command->name, "--help takes no value; write --help alone");
    else if (optopt != 0)
        complain(command->name, "unknown flag -%c; see rdy %s --help", optopt, command->name);
    else
        complain(command->name, "unknown flag %s; see rdy %s --help", text, command->name);
}

static void options_fill(struct option *options, const struct flag *flags, size_t flags_count)
{
    memset(options, 0, (FLAGS_MAX + 2) * sizeof(*options));
    for (size_t i = 0; i < flags_count; i++) {
        options[i].name = flags[i].name;
        options[i].has_arg = flags[i].kind == FLAG_SWITCH ? no_argument : required_argument;
        options[i].val = VALUE_BASE + (int)i;
    }
    options[flags_count].name = "help";
    options[flags_count].val = VALUE_HELP;
}

/* After the flags: nothing may be left over, and nothing that is required may be missing. */
static bool options_are_whole(const struct command *command, const struct flag *flags,
                              size_t flags_count, int argc, char **argv)
{
    if (optind < argc) {
        complain(command->name, "unexpected argument '%s'; see rdy %s --help", argv[optind],
                 command->name);
        return false;
    }
    for (size_t i = 0; i < flags_count; i++) {
        if (flags[i].is_required && !flags[i].is_given) {
            complain(command->name, "--%s is missing; give it %s", flags[i].name,
                     flag_expects(&flags[i]));
            return false;
        }
    }
    return true;
}

bool options_parse(const struct command *command, struct flag *flags, size_t flags_count, int argc,
                   char **argv, int *status)
{
    struct option options[FLAGS_MAX + 2];
    int answer;

    options_fill(options, flags, flags_count);
    *status = STATUS_BAD_INPUT;
    opterr = 0; /* getopt's own complaints do not name the fix */
    optind = 0; /* a fresh start, whoever parsed before */
    while ((answer = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (answer == VALUE_HELP) {
            (void)fputs(command->usage, stdout);
            *status = STATUS_OK;
            return false;
        }
        if (answer < VALUE_BASE) {
            complain_about_flag(command, flags, answer, argv);
            return false;
        }
        if (flag_set(&flags[answer - VALUE_BASE], optarg) < 0) {
            complain_about_value(command, &flags[answer - VALUE_BASE], optarg);
            return false;
        }
    }
    return options_are_whole(command, flags, flags_count, argc, argv);
}
