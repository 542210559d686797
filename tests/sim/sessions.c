/* SPDX-License-Identifier: MIT */
/* The life of a session, around the body of its kind. */
#include "tests/sim/programs.h"

#include "tests/sim/world.h"

static enum sim_session_kind kind_draw(void)
{
    for (;;) {
        enum sim_session_kind kind = (enum sim_session_kind)sim_below(SIM_SESSION_KINDS);

        if (sim.weather.is_completing && kind == SIM_SESSION_VECTOR)
            continue;
        if (sim.weather.sessions & (1u << kind))
            return kind;
    }
}

static void session_begin(struct sim_session *my, struct rdy_task *task)
{
    my->kind = kind_draw();
    my->id = rdy_task_get_id(task);
    my->up.fd = -1;
    my->room = (size_t)sim_between(1, sizeof(my->bytes));
    my->idle_ns = sim_below(2) ? UINT64_MAX : sim.now_ns + SIM_LONG_NS;
    my->has_begun = true;
    rdy_list_push_back(&sim_scene.sessions, &my->link);
    sim_scene.sessions_count++;
    sim_note("session begins: descriptor, kind", my->stream.fd, (int64_t)my->kind, 0);
}

static int session_advance(struct sim_session *my, struct rdy_task *task)
{
    switch (my->kind) {
    case SIM_SESSION_READ:
        return sim_session_read(my, task);
    case SIM_SESSION_VECTOR:
        return sim_session_vector(my, task);
    case SIM_SESSION_RECV:
        return sim_session_recv(my, task);
    case SIM_SESSION_MIXED:
        return sim_session_mixed(my, task);
    case SIM_SESSION_COPY:
        return sim_session_copy(my, task);
    case SIM_SESSION_PROXY:
    case SIM_SESSION_SPLICE:
        return sim_session_proxy(my, task);
    case SIM_SESSION_KINDS:
        break;
    }
    sim_fail("a session of no kind");
}

static int session_poll(struct rdy_task *task, void *self)
{
    struct sim_session *my = self;
    int rc;

    if (!my->has_begun)
        session_begin(my, task);
    rc = session_advance(my, task);
    if (rc == RDY_PENDING)
        return rc;
    my->is_over = true;
    sim_note("session ends: descriptor, result", my->stream.fd, rc, 0);
    if (rc < 0)
        sim_excuse(my->stream.fd, rc);
    return rc;
}

static void session_drop(void *self)
{
    struct sim_session *my = self;

    if (!my->has_begun) {
        sim_excuse(my->stream.fd, -ECANCELED);
        return;
    }
    if (!my->is_over)
        sim_excuse(my->stream.fd, -ECANCELED);
    rdy_list_unlink(&my->link);
    (void)rdy_timer_cancel(&my->idle);
    (void)rdy_timer_cancel(&my->nap);
    rdy_shutdown_wait_cancel(&my->until);
    rdy_buf_release(&my->buf);
    rdy_buf_release(&my->held);
    rdy_copy_close(&my->copy);
    rdy_copy_both_close(&my->both);
    rdy_stream_close(&my->up);
}

const struct rdy_task_spec sim_session_spec = {
    .poll = session_poll,
    .drop = session_drop,
    .self_size = sizeof(struct sim_session),
    .name = "session",
};
