/* SPDX-License-Identifier: MIT */
/*
 * Completion mode: a send at each stage of its life (handed over, tried, waiting for the peer)
 * against a close, the driver's end and the loss of its ring. The peer reads at any moment. It must
 * get what was handed over, in order, and whatever the ring has must stay where it is.
 */
#include "tests/model/target_lane.h"

static void set_up(uint32_t room)
{
    stage_set_up();
    kernel->ops.closes_files = true;
    kernel_file_of(STAGE_FD)->room = room;
}

static void set_up_room(void)
{
    set_up(1);
}

static void set_up_handed_over(void)
{
    set_up(1);
    stage_send("abc");
}

/* In front of a full socket: the operation waits in the kernel. */
static void set_up_waiting(void)
{
    set_up(0);
    stage_send("ab");
    stage_turn(0);
    model_require(stage_lane()->send == RDY_SEND_WAITING);
}

static void read_one(void)
{
    kernel_make_room(STAGE_FD, 1);
}

/* Of two bytes that wait: then it waits on, or is through. */
static void read_some(void)
{
    kernel_make_room(STAGE_FD, 1 + model_choose(2));
}

static void read_all(void)
{
    read_one();
    kernel_make_room(STAGE_FD, KERNEL_SENT_MAX);
}

static void finish(void)
{
    model_require(stage_has_sent_in_order());
    stage_finish();
}

static void finish_ended(void)
{
    model_require(stage_has_sent_in_order());
    stage_finish_ended();
}

/* --- closed -------------------------------------------------------------------------------- */

/* In two pieces, so that one operation takes both; what waits after that is a copy. */
static void send_and_close(void)
{
    stage_send("a");
    stage_send("b");
    stage_turn(0);
    stage_send("c");
    stage_turn(0);
    stage_turn(0);
    model_require(rdy_close(&stage->reg) == 0);
    stage_turn(0);
}

static const struct model_target send_close = {
    .name = "send_vs_close",
    .claim =
        "a send that stops as it completes has sent a part in order, from memory that is there",
    .set_up = set_up_room,
    .finish = finish,
    .fiber = {{"driver", send_and_close}, {"peer", read_all}},
};

static void close_and_turn(void)
{
    model_require(rdy_close(&stage->reg) == 0);
    stage_turns(2);
}

static void set_up_ready(void)
{
    set_up(KERNEL_SENT_MAX);
    stage_send("ab");
}

static void finish_all(void)
{
    stage_turns(5);
    model_require(stage_has_sent_all());
    stage_finish();
}

static const struct model_target send_close_queued = {
    .name = "send_close_at_once",
    .claim = "what was handed over before a close goes out, if the socket takes it",
    .set_up = set_up_ready,
    .finish = finish_all,
    .fiber = {{"driver", close_and_turn}, {"peer", read_one}},
};

static const struct model_target send_foreign = {
    .name = "send_vs_close_from_afar",
    .claim = "the same where another thread closes",
    .set_up = set_up_handed_over,
    .finish = finish,
    .fiber = {{"driver", stage_turn_until_stopped},
              {"user", stage_close_from_afar},
              {"peer", read_one}},
    .preemptions = 3,
};

static void set_up_busy(void)
{
    set_up_waiting();
    kernel->disarm_busy = 1;
}

static const struct model_target send_busy = {
    .name = "send_stop_put_off",
    .claim = "a send for whose cancel there was no room is asked again, and given back once",
    .set_up = set_up_busy,
    .finish = finish,
    .fiber = {{"driver", stage_close_here}, {"peer", read_some}},
};

static const struct model_target send_shutdown = {
    .name = "send_vs_shutdown",
    .claim = "the driver's end leaves nothing of a send, amid a close and a peer that reads",
    .set_up = set_up_handed_over,
    .finish = finish_ended,
    .fiber = {{"driver", stage_end_driver}, {"user", stage_close_from_afar}, {"peer", read_one}},
    .preemptions = 3,
};

static void reset(void)
{
    kernel_make_room(STAGE_FD, 1);
    kernel_reset_peer(STAGE_FD, -EPIPE);
}

static void send_and_look(void)
{
    stage_turns(2);
    stage_send("c");
    stage_turns(2);
}

/* The error is told, and nothing is kept for a peer that is gone. */
static void finish_reset(void)
{
    stage_turns(5);
    model_require(stage_has_sent_in_order());
    model_require(stage_lane()->send_error == -EPIPE || stage_has_sent_all());
    model_require(!stage_lane()->unsent.first && stage_lane()->send == RDY_SEND_IDLE);
    model_require(rdy_close(&stage->reg) == 0);
    stage_finish();
}

static const struct model_target send_reset = {
    .name = "send_vs_reset",
    .claim = "a peer that is gone ends the send with its error, tried or waiting",
    .set_up = set_up_handed_over,
    .finish = finish_reset,
    .fiber = {{"driver", send_and_look}, {"peer", reset}},
};

/* --- the ring is lost ---------------------------------------------------------------------- */

static void set_up_refused(void)
{
    set_up(KERNEL_SENT_MAX);
    stage->driver->may_move = true;
}

static void send_over_a_move(void)
{
    stage_send("a");
    stage_turn(0);
    stage_send("b");
    stage_send("c");
    stage_turn(0);
    stage_turn(0);
}

static void refuse(void)
{
    kernel_kill(-EPERM);
}

static void finish_refused(void)
{
    stage_turns(4);
    model_require(stage_lane()->send_error == 0);
    model_require(stage_has_sent_all());
    model_require(rdy_close(&stage->reg) == 0);
    stage_finish();
}

static const struct model_target send_refused = {
    .name = "send_ring_refused",
    .claim = "tries that a filter kept from beginning are made again, each byte once",
    .set_up = set_up_refused,
    .finish = finish_refused,
    .fiber = {{"driver", send_over_a_move}, {"filter", refuse}},
};

static void set_up_lost(void)
{
    set_up(1);
    stage->driver->may_move = true;
}

/* At times the kernel leaves a try for the next turn, and at times what it had to say is lost. */
static void send_over_a_loss(void)
{
    kernel->submit_busy = model_choose(2);
    kernel->ops.is_losing = model_choose(2);
    send_over_a_move();
}

static void lose(void)
{
    kernel_kill(-EIO);
}

/* Of what may or may not have gone out nothing goes out again, nor anything behind it. */
static void finish_lost(void)
{
    kernel_make_room(STAGE_FD, KERNEL_SENT_MAX);
    stage_turns(5);
    model_require(stage_has_sent_in_order());
    model_require(stage_lane()->send_error == -EIO || stage_has_sent_all());
    model_require(!stage_lane()->unsent.first && stage_lane()->send == RDY_SEND_IDLE);
    model_require(rdy_close(&stage->reg) == 0);
    stage_finish();
}

static const struct model_target send_lost = {
    .name = "send_ring_lost",
    .claim = "a ring that dies has a send end with an error, or whole; no byte goes out twice",
    .set_up = set_up_lost,
    .finish = finish_lost,
    .fiber = {{"driver", send_over_a_loss}, {"death", lose}, {"peer", read_one}},
};

static const struct model_target send_late_filter = {
    .name = "send_ring_refused_late",
    .claim = "the same of a filter, where tries of an earlier turn may have begun",
    .set_up = set_up_lost,
    .finish = finish_lost,
    .fiber = {{"driver", send_over_a_loss}, {"filter", refuse}, {"peer", read_one}},
};

const struct model_target *const model_lane_send_targets[] = {
    &send_close, &send_close_queued, &send_foreign, &send_busy,        &send_shutdown,
    &send_reset, &send_refused,      &send_lost,    &send_late_filter, NULL,
};
