/* SPDX-License-Identifier: MIT */
/*
 * As test_memory.c, for what is not a stream that was accepted: halves, names, jobs on a pool's
 * threads, an engine's workers, connections and datagrams of the ring, a copy to a slow receiver,
 * and the arenas that all of it comes from. Only the thread of the test is refused memory.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/memory.h"
#include "tests/support/runtime.h"

#include <rdy/rdy.h>

#include "engine/arena.h"
#include "engine/slab.h"

#define LIFE_S      100 /* then it hangs */
#define LETTERS     40u
#define COPIED      (256u << 10)
#define ARENAS_MAX  300u
#define ARENAS_KEPT 256u

/* What a scene's task works on. */
struct scene {
    struct rdy_runtime *runtime;
    struct rdy_stream stream;
    struct rdy_stream other;
    struct rdy_stream from;
    struct rdy_stream into;
    struct rdy_datagram datagram;
    struct rdy_buf buf;
    struct rdy_copy copy;
    struct sockaddr_in addr;
    uint32_t done;
    int plain; /* a descriptor of the test's; -1: none */
    int result;
};

static int scene_open(struct scene *scene, const void *backend)
{
    struct rdy_runtime_opts opts = runtime_opts(*(const enum rdy_backend_kind *)backend);

    *scene = (struct scene){.stream.fd = -1, .other.fd = -1, .from.fd = -1, .into.fd = -1};
    scene->datagram.fd = -1;
    scene->plain = -1;
    scene->addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    opts.driver.buffers_count = 4;
    opts.driver.buffer_size = 600;
    return rdy_runtime_open(&scene->runtime, &opts);
}

static int scene_close(struct scene *scene, int rc)
{
    rdy_buf_release(&scene->buf);
    rdy_copy_close(&scene->copy);
    rdy_stream_close(&scene->stream);
    rdy_stream_close(&scene->other);
    rdy_stream_close(&scene->from);
    rdy_stream_close(&scene->into);
    rdy_datagram_close(&scene->datagram);
    rdy_runtime_close(scene->runtime);
    if (scene->plain >= 0)
        assert_int_equal(close(scene->plain), 0);
    return rc;
}

static int scene_run(struct scene *scene, rdy_poll_fn *poll)
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

static struct scene *scene_of(void *self)
{
    return ((struct test_task *)self)->test;
}

/* --- without a task --- */

static int makes_halves(void *backend)
{
    struct rdy_read_half read_half = {0};
    struct rdy_write_half write_half = {0};
    struct scene scene;
    int rc = scene_open(&scene, backend);

    if (rc == 0)
        rc = rdy_stream_pair(&scene.stream, &scene.other, scene.runtime);
    if (rc == 0)
        rc = rdy_stream_split(&scene.stream, &read_half, &write_half);
    assert_true(rc == 0 || !read_half.stream);
    rdy_read_half_close(&read_half);
    rdy_write_half_close(&write_half);
    return scene_close(&scene, rc);
}

static int resolves_a_name(void *backend)
{
    struct rdy_address_list list = {0};
    int rc = rdy_resolve_wait("127.0.0.1", "80", NULL, &list);

    (void)backend;
    assert_int_equal(list.count, rc == 0 ? 1 : 0);
    rdy_address_list_free(&list);
    return rc;
}

static int run_nothing(void *payload)
{
    (void)payload;
    return 0;
}

static int starts_a_job(void *backend)
{
    static const struct rdy_blocking_spec spec = {.run = run_nothing, .payload_size = 8};
    struct rdy_blocking job = {0};
    struct rdy_pool *pool = NULL;
    uint64_t payload = 0;
    int rc = rdy_pool_open(&pool, NULL);

    (void)backend;
    if (rc == 0)
        rc = rdy_blocking_start(&job, pool, &spec, &payload);
    rdy_blocking_close(&job);
    rdy_pool_close(pool);
    return rc;
}

static int poll_ends(struct rdy_task *task, void *self)
{
    (void)task;
    (void)self;
    return 0;
}

static int serves_on_workers(void *backend)
{
    static const struct rdy_task_spec session = {.poll = poll_ends,
                                                 .self_size = sizeof(struct rdy_stream)};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rdy_engine_serve_opts what = {.size = sizeof(what),
                                         .addr = (struct sockaddr *)&addr,
                                         .addr_len = sizeof(addr),
                                         .session = &session};
    struct rdy_engine_opts opts = {.size = sizeof(opts), .workers_count = 2};
    struct rdy_engine *engine = NULL;
    int rc;

    opts.runtime = runtime_opts(*(const enum rdy_backend_kind *)backend);
    rc = rdy_engine_open(&engine, &opts, NULL);
    if (rc == 0)
        rc = rdy_engine_serve(engine, &what, NULL, NULL);
    rdy_engine_close(engine);
    return rc;
}

/* --- in the ring, where there is one --- */

static int poll_connects(struct rdy_task *task, void *self)
{
    struct scene *scene = scene_of(self);

    scene->result = rdy_stream_poll_connect(&scene->stream, task);
    return scene->result == RDY_PENDING ? RDY_PENDING : 0;
}

static int connects(void *backend)
{
    struct rdy_connect_opts opts = {.size = sizeof(opts), .is_completing = true};
    socklen_t addr_len = sizeof(struct sockaddr_in);
    struct scene scene;
    int rc = scene_open(&scene, backend);

    if (rc < 0)
        return rc;
    scene.plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(scene.plain, (struct sockaddr *)&scene.addr, addr_len), 0);
    assert_int_equal(listen(scene.plain, 4), 0);
    assert_int_equal(getsockname(scene.plain, (struct sockaddr *)&scene.addr, &addr_len), 0);
    rc = rdy_stream_start_connect_with(&scene.stream, scene.runtime, (struct sockaddr *)&scene.addr,
                                       addr_len, &opts);
    if (rc == 0)
        rc = scene_run(&scene, poll_connects);
    return scene_close(&scene, rc);
}

static int poll_sends(struct rdy_task *task, void *self)
{
    struct scene *scene = scene_of(self);

    while (scene->done < LETTERS) {
        int rc = scene->buf.block ? 0 : rdy_buf_take(scene->runtime, 1, &scene->buf);

        if (rc == 0)
            scene->buf.data[0] = 'l';
        if (rc == 0)
            rc = rdy_datagram_poll_send_buf(&scene->datagram, task, &scene->buf,
                                            (struct sockaddr *)&scene->addr, sizeof(scene->addr));
        if (rc == RDY_PENDING)
            return rc;
        scene->result = rc;
        if (rc < 0)
            return 0;
        scene->done++;
    }
    scene->result = rdy_datagram_poll_flush(&scene->datagram, task);
    return scene->result == RDY_PENDING ? RDY_PENDING : 0;
}

static int sends_datagrams(void *backend)
{
    socklen_t addr_len = sizeof(struct sockaddr_in);
    struct scene scene;
    int rc = scene_open(&scene, backend);

    if (rc < 0)
        return rc;
    scene.plain = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(scene.plain, (struct sockaddr *)&scene.addr, addr_len), 0);
    assert_int_equal(getsockname(scene.plain, (struct sockaddr *)&scene.addr, &addr_len), 0);
    rc = rdy_datagram_open(&scene.datagram, scene.runtime, AF_INET, NULL);
    if (rc == 0)
        rc = scene_run(&scene, poll_sends);
    return scene_close(&scene, rc);
}

/* --- a copy that has to hold --- */

/* Reads at the far end only when the copy has met a full socket. */
static int poll_copies(struct rdy_task *task, void *self)
{
    static char bytes[COPIED];
    struct scene *scene = scene_of(self);
    ssize_t count;

    scene->result = rdy_copy_poll(&scene->copy, task);
    if (scene->result != RDY_PENDING)
        return 0;
    while ((count = recv(scene->plain, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        scene->done += (uint32_t)count;
    return RDY_PENDING;
}

static int copies_to_a_slow_receiver(void *backend)
{
    static const char bytes[COPIED];
    int far_fds[2];
    int near_fds[2];
    int small = 4096;
    struct scene scene;
    int rc = scene_open(&scene, backend);
    ssize_t said;

    if (rc < 0)
        return rc;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, near_fds),
                     0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, far_fds),
                     0);
    assert_int_equal(setsockopt(far_fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    said = send(near_fds[0], bytes, sizeof(bytes), MSG_DONTWAIT);
    assert_true(said > 0);
    assert_int_equal(close(near_fds[0]), 0);
    scene.plain = far_fds[1];
    rc = rdy_stream_from_fd(&scene.from, scene.runtime, near_fds[1]);
    if (rc < 0)
        assert_int_equal(close(near_fds[1]), 0);
    if (rc == 0)
        rc = rdy_stream_from_fd(&scene.into, scene.runtime, far_fds[0]);
    if (scene.into.fd < 0)
        assert_int_equal(close(far_fds[0]), 0);
    if (rc == 0)
        rc = rdy_copy_open(&scene.copy, &scene.from, &scene.into, NULL);
    if (rc == 0)
        rc = scene_run(&scene, poll_copies);
    if (rc == 0) {
        static char rest[COPIED];
        ssize_t count;

        while ((count = recv(scene.plain, rest, sizeof(rest), MSG_DONTWAIT)) > 0)
            scene.done += (uint32_t)count;
        assert_int_equal(scene.done, said);
    }
    return scene_close(&scene, rc);
}

/* --- a stream that brings much, and no memory for a large buffer --- */

#define MUCH (16u * 4096)

static int poll_receives_much(struct rdy_task *task, void *self)
{
    struct scene *scene = scene_of(self);
    ssize_t count;

    while (scene->done < MUCH) {
        count = rdy_stream_poll_recv(&scene->stream, task, &scene->buf);
        if (count == RDY_PENDING)
            return RDY_PENDING;
        assert_true(count > 0);
        scene->done += (uint32_t)count;
        rdy_buf_release(&scene->buf);
    }
    return 0;
}

/* From its first receive on it is refused memory. */
static int poll_receives_more(struct rdy_task *task, void *self)
{
    struct scene *scene = scene_of(self);
    ssize_t count;
    int64_t left;

    memory_watch(1);
    count = rdy_stream_poll_recv(&scene->stream, task, &scene->buf);
    scene->done += memory_unwatch(&left);
    if (count == RDY_PENDING)
        return RDY_PENDING;
    assert_true(count > 0 && count <= 4096);
    return 0;
}

static void stream_that_brings_much_goes_on_without_memory(void **state)
{
    static const char bytes[MUCH];
    struct rdy_runtime_opts opts = runtime_opts(*(const enum rdy_backend_kind *)*state);
    struct scene scene = {.stream.fd = -1};
    int fds[2];

    opts.driver.buffers_count = 64;
    opts.driver.buffer_size = 4096;
    assert_int_equal(rdy_runtime_open(&scene.runtime, &opts), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(rdy_stream_from_fd(&scene.stream, scene.runtime, fds[1]), 0);
    assert_int_equal(rdy_stream_start_completion(&scene.stream), 0);
    assert_int_equal(send(fds[0], bytes, sizeof(bytes), 0), sizeof(bytes));
    /* On epoll all but the first two receives have had a large buffer: those are not wanted. */
    if (opts.driver.backend == RDY_BACKEND_URING) {
        assert_int_equal(scene_run(&scene, poll_receives_much), 0);
        take_turns(scene.runtime, 6);
        assert_int_equal(send(fds[0], bytes, sizeof(bytes), 0), sizeof(bytes));
    }
    scene.done = 0;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(scene_run(&scene, poll_receives_more), 0);
        assert_true(scene.buf.len > 0);
        rdy_buf_release(&scene.buf);
    }
    assert_true(scene.done > 0); /* it was refused at least once */
    rdy_stream_close(&scene.stream);
    assert_int_equal(close(fds[0]), 0);
    rdy_runtime_close(scene.runtime);
}

/* --- arenas --- */

static bool is_among(const uint32_t *arenas, uint32_t count, uint32_t arena)
{
    for (uint32_t i = 0; i < count; i++) {
        if (arenas[i] == arena)
            return true;
    }
    return false;
}

/* Those beyond what is kept are destroyed, and nobody gets one that somebody has. */
static void arenas_are_kept_up_to_a_number_and_are_nobodys_twice(void **state)
{
    static uint32_t arenas[ARENAS_MAX];

    (void)state;
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < ARENAS_KEPT + 1; i++) {
            void *memory;

            assert_int_equal(rdy_arena_open(&arenas[i]), 0);
            assert_false(is_among(arenas, i, arenas[i]));
            memory = rdy_arena_alloc(arenas[i], 100, 16);
            assert_non_null(memory);
            rdy_arena_free(memory);
        }
        for (uint32_t i = 0; i < ARENAS_KEPT + 1; i++)
            rdy_arena_close(arenas[i]);
    }
}

/* When none is kept any more, and jemalloc makes none. */
static void slab_without_an_arena_is_not_opened(void **state)
{
    static const struct rdy_slab_opts opts = {.item_size = 64, .item_align = 64, .items_max = 8};
    static struct rdy_slab *slabs[ARENAS_MAX];
    uint32_t count = 0;
    int rc = 0;

    (void)state;
    while (rc == 0 && count < ARENAS_MAX) {
        int64_t left;

        memory_watch(2); /* the slab's own memory is the first */
        rc = rdy_slab_open(&slabs[count], &opts);
        (void)memory_unwatch(&left);
        assert_int_equal(left, rc == 0 ? 1 : 0);
        count += rc == 0;
    }
    assert_int_equal(rc, -ENOMEM);
    while (count > 0)
        rdy_slab_close(slabs[--count]);
}

#define WALKS(scene)                                                                               \
    static void scene##_whatever_allocation_fails(void **state)                                    \
    {                                                                                              \
        assert_true(memory_walk(scene, *state) > 0);                                               \
    }

WALKS(makes_halves)
WALKS(resolves_a_name)
WALKS(starts_a_job)
WALKS(serves_on_workers)
WALKS(connects)
WALKS(sends_datagrams)
WALKS(copies_to_a_slow_receiver)

/* clang-format off */
#define ON_EACH(test)                                                                              \
    {#test " on io_uring", test, NULL, NULL, (void *)(uintptr_t)&backend_kinds[0]},                \
    {#test " on epoll", test, NULL, NULL, (void *)(uintptr_t)&backend_kinds[1]}
/* clang-format on */

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ON_EACH(makes_halves_whatever_allocation_fails),
        cmocka_unit_test(resolves_a_name_whatever_allocation_fails),
        cmocka_unit_test(starts_a_job_whatever_allocation_fails),
        ON_EACH(serves_on_workers_whatever_allocation_fails),
        ON_EACH(connects_whatever_allocation_fails),
        ON_EACH(sends_datagrams_whatever_allocation_fails),
        ON_EACH(copies_to_a_slow_receiver_whatever_allocation_fails),
        ON_EACH(stream_that_brings_much_goes_on_without_memory),
        cmocka_unit_test(arenas_are_kept_up_to_a_number_and_are_nobodys_twice),
        cmocka_unit_test(slab_without_an_arena_is_not_opened),
    };

    (void)alarm(LIFE_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
