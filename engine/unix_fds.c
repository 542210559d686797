/* SPDX-License-Identifier: MIT */
/*
 * Passing descriptors over Unix sockets, and taking what comes along with data.
 *
 * The kernel attaches descriptors to the first bytes of a message and never to later ones, so a
 * partial send has sent them all. A receive stops in front of the next message's descriptors, so
 * a short one says nothing about what is left: readiness is cleared by EAGAIN only. The room for
 * control messages is always that of the largest, whatever the caller has room for: what the kernel
 * cannot store it closes without a word of how many, and what the caller cannot is closed here.
 */
#include <rdy/unix.h>

#include "engine/completion.h"
#include "engine/datagram.h"
#include "engine/iovec.h"
#include "engine/runtime.h"
#include "engine/stream.h"
#include "engine/sys.h"
#include "engine/sys_socket.h"

#define FDS_BYTES (sizeof(int) * RDY_FDS_MAX)

/* Beside descriptors and credentials a socket may have been told to report a label, a pidfd. */
#define OTHERS_BYTES 512u

union send_control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(FDS_BYTES)];
};

union recv_control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(FDS_BYTES) + CMSG_SPACE(sizeof(struct ucred)) + OTHERS_BYTES];
};

/* Where received descriptors go. */
struct fds_room {
    int *fds;
    uint32_t fds_max;
};

/* --- sending --- */

/* Puts @fds into @control and that into @msg. */
static void control_put(union send_control *control, struct msghdr *msg, const int *fds,
                        uint32_t fds_count)
{
    size_t bytes = sizeof(int) * fds_count;

    rdy_assert(fds_count <= RDY_FDS_MAX);
    if (fds_count == 0)
        return;
    /* The last message's padding goes to the kernel too: it must not be what was on the stack. */
    memset(control, 0, CMSG_SPACE(bytes));
    control->header.cmsg_level = SOL_SOCKET;
    control->header.cmsg_type = SCM_RIGHTS;
    control->header.cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(&control->header), fds, bytes);
    msg->msg_control = control;
    msg->msg_controllen = CMSG_SPACE(bytes);
}

/* 0, -EBADF or -EOPNOTSUPP: TCP would take the data and drop the descriptors in silence. */
static int check_is_unix(int fd)
{
    int family = 0;
    int rc;

    if (fd < 0)
        return -EBADF;
    rc = rdy_sys_getsockopt_int(fd, SOL_SOCKET, SO_DOMAIN, &family);
    if (rc < 0)
        return rc;
    return family == AF_UNIX ? 0 : -EOPNOTSUPP;
}

ssize_t rdy_stream_poll_send_fds(struct rdy_stream *stream, struct rdy_task *task, const void *data,
                                 size_t data_len, const int *fds, uint32_t fds_count)
{
    struct rdy_waker waker = rdy_task_waker(task);
    struct iovec iov = rdy_iovec_of(data, data_len);
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union send_control control;
    int rc = check_is_unix(stream->fd);

    if (rc < 0)
        return rc;
    if (data_len == 0 || fds_count > RDY_FDS_MAX)
        return -EINVAL;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (rdy_unlikely(stream->flags & RDY_SOCKET_COMPLETES)) {
        rc = rdy_completion_gate(stream, RDY_DIRECTION_WRITE);
        if (rc < 0)
            return rdy_task_pay_error(task, rc);
    }
    control_put(&control, &msg, fds, fds_count);

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event;
        ssize_t count;

        rc = rdy_poll_readiness(&stream->reg, RDY_DIRECTION_WRITE, &waker, &event);
        if (rc != 0)
            return rc;
        count = rdy_sys_send_message(stream->fd, &msg);
        rdy_assert(count != 0);
        /* A short write met a full buffer, and the kernel will say when there is room. */
        if (count == -EAGAIN || (count > 0 && (size_t)count < data_len))
            rdy_clear_readiness(&stream->reg, event);
        if (count != -EAGAIN) {
            rdy_task_spend(task);
            return count;
        }
    }
    return rdy_task_give_way(task);
}

ssize_t rdy_datagram_poll_send_fds(struct rdy_datagram *datagram, struct rdy_task *task,
                                   const void *data, size_t data_len, const int *fds,
                                   uint32_t fds_count)
{
    struct iovec iov = rdy_iovec_of(data, data_len);
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union send_control control;

    if (datagram->fd < 0)
        return -EBADF;
    if ((datagram->flags & RDY_DATAGRAM_UNIX) == 0)
        return -EOPNOTSUPP;
    if (fds_count > RDY_FDS_MAX)
        return -EINVAL;
    control_put(&control, &msg, fds, fds_count);
    return rdy_datagram_send_message(datagram, task, &msg);
}

/* --- receiving --- */

/* Stores what there is room for, and closes the rest. */
static void fds_take(struct rdy_received *received, const struct fds_room *room,
                     struct cmsghdr *item)
{
    size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);

    rdy_assert(count <= RDY_FDS_MAX);
    for (size_t i = 0; i < count; i++) {
        int fd;

        memcpy(&fd, CMSG_DATA(item) + i * sizeof(fd), sizeof(fd));
        if (received->fds_count < room->fds_max) {
            room->fds[received->fds_count++] = fd;
        } else {
            (void)rdy_sys_close(fd);
            received->are_fds_cut_off = true;
        }
    }
}

static void control_take(struct rdy_received *received, const struct fds_room *room,
                         struct msghdr *msg)
{
    *received = (struct rdy_received){.are_fds_cut_off = (msg->msg_flags & MSG_CTRUNC) != 0};
    for (struct cmsghdr *item = CMSG_FIRSTHDR(msg); item; item = CMSG_NXTHDR(msg, item)) {
        struct ucred told;

        if (item->cmsg_level != SOL_SOCKET)
            continue;
        if (item->cmsg_type == SCM_RIGHTS) {
            fds_take(received, room, item);
        } else if (item->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&told, CMSG_DATA(item), sizeof(told));
            received->has_credentials = true;
            received->credentials =
                (struct rdy_credentials){.pid = told.pid, .uid = told.uid, .gid = told.gid};
        }
    }
    rdy_assert(received->fds_count <= room->fds_max);
}

ssize_t rdy_stream_poll_recv_fds(struct rdy_stream *stream, struct rdy_task *task, void *buf,
                                 size_t buf_len, int *fds, uint32_t fds_max,
                                 struct rdy_received *received)
{
    struct rdy_waker waker = rdy_task_waker(task);
    struct fds_room room = {.fds = fds, .fds_max = fds_max};
    struct iovec iov = {.iov_base = buf, .iov_len = buf_len};
    union recv_control control;

    if (stream->fd < 0)
        return -EBADF;
    if (buf_len == 0)
        return -EINVAL;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (rdy_unlikely(stream->flags & RDY_SOCKET_COMPLETES)) {
        int rc = rdy_completion_gate(stream, RDY_DIRECTION_READ);

        if (rc < 0)
            return rdy_task_pay_error(task, rc);
    }

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct msghdr msg = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = &control,
            .msg_controllen = sizeof(control),
        };
        struct rdy_event event;
        ssize_t count;
        int rc = rdy_poll_readiness(&stream->reg, RDY_DIRECTION_READ, &waker, &event);

        if (rc != 0)
            return rc;
        count = rdy_sys_recv_message(stream->fd, &msg);
        if (count == -EAGAIN) {
            rdy_clear_readiness(&stream->reg, event);
            continue;
        }
        rdy_task_spend(task);
        if (count >= 0) {
            control_take(received, &room, &msg);
            received->datagram_len = (size_t)count;
        }
        return count;
    }
    return rdy_task_give_way(task);
}

ssize_t rdy_datagram_poll_recv_fds(struct rdy_datagram *datagram, struct rdy_task *task, void *buf,
                                   size_t buf_len, int *fds, uint32_t fds_max,
                                   struct rdy_received *received)
{
    struct fds_room room = {.fds = fds, .fds_max = fds_max};
    struct iovec iov = {.iov_base = buf, .iov_len = buf_len};
    union recv_control control;
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t count = rdy_datagram_recv_message(datagram, task, &msg, false);

    if (count < 0)
        return count;
    control_take(received, &room, &msg);
    received->datagram_len = (size_t)count;
    return (size_t)count > iov.iov_len ? (ssize_t)iov.iov_len : count;
}
