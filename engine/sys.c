/* SPDX-License-Identifier: MIT */
/*
 * The engine's system calls, one wrapper each; engine/sys_call.h says what a wrapper does. Any
 * thread may call any of them: the only state is per thread.
 */
#include "engine/sys.h"
#include "engine/sys_call.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

/* --- files --- */

static int file_status(int fd, struct stat *status)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(fstat(fd, status)));
}

/* A seqpacket socket has a connection that ends, as a stream has; message bounds do not matter. */
static int socket_kind(int fd, enum rdy_file_kind *kind)
{
    int type = 0;
    int err = rdy_sys_getsockopt_int(fd, SOL_SOCKET, SO_TYPE, &type);

    if (err != 0)
        return err;
    *kind = type == SOCK_STREAM || type == SOCK_SEQPACKET ? RDY_FILE_STREAM : RDY_FILE_DATAGRAM;
    return 0;
}

/*
 * A pipe without a name is over when the other end has gone. One with a name is not: the next
 * writer or reader opens it, and a flag that says "closed" for good would be false.
 */
static int pipe_kind(int fd, enum rdy_file_kind *kind)
{
    struct statfs system;
    int before = errno;
    int err = (int)rdy_sys_end(before, rdy_sys_try(fstatfs(fd, &system)));

    if (err != 0)
        return err;
    *kind = system.f_type == PIPEFS_MAGIC ? RDY_FILE_FIFO : RDY_FILE_OTHER;
    return 0;
}

int rdy_sys_file_kind(int fd, enum rdy_file_kind *kind)
{
    struct stat status;
    int err = file_status(fd, &status);

    if (err != 0)
        return err;
    if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
        return -EPERM;
    if (S_ISSOCK(status.st_mode))
        return socket_kind(fd, kind);
    if (S_ISFIFO(status.st_mode))
        return pipe_kind(fd, kind);
    if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode))
        *kind = RDY_FILE_DEVICE;
    else
        *kind = RDY_FILE_OTHER;
    return 0;
}

int rdy_sys_eventfd(void)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)));
}

/* A full counter is as readable as a written one: EAGAIN means that the wake is there already. */
int rdy_sys_eventfd_write(int fd)
{
    int before = errno;
    uint64_t one = 1;
    ssize_t result;

    do {
        result = rdy_sys_try(write(fd, &one, sizeof(one)));
    } while (rdy_sys_was_interrupted(result));
    result = rdy_sys_end(before, result);
    return result < 0 && result != -EAGAIN ? (int)result : 0;
}

int rdy_sys_eventfd_drain(int fd)
{
    int before = errno;
    uint64_t count = 0;
    ssize_t result;

    do {
        result = rdy_sys_try(read(fd, &count, sizeof(count)));
    } while (rdy_sys_was_interrupted(result));
    result = rdy_sys_end(before, result);
    return result < 0 && result != -EAGAIN ? (int)result : 0;
}

/*
 * Linux frees the descriptor whatever it returns. So it is never closed twice, EINTR is no failure,
 * and an injected one is reported after the descriptor is gone, as the kernel would.
 */
int rdy_sys_close(int fd)
{
    int before = errno;
    bool is_fault = rdy_sys_fails();
    int fault = errno;
    ssize_t result = close(fd);

    if (is_fault) {
        result = -1;
        errno = fault;
    }
    result = rdy_sys_end(before, result);
    return result == -EINTR ? 0 : (int)result;
}

/* --- time, threads --- */

uint64_t rdy_sys_now_ns(void)
{
    struct timespec now;

    /* It can fail for an unknown clock or a bad address only. */
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * (uint64_t)RDY_NS_PER_S + (uint64_t)now.tv_nsec;
}

/*
 * The caller's id, asked for once. A forked child inherits the variable but not the id, so the
 * child's only thread forgets it; where that cannot be arranged, nothing is remembered.
 */
static _Thread_local uint64_t thread_id_known;
static bool thread_id_may_be_known;

static void thread_id_forget(void)
{
    thread_id_known = 0;
}

/* Before main() and not on first use, as that may be in a signal handler. */
__attribute__((constructor)) static void thread_id_watch_forks(void)
{
    thread_id_may_be_known = pthread_atfork(NULL, NULL, thread_id_forget) == 0;
}

RDY_HOT uint64_t rdy_sys_thread_id(void)
{
    uint64_t id = thread_id_known;

    if (rdy_likely(id != 0))
        return id;
    id = (uint64_t)gettid();
    if (thread_id_may_be_known)
        thread_id_known = id;
    return id;
}

void rdy_sys_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* yield is a no-op on most cores, isb waits a little */
#elif defined(__powerpc64__)
    __asm__ volatile("or 27,27,27" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

/* Returns for any reason: the word had changed (EAGAIN), a signal (EINTR), a wake. Callers look. */
void rdy_sys_futex_wait(uint32_t *word, uint32_t seen)
{
    int before = errno;

    (void)rdy_sys_end(before, syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0));
}

void rdy_sys_futex_wake(uint32_t *word, int waiters)
{
    int before = errno;

    (void)rdy_sys_end(before, syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, waiters, NULL, NULL, 0));
}

/* --- sockets --- */

int rdy_sys_socket(int family, int type, int protocol)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(socket(family, type | SOCK_CLOEXEC, protocol)));
}

int rdy_sys_bind(int fd, const struct sockaddr *addr, socklen_t addr_len)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(bind(fd, addr, addr_len)));
}

int rdy_sys_listen(int fd, int backlog)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(listen(fd, backlog)));
}

int rdy_sys_accept(int fd)
{
    int before = errno;
    int accepted;

    do {
        accepted = rdy_sys_try(accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    } while (rdy_sys_was_interrupted(accepted));
    return (int)rdy_sys_end(before, accepted);
}

/* After EINTR the connection goes on in the background, as after EINPROGRESS: say the latter. */
int rdy_sys_connect(int fd, const struct sockaddr *addr, socklen_t addr_len)
{
    int before = errno;
    int result = (int)rdy_sys_end(before, rdy_sys_try(connect(fd, addr, addr_len)));

    return result == -EINTR ? -EINPROGRESS : result;
}

int rdy_sys_getsockname(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(getsockname(fd, addr, addr_len)));
}

int rdy_sys_setsockopt_int(int fd, int level, int name, int value)
{
    int before = errno;

    return (int)rdy_sys_end(
        before, rdy_sys_try(setsockopt(fd, level, name, &value, (socklen_t)sizeof(value))));
}

int rdy_sys_getsockopt_int(int fd, int level, int name, int *value)
{
    int before = errno;
    socklen_t value_size = (socklen_t)sizeof(*value);

    return (int)rdy_sys_end(before, rdy_sys_try(getsockopt(fd, level, name, value, &value_size)));
}

int rdy_sys_shutdown(int fd, int how)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(shutdown(fd, how)));
}

RDY_HOT ssize_t rdy_sys_recv(int fd, void *buf, size_t len)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_recv(fd, buf, len, 0));
    } while (rdy_sys_was_interrupted(result));
    return rdy_sys_end(before, result);
}

/*
 * A peer that has gone is -EPIPE and never a signal. EINPROGRESS is the first send on a socket with
 * TCP_FASTOPEN_CONNECT whose SYN had to go without data: like EAGAIN, the socket says when to try.
 */
RDY_HOT ssize_t rdy_sys_send(int fd, const void *data, size_t len)
{
    int before = errno;
    ssize_t result;

    do {
        result = rdy_sys_try(rdy_bare_send(fd, data, len, MSG_NOSIGNAL));
    } while (rdy_sys_was_interrupted(result));
    result = rdy_sys_end(before, result);
    return result == -EINPROGRESS ? -EAGAIN : result;
}
