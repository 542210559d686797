/* SPDX-License-Identifier: MIT */
/*
 * What kernels do seldom, on the fake: last facts that come late, in another order, twice or not
 * before the end; receives that end after each fact; requests that find no room; a backend that
 * cannot have buffers. Each must leave nothing behind, which rig_teardown() sees.
 */
#include "tests/support/rig.h"

#include "engine/driver.h"
#include "engine/lane.h"

static void close_waits_for_a_last_fact_that_is_late(void **state)
{
    struct rig *rig = *state;
    int fd;

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);
    fd = rig->stream.fd;
    ops_of(rig)->is_withholding = true;
    rdy_stream_close(&rig->stream);
    rig_turn(rig);

    /* Asked to stop, but it has not said so: the file must not be closed under it. */
    assert_int_equal(driver_stats(rig->runtime).entries_live, 1);
    assert_true(fcntl(fd, F_GETFD) >= 0);

    fake_let_go(rig->fake, false);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void data_that_arrives_while_leaving_goes_back_to_the_pool(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);
    ops_of(rig)->is_withholding = true;
    rig_say(rig, "late", 4);
    rig_turn(rig); /* received by the kernel, not told yet */
    assert_int_equal(rig->result, RDY_PENDING);
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    fake_let_go(rig->fake, false);
    rig_turn(rig);

    assert_int_equal(rig_stats(rig).buffers_free, rig_stats(rig).buffers_total);
}

static void last_fact_that_comes_twice_is_refused_once(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);
    ops_of(rig)->is_doubling = true;
    rdy_stream_close(&rig->stream);
    rig_turn(rig);

    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
    assert_int_equal(driver_stats(rig->runtime).facts_for_closed_entry, 1);
}

static void receive_that_ends_after_each_fact_goes_on(void **state)
{
    struct rdy_driver_opts opts = {.buffers_count = 8, .buffer_size = 4096};
    struct rig *rig = *state;
    unsigned char chunk[30000];

    rig_reopen(rig, &opts);
    ops_of(rig)->ends_each = true;
    rig_connect(rig);
    pattern_fill(chunk, sizeof(chunk), 0);
    rig_say(rig, chunk, sizeof(chunk));
    assert_int_equal(shutdown(rig->peer, SHUT_WR), 0);
    rig_run(rig, rig_poll_recv_all);

    assert_int_equal(rig->have, sizeof(chunk));
    assert_memory_equal(rig->bytes, chunk, sizeof(chunk));
    assert_true(rig_stats(rig).recvs_armed >= 8);
}

/* A try of which nothing was heard is not done before the backend says that it would have been. */
static void send_is_not_taken_for_done_too_early(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    ops_of(rig)->is_deaf = true;
    rig_hold(rig, "unheard", 7);
    rig_run(rig, rig_poll_sends_held);
    rig_turn(rig);
    assert_int_equal(rdy_stream_unsent(&rig->stream), 7);
    assert_int_equal(rig_stats(rig).blocks_live, 1);

    ops_of(rig)->is_deaf = false;
    rig_turn(rig);
    assert_int_equal(rdy_stream_unsent(&rig->stream), 0);
    assert_int_equal(rig_stats(rig).blocks_live, 0);
}

static void close_waits_for_a_send_that_stands_still(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    ops_of(rig)->is_deaf = true;
    rig_hold(rig, "slow", 4);
    rig_run(rig, rig_poll_sends_held);
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 1);
    assert_int_equal(rig_stats(rig).blocks_live, 1); /* the kernel reads it */

    ops_of(rig)->is_deaf = false;
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
}

static void receive_without_room_for_it_is_begun_later(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_turn(rig);
    rig->fake->arm_error = -EBUSY;
    rig->fake->arm_errors = 3;
    rig_say(rig, "patience", 8);
    rig_run(rig, rig_poll_recv);

    assert_int_equal(rig->result, 8);
    assert_int_equal(rig->fake->arm_errors, 0);
}

static void send_without_room_for_it_is_begun_later(void **state)
{
    struct rig *rig = *state;
    char back[8];

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_turn(rig);
    rig->fake->arm_error = -EBUSY;
    rig->fake->arm_errors = 3;
    rig_hold(rig, "patience", 8);
    rig_run(rig, rig_poll_sends_held);
    rig_turn(rig);

    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), 8);
    assert_int_equal(rig->fake->arm_errors, 0);
}

/* Nothing else happens that could end the driver's wait: it must not sleep on a silent success. */
static void flush_hears_of_a_send_that_found_no_room_at_first(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_turn(rig);
    rig_hold(rig, "patience", 8);
    rig_settle(rig);
    rig->fake->arm_error = -EBUSY;
    rig->fake->arm_errors = 2;
    rig_run(rig, rig_poll_sends_held);
    rig_run(rig, rig_poll_flushes);

    assert_int_equal(rig->result, 0);
    assert_int_equal(rig->fake->arm_errors, 0);
    assert_int_equal(rdy_stream_unsent(&rig->stream), 0);
}

static void cancel_without_room_for_it_is_asked_again(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);
    rig->fake->disarm_error = -EBUSY;
    rig->fake->disarm_errors = 2;
    rdy_stream_close(&rig->stream);
    rig_turn(rig);

    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
}

/* The peer never reads, so nothing but a cancel will end the send. */
static void make_a_send_wait(struct rig *rig)
{
    static const unsigned char bytes[60000];
    int size = 4096;

    rig_connect(rig);
    assert_int_equal(setsockopt(rig->stream.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    rig_hold(rig, bytes, sizeof(bytes));
    rig_run(rig, rig_poll_sends_held);
    rig_turn(rig);
    assert_true(rdy_stream_unsent(&rig->stream) > 0);
}

static void cancel_of_a_waiting_send_is_asked_again(void **state)
{
    struct rig *rig = *state;

    make_a_send_wait(rig);
    rig->fake->disarm_error = -EBUSY;
    rig->fake->disarm_errors = 1;
    rdy_stream_close(&rig->stream);
    rig_turn(rig);

    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
}

/* A shutdown looks at what is left in round after round; of many sends that wait that adds up. */
static void shutdown_asks_a_waiting_send_to_stop_once(void **state)
{
    struct rig *rig = *state;
    uint32_t before;

    make_a_send_wait(rig);
    before = rig->fake->disarms;
    ops_of(rig)->is_withholding = true;
    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(rig->runtime)), 0);
    assert_int_equal(rig->fake->disarms, before + 1);

    fake_let_go(rig->fake, false);
    rdy_stream_close(&rig->stream);
    rig_abandon(rig);
}

/* It ends between the turn that could not ask it to stop and the next, which would ask again. */
static void receive_that_ends_before_it_is_asked_again_is_given_back_once(void **state)
{
    struct rig *rig = *state;
    struct rdy_stream other = {.fd = -1};
    int other_peer;

    rig_connect(rig);
    rig_start(rig, rig_poll_recv);
    rig->fake->disarm_error = -EBUSY;
    rig->fake->disarm_errors = 1;
    assert_int_equal(close(rig->peer), 0);
    rdy_stream_close(&rig->stream);
    assert_true(rdy_driver_turn(rdy_runtime_driver(rig->runtime), 0) >= 0);

    /* Another in its slot would be the one that is released. */
    rig_connect(rig);
    other = rig->stream;
    other_peer = rig->peer;
    rig_turn(rig);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 1);
    rdy_stream_close(&other);
    rig->stream.fd = -1;
    rig->peer = other_peer;
}

/* A watch that could not be ended for want of room goes on telling of room in the socket. */
static void watch_that_stays_does_not_send_twice(void **state)
{
    struct rig *rig = *state;
    char back[32];

    rig_connect(rig);
    rig_turn(rig);
    rig->fake->disarm_error = -EBUSY;
    rig->fake->disarm_errors = 1;
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    ops_of(rig)->is_deaf = true;
    rig_hold(rig, "once", 4);
    rig_run(rig, rig_poll_sends_held);
    rig_turn(rig);
    fake_push(rig->fake, rig->stream.fd, RDY_EV_OUT);
    rig_turn(rig);
    ops_of(rig)->is_deaf = false;
    rig_turn(rig);

    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), 4);
}

static int poll_sends_two(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(rdy_stream_poll_send(&rig->stream, task, &rig->held[i]), 0);
    rig->held_count = 0;
    return 0;
}

static void hold_two(struct rig *rig, const char *first, const char *second)
{
    rig->held[0] = rig_buf(rig, first, strlen(first));
    rig->held[1] = rig_buf(rig, second, strlen(second));
    rig->held_count = 2;
    rig_run(rig, poll_sends_two);
}

/* A kernel short of memory leaves requests in the queue: what they point to stays theirs. */
static void send_that_is_submitted_late_sends_its_own_bytes(void **state)
{
    struct rig *rig = *state;
    struct rdy_stream first;
    char back[32];
    int first_peer;

    ops_of(rig)->is_deaf = true;
    rig_connect(rig);
    hold_two(rig, "one", "two");
    rig_turn(rig);
    first = rig->stream;
    first_peer = rig->peer;
    rig_connect(rig);
    hold_two(rig, "three", "four");
    rig_turn(rig);
    ops_of(rig)->is_deaf = false;
    rig_turn(rig);

    assert_int_equal(recv(first_peer, back, sizeof(back), MSG_DONTWAIT), 6);
    assert_memory_equal(back, "onetwo", 6);
    assert_int_equal(recv(rig->peer, back, sizeof(back), MSG_DONTWAIT), 9);
    assert_memory_equal(back, "threefour", 9);
    rdy_stream_close(&first);
    assert_int_equal(close(first_peer), 0);
}

static void backend_that_takes_no_buffers_watches_instead(void **state)
{
    struct rig *rig = *state;

    ops_of(rig)->lend_error = -ENOMEM;
    rig_connect(rig);
    rig_say(rig, "plain", 5);
    rig_run(rig, rig_poll_recv);

    assert_int_equal(rig->result, 5);
    assert_false(rdy_completion_is_native(rig->runtime));
    assert_int_equal(rig_stats(rig).recvs_armed, 0);
}

/* Nothing comes from the kernel then: who is told of a free buffer before the wait is to run. */
static void starved_watcher_runs_when_a_buffer_is_back(void **state)
{
    struct rdy_driver_opts opts = {.buffers_count = 1, .buffer_size = 64};
    struct rig *rig = *state;

    rig_reopen(rig, &opts);
    ops_of(rig)->lend_error = -ENOMEM;
    rig_connect(rig);
    rig_say(rig, "x", 1);
    rig_run(rig, rig_poll_recv);
    rig_say(rig, "parked", 6);
    rig_start(rig, rig_poll_recv);
    assert_int_equal(rig->result, RDY_PENDING);
    rig_settle(rig);

    rdy_buf_release(&rig->held[--rig->held_count]);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, 6);
}

static int poll_reads_one(struct rdy_task *task, void *self)
{
    struct rig *rig = rig_of(self);

    rig->result = rdy_stream_poll_read(&rig->stream, task, rig->bytes, 1);
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* While somebody starves this is asked in each turn: it must not take a search. */
static void pool_knows_how_many_buffers_can_be_relieved(void **state)
{
    struct rig *rig = *state;
    struct rdy_buffer_pool *pool;

    rig_connect(rig);
    rig_say(rig, "arm", 3);
    rig_run(rig, rig_poll_recv);
    pool = &rdy_runtime_driver(rig->runtime)->completion->pool;
    assert_int_equal(pool->queued_count, 0); /* ours: it cannot be copied */
    for (int i = 0; i < 3; i++) {
        rig_say(rig, "abc", 3);
        rig_turn(rig);
    }
    assert_int_equal(pool->queued_count, 3);
    rig_run(rig, poll_reads_one); /* puts the rest back */
    assert_int_equal(pool->queued_count, 3);
    rig_run(rig, rig_poll_recv);
    assert_int_equal(pool->queued_count, 2);

    rdy_buffer_pool_relieve(pool);
    assert_int_equal(pool->queued_count, 0);
    assert_int_equal(pool->copies, 2);
    rig_run(rig, rig_poll_recv);
    assert_memory_equal(rig->held[2].data, "abc", 3);
}

/* The opposite of the order in which they were asked for. */
static void last_facts_in_reverse_order_free_everything(void **state)
{
    struct rig *rig = *state;
    struct rdy_stream other;
    struct rdy_task_id id;
    int other_peer;

    rig_connect(rig);
    id = spawn_test(rig->runtime, rig_poll_recv, NULL, rig);
    rig_turn(rig);
    assert_int_equal(rdy_task_abort(rig->runtime, id), 0);
    other = rig->stream;
    other_peer = rig->peer;
    rig_connect(rig);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rig_hold(rig, "reply", 5);
    rig_run(rig, rig_poll_sends_held);
    rig_start(rig, rig_poll_recv);

    ops_of(rig)->is_withholding = true;
    rdy_stream_close(&other);
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 2);
    fake_let_go(rig->fake, true);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
    assert_int_equal(close(other_peer), 0);
}

static void runtime_closes_over_operations_that_never_end(void **state)
{
    struct rig *rig = *state;

    rig_connect(rig);
    (void)spawn_test(rig->runtime, rig_poll_recv, NULL, rig);
    rig_hold(rig, "never", 5);
    ops_of(rig)->is_deaf = true;
    rig_start(rig, rig_poll_sends_held);
    ops_of(rig)->is_withholding = true;

    rdy_stream_close(&rig->stream);
    rig_abandon(rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_FAKE_ONLY(close_waits_for_a_last_fact_that_is_late),
        ON_FAKE_ONLY(data_that_arrives_while_leaving_goes_back_to_the_pool),
        ON_FAKE_ONLY(last_fact_that_comes_twice_is_refused_once),
        ON_FAKE_ONLY(receive_that_ends_after_each_fact_goes_on),
        ON_FAKE_ONLY(send_is_not_taken_for_done_too_early),
        ON_FAKE_ONLY(close_waits_for_a_send_that_stands_still),
        ON_FAKE_ONLY(receive_without_room_for_it_is_begun_later),
        ON_FAKE_ONLY(send_without_room_for_it_is_begun_later),
        ON_FAKE_ONLY(flush_hears_of_a_send_that_found_no_room_at_first),
        ON_FAKE_ONLY(cancel_without_room_for_it_is_asked_again),
        ON_FAKE_ONLY(cancel_of_a_waiting_send_is_asked_again),
        ON_FAKE_ONLY(shutdown_asks_a_waiting_send_to_stop_once),
        ON_FAKE_ONLY(receive_that_ends_before_it_is_asked_again_is_given_back_once),
        ON_FAKE_ONLY(watch_that_stays_does_not_send_twice),
        ON_FAKE_ONLY(send_that_is_submitted_late_sends_its_own_bytes),
        ON_FAKE_ONLY(backend_that_takes_no_buffers_watches_instead),
        ON_FAKE_ONLY(starved_watcher_runs_when_a_buffer_is_back),
        ON_FAKE_ONLY(pool_knows_how_many_buffers_can_be_relieved),
        ON_FAKE_ONLY(last_facts_in_reverse_order_free_everything),
        ON_FAKE_ONLY(runtime_closes_over_operations_that_never_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
