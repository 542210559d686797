/* SPDX-License-Identifier: MIT */
/*
 * The checker's own test: small programs with one mistake each, which must be found under its name,
 * and the classic shapes of weak memory, of which each must be seen or must not.
 */
#include <stdlib.h>

#include "tests/model/model.h"

struct shape {
    struct rdy_a32 x;
    struct rdy_a32 y;
    uint32_t plain;
    uint32_t saw[2];
    struct rdy_a32 done;
    uint32_t *block;
    struct model_alarm alarm;
};

static struct shape *shape;

static bool always(const void *arg)
{
    (void)arg;
    return true;
}

static bool never(const void *arg)
{
    (void)arg;
    return false;
}

static void set_up(void)
{
    shape = calloc(1, sizeof(*shape));
    shape->block = calloc(1, sizeof(*shape->block));
    shape->alarm.is_due = always;
    model_name(shape, sizeof(*shape), "shape");
}

static void finish(void)
{
    free(shape->block);
    free(shape);
}

static void finish_leaking(void)
{
    free(shape);
}

/* --- message passing ----------------------------------------------------------------------- */

static void send_release(void)
{
    shape->plain = 1;
    rdy_a32_store_release(&shape->x, 1);
}

static void send_relaxed(void)
{
    shape->plain = 1;
    rdy_a32_store_relaxed(&shape->x, 1);
}

static void receive_acquire(void)
{
    if (rdy_a32_load_acquire(&shape->x) == 1)
        model_require(shape->plain == 1);
}

static void receive_relaxed(void)
{
    if (rdy_a32_load_relaxed(&shape->x) == 1)
        model_require(shape->plain == 1);
}

/* Relaxed: it knows nothing of what it hands on. */
static void pass_on(void)
{
    (void)rdy_model_change(&shape->x.v, sizeof(shape->x.v), RDY_MODEL_ADD, 1, __ATOMIC_RELAXED);
}

static void receive_two(void)
{
    if (rdy_a32_load_acquire(&shape->x) == 2)
        model_require(shape->plain == 1);
}

static const struct model_target self_passing = {
    .name = "self_message_passing",
    .claim = "release and acquire order what is plain",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"sender", send_release}, {"receiver", receive_acquire}},
    .stale_max = 2,
};

static const struct model_target self_sequence = {
    .name = "self_release_sequence",
    .claim = "a relaxed read-modify-write hands on what it replaces",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"sender", send_release}, {"between", pass_on}, {"receiver", receive_two}},
    .stale_max = 2,
};

static const struct model_target self_no_release = {
    .name = "self_no_release",
    .claim = "a relaxed store orders nothing",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"sender", send_relaxed}, {"receiver", receive_acquire}},
    .must_fail = "data race",
};

static const struct model_target self_no_acquire = {
    .name = "self_no_acquire",
    .claim = "a relaxed load orders nothing",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"sender", send_release}, {"receiver", receive_relaxed}},
    .must_fail = "data race",
};

/* Two atomics, both relaxed: the second may be seen without the first. */
static void send_both_relaxed(void)
{
    rdy_a32_store_relaxed(&shape->x, 1);
    rdy_a32_store_relaxed(&shape->y, 1);
}

static void receive_both(void)
{
    if (rdy_a32_load_acquire(&shape->y) == 1)
        model_require(rdy_a32_load_relaxed(&shape->x) == 1);
}

static const struct model_target self_stale = {
    .name = "self_stale_load",
    .claim = "a relaxed pair is seen in the wrong order",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"sender", send_both_relaxed}, {"receiver", receive_both}},
    .stale_max = 1,
    .must_fail = "not true",
};

/* --- store buffering: Dekker's handshake --------------------------------------------------- */

static void knock(uint32_t i, struct rdy_a32 *mine, struct rdy_a32 *other)
{
    rdy_a32_store_release(mine, 1);
    shape->saw[i] = rdy_a32_load_acquire(other);
}

static void knock_x(void)
{
    knock(0, &shape->x, &shape->y);
}

static void knock_y(void)
{
    knock(1, &shape->y, &shape->x);
}

static void knock_seq_cst_x(void)
{
    (void)rdy_a32_swap_seq_cst(&shape->x, 1);
    shape->saw[0] = rdy_a32_load_seq_cst(&shape->y);
}

static void knock_seq_cst_y(void)
{
    (void)rdy_a32_swap_seq_cst(&shape->y, 1);
    shape->saw[1] = rdy_a32_load_seq_cst(&shape->x);
}

static void finish_knock(void)
{
    model_require(shape->saw[0] + shape->saw[1] > 0);
    finish();
}

static const struct model_target self_buffering = {
    .name = "self_store_buffering",
    .claim = "with release and acquire both may miss each other, as on x86",
    .set_up = set_up,
    .finish = finish_knock,
    .fiber = {{"x", knock_x}, {"y", knock_y}},
    .stale_max = 1,
    .must_fail = "not true: shape->saw",
};

static const struct model_target self_seq_cst = {
    .name = "self_seq_cst",
    .claim = "sequentially consistent, one sees the other",
    .set_up = set_up,
    .finish = finish_knock,
    .fiber = {{"x", knock_seq_cst_x}, {"y", knock_seq_cst_y}},
    .stale_max = 2,
};

/* --- mistakes ------------------------------------------------------------------------------ */

static void write_block(void)
{
    *shape->block = 1;
    rdy_a32_store_release(&shape->done, 1);
}

static void write_freed(void)
{
    if (rdy_a32_load_acquire(&shape->x) == 1)
        *shape->block = 1;
}

static void free_block(void)
{
    free(shape->block);
    rdy_a32_store_release(&shape->x, 1);
}

static void free_in_time(void)
{
    if (rdy_a32_load_acquire(&shape->done) == 1) {
        free(shape->block);
        shape->block = NULL;
    }
}

static void sleep_alarm(void)
{
    if (rdy_a32_load_acquire(&shape->x) == 0)
        model_alarm_sleep(&shape->alarm);
}

/* Looks for a sleeper, finds none yet, and says nothing. */
static void wake_carelessly(void)
{
    struct rdy_waker waker = model_alarm_waker(&shape->alarm);

    if (rdy_a32_load_acquire(&shape->y) == 1)
        rdy_waker_wake(&waker);
}

static void sleep_for_ever(void)
{
    struct model_wait wait = {.object = &shape->x, .is_ready = never, .what = "nothing"};

    model_wait(&wait);
}

static void spin(void)
{
    while (rdy_a32_load_relaxed(&shape->x) == 0)
        rdy_a32_store_relaxed(&shape->y, 1);
}

static void free_twice(void)
{
    free(shape->block);
    free(shape->block);
}

static void nothing(void)
{
}

#define MISTAKE(id, text, first, second, end, found)                                               \
    static const struct model_target self_##id = {                                                 \
        .name = "self_" #id,                                                                       \
        .claim = text,                                                                             \
        .set_up = set_up,                                                                          \
        .finish = end,                                                                             \
        .fiber = {{#first, first}, {#second, second}},                                             \
        .must_fail = found,                                                                        \
    }

MISTAKE(use_after_free, "memory is used after it was freed", write_freed, free_block,
        finish_leaking, "freed memory");
MISTAKE(free_in_use, "memory is freed while another may use it", write_block, free_block,
        finish_leaking, "data race");
MISTAKE(free_in_time, "memory is freed behind its last use: nothing is found", write_block,
        free_in_time, finish, NULL);
MISTAKE(double_free, "memory is freed twice", free_twice, nothing, finish_leaking, "freed twice");
MISTAKE(leak, "memory is not freed", nothing, nothing, finish_leaking, "leak");
MISTAKE(lost_wake, "who sleeps is not woken", sleep_alarm, wake_carelessly, finish, "lost wake-up");
MISTAKE(deadlock, "nobody can go on", sleep_for_ever, nothing, finish, "deadlock");
MISTAKE(livelock, "nobody comes to an end", spin, nothing, finish, "livelock");

const struct model_target *const model_self_targets[] = {
    &self_passing,     &self_sequence,     &self_no_release,     &self_no_acquire,
    &self_stale,       &self_buffering,    &self_seq_cst,        &self_lost_wake,
    &self_free_in_use, &self_free_in_time, &self_use_after_free, &self_double_free,
    &self_leak,        &self_deadlock,     &self_livelock,       NULL,
};
