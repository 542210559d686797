/* SPDX-License-Identifier: MIT */
/*
 * Datagrams: open, bind, connect, and send and receive as polls over cached readiness.
 *
 * Readiness is cleared by EAGAIN only: one event may stand for many datagrams, and a short one says
 * nothing about those behind it. An error that the network reported is no end: it makes both
 * directions worth trying, the first call fetches it, and the socket goes on.
 *
 * A full Unix peer is what the kernel's poll bits cannot tell. A socket connected to it is woken
 * when the peer drains. One that is not polls as writable all the while, and gets no event unless a
 * datagram of its own was among those read. So send_to() opens a second descriptor, connects it to
 * that peer and waits for that one to be writable. Whether it was the peer's queue or the sender's
 * own buffer that was full, the kernel's own condition tells: bytes unread against SO_SNDBUF.
 */
#include "engine/datagram.h"

#include <netinet/in.h>
#include <netinet/udp.h>

#include "engine/address.h"
#include "engine/driver.h"
#include "engine/iovec.h"
#include "engine/runtime.h"
#include "engine/sys.h"
#include "engine/sys_datagram.h"
#include "engine/sys_socket.h"

/* --- making and ending one --- */

static uint32_t family_flags(int family)
{
    switch (family) {
    case AF_INET:
        return RDY_DATAGRAM_INET;
    case AF_INET6:
        return RDY_DATAGRAM_INET6;
    case AF_UNIX:
        return RDY_DATAGRAM_UNIX;
    default:
        return 0;
    }
}

static int datagram_register(struct rdy_datagram *datagram, struct rdy_driver *driver, int fd,
                             uint32_t flags)
{
    struct rdy_datagram made = {.fd = fd, .flags = flags};
    int rc;

    rdy_assert(fd >= 0);
    rc = rdy_register_kind(driver, fd, RDY_INTEREST_READ | RDY_INTEREST_WRITE, RDY_FILE_DATAGRAM,
                           &made.reg);
    if (rc < 0)
        return rc;
    rdy_assume_ready(&made.reg, RDY_WRITABLE);
    *datagram = made;
    return 0;
}

/* What has to be set before bind(2). */
static int datagram_prepare(int fd, int family, const struct rdy_datagram_opts *opts)
{
    int rc = 0;

    if (opts->is_reuseaddr)
        rc = rdy_sys_setsockopt_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && opts->is_reuseport)
        rc = rdy_sys_setsockopt_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && family == AF_INET6)
        rc = rdy_sys_setsockopt_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, opts->is_v6only);
    return rc;
}

static int options_take(struct rdy_datagram_opts *taken, int family,
                        const struct rdy_datagram_opts *opts)
{
    *taken = (struct rdy_datagram_opts){.size = sizeof(*taken)};
    if (!opts)
        return 0;
    if (opts->size != sizeof(*opts))
        return -EINVAL;
    if (opts->is_v6only && family != AF_INET6)
        return -EINVAL;
    if (family == AF_UNIX && (opts->is_reuseaddr || opts->is_reuseport))
        return -EINVAL;
    *taken = *opts;
    return 0;
}

int rdy_datagram_open(struct rdy_datagram *datagram, struct rdy_runtime *runtime, int family,
                      const struct rdy_datagram_opts *opts)
{
    struct rdy_datagram_opts taken;
    uint32_t flags = family_flags(family);
    int fd;
    int rc = options_take(&taken, family, opts);

    if (rc < 0)
        return rc;
    if (flags == 0)
        return -EAFNOSUPPORT;
    fd = rdy_sys_socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    rc = datagram_prepare(fd, family, &taken);
    if (rc == 0)
        rc = datagram_register(datagram, runtime->driver, fd, flags);
    if (rc < 0)
        (void)rdy_sys_close(fd);
    return rc;
}

static bool is_connected(int fd)
{
    struct sockaddr_storage addr;
    socklen_t addr_len = sizeof(addr);

    return rdy_sys_getpeername(fd, (struct sockaddr *)&addr, &addr_len) == 0;
}

int rdy_datagram_from_fd(struct rdy_datagram *datagram, struct rdy_runtime *runtime, int fd)
{
    uint32_t flags;
    int family = 0;
    int type = 0;
    int rc = rdy_sys_getsockopt_int(fd, SOL_SOCKET, SO_TYPE, &type);

    if (rc == 0)
        rc = rdy_sys_getsockopt_int(fd, SOL_SOCKET, SO_DOMAIN, &family);
    if (rc < 0)
        return rc == -ENOTSOCK ? -EPROTOTYPE : rc;
    if (type != SOCK_DGRAM)
        return -EPROTOTYPE;
    flags = family_flags(family);
    if ((flags & (RDY_DATAGRAM_INET | RDY_DATAGRAM_INET6)) && is_connected(fd))
        flags |= RDY_DATAGRAM_CONNECTED;
    return datagram_register(datagram, runtime->driver, fd, flags);
}

int rdy_datagram_pair(struct rdy_datagram *one, struct rdy_datagram *other,
                      struct rdy_runtime *runtime)
{
    struct rdy_datagram made = {.fd = -1};
    int fds[2];
    int rc;

    rdy_assert(one != other);
    rc = rdy_sys_socketpair(SOCK_DGRAM, fds);
    if (rc < 0)
        return rc;
    rc = datagram_register(&made, runtime->driver, fds[0], RDY_DATAGRAM_UNIX);
    if (rc == 0)
        rc = datagram_register(other, runtime->driver, fds[1], RDY_DATAGRAM_UNIX);
    if (rc == 0)
        *one = made;
    else
        rdy_close_pair(&made.reg, fds);
    return rc;
}

int rdy_datagram_bind(struct rdy_datagram *datagram, const struct sockaddr *addr,
                      socklen_t addr_len)
{
    if (datagram->fd < 0)
        return -EBADF;
    return rdy_sys_bind(datagram->fd, addr, addr_len);
}

/* Lets go of the descriptor that watches a full peer, if there is one. */
static void peer_forget(struct rdy_datagram *datagram)
{
    if (rdy_unlikely(datagram->peer_reg.io != NULL))
        (void)rdy_close(&datagram->peer_reg);
    rdy_debug(datagram->peer_reg.io == NULL);
}

int rdy_datagram_connect(struct rdy_datagram *datagram, const struct sockaddr *addr,
                         socklen_t addr_len)
{
    int rc;

    if (datagram->fd < 0)
        return -EBADF;
    rc = rdy_sys_connect(datagram->fd, addr, addr_len);
    if (rc < 0)
        return rc;
    datagram->flags &= ~RDY_DATAGRAM_CONNECTED;
    if (addr->sa_family == AF_INET || addr->sa_family == AF_INET6)
        datagram->flags |= RDY_DATAGRAM_CONNECTED;
    /* That the old peer was full says nothing about the new one. */
    rdy_assume_ready(&datagram->reg, RDY_WRITABLE);
    return 0;
}

int rdy_datagram_disconnect(struct rdy_datagram *datagram)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};

    return rdy_datagram_connect(datagram, &nobody, sizeof(nobody));
}

int rdy_datagram_local_address(const struct rdy_datagram *datagram, struct sockaddr_storage *addr,
                               socklen_t *addr_len)
{
    return rdy_address_local(datagram->fd, addr, addr_len);
}

int rdy_datagram_peer_address(const struct rdy_datagram *datagram, struct sockaddr_storage *addr,
                              socklen_t *addr_len)
{
    return rdy_address_peer(datagram->fd, addr, addr_len);
}

void rdy_datagram_close(struct rdy_datagram *datagram)
{
    if (datagram->fd >= 0) {
        peer_forget(datagram);
        (void)rdy_close(&datagram->reg);
    }
    *datagram = (struct rdy_datagram){.fd = -1};
}

/* --- sending --- */

static int datagram_wait(struct rdy_datagram *datagram, struct rdy_task *task,
                         enum rdy_direction direction, struct rdy_event *event)
{
    struct rdy_waker waker = rdy_task_waker(task);

    return rdy_task_pay_error(task, rdy_poll_readiness(&datagram->reg, direction, &waker, event));
}

ssize_t rdy_datagram_take_news(struct rdy_datagram *datagram, struct rdy_task *task)
{
    int error = (int)(datagram->flags >> RDY_DATAGRAM_NEWS_SHIFT);

    rdy_assert(error > 0);
    datagram->flags &= (1u << RDY_DATAGRAM_NEWS_SHIFT) - 1;
    rdy_task_spend(task);
    return -error;
}

/* The kernel refuses a Unix datagram for want of buffer exactly then. */
static bool is_own_buffer_full(int fd)
{
    int unread_bytes = 0;
    int buf_size = 0;

    if (rdy_sys_unsent_bytes(fd, &unread_bytes) < 0 ||
        rdy_sys_getsockopt_int(fd, SOL_SOCKET, SO_SNDBUF, &buf_size) < 0)
        return true;
    return unread_bytes >= buf_size;
}

/* Watches the queue of the Unix socket at @addr. 1: try again, the answer is another by now. */
static int peer_watch(struct rdy_datagram *datagram, const struct sockaddr *addr,
                      socklen_t addr_len)
{
    int fd = rdy_sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int rc;

    rdy_assert(datagram->flags & RDY_DATAGRAM_UNIX);
    rdy_assert(datagram->peer_reg.io == NULL);
    if (fd < 0)
        return fd;
    /* A refusal is what the send itself will say if it is tried again. */
    if (rdy_sys_connect(fd, addr, addr_len) < 0) {
        (void)rdy_sys_close(fd);
        return 1;
    }
    rc = rdy_register_kind(datagram->reg.driver, fd, RDY_INTEREST_WRITE, RDY_FILE_DATAGRAM,
                           &datagram->peer_reg);
    if (rc < 0)
        (void)rdy_sys_close(fd);
    return rc;
}

/* A send said EAGAIN. 0: look again; RDY_PENDING with the waker left behind, or -errno. */
static int send_refused(struct rdy_datagram *datagram, struct rdy_task *task,
                        const struct msghdr *msg, struct rdy_event event)
{
    struct rdy_waker waker = rdy_task_waker(task);
    int rc;

    rdy_debug(rdy_ready_is_writable(rdy_event_ready(event)));
    if (!msg->msg_name || !(datagram->flags & RDY_DATAGRAM_UNIX) ||
        is_own_buffer_full(datagram->fd)) {
        rdy_clear_readiness(&datagram->reg, event);
        return 0;
    }
    peer_forget(datagram);
    rc = peer_watch(datagram, msg->msg_name, msg->msg_namelen);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    return rdy_poll_readiness(&datagram->peer_reg, RDY_DIRECTION_WRITE, &waker, &event);
}

ssize_t rdy_datagram_send_message(struct rdy_datagram *datagram, struct rdy_task *task,
                                  const struct msghdr *msg)
{
    if (datagram->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (rdy_unlikely(rdy_datagram_has_news(datagram)))
        return rdy_datagram_take_news(datagram, task);
    if (rdy_unlikely(datagram->flags & RDY_DATAGRAM_COMPLETES) && rdy_datagram_queues(datagram))
        return rdy_datagram_lane_send(datagram, task, msg);
    peer_forget(datagram);

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event;
        ssize_t result = datagram_wait(datagram, task, RDY_DIRECTION_WRITE, &event);

        if (result != 0)
            return result;
        result = rdy_sys_send_message(datagram->fd, msg);
        if (result == -EAGAIN) {
            result = send_refused(datagram, task, msg, event);
            if (result == 0)
                continue;
        }
        if (result != RDY_PENDING)
            rdy_task_spend(task);
        return result;
    }
    return rdy_task_give_way(task);
}

/* The kernel reads through it; that it is not const is the interface's fault. */
static void *name_of(const struct sockaddr *addr)
{
    return (void *)(uintptr_t)addr;
}

ssize_t rdy_datagram_poll_send(struct rdy_datagram *datagram, struct rdy_task *task,
                               const void *data, size_t data_len)
{
    struct iovec iov = rdy_iovec_of(data, data_len);
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    return rdy_datagram_send_message(datagram, task, &msg);
}

ssize_t rdy_datagram_poll_send_to(struct rdy_datagram *datagram, struct rdy_task *task,
                                  const void *data, size_t data_len, const struct sockaddr *addr,
                                  socklen_t addr_len)
{
    struct iovec iov = rdy_iovec_of(data, data_len);
    struct msghdr msg = {
        .msg_name = name_of(addr),
        .msg_namelen = addr_len,
        .msg_iov = &iov,
        .msg_iovlen = 1,
    };

    return rdy_datagram_send_message(datagram, task, &msg);
}

ssize_t rdy_datagram_poll_send_segments(struct rdy_datagram *datagram, struct rdy_task *task,
                                        const struct rdy_datagram_segments *segments,
                                        const struct sockaddr *addr, socklen_t addr_len)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control = {0};
    struct iovec iov = rdy_iovec_of(segments->data, segments->data_len);
    struct msghdr msg = {
        .msg_name = name_of(addr),
        .msg_namelen = addr ? addr_len : 0,
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    uint16_t segment_len = (uint16_t)segments->segment_len;

    if (segments->segment_len == 0 || segments->segment_len > UINT16_MAX)
        return -EINVAL;
    if (datagram->fd >= 0 && !(datagram->flags & (RDY_DATAGRAM_INET | RDY_DATAGRAM_INET6)))
        return -EOPNOTSUPP;
    control.header.cmsg_level = SOL_UDP;
    control.header.cmsg_type = UDP_SEGMENT;
    control.header.cmsg_len = CMSG_LEN(sizeof(segment_len));
    memcpy(CMSG_DATA(&control.header), &segment_len, sizeof(segment_len));
    return rdy_datagram_send_message(datagram, task, &msg);
}

/* --- receiving --- */

ssize_t rdy_datagram_recv_message(struct rdy_datagram *datagram, struct rdy_task *task,
                                  struct msghdr *msg, bool is_peek)
{
    if (datagram->fd < 0)
        return -EBADF;
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (rdy_unlikely(rdy_datagram_has_news(datagram)))
        return rdy_datagram_take_news(datagram, task);
    if (rdy_unlikely(datagram->flags & RDY_DATAGRAM_COMPLETES) && rdy_datagram_receives(datagram))
        return rdy_datagram_lane_recv(datagram, task, msg, is_peek);

    for (int tries = 0; tries < RDY_TASK_TRIES_MAX; tries++) {
        struct rdy_event event;
        ssize_t result = datagram_wait(datagram, task, RDY_DIRECTION_READ, &event);

        if (result != 0)
            return result;
        result = rdy_sys_recv_datagram(datagram->fd, msg, is_peek);
        if (result != -EAGAIN) {
            rdy_task_spend(task);
            return result;
        }
        rdy_clear_readiness(&datagram->reg, event);
    }
    return rdy_task_give_way(task);
}

static ssize_t stored_len(ssize_t datagram_len, size_t buf_len)
{
    rdy_assert(datagram_len >= 0);
    return (size_t)datagram_len > buf_len ? (ssize_t)buf_len : datagram_len;
}

ssize_t rdy_datagram_poll_recv(struct rdy_datagram *datagram, struct rdy_task *task, void *buf,
                               size_t buf_len, size_t *datagram_len)
{
    struct iovec iov = {.iov_base = buf, .iov_len = buf_len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t count = rdy_datagram_recv_message(datagram, task, &msg, false);

    if (count < 0)
        return count;
    if (datagram_len)
        *datagram_len = (size_t)count;
    return stored_len(count, iov.iov_len);
}

/* What came beside the bytes: IPv4 tells its type of service in one byte, IPv6 in an int. */
static void info_read_control(struct rdy_datagram_info *info, struct msghdr *msg)
{
    for (struct cmsghdr *item = CMSG_FIRSTHDR(msg); item; item = CMSG_NXTHDR(msg, item)) {
        unsigned char tos = 0;
        int value = 0;

        if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_TOS) {
            memcpy(&tos, CMSG_DATA(item), sizeof(tos));
            info->tos = tos;
        } else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_TCLASS) {
            memcpy(&info->tos, CMSG_DATA(item), sizeof(info->tos));
        } else if (item->cmsg_level == SOL_UDP && item->cmsg_type == UDP_GRO) {
            memcpy(&value, CMSG_DATA(item), sizeof(value));
            info->segment_len = value > 0 ? (size_t)value : 0;
        }
    }
}

void rdy_datagram_describe(struct rdy_datagram_info *info, struct msghdr *msg, size_t datagram_len)
{
    info->addr_len = rdy_address_len(&info->addr, msg->msg_namelen);
    info->tos = -1;
    info->datagram_len = datagram_len;
    info->segment_len = 0;
    info_read_control(info, msg);
}

static ssize_t datagram_recv_from(struct rdy_datagram *datagram, struct rdy_task *task,
                                  struct iovec iov, struct rdy_datagram_info *info, bool is_peek)
{
    union {
        struct cmsghdr header;
        char bytes[256];
    } control;
    struct sockaddr_storage addr = {0};
    struct msghdr msg = {
        .msg_name = &addr, .msg_namelen = sizeof(addr), .msg_iov = &iov, .msg_iovlen = 1};
    ssize_t count;

    /* Without room for them the kernel closes descriptors that a Unix peer sends. */
    if (datagram->flags & (RDY_DATAGRAM_INET | RDY_DATAGRAM_INET6)) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
    }
    count = rdy_datagram_recv_message(datagram, task, &msg, is_peek);
    if (count < 0)
        return count;
    info->addr = addr;
    rdy_datagram_describe(info, &msg, (size_t)count);
    return stored_len(count, iov.iov_len);
}

ssize_t rdy_datagram_poll_recv_from(struct rdy_datagram *datagram, struct rdy_task *task, void *buf,
                                    size_t buf_len, struct rdy_datagram_info *info)
{
    struct iovec iov = {.iov_base = buf, .iov_len = buf_len};

    return datagram_recv_from(datagram, task, iov, info, false);
}

ssize_t rdy_datagram_poll_peek_from(struct rdy_datagram *datagram, struct rdy_task *task, void *buf,
                                    size_t buf_len, struct rdy_datagram_info *info)
{
    struct iovec iov = {.iov_base = buf, .iov_len = buf_len};

    return datagram_recv_from(datagram, task, iov, info, true);
}
