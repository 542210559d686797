/* SPDX-License-Identifier: MIT */
/* Places to connect to: see places.h. */
#include "tests/sim/places.h"

#include <netinet/in.h>

#define DAWN_MAX (400 * SIM_MS)

static const struct sockaddr_in addresses[SIM_PLACE_KINDS] = {
    [SIM_PLACE_DAWN] = {.sin_family = AF_INET, .sin_port = 8},
    [SIM_PLACE_RUDE] = {.sin_family = AF_INET, .sin_port = 9},
    [SIM_PLACE_CLOSED] = {.sin_family = AF_INET, .sin_port = 10},
    [SIM_PLACE_DARK] = {.sin_family = AF_INET, .sin_port = 11},
};

static struct sim_waiter rude_waiter;
static struct sim_sock *rude_listener;

struct sim_place sim_place_of(enum sim_place_kind kind)
{
    if (kind == SIM_PLACE_ECHO)
        return (struct sim_place){sim_upstream_address, sim_upstream_address_len};
    return (struct sim_place){(const struct sockaddr *)&addresses[kind], sizeof(addresses[kind])};
}

static void dawn(void *arg, uint64_t unused)
{
    struct sim_sock *listener = arg;

    (void)unused;
    listener->is_dark = false;
}

static void turn_away(void *arg, uint64_t unused)
{
    struct sim_sock *sock;
    int error;

    (void)arg;
    (void)unused;
    while ((sock = sim_sock_accept(rude_listener, &error)))
        sim_sock_close(sock, true);
}

/* As late as the ring's work may be, so that the two meet. */
static void rude_woken(struct sim_waiter *waiter, uint32_t key)
{
    (void)waiter;
    (void)key;
    sim_after(sim_between(1, sim.weather.late_ns), turn_away, NULL, 0);
}

static struct sim_sock *listener_open(enum sim_place_kind kind)
{
    struct sim_place place = sim_place_of(kind);
    struct sim_sock *listener = sim_sock_make(false);

    sim_check(sim_sock_bind(listener, place.addr, place.addr_len) == 0);
    sim_check(sim_sock_listen(listener, 1000) == 0);
    return listener;
}

void sim_places_begin(void)
{
    struct sim_place place = sim_place_of(SIM_PLACE_DAWN);
    struct sim_sock *listener = sim_upstreams_open(place.addr, place.addr_len);

    listener->is_dark = true;
    sim_after(sim_below(DAWN_MAX), dawn, listener, 0);
    rude_listener = listener_open(SIM_PLACE_RUDE);
    rude_waiter = (struct sim_waiter){.woken = rude_woken};
    sim_sock_watch(rude_listener, &rude_waiter);
    listener_open(SIM_PLACE_DARK)->is_dark = true;
}
