/* SPDX-License-Identifier: MIT */
/*
 * Flags of a subcommand: a table in, values or one clear line and exit status 2 out.
 *
 * A subcommand lists its flags; the parser fills the values in, checks every range, and answers
 * --help by itself. Main thread, once.
 */
#ifndef RDY_APPS_OPTIONS_H
#define RDY_APPS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdy/driver.h>

#include "apps/command.h"
#include "apps/numbers.h"

#define FLAGS_MAX 16 /* of one subcommand */

/* --spin US: a FLAG_COUNT of microseconds, as much as rdy_driver_opts.spin_ns takes. */
#define SPIN_MAX_US 10000
#define SPIN_RANGE  "0 to 10000, in microseconds"

static inline uint32_t spin_ns_of(uint64_t spin_us)
{
    return (uint32_t)(spin_us * 1000);
}

/* How connections are served. */
enum io_mode {
    MODE_AUTO = 0, /* completion where io_uring does it, else readiness */
    MODE_READINESS,
    MODE_COMPLETION,
};

static inline const char *io_mode_name(bool is_completing)
{
    return is_completing ? "completion" : "readiness";
}

/* What a person can do about a runtime or an engine that did not open, -errno @rc. */
const char *start_remedy(enum rdy_backend_kind backend, int rc);

/* What a flag takes, and what struct flag's @value points to. */
enum flag_kind {
    FLAG_SWITCH,   /* nothing; bool */
    FLAG_COUNT,    /* a number; uint64_t */
    FLAG_SIZE,     /* bytes; uint64_t */
    FLAG_DURATION, /* uint64_t, nanoseconds */
    FLAG_BACKEND,  /* auto, uring or epoll; enum rdy_backend_kind */
    FLAG_MODE,     /* readiness or completion; enum io_mode */
    FLAG_ADDRESS,  /* HOST:PORT; struct rdy_endpoint, @min is the lowest port */
};

struct flag {
    const char *name; /* without the dashes */
    enum flag_kind kind;
    void *value;
    uint64_t min;
    uint64_t max;
    const char *range; /* for the complaint: "1 to 1M" */
    bool is_required;
    bool is_given; /* out */
};

/**
 * options_parse() - read a subcommand's flags
 * @command: borrowed; its name and usage are printed
 * @flags:   borrowed; values and is_given are written
 * @status:  written when the answer is false: what to exit with
 *
 * Return: true to go on, false to exit (after --help, or after a complaint).
 */
bool options_parse(const struct command *command, struct flag *flags, size_t flags_count, int argc,
                   char **argv, int *status);

#endif
