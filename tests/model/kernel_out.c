/* SPDX-License-Identifier: MIT */
/*
 * What goes out of the model's sockets: sends and connects, by operations and by calls.
 *
 * An operation begins with the submission in a wait. A send that may not wait takes what there is
 * room for; gone out whole it has no fact. One that may is carried on when room comes, by whoever
 * makes it, from the engine's memory as it is then: what was freed is found. The same holds for the
 * address of a connect. What the peer got is kept, byte by byte.
 */
#include "engine/sys.h"
#include "engine/sys_socket.h"
#include "tests/model/checker.h"
#include "tests/model/kernel.h"

static struct kernel_file *open_file_of(int fd, const char *what)
{
    struct kernel_file *file = kernel_file_of(fd);

    if (!file->is_open || file->is_closing)
        model_fail("a %s of descriptor %d, which is closed", what, fd);
    return file;
}

static void take_byte(struct kernel_file *file, const unsigned char *byte)
{
    plain_check_kernel(byte, 1);
    if (file->is_shut)
        model_fail("a byte behind the end");
    if (file->sent_count == KERNEL_SENT_MAX)
        model_fail("more bytes than were to be sent");
    file->sent[file->sent_count++] = (char)*byte;
    file->room--;
}

static bool is_under_way(const struct kernel_file *file)
{
    return file->out.token != 0 && file->out.is_submitted && !file->out.is_over;
}

/* --- sends --------------------------------------------------------------------------------- */

/* The next byte that a send has not sent; NULL: all went out. */
static const unsigned char *next_byte(const struct kernel_op *op)
{
    size_t left = op->sent;

    for (uint32_t i = 0; i < op->pieces_count; i++) {
        if (left < op->piece[i].iov_len)
            return (const unsigned char *)op->piece[i].iov_base + left;
        left -= op->piece[i].iov_len;
    }
    return NULL;
}

static void send_on(struct kernel_file *file)
{
    struct kernel_op *op = &file->out;
    const unsigned char *byte;

    while ((byte = next_byte(op)) && file->room > 0 && file->error == 0) {
        take_byte(file, byte);
        op->sent++;
    }
    if (!byte && !op->may_wait)
        *op = (struct kernel_op){0}; /* in silence */
    else
        op->is_over = !byte || !op->may_wait || file->error != 0;
}

static void read_pieces(struct kernel_op *op, const struct msghdr *message)
{
    op->pieces_count = (uint32_t)message->msg_iovlen;
    rdy_assert(op->pieces_count > 0 && op->pieces_count <= KERNEL_PIECES);
    for (uint32_t i = 0; i < op->pieces_count; i++)
        op->piece[i] = message->msg_iov[i];
}

static struct kernel_op *begin(int fd, uint64_t token)
{
    struct kernel_file *file = open_file_of(fd, "send or connect");

    if (file->out.token != 0)
        model_fail("two operations at once that write to descriptor %d", fd);
    file->out = (struct kernel_op){.token = token};
    return &file->out;
}

int kernel_out_send(struct rdy_backend *backend, const struct rdy_backend_send *send)
{
    struct kernel_op *op = begin(send->fd, send->token);

    (void)backend;
    op->may_wait = send->may_wait;
    if (send->message->msg_iovlen == 1)
        read_pieces(op, send->message);
    else
        op->unread = send->message;
    return 0;
}

ssize_t rdy_sys_send(int fd, const void *data, size_t len)
{
    struct kernel_file *file = open_file_of(fd, "send");
    size_t sent = 0;

    kernel_touch("send");
    if (file->error != 0)
        return file->error;
    if (file->out.token != 0)
        model_fail("a send by a call, and one by an operation, at once");
    for (; sent < len && file->room > 0; sent++)
        take_byte(file, (const unsigned char *)data + sent);
    return sent > 0 ? (ssize_t)sent : -EAGAIN;
}

ssize_t rdy_sys_send_message(int fd, const struct msghdr *msg)
{
    ssize_t sent = 0;

    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        ssize_t rc = rdy_sys_send(fd, msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len);

        if (rc < 0)
            return sent > 0 ? sent : rc;
        sent += rc;
        if ((size_t)rc < msg->msg_iov[i].iov_len)
            break;
    }
    return sent;
}

int rdy_sys_shutdown(int fd, int how)
{
    kernel_touch("shutdown");
    if (how != SHUT_RD)
        open_file_of(fd, "shutdown")->is_shut = true;
    return 0;
}

void kernel_make_room(int fd, uint32_t bytes)
{
    struct kernel_file *file = kernel_file_of(fd);

    kernel_touch("the peer reads");
    file->room += bytes;
    file->ready |= RDY_EV_OUT;
    if (is_under_way(file) && !file->out.is_connect)
        send_on(file);
}

void kernel_reset_peer(int fd, int error)
{
    struct kernel_file *file = kernel_file_of(fd);

    kernel_touch("the peer is gone");
    file->error = error;
    file->ready |= kernel_out_state(file);
    if (is_under_way(file) && !file->out.is_connect)
        send_on(file);
}

/* --- connects ------------------------------------------------------------------------------ */

int kernel_out_connect(struct rdy_backend *backend, int fd, uint64_t token,
                       const struct sockaddr *addr, socklen_t addr_len)
{
    struct kernel_op *op = begin(fd, token);

    (void)backend;
    (void)addr_len;
    op->is_connect = true;
    op->addr = addr;
    return 0;
}

static void connect_end(struct kernel_op *op, int result)
{
    plain_check_kernel(op->addr, 1);
    op->is_over = true;
    op->result = result;
}

/* A connection is under way: is there an answer? */
static void connect_on(struct kernel_file *file)
{
    file->is_connecting = true;
    if (!file->has_answer)
        return;
    file->is_answered = true;
    file->error = file->answer;
    file->ready |= kernel_out_state(file);
    if (is_under_way(file) && file->out.is_connect)
        connect_end(&file->out, file->error);
}

int rdy_sys_connect(int fd, const struct sockaddr *addr, socklen_t addr_len)
{
    struct kernel_file *file = open_file_of(fd, "connect");
    bool was_connecting = file->is_connecting;

    kernel_touch("connect");
    plain_check_kernel(addr, addr_len);
    if (file->is_answered)
        return file->error != 0 ? file->error : -EISCONN;
    connect_on(file);
    return was_connecting ? -EALREADY : -EINPROGRESS;
}

int rdy_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
    const struct kernel_file *file = open_file_of(fd, "getpeername");

    (void)addr;
    (void)addr_len;
    kernel_touch("getpeername");
    return file->is_answered && file->error == 0 ? 0 : -ENOTCONN;
}

void kernel_answer(int fd, int error)
{
    struct kernel_file *file = kernel_file_of(fd);

    kernel_touch("the peer answers");
    file->has_answer = true;
    file->answer = error;
    if (file->is_connecting)
        connect_on(file);
}

void kernel_wake_early(int fd)
{
    struct kernel_file *file = kernel_file_of(fd);

    kernel_touch("a wake-up of another reason");
    if (is_under_way(file) && file->out.is_connect)
        connect_end(&file->out, model_choose(2) == 0 ? -EALREADY : 0); /* an older kernel */
}

/* --- for the ring -------------------------------------------------------------------------- */

void kernel_out_submit(struct kernel_file *file)
{
    struct kernel_op *op = &file->out;

    op->is_submitted = true;
    if (op->is_connect) {
        connect_on(file);
        return;
    }
    if (op->unread) {
        plain_check_kernel(op->unread, sizeof(*op->unread));
        read_pieces(op, op->unread);
    }
    send_on(file);
}

bool kernel_out_has_fact(const struct kernel_file *file)
{
    return file->out.token != 0 && file->out.is_submitted &&
           (file->out.is_over || file->out.is_cancelled);
}

static int send_result(const struct kernel_file *file)
{
    if (file->out.sent > 0)
        return (int)file->out.sent;
    if (file->error != 0)
        return file->error;
    return file->out.is_cancelled ? -ECANCELED : -EAGAIN;
}

void kernel_out_tell(struct kernel_file *file, struct rdy_fact *fact)
{
    const struct kernel_op *op = &file->out;

    *fact = (struct rdy_fact){.token = op->token, .flags = RDY_FACT_LAST};
    if (!op->is_connect)
        fact->result = send_result(file);
    else
        fact->result = op->is_over ? op->result : -ECANCELED;
    file->out = (struct kernel_op){0};
}

uint32_t kernel_out_state(const struct kernel_file *file)
{
    if (file->error != 0)
        return RDY_EV_IN | RDY_EV_OUT | RDY_EV_ERR | RDY_EV_HUP | RDY_EV_RDHUP;
    if (file->is_connector && !file->is_answered)
        return file->is_connecting ? 0 : RDY_EV_OUT | RDY_EV_HUP;
    return file->is_connector || file->room > 0 ? RDY_EV_OUT : 0;
}
