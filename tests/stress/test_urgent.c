/* SPDX-License-Identifier: MIT */
/*
 * Urgent data from another processor, against the short cut "a short read means drained".
 *
 * A read stops short at an urgent mark. The stream argues from the events it saw that there was no
 * mark; were it wrong once, the bytes behind the mark would lie there with no event to come. So the
 * sender writes a round of plain and urgent bytes, cut at random, then waits until the reader has
 * them all and sends nothing meanwhile: a round that is not read to its end hangs, and the watchdog
 * says so. SO_OOBINLINE keeps the urgent bytes in the stream, so that every byte counts. A stream
 * that has had a mark is not trusted again, so that a connection lasts for a few rounds only.
 *
 * At a mark Linux also says EAGAIN, with data behind it, while a signal is pending: so signals come
 * to the reader all the time in one of the tests.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <rdy/copy.h>

#include "engine/atomic.h"
#include "engine/sys.h"
#include "tests/support/pair.h"
#include "tests/support/stress.h"

#define READ_ROUNDS   STRESS_ROUNDS(40000, 4000)
#define SPLICE_ROUNDS STRESS_ROUNDS(1000, 300)
#define SIGNAL_ROUNDS STRESS_ROUNDS(2000, 300)
/* Where others compete for the processors each hand-over costs them a turn, and fewer must do. */
#define ENOUGH_NS   (8 * RDY_NS_PER_S)
#define ROUNDS_EACH 4 /* of a connection: first marks, and what comes after them */

struct scene {
    struct pair pair;
    struct rdy_copy copy;
    struct rdy_stream sink;
    int drain; /* the other end of the sink */
    uint64_t random;
    struct rdy_a64 sent;
    struct rdy_a64 received;
    int turns_left;
    pthread_t reader;
    struct rdy_a32 is_over;
};

static void send_piece(struct scene *scene, uint64_t *random, int flags)
{
    static const char bytes[64];
    size_t len = 1 + stress_random(random) % sizeof(bytes);

    if (send(scene->pair.peer, bytes, len, flags | MSG_NOSIGNAL) != (ssize_t)len)
        abort();
    (void)rdy_a64_add_relaxed(&scene->sent, len);
    for (uint64_t i = stress_random(random) % 64; i > 0; i--)
        rdy_sys_cpu_relax();
}

/* Spins a while before it yields: where others compete for the processor, a yield costs a tick. */
static void wait_until_received(struct scene *scene)
{
    uint64_t sent = rdy_a64_load_relaxed(&scene->sent);

    for (uint32_t spins = 0; rdy_a64_load_acquire(&scene->received) != sent; spins++) {
        if (spins % 2048 == 2047) /* it may be that we keep the reader from its processor */
            (void)sched_yield();
        rdy_sys_cpu_relax();
    }
}

static void *run_sender(void *arg)
{
    struct scene *scene = arg;
    uint64_t random = scene->random;

    stress_pin(true);
    for (int round = 0; round < ROUNDS_EACH; round++) {
        for (uint64_t i = stress_random(&random) % 3; i > 0; i--)
            send_piece(scene, &random, 0);
        send_piece(scene, &random, MSG_OOB);
        for (uint64_t i = stress_random(&random) % 3; i > 0; i--)
            send_piece(scene, &random, 0);
        wait_until_received(scene);
    }
    if (shutdown(scene->pair.peer, SHUT_WR) != 0)
        abort();
    return NULL;
}

/* Does nothing, but the call that it comes in sees that it is pending. */
static void hear_signal(int signal)
{
    (void)signal;
}

static void *run_signals(void *arg)
{
    struct scene *scene = arg;
    uint64_t random = scene->random;

    stress_pin(true);
    while (rdy_a32_load_relaxed(&scene->is_over) == 0) {
        if (pthread_kill(scene->reader, SIGUSR1) != 0)
            abort();
        for (uint64_t i = 50 + stress_random(&random) % 500; i > 0; i--)
            rdy_sys_cpu_relax();
    }
    return NULL;
}

static int poll_reads_to_the_end(struct rdy_task *task, void *self)
{
    struct scene *scene = ((struct test_task *)self)->test;
    static char buf[4096];
    ssize_t count;

    for (;;) {
        count = rdy_stream_poll_read(&scene->pair.server, task, buf, sizeof(buf));
        if (count <= 0)
            return (int)count;
        (void)rdy_a64_add_relaxed(&scene->received, (uint64_t)count);
    }
}

/*
 * The same, looking at the driver all the time and reading only now and then: the two wake-ups of a
 * mark are then taken apart now and then, and both are seen before the read.
 */
static int poll_reads_late(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct scene *scene = my->test;
    static char buf[4096];
    ssize_t count;

    RDY_BEGIN(&my->co);
    for (;;) {
        for (scene->turns_left = 3; scene->turns_left > 0; scene->turns_left--)
            RDY_YIELD(&my->co, task);
        count = rdy_stream_poll_read(&scene->pair.server, task, buf, sizeof(buf));
        if (count == RDY_PENDING)
            continue; /* not asleep: the next turn comes at once */
        if (count <= 0)
            return (int)count;
        (void)rdy_a64_add_relaxed(&scene->received, (uint64_t)count);
    }
    RDY_END(&my->co);
    return 0;
}

/*
 * The same by splice(2), which stops at a mark and says EAGAIN however much is behind it. Looking
 * at the driver before each poll, or not.
 */
static int copy_once(struct scene *scene, struct rdy_task *task)
{
    static char buf[4096];
    int rc = rdy_copy_poll(&scene->copy, task);

    while (recv(scene->drain, buf, sizeof(buf), MSG_DONTWAIT) > 0)
        ;
    rdy_a64_store_release(&scene->received, rdy_copy_bytes(&scene->copy));
    return rc;
}

static int poll_splices_to_the_end(struct rdy_task *task, void *self)
{
    return copy_once(((struct test_task *)self)->test, task);
}

static int poll_splices_late(struct rdy_task *task, void *self)
{
    struct test_task *my = self;
    struct scene *scene = my->test;
    int rc;

    RDY_BEGIN(&my->co);
    for (;;) {
        for (scene->turns_left = 3; scene->turns_left > 0; scene->turns_left--)
            RDY_YIELD(&my->co, task);
        rc = copy_once(scene, task);
        if (rc != RDY_PENDING)
            return rc;
    }
    RDY_END(&my->co);
    return 0;
}

static void sink_open(struct scene *scene)
{
    struct rdy_copy_opts opts = {.size = sizeof(opts), .is_splice = true};
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(rdy_stream_from_fd(&scene->sink, scene->pair.runtime, fds[0]), 0);
    scene->drain = fds[1];
    assert_int_equal(rdy_copy_open(&scene->copy, &scene->pair.server, &scene->sink, &opts), 0);
}

static void sink_close(struct scene *scene)
{
    rdy_copy_close(&scene->copy);
    rdy_stream_close(&scene->sink);
    assert_int_equal(close(scene->drain), 0);
}

/* The rounds of one connection. Returns the bytes that went over it. */
static uint64_t run_connection(void **state, rdy_poll_fn *reader, uint64_t random, bool has_signals)
{
    static struct scene scene;
    pthread_t sender;
    pthread_t signals;
    int one = 1;

    scene = (struct scene){.random = random, .reader = pthread_self()};
    pair_open(&scene.pair, state);
    pair_accept(&scene.pair);
    sink_open(&scene);
    assert_int_equal(setsockopt(scene.pair.server.fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)),
                     0);
    /* Or the sender would wait for acknowledgements instead of racing. */
    assert_int_equal(setsockopt(scene.pair.peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    (void)spawn_test(scene.pair.runtime, reader, NULL, &scene);
    assert_int_equal(pthread_create(&sender, NULL, run_sender, &scene), 0);
    if (has_signals)
        assert_int_equal(pthread_create(&signals, NULL, run_signals, &scene), 0);
    stress_pin(false); /* after the thread was made, which would inherit it */

    assert_int_equal(rdy_runtime_run(scene.pair.runtime), 0);

    assert_int_equal(pthread_join(sender, NULL), 0);
    rdy_a32_store_relaxed(&scene.is_over, 1);
    if (has_signals)
        assert_int_equal(pthread_join(signals, NULL), 0);
    assert_int_equal(rdy_a64_load_relaxed(&scene.received), rdy_a64_load_relaxed(&scene.sent));
    sink_close(&scene);
    pair_close(&scene.pair);
    return rdy_a64_load_relaxed(&scene.sent);
}

static void run_rounds(void **state, rdy_poll_fn *reader, int rounds, bool has_signals)
{
    uint64_t end_ns = rdy_sys_now_ns() + ENOUGH_NS;
    uint64_t bytes = 0;
    cpu_set_t cpus;
    int round;

    assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
    for (round = 0; round < rounds; round += ROUNDS_EACH) {
        if (round >= rounds / 100 && rdy_sys_now_ns() > end_ns)
            break;
        stress_watch();
        bytes += run_connection(state, reader, 20 + (uint64_t)round, has_signals);
        assert_int_equal(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
    }
    print_message("%d rounds, %llu bytes\n", round, (unsigned long long)bytes);
}

static void urgent_marks_never_hide_what_is_behind_them(void **state)
{
    run_rounds(state, poll_reads_to_the_end, READ_ROUNDS, false);
}

static void urgent_marks_seen_one_wake_up_at_a_time_hide_nothing(void **state)
{
    run_rounds(state, poll_reads_late, READ_ROUNDS, false);
}

static void urgent_marks_never_stop_a_splice(void **state)
{
    run_rounds(state, poll_splices_to_the_end, SPLICE_ROUNDS, false);
}

static void urgent_marks_seen_one_wake_up_at_a_time_stop_no_splice(void **state)
{
    run_rounds(state, poll_splices_late, SPLICE_ROUNDS, false);
}

static void urgent_marks_amid_signals_hide_nothing(void **state)
{
    struct sigaction action = {.sa_handler = hear_signal, .sa_flags = SA_RESTART};
    struct sigaction before;

    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    run_rounds(state, poll_reads_to_the_end, SIGNAL_ROUNDS, true);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(urgent_marks_never_hide_what_is_behind_them),
        ON_BOTH(urgent_marks_seen_one_wake_up_at_a_time_hide_nothing),
        ON_BOTH(urgent_marks_amid_signals_hide_nothing),
        ON_BOTH(urgent_marks_never_stop_a_splice),
        ON_BOTH(urgent_marks_seen_one_wake_up_at_a_time_stop_no_splice),
    };

    return cmocka_run_group_tests_name("urgent", tests, NULL, NULL);
}
