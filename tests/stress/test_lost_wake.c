/* SPDX-License-Identifier: MIT */
/*
 * Ten million times: one thread announces a piece of data, another one must learn of it.
 *
 * The setter plays the driver. It puts a piece on a lane (an entry), sets READABLE and wakes, and
 * puts no more on that lane than its credit allows until the piece is taken. The taker plays a
 * task: it takes what is there, meets EAGAIN, clears with the event it saw, waits, and looks at a
 * lane again only after that lane's waker ran. So a lost wake-up, or a clear that took an event it
 * had not seen, leaves both standing still, and the watchdog ends the test.
 *
 * Besides, the books must balance: every piece set is taken, and a wait that was begun is answered
 * at once, woken by exactly one call of its waker, or cancelled, and never two of these.
 */
#include "tests/support/entry.h"
#include "tests/support/stress.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "engine/sys.h"

#define LANES       16
#define SCANS_IDLE  64 /* how often the taker looks before it sleeps */
#define SLOT_ROUNDS STRESS_ROUNDS(4000000, 200000)
#define WAIT_ROUNDS STRESS_ROUNDS(3000000, 150000)

enum way {
    WAY_SLOT,   /* rdy_poll_readiness() */
    WAY_WAIT,   /* rdy_readiness_poll() */
    WAY_CANCEL, /* and waits are cancelled and begun again while they are being woken */
};

struct race;

struct lane {
    struct entry entry;
    struct race *race;
    struct rdy_a64 produced; /* pieces; the setter's */
    struct rdy_a64 taken;    /* the taker's */
    struct rdy_a32 is_woken; /* the waker's news for the taker */
    uint64_t credit;

    /* The taker's. */
    struct rdy_readiness wait;
    uint64_t wait_number;
    bool is_waiting;

    /* The setter's, which runs the wakers. */
    uint64_t last_woken;
    uint64_t wakers_run;
};

struct race {
    enum way way;
    uint64_t rounds;
    struct rdy_a32 news; /* rung by every waker; the taker sleeps on it */
    struct rdy_a32 is_asleep;
    struct lane *lane;

    /* The taker's books. */
    uint64_t taken;
    uint64_t begun;
    uint64_t at_once;
    uint64_t woken;
    uint64_t cancelled_quietly;
    uint64_t cancelled_late;
    uint64_t sleeps;
};

/* Runs on the setter's thread, with the number of the wait that it belongs to. */
static void lane_wake(void *arg, uint64_t number)
{
    struct lane *lane = arg;
    struct race *race = lane->race;

    if (race->way != WAY_SLOT)
        rdy_assert(number > lane->last_woken); /* no wait is woken twice */
    lane->last_woken = number;
    lane->wakers_run++;

    (void)rdy_a32_swap_acq_rel(&lane->is_woken, 1);
    /* Both seq_cst: pairs with taker_sleep(); either it sees the news or we see it asleep. */
    (void)rdy_a32_add_seq_cst(&race->news, 1);
    if (rdy_a32_load_seq_cst(&race->is_asleep))
        rdy_sys_futex_wake(&race->news.v, 1);
}

static bool setter_serve(struct lane *lane)
{
    uint64_t produced = rdy_a64_load_relaxed(&lane->produced);

    if (produced - rdy_a64_load_acquire(&lane->taken) >= lane->credit)
        return false;
    rdy_a64_store_release(&lane->produced, produced + 1);
    (void)entry_event(&lane->entry, RDY_READABLE);
    return true;
}

static void *setter_run(void *arg)
{
    struct race *race = arg;
    uint64_t left = race->rounds;
    uint32_t refused = 0;

    stress_pin(true);
    for (uint32_t i = 0; left > 0; i = (i + 1) % LANES) {
        if (setter_serve(&race->lane[i])) {
            left--;
            refused = 0;
        } else if (++refused > SCANS_IDLE * LANES) {
            (void)sched_yield();
        }
    }
    return NULL;
}

static int taker_poll_wait(struct lane *lane, struct rdy_waker *waker, struct rdy_event *event)
{
    struct race *race = lane->race;
    bool was_waiting = lane->is_waiting;
    int rc;

    if (!was_waiting) {
        rdy_readiness_init(&lane->wait, &lane->entry.reg, RDY_INTEREST_READ);
        waker->data = ++lane->wait_number;
        race->begun++;
    }
    rc = rdy_readiness_poll(&lane->wait, waker, event);
    lane->is_waiting = rc == RDY_PENDING;
    if (rc == 0 && was_waiting)
        race->woken++;
    else if (rc == 0)
        race->at_once++;
    return rc;
}

static int taker_poll(struct lane *lane, struct rdy_event *event)
{
    struct rdy_waker waker = {.fn = lane_wake, .arg = lane, .data = lane->wait_number};

    if (lane->race->way == WAY_SLOT)
        return rdy_poll_readiness(&lane->entry.reg, RDY_DIRECTION_READ, &waker, event);
    return taker_poll_wait(lane, &waker, event);
}

/* What a task does when it was woken: takes until there is no more, clears, and waits again. */
static void taker_serve(struct lane *lane)
{
    struct rdy_event event;
    int rc;

    while ((rc = taker_poll(lane, &event)) == 0) {
        uint64_t taken = rdy_a64_load_relaxed(&lane->taken);
        uint64_t produced = rdy_a64_load_acquire(&lane->produced);

        if (rdy_event_ready(event) == 0)
            continue;
        if (produced == taken) {
            rdy_clear_readiness(&lane->entry.reg, event);
            continue;
        }
        lane->race->taken += produced - taken;
        rdy_a64_store_release(&lane->taken, produced);
    }
    rdy_assert(rc == RDY_PENDING);
}

static bool taker_scan(struct race *race)
{
    bool is_busy = false;

    for (uint32_t i = 0; i < LANES; i++) {
        struct lane *lane = &race->lane[i];

        if (rdy_a32_load_relaxed(&lane->is_woken) == 0)
            continue;
        (void)rdy_a32_swap_acq_rel(&lane->is_woken, 0);
        taker_serve(lane);
        is_busy = true;
    }
    return is_busy;
}

/* Gives a wait up while the setter may be waking it, and begins another. */
static void taker_cancel(struct lane *lane)
{
    if (!lane->is_waiting)
        return;
    lane->is_waiting = false;
    if (rdy_readiness_cancel(&lane->wait))
        lane->race->cancelled_quietly++;
    else
        lane->race->cancelled_late++;
    memset(&lane->wait, 0xff, sizeof(lane->wait)); /* the memory is ours again */
    taker_serve(lane);
}

static void taker_sleep(struct race *race, uint32_t seen)
{
    (void)rdy_a32_swap_seq_cst(&race->is_asleep, 1);
    if (rdy_a32_load_seq_cst(&race->news) == seen)
        rdy_sys_futex_wait(&race->news.v, seen);
    rdy_a32_store_relaxed(&race->is_asleep, 0);
    race->sleeps++;
}

static void *taker_run(void *arg)
{
    struct race *race = arg;
    uint64_t random = UINT64_C(0x2545f4914f6cdd1d);
    uint32_t idle = 0;

    stress_pin(false);
    for (uint32_t i = 0; i < LANES; i++)
        taker_serve(&race->lane[i]);
    while (race->taken < race->rounds) {
        uint32_t seen = rdy_a32_load_seq_cst(&race->news);

        if (taker_scan(race)) {
            idle = 0;
            continue;
        }
        if (race->way == WAY_CANCEL)
            taker_cancel(&race->lane[stress_random(&random) % LANES]);
        if (++idle < SCANS_IDLE) {
            rdy_sys_cpu_relax();
            continue;
        }
        taker_sleep(race, seen);
        idle = 0;
    }
    return NULL;
}

static void race_check(const struct race *race, const char *name)
{
    uint64_t wakers_run = 0;
    uint64_t stale = 0;
    uint64_t waiting = 0;

    for (uint32_t i = 0; i < LANES; i++) {
        const struct lane *lane = &race->lane[i];

        assert_int_equal(rdy_a64_load_relaxed(&lane->taken), rdy_a64_load_relaxed(&lane->produced));
        wakers_run += lane->wakers_run;
        stale += entry_stale_clears(&lane->entry);
        waiting += lane->is_waiting;
    }
    print_message("%s: %llu rounds, %llu wakers run, %llu waits begun, %llu woken, %llu at once, "
                  "%llu cancelled, %llu of these late, %llu stale clears, %llu sleeps\n",
                  name, (unsigned long long)race->taken, (unsigned long long)wakers_run,
                  (unsigned long long)race->begun, (unsigned long long)race->woken,
                  (unsigned long long)race->at_once,
                  (unsigned long long)(race->cancelled_quietly + race->cancelled_late),
                  (unsigned long long)race->cancelled_late, (unsigned long long)stale,
                  (unsigned long long)race->sleeps);
    assert_int_equal(race->taken, race->rounds);
    assert_true(wakers_run > 0);
    if (race->way == WAY_SLOT)
        return;
    assert_int_equal(race->begun, race->at_once + race->woken + race->cancelled_quietly +
                                      race->cancelled_late + waiting);
    /* A wait that still waits may have been woken by the last event, which was taken already. */
    assert_in_range(wakers_run, race->woken + race->cancelled_late,
                    race->woken + race->cancelled_late + waiting);
}

static void race_run(enum way way, uint64_t rounds, const char *name)
{
    static struct lane lane[LANES];
    struct race race = {.way = way, .rounds = rounds, .lane = lane};
    pthread_t setter;
    pthread_t taker;

    memset(lane, 0, sizeof(lane));
    for (uint32_t i = 0; i < LANES; i++) {
        entry_open(&lane[i].entry);
        lane[i].race = &race;
        lane[i].credit = 1 + i % 2;
    }
    stress_watch();
    assert_int_equal(pthread_create(&setter, NULL, setter_run, &race), 0);
    assert_int_equal(pthread_create(&taker, NULL, taker_run, &race), 0);
    assert_int_equal(pthread_join(taker, NULL), 0);
    assert_int_equal(pthread_join(setter, NULL), 0);
    race_check(&race, name);
}

static void no_wake_up_of_a_slot_is_lost(void **state)
{
    (void)state;
    race_run(WAY_SLOT, SLOT_ROUNDS, "slots");
}

static void no_wake_up_of_a_wait_is_lost_or_doubled(void **state)
{
    (void)state;
    race_run(WAY_WAIT, WAIT_ROUNDS, "waits");
}

static void wait_that_is_cancelled_while_it_is_woken_is_either_and_never_both(void **state)
{
    (void)state;
    race_run(WAY_CANCEL, WAIT_ROUNDS, "cancelled waits");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_wake_up_of_a_slot_is_lost),
        cmocka_unit_test(no_wake_up_of_a_wait_is_lost_or_doubled),
        cmocka_unit_test(wait_that_is_cancelled_while_it_is_woken_is_either_and_never_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
