/* SPDX-License-Identifier: MIT */
/*
 * The work of the ring's requests: what happens when one begins, is woken, or is cancelled.
 *
 * A wake-up only marks a request; its work runs in a wait, perhaps a late one, and not in the order
 * of the wake-ups. One wake-up is answered with its key, several with the state. What the kernel
 * may do at any time it does now and then: end a multishot request, or cancel late.
 */
#include "tests/sim/ring.h"

#include <stdlib.h>

#include "engine/poison.h"
#include "tests/sim/mail.h"

/* Work that one enter runs, and rounds of a multishot receive in one piece of work. */
#define PORTION    20u
#define ROUNDS_MAX 32u

#define UNMASKABLE (RDY_EV_ERR | RDY_EV_HUP | RDY_EV_RDHUP)

static uint64_t late_ns(void)
{
    return sim_one_of(sim.weather.late_one_of) ? sim_between(1, sim.weather.late_ns) : 0;
}

static void request_woken(struct sim_waiter *waiter, uint32_t key)
{
    struct sim_request *request = rdy_container_of(waiter, struct sim_request, waiter);

    if (key != 0 && (key & (request->events | UNMASKABLE)) == 0)
        return;
    request->key = key;
    request->wakes++;
    if (request->run_ns == SIM_NEVER)
        request->run_ns = sim.now_ns + late_ns();
}

static void requests_reap(struct sim_ring *ring)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < ring->requests_count; i++) {
        if (ring->requests[i]->has_ended)
            free(ring->requests[i]);
        else
            ring->requests[kept++] = ring->requests[i];
    }
    ring->requests_count = kept;
}

static struct sim_request *request_make(struct sim_ring *ring, const struct sim_sqe *sqe,
                                        struct sim_file *file)
{
    struct sim_request *request = calloc(1, sizeof(*request));

    if (ring->requests_count == SIM_REQUESTS_MAX) /* of turns that found no work to be run */
        requests_reap(ring);
    if (!request || ring->requests_count == SIM_REQUESTS_MAX)
        abort();
    request->waiter.woken = request_woken;
    rdy_list_init(&request->waiter.link);
    request->ring = ring;
    request->file = sim_file_keep(file);
    request->kind = sqe->kind;
    request->token = sqe->token;
    request->events = sqe->events;
    request->run_ns = SIM_NEVER;
    request->order = ring->orders++;
    ring->requests[ring->requests_count++] = request;
    return request;
}

void sim_ring_forget(struct sim_request *request)
{
    request->has_ended = true;
    request->run_ns = SIM_NEVER;
    sim_sock_unwatch(&request->waiter);
    if (request->file)
        sim_file_drop(request->file);
    request->file = NULL;
}

void sim_ring_post_last(struct sim_request *request, int result)
{
    struct rdy_fact fact = {.token = request->token, .result = result, .flags = RDY_FACT_LAST};

    (void)sim_ring_post(request->ring, fact);
    sim_ring_forget(request);
}

bool sim_ring_post_more(struct sim_request *request, struct rdy_fact fact)
{
    if (sim_one_of(sim.weather.ended_one_of))
        fact.flags |= RDY_FACT_LAST;
    if (sim_ring_post(request->ring, fact))
        return true;
    sim_ring_forget(request);
    return false;
}

/* --- polls --- */

static void poll_tell(struct sim_request *request, uint32_t events, uint32_t flags)
{
    struct rdy_fact fact = {.token = request->token, .events = events, .flags = flags};

    (void)sim_ring_post_more(request, fact);
}

static void poll_run(struct sim_request *request, uint32_t wakes, uint32_t key)
{
    uint32_t events = key;
    uint32_t flags = 0;

    if (wakes != 1 || key == 0 || sim_one_of(sim.weather.relook_one_of))
        events = sim_sock_look(request->file->sock);
    else if (key & RDY_EV_IN)
        flags = RDY_FACT_KEY;
    events &= request->events | UNMASKABLE;
    if (events != 0)
        poll_tell(request, events, flags);
}

/* Arming is level: what holds is told at once. */
static void poll_begin(struct sim_request *request)
{
    uint32_t events = sim_sock_look(request->file->sock) & (request->events | UNMASKABLE);

    sim_sock_watch(request->file->sock, &request->waiter);
    if (events != 0)
        poll_tell(request, events, 0);
}

/* --- receives --- */

uint32_t sim_ring_buffer_take(struct sim_ring *ring)
{
    uint32_t buffer = ring->free[0];

    ring->free_count--;
    memmove(ring->free, ring->free + 1, ring->free_count * sizeof(ring->free[0]));
    return buffer;
}

void sim_ring_buffer_untake(struct sim_ring *ring, uint32_t buffer)
{
    memmove(ring->free + 1, ring->free, ring->free_count * sizeof(ring->free[0]));
    ring->free[0] = buffer;
    ring->free_count++;
}

/* False when there is nothing more now, or the request has ended. */
static bool recv_once(struct sim_request *request)
{
    struct sim_ring *ring = request->ring;
    struct rdy_fact fact = {.token = request->token, .flags = RDY_FACT_BUFFER};
    size_t room = ring->buffer_size;
    unsigned char *memory;
    ssize_t count;

    if (request->file->sock->mail)
        return sim_ring_message_recv(request);
    if (ring->free_count == 0) {
        sim_ring_post_last(request, -ENOBUFS);
        return false;
    }
    if (room > 1 && sim_one_of(sim.weather.short_one_of))
        room = (size_t)sim_between(1, room);
    fact.buffer = sim_ring_buffer_take(ring);
    memory = ring->memory + (size_t)fact.buffer * ring->buffer_size;
    rdy_unpoison(memory, ring->buffer_size); /* it is the kernel's to write to, but only its */
    count = sim_sock_recv(request->file->sock, memory, room, false);
    if (count <= 0) {
        rdy_poison(memory, ring->buffer_size);
        sim_ring_buffer_untake(ring, fact.buffer);
        if (count != -EAGAIN)
            sim_ring_post_last(request, (int)count);
        return false;
    }
    ring->is_kernels[fact.buffer] = false;
    ring->letters[fact.buffer] = NULL;
    fact.result = (int32_t)count;
    return sim_ring_post_more(request, fact);
}

static void recv_run(struct sim_request *request)
{
    for (uint32_t i = 0; i < ROUNDS_MAX; i++) {
        if (!recv_once(request))
            return;
    }
    request->run_ns = sim.now_ns; /* there is more: behind the others */
    request->wakes++;
}

/*
 * Waiting for an event first tells of what is there, as arming a poll does. But of a Unix socket
 * whose peer has ended it is never told again (Linux 6.18): the data comes, the end does not.
 */
static void recv_begin(struct sim_request *request, bool is_data_there)
{
    struct sim_sock *sock = request->file->sock;

    sim_sock_watch(sock, &request->waiter);
    if (is_data_there) {
        recv_run(request);
    } else if (sim_sock_look(sock) & (RDY_EV_IN | RDY_EV_ERR | RDY_EV_HUP)) {
        bool is_deaf = sock->is_unix && sock->is_read_shut && sim_sock_unread(sock) > 0;

        if (is_deaf)
            (void)recv_once(request);
        else
            recv_run(request);
    }
}

/* --- accepts --- */

static void accept_run(struct sim_request *request)
{
    struct rdy_fact fact = {.token = request->token};

    for (;;) {
        int fd = sim_sys_accept(request->file->sock);

        if (fd == -EAGAIN)
            return;
        if (fd < 0) {
            sim_ring_post_last(request, fd);
            return;
        }
        fact.result = fd;
        if (!sim_ring_post_more(request, fact))
            return;
    }
}

/* --- sends --- */

/* Sends what fits; false when the rest has to wait. */
static ssize_t send_some(struct sim_request *request)
{
    if (request->file->sock->mail)
        return sim_ring_message_send(request);
    while (request->pieces_count > 0) {
        struct iovec *piece = &request->pieces[0];
        ssize_t count = sim_sock_send(request->file->sock, piece->iov_base, piece->iov_len);

        if (count < 0)
            return count;
        request->sent += (size_t)count;
        piece->iov_base = (char *)piece->iov_base + count;
        piece->iov_len -= (size_t)count;
        if (piece->iov_len > 0)
            return -EAGAIN;
        request->pieces_count--;
        memmove(piece, piece + 1, request->pieces_count * sizeof(*piece));
    }
    return 0;
}

/* A datagram whose request could not be made. */
static void note_unsent(struct sim_sock *sock, const struct sim_sqe *sqe)
{
    const struct msghdr single = {.msg_iov = (struct iovec *)(uintptr_t)&sqe->single,
                                  .msg_iovlen = 1};

    sim_mail_note_send(sock, sqe->message ? sqe->message : &single, -ENOMEM);
}

static int send_result(const struct sim_request *request, int error)
{
    return request->sent > 0 ? (int)request->sent : error;
}

static void send_run(struct sim_request *request)
{
    ssize_t rc = send_some(request);

    if (rc != -EAGAIN)
        sim_ring_post_last(request, send_result(request, (int)rc));
}

static void send_begin(struct sim_request *request, const struct sim_sqe *sqe)
{
    const struct msghdr single = {.msg_iov = (struct iovec *)(uintptr_t)&sqe->single,
                                  .msg_iovlen = 1};
    const struct msghdr *message = sqe->message ? sqe->message : &single;
    ssize_t rc;

    request->pieces_count = (uint32_t)message->msg_iovlen;
    memcpy(request->pieces, message->msg_iov, request->pieces_count * sizeof(struct iovec));
    if (request->file->sock->mail)
        sim_ring_message_keep(request, message);
    sim_sock_watch(request->file->sock, &request->waiter);
    rc = send_some(request);
    sim_note("send of the ring: socket, sent, result", request->file->sock->id,
             (int64_t)request->sent, rc);
    if (rc == 0 && !sqe->may_wait)
        sim_ring_forget(request);
    else if (rc != -EAGAIN || !sqe->may_wait)
        sim_ring_post_last(request, send_result(request, (int)rc));
}

/* --- connects --- */

/*
 * Woken, the ring asks the socket: by its error, or by connecting once more. Where the wake-up was
 * about something else that is told to be under way, and the request has ended all the same.
 */
static void connect_run(struct sim_request *request)
{
    struct sim_sock *sock = request->file->sock;
    int rc = sim_sock_connect(sock, NULL, 0);

    sim_note("connect of the ring: socket, result", sock->id, rc, 0);
    sim_ring_post_last(request, rc == -EISCONN ? 0 : rc);
}

/* It may be given up without an answer; the socket goes on connecting. */
static void connect_begin(struct sim_request *request, const struct sim_sqe *sqe)
{
    static const int reasons[] = {-ECANCELED, -EAGAIN, -EINTR, -EINPROGRESS};
    int rc = sim_sock_connect(request->file->sock, sqe->addr, sqe->addr_len);

    sim_sock_watch(request->file->sock, &request->waiter);
    if (rc != -EINPROGRESS)
        sim_ring_post_last(request, rc);
    else if (sim_one_of(sim.weather.ended_one_of))
        sim_ring_post_last(request, reasons[sim_below(sizeof(reasons) / sizeof(reasons[0]))]);
}

/* --- all of them --- */

static void cancel(struct sim_ring *ring, const struct sim_sqe *sqe)
{
    struct sim_request *request = sim_ring_request(ring, sqe->token);

    if (!request || request->is_cancelled)
        return; /* to be asked twice makes it no later */
    request->is_cancelled = true;
    request->run_ns = sim.now_ns + late_ns();
    /* It is being completed just then, and ends later still. */
    if (sim_one_of(sim.weather.already_one_of))
        request->run_ns += sim_between(1, sim.weather.late_ns);
}

void sim_ring_begin(struct sim_ring *ring, const struct sim_sqe *sqe)
{
    struct sim_file *file = sim_file_of(sqe->fd);
    struct rdy_fact refusal = {.token = sqe->token, .result = -EBADF, .flags = RDY_FACT_LAST};
    struct sim_request *request;

    if (sqe->kind == SIM_SQE_CANCEL) {
        cancel(ring, sqe);
        return;
    }
    if (!file || !file->sock)
        sim_fail("descriptor %d was submitted, but is not open any more", sqe->fd);
    if (sim_one_of(sim.weather.spoilt_one_of) && sqe->kind != SIM_SQE_ACCEPT) {
        refusal.result = -ENOMEM;
        if (file->sock->mail && sqe->kind == SIM_SQE_SEND)
            note_unsent(file->sock, sqe);
        (void)sim_ring_post(ring, refusal);
        return;
    }
    request = request_make(ring, sqe, file);
    switch (sqe->kind) {
    case SIM_SQE_POLL:
        poll_begin(request);
        break;
    case SIM_SQE_RECV:
        request->events = RDY_EV_IN;
        recv_begin(request, sqe->is_data_there);
        break;
    case SIM_SQE_ACCEPT:
        request->events = RDY_EV_IN;
        sim_sock_watch(file->sock, &request->waiter);
        accept_run(request);
        break;
    case SIM_SQE_SEND:
        request->events = RDY_EV_OUT;
        send_begin(request, sqe);
        break;
    case SIM_SQE_CONNECT:
        request->events = RDY_EV_OUT;
        connect_begin(request, sqe);
        break;
    case SIM_SQE_CANCEL:
        break;
    }
}

static void request_tell(struct sim_request *request, uint32_t wakes, uint32_t key)
{
    switch (request->kind) {
    case SIM_SQE_POLL:
        poll_run(request, wakes, key);
        break;
    case SIM_SQE_RECV:
        recv_run(request);
        break;
    case SIM_SQE_ACCEPT:
        accept_run(request);
        break;
    case SIM_SQE_SEND:
        send_run(request);
        break;
    case SIM_SQE_CONNECT:
        connect_run(request);
        break;
    case SIM_SQE_CANCEL:
        break;
    }
}

/* What a cancelled request was woken for may still be told before its end, or not. */
static void request_run(struct sim_request *request)
{
    uint32_t wakes = request->wakes;
    uint32_t key = request->key;
    bool is_told = wakes > 0 && (!request->is_cancelled || sim_below(2));

    request->run_ns = SIM_NEVER;
    request->wakes = 0;
    request->key = 0;
    if (is_told)
        request_tell(request, wakes, key);
    if (request->is_cancelled && !request->has_ended)
        sim_ring_post_last(request, send_result(request, -ECANCELED));
}

/* The next whose work is due: the first, or any. */
static struct sim_request *pick_due(struct sim_ring *ring)
{
    struct sim_request *picked = NULL;
    uint64_t seen = 0;

    for (uint32_t i = 0; i < ring->requests_count; i++) {
        struct sim_request *request = ring->requests[i];

        if (request->run_ns > sim.now_ns)
            continue;
        seen++;
        if (!picked || (!sim.weather.is_keeping_order && sim_below(seen) == 0))
            picked = request;
    }
    return picked;
}

bool sim_ring_run(struct sim_ring *ring)
{
    struct sim_request *request = NULL;
    uint32_t count;

    for (count = 0; count < PORTION && (request = pick_due(ring)); count++)
        request_run(request);
    requests_reap(ring);
    return count == PORTION;
}

uint64_t sim_ring_work_ns(const struct sim_ring *ring)
{
    uint64_t least_ns = SIM_NEVER;

    for (uint32_t i = 0; i < ring->requests_count; i++) {
        if (ring->requests[i]->run_ns < least_ns)
            least_ns = ring->requests[i]->run_ns;
    }
    return least_ns;
}
