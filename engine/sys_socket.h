/* SPDX-License-Identifier: MIT */
/*
 * The system calls of sockets that are not on the path of a plain read or write: options of any
 * type, addresses, pairs, messages, and the files that Unix addresses stand for. As in
 * engine/sys.h: -errno instead of errno, and EINTR dealt with.
 */
#ifndef RDY_ENGINE_SYS_SOCKET_H
#define RDY_ENGINE_SYS_SOCKET_H

#include <sys/socket.h>

#include "engine/base.h"

int rdy_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *addr_len);
int rdy_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t value_size);
int rdy_sys_getsockopt(int fd, int level, int name, void *value, socklen_t *value_size);

/* Two Unix sockets of @type, connected to each other; nonblocking, close-on-exec. */
int rdy_sys_socketpair(int type, int fds[2]);

/* Neither blocks, whatever the descriptor's own flags say. Descriptors come close-on-exec. */
ssize_t rdy_sys_send_message(int fd, const struct msghdr *msg);
ssize_t rdy_sys_recv_message(int fd, struct msghdr *msg);

/* The permissions of the file that a bind(2) of this Unix socket will make, before the umask. */
int rdy_sys_socket_set_mode(int fd, uint32_t mode);

/* The file at @path: 0 if it is a socket, or -ENOTSOCK. None of these follows a link. */
int rdy_sys_socket_file_check(const char *path);
int rdy_sys_socket_file_set_mode(const char *path, uint32_t mode);
int rdy_sys_socket_file_remove(const char *path);

#endif
