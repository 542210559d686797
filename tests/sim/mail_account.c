/* SPDX-License-Identifier: MIT */
/* Accounts of what the engine received and sent: see mail.h. */
#include <errno.h>
#include <stdlib.h>

#include "tests/sim/mail.h"

/* --- what was received --- */

static void given_remove(struct sim_letter *letter)
{
    struct sim_letters *given = &letter->box->given;
    struct sim_letter **link = &given->first;
    struct sim_letter *before = NULL;

    while (*link != letter) {
        before = *link;
        link = &before->next;
    }
    *link = letter->next;
    if (given->last == letter)
        given->last = before;
}

void sim_mail_lose(struct sim_letter *letter)
{
    sim_note("a letter is lost with the ring: socket, letter", letter->box->sock->id, letter->id,
             0);
    given_remove(letter);
}

static void check_content(const struct sim_sock *sock, const struct sim_letter *letter,
                          const void *data, size_t room, ssize_t count)
{
    size_t wanted = letter->stored < room ? letter->stored : room;

    if ((size_t)count != wanted)
        sim_fail("socket %u: of a letter of %u bytes, for which there was room for %zu, %zd came",
                 sock->id, letter->len, wanted, count);
    if (wanted > 0 && memcmp(data, letter->bytes, wanted) != 0)
        sim_fail("socket %u: not the letter that was next, or not whole", sock->id);
}

static void check_info(const struct sim_sock *sock, const struct sim_letter *letter,
                       const struct rdy_datagram_info *info)
{
    if (info->datagram_len != letter->len)
        sim_fail("socket %u: a letter of %u bytes is said to be one of %zu", sock->id, letter->len,
                 info->datagram_len);
    if (info->addr_len != sizeof(letter->from->own) ||
        memcmp(&info->addr, &letter->from->own, sizeof(letter->from->own)) != 0)
        sim_fail("socket %u: a letter has another sender", sock->id);
    sim_check(info->tos == -1 && info->segment_len == 0);
}

/* What is told next: news stay in their place, unless they were lost with the ring. */
static struct sim_letter *next_given(struct sim_mailbox *box, bool is_news)
{
    while (box->given.first && box->given.first->error && !is_news && sim.was_lost)
        given_remove(box->given.first);
    return box->given.first;
}

static void news_told(struct sim_sock *sock, ssize_t answer)
{
    struct sim_letter *letter = next_given(sock->mail, true);

    if (!sim_mail_is_passing((int)answer))
        return;
    if (!letter || letter->error != answer)
        sim_fail("socket %u: a receive fails with %zd, which the kernel did not say there, or once",
                 sock->id, answer);
    given_remove(letter);
}

void sim_mail_received(struct sim_sock *sock, const void *data, size_t room, ssize_t answer,
                       const struct rdy_datagram_info *info, bool is_peek)
{
    struct sim_mailbox *box = sock->mail;
    struct sim_letter *letter;

    if (answer == RDY_PENDING)
        return;
    sim_note("a program receives: socket, answer, peek", sock->id, answer, is_peek);
    if (answer < 0) {
        news_told(sock, answer);
        return;
    }
    letter = next_given(box, false);
    if (!letter && is_peek) { /* it is still the kernel's */
        letter = box->unread.first;
        if (letter)
            letter->stored = letter->len;
    }
    if (!letter)
        sim_fail("socket %u: a program gets a letter that nobody sent, or gets it twice", sock->id);
    if (letter->error)
        sim_fail("socket %u: news of the network is overtaken", sock->id);
    check_content(sock, letter, data, room, answer);
    check_info(sock, letter, info);
    if (!is_peek)
        given_remove(letter);
}

/* --- what is sent --- */

static bool is_settled(const struct sim_offer *offer)
{
    return offer->is_sent || offer->is_refused;
}

static bool is_it(const struct sim_offer *offer, const struct sockaddr_in *to,
                  const struct iovec *content)
{
    return offer->to.sin_port == to->sin_port && offer->len == content->iov_len &&
           (offer->len == 0 || memcmp(offer->bytes, content->iov_base, offer->len) == 0);
}

/* The one that is sent, the first that was not; all before it must not have been overtaken. Of
 * empty ones nobody can say which it is, once one of them has met an error. */
static struct sim_offer *find_offer(const struct sim_sock *sock, const struct sockaddr_in *to,
                                    const struct iovec *content)
{
    struct sim_offer *again = NULL;
    const struct sim_offer *overtaken = NULL;
    bool has_vague = sock->mail->send_errors > 0;
    bool is_vague = sim.was_lost || (content->iov_len == 0 && has_vague);

    for (struct sim_offer *offer = sock->mail->offers; offer; offer = offer->next) {
        if (is_settled(offer) && is_it(offer, to, content))
            again = offer;
        if (is_settled(offer))
            continue;
        if (!is_it(offer, to, content)) {
            if (!offer->was_turned_away && (offer->len > 0 || !has_vague))
                overtaken = offer;
            continue;
        }
        if (overtaken && !is_vague)
            sim_fail("socket %u: a letter overtakes one that was handed over before", sock->id);
        return offer;
    }
    if (!again)
        sim_fail("socket %u: a letter is sent that nobody handed over", sock->id);
    if (!is_vague)
        sim_fail("socket %u: a letter is sent twice", sock->id);
    return again;
}

/* Or all of the empty ones, of which it is one. */
static void turn_away(struct sim_mailbox *box, struct sim_offer *away)
{
    away->was_turned_away = true;
    for (struct sim_offer *offer = box->offers; offer && away->len == 0; offer = offer->next)
        offer->was_turned_away = offer->was_turned_away || offer->len == 0;
}

void sim_mail_note_send(struct sim_sock *sock, const struct msghdr *msg, ssize_t result)
{
    struct sim_mailbox *box = sock->mail;
    struct sockaddr_in to = box->peer;
    struct sim_offer *offer;

    if (msg->msg_name)
        memcpy(&to, msg->msg_name, sizeof(to));
    offer = find_offer(sock, &to, msg->msg_iov);
    if (result >= 0) {
        sim_check((size_t)result == offer->len);
        offer->is_sent = true;
    } else if (result == -EAGAIN || result == -ENOMEM) {
        turn_away(box, offer);
    } else {
        box->send_errors++;
        box->is_owing = true;
        turn_away(box, offer);
        offer->is_refused = result != -ECONNREFUSED || ++offer->news > 1;
    }
}

struct sim_offer *sim_mail_offer(struct sim_sock *sock, const void *data, size_t len,
                                 const struct sockaddr *to)
{
    struct sim_mailbox *box = sock->mail;
    struct sim_offer *offer = calloc(1, sizeof(*offer));

    if (!offer)
        abort();
    rdy_assert(len <= SIM_LETTER_MAX);
    offer->to = box->peer;
    if (to)
        memcpy(&offer->to, to, sizeof(offer->to));
    offer->len = (uint32_t)len;
    if (len > 0)
        memcpy(offer->bytes, data, len);
    *box->offers_end = offer;
    box->offers_end = &offer->next;
    return offer;
}

/* It was not taken: then it did not go out either. */
static void withdraw(struct sim_sock *sock, struct sim_offer *offer)
{
    struct sim_offer **link = &sock->mail->offers;

    if (offer->is_sent)
        sim_fail("socket %u: a letter was sent though the call did not take it", sock->id);
    while (*link != offer)
        link = &(*link)->next;
    rdy_assert(!offer->next);
    *link = NULL;
    sock->mail->offers_end = link;
    free(offer);
}

static void send_error_told(struct sim_sock *sock, int error)
{
    struct sim_mailbox *box = sock->mail;

    if (!sim_mail_is_passing(error))
        return;
    if (++box->send_errors_told > box->send_errors)
        sim_fail("socket %u: a send fails with %d, which the kernel did not say, or once", sock->id,
                 error);
    box->is_owing = false;
}

void sim_mail_answered(struct sim_sock *sock, struct sim_offer *offer, ssize_t answer)
{
    if (answer != RDY_PENDING)
        sim_note("a program sends: socket, bytes, answer", sock->id, offer->len, answer);
    if (answer >= 0)
        return;
    withdraw(sock, offer);
    if (answer != RDY_PENDING)
        send_error_told(sock, (int)answer);
}

/* Empty ones that met an error are not told apart: see find_offer(). */
static void check_settled(const struct sim_mailbox *box)
{
    for (const struct sim_offer *offer = box->offers; offer; offer = offer->next) {
        if (!is_settled(offer) && (offer->len > 0 || box->send_errors == 0))
            sim_fail("socket %u: a letter of %u bytes was handed over, and not sent", box->sock->id,
                     offer->len);
    }
}

void sim_mail_flushed(struct sim_sock *sock, int answer)
{
    if (answer == RDY_PENDING)
        return;
    sim_note("a program has flushed: socket, answer", sock->id, answer, 0);
    if (answer < 0) {
        send_error_told(sock, answer);
        return;
    }
    check_settled(sock->mail);
    if (sock->mail->is_owing && !sim.was_lost)
        sim_fail("socket %u: a letter was refused, and nobody is told", sock->id);
}

/* --- when all is quiet --- */

void sim_mail_check_quiet(struct sim_mailbox *boxes)
{
    for (struct sim_mailbox *box = boxes; box; box = box->next) {
        if (!box->is_engines || box->sock->is_orphan)
            continue;
        if (!box->is_deaf && (box->unread.first || next_given(box, false)))
            sim_fail("socket %u: letters wait, %s, and nobody reads them", box->sock->id,
                     box->given.first ? "in the engine" : "in the kernel");
        check_settled(box);
    }
}
