/* SPDX-License-Identifier: MIT */
/*
 * `rdy echo`: starts the workers, says where it listens, waits for SIGTERM or SIGINT, sums up.
 *
 * Both signals are blocked in every thread and taken with sigwait() by the main thread: there is no
 * handler, so nothing can happen between a flag's test and a wait.
 */
#include "apps/echo.h"
#include "apps/options.h"
#include "apps/system.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKERS_MAX 256

static const char usage[] =
    "usage: rdy echo --listen HOST:PORT [FLAGS]\n"
    "\n"
    "A TCP echo server. Prints one line when it is ready, and a summary at "
    "SIGTERM or SIGINT.\n"
    "\n"
    "  --listen HOST:PORT   where to listen; port 0 picks one; IPv6 as "
    "[::1]:7000\n"
    "  --workers N          threads, each with an engine of its own (default "
    "1)\n"
    "  --backend B          auto, uring or epoll (default auto)\n"
    "  --pin                bind each worker to a processor\n"
    "  --json               the summary as one JSON object\n";

/* What the workers did, added up. */
struct summary {
    struct echo_counters counters;
    uint64_t driver_calls;
    uint64_t user_ns;
    uint64_t kernel_ns;
    uint64_t rss_max_bytes;
};

static void summary_add(struct summary *summary, const struct echo_worker *worker)
{
    struct echo_counters *sum = &summary->counters;
    const struct echo_counters *one = &worker->counters;

    sum->connections += one->connections;
    sum->requests += one->requests;
    sum->bytes += one->bytes;
    sum->bytes_dropped += one->bytes_dropped;
    sum->io_calls += one->io_calls;
    sum->resets += one->resets;
    sum->failures += one->failures;
    sum->accept_pauses += one->accept_pauses;
    summary->driver_calls += worker->driver.system_calls;
}

static void summary_print_text(const struct summary *summary)
{
    const struct echo_counters *sum = &summary->counters;

    (void)printf("connections %llu, requests %llu, bytes %llu, dropped %llu\n",
                 (unsigned long long)sum->connections, (unsigned long long)sum->requests,
                 (unsigned long long)sum->bytes, (unsigned long long)sum->bytes_dropped);
    (void)printf("resets %llu, failures %llu, accept pauses %llu\n",
                 (unsigned long long)sum->resets, (unsigned long long)sum->failures,
                 (unsigned long long)sum->accept_pauses);
    (void)printf("cpu %.3f s (user %.3f, kernel %.3f), system calls %llu, "
                 "largest memory %.1f MiB\n",
                 (double)(summary->user_ns + summary->kernel_ns) / 1e9,
                 (double)summary->user_ns / 1e9, (double)summary->kernel_ns / 1e9,
                 (unsigned long long)(sum->io_calls + summary->driver_calls),
                 (double)summary->rss_max_bytes / 1048576.0);
}

static void summary_print_json(const struct summary *summary)
{
    const struct echo_counters *sum = &summary->counters;
    json_t *root = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "connections",
        (json_int_t)sum->connections, "requests", (json_int_t)sum->requests, "bytes",
        (json_int_t)sum->bytes, "bytes_dropped", (json_int_t)sum->bytes_dropped, "resets",
        (json_int_t)sum->resets, "failures", (json_int_t)sum->failures, "accept_pauses",
        (json_int_t)sum->accept_pauses, "cpu_user_ns", (json_int_t)summary->user_ns,
        "cpu_kernel_ns", (json_int_t)summary->kernel_ns, "system_calls",
        (json_int_t)(sum->io_calls + summary->driver_calls), "driver_system_calls",
        (json_int_t)summary->driver_calls, "rss_max_bytes", (json_int_t)summary->rss_max_bytes);

    if (!root)
        return;
    (void)json_dumpf(root, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(root);
}

/* What a person can do about a start that failed. */
static void complain_about_start(const struct echo_worker *worker, int rc)
{
    char text[RDY_ADDRESS_TEXT_MAX];

    if (strcmp(worker->start_step, "listen") != 0) {
        complain("echo", "cannot %s: %s; %s", worker->start_step, strerror(-rc),
                 worker->options->backend == RDY_BACKEND_URING
                     ? "use --backend auto, or see rdy info for what io_uring lacks here"
                     : "see rdy info for what works here");
        return;
    }
    (void)rdy_address_format(&worker->endpoint, text);
    if (rc == -EADDRINUSE)
        complain("echo",
                 "cannot listen on %s: address in use; choose another port or stop "
                 "the other "
                 "server",
                 text);
    else if (rc == -EADDRNOTAVAIL)
        complain("echo",
                 "cannot listen on %s: not an address of this machine; use 0.0.0.0 or "
                 "one of its own",
                 text);
    else if (rc == -EACCES)
        complain("echo", "cannot listen on %s: permission denied; choose a port above 1023", text);
    else
        complain("echo", "cannot listen on %s: %s; choose another address", text, strerror(-rc));
}

/*
 * SO_REUSEPORT lets two servers of one user share a port without an error. So before several
 * workers share one, bind it once without the option: that fails if somebody has it. (SO_REUSEADDR
 * only lets us pass connections that linger after a close.)
 */
static int check_port_is_free(const struct rdy_address *endpoint)
{
    int on = 1;
    int rc;
    int fd = socket(endpoint->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    rc = bind(fd, (const struct sockaddr *)&endpoint->addr, endpoint->addr_len) < 0 ? -errno : 0;
    (void)close(fd);
    return rc;
}

/* Stops and joins the first @count workers. 0, or why one of them died. */
static int workers_end(struct echo_worker *workers, uint32_t count)
{
    int first_rc = 0;
    int rc;

    for (uint32_t i = 0; i < count; i++)
        echo_worker_stop(&workers[i]);
    for (uint32_t i = 0; i < count; i++) {
        rc = echo_worker_join(&workers[i]);
        if (rc < 0 && first_rc == 0)
            first_rc = rc;
    }
    return first_rc;
}

static int workers_start(struct echo_worker *workers, const struct echo_options *options,
                         const struct rdy_address *endpoint)
{
    uint32_t count = (uint32_t)options->workers;
    int rc = 0;

    for (uint32_t i = 0; i < count; i++) {
        workers[i].options = options;
        workers[i].index = i;
        workers[i].is_reuseport = count > 1;
        /* After the first, with the port that it got. */
        workers[i].endpoint = i == 0 ? *endpoint : workers[0].endpoint;
        workers[i].start_step = "listen";
        if (i == 0 && count > 1)
            rc = check_port_is_free(endpoint);
        if (rc == 0)
            rc = echo_worker_start(&workers[i]);
        if (rc < 0) {
            complain_about_start(&workers[i], rc);
            (void)workers_end(workers, i);
            return rc;
        }
    }
    return 0;
}

static void summary_print(const struct echo_worker *workers, const struct echo_options *options)
{
    struct summary summary = {0};

    for (uint64_t i = 0; i < options->workers; i++)
        summary_add(&summary, &workers[i]);
    system_cpu_ns(&summary.user_ns, &summary.kernel_ns);
    summary.rss_max_bytes = system_rss_max_bytes();
    if (options->is_json)
        summary_print_json(&summary);
    else
        summary_print_text(&summary);
}

static int serve(const struct echo_options *options, const struct rdy_address *endpoint)
{
    struct echo_worker *workers = calloc(options->workers, sizeof(*workers));
    char text[RDY_ADDRESS_TEXT_MAX];
    sigset_t signals;
    int which;
    int rc;

    if (!workers) {
        complain("echo", "out of memory; use fewer workers");
        return STATUS_FAILED;
    }
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (workers_start(workers, options, endpoint) < 0) {
        free(workers);
        return STATUS_BAD_INPUT;
    }
    (void)printf("listening on %s backend=%s workers=%u\n",
                 rdy_address_format(&workers[0].endpoint, text), workers[0].backend,
                 (unsigned)options->workers);
    (void)fflush(stdout);
    (void)sigwait(&signals, &which);
    rc = workers_end(workers, (uint32_t)options->workers);
    summary_print(workers, options);
    free(workers);
    if (rc == 0)
        return STATUS_OK;
    complain("echo", "a worker stopped: %s; start again, with --backend epoll if it persists",
             strerror(-rc));
    return STATUS_FAILED;
}

static int echo_run(const struct command *command, int argc, char **argv)
{
    struct echo_options options = {.workers = 1};
    struct flag flags[] = {
        {.name = "listen", .kind = FLAG_ADDRESS, .value = &options.listen, .is_required = true},
        {.name = "workers",
         .kind = FLAG_COUNT,
         .value = &options.workers,
         .min = 1,
         .max = WORKERS_MAX,
         .range = "1 to 256"},
        {.name = "backend", .kind = FLAG_BACKEND, .value = &options.backend},
        {.name = "pin", .kind = FLAG_SWITCH, .value = &options.is_pinned},
        {.name = "json", .kind = FLAG_SWITCH, .value = &options.is_json},
    };
    struct rdy_address endpoint;
    const char *why;
    int status;

    if (!options_parse(command, flags, sizeof(flags) / sizeof(flags[0]), argc, argv, &status))
        return status;
    if (resolve_listen(&options.listen, &endpoint, &why) < 0) {
        complain("echo", "cannot resolve '%s': %s; give an address or a known name",
                 options.listen.host, why);
        return STATUS_BAD_INPUT;
    }
    return serve(&options, &endpoint);
}

const struct command echo_command = {
    .name = "echo",
    .summary = "a TCP echo server on the engine",
    .usage = usage,
    .run = echo_run,
};
