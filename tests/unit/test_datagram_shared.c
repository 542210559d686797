/* SPDX-License-Identifier: MIT */
/*
 * One datagram socket, two tasks: one sends while the other receives. And a peek that only asks who
 * has sent.
 */
#include "tests/support/datagrams.h"

#include <pthread.h>

#define ROUNDS 500u

struct half {
    struct ends *ends;
    uint32_t done;
    uint32_t polls;
};

/* Sends sixteen at a time, as many as the buffers hold in any case. */
static int poll_sends(struct rdy_task *task, void *self)
{
    struct half *half = ((struct test_task *)self)->test;

    half->polls++;
    while (half->done < ROUNDS) {
        ssize_t count =
            rdy_datagram_poll_send_to(&half->ends->one, task, &half->done, sizeof(half->done),
                                      sockaddr_of(&half->ends->to), half->ends->to.len);

        if (count == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(count, sizeof(half->done));
        if (++half->done % 16 == 0) {
            rdy_task_defer(task);
            return RDY_PENDING;
        }
    }
    return 0;
}

static int poll_receives(struct rdy_task *task, void *self)
{
    struct half *half = ((struct test_task *)self)->test;

    half->polls++;
    while (half->done < ROUNDS) {
        uint32_t number = 0;
        ssize_t count =
            rdy_datagram_poll_recv(&half->ends->one, task, &number, sizeof(number), NULL);

        if (count == RDY_PENDING)
            return RDY_PENDING;
        assert_int_equal(count, sizeof(number));
        assert_int_equal(number, half->done++);
    }
    return 0;
}

/* Sends back what comes. */
static int poll_echoes(struct rdy_task *task, void *self)
{
    struct half *half = ((struct test_task *)self)->test;
    struct ends *ends = half->ends;

    while (half->done < ROUNDS) {
        if (half->polls == half->done) {
            ends->result =
                rdy_datagram_poll_recv_from(&ends->other, task, ends->buf, 64, &ends->info);
            if (ends->result == RDY_PENDING)
                return RDY_PENDING;
            half->polls++;
        }
        assert_int_equal(ends->result, sizeof(uint32_t));
        if (rdy_datagram_poll_send_to(&ends->other, task, ends->buf, sizeof(uint32_t),
                                      (struct sockaddr *)&ends->info.addr,
                                      ends->info.addr_len) == RDY_PENDING)
            return RDY_PENDING;
        half->done++;
    }
    return 0;
}

/* A Unix socket gets a name that the kernel makes up. Its queue is short: senders wait. */
static struct address bind_any(struct ends *ends, struct rdy_datagram *datagram, int family)
{
    struct address any = {.storage.ss_family = AF_UNIX, .len = sizeof(sa_family_t)};

    if (family != AF_UNIX)
        return bind_loopback(ends, datagram, family);
    assert_int_equal(rdy_datagram_open(datagram, ends->runtime, AF_UNIX, NULL), 0);
    assert_int_equal(rdy_datagram_bind(datagram, sockaddr_of(&any), any.len), 0);
    return local_address(datagram);
}

static void two_tasks_share_a_socket_one_sends_and_one_receives(void **state)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    static struct ends ends;

    for (int i = 0; i < 3; i++) {
        struct half sender = {.ends = &ends};
        struct half receiver = {.ends = &ends};
        struct half echo = {.ends = &ends};

        ends_open(&ends, state);
        (void)bind_any(&ends, &ends.one, families[i]);
        ends.to = bind_any(&ends, &ends.other, families[i]);
        (void)spawn_test(ends.runtime, poll_receives, NULL, &receiver);
        (void)spawn_test(ends.runtime, poll_echoes, NULL, &echo);
        (void)spawn_test(ends.runtime, poll_sends, NULL, &sender);

        assert_int_equal(rdy_runtime_run(ends.runtime), 0);

        assert_int_equal(sender.done, ROUNDS);
        assert_int_equal(receiver.done, ROUNDS);
        ends_close(&ends);
    }
}

/* Nor need there be another socket: what it sends to its own name, it receives. */
static void socket_may_send_to_itself(void **state)
{
    static const int families[] = {AF_INET, AF_UNIX};
    static struct ends ends;

    for (int i = 0; i < 2; i++) {
        struct half sender = {.ends = &ends};
        struct half receiver = {.ends = &ends};

        ends_open(&ends, state);
        ends.to = bind_any(&ends, &ends.one, families[i]);
        (void)spawn_test(ends.runtime, poll_receives, NULL, &receiver);
        (void)spawn_test(ends.runtime, poll_sends, NULL, &sender);

        assert_int_equal(rdy_runtime_run(ends.runtime), 0);

        assert_int_equal(sender.done, ROUNDS);
        assert_int_equal(receiver.done, ROUNDS);
        ends_close(&ends);
    }
}

struct caller {
    struct address to;
    uint32_t answers;
};

/* Says the next thing when it has heard the answer: meanwhile the runtime has nothing to do. */
static void *thread_talks(void *arg)
{
    struct caller *caller = arg;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint32_t answer = 0;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        if (sendto(fd, &i, sizeof(i), 0, sockaddr_of(&caller->to), caller->to.len) != sizeof(i) ||
            recv(fd, &answer, sizeof(answer), 0) != sizeof(answer) || answer != i)
            break;
        caller->answers++;
    }
    (void)close(fd);
    return NULL;
}

static void datagrams_from_another_thread_wake_a_runtime_that_sleeps(void **state)
{
    static struct ends ends;
    struct half echo = {.ends = &ends};
    struct caller caller = {0};
    pthread_t thread;

    ends_open(&ends, state);
    caller.to = bind_loopback(&ends, &ends.other, AF_INET);
    (void)spawn_test(ends.runtime, poll_echoes, NULL, &echo);
    assert_int_equal(pthread_create(&thread, NULL, thread_talks, &caller), 0);
    assert_int_equal(rdy_runtime_run(ends.runtime), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);

    assert_int_equal(caller.answers, ROUNDS);
    assert_true(driver_stats(ends.runtime).parks > 0);
    ends_close(&ends);
}

static ssize_t other_peeks_at_nothing(struct ends *ends, struct rdy_task *task)
{
    return rdy_datagram_poll_peek_from(&ends->other, task, NULL, 0, &ends->info);
}

static void peek_without_a_buffer_tells_who_has_sent(void **state)
{
    static struct ends ends;
    struct address from;
    struct address told = {0};

    ends_open(&ends, state);
    from = bind_loopback(&ends, &ends.one, AF_INET);
    ends.to = bind_loopback(&ends, &ends.other, AF_INET);

    /* waits for somebody */
    (void)start_call(&ends, other_peeks_at_nothing);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    assert_int_equal(sendto(ends.one.fd, "hello", 5, 0, sockaddr_of(&ends.to), ends.to.len), 5);
    assert_int_equal(finish_call(&ends), 0);

    told.storage = ends.info.addr;
    told.len = ends.info.addr_len;
    assert_same_address(&told, &from);
    assert_int_equal(ends.info.datagram_len, 5);

    /* and leaves the datagram there, whole */
    assert_int_equal(run_call(&ends, other_receives_from), 5);
    assert_memory_equal(ends.buf, "hello", 5);
    ends_close(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(two_tasks_share_a_socket_one_sends_and_one_receives),
        ON_BOTH(socket_may_send_to_itself),
        ON_BOTH(datagrams_from_another_thread_wake_a_runtime_that_sleeps),
        ON_BOTH(peek_without_a_buffer_tells_who_has_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
