/* SPDX-License-Identifier: MIT */
/* Names to addresses. Blocks: for use at start-up, before a runtime runs. */
#ifndef RDY_APPS_RESOLVE_H
#define RDY_APPS_RESOLVE_H

#include <rdy/endpoint.h>

/**
 * resolve_listen() - the first address of a name
 * @why: receives a sentence on failure, static storage
 *
 * Return: 0, or -errno with @why set.
 */
int resolve_listen(const struct rdy_endpoint *endpoint, struct rdy_address *address,
                   const char **why);

/**
 * resolve_connect() - the first address of a name that accepts a connection
 *
 * A name with one address is not tried. One with several ("localhost") is, in order, with a
 * connection that is closed at once: a server on 127.0.0.1 is found although ::1 comes first.
 *
 * Return: as resolve_listen(). If none accepts, the first address.
 */
int resolve_connect(const struct rdy_endpoint *endpoint, struct rdy_address *address,
                    const char **why);

#endif
