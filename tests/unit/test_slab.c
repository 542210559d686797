/* SPDX-License-Identifier: MIT */
/* What the slab promises of items and tokens: which comes next, and which are refused. */
#include "engine/slab.h"

#include "tests/unit/slab_entries.h"

/* --- items --------------------------------------------------------------------------------- */

static void the_item_given_back_last_is_taken_next(void **state)
{
    struct rdy_slab *slab = open_entries(100000);
    void **items = take_many(slab, 20000);
    uint64_t seed = 1;

    (void)state;
    /* Room nearly everywhere, so that the right chunk is one of many. */
    for (uint32_t i = 1; i < 20000; i += 2)
        rdy_slab_give(slab, items[i]);
    for (int i = 0; i < 20000; i++) {
        void *item = items[next_random(&seed) % 10000 * 2];

        rdy_slab_give(slab, item);
        assert_ptr_equal(take(slab), item);
    }

    /* Also where giving makes idle chunks that are let go. */
    for (uint32_t i = 0; i < 20000; i += 2)
        rdy_slab_give(slab, items[i]);
    assert_ptr_equal(take(slab), items[19998]);

    free(items);
    rdy_slab_close(slab);
}

static void an_item_is_zero_behind_its_head_each_time(void **state)
{
    static const unsigned char zeros[sizeof((struct entry){0}.body)];
    struct rdy_slab *slab = open_entries(10);
    struct entry *entry = take(slab);

    (void)state;
    assert_memory_equal(entry->body, zeros, sizeof(zeros));
    memset(entry->body, 0xff, sizeof(entry->body));
    rdy_slab_give(slab, entry);

    assert_ptr_equal(take(slab), entry);

    assert_memory_equal(entry->body, zeros, sizeof(zeros));
    rdy_slab_close(slab);
}

static void items_are_aligned_and_apart(void **state)
{
    static const uint32_t sizes[][2] = {{16, 8}, {24, 8}, {128, 128}, {192, 64}, {1024, 1024}};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct rdy_slab *slab = open_sized(sizes[i][0], sizes[i][1], 1000);
        void **items = take_many(slab, 1000);

        for (int n = 0; n < 1000; n++) {
            assert_int_equal((uintptr_t)items[n] % sizes[i][1], 0);
            memset((struct rdy_slab_head *)items[n] + 1, 0xff,
                   sizes[i][0] - sizeof(struct rdy_slab_head));
        }
        for (int n = 0; n < 1000; n++)
            assert_ptr_equal(rdy_slab_find(slab, token_of(items[n])), items[n]);

        free(items);
        rdy_slab_close(slab);
    }
}

static void more_than_items_max_is_refused(void **state)
{
    struct rdy_slab *slab = open_entries(100);
    void **items = take_many(slab, 100);
    int err = 0;

    (void)state;
    assert_null(rdy_slab_take(slab, &err));
    assert_int_equal(err, -ENFILE);
    assert_int_equal(rdy_slab_live(slab), 100);

    rdy_slab_give(slab, items[50]);
    assert_ptr_equal(take(slab), items[50]);
    assert_null(rdy_slab_take(slab, &err));

    free(items);
    rdy_slab_close(slab);
}

static void senseless_options_are_refused(void **state)
{
    static const struct rdy_slab_opts senseless[] = {
        {.item_size = 8, .item_align = 8, .items_max = 1},
        {.item_size = 1032, .item_align = 8, .items_max = 1},
        {.item_size = 128, .item_align = 0, .items_max = 1},
        {.item_size = 132, .item_align = 4, .items_max = 1},
        {.item_size = 144, .item_align = 48, .items_max = 1},
        {.item_size = 128, .item_align = 256, .items_max = 1},
        {.item_size = 128, .item_align = 128, .items_max = 0},
        {.item_size = 128, .item_align = 128, .items_max = 1, .kept = 120},
        {.item_size = 128, .item_align = 128, .items_max = 1, .kept = 4},
        {.item_size = 128, .item_align = 128, .items_max = (1U << 25) + 1},
    };
    struct rdy_slab *slab = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(senseless) / sizeof(senseless[0]); i++) {
        assert_int_equal(rdy_slab_open(&slab, &senseless[i]), -EINVAL);
        assert_null(slab);
    }
    rdy_slab_close(NULL);
}

static void a_free_item_is_poisoned_but_for_its_head(void **state)
{
    struct rdy_slab *slab = open_entries(10);
    struct entry *entry = take(slab);

    (void)state;
    assert_true(may_be_used(&entry->body[119]));
    rdy_slab_give(slab, entry);
    assert_false(is_odd(entry));
    assert_true(may_be_used(&entry->head.slot));
    assert_int_equal(may_be_used(&entry->body[0]), !checker_sees_touches());
    assert_int_equal(may_be_used(&entry->body[119]), !checker_sees_touches());
    rdy_slab_close(slab);
    assert_true(may_be_used(&entry->body[0]));
}

static void what_is_kept_is_the_users_through_give_and_take(void **state)
{
    struct rdy_slab_opts opts = {
        .item_size = sizeof(struct entry), .item_align = 64, .items_max = 10, .kept = 16};
    struct rdy_slab *slab = NULL;
    struct entry *entry;

    (void)state;
    assert_int_equal(rdy_slab_open(&slab, &opts), 0);
    entry = take(slab);
    memset(entry->body, 7, sizeof(entry->body));
    rdy_slab_give(slab, entry);
    assert_int_equal(entry->body[0], 7);
    assert_int_equal(entry->body[15], 7);
    assert_int_equal(may_be_used(&entry->body[16]), !checker_sees_touches());
    assert_ptr_equal(take(slab), entry);
    assert_int_equal(entry->body[15], 7);
    assert_int_equal(entry->body[16], 0);
    assert_int_equal(entry->body[119], 0);
    rdy_slab_close(slab);
}

/* --- tokens -------------------------------------------------------------------------------- */

static void a_token_is_stale_once_its_item_was_given_back(void **state)
{
    struct rdy_slab *slab = open_entries(10);
    void *item = take(slab);
    uint64_t first = token_of(item);

    (void)state;
    assert_ptr_equal(rdy_slab_find(slab, first), item);
    rdy_slab_give(slab, item);
    assert_null(rdy_slab_find(slab, first));
    assert_null(rdy_slab_find(slab, token_of(item)));

    assert_ptr_equal(take(slab), item);

    assert_null(rdy_slab_find(slab, first));
    assert_ptr_equal(rdy_slab_find(slab, token_of(item)), item);
    rdy_slab_close(slab);
}

static void a_renewed_item_has_another_token_and_the_same_address(void **state)
{
    struct rdy_slab *slab = open_entries(10);
    struct entry *entry = take(slab);
    uint64_t first = token_of(entry);
    uint64_t second;

    (void)state;
    entry->body[7] = 7;

    second = rdy_slab_renew(slab, entry);

    assert_int_equal(second, token_of(entry));
    assert_null(rdy_slab_find(slab, first));
    assert_ptr_equal(rdy_slab_find(slab, second), entry);
    assert_int_equal(entry->body[7], 7);
    assert_true(is_odd(entry));
    rdy_slab_close(slab);
}

static void a_token_that_was_never_given_out_finds_nothing(void **state)
{
    struct rdy_slab *slab = open_sized(192, 64, 50000);
    struct rdy_slab_head *head = take(slab);
    uint64_t seed = 2;

    (void)state;
    assert_null(rdy_slab_find(slab, 0));
    assert_null(rdy_slab_find(slab, UINT64_MAX));
    assert_null(rdy_slab_at(slab, UINT32_MAX));
    for (int i = 0; i < 100000; i++) {
        uint64_t slot = next_random(&seed) % 70000 + 1;

        assert_null(rdy_slab_find(slab, slot << 32 | next_random(&seed)));
        assert_null(rdy_slab_at(slab, (uint32_t)slot));
    }
    assert_ptr_equal(rdy_slab_at(slab, head->slot), head);
    rdy_slab_close(slab);
}

/* 21 items of 192 bytes fit into 4096, but a slot has five bits for them. */
static void a_slot_between_two_chunks_finds_nothing(void **state)
{
    const uint64_t fake = UINT64_C(0x01010101);
    struct rdy_slab *slab = open_sized(192, 64, 5000);
    void **items = take_many(slab, 2000);

    (void)state;
    for (int i = 0; i < 2000; i++)
        memset((struct rdy_slab_head *)items[i] + 1, 1, 192 - sizeof(struct rdy_slab_head));

    for (uint64_t slot = 0; slot < 2000; slot++)
        assert_null(rdy_slab_find(slab, slot << 32 | fake));

    free(items);
    rdy_slab_close(slab);
}

static void a_generation_is_odd_exactly_while_its_item_is_live(void **state)
{
    struct rdy_slab *slab = open_entries(100);
    void *item = take(slab);

    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_true(is_odd(item));
        (void)rdy_slab_renew(slab, item);
        assert_true(is_odd(item));
        rdy_slab_give(slab, item);
        assert_false(is_odd(item));
        assert_ptr_equal(take(slab), item);
    }
    rdy_slab_close(slab);
}

/* Enough for pages to go, and rounds enough for the slots of some to be far ahead of others. */
static void tokens_stay_stale_when_pages_went_and_came_back(void **state)
{
    const uint32_t count = 40000;
    struct rdy_slab *slab = open_entries(count);
    uint64_t *tokens = calloc(count, sizeof(*tokens));
    uint64_t bytes_before = 0;

    (void)state;
    assert_non_null(tokens);
    for (int round = 0; round < 4; round++) {
        void **items = take_many(slab, count);

        for (uint32_t i = 0; i < count; i++) {
            assert_null(rdy_slab_find(slab, tokens[i]));
            for (uint32_t n = i % 5; n > 0; n--)
                (void)rdy_slab_renew(slab, items[i]);
            tokens[i] = token_of(items[i]);
        }
        bytes_before = rdy_slab_bytes(slab);
        for (uint32_t i = 0; i < count; i++)
            rdy_slab_give(slab, items[i]);
        for (uint32_t i = 0; i < count; i++)
            assert_null(rdy_slab_find(slab, tokens[i]));
        assert_true(rdy_slab_bytes(slab) < bytes_before / 2);
        free(items);
    }
    free(tokens);
    rdy_slab_close(slab);
}

/* --- all of them --------------------------------------------------------------------------- */

/* Neighbours, single ones, and a run without any that is longer than a chunk. */
static bool next_live_survivor(uint32_t place)
{
    return (place < 1000 || place >= 2000) && (place % 7 < 2 || place % 7 == 4);
}

static void next_live_visits_exactly_the_live_items(void **state)
{
    static const uint32_t sizes[] = {16, 24, 128, 1024};
    const uint32_t count = 5000;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct rdy_slab *slab = open_sized(sizes[i], 8, count);
        void **items = take_many(slab, count);
        uint32_t slot = 0;

        for (uint32_t n = 0; n < count; n++) {
            if (!next_live_survivor(n))
                rdy_slab_give(slab, items[n]);
        }

        for (uint32_t n = 0; n < count; n++) {
            if (next_live_survivor(n))
                assert_ptr_equal(rdy_slab_next_live(slab, &slot), items[n]);
        }
        assert_null(rdy_slab_next_live(slab, &slot));
        assert_null(rdy_slab_next_live(slab, &slot));

        free(items);
        rdy_slab_close(slab);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_item_given_back_last_is_taken_next),
        cmocka_unit_test(an_item_is_zero_behind_its_head_each_time),
        cmocka_unit_test(items_are_aligned_and_apart),
        cmocka_unit_test(more_than_items_max_is_refused),
        cmocka_unit_test(senseless_options_are_refused),
        cmocka_unit_test(a_free_item_is_poisoned_but_for_its_head),
        cmocka_unit_test(what_is_kept_is_the_users_through_give_and_take),
        cmocka_unit_test(a_token_is_stale_once_its_item_was_given_back),
        cmocka_unit_test(a_renewed_item_has_another_token_and_the_same_address),
        cmocka_unit_test(a_token_that_was_never_given_out_finds_nothing),
        cmocka_unit_test(a_slot_between_two_chunks_finds_nothing),
        cmocka_unit_test(a_generation_is_odd_exactly_while_its_item_is_live),
        cmocka_unit_test(tokens_stay_stale_when_pages_went_and_came_back),
        cmocka_unit_test(next_live_visits_exactly_the_live_items),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
