/* SPDX-License-Identifier: MIT */
/*
 * The director: the one task that leads a run through its phases.
 *
 * It makes the connections, CONNECTING_MAX at a time so that the server's queue does not overflow;
 * starts them together; shows progress once a second; ends the measured time; and waits, bounded,
 * for the replies that are still owed. It is woken by a connection that got through, failed or
 * ended, and by its timer. The runtime's thread only.
 */
#include "apps/load.h"
#include "apps/load_source.h"
#include "apps/system.h"

#include <errno.h>
#include <unistd.h>

#define NS_PER_S       UINT64_C(1000000000)
#define CONNECTING_MAX 512
#define DRAIN_NS       (2 * NS_PER_S) /* how long replies are awaited after the end */

struct director {
    struct rdy_co co;
    struct load *load;
    struct rdy_timer timer;
    uint64_t tick_ns; /* when the director looks up next */
    uint64_t shown_ns;
    uint64_t requests_shown;
    uint64_t cpu_start_ns;
    bool is_terminal;
};

static uint64_t cpu_now_ns(void)
{
    uint64_t user_ns;
    uint64_t kernel_ns;

    system_cpu_ns(&user_ns, &kernel_ns);
    return user_ns + kernel_ns;
}

/* 0 when all are connected, RDY_PENDING, or the first error. */
static int director_connect(struct load *load)
{
    int rc;

    if (load->connect_rc < 0)
        return load->connect_rc;
    while (load->spawned < load->options->connections &&
           load->spawned - load->connected < CONNECTING_MAX) {
        rc = load_connection_spawn(load);
        if (rc < 0)
            return rc;
    }
    return load->connected == load->options->connections ? 0 : RDY_PENDING;
}

static void wake_connections(struct load *load)
{
    for (uint64_t i = 0; i < load->spawned; i++) {
        if (load->connections[i])
            load_connection_wake(load->connections[i]);
    }
}

static void director_start(struct director *director)
{
    struct load *load = director->load;

    if (load->options->on_window)
        load->options->on_window(load->options->on_window_arg, true);
    director->cpu_start_ns = cpu_now_ns();
    load->start_ns = system_now_ns();
    load->end_ns = load->start_ns + load->options->duration_ns;
    director->tick_ns = load->start_ns;
    director->shown_ns = load->start_ns;
    load->is_started = true;
    wake_connections(load);
}

static void director_finish(struct director *director)
{
    struct load *load = director->load;

    load->is_ended = true;
    load->result->window_ns = system_now_ns() - load->start_ns;
    load->result->cpu_ns = cpu_now_ns() - director->cpu_start_ns;
    if (load->options->on_window)
        load->options->on_window(load->options->on_window_arg, false);
    wake_connections(load);
}

/* 0 at the time of the next look, or when no connection is left; else RDY_PENDING. */
static int director_sleep(struct director *director, struct rdy_task *task)
{
    if (director->load->live == 0)
        return 0;
    return rdy_timer_poll_until(&director->timer, task, director->tick_ns);
}

static void director_next_tick(struct director *director)
{
    uint64_t end_ns = director->load->end_ns;

    director->tick_ns += NS_PER_S;
    if (director->tick_ns > end_ns)
        director->tick_ns = end_ns;
}

static void director_show(struct director *director)
{
    struct load *load = director->load;

    uint64_t now_ns = system_now_ns();

    if (director->is_terminal)
        load_report_progress(load, now_ns, load->result->requests - director->requests_shown,
                             now_ns - director->shown_ns);
    director->shown_ns = now_ns;
    director->requests_shown = load->result->requests;
}

static int director_poll(struct rdy_task *task, void *self)
{
    struct director *director = self;
    struct load *load = director->load;
    int rc;

    load->director = rdy_task_waker(task);
    RDY_BEGIN(&director->co);
    RDY_AWAIT(&director->co, rc = director_connect(load));
    if (rc < 0) {
        load->connect_rc = rc;
        rdy_runtime_stop(load->runtime);
        return rc;
    }
    director_start(director);
    while (director->tick_ns < load->end_ns && load->live > 0) {
        director_next_tick(director);
        RDY_AWAIT(&director->co, director_sleep(director, task));
        director_show(director);
    }
    director_finish(director);
    director->tick_ns = system_now_ns() + DRAIN_NS;
    RDY_AWAIT(&director->co, director_sleep(director, task));
    rdy_runtime_stop(load->runtime);
    RDY_END(&director->co);
    return 0;
}

/* An interrupted run has a measured time as well: up to now. */
static void director_drop(void *self)
{
    struct director *director = self;
    struct load *load = director->load;

    if (load->is_started && !load->is_ended)
        director_finish(director);
    (void)rdy_timer_cancel(&director->timer);
    load->director = (struct rdy_waker){0};
}

int load_direct(struct load *load)
{
    static const struct rdy_task_spec spec = {
        .poll = director_poll,
        .drop = director_drop,
        .self_size = sizeof(struct director),
    };
    struct director *director;
    void *self;
    int rc = rdy_spawn(load->runtime, &spec, &self, NULL);

    if (rc < 0)
        return rc;
    director = self;
    director->load = load;
    director->is_terminal = !load->options->is_json && isatty(STDERR_FILENO) != 0;
    load->is_spread = load_source_is_needed(load);
    return rdy_runtime_run(load->runtime);
}
