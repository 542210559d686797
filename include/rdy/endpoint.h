/* SPDX-License-Identifier: MIT */
/*
 * Addresses as people write them: text to host and port or to a Unix address, and back. Nothing
 * here resolves a name (<rdy/resolve.h> does) or makes a system call; any thread.
 */
#ifndef RDY_ENDPOINT_H
#define RDY_ENDPOINT_H

#include <sys/socket.h>

#include <rdy/base.h>

RDY_BEGIN_DECLS

#define RDY_HOST_MAX         255 /* bytes: 253, a dot behind them, a zero */
#define RDY_ADDRESS_TEXT_MAX 128 /* bytes of rdy_address_format(), the zero included */

/* An address as the socket calls take it. */
struct rdy_address {
    struct sockaddr_storage addr;
    socklen_t addr_len;
};

enum rdy_endpoint_kind {
    RDY_ENDPOINT_HOST = 0, /* host, port and service; address is zero: resolve the host */
    RDY_ENDPOINT_UNIX = 1, /* address; the others are zero */
};

struct rdy_endpoint {
    enum rdy_endpoint_kind kind;
    uint16_t port;
    char service[6];         /* the port as text, for rdy_resolve_start() */
    char host[RDY_HOST_MAX]; /* a name or a numeric address, without brackets */
    struct rdy_address address;
};

/**
 * rdy_endpoint_parse() - read where to listen or connect
 * @text:     borrowed: "host:port", "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", "unix:/path",
 *            or "@name" (also "unix:@name") for an abstract Unix address
 * @endpoint: written on success only
 *
 * The whole text or nothing. The port is a number from 0 to 65535, without a sign. IPv6 must stand
 * in brackets, for of "::1:80" nobody could say where the port begins, and only IPv6 may. A Unix
 * path whose first byte is '@' is written "unix:./@x".
 *
 * Return: 0, -EINVAL, or -ENAMETOOLONG for a path or a name that no Unix address holds.
 */
RDY_API RDY_NODISCARD int rdy_endpoint_parse(const char *text, struct rdy_endpoint *endpoint);

/**
 * rdy_address_format() - write an address as rdy_endpoint_parse() reads it
 * @address: borrowed
 * @text:    receives "127.0.0.1:80", "[::1]:80", "[fe80::1%2]:80", "unix:/path" or "@name", always
 *           one line: what is not printable is '?'. "unix:" is a Unix address without a name.
 *
 * Return: @text; "?" for another family or an address that is cut off.
 */
RDY_API const char *rdy_address_format(const struct rdy_address *address,
                                       char text[RDY_ADDRESS_TEXT_MAX]);

RDY_END_DECLS

#endif
