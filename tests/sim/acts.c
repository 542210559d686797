/* SPDX-License-Identifier: MIT */
/* What happens at random times beside the sessions: tasks that sleep, one that aborts others. */
#include "tests/sim/programs.h"
#include "tests/sim/world.h"

#define NAPS     6u
#define LATE_MAX SIM_S /* no turn takes that long */
#define RARE_NAP (3600 * SIM_S)

struct sleeper {
    struct rdy_co co;
    struct rdy_timer timer;
    struct rdy_shutdown_wait until;
    uint64_t due_ns;
    uint32_t naps;
    int rc;
};

static int sleeper_poll(struct rdy_task *task, void *self)
{
    struct sleeper *my = self;

    RDY_BEGIN(&my->co);
    for (; my->naps < NAPS; my->naps++) {
        my->due_ns = rdy_runtime_now_ns(sim_scene.runtime) +
                     (sim_one_of(20) ? sim_below(RARE_NAP) : sim_below(20 * SIM_MS));
        RDY_AWAIT(&my->co,
                  my->rc = RDY_UNTIL_SHUTDOWN(&my->until, task,
                                              rdy_timer_poll_until(&my->timer, task, my->due_ns)));
        if (my->rc < 0)
            return 0;
        if (sim.now_ns < my->due_ns)
            sim_fail("a timer fired %llu ns early", (unsigned long long)(my->due_ns - sim.now_ns));
        if (sim.now_ns - my->due_ns > LATE_MAX)
            sim_fail("a timer fired %llu ns late", (unsigned long long)(sim.now_ns - my->due_ns));
        sim_scene.naps++;
    }
    RDY_END(&my->co);
    return 0;
}

static void sleeper_drop(void *self)
{
    struct sleeper *my = self;

    (void)rdy_timer_cancel(&my->timer);
    rdy_shutdown_wait_cancel(&my->until);
}

static struct sim_session *session_draw(void)
{
    uint64_t count = 0;
    struct sim_session *drawn = NULL;

    for (struct rdy_link *link = sim_scene.sessions.next; link != &sim_scene.sessions;
         link = link->next) {
        if (sim_below(++count) == 0)
            drawn = rdy_container_of(link, struct sim_session, link);
    }
    return drawn;
}

static void abort_one(void)
{
    struct sim_session *session = session_draw();

    if (!session)
        return;
    sim_note("abort: descriptor", session->stream.fd, 0, 0);
    sim_scene.aborts++;
    sim_excuse(session->stream.fd, -ECANCELED);
    sim_check(rdy_task_abort(sim_scene.runtime, session->id) == 0);
}

/* Breaks off as many sessions as the weather wants. */
static int breaker_poll(struct rdy_task *task, void *self)
{
    struct sleeper *my = self;

    RDY_BEGIN(&my->co);
    for (; my->naps < sim.weather.aborts_count; my->naps++) {
        my->due_ns = rdy_runtime_now_ns(sim_scene.runtime) + sim_below(10 * SIM_MS);
        RDY_AWAIT(&my->co,
                  my->rc = RDY_UNTIL_SHUTDOWN(&my->until, task,
                                              rdy_timer_poll_until(&my->timer, task, my->due_ns)));
        if (my->rc < 0)
            return 0;
        abort_one();
    }
    RDY_END(&my->co);
    return 0;
}

/* Wakes itself while it is being polled, and has to be polled again for that. */
static int restless_poll(struct rdy_task *task, void *self)
{
    struct sleeper *my = self;
    struct rdy_waker waker = rdy_task_waker(task);

    if (my->naps++ == NAPS) {
        sim_scene.errands--;
        return 0;
    }
    rdy_waker_wake(&waker);
    return RDY_PENDING;
}

void sim_acts_begin(struct rdy_runtime *runtime)
{
    struct rdy_task_spec spec = {
        .poll = sleeper_poll, .drop = sleeper_drop, .self_size = sizeof(struct sleeper)};

    for (uint32_t i = 0; i < sim.weather.sleepers_count; i++)
        sim_check(rdy_spawn(runtime, &spec, NULL, NULL) == 0);
    spec.poll = restless_poll;
    sim_check(rdy_spawn(runtime, &spec, NULL, NULL) == 0);
    sim_scene.errands++;
    spec.poll = breaker_poll;
    if (sim.weather.aborts_count > 0)
        sim_check(rdy_spawn(runtime, &spec, NULL, NULL) == 0);
}
