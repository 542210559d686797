/* SPDX-License-Identifier: MIT */
#include "tests/model/target_lane.h"

#include <stdlib.h>

#include "engine/lane_plain.h"
#include "engine/translate.h"

struct lane_stage *stage;

void stage_set_up(void)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts),
                                   .events_max = 4,
                                   .entries_max = 8,
                                   .buffers_count = STAGE_BUFFERS,
                                   .buffer_size = RDY_BUFFERS_SIZE_MIN};

    kernel_reset();
    stage = calloc(1, sizeof(*stage));
    model_require(rdy_driver_open_with(&stage->driver, &opts, &kernel_completing_ops) == 0);
    kernel_open_file(STAGE_FD);
    model_require(rdy_register_kind(stage->driver, STAGE_FD,
                                    RDY_INTEREST_READ | RDY_INTEREST_WRITE | RDY_INTEREST_LATER,
                                    RDY_FILE_STREAM, &stage->reg) == 0);
    model_require(rdy_completion_open(stage->driver) == 0);
    model_require(stage->driver->completion->is_native);
    model_require(rdy_lane_make(stage->driver->completion, stage->reg.io));
    model_name(stage->reg.io, sizeof(*stage->reg.io), "entry");
    model_name(stage->driver, sizeof(*stage->driver), "driver");
    model_name(stage, sizeof(*stage), "stage");
}

struct rdy_lane *stage_lane(void)
{
    return rdy_lane_of(stage->reg.io);
}

void stage_turn(int64_t timeout_ns)
{
    model_require(rdy_driver_turn(stage->driver, timeout_ns) >= 0);
}

void stage_turns(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        stage_turn(0);
}

void stage_send(const char *bytes)
{
    struct rdy_completion *completion = stage->driver->completion;
    size_t len = strlen(bytes);
    struct rdy_buf buf = {.len = len};

    if (stage_lane()->send_error)
        return;
    buf.block = rdy_block_make(&completion->pool, len);
    model_require(buf.block);
    buf.data = buf.block->memory;
    memcpy(buf.data, bytes, len);
    memcpy(stage->handed_over + strlen(stage->handed_over), bytes, len);
    model_require(rdy_send_add(stage_lane(), &buf) == 0);
    rdy_plain_end_poll(stage->driver);
}

bool stage_has_sent_in_order(void)
{
    const struct kernel_file *file = kernel_file_of(STAGE_FD);

    return strncmp(file->sent, stage->handed_over, file->sent_count) == 0;
}

bool stage_has_sent_all(void)
{
    return strcmp(kernel_file_of(STAGE_FD)->sent, stage->handed_over) == 0;
}

void stage_release(struct rdy_buf *buf)
{
    if (buf->block)
        rdy_block_release(buf->block);
    *buf = (struct rdy_buf){0};
}

/* --- fibers -------------------------------------------------------------------------------- */

void stage_close_here(void)
{
    stage_turn(0);
    model_require(rdy_close(&stage->reg) == 0);
    stage_turn(0);
}

void stage_turn_until_stopped(void)
{
    while (rdy_a32_load_acquire(&stage->stop) == 0)
        stage_turn(-1);
}

void stage_close_from_afar(void)
{
    model_require(rdy_close(&stage->reg) == 0);
    rdy_a32_store_release(&stage->stop, 1);
    rdy_driver_unpark(stage->driver);
}

void stage_end_driver(void)
{
    stage_turn(0);
    model_require(rdy_driver_shutdown(stage->driver) == 0);
}

/* --- the end ------------------------------------------------------------------------------- */

static void require_nothing_left(void)
{
    const struct rdy_buffer_pool *pool = &stage->driver->completion->pool;

    model_require(rdy_slab_live(stage->driver->set.slab) == 0);
    model_require(pool->blocks_live == 0 && pool->free_count == STAGE_BUFFERS);
    model_require(rdy_a64_load_relaxed(&stage->driver->count.cancels_pending) == 0);
}

void stage_finish(void)
{
    stage_turns(5);
    require_nothing_left();
    if (stage->driver->completion->is_native)
        model_require(kernel->ops.free == (1u << STAGE_BUFFERS) - 1);
    rdy_driver_close(stage->driver);
    model_require(kernel_open_files() == 0);
    free(stage);
}

void stage_finish_ended(void)
{
    rdy_driver_end(stage->driver);
    require_nothing_left();
    rdy_driver_close(stage->driver);
    model_require(kernel_open_files() == 0);
    free(stage);
}
