/* SPDX-License-Identifier: MIT */
/*
 * The second baseline: a TCP echo server written by hand on io_uring, one thread, no layer in
 * between. What a good hand-written completion loop does, and nothing else: multishot accept and
 * recv, one ring of provided buffers for all connections, answers sent from the buffer that they
 * came in, one enter a round that submits and waits. raw_ring.c has the ring and its switches.
 *
 * A send is tried inside the enter that submits it (MSG_DONTWAIT) and says nothing when all of it
 * went out; so after an enter every send without a completion is done, and its buffers go back.
 * What a peer does not take is copied, and sent by a request that waits. At most one send of a
 * socket is with the kernel, or bytes could change places; what came in one round goes out as one.
 *
 * With zero copy a send has two completions: its result, and later that the kernel is done with the
 * buffers. They are held until then, and the connection's next send waits for it.
 */
#include "bench/raw_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench/uring_newer.h"

#define GROUP          0
#define PIECES_MAX     16        /* of one send */
#define OWED_MAX       (1 << 18) /* bytes; above, the connection is read no further */
#define REGISTERED_MAX (1 << 16) /* files */

enum kind {
    KIND_IGNORE,
    KIND_ACCEPT,
    KIND_RECV,
    KIND_SEND,
    KIND_SEND_ZERO_COPY,
    KIND_SEND_REST
};

/* What the peer has not taken yet; the first one is with the kernel. */
struct rest {
    struct rest *next;
    size_t len;
    char bytes[];
};

struct connection {
    struct rest *rest;
    struct rest **rest_end;
    size_t owed;
    int out_first; /* pieces to be sent next */
    int out_last;
    int sent_first;    /* pieces that the send holds which is under way */
    int sent_result;   /* of a zero-copy send that still holds them */
    bool is_zero_copy; /* there is one */
    bool is_dirty;     /* in the list of them */
    bool is_receiving; /* a multishot recv is armed */
    bool is_held;      /* owes too much to be read */
    bool is_ended;     /* the peer sends no more */
};

struct message {
    struct msghdr header;
    struct iovec pieces[PIECES_MAX];
};

struct list {
    int *fds;
    uint32_t count;
};

struct server {
    struct raw_ring ring;
    struct raw_options options;
    int listen_fd;
    uint8_t fd_flags; /* of a request on a connection */
    struct connection *connections;
    uint32_t fds_max;
    struct list dirty;   /* have buffers to be sent */
    struct list sending; /* have a send in this round */
    struct list starved; /* want a buffer */
    struct message *messages;
    uint32_t messages_count;
    struct raw_counts count;
};

static void list_add(struct list *list, int fd)
{
    list->fds[list->count++] = fd;
}

static void mark_dirty(struct server *server, int fd)
{
    if (!server->connections[fd].is_dirty)
        list_add(&server->dirty, fd);
    server->connections[fd].is_dirty = true;
}

static uint64_t user_data_of(enum kind kind, int fd)
{
    return (uint64_t)kind << 32 | (uint32_t)fd;
}

static void accept_arm(struct server *server)
{
    struct io_uring_sqe *sqe = raw_ring_sqe(&server->ring);

    if (server->options.has_files)
        io_uring_prep_multishot_accept_direct(sqe, server->listen_fd, NULL, NULL, 0);
    else
        io_uring_prep_multishot_accept(sqe, server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = user_data_of(KIND_ACCEPT, server->listen_fd);
}

static void recv_arm(struct server *server, int fd, bool is_data_there)
{
    struct io_uring_sqe *sqe = raw_ring_sqe(&server->ring);

    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT | server->fd_flags;
    sqe->buf_group = GROUP;
    if (server->options.has_bundles)
        sqe->ioprio |= IORING_RECVSEND_BUNDLE;
    if (!is_data_there)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->user_data = user_data_of(KIND_RECV, fd);
    server->connections[fd].is_receiving = true;
}

static void recv_cancel(struct server *server, int fd)
{
    struct io_uring_sqe *sqe = raw_ring_sqe(&server->ring);

    io_uring_prep_cancel64(sqe, user_data_of(KIND_RECV, fd), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = user_data_of(KIND_IGNORE, fd);
}

static void connection_open(struct server *server, int fd)
{
    struct connection *connection = &server->connections[fd];

    *connection =
        (struct connection){.out_first = NO_PIECE, .out_last = NO_PIECE, .sent_first = NO_PIECE};
    connection->rest_end = &connection->rest;
    server->count.accepted++;
    server->count.connections_live++;
    recv_arm(server, fd, false);
}

/* A registered socket has no descriptor: it is closed by a request, and its slot is free then. */
static void socket_close(struct server *server, int fd)
{
    struct io_uring_sqe *sqe;

    if (!server->options.has_files) {
        server->count.system_calls++;
        close(fd);
        return;
    }
    sqe = raw_ring_sqe(&server->ring);
    io_uring_prep_close_direct(sqe, (unsigned)fd);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = user_data_of(KIND_IGNORE, fd);
}

/* Closes it once nothing of it is with the kernel and nothing is owed. */
static void connection_settle(struct server *server, int fd)
{
    struct connection *connection = &server->connections[fd];

    if (!connection->is_ended || connection->is_receiving || connection->rest ||
        connection->sent_first != NO_PIECE || connection->out_first != NO_PIECE)
        return;
    server->count.connections_live--;
    socket_close(server, fd);
}

/* The peer is gone: what is owed goes nowhere, and the recv will say that it has ended. */
static void connection_kill(struct server *server, int fd)
{
    struct io_uring_sqe *sqe;

    if (!server->options.has_files) {
        server->count.system_calls++;
        shutdown(fd, SHUT_RDWR);
        return;
    }
    sqe = raw_ring_sqe(&server->ring);
    io_uring_prep_shutdown(sqe, fd, SHUT_RDWR);
    sqe->flags |= server->fd_flags;
    sqe->user_data = user_data_of(KIND_IGNORE, fd);
}

static void rest_send(struct server *server, int fd)
{
    struct rest *rest = server->connections[fd].rest;
    struct io_uring_sqe *sqe = raw_ring_sqe(&server->ring);

    io_uring_prep_send(sqe, fd, rest->bytes, rest->len, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= server->fd_flags;
    sqe->user_data = user_data_of(KIND_SEND_REST, fd);
}

/* Copies a chain of pieces, but for its first @skip bytes, behind what is owed. */
static void rest_keep(struct server *server, int fd, int first, size_t skip)
{
    const struct piece *pieces = server->ring.pieces;
    struct connection *connection = &server->connections[fd];
    struct rest *rest;
    size_t len = 0;

    for (int i = first; i != NO_PIECE; i = pieces[i].next)
        len += pieces[i].len;
    rest = malloc(sizeof(*rest) + len);
    if (!rest)
        raw_die("rest", "out of memory");
    rest->next = NULL;
    rest->len = 0;
    for (int i = first; i != NO_PIECE; i = pieces[i].next) {
        size_t from = skip < pieces[i].len ? skip : pieces[i].len;

        memcpy(rest->bytes + rest->len, pieces[i].bytes + from, pieces[i].len - from);
        rest->len += pieces[i].len - from;
        skip -= from;
    }
    connection->owed += rest->len;
    *connection->rest_end = rest;
    connection->rest_end = &rest->next;
    if (connection->owed > OWED_MAX && connection->is_receiving && !connection->is_held) {
        connection->is_held = true;
        recv_cancel(server, fd);
    }
}

static void rest_done(struct server *server, int fd, int result)
{
    struct connection *connection = &server->connections[fd];
    struct rest *rest = connection->rest;

    connection->rest = rest->next;
    connection->owed -= rest->len;
    if (!connection->rest)
        connection->rest_end = &connection->rest;
    if (result < 0 || (size_t)result < rest->len) {
        connection_kill(server, fd);
        while (connection->rest) {
            struct rest *next = connection->rest->next;

            free(connection->rest);
            connection->rest = next;
        }
        connection->rest_end = &connection->rest;
        connection->owed = 0;
    }
    free(rest);
    if (connection->rest)
        rest_send(server, fd);
    if (connection->is_held && connection->owed == 0 && !connection->is_receiving) {
        connection->is_held = false;
        recv_arm(server, fd, false);
    }
    connection_settle(server, fd);
}

/* A send that did not go out whole: the rest waits for the peer. */
static void send_failed(struct server *server, int fd, int result)
{
    struct connection *connection = &server->connections[fd];

    if (result < 0 && result != -EAGAIN) {
        connection_kill(server, fd);
        return;
    }
    rest_keep(server, fd, connection->sent_first, result > 0 ? (size_t)result : 0);
    rest_send(server, fd);
}

/* As one message, of as many pieces as it takes; the others stay. Returns its bytes. */
static size_t out_gather(struct server *server, int fd, struct message *message)
{
    struct connection *connection = &server->connections[fd];
    struct piece *pieces = server->ring.pieces;
    int last = NO_PIECE;
    int count = 0;
    size_t len = 0;

    for (int i = connection->out_first; i != NO_PIECE && count < PIECES_MAX; i = pieces[i].next) {
        message->pieces[count].iov_base = pieces[i].bytes;
        message->pieces[count].iov_len = pieces[i].len;
        len += pieces[i].len;
        last = i;
        count++;
    }
    message->header = (struct msghdr){.msg_iov = message->pieces, .msg_iovlen = (size_t)count};
    connection->sent_first = connection->out_first;
    connection->out_first = pieces[last].next;
    pieces[last].next = NO_PIECE;
    if (connection->out_first == NO_PIECE)
        connection->out_last = NO_PIECE;
    else
        mark_dirty(server, fd);
    return len;
}

/* One send of all that came in for the connection. */
static void send_out(struct server *server, int fd)
{
    struct message *message = &server->messages[server->messages_count];
    struct io_uring_sqe *sqe = raw_ring_sqe(&server->ring);
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_WAITALL;
    size_t len = out_gather(server, fd, message);
    bool is_one = message->header.msg_iovlen == 1;

    server->messages_count += !is_one;
    if (server->options.zero_copy_from > 0 && len >= server->options.zero_copy_from) {
        if (is_one)
            io_uring_prep_send_zc(sqe, fd, message->pieces[0].iov_base, len, flags, 0);
        else
            io_uring_prep_sendmsg_zc(sqe, fd, &message->header, (unsigned)flags);
        sqe->flags |= server->fd_flags;
        sqe->user_data = user_data_of(KIND_SEND_ZERO_COPY, fd);
        server->connections[fd].is_zero_copy = true;
        return;
    }
    if (is_one)
        io_uring_prep_send(sqe, fd, message->pieces[0].iov_base, len, flags);
    else
        io_uring_prep_sendmsg(sqe, fd, &message->header, (unsigned)flags);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS | server->fd_flags;
    sqe->user_data = user_data_of(KIND_SEND, fd);
    list_add(&server->sending, fd);
}

/* Before an enter: a send for each connection that has something, unless it waits for its peer. */
static void send_all(struct server *server)
{
    struct list dirty = server->dirty;

    server->dirty.count = 0;
    server->messages_count = 0;
    for (uint32_t i = 0; i < dirty.count; i++) {
        struct connection *connection = &server->connections[dirty.fds[i]];

        connection->is_dirty = false;
        if (connection->is_zero_copy)
            continue; /* it is dirty again when that is over */
        if (!connection->rest) {
            send_out(server, dirty.fds[i]);
            continue;
        }
        rest_keep(server, dirty.fds[i], connection->out_first, 0);
        raw_ring_free(&server->ring, connection->out_first);
        connection->out_first = NO_PIECE;
        connection->out_last = NO_PIECE;
    }
}

static void on_accept(struct server *server, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0 && (uint32_t)cqe->res < server->fds_max)
        connection_open(server, cqe->res);
    else if (cqe->res >= 0)
        socket_close(server, cqe->res);
    if (!(cqe->flags & IORING_CQE_F_MORE) && cqe->res != -EMFILE && cqe->res != -ENFILE)
        accept_arm(server);
}

static void on_data(struct server *server, int fd, const struct io_uring_cqe *cqe)
{
    struct connection *connection = &server->connections[fd];
    int last = NO_PIECE;
    int first = raw_ring_take(&server->ring, cqe, &last);

    server->count.requests++;
    server->count.bytes += (uint64_t)cqe->res;
    if (connection->out_first == NO_PIECE) {
        connection->out_first = first;
        mark_dirty(server, fd);
    } else {
        server->ring.pieces[connection->out_last].next = first;
    }
    connection->out_last = last;
}

/* The result, and then the notification; a send that was refused has the first alone. */
static void on_zero_copy(struct server *server, int fd, const struct io_uring_cqe *cqe)
{
    struct connection *connection = &server->connections[fd];
    const struct piece *pieces = server->ring.pieces;
    size_t len = 0;

    if (!(cqe->flags & IORING_CQE_F_NOTIF))
        connection->sent_result = cqe->res;
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    connection->is_zero_copy = false;
    for (int i = connection->sent_first; i != NO_PIECE; i = pieces[i].next)
        len += pieces[i].len;
    if (connection->sent_result < 0 || (size_t)connection->sent_result < len)
        send_failed(server, fd, connection->sent_result);
    raw_ring_free(&server->ring, connection->sent_first);
    connection->sent_first = NO_PIECE;
    if (connection->out_first != NO_PIECE)
        mark_dirty(server, fd);
    connection_settle(server, fd);
}

static void on_recv(struct server *server, int fd, const struct io_uring_cqe *cqe)
{
    struct connection *connection = &server->connections[fd];

    if (cqe->res > 0)
        on_data(server, fd, cqe);
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    connection->is_receiving = false;
    if (cqe->res == -ENOBUFS)
        list_add(&server->starved, fd);
    else if (cqe->res > 0)
        recv_arm(server, fd, true);
    else if (cqe->res != -ECANCELED || !connection->is_held)
        connection->is_ended = true;
    else if (connection->owed == 0) {
        connection->is_held = false;
        recv_arm(server, fd, true);
    }
    connection_settle(server, fd);
}

static void on_completion(struct server *server, const struct io_uring_cqe *cqe)
{
    int fd = (int)(uint32_t)cqe->user_data;

    switch ((enum kind)(cqe->user_data >> 32)) {
    case KIND_ACCEPT:
        on_accept(server, cqe);
        break;
    case KIND_RECV:
        on_recv(server, fd, cqe);
        break;
    case KIND_SEND:
        send_failed(server, fd, cqe->res);
        break;
    case KIND_SEND_ZERO_COPY:
        on_zero_copy(server, fd, cqe);
        break;
    case KIND_SEND_REST:
        rest_done(server, fd, cqe->res);
        break;
    case KIND_IGNORE:
        break;
    }
}

/* After the completions of an enter: the sends that had none are done. */
static void settle_sends(struct server *server)
{
    for (uint32_t i = 0; i < server->sending.count; i++) {
        int fd = server->sending.fds[i];

        raw_ring_free(&server->ring, server->connections[fd].sent_first);
        server->connections[fd].sent_first = NO_PIECE;
        connection_settle(server, fd);
    }
    server->sending.count = 0;
}

/* Shows the kernel what came back, and lets those go on who found none. */
static void return_buffers(struct server *server)
{
    struct list starved = server->starved;

    if (!raw_ring_show_buffers(&server->ring))
        return;
    server->starved.count = 0;
    for (uint32_t i = 0; i < starved.count; i++)
        recv_arm(server, starved.fds[i], true);
}

static void serve(struct server *server)
{
    struct io_uring *uring = &server->ring.uring;

    accept_arm(server);
    while (!raw_is_stopping) {
        struct io_uring_cqe *cqe;
        bool is_waited_for;
        unsigned head;
        unsigned taken = 0;

        send_all(server);
        return_buffers(server);
        /* Sends that succeed say nothing: who waits for the end of one must not wait for them. */
        is_waited_for = server->starved.count > 0 || server->dirty.count > 0;
        raw_ring_enter(&server->ring, !is_waited_for || server->sending.count == 0);
        /* The tail is read once a step: what comes meanwhile is looked at, too. */
        io_uring_for_each_cqe(uring, head, cqe)
        {
            on_completion(server, cqe);
            taken++;
        }
        io_uring_cq_advance(uring, taken);
        settle_sends(server);
        return_buffers(server);
    }
}

static void *make(size_t count, size_t size)
{
    void *made = calloc(count, size);

    if (!made)
        raw_die("memory", "out of it");
    return made;
}

int main(int argc, char **argv)
{
    static struct server server;

    raw_options_parse(&server.options, argc, argv);
    raw_catch_signals();
    server.fds_max = raw_fds_max();
    if (server.options.has_files && server.fds_max > REGISTERED_MAX)
        server.fds_max = REGISTERED_MAX;
    server.fd_flags = server.options.has_files ? IOSQE_FIXED_FILE : 0;
    server.connections = make(server.fds_max, sizeof(*server.connections));
    server.dirty.fds = make(server.fds_max, sizeof(int));
    server.sending.fds = make(server.fds_max, sizeof(int));
    server.starved.fds = make(server.fds_max, sizeof(int));
    server.messages = make(server.fds_max, sizeof(*server.messages));
    raw_ring_open(&server.ring, &server.options, &server.count, server.fds_max);
    server.listen_fd = raw_listen(server.options.where);
    raw_print_address(server.listen_fd, "raw-uring");
    serve(&server);
    raw_print_summary("raw_uring", &server.count);
    return 0;
}
