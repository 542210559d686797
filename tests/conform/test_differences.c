/* SPDX-License-Identifier: MIT */
/*
 * Where epoll and io_uring differ as kernel interfaces, and what this library
 * promises on both. Each scenario is one such difference, seen from above: it
 * must not show.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tests/support/stage.h"

#define RW         (RDY_INTEREST_READ | RDY_INTEREST_WRITE)
#define TURNS_MAX  1000
#define MANY_FILES 10000

static void turn_until_ready(struct stage *stage, const struct rdy_registration *reg,
                             uint32_t interest)
{
    for (int i = 0; i < TURNS_MAX; i++) {
        if (rdy_event_ready(rdy_ready_event(reg, interest)) != 0)
            return;
        (void)stage_turn(stage, 10 * RDY_NS_PER_MS);
    }
    fail_msg("not ready after %d turns", TURNS_MAX);
}

/* --- what can be watched --- */

static void regular_files_and_directories_are_refused(struct stage *stage)
{
    struct rdy_registration reg;
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(rdy_register(stage->driver, file, RDY_INTEREST_READ, &reg), -EPERM);
    assert_int_equal(rdy_register(stage->driver, folder, RDY_INTEREST_READ, &reg), -EPERM);

    close(folder);
    close(file);
}

/* epoll refuses such a device at once; a ring completes at once, again and
 * again. */
static void device_that_cannot_wait_is_refused(struct stage *stage)
{
    struct rdy_registration reg;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int rc = rdy_register(stage->driver, fd, RW, &reg);

    for (int i = 0; i < TURNS_MAX && rc == 0; i++) {
        struct bell bell = {0};
        struct rdy_waker waker = bell_waker(&bell);
        struct rdy_event event;

        (void)stage_turn(stage, RDY_NS_PER_MS);
        rc = rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event);
        if (rc == -EPERM) {
            assert_int_equal(stage_stats(stage).unpollable_files, 1);
            rdy_deregister(&reg);
        }
    }
    assert_int_equal(rc, -EPERM);

    close(fd);
}

static void descriptor_that_is_not_open_is_refused(struct stage *stage)
{
    struct rdy_registration reg;

    assert_int_equal(rdy_register(stage->driver, 1 << 20, RW, &reg), -EBADF);
}

/* On epoll only: a ring does not look. */
static void second_registration_of_a_descriptor_is_refused(struct stage *stage)
{
    struct rdy_registration reg;
    struct rdy_registration second;
    int fd = event_fd();

    reg = stage_register(stage, fd, RDY_INTEREST_READ);

    assert_int_equal(rdy_register(stage->driver, fd, RDY_INTEREST_WRITE, &second), -EEXIST);

    event_write(fd);
    turn_until_ready(stage, &reg, RDY_INTEREST_READ);
    rdy_deregister(&reg);
    close(fd);
}

/* epoll tells of a half close only if asked; a ring always. */
static void half_close_is_seen_by_one_who_only_writes(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_WRITE);

    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE);
    shutdown(pair.peer, SHUT_WR);

    for (int i = 0; i < TURNS_MAX; i++) {
        if (rdy_event_ready(rdy_ready_event(&reg, RDY_INTEREST_READ)) & RDY_READ_CLOSED)
            break;
        (void)stage_turn(stage, 10 * RDY_NS_PER_MS);
    }
    check(rdy_event_ready(rdy_ready_event(&reg, RDY_INTEREST_READ)) & RDY_READ_CLOSED);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void connect_in_progress_ends_writable_without_an_error(struct stage *stage)
{
    struct sockaddr_in address;
    int listener = tcp_listener(&address);
    int fd = tcp_unconnected();
    int error = -1;
    socklen_t len = sizeof(error);
    struct rdy_registration reg;

    (void)connect(fd, (struct sockaddr *)&address, sizeof(address));
    reg = stage_register(stage, fd, RDY_INTEREST_WRITE);

    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE);
    check(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0);
    assert_int_equal(error, 0);

    rdy_deregister(&reg);
    close(fd);
    close(listener);
}

/* --- closing --- */

/* An armed poll keeps the file open: a plain close(2) would send no FIN. */
static void close_reaches_the_peer_within_a_turn(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RW);
    struct pollfd peer = {.fd = pair.peer, .events = POLLRDHUP};

    stage_settle(stage);
    assert_int_equal(rdy_close(&reg), 0);
    (void)stage_turn(stage, 0);
    (void)stage_turn(stage, 0);

    assert_int_equal(poll(&peer, 1, 1000), 1);
    assert_int_equal(get(pair.peer, 16), 0);
    close(pair.peer);
}

static void close_with_a_duplicate_left_only_ends_the_watch(struct stage *stage)
{
    struct pair pair = pair_tcp();
    int copy = fcntl(pair.ours, F_DUPFD_CLOEXEC, 0);
    struct rdy_registration reg = stage_register(stage, pair.ours, RW);
    struct rdy_driver_stats before;

    stage_settle(stage);
    assert_int_equal(rdy_close(&reg), 0);
    stage_settle(stage);
    before = stage_stats(stage);
    put(pair.peer, "to the duplicate");
    stage_settle(stage);

    assert_int_equal(get(copy, 64), 16);
    assert_int_equal(stage_stats(stage).ready_events, before.ready_events);
    assert_int_equal(stage_stats(stage).entries_live, 0);
    assert_int_equal(fcntl(pair.ours, F_GETFD), -1);

    close(copy);
    close(pair.peer);
}

static void deregistered_descriptor_stays_open(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RW);

    stage_settle(stage);
    assert_int_equal(rdy_deregister(&reg), 0);
    stage_settle(stage);

    put(pair.peer, "still here");
    assert_int_equal(get(pair.ours, 64), 10);

    close_pair(&pair);
}

/* --- queues that are too small --- */

static void allow_many_files(void)
{
    struct rlimit limit;

    check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    check(limit.rlim_cur > MANY_FILES + 100);
}

struct crowd {
    int fd[MANY_FILES];
    struct rdy_registration reg[MANY_FILES];
    uint32_t count;
};

/* Eventfds, written before they are registered: every one is ready the moment
 * it is armed. */
static void crowd_join(struct crowd *crowd, struct stage *stage, uint32_t count)
{
    for (crowd->count = 0; crowd->count < count; crowd->count++) {
        uint32_t i = crowd->count;

        crowd->fd[i] = event_fd();
        event_write(crowd->fd[i]);
        crowd->reg[i] = stage_register(stage, crowd->fd[i], RDY_INTEREST_READ);
    }
}

/* Reads what is readable, as its user would; how many were. */
static uint32_t crowd_read(struct crowd *crowd)
{
    uint32_t served = 0;

    for (uint32_t i = 0; i < crowd->count; i++) {
        if (rdy_event_ready(rdy_ready_event(&crowd->reg[i], RDY_INTEREST_READ)) == 0)
            continue;
        served += event_read(crowd->fd[i]);
        stage_forget(&crowd->reg[i], RDY_INTEREST_READ);
    }
    return served;
}

/* Everybody was written once; everybody must be read once. */
static void crowd_expect_served(struct crowd *crowd, struct stage *stage)
{
    uint32_t served = 0;

    for (uint32_t i = 0; i < crowd->count && served < crowd->count; i++) {
        check(stage_turn(stage, 10 * RDY_NS_PER_MS) <= (int)stage->opts.events_max);
        served += crowd_read(crowd);
    }
    assert_int_equal(served, crowd->count);
}

static void crowd_leave(struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->count; i++)
        assert_int_equal(rdy_close(&crowd->reg[i]), 0);
}

/* A ring whose completion queue overflows ends the polls of those that found no room. */
static void overflow_of_the_queue_is_invisible(struct stage *stage)
{
    static struct crowd crowd;

    allow_many_files();
    stage->opts.events_max = 1024;
    stage->opts.cq_entries = 8; /* the kernel runs some 20 completions a turn */
    stage_reopen(stage);
    crowd_join(&crowd, stage, MANY_FILES);

    crowd_expect_served(&crowd, stage);
    if (stage->on == ON_URING)
        check(stage_stats(stage).overflows > 0);
    stage_settle(stage);

    /* All are armed still, or again. */
    for (uint32_t i = 0; i < crowd.count; i++)
        event_write(crowd.fd[i]);
    crowd_expect_served(&crowd, stage);

    crowd_leave(&crowd);
}

/*
 * Nobody reads, so every file reports again as soon as it is armed again. Armed all at once, while
 * the kernel still hands over the last lot, they would overflow the queue again, for ever.
 */
static void overflow_of_files_that_nobody_reads_comes_to_rest(struct stage *stage)
{
    static struct crowd crowd;
    int quiet = 0;

    allow_many_files();
    stage->opts.cq_entries = 8;
    stage_reopen(stage);
    crowd_join(&crowd, stage, MANY_FILES);

    for (uint32_t i = 0; i < 8 * MANY_FILES && quiet < 16; i++)
        quiet = stage_turn(stage, 0) == 0 ? quiet + 1 : 0;

    assert_int_equal(quiet, 16);
    assert_int_equal(crowd_read(&crowd), MANY_FILES);
    crowd_leave(&crowd);
}

static void few_events_a_turn_still_serve_everybody(struct stage *stage)
{
    static struct crowd crowd;

    stage->opts.events_max = 4;
    stage_reopen(stage);
    crowd_join(&crowd, stage, 64);

    crowd_expect_served(&crowd, stage);

    crowd_leave(&crowd);
}

/* --- threads and processes --- */

struct errand {
    struct stage *stage;
    struct rdy_registration reg;
    int fd;
    int result;
};

static void *register_elsewhere(void *arg)
{
    struct errand *errand = arg;

    errand->result =
        rdy_register(errand->stage->driver, errand->fd, RDY_INTEREST_READ, &errand->reg);
    return NULL;
}

/* A ring may be used by its own thread only; and the driver is blocked when the
 * request comes. */
static void registration_from_another_thread_is_served(struct stage *stage)
{
    struct errand errand = {.stage = stage, .fd = event_fd(), .result = 1};
    pthread_t thread;
    int reached = 0;

    event_write(errand.fd);
    check(pthread_create(&thread, NULL, register_elsewhere, &errand) == 0);
    for (int i = 0; i < TURNS_MAX && reached == 0; i++)
        reached = stage_turn(stage, RDY_NS_PER_S);
    pthread_join(thread, NULL);

    assert_int_equal(errand.result, 0);
    assert_int_equal(reached, 1);
    assert_int_equal(rdy_event_ready(rdy_ready_event(&errand.reg, RW)), RDY_READABLE);

    rdy_close(&errand.reg);
}

static void *turn_elsewhere(void *arg)
{
    struct errand *errand = arg;

    errand->result = rdy_driver_turn(errand->stage->driver, 0);
    return NULL;
}

static void turn_by_another_thread_is_refused(struct stage *stage)
{
    struct errand errand = {.stage = stage};
    pthread_t thread;

    check(pthread_create(&thread, NULL, turn_elsewhere, &errand) == 0);
    pthread_join(thread, NULL);

    assert_int_equal(errand.result, -EPERM);
}

static void child_after_fork(struct stage *stage, struct rdy_registration *reg, int fd)
{
    struct rdy_registration other;

    child_check(rdy_driver_turn(stage->driver, 0) == -EOWNERDEAD);
    child_check(rdy_register(stage->driver, fd, RW, &other) == -EOWNERDEAD);
    child_check(rdy_driver_shutdown(stage->driver) == -EOWNERDEAD);
    rdy_driver_unpark(stage->driver);
    rdy_deregister(reg);
    rdy_driver_close(stage->driver);
    _exit(0);
}

static void driver_is_dead_in_a_forked_child_and_lives_in_the_parent(struct stage *stage)
{
    int fd = event_fd();
    int status = -1;
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);
    pid_t child;

    stage_settle(stage);
    child = fork();
    if (child == 0)
        child_after_fork(stage, &reg, fd);
    check(waitpid(child, &status, 0) == child);
    assert_int_equal(status, 0);

    event_write(fd);
    turn_until_ready(stage, &reg, RDY_INTEREST_READ);

    rdy_close(&reg);
}

int main(void)
{
    static const struct scenario rows[] = {
        SCENARIO(regular_files_and_directories_are_refused, ON_ALL),
        SCENARIO(device_that_cannot_wait_is_refused, ON_KERNEL),
        SCENARIO(descriptor_that_is_not_open_is_refused, ON_ALL),
        SCENARIO(second_registration_of_a_descriptor_is_refused, ON_EPOLL),
        SCENARIO(half_close_is_seen_by_one_who_only_writes, ON_ALL),
        SCENARIO(connect_in_progress_ends_writable_without_an_error, ON_ALL),
        SCENARIO(close_reaches_the_peer_within_a_turn, ON_ALL),
        SCENARIO(close_with_a_duplicate_left_only_ends_the_watch, ON_ALL),
        SCENARIO(deregistered_descriptor_stays_open, ON_ALL),
        SCENARIO(overflow_of_the_queue_is_invisible, ON_KERNEL),
        SCENARIO(overflow_of_files_that_nobody_reads_comes_to_rest, ON_KERNEL),
        SCENARIO(few_events_a_turn_still_serve_everybody, ON_ALL),
        SCENARIO(registration_from_another_thread_is_served, ON_ALL),
        SCENARIO(turn_by_another_thread_is_refused, ON_ALL),
        SCENARIO(driver_is_dead_in_a_forked_child_and_lives_in_the_parent, ON_ALL),
    };

    return scenarios_run("differences", rows, sizeof(rows) / sizeof(rows[0]));
}
