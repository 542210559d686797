/* SPDX-License-Identifier: MIT */
/*
 * A driver inside another loop, which turns it only when the driver's descriptor says so. What the
 * driver still has to tell the kernel when a turn ends must make that descriptor readable, or it
 * would never be told.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "tests/support/stage.h"

#define EVENTS        20
#define ROUNDS_MAX    200
#define ROUND_WAIT_MS 2000

struct errand {
    struct stage *stage;
    struct rdy_registration first;
    struct rdy_registration second;
    int fd;
};

static void open_embedded(struct stage *stage)
{
    stage->opts.is_embedded = true;
    stage_reopen(stage);
    for (int i = 0; i < 10; i++)
        (void)stage_turn(stage, 0);
}

/* One round of the loop around the driver; false if its descriptor stayed silent. */
static bool loop_once(struct stage *stage)
{
    struct pollfd outer = {.fd = rdy_driver_fd(stage->driver), .events = POLLIN};

    if (poll(&outer, 1, ROUND_WAIT_MS) != 1)
        return false;
    (void)stage_turn(stage, 0);
    return true;
}

static void expect_read(struct rdy_registration *reg, struct bell *bell)
{
    struct rdy_waker waker = bell_waker(bell);
    struct rdy_event event;

    assert_int_equal(rdy_poll_readiness(reg, RDY_DIRECTION_READ, &waker, &event), RDY_PENDING);
}

/* --- from within a waker --- */

static void register_second(void *arg)
{
    struct errand *errand = arg;

    errand->second = stage_register(errand->stage, errand->fd, RDY_INTEREST_READ);
}

static void what_a_waker_registers_is_watched(struct stage *stage)
{
    struct errand errand = {.stage = stage, .fd = event_fd()};
    struct bell first = {.then = register_second, .arg = &errand};
    struct bell second = {0};
    int fd = event_fd();

    open_embedded(stage);
    errand.first = stage_register(stage, fd, RDY_INTEREST_READ);
    (void)stage_turn(stage, 0);
    expect_read(&errand.first, &first);
    event_write(fd);
    while (bell_rings(&first) == 0)
        check(loop_once(stage));

    expect_read(&errand.second, &second);
    event_write(errand.fd);

    for (int i = 0; i < ROUNDS_MAX && bell_rings(&second) == 0; i++)
        check(loop_once(stage));
    assert_int_equal(bell_rings(&second), 1);
    rdy_close(&errand.first);
    rdy_close(&errand.second);
}

static void close_first(void *arg)
{
    struct errand *errand = arg;

    assert_int_equal(rdy_close(&errand->first), 0);
}

static void what_a_waker_closes_is_closed(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct errand errand = {.stage = stage};
    struct bell bell = {.then = close_first, .arg = &errand};
    struct pollfd peer = {.fd = pair.peer, .events = POLLRDHUP};

    open_embedded(stage);
    errand.first = stage_register(stage, pair.ours, RDY_INTEREST_READ);
    (void)stage_turn(stage, 0);
    expect_read(&errand.first, &bell);
    put(pair.peer, "x");
    while (bell_rings(&bell) == 0)
        check(loop_once(stage));

    for (int i = 0; i < ROUNDS_MAX && poll(&peer, 1, 0) == 0; i++)
        check(loop_once(stage));

    check(peer.revents & POLLRDHUP);
    close(pair.peer);
}

/* --- from outside a turn --- */

static void what_is_closed_between_two_turns_is_closed(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg;
    struct pollfd peer = {.fd = pair.peer, .events = POLLRDHUP};

    open_embedded(stage);
    reg = stage_register(stage, pair.ours, RDY_INTEREST_READ);
    (void)stage_turn(stage, 0);

    assert_int_equal(rdy_close(&reg), 0);

    for (int i = 0; i < ROUNDS_MAX && poll(&peer, 1, 0) == 0; i++)
        check(loop_once(stage));
    check(peer.revents & POLLRDHUP);
    close(pair.peer);
}

static void what_is_registered_between_two_turns_is_watched(struct stage *stage)
{
    struct rdy_registration reg;
    struct bell bell = {0};
    int fd = event_fd();

    open_embedded(stage);

    reg = stage_register(stage, fd, RDY_INTEREST_READ);
    expect_read(&reg, &bell);
    event_write(fd);

    for (int i = 0; i < ROUNDS_MAX && bell_rings(&bell) == 0; i++)
        check(loop_once(stage));
    assert_int_equal(bell_rings(&bell), 1);
    rdy_close(&reg);
}

/* --- again and again --- */

static void *write_to(void *arg)
{
    uint64_t one = 1;

    rdy_assert(write(*(const int *)arg, &one, sizeof(one)) == sizeof(one));
    return NULL;
}

/* Each of them is to be heard: by a driver that was quiet, of a loop that sleeps if it likes. */
static void expect_every_event(struct stage *stage, int fd, int end, bool is_another_thread)
{
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);
    struct pollfd outer = {.fd = rdy_driver_fd(stage->driver), .events = POLLIN};
    struct bell bell = {0};

    for (uint32_t i = 0; i < EVENTS; i++) {
        pthread_t thread;

        while (poll(&outer, 1, 0) == 1)
            (void)stage_turn(stage, 0);
        expect_read(&reg, &bell);
        if (is_another_thread)
            check(pthread_create(&thread, NULL, write_to, &end) == 0);
        else
            (void)write_to(&end);

        for (int rounds = 0; rounds < ROUNDS_MAX && bell_rings(&bell) == i; rounds++)
            check(loop_once(stage));

        assert_int_equal(bell_rings(&bell), i + 1);
        if (is_another_thread)
            check(pthread_join(thread, NULL) == 0);
        check(drain(fd) == sizeof(uint64_t));
        stage_forget(&reg, RDY_INTEREST_READ);
    }
    rdy_close(&reg);
}

static void every_event_is_heard_not_just_the_first(struct stage *stage)
{
    open_embedded(stage);
    for (int by = 0; by < 2; by++) {
        struct pair tcp = pair_tcp();
        struct pair pipe = pair_pipe_reader();
        int fd = event_fd();

        expect_every_event(stage, tcp.ours, tcp.peer, by == 1);
        expect_every_event(stage, pipe.ours, pipe.peer, by == 1);
        expect_every_event(stage, fd, fd, by == 1);
        close(tcp.peer);
        close(pipe.peer);
    }
}

/* The loop must not be called for ever by a driver that has nothing to do. */
static void quiet_again_when_all_is_done(struct stage *stage)
{
    struct pollfd outer = {.events = POLLIN};
    struct rdy_registration reg;
    int fd = event_fd();
    int rounds = 0;

    open_embedded(stage);
    reg = stage_register(stage, fd, RDY_INTEREST_READ);
    event_write(fd);
    outer.fd = rdy_driver_fd(stage->driver);

    while (poll(&outer, 1, 20) == 1 && rounds < ROUNDS_MAX) {
        (void)stage_turn(stage, 0);
        rounds++;
    }

    check(rounds > 0);
    check(rounds < ROUNDS_MAX);
    rdy_close(&reg);
}

int main(void)
{
    static const struct scenario rows[] = {
        SCENARIO(what_a_waker_registers_is_watched, ON_KERNEL),
        SCENARIO(what_a_waker_closes_is_closed, ON_KERNEL),
        SCENARIO(what_is_closed_between_two_turns_is_closed, ON_KERNEL),
        SCENARIO(what_is_registered_between_two_turns_is_watched, ON_KERNEL),
        SCENARIO(every_event_is_heard_not_just_the_first, ON_KERNEL),
        SCENARIO(quiet_again_when_all_is_done, ON_KERNEL),
    };

    return scenarios_run("embedding", rows, sizeof(rows) / sizeof(rows[0]));
}
