/* SPDX-License-Identifier: MIT */
/*
 * The epoll backend: edge-triggered, with the same facts as io_uring's multishot poll.
 *
 * What this kernel interface gets wrong, and what is done about it:
 * a) A peer's half close is reported only if asked for; io_uring always does. We always ask.
 * b) A watch belongs to the open file, not to the number: after close(2) with a duplicate left it
 *    lives on and cannot be removed. Disarming comes before closing; a stale token is refused.
 * c) Closing the file ends the watch without a word. Disarming a watch that is gone has worked.
 * d) Waits count in milliseconds before Linux 5.11. Rounded up, a wait is never short.
 * e) Too many watches are -ENOSPC here and -ENOMEM there: one error, the second.
 *
 * The kernel locks the set itself: arm and disarm work from any thread, and are done when they
 * return. wait() is the owner's. This file reads errno, as nothing else may include <sys/epoll.h>.
 */
#include "engine/backend.h"
#include "engine/sys.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

/* No token: the generation in a token's low word is odd. */
#define WAKE_DATA UINT64_C(0)

#define EVENTS_ALL (RDY_EV_IN | RDY_EV_PRI | RDY_EV_OUT | RDY_EV_ERR | RDY_EV_HUP | RDY_EV_RDHUP)

static_assert(RDY_EV_IN == EPOLLIN && RDY_EV_PRI == EPOLLPRI, "poll bits");
static_assert(RDY_EV_OUT == EPOLLOUT && RDY_EV_ERR == EPOLLERR, "poll bits");
static_assert(RDY_EV_HUP == EPOLLHUP && RDY_EV_RDHUP == EPOLLRDHUP, "poll bits");

struct epoll {
    struct rdy_backend backend;
    int epoll_fd;
    int wake_fd; /* written by wake(), never drained: each write is an edge */
    uint32_t events_max;
    bool has_nanoseconds; /* epoll_pwait2(); found out by trying */
    struct rdy_a64 calls; /* system calls made outside wait(), on any thread; wait() moves them */
    struct epoll_event events[];
};

static_assert(offsetof(struct epoll, backend) == 0, "a backend is its epoll");

static struct epoll *epoll_of(struct rdy_backend *backend)
{
    return rdy_container_of(backend, struct epoll, backend);
}

/* The result of a system call, -errno instead of -1. */
static int answer(int result)
{
    return result < 0 ? -errno : result;
}

static int epoll_control(struct epoll *epoll, int operation, int fd, uint64_t data, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = data};

    (void)rdy_a64_add_relaxed(&epoll->calls, 1);
    return answer(epoll_ctl(epoll->epoll_fd, operation, fd, &event));
}

static int epoll_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    int rc;

    rdy_assert(token & 1);
    rc = epoll_control(epoll_of(backend), EPOLL_CTL_ADD, fd, token,
                       (events & EVENTS_ALL) | EPOLLRDHUP | EPOLLET);
    return rc == -ENOSPC ? -ENOMEM : rc;
}

/*
 * -ENOENT, -EBADF: the file was closed first, and took the watch along. -EPERM: so it was, and a
 * file that cannot be polled has its number now.
 */
static int epoll_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    int rc = epoll_control(epoll_of(backend), EPOLL_CTL_DEL, fd, token, 0);

    if (rc == 0 || rc == -ENOENT || rc == -EBADF || rc == -EPERM)
        return RDY_DISARMED;
    return rc;
}

/* Rounded up, so that a wait is not over before its time; days of it are clamped. */
static int milliseconds_of(int64_t timeout_ns)
{
    int64_t ms;

    if (timeout_ns <= 0)
        return timeout_ns < 0 ? -1 : 0;
    ms = (timeout_ns - 1) / RDY_NS_PER_MS + 1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* -ENOSYS before 5.11; -EPERM from sandboxes that do not know the number. */
static int epoll_await_exactly(struct epoll *epoll, int64_t timeout_ns, int events_max)
{
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / RDY_NS_PER_S),
                               .tv_nsec = (long)(timeout_ns % RDY_NS_PER_S)};
    int rc = answer(epoll_pwait2(epoll->epoll_fd, epoll->events, events_max, &timeout, NULL));

    if (rc == -ENOSYS || rc == -EPERM)
        epoll->has_nanoseconds = false;
    return rc;
}

static int epoll_await(struct epoll *epoll, int64_t timeout_ns, int events_max)
{
    int rc;

    if (timeout_ns > 0 && epoll->has_nanoseconds) {
        rdy_a64_bump(&epoll->backend.system_calls, 1);
        rc = epoll_await_exactly(epoll, timeout_ns, events_max);
        if (epoll->has_nanoseconds)
            return rc;
    }
    rdy_a64_bump(&epoll->backend.system_calls, 1);
    return answer(
        epoll_wait(epoll->epoll_fd, epoll->events, events_max, milliseconds_of(timeout_ns)));
}

static RDY_HOT int epoll_wait_facts(struct rdy_backend *backend, int64_t timeout_ns,
                                    struct rdy_fact *facts, uint32_t facts_max)
{
    struct epoll *epoll = epoll_of(backend);
    uint32_t events_max = facts_max < epoll->events_max ? facts_max : epoll->events_max;
    int facts_count = 0;
    int events_count;

    if (rdy_a64_load_relaxed(&epoll->calls) > 0)
        rdy_a64_bump(&backend->system_calls, rdy_a64_swap_acq_rel(&epoll->calls, 0));

    events_count = epoll_await(epoll, timeout_ns, (int)events_max);
    if (events_count == -EINTR) {
        rdy_a64_bump(&backend->interruptions, 1);
        return 0;
    }
    if (events_count < 0)
        return events_count;
    for (int i = 0; i < events_count; i++) {
        const struct epoll_event *event = &epoll->events[i];

        if (event->data.u64 == WAKE_DATA)
            continue;
        facts[facts_count++] =
            (struct rdy_fact){.token = event->data.u64, .events = event->events & EVENTS_ALL};
    }
    return facts_count;
}

/* The counter is never drained; at a wake a nanosecond it is full after 584 years. */
static void epoll_wake(struct rdy_backend *backend)
{
    struct epoll *epoll = epoll_of(backend);

    (void)rdy_a64_add_relaxed(&epoll->calls, 1);
    (void)rdy_sys_eventfd_write(epoll->wake_fd);
}

static int epoll_fd(const struct rdy_backend *backend)
{
    return ((const struct epoll *)(const void *)backend)->epoll_fd;
}

static void epoll_close(struct rdy_backend *backend)
{
    struct epoll *epoll = epoll_of(backend);

    (void)rdy_sys_close(epoll->wake_fd);
    (void)rdy_sys_close(epoll->epoll_fd);
    free(epoll);
}

static const struct rdy_backend_ops epoll_ops;

static int epoll_open_step(struct rdy_backend **out, const struct rdy_backend_opts *opts,
                           const char **step)
{
    uint32_t events_max = opts->events_max > 0 ? opts->events_max : 1;
    struct epoll *epoll = calloc(1, sizeof(*epoll) + events_max * sizeof(epoll->events[0]));
    int rc;

    *step = "allocating memory";
    if (!epoll)
        return -ENOMEM;
    epoll->backend.ops = &epoll_ops;
    epoll->events_max = events_max;
    epoll->has_nanoseconds = true;

    *step = "epoll_create1";
    rc = answer(epoll_create1(EPOLL_CLOEXEC));
    if (rc < 0)
        goto free_epoll;
    epoll->epoll_fd = rc;

    *step = "opening an eventfd";
    rc = rdy_sys_eventfd();
    if (rc < 0)
        goto close_epoll;
    epoll->wake_fd = rc;

    *step = "epoll_ctl";
    rc = epoll_control(epoll, EPOLL_CTL_ADD, epoll->wake_fd, WAKE_DATA, EPOLLIN | EPOLLET);
    if (rc < 0)
        goto close_wake;
    *step = "epoll works";
    *out = &epoll->backend;
    return 0;

close_wake:
    (void)rdy_sys_close(epoll->wake_fd);
close_epoll:
    (void)rdy_sys_close(epoll->epoll_fd);
free_epoll:
    free(epoll);
    return rc;
}

static void say(const char *step, int error, char *why, size_t why_len)
{
    if (why_len > 0)
        (void)snprintf(why, why_len, "%s: %s", step, strerror(-error));
}

static int epoll_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                      size_t why_len)
{
    const char *step;
    int rc = epoll_open_step(out, opts, &step);

    if (rc < 0)
        say(step, rc, why, why_len);
    return rc;
}

/* Asked of a descriptor that does not exist: a kernel that knows the call complains of that. */
static bool pwait2_works(void)
{
    struct timespec timeout = {0};
    struct epoll_event event;
    int rc = answer(epoll_pwait2(-1, &event, 1, &timeout, NULL));

    return rc != -ENOSYS && rc != -EPERM;
}

/* Nothing is remembered: it is a handful of system calls, and there is nothing to fall back to. */
static int epoll_probe(struct rdy_probe_report *report, char *why, size_t why_len)
{
    static const struct rdy_backend_opts opts = {.events_max = 1};
    bool has_pwait2 = pwait2_works();
    struct rdy_backend *backend;
    const char *step;
    char text[96];
    int rc = epoll_open_step(&backend, &opts, &step);

    if (rc == 0) {
        epoll_close(backend);
        (void)snprintf(text, sizeof(text), "%s", step);
    } else {
        say(step, rc, text, sizeof(text));
    }
    rdy_report_add(report, "epoll", rc == 0, text);
    rdy_report_add(report, "epoll_nanoseconds", has_pwait2,
                   has_pwait2 ? "epoll_pwait2"
                              : "missing: epoll_pwait2 says no (arrived in Linux 5.11)");
    if (why_len > 0)
        (void)snprintf(why, why_len, "%s", text);
    return rc;
}

static const struct rdy_backend_ops epoll_ops = {
    .name = "epoll",
    .capabilities = RDY_BACKEND_ANY_THREAD | RDY_BACKEND_WHOLE_STATE,
    .probe = epoll_probe,
    .open = epoll_open,
    .close = epoll_close,
    .arm = epoll_arm,
    .disarm = epoll_disarm,
    .wait = epoll_wait_facts,
    .wake = epoll_wake,
    .fd = epoll_fd,
};

const struct rdy_backend_ops *const rdy_backend_epoll = &epoll_ops;
