/* SPDX-License-Identifier: MIT */
/* What the kernel says of a socket's addresses, and the paths of Unix ones. Any thread. */
#include "engine/address.h"

#include "engine/sys.h"
#include "engine/sys_socket.h"

#define PATH_SIZE sizeof(((struct sockaddr_un *)NULL)->sun_path)

static_assert(sizeof(struct sockaddr_un) < sizeof(struct sockaddr_storage),
              "a path that fills its field is told with a zero byte more");

/*
 * A Unix path that fills its field comes back from the kernel with a zero byte behind it, and with
 * that is refused as an address: leave the byte out, so that what was told can be sent to.
 */
socklen_t rdy_address_len(const struct sockaddr_storage *addr, socklen_t told_len)
{
    rdy_assert(told_len <= sizeof(*addr));
    if (addr->ss_family == AF_UNIX && told_len > sizeof(struct sockaddr_un))
        return sizeof(struct sockaddr_un);
    return told_len;
}

/* What the kernel tells when it is asked by @ask. */
static int address_get(int (*ask)(int, struct sockaddr *, socklen_t *), int fd,
                       struct sockaddr_storage *addr, socklen_t *addr_len)
{
    struct sockaddr_storage told = {0};
    socklen_t told_len = sizeof(told);
    int rc = fd < 0 ? -EBADF : ask(fd, (struct sockaddr *)&told, &told_len);

    if (rc < 0)
        return rc;
    *addr = told;
    *addr_len = rdy_address_len(&told, told_len);
    return 0;
}

int rdy_address_local(int fd, struct sockaddr_storage *addr, socklen_t *addr_len)
{
    return address_get(rdy_sys_getsockname, fd, addr, addr_len);
}

int rdy_address_peer(int fd, struct sockaddr_storage *addr, socklen_t *addr_len)
{
    return address_get(rdy_sys_getpeername, fd, addr, addr_len);
}

bool rdy_address_path(const struct sockaddr *addr, socklen_t addr_len,
                      char path[RDY_UNIX_PATH_SIZE])
{
    struct sockaddr_un local = {0};
    size_t len = addr_len > sizeof(local) ? sizeof(local) : addr_len;

    if (!rdy_address_is(addr, addr_len, AF_UNIX))
        return false;
    memcpy(&local, addr, len);
    memcpy(path, local.sun_path, PATH_SIZE);
    path[PATH_SIZE] = '\0';
    return path[0] != '\0';
}
