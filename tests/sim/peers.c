/* SPDX-License-Identifier: MIT */
/* Peers and upstreams: see peers.h. Each acts in steps: its socket wakes it, or its time comes. */
#include "tests/sim/peers.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#define PEERS_MAX     64u
#define UPSTREAMS_MAX 256u
#define DOORMEN_MAX   2u
#define CHUNK_MAX     3000u
#define HELD_MAX      2048u
#define DEAF_NS       (20 * SIM_MS)

struct actor {
    struct sim_waiter waiter; /* first */
    struct sim_sock *sock;
    void (*step)(struct actor *actor);
    bool is_scheduled;
    bool is_done;
};

struct peer {
    struct actor actor; /* first */
    uint32_t id;
    enum sim_peer_kind kind;
    uint64_t goal; /* bytes */
    uint64_t quits_at;
    uint64_t sent;
    uint64_t urgent; /* bytes of the flow that are no part of the stream */
    uint64_t heard;
    bool has_ended; /* its half */
    bool has_heard_end;
};

struct upstream {
    struct actor actor; /* first */
    unsigned char held[HELD_MAX];
    uint32_t held_count;
    bool has_heard_end;
};

static const struct sockaddr_in upstream_address = {.sin_family = AF_INET, .sin_port = 7};
const struct sockaddr *sim_upstream_address = (const struct sockaddr *)&upstream_address;
const socklen_t sim_upstream_address_len = sizeof(upstream_address);

static struct peer peers[PEERS_MAX];
static uint32_t peers_count;
static struct upstream upstreams[UPSTREAMS_MAX];
static uint32_t upstreams_count;
static struct actor doormen[DOORMEN_MAX]; /* the upstreams' listeners */
static uint32_t doormen_count;

static unsigned char pattern(uint32_t id, uint64_t position)
{
    return (unsigned char)(id * 101 + position * 37 + position / 253);
}

/* --- steps --- */

static void actor_due(void *arg, uint64_t unused)
{
    struct actor *actor = arg;

    (void)unused;
    actor->is_scheduled = false;
    if (!actor->is_done)
        actor->step(actor);
}

static void actor_schedule(struct actor *actor, uint64_t delay_ns)
{
    if (actor->is_scheduled || actor->is_done)
        return;
    actor->is_scheduled = true;
    sim_after(delay_ns, actor_due, actor, 0);
}

static uint64_t pause_ns(void)
{
    return sim_between(1, sim.weather.pause_ns);
}

static void actor_woken(struct sim_waiter *waiter, uint32_t key)
{
    (void)key;
    actor_schedule(rdy_container_of(waiter, struct actor, waiter), pause_ns());
}

static void actor_begin(struct actor *actor, struct sim_sock *sock,
                        void (*step)(struct actor *actor))
{
    *actor = (struct actor){.waiter = {.woken = actor_woken}, .sock = sock, .step = step};
    sock->actor = actor;
    sim_sock_watch(sock, &actor->waiter);
}

static void actor_leave(struct actor *actor, bool is_reset)
{
    actor->is_done = true;
    sim_sock_close(actor->sock, is_reset);
}

/* --- peers --- */

static bool is_faithful(const struct peer *peer)
{
    if (sim.was_lost && sim.weather.is_forced)
        return false; /* it was the end of the runtime, too */
    return peer->kind <= SIM_PEER_IDLE && !peer->actor.sock->is_excused;
}

static void let_down(const struct peer *peer, const char *how)
{
    sim_fail("peer %u (kind %d, socket %u) %s: %llu of %llu bytes sent, %llu came back, %s",
             peer->id, (int)peer->kind, peer->actor.sock->id, how, (unsigned long long)peer->sent,
             (unsigned long long)peer->goal, (unsigned long long)peer->heard,
             peer->has_heard_end ? "then the end" : "and no end");
}

static void peer_leave(struct peer *peer, bool is_reset)
{
    if (is_faithful(peer) && peer->heard != peer->goal)
        let_down(peer, "was let down");
    actor_leave(&peer->actor, is_reset);
}

/* True if it got further. */
static bool peer_send(struct peer *peer)
{
    unsigned char bytes[CHUNK_MAX];
    size_t len = (size_t)sim_between(1, sizeof(bytes));
    ssize_t count;

    if (len > peer->goal - peer->sent)
        len = (size_t)(peer->goal - peer->sent);
    if (peer->kind == SIM_PEER_ASKING && (peer->sent > peer->heard || len > 64))
        len = peer->sent > peer->heard ? 0 : 1 + len % 64;
    if (len == 0 || peer->has_ended)
        return false;
    for (size_t i = 0; i < len; i++)
        bytes[i] = pattern(peer->id, peer->sent + i);
    count = sim_sock_send(peer->actor.sock, bytes, len);
    if (count > 0)
        peer->sent += (uint64_t)count;
    else if (count != -EAGAIN && is_faithful(peer))
        let_down(peer, "cannot send");
    else if (count != -EAGAIN)
        peer->has_ended = true;
    return count > 0;
}

static void peer_mark(struct peer *peer)
{
    unsigned char byte = 0xff;

    if (peer->kind == SIM_PEER_URGENT && peer->sent < peer->goal && sim_below(3) == 0 &&
        sim_sock_send_urgent(peer->actor.sock, &byte, 1) == 1)
        peer->urgent++;
}

static bool peer_hear(struct peer *peer)
{
    unsigned char bytes[CHUNK_MAX];
    size_t room = peer->kind == SIM_PEER_SLOW ? 1 + sim_below(40) : 1 + sim_below(sizeof(bytes));
    ssize_t count = sim_sock_recv(peer->actor.sock, bytes, room, false);

    if (count == 0)
        peer->has_heard_end = true;
    if (count < 0 && count != -EAGAIN) {
        if (is_faithful(peer))
            let_down(peer, "was reset");
        peer->has_heard_end = true;
    }
    for (ssize_t i = 0; i < count; i++) {
        if (bytes[i] != pattern(peer->id, peer->heard + (uint64_t)i))
            sim_fail("peer %u (socket %u) hears a wrong byte at %llu", peer->id,
                     peer->actor.sock->id, (unsigned long long)(peer->heard + (uint64_t)i));
    }
    if (count > 0)
        peer->heard += (uint64_t)count;
    return count > 0;
}

/* True if it has left. */
static bool peer_quits(struct peer *peer)
{
    bool is_up = peer->sent >= peer->quits_at || peer->has_ended;

    switch (peer->kind) {
    case SIM_PEER_RESETTING:
        if (is_up)
            peer_leave(peer, true);
        return is_up;
    case SIM_PEER_VANISHING:
        if (is_up)
            peer_leave(peer, false);
        return is_up;
    case SIM_PEER_IDLE:
        peer_leave(peer, false);
        return true;
    case SIM_PEER_DEAF:
        if (sim_below(6) == 0)
            peer_leave(peer, true);
        else
            actor_schedule(&peer->actor, pause_ns() + DEAF_NS);
        return peer->actor.is_done;
    case SIM_PEER_FAITHFUL:
    case SIM_PEER_PATIENT:
    case SIM_PEER_ASKING:
    case SIM_PEER_SLOW:
    case SIM_PEER_URGENT:
    case SIM_PEER_KINDS:
        break;
    }
    return false;
}

static bool closes_by_itself(const struct peer *peer)
{
    return peer->kind == SIM_PEER_PATIENT || peer->kind == SIM_PEER_ASKING ||
           (peer->kind == SIM_PEER_URGENT && peer->id % 2 == 0); /* no end that wakes once more */
}

static void peer_step(struct actor *actor)
{
    struct peer *peer = rdy_container_of(actor, struct peer, actor);
    bool is_moving;

    if (actor->sock->state == SIM_SOCK_CONNECTING || peer_quits(peer))
        return;
    peer_mark(peer);
    is_moving = peer_send(peer);
    if (peer->kind != SIM_PEER_DEAF)
        is_moving = peer_hear(peer) || is_moving;
    if (peer->has_heard_end || (peer->heard == peer->goal && closes_by_itself(peer))) {
        peer_leave(peer, false);
        return;
    }
    if (peer->sent == peer->goal && !peer->has_ended && !closes_by_itself(peer)) {
        peer->has_ended = true;
        (void)sim_sock_shutdown(actor->sock, SHUT_WR);
    }
    if (is_moving)
        actor_schedule(actor, pause_ns());
}

static struct sim_place places[SIM_PLACES_MAX];
static uint32_t places_count;

static void peer_connect(void *arg, uint64_t where)
{
    struct peer *peer = arg;
    const struct sim_place *place = &places[where];
    int rc = sim_sock_connect(peer->actor.sock, place->addr, place->addr_len);

    if (rc == -EAGAIN && !sim.has_refused) {
        sim_after(pause_ns() + SIM_MS, peer_connect, peer, where);
    } else if (rc < 0 && rc != -EINPROGRESS) {
        peer->actor.sock->is_excused = sim.is_overdue || sim.has_refused;
        peer_leave(peer, false);
    } else {
        actor_schedule(&peer->actor, pause_ns());
    }
}

static enum sim_peer_kind kind_draw(bool is_unix)
{
    for (;;) {
        enum sim_peer_kind kind = (enum sim_peer_kind)sim_below(SIM_PEER_KINDS);

        if ((sim.weather.peers & (1u << kind)) && !(is_unix && kind == SIM_PEER_URGENT))
            return kind;
    }
}

static void peer_make(struct peer *peer, uint32_t id)
{
    uint64_t where = sim_below(places_count);
    bool is_unix = places[where].addr->sa_family == AF_UNIX;

    *peer = (struct peer){.id = id, .kind = kind_draw(is_unix)};
    actor_begin(&peer->actor, sim_sock_make(is_unix), peer_step);
    peer->goal = sim_below(4) ? sim_below(200) : sim_below(12000);
    if (peer->kind == SIM_PEER_IDLE)
        peer->goal = 0;
    peer->quits_at = sim_below(peer->goal + 1);
    sim_after(sim_below(20 * SIM_MS), peer_connect, peer, where);
}

/* --- upstreams --- */

static bool upstream_hear(struct upstream *upstream)
{
    ssize_t count;

    if (upstream->held_count == HELD_MAX || upstream->has_heard_end)
        return false;
    count = sim_sock_recv(upstream->actor.sock, upstream->held + upstream->held_count,
                          sim_between(1, HELD_MAX - upstream->held_count), false);
    if (count > 0)
        upstream->held_count += (uint32_t)count;
    else if (count != -EAGAIN)
        upstream->has_heard_end = true;
    return count != -EAGAIN;
}

static bool upstream_send(struct upstream *upstream)
{
    ssize_t count;

    if (upstream->held_count == 0)
        return false;
    count = sim_sock_send(upstream->actor.sock, upstream->held, upstream->held_count);
    if (count == -EAGAIN)
        return false;
    if (count < 0)
        count = upstream->held_count; /* nobody is there to hear it */
    upstream->held_count -= (uint32_t)count;
    memmove(upstream->held, upstream->held + count, upstream->held_count);
    return true;
}

static void upstream_step(struct actor *actor)
{
    struct upstream *upstream = rdy_container_of(actor, struct upstream, actor);
    bool is_moving = upstream_hear(upstream);

    is_moving = upstream_send(upstream) || is_moving;
    if (upstream->has_heard_end && upstream->held_count == 0)
        actor_leave(actor, false);
    else if (is_moving)
        actor_schedule(actor, pause_ns());
}

static void doorman_step(struct actor *actor)
{
    struct sim_sock *sock;
    int error;

    while ((sock = sim_sock_accept(actor->sock, &error))) {
        struct upstream *upstream = &upstreams[upstreams_count++];

        rdy_assert(upstreams_count <= UPSTREAMS_MAX);
        *upstream = (struct upstream){.held_count = 0};
        actor_begin(&upstream->actor, sock, upstream_step);
        actor_schedule(&upstream->actor, pause_ns());
    }
}

struct sim_sock *sim_upstreams_open(const struct sockaddr *addr, socklen_t addr_len)
{
    struct sim_sock *listener = sim_sock_make(false);

    rdy_assert(doormen_count < DOORMEN_MAX);
    actor_begin(&doormen[doormen_count++], listener, doorman_step);
    sim_check(sim_sock_bind(listener, addr, addr_len) == 0);
    sim_check(sim_sock_listen(listener, 1000) == 0);
    return listener;
}

/* --- all of them --- */

void sim_peers_begin(const struct sim_place *given, uint32_t given_count)
{
    (void)sim_upstreams_open(sim_upstream_address, sim_upstream_address_len);

    rdy_assert(given_count <= SIM_PLACES_MAX);
    memcpy(places, given, given_count * sizeof(*given));
    places_count = given_count;
    peers_count = sim.weather.peers_count;
    rdy_assert(peers_count <= PEERS_MAX);
    for (uint32_t i = 0; i < peers_count; i++)
        peer_make(&peers[i], i + 1);
}

void sim_peers_check(void)
{
    for (uint32_t i = 0; i < peers_count; i++) {
        const struct peer *peer = &peers[i];

        if (!peer->actor.is_done && is_faithful(peer))
            let_down(peer, "waits, and nothing more will happen");
    }
}

uint64_t sim_peers_heard(void)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < peers_count; i++)
        sum += peers[i].heard;
    return sum;
}

void sim_peers_end(void)
{
    peers_count = 0;
    upstreams_count = 0;
    doormen_count = 0;
}
