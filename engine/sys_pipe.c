/* SPDX-License-Identifier: MIT */
/* The system calls that only pipes need. Any thread may call any of them. */
#include "engine/sys_pipe.h"
#include "engine/sys_call.h"
#include "engine/sys_sigpipe.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

/* Newer than the headers that we may be built with. */
#define RDY_RWF_NOSIGNAL 0x100

int rdy_sys_pipe(int fds[2], int flags)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(pipe2(fds, O_CLOEXEC | flags)));
}

int rdy_sys_pipe_open(const char *path, int flags)
{
    int before = errno;
    int fd;

    do {
        fd = rdy_sys_try(open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    } while (rdy_sys_was_interrupted(fd));
    return (int)rdy_sys_end(before, fd);
}

int rdy_sys_file_flags(int fd)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(fcntl(fd, F_GETFL)));
}

int rdy_sys_set_file_flags(int fd, int flags)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(fcntl(fd, F_SETFL, flags)));
}

int rdy_sys_make_nonblocking(int fd, int flags)
{
    return flags & O_NONBLOCK ? 0 : rdy_sys_set_file_flags(fd, flags | O_NONBLOCK);
}

void rdy_sys_unmake_nonblocking(int fd, int flags)
{
    if ((flags & O_NONBLOCK) == 0)
        (void)rdy_sys_set_file_flags(fd, flags);
}

int rdy_sys_is_pipe(int fd)
{
    struct stat status;
    int before = errno;
    int rc = (int)rdy_sys_end(before, rdy_sys_try(fstat(fd, &status)));

    if (rc < 0)
        return rc;
    return S_ISFIFO(status.st_mode) ? 1 : 0;
}

/* One buffer goes without the kernel having to fetch a list of them. */
static ssize_t read_some(int fd, const struct iovec *iov, int iov_count)
{
    if (rdy_likely(iov_count == 1))
        return rdy_bare_read(fd, iov->iov_base, iov->iov_len);
    return readv(fd, iov, iov_count);
}

ssize_t rdy_sys_pipe_read(int fd, const struct iovec *iov, int iov_count)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(read_some(fd, iov, iov_count));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}

/* The old way, with the signal blocked. */
static ssize_t write_masked(int fd, const struct iovec *iov, int iov_count)
{
    struct rdy_sigpipe_mask mask;
    ssize_t result;

    rdy_sigpipe_block(&mask);
    result = writev(fd, iov, iov_count);
    rdy_sigpipe_restore(&mask, result);
    return result;
}

ssize_t rdy_sys_pipe_write(int fd, const struct iovec *iov, int iov_count, bool *can_tell)
{
    int before = errno;
    ssize_t result = -1;

    rdy_debug(iov_count > 0 && iov_count <= IOV_MAX);
    errno = EOPNOTSUPP;
    if (rdy_likely(*can_tell)) {
        do {
            result = rdy_sys_try(pwritev2(fd, iov, iov_count, -1, RDY_RWF_NOSIGNAL));
        } while (rdy_sys_was_interrupted(result));
    }
    if (rdy_unlikely(result < 0 && errno == EOPNOTSUPP)) {
        *can_tell = false;
        do {
            result = rdy_sys_try(write_masked(fd, iov, iov_count));
        } while (rdy_sys_was_interrupted(result));
    }
    return rdy_sys_end(before, result);
}
