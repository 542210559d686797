/* SPDX-License-Identifier: MIT */
/*
 * A ring that is open, and a kernel that takes nothing now, has no memory for a request, ends what
 * it should not, refuses a cancel or a close, or dies: what is kept for later, what is asked again,
 * and what is an error. What the kernel answers is made up; all else is real.
 */
#include "tests/support/odd_ring.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/check.h"

#define ENTRIES  256u /* of the queue of requests */
#define FOREVER  UINT32_MAX
#define SOON     (2000 * RDY_NS_PER_MS)
#define WAITS    8
#define TOKEN(n) ((uint64_t)(n) << 32 | 1)
#define ABOUT(a) ((uint64_t)(a) << 62 | TOKEN(1))

/* As in ring.c and poll.c. */
#define DRAIN_USER_DATA UINT64_C(0xfffffffe00000000)
#define WAKE_USER_DATA  UINT64_C(0xffffffff00000000)

struct desk {
    struct rdy_backend *backend;
    const struct rdy_backend_ops *ops;
    int fd; /* an eventfd that is readable */
    struct rdy_fact facts[ENTRIES + 1];
};

static void desk_open(struct desk *desk)
{
    struct rdy_backend_opts opts = {.events_max = ENTRIES};
    enum rdy_ring_step step;

    memset(desk, 0, sizeof(*desk));
    assert_int_equal(rdy_uring_open_at(&desk->backend, &opts, RDY_RUNG_DEFER, &step), 0);
    desk->ops = desk->backend->ops;
    desk->fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(desk->fd >= 0);
}

static void desk_close(struct desk *desk)
{
    desk->ops->close(desk->backend);
    assert_int_equal(close(desk->fd), 0);
}

static int desk_wait(struct desk *desk, int64_t timeout_ns)
{
    return desk->ops->wait(desk->backend, timeout_ns, desk->facts, ENTRIES);
}

/* Until @count facts have come. */
static void desk_await(struct desk *desk, int count)
{
    int have = 0;

    for (int i = 0; i < WAITS && have < count; i++) {
        int rc = desk->ops->wait(desk->backend, SOON, desk->facts + have, (uint32_t)(count - have));

        assert_true(rc >= 0);
        have += rc;
    }
    assert_int_equal(have, count);
}

static void desk_arm(struct desk *desk, uint32_t number)
{
    assert_int_equal(desk->ops->arm(desk->backend, desk->fd, TOKEN(number), RDY_EV_IN), 0);
}

static int odd_setup(void **state)
{
    (void)state;
    odd_heal();
    return 0;
}

static void kernel_answers(int result, uint32_t times)
{
    odd.enter_result = result;
    odd.enters = times;
    odd.enters_seen = 0;
}

/* --- what the kernel does not take --- */

static void queue_fill(struct desk *desk)
{
    uint32_t number = 0;

    kernel_answers(-EBUSY, FOREVER);
    while (desk->ops->arm(desk->backend, desk->fd, TOKEN(number + 1), RDY_EV_IN) == 0)
        number++;
    assert_int_equal(number, ENTRIES);
}

static void full_queue_refuses_each_request_and_is_carried_out_later(void **state)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t) "x", .iov_len = 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    struct rdy_backend_send send = {.token = ABOUT(RDY_ABOUT_SEND), .message = &message};
    struct sockaddr addr = {.sa_family = AF_INET};
    struct desk desk;

    (void)state;
    desk_open(&desk);
    queue_fill(&desk);
    assert_int_equal(desk.ops->disarm(desk.backend, desk.fd, TOKEN(1)), -EBUSY);
    assert_int_equal(desk.ops->recv(desk.backend, desk.fd, ABOUT(RDY_ABOUT_RECV), false), -EBUSY);
    assert_int_equal(desk.ops->recv_message(desk.backend, desk.fd, ABOUT(RDY_ABOUT_RECV), false),
                     -EBUSY);
    assert_int_equal(desk.ops->accept(desk.backend, desk.fd, ABOUT(RDY_ABOUT_ACCEPT)), -EBUSY);
    assert_int_equal(desk.ops->send(desk.backend, &send), -EBUSY);
    assert_int_equal(
        desk.ops->connect(desk.backend, desk.fd, ABOUT(RDY_ABOUT_SEND), &addr, sizeof(addr)),
        -EBUSY);
    assert_int_equal(desk.ops->close_file(desk.backend, desk.fd), -EBUSY);
    /* Nor can the poll be armed by which a wake ends a wait: so it must not block. */
    assert_int_equal(desk_wait(&desk, -1), 0);

    odd_heal();
    desk_await(&desk, (int)ENTRIES);
    for (uint32_t i = 0; i < ENTRIES; i++)
        assert_int_equal(desk.facts[i].token, TOKEN(i + 1));
    desk.ops->wake(desk.backend);
    assert_int_equal(desk_wait(&desk, -1), 0);
    desk_close(&desk);
}

static void full_queue_is_closed_all_the_same(void **state)
{
    struct desk desk;
    int fd;

    (void)state;
    desk_open(&desk);
    fd = dup(desk.fd);
    assert_int_equal(desk.ops->close_file(desk.backend, fd), 0);
    kernel_answers(-EBUSY, FOREVER);
    while (desk.ops->arm(desk.backend, desk.fd, TOKEN(1), RDY_EV_IN) == 0)
        ;
    desk_close(&desk); /* the cancel of all has no place */
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* The next wait asks again; no longer than a moment after, however long it was to be. */
static void request_that_found_no_memory_is_made_again(void **state)
{
    static const int errors[] = {-EAGAIN, -EBUSY};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        for (uint32_t times = 1; times <= 2; times++) {
            struct desk desk;

            desk_open(&desk);
            desk_arm(&desk, 1);
            kernel_answers(errors[i], times);
            assert_int_equal(desk_wait(&desk, -1), 0);
            assert_int_equal(odd.enters_seen, 2);
            odd_heal();
            desk_await(&desk, 1);
            assert_int_equal(desk.facts[0].token, TOKEN(1));
            desk_close(&desk);
        }
    }
}

static void interrupted_wait_is_counted_and_finds_nothing(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    kernel_answers(-EINTR, 1);
    assert_int_equal(desk_wait(&desk, -1), 0);
    assert_int_equal(rdy_a64_load_relaxed(&desk.backend->interruptions), 1);
    odd_heal();
    desk_arm(&desk, 1);
    desk_await(&desk, 1);
    desk_close(&desk);
}

/* What an enter after a full portion says, the next wait hears: here are facts to be taken. */
static void failure_behind_a_full_portion_waits_for_the_next_call(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    for (uint32_t i = 1; i <= 40; i++)
        desk_arm(&desk, i);
    kernel_answers(-EPERM, 2);
    odd.enters_first = 1;
    assert_int_equal(desk_wait(&desk, SOON), 40);
    assert_int_equal(odd.enters_seen, 2);
    assert_int_equal(desk_wait(&desk, SOON), -EPERM);
    odd_heal();
    desk_close(&desk);
}

/* --- buffers --- */

/* Before 6.9 a receive might run in a thread of the kernel's, which reads the ring of buffers. */
static void buffers_are_only_moved_on_a_kernel_that_receives_nowhere_else(void **state)
{
    static unsigned char memory[2][64];

    (void)state;
    for (int is_older = 0; is_older < 2; is_older++) {
        const struct uring *uring;
        struct desk desk;
        uint32_t features;

        odd.features_missing = is_older ? IORING_FEAT_RECVSEND_BUNDLE : 0;
        desk_open(&desk);
        uring = uring_of(desk.backend);
        features = uring->ring.uring.features;
        assert_int_equal(desk.ops->lend(desk.backend, memory, 2, 64), 0);
        assert_int_equal(uring->buffers.can_move, (features & IORING_FEAT_RECVSEND_BUNDLE) != 0);
        assert_true(!is_older || !uring->buffers.can_move);
        desk_close(&desk);
    }
}

/* --- death --- */

/* Of a kernel that dropped completions nothing more can be concluded. */
static void dead_ring_says_whether_facts_were_lost_with_it(void **state)
{
    static const struct {
        int error;
        bool has_lost;
    } rows[] = {{-EBADR, true}, {-EPERM, false}, {-ENOSYS, false}, {-EOWNERDEAD, false}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct desk desk;

        desk_open(&desk);
        kernel_answers(rows[i].error, 1);
        assert_int_equal(desk_wait(&desk, -1), rows[i].error);
        assert_int_equal(desk.backend->has_lost, rows[i].has_lost);
        assert_int_equal(desk.ops->close_file(desk.backend, desk.fd), -EBUSY);
        desk_close(&desk);
    }
}

/* The kernel counts what it drops; that it tells by -EBADR is only when it has nothing better. */
static void dropped_completion_is_death_whatever_else_comes(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    desk_arm(&desk, 1);
    *uring_of(desk.backend)->ring.uring.cq.koverflow = 1;
    assert_int_equal(desk_wait(&desk, SOON), -EBADR);
    assert_true(desk.backend->has_lost);
    assert_int_equal(desk.ops->salvage(desk.backend, desk.facts, ENTRIES), 1);
    assert_int_equal(desk.facts[0].token, TOKEN(1));
    desk_close(&desk);
}

static void dead_ring_is_not_drained_for_ever(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    desk_arm(&desk, 1);
    desk_await(&desk, 1);
    kernel_answers(-EPERM, FOREVER);
    desk_close(&desk);
    assert_int_equal(odd.enters_seen, 1);
}

static void refuse_the_drain(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == DRAIN_USER_DATA)
        cqe->res = -EINVAL;
}

/* Before 5.19 nothing cancels all at once: the ring's own end does it, a little later. */
static void kernel_that_cannot_cancel_all_is_asked_once(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    desk_arm(&desk, 1);
    desk_await(&desk, 1);
    odd.on_cqe = refuse_the_drain;
    odd.enters_seen = 0;
    desk_close(&desk);
    assert_int_equal(odd.enters_seen, 1);
}

/* --- answers that only the backend sees --- */

static uint32_t answers;

static void cancel_comes_too_late_once(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == (TOKEN(1) ^ 1) && ++answers == 1)
        cqe->res = -EALREADY;
}

/* Before 5.17: the poll was just being completed, and may be armed still. */
static void cancel_that_came_too_late_is_made_again(void **state)
{
    struct desk desk;

    (void)state;
    answers = 0;
    odd.features_missing = IORING_FEAT_CQE_SKIP;
    desk_open(&desk);
    desk_arm(&desk, 1);
    desk_await(&desk, 1);
    odd.on_cqe = cancel_comes_too_late_once;
    assert_int_equal(desk.ops->disarm(desk.backend, desk.fd, TOKEN(1)), 0);
    desk_await(&desk, 1);
    assert_int_equal(desk.facts[0].flags, RDY_FACT_LAST);
    assert_int_equal(desk_wait(&desk, 0), 0);
    assert_int_equal(answers, 2); /* the second says that there is nothing left */
    desk_close(&desk);
}

static void refuse_to_cancel(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == (TOKEN(1) ^ 1))
        cqe->res = -EINVAL;
}

/* An entry would wait for its last fact for ever. Facts in hand go first. */
static void ring_that_cannot_cancel_is_dead_once_its_facts_are_taken(void **state)
{
    struct desk desk;
    int count;

    (void)state;
    odd.features_missing = IORING_FEAT_CQE_SKIP;
    desk_open(&desk);
    desk_arm(&desk, 1);
    desk_await(&desk, 1);
    odd.on_cqe = refuse_to_cancel;
    assert_int_equal(desk.ops->disarm(desk.backend, desk.fd, TOKEN(1)), 0);
    desk_arm(&desk, 2);
    while ((count = desk_wait(&desk, SOON)) > 0)
        ;
    assert_int_equal(count, -EINVAL);
    assert_int_equal(desk_wait(&desk, SOON), -EINVAL); /* it is lasting */
    desk_close(&desk);
}

static void end_the_wake_poll(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == WAKE_USER_DATA)
        cqe->flags &= ~(uint32_t)IORING_CQE_F_MORE;
}

static void wake_poll_that_ended_is_armed_again(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    assert_int_equal(desk_wait(&desk, 0), 0);
    odd.on_cqe = end_the_wake_poll;
    for (int i = 0; i < 3; i++) {
        desk.ops->wake(desk.backend);
        assert_int_equal(desk_wait(&desk, -1), 0);
        assert_false(uring_of(desk.backend)->is_wake_armed);
    }
    odd_heal();
    desk.ops->wake(desk.backend);
    assert_int_equal(desk_wait(&desk, -1), 0);
    assert_true(uring_of(desk.backend)->is_wake_armed);
    desk_close(&desk);
}

static void refuse_the_wake_poll(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == WAKE_USER_DATA) {
        cqe->res = -EBADF;
        cqe->flags = 0;
    }
}

/* Without it nobody could end a wait. */
static void ring_that_cannot_be_woken_is_dead(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    odd.on_cqe = refuse_the_wake_poll;
    desk.ops->wake(desk.backend);
    assert_int_equal(desk_wait(&desk, -1), -EBADF);
    desk_close(&desk);
}

static int close_result;

static void do_nothing_instead(struct io_uring_sqe *sqe)
{
    uint64_t user_data = sqe->user_data;

    if (sqe->opcode == IORING_OP_CLOSE) {
        io_uring_prep_nop(sqe);
        sqe->user_data = user_data;
    }
}

static void fail_the_close(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if ((cqe->user_data & RDY_CLOSE_MASK) == RDY_CLOSE_USER_DATA)
        cqe->res = close_result;
}

/* Where the kernel did not begin, the engine closes; where it failed, the descriptor is gone. */
static void close_that_the_ring_did_not_make_is_made_and_no_other(void **state)
{
    static const struct {
        int result;
        bool is_ours;
    } rows[] = {{-EACCES, true}, {-EAGAIN, true}, {-ECANCELED, true},
                {-ENOMEM, true}, {-EIO, false},   {-EINTR, false}};

    (void)state;
    odd.features_missing = IORING_FEAT_CQE_SKIP;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct desk desk;
        int fd;

        desk_open(&desk);
        fd = dup(desk.fd);
        close_result = rows[i].result;
        odd.on_sqe = do_nothing_instead;
        odd.on_cqe = fail_the_close;
        assert_int_equal(desk.ops->close_file(desk.backend, fd), 0);
        assert_int_equal(desk_wait(&desk, 0), 0);
        assert_int_equal(fcntl(fd, F_GETFD) < 0, rows[i].is_ours);
        if (!rows[i].is_ours)
            assert_int_equal(close(fd), 0);
        desk_close(&desk);
    }
}

/* The kernel is told of a batch where it knows what that is; it takes the field for zeros else. */
static void batch_is_not_asked_of_a_kernel_that_knows_none(void **state)
{
    (void)state;
    for (int is_older = 0; is_older < 2; is_older++) {
        struct desk desk;

        odd.features_missing = is_older ? IORING_FEAT_MIN_TIMEOUT : 0;
        odd.batches_seen = 0;
        desk_open(&desk);
        desk.backend->batch_count = 4;
        desk.backend->batch_wait_us = 50;
        desk_arm(&desk, 1);
        assert_int_equal(desk_wait(&desk, SOON), 1);
        assert_int_equal(odd.batches_seen, desk.backend->can_batch);
        assert_int_equal(desk.backend->batch_waited, desk.backend->can_batch ? 4 : 1);
        assert_false(is_older && desk.backend->can_batch);
        desk_close(&desk);
    }
}

#define ODD(test) cmocka_unit_test_setup_teardown(test, odd_setup, odd_setup)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ODD(full_queue_refuses_each_request_and_is_carried_out_later),
        ODD(full_queue_is_closed_all_the_same),
        ODD(request_that_found_no_memory_is_made_again),
        ODD(interrupted_wait_is_counted_and_finds_nothing),
        ODD(failure_behind_a_full_portion_waits_for_the_next_call),
        ODD(dead_ring_says_whether_facts_were_lost_with_it),
        ODD(dropped_completion_is_death_whatever_else_comes),
        ODD(buffers_are_only_moved_on_a_kernel_that_receives_nowhere_else),
        ODD(dead_ring_is_not_drained_for_ever),
        ODD(kernel_that_cannot_cancel_all_is_asked_once),
        ODD(cancel_that_came_too_late_is_made_again),
        ODD(ring_that_cannot_cancel_is_dead_once_its_facts_are_taken),
        ODD(wake_poll_that_ended_is_armed_again),
        ODD(ring_that_cannot_be_woken_is_dead),
        ODD(close_that_the_ring_did_not_make_is_made_and_no_other),
        ODD(batch_is_not_asked_of_a_kernel_that_knows_none),
    };

    return cmocka_run_group_tests_name("io_uring, turning", tests, NULL, NULL);
}
