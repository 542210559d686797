/* SPDX-License-Identifier: MIT */
/* What may be a host, for the parser of endpoints and for the resolver. */
#ifndef RDY_ENGINE_ENDPOINT_H
#define RDY_ENGINE_ENDPOINT_H

#include <rdy/endpoint.h>

#include "engine/base.h"

/*
 * Could be a host name or a numeric address: at most 253 bytes of printable ASCII without spaces
 * and brackets, with a dot behind them if one likes (of the 255 of RFC 1035, 2.3.4, two are not
 * written). What labels a name may have is left to the C library and to /etc/hosts.
 */
bool rdy_host_is_valid(const char *host, size_t host_len);

#endif
