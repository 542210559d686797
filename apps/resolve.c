/* SPDX-License-Identifier: MIT */
#include "apps/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void endpoint_set(struct endpoint *endpoint, const struct addrinfo *info)
{
    memset(endpoint, 0, sizeof(*endpoint));
    memcpy(&endpoint->addr, info->ai_addr, info->ai_addrlen);
    endpoint->addr_len = info->ai_addrlen;
}

static int resolve(const struct address *address, int flags, struct addrinfo **list,
                   const char **why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    char port[8];
    int rc;

    (void)snprintf(port, sizeof(port), "%u", (unsigned)address->port);
    rc = getaddrinfo(address->host, port, &hints, list);
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

int resolve_listen(const struct address *address, struct endpoint *endpoint, const char **why)
{
    struct addrinfo *list;
    int rc = resolve(address, AI_PASSIVE, &list, why);

    if (rc < 0)
        return rc;
    endpoint_set(endpoint, list);
    freeaddrinfo(list);
    return 0;
}

int resolve_connect(const struct address *address, struct endpoint *endpoint, const char **why)
{
    struct addrinfo *list;
    int rc = resolve(address, 0, &list, why);

    if (rc < 0)
        return rc;
    endpoint_set(endpoint, list);
    if (list->ai_next) {
        for (const struct addrinfo *info = list; info; info = info->ai_next) {
            if (is_accepting(info)) {
                endpoint_set(endpoint, info);
                break;
            }
        }
    }
    freeaddrinfo(list);
    return 0;
}

const char *endpoint_format(const struct endpoint *endpoint, char text[ENDPOINT_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (endpoint->addr.ss_family == AF_INET6) {
        memcpy(&v6, &endpoint->addr, sizeof(v6));
        (void)inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
        (void)snprintf(text, ENDPOINT_TEXT_MAX, "[%s]:%u", host, (unsigned)ntohs(v6.sin6_port));
        return text;
    }
    memcpy(&v4, &endpoint->addr, sizeof(v4));
    (void)inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
    (void)snprintf(text, ENDPOINT_TEXT_MAX, "%s:%u", host, (unsigned)ntohs(v4.sin_port));
    return text;
}
