/* SPDX-License-Identifier: MIT */
/* The bodies of the sessions: see programs.h. */
#include <string.h>

#include "tests/sim/peers.h"
#include "tests/sim/programs.h"
#include "tests/sim/world.h"

/* What a ring was handed is on its way, but close() would drop it. */
static int flush(struct sim_session *my, struct rdy_task *task)
{
    return sim.weather.is_completing ? rdy_stream_poll_flush(&my->stream, task) : 0;
}

int sim_session_read(struct sim_session *my, struct rdy_task *task)
{
    RDY_BEGIN(&my->co);
    for (;;) {
        RDY_AWAIT(&my->co,
                  my->got = SIM_UNTIL(
                      my, task, rdy_stream_poll_read(&my->stream, task, my->bytes, my->room)));
        if (my->got <= 0)
            break;
        my->done = 0;
        RDY_AWAIT(&my->co,
                  my->rc = SIM_UNTIL(my, task,
                                     rdy_stream_poll_write_all(&my->stream, task, my->bytes,
                                                               (size_t)my->got, &my->done)));
        if (my->rc < 0)
            return my->rc;
        if (sim_one_of(10)) {
            RDY_SLEEP(&my->co, &my->nap, task, sim_below(SIM_MS));
        }
    }
    if (my->got < 0)
        return (int)my->got;
    RDY_AWAIT(&my->co, my->rc = SIM_UNTIL(my, task, flush(my, task)));
    RDY_END(&my->co);
    return my->rc;
}

/* A peek sees what the read after it gets; a vector of two gets it in one call. */
static ssize_t peek_or_read(struct sim_session *my, struct rdy_task *task)
{
    struct iovec iov[2] = {{my->bytes, my->room / 2},
                           {my->bytes + my->room / 2, my->room - my->room / 2}};

    if (my->done > 0) { /* so many were peeked at */
        ssize_t got = rdy_stream_try_read(&my->stream, my->bytes, my->done);

        my->done = 0;
        if (got == 0 || got == -EAGAIN)
            sim_fail("a peek saw bytes that a read does not get (%d)", (int)got);
        return got;
    }
    return rdy_stream_poll_readv(&my->stream, task, iov, 2);
}

/* What is left, in two pieces; or a wait for room, and one try. */
static ssize_t write_or_try(struct sim_session *my, struct rdy_task *task)
{
    unsigned char *data = my->bytes + my->done;
    size_t left = (size_t)my->got - my->done;
    struct iovec iov[2] = {{data, (left + 1) / 2}, {data + (left + 1) / 2, left / 2}};
    int rc;

    if (sim_one_of(2))
        return rdy_stream_poll_writev(&my->stream, task, iov, 2);
    rc = rdy_stream_poll_writable(&my->stream, task);
    return rc < 0 ? rc : rdy_stream_try_write(&my->stream, data, left);
}

int sim_session_vector(struct sim_session *my, struct rdy_task *task)
{
    RDY_BEGIN(&my->co);
    for (;;) {
        my->done = 0;
        if (sim_one_of(3)) {
            RDY_AWAIT(&my->co,
                      my->got = SIM_UNTIL(
                          my, task, rdy_stream_poll_peek(&my->stream, task, my->bytes, my->room)));
            if (my->got <= 0)
                return (int)my->got;
            my->done = (size_t)my->got;
        }
        RDY_AWAIT(&my->co, my->got = SIM_UNTIL(my, task, peek_or_read(my, task)));
        if (my->got <= 0)
            return (int)my->got;
        my->done = 0;
        while (my->done < (size_t)my->got) {
            RDY_AWAIT(&my->co, my->rc = (int)SIM_UNTIL(my, task, write_or_try(my, task)));
            if (my->rc < 0 && my->rc != -EAGAIN)
                return my->rc;
            if (my->rc > 0)
                my->done += (size_t)my->rc;
        }
    }
    RDY_END(&my->co);
    return 0;
}

/* Keeps a second reference for a while: the pool is smaller meanwhile. */
static void hold(struct sim_session *my)
{
    rdy_buf_release(&my->held);
    if (sim_one_of(4))
        my->held = rdy_buf_keep(&my->buf);
}

/* Unless others would miss the descriptor, or the ring's death would not be heard of. */
static bool may_sleep_on_it(void)
{
    return sim.weather.fds_max > SIM_SLEEPERS_FDS_MIN && sim.weather.death_at == 0 &&
           !sim.weather.is_dropping;
}

int sim_session_recv(struct sim_session *my, struct rdy_task *task)
{
    RDY_BEGIN(&my->co);
    for (;;) {
        RDY_AWAIT(&my->co,
                  my->got = SIM_UNTIL(my, task, rdy_stream_poll_recv(&my->stream, task, &my->buf)));
        if (my->got <= 0)
            break;
        hold(my);
        if (sim_one_of(8)) {
            RDY_SLEEP(&my->co, &my->nap, task, sim_below(3 * SIM_MS));
        }
        RDY_AWAIT(&my->co,
                  my->rc = SIM_UNTIL(my, task, rdy_stream_poll_send(&my->stream, task, &my->buf)));
        if (my->rc < 0)
            return my->rc;
        if (my->held.block) {
            RDY_SLEEP(&my->co, &my->nap, task, sim_below(2 * SIM_MS));
            rdy_buf_release(&my->held);
        }
    }
    if (my->got < 0)
        return (int)my->got;
    if (sim_one_of(2))
        (void)rdy_stream_shutdown(&my->stream, SHUT_WR);
    /* The end has to arrive although nothing is asked of the stream any more. */
    if (may_sleep_on_it() && sim_one_of(3)) {
        (void)rdy_stream_shutdown(&my->stream, SHUT_WR);
        my->nap_ns = sim.now_ns + SIM_LONG_NS;
        RDY_AWAIT(&my->co, my->rc = RDY_UNTIL_SHUTDOWN(
                               &my->until, task, rdy_timer_poll_until(&my->nap, task, my->nap_ns)));
    }
    RDY_AWAIT(&my->co, my->rc = SIM_UNTIL(my, task, rdy_stream_poll_flush(&my->stream, task)));
    RDY_END(&my->co);
    return my->rc;
}

static ssize_t recv_any(struct sim_session *my, struct rdy_task *task)
{
    ssize_t got;

    if (my->done == 0)
        return rdy_stream_poll_recv(&my->stream, task, &my->buf);
    got = rdy_stream_poll_read(&my->stream, task, my->bytes, my->room);
    if (got <= 0)
        return got;
    if (rdy_buf_take(sim_scene.runtime, (size_t)got, &my->buf) < 0)
        sim_fail("no memory for a buffer");
    memcpy(my->buf.data, my->bytes, (size_t)got);
    return got;
}

/* Many small pieces of one buffer. */
static ssize_t send_bits(struct sim_session *my, struct rdy_task *task)
{
    while (my->buf.len > 0) {
        size_t len;
        int rc;

        if (!my->held.block) {
            my->held = rdy_buf_keep(&my->buf);
            my->held.len = (size_t)sim_between(1, my->buf.len < 5 ? my->buf.len : 5);
        }
        len = my->held.len;
        rc = rdy_stream_poll_send(&my->stream, task, &my->held);
        if (rc < 0)
            return rc;
        rdy_buf_advance(&my->buf, len);
        sim.happened++; /* a task that gets on is no spin, though nobody hears of it for long */
    }
    rdy_buf_release(&my->buf);
    return 0;
}

static ssize_t send_any(struct sim_session *my, struct rdy_task *task)
{
    ssize_t count;

    if (my->done == 0)
        return rdy_stream_poll_send(&my->stream, task, &my->buf);
    if (my->done == 1)
        return send_bits(my, task);
    while (my->buf.len > 0) {
        count = rdy_stream_poll_write(&my->stream, task, my->buf.data, my->buf.len);
        if (count < 0)
            return count;
        rdy_buf_advance(&my->buf, (size_t)count);
    }
    rdy_buf_release(&my->buf);
    return 0;
}

int sim_session_mixed(struct sim_session *my, struct rdy_task *task)
{
    RDY_BEGIN(&my->co);
    for (;;) {
        my->done = sim_below(2);
        RDY_AWAIT(&my->co, my->got = SIM_UNTIL(my, task, recv_any(my, task)));
        if (my->got <= 0)
            break;
        my->done = sim_below(3);
        RDY_AWAIT(&my->co, my->rc = (int)SIM_UNTIL(my, task, send_any(my, task)));
        if (my->rc < 0)
            return my->rc;
    }
    if (my->got < 0)
        return (int)my->got;
    RDY_AWAIT(&my->co, my->rc = SIM_UNTIL(my, task, rdy_stream_poll_flush(&my->stream, task)));
    RDY_END(&my->co);
    return my->rc;
}

int sim_session_copy(struct sim_session *my, struct rdy_task *task)
{
    struct rdy_copy_opts opts = {.size = sizeof(opts), .held_max = 100};

    RDY_BEGIN(&my->co);
    opts.is_splice = sim_below(2);
    my->rc = rdy_copy_open(&my->copy, &my->stream, &my->stream, &opts);
    if (my->rc < 0)
        return my->rc;
    RDY_AWAIT(&my->co, my->rc = SIM_UNTIL(my, task, rdy_copy_poll(&my->copy, task)));
    if (my->rc < 0)
        return my->rc;
    RDY_AWAIT(&my->co, my->rc = SIM_UNTIL(my, task, flush(my, task)));
    RDY_END(&my->co);
    return my->rc;
}

/* By the ring, or by a call. */
static int dial(struct sim_session *my)
{
    struct rdy_connect_opts opts = {.size = sizeof(opts),
                                    .is_completing = sim.weather.is_completing && sim_below(2)};

    return rdy_stream_start_connect_with(&my->up, sim_scene.runtime, sim_upstream_address,
                                         sim_upstream_address_len, &opts);
}

int sim_session_proxy(struct sim_session *my, struct rdy_task *task)
{
    struct rdy_copy_opts opts = {.size = sizeof(opts), .held_max = 3000};

    RDY_BEGIN(&my->co);
    my->rc = dial(my);
    if (my->rc < 0)
        return my->rc;
    RDY_AWAIT(&my->co, my->rc = SIM_UNTIL(my, task, rdy_stream_poll_connect(&my->up, task)));
    if (my->rc < 0)
        return my->rc;
    my->rc = sim.weather.is_completing && sim_below(2) ? rdy_stream_start_completion(&my->up) : 0;
    if (my->rc < 0)
        return my->rc;
    opts.is_splice = my->kind == SIM_SESSION_SPLICE;
    my->rc = rdy_copy_both_open(&my->both, &my->stream, &my->up, &opts);
    if (my->rc < 0)
        return my->rc;
    RDY_AWAIT(&my->co, my->rc = SIM_UNTIL(my, task, rdy_copy_both_poll(&my->both, task)));
    if (my->rc < 0)
        return my->rc;
    RDY_AWAIT(&my->co, my->rc = SIM_UNTIL(my, task, flush(my, task)));
    RDY_END(&my->co);
    return my->rc;
}
