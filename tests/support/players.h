/* SPDX-License-Identifier: MIT */
/*
 * For tests of what tasks wait for each other with: tasks that wait once and write down who was
 * served, in which order and with which answer.
 */
#ifndef RDY_TESTS_SUPPORT_PLAYERS_H
#define RDY_TESTS_SUPPORT_PLAYERS_H

#include "tests/support/runtime.h"

#include <errno.h>
#include <string.h>

#include <rdy/sync.h>

#define SERVED_MAX 64

struct player;

/* One poll of what the player waits for. */
typedef int wait_fn(struct player *player, struct rdy_task *task);

struct scene {
    struct rdy_runtime *runtime;
    struct rdy_notify notify;
    struct rdy_semaphore semaphore;
    struct rdy_channel channel;
    int served; /* how many answers there were, and of whom: */
    int numbers[SERVED_MAX];
    int answers[SERVED_MAX];
    int items[SERVED_MAX];
};

/* A task's own struct. */
struct player {
    struct scene *scene;
    wait_fn *wait;
    struct rdy_waiter waiter;
    int number;
    uint32_t permits;
    int item;
};

static inline void scene_open(struct scene *scene, void **state)
{
    memset(scene, 0, sizeof(*scene));
    scene->runtime = runtime_of(state);
}

static inline int poll_plays(struct rdy_task *task, void *self)
{
    struct player *player = self;
    struct scene *scene = player->scene;
    int rc = player->wait(player, task);

    if (rc == RDY_PENDING)
        return RDY_PENDING;
    assert_true(scene->served < SERVED_MAX);
    scene->numbers[scene->served] = player->number;
    scene->items[scene->served] = player->item;
    scene->answers[scene->served++] = rc;
    return rc;
}

static inline void player_drop(void *self)
{
    rdy_waiter_cancel(&((struct player *)self)->waiter);
}

/* Spawns a task that waits; it begins to with the next run. */
static inline struct rdy_task_id play(struct scene *scene, wait_fn *wait, int number,
                                      uint32_t permits)
{
    static const struct rdy_task_spec spec = {
        .poll = poll_plays, .drop = player_drop, .self_size = sizeof(struct player)};
    struct rdy_task_id id;
    void *self = NULL;

    assert_int_equal(rdy_spawn(scene->runtime, &spec, &self, &id), 0);
    *(struct player *)self = (struct player){
        .scene = scene, .wait = wait, .number = number, .permits = permits, .item = number};
    return id;
}

/* Lets every task come to where it waits. */
static inline void settle(struct scene *scene)
{
    take_turns(scene->runtime, 4);
}

/* The players @numbers were served since the last look, in this order, each with @answer. */
#define expect_served(scene, answer, ...)                                                          \
    expect_these(scene, answer, (const int[]){__VA_ARGS__},                                        \
                 (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))

static inline void expect_these(struct scene *scene, int answer, const int *numbers, int count)
{
    assert_int_equal(scene->served, count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(scene->numbers[i], numbers[i]);
        assert_int_equal(scene->answers[i], answer);
    }
    scene->served = 0;
}

static inline void expect_nobody(struct scene *scene)
{
    assert_int_equal(scene->served, 0);
}

#endif
