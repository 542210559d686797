/* SPDX-License-Identifier: MIT */
/*
 * The table of lanes, and what the driver calls: before a wait, after it, for each fact of an
 * operation, and when an entry leaves.
 */
#include "engine/lane_accept.h"
#include "engine/lane_connect.h"
#include "engine/lane_plain.h"
#include "engine/message.h"

#include <stdlib.h>

#define BUFFERS_DEFAULT     128u
#define BUFFER_SIZE_DEFAULT 16384u
#define RECV_QUEUE_DEFAULT  16u
#define MESSAGES_DEFAULT    64u /* datagrams are smaller, and come in bursts */
#define SEND_QUEUE_DEFAULT  65536u
#define RETRY_NS            RDY_NS_PER_MS

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value ? value : otherwise;
}

static bool try_native(struct rdy_completion *completion)
{
    struct rdy_driver *driver = completion->driver;
    struct rdy_backend *backend = rdy_driver_backend(driver);
    struct rdy_buffer_pool *pool = &completion->pool;

    if ((backend->ops->capabilities & RDY_BACKEND_COMPLETES) == 0 ||
        driver->opts.is_watching_only || driver->death != 0)
        return false;
    if (backend->ops->lend(backend, pool->memory, pool->count, pool->size) < 0)
        return false;
    rdy_buffer_pool_lend(pool, backend);
    completion->has_messages = backend->ops->messages(backend) == 0;
    return true;
}

int rdy_completion_open(struct rdy_driver *driver)
{
    const struct rdy_driver_opts *opts = &driver->opts;
    struct rdy_completion *completion;
    int rc;

    rdy_debug(rdy_driver_is_own_thread(driver));
    if (rdy_likely(driver->completion != NULL))
        return 0;
    completion = calloc(1, sizeof(*completion));
    if (!completion)
        return -ENOMEM;
    completion->driver = driver;
    completion->recv_queue_max = or_default(opts->recv_queue_max, RECV_QUEUE_DEFAULT);
    completion->message_queue_max = or_default(opts->recv_queue_max, MESSAGES_DEFAULT);
    completion->send_queue_max = or_default(opts->send_queue_max, SEND_QUEUE_DEFAULT);
    completion->messages = calloc(RDY_SEND_MESSAGES, sizeof(*completion->messages));
    rc = rdy_buffer_pool_open(&completion->pool, or_default(opts->buffers_count, BUFFERS_DEFAULT),
                              or_default(opts->buffer_size, BUFFER_SIZE_DEFAULT));
    if (rc < 0 || !completion->messages) {
        if (rc == 0)
            rdy_buffer_pool_close(&completion->pool);
        free(completion->messages);
        free(completion);
        return -ENOMEM;
    }
    completion->is_native = try_native(completion);
    driver->completion = completion;
    return 0;
}

static void lane_clear(struct rdy_completion *completion, struct rdy_lane *lane)
{
    rdy_connect_end(lane);
    if (lane->flags & RDY_LANE_LISTENER)
        rdy_accept_drop(lane);
    else
        rdy_recv_drop(completion, lane);
    lane->sending = 0;
    rdy_send_drop(completion, lane);
}

void rdy_completion_close(struct rdy_completion *completion)
{
    if (!completion)
        return;
    completion->pool.backend = NULL; /* it is gone: no buffer goes back to it */
    for (uint32_t i = 0; i < completion->pages_count; i++) {
        struct rdy_lane *page = completion->pages[i];

        for (uint32_t k = 0; page && k < RDY_LANES_A_PAGE; k++) {
            page[k].recv = RDY_RECV_IDLE; /* whatever it was: the backend is gone */
            if (page[k].io)
                lane_clear(completion, &page[k]);
        }
        free(page);
    }
    rdy_message_free_spare(completion);
    free((void *)completion->pages);
    free(completion->unarmed);
    free(completion->messages);
    rdy_buffer_pool_close(&completion->pool);
    free(completion);
}

static bool pages_grow(struct rdy_completion *completion, uint32_t page)
{
    uint32_t count = completion->pages_count ? completion->pages_count : 16;
    struct rdy_lane **pages;

    while (count <= page)
        count *= 2;
    pages = realloc((void *)completion->pages, count * sizeof(*pages));
    if (!pages)
        return false;
    for (uint32_t i = completion->pages_count; i < count; i++)
        pages[i] = NULL;
    completion->pages = pages;
    completion->pages_count = count;
    return true;
}

struct rdy_lane *rdy_lane_make(struct rdy_completion *completion, struct rdy_scheduled_io *io)
{
    uint32_t page = io->head.slot / RDY_LANES_A_PAGE;
    struct rdy_lane *lane;

    if (io->flags & RDY_IO_LANE)
        return rdy_lane_of(io);
    if (page >= completion->pages_count && !pages_grow(completion, page))
        return NULL;
    if (!completion->pages[page]) {
        size_t bytes = RDY_LANES_A_PAGE * sizeof(struct rdy_lane);

        completion->pages[page] = aligned_alloc(64, bytes);
        if (!completion->pages[page])
            return NULL;
        memset(completion->pages[page], 0, bytes);
    }
    lane = rdy_lane_at(completion, io->head.slot);
    rdy_assert(!lane->io);
    *lane = (struct rdy_lane){.io = io};
    io->flags |= RDY_IO_LANE;
    completion->lanes_count++;
    return lane;
}

RDY_HOT void rdy_lane_stamp(struct rdy_lane *lane, uint32_t ready)
{
    struct rdy_scheduled_io *io = lane->io;
    struct rdy_driver *driver = io->driver;

    if (rdy_word_is_ended(rdy_scheduled_io_set(io, ready)))
        return;
    rdy_a64_bump(&driver->count.ready_events, 1);
    rdy_a64_bump(&driver->count.waker_calls, rdy_scheduled_io_wake(io, ready));
}

bool rdy_lane_is_unwanted(const struct rdy_lane *lane)
{
    return (lane->flags & RDY_LANE_LEAVING) ||
           rdy_word_is_ended(rdy_a64_load_relaxed(&lane->io->word));
}

void rdy_lane_asked(const struct rdy_lane *lane)
{
    struct rdy_driver *driver = lane->io->driver;

    driver->has_asked = true;
    rdy_driver_call_again(driver);
}

RDY_HOT int64_t rdy_completion_begin(struct rdy_completion *completion, int64_t timeout_ns)
{
    struct rdy_driver *driver = completion->driver;
    uint64_t wakes_before = rdy_a64_load_relaxed(&driver->count.waker_calls);
    bool was_dispatching = driver->is_dispatching;

    driver->is_dispatching = true; /* a waker that turns the driver is refused */
    if (completion->unarmed_count > 0 && completion->pool.free_count == 0)
        rdy_buffer_pool_relieve(&completion->pool);
    completion->is_doubtful = completion->trying.first != NULL;
    if (completion->dirty.first)
        rdy_send_try_all(completion);
    if (rdy_unlikely(completion->stalled.first != NULL))
        rdy_plain_resume(completion);
    rdy_plain_flush(completion);
    if (completion->unarmed_count > 0)
        rdy_recv_arm_all(completion);
    driver->is_dispatching = was_dispatching;
    /* The kernel had no room for all of them: ask again soon. */
    if (completion->dirty.first || (completion->unarmed_count > 0 && completion->pool.free_count))
        timeout_ns = 0;
    /* A silent success ends no wait: who waits for one must not be kept from hearing of it. */
    if (completion->trying.first && (completion->is_impatient || completion->unarmed_count > 0))
        timeout_ns = 0;
    /* What a turn left open, the kernel being short of memory, waits for no event of others. */
    if ((completion->is_doubtful || completion->stalled.first) &&
        (timeout_ns < 0 || timeout_ns > RETRY_NS))
        timeout_ns = RETRY_NS;
    /* Until all was tried: a try may find no room today, and be silent tomorrow. */
    if (!completion->trying.first && !completion->dirty.first)
        completion->is_impatient = false;
    /* Whoever was woken here can run, which was not known when the timeout was chosen. */
    return rdy_a64_load_relaxed(&driver->count.waker_calls) != wakes_before ? 0 : timeout_ns;
}

bool rdy_completion_has_work(const struct rdy_completion *completion)
{
    const struct rdy_buffer_pool *pool = &completion->pool;
    /* Of buffers that only wait to be asked for the next turn makes free ones, by copying. */
    bool can_arm =
        completion->unarmed_count > 0 && (pool->free_count > 0 || pool->queued_count > 0);

    return completion->dirty.first || completion->trying.first || completion->gathered.first ||
           completion->stalled.first || can_arm;
}

bool rdy_completion_has_news(const struct rdy_driver *driver)
{
    return driver->completion && driver->completion->is_native &&
           !rdy_driver_backend(driver)->is_settled;
}

RDY_HOT void rdy_completion_settle(struct rdy_completion *completion)
{
    if (completion->trying.first && rdy_driver_backend(completion->driver)->is_settled)
        rdy_send_settle(completion);
}

/* Of an operation that we know nothing of: what came with it must not be lost. */
static int refuse(struct rdy_completion *completion, const struct rdy_fact *fact)
{
    struct rdy_buffer_pool *pool = &completion->pool;

    rdy_a64_bump(&completion->driver->count.facts_for_closed_entry, 1);
    if ((fact->flags & RDY_FACT_BUFFER) && fact->buffer < pool->count &&
        pool->blocks[fact->buffer].refs == 0)
        rdy_block_release(rdy_buffer_pool_filled(pool, fact->buffer, 0));
    if (rdy_token_about(fact->token) == RDY_ABOUT_ACCEPT && fact->result >= 0)
        (void)rdy_sys_close(fact->result);
    return 0;
}

RDY_HOT int rdy_completion_take(struct rdy_completion *completion, struct rdy_scheduled_io *io,
                                const struct rdy_fact *fact)
{
    enum rdy_token_about about = rdy_token_about(fact->token);
    struct rdy_lane *lane;
    bool is_active;

    if (!io || !(io->flags & RDY_IO_LANE))
        return refuse(completion, fact);
    lane = rdy_lane_of(io);
    if (about == RDY_ABOUT_SEND)
        is_active = lane->send == RDY_SEND_TRYING || lane->send == RDY_SEND_WAITING ||
                    lane->send == RDY_SEND_CONNECTING;
    else
        is_active = (lane->recv == RDY_RECV_ACTIVE || lane->recv == RDY_RECV_CANCELLING) &&
                    (about == RDY_ABOUT_ACCEPT) == !!(lane->flags & RDY_LANE_LISTENER);
    if (rdy_unlikely(!is_active))
        return refuse(completion, fact);
    if (lane->send == RDY_SEND_CONNECTING)
        return rdy_connect_take(lane, fact);
    if (about == RDY_ABOUT_SEND)
        return rdy_send_take(completion, lane, fact);
    if (about == RDY_ABOUT_ACCEPT)
        return rdy_accept_take(completion, lane, fact);
    return rdy_recv_take(completion, lane, fact);
}

bool rdy_lane_is_idle(const struct rdy_scheduled_io *io)
{
    const struct rdy_lane *lane = rdy_lane_of(io);

    return lane->recv != RDY_RECV_ACTIVE && lane->recv != RDY_RECV_CANCELLING &&
           lane->send == RDY_SEND_IDLE;
}

/* Once, however often a shutdown looks at it; of many waiting sends that would add up. */
static void send_stop(struct rdy_lane *lane)
{
    struct rdy_scheduled_io *io = lane->io;
    struct rdy_backend *backend = rdy_driver_backend(io->driver);
    uint64_t token = rdy_scheduled_io_op_token(io, RDY_ABOUT_SEND);

    if (lane->is_stopping)
        return;
    if (lane->send == RDY_SEND_WAITING || lane->send == RDY_SEND_CONNECTING)
        lane->is_stopping = backend->ops->disarm(backend, io->fd, token) != -EBUSY;
}

bool rdy_lane_stop(struct rdy_scheduled_io *io)
{
    struct rdy_lane *lane = rdy_lane_of(io);
    bool is_asked;

    rdy_recv_stop(lane, lane->flags & RDY_LANE_LISTENER ? RDY_ABOUT_ACCEPT : RDY_ABOUT_RECV);
    send_stop(lane);
    is_asked =
        lane->is_stopping || (lane->send != RDY_SEND_WAITING && lane->send != RDY_SEND_CONNECTING);
    if (lane->send == RDY_SEND_TRYING || lane->send == RDY_SEND_QUEUED)
        io->driver->completion->is_impatient = true;
    return is_asked && lane->recv != RDY_RECV_ACTIVE;
}

void rdy_lane_release(struct rdy_scheduled_io *io)
{
    struct rdy_completion *completion = io->driver->completion;
    struct rdy_lane *lane = rdy_lane_of(io);

    lane->flags |= RDY_LANE_LEAVING;
    if (lane->flags & RDY_LANE_LISTENER)
        rdy_accept_drop(lane);
    else if ((lane->flags & RDY_LANE_CONNECTS) == 0)
        rdy_recv_drop(completion, lane);
    /* No room for a cancel now: again in the next turn. */
    if (!rdy_lane_stop(io))
        rdy_driver_request(io, RDY_REQUEST_RELEASE);
}

void rdy_lane_end(struct rdy_scheduled_io *io)
{
    struct rdy_lane *lane = rdy_lane_of(io);

    rdy_assert(rdy_lane_is_idle(io));
    lane_clear(io->driver->completion, lane);
    lane->io = NULL;
    rdy_assert(io->driver->completion->lanes_count > 0);
    io->driver->completion->lanes_count--;
    io->flags &= (uint8_t)~RDY_IO_LANE;
}

void rdy_lane_check_leaving(struct rdy_lane *lane)
{
    if (rdy_unlikely(lane->flags & RDY_LANE_LEAVING))
        rdy_driver_give_if_idle(lane->io->driver, lane->io);
}

void rdy_completion_survive(struct rdy_completion *completion)
{
    completion->is_native = false;
    completion->dirty = (struct rdy_lane_list){0};
    completion->trying = (struct rdy_lane_list){0};
    completion->gathered = (struct rdy_lane_list){0};
    completion->stalled = (struct rdy_lane_list){0};
    rdy_buffer_pool_reclaim(&completion->pool);
}

/*
 * A filter that came late refuses the very call that would have submitted the tries: none began.
 * After any other death, for what waited in the kernel, and for what an earlier turn submitted,
 * nobody knows how much went out.
 */
static bool may_resend(const struct rdy_lane *lane, int error)
{
    return lane->send == RDY_SEND_TRYING && !lane->io->driver->completion->is_doubtful &&
           (error == -EPERM || error == -ENOSYS || error == -EACCES);
}

/* What was received before is still given; then the stream is over. */
static void break_off(struct rdy_lane *lane)
{
    if (lane->recv == RDY_RECV_ENDED)
        return;
    lane->recv = RDY_RECV_ENDED;
    lane->recv_error = -EIO;
    rdy_lane_stamp(lane, RDY_READABLE | RDY_READ_CLOSED);
}

void rdy_lane_survive(struct rdy_scheduled_io *io, int error)
{
    struct rdy_completion *completion = io->driver->completion;
    struct rdy_lane *lane = rdy_lane_of(io);
    bool was_sending = lane->send == RDY_SEND_TRYING || lane->send == RDY_SEND_WAITING;
    bool is_intact = !was_sending || may_resend(lane, error);
    bool is_holed = completion->is_holed && (lane->flags & RDY_LANE_LISTENER) == 0 &&
                    (lane->recv == RDY_RECV_ACTIVE || lane->recv == RDY_RECV_CANCELLING);

    if (lane->flags & RDY_LANE_CONNECTS) {
        rdy_connect_survive(lane);
        return;
    }
    if (lane->message) {
        rdy_message_survive(lane);
        return;
    }
    lane->is_bulk = false;
    lane->is_fresh = true;
    if (lane->recv != RDY_RECV_ENDED)
        lane->recv = RDY_RECV_IDLE;
    /* A stream with a hole must not go on; a listener's error is told once and forgotten. */
    if (lane->recv_error && (lane->flags & RDY_LANE_LISTENER) == 0)
        lane->recv = RDY_RECV_ENDED;
    lane->sending = 0;
    lane->send = RDY_SEND_IDLE;
    if (!is_intact)
        rdy_send_fail(completion, lane, -EIO);
    else if (lane->send_error && lane->unsent.first) /* told by the ring, which then died */
        rdy_send_fail(completion, lane, lane->send_error);
    /* Who waits for an answer to what may never have gone out would wait for ever. */
    if (!is_intact || is_holed)
        break_off(lane);
}
