/* SPDX-License-Identifier: MIT */
/*
 * Connecting in completion mode: how it ends, in each state in which it can be left, and what a
 * stream is afterwards; on io_uring, on epoll and on a fake.
 */
#include "tests/support/rig_connect.h"

#include <poll.h>
#include <stdio.h>
#include <sys/un.h>

#include <rdy/connector.h>
#include <rdy/rdy.h>

/* --- how it ends --- */

static void connection_that_is_made_completes(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct rig *rig = *state;

    for (int i = 0; i < 2; i++) {
        target = target_that_accepts(families[i]);
        assert_int_equal(run_connect(rig), 0);
        assert_int_equal(rig_stats(rig).connects, has_ring(rig) ? i + 1 : 0);
        assert_completes(rig);
        rig_finish(rig);
        target_close(&target);
    }
}

/* Ready as an accepted stream is: to send, and not yet to receive. */
static void connected_stream_is_writable_and_nothing_else(void **state)
{
    struct rig *rig = *state;

    target = target_that_accepts(AF_INET);
    assert_int_equal(run_connect(rig), 0);
    assert_int_equal(
        rdy_event_ready(rdy_ready_event(&rig->stream.reg, RDY_INTEREST_READ | RDY_INTEREST_WRITE)),
        RDY_WRITABLE);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    target_close(&target);
}

static void refusal_is_told_however_often_it_is_asked(void **state)
{
    struct rig *rig = *state;
    int error = 42;

    target = target_that_refuses(AF_INET);
    assert_int_equal(run_connect(rig), -ECONNREFUSED);
    assert_int_equal(rdy_stream_take_error(&rig->stream, &error), 0);
    assert_int_equal(error, -ECONNREFUSED);
    rig_run(rig, poll_connects_rig);
    assert_int_equal(rig->result, -ECONNREFUSED);
    target_close(&target);
}

static void error_that_was_taken_before_is_still_told(void **state)
{
    struct rig *rig = *state;
    int error = 0;

    target = target_that_refuses(AF_INET);
    assert_int_equal(start(rig), 0);
    for (int i = 0; i < 100 && error == 0; i++) {
        rig_turn(rig);
        assert_int_equal(rdy_stream_take_error(&rig->stream, &error), 0);
    }
    assert_int_equal(error, -ECONNREFUSED);
    rig_run(rig, poll_connects_rig);
    assert_int_equal(rig->result, -ECONNREFUSED);
    target_close(&target);
}

/* Until the socket has an error of its own, which no operation has fetched yet. */
static void await_error(const struct rig *rig)
{
    struct pollfd socket = {.fd = rig->stream.fd};

    assert_int_equal(poll(&socket, 1, 30000), 1);
    assert_true(socket.revents & POLLERR);
}

/* The kernel tells an error once: who takes it from under the ring's connect makes that succeed. */
static void error_is_not_taken_from_a_connect_under_way(void **state)
{
    struct rig *rig = *state;
    int error = 42;

    target = target_that_never_answers(AF_INET);
    assert_int_equal(start(rig), 0);
    rig_turn(rig);
    if (rig->kind == RIG_FAKE)
        ops_of(rig)->is_deaf = true;
    target_close(&target); /* the next SYN is refused */
    await_error(rig);
    assert_int_equal(rdy_stream_take_error(&rig->stream, &error), 0);
    assert_int_equal(error, has_ring(rig) ? 0 : -ECONNREFUSED);

    if (rig->kind == RIG_FAKE)
        ops_of(rig)->is_deaf = false;
    rig_run(rig, poll_connects_rig);
    assert_int_equal(rig->result, -ECONNREFUSED);
    assert_int_equal(rdy_stream_take_error(&rig->stream, &error), 0);
    assert_int_equal(error, -ECONNREFUSED);
}

static void unreachable_address_is_told_at_once_or_by_the_poll(void **state)
{
    struct rig *rig = *state;
    struct rdy_address address = unreachable_address();

    assert_int_equal(run_connect_at(rig, &address), -ENETUNREACH);
    if (!has_ring(rig))
        assert_int_equal(rig->stream.fd, -1);
}

static void address_that_is_too_long_is_refused(void **state)
{
    struct rig *rig = *state;
    struct rdy_connect_opts opts = {.size = sizeof(opts), .is_completing = true};
    static unsigned char addr[sizeof(struct sockaddr_storage) + 1];
    struct sockaddr_in inet = loopback(9);
    int before = descriptors_count();

    memcpy(addr, &inet, sizeof(inet));
    assert_int_equal(rdy_stream_start_connect_with(&rig->stream, rig->runtime,
                                                   (struct sockaddr *)(void *)addr, sizeof(addr),
                                                   &opts),
                     -EINVAL);
    assert_int_equal(descriptors_count(), before);
}

/* A Unix socket never waits for a connection: it is made, or the queue is full. */
static void full_queue_of_a_unix_listener_says_eagain_at_once(void **state)
{
    struct rig *rig = *state;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct rdy_address address;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(listener >= 0 && filler >= 0);
    (void)snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "rdy-full-%d", (int)getpid());
    address.addr_len = sizeof(name);
    memcpy(&address.addr, &name, sizeof(name));
    assert_int_equal(bind(listener, sockaddr_at(&address), address.addr_len), 0);
    assert_int_equal(listen(listener, 0), 0);

    assert_int_equal(run_connect_at(rig, &address), 0);
    assert_int_equal(rdy_stream_start_completion(&rig->stream), 0);
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(start_at(rig, &address, (struct rdy_connect_opts){0}), -EAGAIN);
    assert_int_equal(rig->stream.fd, -1);
    assert_int_equal(close(filler), 0);
    assert_int_equal(close(listener), 0);
}

static void local_address_and_options_are_set_before(void **state)
{
    struct rig *rig = *state;
    struct rdy_address local = loopback_at(AF_INET, 0);
    struct sockaddr_storage addr;
    socklen_t addr_len = 0;
    int keepalive = 0;

    ((struct sockaddr_in *)&local.addr)->sin_addr.s_addr = htonl(0x7f000002);
    target = target_that_accepts(AF_INET);
    assert_int_equal(start_at(rig, &target.address,
                              (struct rdy_connect_opts){.local = sockaddr_at(&local),
                                                        .local_len = local.addr_len,
                                                        .is_keepalive = true}),
                     0);
    rig_run(rig, poll_connects_rig);
    assert_int_equal(rig->result, 0);
    assert_int_equal(rdy_stream_local_address(&rig->stream, &addr, &addr_len), 0);
    assert_int_equal(((struct sockaddr_in *)&addr)->sin_addr.s_addr, htonl(0x7f000002));
    assert_int_equal(rdy_stream_get(&rig->stream, RDY_STREAM_KEEPALIVE, &keepalive), 0);
    assert_int_equal(keepalive, 1);
    assert_completes(rig);
    target_close(&target);
}

/* With a cookie or without: the first data may go with the SYN, and the stream completes. */
static void fast_open_completes_too(void **state)
{
    struct rig *rig = *state;

    target = target_that_accepts(AF_INET);
    for (int i = 0; i < 2; i++) {
        int rc = start_at(rig, &target.address, (struct rdy_connect_opts){.is_fastopen = true});

        assert_int_equal(rc, 0);
        rig_run(rig, poll_connects_rig);
        assert_int_equal(rig->result, 0);
        assert_int_equal(rig_stats(rig).connects, 0);
        assert_completes(rig);
        rig_finish(rig);
    }
    target_close(&target);
}

static int poll_connector(struct rdy_task *task, void *self)
{
    struct rdy_connector *connector = ((struct test_task *)self)->test;
    struct rdy_stream stream = {.fd = -1};
    int rc = rdy_connector_poll(connector, task, &stream);

    if (rc == 0)
        assert_int_equal(rdy_stream_start_completion(&stream), 0);
    rdy_stream_close(&stream);
    assert_true(rc == RDY_PENDING || rc == 0);
    return rc;
}

static void connector_passes_over_a_refusal(void **state)
{
    struct rig *rig = *state;
    struct rdy_connect_opts connect = {.size = sizeof(connect), .is_completing = true};
    struct rdy_connector_opts opts = {.size = sizeof(opts), .connect = &connect};
    struct target refuses = target_that_refuses(AF_INET6);
    struct rdy_connector connector = {0};
    struct rdy_address addrs[2];

    target = target_that_accepts(AF_INET);
    addrs[0] = refuses.address;
    addrs[1] = target.address;
    assert_int_equal(rdy_connector_start(&connector, rig->runtime, addrs, 2, &opts), 0);
    (void)spawn_test(rig->runtime, poll_connector, NULL, &connector);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_null(connector.runtime);
    assert_int_equal(rig_stats(rig).connects, has_ring(rig) ? 2 : 0);
    target_close(&refuses);
    target_close(&target);
}

/* --- before there is a connection --- */

static void check_other_calls(struct rig *rig, struct rdy_task *task)
{
    struct rdy_stream *stream = &rig->stream;
    struct rdy_readiness wait = {0};
    char byte = 'x';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct rdy_buf buf = {0};

    assert_int_equal(rdy_stream_poll_recv(stream, task, &buf), -EINPROGRESS);
    assert_int_equal(rdy_stream_poll_send(stream, task, &rig->held[0]), -EINPROGRESS);
    assert_int_equal(rdy_stream_poll_flush(stream, task), -EINPROGRESS);
    assert_int_equal(rdy_stream_start_completion(stream), -EINPROGRESS);
    assert_int_equal(rdy_stream_poll_read(stream, task, &byte, 1), -EINPROGRESS);
    assert_int_equal(rdy_stream_poll_write(stream, task, &byte, 1), -EINPROGRESS);
    assert_int_equal(rdy_stream_poll_readv(stream, task, &iov, 1), -EINPROGRESS);
    assert_int_equal(rdy_stream_poll_writev(stream, task, &iov, 1), -EINPROGRESS);
    assert_int_equal(rdy_stream_try_read(stream, &byte, 1), -EINPROGRESS);
    assert_int_equal(rdy_stream_try_write(stream, &byte, 1), -EINPROGRESS);
    assert_int_equal(rdy_stream_poll_readable(stream, task), -EINPROGRESS);
    assert_int_equal(rdy_stream_poll_closed(stream, task, &wait), -EINPROGRESS);
    assert_int_equal(rdy_stream_shutdown(stream, SHUT_WR), -EINPROGRESS);
    assert_int_equal(rdy_stream_poll_shutdown(stream, task, SHUT_WR), -EINPROGRESS);
    assert_int_equal(rdy_stream_unsent(stream), 0);
}

static int poll_checks_other_calls(struct rdy_task *task, void *self)
{
    check_other_calls(rig_of(self), task);
    return 0;
}

static void other_calls_say_that_it_is_under_way(void **state)
{
    struct rig *rig = *state;

    target = target_that_never_answers(AF_INET);
    rig_hold(rig, "x", 1);
    assert_int_equal(start(rig), 0);
    rig_run(rig, poll_checks_other_calls);
    rig_turn(rig);
    rig_run(rig, poll_checks_other_calls);
    target_close(&target);
}

struct deadline {
    struct rig *rig;
    struct rdy_timer timer;
    uint64_t at_ns;
};

static int poll_connects_in_time(struct rdy_task *task, void *self)
{
    struct deadline *deadline = ((struct test_task *)self)->test;
    struct rig *rig = deadline->rig;

    rig->result = RDY_TIMEOUT(&deadline->timer, task, deadline->at_ns,
                              rdy_stream_poll_connect(&rig->stream, task));
    return rig->result == RDY_PENDING ? RDY_PENDING : 0;
}

static void connection_that_never_answers_meets_its_deadline(void **state)
{
    struct rig *rig = *state;
    struct deadline deadline = {.rig = rig};

    target = target_that_never_answers(AF_INET);
    rdy_runtime_pause_clock(rig->runtime);
    deadline.at_ns = rdy_runtime_now_ns(rig->runtime) + 5 * UINT64_C(1000000000);
    assert_int_equal(start(rig), 0);
    (void)spawn_test(rig->runtime, poll_connects_in_time, NULL, &deadline);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, -ETIMEDOUT);
    target_close(&target);
}

/* Each time the operation is in another state; what is left, the tear-down would see. */
static void close_ends_a_connection_under_way(void **state)
{
    struct rig *rig = *state;

    target = target_that_never_answers(AF_INET);
    for (int turns = 0; turns < 3; turns++) {
        int fd;

        assert_int_equal(start(rig), 0);
        fd = rig->stream.fd;
        if (turns > 0)
            assert_true(rdy_driver_turn(rdy_runtime_driver(rig->runtime), 0) >= 0);
        if (turns > 1)
            rig_turn(rig);
        rdy_stream_close(&rig->stream);
        rig_turn(rig);
        assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
    }
    target_close(&target);
}

/* The fact is in the queue already when it is closed. */
static void close_meets_an_answer_on_its_way(void **state)
{
    struct rig *rig = *state;

    target = target_that_accepts(AF_INET);
    assert_int_equal(start(rig), 0);
    assert_true(rdy_driver_turn(rdy_runtime_driver(rig->runtime), 0) >= 0);
    rdy_stream_close(&rig->stream);
    rig_turn(rig);
    assert_int_equal(driver_stats(rig->runtime).entries_live, 0);
    target_close(&target);
}

/* A task that gives up loses nothing: another hears of the connection. */
static void poll_that_was_given_up_is_taken_up_by_another(void **state)
{
    struct rig *rig = *state;
    struct rdy_task_id id;

    target = target_that_accepts(AF_INET);
    assert_int_equal(start(rig), 0);
    id = spawn_test(rig->runtime, poll_connects_rig, NULL, rig);
    assert_int_equal(rdy_task_abort(rig->runtime, id), 0);
    rig_turn(rig);
    rig_run(rig, poll_connects_rig);
    assert_int_equal(rig->result, 0);
    assert_completes(rig);
    target_close(&target);
}

/*
 * A larger send buffer wakes those who wait to write: the ring asks the socket too early, and lets
 * go of it. The connection is made when the queue has room and the SYN is sent again.
 */
static void wake_up_with_another_reason_is_no_answer(void **state)
{
    struct rig *rig = *state;
    int queued;

    target = target_that_never_answers(AF_INET);
    assert_int_equal(start(rig), 0);
    rig->result = RDY_PENDING;
    rig_start(rig, poll_connects_rig);
    for (int size = 8192; size <= 65536; size *= 2) {
        assert_int_equal(rdy_stream_set(&rig->stream, RDY_STREAM_SEND_BUF, size), 0);
        rig_turn(rig);
        assert_int_equal(rig->result, RDY_PENDING);
    }

    queued = target_accept(&target);
    assert_true(queued >= 0);
    assert_int_equal(fcntl(target.fd, F_SETFL, 0), 0);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, 0);
    assert_completes(rig);
    assert_int_equal(close(queued), 0);
    target_close(&target);
}

static void shutdown_of_the_driver_ends_the_wait(void **state)
{
    struct rig *rig = *state;

    target = target_that_never_answers(AF_INET);
    assert_int_equal(start(rig), 0);
    rig->result = 1;
    rig_start(rig, poll_connects_rig);
    assert_int_equal(rig->result, RDY_PENDING);
    assert_int_equal(rdy_driver_shutdown(rdy_runtime_driver(rig->runtime)), 0);
    assert_int_equal(rdy_runtime_run(rig->runtime), 0);
    assert_int_equal(rig->result, -ESHUTDOWN);
    rdy_stream_close(&rig->stream);
    rdy_runtime_close(rig->runtime);
    rig->runtime = NULL;
    target_close(&target);
}

static void runtime_closes_over_a_connection_under_way(void **state)
{
    struct rig *rig = *state;
    int before = descriptors_count();

    for (int turns = 0; turns < 2; turns++) {
        target = target_that_never_answers(AF_INET);
        assert_int_equal(start(rig), 0);
        if (turns > 0)
            rig_turn(rig);
        rdy_stream_close(&rig->stream);
        rig_reopen(rig, NULL);
        target_close(&target);
        assert_int_equal(descriptors_count(), before);
    }
}

/* Whichever system call of the beginning fails, nothing is kept. */
static void failed_call_leaves_nothing(void **state)
{
    struct rig *rig = *state;
    int rc = -1;

    target = target_that_accepts(AF_INET);
    rig_turn(rig);
    for (uint64_t nth = 1; nth < 20 && rc != 0; nth++) {
        int before = descriptors_count();
        uint64_t calls;

        (void)rdy_sys_fail_nth(nth, ENOBUFS);
        rc = start(rig);
        calls = rdy_sys_fail_nth(0, 0);
        if (calls >= nth && rc < 0) {
            assert_int_equal(rc, -ENOBUFS);
            assert_int_equal(rig->stream.fd, -1);
            rig_turn(rig);
            assert_int_equal(descriptors_count(), before);
        }
        if (calls >= nth && rc == 0) { /* an option that is as well without */
            rdy_stream_close(&rig->stream);
            rig_turn(rig);
            rc = -1;
        }
    }
    assert_int_equal(rc, 0);
    target_close(&target);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_THREE(connection_that_is_made_completes),
        ON_THREE(connected_stream_is_writable_and_nothing_else),
        ON_THREE(refusal_is_told_however_often_it_is_asked),
        ON_THREE(error_that_was_taken_before_is_still_told),
        ON_THREE(error_is_not_taken_from_a_connect_under_way),
        ON_THREE(unreachable_address_is_told_at_once_or_by_the_poll),
        ON_THREE(address_that_is_too_long_is_refused),
        ON_THREE(full_queue_of_a_unix_listener_says_eagain_at_once),
        ON_THREE(local_address_and_options_are_set_before),
        ON_REAL(fast_open_completes_too),
        ON_THREE(connector_passes_over_a_refusal),
        ON_THREE(other_calls_say_that_it_is_under_way),
        ON_REAL(connection_that_never_answers_meets_its_deadline),
        ON_THREE(close_ends_a_connection_under_way),
        ON_THREE(close_meets_an_answer_on_its_way),
        ON_THREE(poll_that_was_given_up_is_taken_up_by_another),
        ON_REAL(wake_up_with_another_reason_is_no_answer),
        ON_REAL(shutdown_of_the_driver_ends_the_wait),
        ON_THREE(runtime_closes_over_a_connection_under_way),
        ON_REAL(failed_call_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
