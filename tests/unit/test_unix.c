/* SPDX-License-Identifier: MIT */
/*
 * Unix names, pairs, and who the peer is; on both backends.
 */
#include "tests/support/connecting.h"

#include <sys/wait.h>

#include <rdy/unix.h>

static struct pair pair;

#define NAME_MAX_LEN 107

static void names_become_addresses(void **state)
{
    char name[NAME_MAX_LEN + 2];
    struct sockaddr_un addr;
    socklen_t addr_len = 0;

    (void)state;
    assert_int_equal(rdy_unix_address(&addr, &addr_len, "run/socket"), 0);
    assert_int_equal(addr.sun_family, AF_UNIX);
    assert_string_equal(addr.sun_path, "run/socket");
    assert_int_equal(addr_len, offsetof(struct sockaddr_un, sun_path) + 11);

    assert_int_equal(rdy_unix_address(&addr, &addr_len, "@abstract"), 0);
    assert_int_equal(addr.sun_path[0], 0);
    assert_memory_equal(addr.sun_path + 1, "abstract", 8);
    assert_int_equal(addr_len, offsetof(struct sockaddr_un, sun_path) + 9);

    memset(name, 'x', sizeof(name));
    name[NAME_MAX_LEN] = '\0';
    assert_int_equal(rdy_unix_address(&addr, &addr_len, name), 0);
    assert_string_equal(addr.sun_path, name);
    assert_int_equal(addr_len, sizeof(addr));
    name[NAME_MAX_LEN] = 'x';
    name[NAME_MAX_LEN + 1] = '\0';
    name[0] = '@';
    assert_int_equal(rdy_unix_address(&addr, &addr_len, name), 0);
    assert_int_equal(addr_len, sizeof(addr));
}

static void names_that_do_not_fit_are_refused(void **state)
{
    char name[NAME_MAX_LEN + 3];
    struct sockaddr_un addr = {.sun_family = 77};
    socklen_t addr_len = 99;

    (void)state;
    assert_int_equal(rdy_unix_address(&addr, &addr_len, ""), -EINVAL);
    assert_int_equal(rdy_unix_address(&addr, &addr_len, "@"), -EINVAL);
    memset(name, 'x', sizeof(name));
    name[NAME_MAX_LEN + 1] = '\0';
    assert_int_equal(rdy_unix_address(&addr, &addr_len, name), -ENAMETOOLONG);
    name[NAME_MAX_LEN + 1] = 'x';
    name[NAME_MAX_LEN + 2] = '\0';
    name[0] = '@';
    assert_int_equal(rdy_unix_address(&addr, &addr_len, name), -ENAMETOOLONG);
    assert_int_equal(addr.sun_family, 77);
    assert_int_equal(addr_len, 99);
}

static void listener_and_stream_meet_at_a_name(void **state)
{
    struct rdy_address theirs = {0};
    struct sockaddr_un addr;
    socklen_t addr_len = 0;

    pair_open(&pair, state);
    assert_int_equal(rdy_unix_address(&addr, &addr_len, "@rdy-test-unix-meet"), 0);
    pair_meet_at(&pair, (struct sockaddr *)&addr, addr_len);
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(rdy_stream_peer_address(&pair.client, &theirs.addr, &theirs.addr_len), 0);
    assert_int_equal(theirs.addr_len, addr_len);
    assert_memory_equal(&theirs.addr, &addr, addr_len);
    pair_close(&pair);
}

/* A Unix stream may have a name of its own, too. */
static void stream_is_bound_before_it_connects(void **state)
{
    struct rdy_connect_opts opts = {.size = sizeof(opts)};
    struct rdy_address seen = {0};
    struct sockaddr_un there;
    struct sockaddr_un here;
    socklen_t there_len = 0;

    pair_open(&pair, state);
    assert_int_equal(rdy_unix_address(&there, &there_len, "@rdy-test-unix-there"), 0);
    assert_int_equal(rdy_unix_address(&here, &opts.local_len, "@rdy-test-unix-here"), 0);
    opts.local = (struct sockaddr *)&here;
    assert_int_equal(
        rdy_listener_open(&pair.listener, pair.runtime, (struct sockaddr *)&there, there_len, NULL),
        0);
    assert_int_equal(rdy_stream_start_connect_with(&pair.client, pair.runtime,
                                                   (struct sockaddr *)&there, there_len, &opts),
                     0);
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(rdy_stream_peer_address(&pair.server, &seen.addr, &seen.addr_len), 0);
    assert_int_equal(seen.addr_len, opts.local_len);
    assert_memory_equal(&seen.addr, &here, seen.addr_len);
    pair_close(&pair);
}

static int poll_says_hello(struct rdy_task *task, void *self)
{
    ssize_t count = rdy_stream_poll_write(&pair_of(self)->client, task, "hello", 5);

    assert_int_equal(count, 5);
    return 0;
}

static void pair_talks_and_ends(void **state)
{
    pair_open(&pair, state);
    assert_int_equal(rdy_stream_pair(&pair.server, &pair.client, pair.runtime), 0);
    assert_true(fcntl(pair.server.fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(pair.client.fd, F_GETFL) & O_NONBLOCK);
    (void)spawn_test(pair.runtime, poll_says_hello, NULL, &pair);
    assert_int_equal(read_once(&pair), 5);
    rdy_stream_close(&pair.client);
    assert_int_equal(read_once(&pair), 0);
    pair_close(&pair);
}

#define CALLS_MAX 20u

static void pair_is_made_whole_or_not_at_all(void **state)
{
    struct holdings before;
    bool has_come = true;
    uint64_t nth = 1;

    pair_open(&pair, state);
    before = holdings_now(pair.runtime);
    for (; has_come && nth <= CALLS_MAX; nth++) {
        struct fault fault = {.left = nth, .error = ENOMEM};
        int rc;

        fault_begin(&fault);
        rc = rdy_stream_pair(&pair.server, &pair.client, pair.runtime);
        fault_end(&fault);
        has_come = fault.has_come;
        assert_int_equal(rc, has_come ? -ENOMEM : 0);
        assert_int_equal(pair.server.fd >= 0, rc == 0);
        rdy_stream_close(&pair.server);
        rdy_stream_close(&pair.client);
        assert_nothing_leaked(pair.runtime, before);
    }
    assert_false(has_come);
    assert_true(nth > 2);
}

/* The second registration fails: the first is given back. */
static void pair_without_room_for_both_leaves_neither(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
    struct holdings before;

    for (uint32_t room = 1; room <= 2; room++) {
        opts.driver.entries_max = room;
        rdy_runtime_close(fixture->runtime);
        assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
        pair_open(&pair, state);
        before = holdings_now(pair.runtime);
        assert_int_equal(rdy_stream_pair(&pair.server, &pair.client, pair.runtime),
                         room < 2 ? -ENFILE : 0);
        assert_int_equal(pair.server.fd >= 0, room == 2);
        pair_close(&pair);
        assert_nothing_leaked(pair.runtime, before);
    }
}

static void assert_is_this_process(const struct rdy_stream *stream)
{
    struct rdy_credentials credentials = {0};

    assert_int_equal(rdy_stream_peer_credentials(stream, &credentials), 0);
    assert_int_equal(credentials.pid, getpid());
    assert_int_equal(credentials.uid, geteuid());
    assert_int_equal(credentials.gid, getegid());
}

static void peer_of_a_pair_is_who_made_it(void **state)
{
    pair_open(&pair, state);
    assert_int_equal(rdy_stream_pair(&pair.server, &pair.client, pair.runtime), 0);
    assert_is_this_process(&pair.server);
    assert_is_this_process(&pair.client);
    pair_close(&pair);
}

#ifdef __SANITIZE_THREAD__
/* jemalloc takes all its locks before a fork: more than the deadlock detector has room for. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}
#endif

/* In a child: connects, and stays until it is told to go. */
static pid_t child_connects(const struct sockaddr_un *addr, socklen_t addr_len)
{
    pid_t child = fork();
    char byte;
    int fd;

    if (child != 0)
        return child;
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)addr, addr_len) != 0)
        _exit(1);
    _exit(read(fd, &byte, 1) == 0 ? 0 : 2);
}

static void accepted_stream_tells_which_process_connected(void **state)
{
    struct rdy_credentials credentials = {0};
    struct sockaddr_un addr;
    socklen_t addr_len = 0;
    int status = 0;
    pid_t child;

    pair_open(&pair, state);
    assert_int_equal(rdy_unix_address(&addr, &addr_len, "@rdy-test-unix-child"), 0);
    assert_int_equal(
        rdy_listener_open(&pair.listener, pair.runtime, (struct sockaddr *)&addr, addr_len, NULL),
        0);
    child = child_connects(&addr, addr_len);
    assert_true(child > 0);
    (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(rdy_stream_peer_credentials(&pair.server, &credentials), 0);
    assert_int_equal(credentials.pid, child);
    assert_int_equal(credentials.uid, geteuid());
    pair_close(&pair);
    let_driver_turn(&pair);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void who_has_no_unix_peer_has_no_credentials(void **state)
{
    struct rdy_credentials credentials = {.pid = 42};
    struct rdy_stream closed = {.fd = -1};
    int fd;

    pair_open(&pair, state);
    pair_accept(&pair);
    assert_int_equal(rdy_stream_peer_credentials(&pair.server, &credentials), -EOPNOTSUPP);
    assert_int_equal(rdy_stream_peer_credentials(&closed, &credentials), -EBADF);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(rdy_stream_from_fd(&pair.client, pair.runtime, fd), 0);
    assert_int_equal(rdy_stream_peer_credentials(&pair.client, &credentials), -ENOTCONN);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        (void)rdy_sys_fail_nth(nth, ENOBUFS);
        assert_int_equal(rdy_stream_peer_credentials(&pair.client, &credentials), -ENOBUFS);
        (void)rdy_sys_fail_nth(0, 0);
    }
    assert_int_equal(credentials.pid, 42);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_become_addresses),
        cmocka_unit_test(names_that_do_not_fit_are_refused),
        ON_BOTH(listener_and_stream_meet_at_a_name),
        ON_BOTH(stream_is_bound_before_it_connects),
        ON_BOTH(pair_talks_and_ends),
        ON_BOTH(pair_is_made_whole_or_not_at_all),
        ON_BOTH(pair_without_room_for_both_leaves_neither),
        ON_BOTH(peer_of_a_pair_is_who_made_it),
        ON_BOTH(accepted_stream_tells_which_process_connected),
        ON_BOTH(who_has_no_unix_peer_has_no_credentials),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
