/* SPDX-License-Identifier: MIT */
/*
 * A server that stands on registrations, as a program with a loop of its own would: it waits for
 * readiness in every way there is, holds an event over several turns before it clears with it,
 * gives waits up, and registers anew while the kernel still lets go of the old watch.
 */
#include "engine/sys.h"
#include "tests/sim/kernel.h"
#include "tests/sim/programs.h"

#define GIVE_UP_MAX (2 * SIM_MS)

struct guard {
    struct rdy_co co;
    struct rdy_registration reg;
    struct rdy_event event;
    struct rdy_readiness wait;
    struct rdy_timer timer;
    struct rdy_shutdown_wait until;
    uint64_t give_up_ns;
    int fd;
    int rc;
    bool is_listening;
    bool is_in_slot; /* waits in the poll slot, else in a list */
    bool is_over;
    uint32_t turns;
    ssize_t got;
    size_t done;
    size_t room;
    unsigned char bytes[1024];
};

static int guard_spawn(int fd, bool is_listening);

static void guard_end(struct guard *my, int rc)
{
    my->is_over = true;
    if (rc < 0 && !my->is_listening)
        sim_excuse(my->fd, rc);
}

/* Waits for data, in one of two ways; the event is kept. */
static int wait_for_data(struct guard *my, struct rdy_task *task)
{
    struct rdy_waker waker = rdy_task_waker(task);

    if (my->is_in_slot)
        return rdy_poll_readiness(&my->reg, RDY_DIRECTION_READ, &waker, &my->event);
    if (!my->wait.io)
        rdy_readiness_init(&my->wait, &my->reg, RDY_INTEREST_READ);
    return rdy_readiness_poll(&my->wait, &waker, &my->event);
}

static void wait_end(struct guard *my)
{
    if (my->wait.io)
        (void)rdy_readiness_cancel(&my->wait);
    my->wait = (struct rdy_readiness){0};
}

/* A wait that is given up now and then, and begun anew: -ETIMEDOUT. */
static int wait_a_while(struct guard *my, struct rdy_task *task)
{
    return RDY_TIMEOUT(&my->timer, task, my->give_up_ns, wait_for_data(my, task));
}

static ssize_t send_rest(int fd, void *arg)
{
    struct guard *my = arg;

    return rdy_sys_send(fd, my->bytes + my->done, (size_t)my->got - my->done);
}

static ssize_t write_some(struct guard *my, struct rdy_task *task)
{
    struct rdy_waker waker = rdy_task_waker(task);
    ssize_t count = rdy_poll_io(&my->reg, RDY_DIRECTION_WRITE, &waker, send_rest, my);

    if (count > 0)
        my->done += (size_t)count;
    return count;
}

/* All that has been accepted; 0 at EAGAIN. */
static int accept_all(struct guard *my)
{
    for (;;) {
        int fd = rdy_sys_accept(my->fd);
        int rc;

        if (fd == -EAGAIN)
            return 0;
        if (fd == -ECONNABORTED)
            continue;
        if (fd < 0)
            return fd;
        rc = guard_spawn(fd, false);
        if (rc == 0)
            continue;
        sim_excuse(fd, rc);
        (void)rdy_sys_close(fd);
    }
}

static int register_it(struct guard *my)
{
    return rdy_register(
        rdy_runtime_driver(sim_scene.runtime), my->fd,
        my->is_listening ? RDY_INTEREST_READ : RDY_INTEREST_READ | RDY_INTEREST_WRITE, &my->reg);
}

static int register_anew(struct guard *my)
{
    wait_end(my);
    sim_check(rdy_deregister(&my->reg) == 0);
    return register_it(my);
}

static void wait_begin(struct guard *my)
{
    my->is_in_slot = sim_below(2);
    my->give_up_ns =
        sim.now_ns + (sim_below(3) ? 1000 * 24 * 3600 * SIM_S : sim_below(GIVE_UP_MAX));
}

static int listener_poll(struct rdy_task *task, void *self)
{
    struct guard *my = self;

    RDY_BEGIN(&my->co);
    for (;;) {
        wait_begin(my);
        RDY_AWAIT(&my->co, my->rc = RDY_UNTIL_SHUTDOWN(&my->until, task, wait_a_while(my, task)));
        wait_end(my);
        if (my->rc == -ETIMEDOUT)
            continue;
        if (my->rc < 0)
            break;
        my->rc = accept_all(my);
        if (my->rc < 0) { /* out of descriptors: later */
            RDY_SLEEP(&my->co, &my->timer, task, SIM_MS);
            continue;
        }
        for (my->turns = (uint32_t)sim_below(3); my->turns > 0; my->turns--) {
            RDY_YIELD(&my->co, task);
        }
        rdy_clear_readiness(&my->reg, my->event);
    }
    RDY_END(&my->co);
    guard_end(my, my->rc);
    return my->rc;
}

/* What it read goes back; at EAGAIN the event that it had at first is cleared, some turns later. */
static int session_poll(struct rdy_task *task, void *self)
{
    struct guard *my = self;

    RDY_BEGIN(&my->co);
    my->room = (size_t)sim_between(1, sizeof(my->bytes));
    for (;;) {
        wait_begin(my);
        RDY_AWAIT(&my->co, my->rc = RDY_UNTIL_SHUTDOWN(&my->until, task, wait_a_while(my, task)));
        wait_end(my);
        if (my->rc == -ETIMEDOUT)
            my->rc = sim_below(4) ? 0 : register_anew(my);
        else if (my->rc == 0)
            my->rc = 1;
        if (my->rc < 0)
            break;
        if (my->rc == 0)
            continue;
        while ((my->got = rdy_sys_recv(my->fd, my->bytes, my->room)) > 0) {
            for (my->done = 0; my->done < (size_t)my->got;) {
                RDY_AWAIT(&my->co,
                          my->rc = (int)RDY_UNTIL_SHUTDOWN(&my->until, task, write_some(my, task)));
                if (my->rc < 0)
                    break;
            }
            if (my->rc < 0)
                break;
        }
        if (my->rc < 0) /* of a write */
            break;
        my->rc = (int)my->got;
        if (my->rc != -EAGAIN)
            break;
        for (my->turns = (uint32_t)sim_below(3); my->turns > 0; my->turns--) {
            RDY_YIELD(&my->co, task);
        }
        rdy_clear_readiness(&my->reg, my->event);
    }
    RDY_END(&my->co);
    guard_end(my, my->rc);
    return my->rc;
}

static void guard_drop(void *self)
{
    struct guard *my = self;

    if (!my->is_over)
        guard_end(my, -ECANCELED);
    wait_end(my);
    (void)rdy_timer_cancel(&my->timer);
    rdy_shutdown_wait_cancel(&my->until);
    if (my->reg.io)
        (void)rdy_close(&my->reg);
    else
        (void)rdy_sys_close(my->fd);
}

/* Takes @fd on success only. */
static int guard_spawn(int fd, bool is_listening)
{
    struct rdy_task_spec spec = {.poll = is_listening ? listener_poll : session_poll,
                                 .drop = guard_drop,
                                 .self_size = sizeof(struct guard)};
    struct guard made = {.fd = fd, .is_listening = is_listening};
    void *self = NULL;
    int rc = register_it(&made);

    if (rc < 0)
        return rc;
    sim_check(rdy_spawn(sim_scene.runtime, &spec, &self, NULL) == 0);
    *(struct guard *)self = made;
    return 0;
}

void sim_guard_begin(const struct sockaddr *addr, socklen_t addr_len)
{
    int fd;
    int rc;

    do {
        fd = rdy_sys_socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    } while (fd == -EMFILE);
    sim_check(fd >= 0);
    sim_check(rdy_sys_bind(fd, addr, addr_len) == 0);
    sim_check(rdy_sys_listen(fd, 8) == 0);
    do {
        rc = guard_spawn(fd, true);
    } while (rc == -ENOMEM);
    sim_check(rc == 0);
}
