/* SPDX-License-Identifier: MIT */
/*
 * Which kernel interface a driver runs on, and why, in a sentence for people.
 */
#ifndef RDY_ENGINE_CHOICE_H
#define RDY_ENGINE_CHOICE_H

#include "engine/backend.h"

/*
 * Picks a backend: @wanted, or for AUTO what RDY_BACKEND names, else io_uring where it works and
 * epoll where not. 0 with @ops set, or -errno: the wanted one cannot run, descriptors have run out,
 * or -EINVAL for an RDY_BACKEND that names no backend. @reason is filled in either way.
 *
 * Any thread.
 */
int rdy_choose_backend(enum rdy_backend_kind wanted, const struct rdy_backend_ops **ops,
                       char *reason, size_t reason_len);

/* RDY_BACKEND names one backend: an AUTO choice is then no longer free. */
bool rdy_choice_is_forced(void);

#endif
