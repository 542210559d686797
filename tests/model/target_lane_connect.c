/* SPDX-License-Identifier: MIT */
/*
 * Completion mode: a connect by the ring, which is answered, looked at too early, or lost with its
 * ring, against a close and the driver's end. Who waits for the answer must get it.
 */
#include "engine/lane_connect.h"
#include "tests/model/target_lane.h"

static struct model_alarm alarm;

static bool is_answered(const void *arg)
{
    (void)arg;
    return kernel_file_of(STAGE_FD)->is_answered;
}

static void set_up(void)
{
    struct sockaddr_storage addr = {.ss_family = AF_INET};

    stage_set_up();
    kernel->ops.closes_files = true;
    kernel->is_due = is_answered;
    kernel_file_of(STAGE_FD)->is_connector = true;
    model_require(rdy_connect_begin(stage_lane(), (const struct sockaddr *)&addr, sizeof(addr)) ==
                  0);
    alarm = (struct model_alarm){0};
}

static void answer(void)
{
    kernel_answer(STAGE_FD, 0);
}

static void refuse(void)
{
    kernel_answer(STAGE_FD, -ECONNREFUSED);
}

/* --- closed -------------------------------------------------------------------------------- */

static void connect_and_close(void)
{
    stage_turn(0);
    stage_turn(0);
    model_require(rdy_close(&stage->reg) == 0);
    stage_turn(0);
}

static void wake_and_answer(void)
{
    kernel_wake_early(STAGE_FD);
    answer();
}

static const struct model_target connect_close = {
    .name = "connect_vs_close",
    .claim = "a connect that stops as it is answered keeps its address and file to the end",
    .set_up = set_up,
    .finish = stage_finish,
    .fiber = {{"driver", connect_and_close}, {"peer", wake_and_answer}},
};

static void wake(void)
{
    kernel_wake_early(STAGE_FD);
}

static const struct model_target connect_foreign = {
    .name = "connect_vs_close_from_afar",
    .claim = "the same where another thread closes, and the peer does not answer",
    .set_up = set_up,
    .finish = stage_finish,
    .fiber = {{"driver", stage_turn_until_stopped},
              {"user", stage_close_from_afar},
              {"peer", wake}},
    .preemptions = 3,
};

static void set_up_busy(void)
{
    set_up();
    stage_turn(0);
    model_require(stage_lane()->send == RDY_SEND_CONNECTING);
    kernel->disarm_busy = 1;
}

static const struct model_target connect_busy = {
    .name = "connect_stop_put_off",
    .claim = "a connect for whose cancel there was no room is asked again, and given back once",
    .set_up = set_up_busy,
    .finish = stage_finish,
    .fiber = {{"driver", stage_close_here}, {"peer", refuse}},
};

static const struct model_target connect_shutdown = {
    .name = "connect_vs_shutdown",
    .claim = "the driver's end leaves nothing of a connect, amid a close and an answer",
    .set_up = set_up,
    .finish = stage_finish_ended,
    .fiber = {{"driver", stage_end_driver}, {"user", stage_close_from_afar}, {"peer", answer}},
    .preemptions = 3,
};

/* --- awaited ------------------------------------------------------------------------------- */

/* Waits for the answer as a stream does, on the driver's thread. */
static void await_answer(void)
{
    struct rdy_waker waker = model_alarm_waker(&alarm);
    struct rdy_event event;

    for (;;) {
        int rc = rdy_poll_readiness(&stage->reg, RDY_DIRECTION_WRITE, &waker, &event);

        model_require(rc == 0 || rc == RDY_PENDING);
        if (rc == RDY_PENDING) {
            stage_turn(-1);
            continue;
        }
        if (rdy_connect_stage(stage_lane()) == RDY_CONNECT_ENDED)
            model_require(is_answered(NULL));
        if (rdy_connect_stage(stage_lane()) != RDY_CONNECT_ASKED && is_answered(NULL))
            return;
        rdy_clear_readiness(&stage->reg, event);
    }
}

/* An answer by the ring is the lane's; by a watch, the socket's. */
static void finish_answered(void)
{
    const struct rdy_lane *lane = stage_lane();

    model_require(lane->send == RDY_SEND_IDLE);
    if (rdy_connect_stage(lane) == RDY_CONNECT_ENDED)
        model_require(lane->send_error == kernel_file_of(STAGE_FD)->error);
    model_require(rdy_close(&stage->reg) == 0);
    stage_finish();
}

static const struct model_target connect_early = {
    .name = "connect_too_early",
    .claim = "a connect that the ring asked for too early goes on, and its answer is heard",
    .set_up = set_up,
    .finish = finish_answered,
    .fiber = {{"driver", await_answer}, {"peer", wake_and_answer}},
};

static void set_up_lost(void)
{
    set_up();
    stage->driver->may_move = true;
}

static void lose(void)
{
    kernel_kill(-EIO);
}

static const struct model_target connect_lost = {
    .name = "connect_ring_lost",
    .claim = "a connect whose ring dies goes on without, and its answer is heard",
    .set_up = set_up_lost,
    .finish = finish_answered,
    .fiber = {{"driver", await_answer}, {"death", lose}, {"peer", answer}},
};

static const struct model_target connect_lost_refused = {
    .name = "connect_refused_ring_lost",
    .claim = "the same of a refusal",
    .set_up = set_up_lost,
    .finish = finish_answered,
    .fiber = {{"driver", await_answer}, {"death", lose}, {"peer", refuse}},
};

const struct model_target *const model_lane_connect_targets[] = {
    &connect_close, &connect_foreign, &connect_busy,         &connect_shutdown,
    &connect_early, &connect_lost,    &connect_lost_refused, NULL,
};
