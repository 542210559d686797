/* SPDX-License-Identifier: MIT */
/* Source addresses for more loopback connections than one address has ports. */
#ifndef RDY_APPS_LOAD_SOURCE_H
#define RDY_APPS_LOAD_SOURCE_H

#include "apps/load.h"

/* True if there may be too many connections for one source, and the target is IPv4 loopback. */
bool load_source_is_needed(const struct load *load);

/* Connects @stream from the source address of the connection that is the @index-th. 0 or -errno. */
int load_source_start_connect(const struct load *load, uint64_t index, bool is_completing,
                              struct rdy_stream *stream);

#endif
