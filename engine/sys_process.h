/* SPDX-License-Identifier: MIT */
/* Processes: as in engine/sys.h, -errno instead of errno, and EINTR dealt with. */
#ifndef RDY_ENGINE_SYS_PROCESS_H
#define RDY_ENGINE_SYS_PROCESS_H

#include <signal.h>
#include <sys/resource.h>

#include "engine/base.h"

/* Close-on-exec. The descriptor or -errno. */
int rdy_sys_pidfd_open(pid_t pid);

int rdy_sys_pidfd_kill(int fd, int signo);

/* Reaps the child: 1 and @info, @usage; 0: it has not ended, or is somebody else's for now. */
int rdy_sys_pidfd_reap(int fd, siginfo_t *info, struct rusage *usage);

/* Ends a child of ours that has no pidfd, and reaps it. */
void rdy_sys_kill_and_reap(pid_t pid);

/* A copy of @fd with a number of at least @lowest, close-on-exec. */
int rdy_sys_dup_above(int fd, int lowest);

/* What becomes the program's descriptor of that index: -1 stays as it is. */
#define RDY_SPAWN_KEEP -1
#define RDY_SPAWN_NULL -2

struct rdy_sys_spawn {
    const char *path;
    char *const *argv;
    char *const *envp; /* NULL: ours */
    int stdio[3];      /* a descriptor above 2, or RDY_SPAWN_* */
};

/* posix_spawnp(3), with an empty signal mask and SIGPIPE at its default. The pid or -errno. */
int rdy_sys_spawn(const struct rdy_sys_spawn *spawn);

#endif
