/* SPDX-License-Identifier: MIT */
/*
 * The accept loop that most servers want: a task like any other, built on the public calls, but for
 * one look at a ring before it is told that nothing more comes.
 *
 * When the runtime shuts down, what stands in the listener's queue is accepted before that is
 * closed: those clients were promised a connection by the kernel. The cached readiness does not
 * tell whether something is there, as an event may be on its way; so the queue is tried until it
 * says EAGAIN. Clients that come as fast as they are taken do not keep it up for ever: no more are
 * taken than a queue can hold.
 *
 * A session's allocation is a small head, then the user's struct, which begins with the stream. The
 * head has the user's functions, and lets the stream be closed after the user's drop has run. A
 * connection for which there is no session yet is held, not closed: its peer waits, as those do who
 * were not accepted.
 */
#include "engine/serve.h"

#include "engine/completion.h"

#define PAUSE_NS  (50 * RDY_NS_PER_MS)
#define DRAIN_MAX 65536u

struct session_head {
    rdy_poll_fn *poll;
    rdy_drop_fn *drop;
};

static_assert(sizeof(struct session_head) == 16, "what follows stays aligned");

/* A task's own struct may have 1 MiB, our head included. */
#define SESSION_SIZE_MAX ((size_t)1024 * 1024 - sizeof(struct session_head))

static int session_poll(struct rdy_task *task, void *self)
{
    struct session_head *head = self;

    return head->poll(task, head + 1);
}

static void session_drop(void *self)
{
    struct session_head *head = self;

    if (head->drop)
        head->drop(head + 1);
    rdy_stream_close((struct rdy_stream *)(head + 1));
}

/* Gives the connection that is held to a session of its own; it stays held if that fails. */
static int start_session(struct rdy_accept_loop *loop, struct rdy_task *task)
{
    struct rdy_task_spec spec = {
        .poll = session_poll,
        .drop = session_drop,
        .self_size = sizeof(struct session_head) + loop->session.self_size,
        .name = loop->session.name,
        .timeout_ns = loop->session.timeout_ns,
    };
    struct session_head *head;
    void *self = NULL;
    int rc = rdy_spawn(rdy_task_runtime(task), &spec, &self, NULL);

    if (rc < 0)
        return rc;
    head = self;
    *head = (struct session_head){.poll = loop->session.poll, .drop = loop->session.drop};
    *(struct rdy_stream *)(head + 1) = loop->held;
    loop->held = (struct rdy_stream){.fd = -1};
    return 0;
}

static bool is_drain_over(const struct rdy_accept_loop *loop)
{
    return loop->is_draining && loop->drained_count == DRAIN_MAX;
}

static void count_accepted(struct rdy_accept_loop *loop)
{
    loop->is_starved = false;
    if (loop->is_draining)
        loop->drained_count++;
    if (loop->counts)
        rdy_a64_bump(&loop->counts->accepted, 1);
}

/* Accepts and starts sessions until there is nothing to accept, or an error. */
static int accept_some(struct rdy_accept_loop *loop, struct rdy_task *task)
{
    int rc;

    do {
        if (is_drain_over(loop))
            return RDY_PENDING;
        rc = 0;
        if (loop->held.fd < 0)
            rc = rdy_listener_poll_accept(loop->listener, task, &loop->held);
        if (rc == 0)
            rc = start_session(loop, task);
        if (rc == 0)
            count_accepted(loop);
    } while (rc == 0);
    return rc;
}

/*
 * Nothing is left to take. Where something was taken before, that says nothing of the kernel's
 * queue, as the last connection that a ring had accepted clears readiness; and the ring may have
 * completions that nobody has looked at.
 */
static bool is_drained(const struct rdy_accept_loop *loop, uint32_t before)
{
    return loop->drained_count == before && !rdy_completion_has_news(loop->listener->reg.driver);
}

/* As accept_some(), but 0 once the runtime shuts down and the queue is empty. */
static int accept_until_shutdown(struct rdy_accept_loop *loop, struct rdy_task *task)
{
    struct rdy_registration *reg = &loop->listener->reg;
    uint32_t before = loop->drained_count;
    int rc = accept_some(loop, task);

    if (rc == RDY_PENDING && !loop->is_draining) {
        if (rdy_runtime_poll_shutdown(&loop->shutdown, task) == RDY_PENDING)
            return RDY_PENDING;
        loop->is_draining = true;
        rdy_assume_ready(reg, RDY_READABLE);
        rc = accept_some(loop, task);
    }
    if (rc != RDY_PENDING || is_drain_over(loop))
        return rc == RDY_PENDING ? 0 : rc;
    /* Still ready: it was the budget that ended the try, and the task is queued. */
    if (rdy_event_ready(rdy_ready_event(reg, RDY_INTEREST_READ)) != 0)
        return RDY_PENDING;
    if (is_drained(loop, before))
        return 0;
    rdy_assume_ready(reg, RDY_READABLE);
    rdy_task_defer(task);
    return RDY_PENDING;
}

/* A shortage, or a packet filter that refuses one connection (EPERM): it may be another time. */
static bool is_passing(int rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM || rc == -EPERM;
}

static void count_failure(struct rdy_accept_loop *loop)
{
    if (loop->counts) {
        rdy_a64_bump(&loop->counts->failures, 1);
        rdy_a64_bump(&loop->counts->pauses, loop->is_starved ? 0 : 1);
    }
    loop->is_starved = true;
}

/*
 * As when epoll, in the place of a lost ring, had no room for it: no try will ever succeed, but for
 * those that take what the ring had accepted.
 */
static bool listener_has_ended(const struct rdy_accept_loop *loop)
{
    const struct rdy_listener *listener = loop->listener;

    if (listener->fd < 0)
        return true;
    return loop->held.fd < 0 && !rdy_completion_has_accepted(listener) &&
           rdy_event_is_shutdown(rdy_ready_event(&listener->reg, RDY_INTEREST_READ));
}

int rdy_accept_loop_poll(struct rdy_accept_loop *loop, struct rdy_task *task)
{
    struct rdy_runtime *runtime = rdy_task_runtime(task);

    RDY_BEGIN(&loop->co);
    for (;;) {
        RDY_AWAIT(&loop->co, loop->rc = accept_until_shutdown(loop, task));
        if (!is_passing(loop->rc) || listener_has_ended(loop))
            break;
        count_failure(loop);
        loop->resume_ns = rdy_runtime_now_ns(runtime) + PAUSE_NS;
        RDY_AWAIT(&loop->co, rdy_timer_poll_until(&loop->pause, task, loop->resume_ns));
    }
    RDY_END(&loop->co);
    return loop->rc;
}

void rdy_accept_loop_drop(struct rdy_accept_loop *loop)
{
    (void)rdy_timer_cancel(&loop->pause);
    rdy_shutdown_wait_cancel(&loop->shutdown);
    rdy_stream_close(&loop->held);
}

int rdy_accept_loop_check(const struct rdy_task_spec *session)
{
    if (!session->poll || session->self_size > SESSION_SIZE_MAX)
        return -EINVAL;
    return session->self_size < sizeof(struct rdy_stream) ? -EINVAL : 0;
}

static int accept_poll(struct rdy_task *task, void *self)
{
    struct rdy_accept_loop *loop = self;
    int rc = rdy_accept_loop_poll(loop, task);

    if (rc == 0)
        rdy_listener_close(loop->listener);
    return rc;
}

static void accept_drop(void *self)
{
    rdy_accept_loop_drop(self);
}

int rdy_serve(struct rdy_runtime *runtime, struct rdy_listener *listener,
              const struct rdy_task_spec *session, struct rdy_task_id *id)
{
    static const struct rdy_task_spec spec = {
        .poll = accept_poll,
        .drop = accept_drop,
        .self_size = sizeof(struct rdy_accept_loop),
    };
    struct rdy_accept_loop *loop;
    void *self = NULL;
    int rc = rdy_accept_loop_check(session);

    if (rc < 0)
        return rc;
    rc = rdy_spawn(runtime, &spec, &self, id);
    if (rc < 0)
        return rc;
    loop = self;
    loop->listener = listener;
    loop->session = *session;
    loop->held.fd = -1;
    return 0;
}
