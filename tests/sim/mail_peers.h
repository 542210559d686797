/* SPDX-License-Identifier: MIT */
/*
 * Who sends datagrams to the engine's sockets, from other machines, and services that answer
 * theirs. The former vanish without a word, the latter go and come back.
 */
#ifndef RDY_TESTS_SIM_MAIL_PEERS_H
#define RDY_TESTS_SIM_MAIL_PEERS_H

#include "tests/sim/mail.h"

#define SIM_POSTS_MAX 2u

/* Where the engine's posts are, and where a service is. */
extern const struct sockaddr_in sim_post_addresses[SIM_POSTS_MAX];
extern const struct sockaddr_in sim_service_address;

/* Bytes of a letter that is like no other, as long as the weather has them, perhaps none. */
size_t sim_mail_draw(unsigned char bytes[SIM_LETTER_MAX]);

void sim_mail_peers_begin(void);

#endif
