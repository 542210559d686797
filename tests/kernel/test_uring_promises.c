/* SPDX-License-Identifier: MIT */
/*
 * What the engine leans on in io_uring itself, one test a promise, on a bare ring: when a new
 * kernel breaks one, this is the program that says which.
 */
#include "tests/kernel/helpers.h"
#include "uring/ring.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#define SOON_NS (2000 * RDY_NS_PER_MS)

static struct rdy_backend uncounted;

static void ring_new(struct rdy_ring *ring, uint32_t cq_entries, enum rdy_ring_rung rung)
{
    struct rdy_ring_wish wish = {.cq_entries = cq_entries, .rung_first = rung, .notify_fd = -1};
    enum rdy_ring_step step;
    char why[128];
    int rc = rdy_ring_open(ring, &wish, &uncounted, &step);

    rdy_ring_say(step, rc, why, sizeof(why));
    if (rc < 0)
        fail_msg("no ring: %s", why);
}

static void queue_poll(struct rdy_ring *ring, int fd, uint64_t user_data, uint32_t events)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(ring);

    assert_non_null(sqe);
    io_uring_prep_poll_multishot(sqe, fd, events);
    sqe->user_data = user_data;
}

static void queue_cancel(struct rdy_ring *ring, uint64_t target, uint64_t user_data)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(ring);

    assert_non_null(sqe);
    io_uring_prep_cancel64(sqe, target, 0);
    sqe->user_data = user_data;
}

static void enter(struct rdy_ring *ring)
{
    assert_int_equal(rdy_ring_wait(ring, 0, UINT32_MAX), 0);
}

/* The next completion, which must be due, copied and taken. */
static struct io_uring_cqe next(struct rdy_ring *ring)
{
    struct io_uring_cqe cqe = {0};

    for (int i = 0; i < 8 && rdy_ring_ready(ring) == 0; i++)
        assert_int_equal(rdy_ring_wait(ring, SOON_NS, 1), 0);
    assert_true(rdy_ring_ready(ring) > 0);
    cqe.user_data = rdy_ring_cqe(ring, 0)->user_data;
    cqe.res = rdy_ring_cqe(ring, 0)->res;
    cqe.flags = rdy_ring_cqe(ring, 0)->flags;
    io_uring_cq_advance(&ring->uring, 1);
    return cqe;
}

static void assert_silent(struct rdy_ring *ring)
{
    for (int i = 0; i < 3; i++)
        enter(ring);
    assert_int_equal(rdy_ring_ready(ring), 0);
}

/* The newest flags are what the engine's figures rest on; this machine's kernel must take them. */
static void the_first_rung_of_the_ladder_holds(void **state)
{
    struct rdy_ring ring;

    (void)state;
    ring_new(&ring, 64, RDY_RUNG_DEFER);

    assert_int_equal(ring.rung, kernel_is_at_least(6, 1) ? RDY_RUNG_DEFER : ring.rung);
    rdy_ring_close(&ring);
}

/* Forty events and room for sixteen: none is lost, and whoever waited in the kernel is disarmed. */
static void overflow_ends_multishot_polls_but_loses_no_event(void **state)
{
    struct rdy_ring ring;
    bool is_seen[40] = {false};
    int fds[40];
    int more = 0;

    (void)state;
    ring_new(&ring, 16, RDY_RUNG_COOP);
    for (uint32_t i = 0; i < 40; i++) {
        fds[i] = event_new();
        queue_poll(&ring, fds[i], i, POLLIN);
    }
    enter(&ring);
    assert_int_equal(rdy_ring_ready(&ring), 0);

    for (int i = 0; i < 40; i++)
        event_signal(fds[i]);

    for (int i = 0; i < 40; i++) {
        struct io_uring_cqe cqe = next(&ring);

        assert_int_equal(cqe.res, POLLIN);
        assert_false(is_seen[cqe.user_data]);
        is_seen[cqe.user_data] = true;
        more += (cqe.flags & IORING_CQE_F_MORE) != 0;
    }
    assert_int_equal(more, kernel_is_at_least(6, 0) ? 16 : more);
    assert_silent(&ring);

    rdy_ring_close(&ring);
    for (int i = 0; i < 40; i++)
        (void)close(fds[i]);
}

/* The event has happened, its completion is not yet made: POLL_REMOVE says -EALREADY there. */
static void cancelling_a_poll_that_was_just_woken_gives_one_last_completion(void **state)
{
    struct rdy_ring ring;
    int fd = event_new();

    (void)state;
    ring_new(&ring, 64, RDY_RUNG_DEFER);
    for (int i = 0; i < 1000; i++) {
        bool has_answer = false;
        bool has_last = false;

        queue_poll(&ring, fd, 1, POLLIN);
        assert_silent(&ring);
        event_signal(fd);
        queue_cancel(&ring, 1, 2);

        while (!has_answer || !has_last) {
            struct io_uring_cqe cqe = next(&ring);

            if (cqe.user_data == 2) {
                assert_false(has_answer);
                assert_true(cqe.res == 0 || cqe.res == -ENOENT);
                has_answer = true;
            } else if (!(cqe.flags & IORING_CQE_F_MORE)) {
                assert_false(has_last);
                has_last = true;
            }
        }
        assert_silent(&ring);
        event_drain(fd);
    }
    rdy_ring_close(&ring);
    (void)close(fd);
}

static void cancelling_what_is_not_there_answers_enoent(void **state)
{
    struct rdy_ring ring;
    struct io_uring_cqe cqe;

    (void)state;
    ring_new(&ring, 64, RDY_RUNG_DEFER);
    queue_cancel(&ring, 77, 2);

    cqe = next(&ring);

    assert_int_equal(cqe.user_data, 2);
    assert_int_equal(cqe.res, -ENOENT);
    rdy_ring_close(&ring);
}

static void arming_is_level_and_then_only_edges_report(void **state)
{
    struct rdy_ring ring;
    int fd = event_new();

    (void)state;
    ring_new(&ring, 64, RDY_RUNG_DEFER);
    event_signal(fd);
    queue_poll(&ring, fd, 1, POLLIN);
    assert_int_equal(next(&ring).res, POLLIN);
    assert_silent(&ring);

    event_signal(fd);
    event_signal(fd);
    assert_int_equal(next(&ring).res, POLLIN);
    assert_silent(&ring);

    rdy_ring_close(&ring);
    (void)close(fd);
}

static void an_armed_poll_keeps_the_peer_from_seeing_the_close(void **state)
{
    struct rdy_ring ring;
    struct pollfd peer = {.events = POLLIN | POLLRDHUP};
    int pair[2];

    (void)state;
    tcp_pair(pair);
    peer.fd = pair[0];
    ring_new(&ring, 64, RDY_RUNG_DEFER);
    queue_poll(&ring, pair[1], 1, POLLIN);
    enter(&ring);

    assert_int_equal(close(pair[1]), 0);
    assert_int_equal(poll(&peer, 1, 0), 0);

    queue_cancel(&ring, 1, 2);
    (void)next(&ring);
    (void)next(&ring);
    assert_int_equal(poll(&peer, 1, 10000), 1);
    assert_int_equal(peer.revents & POLLRDHUP, POLLRDHUP);
    rdy_ring_close(&ring);
    (void)close(pair[0]);
}

/* That is how the engine knows such a file: once may be an overflow, twice is not. */
static void a_regular_file_is_reported_ready_once_without_more(void **state)
{
    struct rdy_ring ring;
    struct io_uring_cqe cqe;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_true(fd >= 0);
    ring_new(&ring, 64, RDY_RUNG_DEFER);
    for (int i = 0; i < 2; i++) {
        queue_poll(&ring, fd, 1, POLLIN);
        cqe = next(&ring);
        assert_int_equal(cqe.res, POLLIN);
        assert_int_equal(cqe.flags & IORING_CQE_F_MORE, 0);
    }
    assert_silent(&ring);
    rdy_ring_close(&ring);
    (void)close(fd);
}

static void a_restricted_ring_refuses_every_other_operation(void **state)
{
    struct rdy_ring ring;
    struct io_uring_sqe *sqe;
    int fd = event_new();

    (void)state;
    ring_new(&ring, 64, RDY_RUNG_DEFER);
    sqe = rdy_ring_sqe(&ring);
    assert_non_null(sqe);
    io_uring_prep_nop(sqe);
    sqe->user_data = 9;

    assert_int_equal(next(&ring).res, -EACCES);
    assert_int_equal(io_uring_register_eventfd(&ring.uring, fd), -EACCES);
    rdy_ring_close(&ring);
    (void)close(fd);
}

struct stranger {
    struct rdy_ring *ring;
    int result;
};

static void *stranger_main(void *argument)
{
    struct stranger *stranger = argument;
    int fd = stranger->ring->uring.ring_fd;

    stranger->result = io_uring_enter2((unsigned)fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
    return NULL;
}

/* Why arm() and disarm() of this backend are the owner's alone. */
static void another_thread_may_not_enter_the_ring(void **state)
{
    struct rdy_ring ring;
    struct stranger stranger = {.ring = &ring};
    pthread_t thread;

    (void)state;
    ring_new(&ring, 64, RDY_RUNG_DEFER);
    assert_int_equal(pthread_create(&thread, NULL, stranger_main, &stranger), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);

    if (ring.rung == RDY_RUNG_DEFER)
        assert_int_equal(stranger.result, -EEXIST);
    rdy_ring_close(&ring);
}

/* A batch with bad requests in the middle is submitted to its end, by one call or by several. */
static void a_bad_request_does_not_stop_those_behind_it(void **state)
{
    (void)state;
    for (enum rdy_ring_rung rung = RDY_RUNG_DEFER; rung < RDY_RUNG_COUNT; rung++) {
        struct rdy_ring ring;
        int fd = event_new();
        uint64_t seen = 0;

        event_signal(fd);
        ring_new(&ring, 64, rung);
        for (uint64_t i = 0; i < 6; i++) {
            struct io_uring_sqe *sqe = rdy_ring_sqe(&ring);

            assert_non_null(sqe);
            io_uring_prep_poll_multishot(sqe, fd, POLLIN);
            sqe->user_data = i;
            if (i % 2 == 0)
                sqe->ioprio = 0xffff;
        }
        enter(&ring);
        assert_int_equal(io_uring_sq_ready(&ring.uring), 0);
        for (int i = 0; i < 6; i++) {
            struct io_uring_cqe cqe = next(&ring);

            assert_int_equal(cqe.res, cqe.user_data % 2 == 0 ? -EINVAL : POLLIN);
            seen |= UINT64_C(1) << cqe.user_data;
        }
        assert_int_equal(seen, 0x3f);
        rdy_ring_close(&ring);
        (void)close(fd);
    }
}

/* Ten thousand armed polls go in a few calls, not one by one. */
static void draining_lets_go_of_every_file(void **state)
{
    struct rdy_ring ring;
    struct pollfd reader;
    int pipe_fds[2];

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    reader = (struct pollfd){.fd = pipe_fds[0], .events = POLLIN};
    ring_new(&ring, 64, RDY_RUNG_DEFER);
    for (uint64_t i = 0; i < 10000; i++)
        queue_poll(&ring, pipe_fds[1], i, POLLERR);
    enter(&ring);
    assert_int_equal(close(pipe_fds[1]), 0);
    assert_int_equal(poll(&reader, 1, 0), 0);

    rdy_ring_drain(&ring);

    /* The last writer is gone: that is what a reader's hang-up says. */
    assert_int_equal(poll(&reader, 1, 0), 1);
    assert_int_equal(reader.revents & POLLHUP, POLLHUP);
    rdy_ring_close(&ring);
    (void)close(pipe_fds[0]);
}

static struct rdy_ring parents_ring;

static int child_has_no_ring(int argument)
{
    (void)argument;
    CHILD_CLAIM(msync(parents_ring.uring.sq.sqes, 1, MS_ASYNC) == -1 && errno == ENOMEM);
    return 0;
}

/* Shared with a child, the queues would be written by both. */
static void a_forked_child_does_not_get_the_rings_memory(void **state)
{
    (void)state;
    ring_new(&parents_ring, 64, RDY_RUNG_DEFER);
    assert_int_equal(msync(parents_ring.uring.sq.sqes, 1, MS_ASYNC), 0);

    assert_int_equal(in_child(child_has_no_ring, 0), 0);

    rdy_ring_close(&parents_ring);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rung_of_the_ladder_holds),
        cmocka_unit_test(overflow_ends_multishot_polls_but_loses_no_event),
        cmocka_unit_test(cancelling_a_poll_that_was_just_woken_gives_one_last_completion),
        cmocka_unit_test(cancelling_what_is_not_there_answers_enoent),
        cmocka_unit_test(arming_is_level_and_then_only_edges_report),
        cmocka_unit_test(an_armed_poll_keeps_the_peer_from_seeing_the_close),
        cmocka_unit_test(a_regular_file_is_reported_ready_once_without_more),
        cmocka_unit_test(a_restricted_ring_refuses_every_other_operation),
        cmocka_unit_test(another_thread_may_not_enter_the_ring),
        cmocka_unit_test(a_bad_request_does_not_stop_those_behind_it),
        cmocka_unit_test(draining_lets_go_of_every_file),
        cmocka_unit_test(a_forked_child_does_not_get_the_rings_memory),
    };

    return cmocka_run_group_tests_name("what io_uring promises", tests, NULL, NULL);
}
