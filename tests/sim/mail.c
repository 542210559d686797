/* SPDX-License-Identifier: MIT */
/* Datagrams under way, and the sockets that send and receive them: see mail.h. */
#include "tests/sim/mail.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/sim/net_flow.h"

#define LETTER_COST 256u /* bytes, what the kernel counts beside the content */
#define PORT_FIRST  5000u
#define DETOURS_MAX 8u /* ways of other lengths, in the longest of a segment */
#define UDP_LEN_MAX 65507u

static struct sim_mailbox *boxes;
static struct sim_letter *letters;
static uint32_t letters_count;

static void *must_have(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

struct sim_sock *sim_mail_make(bool is_engines)
{
    struct sim_sock *sock = sim_sock_make(false);
    struct sim_mailbox *box = must_have(calloc(1, sizeof(*box)));

    box->sock = sock;
    box->own.sin_family = AF_INET;
    box->is_engines = is_engines;
    box->offers_end = &box->offers;
    box->next = boxes;
    boxes = box;
    sock->mail = box;
    return sock;
}

static void box_free(struct sim_mailbox *box)
{
    while (box->offers) {
        struct sim_offer *next = box->offers->next;

        free(box->offers);
        box->offers = next;
    }
    free(box);
}

void sim_mail_end(void)
{
    while (boxes) {
        struct sim_mailbox *next = boxes->next;

        box_free(boxes);
        boxes = next;
    }
    while (letters) {
        struct sim_letter *older = letters->older;

        free(letters);
        letters = older;
    }
    letters_count = 0;
}

void sim_mail_check(void)
{
    sim_mail_check_quiet(boxes);
}

/* --- addresses --- */

static bool is_same(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_port == b->sin_port;
}

static struct sim_mailbox *box_at(const struct sockaddr_in *addr, const struct sockaddr_in *from)
{
    for (struct sim_mailbox *box = boxes; box; box = box->next) {
        if (box->sock->is_orphan || !is_same(&box->own, addr))
            continue;
        if (!from || !box->is_connected || is_same(&box->peer, from))
            return box;
    }
    return NULL;
}

static void address_take(struct sockaddr_in *to, const void *from)
{
    memset(to, 0, sizeof(*to));
    memcpy(to, from, sizeof(*to));
}

int sim_mail_bind(struct sim_sock *sock, const struct sockaddr *addr, socklen_t addr_len)
{
    struct sockaddr_in own;

    if (addr_len != sizeof(own) || sock->mail->own.sin_port != 0)
        return -EINVAL;
    address_take(&own, addr);
    if (box_at(&own, NULL))
        return -EADDRINUSE;
    sock->mail->own = own;
    return 0;
}

static void bind_to_any(struct sim_mailbox *box)
{
    if (box->own.sin_port == 0)
        box->own.sin_port = (in_port_t)(PORT_FIRST + box->sock->id);
}

int sim_mail_connect(struct sim_sock *sock, const struct sockaddr *addr)
{
    struct sim_mailbox *box = sock->mail;

    bind_to_any(box);
    address_take(&box->peer, addr);
    box->is_connected = true;
    return 0;
}

/* --- under way --- */

static void letters_push(struct sim_letters *queue, struct sim_letter *letter)
{
    letter->next = NULL;
    if (queue->last)
        queue->last->next = letter;
    else
        queue->first = letter;
    queue->last = letter;
}

static struct sim_letter *letters_pop(struct sim_letters *queue)
{
    struct sim_letter *letter = queue->first;

    queue->first = letter->next;
    if (!queue->first)
        queue->last = NULL;
    return letter;
}

static void refusal_arrives(void *arg, uint64_t unused)
{
    struct sim_mailbox *box = arg;

    (void)unused;
    if (box->sock->is_orphan || !box->is_connected)
        return;
    sim_note("nobody was there: socket", box->sock->id, 0, 0);
    box->sock->error = -ECONNREFUSED;
    sim_sock_wake(box->sock, RDY_EV_ERR);
}

static void letter_arrives(void *arg, uint64_t unused)
{
    struct sim_letter *letter = arg;
    struct sim_mailbox *box = box_at(&letter->to, &letter->from->own);

    (void)unused;
    if (!box) {
        sim_after(sim_between(1, sim.weather.travel_ns), refusal_arrives, letter->from, 0);
        return;
    }
    if (box->unread_bytes + letter->len + LETTER_COST > sim.weather.mail_queue) {
        sim_note("no room for a letter: socket, letter", box->sock->id, letter->id, 0);
        return;
    }
    sim_note("a letter arrives: socket, letter, bytes", box->sock->id, letter->id, letter->len);
    box->unread_bytes += letter->len + LETTER_COST;
    letter->box = box;
    letters_push(&box->unread, letter);
    sim_sock_wake(box->sock, SIM_KEY_DATA);
}

static bool has_half_free(const struct sim_mailbox *box)
{
    return box->flight_bytes * 2 <= sim.weather.mail_room;
}

static void letter_leaves(void *arg, uint64_t cost)
{
    struct sim_mailbox *box = arg;

    box->flight_bytes -= (uint32_t)cost;
    if (!box->sock->is_orphan && has_half_free(box))
        sim_sock_wake(box->sock, SIM_KEY_ROOM);
}

uint32_t sim_mail_poll(const struct sim_sock *sock)
{
    uint32_t events = sock->error ? RDY_EV_ERR : 0;

    if (sock->mail->unread.first)
        events |= RDY_EV_IN;
    if (has_half_free(sock->mail))
        events |= RDY_EV_OUT;
    return events;
}

/* --- sending --- */

bool sim_mail_is_passing(int error)
{
    return error == -ECONNREFUSED || error == -EPERM || error == -ENOBUFS || error == -EMSGSIZE;
}

static int take_error(struct sim_sock *sock)
{
    int error = sock->error;

    sock->error = 0;
    return error;
}

static struct sim_letter *letter_make(struct sim_mailbox *from, const struct sockaddr_in *to,
                                      const struct iovec *content)
{
    struct sim_letter *letter = must_have(calloc(1, sizeof(*letter)));

    rdy_assert(content->iov_len <= SIM_LETTER_MAX);
    letter->older = letters;
    letters = letter;
    letter->id = ++letters_count;
    letter->from = from;
    letter->to = *to;
    letter->len = (uint32_t)content->iov_len;
    if (letter->len > 0)
        memcpy(letter->bytes, content->iov_base, letter->len);
    return letter;
}

static ssize_t send_one(struct sim_sock *sock, const struct msghdr *msg)
{
    static const int refusals[] = {-EPERM, -ENOBUFS, -EMSGSIZE};
    struct sim_mailbox *box = sock->mail;
    uint64_t travel_ns = sim_between(1, sim.weather.travel_ns);
    struct sim_letter *letter;
    struct sockaddr_in to;
    uint32_t cost;

    rdy_assert(msg->msg_iovlen == 1);
    if (!msg->msg_name && !box->is_connected)
        return -EDESTADDRREQ;
    if (sock->error)
        return take_error(sock);
    if (msg->msg_iov[0].iov_len > UDP_LEN_MAX)
        return -EMSGSIZE;
    if (box->flight_bytes >= sim.weather.mail_room)
        return -EAGAIN;
    if (box->is_engines && sim_one_of(sim.weather.refuse_one_of))
        return refusals[sim_below(sizeof(refusals) / sizeof(refusals[0]))];
    bind_to_any(box);
    to = box->peer;
    if (msg->msg_name)
        address_take(&to, msg->msg_name);
    letter = letter_make(box, &to, msg->msg_iov);
    cost = letter->len + LETTER_COST;
    box->flight_bytes += cost;
    sim.happened++;
    sim_after(travel_ns, letter_leaves, box, cost);
    if (sim_below(3) == 0)
        travel_ns += sim_below(DETOURS_MAX * sim.weather.travel_ns);
    if (!sim_one_of(sim.weather.loss_one_of))
        sim_after(travel_ns, letter_arrives, letter, 0);
    return letter->len;
}

ssize_t sim_mail_send(struct sim_sock *sock, const struct msghdr *msg)
{
    ssize_t result = send_one(sock, msg);

    sim_note("a letter is sent: socket, bytes, result", sock->id, (int64_t)msg->msg_iov[0].iov_len,
             result);
    if (sock->mail->is_engines)
        sim_mail_note_send(sock, msg, result);
    return result;
}

/* --- receiving --- */

static void read_out(const struct sim_letter *letter, struct msghdr *msg)
{
    const struct iovec *room = &msg->msg_iov[0];
    const struct sockaddr_in *from = &letter->from->own;
    size_t len = letter->len < room->iov_len ? letter->len : room->iov_len;

    if (len > 0)
        memcpy(room->iov_base, letter->bytes, len);
    if (msg->msg_name)
        memcpy(msg->msg_name, from,
               msg->msg_namelen < sizeof(*from) ? msg->msg_namelen : sizeof(*from));
    msg->msg_namelen = msg->msg_name ? sizeof(*from) : 0;
    msg->msg_controllen = 0;
    msg->msg_flags = len < letter->len ? MSG_TRUNC : 0;
}

static void give_news(struct sim_mailbox *box, int error)
{
    const struct iovec none = {.iov_len = 0};
    struct sim_letter *letter = letter_make(box, &box->own, &none);

    letter->error = error;
    letter->box = box;
    letters_push(&box->given, letter);
}

/* The length as sent. As in Linux an error goes before what is there to be read. */
ssize_t sim_mail_recv(struct sim_sock *sock, struct msghdr *msg, bool is_peek)
{
    struct sim_mailbox *box = sock->mail;
    struct sim_letter *letter = box->unread.first;

    if (sock->error) {
        sim_note("a receive fails: socket, error", sock->id, sock->error, 0);
        if (box->is_engines)
            give_news(box, sock->error);
        return take_error(sock);
    }
    if (!letter)
        return -EAGAIN;
    read_out(letter, msg);
    sim_note("a letter is read: socket, letter, peek", sock->id, letter->id, is_peek);
    if (is_peek)
        return letter->len;
    (void)letters_pop(&box->unread);
    box->unread_bytes -= letter->len + LETTER_COST;
    letter->stored = letter->len;
    if (letter->stored > msg->msg_iov[0].iov_len)
        letter->stored = (uint32_t)msg->msg_iov[0].iov_len;
    if (box->is_engines)
        letters_push(&box->given, letter);
    return letter->len;
}
