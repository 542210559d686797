/* SPDX-License-Identifier: MIT */
/* Many datagrams in one system call: as in engine/sys.h, -errno, and EINTR dealt with. */
#ifndef RDY_ENGINE_SYS_DATAGRAM_MANY_H
#define RDY_ENGINE_SYS_DATAGRAM_MANY_H

#include <sys/socket.h>

#include "engine/base.h"

/*
 * Neither blocks. Both return how many there were, at least 1, or -errno of the first. An error
 * that ends a batch later is told by the kernel's next call after a receipt, and lost after a send.
 */
ssize_t rdy_sys_send_datagrams(int fd, struct mmsghdr *messages, uint32_t count);
ssize_t rdy_sys_recv_datagrams(int fd, struct mmsghdr *messages, uint32_t count);

#endif
