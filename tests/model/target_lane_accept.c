/* SPDX-License-Identifier: MIT */
/*
 * Completion mode: a listener that is asked to stop, ends or loses its ring while connections come.
 * Each of them must be taken by somebody, or closed.
 */
#include "engine/lane_accept.h"
#include "tests/model/target_lane.h"

#include "engine/translate.h"

static void set_up(void)
{
    stage_set_up();
    kernel->ops.closes_files = true;
    stage_lane()->flags |= RDY_LANE_LISTENER;
    model_require(rdy_accept_next(stage_lane()) == RDY_PENDING);
}

static void connect_two(void)
{
    kernel_connection(STAGE_FD);
    kernel_connection(STAGE_FD);
}

static void connect_one(void)
{
    kernel_connection(STAGE_FD);
}

/* Takes what is here; the last answer. */
static int take(void)
{
    int fd;

    while ((fd = rdy_accept_next(stage_lane())) >= 0) {
        stage->taken++;
        model_require(rdy_sys_close(fd) == 0);
    }
    return fd;
}

/* --- closed -------------------------------------------------------------------------------- */

static void take_and_close(void)
{
    stage_turn(0);
    model_require(take() == RDY_PENDING);
    stage_turn(0);
    model_require(rdy_close(&stage->reg) == 0);
    stage_turn(0);
}

static const struct model_target accept_close = {
    .name = "accept_vs_close",
    .claim = "a connection that comes as its listener closes is taken or closed",
    .set_up = set_up,
    .finish = stage_finish,
    .fiber = {{"driver", take_and_close}, {"peers", connect_two}},
};

static const struct model_target accept_foreign = {
    .name = "accept_vs_close_from_afar",
    .claim = "the same where another thread closes",
    .set_up = set_up,
    .finish = stage_finish,
    .fiber = {{"driver", stage_turn_until_stopped},
              {"user", stage_close_from_afar},
              {"peers", connect_two}},
    .preemptions = 3,
};

static void set_up_busy(void)
{
    set_up();
    kernel->disarm_busy = 1;
}

static void fail(void)
{
    kernel_connection(STAGE_FD);
    kernel_fail_accept(STAGE_FD, -EMFILE);
}

static const struct model_target accept_busy = {
    .name = "accept_stop_put_off",
    .claim = "an accept that fails before it could be asked to stop leaves nothing behind",
    .set_up = set_up_busy,
    .finish = stage_finish,
    .fiber = {{"driver", stage_close_here}, {"peers", fail}},
};

static const struct model_target accept_shutdown = {
    .name = "accept_vs_shutdown",
    .claim = "the driver's end closes what nobody took, amid a close and a connection",
    .set_up = set_up,
    .finish = stage_finish_ended,
    .fiber = {{"driver", stage_end_driver},
              {"user", stage_close_from_afar},
              {"peers", connect_two}},
    .preemptions = 3,
};

/* --- fails, is lost ------------------------------------------------------------------------ */

static void take_over_a_failure(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        int rc = take();

        model_require(rc == RDY_PENDING || rc == -EMFILE);
        stage->reads += rc == -EMFILE;
        stage_turn(0);
    }
}

static void fail_between(void)
{
    fail();
    kernel_connection(STAGE_FD);
}

/* The next who asks begins it again: no connection is left. */
static void finish_failure(void)
{
    for (uint32_t i = 0; i < 5; i++) {
        stage->reads += take() == -EMFILE;
        stage_turn(0);
    }
    model_require(stage->taken == 2 && stage->reads == 1);
    model_require(rdy_close(&stage->reg) == 0);
    stage_finish();
}

static const struct model_target accept_failure = {
    .name = "accept_vs_failure",
    .claim = "an accept that failed is told once and begins again, and loses no connection",
    .set_up = set_up,
    .finish = finish_failure,
    .fiber = {{"driver", take_over_a_failure}, {"peers", fail_between}},
};

static void set_up_lost(void)
{
    set_up();
    stage->driver->may_move = true;
}

static void take_over_a_loss(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        int rc = take();

        model_require(rc == RDY_PENDING || rc == -EOPNOTSUPP);
        stage_turn(0);
    }
}

static void lose(void)
{
    kernel_kill(-EIO);
}

static void finish_lost(void)
{
    int fd;

    stage_turns(2);
    model_require(take() == -EOPNOTSUPP);
    while ((fd = rdy_sys_accept(STAGE_FD)) >= 0) {
        stage->taken++;
        model_require(rdy_sys_close(fd) == 0);
    }
    model_require(fd == -EAGAIN && stage->taken == 2);
    model_require(rdy_close(&stage->reg) == 0);
    stage_finish();
}

static const struct model_target accept_lost = {
    .name = "accept_ring_lost",
    .claim = "of a ring that dies no connection is lost: neither accepted ones nor those to come",
    .set_up = set_up_lost,
    .finish = finish_lost,
    .fiber = {{"driver", take_over_a_loss}, {"death", lose}, {"peers", connect_two}},
};

static void close_over_a_loss(void)
{
    stage_turn(0);
    model_require(rdy_close(&stage->reg) == 0);
    stage_turns(2);
}

static const struct model_target accept_lost_leaving = {
    .name = "accept_close_ring_lost",
    .claim = "a listener that is closed when its ring dies is given back, with what came",
    .set_up = set_up_lost,
    .finish = stage_finish,
    .fiber = {{"driver", close_over_a_loss}, {"death", lose}, {"peers", connect_one}},
};

const struct model_target *const model_lane_accept_targets[] = {
    &accept_close,   &accept_foreign, &accept_busy,         &accept_shutdown,
    &accept_failure, &accept_lost,    &accept_lost_leaving, NULL,
};
