/* SPDX-License-Identifier: MIT */
/* One seed: opens a runtime as the weather has it, lets everything happen, and looks at the end. */
#include "tests/sim/scene.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "engine/lane.h"
#include "tests/sim/kernel.h"
#include "tests/sim/mail.h"
#include "tests/sim/mail_peers.h"
#include "tests/sim/peers.h"
#include "tests/sim/places.h"
#include "tests/sim/programs.h"

struct sim_scene sim_scene;

static const struct sockaddr_in tcp_address = {.sin_family = AF_INET, .sin_port = 1};
static const struct sockaddr_in guard_address = {.sin_family = AF_INET, .sin_port = 2};
static const struct sockaddr_un local_address = {.sun_family = AF_UNIX, .sun_path = "\0sim"};
static struct rdy_listener tcp_listener;
static struct rdy_listener local_listener;

/* --- reasons --- */

static bool is_broken(int fd)
{
    const struct sim_sock *sock = sim_sock_of(fd);

    return sock &&
           (sock->state != SIM_SOCK_CONNECTED || sock->peer->is_orphan || sock->peer->is_excused);
}

static bool has_reason(int fd, int error)
{
    const struct sim_weather *weather = &sim.weather;
    bool is_short = weather->shortage_one_of != 0;

    if (sim.is_overdue || (sim.was_lost && weather->is_forced))
        return true;
    switch (error) {
    case -ECANCELED: /* aborted, and the caller knows it */
        return weather->aborts_count > 0;
    case -ECONNRESET:
    case -EPIPE:
        return is_broken(fd) || (sim.was_lost && weather->is_completing);
    case -ENOMEM: /* epoll's limit of watches; a ring is asked again */
        return weather->spoilt_one_of != 0 && !sim_kernel_is_ring();
    case -EIO: /* a ring that died sending */
        return sim.was_lost;
    case -EMFILE:
        return is_short || weather->fds_max < SIM_FDS_MAX - SIM_FD_FIRST;
    default:
        return false;
    }
}

void sim_excuse(int fd, int error)
{
    struct sim_sock *sock = sim_sock_of(fd);

    if (!sock || !sock->peer)
        sim_fail("a session has descriptor %d, which is no connection", fd);
    if (!has_reason(fd, error))
        sim_fail("a session on descriptor %d ends with %s, for no reason", fd, strerror(-error));
    sock->peer->is_excused = true;
}

/* --- the begin --- */

static void open_runtime(void)
{
    const struct sim_weather *weather = &sim.weather;
    struct rdy_runtime_opts opts = {
        .size = sizeof(opts),
        .task_budget = weather->task_budget,
        .event_interval = weather->event_interval,
        .driver =
            {
                .size = sizeof(opts.driver),
                .backend =
                    weather->is_ring && weather->is_forced ? RDY_BACKEND_URING : RDY_BACKEND_AUTO,
                .cq_entries = weather->cq_entries,
                .events_max = weather->events_max,
                .buffers_count = weather->buffers_count,
                .buffer_size = weather->buffer_size,
                .recv_queue_max = weather->recv_queue_max,
                .send_queue_max = weather->send_queue_max,
                .batch_count = weather->batch_count,
                .batch_wait_us = weather->batch_wait_us,
                .is_batch_learnt = weather->is_batch_learnt,
            },
    };

    sim_check(rdy_runtime_open(&sim_scene.runtime, &opts) == 0);
}

/* A shortage may be in the way for a while. */
static void serve(struct rdy_listener *listener, const struct sockaddr *addr, socklen_t addr_len)
{
    struct rdy_listen_opts opts = {.size = sizeof(opts),
                                   .backlog = (int)sim_between(1, 20),
                                   .is_completing = sim.weather.is_completing};
    int rc;

    do {
        rc = rdy_listener_open(listener, sim_scene.runtime, addr, addr_len, &opts);
    } while (rc == -EMFILE || (rc == -ENOMEM && sim.weather.spoilt_one_of));
    sim_check(rc == 0);
    sim_check(rdy_serve(sim_scene.runtime, listener, &sim_session_spec, NULL) == 0);
}

void sim_scene_shut(void)
{
    sim_note("the runtime is asked to shut down", 0, 0, 0);
    sim.is_overdue = true;
    sim.cut_at_ns = sim.now_ns + sim.weather.grace_ns;
    sim_check(rdy_runtime_shutdown(sim_scene.runtime, sim.weather.grace_ns) == 0);
}

static void time_to_shut(void *arg, uint64_t unused)
{
    (void)arg;
    (void)unused;
    if (!sim.is_overdue)
        sim_scene_shut();
}

static void begin(void)
{
    struct sim_place places[SIM_PLACES_MAX] = {
        {(const struct sockaddr *)&tcp_address, sizeof(tcp_address)}};
    uint32_t places_count = 1;

    rdy_list_init(&sim_scene.sessions);
    open_runtime();
    serve(&tcp_listener, places[0].addr, places[0].addr_len);
    if (sim.weather.has_unix) {
        places[places_count] =
            (struct sim_place){(const struct sockaddr *)&local_address, sizeof(local_address)};
        serve(&local_listener, places[places_count].addr, places[places_count].addr_len);
        places_count++;
    }
    if (sim.weather.has_guard) {
        places[places_count] =
            (struct sim_place){(const struct sockaddr *)&guard_address, sizeof(guard_address)};
        sim_guard_begin(places[places_count].addr, places[places_count].addr_len);
        places_count++;
    }
    sim_peers_begin(places, places_count);
    sim_acts_begin(sim_scene.runtime);
    sim_places_begin();
    sim_callers_begin();
    sim_mail_peers_begin();
    sim_posts_begin();
    if (sim.weather.shutdown_ns != SIM_NEVER)
        sim_after(sim.weather.shutdown_ns, time_to_shut, NULL, 0);
}

/* --- the end --- */

bool sim_scene_quiet(void)
{
    if (sim.is_overdue)
        sim_fail("the runtime was asked to shut down, and waits for ever; %llu tasks live",
                 (unsigned long long)rdy_runtime_tasks_live(sim_scene.runtime));
    sim_note("all is quiet", 0, 0, 0);
    sim.was_quiet = true;
    sim_peers_check();
    sim_check(sim_scene.errands == 0);
    sim_scene_check_levels();
    sim_mail_check();
    sim_scene_shut();
    return true;
}

static void check_empty(void)
{
    struct rdy_runtime_stats tasks;
    struct rdy_driver_stats driver;
    struct rdy_completion_stats completion;
    struct rdy_copy_stats copies;
    const struct rdy_completion *lanes = rdy_runtime_driver(sim_scene.runtime)->completion;
    bool was_lost = sim.was_lost;

    (void)rdy_driver_shutdown(rdy_runtime_driver(sim_scene.runtime));
    if (sim.was_lost != was_lost)
        return; /* what a ring has that dies now is given back by the close */
    rdy_runtime_read_stats(sim_scene.runtime, &tasks);
    rdy_driver_read_stats(rdy_runtime_driver(sim_scene.runtime), &driver);
    rdy_completion_read_stats(sim_scene.runtime, &completion);
    rdy_copy_read_stats(sim_scene.runtime, &copies);
    sim_check(tasks.tasks_live == 0);
    sim_check(driver.entries_live == 0);
    sim_check(driver.cancels_pending == 0);
    sim_check(completion.blocks_live == 0);
    sim_check(completion.buffers_free == completion.buffers_total);
    sim_check(!lanes || lanes->lanes_count == 0);
    sim_check(copies.buffers_live == 0);
    sim_check(copies.pipes_live == copies.pipes_spare);
    /* The deadline of the shutdown itself may still be armed. */
    sim_check(tasks.timers_armed <= 1);
}

static void end(int rc)
{
    bool is_dead = rc < 0 || sim_scene.runtime->driver->death != 0;

    if (rc < 0 && !(sim.was_lost && sim.weather.is_forced))
        sim_fail("the run ends with %s", strerror(-rc));
    /* An accept task that was cut off leaves its listener open. */
    rdy_listener_close(&tcp_listener);
    rdy_listener_close(&local_listener);
    if (!is_dead)
        check_empty();
    rdy_runtime_close(sim_scene.runtime);
    sim_scene.runtime = NULL;
    sim_check(sim_kernel_is_closed());
}

void sim_scene_run(uint64_t seed, bool is_tracing)
{
    sim_scene = (struct sim_scene){0};
    tcp_listener.fd = -1;
    local_listener.fd = -1;
    sim_begin(seed, is_tracing);
    begin();
    end(rdy_runtime_run(sim_scene.runtime));
    sim_note("the end: bytes that came back", (int64_t)sim_peers_heard(), sim_scene.sessions_count,
             0);
    if (sim_fds_open() != 0)
        sim_fail("%u descriptors are left open", sim_fds_open());
    if (sim_files_open() != 0)
        sim_fail("%u files are left open", sim_files_open());
    sim_peers_end();
    sim_end();
    sim_mail_end();
    sim_net_end();
}
