/* SPDX-License-Identifier: MIT */
/*
 * Many waiters on one entry, and several threads at its list: wake against cancel against waiting
 * again. Each wait has a cell that counts the calls of its waker, and at the end of each wait the
 * count must be what its owner was told: one if it was woken or its cancel came late, none if its
 * cancel was quiet. A waiter's memory is overwritten as soon as it is its owner's again, so that a
 * late touch of the list shows as a broken list.
 */
#include "tests/support/entry.h"
#include "tests/support/stress.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define CROWD         10000
#define CROWD_ROUNDS  STRESS_ROUNDS(100, 10)
#define CHURN_WAITS   100
#define CHURN_THREADS 2
#define CHURN_STEPS   STRESS_ROUNDS(2000000, 100000)

struct cell {
    struct rdy_readiness wait;
    struct rdy_a32 calls;
    bool is_waiting;
};

static void cell_wake(void *arg, uint64_t data)
{
    struct cell *cell = arg;
    uint32_t seen = 0;

    /* The second call of one wait fails here. Release: pairs with cell_expect(). */
    (void)data;
    rdy_assert(rdy_a32_cas_acq_rel(&cell->calls, &seen, 1));
}

/* A waker that was on its way may still be about to run: then it is waited for. */
static void cell_expect(struct cell *cell, uint32_t calls)
{
    while (calls == 1 && rdy_a32_load_acquire(&cell->calls) == 0)
        (void)sched_yield();
    rdy_assert(rdy_a32_load_acquire(&cell->calls) == calls);
    memset(&cell->wait, 0xff, sizeof(cell->wait));
    cell->is_waiting = false;
}

static int cell_poll(struct cell *cell, struct rdy_event *event)
{
    return rdy_readiness_poll(&cell->wait, &(struct rdy_waker){.fn = cell_wake, .arg = cell},
                              event);
}

/* Begins a wait; false if it was answered at once. */
static bool cell_begin(struct cell *cell, struct entry *entry, uint32_t interest)
{
    struct rdy_event event;

    rdy_a32_store_relaxed(&cell->calls, 0);
    rdy_readiness_init(&cell->wait, &entry->reg, interest);
    cell->is_waiting = cell_poll(cell, &event) == RDY_PENDING;
    if (!cell->is_waiting)
        cell_expect(cell, 0);
    return cell->is_waiting;
}

/* True if the cancel was quiet. */
static bool cell_cancel(struct cell *cell)
{
    bool is_quiet = rdy_readiness_cancel(&cell->wait);

    cell_expect(cell, is_quiet ? 0 : 1);
    return is_quiet;
}

struct crowd {
    struct entry entry;
    struct cell *cell;
    struct rdy_a32 is_woken;
    uint32_t wakers_run;
};

static void *crowd_wake(void *arg)
{
    struct crowd *crowd = arg;

    stress_pin(true);
    crowd->wakers_run = entry_event(&crowd->entry, RDY_READABLE);
    return NULL;
}

/* Cancels every third while the wake goes on, from the far end; returns how many were quiet. */
static uint32_t crowd_cancel(struct crowd *crowd)
{
    uint32_t quiet = 0;

    for (uint32_t i = CROWD; i-- > 0;) {
        if (i % 3 == 0)
            quiet += cell_cancel(&crowd->cell[i]);
    }
    return quiet;
}

static void crowd_round(struct crowd *crowd, uint32_t *quiet_total)
{
    struct rdy_event event;
    pthread_t waker;
    uint32_t quiet;

    entry_open(&crowd->entry);
    for (uint32_t i = 0; i < CROWD; i++)
        assert_true(cell_begin(&crowd->cell[i], &crowd->entry, RDY_INTEREST_READ));

    assert_int_equal(pthread_create(&waker, NULL, crowd_wake, crowd), 0);
    quiet = crowd_cancel(crowd);
    assert_int_equal(pthread_join(waker, NULL), 0);

    assert_int_equal(crowd->wakers_run, CROWD - quiet);
    *quiet_total += quiet;
    for (uint32_t i = 0; i < CROWD; i++) {
        if (i % 3 == 0)
            continue;
        assert_int_equal(cell_poll(&crowd->cell[i], &event), 0);
        cell_expect(&crowd->cell[i], 1);
    }
    assert_true(rdy_list_is_empty(&crowd->entry.io.waitq.waiters));
}

static void ten_thousand_waiters_are_each_woken_once_or_cancelled(void **state)
{
    static struct crowd crowd;
    uint32_t quiet = 0;

    (void)state;
    stress_watch();
    crowd.cell = calloc(CROWD, sizeof(*crowd.cell));
    assert_non_null(crowd.cell);
    for (int round = 0; round < CROWD_ROUNDS; round++)
        crowd_round(&crowd, &quiet);
    free(crowd.cell);
    print_message("crowd: %d rounds of %d waiters, %u cancelled quietly\n", CROWD_ROUNDS, CROWD,
                  quiet);
}

struct churn {
    struct entry entry;
    struct rdy_a32 is_over;
    struct rdy_a64 wakers_run; /* as the wakes counted them */
};

struct churner {
    pthread_t thread;
    struct churn *churn;
    uint64_t random;
    uint64_t begun;
    uint64_t at_once;
    uint64_t woken;
    uint64_t quiet;
    uint64_t late;
    struct cell cell[CHURN_WAITS];
};

static void churner_step(struct churner *churner)
{
    static const uint32_t interests[] = {RDY_INTEREST_READ, RDY_INTEREST_WRITE,
                                         RDY_INTEREST_READ | RDY_INTEREST_WRITE,
                                         RDY_INTEREST_PRIORITY};
    uint64_t random = stress_random(&churner->random);
    struct cell *cell = &churner->cell[random % CHURN_WAITS];
    struct rdy_event event;

    if (!cell->is_waiting) {
        churner->begun++;
        churner->at_once += !cell_begin(cell, &churner->churn->entry, interests[random >> 32 & 3]);
    } else if (random >> 40 & 1) {
        bool is_quiet = cell_cancel(cell);

        churner->quiet += is_quiet;
        churner->late += !is_quiet;
    } else if (cell_poll(cell, &event) == 0) {
        cell_expect(cell, 1);
        churner->woken++;
    }
}

static void *churner_run(void *arg)
{
    struct churner *churner = arg;

    for (int i = 0; i < CHURN_STEPS; i++)
        churner_step(churner);
    for (int i = 0; i < CHURN_WAITS; i++) {
        struct cell *cell = &churner->cell[i];

        if (!cell->is_waiting)
            continue;
        if (cell_cancel(cell))
            churner->quiet++;
        else
            churner->late++;
    }
    return NULL;
}

/* Sets, wakes and clears one direction after another until the others are through. */
static void *churn_wake(void *arg)
{
    static const uint32_t events[] = {RDY_READABLE, RDY_WRITABLE, RDY_PRIORITY,
                                      RDY_READABLE | RDY_WRITABLE};
    struct churn *churn = arg;
    uint64_t woken = 0;

    for (uint32_t i = 0; rdy_a32_load_acquire(&churn->is_over) == 0; i++) {
        woken += entry_event(&churn->entry, events[i % 4]);
        rdy_clear_readiness(&churn->entry.reg,
                            rdy_ready_event(&churn->entry.reg, RDY_INTEREST_ALL));
    }
    rdy_a64_store_relaxed(&churn->wakers_run, woken);
    return NULL;
}

static void churner_check(const struct churner *churner)
{
    print_message("churn: %llu waits begun, %llu at once, %llu woken, %llu cancelled quietly, "
                  "%llu cancelled late\n",
                  (unsigned long long)churner->begun, (unsigned long long)churner->at_once,
                  (unsigned long long)churner->woken, (unsigned long long)churner->quiet,
                  (unsigned long long)churner->late);
    assert_int_equal(churner->begun,
                     churner->at_once + churner->woken + churner->quiet + churner->late);
}

static void wake_cancel_and_wait_by_three_threads_keep_the_books_balanced(void **state)
{
    static struct churn churn;
    static struct churner churner[CHURN_THREADS];
    pthread_t waker;
    uint64_t told = 0;

    (void)state;
    stress_watch();
    entry_open(&churn.entry);
    assert_int_equal(pthread_create(&waker, NULL, churn_wake, &churn), 0);
    for (uint32_t i = 0; i < CHURN_THREADS; i++) {
        churner[i].churn = &churn;
        churner[i].random = UINT64_C(0x2545f4914f6cdd1d) + i;
        assert_int_equal(pthread_create(&churner[i].thread, NULL, churner_run, &churner[i]), 0);
    }
    for (uint32_t i = 0; i < CHURN_THREADS; i++)
        assert_int_equal(pthread_join(churner[i].thread, NULL), 0);
    /* Release: pairs with the load in churn_wake(). */
    rdy_a32_store_release(&churn.is_over, 1);
    assert_int_equal(pthread_join(waker, NULL), 0);

    for (uint32_t i = 0; i < CHURN_THREADS; i++) {
        churner_check(&churner[i]);
        told += churner[i].woken + churner[i].late;
    }
    assert_int_equal(rdy_a64_load_relaxed(&churn.wakers_run), told);
    assert_true(rdy_list_is_empty(&churn.entry.io.waitq.waiters));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_waiters_are_each_woken_once_or_cancelled),
        cmocka_unit_test(wake_cancel_and_wait_by_three_threads_keep_the_books_balanced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
