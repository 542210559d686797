/* SPDX-License-Identifier: MIT */
/*
 * Completion mode where waits go on for a batch of events: all that was sent arrives, and nothing
 * is held back longer than the batch's time. No time is measured. What must not wait for a batch at
 * all is done so often, and the batch's time so long, that a minute would not be enough if it did;
 * and a batch that is waited for without end hangs. Either is ended by the alarm.
 */
#include "tests/support/post.h"

#include "engine/driver.h"

#include <pthread.h>

#define PATIENCE_S 60u
#define LONG_US    1000000u /* the longest that there is */
#define MEMBERS    8
#define CROWD      (4 * RDY_MODERATION_SHARE) /* so many that it learns */
#define ROUNDS     50
#define CHUNK      3000u

static void open_batching(struct rig *rig, struct rdy_driver_opts opts)
{
    (void)alarm(PATIENCE_S);
    rig_reopen(rig, &opts);
}

/* --- many connections --- */

struct member {
    struct rdy_stream stream;
    struct rdy_buf owed;
    int peer;
    bool has_ended;
};

static struct member members[CROWD];
static uint32_t members_count;

static int poll_echoes(struct rdy_task *task, void *self)
{
    struct member *member = ((struct test_task *)self)->test;
    ssize_t rc;

    while (!member->has_ended) {
        bool is_sending = member->owed.block != NULL;

        rc = is_sending ? rdy_stream_poll_send(&member->stream, task, &member->owed)
                        : rdy_stream_poll_recv(&member->stream, task, &member->owed);
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        assert_true(rc >= 0);
        member->has_ended = !is_sending && rc == 0;
    }
    rc = rdy_stream_poll_close(&member->stream, task);
    assert_true(rc == RDY_PENDING || rc == 0);
    return (int)rc;
}

/* Says a chunk to each, hears it from each, and so on; then ends. The number of wrong ones. */
static void *talks_to_all(void *unused)
{
    unsigned char said[CHUNK];
    unsigned char heard[CHUNK];
    uintptr_t wrong = 0;

    (void)unused;
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t len = 1 + round * 977 % CHUNK;

        for (size_t i = 0; i < len; i++)
            said[i] = pattern_at(round + i);
        for (uint32_t i = 0; i < members_count; i++)
            wrong += send(members[i].peer, said, len, MSG_NOSIGNAL) != (ssize_t)len;
        for (uint32_t i = 0; i < members_count; i++)
            wrong += recv(members[i].peer, heard, len, MSG_WAITALL) != (ssize_t)len ||
                     memcmp(heard, said, len) != 0;
    }
    for (uint32_t i = 0; i < members_count; i++)
        wrong += shutdown(members[i].peer, SHUT_WR) != 0 ||
                 recv(members[i].peer, heard, 1, MSG_WAITALL) != 0;
    return (void *)wrong;
}

static void echo_with(struct rig *rig, uint32_t count, struct rdy_driver_opts opts)
{
    pthread_t peer;
    void *wrong = NULL;

    open_batching(rig, opts);
    members_count = count;
    for (uint32_t i = 0; i < members_count; i++) {
        rig_connect(rig);
        assert_int_equal(fcntl(rig->peer, F_SETFL, 0), 0); /* the peer may wait */
        members[i] = (struct member){.stream = rig->stream, .peer = rig->peer};
        rig->stream.fd = -1;
        rig->peer = -1;
        (void)spawn_test(rig->runtime, poll_echoes, NULL, &members[i]);
    }
    assert_int_equal(pthread_create(&peer, NULL, talks_to_all, NULL), 0);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    for (int i = 0; i < 3; i++)
        rig_turn(rig); /* a ring closes with a turn */
    assert_int_equal(pthread_join(peer, &wrong), 0);
    assert_null(wrong);
    for (uint32_t i = 0; i < members_count; i++)
        assert_int_equal(close(members[i].peer), 0);
}

static void all_bytes_of_many_arrive(void **state)
{
    echo_with(*state, MEMBERS,
              (struct rdy_driver_opts){.batch_count = MEMBERS, .batch_wait_us = 200});
}

/* More than there are connections: no batch ever fills. */
static void all_bytes_arrive_though_no_batch_fills(void **state)
{
    echo_with(*state, MEMBERS, (struct rdy_driver_opts){.batch_count = 4096, .batch_wait_us = 200});
}

/* Fewer buffers than a batch: the receives starve, and what comes of that is an event too. */
static void all_bytes_arrive_over_fewer_buffers_than_a_batch(void **state)
{
    echo_with(*state, MEMBERS,
              (struct rdy_driver_opts){
                  .batch_count = 64, .batch_wait_us = 200, .buffers_count = 2, .buffer_size = 512});
}

static void all_bytes_arrive_over_a_queue_that_is_shorter_than_a_batch(void **state)
{
    echo_with(*state, MEMBERS,
              (struct rdy_driver_opts){.batch_count = 64, .batch_wait_us = 200, .cq_entries = 2});
}

/* The first turn that blocks tries, with so many connections; with fewer none does. */
static void all_bytes_arrive_where_it_learns_how_long_to_wait(void **state)
{
    static const struct rdy_driver_opts learning = {.is_batch_learnt = true};
    struct rig *rig = *state;
    struct rdy_driver_stats stats;

    echo_with(rig, CROWD, learning);
    rdy_driver_read_stats(rdy_runtime_driver(rig->runtime), &stats);
    if (rdy_driver_backend(rdy_runtime_driver(rig->runtime))->can_batch)
        assert_true(stats.batch_waits > 0);
    else
        assert_int_equal(stats.batch_waits, 0);

    echo_with(rig, 2 * RDY_MODERATION_SHARE - 1, learning);
    rdy_driver_read_stats(rdy_runtime_driver(rig->runtime), &stats);
    assert_int_equal(stats.batch_waits, 0);
}

/* --- what is not to wait --- */

/* The ring says nothing of sends that went out, so no batch could fill with them. */
static void flush_waits_for_no_batch(void **state)
{
    struct rig *rig = *state;

    open_batching(rig, (struct rdy_driver_opts){.batch_count = 4096, .batch_wait_us = LONG_US});
    rig_connect(rig);
    for (size_t i = 0; i < 2 * PATIENCE_S; i++) {
        rig->held[rig->held_count++] = rig_buf(rig, "now", 3);
        rig_run(rig, rig_poll_sends_held);
        rig_run(rig, rig_poll_flushes);
        assert_int_equal(rig->result, 0);
        assert_int_equal(recv(rig->peer, rig->bytes, 10, MSG_DONTWAIT), 3);
    }
}

/* With one buffer free no more than one event can come. */
static void batch_is_no_larger_than_the_buffers_that_are_free(void **state)
{
    struct rig *rig = *state;

    open_batching(rig, (struct rdy_driver_opts){.batch_count = 16,
                                                .batch_wait_us = LONG_US,
                                                .buffers_count = 1,
                                                .buffer_size = 64});
    rig_connect(rig);
    for (size_t i = 0; i < 2 * PATIENCE_S; i++) {
        rig_say(rig, "one", 3);
        rig_run(rig, rig_poll_recv);
        assert_int_equal(rig->result, 3);
        rig_release(rig);
    }
}

/* --- datagrams --- */

static void all_datagrams_arrive(void **state)
{
    struct post *post = *state;

    open_batching(&post->rig, (struct rdy_driver_opts){.batch_count = 32, .batch_wait_us = 200});
    post_open(post);
    assert_int_equal(rdy_datagram_start_completion(&post->socket), 0);
    for (uint32_t i = 0; i < 150; i++) /* 150: the last batch does not fill */
        post_say(post, i, 4 + i);
    post->goal = 150;
    post_run(post, post_poll_recv_all);
    for (uint32_t i = 0; i < 150; i++)
        assert_int_equal(post->number[i], i);

    post->count = 0;
    post_run(post, post_poll_send_all);
    post_run(post, post_poll_flush);
    assert_int_equal(post->rig.result, 0);
    for (uint32_t i = 0; i < 150; i++)
        assert_int_equal(post_hear(post), i);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_REAL(all_bytes_of_many_arrive),
        ON_REAL(all_bytes_arrive_though_no_batch_fills),
        ON_REAL(all_bytes_arrive_over_fewer_buffers_than_a_batch),
        ON_REAL(all_bytes_arrive_over_a_queue_that_is_shorter_than_a_batch),
        ON_REAL(all_bytes_arrive_where_it_learns_how_long_to_wait),
        ON_REAL(flush_waits_for_no_batch),
        ON_REAL(batch_is_no_larger_than_the_buffers_that_are_free),
        POST_ON_REAL(all_datagrams_arrive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
