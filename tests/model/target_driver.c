/* SPDX-License-Identifier: MIT */
/*
 * A whole driver on the model's kernel: park and unpark, the inbox, registrations that come and go
 * while it turns, its end, and the move to another backend. Fiber 1 is the driver's thread.
 */
#include <stdlib.h>

#include "engine/driver.h"
#include "tests/model/kernel.h"
#include "tests/model/model.h"

#define FD KERNEL_FD

struct stage {
    struct rdy_driver *driver;
    struct rdy_registration reg;
    struct rdy_registration twin;
    struct rdy_readiness *wait;
    struct model_alarm alarm;
    struct rdy_a32 mail[2];
    struct rdy_a32 stop;
    uint32_t reads;
    int answer[2];
};

static struct stage *stage;

static bool has_bytes(const void *arg)
{
    (void)arg;
    return kernel_has_bytes(FD);
}

static bool always(const void *arg)
{
    (void)arg;
    return true;
}

static void set_up(const struct rdy_backend_ops *ops)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts), .events_max = 4, .entries_max = 8};
    int err = 0;
    void *item;

    kernel_reset();
    stage = calloc(1, sizeof(*stage));
    stage->alarm.is_due = has_bytes;
    stage->wait = calloc(1, sizeof(*stage->wait));
    model_require(rdy_driver_open_with(&stage->driver, &opts, ops) == 0);
    /* A chunk is mapped already: that it is, is another target's business. */
    item = rdy_slab_take(stage->driver->set.slab, &err);
    rdy_slab_give(stage->driver->set.slab, item);
    kernel_open_file(FD);
    kernel_open_file(FD + 1);
    model_name(stage->driver, sizeof(*stage->driver), "driver");
    model_name(&stage->driver->park, sizeof(stage->driver->park), "park");
    model_name(&stage->driver->inbox, sizeof(stage->driver->inbox), "inbox");
    model_name(item, sizeof(struct rdy_scheduled_io), "entry");
    model_name(stage, sizeof(*stage), "stage");
    model_name(stage->wait, sizeof(*stage->wait), "wait");
}

static void set_up_ring(void)
{
    set_up(&kernel_ring_ops);
}

static void set_up_epoll(void)
{
    set_up(&kernel_epoll_ops);
}

static void finish(void)
{
    rdy_driver_close(stage->driver);
    free(stage->wait);
    free(stage);
}

/* --- park and unpark ----------------------------------------------------------------------- */

static bool has_mail(const void *arg)
{
    (void)arg;
    return stage->mail[0].v != 0 || stage->mail[1].v != 0;
}

static void set_up_mail(void)
{
    set_up_ring();
    kernel->is_due = has_mail;
}

static void turn_until_mail(void)
{
    uint32_t seen = 0;

    while (seen != 3) {
        model_require(rdy_driver_turn(stage->driver, -1) == 0);
        for (uint32_t i = 0; i < 2; i++)
            seen |= rdy_a32_load_relaxed(&stage->mail[i]) << i;
    }
}

static void send_mail(uint32_t i)
{
    rdy_a32_store_relaxed(&stage->mail[i], 1);
    rdy_driver_unpark(stage->driver);
}

static void send_first(void)
{
    send_mail(0);
}

static void send_second(void)
{
    send_mail(1);
}

static const struct model_target park_unpark = {
    .name = "park_unpark",
    .claim = "whoever unparks after leaving something has it seen, however many do at once",
    .set_up = set_up_mail,
    .finish = finish,
    .fiber = {{"driver", turn_until_mail}, {"first", send_first}, {"second", send_second}},
    .stale_max = 1,
};

/* --- register, read, close while it turns -------------------------------------------------- */

static void turn_until_stopped(void)
{
    int rc = 0;

    while (rc >= 0 && rdy_a32_load_acquire(&stage->stop) == 0)
        rc = rdy_driver_turn(stage->driver, -1);
    model_require(rc >= 0);
    /* What was asked for before the stop. */
    model_require(rdy_driver_turn(stage->driver, 0) >= 0);
}

static void stop(void)
{
    rdy_a32_store_release(&stage->stop, 1);
    rdy_driver_unpark(stage->driver);
}

static void read_bytes(uint32_t count)
{
    struct rdy_waker waker = model_alarm_waker(&stage->alarm);

    while (stage->reads < count) {
        ssize_t rc = rdy_poll_io(&stage->reg, RDY_DIRECTION_READ, &waker, kernel_read, NULL);

        if (rc == RDY_PENDING)
            model_alarm_sleep(&stage->alarm);
        else if (rc == 1)
            stage->reads++;
        else
            model_fail("rdy_poll_io() said %zd", rc);
    }
}

static void register_and_read(void)
{
    model_require(rdy_register(stage->driver, FD, RDY_INTEREST_READ, &stage->reg) == 0);
    read_bytes(1);
    model_require(rdy_close(&stage->reg) == 0);
    stop();
}

static void send_byte(void)
{
    kernel_event(FD, RDY_EV_IN);
}

static void finish_closed(void)
{
    struct rdy_slab *slab = stage->driver->set.slab;

    model_require(stage->reads == 1);
    model_require(rdy_driver_turn(stage->driver, 0) >= 0);
    model_require(rdy_slab_live(slab) == 0);
    model_require(kernel_is_closed(FD));
    finish();
}

static const struct model_target register_ring = {
    .name = "register_vs_turn_ring",
    .claim = "a registration from elsewhere is armed, hears of its data, and is closed once",
    .set_up = set_up_ring,
    .finish = finish_closed,
    .fiber = {{"driver", turn_until_stopped}, {"user", register_and_read}, {"peer", send_byte}},
    .stale_max = 1,
    .preemptions = 3,
};

static const struct model_target register_epoll = {
    .name = "register_vs_turn_epoll",
    .claim = "the same where the user's thread arms and disarms by itself",
    .set_up = set_up_epoll,
    .finish = finish_closed,
    .fiber = {{"driver", turn_until_stopped}, {"user", register_and_read}, {"peer", send_byte}},
    .stale_max = 1,
    .preemptions = 3,
};

/* --- the inbox ----------------------------------------------------------------------------- */

static void set_up_registering(void)
{
    set_up_ring();
    kernel->is_due = always;
}

static void register_first(void)
{
    model_require(rdy_register(stage->driver, FD, RDY_INTEREST_READ, &stage->reg) == 0);
}

static void register_second(void)
{
    model_require(rdy_register(stage->driver, FD + 1, RDY_INTEREST_READ, &stage->twin) == 0);
}

/* Both files have data, so that an arm ends a wait; what is lost is waited for in vain. */
static void set_up_two_ready(void)
{
    set_up_registering();
    kernel_event(FD, RDY_EV_IN);
    kernel_event(FD + 1, RDY_EV_IN);
}

static void turn_until_watched(void)
{
    while (!kernel_is_watched(FD) || !kernel_is_watched(FD + 1))
        model_require(rdy_driver_turn(stage->driver, -1) >= 0);
}

static const struct model_target two_registers = {
    .name = "two_registers",
    .claim = "of two requests that meet at the inbox none is lost",
    .set_up = set_up_two_ready,
    .finish = finish,
    .fiber = {{"driver", turn_until_watched},
              {"first", register_first},
              {"second", register_second}},
    .preemptions = 3,
};

/* That it is woken for them is two_registers' business. */
static void turn_twice(void)
{
    for (int i = 0; i < 2; i++)
        model_require(rdy_driver_turn(stage->driver, 0) >= 0);
}

static void register_and_close(void)
{
    register_first();
    model_require(rdy_close(&stage->reg) == 0);
}

static void finish_one_left(void)
{
    model_require(rdy_driver_turn(stage->driver, 0) >= 0);
    model_require(rdy_driver_turn(stage->driver, 0) >= 0);
    model_require(kernel_is_closed(FD) && kernel_is_watched(FD + 1));
    model_require(rdy_slab_live(stage->driver->set.slab) == 1);
    finish();
}

static const struct model_target register_close = {
    .name = "register_close",
    .claim = "one that is closed before it was armed stands in the inbox once, and is given back",
    .set_up = set_up_registering,
    .finish = finish_one_left,
    .fiber = {{"driver", turn_twice}, {"first", register_and_close}, {"second", register_second}},
    .stale_max = 1,
    .preemptions = 3,
};

/* --- the kernel ends a poll ---------------------------------------------------------------- */

static void set_up_armed(void)
{
    set_up_ring();
    model_require(rdy_register(stage->driver, FD, RDY_INTEREST_READ, &stage->reg) == 0);
    model_require(rdy_driver_turn(stage->driver, 0) == 0);
}

static void read_and_stop(void)
{
    read_bytes(1);
    stop();
}

static void end_poll_then_send(void)
{
    kernel_end_poll(FD);
    kernel_event(FD, RDY_EV_IN);
}

static const struct model_target rearm = {
    .name = "rearm",
    .claim = "a poll that the kernel ended is armed again, and no data is lost over it",
    .set_up = set_up_armed,
    .finish = finish,
    .fiber = {{"driver", turn_until_stopped},
              {"user", read_and_stop},
              {"peer", end_poll_then_send}},
    .stale_max = 1,
    .preemptions = 3,
};

static void set_up_busy(void)
{
    set_up_ring();
    kernel->arm_busy = 1;
}

static const struct model_target arm_later = {
    .name = "arm_later",
    .claim = "an arm for which there was no room is made in a later turn, without being asked for",
    .set_up = set_up_busy,
    .finish = finish_closed,
    .fiber = {{"driver", turn_until_stopped}, {"user", register_and_read}, {"peer", send_byte}},
    .stale_max = 1,
    .preemptions = 3,
};

/* --- deregister ---------------------------------------------------------------------------- */

static void set_up_twin(void)
{
    set_up_armed();
    stage->twin = stage->reg;
}

static void close_one(void)
{
    stage->answer[0] = rdy_close(&stage->reg);
    stop();
}

static void close_twin(void)
{
    stage->answer[1] = rdy_close(&stage->twin);
}

static void finish_twin(void)
{
    model_require(rdy_driver_turn(stage->driver, 0) >= 0);
    model_require(rdy_driver_turn(stage->driver, 0) >= 0);
    model_require((stage->answer[0] == 0) + (stage->answer[1] == 0) == 1);
    model_require(kernel_is_closed(FD));
    model_require(rdy_slab_live(stage->driver->set.slab) == 0);
    finish();
}

static const struct model_target close_twice = {
    .name = "close_twice",
    .claim = "of two copies of a registration one closes, whatever the driver does meanwhile",
    .set_up = set_up_twin,
    .finish = finish_twin,
    .fiber = {{"driver", turn_until_stopped}, {"one", close_one}, {"twin", close_twin}},
    .stale_max = 1,
    .preemptions = 3,
};

/* A wait that is linked when the fibers begin. */
static void set_up_waiting(void)
{
    struct rdy_event event;
    struct rdy_waker waker;

    set_up_armed();
    waker = model_alarm_waker(&stage->alarm);
    stage->alarm.is_due = always;
    rdy_readiness_init(stage->wait, &stage->reg, RDY_INTEREST_READ);
    model_require(rdy_readiness_poll(stage->wait, &waker, &event) == RDY_PENDING);
}

static void deregister_and_poll(void)
{
    struct rdy_waker waker = model_alarm_waker(&stage->alarm);
    struct rdy_event event;

    model_require(rdy_deregister(&stage->reg) == 0);
    model_require(rdy_readiness_poll(stage->wait, &waker, &event) == -ECANCELED);
    stop();
}

/* Gives the entry back, and its slot to another registration, as soon as it can. */
static void turn_and_register(void)
{
    bool is_reused = false;

    while (rdy_a32_load_acquire(&stage->stop) == 0) {
        model_require(rdy_driver_turn(stage->driver, -1) >= 0);
        if (!is_reused && rdy_slab_live(stage->driver->set.slab) == 0) {
            register_second();
            is_reused = true;
        }
    }
}

static const struct model_target deregister_wait = {
    .name = "deregister_vs_wait",
    .claim = "a wait that was woken before its registration went away answers -ECANCELED",
    .set_up = set_up_waiting,
    .finish = finish,
    .fiber = {{"driver", turn_and_register}, {"user", deregister_and_poll}, {"peer", send_byte}},
    .preemptions = 3,
};

static void set_up_not_waiting(void)
{
    set_up_armed();
    stage->alarm.is_due = always;
    rdy_readiness_init(stage->wait, &stage->reg, RDY_INTEREST_READ);
}

static const struct model_target deregister_new_wait = {
    .name = "deregister_vs_new_wait",
    .claim = "one that had not begun as well, and is linked into nobody's list",
    .set_up = set_up_not_waiting,
    .finish = finish,
    .fiber = {{"driver", turn_and_register}, {"user", deregister_and_poll}},
    .stale_max = 1,
    .preemptions = 4,
};

/* --- the end ------------------------------------------------------------------------------- */

static void turn_and_shut_down(void)
{
    int rc = rdy_driver_turn(stage->driver, 0);

    model_require(rc >= 0);
    model_require(rdy_driver_shutdown(stage->driver) == 0);
}

static void register_or_fail(void)
{
    struct rdy_waker waker = model_alarm_waker(&stage->alarm);
    struct rdy_event event;
    int rc = rdy_register(stage->driver, FD, RDY_INTEREST_READ, &stage->reg);

    model_require(rc == 0 || rc == -ESHUTDOWN);
    if (rc < 0)
        return;
    stage->alarm.is_due = always;
    while ((rc = rdy_poll_readiness(&stage->reg, RDY_DIRECTION_READ, &waker, &event)) ==
           RDY_PENDING)
        model_alarm_sleep(&stage->alarm);
    model_require(rc == -ESHUTDOWN);
    model_require(rdy_deregister(&stage->reg) == 0);
}

static const struct model_target shutdown_register_ring = {
    .name = "shutdown_vs_register_ring",
    .claim = "a registration that meets the end fails or is woken, and nothing is left over",
    .set_up = set_up_ring,
    .finish = finish,
    .fiber = {{"driver", turn_and_shut_down}, {"user", register_or_fail}},
    .stale_max = 1,
    .preemptions = 3,
};

static const struct model_target shutdown_register_epoll = {
    .name = "shutdown_vs_register_epoll",
    .claim = "the same where the user's thread arms by itself",
    .set_up = set_up_epoll,
    .finish = finish,
    .fiber = {{"driver", turn_and_shut_down}, {"user", register_or_fail}},
    .stale_max = 1,
    .preemptions = 3,
};

static void wait_for_end(void)
{
    struct rdy_waker waker = model_alarm_waker(&stage->alarm);
    struct rdy_event event;
    int rc;

    while ((rc = rdy_readiness_poll(stage->wait, &waker, &event)) == RDY_PENDING)
        model_alarm_sleep(&stage->alarm);
    model_require(rc == -ESHUTDOWN || rc == 0);
}

static void unpark_once(void)
{
    rdy_driver_unpark(stage->driver);
    kernel_event(FD, RDY_EV_IN);
}

static const struct model_target shutdown_all = {
    .name = "shutdown_vs_everything",
    .claim = "the end wakes who waits, amid events and unparks",
    .set_up = set_up_waiting,
    .finish = finish,
    .fiber = {{"driver", turn_and_shut_down}, {"waiter", wait_for_end}, {"peer", unpark_once}},
    .stale_max = 1,
    .preemptions = 3,
};

/* --- a backend that dies ------------------------------------------------------------------- */

static void set_up_dying(void)
{
    set_up_armed();
    stage->driver->may_move = true;
    kernel->backend[0].wait_error = -EIO;
    kernel->is_due = has_mail;
}

static void turn_over_a_move(void)
{
    uint32_t seen = 0;

    while (seen != 3) {
        model_require(rdy_driver_turn(stage->driver, -1) >= 0);
        for (uint32_t i = 0; i < 2; i++)
            seen |= rdy_a32_load_relaxed(&stage->mail[i]) << i;
    }
}

static const struct model_target move_unpark = {
    .name = "move_vs_unpark",
    .claim = "a backend that is left is not closed under who wakes it, and no wake goes with it",
    .set_up = set_up_dying,
    .finish = finish,
    .fiber = {{"driver", turn_over_a_move}, {"first", send_first}, {"second", send_second}},
    .stale_max = 1,
    .preemptions = 3,
};

static void set_up_dying_alone(void)
{
    set_up_dying();
    kernel->is_due = always;
}

static void turn_over_a_move_twice(void)
{
    for (int i = 0; i < 2; i++)
        model_require(rdy_driver_turn(stage->driver, 0) >= 0);
}

static void deregister(void)
{
    model_require(rdy_deregister(&stage->reg) == 0);
}

static void finish_unwatched(void)
{
    model_require(rdy_driver_turn(stage->driver, 0) >= 0);
    model_require(rdy_slab_live(stage->driver->set.slab) == 0);
    model_require(!kernel_is_watched(FD));
    finish();
}

static const struct model_target move_deregister = {
    .name = "move_vs_deregister",
    .claim = "who deregisters while a lost ring is left is not watched afterwards",
    .set_up = set_up_dying_alone,
    .finish = finish_unwatched,
    .fiber = {{"driver", turn_over_a_move_twice}, {"user", deregister}},
    .stale_max = 1,
    .preemptions = 3,
};

const struct model_target *const model_driver_targets[] = {
    &park_unpark,
    &two_registers,
    &register_close,
    &register_ring,
    &register_epoll,
    &rearm,
    &arm_later,
    &close_twice,
    &deregister_wait,
    &deregister_new_wait,
    &shutdown_register_ring,
    &shutdown_all,
    &shutdown_register_epoll,
    &move_unpark,
    &move_deregister,
    NULL,
};
