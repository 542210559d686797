/* SPDX-License-Identifier: MIT */
/*
 * Callers: tasks that connect, to one place or to several at once, by the ring or by calls, and
 * give it up now and then. No answer may be invented: a connection is one that the socket has, an
 * error one that the socket told, and nobody who waits for ever goes without.
 */
#include "tests/sim/kernel.h"
#include "tests/sim/places.h"
#include "tests/sim/programs.h"

#define CALLS          5u
#define ADDRESSES      3u
#define PATIENCE_MAX   (4 * SIM_MS)
#define LONG_PATIENCE  (40 * SIM_MS)
#define ATTEMPT_DELAY  (10 * SIM_MS)
#define TALK_BYTES_MAX 600u

struct caller {
    struct rdy_co co;
    struct rdy_co talk;
    struct rdy_stream stream;
    struct rdy_connector connector;
    struct rdy_address addresses[ADDRESSES];
    struct rdy_timer patience;
    struct rdy_timer nap;
    struct rdy_shutdown_wait until;
    enum sim_place_kind place;
    bool is_several;
    bool is_answered; /* with a connection, in the end, if nobody gives up */
    uint64_t give_up_ns;
    uint32_t calls;
    int rc;
    ssize_t got;
    size_t goal;
    size_t done;
    size_t heard;
    unsigned char said[TALK_BYTES_MAX];
    unsigned char bytes[TALK_BYTES_MAX];
};

/* --- what may be answered --- */

static bool is_excused(const struct caller *my)
{
    const struct sim_weather *weather = &sim.weather;

    if (sim.is_overdue || (sim.was_lost && weather->is_forced))
        return true;
    switch (my->rc) {
    case -ETIMEDOUT: /* of the caller's own */
        return sim.now_ns >= my->give_up_ns;
    case -EMFILE:
        return weather->shortage_one_of != 0 || weather->fds_max < SIM_FDS_MAX - SIM_FD_FIRST;
    case -ENOMEM: /* epoll's limit of watches */
        return weather->spoilt_one_of != 0 && !sim_kernel_is_ring();
    default:
        return false;
    }
}

static void check_failure(const struct caller *my)
{
    const struct sim_sock *sock = sim_sock_of(my->stream.fd);

    sim_note("a call fails: place, result", (int64_t)my->place, my->rc, my->is_several);
    if (is_excused(my))
        return;
    if (my->is_several && my->is_answered)
        sim_fail("somebody was at one of the addresses, and the answer is %d", my->rc);
    if (!my->is_several && (!sock || sock->failure != my->rc))
        sim_fail("descriptor %d: a connection fails with %d, which its socket never said",
                 my->stream.fd, my->rc);
}

static void check_connection(const struct caller *my)
{
    const struct sim_sock *sock = sim_sock_of(my->stream.fd);

    sim_note("a call is answered: place, descriptor", (int64_t)my->place, my->stream.fd, 0);
    if (!sock || !sock->peer)
        sim_fail("descriptor %d: a connection that does not exist", my->stream.fd);
}

/* --- calling --- */

static void draw_addresses(struct caller *my)
{
    my->is_answered = false;
    for (uint32_t i = 0; i < ADDRESSES; i++) {
        enum sim_place_kind kind = (enum sim_place_kind)sim_below(SIM_PLACE_KINDS);
        struct sim_place place = sim_place_of(kind);

        my->is_answered = my->is_answered || kind == SIM_PLACE_ECHO || kind == SIM_PLACE_DAWN;
        my->addresses[i] = (struct rdy_address){.addr_len = place.addr_len};
        memcpy(&my->addresses[i].addr, place.addr, place.addr_len);
    }
}

static int call_begin(struct caller *my)
{
    struct rdy_connect_opts opts = {.size = sizeof(opts),
                                    .is_completing = sim.weather.is_completing && sim_below(4)};
    struct rdy_connector_opts several = {
        .size = sizeof(several), .attempt_delay_ns = ATTEMPT_DELAY, .connect = &opts};
    struct sim_place place;

    my->place = (enum sim_place_kind)sim_below(SIM_PLACE_KINDS);
    my->is_several = sim_below(3) == 0;
    my->give_up_ns = UINT64_MAX;
    if (sim_below(2))
        my->give_up_ns = sim.now_ns + sim_below(sim_below(2) ? PATIENCE_MAX : LONG_PATIENCE);
    if (my->is_several) {
        draw_addresses(my);
        return rdy_connector_start(&my->connector, sim_scene.runtime, my->addresses, ADDRESSES,
                                   &several);
    }
    place = sim_place_of(my->place);
    return rdy_stream_start_connect_with(&my->stream, sim_scene.runtime, place.addr, place.addr_len,
                                         &opts);
}

static int call_poll(struct caller *my, struct rdy_task *task)
{
    if (my->is_several)
        return rdy_connector_poll(&my->connector, task, &my->stream);
    return rdy_stream_poll_connect(&my->stream, task);
}

/* --- talking --- */

static void talk_begin(struct caller *my)
{
    my->talk = (struct rdy_co){0};
    my->goal = sim_below(3) ? sim_between(1, TALK_BYTES_MAX) : 0;
    my->done = 0;
    my->heard = 0;
    for (size_t i = 0; i < my->goal; i++)
        my->said[i] = (unsigned char)(my->calls * 31 + i * 7);
}

/* Says it and hears it again: 0, RDY_PENDING, or -errno, -EPIPE where the end came before. */
static int talk(struct caller *my, struct rdy_task *task)
{
    RDY_BEGIN(&my->talk);
    RDY_AWAIT(&my->talk,
              my->rc = RDY_UNTIL_SHUTDOWN(
                  &my->until, task,
                  rdy_stream_poll_write_all(&my->stream, task, my->said, my->goal, &my->done)));
    if (my->rc < 0)
        return my->rc;
    while (my->heard < my->goal) {
        RDY_AWAIT(&my->talk,
                  my->got = RDY_UNTIL_SHUTDOWN(
                      &my->until, task,
                      rdy_stream_poll_read(&my->stream, task, my->bytes, my->goal - my->heard)));
        if (my->got <= 0)
            return my->got < 0 ? (int)my->got : -EPIPE;
        if (memcmp(my->bytes, my->said + my->heard, (size_t)my->got) != 0)
            sim_fail("descriptor %d: a caller hears what it did not say", my->stream.fd);
        my->heard += (size_t)my->got;
    }
    RDY_END(&my->talk);
    return 0;
}

/* Who is reset at once may be told so at any time, but not that anything came back. */
static void talk_check(const struct caller *my)
{
    const struct sim_sock *sock = sim_sock_of(my->stream.fd);
    bool is_rude = sock->failure != 0;

    sim_note("a talk ends: descriptor, result", my->stream.fd, my->rc, (int64_t)my->heard);
    if (my->rc < 0 && !is_rude)
        sim_excuse(my->stream.fd, my->rc);
}

/* --- the task --- */

static int caller_poll(struct rdy_task *task, void *self)
{
    struct caller *my = self;

    RDY_BEGIN(&my->co);
    for (my->calls = 0; my->calls < CALLS; my->calls++) {
        my->stream = (struct rdy_stream){.fd = -1};
        RDY_SLEEP(&my->co, &my->nap, task, sim_below(5 * SIM_MS));
        my->rc = call_begin(my);
        if (my->rc == 0) {
            RDY_AWAIT(&my->co,
                      my->rc = RDY_UNTIL_SHUTDOWN(
                          &my->until, task,
                          RDY_TIMEOUT(&my->patience, task, my->give_up_ns, call_poll(my, task))));
        }
        if (my->rc == 0) {
            check_connection(my);
            talk_begin(my);
            RDY_AWAIT(&my->co, my->rc = talk(my, task));
            talk_check(my);
        } else {
            check_failure(my);
        }
        if (sim.is_overdue)
            break;
        rdy_connector_cancel(&my->connector);
        rdy_stream_close(&my->stream);
    }
    RDY_END(&my->co);
    return 0;
}

static void caller_drop(void *self)
{
    struct caller *my = self;

    sim_scene.errands--;
    (void)rdy_timer_cancel(&my->nap);
    (void)rdy_timer_cancel(&my->patience);
    rdy_shutdown_wait_cancel(&my->until);
    rdy_connector_cancel(&my->connector);
    rdy_stream_close(&my->stream);
}

void sim_callers_begin(void)
{
    struct rdy_task_spec spec = {
        .poll = caller_poll, .drop = caller_drop, .self_size = sizeof(struct caller)};

    for (uint32_t i = 0; i < sim.weather.callers_count; i++) {
        void *self = NULL;

        sim_check(rdy_spawn(sim_scene.runtime, &spec, &self, NULL) == 0);
        ((struct caller *)self)->stream.fd = -1;
        sim_scene.errands++;
    }
}
