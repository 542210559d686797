/* SPDX-License-Identifier: MIT */
/* Places to connect to, and what becomes of who does. */
#ifndef RDY_TESTS_SIM_PLACES_H
#define RDY_TESTS_SIM_PLACES_H

#include "tests/sim/peers.h"

enum sim_place_kind {
    SIM_PLACE_ECHO = 0, /* the upstreams' */
    SIM_PLACE_DAWN,     /* the same, but nobody answers at first */
    SIM_PLACE_RUDE,     /* who is connected is reset at once */
    SIM_PLACE_CLOSED,   /* refuses */
    SIM_PLACE_DARK,     /* never answers */
    SIM_PLACE_KINDS,
};

struct sim_place sim_place_of(enum sim_place_kind kind);

/* Opens those where somebody is; after sim_peers_begin(). */
void sim_places_begin(void);

#endif
