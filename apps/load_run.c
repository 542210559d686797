/* SPDX-License-Identifier: MIT */
/*
 * A run from outside: memory, runtime, signals, and what to say when it could not start.
 *
 * SIGINT and SIGTERM end a run early. Their handler only calls rdy_runtime_stop(), which is made
 * for that; the runtime it stops is in a global, set while the handlers are installed.
 */
#include "apps/command.h"
#include "apps/load.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rdy_runtime *volatile runtime_to_stop;
static volatile sig_atomic_t was_interrupted;

static void on_signal(int number)
{
    (void)number;
    was_interrupted = 1;
    if (runtime_to_stop)
        rdy_runtime_stop(runtime_to_stop);
}

struct handlers {
    struct sigaction interrupt;
    struct sigaction terminate;
};

static void handlers_install(struct handlers *before, struct rdy_runtime *runtime)
{
    struct sigaction action = {.sa_handler = on_signal};

    was_interrupted = 0;
    runtime_to_stop = runtime;
    (void)sigaction(SIGINT, &action, &before->interrupt);
    (void)sigaction(SIGTERM, &action, &before->terminate);
}

static void handlers_restore(const struct handlers *before)
{
    (void)sigaction(SIGINT, &before->interrupt, NULL);
    (void)sigaction(SIGTERM, &before->terminate, NULL);
    runtime_to_stop = NULL;
}

static void complain_about_connect(const struct load *load, const char *name, int rc)
{
    char text[RDY_ADDRESS_TEXT_MAX];

    (void)rdy_address_format(&load->endpoint, text);
    if (rc == -ECONNREFUSED)
        complain(name, "cannot connect to %s: connection refused; is the server running?", text);
    else if (rc == -ETIMEDOUT)
        complain(name, "cannot connect to %s: no answer; is the server running and reachable?",
                 text);
    else if (rc == -EADDRNOTAVAIL)
        complain(name,
                 "cannot connect to %s: no source port left after %llu "
                 "connections; use fewer "
                 "--connections",
                 text, (unsigned long long)load->connected);
    else if (rc == -EMFILE || rc == -ENFILE)
        complain(name,
                 "cannot connect to %s: no descriptor left after %llu connections; "
                 "raise "
                 "ulimit -n or use fewer --connections",
                 text, (unsigned long long)load->connected);
    else
        complain(name, "cannot connect to %s: %s; check the address", text, strerror(-rc));
}

static void load_free(struct load *load)
{
    if (!load)
        return;
    free(load->buffer);
    free(load->connections);
    free(load);
}

static struct load *load_alloc(const struct load_options *options)
{
    struct load *load = calloc(1, sizeof(*load));

    if (!load)
        return NULL;
    load->buffer = malloc(PATTERN_CHUNK);
    load->connections = calloc(options->connections, sizeof(struct load_connection *));
    if (!load->buffer || !load->connections) {
        load_free(load);
        return NULL;
    }
    pattern_fill(&load->pattern);
    return load;
}

static int load_open_runtime(struct load *load, const char *name)
{
    struct rdy_runtime_opts opts = {
        .size = sizeof(opts),
        .driver = {.size = sizeof(opts.driver),
                   .backend = load->options->backend,
                   .spin_ns = spin_ns_of(load->options->spin_us)},
    };
    int rc = rdy_runtime_open(&load->runtime, &opts);

    if (rc == 0) {
        (void)snprintf(load->result->backend, sizeof(load->result->backend), "%s",
                       rdy_driver_backend_name(rdy_runtime_driver(load->runtime)));
        return 0;
    }
    complain(name, "cannot run: %s; %s", strerror(-rc), start_remedy(load->options->backend, rc));
    return rc;
}

static int load_execute(struct load *load, const char *name)
{
    struct handlers before;
    int rc = load_open_runtime(load, name);

    if (rc < 0)
        return rc;
    handlers_install(&before, load->runtime);
    rc = load_direct(load);
    load->result->has_begun = load->is_started;
    load->result->is_interrupted = was_interrupted != 0;
    handlers_restore(&before);
    rdy_runtime_close(load->runtime);
    if (rc < 0) {
        complain(name, "the engine failed: %s; try --backend epoll", strerror(-rc));
        return rc;
    }
    if (load->connect_rc < 0) {
        complain_about_connect(load, name, load->connect_rc);
        return load->connect_rc;
    }
    if (!load->is_started) {
        complain(name, "interrupted when %llu of %llu connections were made; nothing was sent",
                 (unsigned long long)load->connected,
                 (unsigned long long)load->options->connections);
        return -EINTR;
    }
    return 0;
}

int load_run(const struct load_options *options, const struct rdy_address *endpoint,
             const char *name, struct load_result *result)
{
    struct load *load = load_alloc(options);
    int rc;

    memset(result, 0, sizeof(*result));
    if (!load) {
        complain(name, "out of memory; use fewer --connections or a smaller --depth");
        return -ENOMEM;
    }
    load->options = options;
    load->result = result;
    load->endpoint = *endpoint;
    rc = load_execute(load, name);
    load_free(load);
    return rc;
}
