/* SPDX-License-Identifier: MIT */
/*
 * Happy Eyeballs, RFC 8305: attempts side by side, each a delay after the last.
 *
 * The order of addresses is worked out as it is needed, by two cursors over the caller's list: one
 * stands on the next address of the first family, one on the next of any other (section 4 of the
 * RFC: interleave, after First Address Family Count). The attempts in flight stand in an array, the
 * oldest first, so that of two connections found at once the earlier in the order wins. The timer
 * only wakes the task; whether the next attempt is due is a look at the clock (section 5).
 */
#include <rdy/connector.h>

#include "engine/runtime.h"
#include "engine/stream.h"

#define ATTEMPT_DELAY_DEFAULT_NS (250 * (uint64_t)RDY_NS_PER_MS)
#define ATTEMPT_DELAY_MIN_NS     (10 * (uint64_t)RDY_NS_PER_MS) /* RFC 8305, section 5: a must */

/* So many attempts may begin in one poll: where all fail at once, other tasks go in between. */
#define STARTS_MAX 16

/* --- which address is next --- */

static bool is_first_family(const struct rdy_connector *connector, uint32_t index)
{
    return connector->addrs[index].addr.ss_family == connector->first_family;
}

/* Moves both cursors on to an address of their kind, or to the end. */
static void cursors_settle(struct rdy_connector *connector)
{
    while (connector->next_first < connector->addrs_count &&
           !is_first_family(connector, connector->next_first))
        connector->next_first++;
    while (connector->next_other < connector->addrs_count &&
           is_first_family(connector, connector->next_other))
        connector->next_other++;
}

static bool connector_has_next(const struct rdy_connector *connector)
{
    return connector->next_first < connector->addrs_count ||
           connector->next_other < connector->addrs_count;
}

static const struct rdy_address *connector_take_next(struct rdy_connector *connector)
{
    bool is_other = connector->is_other_next;
    uint32_t index;

    rdy_assert(connector_has_next(connector));
    if (connector->next_first == connector->addrs_count)
        is_other = true;
    else if (connector->next_other == connector->addrs_count)
        is_other = false;
    index = is_other ? connector->next_other++ : connector->next_first++;
    rdy_debug(is_first_family(connector, index) != is_other);
    cursors_settle(connector);

    if (!is_other && connector->first_left > 0)
        connector->first_left--;
    connector->is_other_next = !is_other && connector->first_left == 0;
    return &connector->addrs[index];
}

/* --- which error says most --- */

static int usefulness(int error)
{
    switch (error) {
    case -EMFILE:
    case -ENFILE:
    case -ENOMEM:
    case -ENOBUFS:
        return 7; /* nothing is known of the address: it was not tried */
    case -EACCES:
    case -EPERM:
        return 6;
    case -ECONNREFUSED:
        return 5; /* the host is there */
    case -ECONNRESET:
        return 4;
    case -ETIMEDOUT:
        return 3;
    case -EHOSTUNREACH:
        return 2;
    case -ENETUNREACH:
        return 1;
    default:
        return 0;
    }
}

/* An attempt failed. Of two errors that say as much, the first stays. */
static void connector_note(struct rdy_connector *connector, int error)
{
    rdy_assert(error < 0 && error != RDY_PENDING);
    if (connector->error == 0 || usefulness(error) > usefulness(connector->error))
        connector->error = error;
    connector->is_next_due = true;
}

/* --- attempts --- */

static void attempt_forget(struct rdy_connector *connector, uint32_t index)
{
    struct rdy_stream *attempt = &connector->attempts[index];

    rdy_assert(index < connector->attempts_count);
    connector->attempts_count--;
    memmove(attempt, attempt + 1, (connector->attempts_count - index) * sizeof(*attempt));
}

static void connector_start_next(struct rdy_connector *connector)
{
    const struct rdy_address *address = connector_take_next(connector);
    struct rdy_runtime *runtime = connector->runtime;
    int rc;

    rdy_assert(connector->attempts_count < connector->attempts_max);
    connector->is_next_due = false;
    rc = rdy_stream_start_connect_with(&connector->attempts[connector->attempts_count], runtime,
                                       (const struct sockaddr *)&address->addr, address->addr_len,
                                       &connector->connect);
    if (rc < 0) {
        connector_note(connector, rc);
        return;
    }
    connector->attempts_count++;
    connector->next_ns = rdy_clock_after(rdy_clock_read_ns(runtime), connector->attempt_delay_ns);
}

/* Asks each attempt, and closes those that failed. True: @stream is one that is connected. */
static bool attempts_advance(struct rdy_connector *connector, struct rdy_task *task,
                             struct rdy_stream *stream)
{
    uint32_t index = 0;

    while (index < connector->attempts_count) {
        struct rdy_stream *attempt = &connector->attempts[index];
        int rc = rdy_stream_advance_connect(attempt, task);

        if (rc == RDY_PENDING) {
            index++;
            continue;
        }
        if (rc < 0) {
            connector_note(connector, rc);
            rdy_stream_close(attempt);
        } else {
            *stream = *attempt;
        }
        attempt_forget(connector, index);
        if (rc == 0)
            return true;
    }
    return false;
}

/* --- the public calls --- */

static int options_take(struct rdy_connector *connector, const struct rdy_connector_opts *opts)
{
    static const struct rdy_connector_opts defaults = {.size = sizeof(defaults)};
    const struct rdy_connector_opts *from = opts ? opts : &defaults;

    if (from->size != sizeof(*from) || from->attempts_max > RDY_CONNECTOR_ATTEMPTS_MAX)
        return -EINVAL;
    if (from->attempt_delay_ns != 0 && from->attempt_delay_ns < ATTEMPT_DELAY_MIN_NS)
        return -EINVAL;
    if (from->first_family != 0 && from->first_family != AF_INET && from->first_family != AF_INET6)
        return -EINVAL;
    if (from->connect &&
        (from->connect->size != sizeof(*from->connect) || from->connect->is_fastopen))
        return -EINVAL;

    connector->attempts_max = from->attempts_max ? from->attempts_max : RDY_CONNECTOR_ATTEMPTS_MAX;
    connector->attempt_delay_ns =
        from->attempt_delay_ns ? from->attempt_delay_ns : ATTEMPT_DELAY_DEFAULT_NS;
    connector->first_family = from->first_family;
    connector->first_left = from->first_family_count ? from->first_family_count : 1;
    if (from->connect)
        connector->connect = *from->connect;
    else
        connector->connect = (struct rdy_connect_opts){.size = sizeof(connector->connect)};
    return 0;
}

int rdy_connector_start(struct rdy_connector *connector, struct rdy_runtime *runtime,
                        const struct rdy_address *addrs, uint32_t addrs_count,
                        const struct rdy_connector_opts *opts)
{
    struct rdy_connector made = {.runtime = runtime, .addrs = addrs, .addrs_count = addrs_count};
    int rc = options_take(&made, opts);

    rdy_assert(!connector->runtime);
    if (rc < 0)
        return rc;
    if (addrs_count == 0)
        return -EINVAL;
    if (made.first_family == 0)
        made.first_family = addrs[0].addr.ss_family;
    cursors_settle(&made);
    connector_start_next(&made);
    *connector = made;
    return 0;
}

static bool connector_may_start(const struct rdy_connector *connector)
{
    if (!connector_has_next(connector) || connector->attempts_count == connector->attempts_max)
        return false;
    return connector->attempts_count == 0 || connector->is_next_due ||
           connector->next_ns <= rdy_runtime_now_ns(connector->runtime);
}

/* Has the task woken when the next attempt is due, if time decides that. */
static void connector_wait(struct rdy_connector *connector, struct rdy_task *task)
{
    struct rdy_timer *timer = &connector->timer;
    struct rdy_waker waker = rdy_task_waker(task);

    if (!connector_has_next(connector) || connector->attempts_count == connector->attempts_max ||
        connector->next_ns == UINT64_MAX) {
        (void)rdy_timer_cancel(timer);
        return;
    }
    if (timer->state != RDY_TIMER_ARMED || timer->deadline_ns != connector->next_ns ||
        !rdy_waker_is_same(&timer->waker, &waker))
        rdy_timer_arm(timer, connector->runtime, connector->next_ns, &waker);
}

int rdy_connector_poll(struct rdy_connector *connector, struct rdy_task *task,
                       struct rdy_stream *stream)
{
    if (!connector->runtime)
        return -EINVAL;
    rdy_assert(connector->runtime == task->runtime);
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;

    for (int starts = 0; starts < STARTS_MAX; starts++) {
        bool is_connected = attempts_advance(connector, task, stream);

        if (is_connected || (connector->attempts_count == 0 && !connector_has_next(connector))) {
            int rc = is_connected ? 0 : connector->error;

            rdy_connector_cancel(connector);
            rdy_task_spend(task);
            return rc;
        }
        if (!connector_may_start(connector)) {
            connector_wait(connector, task);
            return RDY_PENDING;
        }
        connector_start_next(connector);
    }
    return rdy_task_give_way(task);
}

void rdy_connector_cancel(struct rdy_connector *connector)
{
    for (uint32_t i = 0; i < connector->attempts_count; i++)
        rdy_stream_close(&connector->attempts[i]);
    (void)rdy_timer_cancel(&connector->timer);
    *connector = (struct rdy_connector){0};
}
