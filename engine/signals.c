/* SPDX-License-Identifier: MIT */
/*
 * Signals as events, over a signalfd.
 *
 * A signal comes here only while it is blocked, so each set blocks its own in the thread that opens
 * it. Sets may overlap and be closed in any order: the thread counts who holds a signal, and the
 * last one to let go of it unblocks it, if it was we who blocked it.
 *
 * Readiness is cleared by EAGAIN only: one event stands for any number of signals, and another set
 * may have been faster.
 */
#include <rdy/signal.h>

#include "engine/file_wait.h"
#include "engine/sys_signal.h"

#define SIGNALS_MAX 64

static_assert(_NSIG - 1 <= SIGNALS_MAX, "a set fits into 64 bits");

/* The thread's own: how many open sets hold a signal, and which of them we blocked. */
static _Thread_local struct {
    uint32_t holders[SIGNALS_MAX];
    uint64_t blocked;
} holds;

static uint64_t signal_bit(int signo)
{
    rdy_debug(signo >= 1 && signo <= SIGNALS_MAX);
    return UINT64_C(1) << (signo - 1);
}

static uint64_t bits_of(const sigset_t *set)
{
    uint64_t bits = 0;

    for (int signo = 1; signo < _NSIG; signo++)
        if (sigismember(set, signo) == 1)
            bits |= signal_bit(signo);
    return bits;
}

static void set_of(uint64_t bits, sigset_t *set)
{
    (void)sigemptyset(set);
    for (int signo = 1; signo < _NSIG; signo++)
        if (bits & signal_bit(signo))
            (void)rdy_sys_signal_add(set, signo);
}

/* Blocks what is not blocked yet. On failure nothing has changed. */
static int hold(uint64_t bits)
{
    sigset_t wanted;
    sigset_t before;
    uint64_t blocked_before;
    int rc;

    set_of(bits, &wanted);
    rc = rdy_sys_signal_mask(SIG_BLOCK, &wanted, &before);
    if (rc < 0)
        return rc;
    blocked_before = bits_of(&before);
    for (int signo = 1; signo < _NSIG; signo++) {
        uint64_t bit = signal_bit(signo);

        if ((bits & bit) == 0)
            continue;
        holds.holders[signo - 1]++;
        if ((blocked_before & bit) == 0)
            holds.blocked |= bit;
    }
    return 0;
}

/* Unblocks what nobody else holds and was not blocked before us. */
static void let_go(uint64_t bits)
{
    uint64_t ours = 0;
    sigset_t unwanted;

    for (int signo = 1; signo < _NSIG; signo++) {
        uint64_t bit = signal_bit(signo);

        if ((bits & bit) == 0)
            continue;
        rdy_assert(holds.holders[signo - 1] > 0); /* else: closed by another thread */
        if (--holds.holders[signo - 1] == 0)
            ours |= bit;
    }
    ours &= holds.blocked;
    holds.blocked &= ~ours;
    if (ours == 0)
        return;
    set_of(ours, &unwanted);
    (void)rdy_sys_signal_mask(SIG_UNBLOCK, &unwanted, NULL);
}

int rdy_signals_open(struct rdy_signals *signals, struct rdy_runtime *runtime, const sigset_t *set)
{
    struct rdy_signals made = {.set = bits_of(set), .fd = -1};
    int rc;

    if (made.set == 0 || (made.set & (signal_bit(SIGKILL) | signal_bit(SIGSTOP))) != 0)
        return -EINVAL;
    made.fd = rdy_sys_signalfd(set);
    if (made.fd < 0)
        return made.fd;
    rc = rdy_register_kind(runtime->driver, made.fd, RDY_INTEREST_READ, RDY_FILE_OTHER, &made.reg);
    if (rc < 0)
        goto close_fd;
    /* Last, so that there is no failure in which a signal was held back for a moment. */
    rc = hold(made.set);
    if (rc < 0)
        goto deregister;
    *signals = made;
    return 0;

deregister:
    (void)rdy_close(&made.reg);
    return rc;
close_fd:
    (void)rdy_sys_close(made.fd);
    return rc;
}

int rdy_signals_open_list(struct rdy_signals *signals, struct rdy_runtime *runtime, const int *list,
                          size_t list_count)
{
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < list_count; i++)
        if (rdy_sys_signal_add(&set, list[i]) < 0)
            return -EINVAL;
    return rdy_signals_open(signals, runtime, &set);
}

static void info_fill(struct rdy_signal_info *info, const struct signalfd_siginfo *told)
{
    *info = (struct rdy_signal_info){
        .signo = (int)told->ssi_signo,
        .code = told->ssi_code,
        .pid = (pid_t)told->ssi_pid,
        .uid = (uid_t)told->ssi_uid,
        .value = told->ssi_int,
        .pointer = (void *)(uintptr_t)told->ssi_ptr,
        .status = told->ssi_status,
    };
}

int rdy_signals_poll_next(struct rdy_signals *signals, struct rdy_task *task,
                          struct rdy_signal_info *info)
{
    if (signals->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct signalfd_siginfo told;
        struct rdy_event event;
        int rc = rdy_file_wait(&signals->reg, task, RDY_DIRECTION_READ, &event);

        if (rc != 0)
            return rc;
        rc = rdy_sys_signalfd_take(signals->fd, &told);
        if (rc == -EAGAIN) {
            rdy_clear_readiness(&signals->reg, event);
            continue;
        }
        rdy_debug(rc < 0 || (signals->set & signal_bit((int)told.ssi_signo)));
        if (rc == 0)
            info_fill(info, &told);
        rdy_task_spend(task);
        return rc;
    }
    return rdy_task_give_way(task);
}

void rdy_signals_close(struct rdy_signals *signals)
{
    uint64_t bits = signals->set;

    if (signals->fd < 0)
        return;
    rdy_assert(bits != 0);
    (void)rdy_close(&signals->reg);
    *signals = (struct rdy_signals){.fd = -1};
    let_go(bits);
}
