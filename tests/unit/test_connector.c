/* SPDX-License-Identifier: MIT */
/*
 * The connector: who wins, when the next attempt begins, in which order; on both backends, with a
 * paused clock: what the tests say of time is exact.
 */
#include "tests/support/race.h"

static struct race race;

/* Adds targets: 6 and 4 for one that never answers, a and b for one that accepts, x and y for one
 * that refuses, each first IPv6, then IPv4; u is unreachable. */
static void race_add_all(const char *kinds)
{
    for (; *kinds != '\0'; kinds++) {
        int family = strchr("6ax", *kinds) ? AF_INET6 : AF_INET;

        if (strchr("64", *kinds))
            race_add(&race, target_that_never_answers(family));
        else if (strchr("ab", *kinds))
            race_add(&race, target_that_accepts(family));
        else if (strchr("xy", *kinds))
            race_add(&race, target_that_refuses(family));
        else
            race_add(&race, (struct target){.fd = -1, .address = unreachable_address()});
    }
}

static void first_address_that_answers_wins_alone(void **state)
{
    race_open(&race, state);
    race_add_all("ab");

    assert_int_equal(race_run(&race), 0);

    assert_connected_to(&race, 0);
    assert_int_equal(race_ms(&race), 0);
    assert_int_equal(target_accept(&race.targets[1]), -1);
    race_close(&race);
}

static void stream_that_won_can_be_used(void **state)
{
    struct pair pair;
    int peer;

    race_open(&race, state);
    race_add_all("6b");
    assert_int_equal(race_run(&race), 0);
    peer = target_accept(&race.targets[1]);
    assert_true(peer >= 0);
    say(peer, "hello");
    pair_open(&pair, state);
    pair.server = race.stream;
    assert_int_equal(read_once(&pair), 5);
    assert_int_equal(close(peer), 0);
    race_close(&race);
}

static void next_address_is_tried_after_the_delay(void **state)
{
    static const char *const lists[] = {"6b", "4a"};

    for (int i = 0; i < 2; i++) {
        race_open(&race, state);
        race_add_all(lists[i]);
        assert_int_equal(race_run(&race), 0);
        assert_connected_to(&race, 1);
        assert_int_equal(race_ms(&race), 250);
        race_close(&race);
    }
}

static void delay_is_the_callers(void **state)
{
    race_open(&race, state);
    race_add_all("6b");
    race.opts.attempt_delay_ns = 10 * RACE_MS;
    assert_int_equal(race_run(&race), 0);
    assert_int_equal(race_ms(&race), 10);
    race_close(&race);
}

static void failure_begins_the_next_attempt_at_once(void **state)
{
    static const char *const lists[] = {"xb", "ua", "xyuxyb"};
    static const uint32_t winners[] = {1, 1, 5};

    for (int i = 0; i < 3; i++) {
        race_open(&race, state);
        race_add_all(lists[i]);
        assert_int_equal(race_run(&race), 0);
        assert_connected_to(&race, winners[i]);
        assert_int_equal(race_ms(&race), 0);
        race_close(&race);
    }
}

/* Ends the oldest attempt, as a reset from the network would, at deadline_ns. */
static int poll_breaks_the_first(struct rdy_task *task, void *self)
{
    struct race *my = race_of(self);
    int rc = rdy_timer_poll_until(&my->timer, task, my->deadline_ns);

    if (rc == 0)
        assert_int_equal(shutdown(my->connector.attempts[0].fd, SHUT_RDWR), 0);
    return rc;
}

static void break_the_first_after(uint64_t ms)
{
    race.deadline_ns = rdy_runtime_now_ns(race.runtime) + ms * RACE_MS;
    (void)spawn_test(race.runtime, poll_breaks_the_first, NULL, &race);
}

static void failure_within_the_delay_ends_the_delay(void **state)
{
    race_open(&race, state);
    race_add_all("6b");
    break_the_first_after(100);
    assert_int_equal(race_run(&race), 0);
    assert_connected_to(&race, 1);
    assert_int_equal(race_ms(&race), 100);
    race_close(&race);
}

/* A failure ends the delay beside others in flight, too; the next one counts from that start. */
static void delay_begins_anew_with_each_attempt(void **state)
{
    race_open(&race, state);
    race_add_all("644b");
    break_the_first_after(300); /* they begin at 0, 250, 300 and 550 */
    assert_int_equal(race_run(&race), 0);
    assert_connected_to(&race, 3);
    assert_int_equal(race_ms(&race), 550);
    race_close(&race);
}

/* What takes its turn when is seen in when it wins: each attempt before it costs a delay. */
static const struct {
    const char *kinds;
    int first_family;
    uint32_t first_count;
    uint32_t winner;
    uint64_t ms;
} orders[] = {
    {"66b", 0, 0, 2, 250},        /* 6 4 6: the other family comes second */
    {"66a", 0, 0, 2, 500},        /* 6 6 6: there is no other */
    {"6a4", 0, 0, 1, 500},        /* 6 4 6 */
    {"664b", 0, 0, 3, 750},       /* 6 4 6 4: in turns to the end */
    {"6664b", 0, 0, 4, 750},      /* 6 4 6 4 6 */
    {"64a", 0, 2, 2, 250},        /* 6 6 4: two of the first family first */
    {"666b", 0, 2, 3, 500},       /* 6 6 4 6 */
    {"644ab", 0, 2, 3, 250},      /* 6 6 4 4 4 */
    {"6b", AF_INET, 0, 1, 0},     /* 4 6: the family that was asked for */
    {"644a", AF_INET, 0, 3, 750}, /* 4 6 4 6 */
    {"4a", AF_INET6, 0, 1, 0},    /* 6 4 */
    {"44b", AF_INET6, 0, 2, 500}, /* 4 4 4: of the family that was asked for there is none */
    {"44b", AF_INET6, 7, 2, 500}, /* the same */
    {"6666666b", 0, 9, 7, 1750},  /* more of the first than there are */
};

static void families_take_turns(void **state)
{
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        race_open(&race, state);
        race_add_all(orders[i].kinds);
        race.opts.first_family = orders[i].first_family;
        race.opts.first_family_count = orders[i].first_count;
        assert_int_equal(race_run(&race), 0);
        assert_connected_to(&race, orders[i].winner);
        assert_int_equal(race_ms(&race), orders[i].ms);
        race_close(&race);
    }
}

/* Two are in flight and neither answers: the third waits for one of them to break. */
static void attempts_in_flight_are_bounded(void **state)
{
    race_open(&race, state);
    race_add_all("64b");
    race.opts.attempts_max = 2;
    break_the_first_after(100000);
    assert_int_equal(race_run(&race), 0);
    assert_connected_to(&race, 2);
    assert_int_equal(race_ms(&race), 100000);
    race_close(&race);
}

/* One in flight at most: an attempt without an answer holds up the rest. */
static void single_attempt_is_waited_for(void **state)
{
    static const uint64_t delays_ns[] = {0, UINT64_MAX};

    for (int i = 0; i < 2; i++) {
        race_open(&race, state);
        race_add_all("6b");
        race.opts.attempts_max = i == 0 ? 1 : 0;
        race.opts.attempt_delay_ns = delays_ns[i];
        break_the_first_after(50000);
        assert_int_equal(race_run(&race), 0);
        assert_connected_to(&race, 1);
        assert_int_equal(race_ms(&race), 50000);
        race_close(&race);
    }
}

static const struct {
    const char *kinds;
    int error;
} failures[] = {
    {"xy", -ECONNREFUSED}, {"u", -ENETUNREACH},  {"ux", -ECONNREFUSED},
    {"xu", -ECONNREFUSED}, {"y", -ECONNREFUSED},
};

static void most_useful_error_is_told(void **state)
{
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        race_open(&race, state);
        race_add_all(failures[i].kinds);
        assert_int_equal(race_run(&race), failures[i].error);
        assert_int_equal(race.stream.fd, -1);
        race_close(&race);
    }
}

/* What this process lacks says more than a refusal, and that more than what is odd. */
static void want_of_descriptors_outranks_a_refusal(void **state)
{
    static const int ranked[] = {0, EINVAL, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT, ECONNRESET};
    static const int above[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS, EACCES, EPERM};

    for (size_t i = 0; i < 6; i++) {
        race_open(&race, state);
        race_add_all("xy");
        race.fault = (struct fault){.left = 1, .error = above[i]};
        assert_int_equal(race_run(&race), -above[i]);
        assert_true(race.fault.has_come);
        race_close(&race);

        race_open(&race, state);
        race_add_all("xy");
        race.fault = (struct fault){.left = ranked[i] ? 1 : 0, .error = ranked[i]};
        assert_int_equal(race_run(&race), -ECONNREFUSED);
        race_close(&race);
    }
}

/* Each failure is of the first attempt alone: the one after it connects. */
static void want_of_descriptors_is_no_end(void **state)
{
    race_open(&race, state);
    race_add_all("ab");
    race.fault = (struct fault){.left = 1, .error = EMFILE};
    assert_int_equal(race_run(&race), 0);
    assert_connected_to(&race, 1);
    race_close(&race);
}

static int poll_counts(struct rdy_task *task, void *self)
{
    struct race *my = race_of(self);

    my->deadline_ns++;
    rdy_task_defer(task);
    return my->result == RDY_PENDING ? RDY_PENDING : 0;
}

/* Forty addresses that all fail at once: other tasks run in between. */
static void many_failures_at_once_give_way(void **state)
{
    race_open(&race, state);
    for (int i = 0; i < 40; i++)
        race_add_all("u");
    (void)spawn_test(race.runtime, poll_counts, NULL, &race);
    assert_int_equal(race_run(&race), -ENETUNREACH);
    assert_true(race.polls >= 3);
    assert_true(race.deadline_ns >= 3);
    race_close(&race);
}

static void connect_options_reach_each_attempt(void **state)
{
    struct rdy_address from = loopback_at(AF_INET, 0);
    struct rdy_connect_opts connect = {
        .size = sizeof(connect),
        .local = sockaddr_at(&from),
        .local_len = from.addr_len,
        .user_timeout_ms = 777,
    };
    struct rdy_address ours = {0};
    int value = 0;

    ((struct sockaddr_in *)&from.addr)->sin_addr.s_addr = htonl(0x7f000007);
    race_open(&race, state);
    race_add_all("ab"); /* the first is of another family than the source */
    race.opts.connect = &connect;
    assert_int_equal(race_run(&race), 0);
    assert_connected_to(&race, 1);
    assert_int_equal(rdy_stream_get(&race.stream, RDY_STREAM_USER_TIMEOUT_MS, &value), 0);
    assert_int_equal(value, 777);
    assert_int_equal(rdy_stream_local_address(&race.stream, &ours.addr, &ours.addr_len), 0);
    assert_int_equal(((struct sockaddr_in *)&ours.addr)->sin_addr.s_addr, htonl(0x7f000007));
    race_close(&race);
}

static void options_out_of_range_begin_nothing(void **state)
{
    struct rdy_connect_opts fast = {.size = sizeof(fast), .is_fastopen = true};
    struct rdy_connect_opts sizeless = {0};
    const struct rdy_connector_opts bad[] = {
        {.size = sizeof(bad[0]) - 1},
        {.size = sizeof(bad[0]), .attempts_max = RDY_CONNECTOR_ATTEMPTS_MAX + 1},
        {.size = sizeof(bad[0]), .attempt_delay_ns = 10 * RACE_MS - 1},
        {.size = sizeof(bad[0]), .first_family = AF_UNIX},
        {.size = sizeof(bad[0]), .connect = &fast},
        {.size = sizeof(bad[0]), .connect = &sizeless},
    };

    race_open(&race, state);
    race_add_all("a");
    race.before = holdings_now(race.runtime);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(rdy_connector_start(&race.connector, race.runtime, race.addrs, 1, &bad[i]),
                         -EINVAL);
    assert_int_equal(rdy_connector_start(&race.connector, race.runtime, race.addrs, 0, NULL),
                     -EINVAL);
    assert_null(race.connector.runtime);
    (void)race_spawn(&race);
    assert_int_equal(rdy_runtime_run(race.runtime), 0);
    assert_int_equal(race.result, -EINVAL); /* nothing was started */
    race_close(&race);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(first_address_that_answers_wins_alone),
        ON_BOTH(stream_that_won_can_be_used),
        ON_BOTH(next_address_is_tried_after_the_delay),
        ON_BOTH(delay_is_the_callers),
        ON_BOTH(failure_begins_the_next_attempt_at_once),
        ON_BOTH(failure_within_the_delay_ends_the_delay),
        ON_BOTH(delay_begins_anew_with_each_attempt),
        ON_BOTH(families_take_turns),
        ON_BOTH(attempts_in_flight_are_bounded),
        ON_BOTH(single_attempt_is_waited_for),
        ON_BOTH(most_useful_error_is_told),
        ON_BOTH(want_of_descriptors_outranks_a_refusal),
        ON_BOTH(want_of_descriptors_is_no_end),
        ON_BOTH(many_failures_at_once_give_way),
        ON_BOTH(connect_options_reach_each_attempt),
        ON_BOTH(options_out_of_range_begin_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
