/* SPDX-License-Identifier: MIT */
/*
 * Opening a ring on a kernel that is older, poorer or more broken than this one: which rung of the
 * ladder it ends on, what a person is told, that nothing is left open, and that a ring which lies
 * does not pass its smoke test.
 */
#include "tests/support/odd_ring.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/sys.h"
#include "tests/support/check.h"
#include "tests/support/child.h"

#define FAULT  EDQUOT /* none that the kernel would give */
#define TOKEN  UINT64_C(1)
#define WAITS  8
#define SOON   (2000 * RDY_NS_PER_MS)
#define FD_MAX 256

static uint32_t descriptors_count(void)
{
    uint32_t count = 0;

    for (int fd = 0; fd < FD_MAX; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static int odd_setup(void **state)
{
    (void)state;
    odd_heal();
    rdy_uring_probe_forget();
    return 0;
}

static int odd_teardown(void **state)
{
    return odd_setup(state);
}

static const struct rdy_backend_opts plain_opts = {.events_max = 8};

static struct uring *uring_new(const struct rdy_backend_opts *opts)
{
    struct rdy_backend *backend = NULL;
    enum rdy_ring_step step;

    assert_int_equal(rdy_uring_open_at(&backend, opts, RDY_RUNG_DEFER, &step), 0);
    assert_int_equal(step, RDY_STEP_NONE);
    return uring_of(backend);
}

static struct rdy_fact next_fact(struct uring *uring)
{
    struct rdy_fact fact = {0};
    int count = 0;

    for (int i = 0; i < WAITS && count == 0; i++)
        count = uring->backend.ops->wait(&uring->backend, SOON, &fact, 1);
    assert_int_equal(count, 1);
    return fact;
}

/* A watch hears of its file, and ends once. */
static void uring_works(struct uring *uring)
{
    const struct rdy_backend_ops *ops = uring->backend.ops;
    int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    struct rdy_fact fact;

    assert_int_equal(ops->arm(&uring->backend, fd, TOKEN, RDY_EV_IN), 0);
    fact = next_fact(uring);
    assert_int_equal(fact.token, TOKEN);
    assert_int_equal(fact.events, RDY_EV_IN);
    assert_int_equal(fact.flags, 0);
    assert_int_equal(ops->disarm(&uring->backend, fd, TOKEN), 0);
    fact = next_fact(uring);
    assert_int_equal(fact.token, TOKEN);
    assert_int_equal(fact.result, -ECANCELED);
    assert_int_equal(fact.flags, RDY_FACT_LAST);
    assert_int_equal(ops->wait(&uring->backend, 0, &fact, 1), 0);
    assert_int_equal(close(fd), 0);
}

static void uring_end(struct uring *uring)
{
    uring->backend.ops->close(&uring->backend);
}

/* --- the ladder --- */

static void each_kernel_gets_the_newest_rung_that_it_knows(void **state)
{
    static const struct {
        uint32_t unknown;
        enum rdy_ring_rung rung;
        bool looks_again;
    } kernels[] = {
        {0, RDY_RUNG_DEFER, true},
        {IORING_SETUP_DEFER_TASKRUN, RDY_RUNG_SINGLE_COOP, true},
        {IORING_SETUP_SINGLE_ISSUER, RDY_RUNG_COOP, false},
        {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN, RDY_RUNG_SUBMIT_ALL, false},
        {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL, RDY_RUNG_PLAIN, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
        struct uring *uring;

        odd.flags_unknown = kernels[i].unknown;
        uring = uring_new(&plain_opts);
        assert_int_equal(uring->ring.rung, kernels[i].rung);
        assert_int_equal(uring->backend.looks_again, kernels[i].looks_again);
        if (uring->ring.rung > RDY_RUNG_SINGLE_COOP)
            assert_int_equal(uring->backend.ops->lend(&uring->backend, NULL, 2, 64), -EOPNOTSUPP);
        uring_works(uring);
        uring_end(uring);
    }
}

static int open_fails(const struct rdy_backend_opts *opts, char *why, size_t why_len)
{
    uint32_t before = descriptors_count();
    struct rdy_backend *backend = NULL;
    int rc = rdy_backend_uring->open(&backend, opts, why, why_len);

    assert_null(backend);
    assert_int_equal(descriptors_count(), before);
    return rc;
}

static void kernel_below_the_ladder_is_refused(void **state)
{
    char why[128] = "";

    (void)state;
    odd.flags_unknown = IORING_SETUP_R_DISABLED;
    assert_int_equal(open_fails(&plain_opts, why, sizeof(why)), -EINVAL);
    assert_string_equal(why, "io_uring_setup: Invalid argument");
}

/* First the queue of requests, which only costs enters; the other's size costs polls. */
static void little_memory_makes_small_queues_and_less_than_that_an_error(void **state)
{
    char why[128] = "";
    struct uring *uring;

    (void)state;
    odd.sq_entries_max = 64;
    uring = uring_new(&plain_opts);
    assert_int_equal(uring->ring.uring.sq.ring_entries, 64);
    assert_int_equal(uring->ring.uring.cq.ring_entries, 4096);
    uring_end(uring);

    odd.sq_entries_max = 0;
    odd.cq_entries_max = 100;
    uring = uring_new(&plain_opts);
    assert_int_equal(uring->ring.uring.sq.ring_entries, 32);
    assert_int_equal(uring->ring.uring.cq.ring_entries, 64);
    uring_works(uring);
    uring_end(uring);

    odd.cq_entries_max = 63;
    assert_int_equal(open_fails(&plain_opts, why, sizeof(why)), -ENOMEM);
    assert_string_equal(why, "io_uring_setup: Cannot allocate memory");
}

static void each_feature_that_must_be_there_is_missed(void **state)
{
    static const uint32_t needed[] = {IORING_FEAT_NODROP, IORING_FEAT_EXT_ARG,
                                      IORING_FEAT_SINGLE_MMAP, IORING_FEAT_RSRC_TAGS};

    (void)state;
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        char why[128] = "";

        odd.features_missing = needed[i];
        assert_int_equal(open_fails(&plain_opts, why, sizeof(why)), -EOPNOTSUPP);
        assert_string_equal(why, "the kernel is older than 5.13: required ring features: "
                                 "Operation not supported");
    }
}

/* What a newer kernel can do is left alone on one that cannot. */
static void optional_features_are_done_without(void **state)
{
    struct uring *uring;

    (void)state;
    odd.features_missing = IORING_FEAT_NO_IOWAIT | IORING_FEAT_MIN_TIMEOUT | IORING_FEAT_CQE_SKIP;
    uring = uring_new(&plain_opts);
    assert_int_equal(uring->ring.enter_flags, 0);
    assert_false(uring->backend.can_batch);
    assert_int_equal(uring->ring.cancel_flags, 0);
    uring_works(uring); /* each cancel has an answer of its own now */
    uring_end(uring);
}

/* Who writes to an array that is not there crashes. */
static void ring_without_an_array_of_requests_has_none_filled(void **state)
{
    struct uring *uring;

    (void)state;
    odd.is_without_array = true;
    uring = uring_new(&plain_opts);
    assert_null(uring->ring.uring.sq.array);
    uring_end(uring);
}

static void each_step_that_fails_is_named_and_leaves_nothing_open(void **state)
{
    static const struct rdy_backend_opts embedded = {.events_max = 8, .is_embedded = true};
    char why[128] = "";

    (void)state;
    odd.dontfork_error = -FAULT;
    assert_int_equal(open_fails(&embedded, why, sizeof(why)), -FAULT);
    assert_non_null(strstr(why, "keeping the ring out of forked children: "));
    odd_heal();
    odd.eventfd_error = -FAULT;
    assert_int_equal(open_fails(&embedded, why, sizeof(why)), -FAULT);
    assert_non_null(strstr(why, "opening or registering an eventfd: "));
    odd_heal();
    odd.register_op = IORING_REGISTER_RESTRICTIONS;
    odd.register_error = -FAULT;
    assert_int_equal(open_fails(&embedded, why, sizeof(why)), -FAULT);
    assert_non_null(strstr(why, "restricting the ring: "));
    odd.register_op = IORING_REGISTER_ENABLE_RINGS;
    assert_int_equal(open_fails(&embedded, why, sizeof(why)), -FAULT);
    assert_non_null(strstr(why, "enabling the ring: "));
}

/* Before 5.19 one name that is not known refuses the whole list of restrictions. */
static void kernel_without_buffer_rings_watches_and_lends_nothing(void **state)
{
    static unsigned char memory[2][64];
    struct uring *uring;

    (void)state;
    odd.has_no_buffers = true;
    uring = uring_new(&plain_opts);
    assert_true(uring->backend.ops->lend(&uring->backend, memory, 2, 64) < 0);
    assert_null(uring->buffers.ring);
    uring_works(uring);
    uring_end(uring);
}

/* What the caller will never ask for, the kernel shall not do for anybody. */
static void ring_that_only_watches_refuses_all_else(void **state)
{
    static const struct rdy_backend_opts watching = {.events_max = 8, .is_watching_only = true};
    static unsigned char memory[2][64];
    struct rdy_fact fact;
    struct uring *uring;

    (void)state;
    uring = uring_new(&watching);
    uring_works(uring);
    assert_int_equal(uring->backend.ops->lend(&uring->backend, memory, 2, 64), -EACCES);
    assert_int_equal(
        uring->backend.ops->accept(&uring->backend, 0, (uint64_t)RDY_ABOUT_ACCEPT << 62 | TOKEN),
        0);
    fact = next_fact(uring);
    assert_int_equal(fact.result, -EACCES);
    assert_int_equal(fact.flags, RDY_FACT_LAST);
    uring_end(uring);
}

/* --- the smoke test --- */

/* Nothing of the engine's any more: an answer to a cancel that went well. */
static void swallow(struct io_uring_cqe *cqe)
{
    cqe->user_data ^= 1;
    cqe->res = 0;
    cqe->flags = 0;
}

static void refuse_the_poll(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == TOKEN) {
        cqe->res = -EINVAL;
        cqe->flags = 0;
    }
}

static void report_once_only(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == TOKEN)
        cqe->flags = 0;
}

static uint32_t polls_seen;

static void lose_the_second_event(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == TOKEN && ++polls_seen == 2)
        swallow(cqe);
}

static void report_another_event(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == TOKEN && cqe->res > 0)
        cqe->res |= (int)RDY_EV_HUP;
}

static void end_the_poll_without_a_reason(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == TOKEN && cqe->res == -ECANCELED)
        cqe->res = 0;
}

static void refuse_the_cancel(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    if (cqe->user_data == TOKEN && cqe->res == -ECANCELED) {
        cqe->user_data ^= 1;
        cqe->res = -EINVAL;
    }
}

static void ring_that_lies_does_not_pass(void **state)
{
    static const struct {
        odd_cqe_fn *lie;
        int result;
        const char *step;
    } rows[] = {
        {refuse_the_poll, -EINVAL, "the first event of a multishot poll"},
        {report_once_only, -EPROTO, "the first event of a multishot poll"},
        {report_another_event, -EPROTO, "the first event of a multishot poll"},
        {lose_the_second_event, -ETIME, "the second event of a multishot poll"},
        {end_the_poll_without_a_reason, -EPROTO, "cancelling a multishot poll"},
        {refuse_the_cancel, -EINVAL, "cancelling a multishot poll"},
    };
    uint32_t before = descriptors_count();

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char again[128] = "";
        char why[128] = "";

        polls_seen = 0;
        rdy_uring_probe_forget();
        odd.on_cqe = rows[i].lie;
        assert_int_equal(rdy_uring_probe(NULL, why, sizeof(why)), rows[i].result);
        assert_non_null(strstr(why, "smoke test, "));
        assert_non_null(strstr(why, rows[i].step));
        assert_int_equal(descriptors_count(), before);

        /* Once is enough: the answer is kept, with its words. */
        odd_heal();
        assert_int_equal(rdy_uring_probe(NULL, again, sizeof(again)), rows[i].result);
        assert_string_equal(again, why);
    }
}

/* The third is the eventfd of the test itself: the ring has the first. */
static void want_of_a_descriptor_says_nothing_of_the_ring(void **state)
{
    uint32_t before = descriptors_count();
    int failures = 0;

    (void)state;
    for (uint64_t nth = 1; nth <= 2; nth++) {
        char why[128] = "";

        (void)rdy_sys_fail_nth(nth, EMFILE);
        failures += rdy_uring_probe(NULL, why, sizeof(why)) == -EMFILE;
        (void)rdy_sys_fail_nth(0, 0);
        assert_non_null(strstr(why, "opening or registering an eventfd"));
        assert_int_equal(descriptors_count(), before);
    }
    assert_int_equal(failures, 2);
    assert_int_equal(rdy_uring_probe(NULL, NULL, 0), 0);
}

static void ring_that_dies_in_its_smoke_test_does_not_pass(void **state)
{
    uint32_t before = descriptors_count();
    uint32_t failures = 0;
    int rc = -FAULT;

    (void)state;
    for (uint32_t nth = 0; nth < 16 && rc < 0; nth++) {
        char why[128] = "";

        rdy_uring_probe_forget();
        odd.enters_first = nth;
        odd.enters = 1;
        odd.enter_result = -FAULT;
        rc = rdy_uring_probe(NULL, why, sizeof(why));
        failures += rc < 0;
        odd_heal();
        assert_true(rc == 0 || rc == -FAULT);
        assert_int_equal(descriptors_count(), before);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(failures, 3); /* two events and a cancel */
}

static void write_that_fails_in_the_smoke_test_is_its_answer(void **state)
{
    char why[128] = "";

    (void)state;
    (void)rdy_sys_fail_nth(3, FAULT);
    assert_int_equal(rdy_uring_probe(NULL, why, sizeof(why)), -FAULT);
    (void)rdy_sys_fail_nth(0, 0);
    assert_non_null(strstr(why, "the first event of a multishot poll"));
}

static void report_on_a_ring_that_cannot_be_opened_misses_everything(void **state)
{
    struct rdy_probe_report report = {.size = sizeof(report)};
    char why[128] = "";

    (void)state;
    odd.features_missing = IORING_FEAT_NODROP;
    assert_int_equal(rdy_uring_probe(&report, why, sizeof(why)), -EOPNOTSUPP);
    for (uint32_t i = 0; i < report.capabilities_count; i++) {
        const struct rdy_capability *line = &report.capabilities[i];

        if (strcmp(line->name, "multishot_poll") == 0 || strcmp(line->name, "restrictions") == 0 ||
            strcmp(line->name, "timed_enter") == 0) {
            assert_false(line->is_present);
            assert_non_null(strstr(line->why, "missing: "));
        }
    }
}

static void report_without_buffer_rings_says_so(void **state)
{
    struct rdy_probe_report report = {.size = sizeof(report)};
    uint32_t missed = 0;

    (void)state;
    odd.has_no_buffers = true;
    assert_int_equal(rdy_uring_probe(&report, NULL, 0), 0);
    for (uint32_t i = 0; i < report.capabilities_count; i++)
        missed += strcmp(report.capabilities[i].name, "buffer_rings") == 0 &&
                  !report.capabilities[i].is_present;
    assert_int_equal(missed, 1);
    missed = 0;
    odd_heal();
    odd.register_op = IORING_REGISTER_RING_FDS;
    odd.register_error = -EINVAL;
    report = (struct rdy_probe_report){.size = sizeof(report)};
    assert_int_equal(rdy_uring_probe(&report, NULL, 0), 0);
    for (uint32_t i = 0; i < report.capabilities_count; i++)
        missed += strcmp(report.capabilities[i].name, "registered_ring_fd") == 0 &&
                  !report.capabilities[i].is_present;
    assert_int_equal(missed, 1);
}

/* --- datagrams: a child for each, as the answer is kept for the process --- */

static void refuse_the_receive(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    cqe->res = -EINVAL;
}

static void end_the_receive(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    cqe->flags &= ~(uint32_t)IORING_CQE_F_MORE;
}

static void receive_too_little(struct io_uring_cqe *cqe, uint32_t nth)
{
    (void)nth;
    cqe->res--;
}

static void messages_are_refused(int expected)
{
    uint32_t before = descriptors_count();

    child_check(rdy_uring_messages(NULL) == expected);
    child_check(descriptors_count() == before);
    odd_heal();
    child_check(rdy_uring_messages(NULL) == expected); /* it is remembered */
}

static void no_ring_for_the_trial(int error)
{
    odd.queue_init_error = -error;
    messages_are_refused(-error);
}

static void no_buffers_for_the_trial(int error)
{
    odd.has_no_buffers = true;
    messages_are_refused(-error);
}

static void trial_not_submitted(int error)
{
    odd.submit_error = -error;
    messages_are_refused(-error);
}

/* A machine that was too busy for the trial, or a signal: the next who asks tries again. */
static void trial_without_an_end(int error)
{
    odd.wait_error = -error;
    child_check(rdy_uring_messages(NULL) == -error);
    odd_heal();
    child_check(rdy_uring_messages(NULL) == 0);
}

static void trial_refused(int error)
{
    odd.on_cqe = refuse_the_receive;
    messages_are_refused(-error);
}

static void trial_ends(int error)
{
    odd.on_cqe = end_the_receive;
    messages_are_refused(-error);
}

static void trial_is_short(int error)
{
    odd.on_cqe = receive_too_little;
    messages_are_refused(-error);
}

/* It says nothing of the ring, so it is not remembered. */
static void want_of_descriptors_passes(int error)
{
    uint32_t before = descriptors_count();
    int rc = -error;

    for (uint64_t nth = 1; nth <= 5; nth++) { /* socket, bind, getsockname, connect, send */
        (void)rdy_sys_fail_nth(nth, error);
        rc = rdy_uring_messages(NULL);
        (void)rdy_sys_fail_nth(0, 0);
        child_check(rc == -error);
        child_check(descriptors_count() == before);
    }
    child_check(rdy_uring_messages(NULL) == 0);
}

static void receives_of_datagrams_need_a_trial_that_works(void **state)
{
    (void)state;
    in_a_child(no_ring_for_the_trial, FAULT);
    in_a_child(no_buffers_for_the_trial, EINVAL);
    in_a_child(trial_not_submitted, FAULT);
    in_a_child(trial_without_an_end, ETIME);
    in_a_child(trial_without_an_end, EINTR);
    in_a_child(trial_refused, EINVAL);
    in_a_child(trial_ends, EPROTO);
    in_a_child(trial_is_short, EPROTO);
    in_a_child(want_of_descriptors_passes, EMFILE);
}

#define ODD(test) cmocka_unit_test_setup_teardown(test, odd_setup, odd_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        ODD(each_kernel_gets_the_newest_rung_that_it_knows),
        ODD(kernel_below_the_ladder_is_refused),
        ODD(little_memory_makes_small_queues_and_less_than_that_an_error),
        ODD(each_feature_that_must_be_there_is_missed),
        ODD(optional_features_are_done_without),
        ODD(ring_without_an_array_of_requests_has_none_filled),
        ODD(each_step_that_fails_is_named_and_leaves_nothing_open),
        ODD(kernel_without_buffer_rings_watches_and_lends_nothing),
        ODD(ring_that_only_watches_refuses_all_else),
        ODD(ring_that_lies_does_not_pass),
        ODD(want_of_a_descriptor_says_nothing_of_the_ring),
        ODD(ring_that_dies_in_its_smoke_test_does_not_pass),
        ODD(write_that_fails_in_the_smoke_test_is_its_answer),
        ODD(report_on_a_ring_that_cannot_be_opened_misses_everything),
        ODD(report_without_buffer_rings_says_so),
        ODD(receives_of_datagrams_need_a_trial_that_works),
    };

    return cmocka_run_group_tests_name("io_uring, opened", tests, NULL, NULL);
}
