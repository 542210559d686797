/* SPDX-License-Identifier: MIT */
/*
 * The engine's system calls, made to the simulated kernel: in the place of engine/sys.c and some of
 * its neighbours, whose objects are then not taken from the library. A call that only the real
 * thing can answer is not here, and the program does not link.
 */
#include "engine/sys.h"

#include <netinet/in.h>

#include "engine/sys_datagram.h"
#include "engine/sys_pipe.h"
#include "engine/sys_socket.h"
#include "engine/sys_splice.h"
#include "engine/sys_stream.h"
#include "tests/sim/files.h"
#include "tests/sim/kernel.h"
#include "tests/sim/mail.h"

static struct sim_sock *sock_of(int fd)
{
    struct sim_sock *sock;

    sim_spend();
    sock = sim_sock_of(fd);
    if (!sock)
        sim_fail("a call on descriptor %d, which is no open socket", fd);
    return sock;
}

/* --- files --- */

int rdy_sys_file_kind(int fd, enum rdy_file_kind *kind)
{
    *kind = sock_of(fd)->mail ? RDY_FILE_DATAGRAM : RDY_FILE_STREAM;
    return 0;
}

/* What a ring had accepted, and nobody had time to take, ends at the deadline without a session. */
static void excuse_if_cut(int fd)
{
    struct sim_sock *sock = sim_sock_of(fd);

    if (sock && sock->peer && sim.is_overdue && sim.now_ns >= sim.cut_at_ns)
        sock->peer->is_excused = true;
}

int rdy_sys_close(int fd)
{
    sim_spend();
    sim_note("close", fd, 0, 0);
    excuse_if_cut(fd);
    if (sim_fd_close(fd) < 0)
        sim_fail("descriptor %d is closed, but it is not open", fd);
    return 0;
}

uint32_t rdy_sys_poll_now(int fd, uint32_t events)
{
    return sim_sock_look(sock_of(fd)) & (events | RDY_EV_ERR | RDY_EV_HUP);
}

/* --- time, threads: there is one --- */

uint64_t rdy_sys_now_ns(void)
{
    return sim.now_ns;
}

uint64_t rdy_sys_thread_id(void)
{
    return 1;
}

void rdy_sys_cpu_relax(void)
{
}

void rdy_sys_futex_wait(uint32_t *word, uint32_t seen)
{
    sim_fail("the only thread waits for itself, at %p for %u", (void *)word, seen);
}

void rdy_sys_futex_wake(uint32_t *word, int waiters)
{
    (void)word;
    (void)waiters;
}

/* --- sockets --- */

int rdy_sys_socket(int family, int type, int protocol)
{
    (void)protocol;
    sim_spend();
    if (type & SOCK_DGRAM)
        return sim_open_sock(sim_mail_make(true));
    return sim_open_sock(sim_sock_make(family == AF_UNIX));
}

int rdy_sys_socketpair(int type, int fds[2])
{
    (void)fds;
    sim_fail("a pair of sockets of type %d is asked for", type);
}

int rdy_sys_bind(int fd, const struct sockaddr *addr, socklen_t addr_len)
{
    struct sim_sock *sock = sock_of(fd);

    return sock->mail ? sim_mail_bind(sock, addr, addr_len) : sim_sock_bind(sock, addr, addr_len);
}

int rdy_sys_listen(int fd, int backlog)
{
    return sim_sock_listen(sock_of(fd), backlog);
}

int sim_sys_accept(struct sim_sock *listener)
{
    struct sim_sock *sock = listener->queue_first;
    int error = -EAGAIN;
    int fd;

    if (!sock)
        return error;
    if (sim_one_of(sim.weather.shortage_one_of)) {
        sock = sim_sock_accept(listener, &error);
        sock->peer->is_excused = true;
        sim_sock_close(sock, true);
        return -ECONNABORTED;
    }
    fd = sim_open_sock(sock);
    if (fd < 0)
        return fd;
    sock = sim_sock_accept(listener, &error);
    sock->peer->is_excused = sock->peer->is_excused || sim.is_overdue;
    sim_note("accepted: listener, socket, descriptor", listener->id, sock->id, fd);
    return fd;
}

int rdy_sys_accept(int fd)
{
    return sim_sys_accept(sock_of(fd));
}

int rdy_sys_connect(int fd, const struct sockaddr *addr, socklen_t addr_len)
{
    struct sim_sock *sock = sock_of(fd);

    return sock->mail ? sim_mail_connect(sock, addr) : sim_sock_connect(sock, addr, addr_len);
}

static void address_out(const struct sim_sock *sock, struct sockaddr *addr, socklen_t *addr_len)
{
    socklen_t room = *addr_len;

    *addr_len = sock->address_len;
    memcpy(addr, &sock->address, room < sock->address_len ? room : sock->address_len);
}

int rdy_sys_getsockname(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
    address_out(sock_of(fd), addr, addr_len);
    return 0;
}

int rdy_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
    const struct sim_sock *sock = sock_of(fd);

    if (sock->state != SIM_SOCK_CONNECTED)
        return -ENOTCONN;
    address_out(sock->peer, addr, addr_len);
    return 0;
}

int rdy_sys_setsockopt_int(int fd, int level, int name, int value)
{
    (void)sock_of(fd);
    (void)level;
    (void)name;
    (void)value;
    return 0;
}

int rdy_sys_getsockopt_int(int fd, int level, int name, int *value)
{
    struct sim_sock *sock = sock_of(fd);

    rdy_assert(level == SOL_SOCKET);
    switch (name) {
    case SO_DOMAIN:
        *value = sock->is_unix ? AF_UNIX : AF_INET;
        return 0;
    case SO_PROTOCOL:
        *value = sock->is_unix ? 0 : IPPROTO_TCP;
        return 0;
    case SO_ERROR:
        *value = -sock->error;
        sock->error = 0;
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

int rdy_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t value_size)
{
    (void)value;
    (void)value_size;
    return rdy_sys_setsockopt_int(fd, level, name, 0);
}

int rdy_sys_shutdown(int fd, int how)
{
    sim_note("shutdown: descriptor, how", fd, how, 0);
    return sim_sock_shutdown(sock_of(fd), how);
}

/* --- files of Unix sockets: the simulation has names without files --- */

int rdy_sys_socket_set_mode(int fd, uint32_t mode)
{
    sim_fail("descriptor %d is given the mode %o", fd, mode);
}

int rdy_sys_socket_file_check(const char *path)
{
    sim_fail("%s is looked at", path);
}

int rdy_sys_socket_file_set_mode(const char *path, uint32_t mode)
{
    sim_fail("%s is given the mode %o", path, mode);
}

int rdy_sys_socket_file_remove(const char *path)
{
    sim_fail("%s is removed", path);
}

/* --- streams --- */

ssize_t rdy_sys_recv(int fd, void *buf, size_t len)
{
    ssize_t count = sim_sock_recv(sock_of(fd), buf, len, false);

    sim_note("recv: descriptor, room, got", fd, (int64_t)len, count);
    sim_spend();
    return count;
}

ssize_t rdy_sys_peek(int fd, void *buf, size_t len)
{
    return sim_sock_recv(sock_of(fd), buf, len, true);
}

ssize_t rdy_sys_send(int fd, const void *data, size_t len)
{
    ssize_t count = sim_sock_send(sock_of(fd), data, len);

    sim_note("send: descriptor, bytes, sent", fd, (int64_t)len, count);
    sim_spend();
    return count;
}

/* Of an error in the midst of it the next call is told. */
ssize_t rdy_sys_recv_vector(int fd, const struct iovec *iov, size_t iov_count)
{
    struct sim_sock *sock = sock_of(fd);
    ssize_t total = 0;

    for (size_t i = 0; i < iov_count; i++) {
        ssize_t count;

        if (iov[i].iov_len == 0)
            continue;
        if (total > 0 && sim_sock_unread(sock) == 0)
            break;
        count = sim_sock_recv(sock, iov[i].iov_base, iov[i].iov_len, false);
        if (count < 0)
            return total > 0 ? total : count;
        total += count;
        if ((size_t)count < iov[i].iov_len)
            break;
    }
    sim_note("recv of a vector: descriptor, got", fd, total, 0);
    return total;
}

ssize_t rdy_sys_send_vector(int fd, const struct iovec *iov, size_t iov_count)
{
    struct sim_sock *sock = sock_of(fd);
    ssize_t total = 0;

    for (size_t i = 0; i < iov_count; i++) {
        ssize_t count = sim_sock_send(sock, iov[i].iov_base, iov[i].iov_len);

        if (count < 0)
            return total > 0 ? total : count;
        total += count;
        if ((size_t)count < iov[i].iov_len)
            break;
    }
    sim_note("send of a vector: descriptor, sent", fd, total, 0);
    return total;
}

ssize_t rdy_sys_send_message(int fd, const struct msghdr *msg)
{
    struct sim_sock *sock = sock_of(fd);

    return sock->mail ? sim_mail_send(sock, msg)
                      : rdy_sys_send_vector(fd, msg->msg_iov, msg->msg_iovlen);
}

/* --- datagrams --- */

ssize_t rdy_sys_recv_datagram(int fd, struct msghdr *msg, bool is_peek)
{
    return sim_mail_recv(sock_of(fd), msg, is_peek);
}

/* Asked of a Unix socket whose peer is full, and there are no Unix datagrams. */
int rdy_sys_unsent_bytes(int fd, int *count)
{
    (void)count;
    sim_fail("descriptor %d is asked for its unsent bytes", fd);
}

/* --- pipes, for splices only --- */

int rdy_sys_pipe(int fds[2], int flags)
{
    (void)flags;
    sim_spend();
    return sim_open_pipe(fds);
}

static struct sim_pipe *pipe_of(int fd)
{
    struct sim_file *file = sim_file_of(fd);

    if (!file || !file->pipe)
        sim_fail("descriptor %d is no open pipe", fd);
    return file->pipe;
}

static void pipe_advance(struct sim_pipe *pipe, size_t count)
{
    pipe->count -= (uint32_t)count;
    memmove(pipe->bytes, pipe->bytes + count, pipe->count);
}

ssize_t rdy_sys_read(int fd, void *buf, size_t len)
{
    struct sim_pipe *pipe = pipe_of(fd);

    if (pipe->count == 0)
        return -EAGAIN;
    if (len > pipe->count)
        len = pipe->count;
    memcpy(buf, pipe->bytes, len);
    pipe_advance(pipe, len);
    return (ssize_t)len;
}

/* At an urgent mark it says EAGAIN, or 0 as at the end, and never gets past it. */
ssize_t rdy_sys_splice_in(int socket_fd, int pipe_fd, size_t len)
{
    struct sim_pipe *pipe = pipe_of(pipe_fd);
    struct sim_sock *sock = sock_of(socket_fd);
    size_t room = SIM_PIPE_MAX - pipe->count;
    ssize_t count;

    if (sim_one_of(sim.weather.shortage_one_of))
        return -EINVAL;
    if (room > len)
        room = len;
    if (room == 0)
        return -EAGAIN;
    if (room > 1)
        room = (size_t)sim_between(1, room);
    if (sock->in.mark && sock->in.mark == sock->in.read + 1)
        return sim_below(2) ? -EAGAIN : 0;
    count = sim_sock_recv(sock, pipe->bytes + pipe->count, room, false);
    sim_note("splice in: descriptor, room, got", socket_fd, (int64_t)room, count);
    if (count > 0)
        pipe->count += (uint32_t)count;
    return count;
}

ssize_t rdy_sys_splice_out(int pipe_fd, int socket_fd, size_t len)
{
    struct sim_pipe *pipe = pipe_of(pipe_fd);
    ssize_t count;

    if (sim_one_of(sim.weather.shortage_one_of))
        return -EINVAL;
    if (len > pipe->count)
        len = pipe->count;
    count = rdy_sys_send(socket_fd, pipe->bytes, len);
    if (count > 0)
        pipe_advance(pipe, (size_t)count);
    return count;
}
