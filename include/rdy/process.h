/* SPDX-License-Identifier: MIT */
/*
 * Child processes: wait for their end and signal them, by pidfd (Linux 5.4), and start programs.
 *
 * A pidfd names one process for good: a signal cannot hit another one that got the number later,
 * and no SIGCHLD is needed. A child is waited for once: either by rdy_child_poll_exit() or by
 * waitpid(2) and the like, which must then not be called for any child (-1) while one of these is
 * open. Nor may SIGCHLD be ignored (SIG_IGN, SA_NOCLDWAIT): the kernel then keeps no exit status.
 *
 * The runtime's thread throughout, unless a call says otherwise.
 */
#ifndef RDY_PROCESS_H
#define RDY_PROCESS_H

#include <sys/resource.h>

#include <rdy/pipe.h>
#include <rdy/registration.h>
#include <rdy/runtime.h>

RDY_BEGIN_DECLS

/* How a process ended. */
struct rdy_exit_status {
    int code;  /* what it gave to exit(3), 0 to 255; -1 if a signal ended it */
    int signo; /* the signal that ended it; 0 if it left by itself */
    bool has_core;
    struct rusage usage; /* what it used, with those of its children that it waited for */
};

/* The caller's memory; {.fd = -1} is closed. Fields are private. */
struct rdy_child {
    struct rdy_registration reg;
    int fd;
    pid_t pid;
    bool has_exited;
    struct rdy_exit_status status;
};

/**
 * rdy_child_open() - watch a child process
 * @child:   written on success only; free with rdy_child_close()
 * @runtime: borrowed; must outlive @child
 * @pid:     of a child that was not waited for; it may have ended already
 *
 * Another process than a child of ours can be watched and signalled too, but its status is its
 * parent's: rdy_child_poll_exit() answers -ECHILD when it has ended.
 *
 * Return: 0 or -errno with nothing kept: -ESRCH if there is no such process, -EINVAL, -EMFILE,
 *         -ENFILE, -ENOMEM, -ENOSYS before Linux 5.4, -ESHUTDOWN.
 */
RDY_API RDY_NODISCARD int rdy_child_open(struct rdy_child *child, struct rdy_runtime *runtime,
                                         pid_t pid);

/**
 * rdy_child_poll_exit() - wait until the child has ended, and reap it
 * @child:  borrowed
 * @task:   being polled; one task waits at a time
 * @status: written when the answer is 0; may be NULL
 *
 * May be given up at RDY_PENDING: a timeout around it is RDY_TIMEOUT(). Once it answered 0 it does
 * so again, with the same status. An answer costs one operation of the budget.
 *
 * A debugger may hold a child that has ended: that is not the end, and is waited through.
 *
 * Return: 0, RDY_PENDING, -ECHILD (no child of ours, or somebody else reaped it), -EBADF,
 *         -ESHUTDOWN, ...
 */
RDY_API RDY_NODISCARD int rdy_child_poll_exit(struct rdy_child *child, struct rdy_task *task,
                                              struct rdy_exit_status *status);

/**
 * rdy_child_kill() - send a signal: to this process, and never to another with its number
 * @signo: 0 only looks whether it could be sent
 *
 * Context: any thread, while @child stays open.
 * Return:  0, also for a process that has ended and was not reaped; -ESRCH if it was; -EPERM;
 *          -EINVAL; -EBADF.
 */
RDY_API int rdy_child_kill(const struct rdy_child *child, int signo);

/* The child's number, for people; 0 if closed. */
static inline pid_t rdy_child_pid(const struct rdy_child *child)
{
    return child->fd < 0 ? 0 : child->pid;
}

/* Lets go: {.fd = -1} afterwards, and closing that does nothing. The process goes on; if it was not
 * reaped it is yours to wait for, with waitpid(2), or it stays behind as a zombie. */
RDY_API void rdy_child_close(struct rdy_child *child);

/* --- starting programs --- */

/* What a program's stdin, stdout or stderr is. */
enum rdy_stdio {
    RDY_STDIO_INHERIT = 0, /* ours */
    RDY_STDIO_NULL,        /* /dev/null */
    RDY_STDIO_PIPE,        /* a pipe, whose other end the caller gets */
};

/* Set size to sizeof(struct rdy_spawn_spec). All is borrowed for the call. */
struct rdy_spawn_spec {
    uint32_t size;
    const char *path;  /* the program's file; without a slash it is looked for in our PATH */
    char *const *argv; /* begins with the program's name, ends with NULL */
    char *const *envp; /* ends with NULL; NULL: our environment */
    enum rdy_stdio stdin_mode;
    enum rdy_stdio stdout_mode;
    enum rdy_stdio stderr_mode;
};

/* The caller's ends of the pipes that were asked for; the others are {.fd = -1}. */
struct rdy_child_pipes {
    struct rdy_pipe_sender stdin_sender;
    struct rdy_pipe_receiver stdout_receiver;
    struct rdy_pipe_receiver stderr_receiver;
};

/**
 * rdy_child_spawn() - start a program (posix_spawn(3))
 * @child:   written on success only
 * @runtime: borrowed; must outlive @child and the pipes
 * @spec:    borrowed
 * @pipes:   written on success only; may be NULL if no pipe is asked for. Close what it holds: the
 *           program sees the end of its stdin only when the sender is closed.
 *
 * The program begins with an empty signal mask, SIGPIPE at its default, and no descriptor of ours
 * beyond 0, 1 and 2 that is close-on-exec, as all of rdy's are. The thread blocks until the program
 * has been loaded, typically less than a millisecond.
 *
 * Return: 0, or -errno with no process left behind: -ENOENT if there is no such program, -EACCES,
 *         -ENOEXEC, -E2BIG, -EINVAL for a spec that does not fit, -EAGAIN (too many processes), or
 *         as rdy_child_open() and rdy_pipe_open(). If it is the watch on the new process that
 *         fails, the process has been killed: it may have run for a moment.
 */
RDY_API RDY_NODISCARD int rdy_child_spawn(struct rdy_child *child, struct rdy_runtime *runtime,
                                          const struct rdy_spawn_spec *spec,
                                          struct rdy_child_pipes *pipes);

/* Closes the pipes that are open; twice is harmless. */
RDY_API void rdy_child_pipes_close(struct rdy_child_pipes *pipes);

RDY_END_DECLS

#endif
