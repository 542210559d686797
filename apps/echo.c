/* SPDX-License-Identifier: MIT */
/*
 * `rdy echo`: starts the workers, says where it listens, waits for SIGTERM or SIGINT, sums up.
 *
 * Both signals are blocked in every thread and taken by rdy_engine_wait() on the main thread: there
 * is no handler, so nothing can happen between a flag's test and a wait. The end has no grace: an
 * echo has no request that would have to be finished.
 */
#include "apps/echo.h"
#include "apps/metrics_http.h"
#include "apps/options.h"
#include "apps/system.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    "  --mode M             readiness or completion (default: completion on "
    "io_uring)\n"
    "  --spin US            look for events so many microseconds before sleeping, where that\n"
    "                       pays: lower latency for processor time; 0 to 10000 (default 0)\n"
    "  --batch N            events to wait for at once: less processor time, "
    "more latency\n"
    "  --batch-wait TIME    and how long at most (default 50us); io_uring of "
    "Linux 6.12\n"
    "  --batch-learn        as many as come in that time, up to --batch (default 8); in\n"
    "                       completion mode, of 16 connections and more\n"
    "  --pin                bind each worker to a processor\n"
    "  --metrics HOST:PORT  serve GET /metrics there, for Prometheus\n"
    "  --json               the summary as one JSON object\n";

/* What the workers did, added up. */
struct summary {
    struct echo_counters counters;
    uint64_t connections;
    uint64_t accept_pauses;
    uint64_t accept_calls;
    uint64_t driver_calls;
    uint64_t spins;
    uint64_t spin_hits;
    uint64_t spin_ns;
    uint64_t batch_waits;
    uint64_t batch_fills;
    uint64_t user_ns;
    uint64_t kernel_ns;
    uint64_t rss_max_bytes;
    uint32_t workers_count;
    uint64_t accepted[WORKERS_MAX]; /* by each worker */
};

/* The engine, and what it was started with. */
struct server {
    const struct echo_options *options;
    struct rdy_engine *engine;
    struct rdy_address endpoint;
    bool is_completing;
    struct metrics_http *metrics; /* NULL: not asked for */
    struct rdy_runtime *runtimes[WORKERS_MAX];
    struct echo_worker workers[WORKERS_MAX];
};

static void summary_add(struct summary *summary, const struct echo_worker *worker)
{
    struct echo_counters *sum = &summary->counters;
    const struct echo_counters *one = &worker->counters;

    sum->requests += one->requests;
    sum->bytes += one->bytes;
    sum->bytes_dropped += one->bytes_dropped;
    sum->io_calls += one->io_calls;
    sum->io_calls += worker->completion.calls; /* that the engine made in the place of a ring */
    sum->resets += one->resets;
    sum->failures += one->failures;
    summary->driver_calls += worker->driver.system_calls;
    summary->spins += worker->driver.spins;
    summary->spin_hits += worker->driver.spin_hits;
    summary->spin_ns += worker->driver.spin_ns;
    summary->batch_waits += worker->driver.batch_waits;
    summary->batch_fills += worker->driver.batch_fills;
}

static void summary_add_accepts(struct summary *summary, struct rdy_engine *engine, uint32_t worker)
{
    struct rdy_engine_worker_stats stats;

    if (rdy_engine_read_worker(engine, worker, &stats) < 0)
        return;
    summary->accepted[worker] = stats.accepted;
    summary->connections += stats.accepted;
    summary->accept_pauses += stats.accept_pauses;
    summary->accept_calls += stats.accepted + stats.accept_failures;
}

static uint64_t system_calls_of(const struct summary *summary)
{
    return summary->counters.io_calls + summary->accept_calls + summary->driver_calls;
}

/* How well the kernel spread the connections: of interest where there is something to spread. */
static void balance_print_text(const struct summary *summary)
{
    if (summary->workers_count < 2)
        return;
    (void)printf("accepted by each worker:");
    for (uint32_t i = 0; i < summary->workers_count; i++)
        (void)printf(" %llu", (unsigned long long)summary->accepted[i]);
    (void)putchar('\n');
}

/* Of interest where there were any. */
static void waits_print_text(const struct summary *summary)
{
    if (summary->spins > 0)
        (void)printf("spins %llu, %llu of them paid, %.3f s\n", (unsigned long long)summary->spins,
                     (unsigned long long)summary->spin_hits, (double)summary->spin_ns / 1e9);
    if (summary->batch_waits > 0)
        (void)printf("waits for more than one event %llu, %llu of them filled\n",
                     (unsigned long long)summary->batch_waits,
                     (unsigned long long)summary->batch_fills);
}

static void summary_print_text(const struct summary *summary)
{
    const struct echo_counters *sum = &summary->counters;

    (void)printf("connections %llu, requests %llu, bytes %llu, dropped %llu\n",
                 (unsigned long long)summary->connections, (unsigned long long)sum->requests,
                 (unsigned long long)sum->bytes, (unsigned long long)sum->bytes_dropped);
    (void)printf("resets %llu, failures %llu, accept pauses %llu\n",
                 (unsigned long long)sum->resets, (unsigned long long)sum->failures,
                 (unsigned long long)summary->accept_pauses);
    (void)printf("cpu %.3f s (user %.3f, kernel %.3f), system calls %llu, "
                 "largest memory %.1f MiB\n",
                 (double)(summary->user_ns + summary->kernel_ns) / 1e9,
                 (double)summary->user_ns / 1e9, (double)summary->kernel_ns / 1e9,
                 (unsigned long long)system_calls_of(summary),
                 (double)summary->rss_max_bytes / 1048576.0);
    waits_print_text(summary);
    balance_print_text(summary);
}

static json_t *balance_as_json(const struct summary *summary)
{
    json_t *list = json_array();

    for (uint32_t i = 0; list && i < summary->workers_count; i++)
        (void)json_array_append_new(list, json_integer((json_int_t)summary->accepted[i]));
    return list;
}

static void summary_print_json(const struct summary *summary)
{
    const struct echo_counters *sum = &summary->counters;
    json_t *root = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
        "s:o}",
        "connections", (json_int_t)summary->connections, "requests", (json_int_t)sum->requests,
        "bytes", (json_int_t)sum->bytes, "bytes_dropped", (json_int_t)sum->bytes_dropped, "resets",
        (json_int_t)sum->resets, "failures", (json_int_t)sum->failures, "accept_pauses",
        (json_int_t)summary->accept_pauses, "cpu_user_ns", (json_int_t)summary->user_ns,
        "cpu_kernel_ns", (json_int_t)summary->kernel_ns, "system_calls",
        (json_int_t)system_calls_of(summary), "driver_system_calls",
        (json_int_t)summary->driver_calls, "spins", (json_int_t)summary->spins, "spin_hits",
        (json_int_t)summary->spin_hits, "spin_ns", (json_int_t)summary->spin_ns, "batch_waits",
        (json_int_t)summary->batch_waits, "batch_fills", (json_int_t)summary->batch_fills,
        "rss_max_bytes", (json_int_t)summary->rss_max_bytes, "accepted", balance_as_json(summary));

    if (!root)
        return;
    (void)json_dumpf(root, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(root);
}

/* What a person can do about a start that failed. */
static void complain_about_start(const struct echo_options *options, const char *step, int rc)
{
    if (rc == -EMFILE && options->workers > 1)
        complain("echo", "cannot %s: %s; raise ulimit -n or use fewer --workers", step,
                 strerror(-rc));
    else
        complain("echo", "cannot %s: %s; %s", step, strerror(-rc),
                 start_remedy(options->backend, rc));
}

static void complain_about_address(const struct rdy_address *endpoint, int rc)
{
    char text[RDY_ADDRESS_TEXT_MAX];

    (void)rdy_address_format(endpoint, text);
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

/* --- on the worker's thread --- */

static int worker_start(struct rdy_engine *engine, uint32_t index, struct rdy_runtime *runtime,
                        void *arg)
{
    struct echo_worker *worker = &((struct server *)arg)->workers[index];

    (void)engine;
    worker->buffer = malloc(ECHO_BUFFER_SIZE);
    if (!worker->buffer)
        return -ENOMEM;
    (void)snprintf(worker->backend, sizeof(worker->backend), "%s",
                   rdy_driver_backend_name(rdy_runtime_driver(runtime)));
    worker->is_native = rdy_completion_is_native(runtime);
    rdy_runtime_set_context(runtime, worker);
    ((struct server *)arg)->runtimes[index] = runtime;
    return 0;
}

static void worker_stop(struct rdy_engine *engine, uint32_t index, struct rdy_runtime *runtime,
                        void *arg)
{
    struct echo_worker *worker = &((struct server *)arg)->workers[index];

    (void)engine;
    rdy_driver_read_stats(rdy_runtime_driver(runtime), &worker->driver);
    rdy_completion_read_stats(runtime, &worker->completion);
    worker->is_native = rdy_completion_is_native(runtime);
    free(worker->buffer);
}

/* --- on the main thread --- */

static int server_open(struct server *server)
{
    const struct echo_options *options = server->options;
    struct rdy_engine_opts opts = {
        .size = sizeof(opts),
        .workers_count = (uint32_t)options->workers,
        .is_pinned = options->is_pinned,
        .name = "echo",
        .runtime = {.size = sizeof(opts.runtime),
                    .driver = {.size = sizeof(opts.runtime.driver),
                               .backend = options->backend,
                               .spin_ns = spin_ns_of(options->spin_us),
                               .batch_count = (uint32_t)options->batch_count,
                               .batch_wait_us = (uint32_t)(options->batch_wait_ns / 1000),
                               .is_batch_learnt = options->is_batch_learnt}},
        .on_start = worker_start,
        .on_stop = worker_stop,
        .arg = server,
    };
    struct rdy_engine_failure failure = {.step = "start"};
    int rc = rdy_engine_open(&server->engine, &opts, &failure);

    if (rc < 0)
        complain_about_start(options, failure.step, rc);
    else
        server->is_completing = options->mode == MODE_COMPLETION ||
                                (options->mode == MODE_AUTO && server->workers[0].is_native);
    return rc;
}

/* Receives the address that it was bound to. */
static int server_listen(struct server *server)
{
    struct rdy_engine_serve_opts what = {
        .size = sizeof(what),
        .addr = (const struct sockaddr *)&server->endpoint.addr,
        .addr_len = server->endpoint.addr_len,
        .session = server->is_completing ? &echo_completion_session : &echo_session,
        .listen = {.size = sizeof(what.listen), .is_completing = server->is_completing},
    };
    struct rdy_address bound;
    int rc = rdy_engine_serve(server->engine, &what, &bound.addr, &bound.addr_len);

    if (rc < 0)
        complain_about_address(&server->endpoint, rc);
    else
        server->endpoint = bound;
    return rc;
}

/* 0, or -errno, and a complaint was made. */
static int server_show_metrics(struct server *server, char text[RDY_ADDRESS_TEXT_MAX])
{
    const struct rdy_endpoint *where = &server->options->metrics;
    struct rdy_address address;
    const char *why;
    int rc;

    if (where->host[0] == '\0')
        return 0;
    rc = resolve_listen(where, &address, &why);
    if (rc == 0) {
        rc = metrics_http_start(&server->metrics, &address, server->runtimes,
                                server->options->workers);
        why = strerror(-rc);
    }
    if (rc < 0)
        complain("echo", "cannot serve metrics on %s port %u: %s; choose another address",
                 where->host, (unsigned)where->port, why);
    else
        (void)rdy_address_format(&address, text);
    return rc;
}

static void server_sum_up(struct server *server)
{
    struct summary summary = {.workers_count = (uint32_t)server->options->workers};

    for (uint32_t i = 0; i < summary.workers_count; i++) {
        summary_add(&summary, &server->workers[i]);
        summary_add_accepts(&summary, server->engine, i);
    }
    system_cpu_ns(&summary.user_ns, &summary.kernel_ns);
    summary.rss_max_bytes = system_rss_max_bytes();
    if (server->options->is_json)
        summary_print_json(&summary);
    else
        summary_print_text(&summary);
}

/* The engine is open; the signals are blocked. 0, or why a worker died. */
static int server_run(struct server *server, const sigset_t *signals, const char *metrics_text)
{
    char text[RDY_ADDRESS_TEXT_MAX];
    int joined;
    int rc;

    (void)printf("listening on %s backend=%s mode=%s workers=%u\n",
                 rdy_address_format(&server->endpoint, text), server->workers[0].backend,
                 io_mode_name(server->is_completing), (unsigned)server->options->workers);
    if (server->metrics)
        (void)printf("metrics on http://%s/metrics\n", metrics_text);
    (void)fflush(stdout);
    rc = rdy_engine_wait(server->engine, signals, NULL);
    metrics_http_stop(server->metrics);
    (void)rdy_engine_shutdown(server->engine, 0);
    joined = rdy_engine_join(server->engine, NULL);
    server_sum_up(server);
    return rc < 0 ? rc : joined;
}

static int serve(const struct echo_options *options, const struct rdy_address *endpoint)
{
    struct server *server = calloc(1, sizeof(*server));
    char metrics_text[RDY_ADDRESS_TEXT_MAX];
    sigset_t signals;
    int rc;

    if (!server) {
        complain("echo", "out of memory; use fewer workers");
        return STATUS_FAILED;
    }
    server->options = options;
    server->endpoint = *endpoint;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (server_open(server) < 0 || server_listen(server) < 0 ||
        server_show_metrics(server, metrics_text) < 0) {
        rdy_engine_close(server->engine);
        free(server);
        return STATUS_BAD_INPUT;
    }
    rc = server_run(server, &signals, metrics_text);
    rdy_engine_close(server->engine);
    free(server);
    if (rc == 0)
        return STATUS_OK;
    complain("echo", "a worker stopped: %s; start again, with --backend epoll if it persists",
             strerror(-rc));
    return STATUS_FAILED;
}

static bool options_fit(const struct echo_options *options)
{
    if (options->is_batch_learnt && options->batch_count == 1) {
        complain("echo", "--batch 1 leaves nothing to learn; leave it or --batch-learn out");
        return false;
    }
    if (options->is_batch_learnt && options->mode == MODE_READINESS) {
        complain("echo", "--batch-learn needs --mode completion; leave it out, or use --batch N");
        return false;
    }
    if (options->batch_wait_ns > 0 && options->batch_count <= 1 && !options->is_batch_learnt) {
        complain("echo", "--batch-wait says how long a batch is waited for; add --batch N");
        return false;
    }
    return true;
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
        {.name = "mode", .kind = FLAG_MODE, .value = &options.mode},
        {.name = "batch",
         .kind = FLAG_COUNT,
         .value = &options.batch_count,
         .min = 1,
         .max = 4096,
         .range = "1 to 4096"},
        {.name = "batch-wait",
         .kind = FLAG_DURATION,
         .value = &options.batch_wait_ns,
         .min = 1000,
         .max = 1000000000,
         .range = "1us to 1s"},
        {.name = "batch-learn", .kind = FLAG_SWITCH, .value = &options.is_batch_learnt},
        {.name = "metrics", .kind = FLAG_ADDRESS, .value = &options.metrics},
        {.name = "spin",
         .kind = FLAG_COUNT,
         .value = &options.spin_us,
         .max = SPIN_MAX_US,
         .range = SPIN_RANGE},
        {.name = "pin", .kind = FLAG_SWITCH, .value = &options.is_pinned},
        {.name = "json", .kind = FLAG_SWITCH, .value = &options.is_json},
    };
    struct rdy_address endpoint;
    const char *why;
    int status;

    if (!options_parse(command, flags, sizeof(flags) / sizeof(flags[0]), argc, argv, &status))
        return status;
    if (!options_fit(&options))
        return STATUS_BAD_INPUT;
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
