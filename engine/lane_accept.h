/* SPDX-License-Identifier: MIT */
/* The lane of a listener: see engine/lane_accept.c. The driver's thread. */
#ifndef RDY_ENGINE_LANE_ACCEPT_H
#define RDY_ENGINE_LANE_ACCEPT_H

#include "engine/lane.h"

int rdy_accept_take(struct rdy_completion *completion, struct rdy_lane *lane,
                    const struct rdy_fact *fact);

/*
 * The next connection's descriptor, RDY_PENDING (wait for READ), or -errno; -EAGAIN: no room to
 * begin now; -EOPNOTSUPP: the caller is to accept(2).
 */
int rdy_accept_next(struct rdy_lane *lane);

/* True if rdy_accept_next() has another connection here. */
bool rdy_accept_has_more(const struct rdy_lane *lane);

/* Closes the connections that nobody took. */
void rdy_accept_drop(struct rdy_lane *lane);

#endif
