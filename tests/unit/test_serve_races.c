/* SPDX-License-Identifier: MIT */
/*
 * Sessions of rdy_serve() that end by their peer's close or reset, by their deadline, by aborting
 * themselves, or with an answer, as it happens; nothing is left of any.
 */
#include "tests/support/pair.h"

#include <errno.h>
#include <pthread.h>

#include <rdy/serve.h>

#include "tests/support/stress.h"

#define SESSIONS_COUNT STRESS_ROUNDS(2000, 500)

struct session {
    struct rdy_stream stream;
    char byte;
};

static uint32_t sessions_begun;
static uint32_t sessions_dropped;
static struct rdy_task_id accept_id;
static struct rdy_runtime *serving;
static uint64_t random_state;

/* The first aborts itself for sure: on a busy machine it may be that no other has to wait. */
static int poll_session(struct rdy_task *task, void *self)
{
    struct session *session = self;
    ssize_t count;

    if (session->byte == 0 && sessions_begun++ == 0) {
        (void)rdy_task_abort(serving, rdy_task_get_id(task));
        return RDY_PENDING;
    }
    session->byte = 1;
    count = rdy_stream_poll_read(&session->stream, task, &session->byte, 1);
    if (count == RDY_PENDING && (stress_random(&random_state) & 15) == 0)
        (void)rdy_task_abort(serving, rdy_task_get_id(task));
    session->byte = 1;
    return count == RDY_PENDING ? RDY_PENDING : 0;
}

static void session_drop(void *self)
{
    (void)self;
    if (++sessions_dropped == SESSIONS_COUNT)
        (void)rdy_task_abort(serving, accept_id);
}

/* Connects, sometimes speaks, and hangs up or resets when sixteen more have come. */
static void *thread_visits(void *arg)
{
    const struct sockaddr_in *addr = arg;
    uint64_t random = 88172645463325252;
    int kept[16];

    memset(kept, -1, sizeof(kept));
    for (uint32_t i = 0; i < SESSIONS_COUNT; i++) {
        struct linger reset = {.l_onoff = 1};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0)
            return (void *)(uintptr_t)errno;
        if (stress_random(&random) & 1)
            (void)!send(fd, "x", 1, MSG_NOSIGNAL);
        if (stress_random(&random) & 1)
            (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        if (kept[i % 16] >= 0)
            (void)close(kept[i % 16]);
        kept[i % 16] = fd;
    }
    for (int i = 0; i < 16; i++)
        (void)close(kept[i]);
    return NULL;
}

static void sessions_that_end_in_every_way_leave_nothing(void **state)
{
    struct rdy_task_spec session = {
        .poll = poll_session,
        .drop = session_drop,
        .self_size = sizeof(struct session),
        .timeout_ns = 1000000,
    };
    static struct pair pair;
    struct sockaddr_storage addr;
    socklen_t len = 0;
    int before = descriptors_count();
    void *result = NULL;
    pthread_t thread;

    serving = runtime_of(state);
    random_state = 88172645463325252;
    sessions_begun = 0;
    sessions_dropped = 0;
    pair_open(&pair, state);
    addr = pair_listen(&pair, &len);
    assert_int_equal(rdy_serve(pair.runtime, &pair.listener, &session, &accept_id), 0);
    assert_int_equal(pthread_create(&thread, NULL, thread_visits, &addr), 0);
    assert_int_equal(rdy_runtime_run(pair.runtime), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_null(result);
    pair_close(&pair);
    let_driver_turn(&pair);

    assert_int_equal(sessions_dropped, SESSIONS_COUNT);
    assert_true(sessions_begun > 0);
    assert_true(runtime_stats(pair.runtime).task_aborts > 1);
    assert_int_equal(runtime_stats(serving).tasks_live, 0);
    assert_int_equal(runtime_stats(serving).timers_armed, 0);
    assert_int_equal(driver_stats(serving).entries_live, 0);
    assert_int_equal(driver_stats(serving).cancels_pending, 0);
    assert_int_equal(descriptors_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(sessions_that_end_in_every_way_leave_nothing),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
