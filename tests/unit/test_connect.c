/* SPDX-License-Identifier: MIT */
/*
 * Connecting: how it ends, what is set before it, and fast open; on both backends.
 */
#include "tests/support/connecting.h"

#include <net/if.h>
#include <sys/un.h>

#include <rdy/timer.h>

static const int families[] = {AF_INET, AF_INET6};

#define FAMILIES_COUNT 2

static struct pair pair;
static struct target target;

static int start(struct rdy_connect_opts *opts)
{
    if (opts)
        opts->size = sizeof(*opts);
    return rdy_stream_start_connect_with(&pair.client, pair.runtime, sockaddr_at(&target.address),
                                         target.address.addr_len, opts);
}

/* The answer of the connection: at once, or when it is there. */
static int run_connect(struct rdy_connect_opts *opts)
{
    int rc = start(opts);

    if (rc < 0)
        return rc;
    (void)spawn_test(pair.runtime, poll_connects, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    return (int)pair.result;
}

static int option_of(int fd, int level, int name)
{
    socklen_t size = sizeof(int);
    int value = -1;

    assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

/* --- how it ends --- */

static void connection_is_made_or_refused_or_unreachable(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        pair_open(&pair, state);
        target = target_that_accepts(families[i]);
        assert_int_equal(run_connect(NULL), 0);
        target_close(&target);
        pair_close(&pair);

        target = target_that_refuses(families[i]);
        assert_int_equal(run_connect(NULL), -ECONNREFUSED);
        target_close(&target);
        pair_close(&pair);
    }
    target.address = unreachable_address();
    assert_int_equal(start(NULL), -ENETUNREACH);
    assert_int_equal(pair.client.fd, -1);
}

static int poll_connects_in_time(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);
    uint64_t deadline_ns = my->have;
    int rc = RDY_TIMEOUT(&my->timer, task, deadline_ns, rdy_stream_poll_connect(&my->client, task));

    if (rc != RDY_PENDING)
        my->result = rc;
    return rc;
}

static void connection_that_never_answers_meets_its_deadline(void **state)
{
    struct holdings before;

    pair_open(&pair, state);
    target = target_that_never_answers(AF_INET);
    rdy_runtime_pause_clock(pair.runtime);
    before = holdings_now(pair.runtime);
    assert_int_equal(start(NULL), 0);
    pair.have = rdy_runtime_now_ns(pair.runtime) + 5000000000u;

    (void)spawn_test(pair.runtime, poll_connects_in_time, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), -0);

    assert_int_equal(pair.result, -ETIMEDOUT);
    assert_true(rdy_timer_has_fired(&pair.timer));
    assert_int_equal(rdy_runtime_now_ns(pair.runtime), pair.have);
    rdy_stream_close(&pair.client);
    assert_nothing_leaked(pair.runtime, before);
    target_close(&target);
    pair_close(&pair);
}

/*
 * A wake-up of the socket that has another reason. On a ring it comes as "writable", though there
 * is no connection: a larger send buffer wakes those who wait to write.
 */
static void wake_up_with_another_reason_is_no_connection(void **state)
{
    struct rdy_task_id id;

    pair_open(&pair, state);
    target = target_that_never_answers(AF_INET);
    assert_int_equal(start(NULL), 0);
    pair.result = RDY_PENDING;
    id = spawn_test(pair.runtime, poll_connects, NULL, &pair);
    let_driver_turn(&pair);

    for (int size = 8192; size <= 65536; size *= 2) {
        assert_int_equal(rdy_stream_set(&pair.client, RDY_STREAM_SEND_BUF, size), 0);
        let_driver_turn(&pair);
        assert_int_equal(pair.result, RDY_PENDING);
    }

    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    target_close(&target);
    pair_close(&pair);
}

static void taken_error_of_a_connection_is_still_told(void **state)
{
    int error = 42;
    int rc;

    pair_open(&pair, state);
    target = target_that_refuses(AF_INET);
    rc = start(NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(rdy_stream_take_error(&pair.client, &error), 0);
    assert_int_equal(error, -ECONNREFUSED);
    for (int i = 0; i < 2; i++) {
        (void)spawn_test(pair.runtime, poll_connects, NULL, &pair);
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        assert_int_equal(pair.result, -ECONNREFUSED);
    }
    assert_int_equal(rdy_stream_take_error(&pair.client, &error), 0);
    assert_int_equal(error, -ECONNREFUSED);
    target_close(&target);
    pair_close(&pair);
}

/* Somebody else fetched the error from the descriptor: no wait without an end. */
static void connection_whose_error_is_gone_is_not_connected(void **state)
{
    pair_open(&pair, state);
    target = target_that_refuses(AF_INET);
    assert_int_equal(start(NULL), 0);
    assert_int_equal(option_of(pair.client.fd, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    (void)spawn_test(pair.runtime, poll_connects, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pair.result, -ENOTCONN);
    target_close(&target);
    pair_close(&pair);
}

static void connection_given_up_leaves_nothing(void **state)
{
    struct holdings before;
    struct rdy_task_id id;

    pair_open(&pair, state);
    target = target_that_never_answers(AF_INET6);
    before = holdings_now(pair.runtime);
    assert_int_equal(start(NULL), 0);
    id = spawn_test(pair.runtime, poll_connects, NULL, &pair);
    let_driver_turn(&pair);
    assert_int_equal(rdy_task_abort(pair.runtime, id), 0);
    rdy_stream_close(&pair.client);
    rdy_stream_close(&pair.client);
    assert_nothing_leaked(pair.runtime, before);
    target_close(&target);
    pair_close(&pair);
}

/* --- what is set before it --- */

static void options_are_set_before_the_connection(void **state)
{
    struct rdy_connect_opts opts = {
        .send_buf = 32768,
        .recv_buf = 16384,
        .is_keepalive = true,
        .keepalive_idle_s = 77,
        .keepalive_interval_s = 7,
        .keepalive_count = 3,
        .user_timeout_ms = 4321,
        .is_nodelay_off = true,
        .is_reuseaddr = true,
        .bind_device = "lo",
    };
    char device[IF_NAMESIZE] = "";
    socklen_t device_size = sizeof(device);
    int fd;

    pair_open(&pair, state);
    target = target_that_accepts(AF_INET);
    assert_int_equal(run_connect(&opts), 0);
    fd = pair.client.fd;
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_SNDBUF), 65536);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_RCVBUF), 32768);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 77);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL), 7);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 4321);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_REUSEADDR), 1);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &device_size), 0);
    assert_string_equal(device, "lo");
    pair_close(&pair);

    opts = (struct rdy_connect_opts){0};
    assert_int_equal(run_connect(&opts), 0);
    assert_int_equal(option_of(pair.client.fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option_of(pair.client.fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    assert_int_equal(option_of(pair.client.fd, SOL_SOCKET, SO_REUSEADDR), 0);
    target_close(&target);
    pair_close(&pair);
}

static void connection_comes_from_the_address_it_is_bound_to(void **state)
{
    struct rdy_address from = loopback_at(AF_INET, 0);
    struct rdy_address seen = {.addr_len = sizeof(seen.addr)};
    struct rdy_address ours = {0};
    struct rdy_connect_opts opts = {
        .local = sockaddr_at(&from),
        .local_len = from.addr_len,
        .is_reuseaddr = true,
    };

    ((struct sockaddr_in *)&from.addr)->sin_addr.s_addr = htonl(0x7f000009);
    pair_open(&pair, state);
    target = target_that_accepts(AF_INET);
    assert_int_equal(run_connect(&opts), 0);
    pair.peer = target_accept(&target);
    assert_int_equal(getpeername(pair.peer, sockaddr_at(&seen), &seen.addr_len), 0);
    assert_int_equal(((struct sockaddr_in *)&seen.addr)->sin_addr.s_addr, htonl(0x7f000009));
    assert_int_equal(rdy_stream_local_address(&pair.client, &ours.addr, &ours.addr_len), 0);
    assert_same_address(&ours, &seen);

    /* The port is in use; with leave to reuse it, it is this very connection that is there. */
    from = ours;
    pair.server = pair.client;
    assert_int_equal(start(&opts), -EADDRNOTAVAIL);
    opts.is_reuseaddr = false;
    assert_int_equal(start(&opts), -EADDRINUSE);
    target_close(&target);
    pair.client = (struct rdy_stream){.fd = -1};
    pair_close(&pair);
}

/* A bind to port 0 takes no port of its own, which all destinations would then have to spare. */
static void source_port_is_chosen_with_the_destination_known(void **state)
{
    struct rdy_address from = loopback_at(AF_INET6, 0);
    struct rdy_connect_opts opts = {.local = sockaddr_at(&from), .local_len = from.addr_len};

    pair_open(&pair, state);
    target = target_that_accepts(AF_INET6);
    assert_int_equal(run_connect(&opts), 0);
    assert_int_equal(option_of(pair.client.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 1);
    target_close(&target);
    pair_close(&pair);
}

/* Bound to the very address that it connects to: two SYNs cross, both of them its own. */
static void simultaneous_open_makes_a_connection(void **state)
{
    struct rdy_address ours = {0};
    struct rdy_address theirs = {0};
    struct rdy_connect_opts opts = {.is_reuseaddr = true};
    int one = 1;

    pair_open(&pair, state);
    target = target_that_refuses(AF_INET); /* keeps the port for us, and shares it */
    assert_int_equal(setsockopt(target.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    opts.local = sockaddr_at(&target.address);
    opts.local_len = target.address.addr_len;
    assert_int_equal(run_connect(&opts), 0);
    assert_int_equal(rdy_stream_local_address(&pair.client, &ours.addr, &ours.addr_len), 0);
    assert_int_equal(rdy_stream_peer_address(&pair.client, &theirs.addr, &theirs.addr_len), 0);
    assert_same_address(&ours, &theirs);
    say(pair.client.fd, "hello");
    pair.server = pair.client;
    pair.client = (struct rdy_stream){.fd = -1};
    assert_int_equal(read_once(&pair), 5);
    target_close(&target);
    pair_close(&pair);
}

static void options_that_do_not_fit_are_refused(void **state)
{
    struct rdy_address other = loopback_at(AF_INET6, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct rdy_connect_opts bad[] = {
        {.send_buf = -1},
        {.recv_buf = -1},
        {.keepalive_idle_s = -1, .is_keepalive = true},
        {.keepalive_interval_s = -1, .is_keepalive = true},
        {.keepalive_count = -1, .is_keepalive = true},
        {.keepalive_idle_s = 1},
        {.keepalive_interval_s = 1},
        {.keepalive_count = 1},
        {.user_timeout_ms = -1},
        {.is_fastopen_cookieless = true},
        {.local = sockaddr_at(&other), .local_len = 1},
        {.is_keepalive = true, .keepalive_idle_s = 32768},
        {.is_keepalive = true, .keepalive_count = 128},
    };
    struct rdy_connect_opts not_unix[] = {
        {.bind_device = "lo"},  {.is_reuseaddr = true}, {.is_nodelay_off = true},
        {.is_keepalive = true}, {.is_fastopen = true},  {.user_timeout_ms = 1},
    };
    struct rdy_connect_opts opts = {.local = sockaddr_at(&other), .local_len = other.addr_len};
    struct holdings before;

    pair_open(&pair, state);
    target = target_that_accepts(AF_INET);
    before = holdings_now(pair.runtime);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(start(&bad[i]), -EINVAL);
    assert_int_equal(start(&opts), -EAFNOSUPPORT);
    opts = (struct rdy_connect_opts){.bind_device = "no-such-device"};
    assert_int_equal(start(&opts), -ENODEV);
    opts.size--;
    assert_int_equal(rdy_stream_start_connect_with(&pair.client, pair.runtime,
                                                   sockaddr_at(&target.address),
                                                   target.address.addr_len, &opts),
                     -EINVAL);
    assert_int_equal(
        rdy_stream_start_connect(&pair.client, pair.runtime, sockaddr_at(&target.address), 1),
        -EINVAL);
    for (size_t i = 0; i < sizeof(not_unix) / sizeof(not_unix[0]); i++) {
        not_unix[i].size = sizeof(not_unix[i]);
        assert_int_equal(rdy_stream_start_connect_with(&pair.client, pair.runtime,
                                                       (struct sockaddr *)&name, sizeof(name),
                                                       &not_unix[i]),
                         -EINVAL);
    }
    assert_int_equal(pair.client.fd, -1);
    assert_nothing_leaked(pair.runtime, before);
    target_close(&target);
    pair_close(&pair);
}

/* --- fast open --- */

static int poll_writes_once(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);
    ssize_t count = rdy_stream_poll_write(&my->client, task, my->buf, my->have);

    my->polls++;
    if (count == RDY_PENDING)
        return RDY_PENDING;
    my->result = count;
    return 0;
}

static ssize_t write_once(size_t len)
{
    pair.have = len;
    pair.polls = 0;
    (void)spawn_test(pair.runtime, poll_writes_once, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    return pair.result;
}

/* Reads from the plain peer until @len bytes have come. */
static void peer_receives(size_t len)
{
    static char block[65536];
    size_t got = 0;

    for (size_t reads = 0; got < len && reads < len; reads++) {
        ssize_t count = recv(pair.peer, block, sizeof(block), 0);

        assert_true(count > 0);
        got += (size_t)count;
    }
    assert_int_equal(got, len);
}

/* Connected and writable, and nothing was sent: the first write brings the SYN, and more can follow
 * once there is an answer. */
static void fast_open_sends_nothing_before_the_first_write(void **state)
{
    struct rdy_connect_opts opts = {.is_fastopen = true, .is_fastopen_cookieless = true};
    struct rdy_address peer = {0};

    for (int i = 0; i < FAMILIES_COUNT; i++) {
        pair_open(&pair, state);
        target = target_that_accepts(families[i]);
        assert_int_equal(run_connect(&opts), 0);
        let_driver_turn(&pair);
        assert_int_equal(target_accept(&target), -1);
        assert_int_equal(rdy_stream_peer_address(&pair.client, &peer.addr, &peer.addr_len),
                         -ENOTCONN);

        assert_int_equal(write_once(5), 5);
        assert_int_equal(write_once(5), 5);
        pair.peer = target_accept(&target);
        assert_true(pair.peer >= 0);
        assert_int_equal(rdy_stream_peer_address(&pair.client, &peer.addr, &peer.addr_len), 0);
        assert_same_address(&peer, &target.address);
        peer_receives(10);
        say(pair.peer, "hello");
        pair.server = pair.client;
        assert_int_equal(read_once(&pair), 5);
        target_close(&target);
        pair.server = (struct rdy_stream){.fd = -1};
        pair_close(&pair);
    }
}

/* A SYN that has to go without data begins the connection all the same, and the write waits. */
static void write_whose_syn_took_no_data_goes_after_it(void **state)
{
    struct rdy_connect_opts opts = {.is_fastopen = true, .is_fastopen_cookieless = true};

    pair_open(&pair, state);
    target = target_that_accepts(AF_INET);
    assert_int_equal(run_connect(&opts), 0);
    assert_int_equal(write_once(0), 0);
    assert_true(pair.polls > 1);
    pair.peer = target_accept(&target);
    assert_true(pair.peer >= 0);
    assert_int_equal(write_once(7), 7);
    peer_receives(7);
    target_close(&target);
    pair_close(&pair);
}

static void fast_open_to_nobody_is_refused_after_the_write(void **state)
{
    struct rdy_connect_opts opts = {.is_fastopen = true, .is_fastopen_cookieless = true};

    pair_open(&pair, state);
    target = target_that_refuses(AF_INET);
    assert_int_equal(run_connect(&opts), 0);
    assert_int_equal(write_once(5), 5);
    pair.server = pair.client;
    pair.client = (struct rdy_stream){.fd = -1};
    assert_int_equal(read_once(&pair), -ECONNREFUSED);
    target_close(&target);
    pair_close(&pair);
}

/* Without a cookie the connection is made as ever, and only asks for one. */
static void fast_open_without_a_cookie_is_a_plain_connection(void **state)
{
    struct rdy_connect_opts opts = {.is_fastopen = true};

    pair_open(&pair, state);
    target = target_that_accepts(AF_INET);
    assert_int_equal(run_connect(&opts), 0);
    pair.peer = target_accept(&target);
    assert_true(pair.peer >= 0);
    assert_int_equal(write_once(5), 5);
    peer_receives(5);
    target_close(&target);
    pair_close(&pair);
}

/* --- failing system calls --- */

#define CALLS_MAX 40u

/* Of the calls only one makes things faster alone and may fail: TCP_NODELAY. */
static void failing_call_ends_the_start_and_leaks_nothing(void **state)
{
    struct rdy_address from = loopback_at(AF_INET, 0);
    struct rdy_connect_opts opts = {
        .size = sizeof(opts),
        .local = sockaddr_at(&from),
        .local_len = from.addr_len,
        .bind_device = "lo",
        .send_buf = 32768,
        .recv_buf = 32768,
        .is_keepalive = true,
        .keepalive_idle_s = 5,
        .keepalive_interval_s = 5,
        .keepalive_count = 5,
        .user_timeout_ms = 5000,
        .is_reuseaddr = true,
        .is_nodelay_off = true,
        .is_fastopen = true,
        .is_fastopen_cookieless = true,
    };
    struct holdings before;
    uint64_t failures = 0;
    uint64_t nth = 1;
    bool has_come = true;

    pair_open(&pair, state);
    target = target_that_accepts(AF_INET);
    before = holdings_now(pair.runtime);
    for (; has_come && nth <= CALLS_MAX; nth++) {
        struct fault fault = {.left = nth, .error = ENOMEM};
        int rc;

        fault_begin(&fault);
        rc = start(&opts);
        fault_end(&fault);
        has_come = fault.has_come;
        assert_true(rc == -ENOMEM || (rc == 0 && (!has_come || nth == 2)));
        failures += rc < 0;
        rdy_stream_close(&pair.client);
        assert_nothing_leaked(pair.runtime, before);
    }
    assert_false(has_come);
    assert_true(failures >= 15);
    target_close(&target);
    pair_close(&pair);
}

static struct fault poll_fault;

static int poll_connects_with_a_fault(struct rdy_task *task, void *self)
{
    struct pair *my = pair_of(self);
    int rc;

    fault_begin(&poll_fault);
    rc = rdy_stream_poll_connect(&my->client, task);
    fault_end(&poll_fault);
    if (rc != RDY_PENDING)
        my->result = rc;
    return rc;
}

static void failing_call_while_connecting_is_handed_on(void **state)
{
    pair_open(&pair, state);
    target = target_that_accepts(AF_INET);
    for (uint64_t nth = 1; nth <= 3; nth++) {
        struct holdings before = holdings_now(pair.runtime);

        assert_int_equal(start(NULL), 0);
        poll_fault = (struct fault){.left = nth, .error = ENOBUFS};
        (void)spawn_test(pair.runtime, poll_connects_with_a_fault, NULL, &pair);
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        assert_int_equal(pair.result, poll_fault.has_come ? -ENOBUFS : 0);
        assert_int_equal(poll_fault.has_come, nth < 3); /* the error, and the peer */
        rdy_stream_close(&pair.client);
        assert_nothing_leaked(pair.runtime, before);
    }
    target_close(&target);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(connection_is_made_or_refused_or_unreachable),
        ON_BOTH(connection_that_never_answers_meets_its_deadline),
        ON_BOTH(wake_up_with_another_reason_is_no_connection),
        ON_BOTH(taken_error_of_a_connection_is_still_told),
        ON_BOTH(connection_whose_error_is_gone_is_not_connected),
        ON_BOTH(connection_given_up_leaves_nothing),
        ON_BOTH(options_are_set_before_the_connection),
        ON_BOTH(connection_comes_from_the_address_it_is_bound_to),
        ON_BOTH(source_port_is_chosen_with_the_destination_known),
        ON_BOTH(simultaneous_open_makes_a_connection),
        ON_BOTH(options_that_do_not_fit_are_refused),
        ON_BOTH(fast_open_sends_nothing_before_the_first_write),
        ON_BOTH(write_whose_syn_took_no_data_goes_after_it),
        ON_BOTH(fast_open_to_nobody_is_refused_after_the_write),
        ON_BOTH(fast_open_without_a_cookie_is_a_plain_connection),
        ON_BOTH(failing_call_ends_the_start_and_leaks_nothing),
        ON_BOTH(failing_call_while_connecting_is_handed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
