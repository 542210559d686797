/* SPDX-License-Identifier: MIT */
/*
 * Channels: a ring of items between two semaphores, one that counts the places that are free, one
 * that counts the items. Fairness and what becomes of a wait that is given up are theirs.
 *
 * A place that was granted to a sender is neither free nor filled, an item that was granted to a
 * receiver is in the ring and in no count of free items; so the sums hold at most, not exactly.
 */
#include <rdy/sync.h>

#include <stdlib.h>

#include "engine/runtime.h"

int rdy_channel_open(struct rdy_channel *channel, size_t item_size, uint32_t capacity)
{
    struct rdy_channel made = {.item_size = item_size, .capacity = capacity};

    if (item_size == 0 || capacity == 0)
        return -EINVAL;
    made.ring = item_size <= SIZE_MAX / capacity ? malloc(item_size * capacity) : NULL;
    if (!made.ring)
        return -ENOMEM;
    rdy_semaphore_init(&made.room, capacity);
    *channel = made;
    return 0;
}

/* The place of the item that is @ahead behind the oldest. */
static char *ring_at(const struct rdy_channel *channel, uint32_t ahead)
{
    uint64_t place = ((uint64_t)channel->first + ahead) % channel->capacity;

    return channel->ring + place * channel->item_size;
}

/* With a place that was acquired. */
static void channel_put(struct rdy_channel *channel, const void *item)
{
    rdy_assert(channel->count < channel->capacity);
    memcpy(ring_at(channel, channel->count), item, channel->item_size);
    channel->count++;
    rdy_semaphore_release(&channel->items, 1);
}

/* With an item that was acquired. */
static void channel_get(struct rdy_channel *channel, void *item)
{
    rdy_assert(channel->count > 0);
    memcpy(item, ring_at(channel, 0), channel->item_size);
    channel->first = (channel->first + 1) % channel->capacity;
    channel->count--;
    rdy_semaphore_release(&channel->room, 1);
    rdy_debug(channel->count + channel->room.permits <= channel->capacity);
}

/* A place that a sender was granted before the shut is not used: the receivers may have left. */
int rdy_channel_poll_send(struct rdy_channel *channel, struct rdy_task *task,
                          struct rdy_waiter *waiter, const void *item)
{
    int rc;

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    if (channel->room.is_closed || !channel->ring) {
        rdy_waiter_cancel(waiter);
        rdy_task_spend(task);
        return -ESHUTDOWN;
    }
    rc = rdy_semaphore_poll_acquire(&channel->room, task, waiter, 1);
    if (rc == 0)
        channel_put(channel, item);
    return rc;
}

int rdy_channel_try_send(struct rdy_channel *channel, const void *item)
{
    int rc = channel->ring ? rdy_semaphore_try_acquire(&channel->room, 1) : -ESHUTDOWN;

    if (rc == 0)
        channel_put(channel, item);
    return rc;
}

/* An item that nobody was granted, also when the channel is shut. */
static bool channel_take_free(struct rdy_channel *channel, void *item)
{
    if (channel->items.permits == 0)
        return false;
    rdy_assert(!channel->items.waiters.first);
    channel->items.permits--;
    channel_get(channel, item);
    return true;
}

int rdy_channel_poll_recv(struct rdy_channel *channel, struct rdy_task *task,
                          struct rdy_waiter *waiter, void *item)
{
    int rc;

    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    /*
     * What is left in a shut channel is for whoever comes, but its semaphore would refuse them. An
     * item that this wait had been granted is free with the cancel, and taken with the next step.
     */
    if (channel->items.is_closed || !channel->ring) {
        rdy_waiter_cancel(waiter);
        rdy_task_spend(task);
        return channel->ring && channel_take_free(channel, item) ? 0 : -ESHUTDOWN;
    }
    rc = rdy_semaphore_poll_acquire(&channel->items, task, waiter, 1);
    if (rc == 0)
        channel_get(channel, item);
    return rc;
}

int rdy_channel_try_recv(struct rdy_channel *channel, void *item)
{
    if (channel->ring && channel_take_free(channel, item))
        return 0;
    return channel->ring && !channel->items.is_closed ? -EAGAIN : -ESHUTDOWN;
}

uint32_t rdy_channel_count(const struct rdy_channel *channel)
{
    return channel->count;
}

void rdy_channel_shut(struct rdy_channel *channel)
{
    rdy_semaphore_close(&channel->room);
    rdy_semaphore_close(&channel->items);
}

void rdy_channel_close(struct rdy_channel *channel)
{
    rdy_channel_shut(channel);
    free(channel->ring);
    channel->ring = NULL;
    channel->count = 0;
    channel->first = 0;
    channel->items.permits = 0;
    channel->room.permits = 0;
}
