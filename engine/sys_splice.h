/* SPDX-License-Identifier: MIT */
/* splice(2), and getting out of a pipe again; engine/sys_call.h: what a wrapper is. */
#ifndef RDY_ENGINE_SYS_SPLICE_H
#define RDY_ENGINE_SYS_SPLICE_H

#include "engine/base.h"

ssize_t rdy_sys_read(int fd, void *buf, size_t len);

/* Moves up to @len bytes of a socket into a pipe. -EAGAIN: the socket is empty or the pipe full. */
ssize_t rdy_sys_splice_in(int socket_fd, int pipe_fd, size_t len);

/*
 * Moves up to @len bytes of a pipe into a socket. A peer that has gone is -EPIPE and never a
 * signal.
 */
ssize_t rdy_sys_splice_out(int pipe_fd, int socket_fd, size_t len);

#endif
