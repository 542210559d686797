/* SPDX-License-Identifier: MIT */
/*
 * Signals as events: a task waits for SIGTERM, SIGHUP, SIGCHLD, ... as it does for data (signalfd).
 * No handler runs, so there is nothing that a handler must not do.
 *
 * What has to be known of signals:
 * - A signal to the process goes to any thread that does not block it, and only if all do, it waits
 *   here. Opening blocks the set in the calling thread, and threads that are started afterwards
 *   begin with its mask. Those that run already have to block it themselves: open signals first
 *   thing in main(), or block them there with pthread_sigmask(3).
 * - A signal that is sent to one thread (pthread_kill(3), tgkill(2)) is seen only if that is the
 *   runtime's.
 * - Standard signals coalesce: the same one, sent twice before it is taken, is one, with the
 *   details of the first. Real-time signals (SIGRTMIN to SIGRTMAX) queue up, each with its value,
 *   lowest number first.
 * - Two sets that hold the same signal share it: each one sent goes to whichever looks first.
 * - The mask is inherited through fork(2) and execve(2). rdy_child_spawn() (process.h) starts
 *   programs with an empty one; who forks by himself sees to it.
 * - SIGKILL and SIGSTOP cannot be had. SIGSEGV, SIGFPE, SIGBUS and SIGILL can, but only if somebody
 *   sends them: those that the program itself causes end it.
 */
#ifndef RDY_SIGNAL_H
#define RDY_SIGNAL_H

#include <signal.h>
#include <sys/select.h> /* sigset_t, also where <signal.h> is ISO C's alone */

#include <rdy/registration.h>
#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/* The caller's memory; {.fd = -1} is closed. Fields are private. */
struct rdy_signals {
    struct rdy_registration reg;
    uint64_t set; /* bit n - 1: signal n */
    int fd;
};

/* One signal. What is not known is 0. */
struct rdy_signal_info {
    int signo;
    int code;  /* SI_USER (kill), SI_QUEUE (sigqueue), SI_KERNEL, CLD_EXITED, ...: sigaction(2) */
    pid_t pid; /* the sender's; of SIGCHLD the child's */
    uid_t uid; /* the sender's real one */
    int value; /* of sigqueue(3): sival_int */
    void *pointer; /* of sigqueue(3): sival_ptr, in the sender's address space */
    int status;    /* of SIGCHLD: exit code or signal */
};

/**
 * rdy_signals_open() - have a set of signals come as events
 * @signals: written on success only; free with rdy_signals_close(), on this thread
 * @runtime: borrowed; must outlive @signals
 * @set:     borrowed; what sigaddset(3) filled
 *
 * Blocks the set in the calling thread. What of it was blocked before stays so at the close; where
 * sets overlap, a signal stays blocked until the last of them is closed, in whatever order.
 * Instances that were pending already are the first to come.
 *
 * Context: the runtime's thread.
 * Return:  0 or -errno with the mask as it was: -EINVAL for an empty set, or one with SIGKILL or
 *          SIGSTOP; -EMFILE, -ENFILE, -ENOMEM, -ESHUTDOWN.
 */
RDY_API RDY_NODISCARD int rdy_signals_open(struct rdy_signals *signals, struct rdy_runtime *runtime,
                                           const sigset_t *set);

/* As rdy_signals_open(), with the set as a list of @list_count numbers; -EINVAL also for a number
 * that is no signal, or one that the C library keeps to itself. */
RDY_API RDY_NODISCARD int rdy_signals_open_list(struct rdy_signals *signals,
                                                struct rdy_runtime *runtime, const int *list,
                                                size_t list_count);

/**
 * rdy_signals_poll_next() - wait for the next signal of the set, and take it
 * @signals: borrowed
 * @task:    being polled; one task waits at a time
 * @info:    written when the answer is 0
 *
 * May be given up at RDY_PENDING: nothing was taken. An answer costs one operation of the budget.
 *
 * Context: the runtime's thread.
 * Return:  0, RDY_PENDING, -EBADF, -ESHUTDOWN, ...
 */
RDY_API RDY_NODISCARD int rdy_signals_poll_next(struct rdy_signals *signals, struct rdy_task *task,
                                                struct rdy_signal_info *info);

/**
 * rdy_signals_close() - stop, and put the mask back
 * @signals: its content is taken; {.fd = -1} afterwards, and closing that does nothing
 *
 * Signals that were sent and not taken are then delivered as anywhere else: to a handler, or by
 * their default action, which may end the process. Take them first, or ignore the signal
 * (sigaction(2) with SIG_IGN), if that is not wanted.
 *
 * Context: the thread that opened it, before its runtime is closed.
 */
RDY_API void rdy_signals_close(struct rdy_signals *signals);

RDY_END_DECLS

#endif
