/* SPDX-License-Identifier: MIT */
/*
 * Listening, accepting and connecting, each test on io_uring and on epoll.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "engine/sys.h"

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t value_len = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &value_len), 0);
    return value;
}

static void accepted_socket_is_as_promised(void **state)
{
    static struct pair pair;

    pair_open(&pair, state);
    pair_accept(&pair);

    assert_true(option(pair.server.fd, IPPROTO_TCP, TCP_NODELAY) != 0);
    assert_true(fcntl(pair.server.fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(pair.server.fd, F_GETFD) & FD_CLOEXEC);
    assert_true(option(pair.listener.fd, SOL_SOCKET, SO_REUSEADDR) != 0);
    assert_int_equal(option(pair.listener.fd, SOL_SOCKET, SO_REUSEPORT), 0);
    assert_true(is_cached(&pair.server, RDY_INTEREST_WRITE, RDY_WRITABLE));

    pair_close(&pair);
}

static void two_listeners_share_a_port_if_they_ask_to(void **state)
{
    struct rdy_listen_opts opts = {.size = sizeof(opts), .is_reuseport = true};
    struct sockaddr_in any_port = loopback(0);
    struct sockaddr_storage addr;
    socklen_t addr_len = 0;
    struct rdy_listener listeners[3];

    assert_int_equal(rdy_listener_open(&listeners[0], runtime_of(state),
                                       (struct sockaddr *)&any_port, sizeof(any_port), &opts),
                     0);
    assert_int_equal(rdy_listener_address(&listeners[0], &addr, &addr_len), 0);
    assert_int_equal(rdy_listener_open(&listeners[1], runtime_of(state), (struct sockaddr *)&addr,
                                       addr_len, &opts),
                     0);

    assert_int_equal(rdy_listener_open(&listeners[2], runtime_of(state), (struct sockaddr *)&addr,
                                       addr_len, NULL),
                     -EADDRINUSE);

    rdy_listener_close(&listeners[0]);
    rdy_listener_close(&listeners[1]);
}

static void refused_connection_says_so(void **state)
{
    static struct pair pair;
    struct sockaddr_storage addr;
    socklen_t addr_len = 0;
    int rc;

    pair_open(&pair, state);
    addr = pair_listen(&pair, &addr_len);
    rdy_listener_close(&pair.listener);
    let_driver_turn(&pair);

    rc = rdy_stream_start_connect(&pair.client, pair.runtime, (struct sockaddr *)&addr, addr_len);
    if (rc == 0) {
        (void)spawn_test(pair.runtime, poll_connects, NULL, &pair);
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        rc = (int)pair.result;
    }

    assert_int_equal(rc, -ECONNREFUSED);
    pair_close(&pair);
}

static socklen_t abstract_name(struct sockaddr_un *addr, const char *name)
{
    size_t len = strlen(name);

    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(addr->sun_path + 1, name, len);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

static void unix_listener_accepts(void **state)
{
    struct sockaddr_un addr;
    socklen_t addr_len = abstract_name(&addr, "rdy-test-stream-accept");
    static struct pair pair;

    pair_open(&pair, state);
    pair_meet_at(&pair, (struct sockaddr *)&addr, addr_len);
    (void)spawn_test(pair.runtime, poll_connects, NULL, &pair);
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    say(pair.client.fd, "hello");
    assert_int_equal(read_once(&pair), 5);
    pair_close(&pair);
}

/* Linux gives no event when a full Unix backlog has room again, so waiting would hang. */
static void full_unix_backlog_is_an_error_at_once(void **state)
{
    struct rdy_listen_opts opts = {.size = sizeof(opts), .backlog = 1};
    struct sockaddr_un addr;
    socklen_t addr_len = abstract_name(&addr, "rdy-test-stream-backlog");
    struct rdy_stream streams[8];
    static struct pair pair;
    int count = 0;
    int rc = 0;

    pair_open(&pair, state);
    assert_int_equal(
        rdy_listener_open(&pair.listener, pair.runtime, (struct sockaddr *)&addr, addr_len, &opts),
        0);
    while (count < 8) {
        rc = rdy_stream_start_connect(&streams[count], pair.runtime, (struct sockaddr *)&addr,
                                      addr_len);
        if (rc < 0)
            break;
        count++;
    }

    assert_int_equal(rc, -EAGAIN);
    while (count > 0)
        rdy_stream_close(&streams[--count]);
    pair_close(&pair);
}

static int lowest_free_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    return fd;
}

/* The connection stays in the queue, and no new event announces it: it must still be cached. */
static void accept_at_the_descriptor_limit_fails_and_loses_nothing(void **state)
{
    static struct pair pair;
    struct rlimit before;
    struct rlimit tight;
    socklen_t addr_len = 0;

    pair_open(&pair, state);
    (void)pair_listen(&pair, &addr_len);
    pair.peer = dial(&pair);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)lowest_free_descriptor();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(pair.result, -EMFILE);
    assert_int_equal(pair.server.fd, -1);

    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);

    assert_int_equal(pair.result, 0);
    say(pair.peer, "hello");
    assert_int_equal(read_once(&pair), 5);
    pair_close(&pair);
}

/* Enough for every system call of the longest path here. */
#define CALLS_MAX 16u

/* Options that only make things faster may fail; whatever else fails is handed on. */
static void listening_with_a_failing_call_leaks_no_descriptor(void **state)
{
    static struct pair pair;
    struct sockaddr_in any_port = loopback(0);
    int before;
    int failures = 0;

    pair_open(&pair, state);
    before = descriptors_count();
    for (uint64_t nth = 1; nth <= CALLS_MAX; nth++) {
        int rc;

        (void)rdy_sys_fail_nth(nth, ENOMEM);
        rc = rdy_listener_open(&pair.listener, pair.runtime, (struct sockaddr *)&any_port,
                               sizeof(any_port), NULL);
        (void)rdy_sys_fail_nth(0, 0);
        assert_true(rc == 0 || rc == -ENOMEM);
        failures += rc < 0;
        rdy_listener_close(&pair.listener);
        let_driver_turn(&pair);
        assert_int_equal(descriptors_count(), before);
    }
    assert_true(failures >= 3); /* socket, bind, listen */
}

static void connecting_with_a_failing_call_leaks_no_descriptor(void **state)
{
    static struct pair pair;
    struct sockaddr_storage addr;
    socklen_t addr_len = 0;
    int before;
    int failures = 0;

    pair_open(&pair, state);
    addr = pair_listen(&pair, &addr_len);
    before = descriptors_count();
    for (uint64_t nth = 1; nth <= CALLS_MAX; nth++) {
        int rc;

        (void)rdy_sys_fail_nth(nth, ENOMEM);
        rc = rdy_stream_start_connect(&pair.client, pair.runtime, (struct sockaddr *)&addr,
                                      addr_len);
        (void)rdy_sys_fail_nth(0, 0);
        assert_true(rc == 0 || rc == -ENOMEM);
        failures += rc < 0;
        rdy_stream_close(&pair.client);
        let_driver_turn(&pair);
        assert_int_equal(descriptors_count(), before);
    }
    assert_true(failures >= 2); /* socket, connect */
    pair_close(&pair);
}

/* Dead connections are skipped and the next one is taken; other errors are handed on. */
static int poll_accepts_after_a_failure(struct rdy_task *task, void *self)
{
    struct pair *pair = pair_of(self);
    int rc;

    (void)rdy_sys_fail_nth(1, pair->step);
    rc = rdy_listener_poll_accept(&pair->listener, task, &pair->server);
    (void)rdy_sys_fail_nth(0, 0);
    pair->polls++;
    pair->result = rc;
    return rc;
}

static void failing_accept_is_skipped_or_handed_on(void **state)
{
    static const int skipped[] = {ECONNABORTED, EPROTO, ENETUNREACH, EHOSTDOWN};
    static const int handed_on[] = {ENFILE, ENOBUFS, ENOMEM, EINVAL};
    static struct pair pair;
    socklen_t addr_len = 0;

    pair_open(&pair, state);
    (void)pair_listen(&pair, &addr_len);
    for (size_t i = 0; i < 4; i++) {
        pair.peer = dial(&pair);
        let_driver_turn(&pair);
        pair.step = handed_on[i];
        (void)spawn_test(pair.runtime, poll_accepts_after_a_failure, NULL, &pair);
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        assert_int_equal(pair.result, -handed_on[i]);

        pair.step = skipped[i];
        (void)spawn_test(pair.runtime, poll_accepts_after_a_failure, NULL, &pair);
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        assert_int_equal(pair.result, 0);
        rdy_stream_close(&pair.server);
        assert_int_equal(close(pair.peer), 0);
        pair.peer = -1;
    }
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(accepted_socket_is_as_promised),
        ON_BOTH(two_listeners_share_a_port_if_they_ask_to),
        ON_BOTH(refused_connection_says_so),
        ON_BOTH(unix_listener_accepts),
        ON_BOTH(full_unix_backlog_is_an_error_at_once),
        ON_BOTH(accept_at_the_descriptor_limit_fails_and_loses_nothing),
        ON_BOTH(listening_with_a_failing_call_leaks_no_descriptor),
        ON_BOTH(connecting_with_a_failing_call_leaks_no_descriptor),
        ON_BOTH(failing_accept_is_skipped_or_handed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
