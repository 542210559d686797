/* SPDX-License-Identifier: MIT */
/* Endpoints: text to host and port or a Unix address, and addresses to text. Pure functions. */
#include "engine/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include <rdy/unix.h>

#define NAME_LEN_MAX 253u
#define UNIX_PREFIX  "unix:"

#define UNIX_PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

static_assert(NAME_LEN_MAX + 2 == RDY_HOST_MAX, "with a dot and a zero");

static bool is_graphic(char c)
{
    return c > ' ' && c <= '~';
}

/* Brackets stand around a host, not in it. */
static bool is_of_host(char c)
{
    return is_graphic(c) && c != '[' && c != ']';
}

bool rdy_host_is_valid(const char *host, size_t host_len)
{
    if (host_len > 1 && host[host_len - 1] == '.')
        host_len--;
    if (host_len == 0 || host_len > NAME_LEN_MAX)
        return false;
    for (size_t i = 0; i < host_len; i++) {
        if (!is_of_host(host[i]))
            return false;
    }
    return true;
}

/* --- text to endpoint --- */

static int port_parse(const char *text, uint16_t *port)
{
    uint32_t value = 0;

    if (*text == '\0')
        return -EINVAL;
    for (; *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (uint32_t)(*text - '0');
        if (value > UINT16_MAX)
            return -EINVAL;
    }
    *port = (uint16_t)value;
    return *text == '\0' ? 0 : -EINVAL;
}

/* "host" and ":port" behind it. */
static int host_parse(const char *host, size_t host_len, const char *port_text,
                      struct rdy_endpoint *endpoint)
{
    struct rdy_endpoint parsed = {.kind = RDY_ENDPOINT_HOST};

    if (!rdy_host_is_valid(host, host_len) || port_parse(port_text, &parsed.port) < 0)
        return -EINVAL;
    rdy_assert(host_len < sizeof(parsed.host));
    memcpy(parsed.host, host, host_len);
    (void)snprintf(parsed.service, sizeof(parsed.service), "%u", (unsigned)parsed.port);
    *endpoint = parsed;
    return 0;
}

/* "::1" or "fe80::1%eth0". */
static bool is_v6(const char *text, size_t text_len)
{
    char digits[INET6_ADDRSTRLEN];
    struct in6_addr addr;
    const char *scope = memchr(text, '%', text_len);
    size_t digits_len = scope ? (size_t)(scope - text) : text_len;

    if (digits_len >= sizeof(digits) || (scope && digits_len + 1 == text_len))
        return false;
    memcpy(digits, text, digits_len);
    digits[digits_len] = '\0';
    return inet_pton(AF_INET6, digits, &addr) == 1;
}

/* @path has no prefix. */
static int unix_parse(const char *path, struct rdy_endpoint *endpoint)
{
    struct rdy_endpoint parsed = {.kind = RDY_ENDPOINT_UNIX};
    struct sockaddr_un addr;
    int rc = rdy_unix_address(&addr, &parsed.address.addr_len, path);

    if (rc < 0)
        return rc;
    rdy_assert(parsed.address.addr_len <= sizeof(addr));
    memcpy(&parsed.address.addr, &addr, sizeof(addr));
    *endpoint = parsed;
    return 0;
}

int rdy_endpoint_parse(const char *text, struct rdy_endpoint *endpoint)
{
    const char *colon;
    size_t host_len;

    if (text[0] == '@')
        return unix_parse(text, endpoint);
    if (strncmp(text, UNIX_PREFIX, sizeof(UNIX_PREFIX) - 1) == 0)
        return unix_parse(text + sizeof(UNIX_PREFIX) - 1, endpoint);
    colon = strrchr(text, ':');
    if (!colon)
        return -EINVAL;
    host_len = (size_t)(colon - text);
    if (text[0] == '[') {
        if (host_len < 2 || colon[-1] != ']' || !is_v6(text + 1, host_len - 2))
            return -EINVAL;
        return host_parse(text + 1, host_len - 2, colon + 1, endpoint);
    }
    if (memchr(text, ':', host_len))
        return -EINVAL;
    return host_parse(text, host_len, colon + 1, endpoint);
}

/* --- address to text --- */

static void format_v4(const struct rdy_address *address, char text[RDY_ADDRESS_TEXT_MAX])
{
    char host[INET_ADDRSTRLEN] = "?";
    struct sockaddr_in v4;

    memcpy(&v4, &address->addr, sizeof(v4));
    (void)inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
    (void)snprintf(text, RDY_ADDRESS_TEXT_MAX, "%s:%u", host, (unsigned)ntohs(v4.sin_port));
}

/* The scope as a number: its name would be a system call, and may be another by then. */
static void format_v6(const struct rdy_address *address, char text[RDY_ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    char scope[12] = "";
    struct sockaddr_in6 v6;

    memcpy(&v6, &address->addr, sizeof(v6));
    (void)inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
    if (v6.sin6_scope_id != 0)
        (void)snprintf(scope, sizeof(scope), "%%%u", (unsigned)v6.sin6_scope_id);
    (void)snprintf(text, RDY_ADDRESS_TEXT_MAX, "[%s%s]:%u", host, scope,
                   (unsigned)ntohs(v6.sin6_port));
}

static void format_unix(const struct rdy_address *address, char text[RDY_ADDRESS_TEXT_MAX])
{
    struct sockaddr_un addr;
    size_t path_len = address->addr_len - UNIX_PATH_OFFSET;
    bool is_abstract;
    size_t len = 0;

    memcpy(&addr, &address->addr, sizeof(addr));
    if (path_len > sizeof(addr.sun_path))
        path_len = sizeof(addr.sun_path);
    is_abstract = path_len > 0 && addr.sun_path[0] == '\0';
    if (is_abstract) {
        addr.sun_path[0] = '@';
    } else {
        path_len = strnlen(addr.sun_path, path_len);
        len = sizeof(UNIX_PREFIX) - 1;
        memcpy(text, UNIX_PREFIX, len);
    }
    rdy_assert(len + path_len < RDY_ADDRESS_TEXT_MAX);
    for (size_t i = 0; i < path_len; i++)
        text[len++] =
            is_graphic(addr.sun_path[i]) || addr.sun_path[i] == ' ' ? addr.sun_path[i] : '?';
    text[len] = '\0';
}

const char *rdy_address_format(const struct rdy_address *address, char text[RDY_ADDRESS_TEXT_MAX])
{
    socklen_t addr_len = address->addr_len;

    if (address->addr.ss_family == AF_INET && addr_len >= sizeof(struct sockaddr_in))
        format_v4(address, text);
    else if (address->addr.ss_family == AF_INET6 && addr_len >= sizeof(struct sockaddr_in6))
        format_v6(address, text);
    else if (address->addr.ss_family == AF_UNIX && addr_len >= UNIX_PATH_OFFSET)
        format_unix(address, text);
    else
        (void)snprintf(text, RDY_ADDRESS_TEXT_MAX, "?");
    return text;
}
