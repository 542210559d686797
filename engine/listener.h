/* SPDX-License-Identifier: MIT */
/* What the listeners of a runtime and those of an engine share, in listener_open.c. Any thread. */
#ifndef RDY_ENGINE_LISTENER_H
#define RDY_ENGINE_LISTENER_H

#include <rdy/net.h>

#include "engine/base.h"

/*
 * 0, or what a listener there would be refused with; a Unix place is not looked at. With
 * SO_REUSEPORT two servers of one user share a port without an error, so this is asked without it.
 */
int rdy_listener_check_place(const struct sockaddr *addr, socklen_t addr_len,
                             const struct rdy_listen_opts *opts);

/* A socket that listens, nonblocking, with what accepted ones inherit; or -errno. */
int rdy_listener_socket(const struct sockaddr *addr, socklen_t addr_len,
                        const struct rdy_listen_opts *opts);

/* The file of a Unix socket whose making is undone, if its address has one. */
void rdy_listener_remove_file(const struct sockaddr *addr, socklen_t addr_len);

/* Has @driver watch listener->fd. 0, or -errno with nothing changed. */
int rdy_listener_register(struct rdy_listener *listener, struct rdy_driver *driver);

/* Has it accept in completion mode, unless others accept from the same socket, and what it accepts
 * begin so: the driver's thread. 0 or -ENOMEM. */
int rdy_listener_start_completion(struct rdy_listener *listener, bool is_shared);

#endif
