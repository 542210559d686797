/* SPDX-License-Identifier: MIT */
/* SIGPIPE off and on again. Any thread; none of the calls can fail with these arguments. */
#include "engine/sys_sigpipe.h"
#include "engine/sys_call.h"

#include <pthread.h>
#include <time.h>

/* It can be pending only where the caller itself has blocked it. */
static bool is_pending(const sigset_t *blocked)
{
    sigset_t pending;

    return sigismember(blocked, SIGPIPE) == 1 && sigpending(&pending) == 0 &&
           sigismember(&pending, SIGPIPE) == 1;
}

void rdy_sigpipe_block(struct rdy_sigpipe_mask *mask)
{
    (void)sigemptyset(&mask->pipe_only);
    (void)sigaddset(&mask->pipe_only, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &mask->pipe_only, &mask->before);
    mask->was_pending = is_pending(&mask->before);
}

void rdy_sigpipe_restore(const struct rdy_sigpipe_mask *mask, ssize_t result)
{
    const struct timespec at_once = {0};
    int err = errno;

    if (result < 0 && err == EPIPE && !mask->was_pending)
        while (sigtimedwait(&mask->pipe_only, NULL, &at_once) < 0 && errno == EINTR)
            ;
    (void)pthread_sigmask(SIG_SETMASK, &mask->before, NULL);
    errno = err;
}
