/* SPDX-License-Identifier: MIT */
#include "apps/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

static void address_set(struct rdy_address *address, const struct addrinfo *info)
{
    memset(address, 0, sizeof(*address));
    memcpy(&address->addr, info->ai_addr, info->ai_addrlen);
    address->addr_len = info->ai_addrlen;
}

static int resolve(const struct rdy_endpoint *endpoint, int flags, struct addrinfo **list,
                   const char **why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    int rc = getaddrinfo(endpoint->host, endpoint->service, &hints, list);

    if (rc == 0)
        return 0;
    *why = gai_strerror(rc);
    return -ENOENT;
}

static bool is_accepting(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_connected;

    if (fd < 0)
        return false;
    is_connected = connect(fd, info->ai_addr, info->ai_addrlen) == 0;
    (void)close(fd);
    return is_connected;
}

int resolve_listen(const struct rdy_endpoint *endpoint, struct rdy_address *address,
                   const char **why)
{
    struct addrinfo *list;
    int rc = resolve(endpoint, AI_PASSIVE, &list, why);

    if (rc < 0)
        return rc;
    address_set(address, list);
    freeaddrinfo(list);
    return 0;
}

int resolve_connect(const struct rdy_endpoint *endpoint, struct rdy_address *address,
                    const char **why)
{
    struct addrinfo *list;
    int rc = resolve(endpoint, 0, &list, why);

    if (rc < 0)
        return rc;
    address_set(address, list);
    if (list->ai_next) {
        for (const struct addrinfo *info = list; info; info = info->ai_next) {
            if (is_accepting(info)) {
                address_set(address, info);
                break;
            }
        }
    }
    freeaddrinfo(list);
    return 0;
}
