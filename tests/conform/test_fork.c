/* SPDX-License-Identifier: MIT */
/*
 * A forked child and what it inherited: the driver is dead there, but the child's copies of the
 * descriptors are its own, and giving them back must work, or a peer would wait for the child's end
 * to see its connection closed.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/stage.h"

#define CHILD_LIFE_S 60

typedef void child_fn(struct stage *stage, struct rdy_registration *reg, int fd);

/* Runs @child in a forked child, then sees that the parent's registration still works. */
static void with_a_child(struct stage *stage, child_fn *child)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);
    int status = -1;
    pid_t pid;

    stage_settle(stage);
    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        (void)alarm(CHILD_LIFE_S);
        child(stage, &reg, fd);
        _exit(0);
    }
    check(pid > 0);
    check(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);

    event_write(fd);
    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READABLE);
    rdy_close(&reg);
}

static void child_closes(struct stage *stage, struct rdy_registration *reg, int fd)
{
    (void)stage;
    child_check(rdy_close(reg) == 0);
    child_check(fcntl(fd, F_GETFD) < 0);
}

static void close_in_a_child_closes_the_childs_descriptor(struct stage *stage)
{
    with_a_child(stage, child_closes);
}

static void child_deregisters(struct stage *stage, struct rdy_registration *reg, int fd)
{
    (void)stage;
    child_check(rdy_deregister(reg) == 0);
    child_check(fcntl(fd, F_GETFD) >= 0);
}

static void deregistering_in_a_child_leaves_the_parents_watch(struct stage *stage)
{
    with_a_child(stage, child_deregisters);
}

/* All that stays open is the eventfd that was registered. */
static void child_closes_the_driver(struct stage *stage, struct rdy_registration *reg, int fd)
{
    struct rdy_driver_opts opts = stage->opts;
    struct rdy_driver *driver = NULL;
    uint32_t fds_with_one = 0;

    (void)reg;
    (void)fd;
    fds_with_one = fds_open();
    rdy_driver_close(stage->driver);
    child_check(fds_open() < fds_with_one);
    child_check(rdy_driver_open(&driver, &opts) == 0);
    child_check(fds_open() == fds_with_one);
    rdy_driver_close(driver);
}

static void closing_the_driver_in_a_child_leaks_no_descriptor(struct stage *stage)
{
    with_a_child(stage, child_closes_the_driver);
}

#define NO_NAMESPACE 77

/* The next child is number 1 of a namespace of its own. */
static void begin_namespace(void)
{
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
        _exit(NO_NAMESPACE);
}

static int status_of(pid_t child)
{
    int status = -1;

    child_check(child > 0);
    child_check(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* The first of a namespace, as a server in a container is, with a child that is one as well. */
static void be_number_one(const struct stage *stage)
{
    struct rdy_driver_opts opts = stage->opts;
    struct rdy_driver *driver = NULL;
    pid_t child;

    child_check(getpid() == 1);
    child_check(rdy_driver_open(&driver, &opts) == 0);
    begin_namespace();
    child = fork();
    if (child == 0) {
        child_check(getpid() == 1);
        rdy_driver_close(driver);
        _exit(0);
    }
    if (status_of(child) != 0)
        _exit(1);
    rdy_driver_close(driver);
    _exit(0);
}

static void child_with_its_parents_number_is_told_apart(struct stage *stage)
{
    pid_t child;
    int status;

    (void)fflush(NULL);
    child = fork();
    if (child == 0) {
        (void)alarm(CHILD_LIFE_S);
        begin_namespace();
        child = fork();
        if (child == 0)
            be_number_one(stage);
        _exit(status_of(child));
    }
    status = status_of(child);
    if (status == NO_NAMESPACE)
        skip(); /* this machine lets nobody have one */
    assert_int_equal(status, 0);
}

int main(void)
{
    static const struct scenario rows[] = {
        SCENARIO(close_in_a_child_closes_the_childs_descriptor, ON_KERNEL),
        SCENARIO(deregistering_in_a_child_leaves_the_parents_watch, ON_KERNEL),
        SCENARIO(closing_the_driver_in_a_child_leaks_no_descriptor, ON_KERNEL),
        SCENARIO(child_with_its_parents_number_is_told_apart, ON_KERNEL),
    };

    return scenarios_run("fork", rows, sizeof(rows) / sizeof(rows[0]));
}
