/* SPDX-License-Identifier: MIT */
/*
 * Streams on real loopback connections, each test on io_uring and on epoll.
 */
#include "engine/sys.h"
#include "tests/support/pair.h"

#include <errno.h>
#include <rdy/stream_io.h>

#include "tests/support/pattern.h"

static int poll_echoes(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct pair *pair = my->test;

    RDY_BEGIN(&my->co);
    for (;;) {
        RDY_AWAIT(&my->co, (pair->result = rdy_stream_poll_read(&pair->server, task, pair->buf,
                                                                sizeof(pair->buf))));
        if (pair->result <= 0)
            break;
        pair->have = 0;
        while (pair->have < (size_t)pair->result) {
            ssize_t count;

            RDY_AWAIT(&my->co,
                      (count = rdy_stream_poll_write(&pair->server, task, pair->buf + pair->have,
                                                     (size_t)pair->result - pair->have)));
            assert_true(count > 0);
            pair->have += (size_t)count;
        }
    }
    RDY_END(&my->co);
    assert_int_equal(pair->result, 0);
    assert_int_equal(rdy_stream_shutdown(&pair->server, SHUT_WR), 0);
    return 0;
}

#define TALK_BYTES (4u << 20)

/* Sends a pattern, half closes, and checks what comes back; reads while it cannot write. */
struct talker {
    struct rdy_stream stream;
    size_t sent;
    size_t got;
    bool is_over;
};

static ssize_t talker_write(struct talker *talker, struct rdy_task *task)
{
    unsigned char chunk[10007];
    size_t len = TALK_BYTES - talker->sent;
    ssize_t count;

    if (len == 0)
        return RDY_PENDING;
    if (len > sizeof(chunk))
        len = sizeof(chunk);
    pattern_fill(chunk, len, talker->sent);
    count = rdy_stream_poll_write(&talker->stream, task, chunk, len);
    if (count <= 0)
        return count;
    talker->sent += (size_t)count;
    if (talker->sent == TALK_BYTES)
        assert_int_equal(rdy_stream_shutdown(&talker->stream, SHUT_WR), 0);
    return count;
}

static ssize_t talker_read(struct talker *talker, struct rdy_task *task)
{
    unsigned char chunk[9001];
    ssize_t count = rdy_stream_poll_read(&talker->stream, task, chunk, sizeof(chunk));

    for (ssize_t i = 0; i < count; i++)
        assert_int_equal(chunk[i], pattern_at(talker->got + (size_t)i));
    if (count > 0)
        talker->got += (size_t)count;
    return count;
}

static int poll_talks(struct rdy_task *task, void *self)
{
    struct talker *talker = ((struct test_task *)self)->test;

    for (;;) {
        ssize_t wrote = talker_write(talker, task);
        ssize_t got = talker_read(talker, task);

        if (got == 0) {
            talker->is_over = true;
            return 0;
        }
        assert_true(wrote > 0 || wrote == RDY_PENDING);
        assert_true(got > 0 || got == RDY_PENDING);
        if (wrote == RDY_PENDING && got == RDY_PENDING)
            return RDY_PENDING;
    }
}

static void talk(struct pair *pair, struct talker *talker)
{
    (void)spawn_test(pair->runtime, poll_echoes, NULL, pair);
    (void)spawn_test(pair->runtime, poll_talks, NULL, talker);

    assert_int_equal(rdy_runtime_run(pair->runtime), 0);

    assert_true(talker->is_over);
    assert_int_equal(talker->sent, TALK_BYTES);
    assert_int_equal(talker->got, TALK_BYTES);
    rdy_stream_close(&talker->stream);
}

/* Full buffers in both directions, half close at the end. */
static void unix_pair_echoes_every_byte(void **state)
{
    static struct pair pair;
    struct talker talker = {0};

    pair_open(&pair, state);
    pair_unix(&pair);
    assert_int_equal(fcntl(pair.peer, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(rdy_stream_from_fd(&talker.stream, pair.runtime, pair.peer), 0);
    pair.peer = -1;

    talk(&pair, &talker);

    pair_close(&pair);
}

static void tcp_connection_echoes_every_byte(void **state)
{
    static struct pair pair;
    struct talker talker = {0};
    struct sockaddr_storage addr;
    socklen_t addr_len = 0;

    pair_open(&pair, state);
    addr = pair_listen(&pair, &addr_len);
    assert_int_equal(
        rdy_stream_start_connect(&pair.client, pair.runtime, (struct sockaddr *)&addr, addr_len),
        0);
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    (void)spawn_test(pair.runtime, poll_connects, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.result, 0);
    talker.stream = pair.client;
    pair.client.fd = -1;

    talk(&pair, &talker);

    pair_close(&pair);
}

/* A short read proves a TCP socket drained: the read that would only say EAGAIN is saved. */
static void short_read_of_tcp_clears_readable(void **state)
{
    static struct pair pair;

    pair_open(&pair, state);
    pair_accept(&pair);
    say(pair.peer, "hello");
    let_driver_turn(&pair);
    assert_true(is_cached(&pair.server, RDY_INTEREST_READ, RDY_READABLE));

    assert_int_equal(read_once(&pair), 5);

    assert_false(is_cached(&pair.server, RDY_INTEREST_READ, RDY_READABLE));
    pair_close(&pair);
}

/* A read that filled the buffer proves nothing, and neither does one of a Unix socket. */
static void other_reads_do_not_clear_readable(void **state)
{
    static struct pair pair;
    static char block[sizeof(pair.buf)];

    pair_open(&pair, state);
    pair_accept(&pair);
    assert_int_equal(send(pair.peer, block, sizeof(block), 0), sizeof(block));
    let_driver_turn(&pair);
    while (read_once(&pair) < (ssize_t)sizeof(block))
        assert_int_equal(send(pair.peer, block, sizeof(block), 0), sizeof(block));
    assert_true(is_cached(&pair.server, RDY_INTEREST_READ, RDY_READABLE));
    pair_close(&pair);

    pair_open(&pair, state);
    pair_unix(&pair);
    say(pair.peer, "hello");
    let_driver_turn(&pair);
    assert_int_equal(read_once(&pair), 5);
    assert_true(is_cached(&pair.server, RDY_INTEREST_READ, RDY_READABLE));
    pair_close(&pair);
}

/* Reads until it has `have` bytes in all. */
static int poll_reads_until_have(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);

    while ((size_t)pair->result < pair->have) {
        ssize_t count = rdy_stream_poll_read(&pair->server, task, pair->buf + pair->result,
                                             sizeof(pair->buf) - (size_t)pair->result);

        if (count == RDY_PENDING)
            return RDY_PENDING;
        assert_true(count > 0);
        pair->result += count;
    }
    return 0;
}

/* The peer has sent "abc", an urgent byte, and "efg", and the driver has heard of all of it. */
static void open_with_a_mark(struct pair *pair, void **state)
{
    pair_open(pair, state);
    pair_accept(pair);
    say(pair->peer, "abc");
    assert_int_equal(send(pair->peer, "d", 1, MSG_OOB), 1);
    say(pair->peer, "efg");
    let_driver_turn(pair);
}

/*
 * A read stops at the urgent mark although more data is there, and no event follows: whoever takes
 * that short read for "drained" waits for ever.
 */
static void urgent_mark_hides_nothing(void **state)
{
    static struct pair pair;

    open_with_a_mark(&pair, state);

    pair.result = 0;
    pair.have = 6;
    (void)spawn_test(pair.runtime, poll_reads_until_have, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    assert_memory_equal(pair.buf, "abcefg", 6);
    pair_close(&pair);
}

/* Reads up to the mark; what comes next says EAGAIN once. */
static int poll_reads_amid_a_signal(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);
    ssize_t count = rdy_stream_poll_read(&pair->server, task, pair->buf, sizeof(pair->buf));

    if (count == RDY_PENDING)
        return RDY_PENDING;
    assert_int_equal(count, 3);
    (void)rdy_sys_fail_nth(1, EAGAIN);
    pair->result = rdy_stream_poll_read(&pair->server, task, pair->buf, sizeof(pair->buf));
    (void)rdy_sys_fail_nth(0, 0);
    return 0;
}

/* At a mark Linux says that while a signal is pending; tests/stress/test_urgent.c sends such. */
static void refusal_at_an_urgent_mark_hides_nothing(void **state)
{
    static struct pair pair;

    open_with_a_mark(&pair, state);

    (void)spawn_test(pair.runtime, poll_reads_amid_a_signal, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.result, 3);
    assert_memory_equal(pair.buf, "efg", 3);
    pair_close(&pair);
}

/* The same with the mark coming while the reader already waits, and plain data after it. */
static int poll_sends_urgent(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct pair *pair = my->test;

    RDY_BEGIN(&my->co);
    RDY_YIELD(&my->co, task);
    say(pair->peer, "abc");
    RDY_YIELD(&my->co, task);
    say(pair->peer, "xyz");
    assert_int_equal(send(pair->peer, "d", 1, MSG_OOB), 1);
    say(pair->peer, "efg");
    RDY_YIELD(&my->co, task);
    say(pair->peer, "hij");
    RDY_END(&my->co);
    return 0;
}

static void urgent_mark_hides_nothing_from_a_waiting_reader(void **state)
{
    static struct pair pair;

    pair_open(&pair, state);
    pair_accept(&pair);
    pair.result = 0;
    pair.have = 12;
    (void)spawn_test(pair.runtime, poll_reads_until_have, NULL, &pair);
    (void)spawn_test(pair.runtime, poll_sends_urgent, NULL, &pair);

    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    assert_memory_equal(pair.buf, "abcxyzefghij", 12);
    /* The mark is behind, but a stream that had one trusts no short read: only EAGAIN clears. */
    say(pair.peer, "hello");
    let_driver_turn(&pair);
    assert_int_equal(read_once(&pair), 5);
    assert_true(is_cached(&pair.server, RDY_INTEREST_READ, RDY_READABLE));
    assert_int_equal(rdy_stream_try_read(&pair.server, pair.buf, sizeof(pair.buf)), -EAGAIN);
    assert_false(is_cached(&pair.server, RDY_INTEREST_READ, RDY_READABLE));
    pair_close(&pair);
}

static void end_of_stream_comes_after_the_last_bytes(void **state)
{
    static struct pair pair;

    for (int is_unix = 0; is_unix < 2; is_unix++) {
        pair_open(&pair, state);
        if (is_unix)
            pair_unix(&pair);
        else
            pair_accept(&pair);
        say(pair.peer, "bye");
        assert_int_equal(shutdown(pair.peer, SHUT_WR), 0);
        let_driver_turn(&pair);

        assert_int_equal(read_once(&pair), 3);
        assert_true(is_cached(&pair.server, RDY_INTEREST_READ, RDY_READABLE));
        assert_int_equal(read_once(&pair), 0);
        assert_int_equal(read_once(&pair), 0);
        pair_close(&pair);
    }
}

static int poll_writes_once(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);
    ssize_t count = rdy_stream_poll_write(&pair->server, task, "x", 1);

    if (count == RDY_PENDING)
        return RDY_PENDING;
    pair->result = count;
    return 0;
}

static ssize_t write_once(struct pair *pair)
{
    (void)spawn_test(pair->runtime, poll_writes_once, NULL, pair);
    assert_int_equal(rdy_runtime_run(pair->runtime), 0);
    return pair->result;
}

static void half_closed_stream_still_writes(void **state)
{
    static struct pair pair;
    char byte = 0;

    pair_open(&pair, state);
    pair_accept(&pair);
    assert_int_equal(shutdown(pair.peer, SHUT_WR), 0);
    assert_int_equal(read_once(&pair), 0);

    assert_int_equal(write_once(&pair), 1);

    assert_int_equal(read(pair.peer, &byte, 1), 1);
    assert_int_equal(byte, 'x');
    pair_close(&pair);
}

/* SIGPIPE would end this program. */
static void reset_ends_reads_and_writes_without_a_signal(void **state)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    static struct pair pair;

    pair_open(&pair, state);
    pair_accept(&pair);
    assert_int_equal(setsockopt(pair.peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    assert_int_equal(close(pair.peer), 0);
    pair.peer = -1;

    assert_int_equal(read_once(&pair), -ECONNRESET);
    assert_int_equal(write_once(&pair), -EPIPE);
    assert_int_equal(rdy_stream_shutdown(&pair.server, SHUT_WR), 0);
    assert_int_equal(rdy_stream_shutdown(&pair.server, SHUT_RDWR), 0);
    pair_close(&pair);
}

static void closed_stream_answers_ebadf(void **state)
{
    static struct pair pair;
    struct rdy_stream none = {.fd = -1};

    pair_open(&pair, state);
    assert_int_equal(read_once(&pair), -EBADF);
    assert_int_equal(write_once(&pair), -EBADF);
    assert_int_equal(rdy_stream_shutdown(&none, SHUT_RD), -EBADF);
    rdy_stream_close(&none);
    rdy_stream_close(&none);
    assert_int_equal(none.fd, -1);
}

/* The peer of this one writes without end, within the poll, so that there is always data. */
static int poll_drinks_from_the_hose(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);
    char byte[64] = {0};

    pair->polls++;
    for (;;) {
        ssize_t count;

        if (pair->step != 0)
            return 0;
        assert_int_equal(send(pair->peer, byte, sizeof(byte), 0), sizeof(byte));
        count = rdy_stream_poll_read(&pair->server, task, byte, sizeof(byte));
        if (count == RDY_PENDING)
            return RDY_PENDING;
        assert_true(count > 0);
        pair->have++;
    }
}

static int poll_answers_50_pings(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct pair *pair = my->test;
    char byte;

    RDY_BEGIN(&my->co);
    for (pair->have = 0; pair->have < 50; pair->have++) {
        assert_int_equal(send(pair->peer, "p", 1, 0), 1);
        RDY_AWAIT(&my->co, (pair->result = rdy_stream_poll_read(&pair->server, task, &byte, 1)));
        assert_int_equal(pair->result, 1);
    }
    RDY_END(&my->co);
    pair->client.flags = 1;
    return 0;
}

struct contest {
    struct pair *quiet;
    struct pair *hose;
};

static int poll_ends_the_contest(struct rdy_task *task, void *self)
{
    struct contest *contest = ((struct test_task *)self)->test;

    rdy_task_defer(task);
    if (contest->quiet->client.flags == 0)
        return RDY_PENDING;
    contest->hose->step = 1;
    return 0;
}

static void connection_with_endless_data_does_not_starve_another(void **state)
{
    static struct pair hose;
    static struct pair quiet;
    struct contest contest = {.quiet = &quiet, .hose = &hose};

    pair_open(&hose, state);
    pair_accept(&hose);
    hose.polls = 0;
    pair_open(&quiet, state);
    pair_accept(&quiet);
    (void)spawn_test(hose.runtime, poll_drinks_from_the_hose, NULL, &hose);
    (void)spawn_test(hose.runtime, poll_answers_50_pings, NULL, &quiet);
    (void)spawn_test(hose.runtime, poll_ends_the_contest, NULL, &contest);

    assert_int_equal(rdy_runtime_run(hose.runtime), 0);

    /* Each ping takes a turn or two, and the hose gets one poll, of one budget, a turn. */
    assert_int_equal(quiet.have, 50);
    assert_true(hose.polls <= 50 * 4);
    assert_true(hose.have <= (size_t)hose.polls * 128);
    assert_true(runtime_stats(hose.runtime).budget_yields > 0);
    pair_close(&hose);
    quiet.client.fd = -1;
    pair_close(&quiet);
}

static void stream_drop(void *self)
{
    rdy_stream_close(&pair_of(self)->server);
}

static void aborted_reader_leaves_nothing_behind(void **state)
{
    static struct pair pair;
    struct rdy_task_id id;
    char byte;

    pair_open(&pair, state);
    pair_accept(&pair);
    rdy_listener_close(&pair.listener);
    id = spawn_test(pair.runtime, poll_reads_once, stream_drop, &pair);
    let_driver_turn(&pair);
    (void)rdy_task_abort(pair.runtime, id);
    let_driver_turn(&pair);

    assert_int_equal(read(pair.peer, &byte, 1), 0);
    assert_int_equal(driver_stats(pair.runtime).entries_live, 0);
    assert_int_equal(driver_stats(pair.runtime).cancels_pending, 0);
    pair_close(&pair);
}

static void runtime_with_live_sockets_closes_without_a_leak(void **state)
{
    struct runtime_fixture *fixture = *state;
    static struct pair pair;
    int before;
    char byte;

    rdy_runtime_close(fixture->runtime);
    before = descriptors_count();
    fixture->runtime = runtime_open(fixture->backend);
    pair_open(&pair, state);
    pair_accept(&pair);
    rdy_listener_close(&pair.listener);
    (void)spawn_test(pair.runtime, poll_reads_once, stream_drop, &pair);

    rdy_runtime_close(fixture->runtime);
    fixture->runtime = NULL;

    assert_int_equal(read(pair.peer, &byte, 1), 0);
    assert_int_equal(close(pair.peer), 0);
    assert_int_equal(descriptors_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(unix_pair_echoes_every_byte),
        ON_BOTH(tcp_connection_echoes_every_byte),
        ON_BOTH(short_read_of_tcp_clears_readable),
        ON_BOTH(other_reads_do_not_clear_readable),
        ON_BOTH(urgent_mark_hides_nothing),
        ON_BOTH(refusal_at_an_urgent_mark_hides_nothing),
        ON_BOTH(urgent_mark_hides_nothing_from_a_waiting_reader),
        ON_BOTH(end_of_stream_comes_after_the_last_bytes),
        ON_BOTH(half_closed_stream_still_writes),
        ON_BOTH(reset_ends_reads_and_writes_without_a_signal),
        ON_BOTH(closed_stream_answers_ebadf),
        ON_BOTH(connection_with_endless_data_does_not_starve_another),
        ON_BOTH(aborted_reader_leaves_nothing_behind),
        ON_BOTH(runtime_with_live_sockets_closes_without_a_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
