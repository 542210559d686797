/* SPDX-License-Identifier: MIT */
/*
 * Completion mode: a receive that is asked to stop while it completes. The peer sends at any
 * moment.
 */
#include "tests/model/target_lane.h"

static void set_up(void)
{
    struct rdy_buf buf;

    stage_set_up();
    model_require(rdy_recv_next(stage_lane(), &buf) == RDY_PENDING);
}

static void send_two(void)
{
    kernel_event(STAGE_FD, RDY_EV_IN);
    kernel_event(STAGE_FD, RDY_EV_IN);
}

/* One more than there are buffers. */
static void send_three(void)
{
    send_two();
    kernel_event(STAGE_FD, RDY_EV_IN);
}

/* --- closed by the driver's thread, with data in hand -------------------------------------- */

static void receive_and_close(void)
{
    struct rdy_buf held = {0};
    struct rdy_buf buf;

    stage_turn(0);
    (void)rdy_recv_next(stage_lane(), &held); /* and keeps it over the close */
    stage_turn(0);
    while (rdy_recv_next(stage_lane(), &buf) > 0) {
        stage->reads++;
        stage_release(&buf);
    }
    model_require(rdy_close(&stage->reg) == 0);
    stage_turn(0);
    stage_release(&held);
    stage_turn(0);
}

static const struct model_target op_own = {
    .name = "op_cancel_vs_completion",
    .claim = "a receive that stops as it completes loses no buffer, and keeps its file to the end",
    .set_up = set_up,
    .finish = stage_finish,
    .fiber = {{"driver", receive_and_close}, {"peer", send_three}},
};

/* --- there was no room for the question to stop -------------------------------------------- */

static void set_up_busy(void)
{
    set_up();
    kernel->disarm_busy = 1;
}

static void end_receive(void)
{
    kernel_end_receive(STAGE_FD);
}

static const struct model_target op_busy = {
    .name = "op_stop_put_off",
    .claim = "an operation that ends before it could be asked to leaves no entry in the inbox",
    .set_up = set_up_busy,
    .finish = stage_finish,
    .fiber = {{"driver", stage_close_here}, {"peer", end_receive}},
};

/* --- closed by another, also while the driver ends ----------------------------------------- */

static const struct model_target op_foreign = {
    .name = "op_close_vs_completion",
    .claim = "the same where another thread closes",
    .set_up = set_up,
    .finish = stage_finish,
    .fiber = {{"driver", stage_turn_until_stopped},
              {"user", stage_close_from_afar},
              {"peer", send_two}},
    .preemptions = 3,
};

static const struct model_target op_shutdown = {
    .name = "op_shutdown_vs_completion",
    .claim = "the same amid the driver's end",
    .set_up = set_up,
    .finish = stage_finish_ended,
    .fiber = {{"driver", stage_end_driver}, {"user", stage_close_from_afar}, {"peer", send_two}},
    .preemptions = 3,
};

const struct model_target *const model_lane_targets[] = {&op_own, &op_busy, &op_foreign,
                                                         &op_shutdown, NULL};
