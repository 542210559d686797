/* SPDX-License-Identifier: MIT */
/*
 * The stage of the targets of completion mode: a driver on the model's ring, and one lane. The
 * driver's thread is fiber 1.
 */
#ifndef RDY_TESTS_MODEL_TARGET_LANE_H
#define RDY_TESTS_MODEL_TARGET_LANE_H

#include "engine/lane.h"
#include "tests/model/kernel.h"
#include "tests/model/model.h"

#define STAGE_FD      KERNEL_FD
#define STAGE_BUFFERS 2u

struct lane_stage {
    struct rdy_driver *driver;
    struct rdy_registration reg;
    struct rdy_a32 stop;
    uint32_t reads;
    uint32_t taken; /* connections */
    char handed_over[KERNEL_SENT_MAX + 1];
};

extern struct lane_stage *stage;

/* A lane that has begun nothing. */
void stage_set_up(void);

struct rdy_lane *stage_lane(void);
void stage_turn(int64_t timeout_ns);
void stage_turns(uint32_t count); /* that do not block */

/* Hands bytes over for sending; nothing, once sending has failed. */
void stage_send(const char *bytes);

/* The peer got what was handed over, up to some byte; or all of it. */
bool stage_has_sent_in_order(void);
bool stage_has_sent_all(void);

/* What rdy_buf_release() comes to. */
void stage_release(struct rdy_buf *buf);

/* Fibers. */
void stage_close_here(void);
void stage_turn_until_stopped(void);
void stage_close_from_afar(void);
void stage_end_driver(void);

/* Nothing is left: after a close, and after the driver's end. */
void stage_finish(void);
void stage_finish_ended(void);

#endif
