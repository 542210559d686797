/* SPDX-License-Identifier: MIT */
/* Draws the weather of a seed: each bad habit is on in some seeds, at one of several rates. */
#include <errno.h>

#include "tests/sim/files.h"
#include "tests/sim/mail.h"
#include "tests/sim/peers.h"
#include "tests/sim/programs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t pick(const uint64_t *values, size_t count)
{
    return values[sim_below(count)];
}

#define PICK(...)                                                                                  \
    (pick((const uint64_t[]){__VA_ARGS__}, COUNT_OF(((const uint64_t[]){__VA_ARGS__}))))

/* Off in two of three seeds. */
static uint32_t habit(uint32_t often, uint32_t seldom)
{
    return sim_below(3) ? 0 : (uint32_t)sim_between(often, seldom);
}

/* Some of the kinds, at least one. */
static uint32_t some_of(uint32_t kinds)
{
    uint32_t all = (1u << kinds) - 1;
    uint32_t some = sim_below(3) ? (uint32_t)sim_random() & all : 1u << sim_below(kinds);

    return some ? some : all;
}

static void draw_kernel(struct sim_weather *weather)
{
    weather->is_ring = sim_below(4) != 0;
    weather->is_lend_refused = sim_below(8) == 0;
    weather->is_keeping_order = sim_below(2);
    weather->is_reset_clearing = sim_below(2);
    weather->cq_entries = (uint32_t)PICK(2, 4, 16, 64, 1024, 4096, 4096, 4096);
    weather->events_max = (uint32_t)PICK(1, 3, 64, 1024);
    weather->late_one_of = habit(1, 8);
    weather->late_ns = PICK(10 * SIM_US, SIM_MS, 5 * SIM_MS);
    weather->busy_one_of = habit(2, 40);
    weather->ended_one_of = habit(2, 40);
    weather->spoilt_one_of = habit(3, 60);
    weather->already_one_of = habit(1, 6);
    weather->stalled_one_of = habit(2, 20);
    weather->signal_one_of = habit(2, 30);
    weather->short_one_of = habit(2, 10);
    weather->ghost_one_of = habit(2, 20);
    weather->relook_one_of = habit(1, 6);
    weather->shortage_one_of = habit(10, 100);
    weather->is_dropping = sim_below(12) == 0;
    weather->fds_max =
        (uint32_t)PICK(8, 20, SIM_FDS_MAX - SIM_FD_FIRST, SIM_FDS_MAX - SIM_FD_FIRST);
    if (sim_below(8) == 0) {
        static const int errors[] = {-EPERM, -ENOSYS, -EACCES, -EOWNERDEAD, -ENXIO};

        weather->death_at = sim_between(1, PICK(20, 200, 2000));
        weather->death_error = errors[sim_below(COUNT_OF(errors))];
    }
    weather->is_forced = sim_below(4) == 0;
}

static void draw_engine(struct sim_weather *weather)
{
    weather->buffers_count = (uint32_t)PICK(1, 2, 4, 64, 128);
    weather->buffer_size = (uint32_t)PICK(64, 100, 512, 4096);
    weather->recv_queue_max = (uint32_t)PICK(1, 2, 16);
    weather->send_queue_max = (uint32_t)PICK(1, 300, 4096, 65536);
    weather->task_budget = (uint32_t)PICK(1, 2, 3, 16, 128, 128);
    weather->event_interval = (uint32_t)PICK(1, 2, 61);
    weather->is_completing = sim_below(2);
    weather->can_batch = sim_below(2);
    weather->batch_count = (uint32_t)PICK(0, 1, 2, 5, 64);
    weather->is_batch_learnt = sim_below(2);
    weather->batch_wait_us = (uint32_t)PICK(1, 50, 2000);
}

static void draw_mail(struct sim_weather *weather)
{
    weather->posts_count = (uint32_t)sim_between(1, 2);
    weather->askers_count = (uint32_t)sim_below(4);
    weather->mail_peers = (uint32_t)sim_between(1, 5);
    weather->letter_max = (uint32_t)PICK(8, 60, 300, SIM_LETTER_MAX);
    weather->mail_room = (uint32_t)PICK(300, 1000, 3000, 100000);
    weather->mail_queue = (uint32_t)PICK(2000, 5000, 100000);
    weather->is_mail_refused = sim_below(8) == 0;
    weather->loss_one_of = habit(2, 20);
    weather->refuse_one_of = habit(2, 30);
    weather->send_queue_max = (uint32_t)PICK(1, 1000, 65536);
    if (sim_below(3) == 0) { /* room for all that is said at once */
        weather->send_queue_max = 65536;
        weather->mail_room = 100000;
        weather->task_budget = 128;
    } else if (sim_below(3) == 0) { /* or hardly for anything */
        weather->mail_room = 300;
        weather->busy_one_of = (uint32_t)sim_between(2, 6);
    }
    if (sim_below(3))
        weather->is_completing = true;
    if (weather->is_completing && sim_below(4))
        weather->buffer_size = (uint32_t)PICK(512, 700, 4096);
}

/* What an urgent mark can do to a reader is seldom, so some seeds are about nothing else. */
static void draw_urgent(struct sim_weather *weather)
{
    weather->is_ring = true;
    weather->is_completing = false;
    weather->death_at = 0;
    weather->relook_one_of = 0;
    weather->late_one_of = 0;
    weather->sessions = 1u << SIM_SESSION_READ;
    weather->peers = 1u << SIM_PEER_URGENT;
    weather->has_unix = false;
    weather->has_guard = false;
}

/* That a ring dies with much in it is seldom, too. */
static void draw_loss(struct sim_weather *weather)
{
    weather->is_ring = true;
    weather->is_forced = false;
    weather->is_lend_refused = false;
    weather->is_completing = true;
    weather->death_at = sim_between(2, 300);
    weather->death_error = sim_below(2) ? -EPERM : -EOWNERDEAD;
    weather->callers_count = 4;
    draw_mail(weather);
}

/* How long to wait is learnt of many connections only, and of them not all come at once. */
static void draw_crowd(struct sim_weather *weather)
{
    weather->is_ring = true;
    weather->is_lend_refused = false;
    weather->is_completing = true;
    weather->can_batch = true;
    weather->is_batch_learnt = true;
    weather->batch_count = (uint32_t)PICK(0, 2, 16);
    weather->buffers_count = 64;
    weather->events_max = 64;
    weather->fds_max = SIM_FDS_MAX - SIM_FD_FIRST;
    weather->shutdown_ns = SIM_NEVER;
    weather->peers_count = (uint32_t)sim_between(32, 64);
}

void sim_draw_weather(struct sim_weather *weather)
{
    draw_kernel(weather);
    draw_engine(weather);
    weather->flow_min = (uint32_t)PICK(64, 600, 2000);
    weather->flow_max = weather->flow_min + (uint32_t)PICK(1, 1000, 8000);
    weather->travel_ns = PICK(2, 5 * SIM_US, 100 * SIM_US, 2 * SIM_MS);
    weather->pause_ns = PICK(2, 20 * SIM_US, 500 * SIM_US, 3 * SIM_MS);
    weather->shutdown_ns = sim_below(4) ? SIM_NEVER : sim_below(60 * SIM_MS);
    weather->grace_ns = PICK(0, SIM_MS, 10 * SIM_S);
    weather->peers_count = (uint32_t)sim_between(1, PICK(2, 8, 24));
    weather->aborts_count = habit(1, 6);
    weather->sleepers_count = habit(1, 5);
    weather->sessions = some_of(SIM_SESSION_KINDS);
    weather->peers = some_of(SIM_PEER_KINDS);
    if (weather->peers == 1u << SIM_PEER_URGENT)
        weather->peers |= 1u << SIM_PEER_FAITHFUL;
    weather->has_unix = sim_below(2);
    weather->has_guard = sim_below(3) == 0;
    weather->callers_count = sim_below(2) ? 0 : (uint32_t)sim_between(1, 4);
    weather->early_one_of = habit(1, 4);
    if (sim_below(3) == 0)
        draw_mail(weather);
    if (sim_below(16) == 0)
        draw_urgent(weather);
    else if (sim_below(10) == 0)
        draw_loss(weather);
    else if (sim_below(16) == 0)
        draw_crowd(weather);
    if (weather->is_completing && weather->sessions == 1u << SIM_SESSION_VECTOR)
        weather->sessions |= 1u << SIM_SESSION_RECV;
    /* Who waits long for a connection would keep descriptors from those who are accepted. */
    if (weather->fds_max <= SIM_SLEEPERS_FDS_MIN) {
        weather->callers_count = 0;
        weather->posts_count = 0;
        weather->askers_count = 0;
    }
}
