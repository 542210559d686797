/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of the engine fails in its turn: the first, the second, and so on until a whole
 * scene has gone through without. Whatever fails, the scene ends, with -ENOMEM or in order; nothing
 * is left of it, neither memory nor descriptors; and the next run works.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/support/memory.h"
#include "tests/support/runtime.h"

#include <rdy/rdy.h>

#include "engine/base.h"

#define LIFE_S 100 /* then it hangs */
/* Those of opening a runtime alone are more. */
#define ALLOCATIONS_MIN 5u
#define BYTES           3000u
#define CROWD           40
#define SOME_SIZE       100u

#define PATIENCE_NS (200 * RDY_NS_PER_MS) /* with a connection that was lost */

/* --- scenes --- */

struct scene {
    struct rdy_runtime *runtime;
    int client; /* -1: none */
    int crowd[CROWD];
    uint32_t crowd_count;
    struct rdy_stream streams[CROWD];
    uint32_t lost; /* connections that could not be taken */
    struct rdy_timer timer;
    uint64_t give_up_ns;
    struct rdy_listener listener;
    struct rdy_stream stream;
    struct rdy_copy copy;
    struct rdy_buf buf;
    uint32_t done; /* what a run without a fault has to reach */
    int result;
};

typedef int scene_fn(struct scene *scene);

/* A connection that has said all, and waits in the listener's queue. */
static int listen_to_client(struct scene *scene, bool is_completing)
{
    static const char bytes[BYTES];
    struct rdy_listen_opts opts = {.size = sizeof(opts), .is_completing = is_completing};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof(addr);
    int rc = rdy_listener_open(&scene->listener, scene->runtime, (struct sockaddr *)&addr, addr_len,
                               &opts);

    if (rc < 0)
        return rc;
    scene->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(getsockname(scene->listener.fd, (struct sockaddr *)&addr, &addr_len), 0);
    assert_int_equal(connect(scene->client, (struct sockaddr *)&addr, addr_len), 0);
    assert_int_equal(send(scene->client, bytes, BYTES, MSG_NOSIGNAL), BYTES);
    assert_int_equal(shutdown(scene->client, SHUT_WR), 0);
    return 0;
}

/* What came back. */
static void hear(struct scene *scene)
{
    char bytes[BYTES];
    ssize_t count;

    while ((count = recv(scene->client, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        scene->done += (uint32_t)count;
}

static ssize_t echo_step(struct scene *scene, struct rdy_task *task)
{
    ssize_t count;

    if (scene->stream.fd < 0)
        return rdy_listener_poll_accept(&scene->listener, task, &scene->stream) == RDY_PENDING
                   ? RDY_PENDING
                   : (scene->stream.fd < 0 ? -ENOMEM : 1);
    if (scene->buf.block) {
        int rc = rdy_stream_poll_send(&scene->stream, task, &scene->buf);

        return rc == 0 ? 1 : rc;
    }
    count = rdy_stream_poll_recv(&scene->stream, task, &scene->buf);
    return count != 0 ? count : rdy_stream_poll_flush(&scene->stream, task);
}

static int poll_echoes(struct rdy_task *task, void *self)
{
    struct scene *scene = ((struct test_task *)self)->test;
    ssize_t count;

    while ((count = echo_step(scene, task)) > 0)
        ;
    if (count == RDY_PENDING)
        return RDY_PENDING;
    scene->result = (int)count;
    return 0;
}

static int run_task(struct scene *scene, rdy_poll_fn *poll)
{
    struct rdy_task_spec spec = {.poll = poll, .self_size = sizeof(struct test_task)};
    void *self;
    int rc = rdy_spawn(scene->runtime, &spec, &self, NULL);

    if (rc < 0)
        return rc;
    ((struct test_task *)self)->test = scene;
    rc = rdy_runtime_run(scene->runtime);
    return rc < 0 ? rc : scene->result;
}

static int echoes_in_completion_mode(struct scene *scene)
{
    int rc = listen_to_client(scene, true);

    if (rc == 0)
        rc = run_task(scene, poll_echoes);
    if (rc == 0)
        hear(scene);
    return rc < 0 ? rc : (int)(BYTES - scene->done);
}

static int poll_copies(struct rdy_task *task, void *self)
{
    struct scene *scene = ((struct test_task *)self)->test;
    int rc;

    if (scene->stream.fd < 0) {
        rc = rdy_listener_poll_accept(&scene->listener, task, &scene->stream);
        if (rc == RDY_PENDING)
            return rc;
        scene->result =
            rc < 0 ? rc : rdy_copy_open(&scene->copy, &scene->stream, &scene->stream, NULL);
        if (scene->result < 0)
            return 0;
    }
    rc = rdy_copy_poll(&scene->copy, task);
    if (rc == RDY_PENDING)
        return rc;
    scene->result = rc;
    return 0;
}

static int copies_a_stream_to_itself(struct scene *scene)
{
    int rc = listen_to_client(scene, false);

    if (rc == 0)
        rc = run_task(scene, poll_copies);
    if (rc == 0)
        hear(scene);
    return rc < 0 ? rc : (int)(BYTES - scene->done);
}

/* Takes them all. One that was lost on the way is missed, and after a while not waited for. */
static int poll_accepts_all(struct rdy_task *task, void *self)
{
    struct scene *scene = ((struct test_task *)self)->test;

    while (scene->done + scene->lost < CROWD) {
        int rc;

        if (!scene->give_up_ns)
            scene->give_up_ns = rdy_runtime_now_ns(scene->runtime) + PATIENCE_NS;
        rc = RDY_TIMEOUT(
            &scene->timer, task, scene->give_up_ns,
            rdy_listener_poll_accept(&scene->listener, task, &scene->streams[scene->done]));
        if (rc == RDY_PENDING)
            return rc;
        if (rc == -ETIMEDOUT)
            break;
        scene->done += rc == 0 ? 1 : 0;
        scene->lost += rc < 0 ? 1 : 0;
        scene->result = rc < 0 ? rc : scene->result;
    }
    if (scene->done < CROWD && scene->result == 0)
        scene->result = -ENOMEM;
    return 0;
}

static int accepts_a_crowd(struct scene *scene)
{
    struct sockaddr_in addr;
    socklen_t addr_len = sizeof(addr);
    int rc = listen_to_client(scene, true);

    if (rc < 0)
        return rc;
    assert_int_equal(getsockname(scene->listener.fd, (struct sockaddr *)&addr, &addr_len), 0);
    while (scene->crowd_count < CROWD - 1) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(connect(fd, (struct sockaddr *)&addr, addr_len), 0);
        scene->crowd[scene->crowd_count++] = fd;
    }
    rc = run_task(scene, poll_accepts_all);
    for (uint32_t i = 0; i < scene->done; i++)
        rdy_stream_close(&scene->streams[i]);
    while (scene->crowd_count > 0)
        assert_int_equal(close(scene->crowd[--scene->crowd_count]), 0);
    return rc;
}

static int poll_counts(struct rdy_task *task, void *self)
{
    struct scene *scene = ((struct test_task *)self)->test;

    (void)task;
    scene->done++;
    return 0;
}

/* Named, timed, plain, and as another thread would. What was spawned runs, whatever fails after. */
static int spawns_tasks(struct scene *scene)
{
    struct rdy_task_spec spec = {.poll = poll_counts, .self_size = sizeof(struct test_task)};
    struct test_task init = {.test = scene};
    uint32_t spawned = 0;
    int rc = 0;

    for (uint32_t i = 0; i < CROWD && rc == 0; i++) {
        void *self;

        spec.name = i % 3 == 1 ? "named" : NULL;
        spec.timeout_ns = i % 3 == 2 ? 3600 * 1000000000ull : 0;
        rc = rdy_spawn(scene->runtime, &spec, &self, NULL);
        if (rc == 0)
            ((struct test_task *)self)->test = scene;
        if (rc == 0 && ++spawned)
            rc = rdy_spawn_remote(scene->runtime, &spec, &init);
        spawned += rc == 0 ? 1 : 0;
    }
    assert_int_equal(rdy_runtime_run(scene->runtime), 0);
    /* One that another thread sent finds no header: it is dropped, and counted. */
    assert_true(scene->done + runtime_stats(scene->runtime).remote_drops == spawned);
    return rc < 0 ? rc : (int)(2 * CROWD - scene->done);
}

static int registers_files(struct scene *scene)
{
    struct rdy_driver *driver = rdy_runtime_driver(scene->runtime);
    struct rdy_registration regs[CROWD];
    int rc = 0;

    for (scene->done = 0; scene->done < CROWD && rc == 0;) {
        int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

        assert_true(fd >= 0);
        rc = rdy_register(driver, fd, RDY_INTEREST_READ, &regs[scene->done]);
        if (rc < 0)
            assert_int_equal(close(fd), 0);
        else
            scene->done++;
    }
    for (uint32_t i = 0; i < scene->done; i++)
        assert_int_equal(rdy_close(&regs[i]), 0);
    assert_true(rdy_driver_turn(driver, 0) >= 0);
    return rc;
}

static int takes_buffers(struct scene *scene)
{
    struct rdy_buf bufs[3] = {{0}};
    int rc = 0;

    for (int i = 0; i < 3 && rc == 0; i++)
        rc = rdy_buf_take(scene->runtime, SOME_SIZE, &bufs[i]);
    for (int i = 0; i < 3; i++)
        rdy_buf_release(&bufs[i]);
    return rc;
}

/* --- the walk --- */

static int run_scene(scene_fn *run, enum rdy_backend_kind backend)
{
    struct rdy_runtime_opts opts = runtime_opts(backend);
    struct scene scene = {.client = -1, .listener.fd = -1, .stream.fd = -1};
    int rc;

    opts.driver.buffers_count = 4;
    opts.driver.buffer_size = SOME_SIZE;
    rc = rdy_runtime_open(&scene.runtime, &opts);
    if (rc < 0)
        return rc;
    rc = run(&scene);
    rdy_buf_release(&scene.buf);
    rdy_copy_close(&scene.copy);
    rdy_stream_close(&scene.stream);
    rdy_listener_close(&scene.listener);
    rdy_runtime_close(scene.runtime);
    if (scene.client >= 0)
        assert_int_equal(close(scene.client), 0);
    return rc;
}

/* A scene on a backend. */
struct staged {
    scene_fn *run;
    enum rdy_backend_kind backend;
};

static int run_staged(void *arg)
{
    const struct staged *staged = arg;

    return run_scene(staged->run, staged->backend);
}

static void walk(scene_fn *run, enum rdy_backend_kind backend)
{
    struct staged staged = {.run = run, .backend = backend};

    assert_true(memory_walk(run_staged, &staged) >= ALLOCATIONS_MIN);
}

#define WALKS(scene)                                                                               \
    static void scene##_whatever_allocation_fails(void **state)                                    \
    {                                                                                              \
        walk(scene, *(const enum rdy_backend_kind *)*state);                                       \
    }

WALKS(echoes_in_completion_mode)
WALKS(accepts_a_crowd)
WALKS(copies_a_stream_to_itself)
WALKS(spawns_tasks)
WALKS(registers_files)
WALKS(takes_buffers)

/* clang-format off */
#define ON_EACH(test)                                                                              \
    {#test " on io_uring", test, NULL, NULL, (void *)(uintptr_t)&backend_kinds[0]},                \
    {#test " on epoll", test, NULL, NULL, (void *)(uintptr_t)&backend_kinds[1]}
/* clang-format on */

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_EACH(echoes_in_completion_mode_whatever_allocation_fails),
        ON_EACH(accepts_a_crowd_whatever_allocation_fails),
        ON_EACH(copies_a_stream_to_itself_whatever_allocation_fails),
        ON_EACH(spawns_tasks_whatever_allocation_fails),
        ON_EACH(registers_files_whatever_allocation_fails),
        ON_EACH(takes_buffers_whatever_allocation_fails),
    };

    (void)alarm(LIFE_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
