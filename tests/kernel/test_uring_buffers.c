/* SPDX-License-Identifier: MIT */
/*
 * Which buffer the kernel receives into: the one that came back last, where the ring may be
 * rearranged, and whichever it is, never one that is out, and none is forgotten.
 *
 * Packets over Unix sockets: each is one receive, so each takes one buffer.
 */
#include "tests/kernel/lending_ring.h"

#define COUNT_MAX   64u
#define SOCKETS_MAX 8u
#define FACTS_MAX   128u

struct desk {
    struct rdy_backend *backend;
    unsigned char *memory;
    uint32_t count;
    uint32_t sockets;
    int ours[SOCKETS_MAX];
    int theirs[SOCKETS_MAX];
    bool is_receiving[SOCKETS_MAX];
    bool is_out[COUNT_MAX];    /* by id: the kernel filled it, and has not got it back */
    uint32_t order[FACTS_MAX]; /* ids, as the last look() heard of them */
};

static uint64_t token_of(uint32_t socket)
{
    return RECV_TOKEN | (uint64_t)socket << 32;
}

static uint32_t socket_of(uint64_t token)
{
    return (uint32_t)(token >> 32) & 0xff;
}

static void desk_open(struct desk *desk, enum rdy_ring_rung rung, uint32_t count, uint32_t sockets)
{
    struct rdy_backend_opts opts = {.events_max = FACTS_MAX, .cq_entries = 16};
    enum rdy_ring_step step;

    *desk = (struct desk){.count = count, .sockets = sockets};
    assert_int_equal(rdy_uring_open_at(&desk->backend, &opts, rung, &step), 0);
    desk->memory = calloc(count, BUFFER_SIZE);
    assert_non_null(desk->memory);
    assert_int_equal(desk->backend->ops->lend(desk->backend, desk->memory, count, BUFFER_SIZE), 0);
    for (uint32_t i = 0; i < sockets; i++) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                         0);
        desk->ours[i] = fds[0];
        desk->theirs[i] = fds[1];
    }
}

static void desk_close(struct desk *desk)
{
    lending_ring_close(desk->backend, desk->memory);
    for (uint32_t i = 0; i < desk->sockets; i++) {
        (void)close(desk->ours[i]);
        (void)close(desk->theirs[i]);
    }
}

static void give(struct desk *desk, uint32_t id)
{
    desk->is_out[id] = false;
    desk->backend->ops->refill(desk->backend, id);
}

/* The first is given last, so that it is the one to be filled first. */
static void give_all(struct desk *desk)
{
    for (uint32_t id = desk->count; id-- > 0;)
        give(desk, id);
}

static void receive(struct desk *desk)
{
    for (uint32_t i = 0; i < desk->sockets; i++) {
        if (desk->is_receiving[i])
            continue;
        assert_int_equal(desk->backend->ops->recv(desk->backend, desk->ours[i], token_of(i), true),
                         0);
        desk->is_receiving[i] = true;
    }
}

/* At most @facts_max facts, without a wait; how many buffers came. */
static uint32_t look(struct desk *desk, uint32_t facts_max)
{
    struct rdy_fact facts[FACTS_MAX];
    uint32_t count = 0;
    int rc;

    rc = desk->backend->ops->wait(desk->backend, 0, facts, facts_max);
    assert_true(rc >= 0);
    for (int i = 0; i < rc; i++) {
        if (facts[i].flags & RDY_FACT_LAST)
            desk->is_receiving[socket_of(facts[i].token)] = false;
        if (!(facts[i].flags & RDY_FACT_BUFFER))
            continue;
        assert_true(facts[i].buffer < desk->count);
        assert_false(desk->is_out[facts[i].buffer]);
        assert_int_equal(desk->memory[facts[i].buffer * BUFFER_SIZE], socket_of(facts[i].token));
        desk->is_out[facts[i].buffer] = true;
        desk->order[count++] = facts[i].buffer;
    }
    return count;
}

static void packet_to(const struct desk *desk, uint32_t socket)
{
    char mark = (char)socket;

    assert_int_equal(send(desk->theirs[socket], &mark, 1, 0), 1);
}

/* @count packets to the first socket, which all come in one look. */
static void burst(struct desk *desk, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        packet_to(desk, 0);
    receive(desk);
    assert_int_equal(look(desk, FACTS_MAX), count);
}

static void one_buffer_that_comes_back_each_time_is_all_that_is_used(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, RDY_RUNG_DEFER, 16, 1);
    give_all(&desk);
    for (int i = 0; i < 100; i++) {
        burst(&desk, 1);
        assert_int_equal(desk.order[0], 0);
        give(&desk, 0);
    }
    desk_close(&desk);
}

static void give_these(struct desk *desk, const uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        give(desk, ids[i]);
}

/* Not only the last portion is in front, but what was left of the one before it is next. */
static void those_that_came_back_are_a_stack(void **state)
{
    static const uint32_t at_first[] = {0, 1, 2, 3, 4};
    static const uint32_t early[] = {4, 3, 2};
    static const uint32_t late[] = {1, 0};
    static const uint32_t in_the_end[] = {0, 1, 3, 4};
    struct desk desk;

    (void)state;
    desk_open(&desk, RDY_RUNG_DEFER, 16, 1);
    give_all(&desk);
    burst(&desk, 5);
    assert_memory_equal(desk.order, at_first, sizeof(at_first));
    give_these(&desk, early, 3);
    burst(&desk, 1);
    assert_int_equal(desk.order[0], 2);
    give_these(&desk, late, 2);
    burst(&desk, 4);
    assert_memory_equal(desk.order, in_the_end, sizeof(in_the_end));
    desk_close(&desk);
}

/* Where the kernel may look at any time, nothing that it was shown is touched. */
static void ring_that_does_not_defer_goes_around(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, RDY_RUNG_SINGLE_COOP, 16, 1);
    give_all(&desk);
    for (uint32_t i = 0; i < 100; i++) {
        burst(&desk, 1);
        assert_int_equal(desk.order[0], 15 - i % 16);
        give(&desk, desk.order[0]);
    }
    desk_close(&desk);
}

/* Four were filled and we heard of one: the front is further than we know. */
static void buffers_that_come_back_before_all_was_heard_go_behind(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, RDY_RUNG_DEFER, 8, 1);
    give_all(&desk);
    for (int i = 0; i < 4; i++)
        packet_to(&desk, 0);
    receive(&desk);
    assert_int_equal(look(&desk, 1), 1);
    assert_int_equal(desk.order[0], 0);
    give(&desk, 0);
    assert_int_equal(look(&desk, 8), 3);
    burst(&desk, 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(desk.order[i], i < 4 ? 4 + i : 0);
    desk_close(&desk);
}

static uint32_t draw(uint32_t *seed, uint32_t below)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed % below;
}

/* Gives some of those that are out back, the more so the more there are. */
static void give_some(struct desk *desk, uint32_t *seed)
{
    for (uint32_t i = draw(seed, 2 * desk->count); i > 0; i--) {
        uint32_t id = draw(seed, desk->count);

        if (desk->is_out[id])
            give(desk, id);
    }
}

/* All packets are taken, and all buffers with them when there are no more. */
static void take_all(struct desk *desk)
{
    uint32_t out = 0;

    for (uint32_t id = 0; id < desk->count; id++)
        if (desk->is_out[id])
            give(desk, id);
    for (int i = 0; i < 200; i++) {
        receive(desk);
        (void)look(desk, FACTS_MAX);
        for (uint32_t id = 0; id < desk->count; id++)
            if (desk->is_out[id])
                give(desk, id);
    }
    for (uint32_t i = 0; i < desk->count; i++)
        packet_to(desk, i % desk->sockets);
    for (int i = 0; i < 200 && out < desk->count; i++) {
        receive(desk);
        out += look(desk, FACTS_MAX);
    }
    assert_int_equal(out, desk->count);
}

static void crowd(enum rdy_ring_rung rung, uint32_t count, uint32_t seed)
{
    struct desk desk;

    desk_open(&desk, rung, count, SOCKETS_MAX);
    give_all(&desk);
    for (int i = 0; i < 2000; i++) {
        for (uint32_t packets = draw(&seed, 12); packets > 0; packets--) {
            uint32_t to = draw(&seed, SOCKETS_MAX);
            char mark = (char)to;

            (void)send(desk.theirs[to], &mark, 1, 0); /* a full socket takes none */
        }
        receive(&desk);
        (void)look(&desk, 1 + draw(&seed, draw(&seed, 4) == 0 ? FACTS_MAX : 6));
        give_some(&desk, &seed);
    }
    take_all(&desk);
    desk_close(&desk);
}

/*
 * Any number is out, looks end before all was heard, the completion queue runs over, receives find
 * no buffer: which one a buffer's turn it is may be wrong, but never that it is given out twice or
 * not any more.
 */
static void no_buffer_is_given_out_twice_or_lost(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 6; seed++) {
        crowd(RDY_RUNG_DEFER, COUNT_MAX, seed);
        crowd(RDY_RUNG_DEFER, 4, seed);
        crowd(RDY_RUNG_SINGLE_COOP, COUNT_MAX, seed);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_buffer_that_comes_back_each_time_is_all_that_is_used),
        cmocka_unit_test(those_that_came_back_are_a_stack),
        cmocka_unit_test(ring_that_does_not_defer_goes_around),
        cmocka_unit_test(buffers_that_come_back_before_all_was_heard_go_behind),
        cmocka_unit_test(no_buffer_is_given_out_twice_or_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
