/* SPDX-License-Identifier: MIT */
/* The system calls that streams need beyond recv and send; engine/sys_call.h: what a wrapper is. */
#ifndef RDY_ENGINE_SYS_STREAM_H
#define RDY_ENGINE_SYS_STREAM_H

#include <sys/uio.h>

#include "engine/base.h"

ssize_t rdy_sys_recv_vector(int fd, const struct iovec *iov, size_t iov_count);
ssize_t rdy_sys_send_vector(int fd, const struct iovec *iov, size_t iov_count);
ssize_t rdy_sys_peek(int fd, void *buf, size_t len);

#endif
