/* SPDX-License-Identifier: MIT */
/*
 * The second baseline: a TCP echo server written by hand on io_uring, one thread, no layer in
 * between. What a good hand-written completion loop does, and nothing else: multishot accept and
 * recv, one ring of provided buffers for all connections, answers sent from the buffer that they
 * came in, one enter a round that submits and waits.
 *
 * A send is tried inside the enter that submits it (MSG_DONTWAIT) and says nothing when all of it
 * went out; so after an enter every send without a completion is done, and its buffers go back.
 * What a peer does not take is copied, and sent by a request that waits. At most one send of a
 * socket is with the kernel, or bytes could change places; what came in one round goes out as one.
 */
#include "bench/raw.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <liburing.h>

#define SQ_ENTRIES 1024
#define CQ_ENTRIES 16384
#define GROUP      0
#define PIECES_MAX 16        /* of one send */
#define OWED_MAX   (1 << 18) /* bytes; above, the connection is read no further */
#define NO_BUFFER  (-1)

enum kind {
    KIND_IGNORE,
    KIND_ACCEPT,
    KIND_RECV,
    KIND_SEND,
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
    int out_first; /* buffers to be sent next */
    int out_last;
    int sent_first;    /* buffers that this round's send holds */
    bool is_receiving; /* a multishot recv is armed */
    bool is_held;      /* owes too much to be read */
    bool is_ended;     /* the peer sends no more */
};

struct buffer {
    int next;
    uint32_t len;
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
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    struct buffer *buffers;
    char *bytes;
    uint32_t buffers_count;
    uint32_t buffer_size;
    uint32_t returned; /* buffers put into the ring, not yet shown to the kernel */
    int listen_fd;
    struct connection *connections;
    uint32_t fds_max;
    struct list dirty;   /* have buffers to be sent */
    struct list sending; /* have a send in this round */
    struct list starved; /* want buffers */
    struct message *messages;
    uint32_t messages_count;
    struct raw_counts count;
};

static void list_add(struct list *list, int fd)
{
    list->fds[list->count++] = fd;
}

static uint64_t user_data_of(enum kind kind, int fd)
{
    return (uint64_t)kind << 32 | (uint32_t)fd;
}

static struct io_uring_sqe *next_sqe(struct server *server)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&server->ring);

    while (!sqe) {
        server->count.system_calls++;
        io_uring_submit(&server->ring);
        sqe = io_uring_get_sqe(&server->ring);
    }
    return sqe;
}

static void buffer_return(struct server *server, int id)
{
    io_uring_buf_ring_add(server->buffer_ring, server->bytes + (size_t)id * server->buffer_size,
                          server->buffer_size, (unsigned short)id,
                          io_uring_buf_ring_mask(server->buffers_count), (int)server->returned);
    server->returned++;
}

static void chain_return(struct server *server, int id)
{
    while (id != NO_BUFFER) {
        int next = server->buffers[id].next;

        buffer_return(server, id);
        id = next;
    }
}

static void accept_arm(struct server *server)
{
    struct io_uring_sqe *sqe = next_sqe(server);

    io_uring_prep_multishot_accept(sqe, server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = user_data_of(KIND_ACCEPT, server->listen_fd);
}

static void recv_arm(struct server *server, int fd, bool is_data_there)
{
    struct io_uring_sqe *sqe = next_sqe(server);

    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    if (!is_data_there)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->user_data = user_data_of(KIND_RECV, fd);
    server->connections[fd].is_receiving = true;
}

static void recv_cancel(struct server *server, int fd)
{
    struct io_uring_sqe *sqe = next_sqe(server);

    io_uring_prep_cancel64(sqe, user_data_of(KIND_RECV, fd), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = user_data_of(KIND_IGNORE, fd);
}

static void connection_open(struct server *server, int fd)
{
    struct connection *connection = &server->connections[fd];

    *connection =
        (struct connection){.out_first = NO_BUFFER, .out_last = NO_BUFFER, .sent_first = NO_BUFFER};
    connection->rest_end = &connection->rest;
    server->count.accepted++;
    server->count.connections_live++;
    recv_arm(server, fd, false);
}

/* Closes it once nothing of it is with the kernel and nothing is owed. */
static void connection_settle(struct server *server, int fd)
{
    struct connection *connection = &server->connections[fd];

    if (!connection->is_ended || connection->is_receiving || connection->rest ||
        connection->sent_first != NO_BUFFER || connection->out_first != NO_BUFFER)
        return;
    server->count.system_calls++;
    server->count.connections_live--;
    close(fd);
}

/* The peer is gone: what is owed goes nowhere, and the recv will say that it has ended. */
static void connection_kill(struct server *server, int fd)
{
    server->count.system_calls++;
    shutdown(fd, SHUT_RDWR);
}

static void rest_send(struct server *server, int fd)
{
    struct rest *rest = server->connections[fd].rest;
    struct io_uring_sqe *sqe = next_sqe(server);

    io_uring_prep_send(sqe, fd, rest->bytes, rest->len, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->user_data = user_data_of(KIND_SEND_REST, fd);
}

/* Copies a chain of buffers, but for its first @skip bytes, behind what is owed. */
static void rest_keep(struct server *server, int fd, int id, size_t skip)
{
    struct connection *connection = &server->connections[fd];
    struct rest *rest;
    size_t len = 0;

    for (int i = id; i != NO_BUFFER; i = server->buffers[i].next)
        len += server->buffers[i].len;
    rest = malloc(sizeof(*rest) + len);
    if (!rest)
        raw_die("rest", "out of memory");
    rest->next = NULL;
    rest->len = 0;
    for (; id != NO_BUFFER; id = server->buffers[id].next) {
        size_t part = server->buffers[id].len;
        size_t from = skip < part ? skip : part;

        memcpy(rest->bytes + rest->len, server->bytes + (size_t)id * server->buffer_size + from,
               part - from);
        rest->len += part - from;
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

/* One send of all that came in for the connection. */
static void send_out(struct server *server, int fd)
{
    struct connection *connection = &server->connections[fd];
    struct message *message = &server->messages[server->messages_count];
    struct io_uring_sqe *sqe = next_sqe(server);
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_WAITALL;
    int pieces = 0;
    int last = NO_BUFFER;

    for (int id = connection->out_first; id != NO_BUFFER && pieces < PIECES_MAX;
         id = server->buffers[id].next) {
        message->pieces[pieces].iov_base = server->bytes + (size_t)id * server->buffer_size;
        message->pieces[pieces].iov_len = server->buffers[id].len;
        pieces++;
        last = id;
    }
    if (pieces == 1) {
        io_uring_prep_send(sqe, fd, message->pieces[0].iov_base, message->pieces[0].iov_len, flags);
    } else {
        server->messages_count++;
        message->header = (struct msghdr){.msg_iov = message->pieces, .msg_iovlen = (size_t)pieces};
        io_uring_prep_sendmsg(sqe, fd, &message->header, (unsigned)flags);
    }
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = user_data_of(KIND_SEND, fd);
    connection->sent_first = connection->out_first;
    connection->out_first = server->buffers[last].next;
    server->buffers[last].next = NO_BUFFER;
    if (connection->out_first == NO_BUFFER)
        connection->out_last = NO_BUFFER;
    else
        list_add(&server->dirty, fd);
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

        if (!connection->rest) {
            send_out(server, dirty.fds[i]);
            continue;
        }
        rest_keep(server, dirty.fds[i], connection->out_first, 0);
        chain_return(server, connection->out_first);
        connection->out_first = NO_BUFFER;
        connection->out_last = NO_BUFFER;
    }
}

static void on_accept(struct server *server, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0 && (uint32_t)cqe->res < server->fds_max)
        connection_open(server, cqe->res);
    else if (cqe->res >= 0)
        close(cqe->res);
    if (!(cqe->flags & IORING_CQE_F_MORE) && cqe->res != -EMFILE && cqe->res != -ENFILE)
        accept_arm(server);
}

static void on_data(struct server *server, int fd, const struct io_uring_cqe *cqe)
{
    struct connection *connection = &server->connections[fd];
    int id = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);

    server->count.requests++;
    server->count.bytes += (uint64_t)cqe->res;
    server->buffers[id].len = (uint32_t)cqe->res;
    server->buffers[id].next = NO_BUFFER;
    if (connection->out_first == NO_BUFFER) {
        connection->out_first = id;
        list_add(&server->dirty, fd);
    } else {
        server->buffers[connection->out_last].next = id;
    }
    connection->out_last = id;
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

        chain_return(server, server->connections[fd].sent_first);
        server->connections[fd].sent_first = NO_BUFFER;
        connection_settle(server, fd);
    }
    server->sending.count = 0;
}

/* Shows the kernel what came back, and lets those go on who found none. */
static void return_buffers(struct server *server)
{
    struct list starved = server->starved;

    if (server->returned == 0)
        return;
    io_uring_buf_ring_advance(server->buffer_ring, (int)server->returned);
    server->returned = 0;
    server->starved.count = 0;
    for (uint32_t i = 0; i < starved.count; i++)
        recv_arm(server, starved.fds[i], true);
}

static void enter(struct server *server)
{
    struct __kernel_timespec hour = {.tv_sec = 3600};
    struct io_uring_cqe *cqe;
    sigset_t none;

    server->count.system_calls++;
    /* Sends that succeed say nothing: who waits for their buffers must not wait for them. */
    if (server->starved.count > 0 && server->sending.count > 0) {
        (void)io_uring_submit_and_get_events(&server->ring);
        return;
    }
    sigemptyset(&none);
    /* Without a time liburing 2.3 does not hand the mask on, and no signal ends the wait. */
    (void)io_uring_submit_and_wait_timeout(&server->ring, &cqe, 1, &hour, &none);
}

static void serve(struct server *server)
{
    accept_arm(server);
    while (!raw_is_stopping) {
        struct io_uring_cqe *cqe;
        unsigned head;
        unsigned taken = 0;

        send_all(server);
        enter(server);
        /* The tail is read once a step: what comes meanwhile is looked at, too. */
        io_uring_for_each_cqe(&server->ring, head, cqe)
        {
            on_completion(server, cqe);
            taken++;
        }
        io_uring_cq_advance(&server->ring, taken);
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

static void make_buffers(struct server *server)
{
    struct io_uring_buf_reg reg = {.ring_entries = server->buffers_count, .bgid = GROUP};
    void *memory = NULL;
    int rc;

    if (posix_memalign(&memory, 4096, server->buffers_count * sizeof(struct io_uring_buf)) ||
        posix_memalign((void **)&server->bytes, 4096,
                       (size_t)server->buffers_count * server->buffer_size))
        raw_die("buffers", "out of memory");
    memset(server->bytes, 0, (size_t)server->buffers_count * server->buffer_size);
    reg.ring_addr = (uint64_t)(uintptr_t)memory;
    server->buffer_ring = memory;
    rc = io_uring_register_buf_ring(&server->ring, &reg, 0);
    if (rc < 0)
        raw_die("io_uring_register_buf_ring", strerror(-rc));
    io_uring_buf_ring_init(server->buffer_ring);
    server->buffers = make(server->buffers_count, sizeof(*server->buffers));
    for (uint32_t i = 0; i < server->buffers_count; i++)
        buffer_return(server, (int)i);
    io_uring_buf_ring_advance(server->buffer_ring, (int)server->returned);
    server->returned = 0;
}

static void open_ring(struct server *server)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                                              IORING_SETUP_CQSIZE,
                                     .cq_entries = CQ_ENTRIES};
    int rc = io_uring_queue_init_params(SQ_ENTRIES, &server->ring, &params);

    if (rc < 0)
        raw_die("io_uring_setup", strerror(-rc));
}

/* A power of two from @text, or exits. */
static uint32_t power_of(const char *name, const char *text, uint32_t max)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);

    if (*end || value == 0 || value > max || (value & (value - 1))) {
        fprintf(stderr, "raw_uring: %s: '%s': use a power of two up to %u\n", name, text, max);
        exit(2);
    }
    return (uint32_t)value;
}

static const char *parse(struct server *server, int argc, char **argv)
{
    const char *where = NULL;

    server->buffers_count = 256;
    server->buffer_size = 4096;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--listen") == 0)
            where = argv[i + 1];
        else if (strcmp(argv[i], "--buffers") == 0)
            server->buffers_count = power_of("--buffers", argv[i + 1], 32768);
        else if (strcmp(argv[i], "--buffer-size") == 0)
            server->buffer_size = power_of("--buffer-size", argv[i + 1], 1 << 20);
        else
            return NULL;
    }
    return argc % 2 == 1 ? where : NULL;
}

int main(int argc, char **argv)
{
    struct server server = {0};
    const char *where = parse(&server, argc, argv);

    if (!where) {
        fprintf(stderr,
                "usage: raw_uring --listen HOST:PORT [--buffers N] [--buffer-size BYTES]\n");
        return 2;
    }
    raw_catch_signals();
    server.fds_max = raw_fds_max();
    server.connections = make(server.fds_max, sizeof(*server.connections));
    server.dirty.fds = make(server.fds_max, sizeof(int));
    server.sending.fds = make(server.fds_max, sizeof(int));
    server.starved.fds = make(server.fds_max, sizeof(int));
    open_ring(&server);
    make_buffers(&server);
    server.messages = make(server.buffers_count, sizeof(*server.messages));
    server.listen_fd = raw_listen(where);
    raw_print_address(server.listen_fd, "raw-uring");
    serve(&server);
    raw_print_summary("raw_uring", &server.count);
    return 0;
}
