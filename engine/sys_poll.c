/* SPDX-License-Identifier: MIT */
/* poll(2) as a question: what is true of this descriptor right now. */
#include <poll.h>

#include "engine/sys.h"

uint32_t rdy_sys_poll_now(int fd, uint32_t events)
{
    struct pollfd item = {.fd = fd, .events = (short)events};

    return poll(&item, 1, 0) > 0 ? (uint32_t)(unsigned short)item.revents : 0;
}
