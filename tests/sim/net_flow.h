/* SPDX-License-Identifier: MIT */
/* What net.c and net_flow.c know of each other. */
#ifndef RDY_TESTS_SIM_NET_FLOW_H
#define RDY_TESTS_SIM_NET_FLOW_H

#include "tests/sim/net.h"

/* Tells everyone who watches. */
void sim_sock_wake(struct sim_sock *sock, uint32_t key);

/* Has @fn called with @to when what is sent now arrives there: behind all that was sent before. */
void sim_flow_send(struct sim_sock *to, sim_event_fn *fn, uint64_t data);

/* Forgets what was not read. */
void sim_flow_drop(struct sim_flow *flow);

/* Something for a socket that is no more is answered so. */
void sim_sock_send_reset(struct sim_sock *to);

#endif
