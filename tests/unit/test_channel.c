/* SPDX-License-Identifier: MIT */
/*
 * Channels between tasks of one runtime: order, room, receivers and senders that give up, and what
 * happens to the items when a channel is shut or closed.
 */
#include "tests/support/players.h"

#include "engine/sys.h"

static struct scene scene;

static int wait_sent(struct player *player, struct rdy_task *task)
{
    return rdy_channel_poll_send(&player->scene->channel, task, &player->waiter, &player->item);
}

static int wait_received(struct player *player, struct rdy_task *task)
{
    return rdy_channel_poll_recv(&player->scene->channel, task, &player->waiter, &player->item);
}

static void channel_scene(void **state, uint32_t capacity)
{
    scene_open(&scene, state);
    assert_int_equal(rdy_channel_open(&scene.channel, sizeof(int), capacity), 0);
}

static void abort_player(struct rdy_task_id id)
{
    assert_int_equal(rdy_task_abort(scene.runtime, id), 0);
}

static void try_send(int item)
{
    assert_int_equal(rdy_channel_try_send(&scene.channel, &item), 0);
}

static void expect_item(int item)
{
    int got = -1;

    assert_int_equal(rdy_channel_try_recv(&scene.channel, &got), 0);
    assert_int_equal(got, item);
}

static void expect_no_item(int answer)
{
    int got = -1;

    assert_int_equal(rdy_channel_try_recv(&scene.channel, &got), answer);
    assert_int_equal(got, -1);
}

static void absurd_channels_are_refused(void **state)
{
    struct rdy_channel channel = {0};

    (void)state;
    assert_int_equal(rdy_channel_open(&channel, 0, 1), -EINVAL);
    assert_int_equal(rdy_channel_open(&channel, 1, 0), -EINVAL);
    assert_int_equal(rdy_channel_open(&channel, SIZE_MAX / 2, 3), -ENOMEM);
    assert_null(channel.ring);
}

static void channel_that_was_never_opened_is_closed(void **state)
{
    int item = 1;

    scene_open(&scene, state);
    assert_int_equal(rdy_channel_try_send(&scene.channel, &item), -ESHUTDOWN);
    expect_no_item(-ESHUTDOWN);
    (void)play(&scene, wait_sent, 1, 0);
    (void)play(&scene, wait_received, 2, 0);
    settle(&scene);
    expect_served(&scene, -ESHUTDOWN, 1, 2);
    rdy_channel_close(&scene.channel);
}

static void items_come_out_in_the_order_in_which_they_went_in(void **state)
{
    channel_scene(state, 3);
    for (int round = 0; round < 5; round++) {
        int item = 0;

        for (int i = 0; i < 3; i++)
            try_send(10 * round + i);
        assert_int_equal(rdy_channel_try_send(&scene.channel, &item), -EAGAIN);
        assert_int_equal(rdy_channel_count(&scene.channel), 3);
        for (int i = 0; i < 2; i++)
            expect_item(10 * round + i);
        try_send(10 * round + 3); /* the ring is full at every place once */
        expect_item(10 * round + 2);
        expect_item(10 * round + 3);
        expect_no_item(-EAGAIN);
    }
    rdy_channel_close(&scene.channel);
}

static void senders_wait_for_room_in_order(void **state)
{
    channel_scene(state, 1);
    for (int i = 1; i <= 3; i++)
        (void)play(&scene, wait_sent, i, 0);
    settle(&scene);
    expect_served(&scene, 0, 1);

    expect_item(1);
    settle(&scene);
    expect_served(&scene, 0, 2);
    expect_item(2);
    settle(&scene);
    expect_served(&scene, 0, 3);
    expect_item(3);
    rdy_channel_close(&scene.channel);
}

static void receivers_wait_for_items_in_order(void **state)
{
    channel_scene(state, 4);
    for (int i = 1; i <= 3; i++)
        (void)play(&scene, wait_received, i, 0);
    settle(&scene);
    expect_nobody(&scene);

    try_send(100);
    try_send(200);
    expect_no_item(-EAGAIN); /* both are for those who waited */
    settle(&scene);
    expect_served(&scene, 0, 1, 2);
    assert_int_equal(scene.items[0], 100);
    assert_int_equal(scene.items[1], 200);
    try_send(300);
    settle(&scene);
    expect_served(&scene, 0, 3);
    rdy_channel_close(&scene.channel);
}

static void place_of_a_sender_that_gives_up_goes_to_the_next(void **state)
{
    struct rdy_task_id first;

    channel_scene(state, 1);
    try_send(0);
    first = play(&scene, wait_sent, 1, 0);
    (void)play(&scene, wait_sent, 2, 0);
    settle(&scene);

    expect_item(0);
    abort_player(first);
    settle(&scene);
    expect_served(&scene, 0, 2);
    expect_item(2);
    expect_no_item(-EAGAIN);
    rdy_channel_close(&scene.channel);
}

static void item_of_a_receiver_that_gives_up_goes_to_the_next(void **state)
{
    struct rdy_task_id first;

    channel_scene(state, 2);
    first = play(&scene, wait_received, 1, 0);
    (void)play(&scene, wait_received, 2, 0);
    settle(&scene);

    try_send(7);
    abort_player(first);
    settle(&scene);
    expect_served(&scene, 0, 2);
    assert_int_equal(scene.items[0], 7);

    first = play(&scene, wait_received, 3, 0);
    settle(&scene);
    try_send(8);
    abort_player(first);
    expect_item(8);
    rdy_channel_close(&scene.channel);
}

static void shut_channel_gives_out_what_is_in_it(void **state)
{
    int item = 0;

    channel_scene(state, 2);
    try_send(1);
    try_send(2);
    (void)play(&scene, wait_sent, 9, 0);
    settle(&scene);
    rdy_channel_shut(&scene.channel);
    rdy_channel_shut(&scene.channel);
    settle(&scene);
    expect_served(&scene, -ESHUTDOWN, 9);

    assert_int_equal(rdy_channel_try_send(&scene.channel, &item), -ESHUTDOWN);
    (void)play(&scene, wait_received, 1, 0);
    settle(&scene);
    expect_served(&scene, 0, 1);
    assert_int_equal(scene.items[0], 1);
    expect_item(2);
    expect_no_item(-ESHUTDOWN);
    (void)play(&scene, wait_received, 1, 0);
    settle(&scene);
    expect_served(&scene, -ESHUTDOWN, 1);
    rdy_channel_close(&scene.channel);
}

static void shutting_ends_the_receivers_wait(void **state)
{
    channel_scene(state, 2);
    (void)play(&scene, wait_received, 1, 0);
    (void)play(&scene, wait_received, 2, 0);
    settle(&scene);
    rdy_channel_shut(&scene.channel);
    settle(&scene);
    expect_served(&scene, -ESHUTDOWN, 1, 2);
    rdy_channel_close(&scene.channel);
}

/* Who was given an item before the shut gets it; given up, it goes even to one who was refused. */
static void shut_loses_no_item_that_was_under_way(void **state)
{
    struct rdy_task_id first;

    channel_scene(state, 2);
    (void)play(&scene, wait_received, 1, 0);
    settle(&scene);
    try_send(5);
    rdy_channel_shut(&scene.channel);
    settle(&scene);
    expect_served(&scene, 0, 1);
    assert_int_equal(scene.items[0], 5);
    rdy_channel_close(&scene.channel);

    channel_scene(state, 2);
    first = play(&scene, wait_received, 1, 0);
    (void)play(&scene, wait_received, 2, 0);
    settle(&scene);
    try_send(6);
    rdy_channel_shut(&scene.channel);
    abort_player(first);
    settle(&scene);
    expect_served(&scene, 0, 2);
    assert_int_equal(scene.items[0], 6);
    rdy_channel_close(&scene.channel);
}

/* It has its place, but whoever would have received the item may be gone. */
static void sender_that_was_given_room_before_the_shut_is_refused(void **state)
{
    channel_scene(state, 1);
    try_send(0);
    (void)play(&scene, wait_sent, 1, 0);
    settle(&scene);
    expect_item(0);
    rdy_channel_shut(&scene.channel);
    settle(&scene);
    expect_served(&scene, -ESHUTDOWN, 1);
    expect_no_item(-ESHUTDOWN);
    rdy_channel_close(&scene.channel);
}

static void close_ends_every_wait_and_takes_the_items_along(void **state)
{
    channel_scene(state, 1);
    try_send(1);
    (void)play(&scene, wait_sent, 2, 0);
    settle(&scene);
    rdy_channel_close(&scene.channel);
    rdy_channel_close(&scene.channel);
    settle(&scene);
    expect_served(&scene, -ESHUTDOWN, 2);
    expect_no_item(-ESHUTDOWN);
    assert_int_equal(rdy_channel_count(&scene.channel), 0);

    channel_scene(state, 1);
    (void)play(&scene, wait_received, 1, 0);
    (void)play(&scene, wait_received, 2, 0);
    settle(&scene);
    try_send(3); /* granted to the first, who has not been polled */
    rdy_channel_close(&scene.channel);
    settle(&scene);
    expect_served(&scene, -ESHUTDOWN, 1, 2);
}

static int poll_receives_all_it_can(struct rdy_task *task, void *self)
{
    struct scene *my = ((struct test_task *)self)->test;
    struct rdy_waiter waiter = {0};
    int item;

    my->numbers[my->served] = 0;
    while (rdy_channel_poll_recv(&my->channel, task, &waiter, &item) == 0)
        my->numbers[my->served]++;
    rdy_waiter_cancel(&waiter);
    my->served++;
    return my->served < 3 ? RDY_PENDING : 0;
}

static void receiving_is_paid_from_the_budget(void **state)
{
    channel_scene(state, 300);
    for (int i = 0; i < 300; i++)
        try_send(i);
    (void)spawn_test(scene.runtime, poll_receives_all_it_can, NULL, &scene);
    settle(&scene);
    assert_int_equal(scene.numbers[0], 128);
    assert_int_equal(runtime_stats(scene.runtime).budget_yields, 2);
    rdy_channel_close(&scene.channel);
}

/* --- many senders, many receivers --- */

#define SENDERS   5
#define RECEIVERS 3
#define EACH      2000

struct traffic {
    struct rdy_channel channel;
    uint64_t sum_sent;
    uint64_t sum_received;
    int received;
    int senders_left;
    int last[SENDERS]; /* of each sender: with one receiver they come in order */
    bool is_in_order;
};

struct mover {
    struct rdy_co co;
    struct traffic *traffic;
    struct rdy_waiter waiter;
    int number;
    int i;
    int item;
    int rc;
};

static int poll_sends_many(struct rdy_task *task, void *self)
{
    struct mover *my = self;
    struct traffic *traffic = my->traffic;

    RDY_BEGIN(&my->co);
    for (my->i = 1; my->i <= EACH; my->i++) {
        my->item = my->number * EACH * 2 + my->i;
        RDY_AWAIT(&my->co,
                  my->rc = rdy_channel_poll_send(&traffic->channel, task, &my->waiter, &my->item));
        assert_int_equal(my->rc, 0);
        traffic->sum_sent += (uint64_t)my->item;
    }
    if (--traffic->senders_left == 0)
        rdy_channel_shut(&traffic->channel);
    RDY_END(&my->co);
    return 0;
}

static int poll_receives_many(struct rdy_task *task, void *self)
{
    struct mover *my = self;
    struct traffic *traffic = my->traffic;
    int *last;

    RDY_BEGIN(&my->co);
    for (;;) {
        RDY_AWAIT(&my->co,
                  my->rc = rdy_channel_poll_recv(&traffic->channel, task, &my->waiter, &my->item));
        if (my->rc < 0)
            return my->rc;
        last = &traffic->last[my->item / (EACH * 2)];
        traffic->is_in_order = traffic->is_in_order && my->item > *last;
        *last = my->item;
        traffic->sum_received += (uint64_t)my->item;
        traffic->received++;
    }
    RDY_END(&my->co);
    return 0;
}

static void spawn_mover(struct rdy_runtime *runtime, rdy_poll_fn *poll, struct traffic *traffic,
                        int number)
{
    struct rdy_task_spec spec = {.poll = poll, .self_size = sizeof(struct mover)};
    void *self = NULL;

    assert_int_equal(rdy_spawn(runtime, &spec, &self, NULL), 0);
    ((struct mover *)self)->traffic = traffic;
    ((struct mover *)self)->number = number;
}

static void expect_traffic(struct rdy_runtime *runtime, uint32_t capacity, int receivers)
{
    struct traffic traffic = {.senders_left = SENDERS, .is_in_order = true};

    assert_int_equal(rdy_channel_open(&traffic.channel, sizeof(int), capacity), 0);
    for (int i = 0; i < SENDERS; i++)
        spawn_mover(runtime, poll_sends_many, &traffic, i);
    for (int i = 0; i < receivers; i++)
        spawn_mover(runtime, poll_receives_many, &traffic, 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(traffic.received, SENDERS * EACH);
    assert_int_equal(traffic.sum_received, traffic.sum_sent);
    assert_true(traffic.is_in_order || receivers > 1);
    rdy_channel_close(&traffic.channel);
}

static void all_that_many_senders_send_arrives_once_and_in_order(void **state)
{
    expect_traffic(runtime_of(state), 1, 1);
    expect_traffic(runtime_of(state), 7, 1);
    expect_traffic(runtime_of(state), 7, RECEIVERS);
    expect_traffic(runtime_of(state), 1000, RECEIVERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absurd_channels_are_refused),
        ON_BOTH(channel_that_was_never_opened_is_closed),
        ON_BOTH(items_come_out_in_the_order_in_which_they_went_in),
        ON_BOTH(senders_wait_for_room_in_order),
        ON_BOTH(receivers_wait_for_items_in_order),
        ON_BOTH(place_of_a_sender_that_gives_up_goes_to_the_next),
        ON_BOTH(item_of_a_receiver_that_gives_up_goes_to_the_next),
        ON_BOTH(shut_channel_gives_out_what_is_in_it),
        ON_BOTH(shutting_ends_the_receivers_wait),
        ON_BOTH(shut_loses_no_item_that_was_under_way),
        ON_BOTH(sender_that_was_given_room_before_the_shut_is_refused),
        ON_BOTH(close_ends_every_wait_and_takes_the_items_along),
        ON_BOTH(receiving_is_paid_from_the_budget),
        ON_BOTH(all_that_many_senders_send_arrives_once_and_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
