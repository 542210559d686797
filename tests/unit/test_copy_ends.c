/* SPDX-License-Identifier: MIT */
/*
 * Copies that end otherwise: by a reset, by an abort in whatever state, by peers that were gone
 * before they began; and copies that never end, which must let others run. Each test on io_uring
 * and on epoll, by copying and by splicing.
 */
#include "tests/support/proxy.h"

/* --- errors --- */

static void reset_of_either_side_ends_both_directions(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (int side = 0; side < 2; side++) {
            proxy_open(&proxy, state, &proxy_modes[mode]);
            proxy_carry(&proxy, &proxy.near, &proxy.far, 1000);
            proxy_carry(&proxy, &proxy.far, &proxy.near, 1000);
            plain_reset(side ? &proxy.far : &proxy.near);

            assert_int_equal(call_finish(&proxy.call), -ECONNRESET);

            assert_int_equal(call_run(proxy.runtime, joins_both, &proxy), -ECONNRESET);
            assert_int_equal(rdy_copy_bytes(&proxy.both.a_to_b), 1000);
            assert_int_equal(rdy_copy_bytes(&proxy.both.b_to_a), 1000);
            proxy_close(&proxy);
        }
    }
}

/* The receiver is gone while data is held for it. */
static void reset_of_a_slow_receiver_ends_the_wait_for_it(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        proxy_open(&proxy, state, &proxy_modes[mode]);
        proxy_fill(&proxy, &proxy.near);
        plain_reset(&proxy.far);

        assert_true(call_finish(&proxy.call) == -ECONNRESET || proxy.call.result == -EPIPE);

        /* Also what was held is gone, before anybody closes the copy. */
        assert_int_equal(proxy_stats(&proxy).buffers_live, 0);
        assert_int_equal(proxy_stats(&proxy).pipes_live, proxy_stats(&proxy).pipes_spare);
        proxy_close(&proxy);
    }
}

/* The sender is gone while its data is held: heard at once, or when the receiver has read. */
static void reset_of_the_sender_behind_a_slow_receiver_is_heard(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        proxy_open(&proxy, state, &proxy_modes[mode]);
        proxy_fill(&proxy, &proxy.near);
        plain_reset(&proxy.near);
        for (int i = 0; i < ROUNDS_MAX && proxy.call.result == RDY_PENDING; i++) {
            take_turns(proxy.runtime, 2);
            (void)plain_receive(&proxy.far);
        }
        assert_int_equal(proxy.call.result, -ECONNRESET);
        proxy_close(&proxy);
    }
}

/* A half that has ended well does not hide what happens to the other. */
static void reset_after_a_half_close_is_an_error_still(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        proxy_open(&proxy, state, &proxy_modes[mode]);
        proxy_carry(&proxy, &proxy.near, &proxy.far, 1000);
        plain_end(&proxy.near);
        proxy_hear_end(&proxy, &proxy.far);
        plain_reset(&proxy.far);
        assert_int_equal(call_finish(&proxy.call), -ECONNRESET);
        proxy_close(&proxy);
    }
}

static void peers_that_close_at_once_give_an_answer_at_once(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (int way = 0; way < 8; way++) {
            ssize_t result;

            proxy_connect(&proxy, state, false);
            if (way & 4)
                assert_true(plain_send(&proxy.near, 100000));
            if (way & 1)
                plain_reset(&proxy.near);
            else
                plain_close(&proxy.near);
            if (way & 2)
                plain_reset(&proxy.far);
            else
                plain_close(&proxy.far);
            proxy_join(&proxy, &proxy_modes[mode]);

            result = call_finish(&proxy.call);

            assert_true(result == 0 || result == -ECONNRESET || result == -EPIPE);
            if (way == 0)
                assert_int_equal(result, 0);
            if (way & 3)
                assert_true(result < 0);
            proxy_close(&proxy);
        }
    }
}

/* A failed call to the kernel, whichever it is: an error, or every byte; nothing held, no leak. */
static void failing_call_ends_the_copy_or_loses_nothing(void **state)
{
    static const int faults[] = {EIO, EINVAL, ENOSYS, EPERM, EMFILE, ENOMEM};
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
            bool has_failed = true;
            uint64_t nth;

            for (nth = 1; has_failed; nth++) {
                assert_true(nth < 100);
                proxy_connect(&proxy, state, false);
                assert_true(plain_send(&proxy.near, 30000));
                assert_true(plain_send(&proxy.far, 30000));
                plain_end(&proxy.near);
                plain_end(&proxy.far);
                take_turns(proxy.runtime, 3);
                proxy.fault = faults[i];
                proxy.fault_nth = nth;
                proxy_join(&proxy, &proxy_modes[mode]);
                (void)call_finish(&proxy.call);
                has_failed = rdy_sys_fail_nth(0, 0) >= nth;

                assert_true(proxy.call.result == 0 || proxy.call.result == -faults[i]);
                /* What was written need not have arrived: a busy kernel delivers it later. */
                if (proxy.call.result == 0) {
                    proxy_hear_end(&proxy, &proxy.near);
                    proxy_hear_end(&proxy, &proxy.far);
                    assert_int_equal(proxy.near.got, 30000);
                    assert_int_equal(proxy.far.got, 30000);
                }
                proxy_close(&proxy);
            }
            assert_true(nth > 5);
        }
    }
}

/* --- aborts --- */

/* Brings a proxy into a state in which its task waits. */
typedef void arrange_fn(struct proxy *proxy);

static void arrange_nothing(struct proxy *proxy)
{
    (void)proxy; /* not even a first poll */
}

static void arrange_idle(struct proxy *proxy)
{
    proxy_carry(proxy, &proxy->near, &proxy->far, 1000);
}

static void arrange_blocked(struct proxy *proxy)
{
    proxy_fill(proxy, &proxy->near);
}

static void arrange_blocked_both_ways(struct proxy *proxy)
{
    proxy_fill(proxy, &proxy->near);
    proxy_fill(proxy, &proxy->far);
}

static void arrange_ended_behind_held_data(struct proxy *proxy)
{
    proxy_fill(proxy, &proxy->near);
    plain_end(&proxy->near);
    take_turns(proxy->runtime, 5);
}

static void arrange_half_closed(struct proxy *proxy)
{
    proxy_carry(proxy, &proxy->near, &proxy->far, 1000);
    plain_end(&proxy->far);
    proxy_hear_end(proxy, &proxy->near);
}

static void arrange_partly_flushed(struct proxy *proxy)
{
    proxy_fill(proxy, &proxy->near);
    for (int i = 0; i < 20; i++) {
        (void)plain_receive(&proxy->far);
        take_turns(proxy->runtime, 2);
    }
}

/* What a session owns, and lets go of in its drop. */
static void session_drop(void *self)
{
    struct proxy *proxy = ((struct call *)((struct test_task *)self)->test)->test;

    rdy_copy_both_close(&proxy->both);
    rdy_stream_close(proxy_a(proxy));
    rdy_stream_close(proxy_b(proxy));
}

static arrange_fn *const arrangements[] = {
    arrange_nothing,
    arrange_idle,
    arrange_blocked,
    arrange_blocked_both_ways,
    arrange_ended_behind_held_data,
    arrange_half_closed,
    arrange_partly_flushed,
};

#define ARRANGEMENTS (sizeof(arrangements) / sizeof(arrangements[0]))

static void session_open(struct proxy *proxy, void **state, const struct rdy_copy_opts *opts)
{
    proxy_connect(proxy, state, false);
    assert_int_equal(rdy_copy_both_open(&proxy->both, proxy_a(proxy), proxy_b(proxy), opts), 0);
    proxy->call = (struct call){
        .runtime = proxy->runtime, .fn = joins_both, .test = proxy, .result = RDY_PENDING};
    proxy->call.id = spawn_test(proxy->runtime, poll_makes_call, session_drop, &proxy->call);
}

static void abort_in_any_state_leaves_nothing_behind(void **state)
{
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (size_t i = 0; i < ARRANGEMENTS; i++) {
            session_open(&proxy, state, &proxy_modes[mode]);
            arrangements[i](&proxy);
            assert_int_equal(proxy.call.result, RDY_PENDING);

            assert_int_equal(rdy_task_abort(proxy.runtime, proxy.call.id), 0);
            take_turns(proxy.runtime, 4);

            assert_int_equal(driver_stats(proxy.runtime).entries_live, 0);
            assert_int_equal(proxy_stats(&proxy).buffers_live, 0);
            assert_int_equal(proxy_stats(&proxy).pipes_live, proxy_stats(&proxy).pipes_spare);
            proxy_close(&proxy);
        }
    }
}

/* Descriptors are counted here, memory by the sanitizer. */
static void runtime_that_closes_frees_all_that_its_copies_had(void **state)
{
    struct runtime_fixture *fixture = *state;
    static struct proxy proxy;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (size_t i = 0; i < ARRANGEMENTS; i++) {
            int before;

            rdy_runtime_close(fixture->runtime);
            before = descriptors_count();
            fixture->runtime = runtime_open(fixture->backend);
            session_open(&proxy, state, &proxy_modes[mode]);
            arrangements[i](&proxy);

            rdy_runtime_close(fixture->runtime);
            plain_close(&proxy.near);
            plain_close(&proxy.far);
            assert_int_equal(descriptors_count(), before);
            fixture->runtime = runtime_open(fixture->backend);
        }
    }
}

/* A burst of blocked directions has a pipe each; afterwards a few are kept, and not more. */
static void only_a_few_pipes_are_kept_after_a_burst(void **state)
{
    static struct proxy proxies[40];
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_copy_stats stats;

    for (size_t i = 0; i < 40; i++)
        proxy_connect(&proxies[i], state, false);
    for (size_t i = 0; i < 40; i++)
        proxy_join(&proxies[i], &proxy_modes[1]);
    for (size_t i = 0; i < 40; i++)
        proxy_fill(&proxies[i], &proxies[i].near);
    rdy_copy_read_stats(runtime, &stats);
    assert_int_equal(stats.pipes_live - stats.pipes_spare, 40);

    for (size_t i = 0; i < 40; i++) {
        plain_end(&proxies[i].near);
        plain_end(&proxies[i].far);
        proxy_hear_end(&proxies[i], &proxies[i].far);
        assert_int_equal(proxies[i].far.got, proxies[i].near.sent);
    }
    take_turns(runtime, 3);
    rdy_copy_read_stats(runtime, &stats);
    assert_int_equal(stats.pipes_spare, RDY_COPY_PIPES_SPARE_MAX);
    assert_int_equal(stats.pipes_live, stats.pipes_spare);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(proxies[i].call.result, 0);
        proxy_close(&proxies[i]);
    }
}

/* --- copies without end --- */

/*
 * What is written to one end of a Unix pair is read at the other, and written again: a copy between
 * the two ends always has data, within a single poll.
 */
struct circle {
    struct rdy_stream ends[2];
    struct rdy_copy_both both;
    struct call call;
    bool is_over;
};

static ssize_t goes_round(void *test, struct rdy_task *task)
{
    struct circle *circle = test;

    return circle->is_over ? 0 : rdy_copy_both_poll(&circle->both, task);
}

static void circle_open(struct circle *circle, struct rdy_runtime *runtime, size_t chunk_len,
                        const struct rdy_copy_opts *opts)
{
    static char chunk[65536];
    int fds[2];

    *circle = (struct circle){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(send(fds[i], chunk, chunk_len, 0), chunk_len);
        assert_int_equal(rdy_stream_from_fd(&circle->ends[i], runtime, fds[i]), 0);
    }
    assert_int_equal(rdy_copy_both_open(&circle->both, &circle->ends[0], &circle->ends[1], opts),
                     0);
}

static void circle_close(struct circle *circle)
{
    rdy_copy_both_close(&circle->both);
    rdy_stream_close(&circle->ends[0]);
    rdy_stream_close(&circle->ends[1]);
}

/* Two sessions through proxies of the same runtime: the quiet one pings. */
static ssize_t pings_50_times(void *test, struct rdy_task *task)
{
    struct proxy *proxy = test;

    rdy_task_defer(task);
    while (plain_receive(&proxy->near))
        ;
    if (proxy->near.got < proxy->near.sent)
        return RDY_PENDING;
    if (proxy->near.sent == 50)
        return 0;
    assert_true(plain_send(&proxy->near, 1));
    return RDY_PENDING;
}

static ssize_t echoes_far(void *test, struct rdy_task *task)
{
    struct proxy *proxy = test;

    rdy_task_defer(task);
    while (plain_receive(&proxy->far))
        ;
    if (proxy->far.sent < proxy->far.got)
        assert_true(plain_send(&proxy->far, proxy->far.got - proxy->far.sent));
    return proxy->near.got == 50 ? 0 : RDY_PENDING;
}

struct contest {
    struct proxy *quiet;
    struct circle *circle;
};

static ssize_t ends_the_contest(void *test, struct rdy_task *task)
{
    struct contest *contest = test;

    rdy_task_defer(task);
    if (contest->quiet->near.got < 50)
        return RDY_PENDING;
    contest->circle->is_over = true;
    assert_int_equal(rdy_task_abort(rdy_task_runtime(task), contest->quiet->call.id), 0);
    return 0;
}

static void copy_without_end_lets_a_quiet_one_through(void **state)
{
    static const size_t chunk_lens[] = {64, 65536};
    static struct proxy quiet;
    static struct circle circle;
    struct contest contest = {.quiet = &quiet, .circle = &circle};
    struct call calls[3];

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        for (size_t i = 0; i < 2; i++) {
            uint64_t bytes;
            uint64_t polls;

            proxy_connect(&quiet, state, false);
            proxy_join(&quiet, &proxy_modes[mode]);
            circle_open(&circle, quiet.runtime, chunk_lens[i], &proxy_modes[mode]);
            call_start(&circle.call, quiet.runtime, goes_round, &circle);
            call_start(&calls[0], quiet.runtime, pings_50_times, &quiet);
            call_start(&calls[1], quiet.runtime, echoes_far, &quiet);
            call_start(&calls[2], quiet.runtime, ends_the_contest, &contest);

            assert_int_equal(rdy_runtime_run(quiet.runtime), 0);

            /* A ping is four hops of a turn or two; the circle has one poll a turn. */
            polls = (uint64_t)circle.call.polls;
            bytes = rdy_copy_bytes(&circle.both.a_to_b) + rdy_copy_bytes(&circle.both.b_to_a);
            assert_int_equal(quiet.near.got, 50);
            assert_in_range(polls, 50, 50 * 12);
            assert_true(bytes >= polls * chunk_lens[i]);
            if (chunk_lens[i] == 64)
                assert_true(bytes <= polls * 64 * 64);
            else
                assert_true(bytes <= polls * ((1u << 20) + 2 * 65536));
            circle_close(&circle);
            proxy_close(&quiet);
        }
    }
}

static ssize_t goes_round_100_times(void *test, struct rdy_task *task)
{
    struct circle *circle = test;
    ssize_t rc = rdy_copy_both_poll(&circle->both, task);

    return circle->call.polls < 100 ? rc : 0;
}

/* Both directions always have data; neither may take all of the budget. */
static void two_busy_directions_get_the_same_share(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    static struct circle circle;

    for (size_t mode = 0; mode < PROXY_MODES; mode++) {
        uint64_t there;
        uint64_t back;

        circle_open(&circle, runtime, 1000, &proxy_modes[mode]);
        call_start(&circle.call, runtime, goes_round_100_times, &circle);
        assert_int_equal(call_finish(&circle.call), 0);
        there = rdy_copy_bytes(&circle.both.a_to_b);
        back = rdy_copy_bytes(&circle.both.b_to_a);
        assert_true(there >= 100 * 1000 && back >= 100 * 1000);
        assert_true(there <= back + back / 10 && back <= there + there / 10);
        circle_close(&circle);
    }
}

/* A read that leaves no budget for its write would have to be held, by whoever is never blocked. */
static void copy_that_is_never_blocked_needs_no_buffer_whatever_the_budget(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    static struct circle circle;

    for (uint32_t budget = 2; budget <= 5; budget++) {
        struct rdy_copy_stats stats;

        rdy_runtime_close(fixture->runtime);
        opts.task_budget = budget;
        assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
        circle_open(&circle, fixture->runtime, 1000, &proxy_modes[0]);
        call_start(&circle.call, fixture->runtime, goes_round_100_times, &circle);
        assert_int_equal(call_finish(&circle.call), 0);
        rdy_copy_read_stats(fixture->runtime, &stats);
        assert_int_equal(stats.buffers_taken, 0);
        /* Also where a poll is a single step, which each direction has in turn. */
        assert_true(rdy_copy_bytes(&circle.both.a_to_b) >= 50 * 1000);
        assert_true(rdy_copy_bytes(&circle.both.b_to_a) >= 50 * 1000);
        circle_close(&circle);
    }
}

/* A budget of one operation is a legal one: a read in one poll, its write in the next. */
static void smallest_budget_carries_all_the_same(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    static struct proxy proxy;

    rdy_runtime_close(fixture->runtime);
    for (uint32_t budget = 1; budget <= 3; budget++) {
        for (size_t mode = 0; mode < PROXY_MODES; mode++) {
            opts.task_budget = budget;
            assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
            proxy_open(&proxy, state, &proxy_modes[mode]);
            proxy_carry(&proxy, &proxy.near, &proxy.far, 200000);
            proxy_carry(&proxy, &proxy.far, &proxy.near, 200000);
            plain_end(&proxy.near);
            plain_end(&proxy.far);
            assert_int_equal(call_finish(&proxy.call), 0);
            proxy_close(&proxy);
            rdy_runtime_close(fixture->runtime);
            fixture->runtime = NULL;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(reset_of_either_side_ends_both_directions),
        ON_BOTH(reset_of_a_slow_receiver_ends_the_wait_for_it),
        ON_BOTH(reset_of_the_sender_behind_a_slow_receiver_is_heard),
        ON_BOTH(reset_after_a_half_close_is_an_error_still),
        ON_BOTH(peers_that_close_at_once_give_an_answer_at_once),
        ON_BOTH(failing_call_ends_the_copy_or_loses_nothing),
        ON_BOTH(abort_in_any_state_leaves_nothing_behind),
        ON_BOTH(runtime_that_closes_frees_all_that_its_copies_had),
        ON_BOTH(only_a_few_pipes_are_kept_after_a_burst),
        ON_BOTH(copy_without_end_lets_a_quiet_one_through),
        ON_BOTH(two_busy_directions_get_the_same_share),
        ON_BOTH(copy_that_is_never_blocked_needs_no_buffer_whatever_the_budget),
        ON_BOTH(smallest_budget_carries_all_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
