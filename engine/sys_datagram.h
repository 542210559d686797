/* SPDX-License-Identifier: MIT */
/*
 * The system calls that only datagram sockets need: as in engine/sys.h, -errno instead of errno,
 * and EINTR dealt with.
 */
#ifndef RDY_ENGINE_SYS_DATAGRAM_H
#define RDY_ENGINE_SYS_DATAGRAM_H

#include <sys/socket.h>

#include "engine/base.h"

/*
 * Does not block, whatever the descriptor's own flags say. @is_peek: leave it in the queue. Returns
 * the length as sent, which may be more than fitted.
 */
ssize_t rdy_sys_recv_datagram(int fd, struct msghdr *msg, bool is_peek);

/* Bytes, with the kernel's overhead, that were sent on @fd and have not been received. */
int rdy_sys_unsent_bytes(int fd, int *count);

#endif
