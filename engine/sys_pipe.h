/* SPDX-License-Identifier: MIT */
/*
 * The system calls that only pipes need: as in engine/sys.h, -errno instead of errno, and EINTR
 * dealt with.
 */
#ifndef RDY_ENGINE_SYS_PIPE_H
#define RDY_ENGINE_SYS_PIPE_H

#include <sys/uio.h>

#include "engine/base.h"

/* pipe2(2) with O_CLOEXEC and @flags: O_NONBLOCK for both ends, O_DIRECT for packets. */
int rdy_sys_pipe(int fds[2], int flags);

/* open(2) with O_CLOEXEC and O_NONBLOCK: does not wait for the other end. */
int rdy_sys_pipe_open(const char *path, int flags);

/* The flags of the open file, and setting those of them that can be set. */
int rdy_sys_file_flags(int fd);
int rdy_sys_set_file_flags(int fd, int flags);

/*
 * O_NONBLOCK for a file whose flags are @flags: set, and taken back, unless it was there. All who
 * share the open file feel it.
 */
int rdy_sys_make_nonblocking(int fd, int flags);
void rdy_sys_unmake_nonblocking(int fd, int flags);

/* 1: a pipe or FIFO; 0: something else; or -errno. */
int rdy_sys_is_pipe(int fd);

ssize_t rdy_sys_pipe_read(int fd, const struct iovec *iov, int iov_count);

/*
 * Never raises SIGPIPE. Where the kernel can be told so (since 6.18) that is one call; @can_tell is
 * set to false when it says that it cannot. Then the signal is kept off the thread by its mask.
 */
ssize_t rdy_sys_pipe_write(int fd, const struct iovec *iov, int iov_count, bool *can_tell);

#endif
