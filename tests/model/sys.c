/* SPDX-License-Identifier: MIT */
/*
 * The system calls that the engine makes, but for those of kernel.c: threads are fibers, a
 * futex is a wait, and what no target comes to fails.
 */
#include "engine/sys.h"

#include "engine/choice.h"
#include "engine/sys_pipe.h"
#include "engine/sys_socket.h"
#include "tests/model/checker.h"
#include "tests/model/kernel.h"

/* Fiber 0 sets up and finishes for the driver's fiber, the first. */
uint64_t rdy_sys_thread_id(void)
{
    return self == 0 ? KERNEL_SETUP_FIBER : self;
}

void rdy_sys_cpu_relax(void)
{
    memory_await_newer("what it spins on", __builtin_return_address(0));
}

struct futex {
    uint32_t *word;
    uint32_t run_number; /* of what execution this is */
    bool is_woken;
};

static struct futex futexes[FIBERS];

static bool is_futex_woken(const void *arg)
{
    return ((const struct futex *)arg)->is_woken;
}

void rdy_sys_futex_wait(uint32_t *word, uint32_t seen)
{
    struct model_wait wait = {
        .object = word,
        .is_ready = is_futex_woken,
        .arg = &futexes[self],
        .what = "the futex",
    };

    model_touch(word, "futex wait begins");
    if (!memory_equals(word, sizeof(*word), seen))
        return;
    futexes[self] = (struct futex){.word = word, .run_number = run.number};
    model_wait(&wait);
    futexes[self].word = NULL;
}

void rdy_sys_futex_wake(uint32_t *word, int waiters)
{
    model_touch(word, "futex wake");
    for (uint32_t i = 1; i < FIBERS && waiters > 0; i++) {
        if (futexes[i].word == word && futexes[i].run_number == run.number &&
            !futexes[i].is_woken) {
            futexes[i].is_woken = true;
            waiters--;
        }
    }
}

/* --- not come to --------------------------------------------------------------------------- */

uint32_t rdy_sys_poll_now(int fd, uint32_t events)
{
    (void)fd;
    (void)events;
    model_fail("poll(2) is not modelled");
}

int rdy_sys_pipe(int fds[2], int flags)
{
    (void)fds;
    (void)flags;
    model_fail("pipe(2) is not modelled");
}

int rdy_choose_backend(enum rdy_backend_kind wanted, const struct rdy_backend_ops **ops,
                       char *reason, size_t reason_len)
{
    (void)wanted;
    (void)ops;
    (void)reason;
    (void)reason_len;
    model_fail("targets choose their backend");
}

bool rdy_choice_is_forced(void)
{
    return false;
}
