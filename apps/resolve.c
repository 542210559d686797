/* SPDX-License-Identifier: MIT */
#include "apps/resolve.h"

#include <rdy/resolve.h>

#include <stddef.h>
#include <unistd.h>

static int resolve(const struct rdy_endpoint *endpoint, int flags, struct rdy_address_list *list,
                   const char **why)
{
    struct rdy_resolve_hints hints = {.size = sizeof(hints), .flags = flags | AI_NUMERICSERV};
    int rc = rdy_resolve_wait(endpoint->host, endpoint->service, &hints, list);

    if (rc < 0)
        *why = rdy_resolve_error_text(rc);
    return rc;
}

static bool is_accepting(const struct rdy_address *address)
{
    int fd = socket(address->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_connected;

    if (fd < 0)
        return false;
    is_connected = connect(fd, (const struct sockaddr *)&address->addr, address->addr_len) == 0;
    (void)close(fd);
    return is_connected;
}

int resolve_listen(const struct rdy_endpoint *endpoint, struct rdy_address *address,
                   const char **why)
{
    struct rdy_address_list list;
    int rc = resolve(endpoint, AI_PASSIVE, &list, why);

    if (rc < 0)
        return rc;
    *address = list.items[0];
    rdy_address_list_free(&list);
    return 0;
}

int resolve_connect(const struct rdy_endpoint *endpoint, struct rdy_address *address,
                    const char **why)
{
    struct rdy_address_list list;
    int rc = resolve(endpoint, 0, &list, why);

    if (rc < 0)
        return rc;
    *address = list.items[0];
    for (size_t i = 0; list.count > 1 && i < list.count; i++) {
        if (is_accepting(&list.items[i])) {
            *address = list.items[i];
            break;
        }
    }
    rdy_address_list_free(&list);
    return 0;
}
