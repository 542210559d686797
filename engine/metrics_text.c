/* SPDX-License-Identifier: MIT */
/*
 * Snapshots as a text for Prometheus, in its exposition format 0.0.4: a table of the families, and
 * a buffer that counts on when it is full, so that one pass both measures and writes.
 */
#include <rdy/metrics.h>

#include <stdio.h>

#include "engine/base.h"

#define IS_COUNTER 0x1u
#define IS_TIME    0x2u /* nanoseconds, written as seconds */
#define NEEDS_TIME 0x4u /* only of a timed runtime */

/* The ends of the histogram's buckets: 64 ns, 128 ns and so on to 17 s. */
#define EDGE_MIN_NS (UINT64_C(1) << 6)
#define EDGE_MAX_NS (UINT64_C(1) << 34)

#define NS_PER_S      UINT64_C(1000000000)
#define NUMBER_SIZE   32 /* of the longest number with its NUL */
#define OFFSET(field) offsetof(struct rdy_metrics, field)

struct family {
    const char *name; /* without the prefix */
    const char *help;
    size_t offset;
    uint32_t flags;
};

static const struct family families[] = {
    {"spawned_tasks_total", "Tasks spawned.", OFFSET(spawned_tasks_count), IS_COUNTER},
    {"ended_tasks_total", "Tasks that finished, were aborted or ran into their deadline.",
     OFFSET(ended_tasks_count), IS_COUNTER},
    {"aborted_tasks_total", "Tasks ended by an abort.", OFFSET(aborted_tasks_count), IS_COUNTER},
    {"timed_out_tasks_total", "Tasks ended by their deadline.", OFFSET(timed_out_tasks_count),
     IS_COUNTER},
    {"remote_spawn_total", "Tasks that came from other threads.", OFFSET(remote_spawn_count),
     IS_COUNTER},
    {"remote_drop_total", "Tasks from other threads that could not begin.",
     OFFSET(remote_drop_count), IS_COUNTER},
    {"alive_tasks", "Tasks spawned and not ended.", OFFSET(alive_tasks), 0},
    {"poll_total", "Polls of tasks.", OFFSET(poll_count), IS_COUNTER},
    {"next_poll_total", "Polls right after the task that woke the polled one.",
     OFFSET(next_poll_count), IS_COUNTER},
    {"next_bound_total", "Times that such a poll let the queue go first.", OFFSET(next_bound_count),
     IS_COUNTER},
    {"budget_forced_yield_total", "Polls that used their budget up.",
     OFFSET(budget_forced_yield_count), IS_COUNTER},
    {"local_schedule_total", "Tasks queued by the thread of the runtime.",
     OFFSET(local_schedule_count), IS_COUNTER},
    {"remote_schedule_total", "Tasks queued by other threads.", OFFSET(remote_schedule_count),
     IS_COUNTER},
    {"remote_wake_total", "Wakes by other threads.", OFFSET(remote_wake_count), IS_COUNTER},
    {"stale_wake_total", "Wakes for tasks that were gone.", OFFSET(stale_wake_count), IS_COUNTER},
    {"local_queue_depth", "Tasks that wait for their poll.", OFFSET(local_queue_depth), 0},
    {"global_queue_depth", "Tasks left by other threads and not yet taken over.",
     OFFSET(global_queue_depth), 0},
    {"park_total", "Turns that asked the kernel to block.", OFFSET(park_count), IS_COUNTER},
    {"park_unpark_total", "Parks and the ends of parks; odd while the thread is blocked.",
     OFFSET(park_unpark_count), IS_COUNTER},
    {"noop_total", "Parks after which no task ran.", OFFSET(noop_count), IS_COUNTER},
    {"spin_total", "Waits that looked for a while before they slept.", OFFSET(spin_count),
     IS_COUNTER},
    {"spin_hit_total", "Of those, the ones in which something came.", OFFSET(spin_hit_count),
     IS_COUNTER},
    {"spin_seconds_total", "Time of those looks.", OFFSET(spin_duration_ns), IS_COUNTER | IS_TIME},
    {"batch_wait_total", "Waits for more than one event.", OFFSET(batch_wait_count), IS_COUNTER},
    {"batch_fill_total", "Of those, the ones in which so many came in time.",
     OFFSET(batch_fill_count), IS_COUNTER},
    {"timers_fired_total", "Timers fired.", OFFSET(timers_fired_count), IS_COUNTER},
    {"timers_armed", "Timers armed.", OFFSET(timers_armed), 0},
    {"io_driver_fd_registered_total", "Files registered.", OFFSET(io_driver_fd_registered_count),
     IS_COUNTER},
    {"io_driver_fd_deregistered_total", "Files let go.", OFFSET(io_driver_fd_deregistered_count),
     IS_COUNTER},
    {"io_driver_ready_total", "Events that reached a registration.", OFFSET(io_driver_ready_count),
     IS_COUNTER},
    {"io_driver_entries", "Registrations in use, or not let go by the kernel yet.",
     OFFSET(io_driver_entries), 0},
    {"io_driver_cancels_pending", "Registrations whose last event has not come.",
     OFFSET(io_driver_cancels_pending), 0},
    {"io_driver_turn_total", "Turns of the driver.", OFFSET(io_driver_turn_count), IS_COUNTER},
    {"io_driver_system_call_total", "System calls of the backend.",
     OFFSET(io_driver_system_call_count), IS_COUNTER},
    {"io_driver_waker_call_total", "Wakers run for readiness.", OFFSET(io_driver_waker_call_count),
     IS_COUNTER},
    {"io_driver_unpark_total", "Unparks that had to tell the kernel.",
     OFFSET(io_driver_unpark_count), IS_COUNTER},
    {"io_driver_coalesced_unpark_total", "Unparks that needed no system call.",
     OFFSET(io_driver_coalesced_unpark_count), IS_COUNTER},
    {"io_driver_rearm_total", "Polls that the kernel ended and that were armed again.",
     OFFSET(io_driver_rearm_count), IS_COUNTER},
    {"io_driver_overflow_total", "Of those, for want of room in the completion queue.",
     OFFSET(io_driver_overflow_count), IS_COUNTER},
    {"io_driver_stale_clear_total", "Clears that came too late and changed nothing.",
     OFFSET(io_driver_stale_clear_count), IS_COUNTER},
    {"io_driver_stale_token_total", "Tokens of the past that were refused.",
     OFFSET(io_driver_stale_token_count), IS_COUNTER},
    {"io_driver_spurious_wake_total", "Waits that ended with no readiness left.",
     OFFSET(io_driver_spurious_wake_count), IS_COUNTER},
    {"io_driver_closed_entry_fact_total", "Events for registrations that were closed.",
     OFFSET(io_driver_closed_entry_fact_count), IS_COUNTER},
    {"io_driver_set_after_shutdown_total", "Events after the shutdown.",
     OFFSET(io_driver_set_after_shutdown_count), IS_COUNTER},
    {"io_driver_interrupted_wait_total", "Waits that a signal ended.",
     OFFSET(io_driver_interrupted_wait_count), IS_COUNTER},
    {"io_driver_arm_retry_total", "Arms put off because the kernel had no room.",
     OFFSET(io_driver_arm_retry_count), IS_COUNTER},
    {"io_driver_arm_failure_total", "Arms refused for good.", OFFSET(io_driver_arm_failure_count),
     IS_COUNTER},
    {"io_driver_unpollable_file_total", "Files found unpollable late.",
     OFFSET(io_driver_unpollable_file_count), IS_COUNTER},
    {"io_driver_backend_move_total", "Moves from a lost io_uring to epoll.",
     OFFSET(io_driver_backend_move_count), IS_COUNTER},
    {"busy_duration_seconds_total", "Time in which the thread ran and neither blocked nor spun.",
     OFFSET(busy_duration_ns), IS_COUNTER | IS_TIME | NEEDS_TIME},
    {"queue_wait_seconds_total", "Time from wake to poll, of all tasks together.",
     OFFSET(queue_wait_ns), IS_COUNTER | IS_TIME | NEEDS_TIME},
    {"mean_poll_time_seconds", "Moving mean of the time of a poll.", OFFSET(mean_poll_time_ns),
     IS_TIME | NEEDS_TIME},
};

struct text {
    char *buf;
    size_t room; /* for all but the NUL */
    size_t len;  /* of the whole text */
};

static void put(struct text *text, const char *bytes, size_t len)
{
    size_t left = text->len < text->room ? text->room - text->len : 0;
    size_t fits = len < left ? len : left;

    if (fits > 0)
        memcpy(text->buf + text->len, bytes, fits);
    text->len += len;
}

static void put_string(struct text *text, const char *string)
{
    put(text, string, strlen(string));
}

static void put_number(struct text *text, uint64_t number)
{
    char digits[NUMBER_SIZE];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);

    rdy_assert(len > 0 && (size_t)len < sizeof(digits));
    put(text, digits, (size_t)len);
}

static void put_seconds(struct text *text, uint64_t ns)
{
    char digits[NUMBER_SIZE];
    int len = snprintf(digits, sizeof(digits), "%llu.%09llu", (unsigned long long)(ns / NS_PER_S),
                       (unsigned long long)(ns % NS_PER_S));

    rdy_assert(len > 0 && (size_t)len < sizeof(digits));
    put(text, digits, (size_t)len);
}

/* Backslash, quote and line feed are what the format has escapes for. */
static void put_escaped(struct text *text, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\n')
            put_string(text, "\\n");
        else if (*value == '"' || *value == '\\')
            put(text, (char[]){'\\', *value}, 2);
        else
            put(text, value, 1);
    }
}

static void put_label(struct text *text, const char *name, const char *value, bool is_first)
{
    put_string(text, is_first ? "{" : ",");
    put_string(text, name);
    put_string(text, "=\"");
    put_escaped(text, value);
    put_string(text, "\"");
}

static void put_head(struct text *text, const char *name, const char *help, const char *type)
{
    put_string(text, "# HELP rdy_");
    put_string(text, name);
    put_string(text, " ");
    put_string(text, help);
    put_string(text, "\n# TYPE rdy_");
    put_string(text, name);
    put_string(text, " ");
    put_string(text, type);
    put_string(text, "\n");
}

/* A sample's line up to its value. @extra: a label of the family's own; NULL: none. */
static void put_series(struct text *text, const char *name, const struct rdy_metrics_set *set,
                       const struct rdy_metrics_label *extra)
{
    bool is_first = true;

    put_string(text, "rdy_");
    put_string(text, name);
    for (size_t i = 0; i < set->labels_count; i++) {
        put_label(text, set->labels[i].name, set->labels[i].value, is_first);
        is_first = false;
    }
    if (extra) {
        put_label(text, extra->name, extra->value, is_first);
        is_first = false;
    }
    put_string(text, is_first ? " " : "} ");
}

static void put_family(struct text *text, const struct family *family,
                       const struct rdy_metrics_set *sets, size_t sets_count)
{
    bool has_head = false;

    for (size_t i = 0; i < sets_count; i++) {
        uint64_t value;

        if ((family->flags & NEEDS_TIME) && !sets[i].metrics->is_timed)
            continue;
        if (!has_head)
            put_head(text, family->name, family->help,
                     family->flags & IS_COUNTER ? "counter" : "gauge");
        has_head = true;
        memcpy(&value, (const char *)sets[i].metrics + family->offset, sizeof(value));
        put_series(text, family->name, &sets[i], NULL);
        if (family->flags & IS_TIME)
            put_seconds(text, value);
        else
            put_number(text, value);
        put_string(text, "\n");
    }
}

static void put_bucket(struct text *text, const struct rdy_metrics_set *set, const char *le,
                       uint64_t count)
{
    struct rdy_metrics_label label = {.name = "le", .value = le};

    put_series(text, "poll_time_seconds_bucket", set, &label);
    put_number(text, count);
    put_string(text, "\n");
}

static void put_histogram(struct text *text, const struct rdy_metrics_set *set)
{
    const struct rdy_metrics *metrics = set->metrics;
    uint64_t edge_ns = EDGE_MIN_NS;
    uint64_t count = 0;

    for (uint32_t i = 0; i < RDY_METRICS_BUCKETS; i++) {
        count += metrics->poll_time_buckets[i];
        if (rdy_metrics_bucket_max_ns(i) == edge_ns && edge_ns <= EDGE_MAX_NS) {
            char digits[NUMBER_SIZE];
            struct text le = {.buf = digits, .room = sizeof(digits) - 1};

            put_seconds(&le, edge_ns);
            rdy_assert(le.len <= le.room);
            digits[le.len] = '\0';
            put_bucket(text, set, digits, count);
            edge_ns *= 2;
        }
    }
    rdy_assert(edge_ns == EDGE_MAX_NS * 2);
    put_bucket(text, set, "+Inf", count);
    put_series(text, "poll_time_seconds_sum", set, NULL);
    put_seconds(text, metrics->poll_time_ns);
    put_string(text, "\n");
    put_series(text, "poll_time_seconds_count", set, NULL);
    put_number(text, count);
    put_string(text, "\n");
}

static void put_histograms(struct text *text, const struct rdy_metrics_set *sets, size_t sets_count)
{
    bool has_head = false;

    for (size_t i = 0; i < sets_count; i++) {
        if (!sets[i].metrics->is_timed)
            continue;
        if (!has_head)
            put_head(text, "poll_time_seconds", "Time of a poll.", "histogram");
        has_head = true;
        put_histogram(text, &sets[i]);
    }
}

static void put_backends(struct text *text, const struct rdy_metrics_set *sets, size_t sets_count)
{
    if (sets_count > 0)
        put_head(text, "backend_info", "What the driver runs on.", "gauge");
    for (size_t i = 0; i < sets_count; i++) {
        struct rdy_metrics_label label = {.name = "backend", .value = sets[i].metrics->backend};

        put_series(text, "backend_info", &sets[i], &label);
        put_string(text, "1\n");
    }
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool label_name_is_valid(const char *name)
{
    if (!is_letter(name[0]) || (name[0] == '_' && name[1] == '_'))
        return false;
    for (const char *c = name; *c != '\0'; c++)
        if (!is_letter(*c) && (*c < '0' || *c > '9'))
            return false;
    /* What the histogram and the backend's line add. */
    return strcmp(name, "le") != 0 && strcmp(name, "backend") != 0;
}

static bool labels_are_valid(const struct rdy_metrics_set *set)
{
    for (size_t i = 0; i < set->labels_count; i++) {
        if (!label_name_is_valid(set->labels[i].name))
            return false;
        for (size_t k = 0; k < i; k++)
            if (strcmp(set->labels[i].name, set->labels[k].name) == 0)
                return false;
    }
    return true;
}

ssize_t rdy_metrics_write_prometheus(const struct rdy_metrics_set *sets, size_t sets_count,
                                     char *buf, size_t buf_len)
{
    struct text text = {.buf = buf, .room = buf_len > 0 ? buf_len - 1 : 0};

    for (size_t i = 0; i < sets_count; i++)
        if (!labels_are_valid(&sets[i]))
            return -EINVAL;
    put_backends(&text, sets, sets_count);
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        put_family(&text, &families[i], sets, sets_count);
    put_histograms(&text, sets, sets_count);
    if (buf_len > 0)
        buf[text.len < text.room ? text.len : text.room] = '\0';
    rdy_assert(text.len <= INT64_MAX);
    return (ssize_t)text.len;
}
