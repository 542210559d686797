/* SPDX-License-Identifier: MIT */
/*
 * The simulated epoll, edge-triggered: watches that hold no file, and a list of those that are
 * perhaps ready, whose state is looked at when it is asked for.
 */
#include <stdlib.h>

#include "engine/scheduled_io.h"
#include "tests/sim/kernel.h"

#define WATCHES_MAX 1024u
#define GHOSTS_MAX  8u

#define UNMASKABLE (RDY_EV_ERR | RDY_EV_HUP | RDY_EV_RDHUP)

struct watch {
    struct sim_waiter waiter; /* first */
    struct sim_sock *sock;    /* NULL: it was closed, and the watch with it */
    int fd;
    uint64_t token;
    uint32_t events;
    uint64_t ready; /* its place among those that may be ready; 0: it is not */
};

struct epoll {
    struct rdy_backend backend; /* first */
    bool is_woken;
    uint64_t places;
    struct watch *watches[WATCHES_MAX];
    uint32_t watches_count;
    uint64_t ghosts[GHOSTS_MAX]; /* tokens that were disarmed */
    uint32_t ghosts_count;
};

static const struct rdy_backend_ops epoll_ops;
static struct epoll *the_epoll;

static struct epoll *epoll_of(struct rdy_backend *backend)
{
    return rdy_container_of(backend, struct epoll, backend);
}

static struct watch *watch_of_token(struct epoll *epoll, uint64_t token)
{
    for (uint32_t i = 0; i < epoll->watches_count; i++) {
        if (epoll->watches[i]->token == token)
            return epoll->watches[i];
    }
    return NULL;
}

/* Whatever its arming: see disarm() in engine/backend.h. */
static struct watch *watch_of_slot(struct epoll *epoll, uint64_t token)
{
    for (uint32_t i = 0; i < epoll->watches_count; i++) {
        if (((epoll->watches[i]->token ^ token) & RDY_TOKEN_SLAB) == 0)
            return epoll->watches[i];
    }
    return NULL;
}

/* --- what the invariants ask --- */

bool sim_epoll_is_open(void)
{
    return the_epoll != NULL;
}

enum sim_hold sim_epoll_hold(uint64_t token)
{
    return the_epoll && watch_of_token(the_epoll, token) ? SIM_HOLD_LIVE : SIM_HOLD_NONE;
}

uint32_t sim_epoll_tokens(uint64_t *tokens, uint32_t tokens_max)
{
    uint32_t count = 0;

    for (; the_epoll && count < the_epoll->watches_count && count < tokens_max; count++)
        tokens[count] = the_epoll->watches[count]->token;
    return count;
}

/* --- watches --- */

static void watch_ready(struct watch *watch)
{
    if (watch->ready == 0)
        watch->ready = ++the_epoll->places;
}

static void watch_woken(struct sim_waiter *waiter, uint32_t key)
{
    struct watch *watch = rdy_container_of(waiter, struct watch, waiter);

    if (key == 0 || (key & (watch->events | UNMASKABLE)))
        watch_ready(watch);
}

static void watch_remove(struct epoll *epoll, struct watch *watch)
{
    uint32_t i = 0;

    while (epoll->watches[i] != watch)
        i++;
    epoll->watches[i] = epoll->watches[--epoll->watches_count];
    if (watch->sock)
        sim_sock_unwatch(&watch->waiter);
    free(watch);
}

/* The file was closed, and nobody is told. */
static void watch_gone(struct sim_waiter *waiter)
{
    struct watch *watch = rdy_container_of(waiter, struct watch, waiter);

    watch->sock = NULL;
    watch_remove(the_epoll, watch);
}

static int epoll_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    struct epoll *epoll = epoll_of(backend);
    struct sim_sock *sock = sim_sock_of(fd);
    struct watch *watch;

    sim_spend();
    sim_note("watch: descriptor, token", fd, (int64_t)token, events);
    if (!sock)
        return -EBADF;
    if (sim_one_of(sim.weather.spoilt_one_of) && sim_one_of(8)) {
        sim_sock_give_up(sock);
        return -ENOMEM;
    }
    if (watch_of_token(epoll, token))
        sim_fail("token %llx is used for a second watch", (unsigned long long)token);
    for (uint32_t i = 0; i < epoll->watches_count; i++) {
        if (epoll->watches[i]->fd == fd && epoll->watches[i]->sock == sock)
            return -EEXIST;
    }
    watch = calloc(1, sizeof(*watch));
    if (!watch || epoll->watches_count == WATCHES_MAX)
        abort();
    *watch = (struct watch){.waiter = {.woken = watch_woken, .gone = watch_gone},
                            .sock = sock,
                            .fd = fd,
                            .token = token,
                            .events = events};
    epoll->watches[epoll->watches_count++] = watch;
    sim_sock_watch(sock, &watch->waiter);
    if (sim_sock_look(sock) & (events | UNMASKABLE))
        watch_ready(watch);
    return 0;
}

static int epoll_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    struct epoll *epoll = epoll_of(backend);
    struct watch *watch = watch_of_slot(epoll, token);

    sim_note("unwatch: descriptor, token", fd, (int64_t)token, watch != NULL);
    sim_spend();
    watch = watch_of_slot(epoll, token);
    if (watch) {
        sim_check(watch->fd == fd);
        epoll->ghosts[epoll->ghosts_count++ % GHOSTS_MAX] = watch->token;
        watch_remove(epoll, watch);
    }
    return RDY_DISARMED;
}

/* --- waiting --- */

static struct watch *first_ready(struct epoll *epoll)
{
    struct watch *first = NULL;

    for (uint32_t i = 0; i < epoll->watches_count; i++) {
        struct watch *watch = epoll->watches[i];

        if (watch->ready != 0 && (!first || watch->ready < first->ready))
            first = watch;
    }
    return first;
}

static uint32_t epoll_reap(struct epoll *epoll, struct rdy_fact *facts, uint32_t facts_max)
{
    uint32_t count = 0;
    struct watch *watch;

    while (count < facts_max && (watch = first_ready(epoll))) {
        uint32_t events = sim_sock_look(watch->sock) & (watch->events | UNMASKABLE);

        watch->ready = 0;
        if (events == 0)
            continue;
        facts[count++] = (struct rdy_fact){.token = watch->token, .events = events};
    }
    if (count > 0 && count < facts_max && epoll->ghosts_count > 0 &&
        sim_one_of(sim.weather.ghost_one_of)) {
        uint32_t kept = epoll->ghosts_count < GHOSTS_MAX ? epoll->ghosts_count : GHOSTS_MAX;

        facts[count++] = (struct rdy_fact){.token = epoll->ghosts[sim_below(kept)],
                                           .events = RDY_EV_IN | RDY_EV_RDHUP | RDY_EV_HUP};
    }
    for (uint32_t i = 0; i < count; i++)
        sim_note("fact: token, events", (int64_t)facts[i].token, facts[i].events, 0);
    return count;
}

static int epoll_wait_facts(struct rdy_backend *backend, int64_t timeout_ns, struct rdy_fact *facts,
                            uint32_t facts_max)
{
    struct epoll *epoll = epoll_of(backend);
    uint64_t until_ns;
    uint32_t count;

    sim_step();
    sim_note("wait: limit", timeout_ns, 0, 0);
    until_ns = timeout_ns < 0 ? SIM_NEVER : sim.now_ns + (uint64_t)timeout_ns;
    rdy_a64_bump(&backend->system_calls, 1);
    do {
        count = epoll_reap(epoll, facts, facts_max);
        if (count > 0 || epoll->is_woken)
            break;
        if (timeout_ns != 0 && sim_one_of(sim.weather.signal_one_of)) {
            rdy_a64_bump(&backend->interruptions, 1);
            break;
        }
    } while (sim_pass_time(until_ns, SIM_NEVER));
    epoll->is_woken = false;
    return (int)count;
}

static void epoll_wake(struct rdy_backend *backend)
{
    epoll_of(backend)->is_woken = true;
}

static int epoll_fd(const struct rdy_backend *backend)
{
    (void)backend;
    return -EINVAL;
}

/* --- opening and closing --- */

static int epoll_probe(struct rdy_probe_report *report, char *why, size_t why_len)
{
    (void)report;
    (void)why;
    (void)why_len;
    return 0;
}

static int epoll_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                      size_t why_len)
{
    struct epoll *epoll = calloc(1, sizeof(*epoll));

    (void)opts;
    (void)why;
    (void)why_len;
    if (!epoll || the_epoll)
        abort();
    epoll->backend.ops = &epoll_ops;
    the_epoll = epoll;
    *out = &epoll->backend;
    return 0;
}

static void epoll_close(struct rdy_backend *backend)
{
    struct epoll *epoll = epoll_of(backend);

    while (epoll->watches_count > 0)
        watch_remove(epoll, epoll->watches[0]);
    the_epoll = NULL;
    free(epoll);
}

static const struct rdy_backend_ops epoll_ops = {
    .name = "epoll",
    .capabilities = RDY_BACKEND_ANY_THREAD | RDY_BACKEND_WHOLE_STATE,
    .probe = epoll_probe,
    .open = epoll_open,
    .close = epoll_close,
    .arm = epoll_arm,
    .disarm = epoll_disarm,
    .wait = epoll_wait_facts,
    .wake = epoll_wake,
    .fd = epoll_fd,
};

const struct rdy_backend_ops *const rdy_backend_epoll = &epoll_ops;
