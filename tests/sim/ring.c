/* SPDX-License-Identifier: MIT */
/*
 * The simulated io_uring: its queues, and the backend's functions. ring_run.c does the work.
 *
 * As the real one it resolves descriptors when it submits, keeps files open as long as a request
 * has them, ends a multishot request whose completion finds the queue full, and says nothing of a
 * cancel but by the end of its target. A ring that dies keeps what it holds until it is closed.
 */
#include "tests/sim/ring.h"
#include "engine/sys.h"
#include "tests/sim/mail.h"

#include <stdio.h>
#include <stdlib.h>

/* As uring/poll.c: a turn with operations is short, and takes no more than there are buffers. */
#define OPERATIONS_WANTED 32u

static const struct rdy_backend_ops ring_ops;

/* The one that is open. */
static struct sim_ring *the_ring;

static struct sim_ring *ring_of(struct rdy_backend *backend)
{
    return rdy_container_of(backend, struct sim_ring, backend);
}

/* --- what the invariants ask --- */

bool sim_ring_is_open(void)
{
    return the_ring != NULL;
}

struct sim_request *sim_ring_request(struct sim_ring *ring, uint64_t token)
{
    for (uint32_t i = 0; i < ring->requests_count; i++) {
        if (ring->requests[i]->token == token && !ring->requests[i]->has_ended)
            return ring->requests[i];
    }
    return NULL;
}

static bool is_queued(const struct sim_ring *ring, uint64_t token)
{
    for (uint32_t i = 0; i < ring->sqes_count; i++) {
        if (ring->sqes[i].token == token && ring->sqes[i].kind != SIM_SQE_CANCEL)
            return true;
    }
    return false;
}

static bool has_last(const struct sim_ring *ring, uint64_t token)
{
    for (uint32_t i = 0; i < ring->cqes_count; i++) {
        if (ring->cqes[i].token == token && (ring->cqes[i].flags & RDY_FACT_LAST))
            return true;
    }
    return false;
}

enum sim_hold sim_ring_hold(uint64_t token)
{
    if (is_queued(the_ring, token))
        return SIM_HOLD_QUEUED;
    if (sim_ring_request(the_ring, token))
        return SIM_HOLD_LIVE;
    return has_last(the_ring, token) ? SIM_HOLD_ENDED : SIM_HOLD_NONE;
}

bool sim_ring_is_cancelled(uint64_t token)
{
    const struct sim_request *request = sim_ring_request(the_ring, token);

    for (uint32_t i = 0; i < the_ring->sqes_count; i++) {
        if (the_ring->sqes[i].token == token && the_ring->sqes[i].kind == SIM_SQE_CANCEL)
            return true;
    }
    return request && request->is_cancelled;
}

uint32_t sim_ring_tokens(uint64_t *tokens, uint32_t tokens_max)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < the_ring->requests_count && count < tokens_max; i++) {
        if (!the_ring->requests[i]->has_ended)
            tokens[count++] = the_ring->requests[i]->token;
    }
    for (uint32_t i = 0; i < the_ring->sqes_count && count < tokens_max; i++) {
        if (the_ring->sqes[i].kind != SIM_SQE_CANCEL)
            tokens[count++] = the_ring->sqes[i].token;
    }
    return count;
}

uint32_t sim_ring_buffers(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < the_ring->buffers_count; i++)
        count += the_ring->is_kernels[i] ? 1 : 0;
    for (uint32_t i = 0; i < the_ring->cqes_count; i++)
        count += (the_ring->cqes[i].flags & RDY_FACT_BUFFER) ? 1 : 0;
    return count;
}

/* --- submitting --- */

static int ring_queue(struct sim_ring *ring, struct sim_sqe sqe)
{
    if (sim_one_of(sim.weather.busy_one_of) || ring->sqes_count == SIM_SQES_MAX)
        return -EBUSY;
    if (!(sqe.token & 1))
        sim_fail("a token whose lowest bit is not set");
    if (sqe.kind != SIM_SQE_CANCEL && sim_ring_hold(sqe.token) != SIM_HOLD_NONE)
        sim_fail("token %llx is used for a second request before the first has ended",
                 (unsigned long long)sqe.token);
    sim_note("queued: kind, descriptor, token", (int64_t)sqe.kind, sqe.fd, (int64_t)sqe.token);
    ring->sqes[ring->sqes_count++] = sqe;
    return 0;
}

static int ring_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    struct sim_sqe sqe = {.kind = SIM_SQE_POLL, .fd = fd, .token = token, .events = events};

    return ring_queue(ring_of(backend), sqe);
}

static int ring_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    struct sim_sqe sqe = {.kind = SIM_SQE_CANCEL, .fd = fd, .token = token};

    return ring_queue(ring_of(backend), sqe);
}

static int ring_recv(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there)
{
    struct sim_sqe sqe = {
        .kind = SIM_SQE_RECV, .fd = fd, .token = token, .is_data_there = is_data_there};

    return ring_queue(ring_of(backend), sqe);
}

static int ring_accept(struct rdy_backend *backend, int fd, uint64_t token)
{
    struct sim_sqe sqe = {.kind = SIM_SQE_ACCEPT, .fd = fd, .token = token};

    return ring_queue(ring_of(backend), sqe);
}

static int ring_send(struct rdy_backend *backend, const struct rdy_backend_send *send)
{
    struct sim_sqe sqe = {
        .kind = SIM_SQE_SEND, .fd = send->fd, .token = send->token, .may_wait = send->may_wait};

    rdy_assert(send->message->msg_iovlen > 0 && send->message->msg_iovlen <= SIM_PIECES_MAX);
    if (send->message->msg_iovlen == 1 && !send->message->msg_name)
        sqe.single = send->message->msg_iov[0];
    else
        sqe.message = send->message;
    return ring_queue(ring_of(backend), sqe);
}

static int ring_connect(struct rdy_backend *backend, int fd, uint64_t token,
                        const struct sockaddr *addr, socklen_t addr_len)
{
    struct sim_sqe sqe = {
        .kind = SIM_SQE_CONNECT, .fd = fd, .token = token, .addr = addr, .addr_len = addr_len};

    return ring_queue(ring_of(backend), sqe);
}

static int ring_messages(struct rdy_backend *backend)
{
    (void)backend;
    return sim.weather.is_mail_refused ? -EOPNOTSUPP : 0;
}

static int ring_recv_message(struct rdy_backend *backend, int fd, uint64_t token,
                             bool is_data_there)
{
    sim_check(!sim.weather.is_mail_refused && sim_sock_of(fd)->mail);
    return ring_recv(backend, fd, token, is_data_there);
}

static int ring_close_file(struct rdy_backend *backend, int fd)
{
    struct sim_ring *ring = ring_of(backend);

    if (sim_one_of(sim.weather.busy_one_of) || ring->closes_count == SIM_SQES_MAX)
        return -EBUSY;
    sim_note("queued: a close", fd, 0, 0);
    ring->closes[ring->closes_count++] = fd;
    return 0;
}

/* All of them: submitted, or by whoever frees what was not. */
static void ring_close_files(struct sim_ring *ring)
{
    while (ring->closes_count > 0)
        (void)rdy_sys_close(ring->closes[--ring->closes_count]);
}

static void ring_submit(struct sim_ring *ring)
{
    uint32_t count = ring->sqes_count;

    ring->is_stalled = count > 0 && sim_one_of(sim.weather.stalled_one_of);
    if (ring->is_stalled)
        count = (uint32_t)sim_below(count);
    for (uint32_t i = 0; i < count; i++) {
        sim_spend();
        sim_ring_begin(ring, &ring->sqes[i]);
    }
    if (!ring->is_stalled)
        ring_close_files(ring);
    ring->sqes_count -= count;
    memmove(ring->sqes, ring->sqes + count, ring->sqes_count * sizeof(ring->sqes[0]));
}

/* --- completions --- */

/* A completion that nobody will see: its buffer is the kernel's again. */
static void buffer_lose(struct sim_ring *ring, const struct rdy_fact *fact)
{
    if ((fact->flags & RDY_FACT_BUFFER) == 0)
        return;
    ring->is_kernels[fact->buffer] = true;
    if (ring->letters[fact->buffer])
        sim_mail_lose(ring->letters[fact->buffer]);
}

bool sim_ring_post(struct sim_ring *ring, struct rdy_fact fact)
{
    bool is_full = ring->cqes_count >= ring->cq_entries;

    if (is_full && fact.result >= 0)
        fact.flags |= RDY_FACT_LAST | RDY_FACT_OVERFLOW;
    if (is_full && sim.weather.is_dropping && !ring->death && sim_below(8) == 0 &&
        rdy_token_about(fact.token) != RDY_ABOUT_ACCEPT) {
        ring->death = -EBADR;
        ring->backend.has_lost = true;
        buffer_lose(ring, &fact);
        sim_note("a completion is lost, and the ring with it", (int64_t)fact.token, 0, 0);
        return (fact.flags & RDY_FACT_LAST) == 0;
    }
    sim_note("completion: token, result or events, flags", (int64_t)fact.token,
             fact.result ? fact.result : (int64_t)fact.events, fact.flags);
    rdy_assert(ring->cqes_count < SIM_CQES_MAX);
    ring->cqes[ring->cqes_count++] = fact;
    return (fact.flags & RDY_FACT_LAST) == 0;
}

static uint32_t ring_wanted(const struct sim_ring *ring, uint32_t facts_max)
{
    uint32_t wanted = OPERATIONS_WANTED;

    if (ring->backend.can_batch && ring->backend.batch_count > wanted)
        wanted = ring->backend.batch_count;
    if (wanted > ring->free_count)
        wanted = ring->free_count;
    if (!ring->memory || facts_max < wanted)
        return facts_max;
    return wanted > 0 ? wanted : 1;
}

/* The end of a poll may come once more, or something that was on its way then. */
static void ghost_keep(struct sim_ring *ring, const struct rdy_fact *fact)
{
    if (rdy_token_about(fact->token) != RDY_ABOUT_WATCH || !(fact->flags & RDY_FACT_LAST))
        return;
    ring->ghosts[ring->ghosts_count++ % SIM_GHOSTS_MAX] = (struct rdy_fact){
        .token = fact->token,
        .events = RDY_EV_IN | RDY_EV_OUT | RDY_EV_RDHUP | RDY_EV_HUP,
        .flags = sim_below(2) ? RDY_FACT_LAST : 0,
    };
}

static uint32_t ring_reap(struct sim_ring *ring, struct rdy_fact *facts, uint32_t facts_max)
{
    uint32_t in_queue = ring->cqes_count < ring->cq_entries ? ring->cqes_count : ring->cq_entries;
    uint32_t count = in_queue < facts_max ? in_queue : facts_max;

    memcpy(facts, ring->cqes, count * sizeof(*facts));
    ring->cqes_count -= count;
    memmove(ring->cqes, ring->cqes + count, ring->cqes_count * sizeof(ring->cqes[0]));
    ring->backend.is_settled = ring->sqes_count == 0 && ring->cqes_count == 0;
    if (count < facts_max && ring->ghosts_count > 0 && sim_one_of(sim.weather.ghost_one_of)) {
        uint32_t kept = ring->ghosts_count < SIM_GHOSTS_MAX ? ring->ghosts_count : SIM_GHOSTS_MAX;

        facts[count++] = ring->ghosts[sim_below(kept)];
    }
    for (uint32_t i = 0; i < count; i++)
        ghost_keep(ring, &facts[i]);
    for (uint32_t i = 0; i < count; i++)
        sim_note("fact: token, result or events, flags", (int64_t)facts[i].token,
                 facts[i].result ? facts[i].result : (int64_t)facts[i].events, facts[i].flags);
    return count;
}

/* --- waiting --- */

static void show_refills(struct sim_ring *ring)
{
    memcpy(ring->free + ring->free_count, ring->refilled,
           ring->refilled_count * sizeof(ring->free[0]));
    ring->free_count += ring->refilled_count;
    ring->refilled_count = 0;
}

/* As by a filter that came late, which refuses the call: what is queued was never submitted. */
static bool has_to_die(void)
{
    return sim.weather.death_at != 0 && sim.step >= sim.weather.death_at;
}

/* A wait that blocks with nothing in hand may go on for a batch, within its own time. */
struct batch {
    uint32_t count;
    uint64_t until_ns; /* then one is enough */
};

static struct batch batch_begin(const struct sim_ring *ring, int64_t timeout_ns, uint32_t wanted)
{
    const struct rdy_backend *backend = &ring->backend;
    uint64_t wait_ns = (uint64_t)backend->batch_wait_us * SIM_US;
    struct batch batch = {.count = 1, .until_ns = sim.now_ns};

    if (!backend->can_batch || backend->batch_count <= 1 || timeout_ns == 0 || ring->cqes_count > 0)
        return batch;
    if (timeout_ns > 0 && (uint64_t)timeout_ns < wait_ns)
        wait_ns = (uint64_t)timeout_ns;
    batch.count = backend->batch_count < wanted ? backend->batch_count : wanted;
    batch.until_ns += wait_ns;
    return batch;
}

/* Waits for a completion, or a batch of them, a wake, a signal or the time. */
static void ring_await(struct sim_ring *ring, int64_t timeout_ns, uint32_t wanted)
{
    uint64_t until_ns = timeout_ns < 0 ? SIM_NEVER : sim.now_ns + (uint64_t)timeout_ns;
    const struct batch batch = batch_begin(ring, timeout_ns, wanted);
    uint64_t limit_ns;

    ring->backend.batch_waited = batch.count;
    sim.has_batched = sim.has_batched || batch.count > 1;
    do {
        uint32_t count;

        while (ring->cqes_count < wanted && sim_ring_run(ring))
            ;
        count = ring->cqes_count + ring->is_woken;
        if (ring->death || count >= batch.count || (count > 0 && sim.now_ns >= batch.until_ns))
            return;
        if (timeout_ns != 0 && sim_one_of(sim.weather.signal_one_of)) {
            rdy_a64_bump(&ring->backend.interruptions, 1);
            return;
        }
        if (ring->is_stalled && until_ns > sim.now_ns + SIM_MS)
            until_ns = sim.now_ns + SIM_MS;
        limit_ns = until_ns;
        if (sim.now_ns < batch.until_ns && batch.until_ns < until_ns)
            limit_ns = batch.until_ns;
    } while (sim_pass_time(limit_ns, sim_ring_work_ns(ring)) || limit_ns != until_ns);
}

static int ring_wait(struct rdy_backend *backend, int64_t timeout_ns, struct rdy_fact *facts,
                     uint32_t facts_max)
{
    struct sim_ring *ring = ring_of(backend);
    uint32_t wanted = 0;

    sim_step();
    sim_note("wait: limit, queued", timeout_ns, ring->sqes_count, 0);
    rdy_a64_bump(&backend->system_calls, 1);
    if (!ring->death && has_to_die())
        ring->death = sim.weather.death_error;
    if (ring->death == 0) {
        show_refills(ring);
        wanted = ring_wanted(ring, facts_max);
        ring_submit(ring);
        ring_await(ring, timeout_ns, wanted);
        ring->is_woken = false;
    }
    if (ring->death != 0) {
        sim.was_lost = true;
        ring->backend.has_lost = ring->backend.has_lost || ring->cqes_count > ring->cq_entries;
        sim_note("the ring is dead", ring->death, 0, 0);
        ring_close_files(ring);
        return ring->death;
    }
    return (int)ring_reap(ring, facts, wanted);
}

/*
 * What waits for room in the queue is in the kernel's memory, and cannot be had. A descriptor among
 * it is lost to the process; here it is closed, or the end would find it.
 */
static void drop_waiting(struct sim_ring *ring)
{
    while (ring->cqes_count > ring->cq_entries) {
        const struct rdy_fact *fact = &ring->cqes[--ring->cqes_count];

        sim_note("lost: token, result", (int64_t)fact->token, fact->result, 0);
        if (rdy_token_about(fact->token) == RDY_ABOUT_ACCEPT && fact->result >= 0) {
            sim_sock_give_up(sim_sock_of(fact->result));
            (void)sim_fd_close(fact->result);
        }
        buffer_lose(ring, fact);
    }
}

static uint32_t ring_salvage(struct rdy_backend *backend, struct rdy_fact *facts,
                             uint32_t facts_max)
{
    drop_waiting(ring_of(backend));
    return ring_reap(ring_of(backend), facts, facts_max);
}

static void ring_wake(struct rdy_backend *backend)
{
    ring_of(backend)->is_woken = true;
}

static int ring_fd(const struct rdy_backend *backend)
{
    (void)backend;
    return -EINVAL;
}

/* --- buffers --- */

static int ring_lend(struct rdy_backend *backend, void *memory, uint32_t count, uint32_t size)
{
    struct sim_ring *ring = ring_of(backend);

    if (sim.weather.is_lend_refused)
        return -EOPNOTSUPP;
    rdy_assert(count <= SIM_BUFFERS_MAX && !ring->memory);
    ring->memory = memory;
    ring->buffers_count = count;
    ring->buffer_size = size;
    return 0;
}

static void ring_refill(struct rdy_backend *backend, uint32_t buffer)
{
    struct sim_ring *ring = ring_of(backend);

    sim_check(buffer < ring->buffers_count);
    if (ring->is_kernels[buffer])
        sim_fail("buffer %u is given to the kernel, which has it", buffer);
    ring->is_kernels[buffer] = true;
    ring->refilled[ring->refilled_count++] = buffer;
}

/* --- opening and closing --- */

static int ring_probe(struct rdy_probe_report *report, char *why, size_t why_len)
{
    (void)report;
    if (sim.weather.is_ring)
        return 0;
    (void)snprintf(why, why_len, "there is none in this weather");
    return -EOPNOTSUPP;
}

static int ring_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                     size_t why_len)
{
    struct sim_ring *ring = calloc(1, sizeof(*ring));

    (void)why;
    (void)why_len;
    if (!ring || the_ring)
        abort();
    rdy_assert(opts->cq_entries <= SIM_CQES_MAX);
    ring->backend.ops = &ring_ops;
    ring->backend.looks_again = true;
    ring->backend.can_batch = sim.weather.can_batch;
    ring->cq_entries = opts->cq_entries;
    the_ring = ring;
    *out = &ring->backend;
    return 0;
}

static void ring_close(struct rdy_backend *backend)
{
    struct sim_ring *ring = ring_of(backend);

    ring_close_files(ring);
    while (ring->requests_count > 0) {
        struct sim_request *request = ring->requests[--ring->requests_count];

        sim_ring_forget(request);
        free(request);
    }
    the_ring = NULL;
    free(ring);
}

static const struct rdy_backend_ops ring_ops = {
    .name = "io_uring",
    .capabilities = RDY_BACKEND_COMPLETES,
    .probe = ring_probe,
    .open = ring_open,
    .close = ring_close,
    .arm = ring_arm,
    .disarm = ring_disarm,
    .wait = ring_wait,
    .wake = ring_wake,
    .fd = ring_fd,
    .lend = ring_lend,
    .refill = ring_refill,
    .recv = ring_recv,
    .accept = ring_accept,
    .send = ring_send,
    .connect = ring_connect,
    .close_file = ring_close_file,
    .messages = ring_messages,
    .recv_message = ring_recv_message,
    .salvage = ring_salvage,
};

const struct rdy_backend_ops *const rdy_backend_uring = &ring_ops;
