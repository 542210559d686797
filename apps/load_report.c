/* SPDX-License-Identifier: MIT */
/* What a load run found, as text for a person or as JSON for a program. */
#include "apps/load.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define CPU_SATURATED  0.90 /* of one processor */
#define LATE_SATURATED 0.01 /* of the scheduled sends */

static double seconds(uint64_t duration_ns)
{
    return (double)duration_ns / 1e9;
}

static double per_second(uint64_t count, uint64_t duration_ns)
{
    return duration_ns > 0 ? (double)count / seconds(duration_ns) : 0;
}

static double percentile_us(const struct load_result *result, double percent)
{
    return (double)histogram_percentile(&result->latency, percent) / 1e3;
}

static double cpu_share(const struct load_result *result)
{
    return result->window_ns > 0 ? (double)result->cpu_ns / (double)result->window_ns : 0;
}

static double late_share(const struct load_result *result)
{
    return result->sends_scheduled > 0
               ? (double)result->sends_late / (double)result->sends_scheduled
               : 0;
}

static bool is_saturated(const struct load_result *result)
{
    return cpu_share(result) > CPU_SATURATED || late_share(result) > LATE_SATURATED;
}

bool load_has_errors(const struct load_result *result)
{
    const struct load_errors *errors = &result->errors;

    return errors->resets + errors->ended_early + errors->timeouts + errors->others +
               errors->unanswered + errors->mismatched_bytes >
           0;
}

static void print_count(const char *what, uint64_t count)
{
    if (count > 0)
        (void)printf("  %-18s %llu\n", what, (unsigned long long)count);
}

static void print_errors(const struct load_result *result)
{
    const struct load_errors *errors = &result->errors;

    if (!load_has_errors(result)) {
        (void)printf("errors        none\n");
        return;
    }
    (void)printf("errors\n");
    print_count("mismatched bytes", errors->mismatched_bytes);
    print_count("resets", errors->resets);
    print_count("ended early", errors->ended_early);
    print_count("timeouts", errors->timeouts);
    print_count("unanswered", errors->unanswered);
    if (errors->others > 0)
        (void)printf("  %-18s %llu (the last: %s)\n", "other", (unsigned long long)errors->others,
                     strerror(-errors->other_error));
}

static void print_warnings(const struct load_result *result)
{
    if (cpu_share(result) > CPU_SATURATED)
        (void)printf("warning: the generator itself used %.0f %% of a processor; "
                     "the server may be "
                     "faster than this shows\n",
                     100 * cpu_share(result));
    if (late_share(result) > LATE_SATURATED)
        (void)printf("warning: %.1f %% of the sends were noticed over 1 ms late; "
                     "the generator "
                     "did not keep up with --rate\n",
                     100 * late_share(result));
}

void load_report_text(const struct load_options *options, const struct load_result *result)
{
    (void)printf("%llu connections, %llu bytes, %s, %.1f s, load on %s%s\n",
                 (unsigned long long)options->connections,
                 (unsigned long long)options->message_size,
                 options->rate > 0 ? "open loop" : "closed loop", seconds(result->window_ns),
                 result->backend, result->is_interrupted ? " (interrupted)" : "");
    (void)printf("requests      %llu, %.0f a second, %.2f MiB/s each way\n",
                 (unsigned long long)result->requests,
                 per_second(result->requests, result->window_ns),
                 per_second(result->bytes, result->window_ns) / 1048576.0);
    if (options->requests_per_connection > 0)
        (void)printf("renewals      %llu connections, %.0f a second\n",
                     (unsigned long long)result->renewals,
                     per_second(result->renewals, result->window_ns));
    (void)printf("latency us    p50 %.1f, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n",
                 percentile_us(result, 50), percentile_us(result, 90), percentile_us(result, 99),
                 percentile_us(result, 99.9), (double)result->latency.max / 1e3);
    (void)printf("generator     %.0f %% of a processor\n", 100 * cpu_share(result));
    print_errors(result);
    print_warnings(result);
}

static json_t *errors_json(const struct load_errors *errors)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "mismatched_bytes",
                     (json_int_t)errors->mismatched_bytes, "resets", (json_int_t)errors->resets,
                     "ended_early", (json_int_t)errors->ended_early, "timeouts",
                     (json_int_t)errors->timeouts, "others", (json_int_t)errors->others,
                     "unanswered", (json_int_t)errors->unanswered);
}

static json_t *latency_json(const struct load_result *result)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "p50",
                     (json_int_t)histogram_percentile(&result->latency, 50), "p90",
                     (json_int_t)histogram_percentile(&result->latency, 90), "p99",
                     (json_int_t)histogram_percentile(&result->latency, 99), "p99_9",
                     (json_int_t)histogram_percentile(&result->latency, 99.9), "max",
                     (json_int_t)result->latency.max);
}

void load_report_json(const struct load_options *options, const struct load_result *result)
{
    json_t *root = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:o, s:o, s:f, s:I, s:I, "
        "s:b, s:b}",
        "backend", result->backend, "connections", (json_int_t)options->connections, "size_bytes",
        (json_int_t)options->message_size, "depth", (json_int_t)options->depth, "rate",
        (json_int_t)options->rate, "requests_per_connection",
        (json_int_t)options->requests_per_connection, "renewals", (json_int_t)result->renewals,
        "window_ns", (json_int_t)result->window_ns, "requests", (json_int_t)result->requests,
        "requests_per_second", per_second(result->requests, result->window_ns), "bytes",
        (json_int_t)result->bytes, "latency_ns", latency_json(result), "errors",
        errors_json(&result->errors), "generator_cpu_share", cpu_share(result), "sends_scheduled",
        (json_int_t)result->sends_scheduled, "sends_late", (json_int_t)result->sends_late,
        "is_saturated", (int)is_saturated(result), "is_interrupted", (int)result->is_interrupted);

    if (!root)
        return;
    (void)json_dumpf(root, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(root);
}

void load_report_progress(const struct load *load, uint64_t now_ns, uint64_t requests,
                          uint64_t span_ns)
{
    (void)fprintf(stderr, "\r%5.1f s  %10.0f requests a second  p99 %.1f us  %llu connections  ",
                  seconds(now_ns - load->start_ns), per_second(requests, span_ns),
                  percentile_us(load->result, 99), (unsigned long long)load->live);
    if (now_ns >= load->end_ns)
        (void)fputc('\n', stderr);
    (void)fflush(stderr);
}
