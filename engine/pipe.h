/* SPDX-License-Identifier: MIT */
/* What the two pipe files and the child processes share: flags, and making ends of descriptors. */
#ifndef RDY_ENGINE_PIPE_H
#define RDY_ENGINE_PIPE_H

#include <rdy/pipe.h>

#include "engine/base.h"
#include "engine/sys.h"

/* The writer is ours and writes bytes: a short read found the pipe empty. */
#define RDY_PIPE_BYTES 0x1u
/* The kernel cannot be told to spare us SIGPIPE: its answer to the first write. */
#define RDY_PIPE_MASKED 0x2u

/*
 * The kind of file that an end is watched as. A hang-up is final only where nobody can come back: a
 * FIFO, and for all we know any pipe whose other end is not ours, gets new writers and readers.
 */
static inline enum rdy_file_kind rdy_pipe_kind(uint32_t flags)
{
    return flags & RDY_PIPE_BYTES ? RDY_FILE_FIFO : RDY_FILE_OTHER;
}

/* Registers @fd, nonblocking, which is taken on success; writes the end on success only. */
int rdy_pipe_receiver_register(struct rdy_pipe_receiver *receiver, struct rdy_driver *driver,
                               int fd, uint32_t flags);
int rdy_pipe_sender_register(struct rdy_pipe_sender *sender, struct rdy_driver *driver, int fd,
                             uint32_t flags);

#endif
