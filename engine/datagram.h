/* SPDX-License-Identifier: MIT */
/* What the two datagram files share: a socket's flags. */
#ifndef RDY_ENGINE_DATAGRAM_H
#define RDY_ENGINE_DATAGRAM_H

#include <rdy/datagram.h>

#include "engine/base.h"

/* rdy_datagram.flags: the address family, none of these for another one. */
#define RDY_DATAGRAM_INET  0x1u
#define RDY_DATAGRAM_INET6 0x2u
#define RDY_DATAGRAM_UNIX  0x4u

#endif
