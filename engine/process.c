/* SPDX-License-Identifier: MIT */
/*
 * Child processes over a pidfd: wait, reap, signal.
 *
 * That the pidfd is readable is a hint: the last thread of the process is gone, but while a
 * debugger is attached the kernel tells the parent nothing yet, and waitid(2) finds no child to
 * reap. When the debugger lets go the pidfd is woken again; so the hint is cleared, and waited on.
 */
#include <rdy/process.h>

#include <sys/wait.h>

#include "engine/file_wait.h"
#include "engine/sys_process.h"

int rdy_child_open(struct rdy_child *child, struct rdy_runtime *runtime, pid_t pid)
{
    struct rdy_child made = {.pid = pid};
    int rc;

    if (pid <= 0)
        return -EINVAL;
    made.fd = rdy_sys_pidfd_open(pid);
    if (made.fd < 0)
        return made.fd;
    rc = rdy_register_kind(runtime->driver, made.fd, RDY_INTEREST_READ, RDY_FILE_OTHER, &made.reg);
    if (rc < 0) {
        (void)rdy_sys_close(made.fd);
        return rc;
    }
    *child = made;
    return 0;
}

static void status_fill(struct rdy_exit_status *status, const siginfo_t *info)
{
    bool has_left = info->si_code == CLD_EXITED;

    status->code = has_left ? info->si_status : -1;
    status->signo = has_left ? 0 : info->si_status;
    status->has_core = info->si_code == CLD_DUMPED;
}

/* 0: reaped. -EAGAIN: not yet. */
static int child_reap(struct rdy_child *child)
{
    siginfo_t info;
    int rc = rdy_sys_pidfd_reap(child->fd, &info, &child->status.usage);

    if (rc == 0)
        return -EAGAIN;
    if (rc < 0)
        return rc;
    rdy_assert(!child->has_exited); /* reaped once */
    status_fill(&child->status, &info);
    child->has_exited = true;
    return 0;
}

int rdy_child_poll_exit(struct rdy_child *child, struct rdy_task *task,
                        struct rdy_exit_status *status)
{
    int rc = child->has_exited ? 0 : -EAGAIN;

    if (child->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX && rc == -EAGAIN; tries++) {
        struct rdy_event event;

        rc = rdy_file_wait(&child->reg, task, RDY_DIRECTION_READ, &event);
        if (rc != 0)
            return rc;
        rc = child_reap(child);
        if (rc == -EAGAIN)
            rdy_clear_readiness(&child->reg, event);
    }
    if (rc == -EAGAIN)
        return rdy_task_give_way(task);
    if (rc == 0 && status)
        *status = child->status;
    rdy_task_spend(task);
    return rc;
}

int rdy_child_kill(const struct rdy_child *child, int signo)
{
    return child->fd < 0 ? -EBADF : rdy_sys_pidfd_kill(child->fd, signo);
}

void rdy_child_close(struct rdy_child *child)
{
    if (child->fd >= 0)
        (void)rdy_close(&child->reg);
    *child = (struct rdy_child){.fd = -1};
}
