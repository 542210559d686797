/* SPDX-License-Identifier: MIT */
/*
 * `rdy demo`: the same echo server on io_uring, in completion mode and by readiness, and on epoll,
 * under the same load, side by side.
 *
 * The servers run for the whole demo, each in a process of its own; the load runs in this one, on
 * epoll for all, and takes turns between them, two rounds each, so that none profits from its place
 * in the order. Where there are two processors the servers have one and the load the other.
 * CPU time is the server's own, between the start and the end of the measured time.
 */
#include "apps/demo.h"
#include "apps/command.h"
#include "apps/load.h"
#include "apps/options.h"
#include "apps/system.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S         UINT64_C(1000000000)
#define ROUNDS           2
#define ARMS             3
#define IDLE_CONNECTIONS 1000
#define FILES_OF_ITSELF  16 /* of each end of them, beside the connections */
#define FILES_RESERVED   64

static const char usage[] =
    "usage: rdy demo [FLAGS]\n"
    "\n"
    "Runs an echo server on io_uring (completion mode, readiness) and on epoll under the\n"
    "same load, and compares them.\n"
    "\n"
    "  --connections C   1 to 100k (default 64)\n"
    "  --size B          bytes of a message, 1 to 64M (default 64)\n"
    "  --duration S      measured time for each backend (default 2s)\n"
    "  --depth D         messages in flight on a connection (default 1)\n";

/* One backend: its server, and what its rounds gave, added up. */
struct arm {
    const char *name; /* for a person */
    const char *backend;
    const char *mode;
    struct server server;
    struct server_summary summary;
    struct load_result sum;
    uint64_t cpu_start_ns;
    uint64_t cpu_ns;
    double idle_bytes;
};

struct demo {
    struct load_options load;
    struct arm arms[ARMS];
    uint32_t arms_count;
    int server_cpu; /* -1: anywhere */
};

static void on_window(void *arg, bool is_start)
{
    struct arm *arm = arg;
    uint64_t now_ns = 0;

    if (system_cpu_of_ns(arm->server.pid, &now_ns) < 0)
        return;
    if (is_start)
        arm->cpu_start_ns = now_ns;
    else
        arm->cpu_ns += now_ns - arm->cpu_start_ns;
}

static void result_add(struct load_result *sum, const struct load_result *one)
{
    histogram_merge(&sum->latency, &one->latency);
    sum->requests += one->requests;
    sum->bytes += one->bytes;
    sum->window_ns += one->window_ns;
    sum->cpu_ns += one->cpu_ns;
    sum->errors.resets += one->errors.resets;
    sum->errors.ended_early += one->errors.ended_early;
    sum->errors.timeouts += one->errors.timeouts;
    sum->errors.others += one->errors.others;
    sum->errors.unanswered += one->errors.unanswered;
    sum->errors.mismatched_bytes += one->errors.mismatched_bytes;
    sum->is_interrupted = sum->is_interrupted || one->is_interrupted;
}

static int arm_round(struct demo *demo, struct arm *arm)
{
    struct load_result *result = malloc(sizeof(*result));
    int rc;

    if (!result)
        return -ENOMEM;
    demo->load.on_window = on_window;
    demo->load.on_window_arg = arm;
    rc = load_run(&demo->load, &arm->server.endpoint, "demo", result);
    if (rc == 0)
        result_add(&arm->sum, result);
    if (rc == 0 && result->is_interrupted)
        rc = -EINTR;
    free(result);
    return rc;
}

/* On a server of its own, so that its calls are not among those of the rounds. */
static int arm_idle(const struct demo *demo, struct arm *arm)
{
    struct server server;
    int rc = server_start(&server, arm->backend, arm->mode, demo->server_cpu);

    if (rc < 0)
        return rc;
    rc = demo_idle_bytes(&server, IDLE_CONNECTIONS, &arm->idle_bytes);
    (void)server_stop(&server, NULL);
    return rc;
}

static void print_row(const struct demo *demo, const char *what,
                      double (*value)(const struct arm *), int decimals)
{
    (void)printf("%-34s", what);
    for (uint32_t i = 0; i < demo->arms_count; i++)
        (void)printf("%14.*f", decimals, value(&demo->arms[i]));
    (void)putchar('\n');
}

static double requests_per_second(const struct arm *arm)
{
    return arm->sum.window_ns > 0 ? (double)arm->sum.requests * 1e9 / (double)arm->sum.window_ns
                                  : 0;
}

static double per_request(const struct arm *arm, double total)
{
    return arm->sum.requests > 0 ? total / (double)arm->sum.requests : 0;
}

static double latency_us(const struct arm *arm, double percent)
{
    return (double)histogram_percentile(&arm->sum.latency, percent) / 1e3;
}

static double p50_us(const struct arm *arm)
{
    return latency_us(arm, 50);
}

static double p90_us(const struct arm *arm)
{
    return latency_us(arm, 90);
}

static double p99_us(const struct arm *arm)
{
    return latency_us(arm, 99);
}

static double p999_us(const struct arm *arm)
{
    return latency_us(arm, 99.9);
}

static double max_us(const struct arm *arm)
{
    return (double)arm->sum.latency.max / 1e3;
}

static double cpu_us_per_request(const struct arm *arm)
{
    return per_request(arm, (double)arm->cpu_ns / 1e3);
}

/* Of the server's whole life, connection set-up included: it is told at the end only. */
static double calls_per_request(const struct arm *arm)
{
    return per_request(arm, (double)arm->summary.system_calls);
}

static double idle_bytes(const struct arm *arm)
{
    return arm->idle_bytes;
}

static void print_table(const struct demo *demo)
{
    (void)printf("\n%-34s", "");
    for (uint32_t i = 0; i < demo->arms_count; i++)
        (void)printf("%14s", demo->arms[i].name);
    (void)printf("\n%-34s", "");
    for (uint32_t i = 0; i < demo->arms_count; i++)
        (void)printf("%14s", demo->arms[i].mode);
    (void)putchar('\n');
    print_row(demo, "requests a second", requests_per_second, 0);
    print_row(demo, "latency p50, us", p50_us, 0);
    print_row(demo, "latency p90, us", p90_us, 0);
    print_row(demo, "latency p99, us", p99_us, 0);
    print_row(demo, "latency p99.9, us", p999_us, 0);
    print_row(demo, "latency max, us", max_us, 0);
    print_row(demo, "server CPU per request, us", cpu_us_per_request, 2);
    print_row(demo, "system calls per request", calls_per_request, 2);
    print_row(demo, "bytes of memory, idle connection", idle_bytes, 0);
}

static bool has_errors(const struct demo *demo)
{
    bool is_wrong = false;

    for (uint32_t i = 0; i < demo->arms_count; i++) {
        if (!load_has_errors(&demo->arms[i].sum))
            continue;
        complain("demo",
                 "replies on %s (%s) were lost or wrong: %llu bytes differ, %llu unanswered",
                 demo->arms[i].name, demo->arms[i].mode,
                 (unsigned long long)demo->arms[i].sum.errors.mismatched_bytes,
                 (unsigned long long)demo->arms[i].sum.errors.unanswered);
        is_wrong = true;
    }
    return is_wrong;
}

static int demo_measure(struct demo *demo)
{
    int rc = 0;

    for (uint32_t i = 0; i < demo->arms_count && rc == 0; i++)
        rc = arm_idle(demo, &demo->arms[i]);
    for (uint32_t i = 0; i < demo->arms_count && rc == 0; i++)
        rc = server_start(&demo->arms[i].server, demo->arms[i].backend, demo->arms[i].mode,
                          demo->server_cpu);
    /* Not before: a child would inherit our one processor and find no other. */
    if (demo->server_cpu >= 0)
        (void)system_pin(0);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < demo->arms_count && rc == 0; i++)
            rc = arm_round(demo, &demo->arms[i]);
    }
    return rc;
}

static int demo_execute(struct demo *demo)
{
    int rc = demo_measure(demo);
    int stop_rc;

    for (uint32_t i = 0; i < demo->arms_count; i++) {
        stop_rc = server_stop(&demo->arms[i].server, &demo->arms[i].summary);
        if (rc == 0)
            rc = stop_rc;
    }
    if (rc < 0) {
        complain("demo", "ended early: %s; try again, or run rdy echo and rdy load by hand",
                 strerror(-rc));
        return STATUS_FAILED;
    }
    print_table(demo);
    return has_errors(demo) ? STATUS_FAILED : STATUS_OK;
}

static void demo_add_arm(struct demo *demo, const char *name, const char *backend, const char *mode)
{
    struct arm *arm = &demo->arms[demo->arms_count++];

    arm->name = name;
    arm->backend = backend;
    arm->mode = mode;
    arm->server.pid = -1;
}

/* Which backends run here, said in a line if one does not; and who runs where. */
static void demo_prepare(struct demo *demo)
{
    struct rdy_probe_report probe = {.size = sizeof(probe)};
    int rc = rdy_probe(&probe);

    if (rc == 0)
        rc = probe.uring_result;
    if (rc == 0) {
        demo_add_arm(demo, "io_uring", "uring", io_mode_name(true));
        demo_add_arm(demo, "io_uring", "uring", io_mode_name(false));
    } else {
        (void)printf("io_uring does not run here: %s (see rdy info); epoll alone\n", strerror(-rc));
    }
    demo_add_arm(demo, "epoll", "epoll", io_mode_name(false));
    demo->server_cpu = system_cpus() >= 2 ? 1 : -1;
}

static int demo_run(struct demo *demo)
{
    (void)printf("%llu connections, %llu bytes, depth %llu, %d rounds of %.3g s each, %s\n",
                 (unsigned long long)demo->load.connections,
                 (unsigned long long)demo->load.message_size, (unsigned long long)demo->load.depth,
                 ROUNDS, (double)demo->load.duration_ns / 1e9,
                 demo->server_cpu >= 0 ? "server and load on a processor each" : "one processor");
    (void)fflush(stdout);
    return demo_execute(demo);
}

static int demo_main(const struct command *command, int argc, char **argv)
{
    static struct demo demo; /* two histograms: too large for a stack */
    struct flag flags[] = {
        {"connections", FLAG_COUNT, &demo.load.connections, 1, 100000, "1 to 100k", false, false},
        {"size", FLAG_SIZE, &demo.load.message_size, 1, 64 << 20, "1 to 64M", false, false},
        {"duration", FLAG_DURATION, &demo.load.duration_ns, 10000000, 3600 * NS_PER_S,
         "10ms to 60m", false, false},
        {"depth", FLAG_COUNT, &demo.load.depth, 1, 4096, "1 to 4096", false, false},
    };
    int status;

    demo.load = (struct load_options){
        .connections = 64,
        .message_size = 64,
        .duration_ns = 2 * NS_PER_S,
        .depth = 1,
        .backend = RDY_BACKEND_EPOLL,
        .mode = MODE_READINESS,
    };
    if (!options_parse(command, flags, sizeof(flags) / sizeof(flags[0]), argc, argv, &status))
        return status;
    if (demo.load.connections + FILES_RESERVED > system_files_max()) {
        complain(command->name,
                 "--connections %llu is more than open files allow; use fewer or "
                 "raise ulimit -n",
                 (unsigned long long)demo.load.connections);
        return STATUS_BAD_INPUT;
    }
    if (IDLE_CONNECTIONS + FILES_OF_ITSELF > system_files_max()) {
        complain(command->name,
                 "its %d idle connections are more than open files allow; raise ulimit -n",
                 IDLE_CONNECTIONS);
        return STATUS_BAD_INPUT;
    }
    demo.load.duration_ns /= ROUNDS;
    demo_prepare(&demo);
    return demo_run(&demo);
}

const struct command demo_command = {
    .name = "demo",
    .summary = "the server on io_uring and on epoll under one load, side by side",
    .usage = usage,
    .run = demo_main,
};
