/* SPDX-License-Identifier: MIT */
/*
 * Everything at once, from many threads: register, write, wait, cancel, clear, deregister, close,
 * while the driver turns. Each thread owns its descriptors and does what the next number of its
 * seeded generator says; the driver's thread only turns.
 *
 * What must hold: a written eventfd that is being waited for is seen (a lost wake-up leaves its
 * thread waiting until the deadline says so); no slot, no descriptor is left over at the end.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "engine/driver.h"
#include "tests/support/stage.h"
#include "tests/support/stress.h"

#define OPERATIONS STRESS_ROUNDS(200000, 10000)
#define THREADS    3
#define FILES      16
#define DEADLINE_S 60
#define SEED       UINT64_C(0x9e3779b97f4a7c15)

struct file {
    int fd; /* -1: none */
    bool is_registered;
    struct rdy_registration reg;
};

struct worker {
    struct rdy_driver *driver;
    pthread_t thread;
    uint64_t random;
    struct file file[FILES];
    uint32_t waits;     /* that ended with the event */
    uint32_t lost;      /* that did not */
    uint32_t unwelcome; /* answers that no call may give */
};

struct crew {
    struct worker worker[THREADS];
    struct rdy_a32 working;
};

static uint64_t next_random(struct worker *worker)
{
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return worker->random;
}

static void expect(struct worker *worker, bool is_so)
{
    worker->unwelcome += is_so ? 0 : 1;
}

static void join(struct worker *worker, struct file *file)
{
    if (file->fd < 0)
        file->fd = event_fd();
    expect(worker, rdy_register(worker->driver, file->fd, RDY_INTEREST_READ, &file->reg) == 0);
    file->is_registered = true;
}

/* Waits for an event that was promised, until it comes or the deadline shows that it never will. */
static void wait_for_event(struct worker *worker, struct rdy_readiness *wait,
                           const struct bell *bell, const struct rdy_waker *waker)
{
    uint64_t deadline_ns = rdy_sys_now_ns() + DEADLINE_S * (uint64_t)RDY_NS_PER_S;
    struct rdy_event event;

    while (bell_rings(bell) == 0) {
        if (rdy_sys_now_ns() > deadline_ns) {
            worker->lost++;
            (void)rdy_readiness_cancel(wait);
            return;
        }
        sched_yield();
    }
    expect(worker, rdy_readiness_poll(wait, waker, &event) == 0);
    worker->waits++;
}

/* One file written while somebody waits: the wait must end. */
static void write_and_wait(struct worker *worker, struct file *file)
{
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_readiness wait;
    struct rdy_event event;
    int rc;

    rdy_readiness_init(&wait, &file->reg, RDY_INTEREST_READ);
    rc = rdy_readiness_poll(&wait, &waker, &event);
    expect(worker, rc == 0 || rc == RDY_PENDING);
    event_write(file->fd);
    if (rc == RDY_PENDING)
        wait_for_event(worker, &wait, &bell, &waker);
}

/* Reads it empty, then clears with the event from before the read: the rule that loses nothing. */
static void read_and_clear(struct file *file)
{
    struct rdy_event event = rdy_ready_event(&file->reg, RDY_INTEREST_READ);

    while (event_read(file->fd))
        ;
    rdy_clear_readiness(&file->reg, event);
}

static void wait_and_cancel(struct worker *worker, struct file *file)
{
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_readiness wait;
    struct rdy_event event;

    rdy_readiness_init(&wait, &file->reg, RDY_INTEREST_READ);
    if (rdy_readiness_poll(&wait, &waker, &event) != RDY_PENDING)
        return;
    event_write(file->fd);
    if (rdy_readiness_cancel(&wait))
        return;
    /* It was woken already: the waker runs, or has run, and wants its bell until then. */
    while (bell_rings(&bell) == 0)
        sched_yield();
    expect(worker, bell_rings(&bell) == 1);
}

static void leave(struct worker *worker, struct file *file, bool is_close)
{
    struct rdy_registration alias = file->reg;

    if (is_close) {
        expect(worker, rdy_close(&file->reg) == 0);
        file->fd = -1;
    } else {
        expect(worker, rdy_deregister(&file->reg) == 0);
    }
    expect(worker, rdy_deregister(&alias) == -EBADF);
    file->is_registered = false;
}

static void operate(struct worker *worker)
{
    uint64_t random = next_random(worker);
    struct file *file = &worker->file[random % FILES];

    if (!file->is_registered) {
        join(worker, file);
        return;
    }
    switch ((random >> 8) % 8) {
    case 0:
    case 1:
        write_and_wait(worker, file);
        break;
    case 2:
    case 3:
        read_and_clear(file);
        break;
    case 4:
        wait_and_cancel(worker, file);
        break;
    case 5:
        leave(worker, file, false);
        break;
    case 6:
        leave(worker, file, true);
        break;
    default:
        event_write(file->fd);
        break;
    }
}

static void *work(void *arg)
{
    struct worker *worker = arg;

    for (uint32_t i = 0; i < OPERATIONS; i++)
        operate(worker);
    for (int i = 0; i < FILES; i++) {
        if (worker->file[i].is_registered)
            leave(worker, &worker->file[i], true);
        else if (worker->file[i].fd >= 0)
            close(worker->file[i].fd);
    }
    return NULL;
}

static struct crew crew;

static void *work_and_report(void *arg)
{
    void *result = work(arg);

    (void)__atomic_fetch_sub(&crew.working.v, 1, __ATOMIC_ACQ_REL);
    rdy_driver_unpark(((struct worker *)arg)->driver);
    return result;
}

static void threads_on_files_of_their_own_lose_nothing(struct stage *stage)
{
    memset(&crew, 0, sizeof(crew));
    crew.working.v = THREADS;
    for (uint32_t i = 0; i < THREADS; i++) {
        struct worker *worker = &crew.worker[i];

        worker->driver = stage->driver;
        worker->random = SEED + i;
        for (int j = 0; j < FILES; j++)
            worker->file[j].fd = -1;
        check(pthread_create(&worker->thread, NULL, work_and_report, worker) == 0);
    }
    while (rdy_a32_load_acquire(&crew.working) > 0)
        (void)stage_turn(stage, RDY_NS_PER_S);
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(crew.worker[i].thread, NULL);

    for (uint32_t i = 0; i < THREADS; i++) {
        assert_int_equal(crew.worker[i].lost, 0);
        assert_int_equal(crew.worker[i].unwelcome, 0);
        check(crew.worker[i].waits > 0);
    }
    stage_empty(stage);
    assert_int_equal(stage_stats(stage).registered, stage_stats(stage).deregistered);
}

int main(void)
{
    static const struct scenario rows[] = {
        SCENARIO(threads_on_files_of_their_own_lose_nothing, ON_KERNEL),
    };

    return scenarios_run("registration_races", rows, sizeof(rows) / sizeof(rows[0]));
}
