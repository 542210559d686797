/* SPDX-License-Identifier: MIT */
/*
 * Pipes: reading and writing as polls over cached readiness.
 *
 * A read that came back short found the pipe empty, and what comes later is an event: so the read
 * that would only say EAGAIN is saved. That is wrong
 * - of packets, where a read stops at the end of one with others behind it. The reader cannot see
 *   how it is written to: `dd oflag=direct` puts the pipe that is its output into packet mode. So
 *   it is done only where both ends were made here;
 * - of a read that filled its buffer.
 * It loses no end of the stream: READ_CLOSED is final on such a pipe, so no clear takes it away.
 * The like for writes would be wrong, too: a write is also cut short when the kernel is out of
 * memory (a cgroup's limit), and nothing tells when it is not any more.
 */
#include "engine/pipe.h"

#include <limits.h>

#include "engine/file_wait.h"
#include "engine/iovec.h"
#include "engine/sys_pipe.h"

/* What a call is to do: its end of the pipe, and its buffers. */
struct call {
    void *end;
    const struct iovec *iov;
    int iov_count;
};

static size_t call_len(const struct call *call)
{
    size_t len = 0;

    for (int i = 0; i < call->iov_count; i++)
        len += call->iov[i].iov_len;
    return len;
}

/* 1 if a call has something to do; 0 if its buffers hold nothing, or -errno. */
static int call_check(const struct call *call, int fd)
{
    if (fd < 0)
        return -EBADF;
    if (call->iov_count < 0 || call->iov_count > IOV_MAX || (!call->iov && call->iov_count > 0))
        return -EINVAL;
    return call_len(call) > 0;
}

/* One attempt on @event: a count, 0 at the end, or -errno; clears what it refuted. */
typedef ssize_t try_fn(const struct call *call, struct rdy_event event);

/* A checked call as a poll. Inlined into either end's, so that none goes through a pointer. */
static inline __attribute__((always_inline)) ssize_t
poll_call(struct rdy_registration *reg, struct rdy_task *task, enum rdy_direction direction,
          try_fn *try_once, const struct call *call)
{
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event;
        ssize_t result = rdy_file_wait(reg, task, direction, &event);

        if (result != 0)
            return result;
        result = try_once(call, event);
        if (rdy_likely(result != -EAGAIN)) {
            rdy_task_spend(task);
            return result;
        }
    }
    return rdy_task_give_way(task);
}

/* The wait alone, for those who will try by themselves. */
static int poll_direction(struct rdy_registration *reg, struct rdy_task *task,
                          enum rdy_direction direction)
{
    struct rdy_event event;
    int rc;

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rc = rdy_file_wait(reg, task, direction, &event);
    if (rc != RDY_PENDING)
        rdy_task_spend(task);
    return rc;
}

/* --- reading --- */

static ssize_t receiver_try(const struct call *call, struct rdy_event event)
{
    struct rdy_pipe_receiver *receiver = call->end;
    ssize_t count = rdy_sys_pipe_read(receiver->fd, call->iov, call->iov_count);

    if (count == -EAGAIN ||
        (count > 0 && (receiver->flags & RDY_PIPE_BYTES) && (size_t)count < call_len(call)))
        rdy_clear_readiness(&receiver->reg, event);
    return count;
}

ssize_t rdy_pipe_receiver_poll_readv(struct rdy_pipe_receiver *receiver, struct rdy_task *task,
                                     const struct iovec *iov, int iov_count)
{
    struct call call = {.end = receiver, .iov = iov, .iov_count = iov_count};
    int rc = call_check(&call, receiver->fd);

    if (rc <= 0)
        return rc;
    return poll_call(&receiver->reg, task, RDY_DIRECTION_READ, receiver_try, &call);
}

ssize_t rdy_pipe_receiver_poll_read(struct rdy_pipe_receiver *receiver, struct rdy_task *task,
                                    void *buf, size_t buf_len)
{
    struct iovec iov = {.iov_base = buf, .iov_len = buf_len};

    return rdy_pipe_receiver_poll_readv(receiver, task, &iov, 1);
}

ssize_t rdy_pipe_receiver_try_readv(struct rdy_pipe_receiver *receiver, const struct iovec *iov,
                                    int iov_count)
{
    struct call call = {.end = receiver, .iov = iov, .iov_count = iov_count};
    struct rdy_event event;
    int rc = call_check(&call, receiver->fd);

    if (rc <= 0)
        return rc;
    rc = rdy_cached_event(&receiver->reg, RDY_INTEREST_READ, &event);
    return rc < 0 ? rc : receiver_try(&call, event);
}

ssize_t rdy_pipe_receiver_try_read(struct rdy_pipe_receiver *receiver, void *buf, size_t buf_len)
{
    struct iovec iov = {.iov_base = buf, .iov_len = buf_len};

    return rdy_pipe_receiver_try_readv(receiver, &iov, 1);
}

int rdy_pipe_receiver_poll_readable(struct rdy_pipe_receiver *receiver, struct rdy_task *task)
{
    return receiver->fd < 0 ? -EBADF : poll_direction(&receiver->reg, task, RDY_DIRECTION_READ);
}

/* --- writing --- */

static ssize_t sender_try(const struct call *call, struct rdy_event event)
{
    struct rdy_pipe_sender *sender = call->end;
    bool can_tell = (sender->flags & RDY_PIPE_MASKED) == 0;
    ssize_t count = rdy_sys_pipe_write(sender->fd, call->iov, call->iov_count, &can_tell);

    if (rdy_unlikely(!can_tell))
        sender->flags |= RDY_PIPE_MASKED;
    if (count == -EAGAIN)
        rdy_clear_readiness(&sender->reg, event);
    rdy_debug(count < 0 || (size_t)count <= call_len(call));
    return count;
}

ssize_t rdy_pipe_sender_poll_writev(struct rdy_pipe_sender *sender, struct rdy_task *task,
                                    const struct iovec *iov, int iov_count)
{
    struct call call = {.end = sender, .iov = iov, .iov_count = iov_count};
    int rc = call_check(&call, sender->fd);

    if (rc <= 0)
        return rc;
    return poll_call(&sender->reg, task, RDY_DIRECTION_WRITE, sender_try, &call);
}

ssize_t rdy_pipe_sender_poll_write(struct rdy_pipe_sender *sender, struct rdy_task *task,
                                   const void *data, size_t data_len)
{
    struct iovec iov = rdy_iovec_of(data, data_len);

    return rdy_pipe_sender_poll_writev(sender, task, &iov, 1);
}

ssize_t rdy_pipe_sender_try_writev(struct rdy_pipe_sender *sender, const struct iovec *iov,
                                   int iov_count)
{
    struct call call = {.end = sender, .iov = iov, .iov_count = iov_count};
    struct rdy_event event;
    int rc = call_check(&call, sender->fd);

    if (rc <= 0)
        return rc;
    rc = rdy_cached_event(&sender->reg, RDY_INTEREST_WRITE, &event);
    return rc < 0 ? rc : sender_try(&call, event);
}

ssize_t rdy_pipe_sender_try_write(struct rdy_pipe_sender *sender, const void *data, size_t data_len)
{
    struct iovec iov = rdy_iovec_of(data, data_len);

    return rdy_pipe_sender_try_writev(sender, &iov, 1);
}

int rdy_pipe_sender_poll_writable(struct rdy_pipe_sender *sender, struct rdy_task *task)
{
    return sender->fd < 0 ? -EBADF : poll_direction(&sender->reg, task, RDY_DIRECTION_WRITE);
}
