/* SPDX-License-Identifier: MIT */
/*
 * Valgrind 3.19 takes io_uring_enter() for a call that does not block, and until it returns lets no
 * other thread of the program run: none that could wake the one that sleeps there. So in a build
 * for Valgrind the linker puts this in the place of liburing's call (--wrap, in CMakeLists.txt): it
 * looks for a completion every millisecond, and sleeps in between in a call that Valgrind knows to
 * block. Not in poll(2) on the ring, which does not hear of what DEFER_TASKRUN leaves to be done.
 * It ends with the first completion: batches are not waited for.
 *
 * In other builds nobody calls it.
 */
#include <errno.h>
#include <liburing.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define NAP_NS     1000000
#define NS_PER_S   1000000000
#define NO_TIMEOUT INT64_MAX

int __real_io_uring_enter2(unsigned fd, unsigned to_submit, unsigned min_complete, unsigned flags,
                           sigset_t *sig, size_t size);
int __wrap_io_uring_enter2(unsigned fd, unsigned to_submit, unsigned min_complete, unsigned flags,
                           sigset_t *sig, size_t size);

/* How long the caller would wait. */
static int64_t timeout_of(unsigned flags, const void *sig, size_t size)
{
    struct io_uring_getevents_arg arg;
    struct __kernel_timespec ts;

    if (!(flags & IORING_ENTER_EXT_ARG) || size != sizeof(arg))
        return NO_TIMEOUT;
    memcpy(&arg, sig, sizeof(arg));
    if (arg.ts == 0)
        return NO_TIMEOUT;
    memcpy(&ts, (const void *)(uintptr_t)arg.ts, sizeof(ts));
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* 0, -ETIME if there is none, or any other -errno. */
static int look_for_completion(unsigned fd, unsigned flags)
{
    struct __kernel_timespec at_once = {0};
    struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&at_once};

    return __real_io_uring_enter2(fd, 0, 1, flags | IORING_ENTER_EXT_ARG, (sigset_t *)(void *)&arg,
                                  sizeof(arg));
}

int __wrap_io_uring_enter2(unsigned fd, unsigned to_submit, unsigned min_complete, unsigned flags,
                           sigset_t *sig, size_t size)
{
    int submitted =
        __real_io_uring_enter2(fd, to_submit, 0, flags & ~IORING_ENTER_EXT_ARG, NULL, 0);
    int64_t left_ns = timeout_of(flags, sig, size);
    int rc;

    if (submitted < 0 || min_complete == 0)
        return submitted;
    while ((rc = look_for_completion(fd, flags)) == -ETIME && left_ns > 0) {
        struct timespec nap = {.tv_nsec = left_ns < NAP_NS ? left_ns : NAP_NS};

        if (nanosleep(&nap, NULL) < 0) {
            rc = -EINTR;
            break;
        }
        if (left_ns != NO_TIMEOUT)
            left_ns -= nap.tv_nsec;
    }
    return submitted > 0 ? submitted : rc;
}
