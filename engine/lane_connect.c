/* SPDX-License-Identifier: MIT */
/*
 * Connecting by the backend. It is the operation of the lane's send side until there is a
 * connection: nothing is sent before, so one kind of token serves both, and one at a time is under
 * way as ever.
 *
 * A kernel may end it without an answer: a wake-up that was not about the connection makes the ring
 * ask the socket too early (-EALREADY), it may lack memory, or the ring dies. Older kernels take
 * such a wake-up for the answer, and that there is no error yet for success. Then connect(2) is
 * called as without a ring, which goes on with what has begun, and the entry is watched. For that
 * the address is kept until there is an answer, longer than the ring needs it.
 *
 * Only for IPv4 and IPv6. A Unix socket connects at once or says EAGAIN, which a ring takes for a
 * reason to try again, a hundred times.
 */
#include "engine/lane_connect.h"

#include <stdlib.h>

#include "engine/sys_socket.h"
#include "engine/translate.h"

struct rdy_target {
    socklen_t addr_len;
    struct sockaddr_storage addr;
};

int rdy_connect_begin(struct rdy_lane *lane, const struct sockaddr *addr, socklen_t addr_len)
{
    struct rdy_completion *completion = lane->io->driver->completion;
    struct rdy_target *target;

    rdy_assert(completion->is_native && lane->send == RDY_SEND_IDLE);
    rdy_assert(!lane->received.first && !lane->unsent.first);
    if (addr_len > sizeof(target->addr))
        return -EINVAL;
    target = malloc(sizeof(*target));
    if (!target)
        return -ENOMEM;
    *target = (struct rdy_target){.addr_len = addr_len};
    memcpy(&target->addr, addr, addr_len);
    lane->target = target;
    lane->flags |= RDY_LANE_CONNECTS;
    lane->send = RDY_SEND_QUEUED;
    rdy_lane_list_push(&completion->dirty, lane);
    rdy_driver_call_again(completion->driver);
    return 0;
}

bool rdy_connect_try(struct rdy_completion *completion, struct rdy_lane *lane)
{
    struct rdy_backend *backend = rdy_driver_backend(completion->driver);
    struct rdy_scheduled_io *io = lane->io;
    int rc;

    if (rdy_lane_is_unwanted(lane)) {
        lane->send = RDY_SEND_IDLE;
        rdy_lane_check_leaving(lane);
        return true;
    }
    rdy_debug(!lane->is_stopping);
    rc =
        backend->ops->connect(backend, io->fd, rdy_scheduled_io_op_token(io, RDY_ABOUT_SEND),
                              (const struct sockaddr *)&lane->target->addr, lane->target->addr_len);
    if (rc != 0)
        return false;
    lane->send = RDY_SEND_CONNECTING;
    completion->count.connects++;
    return true;
}

void rdy_connect_end(struct rdy_lane *lane)
{
    if ((lane->flags & RDY_LANE_CONNECTS) == 0)
        return;
    free(lane->target);
    lane->received = (struct rdy_piece_queue){0}; /* its place is free */
    lane->flags &= (uint8_t)~RDY_LANE_CONNECTS;
}

/* There is an answer: 0 or -errno. A failed one looks as if the entry had been watched. */
static void answer(struct rdy_lane *lane, int error)
{
    uint32_t events = RDY_EV_OUT;

    if (error)
        events |= RDY_EV_IN | RDY_EV_ERR | RDY_EV_HUP | RDY_EV_RDHUP;
    rdy_connect_end(lane);
    lane->send_error = (int16_t)error;
    rdy_lane_stamp(lane, rdy_translate((enum rdy_file_kind)lane->io->kind, events));
}

/* Goes on without the backend. True: under way, and to be watched. */
static bool go_on_by_call(struct rdy_lane *lane)
{
    int rc = rdy_sys_connect(lane->io->fd, (const struct sockaddr *)&lane->target->addr,
                             lane->target->addr_len);

    if (rc == -EINPROGRESS || rc == -EALREADY)
        return true;
    answer(lane, rc == -EISCONN ? 0 : rc);
    return false;
}

static bool has_peer(int fd)
{
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof(peer);

    return rdy_sys_getpeername(fd, (struct sockaddr *)&peer, &peer_len) != -ENOTCONN;
}

int rdy_connect_take(struct rdy_lane *lane, const struct rdy_fact *fact)
{
    struct rdy_scheduled_io *io = lane->io;
    int result = fact->result;

    if ((fact->flags & RDY_FACT_LAST) == 0)
        return 0;
    lane->send = RDY_SEND_IDLE;
    if (rdy_lane_is_unwanted(lane)) {
        rdy_lane_check_leaving(lane);
        return 0;
    }
    if (result == 0 && !has_peer(io->fd))
        result = -EALREADY;
    switch (result) {
    case -EALREADY:
    case -EINPROGRESS:
    case -EAGAIN:
    case -EINTR:
    case -ENOMEM:
    case -ECANCELED: /* not by us */
        if (go_on_by_call(lane)) {
            io->flags &= (uint8_t)~RDY_IO_UNWATCHED;
            rdy_driver_arm(io->driver, io);
        }
        break;
    default:
        answer(lane, result);
        break;
    }
    return 1;
}

void rdy_connect_survive(struct rdy_lane *lane)
{
    bool was_asked = lane->send != RDY_SEND_IDLE;

    lane->send = RDY_SEND_IDLE;
    /* Connect before the entry is armed: a socket that never did polls as hung up. */
    if (was_asked && !rdy_lane_is_unwanted(lane))
        (void)go_on_by_call(lane);
}

enum rdy_connect_stage rdy_connect_stage(const struct rdy_lane *lane)
{
    if ((lane->flags & RDY_LANE_CONNECTS) == 0)
        return RDY_CONNECT_ENDED;
    return lane->send == RDY_SEND_IDLE ? RDY_CONNECT_WATCHED : RDY_CONNECT_ASKED;
}
