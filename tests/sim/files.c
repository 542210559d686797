/* SPDX-License-Identifier: MIT */
/* Descriptors and files: see files.h. */
#include "tests/sim/files.h"

#include <errno.h>
#include <stdlib.h>

static struct sim_file *table[SIM_FDS_MAX];
static uint32_t fds_open;
static uint32_t files_open;

static struct sim_file *file_make(void)
{
    struct sim_file *file = calloc(1, sizeof(*file));

    if (!file)
        abort();
    file->refs = 1;
    files_open++;
    return file;
}

static bool has_room(uint32_t count)
{
    return fds_open + count <= sim.weather.fds_max && !sim_one_of(sim.weather.shortage_one_of);
}

static int fd_take(struct sim_file *file)
{
    for (int fd = SIM_FD_FIRST; fd < SIM_FDS_MAX; fd++) {
        if (!table[fd]) {
            table[fd] = file;
            fds_open++;
            return fd;
        }
    }
    abort();
}

int sim_open_sock(struct sim_sock *sock)
{
    struct sim_file *file;

    if (!has_room(1))
        return -EMFILE;
    file = file_make();
    file->sock = sock;
    return fd_take(file);
}

int sim_open_pipe(int fds[2])
{
    struct sim_pipe *pipe;

    if (!has_room(2))
        return -EMFILE;
    pipe = calloc(1, sizeof(*pipe));
    if (!pipe)
        abort();
    for (int i = 0; i < 2; i++) {
        struct sim_file *file = file_make();

        file->pipe = pipe;
        pipe->ends++;
        fds[i] = fd_take(file);
    }
    return 0;
}

struct sim_file *sim_file_of(int fd)
{
    return fd >= 0 && fd < SIM_FDS_MAX ? table[fd] : NULL;
}

struct sim_sock *sim_sock_of(int fd)
{
    struct sim_file *file = sim_file_of(fd);

    return file ? file->sock : NULL;
}

struct sim_file *sim_file_keep(struct sim_file *file)
{
    file->refs++;
    return file;
}

void sim_file_drop(struct sim_file *file)
{
    if (--file->refs > 0)
        return;
    files_open--;
    if (file->sock)
        sim_sock_close(file->sock, false);
    else if (--file->pipe->ends == 0)
        free(file->pipe);
    free(file);
}

int sim_fd_close(int fd)
{
    struct sim_file *file = sim_file_of(fd);

    if (!file)
        return -EBADF;
    table[fd] = NULL;
    fds_open--;
    sim_file_drop(file);
    return 0;
}

uint32_t sim_fds_open(void)
{
    return fds_open;
}

uint32_t sim_files_open(void)
{
    return files_open;
}
