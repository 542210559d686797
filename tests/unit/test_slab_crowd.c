/* SPDX-License-Identifier: MIT */
/*
 * The slab under a crowd: memory before and after a spike, a long random load, two threads. What is
 * resident is read from the kernel, and is the business of builds without a sanitizer, whose shadow
 * memory would drown it; there a smaller crowd goes through the same steps and only its behaviour
 * is looked at.
 */
#include "engine/slab.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/support/stress.h"
#include "tests/unit/slab_entries.h"

#ifdef STRESS_IS_SANITIZED
#define UNDER_SANITIZER true
#else
#define UNDER_SANITIZER false
#endif

#define CROWD    STRESS_ROUNDS(1000000U, 100000U)
#define MEGABYTE 1e6
/* Where huge pages are given unasked, one at either end may be counted whole. */
#define BYTES_MAX (135e6 + 2 * 2097152.0)

static double resident_bytes(void)
{
    unsigned long mapped = 0;
    unsigned long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &mapped, &resident), 2);
    (void)fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

/* --- memory -------------------------------------------------------------------------------- */

static void a_million_entries_fit_and_leave_again(void **state)
{
    void **items = malloc(CROWD * sizeof(*items));
    struct rdy_slab *slab;
    double before;
    double full;
    double after;

    (void)state;
    assert_non_null(items);
    memset(items, 0xff, CROWD * sizeof(*items)); /* resident before the count begins */
    before = resident_bytes();
    slab = open_entries(CROWD);

    for (uint32_t i = 0; i < CROWD; i++)
        items[i] = take(slab);
    full = resident_bytes() - before;
    for (uint32_t i = CROWD / 100; i < CROWD; i++)
        rdy_slab_give(slab, items[i]);
    after = resident_bytes() - before;

    assert_int_equal(rdy_slab_live(slab), CROWD / 100);
    for (uint32_t i = 0; i < CROWD / 100; i++)
        assert_ptr_equal(rdy_slab_find(slab, token_of(items[i])), items[i]);
    if (!UNDER_SANITIZER) {
        print_message("%u entries: %.1f MB, %.1f MB after 99 %% were given back\n", CROWD,
                      full / MEGABYTE, after / MEGABYTE);
        assert_true(full <= BYTES_MAX);
        assert_true(after < full / 5);
    }
    rdy_slab_close(slab);
    free(items);
}

/* The worst case: of each hundred neighbours one survives. A page with a survivor has to stay. */
static void scattered_survivors_hold_no_more_than_their_own_pages(void **state)
{
    struct rdy_slab *slab = open_entries(CROWD);
    void **items = take_many(slab, CROWD);
    uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t survivors = 0;
    double full = resident_bytes();
    double after;

    (void)state;
    for (uint32_t i = 0; i < CROWD; i++) {
        if (i % 100 == 50)
            survivors++;
        else
            rdy_slab_give(slab, items[i]);
    }
    after = resident_bytes();

    assert_int_equal(rdy_slab_live(slab), survivors);
    for (uint32_t i = 50; i < CROWD; i += 100)
        assert_ptr_equal(rdy_slab_find(slab, token_of(items[i])), items[i]);
    /* A seventh more is the eighth of all that is kept for the next swing. */
    assert_true(rdy_slab_bytes(slab) <= survivors * page_size * 8 / 7 + (1U << 20));
    if (!UNDER_SANITIZER) {
        print_message("scattered survivors: %.1f MB went of %.1f MB\n", (full - after) / MEGABYTE,
                      (double)CROWD * sizeof(struct entry) / MEGABYTE);
        assert_true(full - after > 0.5 * CROWD * sizeof(struct entry));
    }
    free(items);
    rdy_slab_close(slab);
}

static void a_swinging_load_keeps_its_pages(void **state)
{
    struct rdy_slab *slab = open_entries(10000);
    void *items[8000];
    uint64_t bytes;

    (void)state;
    for (int i = 0; i < 8000; i++)
        items[i] = take(slab);
    bytes = rdy_slab_bytes(slab);
    for (int swing = 0; swing < 10; swing++) {
        for (int i = 0; i < 8000; i++)
            rdy_slab_give(slab, items[i]);
        assert_int_equal(rdy_slab_bytes(slab), bytes);
        for (int i = 0; i < 8000; i++)
            items[i] = take(slab);
        assert_int_equal(rdy_slab_bytes(slab), bytes);
    }
    rdy_slab_close(slab);
}

static void a_thousand_slabs_one_after_another_leave_nothing_behind(void **state)
{
    double before = 0;

    (void)state;
    for (int i = 0; i < 1100; i++) {
        struct rdy_slab *slab = open_entries(100000);

        if (i == 100)
            before = resident_bytes();
        free(take_many(slab, 1000));
        rdy_slab_close(slab);
    }
    if (!UNDER_SANITIZER)
        assert_true(resident_bytes() - before < MEGABYTE);
}

/* Unused places of the model are at the end: [0, live) is live. */
struct model {
    uint32_t live;
    struct entry *entry[40000];
    uint64_t token[40000];
};

static void model_take(struct rdy_slab *slab, struct model *model, uint32_t stamp)
{
    struct entry *entry = take(slab);

    assert_int_equal(entry->body[0] | entry->body[119], 0);
    memcpy(entry->body, &stamp, sizeof(stamp));
    memcpy(entry->body + 116, &stamp, sizeof(stamp));
    model->entry[model->live] = entry;
    model->token[model->live] = token_of(entry);
    model->live++;
}

static void model_give(struct rdy_slab *slab, struct model *model, uint32_t place)
{
    struct entry *entry = model->entry[place];
    uint64_t token = model->token[place];

    assert_ptr_equal(rdy_slab_find(slab, token), entry);
    assert_memory_equal(entry->body, entry->body + 116, sizeof(uint32_t));
    rdy_slab_give(slab, entry);
    assert_null(rdy_slab_find(slab, token));
    model->live--;
    model->entry[place] = model->entry[model->live];
    model->token[place] = model->token[model->live];
}

/* The load drifts up and down over the whole range, so that chunks come and go. */
static void a_million_random_steps_agree_with_a_model(void **state)
{
    const uint32_t places = 40000;
    struct rdy_slab *slab = open_entries(places);
    struct model *model = calloc(1, sizeof(*model));
    uint64_t seed = 3;

    (void)state;
    assert_non_null(model);
    for (uint32_t step = 0; step < 1000000; step++) {
        uint32_t odds = step / 100000 % 2 == 0 ? 80 : 20;

        if (next_random(&seed) % 100 < odds && model->live < places)
            model_take(slab, model, step);
        else if (model->live > 0)
            model_give(slab, model, next_random(&seed) % model->live);
        assert_int_equal(rdy_slab_live(slab), model->live);
    }
    while (model->live > 0)
        model_give(slab, model, model->live - 1);
    assert_int_equal(rdy_slab_live(slab), 0);
    free(model);
    rdy_slab_close(slab);
}

/* --- two threads --------------------------------------------------------------------------- */

struct pair {
    struct rdy_slab *slab;
    void *known;
    uint64_t token;
    uint64_t stale[1000];
    struct rdy_a32 is_over;
    uint64_t surprises;
};

static void *look_up_until_over(void *arg)
{
    struct pair *pair = arg;
    uint32_t is_over;

    do {
        is_over = rdy_a32_load_acquire(&pair->is_over); /* pairs with the store in the test */
        if (rdy_slab_find(pair->slab, pair->token) != pair->known)
            pair->surprises++;
        for (uint32_t i = 0; i < 1000; i++)
            pair->surprises += rdy_slab_find(pair->slab, pair->stale[i]) != NULL;
        for (uint64_t slot = 20000; slot < 60000; slot += 1000)
            pair->surprises += rdy_slab_find(pair->slab, slot << 32 | 3) != NULL;
    } while (is_over == 0);
    return NULL;
}

static void looking_up_is_safe_beside_a_take(void **state)
{
    struct pair pair = {.slab = open_entries(60000)};
    void **items = take_many(pair.slab, 1000);
    pthread_t thread;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        pair.stale[i] = token_of(items[i]);
        rdy_slab_give(pair.slab, items[i]);
    }
    pair.known = take(pair.slab);
    pair.token = token_of(pair.known);
    assert_int_equal(pthread_create(&thread, NULL, look_up_until_over, &pair), 0);

    free(items);
    items = take_many(pair.slab, 59999);

    rdy_a32_store_release(&pair.is_over, 1); /* pairs with the load in the thread */
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pair.surprises, 0);
    free(items);
    rdy_slab_close(pair.slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_entries_fit_and_leave_again),
        cmocka_unit_test(scattered_survivors_hold_no_more_than_their_own_pages),
        cmocka_unit_test(a_swinging_load_keeps_its_pages),
        cmocka_unit_test(a_thousand_slabs_one_after_another_leave_nothing_behind),
        cmocka_unit_test(a_million_random_steps_agree_with_a_model),
        cmocka_unit_test(looking_up_is_safe_beside_a_take),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
