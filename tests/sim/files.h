/* SPDX-License-Identifier: MIT */
/*
 * The engine's descriptors: the lowest free number, as Linux gives them out, so that a number comes
 * back as another file at once. A file lives as long as a number or a request holds it; epoll's
 * watches do not.
 */
#ifndef RDY_TESTS_SIM_FILES_H
#define RDY_TESTS_SIM_FILES_H

#include "tests/sim/net.h"

#define SIM_FD_FIRST 3
#define SIM_FDS_MAX  512
#define SIM_PIPE_MAX 4096u

struct sim_pipe {
    unsigned char bytes[SIM_PIPE_MAX];
    uint32_t count;
    uint32_t ends; /* files that are open */
};

struct sim_file {
    uint32_t refs;
    struct sim_sock *sock; /* or */
    struct sim_pipe *pipe;
};

/* A descriptor for a new file, or -EMFILE with nothing taken. */
int sim_open_sock(struct sim_sock *sock);
int sim_open_pipe(int fds[2]);

/* 0, or -EBADF: which is a bug of whoever closes. */
int sim_fd_close(int fd);

/* The file of a descriptor, or NULL; keep and drop count who else holds it. */
struct sim_file *sim_file_of(int fd);
struct sim_file *sim_file_keep(struct sim_file *file);
void sim_file_drop(struct sim_file *file);

/* The socket of a descriptor, or NULL. */
struct sim_sock *sim_sock_of(int fd);

/* Descriptors, and files, that are open. */
uint32_t sim_fds_open(void);
uint32_t sim_files_open(void);

#endif
