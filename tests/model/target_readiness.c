/* SPDX-License-Identifier: MIT */
/*
 * One entry, without a driver around it: set, clear, poll, wait, cancel, end.
 *
 * The file behind the entry is a count of bytes that the code under test cannot see: whoever plays
 * the driver adds to it before the event, whoever reads takes from it or is told EAGAIN. Neither
 * orders any memory.
 */
#include <stdlib.h>

#include "engine/driver.h"
#include "tests/model/model.h"

struct stage {
    struct rdy_driver *driver;
    struct rdy_scheduled_io *io;
    struct rdy_registration reg;
    uint32_t bytes; /* in the file */
    uint32_t taken;
    uint32_t written;
    struct model_alarm alarm[2];
    struct rdy_readiness *wait[2];
};

static struct stage *stage;

static bool has_bytes(const void *arg)
{
    (void)arg;
    return stage->bytes > 0;
}

static void set_up(void)
{
    stage = calloc(1, sizeof(*stage));
    stage->driver = calloc(1, sizeof(*stage->driver));
    if (posix_memalign((void **)&stage->io, RDY_CACHE_LINE, sizeof(*stage->io)) != 0)
        model_fail("no memory");
    memset(stage->io, 0, sizeof(*stage->io));
    stage->io->head.generation.v = 1;
    rdy_scheduled_io_init(stage->io, stage->driver, 100);
    stage->reg = (struct rdy_registration){.driver = stage->driver, .io = stage->io};
    stage->alarm[0].is_due = has_bytes;
    stage->alarm[1].is_due = has_bytes;
    for (uint32_t i = 0; i < 2; i++) {
        stage->wait[i] = calloc(1, sizeof(*stage->wait[i]));
        model_name(stage->wait[i], sizeof(*stage->wait[i]), i == 0 ? "wait0" : "wait1");
    }
    model_name(&stage->io->word, sizeof(stage->io->word), "word");
    model_name(&stage->io->waitq.lock, sizeof(stage->io->waitq.lock), "lock");
    model_name(&stage->alarm[0], sizeof(stage->alarm[0]), "alarm0");
    model_name(&stage->alarm[1], sizeof(stage->alarm[1]), "alarm1");
    model_name(&stage->bytes, sizeof(stage->bytes), "bytes");
}

static void finish(void)
{
    model_require(stage->io->waitq.lock.state.v == 0);
    model_require(stage->io->waitq.waiters.next == &stage->io->waitq.waiters);
    free(stage->wait[0]);
    free(stage->wait[1]);
    free(stage->io);
    free(stage->driver);
    free(stage);
}

/* The driver's part of one event. */
static void arrive(uint32_t bytes, uint32_t ready)
{
    model_touch(&stage->bytes, "bytes arrive");
    model_unwatched_add(&stage->bytes, bytes);
    (void)rdy_scheduled_io_set(stage->io, ready);
    (void)rdy_scheduled_io_wake(stage->io, ready);
}

static void arrive_once(void)
{
    arrive(1, RDY_READABLE);
}

static void arrive_twice(void)
{
    arrive(1, RDY_READABLE);
    arrive(1, RDY_READABLE);
}

/* The file's read(2): a byte, or EAGAIN. */
static ssize_t take(int fd, void *arg)
{
    (void)fd;
    (void)arg;
    model_touch(&stage->bytes, "read");
    return model_unwatched_take(&stage->bytes) ? 1 : -EAGAIN;
}

static void poll_until(uint32_t count, struct model_alarm *alarm)
{
    struct rdy_waker waker = model_alarm_waker(alarm);

    while (count > 0) {
        ssize_t rc = rdy_poll_io(&stage->reg, RDY_DIRECTION_READ, &waker, take, NULL);

        if (rc == RDY_PENDING) {
            alarm->asked++;
            model_alarm_sleep(alarm);
        } else if (rc == 1) {
            count--;
        } else {
            model_fail("rdy_poll_io() said %zd", rc);
        }
    }
}

/* --- set, clear, poll ---------------------------------------------------------------------- */

/* A slot's waker runs once for each answer that said "not yet". */
static void finish_once(void)
{
    const struct model_alarm *alarm = &stage->alarm[0];

    model_require(alarm->total + alarm->rings.v <= alarm->asked);
    finish();
}

static void read_one(void)
{
    poll_until(1, &stage->alarm[0]);
}

static void read_two(void)
{
    poll_until(2, &stage->alarm[0]);
}

static const struct model_target set_clear_poll = {
    .name = "set_clear_poll",
    .claim = "a clear takes no event away that came since; a reader in the slot is woken once",
    .set_up = set_up,
    .finish = finish_once,
    .fiber = {{"driver", arrive_twice}, {"reader", read_two}},
    .stale_max = 2,
};

static void arrive_with_message(void)
{
    stage->written = 1;
    arrive(1, RDY_READABLE);
}

static void read_message(void)
{
    struct rdy_waker waker = model_alarm_waker(&stage->alarm[0]);
    struct rdy_event event;

    while (rdy_poll_readiness(&stage->reg, RDY_DIRECTION_READ, &waker, &event) == RDY_PENDING)
        model_alarm_sleep(&stage->alarm[0]);
    model_require(stage->written == 1);
}

static const struct model_target set_publishes = {
    .name = "set_publishes",
    .claim = "who sees an event sees what was written before it",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"driver", arrive_with_message}, {"reader", read_message}},
    .stale_max = 2,
};

/* Another thread refutes the same event, and assumes what the driver has not said. */
static void clear_what_is_seen(void)
{
    struct rdy_event event = rdy_ready_event(&stage->reg, RDY_INTEREST_READ);

    if (rdy_event_ready(event) == 0)
        return;
    model_touch(&stage->bytes, "look");
    if (!has_bytes(NULL))
        rdy_clear_readiness(&stage->reg, event);
}

static const struct model_target two_clears = {
    .name = "two_clears",
    .claim = "a second clear of the same event does no harm, however late",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"driver", arrive_once}, {"reader", read_one}, {"other", clear_what_is_seen}},
    .stale_max = 1,
};

/* --- a waker that comes back ------------------------------------------------------------------ */

static void poll_other_side(void *arg, uint64_t data)
{
    struct rdy_waker ring = model_alarm_waker(&stage->alarm[0]);
    struct rdy_waker quiet = model_alarm_waker(&stage->alarm[1]);
    struct rdy_event event;

    (void)arg;
    (void)data;
    model_require(rdy_poll_readiness(&stage->reg, RDY_DIRECTION_WRITE, &quiet, &event) ==
                  RDY_PENDING);
    rdy_waker_wake(&ring);
}

static void read_reentering(void)
{
    struct rdy_waker waker = {.fn = poll_other_side};
    struct rdy_event event;

    if (rdy_poll_readiness(&stage->reg, RDY_DIRECTION_READ, &waker, &event) == RDY_PENDING)
        model_alarm_sleep(&stage->alarm[0]);
}

static void wait_reentering(void)
{
    struct rdy_waker waker = {.fn = poll_other_side};
    struct rdy_event event;

    rdy_readiness_init(stage->wait[0], &stage->reg, RDY_INTEREST_READ);
    if (rdy_readiness_poll(stage->wait[0], &waker, &event) == RDY_PENDING)
        model_alarm_sleep(&stage->alarm[0]);
}

static const struct model_target wake_reenters = {
    .name = "wake_reenters",
    .claim = "a waker may use the entry that it is told of",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"driver", arrive_once}, {"reader", read_reentering}},
    .stale_max = 1,
};

static const struct model_target wake_reenters_wait = {
    .name = "wake_reenters_wait",
    .claim = "so may one that was linked",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"driver", arrive_once}, {"waiter", wait_reentering}},
    .stale_max = 1,
};

/* --- two pollers --------------------------------------------------------------------------- */

static void write_one(void)
{
    struct rdy_waker waker = model_alarm_waker(&stage->alarm[1]);
    struct rdy_event event;

    while (rdy_poll_readiness(&stage->reg, RDY_DIRECTION_WRITE, &waker, &event) == RDY_PENDING)
        model_alarm_sleep(&stage->alarm[1]);
    model_require(rdy_event_ready(event) == RDY_WRITABLE);
}

static void arrive_both(void)
{
    arrive(1, RDY_READABLE);
    arrive(0, RDY_WRITABLE);
}

static const struct model_target two_pollers = {
    .name = "two_pollers",
    .claim = "reader and writer in their slots are each woken, and neither for the other",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"driver", arrive_both}, {"reader", read_one}, {"writer", write_one}},
    .stale_max = 1,
};

/* --- waits --------------------------------------------------------------------------------- */

static void wait_one(uint32_t i)
{
    struct rdy_readiness *wait = stage->wait[i];
    struct rdy_waker waker = model_alarm_waker(&stage->alarm[i]);
    struct rdy_event event;
    int rc;

    rdy_readiness_init(wait, &stage->reg, RDY_INTEREST_READ);
    while ((rc = rdy_readiness_poll(wait, &waker, &event)) == RDY_PENDING)
        model_alarm_sleep(&stage->alarm[i]);
    model_require(rc == 0);
    model_require(rdy_event_ready(event) == RDY_READABLE);
    /* Done: the memory is the caller's. */
    free(wait);
    stage->wait[i] = NULL;
}

static void wait_first(void)
{
    wait_one(0);
}

static void wait_second(void)
{
    wait_one(1);
}

static const struct model_target two_waits = {
    .name = "two_waits",
    .claim = "both who wait for the same are woken once, and not touched afterwards",
    .set_up = set_up,
    .finish = finish,
    .fiber = {{"driver", arrive_once}, {"first", wait_first}, {"second", wait_second}},
    .stale_max = 1,
};

/* The wait is given up and its memory is freed at once, at any point of the wake. */
static void wait_and_cancel(void)
{
    struct rdy_readiness *wait = stage->wait[0];
    struct rdy_waker waker = model_alarm_waker(&stage->alarm[0]);
    struct rdy_event event;
    int rc;

    rdy_readiness_init(wait, &stage->reg, RDY_INTEREST_READ);
    rc = rdy_readiness_poll(wait, &waker, &event);
    if (rc == RDY_PENDING) {
        bool is_quiet = rdy_readiness_cancel(wait);

        model_require(!is_quiet || model_alarm_is_silent(&stage->alarm[0]));
        stage->taken = is_quiet ? 1 : 2;
    }
    free(wait);
    stage->wait[0] = NULL;
}

static void finish_cancel(void)
{
    uint32_t rings = stage->alarm[0].rings.v;

    /* Never begun, or quiet: no ring. Told that one is on its way: one, neither more nor less. */
    model_require(rings == (stage->taken == 2 ? 1 : 0));
    finish();
}

static const struct model_target wake_cancel = {
    .name = "wake_cancel_drop",
    .claim = "a wait that was given up is not touched any more, and its waker's fate is known",
    .set_up = set_up,
    .finish = finish_cancel,
    .fiber = {{"driver", arrive_twice}, {"waiter", wait_and_cancel}},
    .stale_max = 2,
};

static const struct model_target wake_cancel_crowd = {
    .name = "wake_cancel_crowd",
    .claim = "the same, while another waits on, in a wake list of the smallest size",
    .set_up = set_up,
    .finish = finish_cancel,
    .fiber = {{"driver", arrive_once}, {"waiter", wait_and_cancel}, {"second", wait_second}},
    .stale_max = 1,
};

/* Another waker at each poll: of the two only the last counts. */
static void wait_and_replace(void)
{
    struct rdy_readiness *wait = stage->wait[0];
    struct rdy_waker old = model_alarm_waker(&stage->alarm[1]);
    struct rdy_waker new = model_alarm_waker(&stage->alarm[0]);
    struct rdy_event event;
    int rc;

    rdy_readiness_init(wait, &stage->reg, RDY_INTEREST_READ);
    rc = rdy_readiness_poll(wait, &old, &event);
    while (rc == RDY_PENDING) {
        rc = rdy_readiness_poll(wait, &new, &event);
        if (rc == RDY_PENDING)
            model_alarm_sleep(&stage->alarm[0]);
    }
    model_require(rc == 0);
}

static void finish_replace(void)
{
    model_require(stage->alarm[0].rings.v + stage->alarm[0].total + stage->alarm[1].rings.v <= 1);
    finish();
}

static const struct model_target replace_waker = {
    .name = "replace_waker",
    .claim = "of two wakers of one wait one runs at most, the last if it was kept in time",
    .set_up = set_up,
    .finish = finish_replace,
    .fiber = {{"driver", arrive_once}, {"waiter", wait_and_replace}},
    .stale_max = 2,
};

/* --- the end ------------------------------------------------------------------------------- */

static void end_it(void)
{
    rdy_scheduled_io_end(stage->io, -ECANCELED);
    (void)rdy_scheduled_io_wake(stage->io, RDY_READY_ALL);
}

static bool is_ended(const void *arg)
{
    (void)arg;
    return true;
}

static void set_up_end(void)
{
    set_up();
    stage->alarm[0].is_due = is_ended;
    stage->alarm[1].is_due = is_ended;
}

static void poll_until_end(void)
{
    struct rdy_waker waker = model_alarm_waker(&stage->alarm[0]);
    struct rdy_event event;
    int rc;

    while ((rc = rdy_poll_readiness(&stage->reg, RDY_DIRECTION_READ, &waker, &event)) ==
           RDY_PENDING)
        model_alarm_sleep(&stage->alarm[0]);
    model_require(rc == -ECANCELED || rdy_event_ready(event) == RDY_READABLE);
}

static void wait_until_end(void)
{
    struct rdy_readiness *wait = stage->wait[1];
    struct rdy_waker waker = model_alarm_waker(&stage->alarm[1]);
    struct rdy_event event;
    int rc;

    rdy_readiness_init(wait, &stage->reg, RDY_INTEREST_READ);
    while ((rc = rdy_readiness_poll(wait, &waker, &event)) == RDY_PENDING)
        model_alarm_sleep(&stage->alarm[1]);
    model_require(rc == -ECANCELED || rc == 0);
}

static const struct model_target end_poll = {
    .name = "end_vs_waiters",
    .claim = "whoever waits when the entry ends is woken and gets its error",
    .set_up = set_up_end,
    .finish = finish,
    .fiber = {{"ender", end_it}, {"poller", poll_until_end}, {"waiter", wait_until_end}},
    .stale_max = 1,
};

static const struct model_target end_set = {
    .name = "end_vs_set",
    .claim = "an event that meets the end neither undoes it nor is left unheard",
    .set_up = set_up_end,
    .finish = finish,
    .fiber = {{"ender", end_it}, {"driver", arrive_once}, {"poller", poll_until_end}},
    .stale_max = 1,
};

static struct rdy_event seen_event;

static void set_up_seen(void)
{
    set_up_end();
    (void)rdy_scheduled_io_set(stage->io, RDY_READABLE);
    seen_event = rdy_ready_event(&stage->reg, RDY_INTEREST_READ);
}

static void clear_and_poll(void)
{
    rdy_clear_readiness(&stage->reg, seen_event);
    poll_until_end();
}

static const struct model_target end_clear = {
    .name = "end_vs_clear",
    .claim = "a clear does not take the end away",
    .set_up = set_up_seen,
    .finish = finish,
    .fiber = {{"ender", end_it}, {"reader", clear_and_poll}},
    .stale_max = 2,
};

const struct model_target *const model_readiness_targets[] = {
    &set_clear_poll, &set_publishes, &two_clears,    &wake_reenters, &wake_reenters_wait,
    &two_pollers,    &two_waits,     &wake_cancel,   &end_poll,      &wake_cancel_crowd,
    &end_clear,      &end_set,       &replace_waker, NULL,
};
