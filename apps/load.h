/* SPDX-License-Identifier: MIT */
/*
 * The load generator's parts: options, the run, a connection, the result.
 *
 * One thread, one runtime. A run has three phases: every connection is made; all start together and
 * send for the duration; what is still owed is awaited, for a bounded time. Time and latency count
 * from the second phase on.
 */
#ifndef RDY_APPS_LOAD_H
#define RDY_APPS_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include <rdy/rdy.h>

#include "apps/histogram.h"
#include "apps/options.h"
#include "apps/pattern.h"
#include "apps/resolve.h"

#define LOAD_LATE_NS UINT64_C(1000000) /* a send this far behind its schedule is late */

struct load_options {
    struct rdy_endpoint connect;
    uint64_t connections;
    uint64_t message_size; /* bytes */
    uint64_t duration_ns;
    uint64_t depth;                   /* messages in flight on a connection, in the closed loop */
    uint64_t rate;                    /* messages a second over all connections; 0: closed loop */
    uint64_t requests_per_connection; /* closed loop: then another takes its place; 0: no end */
    enum rdy_backend_kind backend;
    enum io_mode mode;
    uint64_t spin_us;
    bool is_json;

    /* Called at the start and at the end of the measured time; may be NULL. */
    void (*on_window)(void *arg, bool is_start);
    void *on_window_arg;
};

/* What went wrong with connections after they were made, and with what they received. */
struct load_errors {
    uint64_t resets;           /* connections the peer reset */
    uint64_t ended_early;      /* connections the peer closed while it owed replies */
    uint64_t timeouts;         /* connections that timed out */
    uint64_t others;           /* connections that failed otherwise; @other_error is the last */
    uint64_t unanswered;       /* messages without a whole reply at the end of the run */
    uint64_t mismatched_bytes; /* bytes that are not the ones sent, or were never sent */
    int other_error;
};

struct load_result {
    struct histogram latency; /* nanoseconds */
    struct load_errors errors;
    uint64_t renewals;        /* connections begun in the place of others */
    uint64_t requests;        /* replies completed in the measured time */
    uint64_t bytes;           /* received in the measured time */
    uint64_t sends_scheduled; /* open loop: messages that fell due */
    uint64_t sends_late;      /* open loop: of those, noticed LOAD_LATE_NS late or more */
    uint64_t window_ns;
    uint64_t cpu_ns; /* this process's, in the measured time */
    char backend[16];
    bool has_begun; /* all connections were made, and sent */
    bool is_interrupted;
};

struct load_connection;

/* The state that the connections of a run share. */
struct load {
    const struct load_options *options;
    struct load_result *result;
    struct rdy_runtime *runtime;
    struct rdy_address endpoint;
    struct pattern pattern;
    unsigned char *buffer; /* PATTERN_CHUNK bytes to receive into; borrowed for one read */
    struct load_connection **connections;
    struct rdy_waker director; /* wants to hear of connects, failures and ends */
    uint64_t spawned;
    uint64_t connected;
    uint64_t opened; /* connections begun, renewals too */
    uint64_t live;
    uint64_t start_ns;
    uint64_t end_ns;
    int connect_rc;  /* the first failure to connect */
    bool is_spread;  /* over several source addresses */
    bool is_started; /* connections may send */
    bool is_ended;   /* no new messages; measured time is over */
};

/**
 * load_run() - make the connections, run the load, collect the result
 * @options:  borrowed; checked by the caller
 * @endpoint: borrowed
 * @name:     of the command, for complaints
 * @result:   overwritten
 *
 * Context: takes the calling thread for the duration; SIGINT and SIGTERM end the run early.
 * Return:  0, or -errno after one complaint.
 */
int load_run(const struct load_options *options, const struct rdy_address *endpoint,
             const char *name, struct load_result *result);

/* The measured run itself, on an open runtime: see load_director.c. 0 or -errno. */
int load_direct(struct load *load);

/* True if anything was lost, wrong or refused. */
bool load_has_errors(const struct load_result *result);

/* Starts the next connection in a task of its own. 0 or -errno. */
int load_connection_spawn(struct load *load);

/* Polls the connection again: the run has started, or has ended. */
void load_connection_wake(struct load_connection *connection);

void load_report_text(const struct load_options *options, const struct load_result *result);
void load_report_json(const struct load_options *options, const struct load_result *result);

/* Rewrites the progress line on stderr, with the rate of the last @span_ns. */
void load_report_progress(const struct load *load, uint64_t now_ns, uint64_t requests,
                          uint64_t span_ns);

#endif
