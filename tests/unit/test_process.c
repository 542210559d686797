/* SPDX-License-Identifier: MIT */
/*
 * Child processes: how they ended, who may wait for them, signals to them, and a debugger in
 * between; on both backends.
 */
#include "tests/support/calls.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <rdy/process.h>
#include <rdy/timer.h>

#define CHILDREN 20

struct scene {
    struct rdy_runtime *runtime;
    struct rdy_child child;
    struct rdy_exit_status status;
    struct rdy_timer timer;
    uint64_t deadline_ns;
};

static struct scene scene;

static void scene_open(void **state)
{
    memset(&scene, 0, sizeof(scene));
    scene.runtime = runtime_of(state);
    scene.child.fd = -1;
}

static void scene_close(void)
{
    rdy_child_close(&scene.child);
    rdy_child_close(&scene.child);
    let_close(scene.runtime);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody was left behind */
    assert_int_equal(errno, ECHILD);
}

/* A child that waits until its pipe ends, and then exits with @code, or by @signo. */
struct held {
    pid_t pid;
    int hold;
};

static struct held fork_held(int code, int signo)
{
    struct held held;
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    held.pid = fork();
    if (held.pid == 0) {
        char byte;

        (void)prctl(PR_SET_DUMPABLE, 1);
        (void)close(fds[1]);
        while (read(fds[0], &byte, 1) > 0)
            ;
        if (signo != 0)
            (void)raise(signo);
        _exit(code);
    }
    assert_true(held.pid > 0);
    assert_int_equal(close(fds[0]), 0);
    held.hold = fds[1];
    return held;
}

static void let_go(struct held *held)
{
    assert_int_equal(close(held->hold), 0);
}

static ssize_t exits(void *test, struct rdy_task *task)
{
    struct scene *s = test;

    return rdy_child_poll_exit(&s->child, task, &s->status);
}

static ssize_t exits_in_time(void *test, struct rdy_task *task)
{
    struct scene *s = test;

    return RDY_TIMEOUT(&s->timer, task, s->deadline_ns,
                       rdy_child_poll_exit(&s->child, task, &s->status));
}

static ssize_t ask(call_fn *fn)
{
    return call_ask(scene.runtime, fn, &scene);
}

static void watch(pid_t pid)
{
    assert_int_equal(rdy_child_open(&scene.child, scene.runtime, pid), 0);
    assert_int_equal(rdy_child_pid(&scene.child), pid);
}

static void exit_code_is_told_when_the_child_ends(void **state)
{
    struct held held = fork_held(42, 0);
    struct call call;

    scene_open(state);
    watch(held.pid);
    (void)call_start(&call, scene.runtime, exits, &scene);
    let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    let_go(&held);
    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(scene.status.code, 42);
    assert_int_equal(scene.status.signo, 0);
    assert_false(scene.status.has_core);
    assert_true(scene.status.usage.ru_maxrss > 0);
    scene_close();
}

static void answer_can_be_asked_for_again(void **state)
{
    struct held held = fork_held(9, 0);

    scene_open(state);
    watch(held.pid);
    let_go(&held);
    assert_int_equal(call_run(scene.runtime, exits, &scene), 0);
    memset(&scene.status, 0, sizeof(scene.status));
    assert_int_equal(call_run(scene.runtime, exits, &scene), 0);
    assert_int_equal(scene.status.code, 9);
    assert_true(scene.status.usage.ru_maxrss > 0);
    assert_int_equal(rdy_child_kill(&scene.child, SIGTERM), -ESRCH);
    scene_close();
}

static void signal_that_ended_it_is_told(void **state)
{
    struct held held = fork_held(0, SIGHUP);

    scene_open(state);
    watch(held.pid);
    let_go(&held);
    assert_int_equal(call_run(scene.runtime, exits, &scene), 0);
    assert_int_equal(scene.status.code, -1);
    assert_int_equal(scene.status.signo, SIGHUP);
    scene_close();
}

static void child_that_ended_before_it_was_watched_is_told_of(void **state)
{
    struct held held = fork_held(3, 0);
    siginfo_t info;

    scene_open(state);
    let_go(&held);
    assert_int_equal(waitid(P_PID, (id_t)held.pid, &info, WEXITED | WNOWAIT), 0);
    watch(held.pid);
    assert_int_equal(call_run(scene.runtime, exits, &scene), 0);
    assert_int_equal(scene.status.code, 3);
    scene_close();
}

static void children_are_told_apart(void **state)
{
    static struct scene scenes[CHILDREN];
    static struct call calls[CHILDREN];
    struct held held[CHILDREN];

    scene_open(state);
    for (int i = 0; i < CHILDREN; i++) {
        held[i] = fork_held(i, 0);
        scenes[i] = scene;
        assert_int_equal(rdy_child_open(&scenes[i].child, scene.runtime, held[i].pid), 0);
        (void)call_start(&calls[i], scene.runtime, exits, &scenes[i]);
    }
    let_turn(scene.runtime);
    for (int i = CHILDREN - 1; i >= 0; i--)
        let_go(&held[i]);
    assert_int_equal(rdy_runtime_run(scene.runtime), 0);
    for (int i = 0; i < CHILDREN; i++) {
        assert_int_equal(calls[i].result, 0);
        assert_int_equal(scenes[i].status.code, i);
        rdy_child_close(&scenes[i].child);
    }
    scene_close();
}

/* --- signals --- */

static void kill_reaches_the_child(void **state)
{
    struct held held = fork_held(0, 0);

    scene_open(state);
    watch(held.pid);
    assert_int_equal(rdy_child_kill(&scene.child, 0), 0);
    assert_int_equal(rdy_child_kill(&scene.child, 65), -EINVAL);
    assert_int_equal(ask(exits), RDY_PENDING);
    assert_int_equal(rdy_child_kill(&scene.child, SIGTERM), 0);
    assert_int_equal(call_run(scene.runtime, exits, &scene), 0);
    assert_int_equal(scene.status.signo, SIGTERM);
    let_go(&held);
    scene_close();
    assert_int_equal(rdy_child_kill(&scene.child, SIGTERM), -EBADF);
}

/* The usual end of a child that does not come to one: a deadline, and then force. */
static void timeout_kill_and_wait_compose(void **state)
{
    struct held held = fork_held(0, 0);

    scene_open(state);
    watch(held.pid);
    scene.deadline_ns = 1;
    assert_int_equal(call_run(scene.runtime, exits_in_time, &scene), -ETIMEDOUT);
    assert_int_equal(rdy_child_kill(&scene.child, SIGKILL), 0);
    scene.deadline_ns = UINT64_MAX;
    assert_int_equal(call_run(scene.runtime, exits_in_time, &scene), 0);
    assert_int_equal(scene.status.signo, SIGKILL);
    let_go(&held);
    scene_close();
}

/* --- whose child --- */

static void closed_child_is_the_callers_to_wait_for(void **state)
{
    struct held held = fork_held(5, 0);
    int status = 0;

    scene_open(state);
    watch(held.pid);
    let_turn(scene.runtime);
    rdy_child_close(&scene.child);
    let_close(scene.runtime);
    assert_int_equal(rdy_child_pid(&scene.child), 0);
    assert_int_equal(call_run(scene.runtime, exits, &scene), -EBADF);
    let_go(&held);
    assert_int_equal(waitpid(held.pid, &status, 0), held.pid);
    assert_int_equal(WEXITSTATUS(status), 5);
    scene_close();
}

/* A runtime that watched it is closed; the child goes on, and another runtime takes it up. */
static void child_can_be_watched_from_one_runtime_after_the_other(void **state)
{
    struct runtime_fixture *fixture = *state;
    struct held held = fork_held(11, 0);

    for (int i = 0; i < 3; i++) {
        scene_open(state);
        watch(held.pid);
        assert_int_equal(ask(exits), RDY_PENDING);
        rdy_child_close(&scene.child);
        rdy_runtime_close(fixture->runtime);
        fixture->runtime = runtime_open(fixture->backend);
    }
    scene_open(state);
    watch(held.pid);
    let_go(&held);
    assert_int_equal(call_run(scene.runtime, exits, &scene), 0);
    assert_int_equal(scene.status.code, 11);
    scene_close();
}

static void child_that_somebody_else_reaped_has_no_status(void **state)
{
    struct held held = fork_held(5, 0);

    scene_open(state);
    watch(held.pid);
    let_go(&held);
    assert_int_equal(waitpid(held.pid, NULL, 0), held.pid);
    assert_int_equal(call_run(scene.runtime, exits, &scene), -ECHILD);
    assert_int_equal(rdy_child_kill(&scene.child, 0), -ESRCH);
    scene_close();
}

static void child_of_who_ignores_sigchld_has_no_status(void **state)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction before;
    struct held held = fork_held(5, 0);

    scene_open(state);
    assert_int_equal(sigaction(SIGCHLD, &ignore, &before), 0);
    watch(held.pid);
    let_go(&held);
    assert_int_equal(call_run(scene.runtime, exits, &scene), -ECHILD);
    assert_int_equal(sigaction(SIGCHLD, &before, NULL), 0);
    scene_close();
}

/* The end of a process that is not our child is an event, but not ours to have the status of. */
static void grandchild_can_be_watched_but_not_reaped(void **state)
{
    pid_t grandchild = 0;
    struct held held;
    pid_t pid;
    int fds[2];

    scene_open(state);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        held = fork_held(1, 0);
        (void)!write(fds[1], &held.pid, sizeof(held.pid));
        (void)pause();
        _exit(0);
    }
    assert_int_equal(read(fds[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
    watch(grandchild);
    assert_int_equal(ask(exits), RDY_PENDING);
    assert_int_equal(rdy_child_kill(&scene.child, SIGKILL), 0);
    assert_int_equal(call_run(scene.runtime, exits, &scene), -ECHILD);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(close(fds[1]), 0);
    scene_close();
}

static void what_is_no_process_is_refused(void **state)
{
    struct held held = fork_held(0, 0);

    scene_open(state);
    let_go(&held);
    assert_int_equal(waitpid(held.pid, NULL, 0), held.pid);
    assert_int_equal(rdy_child_open(&scene.child, scene.runtime, held.pid), -ESRCH);
    assert_int_equal(rdy_child_open(&scene.child, scene.runtime, 0), -EINVAL);
    assert_int_equal(rdy_child_open(&scene.child, scene.runtime, -1), -EINVAL);
    assert_int_equal(scene.child.fd, -1);
    scene_close();
}

/* --- a debugger --- */

/* Attaches to the child, says so, and holds on to what is left of it until @go ends. */
static pid_t fork_tracer(const struct held *held, const int said[2], const int go[2])
{
    pid_t tracer = fork();
    siginfo_t info;
    char byte = 'x';

    assert_true(tracer >= 0);
    if (tracer != 0)
        return tracer;
    (void)close(go[1]);
    (void)close(held->hold);
    child_check(ptrace(PTRACE_SEIZE, held->pid, NULL, NULL) == 0);
    child_check(write(said[1], &byte, 1) == 1);
    child_check(waitid(P_PID, (id_t)held->pid, &info, WEXITED | WNOWAIT) == 0);
    child_check(write(said[1], &byte, 1) == 1);
    while (read(go[0], &byte, 1) > 0)
        ;
    child_check(waitpid(held->pid, NULL, 0) == held->pid);
    _exit(0);
}

/*
 * The child has ended, and its pidfd is readable, but until the debugger lets go there is nothing
 * to reap: who takes readable for ended fails here, and who tries again at once spins.
 */
static void child_in_a_debuggers_hands_is_waited_for_until_it_lets_go(void **state)
{
    struct held held = fork_held(17, 0);
    struct call call;
    siginfo_t info = {0};
    int said[2];
    int go[2];
    int status = 0;
    pid_t tracer;
    char byte;

    scene_open(state);
    assert_int_equal(pipe2(said, O_CLOEXEC), 0);
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    tracer = fork_tracer(&held, said, go);
    assert_int_equal(close(go[0]), 0);
    assert_int_equal(close(said[1]), 0);
    assert_int_equal(read(said[0], &byte, 1), 1);
    watch(held.pid);
    (void)call_start(&call, scene.runtime, exits, &scene);
    let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);

    let_go(&held);
    assert_int_equal(read(said[0], &byte, 1), 1);
    assert_true(poll_bits(scene.child.fd, POLLIN) & POLLIN);
    assert_int_equal(waitid(P_PID, (id_t)held.pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    assert_int_equal(info.si_pid, 0);
    for (int i = 0; i < 10; i++)
        let_turn(scene.runtime);
    assert_int_equal(call.result, RDY_PENDING);
    assert_true(call.polls <= 2);

    assert_int_equal(close(go[1]), 0);
    assert_int_equal(call_finish(&call), 0);
    assert_int_equal(scene.status.code, 17);
    assert_int_equal(waitpid(tracer, &status, 0), tracer);
    assert_int_equal(status, 0);
    assert_int_equal(close(said[0]), 0);
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(exit_code_is_told_when_the_child_ends),
        ON_BOTH(answer_can_be_asked_for_again),
        ON_BOTH(signal_that_ended_it_is_told),
        ON_BOTH(child_that_ended_before_it_was_watched_is_told_of),
        ON_BOTH(children_are_told_apart),
        ON_BOTH(kill_reaches_the_child),
        ON_BOTH(timeout_kill_and_wait_compose),
        ON_BOTH(closed_child_is_the_callers_to_wait_for),
        ON_BOTH(child_can_be_watched_from_one_runtime_after_the_other),
        ON_BOTH(child_that_somebody_else_reaped_has_no_status),
        ON_BOTH(child_of_who_ignores_sigchld_has_no_status),
        ON_BOTH(grandchild_can_be_watched_but_not_reaped),
        ON_BOTH(what_is_no_process_is_refused),
        ON_BOTH(child_in_a_debuggers_hands_is_waited_for_until_it_lets_go),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
