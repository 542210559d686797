/* SPDX-License-Identifier: MIT */
/*
 * A ring that is taken away while it connects: the connections are made over epoll, and whoever
 * waits for one is told what became of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <rdy/rdy.h>

#include "tests/support/child.h"

struct calling {
    struct rdy_runtime *runtime;
    struct rdy_stream stream;
    int listener;
    int filler; /* of the listener's queue */
    int result;
};

/* Begins a connection to a listener without room for it: until room is made, nothing answers. */
static void calling_open(struct calling *calling)
{
    struct rdy_runtime_opts opts = {.size = sizeof(opts), .driver.size = sizeof(opts.driver)};
    struct rdy_connect_opts how = {.size = sizeof(how), .is_completing = true};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof(addr);

    *calling = (struct calling){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    child_check(bind(calling->listener, (struct sockaddr *)&addr, addr_len) == 0);
    child_check(listen(calling->listener, 0) == 0);
    child_check(getsockname(calling->listener, (struct sockaddr *)&addr, &addr_len) == 0);
    calling->filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    child_check(connect(calling->filler, (struct sockaddr *)&addr, addr_len) == 0);
    child_check(rdy_runtime_open(&calling->runtime, &opts) == 0);
    child_check(rdy_stream_start_connect_with(&calling->stream, calling->runtime,
                                              (struct sockaddr *)&addr, addr_len, &how) == 0);
    child_check(rdy_completion_is_native(calling->runtime));
}

static int poll_calls(struct rdy_task *task, void *self)
{
    struct calling *calling = *(struct calling **)self;

    calling->result = rdy_stream_poll_connect(&calling->stream, task);
    return calling->result == RDY_PENDING ? RDY_PENDING : 0;
}

static int poll_says(struct rdy_task *task, void *self)
{
    struct calling *calling = *(struct calling **)self;

    child_check(rdy_stream_poll_write(&calling->stream, task, "through", 7) == 7);
    return 0;
}

static void calling_task(struct calling *calling, rdy_poll_fn *poll)
{
    struct rdy_task_spec spec = {.poll = poll, .self_size = sizeof(struct calling *)};
    void *self;

    child_check(rdy_spawn(calling->runtime, &spec, &self, NULL) == 0);
    *(struct calling **)self = calling;
    child_check(rdy_runtime_run(calling->runtime) == 0);
}

/* The connection is made by whoever is asked after the ring. */
static void calling_ends(struct calling *calling)
{
    char heard[8];
    int peer;

    child_check(close(accept4(calling->listener, NULL, NULL, SOCK_CLOEXEC)) == 0);
    calling_task(calling, poll_calls);
    child_check(calling->result == 0);
    child_check(!rdy_completion_is_native(calling->runtime));
    peer = accept4(calling->listener, NULL, NULL, SOCK_CLOEXEC);
    child_check(peer >= 0);
    calling_task(calling, poll_says);
    child_check(recv(peer, heard, sizeof(heard), 0) == 7);
    rdy_stream_close(&calling->stream);
    rdy_runtime_close(calling->runtime);
    child_check(recv(peer, heard, sizeof(heard), 0) == 0);
}

static void connect_before_it_was_submitted(int error)
{
    struct calling calling;

    calling_open(&calling);
    forbid(error, false);
    calling_ends(&calling);
}

static void connect_under_way(int error)
{
    struct calling calling;

    calling_open(&calling);
    child_check(rdy_driver_turn(rdy_runtime_driver(calling.runtime), 0) >= 0);
    forbid(error, false);
    child_check(rdy_driver_turn(rdy_runtime_driver(calling.runtime), 0) >= 0);
    calling_ends(&calling);
}

static void connection_under_way_is_made_over_epoll(void **state)
{
    (void)state;
    in_a_child(connect_before_it_was_submitted, EPERM);
    in_a_child(connect_under_way, EPERM);
    in_a_child(connect_under_way, ENOSYS);
}

/* --- a crowd --- */

enum place {
    TO_ACCEPT, /* a listener with room */
    TO_REFUSE, /* a port that nobody listens at */
    TO_WAIT,   /* a listener without room: nothing answers until there is some */
    PLACES
};

#define CALLERS (3 * PLACES)

struct caller {
    struct rdy_stream stream;
    struct rdy_task_id id;
    int result;
};

struct crowd {
    struct rdy_runtime *runtime;
    struct sockaddr_in addr[PLACES];
    int place[PLACES];
    int filler;
    struct caller caller[CALLERS];
    uint32_t turns; /* before the ring is taken away */
    uint32_t step;
    int refusal;
};

/* Of those who wait for room, one is let in; the others are closed when the ring is lost. */
static bool is_closed_at_the_loss(int caller)
{
    return caller % PLACES == TO_WAIT && caller != TO_WAIT;
}

static int place_open(struct sockaddr_in *addr, int backlog)
{
    socklen_t addr_len = sizeof(*addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    child_check(fd >= 0);
    child_check(bind(fd, (struct sockaddr *)addr, addr_len) == 0);
    child_check(backlog < 0 || listen(fd, backlog) == 0);
    child_check(getsockname(fd, (struct sockaddr *)addr, &addr_len) == 0);
    return fd;
}

static int poll_caller(struct rdy_task *task, void *self)
{
    struct caller *caller = *(struct caller **)self;

    caller->result = rdy_stream_poll_connect(&caller->stream, task);
    return caller->result == RDY_PENDING ? RDY_PENDING : 0;
}

static void caller_start(struct crowd *crowd, int i)
{
    struct rdy_task_spec spec = {.poll = poll_caller, .self_size = sizeof(struct caller *)};
    struct rdy_connect_opts how = {.size = sizeof(how), .is_completing = true};
    struct caller *caller = &crowd->caller[i];
    void *self;

    caller->result = RDY_PENDING;
    child_check(rdy_stream_start_connect_with(&caller->stream, crowd->runtime,
                                              (struct sockaddr *)&crowd->addr[i % PLACES],
                                              sizeof(crowd->addr[0]), &how) == 0);
    child_check(rdy_spawn(crowd->runtime, &spec, &self, &caller->id) == 0);
    *(struct caller **)self = caller;
}

/* Takes the ring away after some turns, and later lets one in of those who wait. */
static int poll_breaks(struct rdy_task *task, void *self)
{
    struct crowd *crowd = *(struct crowd **)self;

    if (crowd->step == crowd->turns) {
        for (int i = 0; i < CALLERS; i++) {
            if (!is_closed_at_the_loss(i))
                continue;
            child_check(rdy_task_abort(crowd->runtime, crowd->caller[i].id) == 0);
            rdy_stream_close(&crowd->caller[i].stream);
        }
        forbid(crowd->refusal, false);
    }
    if (crowd->step++ < crowd->turns + 4) {
        rdy_task_defer(task);
        return RDY_PENDING;
    }
    child_check(close(accept4(crowd->place[TO_WAIT], NULL, NULL, SOCK_CLOEXEC)) == 0);
    return 0;
}

static void crowd_open(struct crowd *crowd, enum rdy_backend_kind backend)
{
    struct rdy_task_spec spec = {.poll = poll_breaks, .self_size = sizeof(struct crowd *)};
    struct rdy_runtime_opts opts = {.size = sizeof(opts),
                                    .driver = {.size = sizeof(opts.driver), .backend = backend}};
    void *self;

    memset(crowd, 0, sizeof(*crowd));
    crowd->place[TO_ACCEPT] = place_open(&crowd->addr[TO_ACCEPT], 16);
    crowd->place[TO_REFUSE] = place_open(&crowd->addr[TO_REFUSE], -1);
    crowd->place[TO_WAIT] = place_open(&crowd->addr[TO_WAIT], 0);
    crowd->filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    child_check(connect(crowd->filler, (struct sockaddr *)&crowd->addr[TO_WAIT],
                        sizeof(crowd->addr[TO_WAIT])) == 0);
    child_check(rdy_runtime_open(&crowd->runtime, &opts) == 0);
    for (int i = 0; i < CALLERS; i++)
        caller_start(crowd, i);
    child_check(rdy_completion_is_native(crowd->runtime));
    child_check(rdy_spawn(crowd->runtime, &spec, &self, NULL) == 0);
    *(struct crowd **)self = crowd;
}

static void crowd_close(struct crowd *crowd)
{
    for (int i = 0; i < CALLERS; i++)
        rdy_stream_close(&crowd->caller[i].stream);
    rdy_runtime_close(crowd->runtime);
    for (int i = 0; i < PLACES; i++)
        child_check(close(crowd->place[i]) == 0);
    child_check(close(crowd->filler) == 0);
}

static uint64_t entries_live(const struct crowd *crowd)
{
    struct rdy_driver_stats stats;

    rdy_driver_read_stats(rdy_runtime_driver(crowd->runtime), &stats);
    return stats.entries_live;
}

static int poll_speaks(struct rdy_task *task, void *self)
{
    struct caller *caller = *(struct caller **)self;

    child_check(rdy_stream_poll_write(&caller->stream, task, "through", 7) == 7);
    return 0;
}

/* Each that was connected has a connection of its own, over which it is heard. */
static void check_connected(struct crowd *crowd)
{
    struct rdy_task_spec spec = {.poll = poll_speaks, .self_size = sizeof(struct caller *)};
    char heard[8];
    void *self;

    for (int i = 0; i < CALLERS; i++) {
        if (crowd->caller[i].result != 0)
            continue;
        child_check(rdy_spawn(crowd->runtime, &spec, &self, NULL) == 0);
        *(struct caller **)self = &crowd->caller[i];
    }
    child_check(rdy_runtime_run(crowd->runtime) == 0);
    for (int i = 0; i < CALLERS; i++) {
        int peer;

        if (crowd->caller[i].result != 0)
            continue;
        peer = accept4(crowd->place[i % PLACES], NULL, NULL, SOCK_CLOEXEC);
        child_check(peer >= 0);
        child_check(recv(peer, heard, sizeof(heard), 0) == 7);
        child_check(close(peer) == 0);
    }
    child_check(accept4(crowd->place[TO_ACCEPT], NULL, NULL, SOCK_CLOEXEC) == -1);
}

static void check_results(const struct crowd *crowd, int of_the_waiting)
{
    for (int i = 0; i < CALLERS; i++) {
        int result = crowd->caller[i].result;

        if (i % PLACES == TO_ACCEPT)
            child_check(result == 0);
        else if (i % PLACES == TO_REFUSE)
            child_check(result == -ECONNREFUSED);
        else if (!is_closed_at_the_loss(i))
            child_check(result == of_the_waiting);
    }
}

static void crowd_moves(int error, uint32_t turns)
{
    struct crowd crowd;

    crowd_open(&crowd, RDY_BACKEND_AUTO);
    crowd.refusal = error;
    crowd.turns = turns;
    child_check(rdy_runtime_run(crowd.runtime) == 0);
    child_check(!rdy_completion_is_native(crowd.runtime));
    check_results(&crowd, 0);
    child_check(entries_live(&crowd) == CALLERS - 2);
    check_connected(&crowd);
    crowd_close(&crowd);
}

static void crowd_before_it_was_submitted(int error)
{
    crowd_moves(error, 0);
}

static void crowd_under_way(int error)
{
    crowd_moves(error, 3);
}

static void each_of_a_crowd_that_connects_has_its_answer(void **state)
{
    (void)state;
    in_a_child(crowd_before_it_was_submitted, EPERM);
    in_a_child(crowd_under_way, EPERM);
    in_a_child(crowd_under_way, ENOSYS);
}

/* Those whose answer the ring has told keep it. */
static void crowd_cannot_move(int error)
{
    struct crowd crowd;
    int rc;

    crowd_open(&crowd, RDY_BACKEND_URING);
    crowd.refusal = error;
    crowd.turns = 3;
    for (int i = 0; i < 2;
         i++) { /* those who are woken by the loss have their turn in the second */
        rc = rdy_runtime_run(crowd.runtime);
        child_check(rc == -error);
    }
    check_results(&crowd, -error);
    crowd_close(&crowd);
}

static void connections_that_cannot_move_are_told_of_the_loss(void **state)
{
    (void)state;
    in_a_child(crowd_cannot_move, EPERM);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(connection_under_way_is_made_over_epoll),
        cmocka_unit_test(each_of_a_crowd_that_connects_has_its_answer),
        cmocka_unit_test(connections_that_cannot_move_are_told_of_the_loss),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
