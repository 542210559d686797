/* SPDX-License-Identifier: MIT */
/*
 * The simulated post: datagram sockets, as UDP has them over IPv4.
 *
 * A letter is lost, or arrives after a while, not in the order of sending, and stays whole until it
 * is read, or is cut off there. What is sent fills the sender's buffer until it has left; what does
 * not fit into the receiver's is lost. Nobody at the address: a connected sender is told, by an
 * error that its next call gets, whichever that is.
 *
 * Of the engine's sockets accounts are kept: what the kernel gave it, until a program has it, and
 * what a program handed over, until the kernel has it. So of each letter is known that it came
 * whole, in its turn and once, and of each that was handed over that it went out once, or was
 * refused, and that this was told.
 */
#ifndef RDY_TESTS_SIM_MAIL_H
#define RDY_TESTS_SIM_MAIL_H

#include <netinet/in.h>

#include <rdy/datagram.h>

#include "tests/sim/net.h"

#define SIM_LETTER_MAX 1200u /* bytes of the longest that is sent */

struct sim_letter {
    struct sim_letter *older; /* of all there were */
    struct sim_letter *next;
    struct sim_mailbox *from;
    struct sim_mailbox *box; /* where it arrived */
    struct sockaddr_in to;
    uint32_t id;
    uint32_t len;
    uint32_t stored; /* bytes of it that had room where the kernel put it */
    int error;       /* no letter, but news that the kernel told in the place of one */
    unsigned char bytes[SIM_LETTER_MAX];
};

struct sim_letters {
    struct sim_letter *first;
    struct sim_letter *last;
};

/* What a program has handed over, or is about to. */
struct sim_offer {
    struct sim_offer *next;
    struct sockaddr_in to;
    uint32_t len;
    bool is_sent;
    bool is_refused;
    bool was_turned_away; /* the kernel had no room for it: others may overtake it */
    uint32_t news;        /* errors of others' that the kernel told instead of taking it */
    unsigned char bytes[SIM_LETTER_MAX];
};

struct sim_mailbox {
    struct sim_mailbox *next; /* of all there are */
    struct sim_sock *sock;
    struct sockaddr_in own; /* port 0: none yet */
    struct sockaddr_in peer;
    bool is_connected;
    bool is_engines;
    bool is_deaf; /* its program does not receive */
    uint32_t flight_bytes;
    struct sim_letters unread;
    uint32_t unread_bytes;

    struct sim_letters given; /* to the engine, and to no program yet */
    struct sim_offer *offers; /* in the order of the hand-overs */
    struct sim_offer **offers_end;
    uint32_t send_errors; /* that the kernel gave, and that the program was told of */
    uint32_t send_errors_told;
    bool is_owing; /* a send failed since the program was told of one */
};

/* @is_engines: not a simulated peer's. */
struct sim_sock *sim_mail_make(bool is_engines);
void sim_mail_end(void);

/* 0 or -errno, as the system calls of these names. */
int sim_mail_bind(struct sim_sock *sock, const struct sockaddr *addr, socklen_t addr_len);
int sim_mail_connect(struct sim_sock *sock, const struct sockaddr *addr);
ssize_t sim_mail_send(struct sim_sock *sock, const struct msghdr *msg);
ssize_t sim_mail_recv(struct sim_sock *sock, struct msghdr *msg, bool is_peek);
uint32_t sim_mail_poll(const struct sim_sock *sock);

/* Errors that end nothing: what the network says of earlier letters, and refusals of one. */
bool sim_mail_is_passing(int error);

/* --- mail_account.c --- */

/* The kernel's side: a send of the engine's had this result; -ENOMEM also of one not made. */
void sim_mail_note_send(struct sim_sock *sock, const struct msghdr *msg, ssize_t result);

/* The completion that said so is lost with its ring. */
void sim_mail_lose(struct sim_letter *letter);

/*
 * The program's side: what it is about to hand over (@to NULL: to the peer), and the answer of the
 * call; a datagram of which @room bytes had room, or an error in its place; the answer of a flush.
 */
struct sim_offer *sim_mail_offer(struct sim_sock *sock, const void *data, size_t len,
                                 const struct sockaddr *to);
void sim_mail_answered(struct sim_sock *sock, struct sim_offer *offer, ssize_t answer);
void sim_mail_received(struct sim_sock *sock, const void *data, size_t room, ssize_t answer,
                       const struct rdy_datagram_info *info, bool is_peek);
void sim_mail_flushed(struct sim_sock *sock, int answer);

/* When all is quiet: nothing is on the way within the engine. */
void sim_mail_check_quiet(struct sim_mailbox *boxes);
void sim_mail_check(void);

#endif
