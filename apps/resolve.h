/* SPDX-License-Identifier: MIT */
/* Names to addresses and back. Blocks: for use at start-up, before a runtime runs. */
#ifndef RDY_APPS_RESOLVE_H
#define RDY_APPS_RESOLVE_H

#include <stdbool.h>
#include <sys/socket.h>

#include "apps/numbers.h"

#define ENDPOINT_TEXT_MAX 64 /* "[v6]:port" and a scope, terminated */

/* An address as the socket calls take it. */
struct endpoint {
    struct sockaddr_storage addr;
    socklen_t addr_len;
};

/**
 * resolve_listen() - the first address of a name
 * @why: receives a sentence on failure, static storage
 *
 * Return: 0, or -ENOENT with @why set.
 */
int resolve_listen(const struct address *address, struct endpoint *endpoint, const char **why);

/**
 * resolve_connect() - the first address of a name that accepts a connection
 *
 * A name with one address is not tried. One with several ("localhost") is, in order, with a
 * connection that is closed at once: a server on 127.0.0.1 is found although ::1 comes first.
 *
 * Return: as resolve_listen(). If none accepts, the first address.
 */
int resolve_connect(const struct address *address, struct endpoint *endpoint, const char **why);

/* "127.0.0.1:7000" or "[::1]:7000"; returns @text. */
const char *endpoint_format(const struct endpoint *endpoint, char text[ENDPOINT_TEXT_MAX]);

#endif
