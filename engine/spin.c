/* SPDX-License-Identifier: MIT */
/*
 * The spin before a sleep: what decides it, and the loop. The driver's thread.
 *
 * While it spins the driver is AWAKE, not PARKED. So an unpark makes no system call; it leaves
 * NOTIFIED, which the loop looks for. Nothing is lost between the last look and the sleep, for the
 * sleep begins with the same handshake as without a spin (driver.c): NOTIFIED refuses it.
 */
#include "engine/spin.h"
#include "engine/lane.h"

#include "engine/driver.h"
#include "engine/sys.h"

void rdy_spin_init(struct rdy_spin *spin, uint64_t max_ns)
{
    *spin = (struct rdy_spin){.max_ns = max_ns, .credit = max_ns > 0 ? RDY_SPIN_CREDIT_MAX : 0};
}

uint64_t rdy_spin_window_ns(const struct rdy_spin *spin, int64_t timeout_ns)
{
    if (spin->credit == 0)
        return 0;
    if (timeout_ns >= 0 && (uint64_t)timeout_ns < spin->max_ns)
        return (uint64_t)timeout_ns;
    return spin->max_ns;
}

void rdy_spin_paid(struct rdy_spin *spin)
{
    rdy_assert(spin->credit > 0);
    spin->credit += RDY_SPIN_GAIN;
    if (spin->credit > RDY_SPIN_CREDIT_MAX)
        spin->credit = RDY_SPIN_CREDIT_MAX;
    spin->backoff = 0;
}

void rdy_spin_failed(struct rdy_spin *spin)
{
    rdy_assert(spin->credit > 0);
    if (--spin->credit > 0)
        return;
    spin->backoff = spin->backoff > 0 ? spin->backoff * 2 : 1;
    if (spin->backoff > RDY_SPIN_SKIPS_MAX)
        spin->backoff = RDY_SPIN_SKIPS_MAX;
    spin->skips = spin->backoff;
}

void rdy_spin_slept(struct rdy_spin *spin, uint64_t slept_ns)
{
    rdy_assert(spin->credit == 0);
    if (slept_ns > spin->max_ns * RDY_SPIN_SLEEP_FACTOR)
        return;
    if (spin->skips > 0)
        spin->skips--;
    else
        spin->credit = spin->max_ns > 0 ? 1 : 0;
}

/* A wait that does not block, unless the backend can tell that it would find nothing. */
static int look(struct rdy_driver *driver)
{
    struct rdy_backend *backend = rdy_driver_backend(driver);
    int rc;

    if (backend->ops->has_news && !backend->ops->has_news(backend))
        return 0;
    rc = backend->ops->wait(backend, 0, driver->facts, driver->events_max);
    if (rc == 0 && driver->completion)
        rdy_completion_submitted(driver->completion);
    return rc;
}

/* One spin: what the looks came to, and how long it took. */
struct spin_run {
    int rc;
    uint64_t looks;
    uint64_t spent_ns;
    bool is_woken;
};

static void spin_run(struct rdy_driver *driver, uint64_t window_ns, struct spin_run *run)
{
    uint64_t begin_ns = rdy_sys_now_ns();

    *run = (struct spin_run){.rc = 0};
    for (;;) {
        run->rc = look(driver);
        /* Relaxed: who ends the turn, or begins the sleep, swaps this word, and sees the rest. */
        run->is_woken = rdy_a32_load_relaxed(&driver->park) == RDY_PARK_NOTIFIED;
        run->looks++;
        if (run->rc != 0 || run->is_woken || run->spent_ns >= window_ns)
            return;
        rdy_sys_cpu_relax();
        run->spent_ns = rdy_sys_now_ns() - begin_ns;
    }
}

/* What was there in the first look would have been there without a spin: it teaches nothing. */
static void spin_learn(struct rdy_driver *driver, const struct spin_run *run, bool has_paid)
{
    if (run->looks == 1 && has_paid)
        return;
    rdy_a64_bump(&driver->count.spins, 1);
    rdy_a64_bump(&driver->count.spin_ns, run->spent_ns);
    if (has_paid) {
        rdy_a64_bump(&driver->count.spin_hits, 1);
        rdy_spin_paid(&driver->spin);
    } else {
        rdy_spin_failed(&driver->spin);
    }
}

int rdy_driver_spin(struct rdy_driver *driver, int64_t *left_ns)
{
    uint64_t window_ns = rdy_spin_window_ns(&driver->spin, *left_ns);
    struct spin_run run;
    bool is_due;

    rdy_assert(!driver->is_embedded && rdy_spin_is_on(&driver->spin) && window_ns > 0);
    spin_run(driver, window_ns, &run);
    is_due = *left_ns > 0 && run.spent_ns >= (uint64_t)*left_ns;
    spin_learn(driver, &run, run.rc > 0 || run.is_woken || is_due);
    if (rdy_unlikely(driver->is_timed))
        rdy_driver_count_busy(driver, false);
    if (run.rc != 0 || run.is_woken || is_due)
        *left_ns = 0;
    else if (*left_ns > 0)
        *left_ns -= (int64_t)run.spent_ns;
    return run.rc;
}
