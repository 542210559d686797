/* SPDX-License-Identifier: MIT */
/* The system calls for processes. Any thread may call any of them. */
#include "engine/sys_process.h"
#include "engine/sys_call.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

/* As the C library numbers it since 2.36; the kernel's own since 5.4. */
#define RDY_P_PIDFD 3

int rdy_sys_pidfd_open(pid_t pid)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try((int)syscall(SYS_pidfd_open, pid, 0)));
}

int rdy_sys_pidfd_kill(int fd, int signo)
{
    int before = errno;

    return (int)rdy_sys_end(before,
                            rdy_sys_try((int)syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0)));
}

/* The C library's waitid(3) has no place for the usage. */
int rdy_sys_pidfd_reap(int fd, siginfo_t *info, struct rusage *usage)
{
    int before = errno;
    long result;

    memset(info, 0, sizeof(*info));
    do {
        result = rdy_sys_try(syscall(SYS_waitid, RDY_P_PIDFD, fd, info, WEXITED | WNOHANG, usage));
    } while (rdy_sys_was_interrupted(result));
    result = rdy_sys_end(before, result);
    if (result < 0)
        return (int)result;
    return info->si_pid != 0 ? 1 : 0;
}

/* A number that we have not reaped is still our child's. */
void rdy_sys_kill_and_reap(pid_t pid)
{
    int before = errno;

    rdy_assert(pid > 0);
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    errno = before;
}

int rdy_sys_dup_above(int fd, int lowest)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(fcntl(fd, F_DUPFD_CLOEXEC, lowest)));
}

/* These return their error instead of setting errno. */
static int spawn_actions_fill(posix_spawn_file_actions_t *actions, const int stdio[3])
{
    int err = 0;

    for (int fd = 0; fd < 3 && err == 0; fd++) {
        rdy_assert(stdio[fd] > 2 || stdio[fd] < 0);
        if (stdio[fd] == RDY_SPAWN_NULL)
            err = posix_spawn_file_actions_addopen(actions, fd, "/dev/null",
                                                   fd == 0 ? O_RDONLY : O_WRONLY, 0);
        else if (stdio[fd] >= 0)
            err = posix_spawn_file_actions_adddup2(actions, stdio[fd], fd);
    }
    return err;
}

static int spawn_attributes_fill(posix_spawnattr_t *attributes)
{
    sigset_t none;
    sigset_t pipe_only;
    int err;

    (void)sigemptyset(&none);
    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    err = posix_spawnattr_setsigmask(attributes, &none);
    if (err == 0)
        err = posix_spawnattr_setsigdefault(attributes, &pipe_only);
    if (err == 0)
        err = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return err;
}

static int spawn_with(const struct rdy_sys_spawn *spawn, posix_spawn_file_actions_t *actions,
                      posix_spawnattr_t *attributes, pid_t *pid)
{
    int err = spawn_actions_fill(actions, spawn->stdio);

    if (err == 0)
        err = spawn_attributes_fill(attributes);
    if (err == 0)
        err = rdy_sys_fails() ? errno
                              : posix_spawnp(pid, spawn->path, actions, attributes, spawn->argv,
                                             spawn->envp ? spawn->envp : environ);
    return err;
}

int rdy_sys_spawn(const struct rdy_sys_spawn *spawn)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int before = errno;
    pid_t pid = 0;
    int err = posix_spawn_file_actions_init(&actions);

    if (err != 0)
        return -err;
    err = posix_spawnattr_init(&attributes);
    if (err == 0) {
        err = spawn_with(spawn, &actions, &attributes, &pid);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    errno = before;
    rdy_assert(err != 0 || pid > 0);
    return err != 0 ? -err : pid;
}
