/* SPDX-License-Identifier: MIT */
/* Threads and forks. Any thread may call any of it. */
#include "engine/sys_thread.h"
#include "engine/sys.h"
#include "engine/sys_call.h"

#include <limits.h>
#include <signal.h>

/* Counted in the child, whose only thread it is then. */
static uint64_t forks;
static bool forks_are_watched;

static void forks_count(void)
{
    forks++;
}

/* Before main() and not on first use: a fork that came in between would not be seen. */
__attribute__((constructor)) static void forks_watch(void)
{
    forks_are_watched = pthread_atfork(NULL, NULL, forks_count) == 0;
}

/* Asking for the id of the process is a system call, which counting saves. */
uint64_t rdy_sys_process_stamp(void)
{
    return forks_are_watched ? forks : (uint64_t)getpid();
}

/*
 * A fault is for the thread that caused it: blocked, it would end the process past the handler that
 * was to report it. All else is for the program's own threads.
 */
static void signals_fill(sigset_t *signals)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};

    (void)sigfillset(signals);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        (void)sigdelset(signals, faults[i]);
}

static int thread_create(pthread_t *thread, size_t stack_size, rdy_sys_thread_fn *fn, void *arg)
{
    pthread_attr_t attr;
    int err;

    if (rdy_sys_fails())
        return errno;
    err = pthread_attr_init(&attr);
    if (err != 0)
        return err;
    if (stack_size != 0)
        err = pthread_attr_setstacksize(&attr, stack_size);
    if (err == 0)
        err = pthread_create(thread, &attr, fn, arg);
    (void)pthread_attr_destroy(&attr);
    return err;
}

/* The new thread inherits the mask, so there is no moment at which a signal could reach it. */
int rdy_sys_thread_start(pthread_t *thread, size_t stack_size, rdy_sys_thread_fn *fn, void *arg)
{
    int before = errno;
    sigset_t blocked;
    sigset_t mask;
    int err;

    signals_fill(&blocked);
    err = pthread_sigmask(SIG_SETMASK, &blocked, &mask);
    rdy_assert(err == 0);
    err = thread_create(thread, stack_size, fn, arg);
    rdy_assert(err >= 0);
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
    errno = before;
    return -err;
}

/* Only a name that is too long, or a file of /proc that is not there: then it has none. */
void rdy_sys_thread_set_name(const char *name)
{
    int before = errno;

    (void)pthread_setname_np(pthread_self(), name);
    errno = before;
}

size_t rdy_sys_thread_stack_min(void)
{
    return (size_t)PTHREAD_STACK_MIN;
}
