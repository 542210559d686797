/* SPDX-License-Identifier: MIT */
/* `rdy load`: flags, the run, the report, the exit status. */
#include "apps/load.h"
#include "apps/command.h"
#include "apps/options.h"
#include "apps/system.h"

#include <stdio.h>
#include <stdlib.h>

#define NS_PER_S        UINT64_C(1000000000)
#define CONNECTIONS_MAX 1000000
#define SIZE_MAX_BYTES  (64 * 1024 * 1024)
#define DEPTH_MAX       4096
#define RATE_MAX        100000000
#define DURATION_MAX_NS (24 * 3600 * NS_PER_S)
#define FILES_RESERVED  32 /* for stdio, the engine and libraries */

static const char usage[] =
    "usage: rdy load --connect HOST:PORT --connections C --size B --duration S "
    "[FLAGS]\n"
    "\n"
    "Loads a TCP echo server and checks every byte that comes back.\n"
    "\n"
    "  --connect HOST:PORT   the server; IPv6 as [::1]:7000\n"
    "  --connections C       how many, 1 to 1M\n"
    "  --size B              bytes of a message, 1 to 64M\n"
    "  --duration S          seconds, or with a unit: 500ms, 30s, 2m\n"
    "  --depth D             closed loop: messages in flight on a connection "
    "(default 1)\n"
    "  --requests-per-connection N   closed loop: then another connection takes its place\n"
    "  --rate R              open loop: messages a second over all "
    "connections; latency\n"
    "                        counts from the moment a message was due\n"
    "  --backend B           auto, uring or epoll (default auto)\n"
    "  --mode M              readiness or completion (default: completion on io_uring)\n"
    "  --spin US             look for events so many microseconds before sleeping, where that\n"
    "                        pays; 0 to 10000 (default 0)\n"
    "  --json                the report as one JSON object\n"
    "\n"
    "Exit status 0 if every reply came and was right, 1 if not, 2 if it could not begin.\n";

static bool options_fit(const struct command *command, const struct load_options *options,
                        bool is_depth_given)
{
    uint64_t files_max = system_files_max();
    uint64_t files = options->connections;

    /* While one is closed the next is opened. */
    if (options->requests_per_connection > 0)
        files *= 2;
    if (options->rate > 0 && is_depth_given) {
        complain(command->name, "--depth and --rate exclude each other: --rate sends on time, "
                                "whatever is in flight; drop one");
        return false;
    }
    if (options->rate > 0 && options->requests_per_connection > 0) {
        complain(command->name, "--requests-per-connection and --rate exclude each other: a new "
                                "connection is not made on time; drop one");
        return false;
    }
    if (files + FILES_RESERVED > files_max) {
        complain(command->name,
                 "--connections %llu is more than the limit of %llu open files "
                 "allows; use fewer "
                 "or raise ulimit -n",
                 (unsigned long long)options->connections, (unsigned long long)files_max);
        return false;
    }
    return true;
}

static int load_and_report(const struct command *command, const struct load_options *options)
{
    struct load_result *result;
    struct rdy_address endpoint;
    const char *why;
    int status;

    if (resolve_connect(&options->connect, &endpoint, &why) < 0) {
        complain(command->name, "cannot resolve '%s': %s; give an address or a known name",
                 options->connect.host, why);
        return STATUS_BAD_INPUT;
    }
    result = malloc(sizeof(*result));
    if (!result) {
        complain(command->name, "out of memory; free some and try again");
        return STATUS_FAILED;
    }
    if (load_run(options, &endpoint, command->name, result) == 0) {
        if (options->is_json)
            load_report_json(options, result);
        else
            load_report_text(options, result);
        status = load_has_errors(result) ? STATUS_FAILED : STATUS_OK;
        if (result->requests == 0) {
            complain(command->name, "no reply came; is an echo server there, and not stuck?");
            status = STATUS_FAILED;
        }
    } else {
        status = result->has_begun ? STATUS_FAILED : STATUS_BAD_INPUT;
    }
    free(result);
    return status;
}

static int load_main(const struct command *command, int argc, char **argv)
{
    struct load_options options = {.depth = 1};
    enum {
        CONNECT,
        CONNECTIONS,
        SIZE,
        DURATION,
        DEPTH,
        PER_CONNECTION,
        RATE,
        BACKEND,
        MODE,
        SPIN,
        JSON,
        COUNT
    };
    struct flag flags[COUNT] = {
        [CONNECT] = {"connect", FLAG_ADDRESS, &options.connect, 1, 0, NULL, true, false},
        [CONNECTIONS] = {"connections", FLAG_COUNT, &options.connections, 1, CONNECTIONS_MAX,
                         "1 to 1M", true, false},
        [SIZE] = {"size", FLAG_SIZE, &options.message_size, 1, SIZE_MAX_BYTES, "1 to 64M", true,
                  false},
        [DURATION] = {"duration", FLAG_DURATION, &options.duration_ns, 1000000, DURATION_MAX_NS,
                      "1ms to 1440m", true, false},
        [DEPTH] = {"depth", FLAG_COUNT, &options.depth, 1, DEPTH_MAX, "1 to 4096", false, false},
        [PER_CONNECTION] = {"requests-per-connection", FLAG_COUNT, &options.requests_per_connection,
                            1, RATE_MAX, "1 to 100M", false, false},
        [RATE] = {"rate", FLAG_COUNT, &options.rate, 1, RATE_MAX, "1 to 100M", false, false},
        [BACKEND] = {"backend", FLAG_BACKEND, &options.backend, 0, 0, NULL, false, false},
        [MODE] = {"mode", FLAG_MODE, &options.mode, 0, 0, NULL, false, false},
        [SPIN] = {"spin", FLAG_COUNT, &options.spin_us, 0, SPIN_MAX_US, SPIN_RANGE, false, false},
        [JSON] = {"json", FLAG_SWITCH, &options.is_json, 0, 0, NULL, false, false},
    };
    int status;

    if (!options_parse(command, flags, COUNT, argc, argv, &status))
        return status;
    if (!options_fit(command, &options, flags[DEPTH].is_given))
        return STATUS_BAD_INPUT;
    return load_and_report(command, &options);
}

const struct command load_command = {
    .name = "load",
    .summary = "a load generator that checks every echoed byte",
    .usage = usage,
    .run = load_main,
};
