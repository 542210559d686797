/* SPDX-License-Identifier: MIT */
/*
 * What must be true before each wait, when all facts of the last one have been dealt with: the
 * engine and the kernel agree on what is armed, final flags are true, and every buffer of the pool
 * has one owner. And when all is quiet: readiness holds what the kernel would say.
 */
#include "engine/completion.h"
#include "engine/message.h"
#include "tests/sim/kernel.h"
#include "tests/sim/scene.h"

#define TOKENS_MAX 2048u

static const char *hold_name(enum sim_hold hold)
{
    static const char *const names[] = {"nothing", "a request to come", "a request", "a last fact"};

    return names[hold];
}

__attribute__((noreturn)) static void disagree(const struct rdy_scheduled_io *io, const char *what,
                                               int state, enum sim_hold hold)
{
    sim_fail("descriptor %d: of its %s the engine believes %d, the kernel has %s", io->fd, what,
             state, hold_name(hold));
}

static bool is_native(const struct rdy_scheduled_io *io)
{
    return (io->flags & RDY_IO_LANE) && io->driver->completion->is_native;
}

static void check_watch(const struct rdy_scheduled_io *io)
{
    enum sim_hold hold = sim_kernel_hold(rdy_scheduled_io_token(io));
    bool is_idle = io->kernel == RDY_KERNEL_IDLE;

    if (is_idle != (hold == SIM_HOLD_NONE))
        disagree(io, "watch", io->kernel, hold);
}

/* Of an entry that nobody has any more, the kernel was asked to let go. */
static void check_cancelled(const struct rdy_scheduled_io *io, uint64_t token, const char *what)
{
    if ((io->flags & RDY_IO_LEAVING) && !sim_kernel_is_cancelled(token))
        sim_fail("descriptor %d: its %s is not cancelled, though its entry is leaving", io->fd,
                 what);
}

/* Datagrams are tried several at a time, each under a token of its own. */
static enum sim_hold send_hold(const struct rdy_lane *lane, uint64_t token)
{
    enum sim_hold hold = sim_kernel_hold(token);
    uint64_t places = lane->message ? RDY_MESSAGE_TRIES : 1;

    for (uint64_t i = 1; i < places && hold == SIM_HOLD_NONE; i++)
        hold = sim_kernel_hold(token | i << RDY_TOKEN_ARMING_SHIFT);
    return hold;
}

static void check_lane(const struct rdy_scheduled_io *io)
{
    const struct rdy_lane *lane = rdy_lane_of(io);
    bool is_listener = (lane->flags & RDY_LANE_LISTENER) != 0;
    uint64_t recv_token =
        rdy_scheduled_io_op_token(io, is_listener ? RDY_ABOUT_ACCEPT : RDY_ABOUT_RECV);
    uint64_t send_token = rdy_scheduled_io_op_token(io, RDY_ABOUT_SEND);
    enum sim_hold recv = sim_kernel_hold(recv_token);
    enum sim_hold send = send_hold(lane, send_token);
    bool is_receiving = lane->recv == RDY_RECV_ACTIVE || lane->recv == RDY_RECV_CANCELLING;
    bool is_awaited = lane->send == RDY_SEND_WAITING || lane->send == RDY_SEND_CONNECTING;

    if (is_receiving != (recv != SIM_HOLD_NONE))
        disagree(io, "receive", lane->recv, recv);
    if (is_awaited && send == SIM_HOLD_NONE)
        disagree(io, "send", lane->send, send);
    if (!is_awaited && lane->send != RDY_SEND_TRYING && send != SIM_HOLD_NONE)
        disagree(io, "send", lane->send, send);
    if (recv == SIM_HOLD_LIVE)
        check_cancelled(io, recv_token, "receive");
    if (is_awaited && send == SIM_HOLD_LIVE)
        check_cancelled(io, send_token, "send");
}

/* Final flags are never taken back, so they must be true. A lane has reasons of its own. */
static void check_final(const struct rdy_scheduled_io *io)
{
    uint64_t word = rdy_a64_load_relaxed(&io->word);
    const struct sim_sock *sock = sim_sock_of(io->fd);

    if (!sock || (io->flags & RDY_IO_LANE))
        return;
    if ((word & RDY_READ_CLOSED) && !sock->is_read_shut)
        sim_fail("descriptor %d: READ_CLOSED, but it is not", io->fd);
    if ((word & RDY_WRITE_CLOSED) && !(sock->is_read_shut && sock->is_write_shut))
        sim_fail("descriptor %d: WRITE_CLOSED, but it is not", io->fd);
}

static void check_entry(const struct rdy_scheduled_io *io)
{
    /* What stands in the inbox is on its way from one state to another. */
    if (rdy_a32_load_relaxed(&io->requests) != 0)
        return;
    check_watch(io);
    if (is_native(io))
        check_lane(io);
    if (!(io->flags & RDY_IO_LEAVING))
        check_final(io);
}

/* Every arming is somebody's. */
static void check_tokens(const struct rdy_driver *driver)
{
    static uint64_t tokens[TOKENS_MAX];
    uint32_t count = sim_kernel_tokens(tokens, TOKENS_MAX);

    for (uint32_t i = 0; i < count; i++) {
        const struct rdy_scheduled_io *io =
            rdy_slab_find(driver->set.slab, tokens[i] & RDY_TOKEN_SLAB);

        if (!io)
            sim_fail("the kernel has token %llx, of an entry that was given back",
                     (unsigned long long)tokens[i]);
        if (rdy_token_about(tokens[i]) == RDY_ABOUT_WATCH &&
            tokens[i] != rdy_scheduled_io_token(io))
            sim_fail("descriptor %d: the kernel has an arming of the past", io->fd);
    }
}

static void check_buffers(const struct rdy_completion *completion)
{
    const struct rdy_buffer_pool *pool = &completion->pool;
    uint32_t held = 0;

    for (uint32_t i = 0; i < pool->count; i++)
        held += pool->blocks[i].refs > 0 ? 1 : 0;
    if (!completion->is_native) {
        sim_check(held + pool->free_count == pool->count);
        return;
    }
    if (held + sim_kernel_buffers() != pool->count)
        sim_fail("of %u buffers %u are held and %u are the kernel's", pool->count, held,
                 sim_kernel_buffers());
}

void sim_scene_check(void)
{
    const struct rdy_driver *driver = sim_scene.runtime ? sim_scene.runtime->driver : NULL;
    const struct rdy_scheduled_io *io;
    uint32_t slot = 0;

    if (!driver || driver->death != 0 || driver->is_shut)
        return;
    while ((io = rdy_slab_next_live(driver->set.slab, &slot)))
        check_entry(io);
    check_tokens(driver);
    if (driver->completion)
        check_buffers(driver->completion);
}

static void check_level(const struct rdy_scheduled_io *io)
{
    const struct sim_sock *sock = sim_sock_of(io->fd);
    uint64_t word = rdy_a64_load_relaxed(&io->word);
    uint32_t events;

    /* A watch that could not be ended when operations took its place is not listened to. */
    if (!sock || io->kernel != RDY_KERNEL_ARMED || (io->flags & RDY_IO_UNWATCHED) ||
        rdy_word_is_ended(word))
        return;
    events = sim_sock_poll(sock);
    if ((io->interest & RDY_INTEREST_READ) && (events & (RDY_EV_IN | RDY_EV_RDHUP)) &&
        !rdy_ready_is_readable((uint32_t)(word & RDY_WORD_READY)))
        sim_fail("descriptor %d (socket %u) is readable, but not ready", io->fd, sock->id);
    if ((io->interest & RDY_INTEREST_WRITE) && (events & RDY_EV_OUT) &&
        !rdy_ready_is_writable((uint32_t)(word & RDY_WORD_READY)))
        sim_fail("descriptor %d (socket %u) is writable, but not ready", io->fd, sock->id);
}

void sim_scene_check_levels(void)
{
    const struct rdy_driver *driver = sim_scene.runtime->driver;
    const struct rdy_scheduled_io *io;
    uint32_t slot = 0;

    while ((io = rdy_slab_next_live(driver->set.slab, &slot)))
        check_level(io);
}
