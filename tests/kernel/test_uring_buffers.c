/* SPDX-License-Identifier: MIT */
/*
 * Which buffer the kernel receives into: the one that came back last, where the ring may be
 * rearranged, and whichever it is, never one that is out, and none is forgotten.
 *
 * Packets over Unix sockets: each is one receive, so each takes one buffer.
 */
#include "tests/kernel/lending_ring.h"

#define COUNT_MAX   32768u
#define SIZE        64u
#define SOCKETS_MAX 8u
#define FACTS_MAX   128u
#define CQ_ENTRIES  16u /* few, so that it runs over */

struct desk {
    struct rdy_backend *backend;
    unsigned char *memory;
    uint32_t count;
    uint32_t sockets;
    bool is_mover; /* the ring may be put in another order */
    int ours[SOCKETS_MAX];
    int theirs[SOCKETS_MAX];
    bool is_receiving[SOCKETS_MAX];
    bool *is_out;              /* by id: the kernel filled it, and has not got it back */
    uint32_t order[FACTS_MAX]; /* ids, as the last look() heard of them */
};

static const struct rdy_uring_buffers *buffers_of(const struct desk *desk)
{
    return &uring_of(desk->backend)->buffers;
}

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
    struct rdy_backend_opts opts = {.events_max = FACTS_MAX, .cq_entries = CQ_ENTRIES};
    enum rdy_ring_step step;

    *desk = (struct desk){.count = count, .sockets = sockets};
    assert_int_equal(rdy_uring_open_at(&desk->backend, &opts, rung, &step), 0);
    desk->memory = calloc(count, SIZE);
    desk->is_out = calloc(count, sizeof(*desk->is_out));
    assert_true(desk->memory && desk->is_out);
    assert_int_equal(desk->backend->ops->lend(desk->backend, desk->memory, count, SIZE), 0);
    desk->is_mover = buffers_of(desk)->can_move;
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
    free(desk->is_out);
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

/* At most @facts_max facts, without a wait; the buffers that came, and how many. */
static uint32_t look_into(struct desk *desk, uint32_t facts_max, uint32_t *order)
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
        assert_int_equal(desk->memory[facts[i].buffer * SIZE], socket_of(facts[i].token));
        desk->is_out[facts[i].buffer] = true;
        order[count++] = facts[i].buffer;
    }
    return count;
}

static uint32_t look(struct desk *desk, uint32_t facts_max)
{
    return look_into(desk, facts_max, desk->order);
}

static void packet_to(const struct desk *desk, uint32_t socket)
{
    char mark = (char)socket;

    assert_int_equal(send(desk->theirs[socket], &mark, 1, 0), 1);
}

/* @count packets to the first socket, and their buffers, in more than one look if need be. */
static void burst(struct desk *desk, uint32_t count)
{
    uint32_t came = 0;

    for (uint32_t i = 0; i < count; i++)
        packet_to(desk, 0);
    for (int i = 0; i < 100 && came < count; i++) {
        receive(desk);
        came += look_into(desk, FACTS_MAX / 2, desk->order + came);
    }
    assert_int_equal(came, count);
    /* What the queue had no room for: that the receive ended, say. */
    assert_int_equal(look_into(desk, FACTS_MAX / 2, desk->order + came), 0);
}

/* A kernel that is new enough must let us: a test that cannot tell is none. */
static void desk_open_moving(struct desk *desk, uint32_t count)
{
    desk_open(desk, RDY_RUNG_DEFER, count, 1);
    assert_true(desk->is_mover);
    give_all(desk);
}

static void desk_close_moving(struct desk *desk)
{
    assert_true(buffers_of(desk)->can_move); /* the kernel took those that were in front */
    desk_close(desk);
}

static void one_buffer_that_comes_back_each_time_is_all_that_is_used(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_moving(&desk, 16);
    for (int i = 0; i < 100; i++) {
        burst(&desk, 1);
        assert_int_equal(desk.order[0], 0);
        give(&desk, 0);
    }
    desk_close_moving(&desk);
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
    desk_open_moving(&desk, 16);
    burst(&desk, 5);
    assert_memory_equal(desk.order, at_first, sizeof(at_first));
    give_these(&desk, early, 3);
    burst(&desk, 1);
    assert_int_equal(desk.order[0], 2);
    give_these(&desk, late, 2);
    burst(&desk, 4);
    assert_memory_equal(desk.order, in_the_end, sizeof(in_the_end));
    desk_close_moving(&desk);
}

/* Whoever keeps a few for some turns uses those and no others; the busy begin is forgotten. */
static void buffers_that_are_kept_for_some_turns_are_used_again(void **state)
{
    static bool is_used[COUNT_MAX];
    uint32_t kept[8];
    uint32_t used = 0;
    struct desk desk;

    (void)state;
    memset(is_used, 0, sizeof(is_used));
    desk_open_moving(&desk, 1024);
    burst(&desk, FACTS_MAX / 2);
    for (uint32_t i = 0; i < FACTS_MAX / 2; i++)
        give(&desk, desk.order[i]);
    for (uint32_t i = 0; i < 4000; i++) {
        burst(&desk, 1);
        kept[i % 8] = desk.order[0];
        if (i >= 2000) {
            used += !is_used[desk.order[0]];
            is_used[desk.order[0]] = true;
        }
        if (i % 8 == 7)
            give_these(&desk, kept, 8);
    }
    assert_int_equal(used, 8);
    assert_int_equal(buffers_of(&desk)->hot, 8);
    desk_close_moving(&desk);
}

/* With many out, not all that lie in the ring are moved in each turn. */
static void no_more_are_moved_than_a_cache_holds(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_moving(&desk, COUNT_MAX);
    for (uint32_t i = 0; i < 1000; i++)
        burst(&desk, 10);
    give(&desk, desk.order[0]);
    burst(&desk, 1);
    assert_int_equal(buffers_of(&desk)->hot, 128);
    desk_close_moving(&desk);
}

/* The ring's tail is 16 bits wide and goes around, as does each position. */
static void rings_of_any_size_go_on_after_65536_buffers(void **state)
{
    static const uint32_t counts[] = {1, 2, 16, COUNT_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        uint32_t portion = counts[i] < 16 ? counts[i] : 16;
        struct desk desk;

        desk_open_moving(&desk, counts[i]);
        for (uint32_t taken = 0; taken < 70000; taken += portion) {
            burst(&desk, portion);
            for (uint32_t j = portion; j-- > 0;) {
                if (desk.order[j] != j)
                    fail_msg("buffer %u of %u is number %u", desk.order[j], counts[i], j);
                give(&desk, desk.order[j]);
            }
        }
        desk_close_moving(&desk);
    }
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

/* A receive of which the backend does not hear: the answer to it looks like that to a cancel. */
static void receive_behind_its_back(struct desk *desk, uint32_t socket)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(&uring_of(desk->backend)->ring);

    assert_non_null(sqe);
    io_uring_prep_recv(sqe, desk->ours[socket], NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = RDY_URING_GROUP;
    sqe->user_data = 2;
}

/* Then the front is another than we think: to move the rest would give the lost one out again. */
static void ring_whose_kernel_takes_others_is_left_as_it_is(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, RDY_RUNG_DEFER, 16, 2);
    assert_true(desk.is_mover);
    give_all(&desk);
    receive_behind_its_back(&desk, 1);
    packet_to(&desk, 1);
    packet_to(&desk, 0);
    receive(&desk);
    assert_int_equal(look(&desk, FACTS_MAX), 1);
    assert_int_equal(desk.order[0], 1);
    give(&desk, 1);
    for (uint32_t i = 0; i < 100; i++) {
        burst(&desk, 1);
        assert_int_equal(desk.order[0], i < 14 ? 2 + i : 1 + (i - 14) % 15);
        give(&desk, desk.order[0]);
    }
    assert_false(buffers_of(&desk)->can_move);
    desk_close(&desk);
}

/* Four were filled and we heard of one: the front is further than we know. */
static void buffers_that_come_back_before_all_was_heard_go_behind(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_moving(&desk, 8);
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
    desk_close_moving(&desk);
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

static void cancel(struct desk *desk, uint32_t socket)
{
    if (desk->is_receiving[socket])
        (void)desk->backend->ops->disarm(desk->backend, desk->ours[socket], token_of(socket));
}

/* Requests that are answered to nobody, until there is an enter before the turn's own. */
static void fill_the_queue(struct desk *desk)
{
    for (uint32_t i = 0; i <= CQ_ENTRIES; i++)
        (void)desk->backend->ops->disarm(desk->backend, -1, RECV_TOKEN | UINT64_C(0x7f) << 32);
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
        if (draw(&seed, 8) == 0)
            cancel(&desk, draw(&seed, SOCKETS_MAX));
        if (draw(&seed, 16) == 0)
            fill_the_queue(&desk);
        (void)look(&desk, 1 + draw(&seed, draw(&seed, 4) == 0 ? FACTS_MAX : 6));
        give_some(&desk, &seed);
    }
    take_all(&desk);
    assert_int_equal(buffers_of(&desk)->can_move, desk.is_mover);
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
        crowd(RDY_RUNG_DEFER, 64, seed);
        crowd(RDY_RUNG_DEFER, 4, seed);
        crowd(RDY_RUNG_SINGLE_COOP, 64, seed);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_buffer_that_comes_back_each_time_is_all_that_is_used),
        cmocka_unit_test(those_that_came_back_are_a_stack),
        cmocka_unit_test(buffers_that_are_kept_for_some_turns_are_used_again),
        cmocka_unit_test(no_more_are_moved_than_a_cache_holds),
        cmocka_unit_test(rings_of_any_size_go_on_after_65536_buffers),
        cmocka_unit_test(ring_that_does_not_defer_goes_around),
        cmocka_unit_test(ring_whose_kernel_takes_others_is_left_as_it_is),
        cmocka_unit_test(buffers_that_come_back_before_all_was_heard_go_behind),
        cmocka_unit_test(no_buffer_is_given_out_twice_or_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
