/* SPDX-License-Identifier: MIT */
/*
 * Copies. A direction advances in steps, each of which is at most a read and a write; two
 * directions take their steps in turn, so that a busy one does not starve the other.
 *
 * What has been read and not written is either held in memory or in a pipe, never in both; while
 * there is any, nothing is read past it but into the same buffer. So order is kept whatever fails.
 *
 * What splice(2) gets wrong, and how it is met here:
 *
 * - At a TCP urgent mark it says EAGAIN, or 0 as at the end, although data is behind the mark, and
 *   says it again and again, where recv(2) would get past the mark. So its 0 is never believed, and
 *   its EAGAIN only where an event shows that there is no mark: else recv(2) decides.
 * - It returns what a pipe's slots hold, however little that is in bytes: short proves nothing.
 * - EAGAIN also means that the pipe is full: splicing begins with an empty one only.
 * - Into a connection that is gone it raises SIGPIPE: see rdy_sys_splice_out().
 * - It may be refused for this socket or in this container: copying takes over, with what the pipe
 *   has already.
 */
#include <rdy/copy.h>

#include "engine/copy_pool.h"
#include "engine/stream_ops.h"
#include "engine/sys_splice.h"

/* rdy_copy.flags */
#define COPY_SPLICES  0x1u /* until it is refused */
#define COPY_SHUTS    0x2u /* the receiver's writing at the end */
#define COPY_IS_DRY   0x4u /* the sender has ended */
#define COPY_HAS_PIPE 0x8u

#define HELD_MAX_DEFAULT 65536u
#define HELD_MAX_MAX     (1u << 20)

/* A poll that has moved so much lets others run: a budget of large reads is milliseconds. */
#define MOVED_MAX ((size_t)1 << 20)

static struct rdy_copy_pool *pool_of(const struct rdy_copy *copy)
{
    rdy_debug(copy->runtime && copy->runtime->copy_pool);
    return copy->runtime->copy_pool;
}

/* --- what a direction holds --- */

static size_t held_len(const struct rdy_copy *copy)
{
    return copy->held_end - copy->held_begin;
}

static void held_free(struct rdy_copy *copy)
{
    if (!copy->held)
        return;
    rdy_copy_pool_give_buffer(pool_of(copy), copy->held, copy->held_max);
    copy->held = NULL;
    copy->held_begin = 0;
    copy->held_end = 0;
}

static int held_make(struct rdy_copy *copy)
{
    rdy_assert(!copy->held);
    copy->held = rdy_copy_pool_take_buffer(pool_of(copy), copy->held_max);
    return copy->held ? 0 : -ENOMEM;
}

static void pipe_give_back(struct rdy_copy *copy)
{
    if (!(copy->flags & COPY_HAS_PIPE))
        return;
    rdy_copy_pool_give_pipe(pool_of(copy), copy->pipe, copy->piped == 0);
    copy->flags &= ~COPY_HAS_PIPE;
    copy->piped = 0;
}

static void copy_release(struct rdy_copy *copy)
{
    held_free(copy);
    pipe_give_back(copy);
}

/* --- reading --- */

/* So much is read at once that what is not written can be held. */
static size_t chunk_len(const struct rdy_copy *copy)
{
    return copy->held_max < RDY_COPY_SCRATCH ? copy->held_max : RDY_COPY_SCRATCH;
}

/* "Not here": for this kind of socket, in this kernel, under this container's filter. */
static bool is_refusal(ssize_t error)
{
    return error == -EINVAL || error == -ENOSYS || error == -EPERM;
}

static ssize_t splice_in(struct rdy_copy *copy, int fd)
{
    int rc = 0;

    if (!(copy->flags & COPY_HAS_PIPE))
        rc = rdy_copy_pool_take_pipe(pool_of(copy), copy->pipe);
    if (rc < 0)
        return -ENOSYS; /* out of descriptors, say: no pipe is as good as no splice */
    copy->flags |= COPY_HAS_PIPE;
    return rdy_sys_splice_in(fd, copy->pipe[1], copy->held_max);
}

/*
 * True if EAGAIN of splice(2) means "empty". What a short read proves on io_uring is not enough: it
 * leans on a second event of a mark, which finds the splice as stuck as the first.
 */
static bool is_no_mark(const struct rdy_stream *stream, struct rdy_event event)
{
    return (stream->flags & (RDY_SOCKET_STATES | RDY_SOCKET_MARKED)) == RDY_SOCKET_STATES &&
           (rdy_event_ready(event) & (RDY_PRIORITY | RDY_READ_CLOSED)) == 0;
}

/* An attempt to read into a pipe. Where splice(2) leaves it open, into the scratch memory. */
static ssize_t try_splice(const struct rdy_stream *stream, struct rdy_event event, void *op)
{
    struct rdy_copy *copy = op;
    ssize_t count = splice_in(copy, stream->fd);

    rdy_debug(copy->piped == 0);
    if (count > 0) {
        copy->piped = (uint32_t)count;
        return count;
    }
    if (is_refusal(count))
        copy->flags &= ~COPY_SPLICES;
    else if (count < 0 && count != -EAGAIN)
        return count;
    else if (count == -EAGAIN && is_no_mark(stream, event))
        return count;
    return rdy_sys_recv(stream->fd, pool_of(copy)->scratch, chunk_len(copy));
}

static ssize_t copy_read(struct rdy_copy *copy, struct rdy_task *task)
{
    ssize_t count;

    if (!(copy->flags & COPY_SPLICES))
        return rdy_stream_poll_read(copy->from, task, pool_of(copy)->scratch, chunk_len(copy));
    if (copy->from->fd < 0)
        return -EBADF;
    count = rdy_stream_read_with(copy->from, task, try_splice, copy, RDY_STREAM_NO_SHORT);
    if (copy->piped == 0)
        pipe_give_back(copy);
    if (count != -EBUSY)
        return count;
    copy->flags &= ~COPY_SPLICES; /* the ring receives it */
    return rdy_stream_poll_read(copy->from, task, pool_of(copy)->scratch, chunk_len(copy));
}

/* The receiver is busy: reads on, as long as there is room. */
static ssize_t copy_read_ahead(struct rdy_copy *copy, struct rdy_task *task)
{
    ssize_t count;

    if ((copy->flags & COPY_IS_DRY) || copy->held_end == copy->held_max)
        return RDY_PENDING;
    count = rdy_stream_poll_read(copy->from, task, copy->held + copy->held_end,
                                 copy->held_max - copy->held_end);
    if (count > 0)
        copy->held_end += (uint32_t)count;
    if (count != 0)
        return count;
    copy->flags |= COPY_IS_DRY;
    return RDY_PENDING;
}

/* --- writing --- */

static void copy_count(struct rdy_copy *copy, ssize_t count, uint64_t *sum)
{
    rdy_debug(count >= 0);
    copy->bytes += (uint64_t)count;
    *sum += (uint64_t)count;
}

/* Writes what was just read; what is not taken is held from then on. */
static ssize_t step_write(struct rdy_copy *copy, struct rdy_task *task, size_t len)
{
    struct rdy_copy_pool *pool = pool_of(copy);
    ssize_t count = rdy_stream_poll_write(copy->to, task, pool->scratch, len);
    int rc;

    if (count < 0 && count != RDY_PENDING)
        return count;
    if (count == RDY_PENDING)
        count = 0;
    copy_count(copy, count, &pool->count.bytes_copied);
    if ((size_t)count == len)
        return count;
    rc = held_make(copy);
    if (rc < 0)
        return rc;
    copy->held_end = (uint32_t)(len - (size_t)count);
    rdy_assert(copy->held_end <= copy->held_max);
    memcpy(copy->held, pool->scratch + count, copy->held_end);
    return (ssize_t)len;
}

static ssize_t step_flush(struct rdy_copy *copy, struct rdy_task *task)
{
    ssize_t count =
        rdy_stream_poll_write(copy->to, task, copy->held + copy->held_begin, held_len(copy));

    if (count == RDY_PENDING)
        return copy_read_ahead(copy, task);
    if (count < 0)
        return count;
    copy_count(copy, count, &pool_of(copy)->count.bytes_copied);
    copy->held_begin += (uint32_t)count;
    if (held_len(copy) == 0)
        held_free(copy);
    return count;
}

static ssize_t try_unsplice(const struct rdy_stream *stream, struct rdy_event event, void *op)
{
    const struct rdy_copy *copy = op;

    (void)event;
    return rdy_sys_splice_out(copy->pipe[0], stream->fd, copy->piped);
}

/* The receiver refused a splice: what is in the pipe goes the other way. */
static ssize_t pipe_rescue(struct rdy_copy *copy)
{
    int rc = held_make(copy);

    if (rc < 0)
        return rc;
    rdy_assert(copy->piped <= copy->held_max);
    while (copy->piped > 0) {
        ssize_t count = rdy_sys_read(copy->pipe[0], copy->held + copy->held_end, copy->piped);

        if (count <= 0)
            return count < 0 ? count : -EIO;
        copy->held_end += (uint32_t)count;
        copy->piped -= (uint32_t)count;
    }
    copy->flags &= ~COPY_SPLICES;
    pipe_give_back(copy);
    return (ssize_t)held_len(copy);
}

static ssize_t step_unsplice(struct rdy_copy *copy, struct rdy_task *task)
{
    ssize_t count;

    if (copy->to->fd < 0)
        return -EBADF;
    count = rdy_stream_write_with(copy->to, task, try_unsplice, copy, RDY_STREAM_NO_SHORT);
    if (is_refusal(count) || count == -EBUSY)
        return pipe_rescue(copy);
    if (count < 0)
        return count;
    rdy_assert((size_t)count <= copy->piped);
    copy_count(copy, count, &pool_of(copy)->count.bytes_spliced);
    copy->piped -= (uint32_t)count;
    if (copy->piped == 0)
        pipe_give_back(copy);
    return count;
}

/* --- a direction --- */

/* A read whose write is out of budget would have to be held, for nothing. It may be a large one. */
static bool may_read_and_write(struct rdy_task *task)
{
    const struct rdy_runtime *runtime = task->runtime;
    uint32_t share = rdy_task_share(task);

    if (rdy_likely(runtime->budget_left > share || runtime->task_budget <= share))
        return true;
    rdy_task_overdraw(task);
    return false;
}

/* A stream in completion mode may have taken what the kernel has not, and a close would drop it. */
static int copy_end(struct rdy_copy *copy, struct rdy_task *task)
{
    bool is_completing = copy->to->flags & RDY_SOCKET_COMPLETES;
    int rc = 0;

    if (copy->flags & COPY_SHUTS)
        rc = is_completing ? rdy_stream_poll_shutdown(copy->to, task, SHUT_WR)
                           : rdy_stream_shutdown(copy->to, SHUT_WR);
    else if (is_completing)
        rc = rdy_stream_poll_flush(copy->to, task);
    if (rc != RDY_PENDING)
        copy->result = rc;
    return rc;
}

/* How far it got, RDY_PENDING, or -errno. At the end its result is 0. */
static ssize_t copy_step(struct rdy_copy *copy, struct rdy_task *task)
{
    ssize_t count;

    if (copy->result == 0)
        return 0;
    if (copy->held)
        return step_flush(copy, task);
    if (copy->piped > 0)
        return step_unsplice(copy, task);
    if (copy->flags & COPY_IS_DRY)
        return copy_end(copy, task);
    if (!may_read_and_write(task))
        return RDY_PENDING;
    count = copy_read(copy, task);
    if (count < 0)
        return count;
    if (count == 0) {
        copy->flags |= COPY_IS_DRY;
        return copy_end(copy, task);
    }
    return copy->piped > 0 ? step_unsplice(copy, task) : step_write(copy, task, (size_t)count);
}

/* --- one or two of them --- */

static int copy_attach(struct rdy_copy *copy, struct rdy_task *task)
{
    if (!rdy_copy_pool_of(task->runtime))
        return -ENOMEM;
    rdy_assert(!copy->runtime || copy->runtime == task->runtime);
    copy->runtime = task->runtime;
    return 0;
}

/*
 * Steps in turn until nobody gets further. One that waits has left its wakers and is not asked
 * again: what could let it go on is an event, and those come between polls.
 */
static int copies_run(struct rdy_copy *const copies[], uint32_t copies_count, struct rdy_task *task)
{
    uint32_t going = (1u << copies_count) - 1;
    uint32_t ended = 0;
    size_t moved = 0;

    while (going != 0 && moved < MOVED_MAX) {
        for (uint32_t i = 0; i < copies_count; i++) {
            ssize_t count;

            if (!(going & (1u << i)))
                continue;
            count = copy_step(copies[i], task);
            if (count < 0 && count != RDY_PENDING)
                return (int)count;
            if (count >= 0)
                moved += (size_t)count;
            if (copies[i]->result == 0)
                ended++;
            if (count == RDY_PENDING || copies[i]->result == 0)
                going &= ~(1u << i);
        }
    }
    if (ended == copies_count)
        return 0;
    if (going != 0)
        rdy_task_defer(task);
    return RDY_PENDING;
}

static int options_take(struct rdy_copy_opts *taken, const struct rdy_copy_opts *opts)
{
    *taken = (struct rdy_copy_opts){.size = sizeof(*taken)};
    if (opts) {
        if (opts->size != sizeof(*opts) || opts->held_max > HELD_MAX_MAX)
            return -EINVAL;
        *taken = *opts;
    }
    if (taken->held_max == 0)
        taken->held_max = HELD_MAX_DEFAULT;
    return 0;
}

int rdy_copy_open(struct rdy_copy *copy, struct rdy_stream *from, struct rdy_stream *to,
                  const struct rdy_copy_opts *opts)
{
    struct rdy_copy_opts taken;
    int rc = options_take(&taken, opts);

    if (rc < 0)
        return rc;
    *copy = (struct rdy_copy){
        .from = from,
        .to = to,
        .held_max = taken.held_max,
        .flags = taken.is_splice ? COPY_SPLICES : 0,
        .result = RDY_PENDING,
    };
    return 0;
}

int rdy_copy_poll(struct rdy_copy *copy, struct rdy_task *task)
{
    struct rdy_copy *const copies[] = {copy};
    int rc;

    if (!copy->from)
        return -EBADF;
    if (copy->result != RDY_PENDING)
        return copy->result;
    rc = copy_attach(copy, task);
    if (rc == 0)
        rc = copies_run(copies, 1, task);
    if (rc == RDY_PENDING)
        return rc;
    if (copy->runtime)
        copy_release(copy);
    copy->result = rc;
    return rc;
}

void rdy_copy_close(struct rdy_copy *copy)
{
    if (copy->runtime)
        copy_release(copy);
    *copy = (struct rdy_copy){0};
}

int rdy_copy_both_open(struct rdy_copy_both *both, struct rdy_stream *a, struct rdy_stream *b,
                       const struct rdy_copy_opts *opts)
{
    struct rdy_copy_both made = {.result = RDY_PENDING};
    int rc;

    if (a == b)
        return -EINVAL;
    rc = rdy_copy_open(&made.a_to_b, a, b, opts);
    if (rc < 0)
        return rc;
    rc = rdy_copy_open(&made.b_to_a, b, a, opts);
    rdy_assert(rc == 0);
    made.a_to_b.flags |= COPY_SHUTS;
    made.b_to_a.flags |= COPY_SHUTS;
    *both = made;
    return 0;
}

/* Who goes first changes with each poll: what is left of a budget may be a single step. */
int rdy_copy_both_poll(struct rdy_copy_both *both, struct rdy_task *task)
{
    struct rdy_copy *copies[] = {&both->a_to_b, &both->b_to_a};
    int rc;

    if (!both->a_to_b.from)
        return -EBADF;
    if (both->result != RDY_PENDING)
        return both->result;
    if (both->first) {
        copies[0] = &both->b_to_a;
        copies[1] = &both->a_to_b;
    }
    both->first ^= 1;
    rc = copy_attach(copies[0], task);
    if (rc == 0)
        rc = copy_attach(copies[1], task);
    if (rc == 0)
        rc = copies_run(copies, 2, task);
    if (rc == RDY_PENDING)
        return rc;
    for (uint32_t i = 0; i < 2; i++)
        if (copies[i]->runtime)
            copy_release(copies[i]);
    both->result = rc;
    return rc;
}

void rdy_copy_both_close(struct rdy_copy_both *both)
{
    rdy_copy_close(&both->a_to_b);
    rdy_copy_close(&both->b_to_a);
    *both = (struct rdy_copy_both){0};
}
