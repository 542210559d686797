/* SPDX-License-Identifier: MIT */
/*
 * Completion mode: a receive that is asked to stop while it completes. Fiber 1 is the driver's
 * thread; the peer sends at any moment.
 */
#include <stdlib.h>

#include "engine/lane.h"
#include "engine/translate.h"
#include "tests/model/kernel.h"
#include "tests/model/model.h"

#define FD      KERNEL_FD
#define BUFFERS 2u

struct stage {
    struct rdy_driver *driver;
    struct rdy_registration reg;
    struct rdy_a32 stop;
    uint32_t reads;
};

static struct stage *stage;

static void set_up(void)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts),
                                   .events_max = 4,
                                   .entries_max = 8,
                                   .buffers_count = BUFFERS,
                                   .buffer_size = RDY_BUFFERS_SIZE_MIN};
    struct rdy_buf buf;

    kernel_reset();
    stage = calloc(1, sizeof(*stage));
    model_require(rdy_driver_open_with(&stage->driver, &opts, &kernel_completing_ops) == 0);
    kernel_open_file(FD);
    model_require(rdy_register_kind(stage->driver, FD, RDY_INTEREST_READ | RDY_INTEREST_LATER,
                                    RDY_FILE_STREAM, &stage->reg) == 0);
    model_require(rdy_completion_open(stage->driver) == 0);
    model_require(stage->driver->completion->is_native);
    model_require(rdy_lane_make(stage->driver->completion, stage->reg.io));
    model_require(rdy_recv_next(rdy_lane_of(stage->reg.io), &buf) == RDY_PENDING);
    model_name(stage->reg.io, sizeof(*stage->reg.io), "entry");
    model_name(stage->driver, sizeof(*stage->driver), "driver");
    model_name(stage, sizeof(*stage), "stage");
}

/* What rdy_buf_release() comes to. */
static void release(struct rdy_buf *buf)
{
    if (buf->block)
        rdy_block_release(buf->block);
    *buf = (struct rdy_buf){0};
}

static void turn(int64_t timeout_ns)
{
    model_require(rdy_driver_turn(stage->driver, timeout_ns) >= 0);
}

static void finish(void)
{
    const struct rdy_buffer_pool *pool = &stage->driver->completion->pool;

    for (int i = 0; i < 4; i++)
        turn(0);
    model_require(rdy_slab_live(stage->driver->set.slab) == 0);
    model_require(kernel_is_closed(FD));
    model_require(pool->blocks_live == 0 && pool->free_count == BUFFERS);
    model_require(kernel->ops.free == (1u << BUFFERS) - 1);
    rdy_driver_close(stage->driver);
    free(stage);
}

static void send_two(void)
{
    kernel_event(FD, RDY_EV_IN);
    kernel_event(FD, RDY_EV_IN);
}

/* One more than there are buffers. */
static void send_three(void)
{
    send_two();
    kernel_event(FD, RDY_EV_IN);
}

/* --- closed by the driver's thread, with data in hand -------------------------------------- */

static void receive_and_close(void)
{
    struct rdy_lane *lane = rdy_lane_of(stage->reg.io);
    struct rdy_buf held = {0};
    struct rdy_buf buf;

    turn(0);
    (void)rdy_recv_next(lane, &held); /* and keeps it over the close */
    turn(0);
    while (rdy_recv_next(lane, &buf) > 0) {
        stage->reads++;
        release(&buf);
    }
    model_require(rdy_close(&stage->reg) == 0);
    turn(0);
    release(&held);
    turn(0);
}

static const struct model_target op_own = {
    .name = "op_cancel_vs_completion",
    .claim = "a receive that stops as it completes loses no buffer, and keeps its file to the end",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"driver", receive_and_close}, {"peer", send_three}},
};

/* --- there was no room for the question to stop -------------------------------------------- */

static void set_up_busy(void)
{
    set_up();
    kernel->disarm_busy = 1;
}

static void close_here(void)
{
    turn(0);
    model_require(rdy_close(&stage->reg) == 0);
    turn(0);
}

static void end_receive(void)
{
    kernel_end_receive(FD);
}

static const struct model_target op_busy = {
    .name = "op_stop_put_off",
    .claim = "an operation that ends before it could be asked to leaves no entry in the inbox",
    .set_up = set_up_busy,
    .finish = finish,
    .fiber = {{"driver", close_here}, {"peer", end_receive}},
};

/* --- closed by another --------------------------------------------------------------------- */

static void turn_until_stopped(void)
{
    while (rdy_a32_load_acquire(&stage->stop) == 0)
        turn(-1);
}

static void close_from_afar(void)
{
    model_require(rdy_close(&stage->reg) == 0);
    rdy_a32_store_release(&stage->stop, 1);
    rdy_driver_unpark(stage->driver);
}

static const struct model_target op_foreign = {
    .name = "op_close_vs_completion",
    .claim = "the same where another thread closes",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"driver", turn_until_stopped}, {"user", close_from_afar}, {"peer", send_two}},
    .preemptions = 3,
};

/* --- closed by another, while the driver ends ---------------------------------------------- */

static void end_driver(void)
{
    turn(0);
    model_require(rdy_driver_shutdown(stage->driver) == 0);
}

static void finish_ended(void)
{
    const struct rdy_buffer_pool *pool = &stage->driver->completion->pool;

    rdy_driver_end(stage->driver);
    model_require(rdy_slab_live(stage->driver->set.slab) == 0);
    model_require(kernel_is_closed(FD));
    model_require(pool->blocks_live == 0 && pool->free_count == BUFFERS);
    rdy_driver_close(stage->driver);
    free(stage);
}

static const struct model_target op_shutdown = {
    .name = "op_shutdown_vs_completion",
    .claim = "the same amid the driver's end",
    .set_up = set_up,
    .finish = finish_ended,
    .fiber = {{"driver", end_driver}, {"user", close_from_afar}, {"peer", send_two}},
    .preemptions = 3,
};

const struct model_target *const model_lane_targets[] = {&op_own, &op_busy, &op_foreign,
                                                         &op_shutdown, NULL};
