/* SPDX-License-Identifier: MIT */
/* Options, addresses, pairs, messages and files of sockets. Any thread may call any of them. */
#include "engine/sys_socket.h"
#include "engine/sys_call.h"

#include <fcntl.h>
#include <sys/stat.h>

int rdy_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(getpeername(fd, addr, addr_len)));
}

int rdy_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t value_size)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(setsockopt(fd, level, name, value, value_size)));
}

int rdy_sys_getsockopt(int fd, int level, int name, void *value, socklen_t *value_size)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(getsockopt(fd, level, name, value, value_size)));
}

int rdy_sys_socketpair(int type, int fds[2])
{
    int before = errno;

    type |= SOCK_NONBLOCK | SOCK_CLOEXEC;
    return (int)rdy_sys_end(before, rdy_sys_try(socketpair(AF_UNIX, type, 0, fds)));
}

ssize_t rdy_sys_send_message(int fd, const struct msghdr *msg)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_sendmsg(fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL));
    } while (rdy_sys_was_interrupted(result));
    result = rdy_sys_end(before, result);
    return result == -EINPROGRESS ? -EAGAIN : result; /* as rdy_sys_send() */
}

ssize_t rdy_sys_recv_message(int fd, struct msghdr *msg)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_recvmsg(fd, msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}

int rdy_sys_socket_set_mode(int fd, uint32_t mode)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(fchmod(fd, (mode_t)mode)));
}

int rdy_sys_socket_file_check(const char *path)
{
    struct stat status;
    int before = errno;
    int rc = (int)rdy_sys_end(before, rdy_sys_try(lstat(path, &status)));

    if (rc < 0)
        return rc;
    return S_ISSOCK(status.st_mode) ? 0 : -ENOTSOCK;
}

/* Not through a link, which somebody may have put there since the bind. */
int rdy_sys_socket_file_set_mode(const char *path, uint32_t mode)
{
    int before = errno;

    return (int)rdy_sys_end(
        before, rdy_sys_try(fchmodat(AT_FDCWD, path, (mode_t)mode, AT_SYMLINK_NOFOLLOW)));
}

int rdy_sys_socket_file_remove(const char *path)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(unlink(path)));
}
