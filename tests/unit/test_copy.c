/* SPDX-License-Identifier: MIT */
/*
 * Copies that carry: every byte, both ways, past ends and slow receivers. Each test on io_uring and
 * on epoll, by copying and by splicing.
 */
#include "tests/support/proxy.h"

static_assert(sizeof(struct rdy_copy_both) <= 192, "what an idle joined pair costs");

static void bytes_go_both_ways_and_each_end_is_told(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        proxy_open(&proxy, state, &proxy_modes[mode]);
        proxy_carry(&proxy, &proxy.near, &proxy.far, 5);
        proxy_carry(&proxy, &proxy.far, &proxy.near, 7);
        proxy_carry(&proxy, &proxy.near, &proxy.far, 100000);
        plain_end(&proxy.near);
        proxy_hear_end(&proxy, &proxy.far);
        assert_int_equal(proxy.call.result, RDY_PENDING);
        plain_end(&proxy.far);

        assert_int_equal(call_finish(&proxy.call), 0);

        proxy_hear_end(&proxy, &proxy.near);
        assert_int_equal(rdy_copy_bytes(&proxy.both.a_to_b), 100005);
        assert_int_equal(rdy_copy_bytes(&proxy.both.b_to_a), 7);
        /* Asked again it says the same, and holds nothing. */
        assert_int_equal(call_run(proxy.runtime, joins_both, &proxy), 0);
        assert_int_equal(proxy_stats(&proxy).buffers_live, 0);
        proxy_close(&proxy);
    }
}

/* The way of a request that ends before its long answer begins, and of the answer. */
static void one_way_goes_on_when_the_other_has_ended(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (int way = 0; way < 2; way++) {
            struct plain *first = way ? &proxy.far : &proxy.near;
            struct plain *second = way ? &proxy.near : &proxy.far;

            proxy_open(&proxy, state, &proxy_modes[mode]);
            proxy_carry(&proxy, first, second, 10);
            plain_end(first);
            proxy_hear_end(&proxy, second);

            proxy_carry(&proxy, second, first, 1u << 20);
            assert_int_equal(proxy.call.result, RDY_PENDING);
            plain_end(second);
            proxy_hear_end(&proxy, first);
            assert_int_equal(call_finish(&proxy.call), 0);
            proxy_close(&proxy);
        }
    }
}

#define LONG_BYTES ((uint64_t)100 << 20)

static void hundred_megabytes_arrive_as_they_were_sent(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        proxy_open(&proxy, state, &proxy_modes[mode]);
        proxy_carry(&proxy, &proxy.near, &proxy.far, LONG_BYTES);
        plain_end(&proxy.near);
        plain_end(&proxy.far);
        proxy_hear_end(&proxy, &proxy.far);

        assert_int_equal(call_finish(&proxy.call), 0);
        assert_int_equal(rdy_copy_bytes(&proxy.both.a_to_b), LONG_BYTES);
        if (proxy_modes[mode].is_splice)
            assert_true(proxy_stats(&proxy).bytes_spliced >= LONG_BYTES / 2);
        else
            assert_int_equal(proxy_stats(&proxy).bytes_copied, LONG_BYTES);
        proxy_close(&proxy);
    }
}

/*
 * A receiver that does not read blocks its own direction: what is held for it is bounded, and the
 * other direction flows.
 */
static void slow_receiver_blocks_one_way_and_within_bounds(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        struct rdy_copy_opts opts = proxy_modes[mode];

        opts.held_max = 100000;
        proxy_open(&proxy, state, &opts);
        proxy_fill(&proxy, &proxy.near);
        if (opts.is_splice) {
            assert_int_equal(proxy_stats(&proxy).buffers_live, 0);
            assert_int_equal(proxy_stats(&proxy).pipes_live, 1);
        } else {
            assert_int_equal(proxy_stats(&proxy).buffers_live, 1);
            assert_int_equal(proxy_stats(&proxy).buffer_bytes, 100000);
        }

        proxy_carry(&proxy, &proxy.far, &proxy.near, 8u << 20);
        assert_int_equal(proxy.far.got, 0);
        assert_true(proxy_stats(&proxy).buffer_bytes <= 2 * 100000);
        assert_true(proxy_stats(&proxy).pipes_live <= 2);

        /* At last it reads: everything comes, in order, and the memory goes. */
        for (int i = 0; i < ROUNDS_MAX && proxy.far.got < proxy.near.sent; i++) {
            while (plain_receive(&proxy.far))
                ;
            take_turns(proxy.runtime, 2);
        }
        assert_int_equal(proxy.far.got, proxy.near.sent);
        assert_int_equal(proxy_stats(&proxy).buffers_live, 0);
        assert_int_equal(proxy_stats(&proxy).pipes_live, proxy_stats(&proxy).pipes_spare);
        assert_int_equal(rdy_task_abort(proxy.runtime, proxy.call.id), 0);
        proxy_close(&proxy);
    }
}

/* Reads go on while a write is blocked, until the buffer is full: the sender gets rid of more. */
static void reads_go_on_while_a_write_is_blocked(void **state)
{
    static struct proxy small;
    static struct proxy large;
    struct rdy_copy_opts opts = proxy_modes[0];
    int buf_size = 16384;

    proxy_connect(&small, state, false);
    proxy_connect(&large, state, false);
    opts.held_max = 1024;
    proxy_join(&small, &opts);
    opts.held_max = 1u << 20;
    proxy_join(&large, &opts);
    /* Little room on the way out, so that what is held is what decides. */
    for (int i = 0; i < 2; i++) {
        struct proxy *proxy = i ? &large : &small;

        assert_int_equal(
            setsockopt(proxy_b(proxy)->fd, SOL_SOCKET, SO_SNDBUF, &buf_size, sizeof(buf_size)), 0);
        assert_int_equal(
            setsockopt(proxy->far.fd, SOL_SOCKET, SO_RCVBUF, &buf_size, sizeof(buf_size)), 0);
        proxy_fill(proxy, &proxy->near);
        assert_int_equal(rdy_task_abort(proxy->runtime, proxy->call.id), 0);
    }
    assert_true(small.both.a_to_b.held_end <= 1024);
    assert_int_equal(large.both.a_to_b.held_end, 1u << 20);
    assert_true(large.near.sent > small.near.sent + (512u << 10));
    rdy_copy_both_close(&small.both);
    rdy_copy_both_close(&large.both);
    proxy_close(&small);
    proxy_close(&large);
}

/* The sender's end is seen, and told, although it is behind data that is still held. */
static void end_behind_held_data_is_told_after_it(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        uint64_t sent;

        proxy_open(&proxy, state, &proxy_modes[mode]);
        proxy_fill(&proxy, &proxy.near);
        sent = proxy.near.sent;
        plain_end(&proxy.near);
        take_turns(proxy.runtime, 5);
        assert_int_equal(proxy.call.result, RDY_PENDING);

        proxy_hear_end(&proxy, &proxy.far);
        assert_int_equal(proxy.far.got, sent);
        plain_end(&proxy.far);
        assert_int_equal(call_finish(&proxy.call), 0);
        proxy_close(&proxy);
    }
}

/* 100 idle pairs: no buffer, and all of them the one pipe that the first of them tried with. */
static void idle_pairs_hold_nothing(void **state)
{
    static struct proxy proxies[100];

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (size_t i = 0; i < 100; i++)
            proxy_connect(&proxies[i], state, false);
        for (size_t i = 0; i < 100; i++)
            proxy_join(&proxies[i], &proxy_modes[mode]);
        for (size_t i = 0; i < 100; i++)
            proxy_carry(&proxies[i], &proxies[i].near, &proxies[i].far, 1000);
        assert_int_equal(proxy_stats(&proxies[0]).buffers_taken, 0);
        assert_int_equal(proxy_stats(&proxies[0]).pipes_live, mode);
        assert_int_equal(proxy_stats(&proxies[0]).pipes_spare, mode);
        assert_int_equal(proxy_stats(&proxies[0]).scratch_bytes, RDY_COPY_SCRATCH);
        for (size_t i = 0; i < 100; i++) {
            assert_int_equal(rdy_task_abort(proxies[i].runtime, proxies[i].call.id), 0);
            proxy_close(&proxies[i]);
        }
    }
}

/* --- one direction --- */

static void one_way_copy_leaves_the_receiver_open(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        proxy_connect(&proxy, state, false);
        assert_int_equal(
            rdy_copy_open(&proxy.copy, proxy_a(&proxy), proxy_b(&proxy), &proxy_modes[mode]), 0);
        call_start(&proxy.call, proxy.runtime, copies_one_way, &proxy);
        proxy_carry(&proxy, &proxy.near, &proxy.far, 300000);
        plain_end(&proxy.near);

        assert_int_equal(call_finish(&proxy.call), 0);

        assert_int_equal(rdy_copy_bytes(&proxy.copy), 300000);
        assert_false(plain_receive(&proxy.far));
        assert_false(proxy.far.is_over);
        assert_int_equal(call_run(proxy.runtime, copies_one_way, &proxy), 0);
        proxy_close(&proxy);
    }
}

static void stream_copied_to_itself_is_an_echo(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (int is_unix = 0; is_unix < 2; is_unix++) {
            proxy_connect(&proxy, state, is_unix);
            assert_int_equal(
                rdy_copy_open(&proxy.copy, proxy_a(&proxy), proxy_a(&proxy), &proxy_modes[mode]),
                0);
            call_start(&proxy.call, proxy.runtime, copies_one_way, &proxy);
            for (int i = 0; i < 50; i++)
                proxy_carry(&proxy, &proxy.near, &proxy.near, 10000);
            plain_end(&proxy.near);
            assert_int_equal(call_finish(&proxy.call), 0);
            assert_int_equal(rdy_copy_bytes(&proxy.copy), 500000);
            proxy_close(&proxy);
        }
    }
}

/* Given up at RDY_PENDING, with data in hand, and taken up by another task. */
static void copy_that_was_given_up_goes_on_where_it_was(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        proxy_open(&proxy, state, &proxy_modes[mode]);
        for (int i = 0; i < 5; i++) {
            proxy_fill(&proxy, &proxy.near);
            assert_int_equal(rdy_task_abort(proxy.runtime, proxy.call.id), 0);
            while (plain_receive(&proxy.far))
                ;
            call_start(&proxy.call, proxy.runtime, joins_both, &proxy);
        }
        plain_end(&proxy.near);
        plain_end(&proxy.far);
        proxy_hear_end(&proxy, &proxy.far);
        assert_int_equal(proxy.far.got, proxy.near.sent);
        assert_int_equal(call_finish(&proxy.call), 0);
        proxy_close(&proxy);
    }
}

/* --- what is refused --- */

static void bad_options_are_refused_with_nothing_written(void **state)
{
    static struct proxy proxy;
    struct rdy_copy_opts opts = proxy_modes[0];

    proxy_connect(&proxy, state, false);
    opts.size++;
    assert_int_equal(rdy_copy_open(&proxy.copy, proxy_a(&proxy), proxy_b(&proxy), &opts), -EINVAL);
    assert_int_equal(rdy_copy_both_open(&proxy.both, proxy_a(&proxy), proxy_b(&proxy), &opts),
                     -EINVAL);
    opts.size--;
    opts.held_max = (1u << 20) + 1;
    assert_int_equal(rdy_copy_open(&proxy.copy, proxy_a(&proxy), proxy_b(&proxy), &opts), -EINVAL);
    assert_int_equal(rdy_copy_both_open(&proxy.both, proxy_a(&proxy), proxy_a(&proxy), NULL),
                     -EINVAL);

    assert_null(proxy.copy.from);
    assert_int_equal(call_run(proxy.runtime, copies_one_way, &proxy), -EBADF);
    assert_int_equal(call_run(proxy.runtime, joins_both, &proxy), -EBADF);
    assert_int_equal(proxy_stats(&proxy).scratch_bytes, 0);
    proxy_close(&proxy);
}

static void closed_stream_ends_a_copy_with_ebadf(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (int i = 0; i < 2; i++) {
            proxy_connect(&proxy, state, false);
            assert_true(plain_send(&proxy.near, 5));
            take_turns(proxy.runtime, 3);
            rdy_stream_close(i ? proxy_a(&proxy) : proxy_b(&proxy));
            assert_int_equal(rdy_copy_both_open(&proxy.both, proxy_a(&proxy), proxy_b(&proxy),
                                                &proxy_modes[mode]),
                             0);
            assert_int_equal(call_run(proxy.runtime, joins_both, &proxy), -EBADF);
            assert_int_equal(call_run(proxy.runtime, joins_both, &proxy), -EBADF);
            proxy_close(&proxy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(bytes_go_both_ways_and_each_end_is_told),
        ON_BOTH(one_way_goes_on_when_the_other_has_ended),
        ON_BOTH(hundred_megabytes_arrive_as_they_were_sent),
        ON_BOTH(slow_receiver_blocks_one_way_and_within_bounds),
        ON_BOTH(reads_go_on_while_a_write_is_blocked),
        ON_BOTH(end_behind_held_data_is_told_after_it),
        ON_BOTH(idle_pairs_hold_nothing),
        ON_BOTH(one_way_copy_leaves_the_receiver_open),
        ON_BOTH(stream_copied_to_itself_is_an_echo),
        ON_BOTH(copy_that_was_given_up_goes_on_where_it_was),
        ON_BOTH(bad_options_are_refused_with_nothing_written),
        ON_BOTH(closed_stream_ends_a_copy_with_ebadf),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
