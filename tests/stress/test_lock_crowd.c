/* SPDX-License-Identifier: MIT */
/*
 * Four threads at one lock, more than there may be processors: nobody is left asleep, nobody is
 * kept out for good, and the plain counter inside is exact.
 */
#include "engine/lock.h"
#include "tests/support/stress.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define THREADS 4
#define ROUNDS  STRESS_ROUNDS(1000000, 100000)

struct crowd {
    struct rdy_lock lock;
    uint64_t count;
    uint64_t turns[THREADS];
    uint64_t handovers;
    uint32_t last;
};

struct member {
    pthread_t thread;
    struct crowd *crowd;
    uint32_t name;
};

static void *member_run(void *arg)
{
    struct member *member = arg;
    struct crowd *crowd = member->crowd;

    for (int i = 0; i < ROUNDS; i++) {
        rdy_lock_acquire(&crowd->lock);
        crowd->count++;
        crowd->turns[member->name]++;
        crowd->handovers += crowd->last != member->name;
        crowd->last = member->name;
        rdy_lock_release(&crowd->lock);
    }
    return NULL;
}

static void four_threads_all_finish_and_the_count_is_exact(void **state)
{
    static struct crowd crowd;
    struct member member[THREADS];

    (void)state;
    stress_watch();
    for (uint32_t i = 0; i < THREADS; i++) {
        member[i] = (struct member){.crowd = &crowd, .name = i};
        assert_int_equal(pthread_create(&member[i].thread, NULL, member_run, &member[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(member[i].thread, NULL), 0);

    assert_int_equal(crowd.count, (uint64_t)THREADS * ROUNDS);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(crowd.turns[i], ROUNDS);
    assert_int_equal(rdy_a32_load_relaxed(&crowd.lock.state), 0);
    print_message("lock: %llu rounds, %llu handovers\n", (unsigned long long)crowd.count,
                  (unsigned long long)crowd.handovers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_threads_all_finish_and_the_count_is_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
