/* SPDX-License-Identifier: MIT */
/*
 * A stream's options, addresses and pending error; on both backends.
 */
#include "tests/support/connecting.h"

static const int families[] = {AF_INET, AF_INET6};

#define FAMILIES_COUNT 2

static struct pair pair;

/* A connection within this process: pair.client is ours, pair.peer is plain. */
static void open_connection(void **state, int family)
{
    struct target target;

    pair_open(&pair, state);
    target = target_that_accepts(family);
    assert_int_equal(rdy_stream_start_connect(&pair.client, pair.runtime,
                                              sockaddr_at(&target.address),
                                              target.address.addr_len),
                     0);
    (void)spawn_test(pair.runtime, poll_connects, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.result, 0);
    pair.peer = target_accept(&target);
    assert_true(pair.peer >= 0);
    target_close(&target);
}

static const struct {
    enum rdy_stream_option option;
    int value; /* another than the default */
    int value_read;
    int bad_low;
    int bad_high;
} rows[] = {
    {RDY_STREAM_NODELAY, 0, 0, -1, 2},
    {RDY_STREAM_QUICKACK, 0, 0, -1, 2},
    {RDY_STREAM_CORK, 1, 1, -1, 2},
    {RDY_STREAM_KEEPALIVE, 1, 1, -1, 2},
    {RDY_STREAM_KEEPALIVE_IDLE_S, 32767, 32767, 0, 32768},
    {RDY_STREAM_KEEPALIVE_INTERVAL_S, 5, 5, 0, 32768},
    {RDY_STREAM_KEEPALIVE_COUNT, 127, 127, 0, 128},
    {RDY_STREAM_LINGER_S, 0, 0, -2, 1},
    {RDY_STREAM_SEND_BUF, 32768, 65536, -1, -1},
    {RDY_STREAM_RECV_BUF, 32768, 65536, -1, -1},
    {RDY_STREAM_USER_TIMEOUT_MS, 9000, 9000, -1, -1},
    {RDY_STREAM_TOS, 0xb8, 0xb8, -1, 256},
    {RDY_STREAM_TTL, 17, 17, 0, 256},
    {RDY_STREAM_NOTSENT_LOWAT, 16384, 16384, -1, -1},
};

#define ROWS_COUNT (sizeof(rows) / sizeof(rows[0]))

static void options_read_back_and_refuse_what_is_out_of_range(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        open_connection(state, families[i]);
        for (size_t row = 0; row < ROWS_COUNT; row++) {
            enum rdy_stream_option option = rows[row].option;
            int value = -7;

            assert_int_equal(rdy_stream_get(&pair.client, option, &value), 0);
            assert_int_not_equal(value, rows[row].value_read);
            assert_int_equal(rdy_stream_set(&pair.client, option, rows[row].value), 0);
            assert_int_equal(rdy_stream_set(&pair.client, option, rows[row].bad_low), -EINVAL);
            assert_int_equal(rdy_stream_set(&pair.client, option, rows[row].bad_high), -EINVAL);
            assert_int_equal(rdy_stream_get(&pair.client, option, &value), 0);
            assert_int_equal(value, rows[row].value_read);
        }
        pair_close(&pair);
    }
    assert_int_equal(ROWS_COUNT, RDY_STREAM_NOTSENT_LOWAT + 1);
}

static void linger_is_switched_off_again(void **state)
{
    int value = 0;

    open_connection(state, AF_INET);
    assert_int_equal(rdy_stream_get(&pair.client, RDY_STREAM_LINGER_S, &value), 0);
    assert_int_equal(value, -1);
    assert_int_equal(rdy_stream_set(&pair.client, RDY_STREAM_LINGER_S, 0), 0);
    assert_int_equal(rdy_stream_set(&pair.client, RDY_STREAM_LINGER_S, -1), 0);
    assert_int_equal(rdy_stream_get(&pair.client, RDY_STREAM_LINGER_S, &value), 0);
    assert_int_equal(value, -1);
    pair_close(&pair);
}

static void close_with_linger_of_zero_resets(void **state)
{
    char byte;

    open_connection(state, AF_INET);
    assert_int_equal(rdy_stream_set(&pair.client, RDY_STREAM_LINGER_S, 0), 0);
    rdy_stream_close(&pair.client);
    let_driver_turn(&pair);
    assert_int_equal(recv(pair.peer, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, ECONNRESET);
    pair_close(&pair);

    open_connection(state, AF_INET);
    rdy_stream_close(&pair.client);
    let_driver_turn(&pair);
    assert_int_equal(recv(pair.peer, &byte, 1, MSG_DONTWAIT), 0);
    pair_close(&pair);
}

static void unix_streams_have_buffers_alone(void **state)
{
    int value = 42;

    pair_open(&pair, state);
    pair_unix(&pair);
    for (size_t row = 0; row < ROWS_COUNT; row++) {
        enum rdy_stream_option option = rows[row].option;
        bool is_buf = option == RDY_STREAM_SEND_BUF || option == RDY_STREAM_RECV_BUF;

        value = 42;
        assert_int_equal(rdy_stream_set(&pair.server, option, rows[row].value),
                         is_buf ? 0 : -EOPNOTSUPP);
        assert_int_equal(rdy_stream_get(&pair.server, option, &value), is_buf ? 0 : -EOPNOTSUPP);
        assert_int_equal(value, is_buf ? rows[row].value_read : 42);
    }
    pair_close(&pair);
}

static void what_is_no_option_or_no_stream_is_refused(void **state)
{
    enum rdy_stream_option beyond = RDY_STREAM_TTL;
    struct rdy_stream closed = {.fd = -1};
    struct sockaddr_storage addr;
    socklen_t addr_len = 7;
    int value = 42;

    open_connection(state, AF_INET);
    memset(&beyond, 0x7f, sizeof(beyond));
    assert_int_equal(rdy_stream_set(&pair.client, beyond, 1), -EINVAL);
    assert_int_equal(rdy_stream_get(&pair.client, beyond, &value), -EINVAL);
    pair_close(&pair);

    assert_int_equal(rdy_stream_set(&closed, RDY_STREAM_TTL, 1), -EBADF);
    assert_int_equal(rdy_stream_get(&closed, RDY_STREAM_TTL, &value), -EBADF);
    assert_int_equal(rdy_stream_take_error(&closed, &value), -EBADF);
    assert_int_equal(rdy_stream_local_address(&closed, &addr, &addr_len), -EBADF);
    assert_int_equal(rdy_stream_peer_address(&closed, &addr, &addr_len), -EBADF);
    assert_int_equal(value, 42);
    assert_int_equal(addr_len, 7);
}

/* An IPv6 socket's IPv4 traffic has a mark and a hop limit of its own: both are set. */
static void ipv6_stream_sets_its_ipv4_traffic_too(void **state)
{
    socklen_t size = sizeof(int);
    int value = 0;

    open_connection(state, AF_INET6);
    assert_int_equal(rdy_stream_set(&pair.client, RDY_STREAM_TOS, 0xb8), 0);
    assert_int_equal(rdy_stream_set(&pair.client, RDY_STREAM_TTL, 17), 0);
    assert_int_equal(getsockopt(pair.client.fd, IPPROTO_IP, IP_TOS, &value, &size), 0);
    assert_int_equal(value, 0xb8);
    assert_int_equal(getsockopt(pair.client.fd, IPPROTO_IP, IP_TTL, &value, &size), 0);
    assert_int_equal(value, 17);
    pair_close(&pair);
}

static void both_ends_agree_on_their_addresses(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        struct rdy_address ours = {0};
        struct rdy_address theirs = {0};
        struct rdy_address seen = {.addr_len = sizeof(seen.addr)};

        open_connection(state, families[i]);
        assert_int_equal(rdy_stream_local_address(&pair.client, &ours.addr, &ours.addr_len), 0);
        assert_int_equal(getpeername(pair.peer, sockaddr_at(&seen), &seen.addr_len), 0);
        assert_same_address(&ours, &seen);
        assert_int_equal(rdy_stream_peer_address(&pair.client, &theirs.addr, &theirs.addr_len), 0);
        seen.addr_len = sizeof(seen.addr);
        assert_int_equal(getsockname(pair.peer, sockaddr_at(&seen), &seen.addr_len), 0);
        assert_same_address(&theirs, &seen);
        pair_close(&pair);
    }
}

static void unix_stream_without_a_name_has_the_family_alone(void **state)
{
    struct rdy_address address = {0};

    pair_open(&pair, state);
    pair_unix(&pair);
    assert_int_equal(rdy_stream_local_address(&pair.server, &address.addr, &address.addr_len), 0);
    assert_int_equal(address.addr.ss_family, AF_UNIX);
    assert_int_equal(address.addr_len, sizeof(sa_family_t));
    assert_int_equal(rdy_stream_peer_address(&pair.server, &address.addr, &address.addr_len), 0);
    assert_int_equal(address.addr_len, sizeof(sa_family_t));
    pair_close(&pair);
}

/* The kernel tells an error once: who takes it here does not meet it at the next read. */
static void error_of_a_reset_is_taken_once(void **state)
{
    struct linger reset = {.l_onoff = 1};
    int error = 42;

    open_connection(state, AF_INET);
    assert_int_equal(rdy_stream_take_error(&pair.client, &error), 0);
    assert_int_equal(error, 0);
    assert_int_equal(setsockopt(pair.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    assert_int_equal(close(pair.peer), 0);
    pair.peer = -1;

    assert_int_equal(rdy_stream_take_error(&pair.client, &error), 0);
    assert_int_equal(error, -ECONNRESET);
    assert_int_equal(rdy_stream_take_error(&pair.client, &error), 0);
    assert_int_equal(error, 0);
    pair.server = pair.client;
    pair.client = (struct rdy_stream){.fd = -1};
    assert_int_equal(read_once(&pair), 0);
    pair_close(&pair);
}

static void failing_system_call_is_handed_on(void **state)
{
    struct sockaddr_storage addr;
    socklen_t addr_len = 7;
    int value = 42;

    open_connection(state, AF_INET);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        (void)rdy_sys_fail_nth(nth, ENOBUFS);
        assert_int_equal(rdy_stream_set(&pair.client, RDY_STREAM_TTL, 9), -ENOBUFS);
        (void)rdy_sys_fail_nth(nth, ENOBUFS);
        assert_int_equal(rdy_stream_get(&pair.client, RDY_STREAM_LINGER_S, &value), -ENOBUFS);
    }
    (void)rdy_sys_fail_nth(1, ENOBUFS);
    assert_int_equal(rdy_stream_take_error(&pair.client, &value), -ENOBUFS);
    (void)rdy_sys_fail_nth(1, ENOBUFS);
    assert_int_equal(rdy_stream_local_address(&pair.client, &addr, &addr_len), -ENOBUFS);
    (void)rdy_sys_fail_nth(1, ENOBUFS);
    assert_int_equal(rdy_stream_peer_address(&pair.client, &addr, &addr_len), -ENOBUFS);
    (void)rdy_sys_fail_nth(0, 0);
    assert_int_equal(value, 42);
    assert_int_equal(addr_len, 7);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(options_read_back_and_refuse_what_is_out_of_range),
        ON_BOTH(linger_is_switched_off_again),
        ON_BOTH(close_with_linger_of_zero_resets),
        ON_BOTH(unix_streams_have_buffers_alone),
        ON_BOTH(what_is_no_option_or_no_stream_is_refused),
        ON_BOTH(ipv6_stream_sets_its_ipv4_traffic_too),
        ON_BOTH(both_ends_agree_on_their_addresses),
        ON_BOTH(unix_stream_without_a_name_has_the_family_alone),
        ON_BOTH(error_of_a_reset_is_taken_once),
        ON_BOTH(failing_system_call_is_handed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
