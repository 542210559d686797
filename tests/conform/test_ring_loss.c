/* SPDX-License-Identifier: MIT */
/*
 * A ring that cannot be had, or is taken away in the middle: each case in a child process of its
 * own, because a seccomp filter and a lowered limit cannot be taken back. A child that hangs is
 * killed by its alarm, which the parent sees as a failure.
 */
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "engine/driver.h"
#include "tests/support/child.h"
#include "tests/support/stage.h"

#define TURNS_MAX 200
#define NOBODY    65534

static struct rdy_driver *open_kind(enum rdy_backend_kind kind, int want)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts), .backend = kind};
    struct rdy_driver *driver = NULL;
    int rc = rdy_driver_open(&driver, &opts);

    if (rc != want)
        dprintf(2, "open: %d instead of %d\n", rc, want);
    child_check(rc == want);
    return driver;
}

static bool is_on(const struct rdy_driver *driver, const char *name)
{
    return strcmp(rdy_driver_backend_name(driver), name) == 0;
}

static bool reason_has(const struct rdy_driver *driver, const char *text)
{
    const char *reason = rdy_driver_backend_reason(driver);

    if (!strstr(reason, text))
        dprintf(2, "the reason \"%s\" does not say \"%s\"\n", reason, text);
    return strstr(reason, text) != NULL;
}

/* A written eventfd must reach @reg. */
static void expect_readable(struct rdy_driver *driver, struct rdy_registration *reg, int fd)
{
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_event event;
    int rc = rdy_poll_readiness(reg, RDY_DIRECTION_READ, &waker, &event);

    child_check(rc == RDY_PENDING);
    event_write(fd);
    for (int i = 0; i < TURNS_MAX && bell_rings(&bell) == 0; i++)
        child_check(rdy_driver_turn(driver, RDY_NS_PER_S) >= 0);
    child_check(bell_rings(&bell) == 1);
    child_check(rdy_poll_readiness(reg, RDY_DIRECTION_READ, &waker, &event) == 0);
    child_check(event_read(fd));
    rdy_clear_readiness(reg, event);
}

/* --- no ring from the start --- */

static void auto_without_a_ring(int error)
{
    struct rdy_driver *driver;
    struct rdy_registration reg;
    int fd = event_fd();

    forbid(error, true);
    driver = open_kind(RDY_BACKEND_AUTO, 0);
    child_check(is_on(driver, "epoll"));
    child_check(reason_has(driver, error == EPERM ? "seccomp" : "no io_uring"));
    child_check(rdy_register(driver, fd, RDY_INTEREST_READ, &reg) == 0);
    expect_readable(driver, &reg, fd);
    child_check(rdy_close(&reg) == 0);
    rdy_driver_close(driver);
}

static void auto_falls_back_when_the_ring_is_forbidden(void **state)
{
    (void)state;
    in_a_child(auto_without_a_ring, EPERM);
    in_a_child(auto_without_a_ring, ENOSYS);
}

static void forced_without_a_ring(int error)
{
    forbid(error, true);
    child_check(open_kind(RDY_BACKEND_URING, -error) == NULL);
    child_check(setenv("RDY_BACKEND", "uring", 1) == 0);
    child_check(open_kind(RDY_BACKEND_AUTO, -error) == NULL);
}

static void forced_ring_that_is_forbidden_is_an_error(void **state)
{
    (void)state;
    in_a_child(forced_without_a_ring, EPERM);
    in_a_child(forced_without_a_ring, ENOSYS);
}

static void named_by_the_environment(int error)
{
    struct rdy_driver *driver;

    (void)error;
    child_check(setenv("RDY_BACKEND", "epoll", 1) == 0);
    driver = open_kind(RDY_BACKEND_AUTO, 0);
    child_check(is_on(driver, "epoll"));
    child_check(reason_has(driver, "RDY_BACKEND"));
    rdy_driver_close(driver);

    child_check(setenv("RDY_BACKEND", "uring", 1) == 0);
    driver = open_kind(RDY_BACKEND_AUTO, 0);
    child_check(is_on(driver, "io_uring"));
    rdy_driver_close(driver);

    child_check(setenv("RDY_BACKEND", "kqueue", 1) == 0);
    child_check(open_kind(RDY_BACKEND_AUTO, -EINVAL) == NULL);
}

static void environment_names_the_backend(void **state)
{
    (void)state;
    in_a_child(named_by_the_environment, 0);
}

static void no_locked_memory(int error)
{
    struct rdy_probe_report report = {.size = sizeof(report)};
    struct rlimit none = {0};
    struct rdy_driver *driver;
    struct rdy_registration reg;
    int fd = event_fd();

    (void)error;
    child_check(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
    child_check(setgroups(0, NULL) == 0);
    child_check(setgid(NOBODY) == 0);
    child_check(setuid(NOBODY) == 0);

    /* From 5.12 to 6.13 the kernel does not count rings as locked memory. */
    child_check(rdy_probe(&report) == 0);
    driver = open_kind(RDY_BACKEND_AUTO, 0);
    if (report.uring_result == 0) {
        child_check(is_on(driver, "io_uring"));
        rdy_driver_close(driver);
        return;
    }
    child_check(is_on(driver, "epoll"));
    child_check(reason_has(driver, "RLIMIT_MEMLOCK"));
    child_check(rdy_register(driver, fd, RDY_INTEREST_READ, &reg) == 0);
    expect_readable(driver, &reg, fd);
    child_check(rdy_close(&reg) == 0);
    rdy_driver_close(driver);
    child_check(open_kind(RDY_BACKEND_URING, -ENOMEM) == NULL);
}

/* Rings count as locked memory for ordinary users; the limit is often small, and may be nothing. */
static void auto_falls_back_without_locked_memory(void **state)
{
    (void)state;
    in_a_child(no_locked_memory, 0);
}

/* --- the ring is lost mid-run --- */

static void auto_loses_the_ring(int error)
{
    struct rdy_driver *driver = open_kind(RDY_BACKEND_AUTO, 0);
    struct rdy_registration reg;
    struct rdy_registration late;
    struct rdy_driver_stats stats;
    int fd = event_fd();
    int fd_late = event_fd();

    child_check(is_on(driver, "io_uring"));
    child_check(rdy_register(driver, fd, RDY_INTEREST_READ, &reg) == 0);
    expect_readable(driver, &reg, fd);
    forbid(error, false);

    expect_readable(driver, &reg, fd);
    child_check(is_on(driver, "epoll"));
    child_check(reason_has(driver, strerror(error)));
    rdy_driver_read_stats(driver, &stats);
    child_check(stats.backend_moves == 1);

    child_check(rdy_register(driver, fd_late, RDY_INTEREST_READ, &late) == 0);
    expect_readable(driver, &late, fd_late);
    rdy_driver_unpark(driver);
    child_check(rdy_driver_turn(driver, -1) == 0);
    child_check(rdy_close(&reg) == 0);
    child_check(rdy_close(&late) == 0);
    rdy_driver_close(driver);
}

static void auto_goes_on_over_epoll_when_the_ring_is_lost(void **state)
{
    (void)state;
    in_a_child(auto_loses_the_ring, EPERM);
    in_a_child(auto_loses_the_ring, ENOSYS);
}

static void forced_loses_the_ring(int error)
{
    struct rdy_driver *driver = open_kind(RDY_BACKEND_URING, 0);
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_registration reg;
    struct rdy_registration late;
    struct rdy_event event;
    int fd = event_fd();

    child_check(rdy_register(driver, fd, RDY_INTEREST_READ, &reg) == 0);
    expect_readable(driver, &reg, fd);
    child_check(rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event) == RDY_PENDING);
    forbid(error, false);

    for (int i = 0; i < 3; i++)
        child_check(rdy_driver_turn(driver, -1) == -error);
    child_check(bell_rings(&bell) == 1);
    child_check(rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event) == -error);
    child_check(rdy_register(driver, fd, RDY_INTEREST_READ, &late) == -error);
    child_check(rdy_close(&reg) == 0);
    child_check(rdy_driver_shutdown(driver) == 0);
    rdy_driver_close(driver);
}

static void forced_ring_that_is_lost_is_a_lasting_error(void **state)
{
    (void)state;
    in_a_child(forced_loses_the_ring, EPERM);
    in_a_child(forced_loses_the_ring, ENOSYS);
}

/* The loop around it polls a descriptor that a move would close: it must hear an error instead. */
static void embedded_loses_the_ring(int error)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts), .is_embedded = true};
    struct rdy_driver *driver = NULL;
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_registration reg;
    struct rdy_event event;
    int fd;

    child_check(rdy_driver_open(&driver, &opts) == 0);
    child_check(is_on(driver, "io_uring"));
    fd = rdy_driver_fd(driver);
    child_check(rdy_register(driver, event_fd(), RDY_INTEREST_READ, &reg) == 0);
    child_check(rdy_driver_turn(driver, 0) >= 0);
    child_check(rdy_poll_readiness(&reg, RDY_DIRECTION_READ, &waker, &event) == RDY_PENDING);
    forbid(error, false);

    for (int i = 0; i < 3; i++)
        child_check(rdy_driver_turn(driver, 0) == -error);
    child_check(bell_rings(&bell) == 1);
    child_check(rdy_driver_fd(driver) == fd);
    child_check(fcntl(fd, F_GETFD) >= 0);
    rdy_driver_close(driver);
}

static void embedded_driver_that_loses_the_ring_says_so_and_keeps_its_descriptor(void **state)
{
    (void)state;
    in_a_child(embedded_loses_the_ring, EPERM);
}

static void closes_without_the_ring(int error)
{
    struct rdy_driver *driver = open_kind(RDY_BACKEND_AUTO, 0);
    struct rdy_registration reg[3];
    uint32_t fds_before = fds_open();

    for (int i = 0; i < 3; i++) {
        child_check(rdy_register(driver, event_fd(), RDY_INTEREST_READ, &reg[i]) == 0);
        if (i == 0)
            child_check(rdy_driver_turn(driver, 0) >= 0);
    }
    forbid(error, false);
    for (int i = 0; i < 3; i++)
        child_check(rdy_close(&reg[i]) == 0);
    rdy_driver_close(driver);
    child_check(fds_open() < fds_before);
}

/* Nobody turned it since the loss; close() is the first to find out, and must not wait for ever. */
static void driver_can_be_closed_after_the_ring_is_lost(void **state)
{
    (void)state;
    in_a_child(closes_without_the_ring, EPERM);
    in_a_child(closes_without_the_ring, ENOSYS);
}

/* As of a worker that ended: its driver is kept, and must hold nobody's files meanwhile. */
static void lost_at_the_end(int error)
{
    struct rdy_driver *driver = open_kind(RDY_BACKEND_AUTO, 0);
    struct rdy_registration reg;
    int ends[2];
    struct pollfd peer;

    child_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    child_check(rdy_register(driver, ends[0], RDY_INTEREST_READ, &reg) == 0);
    child_check(rdy_driver_turn(driver, 0) >= 0);
    forbid(error, false);
    rdy_driver_end(driver);
    child_check(close(ends[0]) == 0);
    peer = (struct pollfd){.fd = ends[1], .events = POLLIN};
    child_check(poll(&peer, 1, 5000) == 1);
    child_check((peer.revents & POLLHUP) != 0);
    rdy_driver_close(driver);
}

static void ring_that_is_lost_in_the_shutdown_lets_go_of_its_files(void **state)
{
    (void)state;
    in_a_child(lost_at_the_end, EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_falls_back_when_the_ring_is_forbidden),
        cmocka_unit_test(forced_ring_that_is_forbidden_is_an_error),
        cmocka_unit_test(environment_names_the_backend),
        cmocka_unit_test(auto_falls_back_without_locked_memory),
        cmocka_unit_test(auto_goes_on_over_epoll_when_the_ring_is_lost),
        cmocka_unit_test(forced_ring_that_is_lost_is_a_lasting_error),
        cmocka_unit_test(embedded_driver_that_loses_the_ring_says_so_and_keeps_its_descriptor),
        cmocka_unit_test(driver_can_be_closed_after_the_ring_is_lost),
        cmocka_unit_test(ring_that_is_lost_in_the_shutdown_lets_go_of_its_files),
    };

    return cmocka_run_group_tests_name("ring_loss", tests, NULL, NULL);
}
