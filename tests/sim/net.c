/* SPDX-License-Identifier: MIT */
/*
 * Connections: how they come about, and how they end; net_flow.c has what goes over them.
 *
 * All sockets of a seed stay until its end, so that whatever is still under way finds its socket.
 */
#include "tests/sim/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/net_flow.h"

#define RETRY_NS  (2 * SIM_MS)
#define TRIES_MAX 40u /* five seconds: nobody accepts */

static struct sim_sock *all;
static uint32_t ids;

static void *must_have(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

struct sim_sock *sim_sock_make(bool is_unix)
{
    struct sim_sock *sock = must_have(calloc(1, sizeof(*sock)));

    rdy_list_init(&sock->waiters);
    sock->is_unix = is_unix;
    sock->id = ++ids;
    sock->next = all;
    all = sock;
    return sock;
}

void sim_net_end(void)
{
    while (all) {
        struct sim_sock *next = all->next;

        free(all->in.bytes);
        free(all);
        all = next;
    }
    ids = 0;
}

/* --- who watches --- */

void sim_sock_watch(struct sim_sock *sock, struct sim_waiter *waiter)
{
    rdy_list_push_back(&sock->waiters, &waiter->link);
}

void sim_sock_unwatch(struct sim_waiter *waiter)
{
    rdy_list_unlink(&waiter->link);
}

void sim_sock_wake(struct sim_sock *sock, uint32_t key)
{
    struct rdy_link *link = sock->waiters.next;

    sim_note("wake-up of a socket, key", sock->id, key, sim_sock_poll(sock));
    while (link != &sock->waiters) {
        struct sim_waiter *waiter = rdy_container_of(link, struct sim_waiter, link);

        link = link->next;
        waiter->woken(waiter, key);
    }
}

/* --- listening and connecting --- */

static bool is_same_address(const struct sim_sock *sock, const struct sockaddr *addr,
                            socklen_t addr_len)
{
    return sock->address_len == addr_len && memcmp(&sock->address, addr, addr_len) == 0;
}

static struct sim_sock *listener_at(const struct sockaddr *addr, socklen_t addr_len)
{
    for (struct sim_sock *sock = all; sock; sock = sock->next) {
        if (sock->state == SIM_SOCK_LISTENING && is_same_address(sock, addr, addr_len))
            return sock;
    }
    return NULL;
}

int sim_sock_bind(struct sim_sock *sock, const struct sockaddr *addr, socklen_t addr_len)
{
    if (addr_len > sizeof(sock->address))
        return -EINVAL;
    if (listener_at(addr, addr_len))
        return -EADDRINUSE;
    memcpy(&sock->address, addr, addr_len);
    sock->address_len = addr_len;
    return 0;
}

int sim_sock_listen(struct sim_sock *sock, int backlog)
{
    if (sock->state != SIM_SOCK_NEW || sock->address_len == 0)
        return -EINVAL;
    sock->state = SIM_SOCK_LISTENING;
    sock->backlog = (uint32_t)backlog;
    return 0;
}

static void flow_open(struct sim_flow *flow)
{
    flow->size = (uint32_t)sim_between(sim.weather.flow_min, sim.weather.flow_max);
    flow->bytes = must_have(malloc(flow->size));
}

/* Makes the other end of @client's connection, and puts it into the listener's queue. */
static void establish(struct sim_sock *client, struct sim_sock *listener)
{
    struct sim_sock *server = sim_sock_make(client->is_unix);

    flow_open(&server->in);
    flow_open(&client->in);
    server->peer = client;
    client->peer = server;
    server->state = SIM_SOCK_CONNECTED;
    client->state = SIM_SOCK_CONNECTED;
    client->is_excused = client->is_excused || listener->is_excused;
    if (listener->queue_last)
        listener->queue_last->queue_next = server;
    else
        listener->queue_first = server;
    listener->queue_last = server;
    listener->queue_count++;
    sim_note("connected: client, server", client->id, server->id, 0);
    sim_sock_wake(client, 0);
    sim_sock_wake(listener, SIM_KEY_DATA);
}

/* A SYN arrives. A full queue drops it, and it is sent again. */
static void syn_arrives(void *arg, uint64_t tries)
{
    struct sim_sock *client = arg;
    struct sim_sock *listener =
        listener_at((struct sockaddr *)&client->address, client->address_len);

    if (client->state != SIM_SOCK_CONNECTING)
        return;
    if (!listener || tries == TRIES_MAX) {
        client->error = listener ? -ETIMEDOUT : -ECONNREFUSED;
        client->failure = client->error;
        client->state = SIM_SOCK_OVER;
        client->is_read_shut = true;
        client->is_write_shut = true;
        client->is_excused = sim.is_overdue || sim.has_refused;
        sim_note("refused", client->id, 0, 0);
        sim_sock_wake(client, 0);
    } else if (listener->queue_count > listener->backlog || listener->is_dark) {
        client->is_excused = client->is_excused || listener->is_excused;
        sim_after(RETRY_NS << (tries < 6 ? tries : 6), syn_arrives, client, tries + 1);
    } else {
        establish(client, listener);
    }
}

static int connect_unix(struct sim_sock *sock, const struct sockaddr *addr, socklen_t addr_len)
{
    struct sim_sock *listener = listener_at(addr, addr_len);

    if (!listener)
        return -ECONNREFUSED;
    if (listener->queue_count > listener->backlog)
        return -EAGAIN;
    establish(sock, listener);
    return 0;
}

/* A larger buffer, say: whoever waits for the connection is woken for nothing. */
static void wake_early(void *arg, uint64_t unused)
{
    struct sim_sock *client = arg;

    (void)unused;
    if (client->state == SIM_SOCK_CONNECTING)
        sim_sock_wake(client, SIM_KEY_ROOM);
}

static int connect_again(struct sim_sock *sock)
{
    int error = sock->error;

    if (sock->state == SIM_SOCK_CONNECTED)
        return -EISCONN;
    if (sock->state != SIM_SOCK_OVER)
        return -EALREADY;
    sock->error = 0;
    return error ? error : -ECONNABORTED;
}

int sim_sock_connect(struct sim_sock *sock, const struct sockaddr *addr, socklen_t addr_len)
{
    if (sock->state != SIM_SOCK_NEW)
        return connect_again(sock);
    if (sock->is_unix)
        return connect_unix(sock, addr, addr_len);
    memcpy(&sock->address, addr, addr_len);
    sock->address_len = addr_len;
    sock->state = SIM_SOCK_CONNECTING;
    sim_after(sim_between(1, sim.weather.travel_ns), syn_arrives, sock, 0);
    if (sim_one_of(sim.weather.early_one_of))
        sim_after(sim_between(1, sim.weather.travel_ns), wake_early, sock, 0);
    return -EINPROGRESS;
}

struct sim_sock *sim_sock_accept(struct sim_sock *listener, int *error)
{
    struct sim_sock *sock = listener->queue_first;

    *error = listener->state == SIM_SOCK_LISTENING ? -EAGAIN : -EINVAL;
    if (!sock || listener->state != SIM_SOCK_LISTENING)
        return NULL;
    listener->queue_first = sock->queue_next;
    if (!listener->queue_first)
        listener->queue_last = NULL;
    listener->queue_count--;
    *error = 0;
    return sock;
}

void sim_sock_give_up(struct sim_sock *sock)
{
    sock->is_excused = true;
    sim.has_refused = sim.has_refused || sock->state == SIM_SOCK_LISTENING;
    if (sock->peer)
        sock->peer->is_excused = true;
    for (struct sim_sock *next = sock->queue_first; next; next = next->queue_next)
        next->peer->is_excused = true;
}

/* --- ends --- */

/* The connection is reset, or so says the network. */
static void reset_arrives(void *arg, uint64_t unused)
{
    struct sim_sock *sock = arg;

    (void)unused;
    if (sock->is_orphan || sock->state != SIM_SOCK_CONNECTED)
        return;
    sock->error = sock->is_read_shut ? -EPIPE : -ECONNRESET;
    sock->failure = sock->error;
    sock->state = SIM_SOCK_OVER;
    sock->is_read_shut = true;
    sock->is_write_shut = true;
    if (sim.weather.is_reset_clearing)
        sim_flow_drop(&sock->in);
    sim_note("reset", sock->id, 0, 0);
    sim_sock_wake(sock, 0);
}

void sim_sock_send_reset(struct sim_sock *to)
{
    sim_flow_send(to, reset_arrives, 0);
}

static void end_arrives(void *arg, uint64_t unused)
{
    struct sim_sock *sock = arg;

    (void)unused;
    if (sock->is_orphan || sock->state != SIM_SOCK_CONNECTED)
        return;
    if (sock->in.arrived < sock->in.written) { /* behind bytes that a mark keeps waiting */
        sim_after(SIM_US, end_arrives, sock, 0);
        return;
    }
    sock->is_read_shut = true;
    sim_note("end", sock->id, 0, 0);
    sim_sock_wake(sock, 0);
}

static void send_end(struct sim_sock *sock)
{
    if (sock->is_end_sent)
        return;
    sock->is_end_sent = true;
    sim_flow_send(sock->peer, end_arrives, 0);
}

int sim_sock_shutdown(struct sim_sock *sock, int how)
{
    if (sock->state != SIM_SOCK_CONNECTED)
        return -ENOTCONN;
    if (how != SHUT_RD) {
        sock->is_write_shut = true;
        send_end(sock);
    }
    if (how != SHUT_WR)
        sock->is_read_shut = true;
    sim_sock_wake(sock, 0);
    return 0;
}

static void close_unix(struct sim_sock *sock, bool is_reset)
{
    struct sim_sock *peer = sock->peer;

    if (peer->is_orphan)
        return;
    if (is_reset)
        peer->error = -ECONNRESET;
    peer->is_read_shut = true;
    peer->is_write_shut = true;
    sim_sock_wake(peer, 0);
}

static void close_listener(struct sim_sock *listener)
{
    struct sim_sock *sock;
    int error;

    while ((sock = sim_sock_accept(listener, &error))) {
        sock->peer->is_excused = sim.is_overdue || sim.has_refused;
        sim_sock_close(sock, true);
    }
}

static void close_connection(struct sim_sock *sock, bool is_reset)
{
    bool has_unread = sim_sock_unread(sock) > 0;

    if (sock->is_unix)
        close_unix(sock, has_unread);
    else if (is_reset || has_unread)
        sim_sock_send_reset(sock->peer);
    else
        send_end(sock);
}

void sim_sock_close(struct sim_sock *sock, bool is_reset)
{
    sim_note("closed", sock->id, is_reset, 0);
    while (!rdy_list_is_empty(&sock->waiters)) {
        struct sim_waiter *waiter = rdy_container_of(sock->waiters.next, struct sim_waiter, link);

        sim_sock_unwatch(waiter);
        if (waiter->gone)
            waiter->gone(waiter);
    }
    if (sock->state == SIM_SOCK_LISTENING)
        close_listener(sock);
    sock->is_orphan = true;
    if (sock->state == SIM_SOCK_CONNECTED)
        close_connection(sock, is_reset);
    sock->state = SIM_SOCK_OVER;
    sock->is_read_shut = true;
    sock->is_write_shut = true;
}
