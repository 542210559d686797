/* SPDX-License-Identifier: MIT */
/* poll(2) as a question: what is true of this descriptor right now. */
#include "engine/sys.h"
#include "engine/sys_call.h"

#include <poll.h>

uint32_t rdy_sys_poll_now(int fd, uint32_t events)
{
    struct pollfd item = {.fd = fd, .events = (short)events};
    int before = errno;

    if (rdy_sys_end(before, rdy_sys_try(poll(&item, 1, 0))) <= 0)
        return 0;
    return (uint32_t)(unsigned short)item.revents;
}
