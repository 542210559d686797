/* SPDX-License-Identifier: MIT */
/*
 * Pipes: making ends of a pair, of a path, of a descriptor; and giving them back.
 *
 * What a checked call refuses it leaves as it found it: O_NONBLOCK, which others who share the open
 * file would feel, is set last and taken back if the registration fails.
 */
#include <fcntl.h>

#include "engine/driver.h"
#include "engine/pipe.h"
#include "engine/runtime.h"
#include "engine/sys_pipe.h"

int rdy_pipe_receiver_register(struct rdy_pipe_receiver *receiver, struct rdy_driver *driver,
                               int fd, uint32_t flags)
{
    struct rdy_pipe_receiver made = {.fd = fd, .flags = flags};
    int rc = rdy_register_kind(driver, fd, RDY_INTEREST_READ, rdy_pipe_kind(flags), &made.reg);

    if (rc < 0)
        return rc;
    rdy_assert(fd >= 0);
    /* No guess that it is readable: a read from a FIFO that had no writer yet would say "end". */
    *receiver = made;
    return 0;
}

int rdy_pipe_sender_register(struct rdy_pipe_sender *sender, struct rdy_driver *driver, int fd,
                             uint32_t flags)
{
    struct rdy_pipe_sender made = {.fd = fd, .flags = flags};
    int rc = rdy_register_kind(driver, fd, RDY_INTEREST_WRITE, rdy_pipe_kind(flags), &made.reg);

    if (rc < 0)
        return rc;
    rdy_assert(fd >= 0);
    rdy_assume_ready(&made.reg, RDY_WRITABLE);
    *sender = made;
    return 0;
}

/* --- a pair --- */

static int options_take(struct rdy_pipe_opts *taken, const struct rdy_pipe_opts *opts)
{
    *taken = (struct rdy_pipe_opts){.size = sizeof(*taken)};
    if (!opts)
        return 0;
    if (opts->size != sizeof(*opts))
        return -EINVAL;
    *taken = *opts;
    return 0;
}

int rdy_pipe_open(struct rdy_pipe_sender *sender, struct rdy_pipe_receiver *receiver,
                  struct rdy_runtime *runtime, const struct rdy_pipe_opts *opts)
{
    struct rdy_pipe_receiver made = {.fd = -1};
    struct rdy_pipe_opts taken;
    uint32_t flags;
    int fds[2];
    int rc = options_take(&taken, opts);

    if (rc < 0)
        return rc;
    if (taken.is_read_write || taken.is_unchecked)
        return -EINVAL;
    rc = rdy_sys_pipe(fds, O_NONBLOCK | (taken.is_packet ? O_DIRECT : 0));
    if (rc < 0)
        return rc;
    flags = taken.is_packet ? 0 : RDY_PIPE_BYTES;
    rc = rdy_pipe_receiver_register(&made, runtime->driver, fds[0], flags);
    if (rc == 0)
        rc = rdy_pipe_sender_register(sender, runtime->driver, fds[1], flags);
    if (rc == 0)
        *receiver = made;
    else
        rdy_close_pair(&made.reg, fds);
    return rc;
}

/* --- a path --- */

/* The descriptor, or -errno. @direction is O_RDONLY or O_WRONLY. */
static int path_open(const char *path, int direction, const struct rdy_pipe_opts *opts)
{
    struct rdy_pipe_opts taken;
    int fd;
    int rc = options_take(&taken, opts);

    if (rc < 0)
        return rc;
    if (taken.is_packet)
        return -EINVAL;
    fd = rdy_sys_pipe_open(path, taken.is_read_write ? O_RDWR : direction);
    if (fd < 0 || taken.is_unchecked)
        return fd;
    rc = rdy_sys_is_pipe(fd);
    if (rc > 0)
        return fd;
    (void)rdy_sys_close(fd);
    return rc < 0 ? rc : -EINVAL;
}

int rdy_pipe_receiver_open(struct rdy_pipe_receiver *receiver, struct rdy_runtime *runtime,
                           const char *path, const struct rdy_pipe_opts *opts)
{
    int fd = path_open(path, O_RDONLY, opts);
    int rc;

    if (fd < 0)
        return fd;
    rc = rdy_pipe_receiver_from_fd_unchecked(receiver, runtime, fd);
    if (rc < 0)
        (void)rdy_sys_close(fd);
    return rc;
}

int rdy_pipe_sender_open(struct rdy_pipe_sender *sender, struct rdy_runtime *runtime,
                         const char *path, const struct rdy_pipe_opts *opts)
{
    int fd = path_open(path, O_WRONLY, opts);
    int rc;

    if (fd < 0)
        return fd;
    rc = rdy_pipe_sender_from_fd_unchecked(sender, runtime, fd);
    if (rc < 0)
        (void)rdy_sys_close(fd);
    return rc;
}

/* --- a descriptor --- */

/* The flags of a pipe's end that opens for @direction, or -errno. */
static int checked_flags(int fd, int direction)
{
    int flags;
    int rc = rdy_sys_is_pipe(fd);

    rdy_assert(direction == O_RDONLY || direction == O_WRONLY);
    if (rc <= 0)
        return rc < 0 ? rc : -EINVAL;
    flags = rdy_sys_file_flags(fd);
    if (flags < 0)
        return flags;
    /* O_PATH: a descriptor that opens for nothing, but would pass for one that reads. */
    if ((flags & O_PATH) || ((flags & O_ACCMODE) != direction && (flags & O_ACCMODE) != O_RDWR))
        return -EINVAL;
    return flags;
}

/* Makes a pipe's end that opens for @direction nonblocking: its flags before, or -errno. */
static int end_prepare(int fd, int direction)
{
    int flags = checked_flags(fd, direction);
    int rc = flags < 0 ? flags : rdy_sys_make_nonblocking(fd, flags);

    return rc < 0 ? rc : flags;
}

int rdy_pipe_receiver_from_fd(struct rdy_pipe_receiver *receiver, struct rdy_runtime *runtime,
                              int fd)
{
    int flags = end_prepare(fd, O_RDONLY);
    int rc;

    if (flags < 0)
        return flags;
    rc = rdy_pipe_receiver_register(receiver, runtime->driver, fd, 0);
    if (rc < 0)
        rdy_sys_unmake_nonblocking(fd, flags);
    return rc;
}

int rdy_pipe_sender_from_fd(struct rdy_pipe_sender *sender, struct rdy_runtime *runtime, int fd)
{
    int flags = end_prepare(fd, O_WRONLY);
    int rc;

    if (flags < 0)
        return flags;
    rc = rdy_pipe_sender_register(sender, runtime->driver, fd, 0);
    if (rc < 0)
        rdy_sys_unmake_nonblocking(fd, flags);
    return rc;
}

/* What kind of file it is decides how its events are read; regular files are refused by it. */
static int unchecked_kind(int fd, enum rdy_file_kind *kind)
{
    int rc = rdy_sys_file_kind(fd, kind);

    if (rc == 0 && *kind == RDY_FILE_FIFO)
        *kind = rdy_pipe_kind(0); /* nor is one without, for what can be opened under /proc */
    return rc;
}

int rdy_pipe_receiver_from_fd_unchecked(struct rdy_pipe_receiver *receiver,
                                        struct rdy_runtime *runtime, int fd)
{
    struct rdy_pipe_receiver made = {.fd = fd};
    enum rdy_file_kind kind = RDY_FILE_AUTO;
    int rc = unchecked_kind(fd, &kind);

    if (rc == 0)
        rc = rdy_register_kind(runtime->driver, fd, RDY_INTEREST_READ, kind, &made.reg);
    if (rc == 0)
        *receiver = made;
    return rc;
}

int rdy_pipe_sender_from_fd_unchecked(struct rdy_pipe_sender *sender, struct rdy_runtime *runtime,
                                      int fd)
{
    struct rdy_pipe_sender made = {.fd = fd};
    enum rdy_file_kind kind = RDY_FILE_AUTO;
    int rc = unchecked_kind(fd, &kind);

    if (rc == 0)
        rc = rdy_register_kind(runtime->driver, fd, RDY_INTEREST_WRITE, kind, &made.reg);
    if (rc < 0)
        return rc;
    rdy_assume_ready(&made.reg, RDY_WRITABLE);
    *sender = made;
    return 0;
}

/* --- the way back --- */

int rdy_pipe_receiver_into_fd(struct rdy_pipe_receiver *receiver)
{
    int fd = receiver->fd;

    if (fd < 0)
        return -EBADF;
    (void)rdy_deregister(&receiver->reg);
    *receiver = (struct rdy_pipe_receiver){.fd = -1};
    return fd;
}

int rdy_pipe_sender_into_fd(struct rdy_pipe_sender *sender)
{
    int fd = sender->fd;

    if (fd < 0)
        return -EBADF;
    (void)rdy_deregister(&sender->reg);
    *sender = (struct rdy_pipe_sender){.fd = -1};
    return fd;
}

static int set_blocking(int fd)
{
    int flags = fd < 0 ? -EBADF : rdy_sys_file_flags(fd);

    return flags < 0 ? flags : rdy_sys_set_file_flags(fd, flags & ~O_NONBLOCK);
}

int rdy_pipe_receiver_into_blocking_fd(struct rdy_pipe_receiver *receiver)
{
    int rc = set_blocking(receiver->fd);

    return rc < 0 ? rc : rdy_pipe_receiver_into_fd(receiver);
}

int rdy_pipe_sender_into_blocking_fd(struct rdy_pipe_sender *sender)
{
    int rc = set_blocking(sender->fd);

    return rc < 0 ? rc : rdy_pipe_sender_into_fd(sender);
}

void rdy_pipe_receiver_close(struct rdy_pipe_receiver *receiver)
{
    if (receiver->fd >= 0)
        (void)rdy_close(&receiver->reg);
    *receiver = (struct rdy_pipe_receiver){.fd = -1};
}

void rdy_pipe_sender_close(struct rdy_pipe_sender *sender)
{
    if (sender->fd >= 0)
        (void)rdy_close(&sender->reg);
    *sender = (struct rdy_pipe_sender){.fd = -1};
}
