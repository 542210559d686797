/* SPDX-License-Identifier: MIT */
/* Connecting by the backend: what the lanes and the streams call. The driver's thread. */
#ifndef RDY_ENGINE_LANE_CONNECT_H
#define RDY_ENGINE_LANE_CONNECT_H

#include "engine/lane.h"

/* Has the backend connect, in the next turn. 0, or -errno with nothing begun. */
int rdy_connect_begin(struct rdy_lane *lane, const struct sockaddr *addr, socklen_t addr_len);

/* Before a wait, of a lane on the list `dirty`. False: no room now. */
bool rdy_connect_try(struct rdy_completion *completion, struct rdy_lane *lane);

int rdy_connect_take(struct rdy_lane *lane, const struct rdy_fact *fact);

enum rdy_connect_stage {
    RDY_CONNECT_ASKED,   /* of the backend, or about to be */
    RDY_CONNECT_WATCHED, /* the socket knows, and the entry is watched */
    RDY_CONNECT_ENDED,   /* send_error says how */
};

enum rdy_connect_stage rdy_connect_stage(const struct rdy_lane *lane);

/* Forgets the target; does nothing without one. */
void rdy_connect_end(struct rdy_lane *lane);

/* As rdy_lane_survive(), of a lane with a target; the entry is about to be watched. */
void rdy_connect_survive(struct rdy_lane *lane);

#endif
