/* SPDX-License-Identifier: MIT */
/*
 * Servers in one call: addresses as text, what is left behind when it fails, and how it ends.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include <rdy/serve.h>

#include "engine/sys.h"

static const char *const backend_names[] = {
    [RDY_BACKEND_URING] = "uring", [RDY_BACKEND_EPOLL] = "epoll"};

/* A session that says one byte, and stops the runtime if the test wants that. */
struct session {
    struct rdy_stream stream;
    struct rdy_co co;
    ssize_t n;
};

static bool stops;
static int sessions;

static int session_poll(struct rdy_task *task, void *self)
{
    struct session *s = self;

    RDY_BEGIN(&s->co);
    sessions++;
    RDY_AWAIT(&s->co, s->n = rdy_stream_poll_write(&s->stream, task, "x", 1));
    if (stops)
        rdy_runtime_stop(rdy_task_runtime(task));
    RDY_END(&s->co);
    return 0;
}

static const struct rdy_task_spec session_spec = {.poll = session_poll,
                                                  .self_size = sizeof(struct session)};

/* A port that was free a moment ago, as "127.0.0.1:PORT" or "[::1]:PORT". */
static void free_address(int family, char *text, size_t text_len, struct sockaddr_storage *addr,
                         socklen_t *addr_len)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    uint16_t port;

    memset(addr, 0, sizeof(*addr));
    addr->ss_family = (sa_family_t)family;
    *addr_len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (family == AF_INET)
        ((struct sockaddr_in *)addr)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)addr)->sin6_addr = in6addr_loopback;
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)addr, *addr_len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, addr_len), 0);
    assert_int_equal(close(fd), 0);
    port = ntohs(((struct sockaddr_in *)addr)->sin_port); /* at the same place in both */
    (void)snprintf(text, text_len, family == AF_INET ? "127.0.0.1:%u" : "[::1]:%u", port);
}

/* Where nobody listens a connection may find itself: its own port can be the one it looks for. */
static bool is_itself(int fd, const struct sockaddr_storage *addr, socklen_t addr_len)
{
    struct sockaddr_storage own = {0};
    socklen_t own_len = sizeof(own);

    if (addr->ss_family == AF_UNIX)
        return false;
    return getsockname(fd, (struct sockaddr *)&own, &own_len) == 0 && own_len == addr_len &&
           ((struct sockaddr_in *)&own)->sin_port == ((const struct sockaddr_in *)addr)->sin_port;
}

/* 1, or -1 if nobody serves there. */
static ssize_t read_byte(const struct sockaddr_storage *addr, socklen_t addr_len)
{
    int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ssize_t n = -1;
    char byte;

    if (connect(fd, (const struct sockaddr *)addr, addr_len) == 0 && !is_itself(fd, addr, addr_len))
        n = recv(fd, &byte, 1, 0);
    (void)close(fd);
    return n;
}

static void text_that_is_no_address_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        ":",
        "7777",
        "127.0.0.1",
        ":7777",
        "localhost:7777",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:655360",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1: 1",
        "127.0.0.1:1 ",
        "127.0.0.1:0x1",
        "unix:",
        "@",
        "127.0.0.256:1",
        " 127.0.0.1:1",
        "::1:7777",
        "[]:1",
        "[::1]",
        "[::1]7777",
        "[::1:7777",
        "::1]:7777",
        "[127.0.0.1]:7777",
        "[:::1]:7777",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0001:2345]:7777",
    };
    int descriptors = descriptors_count();

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(rdy_serve_at(runtime_of(state), texts[i], &session_spec, NULL), -EINVAL);
    assert_int_equal(runtime_stats(runtime_of(state)).tasks_spawned, 0);
    assert_int_equal(descriptors_count(), descriptors);
}

static void *client_run(void *arg)
{
    struct rdy_runtime *runtime = ((void **)arg)[0];
    const struct sockaddr_storage *addr = ((void **)arg)[1];
    socklen_t addr_len =
        addr->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    ssize_t got = 0;

    for (int i = 0; i < 3; i++)
        got += read_byte(addr, addr_len);
    rdy_runtime_stop(runtime);
    return (void *)(intptr_t)got;
}

static void connections_to_the_address_are_served_until_an_abort(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct rdy_runtime *runtime = runtime_of(state);

    stops = false;
    for (int i = 0; i < 2; i++) {
        struct sockaddr_storage addr;
        socklen_t addr_len;
        struct rdy_join join = {0};
        struct rdy_task_id id;
        pthread_t client;
        void *args[] = {runtime, &addr};
        void *got = NULL;
        char text[64];
        int result = 0;

        free_address(families[i], text, sizeof(text), &addr, &addr_len);
        assert_int_equal(rdy_serve_at(runtime, text, &session_spec, &id), 0);
        assert_int_equal(rdy_join_open(&join, runtime, id), 0);
        sessions = 0;
        assert_int_equal(pthread_create(&client, NULL, client_run, args), 0);
        assert_int_equal(rdy_runtime_run(runtime), 0);
        assert_int_equal(pthread_join(client, &got), 0);
        assert_int_equal((intptr_t)got, 3);
        assert_int_equal(sessions, 3);

        assert_int_equal(rdy_task_abort(runtime, id), 0);
        assert_int_equal(rdy_join_poll(&join, NULL, &result), 0);
        assert_int_equal(result, -ECANCELED);
        assert_int_equal(rdy_runtime_run(runtime), 0);
        assert_int_equal(runtime_stats(runtime).tasks_live, 0);
        assert_int_equal(read_byte(&addr, addr_len), -1);
    }
}

static ssize_t read_byte_of_name(const char *name)
{
    struct sockaddr_storage addr = {.ss_family = AF_UNIX};
    struct sockaddr_un *unix_addr = (struct sockaddr_un *)&addr;
    size_t name_len = strlen(name);

    memcpy(unix_addr->sun_path + 1, name, name_len);
    return read_byte(&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + name_len));
}

static void *unix_client_run(void *arg)
{
    ssize_t got = read_byte_of_name("rdy test of serve_at");

    rdy_runtime_stop(arg);
    return (void *)(intptr_t)got;
}

static void unix_address_is_served_as_well(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    pthread_t client;
    void *got = NULL;

    stops = false;
    assert_int_equal(rdy_serve_at(runtime, "@rdy test of serve_at", &session_spec, NULL), 0);
    assert_int_equal(pthread_create(&client, NULL, unix_client_run, runtime), 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(pthread_join(client, &got), 0);
    assert_int_equal((intptr_t)got, 1);
}

static void address_in_use_leaves_nothing_behind(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct sockaddr_storage addr;
    socklen_t addr_len;
    char text[64];
    int descriptors;

    free_address(AF_INET, text, sizeof(text), &addr, &addr_len);
    assert_int_equal(rdy_serve_at(runtime, text, &session_spec, NULL), 0);
    descriptors = descriptors_count();
    assert_int_equal(rdy_serve_at(runtime, text, &session_spec, NULL), -EADDRINUSE);
    assert_int_equal(descriptors_count(), descriptors);
    assert_int_equal(rdy_serve_at(runtime, "127.0.0.1:0", &(struct rdy_task_spec){0}, NULL),
                     -EINVAL);
    assert_int_equal(runtime_stats(runtime).tasks_live, 2);
}

static void accepting_that_ends_is_told_to_who_joins(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_storage addr;
    socklen_t addr_len;
    struct rdy_join join = {0};
    struct rdy_task_id id;
    int result = 0;
    char text[64];

    free_address(AF_INET, text, sizeof(text), &addr, &addr_len);
    assert_int_equal(rdy_serve_at(runtime, text, &session_spec, &id), 0);
    assert_int_equal(rdy_join_open(&join, runtime, id), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&addr, addr_len), 0);
    (void)rdy_sys_fail_nth(1, EINVAL); /* the next system call is the accept */
    assert_int_equal(rdy_runtime_run(runtime), 0);
    (void)rdy_sys_fail_nth(0, 0);
    assert_int_equal(rdy_join_poll(&join, NULL, &result), 0);
    assert_int_equal(result, -EINVAL);
    assert_int_equal(close(client), 0);
}

/* --- rdy_serve_forever(): chooses its backend by the environment --- */

static void choose_backend(void **state)
{
    struct runtime_fixture *fixture = *state;

    assert_int_equal(setenv("RDY_BACKEND", backend_names[fixture->backend], 1), 0);
}

struct visitor {
    struct sockaddr_storage addr;
    socklen_t addr_len;
    bool is_over; /* the server will not come */
};

/* Comes until somebody serves. */
static void *visitor_run(void *arg)
{
    struct visitor *visitor = arg;

    while (!__atomic_load_n(&visitor->is_over, __ATOMIC_ACQUIRE)) {
        if (read_byte(&visitor->addr, visitor->addr_len) == 1)
            break;
        (void)sched_yield();
    }
    return NULL;
}

static int serve_a_visitor(const char *text, struct visitor *visitor, uint64_t fail_nth)
{
    pthread_t thread;
    int rc;

    visitor->is_over = false;
    assert_int_equal(pthread_create(&thread, NULL, visitor_run, visitor), 0);
    (void)rdy_sys_fail_nth(fail_nth, EMFILE);
    rc = rdy_serve_forever(text, &session_spec);
    (void)rdy_sys_fail_nth(0, 0);
    __atomic_store_n(&visitor->is_over, true, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return rc;
}

static void session_that_stops_ends_the_server(void **state)
{
    struct visitor visitor;
    char text[64];

    choose_backend(state);
    stops = true;
    for (int round = 0; round < 20; round++) {
        free_address(AF_INET, text, sizeof(text), &visitor.addr, &visitor.addr_len);
        assert_int_equal(serve_a_visitor(text, &visitor, 0), 0);
    }
    assert_int_equal(rdy_serve_forever("nonsense", &session_spec), -EINVAL);
    assert_int_equal(unsetenv("RDY_BACKEND"), 0);
}

/* Each system call up to the first that fails without ending the server fails once. */
static void server_that_cannot_begin_leaves_nothing_behind(void **state)
{
    struct visitor visitor;
    int descriptors;
    int failures = 0;
    char text[64];

    choose_backend(state);
    stops = true;
    descriptors = descriptors_count();
    for (uint64_t nth = 1; nth <= 50; nth++) {
        int rc;

        free_address(AF_INET, text, sizeof(text), &visitor.addr, &visitor.addr_len);
        rc = serve_a_visitor(text, &visitor, nth);
        assert_true(rc == 0 || rc == -EMFILE);
        failures += rc < 0 ? 1 : 0;
        assert_int_equal(descriptors_count(), descriptors);
    }
    assert_in_range(failures, 3, 40);
    assert_int_equal(unsetenv("RDY_BACKEND"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(text_that_is_no_address_is_refused),
        ON_BOTH(connections_to_the_address_are_served_until_an_abort),
        ON_BOTH(unix_address_is_served_as_well),
        ON_BOTH(address_in_use_leaves_nothing_behind),
        ON_BOTH(accepting_that_ends_is_told_to_who_joins),
        ON_BOTH(session_that_stops_ends_the_server),
        ON_BOTH(server_that_cannot_begin_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
