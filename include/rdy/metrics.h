/* SPDX-License-Identifier: MIT */
/*
 * Metrics: a runtime's counters and gauges in one snapshot, and as a text that Prometheus reads.
 *
 * Names are Tokio's where Tokio has one for the same thing (its RuntimeMetrics, of a runtime with
 * one worker). It has none for what io_uring adds; and ours has nothing that its steal and overflow
 * counters could count, for a runtime's run queue is a list that no other runtime takes from.
 *
 * Counting is always on and costs a load and a store an event. What needs a clock is on only in a
 * runtime that was opened with is_timed: then a poll costs some 30 ns more.
 */
#ifndef RDY_METRICS_H
#define RDY_METRICS_H

#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/*
 * Poll times fall into log-linear buckets, as in HdrHistogram (Tene 2012): four to each power of
 * two, from 1 ns to 2^36 ns (69 s), and one for what took longer. So a bucket's upper end is above
 * any time in it by less than a quarter, and the memory is fixed.
 */
#define RDY_METRICS_BUCKETS 141u

struct rdy_metrics {
    const char *backend; /* "io_uring" or "epoll"; static storage */

    /* Tasks. What ends in _count is a counter, what does not is a gauge. */
    uint64_t spawned_tasks_count;
    uint64_t ended_tasks_count;         /* finished, aborted and timed out */
    uint64_t aborted_tasks_count;       /* by rdy_task_abort() */
    uint64_t timed_out_tasks_count;     /* by their deadline */
    uint64_t remote_spawn_count;        /* by rdy_spawn_remote(); in spawned_tasks_count, too */
    uint64_t remote_drop_count;         /* handed over by it, but could not begin */
    uint64_t alive_tasks;               /* spawned and not ended */
    uint64_t poll_count;                /* calls of poll functions */
    uint64_t next_poll_count;           /* of those, right after the task that woke the polled */
    uint64_t next_bound_count;          /* times that such a poll let the queue go first */
    uint64_t budget_forced_yield_count; /* polls that used their budget up */
    uint64_t local_schedule_count;      /* spawns, wakes and yields by the runtime's own thread */
    uint64_t remote_schedule_count;     /* spawns and wakes that came from others, and queued */
    uint64_t remote_wake_count;         /* all wakes that came from other threads */
    uint64_t stale_wake_count;          /* wakes for tasks that were gone */
    uint64_t local_queue_depth;         /* tasks that wait for their poll */
    uint64_t global_queue_depth;        /* left by other threads, not yet taken over */

    /* The thread: how it waits. */
    uint64_t park_count;        /* turns that asked the kernel to block */
    uint64_t park_unpark_count; /* those, and their ends: odd while the thread is blocked */
    uint64_t noop_count;        /* parks after which no task ran */
    uint64_t spin_count;        /* waits that looked for a while before they slept (spin_ns) */
    uint64_t spin_hit_count;    /* those in which something came */
    uint64_t spin_duration_ns;  /* how long they looked, together */
    uint64_t batch_wait_count;  /* waits for more than one event (batch_count) */
    uint64_t batch_fill_count;  /* those in which so many came in time */
    uint64_t timers_fired_count;
    uint64_t timers_armed;

    /* The driver. */
    uint64_t io_driver_fd_registered_count;
    uint64_t io_driver_fd_deregistered_count;
    uint64_t io_driver_ready_count; /* events that reached a registration */
    uint64_t io_driver_entries;     /* registrations in use, or not let go by the kernel yet */
    uint64_t io_driver_cancels_pending;
    uint64_t io_driver_turn_count;
    uint64_t io_driver_system_call_count;
    uint64_t io_driver_waker_call_count;
    uint64_t io_driver_unpark_count;           /* that had to tell the kernel */
    uint64_t io_driver_coalesced_unpark_count; /* that had not */
    uint64_t io_driver_rearm_count;
    uint64_t io_driver_overflow_count;
    uint64_t io_driver_stale_clear_count;
    uint64_t io_driver_stale_token_count;
    uint64_t io_driver_spurious_wake_count;
    uint64_t io_driver_closed_entry_fact_count;
    uint64_t io_driver_set_after_shutdown_count;
    uint64_t io_driver_interrupted_wait_count;
    uint64_t io_driver_arm_retry_count;
    uint64_t io_driver_arm_failure_count;
    uint64_t io_driver_unpollable_file_count;
    uint64_t io_driver_backend_move_count;

    /* Of a runtime opened with is_timed; else zero. */
    bool is_timed;
    uint64_t busy_duration_ns;  /* running and not blocked or spinning, up to the last turn */
    uint64_t poll_time_ns;      /* in polls, and in the drops of the tasks that they ended */
    uint64_t mean_poll_time_ns; /* moving: each poll counts for a sixteenth */
    uint64_t queue_wait_ns;     /* of all tasks together: over poll_count, from wake to poll */
    uint64_t poll_time_buckets[RDY_METRICS_BUCKETS];
};

/**
 * rdy_metrics_read() - take a snapshot
 * @runtime: borrowed; must not be closed meanwhile
 * @metrics: borrowed; overwritten
 *
 * Each number is whole, and a counter never goes back from one snapshot to the next (but for that
 * of system calls while the driver moves to another backend); the set is not one instant. A gauge
 * that is read while tasks run is off by what came and went meanwhile.
 *
 * Context: any thread. Takes a lock that registering a file takes as well, for some 10 ns.
 */
RDY_API void rdy_metrics_read(struct rdy_runtime *runtime, struct rdy_metrics *metrics);

/* The longest time that bucket @bucket counts, in ns; UINT64_MAX for the last. Any thread. */
RDY_API uint64_t rdy_metrics_bucket_max_ns(uint32_t bucket);

/* A label of a series: who the numbers are of. */
struct rdy_metrics_label {
    const char *name;  /* [a-zA-Z_][a-zA-Z0-9_]*; not "le", "backend", or with two "_" first */
    const char *value; /* UTF-8; what the format wants escaped is escaped */
};

/* A runtime's snapshot, and the labels that tell its series from those of the others. */
struct rdy_metrics_set {
    const struct rdy_metrics *metrics;
    const struct rdy_metrics_label *labels; /* may be NULL */
    size_t labels_count;
};

/**
 * rdy_metrics_write_prometheus() - the text of one or more snapshots, in Prometheus' format 0.0.4
 * @sets:       borrowed; one for each runtime
 * @sets_count: may be 0: an empty text
 * @buf:        receives the text, and a NUL behind it, as far as there is room
 * @buf_len:    bytes; with 0 @buf may be NULL
 *
 * Every family is there once, with a HELP and a TYPE line and then a series for each runtime. Names
 * begin with rdy_, times are in seconds, counters end in _total. The poll times are a histogram
 * with a bucket for each power of two from 64 ns to 17 s. What is measured only with is_timed is
 * left out for the other runtimes. Allocates nothing.
 *
 * Context: any thread.
 * Return:  the bytes that the whole text takes, without the NUL, as snprintf(3): with @buf_len or
 *          more @buf was too small. -EINVAL: a label's name is not one, or stands twice in a set.
 */
RDY_API RDY_NODISCARD ssize_t rdy_metrics_write_prometheus(const struct rdy_metrics_set *sets,
                                                           size_t sets_count, char *buf,
                                                           size_t buf_len);

RDY_END_DECLS

#endif
