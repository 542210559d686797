/* SPDX-License-Identifier: MIT */
/*
 * Halves of a stream: one allocation holds the stream and counts its halves. They share the stream
 * rather than copy it, because what a read has proven about the socket is kept there.
 */
#include <rdy/split.h>

#include <stdlib.h>

#include "engine/base.h"

struct split {
    struct rdy_stream stream;
    uint32_t halves; /* that are open: 2, then 1 */
};

static struct split *split_of(struct rdy_stream *stream)
{
    struct split *split = rdy_container_of(stream, struct split, stream);

    rdy_assert(split->halves == 1 || split->halves == 2);
    return split;
}

int rdy_stream_split(struct rdy_stream *stream, struct rdy_read_half *read_half,
                     struct rdy_write_half *write_half)
{
    struct split *split;

    if (stream->fd < 0)
        return -EBADF;
    split = malloc(sizeof(*split));
    if (!split)
        return -ENOMEM;
    split->stream = *stream;
    split->halves = 2;
    *stream = (struct rdy_stream){.fd = -1};
    read_half->stream = &split->stream;
    write_half->stream = &split->stream;
    return 0;
}

static void split_let_go(struct rdy_stream **stream)
{
    struct split *split = split_of(*stream);

    *stream = NULL;
    if (--split->halves > 0)
        return;
    rdy_stream_close(&split->stream);
    free(split);
}

void rdy_read_half_close(struct rdy_read_half *read_half)
{
    if (read_half->stream)
        split_let_go(&read_half->stream);
}

/* Also for the last half: a ring may hold the file, and then close(2) alone sends no FIN yet. */
void rdy_write_half_close(struct rdy_write_half *write_half)
{
    if (!write_half->stream)
        return;
    (void)rdy_stream_shutdown(write_half->stream, SHUT_WR);
    split_let_go(&write_half->stream);
}

void rdy_write_half_forget(struct rdy_write_half *write_half)
{
    if (write_half->stream)
        split_let_go(&write_half->stream);
}

int rdy_stream_reunite(struct rdy_read_half *read_half, struct rdy_write_half *write_half,
                       struct rdy_stream *stream)
{
    struct split *split;

    if (!read_half->stream || read_half->stream != write_half->stream)
        return -EINVAL;
    split = split_of(read_half->stream);
    rdy_assert(split->halves == 2);
    *stream = split->stream;
    *read_half = (struct rdy_read_half){0};
    *write_half = (struct rdy_write_half){0};
    free(split);
    return 0;
}
