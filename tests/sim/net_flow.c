/* SPDX-License-Identifier: MIT */
/*
 * What goes over a connection: bytes, room for more of them, and urgent marks.
 *
 * As in Linux, a TCP socket's room is announced only to who met a full one, and when a third of it
 * is free; a Unix socket's whenever bytes were read and three quarters are free.
 */
#include "tests/sim/net_flow.h"

#include <errno.h>
#include <string.h>

#include "tests/sim/mail.h"

#define MARK_NS 2000u /* the longest time between the two wake-ups of urgent data */

void sim_flow_send(struct sim_sock *to, sim_event_fn *fn, uint64_t data)
{
    uint64_t at_ns;

    if (to->is_unix) {
        fn(to, data);
        return;
    }
    at_ns = sim.now_ns + sim_between(1, sim.weather.travel_ns);
    if (at_ns < to->latest_ns)
        at_ns = to->latest_ns;
    to->latest_ns = at_ns;
    sim_after(at_ns - sim.now_ns, fn, to, data);
}

void sim_flow_drop(struct sim_flow *flow)
{
    flow->arrived = flow->written;
    flow->read = flow->written;
    flow->freed = flow->written;
    flow->mark = 0;
}

static uint32_t room(const struct sim_flow *flow)
{
    return flow->size - (uint32_t)(flow->written - flow->freed);
}

static bool is_writable(const struct sim_sock *sock)
{
    const struct sim_flow *out = &sock->peer->in;
    uint32_t used = out->size - room(out);

    return sock->is_unix ? used * 4 <= out->size : (out->size - used) * 3 >= out->size;
}

static bool has_unread_mark(const struct sim_flow *flow)
{
    return flow->mark > flow->read && flow->mark <= flow->arrived;
}

uint64_t sim_sock_unread(const struct sim_sock *sock)
{
    return sock->in.arrived - sock->in.read - (has_unread_mark(&sock->in) ? 1 : 0);
}

uint32_t sim_sock_poll(const struct sim_sock *sock)
{
    uint32_t events = sock->error ? RDY_EV_ERR : 0;

    if (sock->mail)
        return sim_mail_poll(sock);
    switch (sock->state) {
    case SIM_SOCK_NEW:
        return RDY_EV_OUT | RDY_EV_HUP;
    case SIM_SOCK_CONNECTING:
        return events;
    case SIM_SOCK_LISTENING:
        return sock->queue_count ? RDY_EV_IN : 0;
    case SIM_SOCK_CONNECTED:
    case SIM_SOCK_OVER:
        break;
    }
    if (sim_sock_unread(sock) > 0)
        events |= RDY_EV_IN;
    if (sock->is_read_shut)
        events |= RDY_EV_IN | RDY_EV_RDHUP;
    if (sock->is_read_shut && sock->is_write_shut)
        events |= RDY_EV_HUP;
    if (sock->in.mark)
        events |= RDY_EV_PRI;
    if (sock->is_write_shut || is_writable(sock))
        events |= RDY_EV_OUT;
    return events;
}

uint32_t sim_sock_look(struct sim_sock *sock)
{
    uint32_t events = sim_sock_poll(sock);

    if (sock->state == SIM_SOCK_CONNECTED && (events & RDY_EV_OUT) == 0)
        sock->has_no_room = true;
    return events;
}

/* --- on the way --- */

/* Urgent data wakes twice: for the mark, then for the bytes; perhaps with something in between. */
static void bytes_arrive(void *arg, uint64_t position)
{
    struct sim_sock *sock = arg;
    struct sim_flow *flow = &sock->in;

    if (position <= flow->arrived)
        return;
    if (sock->is_orphan) {
        sim_sock_send_reset(sock->peer);
        return;
    }
    if (sock->state != SIM_SOCK_CONNECTED)
        return;
    if (flow->mark_written && flow->mark_written <= position) {
        flow->mark = flow->mark_written;
        flow->mark_written = 0;
        sim_sock_wake(sock, SIM_KEY_DATA);
        sim_after(sim_below(MARK_NS), bytes_arrive, sock, position);
        return;
    }
    flow->arrived = position;
    sim_sock_wake(sock, SIM_KEY_DATA);
}

static void room_arrives(void *arg, uint64_t position)
{
    struct sim_sock *writer = arg;
    struct sim_flow *out = &writer->peer->in;

    if (position > out->freed)
        out->freed = position;
    if (writer->is_orphan || writer->state != SIM_SOCK_CONNECTED || writer->is_write_shut)
        return;
    if (!is_writable(writer) || (!writer->is_unix && !writer->has_no_room))
        return;
    writer->has_no_room = false;
    sim_sock_wake(writer, SIM_KEY_ROOM);
}

static void tell_room(struct sim_sock *reader)
{
    struct sim_sock *writer = reader->peer;
    uint64_t delay_ns = reader->is_unix ? 0 : sim_between(1, sim.weather.travel_ns);

    sim_after(delay_ns, room_arrives, writer, reader->in.read);
}

/* --- reading --- */

static int take_error(struct sim_sock *sock)
{
    int error = sock->error;

    sock->error = 0;
    return error;
}

static void copy_out(const struct sim_flow *flow, uint64_t from, unsigned char *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        to[i] = flow->bytes[(from + i) % flow->size];
}

/* Where a read begins, and how many bytes it may get: it stops before an urgent byte, and begins
 * behind one. */
static uint64_t readable_bytes(const struct sim_flow *flow, uint64_t *from)
{
    *from = flow->read;
    if (!has_unread_mark(flow))
        return flow->arrived - flow->read;
    if (flow->mark - 1 > flow->read)
        return flow->mark - 1 - flow->read;
    *from = flow->mark;
    return flow->arrived - flow->mark;
}

static void advance(struct sim_sock *sock, uint64_t read)
{
    struct sim_flow *flow = &sock->in;

    if (read == flow->read)
        return;
    flow->read = read;
    if (flow->mark && flow->read >= flow->mark)
        flow->mark = 0;
    tell_room(sock);
}

ssize_t sim_sock_recv(struct sim_sock *sock, void *buf, size_t len, bool is_peek)
{
    struct sim_flow *flow = &sock->in;
    uint64_t count = 0;
    uint64_t from = 0;

    if (sock->state == SIM_SOCK_NEW || sock->state == SIM_SOCK_LISTENING)
        return -ENOTCONN;
    if (flow->bytes)
        count = readable_bytes(flow, &from);
    if (count == 0) {
        if (flow->bytes && !is_peek)
            advance(sock, from);
        if (sock->error)
            return take_error(sock);
        return sock->is_read_shut ? 0 : -EAGAIN;
    }
    if (count > len)
        count = len;
    /* Of a Unix socket a read ends with the message that it has begun. */
    if (sock->is_unix && count > 1 && sim_one_of(sim.weather.short_one_of))
        count = sim_between(1, count - 1);
    copy_out(flow, from, buf, (size_t)count);
    if (!is_peek)
        advance(sock, from + count);
    return (ssize_t)count;
}

/* --- writing --- */

static ssize_t check_writable(struct sim_sock *sock)
{
    if (sock->error)
        return take_error(sock);
    switch (sock->state) {
    case SIM_SOCK_NEW:
    case SIM_SOCK_LISTENING:
        return -ENOTCONN;
    case SIM_SOCK_CONNECTING:
        return -EAGAIN;
    case SIM_SOCK_CONNECTED:
        return sock->is_write_shut ? -EPIPE : 0;
    case SIM_SOCK_OVER:
        break;
    }
    return -EPIPE;
}

static void copy_in(struct sim_flow *flow, const unsigned char *from, size_t len)
{
    for (size_t i = 0; i < len; i++)
        flow->bytes[(flow->written + i) % flow->size] = from[i];
    flow->written += len;
}

/* Room comes by itself where a call moved less than it could: the kernel was short of memory. */
static void shortage_passes(void *arg, uint64_t unused)
{
    struct sim_sock *sock = arg;

    (void)unused;
    if (sock->is_orphan || sock->state != SIM_SOCK_CONNECTED || sock->is_write_shut)
        return;
    if (!is_writable(sock))
        return;
    sock->has_no_room = false;
    sim_sock_wake(sock, SIM_KEY_ROOM);
}

ssize_t sim_sock_send(struct sim_sock *sock, const void *data, size_t len)
{
    ssize_t rc = check_writable(sock);
    struct sim_flow *out;
    size_t count;

    if (rc < 0)
        return rc;
    out = &sock->peer->in;
    count = room(out);
    if (count > len) {
        count = len;
        if (count > 1 && sim_one_of(sim.weather.short_one_of)) {
            count = (size_t)sim_between(1, count - 1);
            sim_after(sim_between(1, sim.weather.travel_ns), shortage_passes, sock, 0);
        }
    }
    if (count < len)
        sock->has_no_room = true;
    if (count == 0)
        return len == 0 ? 0 : -EAGAIN;
    copy_in(out, data, count);
    sim.happened++;
    sim_flow_send(sock->peer, bytes_arrive, out->written);
    return (ssize_t)count;
}

ssize_t sim_sock_send_urgent(struct sim_sock *sock, const void *data, size_t len)
{
    ssize_t rc = check_writable(sock);
    struct sim_flow *out;

    if (rc < 0)
        return rc;
    out = &sock->peer->in;
    if (sock->is_unix || out->mark || out->mark_written || room(out) < len)
        return -EAGAIN;
    copy_in(out, data, len);
    out->mark_written = out->written;
    sim_flow_send(sock->peer, bytes_arrive, out->written);
    return (ssize_t)len;
}
