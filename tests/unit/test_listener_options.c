/* SPDX-License-Identifier: MIT */
/*
 * Listener options, and the file of a Unix listener: its mode, and a stale one; on both backends.
 */
#include "tests/support/connecting.h"

#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct pair pair;
static struct rdy_address any_port;

static int open_inet(struct rdy_listen_opts *opts)
{
    opts->size = sizeof(*opts);
    return rdy_listener_open(&pair.listener, pair.runtime, sockaddr_at(&any_port),
                             any_port.addr_len, opts);
}

static int option_of(int fd, int level, int name)
{
    socklen_t size = sizeof(int);
    int value = -1;

    assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

static void options_are_set_on_the_listener(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};

    for (int i = 0; i < 2; i++) {
        struct rdy_listen_opts opts = {
            .backlog = 7,
            .is_reuseaddr_off = true,
            .is_freebind = true,
            .fastopen_queue = 5,
            .defer_accept_s = 3,
            .send_buf = 32768,
            .recv_buf = 16384,
            .bind_device = "lo",
        };
        char device[IF_NAMESIZE] = "";
        socklen_t device_size = sizeof(device);
        int fd;

        pair_open(&pair, state);
        any_port = loopback_at(families[i], 0);
        assert_int_equal(open_inet(&opts), 0);
        fd = pair.listener.fd;
        assert_int_equal(option_of(fd, SOL_SOCKET, SO_REUSEADDR), 0);
        assert_int_equal(option_of(fd, IPPROTO_IP, IP_FREEBIND), 1);
        assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_FASTOPEN), 5);
        assert_true(option_of(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) >= 3);
        assert_int_equal(option_of(fd, SOL_SOCKET, SO_SNDBUF), 65536);
        assert_int_equal(option_of(fd, SOL_SOCKET, SO_RCVBUF), 32768);
        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &device_size), 0);
        assert_string_equal(device, "lo");
        pair_close(&pair);

        opts = (struct rdy_listen_opts){0};
        assert_int_equal(open_inet(&opts), 0);
        fd = pair.listener.fd;
        assert_int_equal(option_of(fd, SOL_SOCKET, SO_REUSEADDR), 1);
        assert_int_equal(option_of(fd, IPPROTO_IP, IP_FREEBIND), 0);
        assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_FASTOPEN), 0);
        assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT), 0);
        pair_close(&pair);
    }
}

static void accepted_stream_begins_as_the_listener_says(void **state)
{
    for (int is_off = 0; is_off < 2; is_off++) {
        struct rdy_listen_opts opts = {.is_nodelay_off = is_off == 1, .recv_buf = 16384};
        int value = -1;

        pair_open(&pair, state);
        any_port = loopback_at(AF_INET, 0);
        assert_int_equal(open_inet(&opts), 0);
        pair.peer = dial(&pair);
        (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        assert_int_equal(rdy_stream_get(&pair.server, RDY_STREAM_NODELAY, &value), 0);
        assert_int_equal(value, !is_off);
        assert_int_equal(rdy_stream_get(&pair.server, RDY_STREAM_RECV_BUF, &value), 0);
        assert_int_equal(value, 32768);
        pair_close(&pair);
    }
}

/* 192.0.2.1 is for documentation: no machine has it. */
static void listener_may_bind_an_address_that_is_not_there(void **state)
{
    struct rdy_listen_opts opts = {0};

    pair_open(&pair, state);
    any_port = loopback_at(AF_INET, 0);
    ((struct sockaddr_in *)&any_port.addr)->sin_addr.s_addr = htonl(0xc0000201);
    assert_int_equal(open_inet(&opts), -EADDRNOTAVAIL);
    opts.is_freebind = true;
    assert_int_equal(open_inet(&opts), 0);
    pair_close(&pair);
}

/* With a connection in TIME_WAIT on the port, only SO_REUSEADDR lets the next listener have it. */
static void port_with_a_closed_connection_is_taken_again_by_default(void **state)
{
    for (int is_off = 0; is_off < 2; is_off++) {
        struct rdy_listen_opts opts = {.is_reuseaddr_off = is_off == 1};
        socklen_t addr_len = 0;
        char byte;

        pair_open(&pair, state);
        any_port = loopback_at(AF_INET, 0);
        assert_int_equal(open_inet(&opts), 0);
        assert_int_equal(rdy_listener_address(&pair.listener, &any_port.addr, &addr_len), 0);
        pair.peer = dial(&pair);
        (void)spawn_test(pair.runtime, poll_accepts, NULL, &pair);
        assert_int_equal(rdy_runtime_run(pair.runtime), 0);
        rdy_listener_close(&pair.listener);
        rdy_stream_close(&pair.server); /* first, so that the port is this side's */
        let_driver_turn(&pair);
        assert_int_equal(recv(pair.peer, &byte, 1, 0), 0);
        assert_int_equal(close(pair.peer), 0);
        pair.peer = -1;

        assert_int_equal(open_inet(&opts), is_off ? -EADDRINUSE : 0);
        pair_close(&pair);
    }
}

/* --- the file of a Unix listener --- */

static char folder[] = "/tmp/rdy-test-listener-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/socket", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static socklen_t unix_name(struct sockaddr_un *addr, bool is_abstract)
{
    size_t len = strlen(path);

    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(addr->sun_path, path, len + 1);
    if (is_abstract)
        addr->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (is_abstract ? 0 : 1));
}

static int open_unix(struct rdy_listen_opts *opts)
{
    struct sockaddr_un addr;
    socklen_t addr_len = unix_name(&addr, false);

    opts->size = sizeof(*opts);
    return rdy_listener_open(&pair.listener, pair.runtime, (struct sockaddr *)&addr, addr_len,
                             opts);
}

/* A plain socket bound to the path. */
static int bind_plain(int type)
{
    struct sockaddr_un addr;
    socklen_t addr_len = unix_name(&addr, false);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, addr_len), 0);
    return fd;
}

static bool path_exists(void)
{
    struct stat status;

    return lstat(path, &status) == 0;
}

static void file_has_the_mode_that_was_asked_for(void **state)
{
    static const mode_t umasks[] = {0, 022, 0177, 0777};
    struct rdy_listen_opts opts = {.unix_mode = 0620};
    struct stat status;

    pair_open(&pair, state);
    for (size_t i = 0; i < 4; i++) {
        mode_t before = umask(umasks[i]);

        assert_int_equal(open_unix(&opts), 0);
        (void)umask(before);
        assert_int_equal(lstat(path, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0620);
        /* The socket's own mode bounds the file's from its first moment on. */
        assert_int_equal(fstat(pair.listener.fd, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0620);
        pair_close(&pair);
        assert_int_equal(unlink(path), 0);
    }
}

static void stale_file_is_replaced_if_that_was_asked_for(void **state)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};

    pair_open(&pair, state);
    for (size_t i = 0; i < 3; i++) {
        struct rdy_listen_opts opts = {0};

        assert_int_equal(close(bind_plain(types[i])), 0);
        assert_int_equal(open_unix(&opts), -EADDRINUSE);
        assert_true(path_exists());
        opts.is_stale_replaced = true;
        assert_int_equal(open_unix(&opts), 0);
        let_driver_turn(&pair);
        rdy_listener_close(&pair.listener);
        assert_int_equal(unlink(path), 0);
    }
    pair_close(&pair);
}

static void file_of_a_listener_that_lives_is_left_alone(void **state)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    struct rdy_listen_opts opts = {.is_stale_replaced = true};

    pair_open(&pair, state);
    for (size_t i = 0; i < 3; i++) {
        int fd = bind_plain(types[i]);

        if (types[i] != SOCK_DGRAM)
            assert_int_equal(listen(fd, 0), 0);
        /* The first try fills a queue of this length; the second meets a full one. */
        for (int tries = 0; tries < 2; tries++) {
            assert_int_equal(open_unix(&opts), -EADDRINUSE);
            assert_true(path_exists());
        }
        assert_int_equal(close(fd), 0);
        assert_int_equal(unlink(path), 0);
    }
    pair_close(&pair);
}

static void file_that_is_no_socket_is_left_alone(void **state)
{
    struct rdy_listen_opts opts = {.is_stale_replaced = true};
    int fd;

    pair_open(&pair, state);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(open_unix(&opts), -EADDRINUSE);
    assert_true(path_exists());
    assert_int_equal(unlink(path), 0);

    /* Nor is one that a link leads to, or the link. */
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(open_unix(&opts), -EADDRINUSE);
    assert_true(path_exists());
    assert_int_equal(unlink(path), 0);
    pair_close(&pair);
}

static void options_of_other_families_are_refused(void **state)
{
    struct rdy_listen_opts not_unix[] = {
        {.is_reuseaddr_off = true}, {.is_nodelay_off = true}, {.is_freebind = true},
        {.is_transparent = true},   {.fastopen_queue = 1},    {.defer_accept_s = 1},
        {.bind_device = "lo"},
    };
    struct rdy_listen_opts bad[] = {
        {.backlog = -1},  {.fastopen_queue = -1}, {.defer_accept_s = -1},      {.send_buf = -1},
        {.recv_buf = -1}, {.unix_mode = 0600},    {.is_stale_replaced = true},
    };
    struct rdy_listen_opts opts = {.unix_mode = 01000};
    struct sockaddr_un addr;
    socklen_t addr_len = unix_name(&addr, true);
    struct holdings before;

    pair_open(&pair, state);
    before = holdings_now(pair.runtime);
    any_port = loopback_at(AF_INET, 0);
    for (size_t i = 0; i < sizeof(not_unix) / sizeof(not_unix[0]); i++)
        assert_int_equal(open_unix(&not_unix[i]), -EINVAL);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(open_inet(&bad[i]), -EINVAL);
    assert_int_equal(open_unix(&opts), -EINVAL);
    opts.unix_mode = 0600; /* but an abstract name has no file */
    assert_int_equal(
        rdy_listener_open(&pair.listener, pair.runtime, (struct sockaddr *)&addr, addr_len, &opts),
        -EINVAL);
    opts = (struct rdy_listen_opts){.bind_device = "no-such-device"};
    assert_int_equal(open_inet(&opts), -ENODEV);
    opts.size++;
    assert_int_equal(rdy_listener_open(&pair.listener, pair.runtime, sockaddr_at(&any_port),
                                       any_port.addr_len, &opts),
                     -EINVAL);
    assert_int_equal(pair.listener.fd, -1);
    assert_false(path_exists());
    assert_nothing_leaked(pair.runtime, before);
    pair_close(&pair);
}

#define CALLS_MAX 40u

/* Opens with the system call number @nth failing; @has_come: there were so many. */
static int open_failing_at(uint64_t nth, int (*open_with)(struct rdy_listen_opts *),
                           struct rdy_listen_opts *opts, bool *has_come)
{
    struct fault fault = {.left = nth, .error = EIO};
    int rc;

    fault_begin(&fault);
    rc = open_with(opts);
    fault_end(&fault);
    *has_come = fault.has_come;
    return rc;
}

/* Neither a descriptor nor the file; but what was there before may be gone already. */
static void failing_call_leaves_no_file_of_ours(void **state)
{
    struct rdy_listen_opts opts = {
        .is_stale_replaced = true, .unix_mode = 0600, .send_buf = 32768, .recv_buf = 32768};
    struct holdings before;
    uint64_t failures = 0;
    uint64_t nth = 1;
    bool has_come = true;

    pair_open(&pair, state);
    before = holdings_now(pair.runtime);
    for (; has_come && nth <= CALLS_MAX; nth++) {
        struct rdy_listener listener = {.fd = -1};
        int rc;

        assert_int_equal(close(bind_plain(SOCK_STREAM)), 0);
        rc = open_failing_at(nth, open_unix, &opts, &has_come);
        assert_true(rc == 0 || has_come);
        /* The file that was found is kept by what fails before the connection tells its fate. */
        assert_true(rc == 0 || rc == -EIO || rc == -EADDRINUSE);
        failures += rc < 0;
        listener = pair.listener;
        rdy_listener_close(&listener);
        pair.listener = listener;
        if (path_exists())
            assert_int_equal(unlink(path), 0);
        assert_nothing_leaked(pair.runtime, before);
    }
    assert_false(has_come);
    assert_true(failures >= 9);
    pair_close(&pair);
}

static void failing_call_after_the_bind_removes_the_file(void **state)
{
    struct rdy_listen_opts opts = {.unix_mode = 0600};
    uint64_t nth = 1;
    bool has_come = true;
    struct holdings before;

    pair_open(&pair, state);
    before = holdings_now(pair.runtime);
    for (; has_come && nth <= CALLS_MAX; nth++) {
        int rc = open_failing_at(nth, open_unix, &opts, &has_come);

        assert_int_equal(rc, has_come ? -EIO : 0);
        assert_int_equal(path_exists(), rc == 0);
        rdy_listener_close(&pair.listener);
        if (rc == 0)
            assert_int_equal(unlink(path), 0);
        assert_nothing_leaked(pair.runtime, before);
    }
    assert_false(has_come);
    assert_true(nth > 5); /* socket, mode, bind, mode, listen */
    pair_close(&pair);
}

/* The registration fails, when the file is there already. */
static void refused_registration_removes_the_file(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts runtime = runtime_opts(fixture->backend);
    struct rdy_listen_opts opts = {0};

    runtime.driver.entries_max = 1;
    rdy_runtime_close(fixture->runtime);
    assert_int_equal(rdy_runtime_open(&fixture->runtime, &runtime), 0);
    pair_open(&pair, state);
    pair_unix(&pair);
    assert_int_equal(open_unix(&opts), -ENFILE);
    assert_false(path_exists());
    pair_close(&pair);
}

static void failing_call_of_a_tcp_listener_leaks_nothing(void **state)
{
    struct rdy_listen_opts opts = {
        .is_reuseport = true,
        .is_nodelay_off = true,
        .is_freebind = true,
        .fastopen_queue = 5,
        .defer_accept_s = 3,
        .send_buf = 32768,
        .recv_buf = 16384,
        .bind_device = "lo",
    };
    uint64_t nth = 1;
    bool has_come = true;
    struct holdings before;

    pair_open(&pair, state);
    before = holdings_now(pair.runtime);
    any_port = loopback_at(AF_INET6, 0);
    for (; has_come && nth <= CALLS_MAX; nth++) {
        int rc = open_failing_at(nth, open_inet, &opts, &has_come);

        /* TCP_NODELAY, the second call, only makes things faster. */
        assert_int_equal(rc, has_come && nth != 2 ? -EIO : 0);
        rdy_listener_close(&pair.listener);
        assert_nothing_leaked(pair.runtime, before);
    }
    assert_false(has_come);
    assert_true(nth > 13);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(options_are_set_on_the_listener),
        ON_BOTH(accepted_stream_begins_as_the_listener_says),
        ON_BOTH(listener_may_bind_an_address_that_is_not_there),
        ON_BOTH(port_with_a_closed_connection_is_taken_again_by_default),
        ON_BOTH(file_has_the_mode_that_was_asked_for),
        ON_BOTH(stale_file_is_replaced_if_that_was_asked_for),
        ON_BOTH(file_of_a_listener_that_lives_is_left_alone),
        ON_BOTH(file_that_is_no_socket_is_left_alone),
        ON_BOTH(options_of_other_families_are_refused),
        ON_BOTH(failing_call_leaves_no_file_of_ours),
        ON_BOTH(failing_call_after_the_bind_removes_the_file),
        ON_BOTH(refused_registration_removes_the_file),
        ON_BOTH(failing_call_of_a_tcp_listener_leaks_nothing),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
