/* SPDX-License-Identifier: MIT */
/* The addresses of sockets, as the kernel tells them and as it takes them back. */
#ifndef RDY_ENGINE_ADDRESS_H
#define RDY_ENGINE_ADDRESS_H

#include <sys/socket.h>
#include <sys/un.h>

#include "engine/base.h"

/* Both written on success only; -EBADF for a negative @fd. */
int rdy_address_local(int fd, struct sockaddr_storage *addr, socklen_t *addr_len);
int rdy_address_peer(int fd, struct sockaddr_storage *addr, socklen_t *addr_len);

/* The length to use of an address of which the kernel told @told_len bytes. */
socklen_t rdy_address_len(const struct sockaddr_storage *addr, socklen_t told_len);

/* True if @addr has room for a family, and this is it. */
static inline bool rdy_address_is(const struct sockaddr *addr, socklen_t addr_len, int family)
{
    return addr_len >= sizeof(addr->sa_family) && addr->sa_family == family;
}

/* A Unix path needs no zero byte at its end; ours has one. */
#define RDY_UNIX_PATH_SIZE (sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1)

/* Writes the path of a Unix address that has a file; false if it has none. */
bool rdy_address_path(const struct sockaddr *addr, socklen_t addr_len,
                      char path[RDY_UNIX_PATH_SIZE]);

#endif
