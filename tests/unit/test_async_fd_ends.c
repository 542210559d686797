/* SPDX-License-Identifier: MIT */
/*
 * AsyncFd at the end of things: the driver shuts down under those who wait, descriptors are closed
 * behind our back, wakers close what they are woken for; and the interests that are neither reading
 * nor writing. On both backends. After the scenarios of Tokio's io_async_fd, io_driver,
 * io_driver_drop and io_async_fd_memory_leak.
 */
#include "tests/support/calls.h"

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/un.h>

#include <rdy/async_fd.h>
#include <rdy/datagram.h>
#include <rdy/net.h>
#include <rdy/unix.h>

#define RW    (RDY_INTEREST_READ | RDY_INTEREST_WRITE)
#define RACES 100
#define MANY  300

struct scene {
    struct rdy_runtime *runtime;
    struct rdy_async_fd afd;
    struct rdy_ready_guard guard;
    struct rdy_readiness wait;
    int peer;
};

static struct scene scene;

static void scene_open(void **state)
{
    int fds[2];

    memset(&scene, 0, sizeof(scene));
    scene.runtime = runtime_of(state);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(rdy_async_fd_open_owned(&scene.afd, scene.runtime, fds[0], RW), 0);
    scene.peer = fds[1];
}

static void scene_close(void)
{
    rdy_async_fd_close(&scene.afd);
    if (scene.peer >= 0)
        assert_int_equal(close(scene.peer), 0);
    scene.peer = -1;
}

static struct rdy_driver *driver(void)
{
    return rdy_runtime_driver(scene.runtime);
}

static void fill(int fd)
{
    static const char block[512];

    while (write(fd, block, sizeof(block)) > 0)
        ;
    assert_int_equal(errno, EAGAIN);
}

static ssize_t waits(void *test, struct rdy_task *task)
{
    struct scene *s = test;

    return rdy_async_fd_poll_ready(&s->afd, &s->wait, task, &s->guard);
}

static ssize_t polls_readable(void *test, struct rdy_task *task)
{
    struct scene *s = test;

    return rdy_async_fd_poll_readable(&s->afd, task, &s->guard);
}

static ssize_t polls_writable(void *test, struct rdy_task *task)
{
    struct scene *s = test;

    return rdy_async_fd_poll_writable(&s->afd, task, &s->guard);
}

/* --- shutdown --- */

static void shutdown_wakes_who_waits_and_refuses_who_comes_later(void **state)
{
    struct call call;

    scene_open(state);
    rdy_async_fd_init_wait(&scene.afd, &scene.wait, RDY_INTEREST_READ);
    (void)call_start(&call, scene.runtime, waits, &scene);
    let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_int_equal(rdy_driver_shutdown(driver()), 0);
    assert_int_equal(call_finish(&call), -ESHUTDOWN);

    rdy_async_fd_init_wait(&scene.afd, &scene.wait, RDY_INTEREST_READ);
    assert_int_equal(call_run(scene.runtime, waits, &scene), -ESHUTDOWN);
    scene_close();
}

static void wait_that_begins_after_the_shutdown_is_refused(void **state)
{
    struct rdy_async_fd other = {.fd = -1};

    scene_open(state);
    let_turn(scene.runtime);
    assert_int_equal(rdy_driver_shutdown(driver()), 0);
    rdy_async_fd_init_wait(&scene.afd, &scene.wait, RDY_INTEREST_WRITE);
    assert_int_equal(call_run(scene.runtime, waits, &scene), -ESHUTDOWN);
    assert_int_equal(rdy_async_fd_open(&other, scene.runtime, scene.peer, RW), -ESHUTDOWN);
    scene_close();
}

static void shutdown_wakes_the_tasks_in_both_slots(void **state)
{
    struct call reader;
    struct call writer;

    scene_open(state);
    fill(scene.afd.fd);
    let_turn(scene.runtime);
    rdy_clear_readiness(&scene.afd.reg, rdy_ready_event(&scene.afd.reg, RW));
    (void)call_start(&reader, scene.runtime, polls_readable, &scene);
    (void)call_start(&writer, scene.runtime, polls_writable, &scene);
    let_turn(scene.runtime);
    assert_int_equal(reader.result, RDY_PENDING);
    assert_int_equal(writer.result, RDY_PENDING);

    assert_int_equal(rdy_driver_shutdown(driver()), 0);
    assert_int_equal(call_finish(&reader), -ESHUTDOWN);
    assert_int_equal(writer.result, -ESHUTDOWN);
    scene_close();
}

static void poll_after_the_shutdown_is_refused_in_both_slots(void **state)
{
    scene_open(state);
    let_turn(scene.runtime); /* writable is cached; that does not matter any more */
    assert_int_equal(rdy_driver_shutdown(driver()), 0);
    assert_int_equal(call_run(scene.runtime, polls_readable, &scene), -ESHUTDOWN);
    assert_int_equal(call_run(scene.runtime, polls_writable, &scene), -ESHUTDOWN);
    scene_close();
}

static void guard_of_before_the_shutdown_may_still_be_cleared(void **state)
{
    scene_open(state);
    assert_int_equal(call_run(scene.runtime, polls_writable, &scene), 0);
    assert_int_equal(rdy_driver_shutdown(driver()), 0);
    rdy_guard_clear(&scene.guard);
    rdy_guard_clear(&scene.guard);
    assert_int_equal(call_run(scene.runtime, polls_writable, &scene), -ESHUTDOWN);
    scene_close();
}

static void descriptor_can_be_taken_back_after_the_shutdown(void **state)
{
    char byte;
    int fd;

    scene_open(state);
    let_turn(scene.runtime);
    assert_int_equal(rdy_driver_shutdown(driver()), 0);
    fd = rdy_async_fd_into_fd(&scene.afd);
    assert_true(is_open(fd));
    assert_int_equal(read(scene.peer, &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(close(fd), 0);
    assert_int_equal(read(scene.peer, &byte, 1), 0);
    scene_close();
}

/* --- shutdown, seen from another thread --- */

struct racer {
    sem_t woken;
    sem_t started;
    bool is_in_slot;
    int first;
    int second;
};

static void racer_wake(void *arg, uint64_t data)
{
    struct racer *racer = arg;

    (void)data;
    (void)sem_post(&racer->woken);
}

/* Waits for READABLE, which never comes, as a thread without a runtime does. */
static int racer_wait(struct racer *racer)
{
    struct rdy_waker waker = {.fn = racer_wake, .arg = racer};
    struct rdy_readiness wait;
    struct rdy_event event;

    rdy_readiness_init(&wait, &scene.afd.reg, RDY_INTEREST_READ);
    for (;;) {
        int rc = racer->is_in_slot
                     ? rdy_poll_readiness(&scene.afd.reg, RDY_DIRECTION_READ, &waker, &event)
                     : rdy_readiness_poll(&wait, &waker, &event);

        if (rc != RDY_PENDING)
            return rc;
        while (sem_wait(&racer->woken) != 0)
            ;
    }
}

static void *race(void *arg)
{
    struct racer *racer = arg;

    (void)sem_post(&racer->started);
    racer->first = racer_wait(racer);
    racer->second = racer_wait(racer);
    return NULL;
}

static void race_with_shutdown(void **state, bool is_in_slot)
{
    struct runtime_fixture *fixture = *state;

    for (int i = 0; i < RACES; i++) {
        struct racer racer = {.is_in_slot = is_in_slot};
        pthread_t thread;

        scene_open(state);
        assert_int_equal(sem_init(&racer.woken, 0, 0), 0);
        assert_int_equal(sem_init(&racer.started, 0, 0), 0);
        assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
        while (sem_wait(&racer.started) != 0)
            ;
        for (int spin = 0; spin < (i % 8) * 200; spin++)
            __asm__ volatile("");
        assert_int_equal(rdy_driver_shutdown(driver()), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(racer.first, -ESHUTDOWN);
        assert_int_equal(racer.second, -ESHUTDOWN);
        (void)sem_destroy(&racer.woken);
        (void)sem_destroy(&racer.started);
        scene_close();
        rdy_runtime_close(fixture->runtime);
        fixture->runtime = runtime_open(fixture->backend);
    }
}

static void wait_racing_the_shutdown_is_woken_and_refused(void **state)
{
    race_with_shutdown(state, false);
}

static void poll_racing_the_shutdown_is_woken_and_refused(void **state)
{
    race_with_shutdown(state, true);
}

/* --- sockets, when the driver is gone (io_driver_drop) --- */

static struct rdy_listener listener;
static struct rdy_stream stream;

static ssize_t accepts(void *test, struct rdy_task *task)
{
    (void)test;
    return rdy_listener_poll_accept(&listener, task, &stream);
}

static void listener_open(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    assert_int_equal(
        rdy_listener_open(&listener, scene.runtime, (struct sockaddr *)&addr, sizeof(addr), NULL),
        0);
}

static void accept_after_the_shutdown_does_not_block(void **state)
{
    scene_open(state);
    listener_open();
    assert_int_equal(rdy_driver_shutdown(driver()), 0);
    assert_int_equal(call_run(scene.runtime, accepts, &scene), -ESHUTDOWN);
    rdy_listener_close(&listener);
    scene_close();
}

static void shutdown_wakes_an_accept(void **state)
{
    struct call call;

    scene_open(state);
    listener_open();
    (void)call_start(&call, scene.runtime, accepts, &scene);
    let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_int_equal(rdy_driver_shutdown(driver()), 0);
    assert_int_equal(call_finish(&call), -ESHUTDOWN);
    rdy_listener_close(&listener);
    scene_close();
}

static void no_socket_is_opened_after_the_shutdown(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un name;
    struct rdy_stream other = {.fd = -1};
    struct rdy_datagram datagram = {.fd = -1};
    socklen_t name_len = 0;
    int before;

    scene_open(state);
    assert_int_equal(rdy_unix_address(&name, &name_len, "@rdy-test-after-shutdown"), 0);
    assert_int_equal(rdy_driver_shutdown(driver()), 0);
    before = descriptors_count();
    for (int i = 0; i < 2; i++) {
        struct sockaddr *to = i ? (struct sockaddr *)&name : (struct sockaddr *)&addr;
        socklen_t to_len = i ? name_len : sizeof(addr);

        assert_int_equal(rdy_listener_open(&listener, scene.runtime, to, to_len, NULL), -ESHUTDOWN);
        assert_int_equal(rdy_datagram_open(&datagram, scene.runtime, to->sa_family, NULL),
                         -ESHUTDOWN);
    }
    assert_int_equal(
        rdy_stream_start_connect(&stream, scene.runtime, (struct sockaddr *)&addr, sizeof(addr)),
        -ESHUTDOWN);
    assert_int_equal(rdy_stream_pair(&stream, &other, scene.runtime), -ESHUTDOWN);
    assert_int_equal(descriptors_count(), before);
    scene_close();
}

/* --- from within a waker (io_driver) --- */

static void close_when_woken(void *arg, uint64_t data)
{
    (void)data;
    rdy_async_fd_close(arg);
}

/* The waker of the last task that waits drops the thing it waits for, while it is being woken. */
static void waker_may_close_what_it_is_woken_for(void **state)
{
    struct rdy_waker waker = {.fn = close_when_woken, .arg = &scene.afd};
    struct rdy_readiness wait;
    struct rdy_event event;

    scene_open(state);
    rdy_readiness_init(&wait, &scene.afd.reg, RDY_INTEREST_READ);
    assert_int_equal(rdy_readiness_poll(&wait, &waker, &event), RDY_PENDING);
    assert_int_equal(write(scene.peer, "x", 1), 1);
    let_close(scene.runtime);

    assert_int_equal(scene.afd.fd, -1);
    assert_false(rdy_readiness_cancel(&wait));
    scene_close();
}

/* --- closed behind our back (io_async_fd_memory_leak) --- */

static void descriptors_closed_by_others_leave_no_entry_behind(void **state)
{
    static struct rdy_async_fd many[MANY];
    struct rdy_driver_stats stats;
    int before;

    scene_open(state);
    rdy_async_fd_close(&scene.afd);
    let_close(scene.runtime);
    before = descriptors_count();
    for (int i = 0; i < MANY; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        assert_int_equal(rdy_async_fd_open(&many[i], scene.runtime, fd, RW), 0);
        if (i % 2 == 0)
            let_turn(scene.runtime);
        assert_int_equal(close(fd), 0);
        if (i % 3 == 0)
            rdy_async_fd_close(&many[i]);
    }
    for (int i = 0; i < MANY; i++)
        rdy_async_fd_close(&many[i]);
    let_close(scene.runtime);

    stats = driver_stats(scene.runtime);
    assert_int_equal(stats.registered, stats.deregistered);
    assert_int_equal(stats.cancels_pending, 0);
    assert_int_equal(descriptors_count(), before);
    scene_close();
}

/* --- priority and error --- */

static int tcp_pair(int *peer)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof(addr);
    int passive = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(passive, (struct sockaddr *)&addr, addr_len), 0);
    assert_int_equal(listen(passive, 1), 0);
    assert_int_equal(getsockname(passive, (struct sockaddr *)&addr, &addr_len), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, addr_len), 0);
    *peer = accept4(passive, NULL, NULL, SOCK_CLOEXEC);
    assert_true(*peer >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(close(passive), 0);
    return fd;
}

/* Watches @fd for one interest in place of the scene's own socket. */
static void watch_instead(void **state, int fd, uint32_t interest)
{
    scene_open(state);
    rdy_async_fd_close(&scene.afd);
    assert_int_equal(rdy_async_fd_open_owned(&scene.afd, scene.runtime, fd, interest), 0);
    rdy_async_fd_init_wait(&scene.afd, &scene.wait, interest);
}

static void urgent_data_is_a_priority_event_and_plain_data_is_not(void **state)
{
    struct call call;
    int peer = -1;
    int fd = tcp_pair(&peer);

    watch_instead(state, fd, RDY_INTEREST_PRIORITY);
    (void)call_start(&call, scene.runtime, waits, &scene);
    assert_int_equal(send(peer, "plain", 5, 0), 5);
    let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_int_equal(send(peer, "hello", 5, MSG_OOB), 5);
    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(rdy_guard_ready(&scene.guard), RDY_PRIORITY);

    assert_int_equal(close(peer), 0);
    scene_close();
}

static int udp_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    return fd;
}

static void udp_address(int fd, struct sockaddr_in *addr)
{
    socklen_t addr_len = sizeof(*addr);

    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)addr, addr_len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &addr_len), 0);
}

static void expect_error_alone(struct call *call)
{
    assert_int_equal(call_finish(call), 0);
    assert_int_equal(rdy_guard_ready(&scene.guard), RDY_ERROR);
}

/* S61: the error queue holds a time stamp; nothing can be read, and nothing is said to be. */
static void time_stamp_in_the_error_queue_is_an_error_event_alone(void **state)
{
    int option = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    int fd = udp_socket();
    struct sockaddr_in addr;
    char buf[256];
    struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    char control[512];
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct call call;

    udp_address(fd, &addr);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &option, sizeof(option)), 0);
    watch_instead(state, fd, RDY_INTEREST_ERROR);
    (void)call_start(&call, scene.runtime, waits, &scene);
    let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);

    assert_int_equal(send(fd, "stamp me", 8, 0), 8);
    expect_error_alone(&call);
    assert_true(recvmsg(fd, &msg, MSG_ERRQUEUE) >= 0);
    rdy_guard_clear(&scene.guard);
    assert_int_equal(recv(fd, buf, sizeof(buf), 0), 8); /* that came back to ourselves */

    (void)call_start(&call, scene.runtime, waits, &scene);
    let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_int_equal(send(fd, "again", 5, 0), 5);
    expect_error_alone(&call);
    scene_close();
}

static void refusal_of_a_peer_is_an_error_event_alone(void **state)
{
    int one = 1;
    int fd = udp_socket();
    int nobody = udp_socket();
    struct sockaddr_in addr;
    struct call call;

    udp_address(nobody, &addr);
    assert_int_equal(close(nobody), 0);
    assert_int_equal(setsockopt(fd, SOL_IP, IP_RECVERR, &one, sizeof(one)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    watch_instead(state, fd, RDY_INTEREST_ERROR);
    (void)call_start(&call, scene.runtime, waits, &scene);
    let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);

    assert_int_equal(send(fd, "anybody", 7, 0), 7);
    expect_error_alone(&call);
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(shutdown_wakes_who_waits_and_refuses_who_comes_later),
        ON_BOTH(wait_that_begins_after_the_shutdown_is_refused),
        ON_BOTH(shutdown_wakes_the_tasks_in_both_slots),
        ON_BOTH(poll_after_the_shutdown_is_refused_in_both_slots),
        ON_BOTH(guard_of_before_the_shutdown_may_still_be_cleared),
        ON_BOTH(descriptor_can_be_taken_back_after_the_shutdown),
        ON_BOTH(wait_racing_the_shutdown_is_woken_and_refused),
        ON_BOTH(poll_racing_the_shutdown_is_woken_and_refused),
        ON_BOTH(accept_after_the_shutdown_does_not_block),
        ON_BOTH(shutdown_wakes_an_accept),
        ON_BOTH(no_socket_is_opened_after_the_shutdown),
        ON_BOTH(waker_may_close_what_it_is_woken_for),
        ON_BOTH(descriptors_closed_by_others_leave_no_entry_behind),
        ON_BOTH(urgent_data_is_a_priority_event_and_plain_data_is_not),
        ON_BOTH(time_stamp_in_the_error_queue_is_an_error_event_alone),
        ON_BOTH(refusal_of_a_peer_is_an_error_event_alone),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
