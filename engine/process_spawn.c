/* SPDX-License-Identifier: MIT */
/*
 * Starting a program: its pipes, the spawn, the watch on it; all or nothing.
 *
 * The program's ends of the pipes are blocking, which is what programs expect, ours are not: the
 * two ends of a pipe are two open files. Whether the program writes bytes or packets is its own
 * affair (engine/pipe.c), so ours are watched as those of a stranger.
 */
#include <rdy/process.h>

#include "engine/pipe.h"
#include "engine/runtime.h"
#include "engine/sys_pipe.h"
#include "engine/sys_process.h"

/* What a program gets as 0, 1 and 2 while it is being started; -1 or RDY_SPAWN_*: nothing of
 * ours. */
struct ends {
    int theirs[3];
};

static void ends_close(struct ends *ends)
{
    for (int i = 0; i < 3; i++)
        if (ends->theirs[i] >= 0)
            (void)rdy_sys_close(ends->theirs[i]);
}

/*
 * 0, 1 and 2 are what the spawn fills one after the other: an end that has such a number, as one of
 * ours was closed, would be overwritten before it is copied.
 */
static int keep_above_stdio(int *fd)
{
    int copy;

    if (*fd > 2)
        return 0;
    copy = rdy_sys_dup_above(*fd, 3);
    if (copy < 0)
        return copy;
    (void)rdy_sys_close(*fd);
    *fd = copy;
    return 0;
}

/* A pipe, the program's end of which is ends[@index]. On failure nothing is open. */
static int pipe_make(int index, int *theirs, int *ours)
{
    int fds[2];
    int flags;
    int rc = rdy_sys_pipe(fds, 0);

    rdy_assert(index >= 0 && index <= 2);
    if (rc < 0)
        return rc;
    *theirs = fds[index == 0 ? 0 : 1];
    *ours = fds[index == 0 ? 1 : 0];
    rc = keep_above_stdio(theirs);
    if (rc < 0)
        goto close_both;
    flags = rdy_sys_file_flags(*ours);
    rc = flags < 0 ? flags : rdy_sys_make_nonblocking(*ours, flags);
    if (rc < 0)
        goto close_both;
    return 0;

close_both:
    (void)rdy_sys_close(*theirs);
    (void)rdy_sys_close(*ours);
    *theirs = -1;
    return rc;
}

/* One of the three. On failure what it made is undone. */
static int stdio_make(int index, enum rdy_stdio mode, struct ends *ends, struct rdy_driver *driver,
                      struct rdy_child_pipes *pipes)
{
    int ours;
    int rc;

    ends->theirs[index] = mode == RDY_STDIO_NULL ? RDY_SPAWN_NULL : RDY_SPAWN_KEEP;
    if (mode != RDY_STDIO_PIPE)
        return 0;
    rc = pipe_make(index, &ends->theirs[index], &ours);
    if (rc < 0)
        return rc;
    if (index == 0)
        rc = rdy_pipe_sender_register(&pipes->stdin_sender, driver, ours, 0);
    else
        rc = rdy_pipe_receiver_register(
            index == 1 ? &pipes->stdout_receiver : &pipes->stderr_receiver, driver, ours, 0);
    if (rc < 0)
        (void)rdy_sys_close(ours);
    return rc;
}

static const struct rdy_child_pipes no_pipes = {
    .stdin_sender = {.fd = -1}, .stdout_receiver = {.fd = -1}, .stderr_receiver = {.fd = -1}};

void rdy_child_pipes_close(struct rdy_child_pipes *pipes)
{
    rdy_pipe_sender_close(&pipes->stdin_sender);
    rdy_pipe_receiver_close(&pipes->stdout_receiver);
    rdy_pipe_receiver_close(&pipes->stderr_receiver);
    rdy_assert(pipes->stdin_sender.fd < 0);
}

static bool mode_is_sane(enum rdy_stdio mode)
{
    return mode == RDY_STDIO_INHERIT || mode == RDY_STDIO_NULL || mode == RDY_STDIO_PIPE;
}

static bool spec_is_sane(const struct rdy_spawn_spec *spec, const struct rdy_child_pipes *pipes)
{
    bool wants_pipes = spec->stdin_mode == RDY_STDIO_PIPE || spec->stdout_mode == RDY_STDIO_PIPE ||
                       spec->stderr_mode == RDY_STDIO_PIPE;

    return spec->size == sizeof(*spec) && spec->path && spec->argv && spec->argv[0] &&
           mode_is_sane(spec->stdin_mode) && mode_is_sane(spec->stdout_mode) &&
           mode_is_sane(spec->stderr_mode) && (pipes || !wants_pipes);
}

static int child_start(struct rdy_child *child, struct rdy_runtime *runtime,
                       const struct rdy_spawn_spec *spec, const struct ends *ends)
{
    struct rdy_sys_spawn spawn = {.path = spec->path, .argv = spec->argv, .envp = spec->envp};
    int pid;
    int rc;

    memcpy(spawn.stdio, ends->theirs, sizeof(spawn.stdio));
    pid = rdy_sys_spawn(&spawn);
    if (pid < 0)
        return pid;
    rc = rdy_child_open(child, runtime, pid);
    if (rc < 0)
        rdy_sys_kill_and_reap(pid);
    return rc;
}

int rdy_child_spawn(struct rdy_child *child, struct rdy_runtime *runtime,
                    const struct rdy_spawn_spec *spec, struct rdy_child_pipes *pipes)
{
    const enum rdy_stdio modes[3] = {spec->stdin_mode, spec->stdout_mode, spec->stderr_mode};
    struct ends ends = {.theirs = {RDY_SPAWN_KEEP, RDY_SPAWN_KEEP, RDY_SPAWN_KEEP}};
    struct rdy_child_pipes made = no_pipes;
    int rc = spec_is_sane(spec, pipes) ? 0 : -EINVAL;

    for (int i = 0; i < 3 && rc == 0; i++)
        rc = stdio_make(i, modes[i], &ends, runtime->driver, &made);
    if (rc == 0)
        rc = child_start(child, runtime, spec, &ends);
    ends_close(&ends);
    if (rc < 0)
        rdy_child_pipes_close(&made);
    else if (pipes)
        *pipes = made;
    return rc;
}
