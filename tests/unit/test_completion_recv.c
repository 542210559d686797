/* SPDX-License-Identifier: MIT */
/*
 * Receiving in completion mode: the same answers on io_uring, on epoll and on a fake that runs
 * operations.
 */
#include "tests/support/checker.h"
#include "tests/support/rig_tcp.h"

static void received_bytes_come_in_a_buffer_of_the_pool(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_say(rig, "hello", 5);

    rig_run(rig, rig_poll_recv);

    assert_int_equal(rig->result, 5);
    assert_memory_equal(rig->held[0].data, "hello", 5);
    assert_int_equal(rig_stats(rig).recv_bytes, 5);
    assert_int_equal(rig_stats(rig).buffers_free, rig_stats(rig).buffers_total - 1);
}

/* Looked at where somebody can tell: under MemorySanitizer and under Valgrind. */
static void what_stands_behind_the_received_bytes_is_nobodys(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_say(rig, "hello", 5);
    rig_run(rig, rig_poll_recv);

    assert_int_equal(rig->result, 5);
    assert_true(may_be_used(rig->held[0].data + 4));
    assert_int_equal(may_be_used(rig->held[0].data + 5), !checker_sees_garbage());
}

/* So the pool may be large for the worst case, and what is in use still stays in the cache. */
static void buffer_that_came_back_last_is_filled_next(void **state)
{
    struct rig *rig = *state;
    unsigned char *data = NULL;

    rig_connect(rig);
    for (int i = 0; i < 20; i++) {
        rig_say(rig, "again", 5);
        rig_run(rig, rig_poll_recv);
        assert_int_equal(rig->result, 5);
        assert_true(i == 0 || rig->held[0].data == data);
        data = rig->held[0].data;
        rig_release(rig);
    }
}

static void task_that_waits_is_woken_by_what_comes(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);
    assert_int_equal(rig->result, RDY_PENDING);

    rig_say(rig, "late", 4);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);

    assert_int_equal(rig->result, 4);
}

static void bytes_come_in_order_and_the_end_comes_last(void **state)
{
    struct rig *rig = *state;
    unsigned char chunk[50000];

    rig_connect(rig);
    pattern_fill(chunk, sizeof(chunk), 0);
    rig_say(rig, chunk, sizeof(chunk));
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);

    rig_run(rig, rig_poll_recv_all);

    assert_int_equal(rig->result, 0);
    assert_int_equal(rig->have, sizeof(chunk));
    assert_memory_equal(rig->bytes, chunk, sizeof(chunk));
}

static void end_of_the_stream_can_be_asked_for_again(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);

    rig_run(rig, rig_poll_recv_all);
    assert_int_equal(rig->result, 0);
    rig->result = -1;
    rig_run(rig, rig_poll_recv_all);
    assert_int_equal(rig->result, 0);
}

static void reset_is_told_to_who_waits(void **state)
{
    struct rig *rig = *state;

    rig_connect_tcp(rig);
    rig_start(rig, rig_poll_recv_all);
    assert_int_equal(rig->result, RDY_PENDING);

    rig_reset_peer(rig);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);

    assert_int_equal(rig->result, -ECONNRESET);
}

static void what_came_before_the_reset_is_given_first(void **state)
{
    struct rig *rig = *state;

    rig_connect_tcp(rig);
    (void)spawn_test(rig->runtime, rig_poll_recv, NULL, rig);
    rig_say(rig, "last words", 10);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, 10);

    rig_say(rig, "more", 4);
    rig_turn(rig);
    rig_reset_peer(rig);
    rig_run(rig, rig_poll_recv_all);

    /* epoll's reads find the reset first where it has thrown the data away. */
    if (rig->kind != RIG_EPOLL)
        assert_int_equal(rig->have, 4);
    assert_int_equal(rig->result, -ECONNRESET);
}

/* --- few buffers --- */

static void open_with_two_buffers(struct rig *rig)
{
    struct rdy_driver_opts opts = {.buffers_count = 2, .buffer_size = 64};

    rig_reopen(rig, &opts);
}

static void stream_goes_on_over_a_pool_of_two(void **state)
{
    struct rig *rig = *state;
    unsigned char chunk[40000];

    open_with_two_buffers(rig);
    rig_connect(rig);
    pattern_fill(chunk, sizeof(chunk), 0);
    rig_say(rig, chunk, sizeof(chunk));
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);

    rig_run(rig, rig_poll_recv_all);

    assert_int_equal(rig->result, 0);
    assert_int_equal(rig->have, sizeof(chunk));
    assert_memory_equal(rig->bytes, chunk, sizeof(chunk));
    assert_int_equal(rig_stats(rig).buffers_total, 2);
}

/* Who keeps all buffers holds up the others, and giving one back lets them go on: without it they
 * sleep, and take no turns. */
static void stream_without_buffers_sleeps_until_one_is_back(void **state)
{
    struct rig *rig = *state;
    uint64_t turns;

    open_with_two_buffers(rig);
    rig_connect(rig);
    for (int i = 0; i < 2; i++) {
        rig_say(rig, "x", 1);
        rig_run(rig, rig_poll_recv);
        assert_int_equal(rig->result, 1);
    }
    rig_say(rig, "parked", 6);
    rig_start(rig, rig_poll_recv);
    assert_int_equal(rig->result, RDY_PENDING);
    turns = driver_stats(rig->runtime).turns;
    for (int i = 0; i < 3; i++)
        assert_true(rdy_driver_turn(rdy_runtime_driver(rig->runtime), 1000000) >= 0);
    assert_int_equal(driver_stats(rig->runtime).turns, turns + 3);
    assert_int_equal(rig->result, RDY_PENDING);

    rdy_buf_release(&rig->held[--rig->held_count]);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);

    assert_int_equal(rig->result, 6);
    assert_true(rig_stats(rig).recv_starved >= 1);
}

#define CROWD 40

struct crowd {
    struct rig *rig;
    struct rdy_stream stream[CROWD];
    int peer[CROWD];
    size_t got[CROWD];
    uint32_t ended;
};

struct member {
    struct crowd *crowd;
    uint32_t index;
};

static int poll_member(struct rdy_task *task, void *self)
{
    struct member *member = self;
    struct crowd *crowd = member->crowd;
    struct rdy_buf buf = {0};
    ssize_t count;

    while ((count = rdy_stream_poll_recv(&crowd->stream[member->index], task, &buf)) > 0) {
        crowd->got[member->index] += (size_t)count;
        rdy_buf_release(&buf);
    }
    if (count == RDY_PENDING)
        return RDY_PENDING;
    assert_int_equal(count, 0);
    crowd->ended++;
    return 0;
}

static void crowd_shares_two_buffers_and_everyone_is_served(void **state)
{
    static struct crowd crowd;
    struct rig *rig = *state;
    struct rdy_task_spec spec = {.poll = poll_member, .self_size = sizeof(struct member)};
    char text[500] = {0};

    open_with_two_buffers(rig);
    memset(&crowd, 0, sizeof(crowd));
    for (uint32_t i = 0; i < CROWD; i++) {
        void *self;

        rig_connect(rig);
        crowd.stream[i] = rig->stream;
        crowd.peer[i] = rig->peer;
        rig->stream.fd = -1;
        rig->peer = -1;
        assert_int_equal(send(crowd.peer[i], text, sizeof(text), 0), (ssize_t)sizeof(text));
        assert_int_equal(shutdown(crowd.peer[i], SHUT_WR), 0);
        assert_int_equal(rdy_spawn(rig->runtime, &spec, &self, NULL), 0);
        *(struct member *)self = (struct member){.crowd = &crowd, .index = i};
    }
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);

    assert_int_equal(crowd.ended, CROWD);
    for (uint32_t i = 0; i < CROWD; i++) {
        assert_int_equal(crowd.got[i], sizeof(text));
        rdy_stream_close(&crowd.stream[i]);
        assert_int_equal(close(crowd.peer[i]), 0);
    }
}

/* Data that nobody asks for would keep the pool's buffers for ever; it is copied, and others go
 * on. */
static void data_that_nobody_takes_does_not_keep_the_pool(void **state)
{
    struct rig *rig = *state;
    struct rdy_stream lazy;
    int lazy_peer;

    open_with_two_buffers(rig);
    rig_connect(rig);
    rig_say(rig, "x", 1);
    rig_run(rig, rig_poll_recv); /* armed now; and nobody will ask again */
    rig_release(rig);
    lazy = rig->stream;
    lazy_peer = rig->peer;
    assert_int_equal(send(lazy_peer, rig->bytes, 1000, 0), 1000);
    rig_turn(rig);

    rig_connect(rig);
    rig_say(rig, "me", 2);
    rig_run(rig, rig_poll_recv);

    assert_int_equal(rig->result, 2);
    if (rig->kind != RIG_EPOLL)
        assert_true(rig_stats(rig).copies >= 1);
    rdy_stream_close(&lazy);
    assert_int_equal(close(lazy_peer), 0);
}

static void queue_that_nobody_empties_stops_the_receive(void **state)
{
    struct rig *rig = *state;
    struct rdy_driver_opts opts = {.buffers_count = 64, .buffer_size = 64, .recv_queue_max = 4};
    unsigned char chunk[64 * 32];

    rig_reopen(rig, &opts);
    rig_connect(rig);
    pattern_fill(chunk, sizeof(chunk), 0);
    rig_say(rig, chunk, 1);
    rig_run(rig, rig_poll_recv);
    rig_release(rig);
    if (rig->kind == RIG_FAKE)
        rig->fake->ops_state.recv_max = 1;

    for (size_t i = 0; i < sizeof(chunk); i += 64) {
        rig_say(rig, chunk + i, 64);
        rig_turn(rig);
    }
    if (rig->kind != RIG_EPOLL)
        assert_true(rig_stats(rig).recv_pauses >= 1);
    assert_true(rig_stats(rig).blocks_live < 16);
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
    rig_run(rig, rig_poll_recv_all);

    assert_int_equal(rig->have, sizeof(chunk));
    assert_memory_equal(rig->bytes, chunk, sizeof(chunk));
}

/* --- buffers --- */

static void kept_buffer_lives_until_both_are_released(void **state)
{
    struct rig *rig = *state;
    struct rdy_buf second;

    rig_connect(rig);
    rig_say(rig, "twice", 5);
    rig_run(rig, rig_poll_recv);

    second = rdy_buf_keep(&rig->held[0]);
    rig_release(rig);
    assert_memory_equal(second.data, "twice", 5);
    assert_int_equal(rig_stats(rig).blocks_live, 1);
    rdy_buf_advance(&second, 3);
    assert_memory_equal(second.data, "ce", 2);
    rdy_buf_release(&second);
    rdy_buf_release(&second);
    assert_int_equal(rig_stats(rig).blocks_live, 0);
}

static void absurd_buffers_are_refused(void **state)
{
    struct rig *rig = *state;
    struct rdy_buf buf = {0};

    assert_int_equal(rdy_buf_take(rig->runtime, 0, &buf), -EINVAL);
    assert_int_equal(rdy_buf_take(rig->runtime, ((size_t)16 << 20) + 1, &buf), -EINVAL);
    assert_null(buf.block);
}

static void absurd_pools_are_refused(void **state)
{
    static const struct rdy_driver_opts wrong[] = {
        {.buffers_count = 3},     {.buffers_count = 65536}, {.buffer_size = 63},
        {.buffer_size = 2 << 20}, {.recv_queue_max = 5000}, {.send_queue_max = 1u << 31},
    };
    struct rig *rig = *state;

    (void)rig;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct rdy_driver_opts opts = wrong[i];
        struct rdy_driver *driver = NULL;

        opts.size = sizeof(opts);
        assert_int_equal(rdy_driver_open(&driver, &opts), -EINVAL);
        assert_null(driver);
    }
}

/* --- the same stream, the other calls --- */

static int poll_reads_three(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_read(&rig->stream, task, rig->bytes + rig->have, 3);
    if (rig->result == RDY_PENDING)
        return RDY_PENDING;
    if (rig->result > 0)
        rig->have += (size_t)rig->result;
    return 0;
}

static void plain_reads_take_from_what_was_received(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_say(rig, "abcdefgh", 8);

    for (int i = 0; i < 3; i++)
        rig_run(rig, poll_reads_three);
    assert_int_equal(rig->have, 8);
    assert_memory_equal(rig->bytes, "abcdefgh", 8);
}

static void rest_of_a_plain_read_is_received_next(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_say(rig, "abcdefgh", 8);

    rig_run(rig, poll_reads_three);
    rig_run(rig, rig_poll_recv);
    assert_int_equal(rig->result, 5);
    assert_memory_equal(rig->held[0].data, "defgh", 5);
}

static void shutdown_of_the_driver_ends_a_wait(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);

    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(rig->runtime)), 0);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, -ESHUTDOWN);
    rdy_stream_close(&rig->stream);
    rig_abandon(rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(received_bytes_come_in_a_buffer_of_the_pool),
        ON_THREE(what_stands_behind_the_received_bytes_is_nobodys),
        ON_THREE(buffer_that_came_back_last_is_filled_next),
        ON_THREE(task_that_waits_is_woken_by_what_comes),
        ON_THREE(bytes_come_in_order_and_the_end_comes_last),
        ON_THREE(end_of_the_stream_can_be_asked_for_again),
        ON_THREE(reset_is_told_to_who_waits),
        ON_THREE(what_came_before_the_reset_is_given_first),
        ON_THREE(stream_goes_on_over_a_pool_of_two),
        ON_THREE(stream_without_buffers_sleeps_until_one_is_back),
        ON_THREE(crowd_shares_two_buffers_and_everyone_is_served),
        ON_THREE(data_that_nobody_takes_does_not_keep_the_pool),
        ON_THREE(queue_that_nobody_empties_stops_the_receive),
        ON_THREE(kept_buffer_lives_until_both_are_released),
        ON_THREE(absurd_buffers_are_refused),
        ON_THREE(absurd_pools_are_refused),
        ON_THREE(plain_reads_take_from_what_was_received),
        ON_THREE(rest_of_a_plain_read_is_received_next),
        ON_THREE(shutdown_of_the_driver_ends_a_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
