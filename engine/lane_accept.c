/* SPDX-License-Identifier: MIT */
/*
 * Accepting: connections that came by themselves wait here until somebody asks. At ACCEPTED_MAX of
 * them the operation is stopped, and the kernel's own queue holds the rest; until the kernel hears
 * of it more may come, and have their place. At the descriptor limit the operation ends; whoever
 * asks is told, and the next who asks begins it again.
 */
#include "engine/lane_accept.h"

#include <stdlib.h>

#define ACCEPTED_MAX 256u
#define ROOM_FIRST   16u

struct rdy_accepted {
    uint32_t first;
    uint32_t count;
    uint32_t size; /* a power of two */
    int fds[];     /* a ring */
};

static struct rdy_accepted *accepted_make(uint32_t size)
{
    struct rdy_accepted *accepted = malloc(sizeof(*accepted) + size * sizeof(accepted->fds[0]));

    if (accepted)
        *accepted = (struct rdy_accepted){.size = size};
    return accepted;
}

static int accepted_pop(struct rdy_accepted *accepted)
{
    int fd = accepted->fds[accepted->first];

    accepted->first = (accepted->first + 1) & (accepted->size - 1);
    accepted->count--;
    return fd;
}

static bool accepted_grow(struct rdy_lane *lane)
{
    struct rdy_accepted *old = lane->accepted;
    struct rdy_accepted *grown = accepted_make(old->size * 2);

    if (!grown)
        return false;
    while (old->count > 0)
        grown->fds[grown->count++] = accepted_pop(old);
    free(old);
    lane->accepted = grown;
    return true;
}

static void accepted_push(struct rdy_completion *completion, struct rdy_lane *lane, int fd)
{
    struct rdy_accepted *accepted = lane->accepted;

    completion->count.accepts++;
    if ((lane->flags & RDY_LANE_LEAVING) ||
        (accepted->count == accepted->size && !accepted_grow(lane))) {
        (void)rdy_sys_close(fd);
        return;
    }
    accepted = lane->accepted;
    accepted->fds[(accepted->first + accepted->count) & (accepted->size - 1)] = fd;
    accepted->count++;
    if (accepted->count >= ACCEPTED_MAX)
        rdy_recv_stop(lane, RDY_ABOUT_ACCEPT);
}

static int accept_arm(struct rdy_lane *lane)
{
    struct rdy_scheduled_io *io = lane->io;
    struct rdy_backend *backend = rdy_driver_backend(io->driver);
    int rc;

    if (!lane->accepted)
        lane->accepted = accepted_make(ROOM_FIRST);
    if (!lane->accepted)
        return -ENOMEM;
    rc = backend->ops->accept(backend, io->fd, rdy_scheduled_io_op_token(io, RDY_ABOUT_ACCEPT));
    if (rc == 0) {
        lane->recv = RDY_RECV_ACTIVE;
        rdy_lane_asked(lane);
    }
    return rc;
}

int rdy_accept_take(struct rdy_completion *completion, struct rdy_lane *lane,
                    const struct rdy_fact *fact)
{
    if (fact->result >= 0)
        accepted_push(completion, lane, fact->result);
    if (fact->flags & RDY_FACT_LAST) {
        if (lane->recv == RDY_RECV_CANCELLING)
            rdy_a64_bump(&completion->driver->count.cancels_pending, UINT64_MAX); /* minus one */
        lane->recv = RDY_RECV_IDLE;
        if (fact->result < 0 && fact->result != -ECANCELED)
            lane->recv_error = (int16_t)fact->result;
    }
    if (lane->flags & RDY_LANE_LEAVING) {
        rdy_lane_check_leaving(lane);
        return 0;
    }
    rdy_lane_stamp(lane, RDY_READABLE);
    return 1;
}

int rdy_accept_next(struct rdy_lane *lane)
{
    struct rdy_accepted *accepted = lane->accepted;
    int error = lane->recv_error;

    if (accepted && accepted->count > 0)
        return accepted_pop(accepted);
    lane->recv_error = 0;
    if (error) /* the kernel's is not to be taken for ours, below */
        return error == -EOPNOTSUPP ? -ECONNABORTED : error;
    if (!lane->io->driver->completion->is_native)
        return -EOPNOTSUPP;
    if (lane->recv == RDY_RECV_IDLE) {
        int rc = accept_arm(lane);

        if (rc < 0)
            return rc == -EBUSY ? -EAGAIN : rc;
    }
    return RDY_PENDING;
}

bool rdy_accept_has_more(const struct rdy_lane *lane)
{
    return lane->accepted && lane->accepted->count > 0;
}

void rdy_accept_drop(struct rdy_lane *lane)
{
    struct rdy_accepted *accepted = lane->accepted;

    while (accepted && accepted->count > 0)
        (void)rdy_sys_close(accepted_pop(accepted));
    /* Still used by what an operation under way may bring. */
    if (lane->recv == RDY_RECV_ACTIVE || lane->recv == RDY_RECV_CANCELLING)
        return;
    free(accepted);
    lane->accepted = NULL;
}
