/* SPDX-License-Identifier: MIT */
/*
 * Who goes next: a task woken by the one that runs, but not for ever.
 */
#include "tests/support/runtime.h"

#include <errno.h>

#define NOTES_MAX 64

struct player;

/* The order in which tasks were polled. */
struct game {
    char notes[NOTES_MAX];
    int notes_count;
};

/* Notes its turn and wakes up to three others, `goal` times. */
struct player {
    struct game *game;
    struct player *wakes[3];
    struct rdy_waker waker;
    struct rdy_task_id id;
    char letter;
    bool wants_queue; /* wakes itself: always in the queue */
    bool aborts;      /* ends the first of `wakes` right after the wake */
    int polls;
    int goal;
};

static int poll_plays(struct rdy_task *task, void *self)
{
    struct player *player = ((struct test_task *)self)->test;
    struct game *game = player->game;

    player->waker = rdy_task_waker(task);
    player->polls++;
    if (game->notes_count < NOTES_MAX - 1)
        game->notes[game->notes_count++] = player->letter;
    for (int i = 0; i < 3; i++) {
        if (player->wakes[i])
            rdy_waker_wake(&player->wakes[i]->waker);
    }
    if (player->aborts)
        assert_int_equal(rdy_task_abort(rdy_task_runtime(task), player->wakes[0]->id), 0);
    if (player->wants_queue)
        rdy_waker_wake(&player->waker);
    return player->polls >= player->goal ? 0 : RDY_PENDING;
}

static int poll_stops(struct rdy_task *task, void *self)
{
    (void)self;
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

static void player_spawn(struct player *player, struct rdy_runtime *runtime)
{
    player->id = spawn_test(runtime, poll_plays, NULL, player);
}

/* Polls each once, so that its waker is known, and forgets that. */
static void players_settle(struct game *game, struct rdy_runtime *runtime)
{
    (void)spawn_test(runtime, poll_stops, NULL, NULL);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    *game = (struct game){.notes_count = 0};
}

/* Two that wake each other, with @ping to begin. */
static void serve(struct player *ping, struct player *pong, struct rdy_runtime *runtime)
{
    player_spawn(ping, runtime);
    player_spawn(pong, runtime);
    players_settle(ping->game, runtime);
    ping->wakes[0] = pong;
    pong->wakes[0] = ping;
    rdy_waker_wake(&ping->waker);
}

static void woken_task_goes_ahead_of_the_queue(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct game game = {.notes_count = 0};
    struct player woken = {.game = &game, .letter = 'w', .goal = 2};
    struct player queued[2] = {{.game = &game, .letter = 'q', .goal = 1},
                               {.game = &game, .letter = 'r', .goal = 1}};
    struct player waker = {.game = &game, .letter = 'a', .goal = 1, .wakes = {&woken}};

    player_spawn(&woken, runtime);
    players_settle(&game, runtime);
    player_spawn(&waker, runtime);
    player_spawn(&queued[0], runtime);
    player_spawn(&queued[1], runtime);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_string_equal(game.notes, "awqr");
    assert_int_equal(runtime_stats(runtime).next_polls, 1);
    assert_int_equal(runtime_stats(runtime).next_bounds, 0);
}

static void several_that_are_woken_keep_their_order(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct game game = {.notes_count = 0};
    struct player woken[3] = {{.game = &game, .letter = '1', .goal = 2},
                              {.game = &game, .letter = '2', .goal = 2},
                              {.game = &game, .letter = '3', .goal = 2}};
    struct player waker = {
        .game = &game, .letter = 'a', .goal = 1, .wakes = {&woken[0], &woken[1], &woken[2]}};

    for (int i = 0; i < 3; i++)
        player_spawn(&woken[i], runtime);
    players_settle(&game, runtime);
    player_spawn(&waker, runtime);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_string_equal(game.notes, "a123");
    assert_int_equal(runtime_stats(runtime).next_polls, 1);
}

/* Two that wake each other, beside a queue with two more: each gets every fourth poll or better. */
static void ping_pong_goes_ahead_at_most_three_times_in_a_row(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct game game = {.notes_count = 0};
    struct player ping = {.game = &game, .letter = 'i', .goal = 9};
    struct player pong = {.game = &game, .letter = 'o', .goal = 9};
    struct player quiet[2] = {{.game = &game, .letter = 'x', .goal = 4, .wants_queue = true},
                              {.game = &game, .letter = 'y', .goal = 4, .wants_queue = true}};

    serve(&ping, &pong, runtime);
    player_spawn(&quiet[0], runtime);
    player_spawn(&quiet[1], runtime);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    /* i from the queue, three ahead, then x, y; the next of the two stands behind them. */
    assert_memory_equal(game.notes, "xyioioxyioioxy", 14);
    assert_int_equal(quiet[0].polls, 4);
    assert_int_equal(quiet[1].polls, 4);
    assert_true(runtime_stats(runtime).next_bounds >= 2);
    assert_true(runtime_stats(runtime).next_polls >= 6);
}

/* With an empty queue there is nobody to let go first. */
static void ping_pong_alone_is_not_held_up(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct game game = {.notes_count = 0};
    struct player ping = {.game = &game, .letter = 'i', .goal = 200};
    struct player pong = {.game = &game, .letter = 'o', .goal = 200};

    serve(&ping, &pong, runtime);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(ping.polls + pong.polls, 400);
    assert_int_equal(runtime_stats(runtime).next_bounds, 0);
    assert_int_equal(runtime_stats(runtime).next_polls, 397);
    assert_true(driver_stats(runtime).turns >= 6);
}

static void task_aborted_in_the_slot_is_not_polled(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct game game = {.notes_count = 0};
    struct player woken = {.game = &game, .letter = 'w', .goal = 9};
    struct player waker = {
        .game = &game, .letter = 'a', .goal = 1, .wakes = {&woken}, .aborts = true};
    struct player queued = {.game = &game, .letter = 'q', .goal = 1};

    player_spawn(&woken, runtime);
    players_settle(&game, runtime);
    player_spawn(&waker, runtime);
    player_spawn(&queued, runtime);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_string_equal(game.notes, "aq");
    assert_int_equal(runtime_stats(runtime).next_polls, 0);
    assert_int_equal(runtime_stats(runtime).tasks_live, 0);
}

static int poll_wakes_and_stops(struct rdy_task *task, void *self)
{
    struct player *woken = ((struct test_task *)self)->test;

    rdy_waker_wake(&woken->waker);
    rdy_runtime_stop(rdy_task_runtime(task));
    return 0;
}

/* Each poll is a look at the driver away from the next: event_interval 1. */
static void slot_survives_the_end_of_a_round_and_of_a_run(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct rdy_runtime *runtime = NULL;
    struct game game = {.notes_count = 0};
    struct player woken = {.game = &game, .letter = 'w', .goal = 2};

    opts.event_interval = 1;
    assert_int_equal(rdy_runtime_open(&runtime, &opts), 0);
    player_spawn(&woken, runtime);
    players_settle(&game, runtime);
    (void)spawn_test(runtime, poll_wakes_and_stops, NULL, &woken);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(woken.polls, 1);
    assert_int_equal(rdy_runtime_run(runtime), 0);

    assert_int_equal(woken.polls, 2);
    rdy_runtime_close(runtime);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(woken_task_goes_ahead_of_the_queue),
        ON_BOTH(several_that_are_woken_keep_their_order),
        ON_BOTH(ping_pong_goes_ahead_at_most_three_times_in_a_row),
        ON_BOTH(ping_pong_alone_is_not_held_up),
        ON_BOTH(task_aborted_in_the_slot_is_not_polled),
        ON_BOTH(slot_survives_the_end_of_a_round_and_of_a_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
