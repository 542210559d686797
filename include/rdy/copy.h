/* SPDX-License-Identifier: MIT */
/*
 * Copying streams: one direction, or both with half close, which is what a proxy is.
 *
 * A copy that has nothing to carry holds no memory but its struct. Data is read into scratch memory
 * that the runtime has once, for all copies, and is written at once; only what the receiver does
 * not take goes into a buffer of the direction, which is freed when it is flushed. While a receiver
 * is slow its direction reads on until that buffer is full, and the other direction is not touched
 * by it. A copy gives way to other tasks after a budget's worth of reads and writes or 1 MiB,
 * whichever comes first, and its two directions take turns.
 *
 * A copy may be given up at RDY_PENDING and polled again: it holds what it has read and not
 * written. Ended for good before it has answered, by rdy_copy_close(), that is lost. Urgent data
 * is not carried. The runtime's thread throughout.
 */
#ifndef RDY_COPY_H
#define RDY_COPY_H

#include <rdy/net.h>

RDY_BEGIN_DECLS

/* Set size to sizeof(struct rdy_copy_opts), the rest to zero for defaults. */
struct rdy_copy_opts {
    uint32_t size;
    uint32_t held_max; /* bytes that a direction holds for a slow receiver; default 65536 */
    bool is_splice;    /* move the bytes by splice(2), through a pipe, where the kernel can */
};

/* One direction. The caller's memory, kept while it is open; {0} is closed. Fields are private. */
struct rdy_copy {
    struct rdy_stream *from;
    struct rdy_stream *to;
    struct rdy_runtime *runtime;
    unsigned char *held;
    uint32_t held_begin;
    uint32_t held_end;
    uint32_t held_max;
    uint32_t flags;
    int pipe[2];
    uint32_t piped;
    int32_t result;
    uint64_t bytes;
};

/**
 * rdy_copy_open() - prepare to carry what one stream brings to another
 * @copy: written on success only; nothing is held before the first poll
 * @from: kept until rdy_copy_close(); its reading is the copy's
 * @to:   kept as long; its writing is the copy's. May be @from: an echo.
 * @opts: borrowed; NULL for defaults
 *
 * With is_splice chunks of 64 KiB cost a few percent less and small ones a quarter more
 * (bench/bench_copy.cc). A pipe is held only while something is in it, at most held_max bytes, and
 * nothing is read past it. Where the kernel or the process has no splice or no pipe, the direction
 * goes on by copying.
 *
 * Return: 0, or -EINVAL: bad @opts, held_max above 1 MiB.
 */
RDY_API RDY_NODISCARD int rdy_copy_open(struct rdy_copy *copy, struct rdy_stream *from,
                                        struct rdy_stream *to, const struct rdy_copy_opts *opts);

/**
 * rdy_copy_poll() - carry on
 * @task: being polled; woken when either stream can go on
 *
 * At the end of @from everything has been written to @to, which is not shut down. After an answer
 * the copy holds nothing, and gives the same answer again.
 *
 * Return: 0 at the end, RDY_PENDING, or the first -errno of either stream; -ENOMEM.
 */
RDY_API RDY_NODISCARD int rdy_copy_poll(struct rdy_copy *copy, struct rdy_task *task);

/* Gives back what the copy holds; {0} afterwards, and closing that does nothing. Before the streams
 * and the runtime are closed: a task that may be aborted does it in its drop. */
RDY_API void rdy_copy_close(struct rdy_copy *copy);

/* Bytes that were written to the receiver so far, also after an error, until it is closed. */
static inline uint64_t rdy_copy_bytes(const struct rdy_copy *copy)
{
    return copy->bytes;
}

/* Both directions between two streams. The caller's memory, kept while it is open; {0} is closed.
 * For rdy_copy_bytes(): `a_to_b` and `b_to_a`. The other fields are private. */
struct rdy_copy_both {
    struct rdy_copy a_to_b;
    struct rdy_copy b_to_a;
    int32_t result;
    uint32_t first;
};

/**
 * rdy_copy_both_open() - prepare to join two streams
 * @both: written on success only
 * @a:    kept until rdy_copy_both_close()
 * @b:    kept as long; not @a
 * @opts: borrowed; NULL for defaults. For each direction.
 *
 * Return: 0, or -EINVAL as rdy_copy_open(), or if @a is @b.
 */
RDY_API RDY_NODISCARD int rdy_copy_both_open(struct rdy_copy_both *both, struct rdy_stream *a,
                                             struct rdy_stream *b,
                                             const struct rdy_copy_opts *opts);

/**
 * rdy_copy_both_poll() - carry on in both directions
 * @task: being polled
 *
 * When one stream has ended and what it sent is written, the other's writing is shut down, and the
 * opposite direction goes on. The answer is 0 when both have ended. The first error of either
 * stream ends both directions. Then the copies hold nothing; the streams are still to be closed.
 *
 * Return: 0, RDY_PENDING, or -errno; the same again after an answer.
 */
RDY_API RDY_NODISCARD int rdy_copy_both_poll(struct rdy_copy_both *both, struct rdy_task *task);

/* Gives back what both directions hold; as rdy_copy_close(). */
RDY_API void rdy_copy_both_close(struct rdy_copy_both *both);

/* What the copies of a runtime have carried and hold. */
struct rdy_copy_stats {
    uint64_t bytes_copied;  /* through memory */
    uint64_t bytes_spliced; /* through pipes */
    uint64_t buffers_taken; /* times that a receiver was slower than its sender */
    uint64_t buffers_live;  /* gauge: directions that hold a buffer of held_max */
    uint64_t buffer_bytes;  /* gauge: their sum */
    uint64_t pipes_live;    /* gauge: in use or spare, two descriptors each */
    uint64_t pipes_spare;   /* gauge: at most 16 are kept */
    uint64_t scratch_bytes; /* gauge: of the runtime, from the first copy on */
};

/* A snapshot. The runtime's thread. */
RDY_API void rdy_copy_read_stats(const struct rdy_runtime *runtime, struct rdy_copy_stats *stats);

RDY_END_DECLS

#endif
