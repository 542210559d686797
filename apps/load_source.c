/* SPDX-License-Identifier: MIT */
/*
 * More connections to one loopback address than there are ephemeral ports: spread over sources.
 *
 * A source address has some 28,000 ports towards one destination. All of 127.0.0.0/8 is this
 * machine, so connection i comes from 127.0.0.(1 + i / 20000).
 */
#include "apps/load_source.h"

#include <netinet/in.h>
#include <string.h>

#include <rdy/socket.h>

#define SOURCE_CONNECTIONS 20000
#define SOURCES_MAX        250

bool load_source_is_needed(const struct load *load)
{
    struct sockaddr_in to;

    /* A connection that has ended keeps its port for a minute: renewals use them up. */
    if (load->options->connections <= SOURCE_CONNECTIONS &&
        load->options->requests_per_connection == 0)
        return false;
    if (load->endpoint.addr.ss_family != AF_INET)
        return false;
    memcpy(&to, &load->endpoint.addr, sizeof(to));
    return ntohl(to.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

int load_source_start_connect(const struct load *load, uint64_t index, bool is_completing,
                              struct rdy_stream *stream)
{
    uint32_t host = (uint32_t)(index / SOURCE_CONNECTIONS) % SOURCES_MAX;
    struct sockaddr_in from = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK + host),
    };
    struct rdy_connect_opts opts = {
        .size = sizeof(opts),
        .local = (const struct sockaddr *)&from,
        .local_len = sizeof(from),
        .is_completing = is_completing,
    };

    return rdy_stream_start_connect_with(stream, load->runtime,
                                         (const struct sockaddr *)&load->endpoint.addr,
                                         load->endpoint.addr_len, &opts);
}
