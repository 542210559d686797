/* SPDX-License-Identifier: MIT */
/*
 * Starting programs: pipes to them, what they inherit and what not, and what is left when it fails;
 * on both backends.
 */
#include "tests/support/calls.h"

#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <rdy/process.h>
#include <rdy/timer.h>

#define MUCH     200000
#define PROGRAMS 30

struct scene {
    struct rdy_runtime *runtime;
    struct rdy_child child;
    struct rdy_child_pipes pipes;
    struct rdy_exit_status status;
    const char *input;
    size_t sent;
    size_t have;
    char output[MUCH + 1];
};

static struct scene scene;

static void scene_open(void **state)
{
    memset(&scene, 0, sizeof(scene));
    scene.runtime = runtime_of(state);
    scene.child.fd = -1;
    scene.pipes.stdin_sender.fd = -1;
    scene.pipes.stdout_receiver.fd = -1;
    scene.pipes.stderr_receiver.fd = -1;
}

static void scene_close(void)
{
    rdy_child_close(&scene.child);
    rdy_child_pipes_close(&scene.pipes);
    rdy_child_pipes_close(&scene.pipes);
    let_close(scene.runtime);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody was left behind */
    assert_int_equal(errno, ECHILD);
}

static struct rdy_spawn_spec spec_of(char *const *argv)
{
    return (struct rdy_spawn_spec){
        .size = sizeof(struct rdy_spawn_spec), .path = argv[0], .argv = argv};
}

static int spawn(const struct rdy_spawn_spec *spec)
{
    return rdy_child_spawn(&scene.child, scene.runtime, spec, &scene.pipes);
}

/* Starts a line of shell with the stdio that was asked for. */
static void spawn_shell(const char *line, enum rdy_stdio in, enum rdy_stdio out, enum rdy_stdio err)
{
    char *const argv[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c",
                          (char *)(uintptr_t)line, NULL};
    struct rdy_spawn_spec spec = spec_of(argv);

    spec.stdin_mode = in;
    spec.stdout_mode = out;
    spec.stderr_mode = err;
    assert_int_equal(spawn(&spec), 0);
}

static ssize_t exits(void *test, struct rdy_task *task)
{
    struct scene *s = test;

    return rdy_child_poll_exit(&s->child, task, &s->status);
}

static int exit_code(void)
{
    assert_int_equal(call_run(scene.runtime, exits, &scene), 0);
    return scene.status.code;
}

static ssize_t reads_from(struct rdy_pipe_receiver *receiver, struct rdy_task *task)
{
    for (;;) {
        ssize_t count = rdy_pipe_receiver_poll_read(receiver, task, scene.output + scene.have,
                                                    MUCH - scene.have);

        if (count <= 0)
            return count;
        scene.have += (size_t)count;
    }
}

static ssize_t reads_stdout(void *test, struct rdy_task *task)
{
    return reads_from(&((struct scene *)test)->pipes.stdout_receiver, task);
}

static ssize_t reads_stderr(void *test, struct rdy_task *task)
{
    return reads_from(&((struct scene *)test)->pipes.stderr_receiver, task);
}

static const char *output_of(call_fn *reads)
{
    scene.have = 0;
    assert_int_equal(call_run(scene.runtime, reads, &scene), 0);
    scene.output[scene.have] = '\0';
    return scene.output;
}

/* Writes the input and closes the pipe, which is what tells the program that it is all. */
static ssize_t feeds(void *test, struct rdy_task *task)
{
    struct scene *s = test;
    size_t len = strlen(s->input);

    while (s->sent < len) {
        ssize_t count = rdy_pipe_sender_poll_write(&s->pipes.stdin_sender, task, s->input + s->sent,
                                                   len - s->sent);

        if (count < 0)
            return count;
        s->sent += (size_t)count;
    }
    rdy_pipe_sender_close(&s->pipes.stdin_sender);
    return 0;
}

/* --- what goes in and out --- */

static void programs_output_is_read_to_its_end(void **state)
{
    scene_open(state);
    spawn_shell("echo hello; exit 4", RDY_STDIO_INHERIT, RDY_STDIO_PIPE, RDY_STDIO_INHERIT);
    assert_int_equal(scene.pipes.stdin_sender.fd, -1);
    assert_int_equal(scene.pipes.stderr_receiver.fd, -1);
    assert_string_equal(output_of(reads_stdout), "hello\n");
    assert_int_equal(exit_code(), 4);
    scene_close();
}

static void program_is_fed_and_its_answer_read(void **state)
{
    struct call feeder;

    scene_open(state);
    spawn_shell("cat; echo done >&2", RDY_STDIO_PIPE, RDY_STDIO_PIPE, RDY_STDIO_PIPE);
    scene.input = "round and round";
    (void)call_start(&feeder, scene.runtime, feeds, &scene);
    assert_string_equal(output_of(reads_stdout), "round and round");
    assert_int_equal(feeder.result, 0);
    assert_string_equal(output_of(reads_stderr), "done\n");
    assert_int_equal(exit_code(), 0);
    scene_close();
}

/* The program's end is blocking: it does not have to expect EAGAIN. */
static void much_output_comes_whole(void **state)
{
    scene_open(state);
    spawn_shell("head -c 200000 /dev/zero", RDY_STDIO_NULL, RDY_STDIO_PIPE, RDY_STDIO_NULL);
    (void)output_of(reads_stdout);
    assert_int_equal(scene.have, MUCH);
    assert_int_equal(exit_code(), 0);
    scene_close();
}

static void nothing_is_an_empty_input_and_output_that_is_dropped(void **state)
{
    scene_open(state);
    spawn_shell("cat && echo lost && echo lost >&2 && exit 6", RDY_STDIO_NULL, RDY_STDIO_NULL,
                RDY_STDIO_NULL);
    assert_int_equal(exit_code(), 6);
    scene_close();
}

static void writing_to_a_program_that_ended_is_an_error_and_no_signal(void **state)
{
    scene_open(state);
    spawn_shell("exit 0", RDY_STDIO_PIPE, RDY_STDIO_INHERIT, RDY_STDIO_INHERIT);
    assert_int_equal(exit_code(), 0);
    scene.input = "too late";
    assert_int_equal(call_run(scene.runtime, feeds, &scene), -EPIPE);
    scene_close();
}

static ssize_t feeds_without_end(void *test, struct rdy_task *task)
{
    struct scene *s = test;
    ssize_t count;

    while ((count = rdy_pipe_sender_poll_write(&s->pipes.stdin_sender, task, s->output, MUCH)) > 0)
        s->sent += (size_t)count;
    return count;
}

/* It never reads: the pipe is full, and the writer sleeps until there is nobody to write to. */
static void write_that_waits_for_a_program_ends_when_it_is_killed(void **state)
{
    struct call feeder;

    scene_open(state);
    spawn_shell("exec sleep 1000", RDY_STDIO_PIPE, RDY_STDIO_NULL, RDY_STDIO_NULL);
    (void)call_start(&feeder, scene.runtime, feeds_without_end, &scene);
    let_turn(scene.runtime);
    assert_int_equal(feeder.result, RDY_PENDING);
    assert_true(scene.sent > 0);
    assert_int_equal(rdy_child_kill(&scene.child, SIGKILL), 0);

    assert_int_equal(call_finish(&feeder), -EPIPE);

    assert_int_equal(exit_code(), -1);
    assert_int_equal(scene.status.signo, SIGKILL);
    scene_close();
}

/* --- what it inherits --- */

static void program_begins_with_no_signal_blocked_and_sigpipe_as_usual(void **state)
{
    /* not by way of a shell, which clears the mask by itself */
    char *const argv[] = {(char *)(uintptr_t) "grep", (char *)(uintptr_t) "-E",
                          (char *)(uintptr_t) "Sig(Blk|Ign)",
                          (char *)(uintptr_t) "/proc/self/status", NULL};
    struct rdy_spawn_spec spec = spec_of(argv);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction before;
    sigset_t set;
    unsigned long long blocked = 1;
    unsigned long long ignored = 1;

    assert_int_equal(sigaction(SIGPIPE, &ignore, &before), 0);
    assert_int_equal(sigemptyset(&set), 0);
    assert_int_equal(sigaddset(&set, SIGTERM), 0);
    assert_int_equal(sigaddset(&set, SIGUSR1), 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    scene_open(state);
    spec.stdout_mode = RDY_STDIO_PIPE;
    assert_int_equal(spawn(&spec), 0);
    assert_int_equal(
        sscanf(output_of(reads_stdout), "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
    assert_true(blocked == 0);
    assert_int_equal(ignored >> (SIGPIPE - 1) & 1, 0);
    assert_int_equal(exit_code(), 0);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
    scene_close();
}

/* How many of our descriptors above 2 a program would get, those of the runtime among them. */
static int inheritable_count(void)
{
    int count = 0;

    for (int fd = 3; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);

        count += flags >= 0 && (flags & FD_CLOEXEC) == 0 ? 1 : 0;
    }
    return count;
}

static void program_gets_no_descriptor_of_ours(void **state)
{
    int count = 0;

    scene_open(state);
    /* what was counted but ours: 0, 1, 2, and the one that lists them */
    spawn_shell("ls /proc/self/fd | wc -l", RDY_STDIO_PIPE, RDY_STDIO_PIPE, RDY_STDIO_PIPE);
    assert_int_equal(sscanf(output_of(reads_stdout), "%d", &count), 1);
    assert_int_equal(count, 4 + inheritable_count());
    assert_int_equal(exit_code(), 0);
    scene_close();
}

static void program_is_looked_for_in_the_path_and_gets_its_environment(void **state)
{
    char *const argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                          (char *)(uintptr_t) "echo $0 $RDY_TEST_WORD", NULL};
    char *const envp[] = {(char *)(uintptr_t) "RDY_TEST_WORD=mellon",
                          (char *)(uintptr_t) "PATH=/bin:/usr/bin", NULL};
    struct rdy_spawn_spec spec = spec_of(argv);

    scene_open(state);
    spec.envp = envp;
    spec.stdout_mode = RDY_STDIO_PIPE;
    assert_int_equal(spawn(&spec), 0);
    assert_string_equal(output_of(reads_stdout), "sh mellon\n");
    assert_int_equal(exit_code(), 0);
    scene_close();
}

/*
 * A process that has closed its own 0, 1 and 2 gets those numbers for the pipes. Without care the
 * program's stdout is then laid over its stdin.
 */
/* argv[0] is what the program is told; the file is found by its path. */
static void program_may_be_called_by_another_name(void **state)
{
    static const char *const paths[] = {"/bin/sh", "sh"};
    char *const argv[] = {(char *)(uintptr_t) "another name", (char *)(uintptr_t) "-c",
                          (char *)(uintptr_t) "echo $0", NULL};
    struct rdy_spawn_spec spec = spec_of(argv);

    spec.stdout_mode = RDY_STDIO_PIPE;
    for (int i = 0; i < 2; i++) {
        scene_open(state);
        spec.path = paths[i];
        assert_int_equal(spawn(&spec), 0);
        assert_string_equal(output_of(reads_stdout), "another name\n");
        assert_int_equal(exit_code(), 0);
        scene_close();
    }
}

static void works_without_descriptors_0_to_2(void **state)
{
    struct runtime_fixture *fixture = *state;
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        struct rdy_runtime_opts opts = runtime_opts(fixture->backend);
        struct call feeder;

        (void)close(0);
        (void)close(1);
        (void)close(2);
        memset(&scene, 0, sizeof(scene));
        child_check(rdy_runtime_open(&scene.runtime, &opts) == 0);
        spawn_shell("cat; echo done >&2", RDY_STDIO_PIPE, RDY_STDIO_PIPE, RDY_STDIO_PIPE);
        scene.input = "straight on";
        (void)call_start(&feeder, scene.runtime, feeds, &scene);
        child_check(strcmp(output_of(reads_stdout), "straight on") == 0);
        child_check(strcmp(output_of(reads_stderr), "done\n") == 0);
        child_check(exit_code() == 0);
        rdy_child_close(&scene.child);
        rdy_child_pipes_close(&scene.pipes);
        rdy_runtime_close(scene.runtime);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- what cannot be started --- */

static void expect_refusal(const struct rdy_spawn_spec *spec, int error)
{
    int before = descriptors_count();

    assert_int_equal(spawn(spec), error);
    assert_int_equal(scene.child.fd, -1);
    assert_int_equal(scene.pipes.stdin_sender.fd, -1);
    assert_int_equal(scene.pipes.stdout_receiver.fd, -1);
    let_close(scene.runtime);
    assert_int_equal(descriptors_count(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void program_that_is_not_there_is_an_error_that_leaves_nothing(void **state)
{
    char *const argv[] = {(char *)(uintptr_t) "/nonexistent/program", NULL};
    struct rdy_spawn_spec spec = spec_of(argv);

    scene_open(state);
    spec.stdin_mode = RDY_STDIO_PIPE;
    spec.stdout_mode = RDY_STDIO_PIPE;
    spec.stderr_mode = RDY_STDIO_PIPE;
    expect_refusal(&spec, -ENOENT);
    spec.path = "rdy-no-such-program";
    expect_refusal(&spec, -ENOENT);
    spec.path = "/proc/self/status";
    expect_refusal(&spec, -EACCES);
    scene_close();
}

static void spec_that_does_not_fit_is_refused(void **state)
{
    char *const argv[] = {(char *)(uintptr_t) "true", NULL};
    char *const no_argv[] = {NULL};
    struct rdy_spawn_spec spec = spec_of(argv);

    scene_open(state);
    spec.size--;
    expect_refusal(&spec, -EINVAL);
    spec = spec_of(argv);
    spec.argv = no_argv;
    expect_refusal(&spec, -EINVAL);
    spec = spec_of(argv);
    spec.path = NULL;
    expect_refusal(&spec, -EINVAL);
    spec = spec_of(argv);
    memset(&spec.stderr_mode, 0x7f, sizeof(spec.stderr_mode));
    expect_refusal(&spec, -EINVAL);
    spec = spec_of(argv);
    spec.stdout_mode = RDY_STDIO_PIPE;
    assert_int_equal(rdy_child_spawn(&scene.child, scene.runtime, &spec, NULL), -EINVAL);
    spec = spec_of(argv);
    assert_int_equal(rdy_child_spawn(&scene.child, scene.runtime, &spec, NULL), 0);
    assert_int_equal(exit_code(), 0);
    scene_close();
}

/* --- many --- */

static void many_programs_run_at_once(void **state)
{
    static struct scene scenes[PROGRAMS];
    static struct call calls[PROGRAMS];
    char line[16];
    char *const argv[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", line, NULL};

    scene_open(state);
    for (int i = 0; i < PROGRAMS; i++) {
        struct rdy_spawn_spec spec = spec_of(argv);

        (void)snprintf(line, sizeof(line), "exit %d", i);
        assert_int_equal(rdy_child_spawn(&scenes[i].child, scene.runtime, &spec, NULL), 0);
        (void)call_start(&calls[i], scene.runtime, exits, &scenes[i]);
    }
    assert_int_equal(rdy_runtime_run(scene.runtime), 0);
    for (int i = 0; i < PROGRAMS; i++) {
        assert_int_equal(calls[i].result, 0);
        assert_int_equal(scenes[i].status.code, i);
        rdy_child_close(&scenes[i].child);
    }
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(programs_output_is_read_to_its_end),
        ON_BOTH(program_is_fed_and_its_answer_read),
        ON_BOTH(much_output_comes_whole),
        ON_BOTH(nothing_is_an_empty_input_and_output_that_is_dropped),
        ON_BOTH(writing_to_a_program_that_ended_is_an_error_and_no_signal),
        ON_BOTH(write_that_waits_for_a_program_ends_when_it_is_killed),
        ON_BOTH(program_begins_with_no_signal_blocked_and_sigpipe_as_usual),
        ON_BOTH(program_gets_no_descriptor_of_ours),
        ON_BOTH(program_is_looked_for_in_the_path_and_gets_its_environment),
        ON_BOTH(program_may_be_called_by_another_name),
        ON_BOTH(works_without_descriptors_0_to_2),
        ON_BOTH(program_that_is_not_there_is_an_error_that_leaves_nothing),
        ON_BOTH(spec_that_does_not_fit_is_refused),
        ON_BOTH(many_programs_run_at_once),
    };

    return cmocka_run_group_tests(tests, give_a_minute, NULL);
}
