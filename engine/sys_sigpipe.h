/* SPDX-License-Identifier: MIT */
/*
 * Keeping SIGPIPE off the thread during a call that cannot be told not to raise it; only
 * engine/sys*.c use it.
 *
 * The signal is blocked meanwhile, and the one that came is taken out again, so that the program's
 * own disposition does not matter. One that was pending before is somebody else's and stays; one
 * more of it makes no difference.
 */
#ifndef RDY_ENGINE_SYS_SIGPIPE_H
#define RDY_ENGINE_SYS_SIGPIPE_H

#include <signal.h>

#include "engine/base.h"

struct rdy_sigpipe_mask {
    sigset_t pipe_only;
    sigset_t before;
    bool was_pending;
};

void rdy_sigpipe_block(struct rdy_sigpipe_mask *mask);

/* @result is what the call returned; errno stays as it left it. */
void rdy_sigpipe_restore(const struct rdy_sigpipe_mask *mask, ssize_t result);

#endif
