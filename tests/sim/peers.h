/* SPDX-License-Identifier: MIT */
/*
 * Peers: who talks to the engine, from other machines. They connect, send a pattern that tells the
 * connection and the place of each byte, and check what comes back; or they behave as badly as
 * peers do. And upstreams, to which a proxy connects: they echo.
 */
#ifndef RDY_TESTS_SIM_PEERS_H
#define RDY_TESTS_SIM_PEERS_H

#include "tests/sim/net.h"

enum sim_peer_kind {
    SIM_PEER_FAITHFUL = 0, /* sends all, ends its half, hears all and the end */
    SIM_PEER_PATIENT,      /* sends all, and closes when it has heard all */
    SIM_PEER_ASKING,       /* sends a little, and goes on when that has come back */
    SIM_PEER_SLOW,         /* as the faithful, but hears a few bytes at a time, late */
    SIM_PEER_URGENT,       /* as the faithful or the patient, with urgent bytes in between */
    SIM_PEER_IDLE,         /* says nothing, and closes */
    SIM_PEER_RESETTING,    /* breaks off with a reset */
    SIM_PEER_VANISHING,    /* closes, with bytes under way */
    SIM_PEER_DEAF,         /* sends and never hears; in the end it resets */
    SIM_PEER_KINDS,
};

/* The place where an upstream listens. */
extern const struct sockaddr *sim_upstream_address;
extern const socklen_t sim_upstream_address_len;

/* Another place for them: the listener. */
struct sim_sock *sim_upstreams_open(const struct sockaddr *addr, socklen_t addr_len);

#define SIM_PLACES_MAX 3u

struct sim_place {
    const struct sockaddr *addr;
    socklen_t addr_len;
};

/* Has the weather's peers come, one after the other, each to one of the places. */
void sim_peers_begin(const struct sim_place *places, uint32_t places_count);
void sim_peers_end(void);

/* Fails if a peer that kept its word was let down. */
void sim_peers_check(void);

/* Bytes that came back, of all peers: a figure that shows that something was done. */
uint64_t sim_peers_heard(void);

#endif
